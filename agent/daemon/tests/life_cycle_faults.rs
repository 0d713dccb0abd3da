//! What goes wrong around a gateway that follows its operator: words that are taken back or run out, a second word
//! during the first, an agent that is killed, and a bundle that fails every time it is offered.
//!
//! Goal: each word is answered truthfully and without a restart, and nothing that fails is tried for ever.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use mainstay_core::copies::{copy_bytes, write};
use mainstay_core::digest::Digest;
use mainstay_core::seam::StateFile;
use mainstay_core::topic::Leaf;
use mainstay_core::update::OutcomeKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const APPROVED: &str = "reboot = \"approve\"";
/// Fails at its first attempt while the file is not there.
const STRICT: &str = "[[check]]\nname = \"plant\"\nfile = \"healthy\"\nretries = 0\n";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn until_after(unix_s: u64) {
    support::eventually(PATIENCE, "the end of its time", || now() > unix_s);
}

/// A second update used to be left lying by other agents until somebody restarted them: here each word is answered,
/// whichever phase the one before it is in. (For a download, see
/// `the_operators_halt_drops_a_download_and_a_newer_desire_supersedes_it_also_out_of_turn`.)
#[test]
fn a_second_desired_state_is_taken_without_a_restart_while_the_first_waits_or_is_on_trial() {
    let Some(mut site) = Site::new(APPROVED, HEALTHY_FILE) else { return };
    let mut bundles = ["2.0", "2.1", "2.2"].map(|version| Workshop::new(version, 1));
    bundles.iter_mut().for_each(|bundle| bundle.manifest.trial.deadline_s = 3_600);
    let names = bundles.each_ref().map(|bundle| site.publish(bundle));
    let reports = site.watch(Leaf::Report);
    site.machine.start();
    site.desire(names[0], 1);
    site.machine.until(&["\"phase\":\"installed\"", "\"version\":\"2.0\"", "approval"]);
    site.desire(names[1], 2);
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::Halted, names[0]));
    site.machine.until(&["\"phase\":\"installed\"", "\"version\":\"2.1\"", "approval"]);
    assert!(site.machine.gateway.run(&["approve"]).ok);
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until_log("check \"plant\": attempt 1 failed");
    site.desire(names[2], 3);
    site.machine.gateway.put("healthy", b"");
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::Committed, names[1]));
    site.machine.until(&["\"phase\":\"installed\"", "\"version\":\"2.2\"", "approval"]);
}

/// Both groups would be worn out, and the plant would stop for a reboot again and again, if a bundle that fails were
/// tried whenever it is offered.
#[test]
fn two_bad_bundles_offered_in_turn_are_tried_once_each_and_then_refused_also_after_a_restart() {
    let Some(mut site) = Site::new("", STRICT) else { return };
    let names = ["2.0", "2.1"].map(|version| site.publish(&Workshop::new(version, 1)));
    let reports = site.watch(Leaf::Report);
    site.machine.start();
    for (name, seq) in names.into_iter().zip(1..) {
        site.desire(name, seq);
        site.machine.until_it_goes_down();
        assert_eq!(site.machine.boot(), Group::B);
        site.machine.until_it_goes_down();
        assert_eq!(site.machine.boot(), Group::A);
        let outcome = reports.outcome();
        assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::RolledBack, name));
    }
    let before = site.machine.gateway.medium();
    for seq in 3..=8 {
        if seq == 6 {
            site.machine.until(&["\"unreported\":0"]);
            site.machine.kill();
            site.machine.start();
        }
        let name = names[seq % 2];
        site.desire(name, seq as u64);
        let outcome = reports.outcome();
        assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::Rejected, name), "{seq}");
        assert!(outcome.detail.contains("failed here before"), "{outcome:?}");
    }
    assert_eq!(site.machine.gateway.medium(), before);
    assert!(!site.machine.goes_down());
    assert_eq!(site.machine.gateway.boot_state().select(), Some(Group::A));
}

