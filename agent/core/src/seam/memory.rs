//! Memory that only some updates need: asked for when the first of them does, so that an agent at rest does not hold it.

use crate::bundle::patch::PatchState;

/// Gives memory. What it gives stays the same, with what was put there, until the installation is over.
pub trait Memory {
    /// For patches, 164 KiB.
    fn patch(&mut self) -> &mut PatchState;
}
