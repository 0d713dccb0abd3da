//! Parts of a segment in the making: blocks in a row, opened, that are closed again to the very same bytes.

use super::streams::{Packer, Place};
use mainstay_core::bundle::patch::{From, Op};
use mainstay_core::bundle::recode::{Codec, Tables};
use mainstay_core::limits::PART_MADE_BYTES_MAX;

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

/// A part in the making.
pub struct Row {
    part: Option<Closed>,
    opening: Box<Tables>,
    closing: Box<Tables>,
    opened: Vec<u8>,
    closed: Vec<u8>,
    /// A block that takes nothing over may begin a part.
    alone: Box<Tables>,
    spare: Vec<u8>,
}

impl Row {
    pub fn new() -> Row {
        Row {
            part: None,
            opening: Box::default(),
            closing: Box::default(),
            opened: vec![0; PART_MADE_BYTES_MAX],
            closed: vec![0; BLOCK_BYTES_MOST],
            alone: Box::default(),
            spare: vec![0; PART_MADE_BYTES_MAX],
        }
    }

    /// The part as it is; the next block begins another.
    pub fn end(&mut self) -> Option<Closed> {
        self.part.take()
    }

    /// Takes a block, if it can be made again behind those that the part has.
    pub fn goes_on(&mut self, content: &[u8], at: u64, place: &Place) -> bool {
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
        let makes = made + ITEM_HEADS + gap + opened.len();
        self.alone.forget();
        let together = made == 0
            || makes <= MADE_TOGETHER_MOST
            || (!first && self.alone.open(block, &mut self.spare).is_err());
        let fits = gap <= GAP_MOST && makes <= PART_MADE_BYTES_MAX && together;
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
        let Some(closed) = self.closed.get_mut(..end - from) else { return false };
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

/// Where a part ends in the midst of a byte, and none begins there, the rest of it is made as it is.
pub fn fill_last_bytes(parts: &mut [Closed], content: &[u8]) {
    let begins: Vec<_> =
        parts.iter().map(|part| (part.from, part.codec)).skip(1).map(Some).chain([None]).collect();
    for (part, next) in parts.iter_mut().zip(begins) {
        let end = part.from + part.bytes;
        let shared = next == Some((end, Codec::Deflate { bit: part.end_bit }));
        if part.end_bit > 0 && !shared {
            part.made.extend([2, 8 - part.end_bit, content[end - 1] >> part.end_bit]);
            extra(&mut part.ops, 3);
        }
    }
}

/// So many bytes that no source has.
pub fn extra(ops: &mut Vec<Op>, length: usize) {
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
/// Between two blocks stand the end of a frame and the head of the next.
const GAP_MOST: usize = 64;
/// Blocks are put into one part up to this many bytes, opened: a larger part has fewer sources to itself. Such as take over tables go with
/// the block that they have them from.
const MADE_TOGETHER_MOST: usize = 48 << 10;
/// Before a gap, and before a block.
const ITEM_HEADS: usize = 4;
/// The bits that fill a part's last byte.
const LAST_ITEM: usize = 3;
