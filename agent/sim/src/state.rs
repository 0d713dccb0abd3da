//! The agent's durable state, in two copies: the bytes and the rule are core's own ([`copies`]), as in the product.

use crate::power::Tear;
use mainstay_core::copies::{self, COPY_BYTES_MAX, Copy};
use mainstay_core::seam::StateFile;

/// The copies of all state files.
#[derive(Clone, Debug)]
pub struct StateMedium {
    copies: [[Vec<u8>; 2]; 3],
    version: u32,
}

/// Both copies are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Default for StateMedium {
    fn default() -> Self {
        let empty = |file| [vec![0; copies::copy_bytes(file)], vec![0; copies::copy_bytes(file)]];
        StateMedium {
            copies: [StateFile::Journal, StateFile::Manifest, StateFile::Trust].map(empty),
            version: 0,
        }
    }
}

impl StateMedium {
    /// What stands there.
    pub fn load(&self, file: StateFile) -> Result<Option<&[u8]>, Damaged> {
        self.pair(file).in_force.map_err(|()| Damaged)
    }

    /// Writes one copy, as far as it gets through.
    pub fn persist(
        &mut self,
        file: StateFile,
        payload: &[u8],
        tear: Tear,
    ) -> mainstay_core::seam::Result<()> {
        self.version += 1;
        let copies::Pair { next_copy, next_seq, .. } = self.pair(file);
        let mut bytes = [0; COPY_BYTES_MAX];
        let bytes = &mut bytes[..copies::copy_bytes(file)];
        copies::write(file, next_seq, payload, bytes)?;
        tear.write(&mut self.copies[file as usize][next_copy], 0, bytes);
        Ok(())
    }

    /// Spoils both copies, as nothing but a broken medium does.
    pub fn destroy(&mut self, file: StateFile) {
        self.version += 1;
        self.copies[file as usize].iter_mut().for_each(|copy| copy[..64].fill(0x5a));
    }

    /// Changes whenever something is written.
    pub fn version(&self) -> u32 {
        self.version
    }

    fn pair(&self, file: StateFile) -> copies::Pair<'_> {
        let [zero, one] = &self.copies[file as usize];
        copies::choose(Copy::read(file, zero), Copy::read(file, one))
    }
}
