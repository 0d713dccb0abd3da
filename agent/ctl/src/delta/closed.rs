//! Blocks of zstd and deflate in both images, opened: what of a segment's blocks can be made from the base's. How a part is put
//! together, `part.rs` says.

use super::content::{HASHED_BYTES, Table};
use super::part::{Closed, Row, extra, fill_last_bytes};
use super::ranges::common;
use super::scan::matches;
use super::streams::{self, Packer, Place};
use crate::Result;
use crate::layout::{Extent, ReadAt};
use mainstay_core::bundle::patch::{From, Op, Transform};
use mainstay_core::bundle::recode::{Codec, Tables};
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, PART_SOURCES_MAX};
use std::collections::BTreeMap;

/// A block of a frame or a stream.
#[derive(Clone, Copy, Debug)]
struct Block {
    place: Place,
    /// Where it stands, opened; nowhere in a list that is not searched.
    opened_at: u64,
    opened: u32,
    /// How many blocks before it have to be opened before it, for what it takes over.
    behind: u32,
}

/// Blocks in an image.
#[derive(Default)]
pub struct Blocks {
    list: Vec<Block>,
    content: Vec<u8>,
    table: Option<Table>,
}

/// What blocks are opened in.
struct Work {
    tables: Box<Tables>,
    block: Vec<u8>,
    opened: Vec<u8>,
}

impl Blocks {
    /// Those of frames and streams that have something in common with `changed`: where they stand.
    pub fn places(image: &dyn ReadAt, changed: &[Extent]) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        streams::each(image, &mut vec![0; PLACED_BYTES_MOST], &mut |list| {
            let Some(all) = list.first().zip(list.last()) else { return Ok(true) };
            let (at, end) = (all.0.bytes().start, all.1.bytes().end);
            if !common(&[Extent { at, bytes: end - at }], changed).is_empty() {
                let block = |place: &Place| Block { place: *place, opened_at: 0, opened: 0, behind: 0 };
                blocks.list.extend(list.iter().map(block));
            }
            Ok(true)
        })?;
        Ok(blocks)
    }

    /// No block?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All that can be opened, opened, up to a bound, and searchable.
    pub fn opened(image: &dyn ReadAt, threads: usize) -> Result<Blocks> {
        let (mut blocks, opened) = (Blocks::default(), vec![0; PART_MADE_BYTES_MAX]);
        let mut work = Work { tables: Box::default(), block: Vec::new(), opened };
        streams::each(image, &mut vec![0; PLACED_BYTES_MOST], &mut |list| {
            blocks.open(image, list, &mut work)
        })?;
        if blocks.content.len() >= HASHED_BYTES {
            blocks.table = Some(Table::of(&&blocks.content[..], threads)?);
        }
        Ok(blocks)
    }

    /// Takes a frame's blocks, as far as they can be opened, or a stream's. `false`: there is no more room.
    fn open(&mut self, image: &dyn ReadAt, list: &[Place], work: &mut Work) -> Result<bool> {
        // No block takes over from those before one that is left out.
        let mut begins = self.list.len();
        for place in list {
            let Work { tables, block, opened } = work;
            let bytes = place.bytes();
            let length = (bytes.end - bytes.start) as usize;
            let (mut made, mut behind) = (None, 0);
            if length <= PART_MADE_BYTES_MAX {
                block.resize(length, 0);
                image.read_at(bytes.start, block)?;
                match place.packer {
                    Packer::Deflate => {
                        made = tables.open_deflate(block, (place.from % 8) as usize, opened).ok();
                    }
                    Packer::Zstd => {
                        while made.is_none() && behind <= (self.list.len() - begins).min(BEHIND_MOST) {
                            made = open_behind(
                                image,
                                &self.list[self.list.len() - behind..],
                                block,
                                tables,
                                opened,
                            )?;
                            behind += 1;
                        }
                    }
                }
            }
            let Some((_, made)) = made else {
                begins = self.list.len();
                continue;
            };
            if self.content.len() + made > CONTENT_BYTES_MAX {
                return Ok(false);
            }
            let opened_at = self.content.len() as u64;
            self.content.extend_from_slice(&opened[..made]);
            let behind = behind.saturating_sub(1) as u32; // it has been counted once more
            self.list.push(Block { place: *place, opened_at, opened: made as u32, behind });
        }
        Ok(true)
    }
}

/// Opens a block behind these, and nothing else, if that can be done.
fn open_behind(
    image: &dyn ReadAt,
    before: &[Block],
    block: &[u8],
    tables: &mut Tables,
    opened: &mut [u8],
) -> Result<Option<(usize, usize)>> {
    tables.forget();
    let mut whole = Vec::new();
    for before in before {
        let bytes = before.place.bytes();
        whole.resize((bytes.end - bytes.start) as usize, 0);
        image.read_at(bytes.start, &mut whole)?;
        if tables.open(&whole, opened).is_err() {
            return Ok(None);
        }
    }
    Ok(tables.open(block, opened).ok())
}

