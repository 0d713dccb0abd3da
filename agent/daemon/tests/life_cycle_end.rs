//! Factory reset and decommission, with the real binary: asked of a daemon and without one, refused by name where they may
//! not be, killed in the middle, and told to an operator over a real Mosquitto.
//!
//! Goal: what was said to be erased is gone and nothing else is; a gateway that was killed on the way goes on by itself;
//! and one that was decommissioned boots, says so, and does nothing else, however often it is started.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay::store::FolderStore;
use mainstay_core::boot::Group;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::report::Availability;
use mainstay_core::seam::{StateFile, StateStore};
use mainstay_core::topic::Leaf;
use mainstay_core::update::{Record, Service};
use std::path::Path;
use std::process::Command;

const ERASES: &str = "[reset]\nerase = [\"data\", \"settings\"]\n";
const BROKER: &str = "[broker]\nurl = \"mqtt://127.0.0.1:9\"\nallow_plain = true\ngroup = \"line-1\"\n\
                      cert = \"gw-1.pem\"\nkey = \"gw-1.key\"\n";

/// With data in a folder and in a file, a key, and a neighbour that nobody named.
fn machine(config: &str) -> Machine {
    let machine = Machine::new(&format!("{config}\n{ERASES}"));
    fill(&machine.gateway);
    machine
}

fn fill(gateway: &Gateway) {
    std::fs::create_dir_all(gateway.path("data/recipes/old")).unwrap();
    for file in ["data/recipes/old/1", "data/counter", "settings", "neighbour", "gw-1.pem", "gw-1.key"] {
        gateway.put(file, b"something");
    }
}

