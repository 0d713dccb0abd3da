//! Blocks of zstd in both images, opened: what of a segment's blocks can be made from the base's, and how.

use super::content::{HASHED_BYTES, Table};
use super::ranges::common;
use super::scan::matches;
use crate::Result;
use crate::layout::{Extent, ReadAt};
use crate::zstd::{MAGIC, header_bytes};
use mainstay_core::bundle::patch::{From, Op, Transform};
use mainstay_core::bundle::recode::{Tables, block_bytes};
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, PART_SOURCES_MAX};
use std::collections::BTreeMap;

/// A block of a frame.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// In the image.
    at: u64,
    bytes: u32,
    /// Where it stands, opened; nowhere in a list that is not searched.
    opened_at: u64,
    opened: u32,
    /// How many blocks before it have to be opened before it, for what it takes over.
    behind: u32,
    /// A frame's first.
    first: bool,
}

/// Blocks of zstd in an image.
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
    /// Those of frames that have something in common with `changed`: where they stand.
    pub fn places(image: &dyn ReadAt, changed: &[Extent]) -> Result<Blocks> {
        let mut blocks = Blocks::default();
        each_frame(image, &mut |list| {
            let frame = Extent { at: list[0].at, bytes: end_of(list) - list[0].at };
            if !common(&[frame], changed).is_empty() {
                blocks.list.extend_from_slice(list);
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
        each_frame(image, &mut |list| blocks.open(image, list, &mut work))?;
        if blocks.content.len() >= HASHED_BYTES {
            blocks.table = Some(Table::of(&&blocks.content[..], threads)?);
        }
        Ok(blocks)
    }

    /// Takes a frame's blocks, as far as they can be opened. `false`: there is no more room.
    fn open(&mut self, image: &dyn ReadAt, list: &[Block], work: &mut Work) -> Result<bool> {
        work.tables.forget();
        let begins = self.list.len();
        for block in list {
            if block.bytes as usize > PART_MADE_BYTES_MAX {
                break; // a gateway has no room for it
            }
            let Work { tables, alone, block: whole, opened } = work;
            let whole = &mut whole[..block.bytes as usize];
            image.read_at(block.at, whole)?;
            let Ok((_, made)) = tables.open(whole, opened) else { break };
            if self.content.len() + made > CONTENT_BYTES_MAX {
                return Ok(false);
            }
            let opened_at = self.content.len() as u64;
            self.content.extend_from_slice(&opened[..made]);
            let mut behind = 0;
            while !opens(image, &self.list[self.list.len() - behind..], whole, alone, opened)?
                && behind < self.list.len() - begins
            {
                behind += 1;
            }
            self.list.push(Block { opened_at, opened: made as u32, behind: behind as u32, ..*block });
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
        whole.resize(before.bytes as usize, 0);
        image.read_at(before.at, &mut whole)?;
        if tables.open(&whole, opened).is_err() {
            return Ok(false);
        }
    }
    Ok(tables.open(block, opened).is_ok())
}

/// Walks through all that looks like a frame; `take` says whether to go on.
fn each_frame(image: &dyn ReadAt, take: &mut dyn FnMut(&[Block]) -> Result<bool>) -> Result<()> {
    let (mut window, mut at) = (vec![0; WINDOW_BYTES], 0);
    while at + HEADER_BYTES_MAX < image.bytes() {
        let bytes = (image.bytes() - at).min(WINDOW_BYTES as u64) as usize;
        let window = &mut window[..bytes];
        image.read_at(at, window)?;
        let found = window.windows(MAGIC.len()).position(|four| four == MAGIC);
        let Some(found) = found else {
            at += (bytes - (MAGIC.len() - 1)) as u64;
            continue;
        };
        at += found as u64;
        match frame(image, at)? {
            Some(list) if !list.is_empty() => {
                if !take(&list)? {
                    return Ok(());
                }
                at = end_of(&list);
            }
            _ => at += MAGIC.len() as u64,
        }
    }
    Ok(())
}

fn end_of(list: &[Block]) -> u64 {
    list.last().map_or(0, |last| last.at + u64::from(last.bytes))
}

/// The blocks of the frame that seems to begin there; none where it cannot be one.
fn frame(image: &dyn ReadAt, at: u64) -> Result<Option<Vec<Block>>> {
    let mut head = [0; HEADER_BYTES_MAX as usize];
    let bytes = (image.bytes() - at).min(HEADER_BYTES_MAX) as usize;
    image.read_at(at, &mut head[..bytes])?;
    let (mut list, mut here) = (Vec::new(), at + header_bytes(&head[..bytes]) as u64);
    loop {
        let mut head = [0; 3];
        if here + 3 > image.bytes() {
            return Ok(None);
        }
        image.read_at(here, &mut head)?;
        let Ok(bytes) = block_bytes(&head) else { return Ok(None) };
        if here + bytes as u64 > image.bytes() || list.len() == FRAME_BLOCKS_MAX {
            return Ok(None);
        }
        let first = list.is_empty();
        list.push(Block { at: here, bytes: bytes as u32, opened_at: 0, opened: 0, behind: 0, first });
        here += bytes as u64;
        if head[0] & 1 == 1 {
            return Ok(Some(list));
        }
    }
}

/// A part of a segment that is made opened, and closed.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Where in the segment, and how long.
    pub from: usize,
    pub bytes: usize,
    /// The items.
    pub made: Vec<u8>,
    /// Place in the base, blocks, opened bytes.
    pub sources: Vec<(u64, u8, u32)>,
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
    let first = new.list.partition_point(|block| block.at < at);
    let within = |block: &Block| block.at + u64::from(block.bytes) <= end;
    let blocks = &new.list[first..];
    if !blocks.first().is_some_and(within) {
        return Ok(Vec::new());
    }
    let (mut out, mut row) = (Vec::new(), Row::new());
    for block in blocks.iter().take_while(|block| within(block)) {
        let (from, bytes) = ((block.at - at) as usize, block.bytes as usize);
        if copied(from, bytes) {
            out.extend(row.end());
        } else if !row.goes_on(content, from, bytes, block.first) {
            out.extend(row.end());
            row.goes_on(content, from, bytes, block.first);
        }
    }
    out.extend(row.end());
    for part in &mut out {
        base.explain(part)?;
    }
    out.retain(|part| !part.sources.is_empty());
    Ok(out)
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
    fn goes_on(&mut self, content: &[u8], from: usize, bytes: usize, first: bool) -> bool {
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
        let fits = gap <= GAP_MOST && made + ITEM_HEADS + gap + opened.len() <= PART_MADE_BYTES_MAX;
        if !fits || again.is_err() || again.is_ok_and(|(_, written)| self.closed[..written] != *block) {
            return false;
        }
        let part = self.part.get_or_insert_with(|| Closed { from, ..Closed::default() });
        if gap > 0 {
            part.made.push(0);
            part.made.extend_from_slice(&(gap as u16).to_le_bytes());
            part.made.extend_from_slice(&content[begins..from]);
        }
        part.made.push(if first { 2 } else { 1 });
        part.made.extend_from_slice(opened);
        part.bytes += gap + bytes;
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
            if bytes < HIT_LEAST || taken.iter().any(|range| range.contains(&index)) {
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
            part.sources.push((blocks[0].at, range.len() as u8, bytes as u32));
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

/// RFC 8878, section 3.1.1.1.
const HEADER_BYTES_MAX: u64 = 18;
/// Blocks of 128 KiB: what claims to be a frame of more than 8 GiB is none.
const FRAME_BLOCKS_MAX: usize = 1 << 16;
/// With its header.
const BLOCK_BYTES_MOST: usize = 128 * 1024 + 3;
/// What of the base is opened at most: memory for it and its table.
const CONTENT_BYTES_MAX: usize = 192 << 20;
/// Read anew behind each frame, so not much more than one of these has.
const WINDOW_BYTES: usize = 64 << 10;
/// Between two blocks stand the end of a frame and the head of the next.
const GAP_MOST: usize = 64;
/// Before a gap, and before a block.
const ITEM_HEADS: usize = 4;
/// What is worth a place among the sources.
const HIT_LEAST: u64 = 256;
