//! A gateway that follows its operator over a real Mosquitto, through reboots, restarts and a broker that is away, says
//! no, or keeps something back.
//!
//! Goal: what the operator said last is what happens, also after a restart and before the broker is back; and the
//! operator hears how each update ended, truthfully and once it is so.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow};
use mainstay_core::report::Availability;
use mainstay_core::topic::{self, Leaf};
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use mainstay_core::update::{OutcomeKind, PhaseName};
use support::mosquitto::Options;
use support::peer::Peer;

#[test]
fn a_desired_bundle_is_committed_and_the_operator_hears_of_each_step() {
    let Some(mut site) = Site::new("", "") else { return };
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish(&bundle);
    site.desire(name, 1);
    let (states, reports) = (site.watch(Leaf::State), site.watch(Leaf::Report));
    site.machine.start();
    for phase in [PhaseName::Downloading, PhaseName::Verifying, PhaseName::Installed, PhaseName::Trial] {
        let presence = states.presence(|p| p.phase == phase);
        assert_eq!(presence.deployment.map(|(manifest, _)| manifest), Some(name), "{phase:?}");
    }
    // Before it is gone, so that nobody takes the reboot for a gateway that died.
    states.presence(|p| p.availability == Availability::Rebooting);
    site.machine.until_it_goes_down();
    site.machine.boot();
    states.presence(|p| p.availability == Availability::Online && p.phase == PhaseName::Trial);
    let settled = states.presence(|p| p.phase == PhaseName::Settled);
    assert_eq!((settled.running, settled.groups[1].version.as_str()), (Group::B, "2.0"));
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest, outcome.running), (OutcomeKind::Committed, name, Group::B));
    assert_eq!(outcome.running_version.as_str(), "2.0");
    site.machine.until(&["\"unreported\":0"]);
    // A daemon that ends says so by itself; nobody has to wait a minute for its will.
    site.machine.terminate();
    states.presence(|p| p.availability == Availability::Offline);
}

#[test]
fn an_outcome_is_reported_when_the_broker_is_back_though_the_daemon_was_killed_in_between() {
    let Some(mut site) = Site::new("", "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    site.broker.stop(); // for the whole trial
    site.machine.boot();
    site.machine.until(&["\"kind\":\"committed\"", "\"unreported\":1"]);
    site.machine.kill();
    site.machine.start();
    site.machine.until(&["\"unreported\":1"]);
    site.broker.restart();
    let reports = site.watch(Leaf::Report);
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.attempt), (OutcomeKind::Committed, 1));
    site.machine.until(&["\"unreported\":0"]);
}

/// A broker's access control that does not let reports through made the agent send the same one again and again, as
/// fast as the refusals came back.
#[test]
fn a_report_that_the_broker_refuses_is_kept_and_not_sent_again_at_once() {
    let acl = "topic read mainstay/#\ntopic write mainstay/1/plant/d/gw-1/state\n\
               topic write mainstay/1/plant/g/line-1/desired\ntopic write mainstay/1/plant/m/#\n";
    let options = Options { acl: Some(acl), ..Options::default() };
    let Some(mut site) = Site::on(options, "", "") else { return };
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.compatible = "other".try_into().unwrap();
    let name = site.publish_without_objects(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_log("broker refuses: publish mainstay/1/plant/d/gw-1/report");
    // Each of these makes the agent turn.
    for n in 1..=20 {
        site.put(&topic::group_desired("plant", "line-1"), format!("junk {n}").as_bytes());
        site.machine.until_logged("envelope", n);
    }
    site.machine.until(&["\"unreported\":1"]);
    assert_eq!(site.machine.log().matches("broker refuses: publish").count(), 1);
}

/// What the operator said is signed and retained; what stands in the agent's memory is gone after a restart. Until it
/// has heard again, it does not know that it was told to wait.
#[test]
fn an_update_that_was_paused_does_not_reboot_after_a_restart_before_the_operator_was_heard_again() {
    let Some(mut site) = Site::new("reboot = \"approve\"", "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    site.desire_as(name, 2, |d| d.action = DesiredAction::Pause);
    site.machine.until_log("Pause any (sequence 2)");
    site.broker.stop();
    site.machine.kill();
    site.machine.reconfigure("reboot = \"approve\"", "reboot = \"auto\"");
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "none heard since the agent started"]);
    site.broker.restart();
    site.machine.until(&["\"phase\":\"installed\"", "\"waiting\":\"the operator: paused"]);
    assert!(!site.machine.goes_down());
    site.desire(name, 3);
    site.machine.until_it_goes_down();
}

