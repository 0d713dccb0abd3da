//! A segment in parts: such as patches make, and such as are blocks of zstd or deflate that patches make opened.
//!
//! ```text
//! plain    0 | content length (u24) | frame length (u24) | patch frame, as of the segment
//! zstd     1 | content length (u24) | frame length (u24) | opened length (u24)
//!            | sources (u8) | each: place in the base (u40), its blocks (u8), their opened length (u24)
//!            | patch frame, whose base are the opened sources in a row
//! deflate  2 | the same, but for a byte before the sources: the bit at which it begins in the last byte of the part before, or 0;
//!            | and places and lengths of sources are in bits (u40, u24)
//! ```
//! All numbers are little endian; parts follow each other until the segment is full. What a closed part's patch makes is items:
//!
//! ```text
//! zstd     0 | length (u16) | bytes as they are            1 | an opened block            2 | the same, and a frame begins with it
//! deflate  0 | length (u16) | zeros up to a byte's end, and bytes as they are             1 | an opened block
//!          2 | how many (u8) | so many bits, 1 to 8, the lowest of a byte
//! ```
//! A base that is not what it was cannot be opened, or opens to something else. Then a part's bytes are zeros, its patch is read all the
//! same, and the segment's digest refuses: as with patches, nothing that is learned depends on the base.

use super::Tables;
use super::bits::Writer;
use crate::bundle::patch::{Base, PatchState, unpatch};
#[cfg(any(test, feature = "author"))]
use crate::bundle::patch::{Op, patch};
use crate::fault;
use crate::fault::Fault;
use crate::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, PART_SOURCES_MAX, PARTS_MAX};
use crate::seam::Result;

/// What parts are made in.
pub struct Room<'a> {
    /// What blocks take over from one another.
    pub tables: &'a mut Tables,
    /// [`PART_SOURCES_BYTES_MAX`]: the sources, opened.
    pub opened: &'a mut [u8],
    /// [`PART_MADE_BYTES_MAX`]: what is made of them; before that, a block as it is.
    pub made: &'a mut [u8],
}

/// Makes the segment that stands at `at` of the content from its parts: fills `out`.
pub fn unpatch_parts(
    parts: &[u8],
    at: u64,
    state: &mut PatchState,
    base: &mut dyn Base,
    room: &mut Room<'_>,
    out: &mut [u8],
) -> Result<()> {
    let (mut rest, mut filled, mut count) = (Bytes(parts), 0, 0);
    while filled < out.len() {
        count += 1;
        if count > PARTS_MAX {
            return Err(fault!(Corrupt, "parts: expected at most {PARTS_MAX}, found more"));
        }
        let (kind, length, frame_length) = (rest.number(1)?, rest.length(3)?, rest.length(3)?);
        let place = out.get_mut(filled..filled + length).filter(|place| !place.is_empty());
        let place = place
            .ok_or_else(|| fault!(Corrupt, "parts: one of {length} bytes at {filled} of its segment"))?;
        match kind {
            0 => unpatch(rest.bytes(frame_length)?, at + filled as u64, state, base, place)?,
            1 => closed(&mut rest, Codec::Zstd, frame_length, state, base, room, place)?,
            2 => {
                let bit = rest.length(1)? as u8;
                let shared = usize::from(bit > 0);
                let place = filled.checked_sub(shared).and_then(|from| out.get_mut(from..filled + length));
                let place = place.filter(|_| bit < 8).ok_or_else(|| {
                    fault!(Corrupt, "parts: one that begins at bit {bit}, at {filled} of its segment")
                })?;
                closed(&mut rest, Codec::Deflate { bit }, frame_length, state, base, room, place)?;
            }
            kind => return Err(fault!(Unsupported, "parts: of an unknown kind, {kind}")),
        }
        filled += length;
    }
    match rest.0 {
        [] => Ok(()),
        rest => Err(fault!(Corrupt, "parts: {} bytes behind the last one", rest.len())),
    }
}

/// What has packed a part's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 8878.
    Zstd,
    /// RFC 1951.
    Deflate {
        /// The bit of the last byte before the part at which it begins, 1 to 7; or 0.
        bit: u8,
    },
}

/// A part of a segment, for who makes them.
#[cfg(any(test, feature = "author"))]
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// So many bytes of the segment, made by these operations.
    Plain {
        /// Bytes.
        length: usize,
        /// What makes them.
        ops: alloc::vec::Vec<Op>,
    },
    /// Blocks, made opened.
    Closed {
        /// Of what.
        codec: Codec,
        /// Bytes of the segment.
        length: usize,
        /// Where blocks of the base begin, how many they are (of deflate in bits, both), and how many bytes they open to.
        sources: &'a [(u64, u32, u32)],
        /// What all of these open to.
        opened: &'a [u8],
        /// The items.
        items: &'a [u8],
        /// What makes the items from that.
        ops: &'a [Op],
    },
}

