//! Makes the parts of a plan: plain ones that copy, and blocks of the base with other literals. The blocks are written by hand; what
//! closes them is core's own, whose other reader is in its tests.

use super::{PartPlan, SLOT_BYTES};
use mainstay_core::bundle::patch::{Base, From, Op, Transform};
use mainstay_core::bundle::recode::{Codec, Part, Tables};
use mainstay_core::limits::SEGMENT_BYTES;

/// 50 literals, and a match of 650 bytes (RFC 8878, section 3.1.1.3: all codes are RLE).
const ZSTD: [u8; 13] = [0x55, 0, 0, 0x25, 3, b'C', 1, 0x54, 0, 2, 45, 0x87, 0x08];
const ZSTD_OPENED: [u8; 19] = [0x55, 0, 0, 0x25, 3, b'C', 1, 0x54, 0, 2, 45, 0, 255, 0x87, 2, 0, 0, 0, 4];
const ZSTD_LITERAL: usize = 5;
/// One literal, and eight bytes more at a distance of 1 (RFC 1951, section 3.2.6), 30 bits.
const DEFLATE: [u8; 4] = [0x4b, 0x84, 0x01, 0];
const DEFLATE_BITS: u32 = 30;
const DEFLATE_OPENED: [u8; 12] = [0b011, 0, 0, 1, 0, 0, 1, b'a', 1, 5, 0, 0];
const DEFLATE_LITERAL: usize = 7;
/// Literals below have words of eight bits.
const SHORT_WORDS: u8 = 144;

/// Where they stand in the base: in its last segment.
pub const ZSTD_AT: usize = 2 * SEGMENT_BYTES + 100;
const DEFLATE_AT: usize = ZSTD_AT + 20;

pub fn put_blocks(base: &mut [u8]) {
    base[ZSTD_AT..][..ZSTD.len()].copy_from_slice(&ZSTD);
    base[DEFLATE_AT..][..DEFLATE.len()].copy_from_slice(&DEFLATE);
}

/// A part in the making.
pub struct Made {
    length: usize,
    ops: Vec<Op>,
    closed: Option<Closed>,
}

struct Closed {
    codec: Codec,
    source: [(u64, u32, u32); 1],
    opened: &'static [u8],
    items: Vec<u8>,
}

impl Made {
    pub fn part(&self) -> Part<'_> {
        let (length, ops) = (self.length, &self.ops);
        match &self.closed {
            None => Part::Plain { length, ops: ops.clone() },
            Some(Closed { codec, source, opened, items }) => {
                Part::Closed { codec: *codec, length, sources: source, opened, items, ops }
            }
        }
    }
}

/// Content of `bytes`, and the parts that make it.
pub fn made(
    plans: &[Option<PartPlan>; 3],
    bytes: usize,
    before: &mut dyn Base,
) -> Option<(Vec<u8>, Vec<Made>)> {
    let (mut content, mut parts) = (Vec::with_capacity(bytes), Vec::new());
    let mut tables = Box::<Tables>::default();
    let rest = PartPlan { kind: 0, length: u16::MAX, at: 11, letter: 0, bit: 0 };
    for plan in plans.iter().flatten().chain([&rest]) {
        let left = bytes - content.len();
        let at = |block: usize| if plan.kind & 0x80 > 0 { plan.at.into() } else { block as u64 };
        parts.push(match plan.kind % 0x80 % 3 {
            _ if left == 0 => break,
            1 if left >= ZSTD.len() => {
                let mut items = [&[2][..], &ZSTD_OPENED].concat();
                items[1 + ZSTD_LITERAL] = plan.letter;
                let mut block = [0; ZSTD.len()];
                tables.forget();
                tables.close(&items[1..], &mut block).ok()?;
                content.extend_from_slice(&block);
                let source = [(at(ZSTD_AT), 1, ZSTD_OPENED.len() as u32)];
                let closed = Closed { codec: Codec::Zstd, source, opened: &ZSTD_OPENED, items };
                Made { length: ZSTD.len(), ops: opened_as_was(ZSTD_OPENED.len(), 0), closed: Some(closed) }
            }
            2 if left > DEFLATE.len() => {
                // It begins in the last byte of the part before, and fills its own last byte.
                let bit = if content.is_empty() { 0 } else { plan.bit % 8 };
                let shared = usize::from(bit > 0);
                let end = u32::from(bit) + DEFLATE_BITS;
                let mut items = [&[1][..], &DEFLATE_OPENED].concat();
                items[1 + DEFLATE_LITERAL] = plan.letter % SHORT_WORDS;
                let block = content.len() - shared;
                content.resize(block + end.div_ceil(8) as usize, 0);
                tables.close_deflate(&items[1..], bit.into(), &mut content[block..]).ok()?;
                let mut ops = opened_as_was(DEFLATE_OPENED.len(), 0);
                if !end.is_multiple_of(8) {
                    let (bits, last) = (8 - end % 8, content.last_mut()?);
                    *last &= 0xff >> bits;
                    items.extend([2, bits as u8, 0]);
                    ops = opened_as_was(DEFLATE_OPENED.len(), 3);
                }
                let source = [(at(8 * DEFLATE_AT), DEFLATE_BITS, DEFLATE_OPENED.len() as u32)];
                let closed = Closed { codec: Codec::Deflate { bit }, source, opened: &DEFLATE_OPENED, items };
                Made { length: content.len() - block - shared, ops, closed: Some(closed) }
            }
            _ => {
                let length =
                    if plan.length == u16::MAX { left } else { usize::from(plan.length).clamp(1, left) };
                let (from, at) = (content.len(), u64::from(plan.at) % (SLOT_BYTES - length) as u64);
                content.resize(from + length, 0);
                before.read(at, &mut content[from..]).ok()?;
                Made { length, ops: vec![Op::Copy { length: length as u32, at }], closed: None }
            }
        });
    }
    Some((content, parts))
}

/// An item's kind, a source with some bytes changed, and so many bytes behind it.
fn opened_as_was(opened: usize, behind: u32) -> Vec<Op> {
    let from = From { at: 0, transform: Transform::None, address: 0, anchor: 0 };
    let mut ops = vec![Op::Extra { length: 1 }, Op::Add { length: opened as u32, from }];
    ops.extend((behind > 0).then_some(Op::Extra { length: behind }));
    ops
}
