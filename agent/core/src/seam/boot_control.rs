//! The bootloader's variables.

use super::Result;
use crate::boot::{BootState, Group};

/// Reads and changes what the bootloader goes by. Each change is one write of the environment: after a power cut
/// either all of it stands or nothing of it. Each is idempotent.
pub trait BootControl {
    /// What the bootloader knows now, read from the medium.
    fn state(&mut self) -> Result<BootState>;
    /// Makes `group` not bootable: before its first byte is written.
    fn withdraw(&mut self, group: Group) -> Result<()>;
    /// Makes `group` the next to be tried, `tries` times (1..=9).
    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()>;
    /// `group` is good and stands first in the order; the other group stays as it is, behind it.
    fn mark_good(&mut self, group: Group) -> Result<()>;
    /// `group` may not be booted again until it is written anew.
    fn mark_bad(&mut self, group: Group) -> Result<()>;
}
