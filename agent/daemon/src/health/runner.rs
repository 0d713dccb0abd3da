//! The trial of the running group, with everything around it.
//!
//! ```text
//! 1  when did it begin in this boot?      an agent that crashes does not put the deadline off
//! 2  second guard                         before anything that could hang
//! 3  watchdog armed, fed for the length of the trial
//! 4  checks, until there is a verdict     `mainstay_core::trial` decides, this file obeys
//! 5  healthy: guard dismissed, watchdog fed on. Anything else: neither; the rollback has to end in a reset
//! ```
//! | what fails | so |
//! |---|---|
//! | the note of the beginning cannot be made | fault: rolled back |
//! | the watchdog that the board promises cannot be armed for [`ARM_WAIT`] | unhealthy, and says so |
//! | the board has none | the guard alone ends a hang |
//! | the guard cannot be started | with a watchdog: logged, goes on; without: unhealthy |
//! | this loop hangs | its heartbeat grows old, the watchdog bites; the guard counts on |

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_board_support::{Board, SystemClock};
use mainstay_core::fault::{Fault, clip};
use mainstay_core::limits::TRIAL_SECONDS_MAX;
use mainstay_core::seam::{Clock, TrialRunner, Verdict};
use mainstay_core::trial::{Trial, Turn};
use mainstay_core::update::Deployment;

use super::begun::begun_ms;
use super::config::{CheckConfig, Probe};
use super::feeder::{Feeder, Heartbeat};
use super::greenboot;
use super::probe::Attempts;
use crate::guard::{Guard, GuardSetup};

/// The loop wakes at least this often while an attempt runs, and at [`QUIET`] while none does.
const TICK: Duration = Duration::from_millis(100);
/// See [`TICK`]: the heartbeat has to stay young.
const QUIET: Duration = Duration::from_secs(1);
/// How long the trial's loop may be silent. It never blocks; ten seconds is a machine on its knees.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How long a watchdog that cannot be armed is waited for: its driver may be a module that udev still has to load.
pub const ARM_WAIT: Duration = Duration::from_secs(10);
/// The guard's deadline lies so much after the trial's, in milliseconds: a verdict at the last moment still has the
/// time to be written into the bootloader's environment.
pub const GUARD_MARGIN_MS: u64 = 30_000;
/// After a verdict that is not healthy, how long the watchdog is fed until the reset must have come: mark bad, and
/// an orderly shutdown with two services that take systemd's 90 s to stop.
pub const ROLLBACK_MAX: Duration = Duration::from_secs(300);

/// Runs trials on a real machine.
pub struct HealthTrial {
    checks: Vec<CheckConfig>,
    run: PathBuf,
    feeder: Feeder,
    guard: GuardSetup,
    broker: Arc<AtomicBool>,
    interrupt: Interrupt,
    /// Of a trial that was not healthy: stays until the reset.
    standing: Option<Guard>,
}

/// Ends a running trial from outside. A clone ends the same.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<Wish>>);

#[derive(Default)]
enum Wish {
    #[default]
    NoTrial,
    GoOn,
    RollBack(String),
}

