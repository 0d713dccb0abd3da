//! The goal: what a trial on a real machine promises, with real programs, folders, ports and guards; only the
//! watchdog's hardware and the reset are stood in for.

use super::feeder::tests::recorded;
use super::*;
use crate::guard;
use crate::guard::tests::{Machine, eventually};
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::clip;
use mainstay_core::seam::{TrialRunner, Verdict};
use mainstay_core::trial::CheckPlan;
use mainstay_core::update::Deployment;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) fn deployment(attempt: u32) -> Deployment {
    Deployment {
        manifest: Digest([attempt as u8; 32]),
        version: clip("2"),
        security_version: 1,
        target: Group::B,
        attempt,
        tries: 3,
        deadline_s: 20,
        required: heapless::Vec::new(),
        not_before: None,
        expires: None,
    }
}

/// Times are in milliseconds, so that a test with retries takes no minute.
fn check(name: &str, required: bool, probe: Probe) -> CheckConfig {
    let name = name.try_into().unwrap();
    let plan = CheckPlan { name, required, timeout_ms: 2000, retries: 1, interval_ms: 50, grace_ms: 0 };
    CheckConfig { plan, probe }
}

fn sh(name: &str, required: bool, line: &str) -> CheckConfig {
    check(name, required, Probe::Command(["sh", "-c", line].map(String::from).into()))
}

fn no_watchdog() -> Feeder {
    Feeder::new(None, Box::new(|| Err(fault!(NotFound, "never asked"))))
}

fn trial(machine: &Machine, checks: &[CheckConfig], feeder: Feeder) -> HealthTrial {
    HealthTrial::with_guard(machine.setup(), checks.to_vec(), &machine.run(), feeder, Arc::default())
}

/// Runs a trial; its verdict's text, empty for healthy.
fn run(checks: &[CheckConfig]) -> String {
    let machine = Machine::new();
    text(trial(&machine, checks, no_watchdog()).run(&deployment(1)))
}

fn text(verdict: Result<Verdict, mainstay_core::fault::Fault>) -> String {
    match verdict.unwrap() {
        Verdict::Healthy => String::new(),
        Verdict::Unhealthy(why) => why.to_string(),
    }
}

#[test]
fn only_required_checks_decide() {
    #[rustfmt::skip]
    let cases = [
        // checks                                                          why it is not healthy
        (vec![],                                                            ""),
        (vec![sh("a", true, "true"), sh("b", true, "sleep 0.2")],           ""),
        (vec![sh("a", true, "true"), sh("w", false, "exit 1")],             ""),
        (vec![sh("a", true, "true"), sh("b", true, "echo boo; exit 4")],    "check \"b\" failed: 2 attempts, last: exit status: 4: boo"),
        (vec![check("c", true, Probe::Command(vec!["/no/such".into()]))],   "check \"c\" failed: 2 attempts, last: /no/such: No such file"),
        (vec![check("broker", true, Probe::Broker)],                        "check \"broker\" failed: 2 attempts, last: the broker has not been reached"),
    ];
    for (checks, why) in cases {
        let found = run(&checks);
        assert!(found.starts_with(why) && found.is_empty() == why.is_empty(), "{why:?}: {found:?}");
    }
}

#[test]
fn a_hanging_command_is_killed_at_its_timeout_with_all_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let line = format!("echo $$ >> {0}; sleep 1000 & echo $! >> {0}; wait", pids.display());
    let mut hanging = sh("hanging", true, &line);
    hanging.plan.timeout_ms = 300;
    let started = Instant::now();
    assert_eq!(run(&[hanging]), "check \"hanging\" failed: 2 attempts, last: no answer within 0.3 s");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 4, "two attempts, two processes each");
    for (n, pid) in pids.lines().enumerate() {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
            let state = stat.and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
            // A shell is this process's child, so its zombie would be ours; a sleep's is its new parent's.
            state.is_none() || (n % 2 == 1 && matches!(state, Some('Z' | 'X')))
        };
        eventually("every process of the check is gone", gone);
    }
}

