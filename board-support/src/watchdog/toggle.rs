//! An external watchdog chip (TPS3823, MAX6369 and their like) that wants an edge on a line before its time is up.

use embedded_hal::digital::{Error as _, OutputPin, PinState};
use mainstay_core::fault;
use mainstay_core::seam::{Result, Watchdog};

/// Feeds by changing the line's level. The chip's timeout is fixed by the board, and most chips run from power-on.
pub struct ToggleWatchdog<P> {
    line: P,
    timeout_s: u32,
    level: bool,
}

impl<P: OutputPin> ToggleWatchdog<P> {
    /// On `line`, with the chip's fixed timeout in seconds.
    pub fn new(line: P, timeout_s: u32) -> Self {
        ToggleWatchdog { line, timeout_s, level: false }
    }
}

impl<P: OutputPin> Watchdog for ToggleWatchdog<P> {
    fn arm(&mut self, _seconds: u32) -> Result<u32> {
        self.feed().map(|()| self.timeout_s)
    }

    fn feed(&mut self) -> Result<()> {
        let level = !self.level;
        self.line
            .set_state(PinState::from(level))
            .map_err(|e| fault!(Io, "watchdog line: expected to set it {level}, found {:?}", e.kind()))?;
        self.level = level;
        Ok(())
    }

    fn time_left(&mut self) -> Result<Option<u32>> {
        Ok(None) // the chip does not say
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    #[test]
    fn each_feed_is_an_edge_and_a_failed_one_is_made_up_for() {
        let refused = Transaction::set(State::Low).with_error(MockError::Io(std::io::ErrorKind::Other));
        let mut line = Mock::new(&[
            Transaction::set(State::High), // armed
            Transaction::set(State::Low),  // fed
            Transaction::set(State::High), // fed
            refused,                       // the line said no: its level is still high
            Transaction::set(State::Low),  // so the next feed is an edge again
        ]);
        let mut watchdog = ToggleWatchdog::new(line.clone(), 2);
        assert_eq!(watchdog.arm(60), Ok(2), "the chip's time counts, not what was asked for");
        watchdog.feed().unwrap();
        watchdog.feed().unwrap();
        assert!(watchdog.feed().unwrap_err().what.contains("watchdog line"));
        watchdog.feed().unwrap();
        line.done();
    }
}
