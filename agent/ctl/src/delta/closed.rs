//! Blocks of zstd and deflate in both images, opened: what of a segment's blocks can be made from the base's, and how.

use super::content::{HASHED_BYTES, Table};
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

/// What frames are opened in.
struct Work {
    tables: Tables,
    alone: Tables,
    block: Vec<u8>,
    opened: Vec<u8>,
}

impl Work {
    fn new() -> Box<Work> {
        let [tables, alone] = [Tables::new(), Tables::new()];
        Box::new(Work {
            tables,
            alone,
            block: vec![0; BLOCK_BYTES_MOST],
            opened: vec![0; PART_MADE_BYTES_MAX],
        })
    }
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
        let (mut blocks, mut work) = (Blocks::default(), Work::new());
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
        work.tables.forget();
        let begins = self.list.len();
        for place in list {
            let Work { tables, alone, block: whole, opened } = work;
            let (bytes, bit) = (place.bytes(), (place.from % 8) as usize);
            let length = (bytes.end - bytes.start) as usize;
            if length > PART_MADE_BYTES_MAX {
                match place.packer {
                    Packer::Zstd => break, // a gateway has no room for it
                    Packer::Deflate => continue,
                }
            }
            let whole = &mut whole[..length];
            image.read_at(bytes.start, whole)?;
            let made = match place.packer {
                Packer::Zstd => match tables.open(whole, opened) {
                    Ok((_, made)) => made,
                    Err(_) => break,
                },
                Packer::Deflate => match tables.open_deflate(whole, bit, opened) {
                    Ok((_, made)) => made,
                    Err(_) => continue,
                },
            };
            if self.content.len() + made > CONTENT_BYTES_MAX {
                return Ok(false);
            }
            let opened_at = self.content.len() as u64;
            self.content.extend_from_slice(&opened[..made]);
            let mut behind = 0;
            while place.packer == Packer::Zstd
                && !opens(image, &self.list[self.list.len() - behind..], whole, alone, opened)?
                && behind < self.list.len() - begins
            {
                behind += 1;
            }
            self.list.push(Block { place: *place, opened_at, opened: made as u32, behind: behind as u32 });
        }
        Ok(true)
    }
}

/// Can a block be opened behind these and nothing else?
fn opens(
    image: &dyn ReadAt,
    before: &[Block],
    block: &[u8],
    tables: &mut Tables,
    opened: &mut [u8],
) -> Result<bool> {
    tables.forget();
    let mut whole = Vec::new();
    for before in before {
        let bytes = before.place.bytes();
        whole.resize((bytes.end - bytes.start) as usize, 0);
        image.read_at(bytes.start, &mut whole)?;
        if tables.open(&whole, opened).is_err() {
            return Ok(false);
        }
    }
    Ok(tables.open(block, opened).is_ok())
}

/// A part of a segment that is made opened, and closed.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Of what.
    pub codec: Codec,
    /// Where in the segment, and how long.
    pub from: usize,
    pub bytes: usize,
    /// The bit of its last byte at which it ends; 0: with it.
    end_bit: u8,
    /// The items.
    pub made: Vec<u8>,
    /// Place in the base, blocks, opened bytes; of deflate the first two in bits.
    pub sources: Vec<(u64, u32, u32)>,
    /// What these open to.
    pub opened: Vec<u8>,
    /// How the items are made from that.
    pub ops: Vec<Op>,
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

/// Where a part ends in the midst of a byte, and none begins there, the rest of it is made as it is.
fn fill_last_bytes(parts: &mut [Closed], content: &[u8]) {
    let begins: Vec<_> =
        parts.iter().map(|part| (part.from, part.codec)).skip(1).map(Some).chain([None]).collect();
    for (part, next) in parts.iter_mut().zip(begins) {
        let end = part.from + part.bytes;
        let shared =
            next.is_some_and(|(from, codec)| from == end && matches!(codec, Codec::Deflate { bit: 1.. }));
        if part.end_bit > 0 && !shared {
            part.made.extend([2, 8 - part.end_bit, content[end - 1] >> part.end_bit]);
            extra(&mut part.ops, 3);
        }
    }
}

/// A part in the making.
struct Row {
    part: Option<Closed>,
    opening: Box<Tables>,
    closing: Box<Tables>,
    opened: Vec<u8>,
    closed: Vec<u8>,
}

impl Row {
    fn new() -> Row {
        let (opening, closing) = (Box::default(), Box::default());
        Row {
            part: None,
            opening,
            closing,
            opened: vec![0; PART_MADE_BYTES_MAX],
            closed: vec![0; BLOCK_BYTES_MOST],
        }
    }

    fn end(&mut self) -> Option<Closed> {
        self.part.take()
    }

    /// Takes a block, if it can be made again behind those that the part has.
    fn goes_on(&mut self, content: &[u8], at: u64, place: &Place) -> bool {
        match place.packer {
            Packer::Zstd => self.zstd(content, at, place),
            Packer::Deflate => self.deflate(content, at, place),
        }
    }