impl Interrupt {
    /// A person wants to go back: the trial that runs is unhealthy. `false`: none runs.
    pub fn roll_back(&self, why: &str) -> bool {
        let mut wish = self.lock();
        let runs = !matches!(*wish, Wish::NoTrial);
        if runs {
            *wish = Wish::RollBack(why.to_string());
        }
        runs
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthTrial {
    /// With the configuration's checks and run folder. `broker` says whether the control connection stands; it has to
    /// be set by a thread other than the one that runs the trial.
    pub fn new(
        board: &Board,
        checks: Vec<CheckConfig>,
        run: &Path,
        feeder: Feeder,
        broker: Arc<AtomicBool>,
    ) -> HealthTrial {
        let guard = GuardSetup::of_this_program(run, &board.reboot);
        HealthTrial::with_guard(guard, checks, run, feeder, broker)
    }

    pub(super) fn with_guard(
        guard: GuardSetup,
        checks: Vec<CheckConfig>,
        run: &Path,
        feeder: Feeder,
        broker: Arc<AtomicBool>,
    ) -> HealthTrial {
        let interrupt = Interrupt::default();
        HealthTrial { checks, run: run.into(), feeder, guard, broker, interrupt, standing: None }
    }

    /// What ends a running trial from another thread.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    fn trial(&mut self, deployment: &Deployment) -> Result<Verdict, Fault> {
        let heart = self.feeder.heartbeat("trial", SILENT_MAX);
        let begun = begun_ms(&self.run, deployment, now_ms())?;
        let length_ms = u64::from(deployment.deadline_s.clamp(1, TRIAL_SECONDS_MAX)) * 1000;
        let mut trial = Trial::new(begun, begun.saturating_add(length_ms));
        let left = Duration::from_millis(trial.deadline_ms().saturating_sub(now_ms()));
        self.feeder.feed_for(Some(left + ROLLBACK_MAX));

        let guard = Guard::spawn(&self.guard, trial.deadline_ms().saturating_add(GUARD_MARGIN_MS));
        let watched = match self.arm(left, &heart) {
            Ok(watched) => watched.is_some(),
            Err(fault) => {
                return Ok(unhealthy(format_args!("no trial without the board's watchdog: {fault}")));
            }
        };
        match guard {
            Ok(guard) => self.standing = Some(guard),
            Err(fault) if watched => log::error!("{fault}; the trial goes on under the watchdog alone"),
            Err(fault) => return Ok(unhealthy(format_args!("neither watchdog nor second guard: {fault}"))),
        }
        Ok(match self.admit(deployment, &mut trial) {
            Ok(probes) => self.check(&mut trial, &probes, &heart),
            Err(fault) => unhealthy(format_args!("{fault}")),
        })
    }

    /// Arms the watchdog, and waits for it for a while, but not beyond the deadline.
    fn arm(&self, left: Duration, heart: &Heartbeat) -> Result<Option<u32>, Fault> {
        for _ in 0..left.min(ARM_WAIT).as_secs() {
            match self.feeder.arm() {
                Ok(armed) => return Ok(armed),
                Err(fault) => log::warn!("{fault}"),
            }
            std::thread::sleep(Duration::from_secs(1));
            heart.beat();
        }
        self.feeder.arm()
    }

    /// Fills the trial with what the configuration and the bundle ask for; the probes, by the checks' numbers. A
    /// folder of checks that cannot be read is a fault if it is required.
    fn admit(&self, deployment: &Deployment, trial: &mut Trial) -> Result<Vec<Probe>, Fault> {
        let mut probes = Vec::new();
        let named = |name: &str| deployment.required.iter().any(|required| required == name);
        for check in &self.checks {
            let required = check.plan.required || named(&check.plan.name);
            let expanded = match &check.probe {
                Probe::Greenboot(folder) => match greenboot::expand(check, folder, required) {
                    Ok(checks) => checks,
                    Err(fault) if required => return Err(fault),
                    Err(fault) => {
                        log::warn!("{fault}");
                        continue;
                    }
                },
                _ => vec![check.clone()],
            };
            for check in expanded {
                trial.add(check.plan)?;
                probes.push(check.probe);
            }
        }
        let folder = |name: &str| {
            let mut checks = self.checks.iter();
            checks.any(|check| check.plan.name == name && matches!(check.probe, Probe::Greenboot(_)))
        };
        // A folder's own name stands for what was required of it above.
        deployment.required.iter().filter(|name| !folder(name)).for_each(|name| trial.require(name));
        Ok(probes)
    }

    /// The loop. Never blocks for longer than [`QUIET`].
    fn check(&self, trial: &mut Trial, probes: &[Probe], heart: &Heartbeat) -> Verdict {
        let mut attempts: Vec<Attempts> = probes.iter().map(|_| Attempts::default()).collect();
        let verdict = loop {
            heart.beat();
            if let Wish::RollBack(why) = &*self.interrupt.lock() {
                break Verdict::Unhealthy(clip(why));
            }
            for (number, attempt) in attempts.iter_mut().enumerate() {
                attempt.is_idle(); // reaps
                if let Some(answer) = attempt.poll() {
                    match answer {
                        Ok(()) => trial.passed(number, now_ms()),
                        Err(why) => trial.failed(number, now_ms(), why),
                    }
                    tell(trial, number);
                }
            }
            let now = now_ms();
            match trial.turn(now) {
                Turn::Start(number) => {
                    let (Some(attempt), Some(probe)) = (attempts.get_mut(number), probes.get(number)) else {
                        trial.failed(number, now, "there is no such check"); // numbers come from `admit`
                        continue;
                    };
                    let timeout = trial.checks().get(number).map_or(0, |check| check.plan().timeout_ms);
                    attempt.start(probe, Duration::from_millis(timeout.into()), &self.broker);
                }
                Turn::Stop(number) => {
                    attempts.get_mut(number).into_iter().for_each(Attempts::stop);
                    tell(trial, number);
                }
                Turn::Wait { until_ms } => {
                    let most = if attempts.iter().any(Attempts::is_running) { TICK } else { QUIET };
                    std::thread::sleep(Duration::from_millis(until_ms.saturating_sub(now)).min(most));
                }
                Turn::Over(verdict) => break verdict,
            }
        };
        self.sweep(&mut attempts);
        for check in trial.checks() {
            let kind = if check.plan().required { "required" } else { "wanted" };
            let state = if check.has_passed() { "passed" } else { "has not passed" };
            log::info!("check {:?} ({kind}): {state}: {check}", check.plan().name);
        }
        verdict
    }

    /// Ends what still runs, and waits a moment for it to be gone: what hangs in the kernel is left to it.
    fn sweep(&self, attempts: &mut [Attempts]) {
        attempts.iter_mut().for_each(Attempts::stop);
        for _ in 0..SWEEP_ROUNDS {
            if attempts.iter_mut().map(Attempts::is_idle).filter(|idle| !idle).count() == 0 {
                return;
            }
            std::thread::sleep(SWEEP_PAUSE);
        }
    }
}

/// 20 * 10 ms: a killed process is gone within a millisecond or does not go at all.
const SWEEP_ROUNDS: u32 = 20;
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

impl TrialRunner for HealthTrial {
    fn run(&mut self, deployment: &Deployment) -> Result<Verdict, Fault> {
        *self.interrupt.lock() = Wish::GoOn;
        let mut result = self.trial(deployment);
        // A wish that came after the loop's last look counts, too: it was answered with "yes".
        if let Wish::RollBack(why) = std::mem::take(&mut *self.interrupt.lock()) {
            result = result.map(|_| Verdict::Unhealthy(clip(why)));
        }
        match &result {
            // Before the verdict is given back: were it written first and the agent killed in between, the guard
            // would reset a committed machine.
            Ok(Verdict::Healthy) => {
                self.feeder.feed_for(None);
                self.standing.take().into_iter().for_each(Guard::dismiss);
            }
            // From here on there is one way out, through a reset; if the rollback hangs, it comes all the same.
            Ok(Verdict::Unhealthy(why)) => {
                log::error!("trial: unhealthy: {why}");
                self.feeder.feed_for(Some(ROLLBACK_MAX));
            }
            Err(_) => self.feeder.feed_for(Some(ROLLBACK_MAX)),
        }
        result
    }
}

fn tell(trial: &Trial, number: usize) {
    let Some(check) = trial.checks().get(number) else { return };
    let name = &check.plan().name;
    match check.has_passed() {
        true => log::info!("check {name:?}: passed, attempt {}", check.attempts()),
        false => log::warn!("check {name:?}: attempt {} failed: {}", check.attempts(), check.last_failure()),
    }
}

fn unhealthy(why: std::fmt::Arguments<'_>) -> Verdict {
    Verdict::Unhealthy(clip(why))
}

/// Milliseconds since the boot.
fn now_ms() -> u64 {
    SystemClock.now().boot_ms
}
