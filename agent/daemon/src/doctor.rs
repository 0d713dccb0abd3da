//! `mainstay doctor`: is this board integrated right? Each line says what was looked at, what was found and, where
//! that is not right, what to do. It changes nothing, and can run beside the daemon.

mod medium;

use crate::config::{Broker as BrokerSection, Config};
use crate::erase::{Belongings, time_text};
use crate::status::service_name;
use crate::store::FolderStore;
use crate::terminal::say;
use crate::transport::{Broker, BulkSource, BulkStatus};
use mainstay_board_support::board::{Board, WatchdogSpec};
use mainstay_board_support::{BoardSlots, SystemClock};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::seam::{BootControl, Clock, PieceSource, StateFile, StateStore};
use mainstay_core::trust::{Role, TrustRoot};
use mainstay_core::update::{Record, Service};
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Good,
    /// It works, and something about it should be known.
    Doubtful,
    /// An update would fail, or would not be safe.
    Wrong,
    /// It could not be looked at here.
    NotRun,
}

/// What has been found so far.
#[derive(Default)]
struct Report {
    lines: Vec<(Finding, &'static str, String, &'static str)>,
}

impl Report {
    fn add(&mut self, finding: Finding, what: &'static str, found: impl Display, advice: &'static str) {
        self.lines.push((finding, what, found.to_string(), advice));
    }
    fn good(&mut self, what: &'static str, found: impl Display) {
        self.add(Finding::Good, what, found, "");
    }
    fn wrong(&mut self, what: &'static str, found: impl Display, advice: &'static str) {
        self.add(Finding::Wrong, what, found, advice);
    }
    fn doubtful(&mut self, what: &'static str, found: impl Display, advice: &'static str) {
        self.add(Finding::Doubtful, what, found, advice);
    }
}

/// Looks at everything; prints to standard output. `true`: nothing is wrong.
pub fn examine(path: &Path, daemon_runs: bool) -> bool {
    let mut report = Report::default();
    match Config::load(path) {
        Ok(config) => {
            report.good("configuration", path.display());
            with_config(&config, daemon_runs, &mut report);
        }
        Err(error) => report.wrong(
            "configuration",
            error,
            "mend that line; PORTING.md and OPERATING.md show whole files",
        ),
    }
    for (finding, what, found, advice) in &report.lines {
        let sign = match finding {
            Finding::Good => "ok   ",
            Finding::Doubtful => "note ",
            Finding::Wrong => "WRONG",
            Finding::NotRun => "-    ",
        };
        say(format_args!("{sign} {what:16} {found}"));
        if !advice.is_empty() {
            say(format_args!("      {:16} -> {advice}", ""));
        }
    }
    let count = |finding| report.lines.iter().filter(|(f, ..)| *f == finding).count();
    say(format_args!(
        "{} right, {} to know, {} wrong, {} not looked at",
        count(Finding::Good),
        count(Finding::Doubtful),
        count(Finding::Wrong),
        count(Finding::NotRun)
    ));
    count(Finding::Wrong) == 0
}

fn with_config(config: &Config, daemon_runs: bool, report: &mut Report) {
    let mut store = FolderStore::look(&config.state);
    let record = state(config, &mut store, report);
    medium::state(config, report);
    let trust = trust(config, &mut store, report);
    clock(&record, report);
    match Board::load(&config.board) {
        Ok(board) => {
            report.good("board file", format_args!("{} ({})", config.board.display(), board.compatible));
            with_board(&board, daemon_runs, report);
        }
        Err(error) => {
            report.wrong("board file", error, "mend that line; PORTING.md goes through it key by key")
        }
    }
    sandbox(config, report);
    client_key(config, report);
    if config.checks.iter().any(|check| check.plan.required) {
        report.good("health checks", format_args!("{} configured", config.checks.len()));
    } else {
        report.doubtful(
            "health checks",
            "none is required",
            "every image that starts the agent will be committed: add a [[check]] that fails when your plant would",
        );
    }
    erasing(config, &record, report);
    match (&config.broker, daemon_runs, trust) {
        _ if record.service.out_since().is_some() => {
            report.add(Finding::NotRun, "broker", "decommissioned: it connects to none any more", "")
        }
        (None, ..) => {
            report.doubtful("broker", "none configured", "fine for a gateway that is only updated by hand")
        }
        (Some(_), true, _) => {
            report.add(Finding::NotRun, "broker", "the agent runs: `mainstay status` says how it stands", "")
        }
        (Some(broker), false, Some(trust)) => dial(broker, &trust, &record, report),
        (Some(_), false, None) => report.add(Finding::NotRun, "broker", "not tried without a trust root", ""),
    }
}

