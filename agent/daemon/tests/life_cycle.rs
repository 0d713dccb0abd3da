//! The life of a gateway that is updated by hand: the real binary over many boots, and a daemon that is asked, stopped
//! and killed in each of its phases. No broker.
//!
//! Goal: whatever happens in whichever phase, the machine comes up with what its bootloader was told, the daemon says
//! so, and nobody who asks it waits for nothing.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_good_bundle_is_committed_after_its_trial_and_its_floor_holds() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 4));
    assert_eq!(machine.gateway.boot_state().select(), Some(Group::B));
    machine.until(&["\"running\":\"B\"", "\"floor\":4", "\"committed\":true"]);
    let said = machine.install(&Workshop::new("1.9", 3), &[]);
    assert!(!said.ok && said.text.contains("the floor is security version 4, the bundle has 3"), "{said:?}");
    // The way back is open, and the next update goes into it.
    machine.bring_to(&Workshop::new("2.1", 4));
    assert_eq!(machine.gateway.boot_state().select(), Some(Group::A));
}

#[test]
fn an_unhealthy_trial_ends_in_the_group_before_and_the_bundle_is_not_tried_again_unless_told_to() {
    let mut machine = Machine::new(HEALTHY_FILE);
    machine.start();
    let bundle = Workshop::new("2.0", 1); // a deadline of 5 s
    assert!(machine.install(&bundle, &[]).ok);
    machine.until_it_goes_down();
    assert_eq!(machine.boot(), Group::B);
    machine.until_it_goes_down();
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"phase\":\"settled\"", "\"kind\":\"rolled-back\"", "plant"]);
    let said = machine.install(&bundle, &[]);
    assert!(!said.ok && said.text.contains("failed here before; install it with --retry"), "{said:?}");
    machine.gateway.put("healthy", b"");
    assert!(machine.install(&bundle, &["--retry"]).ok);
    machine.until_it_goes_down();
    machine.boot();
    machine.until(&["\"kind\":\"committed\""]);
}

#[test]
fn an_image_that_never_comes_up_uses_its_tries_up_and_the_fallback_is_said() {
    let mut machine = Machine::new("");
    machine.start();
    assert!(machine.install(&Workshop::new("2.0", 1), &[]).ok);
    machine.until_it_goes_down();
    // The power goes three times while the image comes up.
    let tried = [(); 3].map(|()| machine.boot_without_daemon());
    assert_eq!(tried, [Group::B; 3]);
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"kind\":\"fell-back\"", "all tries used up", "\"unreported\":1"]);
    assert_eq!(machine.gateway.boot_state().select(), Some(Group::A));
}

/// A committed group dies months later: the bootloader goes back by itself, and a gateway that said nothing would let
/// everybody believe that it runs what it does not.
#[test]
fn a_late_fallback_is_noticed_logged_and_waits_to_be_reported() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 1));
    machine.loads[1] = false;
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"running\":\"A\"", "\"kind\":\"fell-back\"", "late fallback", "\"unreported\":2"]);
    let log = machine.gateway.run(&["log"]);
    assert!(log.ok && log.text.contains("late fallback"), "{log:?}");
    machine.until_log("settled: 2.0 fell-back: late fallback");
}

#[test]
fn what_runs_already_is_not_installed_again_unless_told_to() {
    let mut machine = Machine::new("");
    let bundle = Workshop::new("2.0", 1);
    machine.bring_to(&bundle);
    let before = machine.gateway.medium();
    let said = machine.install(&bundle, &[]);
    assert!(said.ok && said.text.contains("2.0 runs already, in group B: nothing to do"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before);
    assert!(machine.install(&bundle, &["--retry"]).ok);
    assert!(holds(&machine.gateway.path("slot-a"), &bundle.content));
}

#[test]
fn a_command_in_a_trial_is_answered_at_once_and_a_rollback_ends_it() {
    let mut machine = Machine::new(HEALTHY_FILE);
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    machine.start();
    assert!(machine.install(&bundle, &[]).ok);
    machine.until_it_goes_down();
    machine.boot();
    machine.until_log("check \"plant\": attempt 1 failed");
    let begun = Instant::now();
    for words in [&["mark", "good"][..], &["approve"], &["cancel"], &["mark", "bad", "other"]] {
        let said = machine.gateway.run(words);
        assert!(
            !said.ok && said.text.contains("a trial is on") && said.text.contains("rollback"),
            "{said:?}"
        );
    }
    let said = machine.install(&Workshop::new("2.1", 1), &[]);
    assert!(!said.ok && said.text.contains("a trial is on"), "{said:?}");
    machine.until(&["\"phase\":\"trial\""]);
    let said = machine.gateway.run(&["rollback"]);
    assert!(said.ok && said.text.contains("going back"), "{said:?}");
    machine.until_it_goes_down();
    quickly("being answered in a trial", begun);
    // It used to be said in the outcome alone; and it stands there before the machine goes down.
    let log = machine.gateway.run(&["log"]).text;
    assert_eq!(log.matches(" rolled-back-by-hand ").count(), 1, "{log}");
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"kind\":\"rolled-back\"", "a technician said so"]);
}