/// Writes a segment in parts: `content` is what they make at `at`; `base` as for a patch.
#[cfg(any(test, feature = "author"))]
pub fn patch_parts(
    parts: &[Part<'_>],
    at: u64,
    state: &mut PatchState,
    base: &mut dyn Base,
    content: &[u8],
) -> Result<alloc::vec::Vec<u8>> {
    let (mut out, mut filled) = (alloc::vec::Vec::new(), 0);
    let number = |out: &mut alloc::vec::Vec<u8>, number: u64, bytes: usize| {
        out.extend(number.to_le_bytes().iter().take(bytes));
    };
    for part in parts {
        let (Part::Plain { length, .. } | Part::Closed { length, .. }) = part;
        let place = content.get(filled..filled + length).ok_or_else(too_much)?;
        let frame = match part {
            Part::Plain { ops, .. } => patch(ops, None, at + filled as u64, state, base, place)?,
            Part::Closed { opened, items, ops, .. } => {
                patch(ops, None, 0, state, &mut Opened(opened), items)?
            }
        };
        let kind = match part {
            Part::Plain { .. } => 0,
            Part::Closed { codec: Codec::Zstd, .. } => 1,
            Part::Closed { codec: Codec::Deflate { .. }, .. } => 2,
        };
        number(&mut out, kind, 1);
        number(&mut out, *length as u64, 3);
        number(&mut out, frame.len() as u64, 3);
        if let Part::Closed { codec, sources, items, .. } = part {
            if let Codec::Deflate { bit } = codec {
                number(&mut out, (*bit).into(), 1);
            }
            number(&mut out, items.len() as u64, 3);
            number(&mut out, sources.len() as u64, 1);
            for (place, blocks, bytes) in *sources {
                number(&mut out, *place, 5);
                number(&mut out, (*blocks).into(), codec.length_bytes());
                number(&mut out, (*bytes).into(), 3);
            }
        }
        out.extend(frame);
        filled += length;
    }
    match filled == content.len() {
        true => Ok(out),
        false => Err(fault!(Refused, "parts: they make {filled} of {} bytes", content.len())),
    }
}

impl Codec {
    /// Of how many bytes the number is that says how long a source is.
    const fn length_bytes(self) -> usize {
        match self {
            Codec::Zstd => 1,
            Codec::Deflate { .. } => 3,
        }
    }
}

fn closed(
    rest: &mut Bytes<'_>,
    codec: Codec,
    frame_length: usize,
    state: &mut PatchState,
    base: &mut dyn Base,
    room: &mut Room<'_>,
    out: &mut [u8],
) -> Result<()> {
    let Room { tables, opened, made } = room;
    let (made_bytes, sources) = (rest.length(3)?, rest.length(1)?);
    if sources > PART_SOURCES_MAX {
        return Err(fault!(Corrupt, "parts: expected at most {PART_SOURCES_MAX} sources, found {sources}"));
    }
    let mut end = 0;
    let opened = opened.get_mut(..PART_SOURCES_BYTES_MAX).ok_or_else(too_much)?;
    let made = made.get_mut(..PART_MADE_BYTES_MAX).ok_or_else(too_much)?;
    for _ in 0..sources {
        let (place, blocks) = (rest.number(5)?, rest.length(codec.length_bytes())?);
        let bytes = rest.length(3)?;
        let source = opened.get_mut(end..end + bytes).ok_or_else(too_much)?;
        let there = match codec {
            Codec::Zstd => open(place, blocks, tables, base, made, source)?,
            Codec::Deflate { .. } => open_deflate(place, blocks, tables, base, made, source)?,
        };
        if !there {
            source.fill(0);
        }
        end += bytes;
    }
    let place = made.get_mut(..made_bytes).ok_or_else(too_much)?;
    let mut source = Opened(opened.get(..end).unwrap_or_default());
    unpatch(rest.bytes(frame_length)?, 0, state, &mut source, place)?;
    let closed = match codec {
        Codec::Zstd => close(place, tables, out),
        Codec::Deflate { bit } => close_deflate(place, bit.into(), tables, out),
    };
    if closed.is_none() {
        out.fill(0);
    }
    Ok(())
}

/// Opens `blocks` from `place` of the base on, and fills `out`; can it be done? `whole`: for a block as it is.
fn open(
    place: u64,
    blocks: usize,
    tables: &mut Tables,
    base: &mut dyn Base,
    whole: &mut [u8],
    out: &mut [u8],
) -> Result<bool> {
    tables.forget();
    let (mut at, mut filled) = (place, 0);
    for _ in 0..blocks {
        let Some(head) = read(base, at, 3, whole)? else { return Ok(false) };
        let Ok(bytes) = super::block_bytes(head) else { return Ok(false) };
        let Some(block) = read(base, at, bytes, whole)? else { return Ok(false) };
        let room = out.get_mut(filled..).unwrap_or_default();
        let Ok((_, made)) = tables.open(block, room) else { return Ok(false) };
        (at, filled) = (at + bytes as u64, filled + made);
    }
    Ok(filled == out.len())
}

/// Opens all blocks of deflate in `bits` of the base from bit `place` on, and fills `out`; can it be done? `whole`: for these as they are.
fn open_deflate(
    place: u64,
    bits: usize,
    tables: &mut Tables,
    base: &mut dyn Base,
    whole: &mut [u8],
    out: &mut [u8],
) -> Result<bool> {
    let (mut at, mut filled) = ((place % 8) as usize, 0);
    let end = at + bits;
    let Some(from) = read(base, place / 8, end.div_ceil(8), whole)? else { return Ok(false) };
    while at < end {
        let room = out.get_mut(filled..).unwrap_or_default();
        let Ok((used, made)) = tables.open_deflate(from, at, room) else { return Ok(false) };
        (at, filled) = (at + used, filled + made);
    }
    Ok(at == end && filled == out.len())
}

/// `bytes` of the base from `at` on, in `place`, if it has them.
fn read<'a>(base: &mut dyn Base, at: u64, bytes: usize, place: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    let there = at.checked_add(bytes as u64).is_some_and(|end| end <= base.bytes());
    let Some(place) = place.get_mut(..bytes).filter(|_| there) else { return Ok(None) };
    base.read(at, place)?;
    Ok(Some(place))
}

