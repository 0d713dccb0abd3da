//! One LED for a person beside the machine, who has no network and perhaps no manual: how it blinks says whether
//! the machine may be switched off.
//!
//! ```text
//! quiet      ████████████████████  steady: all is well, nothing is going on
//! waiting    ██████████░░░░░░░░░░  slow, 1 s on, 1 s off: an update waits for its time
//! working    ██░░██░░██░░██░░██░░  quick, 0.2 s: an update is being written; a power cut costs time, nothing else
//! trial      ██░░██░░░░░░░░░░░░░░  two flashes, then a pause: the new state is being tried; better leave it alone
//! trouble    ░░░░░░░░░░░░░░░░██░░  one short flash in 2 s: the last update did not hold, or something needs a person
//! ```

use embedded_hal::digital::{Error as _, OutputPin, PinState};
use mainstay_core::fault;
use mainstay_core::seam::Result;
use mainstay_core::update::PhaseName;

/// What the LED says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nothing is going on.
    Quiet,
    /// An update waits for its time, or for the reboot.
    Waiting,
    /// An update is being written.
    Working,
    /// The new group is on trial, or being committed.
    Trial,
    /// The last update did not hold, or something needs a person.
    Trouble,
}

impl Sign {
    /// What a phase looks like. `Trouble` is no phase: an outcome other than committed is.
    pub const fn of(phase: PhaseName) -> Sign {
        match phase {
            PhaseName::Idle | PhaseName::Settled => Sign::Quiet,
            PhaseName::Waiting | PhaseName::Installed => Sign::Waiting,
            PhaseName::Downloading | PhaseName::Verifying => Sign::Working,
            PhaseName::Trial | PhaseName::Committing => Sign::Trial,
            PhaseName::RollingBack => Sign::Trouble,
        }
    }

    /// Is the LED on, `ms` milliseconds after any moment that stays the same? Patterns repeat every 2 s at most.
    pub const fn lit(self, ms: u64) -> bool {
        match self {
            Sign::Quiet => true,
            Sign::Waiting => ms % 2000 < 1000,
            Sign::Working => ms % 400 < 200,
            Sign::Trial => matches!(ms % 2000, 0..200 | 400..600),
            Sign::Trouble => matches!(ms % 2000, 1600..1800),
        }
    }
}

/// The LED.
pub struct StatusLed<P> {
    line: P,
    lit: Option<bool>,
}

impl<P: OutputPin> StatusLed<P> {
    /// On `line`; high is lit.
    pub fn new(line: P) -> Self {
        StatusLed { line, lit: None }
    }

    /// Sets the LED as `sign` wants it at `boot_ms`; to be called every 100 ms or so. The line is touched only when it
    /// has to change.
    pub fn show(&mut self, sign: Sign, boot_ms: u64) -> Result<()> {
        let lit = sign.lit(boot_ms);
        if self.lit == Some(lit) {
            return Ok(());
        }
        let set = self.line.set_state(PinState::from(lit));
        set.map_err(|e| fault!(Io, "status LED: expected to set it {lit}, found {:?}", e.kind()))?;
        self.lit = Some(lit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::*;

    #[test]
    fn each_sign_blinks_as_it_is_drawn() {
        #[rustfmt::skip]
        let cases = [
            // one character per 200 ms, two seconds
            (Sign::Quiet,   "##########"),
            (Sign::Waiting, "#####....."),
            (Sign::Working, "#.#.#.#.#."),
            (Sign::Trial,   "#.#......."),
            (Sign::Trouble, "........#."),
        ];
        for (sign, drawn) in cases {
            for (i, lit) in (0..).zip(drawn.chars()) {
                for ms in [i * 200, i * 200 + 199, 60_000 + i * 200] {
                    assert_eq!(sign.lit(ms), lit == '#', "{sign:?} at {ms} ms");
                }
            }
        }
    }

    #[test]
    fn the_line_is_touched_only_when_it_has_to_change() {
        let failed = Transaction::set(State::Low).with_error(MockError::Io(std::io::ErrorKind::Other));
        let mut line = Mock::new(&[
            Transaction::set(State::High),
            failed, // a change that failed is tried again
            Transaction::set(State::Low),
        ]);
        let mut led = StatusLed::new(line.clone());
        led.show(Sign::Waiting, 0).unwrap();
        led.show(Sign::Waiting, 500).unwrap();
        led.show(Sign::Quiet, 600).unwrap();
        assert!(led.show(Sign::Waiting, 1000).unwrap_err().what.contains("status LED"));
        led.show(Sign::Waiting, 1100).unwrap();
        line.done();
    }

    #[test]
    fn an_update_that_is_written_and_one_that_is_tried_look_different() {
        assert_eq!(Sign::of(PhaseName::Downloading), Sign::Working);
        assert_eq!(Sign::of(PhaseName::Trial), Sign::Trial);
        assert_eq!(Sign::of(PhaseName::RollingBack), Sign::Trouble);
        assert_eq!(Sign::of(PhaseName::Idle), Sign::Quiet);
    }
}