#[test]
fn a_daemon_that_is_killed_in_its_trial_goes_on_with_it() {
    let mut machine = Machine::new(HEALTHY_FILE);
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    machine.start();
    assert!(machine.install(&bundle, &[]).ok);
    machine.until_it_goes_down();
    machine.boot();
    machine.until_log("check \"plant\": attempt 1 failed");
    machine.kill();
    machine.gateway.put("healthy", b"");
    machine.start();
    machine.until(&["\"kind\":\"committed\"", "\"running\":\"B\""]);
    assert!(!machine.goes_down());
}

#[test]
fn sigterm_ends_the_daemon_in_every_phase_and_the_next_start_goes_on() {
    let mut machine = Machine::new(&format!("[update]\nreboot = \"approve\"\n{HEALTHY_FILE}"));
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    let end = |machine: &mut Machine, phase: &str| {
        machine.until(&[&format!("\"phase\":\"{phase}\"")]);
        let (status, took) = machine.terminate();
        assert_eq!(status.code(), Some(0), "{phase}: {status}");
        assert!(took < Duration::from_secs(9), "{phase}: {took:?}");
        assert!(!machine.gateway.path("run/control.sock").exists(), "{phase}");
        machine.start();
    };
    machine.start();
    end(&mut machine, "idle");

    // A file that stops in the middle, and nobody who sends the rest.
    let bytes = bundle.bytes();
    let mut half = ask(&machine, "install", &bytes[..bytes.len() / 2]);
    end(&mut machine, "downloading");
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    assert!(answer.contains("! the agent went down"), "{answer}");

    assert!(machine.install(&bundle, &[]).text.contains("it waits for approval"));
    end(&mut machine, "installed");
    machine.until(&["\"waiting\":\"approval"]);
    assert!(machine.gateway.run(&["approve"]).ok);
    machine.until_it_goes_down();
    machine.boot();
    machine.until_log("check \"plant\": attempt 1 failed");
    end(&mut machine, "trial");
    machine.gateway.put("healthy", b"");
    machine.until(&["\"kind\":\"committed\""]);
    end(&mut machine, "settled");
}

/// Connects as a command would, and sends the request and the beginning of a bundle.
fn ask(machine: &Machine, request: &str, bundle: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(machine.gateway.path("run/control.sock")).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    stream.write_all(bundle).unwrap();
    stream
}

/// Somebody forgot a `mainstay install -` on a console. That used to stop the agent, SIGTERM, and in the end the
/// watchdog's feeding.
#[test]
fn a_bundle_that_does_not_come_keeps_nobody_else_waiting() {
    let mut machine = Machine::new("");
    machine.start();
    let begun = Instant::now();
    let bytes = Workshop::new("2.0", 1).bytes();
    let _nothing = ask(&machine, "install", b"");
    let _some = ask(&machine, "install", &bytes[..20]);
    assert!(machine.gateway.run(&["mark", "good"]).ok);

    let mut half = ask(&machine, "install", &bytes[..bytes.len() / 2]);
    machine.until(&["\"phase\":\"downloading\""]);
    let said = machine.gateway.run(&["cancel"]);
    assert!(said.ok && said.text.contains("cancelled"), "{said:?}");
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    assert!(answer.contains("! 2.0 halted: cancelled by a technician"), "{answer}");
    machine.until(&["\"kind\":\"halted\""]);
    quickly("a cancel while a bundle does not come", begun);
    // All four places may be taken by people who do not go on; then it says so.
    let _more = [(); 2].map(|()| ask(&machine, "install", b""));
    let said = machine.gateway.run(&["status"]);
    assert!(said.text.contains("too many commands at once"), "{said:?}");
}