/// Closes items, and fills `out`; `None`, where that cannot be done.
fn close(items: &[u8], tables: &mut Tables, out: &mut [u8]) -> Option<()> {
    tables.forget();
    let (mut rest, mut filled) = (items, 0);
    while let [kind, behind @ ..] = rest {
        let place = out.get_mut(filled..)?;
        let (used, made) = match kind {
            0 => {
                let ([low, high], behind) = behind.split_first_chunk()?;
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                place.get_mut(..length)?.copy_from_slice(behind.get(..length)?);
                (2 + length, length)
            }
            1 | 2 => {
                if *kind == 2 {
                    tables.forget();
                }
                tables.close(behind, place).ok()?
            }
            _ => return None,
        };
        (rest, filled) = (behind.get(used..)?, filled + made);
    }
    (filled == out.len()).then_some(())
}

/// Closes items behind the lowest `bit` bits of `out`, and fills it; `None`, where that cannot be done.
fn close_deflate(items: &[u8], bit: u32, tables: &mut Tables, out: &mut [u8]) -> Option<()> {
    let (mut rest, room) = (items, out.len());
    let mut to = Writer::behind(out, bit);
    while let [kind, behind @ ..] = rest {
        let used = match kind {
            0 => {
                let ([low, high], behind) = behind.split_first_chunk()?;
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                to.bytes(behind.get(..length)?).ok()?;
                2 + length
            }
            1 => tables.deflate.close(behind, &mut to).ok()?,
            2 => {
                let ([bits @ 1..=8, value], _) = behind.split_first_chunk()? else { return None };
                to.put((*value).into(), (*bits).into()).ok()?;
                2
            }
            _ => return None,
        };
        rest = behind.get(used..)?;
    }
    (to.fill().ok()? == room).then_some(())
}

fn too_much() -> Fault {
    fault!(
        Corrupt,
        "parts: more than {PART_SOURCES_BYTES_MAX} bytes of sources, {PART_MADE_BYTES_MAX} of items, or beyond the base"
    )
}

/// The opened sources, as a base.
struct Opened<'a>(&'a [u8]);

impl Base for Opened<'_> {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        out.copy_from_slice(from.get(..out.len()).ok_or_else(too_much)?);
        Ok(())
    }
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let cut = || fault!(Corrupt, "parts: cut short");
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Of at most four bytes.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        Ok(self.number(bytes)? as usize)
    }

    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}