/// The parts of the segment at `at`; `copied` says what need not be made. What cannot be closed again to the very same bytes is left.
pub fn parts(
    base: &Blocks,
    new: &Blocks,
    at: u64,
    content: &[u8],
    copied: &dyn Fn(usize, usize) -> bool,
) -> Result<Vec<Closed>> {
    let end = at + content.len() as u64;
    let first = new.list.partition_point(|block| block.place.bytes().start < at);
    let blocks = new.list[first..].iter().map(|block| block.place);
    let mut blocks = blocks.take_while(|place| place.bytes().end <= end).peekable();
    if blocks.peek().is_none() {
        return Ok(Vec::new());
    }
    let (mut out, mut row) = (Vec::new(), Row::new());
    for place in blocks {
        let bytes = place.bytes();
        if copied((bytes.start - at) as usize, (bytes.end - bytes.start) as usize) {
            out.extend(row.end());
        } else if !row.goes_on(content, at, &place) {
            out.extend(row.end());
            row.goes_on(content, at, &place);
        }
    }
    out.extend(row.end());
    for part in &mut out {
        base.explain(part)?;
    }
    out.retain(|part| !part.sources.is_empty());
    fill_last_bytes(&mut out, content);
    Ok(out)
}

impl Blocks {
    /// Finds what a part is made from.
    fn explain(&self, part: &mut Closed) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        let all = Extent { at: 0, bytes: part.made.len() as u64 };
        let anchors = table.anchors(&&self.content[..], &&part.made[..], &all, &|_, _| true)?;
        let mut hits: BTreeMap<usize, u64> = BTreeMap::new();
        for anchor in anchors {
            let mut at = anchor.base;
            while at < anchor.base + anchor.bytes {
                let index = self.list.partition_point(|block| block.opened_at <= at) - 1;
                let end = self.list[index].opened_at + u64::from(self.list[index].opened);
                let here = end.min(anchor.base + anchor.bytes) - at;
                *hits.entry(index).or_default() += here;
                at += here;
            }
        }
        let mut best: Vec<(u64, usize)> = hits.into_iter().map(|(index, bytes)| (bytes, index)).collect();
        best.sort_by_key(|(bytes, index)| (std::cmp::Reverse(*bytes), *index));
        let mut taken: Vec<std::ops::Range<usize>> = Vec::new();
        let mut used = 0;
        for (bytes, index) in best {
            let of_it = matches!(
                (self.list[index].place.packer, part.codec),
                (Packer::Zstd, Codec::Zstd) | (Packer::Deflate, Codec::Deflate { .. })
            );
            if bytes < HIT_LEAST || !of_it || taken.iter().any(|range| range.contains(&index)) {
                continue;
            }
            let mut begins = index;
            while let Some(earlier) =
                (begins..=index).map(|at| at - self.list[at].behind as usize).min().filter(|at| *at < begins)
            {
                begins = earlier;
            }
            let room: u64 = self.list[begins..=index].iter().map(|block| u64::from(block.opened)).sum();
            if used + room > PART_SOURCES_BYTES_MAX as u64
                || taken.len() == PART_SOURCES_MAX
                || index + 1 - begins > 255
            {
                continue;
            }
            used += room;
            taken.push(begins..index + 1);
        }
        taken.sort_by_key(|range| range.start);
        for range in taken {
            let blocks = &self.list[range.clone()];
            let from = blocks[0].opened_at as usize;
            let bytes: usize = blocks.iter().map(|block| block.opened as usize).sum();
            part.opened.extend_from_slice(&self.content[from..from + bytes]);
            let first = blocks[0].place;
            let (place, length) = match first.packer {
                Packer::Zstd => (first.from / 8, range.len() as u64),
                Packer::Deflate => (first.from, first.to - first.from),
            };
            part.sources.push((place, length as u32, bytes as u32));
        }
        let mut at = 0;
        for found in matches(&part.opened, &part.made) {
            extra(&mut part.ops, found.new - at);
            let (old, new) =
                (&part.opened[found.old..][..found.bytes], &part.made[found.new..][..found.bytes]);
            let (length, from) = (found.bytes as u32, found.old as u64);
            part.ops.push(match old == new {
                true => Op::Copy { length, at: from },
                false => Op::Add {
                    length,
                    from: From { at: from, transform: Transform::None, address: 0, anchor: 0 },
                },
            });
            at = found.new + found.bytes;
        }
        extra(&mut part.ops, part.made.len() - at);
        Ok(())
    }
}

/// What of the base is opened at most: memory for it and its table.
const CONTENT_BYTES_MAX: usize = 192 << 20;
/// A block that takes over from further back would hardly have its sources fit.
const BEHIND_MOST: usize = 16;
/// A block of deflate, opened, behind which the next one is still found.
const PLACED_BYTES_MOST: usize = 1 << 20;
/// What is worth a place among the sources.
const HIT_LEAST: u64 = 256;
