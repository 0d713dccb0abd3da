//! A technician's commands where no daemon runs, and where one does: each given to the real binary.
//!
//! Goal: a command does what it says and nothing else, answers, and says what to do when it cannot.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use mainstay_core::copies;
use mainstay_core::seam::StateFile;
use std::process::{Command, Stdio};

#[test]
fn who_stops_reading_ends_no_command() {
    let gateway = Gateway::new();
    for words in [&["status"][..], &["status", "--json"], &["doctor"], &["help"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader); // as in `mainstay status | true`
        let child = gateway.command(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let said: Said = child.wait_with_output().unwrap().into();
        assert!(!said.text.contains("panicked"), "{words:?}: {said:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = gateway.command(&["nonsense"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2), "wrong words are 2, also where nobody listens");
}

/// `log` used eprintln!, which panics where standard error is closed, and a panic is exit code 101.
#[test]
fn every_command_ends_as_it_would_where_nobody_hears_its_words_nor_its_complaints() {
    let gateway = Gateway::new();
    gateway.put("good", &Workshop::new("2.0", 1).bytes());
    gateway.put("bad", b"no bundle");
    let [good, bad] = ["good", "bad"].map(|name| gateway.path(name).display().to_string());
    #[rustfmt::skip]
    let cases: &[(&[&str], i32)] = &[
        (&["help"],                    0),
        (&["version"],                 0),
        (&["status"],                  0),
        (&["status", "--json"],        0),
        (&["log"],                     0),
        (&["verify", &good],           0),
        (&["verify", &bad],            1),
        (&["approve"],                 1),
        (&["cancel"],                  1),
        (&["rollback"],                1),
        (&["mark", "good"],            0),
        (&["mark", "bad", "A"],        1),
        (&["mark", "active", "B"],     1),
        (&["install", &bad],           1),
        (&["install", &good],          0),
        (&["log"],                     0),
        (&["nonsense"],                2),
    ];
    let ends = |words: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let other = writer.try_clone().unwrap();
        gateway.command(words).stdout(writer).stderr(other).status().unwrap().code()
    };
    for (words, code) in cases {
        assert_eq!(ends(words), Some(*code), "{words:?}");
    }
    let doctor = ends(&["doctor"]);
    assert!(matches!(doctor, Some(0 | 1)), "{doctor:?}");
    let log = String::from_utf8(gateway.get("state/audit.log")).unwrap();
    gateway.put("state/audit.log", log.replacen("started", "stopped", 1).as_bytes());
    assert_eq!(ends(&["log"]), Some(1), "a broken chain is 1, also where nobody listens");
}

#[test]
fn an_install_goes_on_when_nobody_reads_its_progress_any_more() {
    let gateway = Gateway::new();
    let bundle = Workshop::new("2.0", 1);
    gateway.put("bundle", &bundle.bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = gateway.command(&["install"]);
    let status = command.arg(gateway.path("bundle")).stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    assert!(holds(&gateway.path("slot-b"), &bundle.content));
}

/// Without a daemon a command works on the state itself, and used to begin by taking further what was under way:
/// `cancel` rebooted into the trial that it was to prevent.
#[test]
fn cancel_without_a_daemon_does_not_first_reboot_into_the_trial() {
    let machine = Machine::new("[update]\nreboot = \"approve\"");
    let said = machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(said.ok && said.text.contains("it waits for approval: `mainstay approve`"), "{said:?}");
    machine.reconfigure("\"approve\"", "\"auto\"");
    let said = machine.gateway.run(&["cancel"]);
    assert!(said.ok && said.text.contains("cancelled"), "{said:?}");
    assert!(!machine.goes_down());
    machine.until(&["\"kind\":\"halted\"", "\"daemon\":false"]);
    assert!(!machine.gateway.boot_state().b.bootable());
}

#[test]
fn approve_without_a_daemon_reboots_into_the_trial_and_rollback_without_one_ends_it() {
    let mut machine = Machine::new("[update]\nreboot = \"approve\"");
    let said = machine.gateway.run(&["approve"]);
    assert!(!said.ok && said.text.contains("nothing waits for a reboot"), "{said:?}");
    assert!(machine.install(&Workshop::new("2.0", 1), &[]).ok);
    assert!(machine.gateway.run(&["approve"]).ok);
    assert!(machine.goes_down());
    assert_eq!(machine.boot_without_daemon(), Group::B);
    let said = machine.gateway.run(&["mark", "good"]);
    assert!(!said.ok && said.text.contains("a trial is on"), "{said:?}");
    let said = machine.gateway.run(&["rollback"]);
    assert!(said.ok && said.text.contains("going back"), "{said:?}");
    assert!(machine.goes_down());
    assert_eq!(machine.boot_without_daemon(), Group::A);
    machine.start();
    machine.until(&["\"kind\":\"rolled-back\"", "a technician said so"]);
}

#[test]
fn the_same_bundle_again_lets_go_what_the_operator_or_the_hours_hold_up() {
    let machine = Machine::new("[update]\nreboot = \"approve\"");
    let bundle = Workshop::new("2.0", 1);
    assert!(machine.install(&bundle, &[]).ok);
    let said = machine.install(&Workshop::new("2.1", 1), &[]);
    assert!(!said.ok && said.text.contains("busy with 2.0") && said.text.contains("cancel"), "{said:?}");
    let said = machine.install(&bundle, &["--reboot"]);
    assert!(said.ok && said.text.contains("rebooting into its trial"), "{said:?}");
    assert!(machine.goes_down());
}

#[test]
fn a_run_folder_that_is_missing_is_made_and_one_that_is_too_long_is_named() {
    let mut machine = Machine::new("");
    machine.reconfigure("run = \"run\"", "run = \"not/there/run\"");
    let mut daemon = machine.gateway.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    support::eventually(PATIENCE, "the socket", || machine.text().contains("\"daemon\":true"));
    let _ = daemon.kill();
    let _ = daemon.wait();
    let long = "x".repeat(100);
    machine.reconfigure("not/there/run", &long);
    let said = machine.gateway.run(&["status"]);
    assert!(!said.ok && said.text.contains("mainstay.toml:5: run: expected a path of at most"), "{said:?}");
    machine.power_off();
}

/// A file system of its own under the state folder, as root in a mount namespace that ends with the command.
fn on_a_state_file_system(machine: &Machine, options: &str, prepare: &str, words: &str) -> Option<Said> {
    let may = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !may {
        println!("not run: needs root and a mount namespace of its own");
        return None;
    }
    let state = machine.gateway.path("state");
    let script = format!(
        "set -e; mkdir -p {state}; cp -a {state} {state}.was; mount -t tmpfs -o {options} none {state}; \
         cp -a {state}.was/. {state}; {prepare}; exec {mainstay} --config {config} {words}",
        state = state.display(),
        mainstay = env!("CARGO_BIN_EXE_mainstay"),
        config = machine.gateway.path("mainstay.toml").display(),
    );
    Some(Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap().into())
}

#[test]
fn a_state_folder_that_is_read_only_or_full_is_named_and_nothing_is_done_that_is_not_on_record() {
    let machine = Machine::new("");
    let bundle = machine.bundle_file(&Workshop::new("2.0", 1));
    let before = machine.gateway.medium();
    let install = format!("install {}", bundle.display());
    let state = machine.gateway.path("state").display().to_string();
    let remount = format!("mount -o remount,ro {state}");
    let Some(said) = on_a_state_file_system(&machine, "size=256k", &remount, &install) else { return };
    assert!(!said.ok && said.text.contains("state/lock: Read-only file system"), "{said:?}");
    // No room: neither for the manifest nor for the record.
    let fill = format!("dd if=/dev/zero of={state}/fill bs=4k 2>/dev/null || true");
    let said = on_a_state_file_system(&machine, "size=64k", &fill, &install).unwrap();
    assert!(!said.ok && said.text.contains("No space left on device"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before);
}

#[test]
fn a_daemon_whose_state_cannot_be_written_says_so_and_goes_on_when_it_can() {
    let may = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !may {
        return println!("not run: needs root and a mount namespace of its own");
    }
    let mut machine = Machine::new("");
    let state = machine.gateway.path("state");
    // The daemon's own namespace: what the test does there, it does through nsenter.
    let script = format!(
        "mkdir -p {state}; mount -t tmpfs -o size=1m none {state}; exec {mainstay} --config {config} run --verbose 2>>{log}",
        state = state.display(),
        mainstay = env!("CARGO_BIN_EXE_mainstay"),
        config = machine.gateway.path("mainstay.toml").display(),
        log = machine.gateway.path("log").display(),
    );
    machine.daemon = Some(Command::new("unshare").args(["-m", "sh", "-c", &script]).spawn().unwrap());
    machine.until(&["\"daemon\":true"]);
    let pid = machine.pid().to_string();
    let there = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        let status = command.args(["-m", "-t", &pid]).args(words).status().unwrap();
        assert!(status.success(), "{words:?}");
    };
    let path = state.display().to_string();
    there(&["sh", "-c", &format!("dd if=/dev/zero of={path}/fill bs=4k 2>&- || true")]);
    let bundle = Workshop::new("2.0", 1);
    let said = machine.install(&bundle, &[]);
    assert!(!said.ok && said.text.contains("No space left on device"), "{said:?}");
    assert!(!holds(&machine.gateway.path("slot-b"), &bundle.content));
    there(&["rm", &format!("{path}/fill")]);
    let said = machine.install(&bundle, &[]);
    assert!(said.ok, "{said:?}");
    assert!(machine.goes_down());
}

#[test]
fn a_trust_root_damaged_in_both_copies_is_named_with_its_remedy_and_no_older_one_is_taken() {
    let machine = Machine::new("");
    assert!(machine.gateway.run(&["mark", "good"]).ok); // makes the state folder
    for copy in ["state/trust.0", "state/trust.1"] {
        machine.gateway.put(copy, b"not a copy");
    }
    let daemon = machine.gateway.command(&["run"]).output().unwrap();
    assert_eq!(daemon.status.code(), Some(1));
    let said: Said = daemon.into();
    assert!(said.text.contains("trust.0") && said.text.contains("remove both copies"), "{said:?}");
}

/// A newer agent wrote the record, its image fell back, and this older one finds it. Other agents have read such state
/// as no state, or as a broken one, and begun anew: the floor, the sequence numbers and the outcome were gone.
#[test]
fn a_record_of_a_newer_agent_stops_this_one_and_is_left_as_it_is() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 5));
    machine.kill();
    let mut copy = vec![0; copies::copy_bytes(StateFile::Journal)];
    copies::write(StateFile::Journal, 1_000, &[2, 1, 2, 3], &mut copy).unwrap();
    machine.gateway.put("state/journal.0", &copy);
    let state = ["state/journal.0", "state/journal.1", "grubenv"].map(|name| machine.gateway.get(name));
    let said: Said = machine.gateway.command(&["run"]).output().unwrap().into();
    assert!(!said.ok && said.text.contains("record: expected format 1, found 2"), "{said:?}");
    let said = machine.install(&Workshop::new("1.0", 1), &[]);
    assert!(!said.ok, "{said:?}");
    assert_eq!(
        ["state/journal.0", "state/journal.1", "grubenv"].map(|name| machine.gateway.get(name)),
        state
    );
}

#[test]
fn doctor_names_the_lines_of_a_board_that_are_not_there() {
    let machine = Machine::new("");
    let board = String::from_utf8(machine.gateway.get("board.toml")).unwrap();
    let line = "[gpio.interlock]\nchip = \"/dev/no-such-gpiochip\"\nline = 4\n";
    machine.gateway.put("board.toml", format!("{board}{line}").as_bytes());
    let said = machine.gateway.run(&["doctor"]);
    assert!(!said.ok && said.text.contains("WRONG interlock"), "{said:?}");
    // It stops no install, and every reboot.
    let said = machine.install(&Workshop::new("2.0", 1), &["--reboot"]);
    assert!(said.ok && said.text.contains("it waits for the interlock"), "{said:?}");
    assert!(!machine.goes_down());
}
