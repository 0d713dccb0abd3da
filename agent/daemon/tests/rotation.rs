//! The real daemon walks from trust root to trust root while the operator's key changes, against a real Mosquitto.
//!
//! The story: a gateway with an image of last year joins a fleet that has replaced its operator key since. The broker
//! gives it the desired state, which only the new key has signed, before the trust root that says so.

mod gateway;
mod support;

use gateway::*;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::topic;
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use std::process::Stdio;
use std::time::Duration;
use support::mosquitto::{MosquittoFixture, Options};
use support::peer::Peer;

const NEW_OPERATOR: u8 = 5;

/// The root after that of [`trust_root`]: another operator.
fn next_root() -> Vec<u8> {
    let keys = [ROOT, RELEASE, RELEASE_TWO, NEW_OPERATOR].map(|seed| key(seed).verifying_key().to_bytes());
    let role = |threshold, members| RoleMembers { threshold, members };
    let root = TrustRoot {
        fleet: "plant".try_into().unwrap(),
        version: 2,
        keys: keys.into_iter().collect(),
        roles: [role(1, 0b0001), role(1, 0b0110), role(1, 0b1000), role(0, 0)],
    };
    seal(MessageKind::TrustRoot, &root.encode().unwrap(), &[&key(ROOT)]).unwrap()
}

fn desired(manifest: Digest) -> Vec<u8> {
    let desired = DesiredState {
        fleet: "plant".try_into().unwrap(),
        group: "line-1".try_into().unwrap(),
        seq: 1,
        version: "2.0".try_into().unwrap(),
        manifest,
        action: DesiredAction::Run,
        rollout_bp: 10_000,
        window: None,
        expires: None,
        signed_at: 1_770_000_000,
        salt: 0,
    };
    seal(MessageKind::DesiredState, &desired.encode().unwrap(), &[&key(NEW_OPERATOR)]).unwrap()
}

#[test]
fn a_desired_state_that_came_before_the_trust_root_that_proves_it_is_taken_after_it() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", broker.port);
    let config = format!("[broker]\n{url}\nallow_plain = true\ngroup = \"line-1\"\n[update]\nretry_s = 1");
    let gateway = Gateway::with(&config, 1);
    let (envelope, objects) = Workshop::new("2.0", 1).objects();
    let name = Digest::of(&envelope);
    let mut peer = Peer::connect(broker.port, "operator");
    for (_, object) in &objects {
        peer.publish(&topic::object("plant", &Digest::of(object)), object, true);
    }
    peer.publish(&topic::manifest("plant", &name), &envelope, true);
    peer.publish(&topic::group_desired("plant", "line-1"), &desired(name), true);
    peer.publish(&topic::trust("plant", 2), &next_root(), true);
    peer.flush();

    let log = std::fs::File::create(gateway.path("log")).unwrap();
    let mut command = gateway.command(&["run"]);
    let mut daemon = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut status = String::new();
    let begun = std::time::Instant::now();
    while !status.contains("\"phase\":\"trial\"") && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
        status = gateway.run(&["status", "--json"]).text;
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    let log = String::from_utf8(gateway.get("log")).unwrap();
    assert!(status.contains("\"trust_version\":2"), "{status}\n{log}");
    assert!(status.contains("\"phase\":\"trial\""), "{status}\n{log}");
}