#[test]
fn a_technician_who_goes_away_in_the_middle_of_an_install_leaves_a_truthful_outcome() {
    let mut machine = Machine::new("");
    machine.start();
    let bytes = Workshop::new("2.0", 1).bytes();
    let half = ask(&machine, "install", &bytes[..bytes.len() / 2]);
    machine.until(&["\"phase\":\"downloading\""]);
    drop(half);
    machine.until(&["\"kind\":\"failed\"", "cut short"]);
    assert!(!machine.gateway.boot_state().b.bootable());
    assert!(machine.install(&Workshop::new("2.0", 1), &[]).ok, "and the next one is taken");
}

#[test]
fn a_second_daemon_is_refused_and_does_the_first_no_harm() {
    let mut machine = Machine::new("");
    machine.start();
    let second = machine.gateway.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said: Said = second.into();
    assert!(said.text.contains("another mainstay holds it"), "{said:?}");
    machine.until(&["\"daemon\":true"]);
}

#[test]
fn a_rollback_by_hand_reboots_into_the_other_group_and_stays_there() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 1));
    let said = machine.gateway.run(&["rollback"]);
    assert!(said.ok && said.text.contains("group A is booted next: rebooting"), "{said:?}");
    machine.until_it_goes_down();
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"running\":\"A\"", "\"kind\":\"rolled-back\""]);
}

/// Two resets were seen where one was asked for: each piece of news on the way down made the agent ask again, where a
/// technician said `rollback` twice, or where the reboot command said that it failed while the machine went down all
/// the same.
#[test]
fn a_machine_on_its_way_down_is_not_asked_again_for_each_word_that_comes() {
    #[rustfmt::skip]
    let cases = [
        // going down        the reboot command ends with   said meanwhile
        (Way::IntoTheTrial,  0,                             "approve"),
        (Way::IntoTheTrial,  1,                             "approve"),
        (Way::Back,          0,                             "rollback"),
        (Way::Back,          1,                             "rollback"),
    ];
    for (way, code, word) in cases {
        let mut machine = Machine::new("[update]\nretry_s = 3600");
        let before = match way {
            Way::IntoTheTrial => {
                machine.reboot_command_ends_with(code);
                machine.start();
                let bundle = machine.bundle_file(&Workshop::new("2.0", 1));
                let mut install = machine.gateway.command(&["install", "--reboot"]);
                let mut install = install.arg(bundle).stdout(Stdio::null()).spawn().unwrap();
                machine.until_it_goes_down();
                let _ = install.kill(); // where the reboot failed, it waits for another
                let _ = install.wait();
                0
            }
            Way::Back => {
                machine.bring_to(&Workshop::new("2.0", 1));
                machine.reboot_command_ends_with(code);
                machine.power_off();
                machine.start();
                machine.until(&["\"kind\":\"committed\""]);
                machine.gateway.run(&["rollback"]);
                machine.asked_reboots() - 1
            }
        };
        machine.until_it_goes_down();
        for _ in 0..5 {
            machine.gateway.run(&[word]);
        }
        // Each answer came from the agent's own thread, so what it would have asked for has been asked.
        assert_eq!(machine.asked_reboots() - before, 1, "{way:?}, {code}: {}", machine.log());
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    IntoTheTrial,
    Back,
}

#[test]
fn many_commands_leave_neither_files_nor_threads_nor_children_behind() {
    let mut machine = Machine::new("");
    machine.start();
    let bundle = Workshop::new("2.0", 1).bytes();
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", machine.pid())).unwrap().count();
    let round = || {
        for words in [&["status"][..], &["mark", "good"], &["approve"], &["cancel"], &["rollback"]] {
            machine.gateway.run(words);
        }
        drop(ask(&machine, "nonsense", b""));
        let mut half = ask(&machine, "install", &bundle[..bundle.len() / 2]);
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = half.read_to_string(&mut String::new());
        (count("fd"), count("task"))
    };
    round();
    let (files, threads) = round();
    for _ in 0..10 {
        round();
    }
    support::eventually(PATIENCE, "as many files and threads as before", || {
        count("fd") <= files && count("task") <= threads
    });
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", machine.pid()));
    assert_eq!(children.unwrap_or_default(), "");
}
