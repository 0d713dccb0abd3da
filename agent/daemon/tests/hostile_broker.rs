//! A broker, or somebody on it, that means harm; the real daemon with real connections to a real Mosquitto.
//!
//! Goal: the broker can delay or drop, never alter, and never make a gateway run something old. Method: the test is
//! the operator and the attacker at once: it publishes what only a signer can sign, and then everything that anybody
//! with the broker's rights could put on top of it. The medium and the daemon's own status are what counts.

mod gateway;
mod support;

use gateway::*;
use mainstay_core::boot::Group;
use mainstay_core::bundle::Object;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::topic::{self, Leaf};
use mainstay_core::trust::{MessageKind, seal};
use std::process::{Child, Stdio};
use std::time::Duration;
use support::mosquitto::{MosquittoFixture, Options};
use support::peer::Peer;

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with its broker, and the daemon that runs on it.
struct Site {
    gateway: Gateway,
    broker: MosquittoFixture,
    daemon: Option<Child>,
}

impl Site {
    /// `None`: no Mosquitto is installed, which has been said.
    fn new() -> Option<Site> {
        let broker = MosquittoFixture::start(Options::default())?;
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_plain = true\ngroup = \"line-1\"\n[update]\nretry_s = 1",
            broker.port
        );
        Some(Site { gateway: Gateway::with(&config, 1), broker, daemon: None })
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.gateway.path("log")).unwrap();
        let mut command = self.gateway.command(&["run", "--verbose"]);
        command.stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// As a power cut would.
    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.gateway.path("log")).unwrap_or_default()
    }

    /// Waits until the daemon's status holds `words`.
    fn until(&self, words: &str) {
        let mut last = String::new();
        support::eventually(PATIENCE, &format!("status with {words}; log:\n{}", self.log()), || {
            let said = self.gateway.run(&["status", "--json"]);
            last = said.text;
            last.contains(words)
        });
    }

    fn publish(&self, bundle: &Workshop) -> Digest {
        let (envelope, objects) = bundle.objects();
        let mut peer = Peer::connect(self.broker.port, "release");
        for (kind, object) in &objects {
            assert_ne!(*kind, Object::Manifest);
            peer.publish(&topic::object("plant", &Digest::of(object)), object, true);
        }
        let name = Digest::of(&envelope);
        peer.publish(&topic::manifest("plant", &name), &envelope, true);
        peer.flush();
        name
    }

    fn desire(&self, manifest: Digest, seq: u64) {
        self.put_desired(&desired(manifest, seq, OPERATOR));
    }

    fn put_desired(&self, envelope: &[u8]) {
        let mut peer = Peer::connect(self.broker.port, "operator");
        peer.publish(&topic::group_desired("plant", "line-1"), envelope, true);
        peer.flush();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn desired(manifest: Digest, seq: u64, signer: u8) -> Vec<u8> {
    sealed(manifest, seq, signer, |_| {})
}

fn sealed(manifest: Digest, seq: u64, signer: u8, change: impl FnOnce(&mut DesiredState)) -> Vec<u8> {
    let mut desired = DesiredState {
        fleet: "plant".try_into().unwrap(),
        group: "line-1".try_into().unwrap(),
        seq,
        version: "any".try_into().unwrap(),
        manifest,
        action: DesiredAction::Run,
        rollout_bp: 10_000,
        window: None,
        expires: None,
        signed_at: 1_770_000_000,
        salt: 0,
    };
    change(&mut desired);
    seal(MessageKind::DesiredState, &desired.encode().unwrap(), &[&key(signer)]).unwrap()
}

#[test]
fn an_old_desired_state_played_again_changes_nothing_even_after_a_power_cut() {
    let Some(mut site) = Site::new() else { return };
    let (old, new) = (Workshop::new("1.9", 1), Workshop::new("2.0", 1));
    let old = site.publish(&old);
    let old_desired = desired(old, 7, OPERATOR);
    let name = site.publish(&new);
    site.desire(name, 8);
    site.start();
    site.until("\"phase\":\"trial\""); // written, proven, armed; the test's board never reboots
    assert!(holds(&site.gateway.path("slot-b"), &new.content));

    for round in ["while the daemon runs", "after a power cut"] {
        site.put_desired(&old_desired);
        support::eventually(PATIENCE, round, || {
            site.log().contains("replayed: expected sequence 8 or later, found 7")
        });
        assert!(holds(&site.gateway.path("slot-b"), &new.content), "{round}");
        assert_eq!(site.gateway.boot_state().select(), Some(Group::B), "{round}");
        site.kill();
        std::fs::remove_file(site.gateway.path("log")).unwrap();
        site.start();
    }
}

#[test]
fn a_desired_state_that_somebody_else_signed_is_not_obeyed() {
    let Some(mut site) = Site::new() else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    let before = site.gateway.medium();
    for signer in [STRANGER, RELEASE] {
        site.put_desired(&desired(name, 9, signer));
        if site.daemon.is_none() {
            site.start();
        }
        support::eventually(PATIENCE, "refused", || {
            site.log().matches("expected 1 valid signature(s) of role operator").count()
                >= if signer == RELEASE { 2 } else { 1 }
        });
    }
    assert_eq!(site.gateway.medium(), before);
    // The operator's own is taken, whatever came before it.
    site.desire(name, 1);
    site.until("\"phase\":\"trial\"");
}

/// The best that a broker without keys can do: another bundle, properly signed for this very gateway, under the name
/// of the one that the operator desires.
#[test]
fn another_signed_bundle_under_a_manifests_name_is_not_taken_and_the_right_one_is_when_it_comes() {
    let Some(mut site) = Site::new() else { return };
    let (wanted, other) = (Workshop::new("2.0", 1), Workshop::new("1.9", 1));
    let (envelope, _) = wanted.objects();
    let name = site.publish(&wanted);
    let (lie, _) = other.objects();
    site.publish(&other); // all of it is there: only the name stands between it and the slot
    let mut attacker = Peer::connect(site.broker.port, "attacker");
    attacker.publish(&topic::manifest("plant", &name), &lie, true);
    attacker.flush();
    let before = site.gateway.medium();
    site.desire(name, 1);
    site.start();
    support::eventually(PATIENCE, "the lie is noticed", || {
        site.log().contains("the broker gave something else under this name")
    });
    assert_eq!(site.gateway.medium(), before);
    attacker.publish(&topic::manifest("plant", &name), &envelope, true);
    attacker.flush();
    site.until("\"phase\":\"trial\"");
    assert!(holds(&site.gateway.path("slot-b"), &wanted.content));
}

/// Everything that was ever signed for this fleet lies about on the broker. Under a topic that it was not signed for it
/// is worth nothing.
#[test]
fn what_was_signed_for_one_purpose_gateway_or_fleet_is_refused_for_every_other() {
    let Some(mut site) = Site::new() else { return };
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish(&bundle);
    let (manifest, _) = bundle.objects();
    let for_other = |change: fn(&mut DesiredState)| sealed(name, 9, OPERATOR, change);
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("a manifest",                 manifest,                                             "expected a DesiredState, found a Manifest"),
        ("a trust root",               trust_root(1),                                        "expected a DesiredState, found a TrustRoot"),
        ("another group's",            for_other(|d| d.group = "line-2".try_into().unwrap()), "expected group line-1, found line-2"),
        ("another gateway's",          for_other(|d| d.group = "d/gw-2".try_into().unwrap()), "expected group line-1, found d/gw-2"),
        ("this gateway's own",         for_other(|d| d.group = "d/gw-1".try_into().unwrap()), "expected group line-1, found d/gw-1"),
        ("another fleet's, same keys", for_other(|d| d.fleet = "depot".try_into().unwrap()),  "expected fleet plant, found depot"),
    ];
    let before = site.gateway.medium();
    site.start();
    for (what, envelope, words) in cases {
        site.put_desired(&envelope);
        support::eventually(PATIENCE, what, || site.log().contains(words));
        assert_eq!(site.gateway.medium(), before, "{what}");
    }
    assert!(site.gateway.status().contains("\"phase\":\"idle\""));
    // None of them has used a number up.
    site.desire(name, 1);
    site.until("\"phase\":\"trial\"");
}

