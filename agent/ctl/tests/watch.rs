//! Watching a fleet, against a real Mosquitto.

mod common;

use common::client::Listener;
use common::{Desk, Mosquitto};
use mainstay_core::audit::Head;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::fault::clip;
use mainstay_core::report::{Availability, GroupReport, Outcome, Presence, Progress};
use mainstay_core::update::{OutcomeKind, PhaseName};
use mainstay_core::wire::encode_body;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn presence(version: &str) -> Vec<u8> {
    let group = |version| GroupReport { version: clip(version), boot: Some((1, 0, 1)) };
    let state = Presence {
        availability: Availability::Online,
        session: 7,
        running: Group::B,
        groups: [group("1.0.0"), group(version)],
        phase: PhaseName::Idle,
        deployment: None,
        outcome: None,
        floor: 3,
        trust: 1,
        desired_seq: 5,
        detail: heapless::String::new(),
        agent: clip("0.1.0"),
        audit: Head { seq: 12, hash: Digest([9; 32]) },
    };
    encode_body(&state).expect("encoded")
}

fn watch<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["watch", "--broker", url, "--fleet", "plant"], more].concat()
}

#[test]
fn what_stands_there_is_shown_once() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else { return };
    let desk = Desk::new();
    let url = broker.url();
    assert_eq!(desk.ok(&watch(&url, &["--once"])).lines().last(), Some("0 gateways, 0 online"));
    let mut listener = Listener::connect(broker.port);
    listener.retain(&[
        ("mainstay/1/plant/d/gw-1/state".into(), presence("2.0.0")),
        ("mainstay/1/plant/d/gw-2/state".into(), b"rubbish".to_vec()),
        ("mainstay/1/other/d/gw-3/state".into(), presence("2.0.0")),
    ]);
    let output = desk.run(&watch(&url, &["--once"]));
    let (table, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        table.contains("gw-1") && table.contains("B 2.0.0") && table.contains("1 gateways, 1 online"),
        "{table}"
    );
    assert!(!table.contains("gw-2") && !table.contains("gw-3"), "{table}");
    assert!(notes.contains("state: expected version 1, found 114"), "{notes}");
}

/// Goal: a fleet of the size where Mosquitto begins to drop what it keeps (1000 queued messages) is shown whole.
#[test]
fn a_fleet_of_three_thousand_is_shown_whole() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else { return };
    let states: Vec<_> =
        (0..3000).map(|i| (format!("mainstay/1/plant/d/gw-{i}/state"), presence("2.0.0"))).collect();
    Listener::connect(broker.port).retain(&states);
    let said = Desk::new().ok(&watch(&broker.url(), &["--once"]));
    assert_eq!(said.lines().last(), Some("3000 gateways, 3000 online"));
}

#[test]
fn each_message_is_a_line_of_json() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else { return };
    let desk = Desk::new();
    let url = broker.url();
    let mut listener = Listener::connect(broker.port);
    listener.retain(&[("mainstay/1/plant/d/gw-1/state".into(), presence("2.0.0"))]);
    let mut child = desk.command(&watch(&url, &["--json"])).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON")
    };
    let state = next();
    assert_eq!(
        (&state["device"], &state["kind"], &state["running"]),
        (&"gw-1".into(), &"state".into(), &"B".into())
    );
    assert_eq!(state["groups"]["B"]["version"], "2.0.0");
    assert_eq!(state["audit"]["seq"], 12);

    let progress = Progress { manifest: Digest([7; 32]), done: 1, total: 4, fetched: 1, copied: 0, kept: 0 };
    let outcome = Outcome {
        manifest: Digest([7; 32]),
        version: clip("2.1.0"),
        attempt: 1,
        kind: OutcomeKind::FellBack,
        detail: clip("it never came up"),
        running: Group::B,
        running_version: clip("2.0.0"),
    };
    listener.retain(&[
        ("mainstay/1/plant/d/gw-1/prog".into(), encode_body(&progress).expect("encoded")),
        ("mainstay/1/plant/d/gw-1/report".into(), encode_body(&outcome).expect("encoded")),
    ]);
    let progress = next();
    assert_eq!((&progress["kind"], &progress["total"]), (&"progress".into(), &4.into()));
    let outcome = next();
    assert_eq!((&outcome["outcome"], &outcome["detail"]), (&"FellBack".into(), &"it never came up".into()));
    child.kill().expect("killed");
    child.wait().expect("waited");
}
