//! Two watchdogs on one board: the SoC's own and an external chip.

use mainstay_core::seam::{Result, Watchdog};

/// Arms and feeds both; the shorter timeout counts.
pub struct Both {
    first: Box<dyn Watchdog + Send>,
    second: Box<dyn Watchdog + Send>,
}

impl Both {
    /// Of these two.
    pub fn new(first: Box<dyn Watchdog + Send>, second: Box<dyn Watchdog + Send>) -> Both {
        Both { first, second }
    }
}

impl Watchdog for Both {
    fn arm(&mut self, seconds: u32) -> Result<u32> {
        // Both are armed even if one says no: half a guard is better than none, and the fault still gets out.
        let (first, second) = (self.first.arm(seconds), self.second.arm(seconds));
        Ok(first?.min(second?))
    }

    fn feed(&mut self) -> Result<()> {
        let (first, second) = (self.first.feed(), self.second.feed());
        first.and(second)
    }

    fn time_left(&mut self) -> Result<Option<u32>> {
        let (first, second) = (self.first.time_left()?, self.second.time_left()?);
        Ok(first.into_iter().chain(second).min())
    }
}