#[test]
fn pieces_that_were_swapped_are_never_written_and_the_update_goes_on_when_they_are_right_again() {
    let Some(mut site) = Site::new() else { return };
    let bundle = Workshop::new("2.0", 1);
    let (_, objects) = bundle.objects();
    let name = site.publish(&bundle);
    let pieces: Vec<&Vec<u8>> =
        objects.iter().filter(|(kind, _)| *kind == Object::Piece).map(|(_, b)| b).collect();
    assert!(pieces.len() >= 2, "the test needs two pieces, found {}", pieces.len());
    let (first, second) = (pieces[0], pieces[1]);
    let mut attacker = Peer::connect(site.broker.port, "attacker");
    let put = |attacker: &mut Peer, name: &[u8], bytes: &[u8]| {
        attacker.publish(&topic::object("plant", &Digest::of(name)), bytes, true);
        attacker.flush();
    };
    put(&mut attacker, first, second);
    put(&mut attacker, second, first);

    site.desire(name, 1);
    site.start();
    support::eventually(PATIENCE, "the lie is noticed", || {
        let log = site.log();
        log.contains(&format!("{:?}", Digest::of(first))) || log.contains("settled: 2.0 failed")
    });
    assert!(!site.gateway.boot_state().b.bootable());
    assert_eq!(site.gateway.boot_state().select(), Some(Group::A));
    let written = site.gateway.get("slot-b");
    assert!(!written.starts_with(&bundle.content[..4096]), "the first segment cannot have been made");

    put(&mut attacker, first, first);
    put(&mut attacker, second, second);
    // The operator says it once more, as she would: a failed bundle is otherwise tried again only after a minute.
    site.desire(name, 2);
    site.until("\"phase\":\"trial\"");
    assert!(holds(&site.gateway.path("slot-b"), &bundle.content));
}

