//! An environment in memory.

use super::EnvStore;
use crate::Result;
use mainstay_core::fault;

/// Copies in memory, and a count of the writes they took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The copies.
    pub copies: Vec<Vec<u8>>,
    /// Writes since it was made.
    pub writes: usize,
}

impl Memory {
    /// Holds these copies.
    pub fn new(copies: Vec<Vec<u8>>) -> Memory {
        Memory { copies, writes: 0 }
    }
}

impl EnvStore for Memory {
    fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
        self.copies
            .get(copy)
            .cloned()
            .ok_or_else(|| fault!(NotFound, "environment in memory: no copy {copy}"))
    }

    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
        let place =
            self.copies.get_mut(copy).and_then(|c| c.get_mut(at..)).and_then(|c| c.get_mut(..bytes.len()));
        let Some(place) = place else {
            let end = at.saturating_add(bytes.len());
            return Err(fault!(Full, "environment in memory: copy {copy} has no bytes {at} to {end}"));
        };
        place.copy_from_slice(bytes);
        self.writes += 1;
        Ok(())
    }
}
