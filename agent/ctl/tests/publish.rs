//! Publishing, against a real Mosquitto: what is kept there is what stands in the bundle, in an order that no
//! gateway can trip over, and what goes wrong is said.

mod common;

use common::client::{Listener, kept};
use common::{Desk, Dice, Mosquitto, entries, sha256};
use ed25519_dalek::SigningKey;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::trust::TrustRoot;
use mainstayctl::keys::read_secret;
use mainstayctl::rollout::{Current, Schedule, Target, next, seal};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

const OPEN: &str = "allow_anonymous true";

/// A desk with a bundle of about `kib` KiB.
fn desk(kib: usize) -> Desk {
    let desk = Desk::furnished();
    let mut image = Dice(kib as u64).bytes(kib * 1024);
    image.resize(image.len() + 700_000, 0);
    desk.write("image", image);
    desk.bundle("x.bundle", &["rootfs=image"], "1.0.0");
    desk
}

fn arguments<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![
        "publish",
        "x.bundle",
        "--broker",
        url,
        "--trust",
        "trust.root",
        "--operator-key",
        "operator.key",
        "--group",
        "lab",
    ];
    all.extend(more);
    all
}

fn root(desk: &Desk) -> TrustRoot {
    TrustRoot::anchor(&desk.read("trust.root")).expect("a root")
}

fn operator(desk: &Desk) -> SigningKey {
    read_secret(&desk.path("operator.key"), &mut |_| panic!("no passphrase")).expect("a key")
}

fn desired(desk: &Desk, port: u16) -> DesiredState {
    let kept = kept(port, "mainstay/1/plant/g/lab/desired");
    DesiredState::open(&root(desk), &kept["mainstay/1/plant/g/lab/desired"], "lab", 0, 0)
        .expect("gateways take it")
}

/// Topic and bytes of everything that must be kept, made from the file without the library.
fn expected(file: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let entries = entries(file);
    let place = |kind: u8| if kind == 1 { "m" } else { "c" };
    let objects = entries.into_iter().filter(|e| e.kind != 255);
    objects.map(|e| (format!("mainstay/1/plant/{}/{}", place(e.kind), sha256(&e.bytes)), e.bytes)).collect()
}

#[test]
fn what_the_broker_keeps_is_what_stands_in_the_bundle() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(3000);
    let said =
        desk.ok(&arguments(&broker.url(), &["--rollout", "12.5%", "--not-before", "+1h", "--spread", "30m"]));
    let expected = expected(&desk.read("x.bundle"));
    assert!(said.contains(&format!("objects   {}", expected.len())), "{said}");
    assert!(expected.len() > 30, "a bundle of many pieces: {}", expected.len());
    let mut kept = kept(broker.port, "mainstay/#");
    let sealed = kept.remove("mainstay/1/plant/g/lab/desired").expect("a desired state");
    assert_eq!(kept.keys().collect::<BTreeSet<_>>(), expected.keys().collect::<BTreeSet<_>>());
    assert!(kept == expected, "byte for byte");
    let state = DesiredState::open(&root(&desk), &sealed, "lab", 0, 0).expect("gateways take it");
    assert_eq!((state.action, state.rollout_bp, state.version.as_str()), (DesiredAction::Run, 1250, "1.0.0"));
    let manifest = entries(&desk.read("x.bundle"))[0].bytes.clone();
    assert_eq!(state.manifest.to_string(), sha256(&manifest));
    let window = state.window.expect("a window");
    // The command was read a moment before the state was signed.
    assert!((3590..=3600).contains(&(window.not_before - state.signed_at)), "{window:?} {}", state.signed_at);
    assert_eq!(window.spread_s, 1800);
}

#[test]
fn objects_come_first_then_the_manifest_then_the_desired_state() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(2000);
    let mut listener = Listener::connect(broker.port);
    listener.subscribe("mainstay/#");
    desk.ok(&arguments(&broker.url(), &[]));
    let heard: Vec<String> = listener.hear().into_iter().map(|(topic, _)| topic).collect();
    let place = |topic: &String| topic.split('/').nth(3).expect("a level").to_owned();
    let mut order: Vec<String> = heard.iter().map(place).collect();
    assert_eq!(order.len(), expected(&desk.read("x.bundle")).len() + 1);
    order.dedup();
    assert_eq!(order, ["c", "m", "g"]);
}