#[test]
fn a_flood_on_every_topic_that_the_gateway_hears_neither_stops_it_nor_makes_it_grow() {
    let Some(mut site) = Site::new() else { return };
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish(&bundle);
    site.start();
    site.until("\"state\":\"connected\"");
    let quiet_kib = peak_kib(site.daemon.as_ref().unwrap().id());

    let port = site.broker.port;
    let flood = std::thread::spawn(move || {
        let mut attacker = Peer::connect(port, "attacker");
        let junk = vec![0x5a; 90 * 1024];
        let topics = [
            topic::device("plant", "gw-1", Leaf::Data),
            topic::device("plant", "gw-1", Leaf::Desired),
            topic::group_desired("plant", "line-1"),
            topic::trust("plant", 2),
        ];
        for round in 0..250 {
            attacker.publish(&topics[round % topics.len()], &junk, false);
            if round % 16 == 0 {
                attacker.flush();
            }
        }
        attacker.flush();
    });
    site.desire(name, 1);
    site.until("\"phase\":\"trial\"");
    flood.join().unwrap();
    assert!(holds(&site.gateway.path("slot-b"), &bundle.content));
    let flooded_kib = peak_kib(site.daemon.as_ref().unwrap().id());
    println!(
        "peak RSS: {quiet_kib} KiB connected, {flooded_kib} KiB after 22 MiB of junk and the update (debug build)"
    );
    // 8 control messages in flight and 4 · 8 queued at most of 90 KiB, 8 pieces, and the workspace: 6 MiB in all.
    assert!(flooded_kib < quiet_kib + 8 * 1024, "{quiet_kib} KiB grew to {flooded_kib} KiB");
}

/// It once asked at each message, and at each acknowledgement of what it said itself about going down: 80 times a second.
#[test]
fn a_machine_that_is_going_down_is_asked_to_once_whatever_the_broker_says_meanwhile() {
    let Some(mut site) = Site::new() else { return };
    let name = site.publish(&Workshop::new("2.0", 1));
    site.desire(name, 1);
    site.start();
    support::eventually(PATIENCE, "asked to go down", || site.log().contains("reboot:"));
    for seq in 2..12 {
        site.desire(name, seq);
    }
    support::eventually(PATIENCE, "the last word is heard", || site.log().contains("(sequence 11)"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(site.log().matches("reboot:").count(), 1);
}

/// VmHWM of proc_pid_status(5).
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
