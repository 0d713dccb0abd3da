//! A binary arithmetic coder: 32-bit bounds, carry-free, most significant byte first (the scheme of Mahoney's *lpaq*
//! and its relatives, described in *Data Compression Explained*, section 3.2). The reader never reads beyond its bytes:
//! it is fed zeros there, and says when it has gone further than a whole frame makes it go.

use super::model::Model;

/// Symbols out of bytes, or into them.
pub trait Coder {
    /// The next bit; `bit` is what to write, and is not looked at by a reader.
    fn bit(&mut self, model: &mut Model, contexts: &[u32], node: u32, mixer: usize, bit: bool) -> bool;

    /// A symbol of `bits` bits, most significant first, as a path through a binary tree.
    fn symbol(&mut self, model: &mut Model, contexts: &[u32], mixer: usize, bits: u32, value: u32) -> u32 {
        let mut node = 1;
        for place in (0..bits).rev() {
            let bit = self.bit(model, contexts, node, mixer, value >> place & 1 == 1);
            node = node << 1 | u32::from(bit);
        }
        node - (1 << bits)
    }

    /// A number below 2^32 - 1: how many bits it has (of itself plus one), then those below the first. The upper eight of
    /// them are modelled, the others cost a bit each.
    fn number(&mut self, model: &mut Model, contexts: &[u32], mixer: usize, value: u32) -> u32 {
        let plus_one = value.saturating_add(1);
        let bits = self.symbol(model, contexts, mixer, 5, plus_one.ilog2());
        let mut made = 1u32;
        for place in (0..bits).rev() {
            let depth = bits - place;
            let node = if depth <= MODELLED { 1 << 16 | bits << 8 | made } else { 1 << 17 | place };
            let bit = match depth <= MODELLED {
                true => self.bit(model, contexts, node, mixer + 1, plus_one >> place & 1 == 1),
                false => self.bit(
                    model,
                    contexts.get(..1).unwrap_or(contexts),
                    node,
                    mixer + 2,
                    plus_one >> place & 1 == 1,
                ),
            };
            made = made << 1 | u32::from(bit);
        }
        made - 1
    }
}

/// How many bits of a number below its first are modelled.
const MODELLED: u32 = 8;

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

    fn shift(&mut self) {
        self.window = self.window << 8 | u32::from(self.bytes.get(self.at).copied().unwrap_or(0));
        self.at += 1;
    }
}

impl Coder for Reader<'_> {
    fn bit(&mut self, model: &mut Model, contexts: &[u32], node: u32, mixer: usize, _: bool) -> bool {
        let middle = split(self.low, self.high, model.predict(contexts, node, mixer));
        let bit = self.window <= middle;
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        model.learn(bit);
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 255;
            self.shift();
        }
        bit
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
}

#[cfg(any(test, feature = "author"))]
impl Coder for Writer {
    fn bit(&mut self, model: &mut Model, contexts: &[u32], node: u32, mixer: usize, bit: bool) -> bool {
        let middle = split(self.low, self.high, model.predict(contexts, node, mixer));
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        model.learn(bit);
        while (self.low ^ self.high) >> 24 == 0 {
            self.bytes.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 255;
        }
        bit
    }
}

/// The last value that means a one.
const fn split(low: u32, high: u32, probability: u32) -> u32 {
    let range = high - low;
    low + (range >> 16) * probability + (((range & 0xffff) * probability) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn written(numbers: &[u32]) -> Vec<u8> {
        let (mut writer, mut model) = (Writer::new(), Box::<Model>::default());
        for number in numbers {
            writer.number(&mut model, &[1, 2], 0, *number);
            writer.symbol(&mut model, &[3], 3, 8, number & 0xff);
        }
        writer.finish()
    }

    fn assert_reads(bytes: &[u8], numbers: &[u32]) {
        let (mut reader, mut model) = (Reader::new(bytes), Box::<Model>::default());
        for number in numbers {
            assert_eq!(reader.number(&mut model, &[1, 2], 0, 0), *number);
            assert_eq!(reader.symbol(&mut model, &[3], 3, 8, 0), number & 0xff);
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
            reader.symbol(&mut model, &[context], 0, 8, 0);
        }
        assert!(reader.exhausted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_numbers_come_back(numbers in prop::collection::vec(0..u32::MAX, 0..300)) {
            assert_reads(&written(&numbers), &numbers);
        }
    }
}