#[test]
fn a_person_can_let_an_update_go_on_while_the_operator_cannot_be_heard() {
    let Some(mut site) = Site::new("reboot = \"approve\"", "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    site.broker.stop();
    site.machine.kill();
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\""]);
    assert!(site.machine.gateway.run(&["approve"]).ok);
    site.machine.until_it_goes_down();
}

#[test]
fn what_a_technician_cancelled_does_not_come_back_until_the_operator_says_something_new() {
    let Some(mut site) = Site::new("", "") else { return };
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish_without_objects(&bundle);
    let reports = site.watch(Leaf::Report);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"downloading\""]);
    let said = site.machine.gateway.run(&["cancel"]);
    assert!(said.ok && said.text.contains("cancelled"), "{said:?}");
    assert_eq!(reports.outcome().kind, OutcomeKind::Halted);
    site.put(&topic::group_desired("plant", "line-1"), b"junk, and not the operator's word");
    site.machine.until_logged("envelope", 1);
    site.machine.until(&[
        "\"phase\":\"settled\"",
        "\"kind\":\"halted\"",
        "\"desired\":\"any (sequence 1, line-1): not",
    ]);
    // A restart used to be news enough: the retained word is heard again, and it was taken for a new one.
    site.desire(name, 1);
    site.machine.until_logged("desired state of line-1: Run any (sequence 1)", 2);
    site.machine.kill();
    site.machine.start();
    site.machine.until_logged("desired state of line-1: Run any (sequence 1)", 3);
    site.machine.until(&["\"kind\":\"halted\"", "\"desired\":\"any (sequence 1, line-1): not taken"]);
    site.desire(name, 2);
    site.machine.until(&["\"phase\":\"downloading\"", "\"attempt\":2"]);
}

#[test]
fn the_operators_halt_drops_a_download_and_a_newer_desire_supersedes_it_also_out_of_turn() {
    let Some(mut site) = Site::new("", "") else { return };
    let (old, new) = (Workshop::new("2.0", 1), Workshop::new("2.1", 1));
    let (old, new) = (site.publish_without_objects(&old), site.publish_without_objects(&new));
    let reports = site.watch(Leaf::Report);
    site.machine.start();
    site.desire(old, 1);
    site.machine.until(&["\"phase\":\"downloading\"", "\"attempt\":1"]);
    // A halt that names another bundle: nobody is to go on with any.
    site.desire_as(new, 2, |d| d.action = DesiredAction::Halt);
    site.machine.until(&["\"kind\":\"halted\"", "withdrawn by the operator"]);
    assert_eq!(reports.outcome().kind, OutcomeKind::Halted);
    site.desire(old, 3);
    site.machine.until(&["\"phase\":\"downloading\"", "\"attempt\":2"]);
    // The new one is for nobody yet, but the old one is desired no more.
    site.desire_as(new, 4, |d| d.rollout_bp = 0);
    site.machine.until(&["\"kind\":\"halted\"", "superseded", "the rollout is at 0"]);
    site.desire_as(new, 5, |d| d.rollout_bp = 10_000);
    site.machine.until(&["\"phase\":\"downloading\"", "\"version\":\"2.1\""]);
}

