//! Two file systems, read as a bootloader reads them: no journal is replayed, nothing is written, nothing is believed.
//!
//! Both say where a file's content stands on the disk, too, because a bootloader that saves its environment overwrites just
//! those sectors. The same reader shows what Linux sees, once the journal has been replayed ([`crate::settle`]).

pub mod ext4;
pub mod fat;

use crate::medium::Medium;
use mainstay_hil::{Result, Trouble};
use std::ops::Range;

/// The largest file that is read: the agent's state and an environment are far below.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most entries of a folder.
const ENTRIES_MAX: usize = 4096;

/// A file: where its bytes stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Its size, in bytes.
    pub size: u64,
    /// Where the bytes stand in the file system's part of the disk, in their order; `None`: a hole of this length.
    pub runs: Vec<(Option<u64>, u64)>,
}

impl Extents {
    /// Reads the whole file.
    pub fn read(&self, from: &dyn Medium) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (at, length) in &self.runs {
            let left = self.size.min(FILE_BYTES_MAX).saturating_sub(out.len() as u64).min(*length) as usize;
            match at {
                Some(at) => out.extend(from.bytes(*at, left)),
                None => out.resize(out.len() + left, 0),
            }
        }
        if out.len() as u64 != self.size {
            return Err(Trouble::new(format!(
                "a file of {} bytes: expected to find them all, found {}",
                self.size,
                out.len()
            )));
        }
        Ok(out)
    }

    /// Where bytes `range` of the file stand; `None` where they are not one stretch.
    pub fn place(&self, range: Range<u64>) -> Option<u64> {
        let mut before = 0;
        for (at, length) in &self.runs {
            if range.start >= before && range.end <= before + length {
                return Some((*at)? + (range.start - before));
            }
            before += length;
        }
        None
    }
}

/// Little-endian numbers out of bytes that may be too short: then zero, which no field of use is.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}
