//! The state machine of a trial.

use super::check::{Check, CheckPlan, State};
use crate::fault;
use crate::fault::clip;
use crate::limits::{CHECKS_MAX, NAME_BYTES_MAX};
use crate::seam::{Result, Verdict};
use heapless::{String, Vec};

/// Attempts that run at the same time. A gateway that has just booted has little to spare, and a check is often a
/// shell with children; four hide each other's waiting. Wanted checks never take the last place.
pub const RUNNING_MAX: usize = 4;

/// How long a verdict that stands already waits for the first answers of wanted checks, in milliseconds.
///
/// They decide nothing, but a commit is the moment at which somebody looks at the report, and "wanted, not yet
/// asked" helps nobody. Ten seconds is the default timeout of a check, so what is configured plainly has answered.
/// Longer would be wrong: until the commit a power cut still costs the healthy group one of its tries.
pub const WANTED_WAIT_MS: u64 = 10_000;

/// What the shell shall do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Start an attempt of this check, then ask again.
    Start(usize),
    /// This check's attempt took too long: end it, drop its answer, then ask again.
    Stop(usize),
    /// Nothing to do until then, unless a running attempt answers before.
    Wait {
        /// On the trial's clock, in milliseconds.
        until_ms: u64,
    },
    /// End every attempt that still runs; this is the verdict.
    Over(Verdict),
}

/// One trial of one group in one boot. Times are milliseconds of a clock that never goes back.
#[derive(Clone, Debug)]
pub struct Trial {
    checks: Vec<Check, CHECKS_MAX>,
    started_ms: u64,
    deadline_ms: u64,
    /// The first name that was required and is not there.
    missing: Option<String<NAME_BYTES_MAX>>,
    /// Since when every required check has passed.
    passed_ms: Option<u64>,
    verdict: Option<Verdict>,
}

impl Trial {
    /// A trial that began at `started_ms` and is over at `deadline_ms`.
    pub const fn new(started_ms: u64, deadline_ms: u64) -> Self {
        let checks = Vec::new();
        Trial { checks, started_ms, deadline_ms, missing: None, passed_ms: None, verdict: None }
    }

    /// Adds a check, due at once; its number. At most [`CHECKS_MAX`], each with a name of its own.
    pub fn add(&mut self, plan: CheckPlan) -> Result<usize> {
        if self.checks.iter().any(|check| check.plan().name == plan.name) {
            return Err(fault!(Refused, "check {:?}: expected a name of its own, found it twice", plan.name));
        }
        let number = self.checks.len();
        match self.checks.push(Check::new(plan, self.started_ms)) {
            Ok(()) => Ok(number),
            Err(check) => Err(fault!(
                Full,
                "check {:?}: expected at most {CHECKS_MAX} checks, found more",
                check.plan().name
            )),
        }
    }

    /// The bundle requires the check of this name. If there is none, the trial is unhealthy: what was asked for has
    /// not passed.
    pub fn require(&mut self, name: &str) {
        match self.checks.iter_mut().find(|check| check.plan().name == name) {
            Some(check) => check.require(),
            None => {
                let _ = self.missing.get_or_insert_with(|| clip(name));
            }
        }
    }

    /// The checks, by number.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// When it is over at the latest.
    pub const fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// The running attempt of `check` passed. An answer after the deadline, or of an attempt that was stopped, does
    /// not count.
    pub fn passed(&mut self, check: usize, now_ms: u64) {
        if let Some(check) = self.answered(check, now_ms) {
            check.state = State::Passed;
        }
    }

    /// The running attempt of `check` failed.
    pub fn failed(&mut self, check: usize, now_ms: u64, why: impl core::fmt::Display) {
        let trial_ms = now_ms.saturating_sub(self.started_ms);
        if let Some(check) = self.answered(check, now_ms) {
            check.fail(now_ms, trial_ms, why);
        }
    }

    fn answered(&mut self, check: usize, now_ms: u64) -> Option<&mut Check> {
        let counts = now_ms < self.deadline_ms && self.verdict.is_none();
        self.checks.get_mut(check).filter(|check| counts && check.is_running())
    }

