//! The watchdog of a board that has none.

use mainstay_core::seam::{Result, Watchdog};

/// Says once that there is no watchdog, and takes every call: a hang stays a hang.
#[derive(Debug, Default)]
pub struct NoWatchdog {
    said: bool,
}

impl Watchdog for NoWatchdog {
    fn arm(&mut self, seconds: u32) -> Result<u32> {
        if !self.said {
            log::warn!("watchdog: the board file says that there is none; a hang will not end by itself");
            self.said = true;
        }
        Ok(seconds)
    }

    fn feed(&mut self) -> Result<()> {
        Ok(())
    }

    fn time_left(&mut self) -> Result<Option<u32>> {
        Ok(None)
    }
}
