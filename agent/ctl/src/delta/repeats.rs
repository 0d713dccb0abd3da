//! What is new twice: the second time it can be copied from where the new image has it first.
//!
//! ```text
//! base            │ new image, segments 0 1 2 3 …
//! ────────────────┼──────────aaaa─────────────aaaa──
//! 0               ▲ the base's bytes          └─ copied from there, for segment 1 stands already when 3 is made
//! ```
//! Offsets beyond the base's end are the new image's own. A patch may reach only what stands in segments before its own, so spans
//! are cut at segments and dropped where they reach too far.

use super::blocks::{BLOCK_BYTES, hash};
use super::content::{HASHED_BYTES, Table};
use super::draft::differing;
use super::job::placed;
use super::plan::{Span, places};
use super::ranges::{Joined, end, sorted, total, without};
use crate::Result;
use crate::fail;
use crate::layout::{Extent, ReadAt};
use mainstay_core::limits::SEGMENT_BYTES;
use std::collections::BTreeMap;

/// Spans that are better than what was found in the base: whole blocks, then, of what is not covered at all, anything.
pub fn spans(
    base: &dyn ReadAt,
    new: &dyn ReadAt,
    changed: &[Extent],
    known: &[Span],
    threads: usize,
) -> Result<Vec<Span>> {
    let shift = base.bytes();
    let mut out = Vec::new();
    for span in blocks(new, changed)?.iter().flat_map(reachable) {
        if cost(base, new, known, &span)? > WORTH {
            out.push(span);
        }
    }
    let covered = sorted([places(known), places(&out)].concat());
    out.extend(anything(new, &without(changed, &covered), threads)?);
    Ok(out.into_iter().map(|span| Span { base: span.base + shift, ..span }).collect())
}

/// Blocks that the new image has twice. The hash finds, the bytes decide.
fn blocks(new: &dyn ReadAt, changed: &[Extent]) -> Result<Vec<Span>> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut out, mut block, mut other) =
        (Vec::<Span>::new(), [0; BLOCK_BYTES as usize], [0; BLOCK_BYTES as usize]);
    for extent in changed {
        let mut at = extent.at.next_multiple_of(BLOCK_BYTES);
        while at + BLOCK_BYTES <= end(extent) {
            new.read_at(at, &mut block)?;
            let first = *seen.entry(hash(&block)).or_insert(at);
            if first < at {
                new.read_at(first, &mut other)?;
                let next = Span { new: at, base: first, bytes: BLOCK_BYTES, guess: None };
                match out.last_mut() {
                    _ if block != other => {}
                    Some(last) if last.end() == at && last.base + last.bytes == first => {
                        last.bytes += BLOCK_BYTES
                    }
                    _ => out.push(next),
                }
            }
            at += BLOCK_BYTES;
        }
    }
    Ok(out)
}

/// Exact matches among what nothing else covers.
fn anything(new: &dyn ReadAt, uncovered: &[Extent], threads: usize) -> Result<Vec<Span>> {
    let left: Vec<Extent> = uncovered.iter().copied().filter(|left| left.bytes >= LEFT_BYTES_LEAST).collect();
    if total(&left) < HASHED_BYTES as u64 {
        return Ok(Vec::new());
    }
    let view = View { image: new, joined: Joined::new(left) };
    let table = Table::of(&view, threads)?;
    let allowed = |at, there| segment(view.joined.place(there).0) < segment(view.joined.place(at).0);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < view.bytes() {
        let window = Extent { at, bytes: WINDOW_BYTES.min(view.bytes() - at) };
        for anchor in table.anchors(&view, &view, &window, &allowed)? {
            let whole = Span { new: anchor.new, base: anchor.base, bytes: anchor.bytes, guess: None };
            let spans = placed(&whole, &view.joined, &view.joined);
            out.extend(spans.iter().flat_map(reachable).filter(|span| span.bytes > WORTH));
        }
        at += window.bytes;
    }
    Ok(out)
}

/// What of a span may be read when its segment is made.
fn reachable(span: &Span) -> Vec<Span> {
    let segments = segment(span.new)..=segment(span.end() - 1);
    let bytes = SEGMENT_BYTES as u64;
    let parts = segments.filter_map(|segment| {
        let part = span.within((segment * bytes).max(span.new), (segment + 1) * bytes)?;
        part.within(part.new, part.end().min(part.new + (segment * bytes).saturating_sub(part.base)))
    });
    parts.collect()
}

const fn segment(at: u64) -> u64 {
    at / SEGMENT_BYTES as u64
}

/// How many bytes of it are wrong or missing by what is known.
fn cost(base: &dyn ReadAt, new: &dyn ReadAt, known: &[Span], span: &Span) -> Result<u64> {
    let first = known.partition_point(|other| other.end() <= span.new);
    let (mut covered, mut wrong) = (0, 0);
    for other in known[first..].iter().take_while(|other| other.new < span.end()) {
        let Some(part) = other.within(other.new.max(span.new), span.end()) else { continue };
        let (mut before, mut after) = (vec![0; part.bytes as usize], vec![0; part.bytes as usize]);
        base.read_at(part.base, &mut before)?;
        new.read_at(part.new, &mut after)?;
        (covered, wrong) = (covered + part.bytes, wrong + differing(&before, &after));
    }
    Ok(span.bytes - covered + wrong)
}

/// Joined extents as an image of their own.
struct View<'a> {
    image: &'a dyn ReadAt,
    joined: Joined,
}

impl ReadAt for View<'_> {
    fn bytes(&self) -> u64 {
        self.joined.bytes()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            let (place, room) = self.joined.place(at + done as u64);
            let bytes = room.min((out.len() - done) as u64) as usize;
            if bytes == 0 {
                return Err(fail!("expected {} bytes at {at} of joined extents, found {done}", out.len()));
            }
            self.image.read_at(place, &mut out[done..done + bytes])?;
            done += bytes;
        }
        Ok(())
    }
}

/// What a jump beyond the base's end and back costs, about.
const WORTH: u64 = 16;
const LEFT_BYTES_LEAST: u64 = 48;
const WINDOW_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that makes segment 3 has written 0 to 2.
    #[test]
    fn nothing_is_read_that_does_not_stand_yet() {
        let k = SEGMENT_BYTES as u64;
        let of = |new, base, bytes| {
            let parts = reachable(&Span { new, base, bytes, guess: None });
            parts.iter().map(|part| (part.new, part.base, part.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(of(3 * k, 0, k), [(3 * k, 0, k)]);
        assert_eq!(of(3 * k + 5, 3 * k - 10, 100), [(3 * k + 5, 3 * k - 10, 10)]);
        assert_eq!(of(3 * k + 5, 3 * k, 100), []);
        assert_eq!(of(2 * k - 10, 100, 30), [(2 * k - 10, 100, 10), (2 * k, 110, 20)]);
        assert_eq!(of(2 * k - 10, k - 5, 30), [(2 * k - 10, k - 5, 5), (2 * k, k + 5, 20)]);
    }
}
