//! How long the way back takes: from the watchdog's last bite until the previous group runs and the operator has the outcome.
//!
//! ```text
//! watchdog fires ── bootloader ──► jumps ── kernel ──► user space ── ours ──► the operator has the outcome
//! ```

use super::watch::Seen;
use crate::bench::What;
use std::time::{Duration, Instant};

/// One way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// From the bite to the jump into the previous group's kernel.
    pub bootloader: Duration,
    /// From there to user space.
    pub kernel: Duration,
    /// From there to the operator's having the outcome.
    pub ours: Duration,
}

impl Figure {
    /// From what was seen, and when the outcome was heard; `None`: the watchdog did not fire, or not all of it was seen.
    pub fn of(seen: &Seen, reported: Instant) -> Option<Figure> {
        let fired = seen.events.iter().rposition(|event| event.what == What::WatchdogFires)?;
        let after = seen.events.get(fired..)?;
        let first = |wanted: &What| after.iter().find(|event| event.what == *wanted).map(|event| event.at);
        let (fired, jumps, user) = (after.first()?.at, first(&What::Jumps)?, first(&What::UserSpace)?);
        Some(Figure {
            bootloader: jumps.checked_duration_since(fired)?,
            kernel: user.checked_duration_since(jumps)?,
            ours: reported.checked_duration_since(user)?,
        })
    }

    /// In all.
    pub fn whole(&self) -> Duration {
        self.bootloader + self.kernel + self.ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Event;

    #[test]
    fn the_last_bite_counts_and_a_way_back_without_one_has_no_figure() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let event = |seconds, what| Event { at: at(seconds), what };
        let events = vec![
            event(0, What::WatchdogFires),
            event(1, What::Jumps),
            event(5, What::WatchdogFires),
            event(7, What::Jumps),
            event(10, What::UserSpace),
        ];
        let mut seen = Seen { events, heard: Vec::new(), presence: None };
        let figure = Figure::of(&seen, at(11)).unwrap();
        let seconds =
            [figure.bootloader, figure.kernel, figure.ours, figure.whole()].map(|part| part.as_secs());
        assert_eq!(seconds, [2, 3, 1, 6]);
        assert_eq!(Figure::of(&seen, at(9)), None, "reported before user space: of another boot");
        seen.events.remove(2);
        seen.events.remove(0);
        assert_eq!(Figure::of(&seen, at(11)), None);
    }
}