/// Between two durable effects the simulator kills at each; here the process itself, wherever a person can see it wait.
#[test]
fn an_agent_that_is_killed_in_each_phase_goes_on_and_reports_its_true_outcome() {
    let Some(mut site) = Site::new(APPROVED, HEALTHY_FILE) else { return };
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    let name = site.publish_without_objects(&bundle);
    let reports = site.watch(Leaf::Report);
    let again = |machine: &mut Machine| {
        machine.kill();
        machine.start();
    };
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"downloading\""]);
    again(&mut site.machine);
    site.machine.until(&["\"phase\":\"downloading\"", "\"attempt\":1"]);
    site.publish(&bundle);
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    again(&mut site.machine);
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    assert!(site.machine.gateway.run(&["approve"]).ok);
    site.machine.until_it_goes_down();
    // Armed and on record, and the machine has not gone down yet: the start asks again, and tries stay as they are.
    let (armed, asked) = (site.machine.gateway.get("grubenv"), site.machine.asked_reboots());
    again(&mut site.machine);
    support::eventually(PATIENCE, "a second reboot", || site.machine.asked_reboots() > asked);
    assert_eq!(site.machine.gateway.get("grubenv"), armed);
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until_log("check \"plant\": attempt 1 failed");
    again(&mut site.machine);
    site.machine.gateway.put("healthy", b"");
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest, outcome.attempt), (OutcomeKind::Committed, name, 1));
    // Killed, perhaps, before the broker's acknowledgement was on record: then the same is said once more, and no other.
    again(&mut site.machine);
    site.machine.until(&["\"kind\":\"committed\"", "\"unreported\":0"]);
    let said_again = reports.what_is_left();
    let heard = site.machine.log().matches("desired state of line-1: Run any (sequence 1)").count();
    assert!(said_again.len() <= 1 && said_again.iter().all(|other| *other == outcome), "{said_again:?}");
    // With the acknowledgement on record it is never said again.
    again(&mut site.machine);
    site.machine.until_logged("desired state of line-1: Run any (sequence 1)", heard + 1);
    site.machine.until(&["\"kind\":\"committed\"", "\"unreported\":0"]);
    assert!(reports.is_quiet());
    assert!(!site.machine.goes_down());
    assert_eq!(site.machine.gateway.boot_state().select(), Some(Group::B));
}

/// A manifest's end is an end of beginning: what is proven on the medium before it may still be tried after it.
#[test]
fn a_manifest_that_expires_between_install_and_reboot_is_still_tried_and_committed() {
    let mut machine = Machine::new(&format!("[update]\n{APPROVED}"));
    let mut bundle = Workshop::new("2.0", 1);
    machine.start();
    let expires = now() + 8;
    bundle.manifest.expires = Some(expires);
    let said = machine.install(&bundle, &[]);
    assert!(said.ok, "{said:?}");
    until_after(expires);
    machine.kill();
    machine.start();
    assert!(machine.gateway.run(&["approve"]).ok);
    machine.until_it_goes_down();
    assert_eq!(machine.boot(), Group::B);
    machine.until(&["\"kind\":\"committed\""]);
    let said = machine.install(&bundle, &["--retry"]);
    assert!(!said.ok && said.text.contains("expire"), "{said:?}");
}

/// Nor does either end mean anything to a trial that has begun: what runs is judged by its checks.
#[test]
fn a_manifest_and_a_desired_state_that_expire_during_the_trial_have_no_effect_on_it() {
    let Some(mut site) = Site::new("", HEALTHY_FILE) else { return };
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    let expires = now() + 6;
    bundle.manifest.expires = Some(expires);
    let name = site.publish(&bundle);
    let reports = site.watch(Leaf::Report);
    site.desire_as(name, 1, |d| d.expires = Some(expires));
    site.machine.start();
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until_log("check \"plant\": attempt 1 failed");
    assert!(now() < expires, "too late to see anything");
    until_after(expires);
    // Over a restart, too, which reads the stored manifest anew.
    site.machine.kill();
    site.machine.start();
    site.machine.until_logged("check \"plant\": attempt 1 failed", 2);
    site.machine.gateway.put("healthy", b"");
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest, outcome.attempt), (OutcomeKind::Committed, name, 1));
    assert!(!site.machine.goes_down());
}

/// A technician comes with a stick while the same gateway waits for a bundle by the link. Neither is silently lost: he
/// is told what goes on and what he can do, and after that his bundle is taken; the operator's is reported as dropped.
#[test]
fn an_install_by_file_during_a_download_is_answered_at_once_and_taken_once_the_download_is_dropped() {
    let Some(mut site) = Site::new(APPROVED, "") else { return };
    let (by_link, by_file) = (Workshop::new("2.0", 1), Workshop::new("2.1", 1));
    let name = site.publish_without_objects(&by_link);
    let reports = site.watch(Leaf::Report);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"downloading\"", "\"attempt\":1"]);
    let begun = std::time::Instant::now();
    let said = site.machine.install(&by_file, &[]);
    quickly("an answer", begun);
    assert!(!said.ok && said.text.contains("busy with 2.0: "), "{said:?}");
    assert!(said.text.contains("`mainstay cancel` drops it"), "{said:?}");
    site.machine.until(&["\"phase\":\"downloading\"", "\"version\":\"2.0\""]);
    assert!(site.machine.gateway.run(&["cancel"]).ok);
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::Halted, name));
    let said = site.machine.install(&by_file, &["--reboot"]);
    assert!(said.ok, "{said:?}");
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::B);
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.version.as_str()), (OutcomeKind::Committed, "2.1"));
}