#[test]
fn one_gateway_has_a_topic_of_its_own() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(10);
    let url = broker.url();
    let mut all = arguments(&url, &["--device", "gw-7"]);
    all.drain(8..10);
    desk.ok(&all);
    let kept = kept(broker.port, "mainstay/1/plant/d/#");
    let state = DesiredState::open(&root(&desk), &kept["mainstay/1/plant/d/gw-7/desired"], "d/gw-7", 0, 0);
    assert_eq!(state.expect("the gateway takes it").group, "d/gw-7");
}

#[test]
fn the_sequence_number_rises_whatever_stands_there() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(10);
    desk.ok(&arguments(&broker.url(), &[]));
    let first = desired(&desk, broker.port);
    desk.ok(&arguments(&broker.url(), &["--rollout", "50%"]));
    let second = desired(&desk, broker.port);
    assert!(second.seq > first.seq, "{} {}", second.seq, first.seq);
    assert_eq!(second.salt, first.salt, "the same release keeps its order of gateways");

    let low = first.seq.to_string();
    let said = desk.refused(&arguments(&broker.url(), &["--seq", &low]));
    assert!(said.contains(&format!("expected {} or later", second.seq + 1)), "{said}");
    assert_eq!(desired(&desk, broker.port), second);

    // Somebody's clock was in the year 2100.
    let target = Target::Group("lab".into());
    let far = Schedule { rollout_bp: 10_000, seq: Some(4_102_444_800), ..Schedule::default() };
    let run = DesiredAction::Run;
    let state =
        next(&Current::Nothing, &root(&desk), &target, first.manifest, "1.0.0", run, &far).expect("a state");
    let sealed = seal(&state, &root(&desk), &[operator(&desk)]).expect("sealed");
    let mut listener = Listener::connect(broker.port);
    listener.retain(&[("mainstay/1/plant/g/lab/desired".into(), sealed)]);
    desk.ok(&arguments(&broker.url(), &[]));
    assert_eq!(desired(&desk, broker.port).seq, 4_102_444_801);

    // Rubbish does not stop an operator, and does not go by unsaid.
    listener.retain(&[("mainstay/1/plant/g/lab/desired".into(), b"rubbish".to_vec())]);
    let output = desk.run(&arguments(&broker.url(), &[]));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("what stood there before is refused"));
    desired(&desk, broker.port);
}

#[test]
fn what_gateways_would_refuse_is_never_published() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(300);
    let url = broker.url();
    let whole = desk.read("x.bundle");
    let mut damaged = whole.clone();
    let at = damaged.len() - 100;
    damaged[at] ^= 4;
    let name = ["--artifact", "rootfs=image", "--compatible", "acme-gw1", "--version", "1", "--level", "3"];
    let pack = |out: &str, more: &[&str]| desk.ok(&[&["pack"], &name[..], &["--out", out], more].concat());
    pack("stranger.bundle", &["--sign-with", "operator.key"]);
    pack("old.bundle", &["--sign-with", "release.key", "--expires", "1000"]);
    pack("new.bundle", &[]);
    let cases = [
        (damaged, "Piece before byte"),
        (whole[..whole.len() - 1].to_vec(), "cut short"),
        (desk.read("stranger.bundle"), "expected 1 valid signature(s) of role release"),
        (desk.read("old.bundle"), "has expired at 1970-01-01T00:16:40Z"),
        (desk.read("new.bundle.unsigned"), "nobody has signed"),
    ];
    for (bytes, expected) in cases {
        desk.write("x.bundle", bytes);
        let said = desk.refused(&arguments(&url, &[]));
        assert!(said.contains(expected), "expected {expected:?}: {said}");
    }
    desk.write("x.bundle", &whole);
    let mut all = arguments(&url, &[]);
    all[7] = "release.key";
    let said = desk.refused(&all);
    assert!(said.contains("does not hold the operator role"), "{said}");
    let said = desk.refused(&arguments(&url, &["--expires", "1000"]));
    assert!(said.contains("expected a time to come"), "{said}");
    assert_eq!(kept(broker.port, "mainstay/#"), BTreeMap::new());
}

