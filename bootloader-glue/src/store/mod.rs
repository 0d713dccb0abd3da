//! Where the copies of an environment stand: a file, a block device at an offset, or memory.
//!
//! A store knows places and sizes and no format. [`Places`] is the one for devices, [`Memory`] the one for tests and
//! for the simulator (which may as well bring its own).

mod lock;
mod memory;
mod place;
mod places;

pub use lock::{DEFAULT_LOCK, Lock};
pub use memory::Memory;
pub use place::Place;
pub use places::Places;

use crate::Result;

/// The copies of one environment.
pub trait EnvStore {
    /// Holds off other writers until [`unlock`](EnvStore::unlock). Busy: somebody else holds it for too long.
    fn lock(&mut self) -> Result<()> {
        Ok(())
    }
    /// Lets other writers in again.
    fn unlock(&mut self) {}
    /// All of copy `copy` (0, or 1 where there are two).
    fn read(&mut self, copy: usize) -> Result<Vec<u8>>;
    /// The same, from the medium and not from a cache, as far as the system lets one.
    fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
        self.read(copy)
    }
    /// What somebody who was killed in a write has left in a cache reaches the medium. Before anything is gone by.
    fn settle(&mut self) {}
    /// Overwrites from byte `at` of copy `copy`; returns when the bytes stand on the medium. Never changes the size.
    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()>;
}

impl<S: EnvStore + ?Sized> EnvStore for Box<S> {
    fn lock(&mut self) -> Result<()> {
        (**self).lock()
    }
    fn unlock(&mut self) {
        (**self).unlock();
    }
    fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
        (**self).read(copy)
    }
    fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
        (**self).read_back(copy)
    }
    fn settle(&mut self) {
        (**self).settle();
    }
    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
        (**self).write(copy, at, bytes)
    }
}