/// The operator's word ran out before the reboot: nobody stands behind it any more, so it waits and says why. A newer
/// word of the operator lets it go on without a restart and without a second download.
#[test]
fn a_desired_state_that_expires_before_the_reboot_holds_it_until_the_operator_says_it_anew() {
    let Some(mut site) = Site::new(APPROVED, "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    let expires = now() + 1;
    site.desire_as(name, 2, |d| d.expires = Some(expires));
    site.machine.until_log("Run any (sequence 2)");
    until_after(expires);
    site.machine.kill();
    site.machine.reconfigure(APPROVED, "reboot = \"auto\"");
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "the operator's word: the last one has expired"]);
    assert!(!site.machine.goes_down());
    site.desire(name, 3);
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until(&["\"kind\":\"committed\"", "\"attempt\":1"]);
}

/// The cable is pulled when the trial begins and nobody ever plugs it in again: no check names the link, so the trial
/// passes, and the gateway settles by itself.
#[test]
fn a_trial_without_any_link_is_committed_and_the_gateway_settles_by_itself() {
    let Some(mut site) = Site::new("", STRICT) else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.machine.gateway.put("healthy", b"");
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    site.broker.stop();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\"", "\"unreported\":1"]);
    // Nothing that cannot be delivered is a reason to go back, nor is a boot without a link.
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until(&["\"kind\":\"committed\"", "\"running\":\"B\"", "\"unreported\":1"]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!site.machine.goes_down());
}

/// After a fallback an agent may find the state of a newer one. To take it for damaged would lower the floor; to be
/// silent would leave a gateway that does nothing, and nobody knows why.
#[test]
fn a_record_of_another_generation_is_named_and_left_as_it_is() {
    let machine = Machine::new("");
    assert!(machine.gateway.run(&["mark", "good"]).ok); // makes the state folder
    let mut copy = vec![0; copy_bytes(StateFile::Journal)];
    write(StateFile::Journal, 1_000, &[2, 0, 0, 0], &mut copy).unwrap();
    machine.gateway.put("state/journal.0", &copy);
    let before = machine.gateway.medium();
    let daemon = machine.gateway.command(&["run"]).output().unwrap();
    assert_eq!(daemon.status.code(), Some(1));
    let said: Said = daemon.into();
    let words = "record: expected format 1, found 2: an agent of another generation wrote it";
    assert!(said.text.contains(words), "{said:?}");
    assert_eq!(machine.gateway.get("state/journal.0"), copy);
    assert_eq!(machine.gateway.medium(), before);
}

/// The same where it is the copies that a newer agent writes otherwise, both or only the newest: read as torn, they would
/// cost the floor, and the next write would go over what the newer agent knows.
#[test]
fn copies_of_another_version_are_named_and_left_as_they_are() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 5));
    machine.kill();
    for copies in [&["state/journal.0"][..], &["state/journal.0", "state/journal.1"]] {
        for name in copies {
            machine.gateway.put(name, &copy_of_version_2(StateFile::Journal, 1_000, b"of later days"));
        }
        let state = || ["state/journal.0", "state/journal.1"].map(|name| machine.gateway.get(name));
        let before = (state(), machine.gateway.medium());
        let words = "state Journal: expected copies of version 1, found 2";
        let said = machine.install(&Workshop::new("1.0", 1), &[]);
        assert!(!said.ok && said.text.contains(words), "{said:?}");
        let said = machine.gateway.run(&["doctor"]);
        assert!(!said.ok && said.text.contains(words), "{said:?}");
        assert!(said.text.contains("the agent does not start, and touches nothing"), "{said:?}");
        let daemon = machine.gateway.command(&["run"]).output().unwrap();
        assert_eq!(daemon.status.code(), Some(1));
        let said: Said = daemon.into();
        assert!(said.text.contains(words), "{said:?}");
        assert_eq!((state(), machine.gateway.medium()), before);
    }
}

/// As `SPEC-state.md` section 2 draws it: what every version keeps is the header's places and the sum.
fn copy_of_version_2(file: StateFile, seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut copy = vec![0; copy_bytes(file)];
    write(file, seq, payload, &mut copy).unwrap();
    copy[4] = 2;
    let sum = Digest::of(&[&copy[..24], payload].concat());
    copy[24..32].copy_from_slice(&sum.0[..8]);
    copy
}