/// The group is told to take 2.1; this gateway has a word of its own, 2.0. Whoever can clear a retained message must not
/// be able to choose between the two.
#[test]
fn the_word_for_one_gateway_outranks_its_groups_also_where_the_broker_keeps_it_back() {
    let Some(mut site) = Site::new("", "") else { return };
    let (mine, groups) = (Workshop::new("2.0", 1), Workshop::new("2.1", 1));
    let (mine, groups) = (site.publish_without_objects(&mine), site.publish_without_objects(&groups));
    site.desire(groups, 7);
    site.desire_for_device(mine, 3, |d| d.action = DesiredAction::Pause);
    site.machine.start();
    site.machine.until(&["\"desired\":\"any (sequence 3, d/gw-1): the operator: paused\""]);
    site.put(&topic::device("plant", "gw-1", Leaf::Desired), b""); // cleared, by whomever
    site.machine.until_log("desired state of d/gw-1: the broker holds none");
    site.machine.kill();
    site.machine.start();
    site.machine.until_logged("desired state of line-1: Run any (sequence 7)", 2);
    site.machine.until(&["\"phase\":\"idle\"", "\"desired\":null"]);
    // Handed back: one more word of its own, which has expired.
    site.desire_for_device(mine, 4, |d| d.expires = Some(d.signed_at));
    site.machine.until(&["\"phase\":\"downloading\"", "\"version\":\"2.1\""]);
    site.machine.kill();
    site.machine.start();
    site.machine.until(&["\"desired\":\"any (sequence 7, line-1)"]);
}

/// It would raise the time floor for good, and every certificate would look expired from then on.
#[test]
fn a_desired_state_from_the_far_future_is_refused_and_the_next_one_is_taken() {
    let Some(mut site) = Site::new("", "") else { return };
    let name = site.publish_without_objects(&Workshop::new("2.0", 1));
    site.machine.start();
    site.desire_as(name, 9, |d| d.signed_at = 40_000_000_000);
    site.machine.until(&["signed at 40000000000, expected at most 30 days after now"]);
    site.machine.until(&["\"phase\":\"idle\"", "\"desired\":null"]);
    // Its number counts for nothing either: the operator signs the same again, with the clock put right.
    site.desire(name, 2);
    site.machine.until(&["\"phase\":\"downloading\"", "any (sequence 2, line-1)"]);
}

#[test]
fn a_desired_state_that_expires_while_the_agent_runs_counts_no_more() {
    let Some(mut site) = Site::new("", "") else { return };
    let name = site.publish_without_objects(&Workshop::new("2.0", 1));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    site.machine.start();
    site.desire_as(name, 1, |d| {
        d.window = Some(MaintenanceWindow { not_before: now + 3_600, spread_s: 0 });
        d.expires = Some(now + 3);
    });
    site.machine.until(&["its turn in the window"]);
    // The agent looks around by itself only once a minute; anything that comes makes it look at once.
    support::eventually(life::PATIENCE, "expiry", || {
        site.put(&topic::group_desired("plant", "line-1"), b"anything");
        site.machine.text().contains("\"desired\":null")
    });
    site.machine.until_log("desired state of line-1: expired at");
}

#[test]
fn an_update_by_hand_goes_on_whatever_comes_from_the_broker_meanwhile() {
    let Some(mut site) = Site::new("reboot = \"approve\"", "") else { return };
    let other = site.publish_without_objects(&Workshop::new("2.1", 1));
    site.machine.start();
    site.machine.until(&["\"state\":\"connected\""]);
    let bundle = Workshop::new("2.0", 1);
    let bytes = bundle.bytes();
    let mut command = site.machine.gateway.command(&["install"]);
    command.arg("-").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut install = command.spawn().unwrap();
    let mut input = install.stdin.take().unwrap();
    use std::io::Write;
    input.write_all(&bytes[..bytes.len() / 2]).unwrap();
    site.machine.until(&["\"phase\":\"downloading\""]);
    // A stranger's, and the operator's own, in the middle of a file that can be read only once.
    site.put(&topic::group_desired("plant", "line-1"), b"junk");
    site.desire(other, 1);
    let approved = site.machine.gateway.command(&["approve"]).spawn().unwrap();
    input.write_all(&bytes[bytes.len() / 2..]).unwrap();
    drop(input);
    let said: Said = install.wait_with_output().unwrap().into();
    assert!(said.ok, "{said:?}");
    let approved: Said = approved.wait_with_output().unwrap().into();
    assert!(approved.ok, "{approved:?}");
    site.machine.until_it_goes_down();
    assert!(holds(&site.machine.gateway.path("slot-b"), &bundle.content));
}

