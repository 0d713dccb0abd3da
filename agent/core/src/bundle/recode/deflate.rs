//! Blocks of deflate (RFC 1951): gzip, zlib, and what squashfs and initrds are packed with by default.
//!
//! ```text
//! opened   header and description of its codes       as the bits are, the lowest of a byte first, filled with zeros to a byte
//!          number of literals, number of matches     3 bytes each, the highest first
//!          literals                                  a byte each
//!          each match: literals before it            1 byte; or 255 and 3, the lowest first
//!                      length - 3                    1 byte
//!                      distance - 1                  2 bytes, the higher first
//! ```
//! A block begins and ends at any bit. It takes over nothing from the one before it, and each of its words is as long as its codes say:
//! so literals and matches, coded again, are the same bits. What does not hold (a stored block, a length of 258 in two ways) is not opened,
//! or closes to other bits: who opens one to send it closes it once, and compares.

use super::bits::{Forward, Writer};
use super::{Lengths, Out, Result, Unopened, codes, small};
use zerocopy::FromZeros;

/// The two codes of a block.
#[derive(FromZeros)]
pub struct Codes {
    /// Literals, the end, lengths.
    words: Code<LITERALS>,
    distances: Code<DISTANCES>,
    /// How many bits each symbol's word has.
    bits: [u8; LITERALS + DISTANCES],
}

impl Codes {
    pub const fn new() -> Self {
        Codes { words: Code::new(), distances: Code::new(), bits: [0; LITERALS + DISTANCES] }
    }

    /// Opens the block that begins at bit `bit` of `from`: how many bits it has, and how many bytes of `out` it takes.
    pub fn open(&mut self, from: &[u8], bit: usize, out: &mut [u8]) -> Result<(usize, usize)> {
        let mut bits = Forward::at(from, bit);
        self.read(&mut bits)?;
        let mut to = Out { out, at: 0 };
        Forward::at(from, bit).each_byte(bits.place(), |byte, _| to.push(&[byte as u8]))?;
        let counts = to.at;
        let room = to.out.get_mut(counts + COUNTS_BYTES..).ok_or(Unopened)?;
        let (literals, records, matches) = self.read_words(&mut bits, room)?;
        let [_, numbers @ ..] = (literals as u32).to_be_bytes();
        to.push(&numbers)?;
        let [_, numbers @ ..] = (matches as u32).to_be_bytes();
        to.push(&numbers)?;
        // Records were written from the room's end down, each from its last byte: turned round they are in order.
        let end = to.out.len();
        let behind = to.out.get_mut(end - records..).ok_or(Unopened)?;
        behind.reverse();
        to.at += literals;
        to.out.copy_within(end - records.., to.at);
        bits.bytes()?;
        Ok((bits.place() - bit, to.at + records))
    }

    /// Literals from the beginning of `room`, records from its end down: how many literals, bytes of records, and matches.
    fn read_words(&self, bits: &mut Forward<'_>, room: &mut [u8]) -> Result<(usize, usize, usize)> {
        let (mut low, mut high, mut matches, mut before) = (0, room.len(), 0, 0u32);
        loop {
            match self.words.symbol(bits)? {
                literal @ ..END => {
                    let place = room.get_mut(low).filter(|_| low < high).ok_or(Unopened)?;
                    *place = literal as u8;
                    low += 1;
                    before += 1;
                }
                END => return Ok((low, room.len() - high, matches)),
                length => {
                    let length = match length - END - 1 {
                        LONGEST_CODE => LONGEST,
                        code => LENGTHS.beyond(code as u8, |width| bits.take(width))?,
                    };
                    let distance = self.distances.symbol(bits)?;
                    let distance = REACHES.beyond(distance as u8, |width| bits.take(width))? - 1;
                    let mut push = |byte: u32| {
                        high = high.checked_sub(1).filter(|high| *high >= low).ok_or(Unopened)?;
                        room.get_mut(high).map(|place| *place = byte as u8).ok_or(Unopened)
                    };
                    match before {
                        0..=254 => push(before)?,
                        _ => [255, before, before >> 8, before >> 16].into_iter().try_for_each(&mut push)?,
                    }
                    [length - LEAST, distance >> 8, distance].into_iter().try_for_each(push)?;
                    (matches, before) = (matches + 1, 0);
                }
            }
        }
    }