    fn zstd(&mut self, content: &[u8], at: u64, place: &Place) -> bool {
        let (bytes, first) = (place.bytes(), place.first);
        let (from, bytes) = ((bytes.start - at) as usize, (bytes.end - bytes.start) as usize);
        if self.part.as_ref().is_some_and(|part| part.codec != Codec::Zstd) {
            return false;
        }
        let (begins, made) =
            self.part.as_ref().map_or((from, 0), |part| (part.from + part.bytes, part.made.len()));
        let gap = from - begins;
        if first || self.part.is_none() {
            self.opening.forget();
            self.closing.forget();
        }
        let block = &content[from..from + bytes];
        let Ok((_, opened)) = self.opening.open(block, &mut self.opened) else { return false };
        let opened = &self.opened[..opened];
        let again = self.closing.close(opened, &mut self.closed);
        let most = if made == 0 { PART_MADE_BYTES_MAX } else { MADE_TOGETHER_MOST };
        let fits = gap <= GAP_MOST && made + ITEM_HEADS + gap + opened.len() <= most;
        if !fits || again.is_err() || again.is_ok_and(|(_, written)| self.closed[..written] != *block) {
            return false;
        }
        let part = self.part.get_or_insert_with(|| Closed::at(from, Codec::Zstd));
        if gap > 0 {
            part.plain(&content[begins..from]);
        }
        part.made.push(if first { 2 } else { 1 });
        part.made.extend_from_slice(opened);
        part.bytes += gap + bytes;
        true
    }

    fn deflate(&mut self, content: &[u8], at: u64, place: &Place) -> bool {
        let bytes = place.bytes();
        let (from, bit) = ((bytes.start - at) as usize, (place.from % 8) as u8);
        let (end, end_bit) = ((bytes.end - at) as usize, (place.to % 8) as u8);
        let Ok((_, opened)) = self.opening.open_deflate(&content[from..], bit.into(), &mut self.opened)
        else {
            return false;
        };
        let opened = &self.opened[..opened];
        let closed = &mut self.closed[..end - from];
        closed[0] = content[from];
        let again = self.closing.close_deflate(opened, bit.into(), closed);
        let mask = if end_bit > 0 { (1u8 << end_bit) - 1 } else { 0xff };
        let same = again.is_ok_and(|(_, to)| to as u64 == place.to - 8 * bytes.start)
            && closed[..end - from - 1] == content[from..end - 1]
            && (closed[end - from - 1] ^ content[end - 1]) & mask == 0;
        if !same || opened.len() + ITEM_HEADS + LAST_ITEM > PART_MADE_BYTES_MAX {
            return false;
        }
        let part = match &mut self.part {
            Some(part) => {
                let goes_on = matches!(part.codec, Codec::Deflate { .. })
                    && part.made.len() + opened.len() + 2 * ITEM_HEADS + GAP_MOST + LAST_ITEM
                        <= MADE_TOGETHER_MOST
                    && part.gap(content, from, bit);
                if !goes_on {
                    return false;
                }
                part
            }
            none => {
                let begins = from + usize::from(bit > 0);
                none.insert(Closed::at(begins, Codec::Deflate { bit }))
            }
        };
        part.made.push(1);
        part.made.extend_from_slice(opened);
        (part.bytes, part.end_bit) = (end - part.from, end_bit);
        true
    }
}

impl Closed {
    fn at(from: usize, codec: Codec) -> Closed {
        Closed {
            codec,
            from,
            bytes: 0,
            end_bit: 0,
            made: Vec::new(),
            sources: Vec::new(),
            opened: Vec::new(),
            ops: Vec::new(),
        }
    }

    fn plain(&mut self, bytes: &[u8]) {
        self.made.push(0);
        self.made.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        self.made.extend_from_slice(bytes);
    }

    /// Goes on to where the next block of deflate begins; `false`: that is too far, or not to be made.
    fn gap(&mut self, content: &[u8], from: usize, bit: u8) -> bool {
        let end = self.from + self.bytes;
        // In the byte in which this one ends.
        if from + 1 == end && self.end_bit > 0 {
            return self.end_bit == bit;
        }
        let filled = self.end_bit == 0 || content[end - 1] >> self.end_bit == 0;
        if from < end || from - end > GAP_MOST || !filled {
            return false;
        }
        // What stands there fills the last byte with zeros first.
        if from > end || self.end_bit > 0 {
            self.plain(&content[end..from]);
        }
        if bit > 0 {
            self.made.extend([2, bit, content[from] & ((1 << bit) - 1)]);
        }
        true
    }
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

fn extra(ops: &mut Vec<Op>, length: usize) {
    if length > 0 {
        ops.push(Op::Extra { length: length as u32 });
    }
}

/// Of operations, those that make `from..to` of a segment.
pub fn ops_between(ops: &[Op], from: usize, to: usize) -> Vec<Op> {
    let (mut out, mut at) = (Vec::new(), 0);
    for op in ops {
        let length = op.length() as usize;
        let (begin, end) = (from.max(at), to.min(at + length));
        if begin < end {
            let (skip, length) = ((begin - at) as u64, (end - begin) as u32);
            out.push(match op {
                Op::Copy { at, .. } => Op::Copy { length, at: at + skip },
                Op::Add { from, .. } => Op::Add {
                    length,
                    from: From {
                        at: from.at + skip,
                        address: from.address.wrapping_add(skip as u32),
                        ..*from
                    },
                },
                Op::Extra { .. } => Op::Extra { length },
            });
        }
        at += length;
    }
    out
}

/// With its header.
const BLOCK_BYTES_MOST: usize = 128 * 1024 + 3;
/// What of the base is opened at most: memory for it and its table.
const CONTENT_BYTES_MAX: usize = 192 << 20;
/// A block of deflate, opened, behind which the next one is still found.
const PLACED_BYTES_MOST: usize = 1 << 20;
/// Between two blocks stand the end of a frame and the head of the next.
const GAP_MOST: usize = 64;
/// Blocks are put into one part up to this many bytes, opened: a larger part has fewer sources to itself.
const MADE_TOGETHER_MOST: usize = 48 << 10;
/// Before a gap, and before a block.
const ITEM_HEADS: usize = 4;
/// The bits that fill a part's last byte.
const LAST_ITEM: usize = 3;
/// What is worth a place among the sources.
const HIT_LEAST: u64 = 256;