#[test]
fn a_refusal_of_the_broker_is_said_and_stops_before_the_desired_state() {
    let desk = desk(100);
    #[rustfmt::skip]
    let cases = [
        // what operators may write                                                            what is refused
        (&["mainstay/1/plant/m/#"][..],                                                        "mainstay/1/plant/c/"),
        (&["mainstay/1/plant/c/#"],                                                            "mainstay/1/plant/m/"),
        (&["mainstay/1/plant/c/#", "mainstay/1/plant/m/#"],                                    "mainstay/1/plant/g/lab/desired"),
    ];
    for (writable, refused) in cases {
        let lines: Vec<String> = writable.iter().map(|topic| format!("topic write {topic}\n")).collect();
        desk.write("acl", format!("topic read #\n{}", lines.concat()));
        let Some(broker) = Mosquitto::start(&format!("{OPEN}\nacl_file {}", desk.path("acl").display()))
        else {
            return;
        };
        let said = desk.refused(&arguments(&broker.url(), &[]));
        assert!(said.contains(&format!("refuses {refused}")), "{said}");
        assert!(said.contains("NotAuthorized (0x87)") && said.contains("access control"), "{said}");
        assert!(!kept(broker.port, "mainstay/#").contains_key("mainstay/1/plant/g/lab/desired"));
    }
}

#[test]
fn a_broker_that_takes_only_small_messages_is_named_as_such() {
    let desk = desk(300);
    for limit in ["message_size_limit 50000", "max_packet_size 50000"] {
        let Some(broker) = Mosquitto::start(&format!("{OPEN}\n{limit}")) else { return };
        let said = desk.refused(&arguments(&broker.url(), &[]));
        assert!(said.contains("message_size_limit") && said.contains("128 KiB"), "{limit}: {said}");
    }
}

#[test]
fn a_broker_that_keeps_nothing_is_refused_at_once() {
    let desk = desk(10);
    let Some(broker) = Mosquitto::start(&format!("{OPEN}\nretain_available false")) else { return };
    let said = desk.refused(&arguments(&broker.url(), &[]));
    assert!(said.contains("keeps no retained messages"), "{said}");
}

#[test]
fn a_password_opens_the_broker() {
    let desk = desk(10);
    let file = desk.path("passwords");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&file)
        .args(["ops", "secret"])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("not run: mosquitto_passwd is not installed");
        return;
    }
    let lines = format!("allow_anonymous false\npassword_file {}", file.display());
    let Some(broker) = Mosquitto::start(&lines) else { return };
    desk.write("right", "secret\n");
    desk.write("wrong", "guess\n");
    let said = desk.refused(&arguments(&broker.url(), &[]));
    assert!(said.contains("refuses the connection") && said.contains("--username"), "{said}");
    let with = |password| arguments_with(&broker, &["--username", "ops", "--password-file", password]);
    assert!(
        desk.refused(&with("wrong").iter().map(String::as_str).collect::<Vec<_>>())
            .contains("refuses the connection")
    );
    desk.ok(&with("right").iter().map(String::as_str).collect::<Vec<_>>());
}

fn arguments_with(broker: &Mosquitto, more: &[&str]) -> Vec<String> {
    arguments(&broker.url(), more).into_iter().map(String::from).collect()
}

