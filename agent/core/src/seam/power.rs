//! The reset line.

use super::Result;

/// Restarts the machine.
pub trait Power {
    /// Asks for a reboot and returns; the machine goes down soon after. `why` goes into the log.
    fn reboot(&mut self, why: &str) -> Result<()>;
}