#[test]
fn retries_and_grace_give_a_service_time_to_come_up() {
    let folder = tempfile::tempdir().unwrap();
    let passes_at = |name: &str, attempt: u32| {
        let file = folder.path().join(name);
        sh(name, true, &format!("echo x >> {0}; test $(wc -l < {0}) -ge {attempt}", file.display()))
    };
    let attempts = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().lines().count();

    assert_eq!(run(&[passes_at("retried", 2)]), "");
    assert_eq!(attempts("retried"), 2);
    assert_eq!(run(&[passes_at("late", 3)]), "check \"late\" failed: 2 attempts, last: exit status: 1");
    assert_eq!(attempts("late"), 2, "one attempt and one retry");
    let mut graced = passes_at("graced", 6);
    graced.plan.grace_ms = 10_000;
    assert_eq!(run(&[graced]), "");
    assert_eq!(attempts("graced"), 6, "passed, and not asked again");
}

#[test]
fn the_deadline_ends_a_trial_in_which_nothing_answers() {
    let machine = Machine::new();
    let mut hanging = sh("hanging", true, "sleep 1000");
    hanging.plan.timeout_ms = 60_000;
    let mut trial = trial(&machine, &[hanging], no_watchdog());
    let started = Instant::now();
    let verdict = trial.run(&Deployment { deadline_s: 1, ..deployment(1) });
    assert_eq!(text(verdict), "deadline of 1 s passed: check \"hanging\" has not: 1 attempt");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_greenboot_folder_decides_by_its_required_checks_alone() {
    #[rustfmt::skip]
    let cases = [
        // required.d  wanted.d   in the table   the bundle requires   why it is not healthy
        ("exit 0",     "exit 0",  true,          None,                 ""),
        ("exit 0",     "exit 1",  true,          None,                 ""),
        ("exit 1",     "exit 0",  true,          None,                 "check \"01_r.sh\" failed: 2 attempts"),
        ("exit 1",     "exit 1",  false,         None,                 ""),
        ("exit 1",     "exit 0",  false,         Some("greenboot"),    "check \"01_r.sh\" failed: 2 attempts"),
        ("exit 0",     "exit 1",  true,          Some("01_w.sh"),      "check \"01_w.sh\" failed: 2 attempts"),
        ("exit 0",     "exit 0",  true,          Some("02_x.sh"),      "check \"02_x.sh\": required by the bundle"),
    ];
    for (required, wanted, table, named, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        for (file, line) in [("required.d/01_r.sh", required), ("wanted.d/01_w.sh", wanted)] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let machine = Machine::new();
        let group = check("greenboot", table, Probe::Greenboot(folder.path().into()));
        let required = named.map(clip).into_iter().collect();
        let verdict = trial(&machine, &[group], no_watchdog()).run(&Deployment { required, ..deployment(1) });
        let found = text(verdict);
        assert!(found.starts_with(why) && found.is_empty() == why.is_empty(), "{why:?}: {found:?}");
    }
}

#[test]
fn a_greenboot_folder_that_is_not_there_fails_the_trial_if_it_is_required() {
    let gone = |required| check("greenboot", required, Probe::Greenboot("/no/such/folder".into()));
    assert!(run(&[gone(true)]).contains("expected the folder /no/such/folder, found none"));
    assert_eq!(run(&[gone(false)]), "");
}

#[test]
fn a_broker_that_is_reached_in_the_middle_of_the_trial_passes() {
    let machine = Machine::new();
    let broker = Arc::new(AtomicBool::new(false));
    let mut broker_check = check("broker", true, Probe::Broker);
    broker_check.plan.retries = 100;
    let mut trial = HealthTrial::with_guard(
        machine.setup(),
        vec![broker_check],
        &machine.run(),
        no_watchdog(),
        broker.clone(),
    );
    let connects = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        broker.store(true, Ordering::Release);
    });
    assert_eq!(text(trial.run(&deployment(1))), "");
    connects.join().unwrap();
}