/// Whoever reads the client key is this gateway to the broker.
fn client_key(config: &Config, report: &mut Report) {
    let key = config.broker.as_ref().map(|broker| &broker.link.key).filter(|key| key.exists());
    let Some(key) = key else { return };
    match crate::transport::tunnel::mode_that_shows(key) {
        None => report.good("client key", format_args!("{}, its owner's alone", key.display())),
        Some(mode) => report.doubtful(
            "client key",
            format_args!("{} is not its owner's alone (mode {mode:04o})", key.display()),
            "chmod 600, and ask for a new certificate if somebody may have read it",
        ),
    }
}

fn sandbox(config: &Config, report: &mut Report) {
    if !config.sandbox.enabled {
        let advice = "name what checks have to write in [sandbox] write = [...], and leave it on";
        return report.doubtful("sandbox", "off, as the configuration says", advice);
    }
    for place in config.sandbox.write.iter().filter(|place| !place.exists()) {
        let advice =
            "what is made after the agent has started cannot be written by its checks: make its folder first";
        report.doubtful("sandbox", format_args!("{} is not there", place.display()), advice);
    }
    for fence in crate::sandbox::possible() {
        match &fence.stands {
            Ok(_) => report.good("sandbox", &fence),
            Err(_) => report.doubtful(
                "sandbox",
                format_args!("the kernel has no {fence}"),
                "the agent runs without that fence; CONFIG_SECURITY_LANDLOCK and CONFIG_SECCOMP_FILTER put it up",
            ),
        }
    }
}

fn erasing(config: &Config, record: &Record, report: &mut Report) {
    match record.service {
        Service::In => {}
        Service::Resetting => report.doubtful(
            "service",
            "a factory reset is under way",
            "the agent goes on with it until it is done: `mainstay status` says what stands in its way",
        ),
        Service::Decommissioning(since) | Service::Decommissioned(since) => report.doubtful(
            "service",
            format_args!("{} since {}", service_name(record.service), time_text(since)),
            "it boots what it runs, and takes no update any more",
        ),
    }
    match Belongings::of(config).can_be_erased() {
        Err(fault) => {
            report.wrong("factory reset", fault, "mend [reset] of the configuration: it would be refused")
        }
        Ok(()) if config.erase.is_empty() => {}
        Ok(()) => {
            report.good("factory reset", format_args!("erases what is in {} places", config.erase.len()))
        }
    }
}

fn state(config: &Config, store: &mut FolderStore, report: &mut Report) -> Record {
    let factory = Record::factory(config.image_floor);
    if !config.state.exists() {
        report.doubtful(
            "state",
            format_args!("{} is not there yet", config.state.display()),
            "the agent makes it at its first start; it must be on a file system that outlives updates",
        );
        return factory;
    }
    let mut bytes = [0; RECORD_BYTES_MAX];
    let record = match store.load(StateFile::Journal, &mut bytes) {
        Ok(None) => Ok(factory.clone()),
        Ok(Some(length)) => Record::decode(bytes.get(..length).unwrap_or_default()),
        Err(fault) => Err(fault),
    };
    match record {
        Ok(record) => {
            report.good(
                "state",
                format_args!("{}, floor {}", config.state.display(), record.floor.max(config.image_floor)),
            );
            record
        }
        Err(fault) => {
            let what = match fault.kind {
                FaultKind::Corrupt => {
                    "the agent begins a new record with the image's floor; look why the medium lost both copies"
                }
                FaultKind::Unsupported => {
                    "the agent does not start, and touches nothing; boot the group whose agent wrote it"
                }
                _ => "the agent does not start; look at the medium",
            };
            report.wrong("state", fault, what);
            factory
        }
    }
}

