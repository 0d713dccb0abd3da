//! The watchdog. It is never disarmed: embedded-hal 1.0 has no watchdog trait, so this one is our own.

use super::Result;

/// A watchdog that resets the machine when it is not fed.
pub trait Watchdog {
    /// Starts it with a timeout in seconds; answers the timeout that the hardware took, which may be shorter.
    fn arm(&mut self, seconds: u32) -> Result<u32>;
    /// Starts the timeout anew.
    fn feed(&mut self) -> Result<()>;
    /// Seconds until it bites, where the hardware says so.
    fn time_left(&mut self) -> Result<Option<u32>>;
}