#[test]
fn a_healthy_trial_dismisses_its_guard_and_is_fed_on() {
    let machine = Machine::new();
    let (feeder, heard) = recorded(0);
    let mut trial = trial(&machine, &[sh("a", true, "true")], feeder.clone());
    assert_eq!(text(trial.run(&deployment(1))), "");
    assert_eq!(guard::standing(&machine.run()), None);
    std::thread::sleep(Duration::from_secs(1));
    let heard: Vec<_> = heard.try_iter().map(|(_, what)| what).collect();
    assert_eq!(heard[0], "arm");
    assert!(heard[1..].iter().all(|what| *what == "feed") && heard.len() > 2, "{heard:?}");
    assert_eq!(feeder.starved(), None);
}

#[test]
fn an_unhealthy_trial_keeps_its_guard_until_the_reset() {
    let machine = Machine::new();
    let mut trial = trial(&machine, &[sh("a", true, "false")], no_watchdog());
    assert!(!text(trial.run(&deployment(1))).is_empty());
    assert!(guard::standing(&machine.run()).is_some());
    drop(trial);
    assert!(guard::standing(&machine.run()).is_some(), "even if the agent ends");
    assert_eq!(machine.reboots(), 0);
}

#[test]
fn a_restart_of_the_agent_does_not_put_the_deadline_off() {
    let machine = Machine::new();
    let short = Deployment { deadline_s: 2, ..deployment(1) };
    let started = Instant::now();
    // Each trial is given up by a person's word, as if the agent had died in it.
    for _ in 0..3 {
        let mut trial = trial(&machine, &[sh("a", true, "sleep 1000")], no_watchdog());
        let interrupt = trial.interrupt();
        let end = std::thread::spawn(move || eventually("the trial runs", || interrupt.roll_back("restart")));
        trial.run(&short).unwrap();
        end.join().unwrap();
    }
    let mut trial = trial(&machine, &[sh("a", true, "sleep 1000")], no_watchdog());
    assert_eq!(text(trial.run(&short)), "deadline of 2 s passed: check \"a\" has not: 1 attempt");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn a_person_can_end_a_trial_and_only_one_that_runs() {
    let machine = Machine::new();
    let mut trial = trial(&machine, &[sh("a", true, "sleep 1000")], no_watchdog());
    let interrupt = trial.interrupt();
    assert!(!interrupt.roll_back("too early"));
    let person = interrupt.clone();
    let person =
        std::thread::spawn(move || eventually("the trial runs", || person.roll_back("a technician said so")));
    assert_eq!(text(trial.run(&deployment(1))), "a technician said so");
    person.join().unwrap();
    assert!(!interrupt.roll_back("too late"));
}

#[test]
fn a_watchdog_that_comes_late_is_waited_for() {
    let machine = Machine::new();
    let (feeder, heard) = recorded(2);
    let mut trial = trial(&machine, &[sh("a", true, "true")], feeder);
    assert_eq!(text(trial.run(&deployment(1))), "");
    assert_eq!(heard.try_iter().next().map(|(_, what)| what), Some("arm"));
}

#[test]
fn without_the_watchdog_that_the_board_promises_there_is_no_healthy_trial() {
    let machine = Machine::new();
    let (feeder, _heard) = recorded(u32::MAX);
    let mut trial = trial(&machine, &[sh("a", true, "true")], feeder);
    let verdict = trial.run(&Deployment { deadline_s: 2, ..deployment(1) });
    assert_eq!(text(verdict), "no trial without the board's watchdog: recorder: somebody holds it");
}

#[test]
fn a_trial_whose_beginning_cannot_be_noted_is_a_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let machine = Machine::new();
    let run: &Path = &file.path().join("run");
    let mut trial = HealthTrial::with_guard(machine.setup(), Vec::new(), run, no_watchdog(), Arc::default());
    assert!(trial.run(&deployment(1)).unwrap_err().what.contains("trial: read"));
}

#[test]
fn without_watchdog_and_guard_there_is_no_healthy_trial() {
    let machine = Machine::new();
    let broken = machine.setup().with_program(["false"]);
    let run = |feeder| {
        let mut trial =
            HealthTrial::with_guard(broken.clone(), Vec::new(), &machine.run(), feeder, Arc::default());
        text(trial.run(&deployment(1)))
    };
    assert!(
        run(no_watchdog())
            .starts_with("neither watchdog nor second guard: second guard: expected it to stand")
    );
    assert_eq!(run(recorded(0).0), "", "under the watchdog alone");
}
