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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mainstay_core::fault;

    use super::*;

    /// Takes `timeout` or refuses everything, and keeps what it was asked.
    struct One(Option<u32>, &'static str, Arc<Mutex<Vec<String>>>);

    impl One {
        fn answer(&self, what: &str) -> Result<u32> {
            self.2.lock().unwrap().push(format!("{} {what}", self.1));
            self.0.ok_or_else(|| fault!(Io, "{} is broken", self.1))
        }
    }

    impl Watchdog for One {
        fn arm(&mut self, _seconds: u32) -> Result<u32> {
            self.answer("arm")
        }
        fn feed(&mut self) -> Result<()> {
            self.answer("feed").map(|_| ())
        }
        fn time_left(&mut self) -> Result<Option<u32>> {
            self.answer("left").map(Some)
        }
    }

    #[test]
    fn the_shorter_timeout_counts_and_both_are_served_even_if_one_is_broken() {
        #[rustfmt::skip]
        let cases = [
            // first     second     armed
            (Some(60),   Some(2),   Some(2)),
            (Some(5),    Some(30),  Some(5)),
            (None,       Some(2),   None),
            (Some(60),   None,      None),
        ];
        for (first, second, armed) in cases {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let one = |timeout, name| Box::new(One(timeout, name, heard.clone()));
            let mut both = Both::new(one(first, "first"), one(second, "second"));
            assert_eq!(both.arm(60).ok(), armed);
            assert_eq!(both.feed().is_ok(), armed.is_some());
            assert_eq!(both.time_left().ok().flatten(), armed);
            let heard = heard.lock().unwrap();
            assert_eq!(heard[..4], ["first arm", "second arm", "first feed", "second feed"]);
        }
    }
}
