//! A binary arithmetic coder: 32-bit bounds, carry-free, most significant byte first (the scheme of Mahoney's *lpaq*
//! and its relatives, described in *Data Compression Explained*, section 3.2). The reader never reads beyond its bytes:
//! it is fed zeros there, and says when it has gone further than a whole frame makes it go.

use super::model::{CONTEXTS_MAX, Kind, Model};
use core::num::NonZeroU32;

/// Symbols out of bytes, or into them.
pub trait Coder {
    /// The next bit, a one with this probability in 1/65536; `bit` is what to write, and is not looked at by a reader.
    fn code(&mut self, probability: u32, bit: bool) -> bool;

    /// The next bit, as the model has it.
    fn bit(&mut self, model: &mut Model, contexts: &[u32], node: u32, kind: Kind, bit: bool) -> bool {
        let bit = self.code(model.expect(contexts, node, kind), bit);
        model.learn(bit);
        bit
    }

    /// A symbol of at most eight bits, most significant first, as a path through a binary tree. Each depth has its own weights.
    fn symbol(&mut self, model: &mut Model, contexts: &[u32], kind: Kind, bits: u32, value: u32) -> u32 {
        let (mut node, mut kind) = (1, kind);
        for place in (0..bits).rev() {
            let bit = self.bit(model, contexts, node, kind, value >> place & 1 == 1);
            node = node << 1 | u32::from(bit);
            kind.mixer += 1;
        }
        node - (1 << bits)
    }

    /// The next byte, each as probable as the others, in one step; `byte` is what to write.
    fn even(&mut self, byte: u8) -> u8;

    /// A number below 2^32 - 1: how many bits it has (of itself plus one) below its first, as so many ones and a zero, then these. The
    /// upper seven of them are modelled, the others cost a bit each. It has twice as many meanings as contexts, and eight sets of weights.
    fn number(&mut self, model: &mut Model, contexts: &[u32], kind: Kind, value: u32) -> u32 {
        let (plus_one, mut bits) = (value.saturating_add(1), 0);
        let wanted = plus_one.ilog2();
        while bits < 31 {
            let kind = Kind { mixer: kind.mixer + bits.min(5) as usize, ..kind };
            if !self.bit(model, contexts, bits, kind, wanted > bits) {
                break;
            }
            bits += 1;
        }
        let mut below = [0; CONTEXTS_MAX];
        for (below, context) in below.iter_mut().zip(contexts) {
            *below = (context ^ (bits + 1)).wrapping_mul(0x9e37_79b1).rotate_left(16);
        }
        let below = below.get(..contexts.len()).unwrap_or_default();
        let kind = Kind { meaning: kind.meaning + contexts.len(), mixer: kind.mixer + 6 };
        let mut made = 1u32;
        for place in (0..bits).rev() {
            let bit = plus_one >> place & 1 == 1;
            let bit = match bits - place <= MODELLED {
                true => self.bit(model, below, made, kind, bit),
                false => self.code(HALF, bit),
            };
            made = made << 1 | u32::from(bit);
        }
        made - 1
    }
}

/// How many bits of a number below its first are modelled: as many as nodes have room for.
const MODELLED: u32 = 7;

/// Reads.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    low: u32,
    high: u32,
    window: u32,
}

impl<'a> Reader<'a> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut reader = Reader { bytes, at: 0, low: 0, high: u32::MAX, window: 0 };
        for _ in 0..4 {
            reader.shift();
        }
        reader
    }

    /// Whether more has been asked for than a whole frame holds: its reader looks at most four bytes beyond its end.
    pub const fn exhausted(&self) -> bool {
        self.at > self.bytes.len().saturating_add(4)
    }

    /// How many bytes have not been looked at. A whole frame leaves none.
    pub const fn rest(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The bounds have come closer: what they agree on is behind.
    #[inline(always)]
    fn narrowed(&mut self) {
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 255;
            self.shift();
        }
    }

    fn shift(&mut self) {
        self.window = self.window << 8 | u32::from(self.bytes.get(self.at).copied().unwrap_or(0));
        self.at += 1;
    }
}

impl Coder for Reader<'_> {
    fn code(&mut self, probability: u32, _: bool) -> bool {
        let middle = split(self.low, self.high, probability);
        let bit = self.window <= middle;
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        self.narrowed();
        bit
    }

    fn even(&mut self, _: u8) -> u8 {
        let Some(part) = part(self.low, self.high) else {
            return (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.code(HALF, false)));
        };
        let byte = (self.window.wrapping_sub(self.low) / part).min(255);
        (self.low, self.high) = nth(self.low, part.get(), byte);
        self.narrowed();
        byte as u8
    }
}

/// Writes.
#[cfg(any(test, feature = "author"))]
pub struct Writer {
    bytes: alloc::vec::Vec<u8>,
    low: u32,
    high: u32,
}

#[cfg(any(test, feature = "author"))]
impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Writer { bytes: alloc::vec::Vec::new(), low: 0, high: u32::MAX }
    }

    /// The bytes: as few as tell the bounds apart, for the reader sees zeros behind them. The bounds differ in their first
    /// byte, so one more than the lower one's lies between them.
    pub fn finish(mut self) -> alloc::vec::Vec<u8> {
        if self.low > 0 {
            self.bytes.push((self.low >> 24) as u8 + 1);
        }
        self.bytes
    }

    fn narrowed(&mut self) {
        while (self.low ^ self.high) >> 24 == 0 {
            self.bytes.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 255;
        }
    }
}

