//! Memory that only some updates need: asked for when the first of them does, so that an agent at rest does not hold it.

use crate::bundle::patch::PatchState;
use crate::bundle::recode::Tables;
use crate::digest::Digest;

/// Gives memory. What it gives stays the same, with what was put there, until the installation is over.
pub trait Memory {
    /// For patches, 160 KiB.
    fn patch(&mut self) -> &mut PatchState;
    /// The same, and for blocks of zstd that are made opened, 19 KiB.
    fn recode(&mut self) -> (&mut PatchState, &mut Tables);
    /// For an index of what both groups hold: two entries for each segment that a group may have, at most 2 ×
    /// [`INDEX_SEGMENTS_MAX`](crate::limits::INDEX_SEGMENTS_MAX) of use. Empty: there is no index.
    fn index(&mut self) -> &mut [Entry] {
        &mut []
    }
}

/// An entry of the index: which content, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The first 8 bytes of its digest.
    key: [u32; 2],
    place: u32,
}

impl Entry {
    pub(crate) const fn new(digest: &Digest, place: u32) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = digest.0;
        Entry { key: [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])], place }
    }

    pub(crate) const fn place(&self) -> u32 {
        self.place
    }
}
