//! The slots of the boot groups.

use super::Result;
use crate::boot::Group;
use crate::bundle::VerifiedSegment;

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
}
