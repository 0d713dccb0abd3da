//! Where a bundle's objects come from: a file read front to back, or a broker.

use super::Result;
use crate::digest::Digest;

/// Gives objects (tables, pages, pieces) by name. The installer asks in the order in which they stand in a bundle
/// file, so a source that cannot seek only ever skips forward. What it gives is not yet proven: the installer
/// compares each object with its name.
pub trait PieceSource {
    /// Does it read a bundle file from front to back? Then all of it passes by anyway, and the full route is taken.
    fn only_forward(&self) -> bool {
        false
    }
    /// Says that `name` will be fetched soon. `false`: the window is full, ask again after a [`release`](Self::release).
    /// The same piece can stand in a run more than once: a name that is announced again before it was fetched counts
    /// once, and a name may be fetched that was not announced, or not again.
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool;
    /// Says, before it is announced or fetched for the first time, where a piece lies beside its own name: for sources that
    /// hold a route's pieces in a row and can give neighbours at once. Most need not know.
    fn place(&mut self, _name: &Digest, _bytes: u32, _place: Place) {}
    /// The object, as received. Blocks while the link is down; [`Cancelled`](crate::fault::FaultKind::Cancelled)
    /// ends the wait, [`NotFound`](crate::fault::FaultKind::NotFound) says that there is no such object.
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]>;
    /// The object that was fetched last has been used: it may be acknowledged and forgotten.
    fn release(&mut self, name: &Digest);
    /// What was announced will not be fetched after all: its place in the window is free again.
    fn forget(&mut self, _name: &Digest) {}
    /// The object that was fetched last is not what its name says. `Ok`: fetch it again, from somewhere else.
    fn refute(&mut self, name: &Digest) -> Result<()>;
}

/// A piece's place in the row of all pieces of a route, run after run, as they stand in a bundle file without headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The route: SHA-256 of its table.
    pub route: Digest,
    /// Offset of the piece's first byte, bytes.
    pub at: u64,
}
