//! Bits as zstd has them: forwards, the lowest of a byte first, in what describes tables; and backwards, from the last one bit of the
//! last byte down, in what is coded by them (RFC 8878, sections 4.1 and 4.2.2).

use super::{Result, Unopened};

/// Up to 32 bits that begin at bit `at` of `bytes`, the lowest first; zeros beyond the end.
fn at(bytes: &[u8], at: usize) -> u32 {
    let from = bytes.get(at / 8..).unwrap_or_default();
    let word = from.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
        word
    });
    (u64::from_le_bytes(word) >> (at % 8)) as u32
}

/// The lowest `bits` of a value, 0 to 31.
const fn low(value: u32, bits: u32) -> u32 {
    value & ((1 << bits) - 1)
}

/// Reads forwards.
pub struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Forward<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Forward::at(bytes, 0)
    }

    /// From a bit on.
    pub const fn at(bytes: &'a [u8], bit: usize) -> Self {
        Forward { bytes, at: bit }
    }

    /// The bit that is read next.
    pub const fn place(&self) -> usize {
        self.at
    }

    /// What the next `bits` are, at most 31.
    pub fn peek(&self, bits: u32) -> u32 {
        low(at(self.bytes, self.at), bits)
    }

    pub const fn skip(&mut self, bits: u32) {
        self.at += bits as usize;
    }

    pub fn take(&mut self, bits: u32) -> u32 {
        let value = self.peek(bits);
        self.skip(bits);
        value
    }

    /// Gives what stands before bit `end`, up to eight bits at a time, and how many they are.
    pub fn each_byte(&mut self, end: usize, mut give: impl FnMut(u32, u32) -> Result<()>) -> Result<()> {
        while self.at < end {
            let bits = (end - self.at).min(8) as u32;
            give(self.take(bits), bits)?;
        }
        Ok(())
    }

    /// How many bytes have been begun.
    pub fn bytes(&self) -> Result<usize> {
        match self.at.div_ceil(8) {
            bytes if bytes <= self.bytes.len() => Ok(bytes),
            _ => Err(Unopened),
        }
    }
}

/// Reads backwards.
pub struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits that have not been read; below zero, how many were made up.
    left: isize,
}

impl<'a> Backward<'a> {
    /// All of `bytes`: the last of them says where it begins.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.last() {
            Some(last) if *last > 0 => {
                Ok(Backward { bytes, left: (8 * (bytes.len() - 1)) as isize + last.ilog2() as isize })
            }
            _ => Err(Unopened),
        }
    }

    /// What the next `bits` are, at most 24; zeros where there are no more.
    pub fn peek(&self, bits: u32) -> u32 {
        let from = self.left - bits as isize;
        match usize::try_from(from) {
            Ok(from) => low(at(self.bytes, from), bits),
            Err(_) => low(
                low(at(self.bytes, 0), self.left.clamp(0, 24) as u32) << from.unsigned_abs().min(31),
                bits,
            ),
        }
    }

    pub const fn skip(&mut self, bits: u32) {
        self.left -= bits as isize;
    }

    pub fn take(&mut self, bits: u32) -> u32 {
        let value = self.peek(bits);
        self.skip(bits);
        value
    }

    /// Bits that have not been read; below zero, how many were made up.
    pub const fn left(&self) -> isize {
        self.left
    }
}

/// Writes what [`Backward`] reads, from its end on; or what [`Forward`] does, from the beginning.
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    held: u64,
    bits: u32,
}

impl<'a> Writer<'a> {
    pub const fn new(out: &'a mut [u8]) -> Self {
        Writer { out, at: 0, held: 0, bits: 0 }
    }

    /// From a bit of the first byte on, 0 to 7; the bits below it stay.
    pub fn behind(out: &'a mut [u8], bit: u32) -> Self {
        let held = out.first().copied().map_or(0, |byte| low(byte.into(), bit));
        Writer { out, at: 0, held: held.into(), bits: bit }
    }

    /// The bit that is written next.
    pub const fn place(&self) -> usize {
        8 * self.at + self.bits as usize
    }

    /// Zeros up to a byte's end; how many bytes there are.
    pub fn fill(&mut self) -> Result<usize> {
        if self.bits > 0 {
            self.byte()?;
        }
        Ok(self.at)
    }

    /// Bytes as they are, from a byte's beginning on.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.fill()?;
        self.at += bytes.len();
        self.out.get_mut(at..self.at).ok_or(Unopened)?.copy_from_slice(bytes);
        Ok(())
    }

    /// The lowest `bits` of `value`, at most 31.
    pub fn put(&mut self, value: u32, bits: u32) -> Result<()> {
        self.held |= u64::from(low(value, bits)) << self.bits;
        self.bits += bits;
        while self.bits >= 8 {
            self.byte()?;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<()> {
        let place = self.out.get_mut(self.at);
        *place.ok_or(Unopened)? = self.held as u8;
        self.at += 1;
        self.held >>= 8;
        self.bits = self.bits.saturating_sub(8);
        Ok(())
    }

    /// Ends with a one bit; how many bytes there are.
    pub fn end(mut self) -> Result<usize> {
        self.put(1, 1)?;
        self.fill()
    }
}
