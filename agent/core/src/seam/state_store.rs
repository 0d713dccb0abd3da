//! The agent's durable state.

use super::Result;

/// Which of the agent's durable things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFile {
    /// The [`Record`](crate::update::Record).
    Journal,
    /// The signed envelope of the manifest that the journal speaks of.
    Manifest,
    /// The signed envelope of the trust root in force.
    Trust,
}

/// Keeps each [`StateFile`] so that after a power cut either the old bytes or the new ones are there.
pub trait StateStore {
    /// Reads into `out`; the length, or `None` where nothing was ever stored. Damage in every copy is
    /// [`Corrupt`](crate::fault::FaultKind::Corrupt).
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>>;
    /// Returns when `bytes` stand on the medium.
    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()>;
}
