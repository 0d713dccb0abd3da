//! The slots of the boot groups.

use super::Result;
use crate::boot::Group;
use crate::bundle::VerifiedSegment;
use core::ops::Range;

/// Writes the slots of the group that is not running, and reads both groups. Offsets and lengths are in bytes.
pub trait SlotWriter {
    /// The size of the slot, in bytes. Opens it for writing if `group` is not the running one.
    fn open(&mut self, group: Group, class: &str) -> Result<u64>;
    /// Writes a segment at its place, which is a multiple of [`SEGMENT_BYTES`](crate::limits::SEGMENT_BYTES); its
    /// length is that or, at an artifact's end, less. Refuses the running group, a mounted device and what does not
    /// fit.
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()>;
    /// Returns when all that was written stands on the medium.
    fn sync(&mut self, group: Group, class: &str) -> Result<()>;
    /// Fills `out` from `at`, from the medium and not from the page cache.
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()>;
    /// Reads a range as [`read_back`](Self::read_back) does, in order, and shows it to `each`, a buffer's length at a time and less
    /// at the end. Who can reads the next part meanwhile: there are two `buffers` for it, of the same length, which is no smaller than a block.
    fn scan(
        &mut self,
        group: Group,
        class: &str,
        range: Range<u64>,
        buffers: [&mut [u8]; 2],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let [buffer, _] = buffers;
        in_parts(range, buffer.len(), |at, bytes| {
            let part = buffer.get_mut(..bytes).unwrap_or_default();
            self.read_back(group, class, at, part)?;
            each(part);
            Ok(())
        })
    }
}

/// A range, at most so many bytes at a time: where each part begins, and its bytes.
pub fn in_parts(
    range: Range<u64>,
    most: usize,
    mut each: impl FnMut(u64, usize) -> Result<()>,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let bytes = (range.end - at).min(most.max(1) as u64);
        each(at, bytes as usize)?;
        at += bytes;
    }
    Ok(())
}
