//! One health check within a trial: how it is to be run, and how it has gone so far.
//!
//! ```text
//! trial starts                         grace over
//! │ attempt 1 fails   attempt 2 fails  │   attempt 3 fails     attempt 4 passes
//! ├───────x─interval──────x─interval───┼───────x─interval──────────✓  → passed, for this boot
//!         costs nothing   costs nothing        one of 1 + retries
//! ```

use crate::fault::clip;
use crate::limits::NAME_BYTES_MAX;
use core::fmt::{self, Write};
use heapless::String;

/// What is kept of a check's last failure: with the name and the numbers around it, it fills an outcome's detail
/// (160 bytes).
pub const LAST_BYTES_MAX: usize = 96;

/// How a check is to be run. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPlan {
    /// How bundles, configuration and reports call it.
    pub name: String<NAME_BYTES_MAX>,
    /// Must it pass? Only required checks decide.
    pub required: bool,
    /// An attempt without an answer after this long has failed.
    pub timeout_ms: u32,
    /// How many more attempts follow a failed first one.
    pub retries: u8,
    /// From the end of a failed attempt to the start of the next.
    pub interval_ms: u32,
    /// While the trial is younger than this, a failed attempt costs no retry. A pass counts from the start.
    pub grace_ms: u32,
}

/// A check in a trial.
#[derive(Clone, Debug)]
pub struct Check {
    plan: CheckPlan,
    pub(super) state: State,
    attempts: u32,
    failures: u16,
    last: String<LAST_BYTES_MAX>,
}

/// Where a check stands. Times are milliseconds of the trial's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The next attempt may start from then on.
    Due(u64),
    /// An attempt runs since then.
    Running(u64),
    /// It has passed, and is not asked again in this boot.
    Passed,
    /// Its retries are used up.
    Failed,
}

impl Check {
    pub(super) const fn new(plan: CheckPlan, now_ms: u64) -> Self {
        Check { plan, state: State::Due(now_ms), attempts: 0, failures: 0, last: String::new() }
    }

    /// How it is run.
    pub const fn plan(&self) -> &CheckPlan {
        &self.plan
    }

    pub(super) const fn require(&mut self) {
        self.plan.required = true;
    }

    /// Attempts so far, the running one among them.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Has it passed in this boot?
    pub const fn has_passed(&self) -> bool {
        matches!(self.state, State::Passed)
    }

    /// Are its retries used up?
    pub const fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Does an attempt run now?
    pub const fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Why the last failed attempt failed; empty if none has.
    pub fn last_failure(&self) -> &str {
        &self.last
    }

    /// Has its first attempt ended?
    pub(super) const fn has_answered(&self) -> bool {
        match self.state {
            State::Passed | State::Failed => true,
            State::Due(_) => self.attempts > 0,
            State::Running(_) => self.attempts > 1,
        }
    }

    pub(super) const fn start(&mut self, now_ms: u64) {
        self.state = State::Running(now_ms);
        self.attempts = self.attempts.saturating_add(1);
    }

    pub(super) fn fail(&mut self, now_ms: u64, trial_ms: u64, why: impl fmt::Display) {
        self.last = one_line(why);
        if trial_ms >= u64::from(self.plan.grace_ms) {
            self.failures = self.failures.saturating_add(1);
        }
        self.state = if self.failures > u16::from(self.plan.retries) {
            State::Failed
        } else {
            State::Due(now_ms.saturating_add(u64::from(self.plan.interval_ms)))
        };
    }

    /// When the running attempt is given up.
    pub(super) const fn times_out(&self) -> Option<u64> {
        match self.state {
            State::Running(since) => Some(since.saturating_add(self.plan.timeout_ms as u64)),
            _ => None,
        }
    }
}

/// `4 attempts, last: exit status: 1`
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.attempts == 1 { "" } else { "s" };
        write!(f, "{} attempt{s}", self.attempts)?;
        if self.last.is_empty() { Ok(()) } else { write!(f, ", last: {}", self.last) }
    }
}

/// Cut to its bound, with a space for each control character: what a check prints ends up in reports, on consoles
/// and in logs, and steers none of them.
fn one_line(text: impl fmt::Display) -> String<LAST_BYTES_MAX> {
    struct Plain<'a>(&'a mut String<LAST_BYTES_MAX>);
    impl Write for Plain<'_> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            let plain = |c: char| if c.is_control() { ' ' } else { c };
            s.chars().map(plain).try_for_each(|c| self.0.push(c).map_err(|_| fmt::Error))
        }
    }
    let mut line = String::new();
    let _ = write!(Plain(&mut line), "{text}"); // an error says that it is full
    clip(line.trim())
}