    /// Closes the block at the beginning of `opened`: how many bytes of it that are.
    pub fn close(&mut self, opened: &[u8], out: &mut Writer<'_>) -> Result<usize> {
        let mut bits = Forward::new(opened);
        self.read(&mut bits)?;
        Forward::new(opened).each_byte(bits.place(), |byte, bits| out.put(byte, bits))?;
        let (_, behind) = opened.split_at_checked(bits.bytes()?).ok_or(Unopened)?;
        let (counts, behind) = behind.split_at_checked(COUNTS_BYTES).ok_or(Unopened)?;
        let mut counts =
            counts.chunks(3).map(|three| three.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)));
        let (literals, matches) = (counts.next().unwrap_or(0), counts.next().unwrap_or(0));
        let (mut literals, records) = behind.split_at_checked(literals).ok_or(Unopened)?;
        let mut at = 0;
        let mut byte = || {
            at += 1;
            records.get(at - 1).copied().map(u32::from).ok_or(Unopened)
        };
        for _ in 0..matches {
            let before = small(&mut byte)?;
            let (these, behind) = literals.split_at_checked(before as usize).ok_or(Unopened)?;
            literals = behind;
            these.iter().try_for_each(|literal| self.words.put(u16::from(*literal), out))?;
            let length = byte()? + LEAST;
            let distance = (byte()? << 8 | byte()?) + 1;
            let (code, width, extra) = match length {
                LONGEST => (LONGEST_CODE as u8, 0, 0),
                length => LENGTHS.code(length)?,
            };
            self.words.put(END + 1 + u16::from(code), out)?;
            out.put(extra, width)?;
            let (code, width, extra) = REACHES.code(distance)?;
            self.distances.put(code.into(), out)?;
            out.put(extra, width)?;
        }
        literals.iter().try_for_each(|literal| self.words.put(u16::from(*literal), out))?;
        self.words.put(END, out)?;
        Ok(opened.len() - records.len() + at)
    }

    /// Reads a block's header, and makes its codes.
    fn read(&mut self, bits: &mut Forward<'_>) -> Result<()> {
        bits.skip(1); // the last block of its stream?
        let (words, distances) = match bits.take(2) {
            1 => {
                let (literals, rest) = self.bits.split_at_mut(LITERALS);
                for (symbol, bits) in literals.iter_mut().enumerate() {
                    *bits = match symbol {
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    };
                }
                rest.fill(5);
                (LITERALS, DISTANCES)
            }
            2 => self.description(bits)?,
            _ => return Err(Unopened),
        };
        let (literals, rest) = self.bits.split_at_checked(words).ok_or(Unopened)?;
        self.words.build(literals)?;
        self.distances.build(rest.get(..distances).ok_or(Unopened)?)
    }

    /// RFC 1951, section 3.2.7: how many symbols each of the codes has.
    fn description(&mut self, bits: &mut Forward<'_>) -> Result<(usize, usize)> {
        let (words, distances) = (257 + bits.take(5) as usize, 1 + bits.take(5) as usize);
        let described = 4 + bits.take(4) as usize;
        if words > LITERALS {
            return Err(Unopened);
        }
        let mut of_lengths = [0; 19];
        for symbol in ORDER.iter().take(described) {
            if let Some(place) = of_lengths.get_mut(usize::from(*symbol)) {
                *place = bits.take(3) as u8;
            }
        }
        self.distances.build(&of_lengths)?;
        let (mut at, end) = (0, words + distances);
        while at < end {
            let (value, times) = match self.distances.symbol(bits)? {
                value @ ..16 => (value as u8, 1),
                16 => {
                    let last = at.checked_sub(1).and_then(|last| self.bits.get(last)).ok_or(Unopened)?;
                    (*last, 3 + bits.take(2))
                }
                17 => (0, 3 + bits.take(3)),
                _ => (0, 11 + bits.take(7)),
            };
            let to = at + times as usize;
            self.bits.get_mut(at..to).filter(|_| to <= end).ok_or(Unopened)?.fill(value);
            at = to;
        }
        Ok((words, distances))
    }
}

