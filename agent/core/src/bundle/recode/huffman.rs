//! Huffman codes of literals, as zstd has them (RFC 8878, section 4.2).

use super::bits::{Backward, Writer};
use super::fse;
use super::{Result, Unopened};
use zerocopy::FromZeros;

/// The longest code, bits.
const BITS_MAX: u32 = 11;

/// A code, for reading and writing.
#[derive(Clone, FromZeros)]
pub struct Code {
    /// Of the longest word; 0: no code yet.
    bits: u32,
    /// By the next `bits` bits: symbol, and how many of them it takes.
    words: [(u8, u8); 1 << BITS_MAX],
    /// By symbol: its word and how many bits that has.
    symbols: [(u16, u8); 256],
}

impl Code {
    pub const fn new() -> Self {
        Code { bits: 0, words: [(0, 0); 1 << BITS_MAX], symbols: [(0, 0); 256] }
    }

    /// No code any more.
    pub const fn forget(&mut self) {
        self.bits = 0;
    }

    /// Is there one?
    pub const fn is_there(&self) -> bool {
        self.bits > 0
    }

    /// Reads a description at the beginning of `bytes`; how long it is. `table`: to work in.
    pub fn read(&mut self, bytes: &[u8], table: &mut fse::Table) -> Result<usize> {
        let (head, rest) = bytes.split_first().ok_or(Unopened)?;
        let (mut weights, count, length) = ([0u8; 256], usize::from(*head), rest);
        let (count, used) = match head {
            128.. => {
                let count = count - 127;
                let packed = length.get(..count.div_ceil(2)).ok_or(Unopened)?;
                for (n, weight) in weights.iter_mut().take(count).enumerate() {
                    let pair = packed.get(n / 2).copied().unwrap_or(0);
                    *weight = if n % 2 == 0 { pair >> 4 } else { pair & 15 };
                }
                (count, packed.len())
            }
            _ => {
                let coded = length.get(..count).ok_or(Unopened)?;
                let begins = table.read(coded, WEIGHTS, WEIGHT_LOG_MAX)?;
                (weights_of(table, coded.get(begins..).unwrap_or_default(), &mut weights)?, coded.len())
            }
        };
        self.build(&mut weights, count)?;
        Ok(1 + used)
    }

    /// The last symbol's weight is what is left.
    fn build(&mut self, weights: &mut [u8; 256], count: usize) -> Result<()> {
        let share = |weight: u8| if weight > 0 { 1u32 << (weight - 1).min(16) } else { 0 };
        let sum: u32 = weights.iter().take(count).map(|weight| share(*weight)).sum();
        let bits = sum.checked_ilog2().map_or(0, |log| log + 1);
        let left = (1u32 << bits.min(31)) - sum;
        if bits == 0 || bits > BITS_MAX || !left.is_power_of_two() {
            return Err(Unopened);
        }
        let last = weights.get_mut(count).ok_or(Unopened)?;
        *last = left.ilog2() as u8 + 1;
        self.bits = bits;
        self.symbols = [(0, 0); 256];
        let mut at = 0usize;
        for weight in 1..=bits as u8 {
            let (length, room) = (bits as u8 + 1 - weight, 1usize << (weight - 1));
            let of_weight = weights.iter().enumerate().filter(|(_, its)| **its == weight);
            for (symbol, _) in of_weight {
                let words = self.words.get_mut(at..at + room).unwrap_or_default();
                words.fill((symbol as u8, length));
                if let Some(place) = self.symbols.get_mut(symbol) {
                    *place = ((at >> (weight - 1)) as u16, length);
                }
                at += room;
            }
        }
        Ok(())
    }

    /// Fills `out` from a stream of its own.
    pub fn decode(&self, stream: &[u8], out: &mut [u8]) -> Result<()> {
        let mut bits = Backward::new(stream)?;
        for byte in out {
            let word = bits.peek(self.bits) as usize;
            let (symbol, length) = self.words.get(word).copied().unwrap_or_default();
            bits.skip(length.into());
            *byte = symbol;
        }
        match bits.left() {
            0 => Ok(()),
            _ => Err(Unopened),
        }
    }

    /// Writes a stream; how long it is.
    pub fn encode(&self, literals: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut bits = Writer::new(out);
        for literal in literals.iter().rev() {
            match self.symbols.get(usize::from(*literal)) {
                Some((word, length @ 1..)) => bits.put((*word).into(), (*length).into())?,
                _ => return Err(Unopened),
            }
        }
        bits.end()
    }
}

/// Weights that are coded themselves, by two states in turn; how many.
fn weights_of(table: &fse::Table, stream: &[u8], weights: &mut [u8; 256]) -> Result<usize> {
    let mut bits = Backward::new(stream)?;
    let mut states = [table.first(&mut bits), table.first(&mut bits)];
    let mut count = 0;
    loop {
        let [state, other] = &mut states;
        *weights.get_mut(count).ok_or(Unopened)? = table.symbol(*state);
        count += 1;
        *state = table.next(*state, &mut bits);
        if bits.left() < 0 {
            *weights.get_mut(count).ok_or(Unopened)? = table.symbol(*other);
            return Ok(count + 1);
        }
        states.swap(0, 1);
    }
}

/// Weights are 0 to 11, and the description of their table has an accuracy log of at most 6.
const WEIGHTS: usize = 12;
const WEIGHT_LOG_MAX: u32 = 6;