/// Goal: a link that breaks costs time, never an object. Method: a proxy that cuts the first two connections in
/// the middle of an object; the broker must keep everything in the end.
#[test]
fn a_link_that_breaks_loses_nothing() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(2000);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("mqtt://{}", listener.local_addr().expect("a port"));
    let port = broker.port;
    thread::spawn(move || {
        let cuts = [Some(500_000), Some(800_000)].into_iter().chain(std::iter::repeat(None));
        for (client, cut) in listener.incoming().zip(cuts) {
            let client = client.expect("a client");
            let broker = TcpStream::connect(("127.0.0.1", port)).expect("the broker");
            let (mut up, mut down) =
                (client.try_clone().expect("a clone"), broker.try_clone().expect("a clone"));
            thread::spawn(move || std::io::copy(&mut down, &mut up));
            thread::spawn(move || carry(client, broker, cut));
        }
    });
    let output = desk.run(&arguments(&url, &[]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("connecting again").count(), 2, "{said}");
    let mut kept = kept(broker.port, "mainstay/#");
    kept.remove("mainstay/1/plant/g/lab/desired").expect("a desired state");
    assert!(kept == expected(&desk.read("x.bundle")), "byte for byte");
}

fn carry(mut client: TcpStream, mut broker: TcpStream, cut: Option<usize>) {
    let mut left = cut.unwrap_or(usize::MAX);
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let n = n.min(left);
        if broker.write_all(&buffer[..n]).is_err() {
            break;
        }
        left -= n;
        if left == 0 {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = broker.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_rollout_is_paused_halted_and_resumed() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = desk(10);
    let url = broker.url();
    let change = |command: &'static str, more: &[&'static str]| -> Vec<String> {
        let base = [
            command,
            "--broker",
            &url,
            "--trust",
            "trust.root",
            "--operator-key",
            "operator.key",
            "--group",
            "lab",
        ];
        base.iter().chain(more).map(|s| s.to_string()).collect()
    };
    let run = |arguments: Vec<String>| desk.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let nothing = run(change("halt", &[]));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no desired state stands there"));
    assert_eq!(nothing.status.code(), Some(1));

    desk.ok(&arguments(&url, &["--rollout", "10%", "--expires", "+1d"]));
    let mut before = desired(&desk, broker.port);
    #[rustfmt::skip]
    let steps: [(&'static str, &[&'static str], DesiredAction, u16, bool); 5] = [
        // command  more                    action                 share    still expires
        ("pause",   &[],                    DesiredAction::Pause,  1_000,   false),
        ("resume",  &["--rollout", "50%"],  DesiredAction::Run,    5_000,   false),
        ("halt",    &[],                    DesiredAction::Halt,   5_000,   false),
        ("resume",  &["--expires", "+2h"],  DesiredAction::Run,    5_000,   true),
        ("resume",  &["--rollout", "100%"], DesiredAction::Run,   10_000,   true),
    ];
    assert!(before.expires.is_some());
    for (command, more, action, share, expires) in steps {
        assert!(run(change(command, more)).status.success(), "{command}");
        let now = desired(&desk, broker.port);
        assert_eq!(
            (now.action, now.rollout_bp, now.expires.is_some()),
            (action, share, expires),
            "{command}"
        );
        assert!(now.seq > before.seq, "{command}");
        assert_eq!(
            (now.manifest, &now.version, now.salt),
            (before.manifest, &before.version, before.salt),
            "{command}"
        );
        before = now;
    }
}

#[test]
fn a_trust_root_is_published_only_if_gateways_take_it() {
    let Some(broker) = Mosquitto::start(OPEN) else { return };
    let desk = Desk::furnished();
    let url = broker.url();
    let publish = ["trust", "publish", "2.root", "--from", "trust.root", "--broker", &url];
    desk.write("2.root", desk.read("trust.root"));
    assert!(desk.refused(&publish).contains("expected version 2, found 1"));
    std::fs::remove_file(desk.path("2.root")).expect("removed");
    desk.ok(&[
        "trust",
        "rotate",
        "--from",
        "trust.root",
        "--remove",
        "operator=operator.pub",
        "--sign-with",
        "root.key",
        "--out",
        "2.root",
    ]);
    desk.ok(&publish);
    let kept = kept(broker.port, "mainstay/#");
    assert_eq!(kept, BTreeMap::from([("mainstay/1/plant/t/2".into(), desk.read("2.root"))]));
}