fn names(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn is_erased(gateway: &Gateway) -> bool {
    names(&gateway.path("data")) == 0 && !gateway.path("settings").exists()
}

fn has_key(gateway: &Gateway) -> [bool; 2] {
    ["gw-1.pem", "gw-1.key"].map(|file| gateway.path(file).exists())
}

fn record(gateway: &Gateway) -> Record {
    mainstay::run::journal(&mut FolderStore::look(&gateway.path("state"))).unwrap()
}

/// As a power cut leaves it that comes right after the record.
fn begin(gateway: &Gateway, service: Service) {
    let mut bytes = [0; RECORD_BYTES_MAX];
    let record = Record { service, ..record(gateway) };
    let mut store = FolderStore::open(&gateway.path("state")).unwrap();
    store.persist(StateFile::Journal, record.encode(&mut bytes).unwrap()).unwrap();
}

fn audited(machine: &Machine, words: &str) -> bool {
    let said = machine.gateway.run(&["log"]);
    assert!(said.ok, "the chain holds: {said:?}");
    said.text.contains(words)
}

#[test]
fn what_cannot_be_taken_back_is_said_first_and_nothing_is_done_without_yes() {
    let machine = machine(BROKER);
    #[rustfmt::skip]
    let cases: [(&[&str], &[&str]); 5] = [
        (&["factory-reset"],                   &["/data\n", "/settings\n", "stays: both groups", "--yes"]),
        (&["decommission", "gw-1"],            &["/data\n", "/gw-1.key\n", "nothing leads back", "--yes"]),
        (&["decommission", "--yes", "gw-2"],   &["this gateway is gw-1, not gw-2"]),
        (&["decommission", "--yes"],           &["expected the NAME"]),
        (&["factory-reset", "--yes", "gw-1"],  &["one word too many"]),
    ];
    for (words, expected) in cases {
        let said = machine.gateway.run(words);
        assert!(!said.ok && expected.iter().all(|word| said.text.contains(word)), "{words:?}: {said:?}");
    }
    assert!(!is_erased(&machine.gateway) && has_key(&machine.gateway) == [true, true]);
    assert!(!machine.gateway.path("state").exists(), "nor is anything begun");
}

#[test]
fn a_factory_reset_erases_what_is_named_and_keeps_release_floor_key_and_log() {
    for with_daemon in [true, false] {
        let mut machine = machine("");
        machine.bring_to(&Workshop::new("2.0", 4));
        let before = record(&machine.gateway);
        if !with_daemon {
            machine.power_off();
        }
        let medium = machine.gateway.medium();
        let said = machine.gateway.run(&["factory-reset", "--yes"]);
        assert!(said.ok && said.text.contains("the factory reset is done: rebooting"), "{said:?}");
        assert!(is_erased(&machine.gateway) && machine.gateway.path("neighbour").exists());
        assert_eq!(machine.gateway.medium(), medium, "no slot, no environment");
        machine.until_it_goes_down();
        assert_eq!(machine.boot(), Group::B, "what ran, runs");
        machine.until(&["\"service\":\"in-service\"", "\"floor\":4", "\"running\":\"B\""]);
        let after = record(&machine.gateway);
        assert_eq!((after.floor, after.attempts, &after.phase), (4, before.attempts, &before.phase));
        assert!(
            audited(&machine, "factory-reset step=begun") && audited(&machine, "factory-reset step=done")
        );
        let said = machine.install(&Workshop::new("1.9", 3), &[]);
        assert!(!said.ok && said.text.contains("the floor is security version 4"), "no downgrade: {said:?}");
        assert!(machine.install(&Workshop::new("2.1", 4), &[]).ok, "and the next update is taken");
    }
}

#[test]
fn what_failed_here_is_forgotten_and_a_plant_that_approves_reboots_is_not_rebooted() {
    let mut machine = machine("[update]\nreboot = \"approve\"");
    machine.start();
    let mut failed = record(&machine.gateway);
    machine.kill();
    failed.remember_failed(mainstay_core::digest::Digest([7; 32]));
    let mut bytes = [0; RECORD_BYTES_MAX];
    let mut store = FolderStore::open(&machine.gateway.path("state")).unwrap();
    store.persist(StateFile::Journal, failed.encode(&mut bytes).unwrap()).unwrap();
    drop(store);
    machine.start();
    let said = machine.gateway.run(&["factory-reset", "--yes"]);
    assert!(said.ok && said.text.contains("reboot when the plant allows it"), "{said:?}");
    assert!(is_erased(&machine.gateway) && !machine.goes_down());
    assert!(record(&machine.gateway).failed.is_empty());
}

#[test]
fn neither_is_begun_while_an_update_is_under_way_or_a_trial_is_on() {
    let mut machine = machine(&format!("{BROKER}[update]\nreboot = \"approve\"\n{HEALTHY_FILE}"));
    let asked: [&[&str]; 2] = [&["factory-reset", "--yes"], &["decommission", "--yes", "gw-1"]];
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 600;
    for with_daemon in [false, true] {
        if with_daemon {
            machine.start();
        }
        let said = machine.install(&bundle, &[]);
        assert!(said.ok && said.text.contains("it waits for approval"), "{said:?}");
        for words in asked {
            let said = machine.gateway.run(words);
            assert!(!said.ok && said.text.contains("an update is under way; `mainstay cancel`"), "{said:?}");
        }
    }
    assert!(machine.gateway.run(&["approve"]).ok);
    machine.until_it_goes_down();
    assert_eq!(machine.boot(), Group::B);
    machine.until(&["\"phase\":\"trial\""]);
    for words in asked {
        let said = machine.gateway.run(words);
        assert!(!said.ok && said.text.contains("a trial is on"), "{said:?}");
    }
    machine.kill();
    for words in asked {
        let said = machine.gateway.run(words);
        assert!(!said.ok && said.text.contains("a trial is on"), "without a daemon: {said:?}");
    }
    assert!(!is_erased(&machine.gateway) && has_key(&machine.gateway) == [true, true]);
    assert_eq!(record(&machine.gateway).service, Service::In);
}

/// A power cut between the record and the first thing erased: nobody has to ask again.
#[test]
fn what_was_begun_is_gone_on_with_at_the_next_start() {
    for service in [Service::Resetting, Service::Decommissioning(1_770_000_000)] {
        let mut machine = machine(BROKER);
        machine.start();
        machine.kill();
        begin(&machine.gateway, service);
        machine.start();
        match service {
            Service::Resetting => {
                machine.until_it_goes_down();
                machine.until(&["\"service\":\"in-service\""]);
                assert_eq!(has_key(&machine.gateway), [true, true]);
            }
            _ => {
                machine.until(&["\"service\":\"decommissioned\"", "\"out_since\":1770000000"]);
                assert_eq!(has_key(&machine.gateway), [false, false]);
            }
        }
        assert!(is_erased(&machine.gateway), "{service:?}");
    }
}

/// SIGKILL somewhere among some thousand files.
#[test]
fn a_daemon_that_is_killed_while_it_erases_goes_on_until_all_of_it_is_gone() {
    let mut machine = machine("");
    for n in 0..4000 {
        machine.gateway.put(&format!("data/{n}"), b"x");
    }
    machine.start();
    let mut command = machine.gateway.command(&["factory-reset", "--yes"]);
    let mut asked = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let data = machine.gateway.path("data");
    support::eventually(PATIENCE, "the first file to go", || names(&data) < 4002);
    machine.kill();
    let _ = asked.wait();
    println!("{} of 4002 were left", names(&data));
    machine.start();
    machine.until(&["\"service\":\"in-service\""]);
    assert!(is_erased(&machine.gateway));
    assert!(audited(&machine, "factory-reset step=done"));
}

#[test]
fn what_stands_in_the_way_is_named_it_stays_begun_and_ends_when_it_is_gone() {
    let mut machine = machine(BROKER);
    machine.start();
    // Between the look before it begins and the erasing nobody can come in a test: so it has begun already.
    machine.kill();
    std::fs::remove_dir_all(machine.gateway.path("data")).unwrap();
    std::os::unix::fs::symlink(machine.gateway.path("state"), machine.gateway.path("data")).unwrap();
    let said = machine.gateway.run(&["factory-reset", "--yes"]);
    assert!(!said.ok && said.text.contains("expected nothing there that the agent needs"), "{said:?}");
    assert_eq!(record(&machine.gateway).service, Service::In, "not begun");
    begin(&machine.gateway, Service::Resetting);
    machine.start();
    machine.until(&["\"service\":\"resetting\"", "expected nothing there that the agent needs"]);
    let said = machine.gateway.run(&["factory-reset", "--yes"]);
    assert!(!said.ok && said.text.contains("not done yet, and on record"), "{said:?}");
    let said = machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(!said.ok && said.text.contains("a factory reset is under way"), "{said:?}");
    std::fs::remove_file(machine.gateway.path("data")).unwrap();
    std::fs::create_dir(machine.gateway.path("data")).unwrap();
    machine.until_it_goes_down();
    machine.until(&["\"service\":\"in-service\""]);
}

#[test]
fn a_decommissioned_gateway_boots_says_so_and_takes_nothing_any_more() {
    for with_daemon in [true, false] {
        let mut machine = machine(BROKER);
        machine.bring_to(&Workshop::new("2.0", 4));
        if !with_daemon {
            machine.kill();
        }
        let medium = machine.gateway.medium();
        let said = machine.gateway.run(&["decommission", "--yes", "gw-1"]);
        assert!(said.ok && said.text.contains("revoke its certificate"), "{said:?}");
        assert!(is_erased(&machine.gateway));
        assert_eq!((has_key(&machine.gateway), machine.gateway.medium()), ([false, false], medium));
        assert_eq!(machine.boot(), Group::B, "it is no brick");
        for daemon in [true, false] {
            machine.until(&["\"service\":\"decommissioned\"", "\"floor\":4", "\"running\":\"B\""]);
            assert!(machine.gateway.run(&["status"]).text.contains("takes no update, connects to no broker"));
            let again = machine.gateway.run(&["decommission", "--yes", "gw-1"]);
            assert!(again.ok && again.text.contains("decommissioned since"), "{again:?}");
            for words in [&["factory-reset", "--yes"][..], &["rollback"], &["approve"], &["cancel"]] {
                let said = machine.gateway.run(words);
                assert!(!said.ok && said.text.contains("decommissioned since"), "{words:?}: {said:?}");
            }
            let said = machine.install(&Workshop::new("2.1", 5), &[]);
            assert!(!said.ok && said.text.contains("takes no update any more"), "{said:?}");
            let said = machine.gateway.run(&["doctor"]);
            assert!(
                said.ok && said.text.contains("decommissioned since"),
                "nothing is wrong with it: {said:?}"
            );
            assert!(audited(&machine, "decommissioned step=done"));
            if daemon {
                machine.kill();
            }
        }
    }
}

/// It may lie on what is not mounted now, and would be there again tomorrow.
#[test]
fn a_gateway_whose_key_is_not_there_is_not_decommissioned_and_the_key_is_named() {
    let machine = machine(BROKER);
    std::fs::remove_file(machine.gateway.path("gw-1.key")).unwrap();
    let said = machine.gateway.run(&["decommission", "--yes", "gw-1"]);
    assert!(!said.ok && said.text.contains("gw-1.key"), "{said:?}");
    assert!(!is_erased(&machine.gateway) && record(&machine.gateway).service == Service::In);
}

/// A sandbox that lets the agent write no more than it needs, as `ProtectSystem=strict` does with /etc: nothing must be
/// begun that can never end.
#[test]
fn a_key_in_a_folder_that_cannot_be_written_is_named_before_anything_is_begun() {
    let may = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !may {
        return println!("not run: needs root and a mount namespace of its own");
    }
    let machine = machine(&BROKER.replace("gw-1.key", "keys/gw-1.key"));
    let keys = machine.gateway.path("keys");
    std::fs::create_dir(&keys).unwrap();
    machine.gateway.put("keys/gw-1.key", b"something");
    let script = format!(
        "set -e; mount --bind {keys} {keys}; mount -o remount,bind,ro {keys}; \
         exec {mainstay} --config {config} decommission --yes gw-1",
        keys = keys.display(),
        mainstay = env!("CARGO_BIN_EXE_mainstay"),
        config = machine.gateway.path("mainstay.toml").display(),
    );
    let said: Said = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap().into();
    assert!(!said.ok && said.text.contains("keys/gw-1.key: Read-only file system"), "{said:?}");
    assert!(said.text.contains("stop it"), "and what to do: {said:?}");
    assert!(!is_erased(&machine.gateway) && record(&machine.gateway).service == Service::In);
}

#[test]
fn the_operator_hears_of_a_reset_and_hears_the_last_word_of_a_gateway_before_its_key_is_gone() {
    let Some(mut site) = Site::new("", ERASES) else { return };
    fill(&site.machine.gateway);
    site.machine
        .reconfigure("group = \"line-1\"", "group = \"line-1\"\ncert = \"gw-1.pem\"\nkey = \"gw-1.key\"");
    let states = site.watch(Leaf::State);
    site.machine.start();
    states.presence(|p| p.availability == Availability::Online);
    // While something stands in its way, so that there is time to hear of it.
    site.machine.kill();
    let data = site.machine.gateway.path("data");
    std::fs::rename(&data, site.machine.gateway.path("aside")).unwrap();
    std::os::unix::fs::symlink(site.machine.gateway.path("state"), &data).unwrap();
    begin(&site.machine.gateway, Service::Resetting);
    site.machine.start();
    states.presence(|p| p.availability == Availability::Resetting && p.detail.contains("agent needs"));
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(site.machine.gateway.path("aside"), &data).unwrap();
    let down = states.presence(|p| p.availability == Availability::Rebooting);
    assert_eq!(down.detail.as_str(), "the reboot after a factory reset");
    assert!(is_erased(&site.machine.gateway));
    site.machine.boot();
    states.presence(|p| p.availability == Availability::Online);
    site.machine.until(&["\"state\":\"connected\""]);
    let said = site.machine.gateway.run(&["decommission", "--yes", "gw-1"]);
    assert!(said.ok, "{said:?}");
    states.presence(|p| p.availability == Availability::Decommissioned);
    // What a late watcher hears is that, and no will: the connection was closed, and is not opened again.
    site.machine.until(&["\"service\":\"decommissioned\"", "\"state\":\"none\""]);
    site.machine.kill();
    site.machine.boot();
    let late = site.watch_as("late", Leaf::State);
    late.presence(|p| p.availability == Availability::Decommissioned);
    assert!(late.is_quiet());
    assert_eq!(has_key(&site.machine.gateway), [false, false]);
}

/// A cable that is pulled must not keep a key alive.
#[test]
fn with_the_broker_away_it_is_decommissioned_all_the_same() {
    let Some(mut site) = Site::new("", ERASES) else { return };
    fill(&site.machine.gateway);
    site.machine
        .reconfigure("group = \"line-1\"", "group = \"line-1\"\ncert = \"gw-1.pem\"\nkey = \"gw-1.key\"");
    site.machine.start();
    site.machine.until(&["\"state\":\"connected\""]);
    site.broker.stop();
    let begun = std::time::Instant::now();
    assert!(site.machine.gateway.run(&["decommission", "--yes", "gw-1"]).ok);
    quickly("decommissioning without a broker", begun);
    assert_eq!(has_key(&site.machine.gateway), [false, false]);
}
