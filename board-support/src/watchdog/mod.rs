//! Watchdogs, each behind the seam [`Watchdog`]: none can be disarmed once it is armed.
//!
//! [`LinuxWatchdog`] is `/dev/watchdog`; [`ToggleWatchdog`] an external chip on a GPIO line; [`Both`] the two on one
//! board; [`SimulatedWatchdog`] belongs to a simulated board; [`NoWatchdog`] says that there is none.

mod both;
mod driver;
mod linux;
mod none;
mod reset_cause;
mod simulated;
mod toggle;

pub use both::Both;
pub use driver::Driver;
pub use linux::{BootStatus, LinuxWatchdog};
use mainstay_core::seam::{Result, Watchdog};
pub use none::NoWatchdog;
pub use simulated::SimulatedWatchdog;
pub use toggle::ToggleWatchdog;

use crate::board::{Board, WatchdogSpec};

impl Board {
    /// The board's watchdog, not yet armed. On Linux a watchdog device begins to run when it is opened, so it is
    /// opened by [`arm`](Watchdog::arm) and not here.
    pub fn watchdog(&self) -> Result<Box<dyn Watchdog + Send>> {
        let first: Box<dyn Watchdog + Send> = match &self.watchdog {
            WatchdogSpec::Device { path, .. } => Box::new(LinuxWatchdog::new(path)),
            WatchdogSpec::Simulated { path, .. } => Box::new(SimulatedWatchdog::new(path)),
            WatchdogSpec::None if self.gpio.watchdog_toggle.is_none() => Box::new(NoWatchdog::default()),
            WatchdogSpec::None => return self.toggle(),
        };
        match self.gpio.watchdog_toggle {
            Some(_) => Ok(Box::new(Both::new(first, self.toggle()?))),
            None => Ok(first),
        }
    }

    /// The timeout that the board asks of its watchdog, in seconds.
    pub fn watchdog_timeout_s(&self) -> Option<u32> {
        match (&self.watchdog, &self.gpio.watchdog_toggle) {
            (WatchdogSpec::Device { timeout_s, .. } | WatchdogSpec::Simulated { timeout_s, .. }, _) => {
                Some(*timeout_s)
            }
            (WatchdogSpec::None, Some((_, timeout_s))) => Some(*timeout_s),
            (WatchdogSpec::None, None) => None,
        }
    }

    fn toggle(&self) -> Result<Box<dyn Watchdog + Send>> {
        match &self.gpio.watchdog_toggle {
            Some((line, timeout_s)) => {
                let line = crate::gpio::output(line, "mainstay watchdog")?;
                Ok(Box::new(ToggleWatchdog::new(line, *timeout_s)))
            }
            None => Ok(Box::new(NoWatchdog::default())),
        }
    }
}