fn trust(config: &Config, store: &mut FolderStore, report: &mut Report) -> Option<TrustRoot> {
    match crate::agent::load_trust(config, store) {
        Ok(root) => {
            let roles: Vec<String> = Role::ALL
                .iter()
                .map(|role| {
                    let members = root.role(*role);
                    format!("{} {}/{}", role.name(), members.threshold, members.members.count_ones())
                })
                .collect();
            report.good("trust root", format_args!("{} v{}: {}", root.fleet, root.version, roles.join(", ")));
            Some(root)
        }
        Err(fault) => {
            report.wrong(
                "trust root",
                fault,
                "without it no bundle is believed: put the fleet's trust.root where the configuration says",
            );
            None
        }
    }
}

fn clock(record: &Record, report: &mut Report) {
    match SystemClock.now().unix_s {
        None => report.doubtful(
            "clock",
            "not set",
            "updates go on without it; maintenance hours and windows wait until it is set (NTP, RTC)",
        ),
        Some(now) if now < record.time_floor => report.doubtful(
            "clock",
            format_args!("{now}, but {} has certainly passed (Unix seconds)", record.time_floor),
            "it runs behind: look at the RTC battery and at NTP",
        ),
        Some(now) => report.good("clock", format_args!("{now} (Unix seconds, UTC)")),
    }
}

fn with_board(board: &Board, daemon_runs: bool, report: &mut Report) {
    let running = match board.running_group() {
        Ok(group) => {
            report.good("running group", group);
            Some(group)
        }
        Err(fault) => {
            report.wrong(
                "running group",
                fault,
                "let the boot script put mainstay.group=A or =B on the kernel's command line",
            );
            None
        }
    };
    slots(board, running, report);
    environment(board, running, report);
    watchdog(board, report);
    medium::watchdog(board, daemon_runs, report);
    gpio(board, daemon_runs, report);
}

/// A line is held by one process at a time, so these can be tried only while the agent does not run.
fn gpio(board: &Board, daemon_runs: bool, report: &mut Report) {
    let lines = [
        ("status LED", board.gpio.status_led.is_some()),
        ("interlock", board.gpio.interlock.is_some()),
        ("recovery button", board.gpio.recovery_button.is_some()),
    ];
    for (what, _) in lines.into_iter().filter(|(_, configured)| *configured) {
        if daemon_runs {
            report.add(Finding::NotRun, what, "the agent runs and holds its line", "");
            continue;
        }
        let found = match what {
            "status LED" => board.status_led().map(|_| "there"),
            "interlock" => board.interlock().and_then(|line| match line {
                Some(mut line) => {
                    line.may_reboot().map(|may| if may { "may go down" } else { "may not go down" })
                }
                None => Ok("none"),
            }),
            _ => board.recovery_button().map(|_| "there"),
        };
        let advice =
            "compare chip and line with gpioinfo: an interlock that cannot be read holds every reboot";
        match found {
            Ok(found) => report.good(what, found),
            Err(fault) => report.wrong(what, fault, advice),
        }
    }
}

fn slots(board: &Board, running: Option<Group>, report: &mut Report) {
    let mut slots = match running {
        Some(running) => BoardSlots::new(board, running),
        None => BoardSlots::for_idle_disk(board),
    };
    for class in board.classes() {
        match (slots.size(Group::A, class), slots.size(Group::B, class)) {
            (Ok(a), Ok(b)) if a == b => {
                report.good("slots", format_args!("{class}: {a} bytes in both groups"))
            }
            (Ok(a), Ok(b)) => report.doubtful(
                "slots",
                format_args!("{class}: {a} bytes in A, {b} in B"),
                "an image has to fit the smaller one",
            ),
            (Err(fault), _) | (_, Err(fault)) => {
                report.wrong(
                    "slots",
                    format_args!("{class}: {fault}"),
                    "does the device exist, under this name, at this boot?",
                );
            }
        }
        if let Some(target) = running.map(Group::other)
            && let Err(fault) = slots.access(target, class)
        {
            report.wrong(
                "slots",
                fault,
                "the group that does not run has to be free for writing: not mounted, not held",
            );
        }
    }
    for note in slots.notes() {
        report.doubtful("slots", note, "repair it with sgdisk or gdisk before the other copy goes too");
    }
}

