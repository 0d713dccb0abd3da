//! One piece of matching work: a content of the new image and what it is probably like, both in memory while it lasts.

use super::elf::Holes;
use super::moves::{self, Moves};
use super::plan::{Guess, Span};
use super::ranges;
use super::ranges::{Joined, common};
use super::scan::{Match, matches};
use super::suffix::TEXT_BYTES_MAX;
use crate::Result;
use crate::layout::{Extent, ReadAt};
use mainstay_core::bundle::patch::Map;

/// What to match with what.
pub struct Job {
    /// The new content.
    pub new: Joined,
    /// The old one.
    pub old: Joined,
    /// If only a part of the new content is asked for: which.
    pub only: Option<Vec<Extent>>,
    /// Of two whole files, the old one first: what their contents lack.
    pub holes: Option<[Holes; 2]>,
}

/// What came of it. Guesses have no map's number yet.
#[derive(Default)]
pub struct Done {
    /// Not in order.
    pub spans: Vec<Span>,
    /// Where guesses point to.
    pub map: Option<Box<Map>>,
}

impl Job {
    /// What of the new image is made by it.
    pub fn claims(&self) -> &[Extent] {
        self.only.as_deref().unwrap_or(self.new.extents())
    }

    /// Whether it takes so much memory that no other should run beside it.
    pub fn is_large(&self) -> bool {
        self.old.bytes().max(self.new.bytes()) > (TEXT_BYTES_MAX / 3) as u64
    }

    /// Does it.
    pub fn run(&self, base: &dyn ReadAt, new: &dyn ReadAt, transforms: bool) -> Result<Done> {
        let (old, content) = (self.old.read(base)?, self.new.read(new)?);
        let found = matches(&old, &content);
        let holes = self.holes.as_ref().filter(|_| transforms);
        let moves = holes.and_then(|holes| Moves::of([&old, &content], holes, &found));
        let Some(moves) = moves else {
            let spans = found.iter().flat_map(|found| self.spans(found, None)).collect();
            return Ok(Done { spans, map: None });
        };
        let (moves, found) = moves.refined([&old, &content], found);
        let chunks = moves::choose(&moves, &old, &content, &found);
        let spans = chunks.iter().flat_map(|(found, guess)| self.spans(found, *guess)).collect();
        Ok(Done { spans, map: Some(moves.map) })
    }

    /// A match as it stands in the images: cut where an extent ends on either side.
    fn spans(&self, found: &Match, guess: Option<Guess>) -> Vec<Span> {
        let whole = Span { new: found.new as u64, base: found.old as u64, bytes: found.bytes as u64, guess };
        let out = placed(&whole, &self.new, &self.old);
        match &self.only {
            None => out,
            Some(only) => out.iter().flat_map(|span| asked_for(span, only)).collect(),
        }
    }
}

/// A span of joined contents as it stands in the images.
pub fn placed(whole: &Span, new: &Joined, old: &Joined) -> Vec<Span> {
    let (mut out, mut at) = (Vec::new(), whole.new);
    while let Some(rest) = whole.within(at, whole.end()) {
        let ((new, room), (base, base_room)) = (new.place(rest.new), old.place(rest.base));
        let bytes = room.min(base_room).min(rest.bytes);
        if bytes == 0 {
            break; // nothing stands there: beyond the end
        }
        out.push(Span { new, base, bytes, guess: rest.guess });
        at += bytes;
    }
    out
}

fn asked_for(span: &Span, only: &[Extent]) -> Vec<Span> {
    let first = only.partition_point(|extent| ranges::end(extent) <= span.new);
    let last = only.partition_point(|extent| extent.at < span.end()).max(first);
    let parts = common(&[Extent { at: span.new, bytes: span.bytes }], &only[first..last]);
    parts.iter().filter_map(|part| span.within(part.at, ranges::end(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(u64, u64)]) -> Vec<Extent> {
        list.iter().map(|(at, bytes)| Extent { at: *at, bytes: *bytes }).collect()
    }

    /// The content 0, 1, 2 … stands in two parts in each image, cut at other places.
    #[test]
    fn a_match_is_cut_where_an_extent_ends_and_to_what_is_asked_for() {
        let content: Vec<u8> = (0..=255).collect();
        let base = [&content[100..], &content[..100]].concat();
        let new = [&content[180..], &[0; 4], &content[..180]].concat();
        let job = |only: Option<&[(u64, u64)]>| Job {
            new: Joined::new(of(&[(80, 180), (0, 76)])),
            old: Joined::new(of(&[(156, 100), (0, 156)])),
            only: only.map(of),
            holes: None,
        };
        let spans = |only| {
            let done = job(only).run(&base, &new, true).unwrap();
            done.spans.iter().map(|span| (span.new, span.base, span.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(spans(None), [(80, 156, 100), (180, 0, 80), (0, 80, 76)]);
        assert_eq!(
            spans(Some(&[(10, 5), (90, 2), (170, 20)])),
            [(90, 166, 2), (170, 246, 10), (180, 0, 10), (10, 90, 5)]
        );
    }
}
