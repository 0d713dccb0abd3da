//! A base in memory, and short ways to write and read a frame.

use mainstay_core::bundle::patch::{Base, From, Map, Op, PatchState, Transform, patch, unpatch};
use mainstay_core::seam::Result;

/// Asserts that nothing is asked for beyond its end, and counts what is.
pub struct Memory<'a> {
    pub bytes: &'a [u8],
    pub reads: usize,
    pub read: usize,
}

impl<'a> Memory<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Memory { bytes, reads: 0, read: 0 }
    }
}

impl Base for Memory<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        (self.reads, self.read) = (self.reads + 1, self.read + out.len());
        out.copy_from_slice(&self.bytes[at as usize..][..out.len()]);
        Ok(())
    }
}

pub fn state() -> Box<PatchState> {
    Box::default()
}

pub fn copy(at: u64, length: u32) -> Op {
    Op::Copy { length, at }
}

pub fn add(at: u64, length: u32) -> Op {
    Op::Add { length, from: From { at, transform: Transform::None, address: 0, anchor: 0 } }
}

/// As [`add`], of bytes whose address is their offset.
pub fn add_as(transform: Transform, at: u64, length: u32) -> Op {
    Op::Add { length, from: From { at, transform, address: at as u32, anchor: at as u32 } }
}

pub fn extra(length: u32) -> Op {
    Op::Extra { length }
}

pub fn map(bias: u64, entries: &[(u32, i32)]) -> Box<Map> {
    let mut map = Box::<Map>::default();
    map.clear(bias);
    assert!(entries.iter().all(|(start, shift)| map.push(*start, *shift)));
    map
}

/// One frame at the beginning of a piece and of the content.
pub fn written(ops: &[Op], base: &[u8], content: &[u8]) -> Vec<u8> {
    patch(ops, None, 0, &mut state(), &mut Memory::of(base), content)
        .expect("operations that make the content")
}

pub fn read(frame: &[u8], base: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut out = vec![0xa5; length];
    unpatch(frame, 0, &mut state(), &mut Memory::of(base), &mut out)?;
    Ok(out)
}

/// Bytes that look random, the same each time.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x >> 11) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