fn environment(board: &Board, running: Option<Group>, report: &mut Report) {
    let format = board.environment_format();
    if format.survives_a_power_cut() {
        report.good("environment", "survives a power cut in the middle of a write");
    } else {
        report.doubtful(
            "environment",
            "a single copy that is longer than a sector",
            "a power cut in the middle of a write loses it: build U-Boot with CONFIG_ENV_REDUNDANT",
        );
    }
    let mut boot = match board.open_boot_control() {
        Ok(boot) => boot,
        Err(fault) => {
            return report.wrong(
                "environment",
                fault,
                "compare with the bootloader's configuration: path, offset, size",
            );
        }
    };
    medium::environment(&mut boot, report);
    match boot.state() {
        Ok(state) => boot_state(&state, running, report),
        Err(fault) => report.wrong(
            "boot state",
            fault,
            "boot once with the boot script of bootloader-glue/scripts, or set the variables from its README",
        ),
    }
}

fn boot_state(state: &BootState, running: Option<Group>, report: &mut Report) {
    match state.select() {
        Some(next) if Some(next) == running => {
            report.good("boot state", format_args!("{next} boots next, as now"))
        }
        Some(next) => report.doubtful(
            "boot state",
            format_args!("{next} boots next, but another group runs"),
            "right in the middle of an update; else look at `mainstay log`",
        ),
        None => report.wrong(
            "boot state",
            "no group is bootable",
            "`mainstay mark good` makes the running group bootable again",
        ),
    }
    if let Some(other) = running.map(Group::other)
        && !state.group(other).bootable()
    {
        report.doubtful(
            "way back",
            format_args!("group {other} is not bootable"),
            "there is nothing to fall back to until the next update has been committed",
        );
    }
}

fn watchdog(board: &Board, report: &mut Report) {
    match (&board.watchdog, board.watchdog_timeout_s()) {
        (_, None) => report.doubtful(
            "watchdog",
            "this board has none",
            "an image that hangs in its trial stays hanging until somebody cuts its power",
        ),
        (WatchdogSpec::Device { path, timeout_s }, _) if path.exists() => {
            report.good("watchdog", format_args!("{}, {timeout_s} s", path.display()));
        }
        (WatchdogSpec::Device { path, .. }, _) => report.wrong(
            "watchdog",
            format_args!("{} is not there", path.display()),
            "is its driver built in, or loaded before the agent starts?",
        ),
        (WatchdogSpec::Simulated { path, .. }, _) => report.doubtful(
            "watchdog",
            format_args!("simulated, at {}", path.display()),
            "for tests; it resets nothing on a real board",
        ),
        (WatchdogSpec::None, Some(timeout_s)) => {
            report.good("watchdog", format_args!("external, toggled by a GPIO line, {timeout_s} s"))
        }
    }
}

/// Connects as the agent would, once.
fn dial(section: &BrokerSection, trust: &TrustRoot, record: &Record, report: &mut Report) {
    let advice =
        "the cause names the side: address, our certificate, the broker's certificate, its access control";
    let config = crate::run::link_config(section, trust, record);
    let url = config.url.clone();
    let broker = match Broker::new(config) {
        Ok(broker) => broker,
        Err(fault) => return report.wrong("broker", fault, advice),
    };
    // The bulk connection, because it leaves nothing behind: no session, no presence, no will.
    let (cancel, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let (stop, note) = (cancel.clone(), seen.clone());
    let mut source = BulkSource::new(&broker, cancel.clone(), move |status| {
        let answer = match status {
            BulkStatus::Connecting { cause: None } => return,
            BulkStatus::Connecting { cause: Some(cause) } => Err(cause),
            BulkStatus::Pulling | BulkStatus::Stalled { .. } => Ok(()),
        };
        note.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(answer);
        stop.store(true, Ordering::Release);
    });
    std::thread::spawn(move || {
        std::thread::sleep(DIAL_TIMEOUT);
        cancel.store(true, Ordering::Release);
    });
    let _ = source.fetch(&Digest::of(b"mainstay doctor"), 0); // an object that nobody has
    match seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(())) => report.good("broker", format_args!("{url} has taken us")),
        Some(Err(cause)) => report.wrong("broker", format_args!("{url}: {cause}"), advice),
        None => report.wrong(
            "broker",
            format_args!("{url}: no answer within {} s", DIAL_TIMEOUT.as_secs()),
            advice,
        ),
    }
}

const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