#[cfg(any(test, feature = "author"))]
impl Coder for Writer {
    fn code(&mut self, probability: u32, bit: bool) -> bool {
        let middle = split(self.low, self.high, probability);
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        self.narrowed();
        bit
    }

    fn even(&mut self, byte: u8) -> u8 {
        match part(self.low, self.high) {
            Some(part) => {
                (self.low, self.high) = nth(self.low, part.get(), byte.into());
                self.narrowed();
            }
            None => (0..8).rev().for_each(|place| _ = self.code(HALF, byte >> place & 1 == 1)),
        }
        byte
    }
}

/// The last value that means a one.
#[inline(always)]
const fn split(low: u32, high: u32, probability: u32) -> u32 {
    let range = high.wrapping_sub(low);
    let upper = (range >> 16).wrapping_mul(probability);
    low.wrapping_add(upper).wrapping_add((range & 0xffff).wrapping_mul(probability) >> 16)
}

/// One of 256 equal parts of what lies between the bounds; `None` where they lie so close that parts would be lost to rounding.
#[inline(always)]
const fn part(low: u32, high: u32) -> Option<NonZeroU32> {
    let range = high.wrapping_sub(low);
    if range >> 16 == 0 { None } else { NonZeroU32::new(range >> 8) }
}

/// The bounds of a part.
#[inline(always)]
const fn nth(low: u32, part: u32, byte: u32) -> (u32, u32) {
    let low = low.wrapping_add(byte.wrapping_mul(part));
    (low, low.wrapping_add(part).wrapping_sub(1))
}

/// A bit that is as probable as its other.
const HALF: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const CONTEXTS: [u32; 2] = [0x1111_1111, 0x2222_2222];
    const NUMBER: Kind = Kind { meaning: 0, mixer: 0 };
    const SYMBOL: Kind = Kind { meaning: 4, mixer: 8 };

    fn written(numbers: &[u32]) -> Vec<u8> {
        let (mut writer, mut model) = (Writer::new(), Box::<Model>::default());
        for number in numbers {
            writer.number(&mut model, &CONTEXTS, NUMBER, *number);
            writer.symbol(&mut model, &[3], SYMBOL, 8, number & 0xff);
        }
        writer.finish()
    }

    fn assert_reads(bytes: &[u8], numbers: &[u32]) {
        let (mut reader, mut model) = (Reader::new(bytes), Box::<Model>::default());
        for number in numbers {
            assert_eq!(reader.number(&mut model, &CONTEXTS, NUMBER, 0), *number);
            assert_eq!(reader.symbol(&mut model, &[3], SYMBOL, 8, 0), number & 0xff);
        }
        assert_eq!(
            (reader.exhausted(), reader.rest()),
            (false, 0),
            "a whole frame is read to its end, and not beyond"
        );
    }

    #[test]
    fn numbers_of_every_size_come_back() {
        let edges = (0..32).flat_map(|bits| [(1u32 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        let numbers: Vec<u32> = edges.chain([u32::MAX - 1]).collect();
        assert_reads(&written(&numbers), &numbers);
        assert_reads(&written(&[]), &[]);
    }

    #[test]
    fn what_repeats_costs_next_to_nothing() {
        let length = written(&[77; 10_000]).len();
        assert!(length < 200, "{length} bytes");
    }

    #[test]
    fn reader_of_nothing_says_that_it_is_exhausted() {
        let (mut reader, mut model) = (Reader::new(&[]), Box::<Model>::default());
        assert!(!reader.exhausted());
        for context in 0..100 {
            reader.symbol(&mut model, &[context], SYMBOL, 8, 0);
        }
        assert!(reader.exhausted());
    }

    /// Bounds that lie close together come about by bits that are nearly certain and do not come: bytes among them come back.
    #[test]
    fn even_bytes_come_back_wherever_the_bounds_lie() {
        let bytes: Vec<u8> = (0..=255).cycle().take(20_000).map(|n: u8| n.wrapping_mul(167)).collect();
        let certain = |n: usize| if n.is_multiple_of(3) { 1 } else { 65_535 };
        let (mut writer, mut close) = (Writer::new(), 0);
        for (n, byte) in bytes.iter().enumerate() {
            writer.code(certain(n), n.is_multiple_of(5));
            close += usize::from(part(writer.low, writer.high).is_none());
            writer.even(*byte);
        }
        assert!(close > 10, "{close} times the bounds lay close together");
        let frame = writer.finish();
        let mut reader = Reader::new(&frame);
        for (n, byte) in bytes.iter().enumerate() {
            assert_eq!(reader.code(certain(n), false), n.is_multiple_of(5), "bit {n}");
            assert_eq!(reader.even(0), *byte, "byte {n}");
        }
        assert_eq!((reader.exhausted(), reader.rest()), (false, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_numbers_come_back(numbers in prop::collection::vec(0..u32::MAX, 0..300)) {
            assert_reads(&written(&numbers), &numbers);
        }
    }
}