/// A Huffman code of at most `N` symbols, for reading and writing.
#[derive(FromZeros)]
struct Code<const N: usize> {
    /// By the next [`LOOK_BITS`] bits: symbol, and the bits of its word below; 0: it is longer, or there is none.
    short: [u16; 1 << LOOK_BITS],
    /// By symbol: its word, the first bit lowest, and how many bits that has.
    words: [(u16, u8); N],
    /// How many words there are of each length, and their symbols in order.
    of_length: [u16; BITS_MAX + 1],
    sorted: [u16; N],
}

impl<const N: usize> Code<N> {
    const fn new() -> Self {
        Code { short: [0; 1 << LOOK_BITS], words: [(0, 0); N], of_length: [0; BITS_MAX + 1], sorted: [0; N] }
    }

    /// RFC 1951, section 3.2.2. A code need not be complete: then there are words that mean nothing.
    fn build(&mut self, bits: &[u8]) -> Result<()> {
        (self.of_length, self.words) = ([0; BITS_MAX + 1], [(0, 0); N]);
        self.short.fill(0);
        let (mut word, mut at) = (0u32, 0);
        for length in 1..=BITS_MAX as u32 {
            word <<= 1;
            for (symbol, _) in bits.iter().enumerate().filter(|(_, bits)| u32::from(**bits) == length) {
                if word >> length > 0 {
                    return Err(Unopened);
                }
                let turned = (word.reverse_bits() >> (32 - length)) as u16;
                *self.words.get_mut(symbol).ok_or(Unopened)? = (turned, length as u8);
                *self.sorted.get_mut(at).ok_or(Unopened)? = symbol as u16;
                if let Some(count) = self.of_length.get_mut(length as usize) {
                    *count += 1;
                }
                if length <= LOOK_BITS {
                    let entry = (symbol as u16) << 4 | length as u16;
                    let places = self.short.iter_mut().skip(turned.into()).step_by(1 << length);
                    places.for_each(|place| *place = entry);
                }
                word += 1;
                at += 1;
            }
        }
        Ok(())
    }

    fn symbol(&self, bits: &mut Forward<'_>) -> Result<u16> {
        let next = bits.peek(BITS_MAX as u32);
        let entry = self.short.get(next as usize & ((1 << LOOK_BITS) - 1)).copied().unwrap_or(0);
        if entry > 0 {
            bits.skip((entry & 15).into());
            return Ok(entry >> 4);
        }
        let (mut word, mut first, mut index) = (0, 0, 0);
        for (length, count) in self.of_length.iter().enumerate().skip(1) {
            let count = u32::from(*count);
            word = word << 1 | next >> (length - 1) & 1;
            first <<= 1;
            if word < first + count {
                bits.skip(length as u32);
                return self.sorted.get((index + word - first) as usize).copied().ok_or(Unopened);
            }
            (index, first) = (index + count, first + count);
        }
        Err(Unopened)
    }

    fn put(&self, symbol: u16, out: &mut Writer<'_>) -> Result<()> {
        match self.words.get(usize::from(symbol)) {
            Some((word, bits @ 1..)) => out.put((*word).into(), (*bits).into()),
            _ => Err(Unopened),
        }
    }
}

/// 257 to 284; 285 is 258 (RFC 1951, section 3.2.5).
const LENGTHS: Lengths =
    Lengths(&codes::<28>(LEAST, &[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]));
const REACHES: Lengths = Lengths(&codes::<30>(
    1,
    &[1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13],
));
/// The order in which code lengths of code lengths stand.
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Symbols of literals, end and lengths; 286 and 287 take part in the fixed code.
const LITERALS: usize = 288;
const DISTANCES: usize = 32;
/// The end of the block.
const END: u16 = 256;
const LEAST: u32 = 3;
const LONGEST: u32 = 258;
const LONGEST_CODE: u16 = 28;
const BITS_MAX: usize = 15;
const LOOK_BITS: u32 = 10;
/// Of literals and of matches, 3 bytes each.
const COUNTS_BYTES: usize = 6;