#[test]
fn junk_cuts_no_download_short() {
    let Some(mut site) = Site::new("", "") else { return };
    let name = site.publish_without_objects(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_log("bulk connection: pulling");
    let old = desired("line-1", name, 0, |_| {});
    for n in 0..5 {
        let topics = [topic::group_desired("plant", "line-1"), topic::trust("plant", 2)];
        site.put(&topics[n % 2], format!("junk {n}").as_bytes());
    }
    site.put(&topic::group_desired("plant", "line-1"), &old); // signed, but old
    site.machine.until(&["\"phase\":\"downloading\""]);
    // The same bundle to more gateways is no reason to begin anew either; a halt is.
    site.desire_as(name, 2, |d| d.salt = 1);
    site.desire_as(name, 3, |d| d.action = DesiredAction::Halt);
    site.machine.until(&["\"kind\":\"halted\""]);
    let cuts = site.machine.log().matches("writing the target group: ").count();
    assert_eq!(cuts, 1, "one download, cut short once:\n{}", site.machine.log());
}

#[test]
fn a_trial_that_failed_is_reported_as_that_and_not_again_as_a_refusal() {
    let Some(mut site) = Site::new("", HEALTHY_FILE) else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    let reports = site.watch(Leaf::Report);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until_it_goes_down();
    assert_eq!(site.machine.boot(), Group::A);
    assert_eq!(reports.outcome().kind, OutcomeKind::RolledBack);
    site.machine.until(&["\"unreported\":0", "its trial failed here"]);
    assert!(reports.is_quiet());
    // Said anew, it is answered.
    site.desire(name, 2);
    let outcome = reports.outcome();
    assert_eq!(outcome.kind, OutcomeKind::Rejected);
    assert!(outcome.detail.contains("failed here before"), "{outcome:?}");
}

#[test]
fn a_rollback_by_hand_is_not_undone_by_what_the_operator_desires() {
    let Some(mut site) = Site::new("", "") else { return };
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until(&["\"kind\":\"committed\"", "\"state\":\"connected\"", "runs"]);
    let other = site.publish(&Workshop::new("2.1", 1));
    assert!(site.machine.gateway.run(&["rollback"]).ok);
    // Group A is on its way up: writing into it now would take the way back away.
    site.desire(other, 2);
    site.machine.until_log("Run any (sequence 2)");
    site.machine.until_it_goes_down();
    assert!(site.machine.gateway.boot_state().a.bootable());
    site.desire(name, 3);
    assert_eq!(site.machine.boot(), Group::A);
    site.machine.until(&["\"running\":\"A\"", "\"kind\":\"rolled-back\""]);
}

/// Version `version` of the root; `release` is the one key that may sign releases.
fn rotated(version: u32, release: u8) -> Vec<u8> {
    let keys = [ROOT, RELEASE, RELEASE_TWO, OPERATOR].map(|seed| key(seed).verifying_key().to_bytes());
    let role = |members| RoleMembers { threshold: 1, members };
    let release = if release == RELEASE { 0b0010 } else { 0b0100 };
    let root = TrustRoot {
        fleet: "plant".try_into().unwrap(),
        version,
        keys: keys.into_iter().collect(),
        roles: [role(0b0001), role(release), role(0b1000), RoleMembers { threshold: 0, members: 0 }],
    };
    seal(MessageKind::TrustRoot, &root.encode().unwrap(), &[&key(ROOT)]).unwrap()
}

#[test]
fn a_gateway_that_slept_through_two_rotations_walks_both_and_follows_the_new_signer() {
    let Some(mut site) = Site::new("", "") else { return };
    site.put(&topic::trust("plant", 2), &rotated(2, RELEASE));
    site.put(&topic::trust("plant", 3), &rotated(3, RELEASE_TWO));
    let mut bundle = Workshop::new("2.0", 1);
    bundle.signers = vec![RELEASE_TWO];
    let name = site.publish(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"trust_version\":3"]);
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until(&["\"trust_version\":3", "\"kind\":\"committed\""]);
}