    /// What to do at `now_ms`. Ask until it says [`Wait`](Turn::Wait) or [`Over`](Turn::Over); feed answers first.
    pub fn turn(&mut self, now_ms: u64) -> Turn {
        if let Some(verdict) = self.verdict.clone().or_else(|| self.decide(now_ms)) {
            self.verdict = Some(verdict.clone());
            return Turn::Over(verdict);
        }
        if let Some(number) = self.give_up(now_ms) {
            return Turn::Stop(number);
        }
        if let Some(number) = self.next_due(now_ms) {
            if let Some(check) = self.checks.get_mut(number) {
                check.start(now_ms);
            }
            return Turn::Start(number);
        }
        Turn::Wait { until_ms: self.next_moment(now_ms) }
    }

    fn decide(&mut self, now_ms: u64) -> Option<Verdict> {
        let unhealthy = |text: core::fmt::Arguments<'_>| Some(Verdict::Unhealthy(clip(text)));
        if let Some(name) = &self.missing {
            return unhealthy(format_args!("check {name:?}: required by the bundle, not configured here"));
        }
        if let Some(check) = self.required().find(|check| check.has_failed()) {
            return unhealthy(format_args!("check {:?} failed: {check}", check.plan().name));
        }
        let over = now_ms >= self.deadline_ms;
        if self.required().all(Check::has_passed) {
            let since = *self.passed_ms.get_or_insert(now_ms);
            let waited = now_ms >= since.saturating_add(WANTED_WAIT_MS);
            let done = over || waited || self.checks.iter().all(Check::has_answered);
            return done.then_some(Verdict::Healthy);
        }
        if !over {
            return None;
        }
        let mut open = self.required().filter(|check| !check.has_passed());
        let first = open.next()?;
        let seconds = self.deadline_ms.saturating_sub(self.started_ms) / 1000;
        match open.count() {
            0 => unhealthy(format_args!(
                "deadline of {seconds} s passed: check {:?} has not: {first}",
                first.plan().name
            )),
            more => unhealthy(format_args!(
                "deadline of {seconds} s passed: check {:?} and {more} more have not: {first}",
                first.plan().name
            )),
        }
    }

    /// The first attempt that has taken too long, now failed.
    fn give_up(&mut self, now_ms: u64) -> Option<usize> {
        let late = |check: &Check| check.times_out().is_some_and(|at| now_ms >= at);
        let number = self.checks.iter().position(late)?;
        let trial_ms = now_ms.saturating_sub(self.started_ms);
        let check = self.checks.get_mut(number)?;
        let (seconds, tenths) = (check.plan().timeout_ms / 1000, check.plan().timeout_ms % 1000 / 100);
        check.fail(now_ms, trial_ms, format_args!("no answer within {seconds}.{tenths} s"));
        Some(number)
    }

    /// The check whose attempt starts now: required ones first, the longest due first.
    fn next_due(&self, now_ms: u64) -> Option<usize> {
        let due = |required: bool| {
            let all = self.checks.iter().enumerate().filter(move |(_, c)| c.plan().required == required);
            let due = all.filter_map(|(number, check)| match check.state {
                State::Due(at) if at <= now_ms => Some((at, number)),
                _ => None,
            });
            due.min().map(|(_, number)| number)
        };
        match RUNNING_MAX.saturating_sub(self.running()) {
            0 => None,
            1 => due(true),
            _ => due(true).or_else(|| due(false)),
        }
    }

    /// When something changes without an answer.
    fn next_moment(&self, now_ms: u64) -> u64 {
        let moment = |check: &Check| match check.state {
            // What is due already waits for a place, so for another's answer or timeout.
            State::Due(at) => Some(at).filter(|at| *at > now_ms),
            State::Running(_) => check.times_out(),
            State::Passed | State::Failed => None,
        };
        let waited = self.passed_ms.map(|since| since.saturating_add(WANTED_WAIT_MS));
        let first = self.checks.iter().filter_map(moment).chain(waited).min();
        first.unwrap_or(self.deadline_ms).min(self.deadline_ms)
    }

    fn running(&self) -> usize {
        self.checks.iter().filter(|check| check.is_running()).count()
    }

    fn required(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.plan().required)
    }
}
