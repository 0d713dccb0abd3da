//! What a board hears: the plant's interlock, and a button held at start.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{Error as _, InputPin};
use mainstay_core::fault;
use mainstay_core::seam::Result;

/// A button counts as held when it is active in each of [`SAMPLES`] readings, this far apart: 20 × 50 ms = 1 s.
const SAMPLE_MS: u32 = 50;
/// See [`SAMPLE_MS`].
const SAMPLES: u32 = 20;

/// An input from the plant: active means that the machine may go down now.
pub struct Interlock<P> {
    line: P,
}

impl<P: InputPin> Interlock<P> {
    /// On `line`; high is active. A broken wire has to read as inactive: choose `active_low` and the pull so.
    pub fn new(line: P) -> Self {
        Interlock { line }
    }

    /// May the machine go down? A line that cannot be read is a fault, which whoever asks has to take as "no".
    pub fn may_reboot(&mut self) -> Result<bool> {
        self.line.is_high().map_err(|e| fault!(Io, "interlock: expected a level, found {:?}", e.kind()))
    }
}

/// A button that a technician holds while the machine starts.
pub struct RecoveryButton<P> {
    line: P,
}

impl<P: InputPin> RecoveryButton<P> {
    /// On `line`; high is pressed.
    pub fn new(line: P) -> Self {
        RecoveryButton { line }
    }

    /// Is it held, for a whole second? Answers at once when it is not pressed, so a normal start loses no time; a
    /// bounce or a moment's touch is not "held".
    pub fn held(&mut self, delay: &mut impl DelayNs) -> Result<bool> {
        for sample in 0..SAMPLES {
            if sample > 0 {
                delay.delay_ms(SAMPLE_MS);
            }
            let pressed = self.line.is_high();
            if !pressed.map_err(|e| fault!(Io, "recovery button: expected a level, found {:?}", e.kind()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sleeps, for [`RecoveryButton::held`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep;

impl DelayNs for Sleep {
    fn delay_ns(&mut self, ns: u32) {
        std::thread::sleep(std::time::Duration::from_nanos(ns.into()));
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::delay::NoopDelay;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    #[test]
    fn the_interlock_says_yes_only_when_the_line_is_active() {
        let broken = Transaction::get(State::High).with_error(MockError::Io(std::io::ErrorKind::Other));
        let mut line = Mock::new(&[Transaction::get(State::High), Transaction::get(State::Low), broken]);
        let mut interlock = Interlock::new(line.clone());
        assert_eq!(interlock.may_reboot(), Ok(true));
        assert_eq!(interlock.may_reboot(), Ok(false));
        assert!(interlock.may_reboot().unwrap_err().what.contains("interlock"));
        line.done();
    }

    #[test]
    fn a_button_is_held_only_if_it_stays_pressed_for_a_second() {
        let pressed = |times: usize| vec![Transaction::get(State::High); times];
        let released = [Transaction::get(State::Low)];
        #[rustfmt::skip]
        let cases = [
            // readings                                   held
            (released.to_vec(),                           false), // one reading, no time lost
            ([pressed(1), released.to_vec()].concat(),    false),
            ([pressed(19), released.to_vec()].concat(),   false),
            (pressed(20),                                 true),
        ];
        for (readings, held) in cases {
            let mut line = Mock::new(&readings);
            assert_eq!(RecoveryButton::new(line.clone()).held(&mut NoopDelay::new()), Ok(held));
            line.done();
        }
    }
}