#[test]
fn a_bundle_that_waits_for_its_reboot_is_dropped_when_its_signer_is_revoked() {
    let Some(mut site) = Site::new("reboot = \"approve\"", "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    site.put(&topic::trust("plant", 2), &rotated(2, RELEASE_TWO));
    site.machine.until(&["\"kind\":\"halted\"", "not believed under trust root 2"]);
    assert_eq!(site.machine.gateway.boot_state().select(), Some(Group::A));
    assert!(!site.machine.gateway.boot_state().b.bootable());
    // Nor does it come back by itself: the same manifest is judged under the new root.
    site.machine.until(&["expected 1 valid signature(s) of role release"]);
    assert!(!site.machine.goes_down());
}

#[test]
fn an_image_that_brings_a_newer_root_drops_what_was_signed_under_the_old_one() {
    let Some(mut site) = Site::new("reboot = \"approve\"", "") else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    site.machine.until(&["\"phase\":\"installed\"", "approval"]);
    site.machine.kill();
    site.machine.gateway.put("trust.root", &rotated(2, RELEASE_TWO));
    site.machine.start();
    site.machine.until(&["\"trust_version\":2", "\"kind\":\"halted\"", "not believed under trust root 2"]);
}

/// Whoever has the operator's key for an evening signs the highest number there is: nothing that is signed later could
/// ever be newer. A rotation that replaces all operator keys takes the number away with them; one that leaves a key of
/// before does not, because what that one has signed could be played again.
#[test]
fn a_leaked_operator_key_has_the_last_word_only_until_all_operator_keys_are_replaced() {
    const SECOND: u8 = 5;
    const THIRD: u8 = 6;
    let Some(mut site) = Site::new("", "") else { return };
    let word = |signer: u8, seq: u64| {
        let mut state = DesiredState::open(
            &TrustRoot::anchor(&trust_root(1)).unwrap(),
            &desired("line-1", Digest([9; 32]), seq, |_| {}),
            "line-1",
            0,
            0,
        )
        .unwrap();
        state.action = DesiredAction::Pause;
        seal(MessageKind::DesiredState, &state.encode().unwrap(), &[&key(signer)]).unwrap()
    };
    let topic_of_the_group = topic::group_desired("plant", "line-1");
    site.machine.start();
    let leaked = word(OPERATOR, u64::MAX);
    site.put(&topic_of_the_group, &leaked);
    site.machine.until(&["any (sequence 18446744073709551615, line-1)"]);
    site.put(&topic::trust("plant", 2), &operators(2, &[OPERATOR, SECOND]));
    site.machine.until(&["\"trust_version\":2"]);
    site.put(&topic_of_the_group, &word(SECOND, 5));
    site.machine.until_log("replayed: expected sequence 18446744073709551615 or later, found 5");
    site.put(&topic_of_the_group, &word(THIRD, 5));
    site.put(&topic::trust("plant", 3), &operators(3, &[THIRD]));
    site.machine.until(&["\"trust_version\":3", "any (sequence 5, line-1)"]);
    site.put(&topic_of_the_group, &leaked);
    site.machine
        .until_log("expected 1 valid signature(s) of role operator under trust root plant v3, found 0");
    site.machine.until(&["any (sequence 5, line-1)"]);
}

/// A trust root with these operators, of which one must sign.
fn operators(version: u32, operators: &[u8]) -> Vec<u8> {
    let seeds = [&[ROOT, RELEASE], operators].concat();
    let role = |threshold, members| RoleMembers { threshold, members };
    let root = TrustRoot {
        fleet: "plant".try_into().unwrap(),
        version,
        keys: seeds.iter().map(|seed| key(*seed).verifying_key().to_bytes()).collect(),
        roles: [role(1, 0b01), role(1, 0b10), role(1, ((1 << operators.len()) - 1) << 2), role(0, 0)],
    };
    seal(MessageKind::TrustRoot, &root.encode().unwrap(), &[&key(ROOT)]).unwrap()
}

/// Root keys that lie in a drawer which has burnt down. Two of three had to sign; one is left.
#[test]
fn with_the_root_keys_lost_updates_go_on_and_only_a_new_image_changes_who_may_sign() {
    let Some(mut site) = Site::new("", "") else { return };
    site.machine.gateway.put("trust.root", &council(1, [10, 11, 12], RELEASE, &[10, 11]));
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.machine.start();
    // What the one key that is left signs, nobody follows …
    site.put(&topic::trust("plant", 2), &council(2, [10, 11, 12], RELEASE_TWO, &[10]));
    site.machine.until_log("expected 2 valid signature(s) of role root under trust root plant v1, found 1");
    // … nor what other keys sign that only call themselves root keys.
    site.put(&topic::trust("plant", 2), &council(2, [20, 21, 22], RELEASE_TWO, &[20, 21]));
    site.machine.until_log("expected 2 valid signature(s) of role root under trust root plant v1, found 0");
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until(&["\"trust_version\":1", "\"kind\":\"committed\""]);
    // The image that release keys have signed brings the new root keys, and with them another signer.
    site.machine.kill();
    site.machine.gateway.put("trust.root", &council(2, [20, 21, 22], RELEASE_TWO, &[20, 21]));
    site.machine.start();
    let refused = site.publish(&Workshop::new("2.1", 1));
    site.desire(refused, 2);
    site.machine.until(&["\"trust_version\":2", "expected 1 valid signature(s) of role release"]);
    // And a rotation by the new ones is followed again.
    site.put(&topic::trust("plant", 3), &council(3, [20, 21, 22], RELEASE, &[21, 22]));
    site.machine.until(&["\"trust_version\":3"]);
}

/// A trust root with three root keys of which two must sign; `release` is the one key that may sign releases.
fn council(version: u32, roots: [u8; 3], release: u8, signers: &[u8]) -> Vec<u8> {
    let seeds = [roots[0], roots[1], roots[2], release, OPERATOR];
    let role = |threshold, members| RoleMembers { threshold, members };
    let root = TrustRoot {
        fleet: "plant".try_into().unwrap(),
        version,
        keys: seeds.map(|seed| key(seed).verifying_key().to_bytes()).into_iter().collect(),
        roles: [role(2, 0b0_0111), role(1, 0b0_1000), role(1, 0b1_0000), role(0, 0)],
    };
    let keys: Vec<_> = signers.iter().map(|seed| key(*seed)).collect();
    seal(MessageKind::TrustRoot, &root.encode().unwrap(), &keys.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_gateway_whose_state_was_lost_says_so_where_the_operator_looks() {
    let Some(mut site) = Site::new("", "") else { return };
    site.machine.bring_to(&Workshop::new("2.0", 1));
    site.machine.kill();
    for copy in ["state/journal.0", "state/journal.1"] {
        site.machine.gateway.put(copy, b"not a record");
    }
    let states = site.watch(Leaf::State);
    site.machine.start();
    states.presence(|p| p.detail.contains("record was damaged"));
    site.machine.until(&["\"record_lost\":true"]);
}

/// A trial looks away from the inbox for as long as it lasts; news that nobody reads must not make the link look dead.
#[test]
fn the_link_stands_through_a_trial_however_much_is_said_meanwhile() {
    let check =
        format!("{HEALTHY_FILE}[[check]]\nname = \"broker\"\nbroker = true\nretries = 100\ninterval_s = 1\n");
    let Some(mut site) = Site::new("", &check) else { return };
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    let name = site.publish(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    site.machine.boot();
    site.machine.until_log("check \"plant\": attempt 1 failed");
    let mut stranger = Peer::connect(site.broker.port, "stranger");
    for n in 0..30 {
        stranger.publish(&topic::group_desired("plant", "line-1"), format!("junk {n}").as_bytes(), false);
    }
    stranger.flush();
    site.broker.kill();
    site.broker.restart();
    site.machine.gateway.put("healthy", b"");
    site.machine.until(&["\"kind\":\"committed\""]);
}
