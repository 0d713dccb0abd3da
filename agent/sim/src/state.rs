//! The agent's durable state, in two copies: the bytes and the rule are core's own ([`copies`]), as in the product.
//! What writes them, and in which order, stands in `seams.rs`; this is who looks at the medium from outside.

use crate::disk::{Disk, Place, View};
use mainstay_core::copies::{self, Copy, Unreadable};
use mainstay_core::seam::StateFile;

/// What stands on the medium for certain.
pub fn load(disk: &Disk, file: StateFile) -> Result<Option<&[u8]>, Unreadable> {
    let [zero, one] = [0, 1].map(|copy| Copy::read(file, disk.durable(Place::State(file, copy))));
    copies::choose(zero, one).in_force
}

/// Both copies, as a program reads them.
pub fn read(disk: &Disk, file: StateFile, view: View) -> [Vec<u8>; 2] {
    [0, 1].map(|copy| disk.read_all(Place::State(file, copy), view))
}

/// Spoils both copies, as nothing but a broken medium does.
pub fn destroy(disk: &mut Disk, file: StateFile) {
    [0, 1].into_iter().for_each(|copy| disk.put(Place::State(file, copy), 0, &[0x5a; 64]));
}
