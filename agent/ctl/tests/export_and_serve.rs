//! A bundle for a web server, and for gateways whose broker holds nothing: what they are given is what stands in the file.

mod common;

use common::client::Listener;
use common::{Desk, Dice, Mosquitto, entries, sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn desk() -> Desk {
    let desk = Desk::furnished();
    for (name, kib) in [("image", 1500), ("kernel", 300)] {
        let mut image = Dice(kib).bytes(kib as usize * 1024);
        image.resize(image.len() + 700_000, 0);
        desk.write(name, image);
    }
    desk.bundle("x.bundle", &["rootfs=image", "kernel=kernel"], "1.0.0");
    desk
}

#[test]
fn the_folder_holds_every_object_and_each_route_in_a_row() {
    let desk = desk();
    let said = desk.ok(&["export", "x.bundle", "--to", "depot"]);
    let (mut files, mut table) = (BTreeMap::<String, Vec<u8>>::new(), String::new());
    for entry in entries(&desk.read("x.bundle")) {
        let name = sha256(&entry.bytes);
        match entry.kind {
            1 => drop(files.insert(format!("m/{name}"), entry.bytes)),
            2..=4 => {
                if entry.kind == 2 {
                    table.clone_from(&name);
                }
                files.insert(format!("c/{name}"), entry.bytes);
            }
            5 => files.entry(format!("r/{table}")).or_default().extend(entry.bytes),
            _ => {}
        }
    }
    assert_eq!(files.keys().filter(|name| name.starts_with("r/")).count(), 2, "a route of each artifact");
    for (name, bytes) in &files {
        assert!(desk.read(&format!("depot/{name}")) == *bytes, "{name}");
    }
    let mut found = 0;
    for folder in ["c", "m", "r"] {
        found += std::fs::read_dir(desk.path(&format!("depot/{folder}"))).unwrap().count();
    }
    assert_eq!(found, files.len(), "and nothing else");
    assert!(said.contains("and 2 routes"), "{said}");
    desk.ok(&["export", "x.bundle", "--to", "depot"]); // again is no harm
}

#[test]
fn a_bundle_that_nobody_has_signed_or_that_is_cut_is_not_exported() {
    let desk = desk();
    let mut bytes = desk.read("x.bundle");
    bytes.truncate(bytes.len() - 100_000);
    desk.write("cut.bundle", bytes);
    desk.refused(&["export", "cut.bundle", "--to", "cut"]);
    assert_eq!(
        std::fs::read_dir(desk.path("cut/m")).unwrap().count(),
        0,
        "no manifest leads to what is missing"
    );
    desk.ok(&[
        "pack",
        "--artifact",
        "rootfs=image",
        "--compatible",
        "x",
        "--version",
        "1",
        "--out",
        "y.bundle",
    ]);
    let said = desk.refused(&["export", "y.bundle.unsigned", "--to", "unsigned"]);
    assert!(said.contains("nobody has signed it"), "{said}");
}

#[test]
fn who_asks_is_given_the_objects_that_are_there_and_nothing_is_kept() {
    let Some(broker) = Mosquitto::start("allow_anonymous true\nretain_available false") else { return };
    let desk = desk();
    let url = broker.url();
    let arguments = ["serve", "x.bundle", "--broker", &url, "--fleet", "plant"];
    let mut server = desk.command(&arguments).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(server.stdout.take().expect("its words")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.starts_with("serving  "), "{first}");

    let mut gateway = Listener::connect(broker.port);
    gateway.subscribe("mainstay/1/plant/d/gw-1/data");
    let objects: Vec<Vec<u8>> = entries(&desk.read("x.bundle"))
        .into_iter()
        .filter(|e| e.kind == 5)
        .map(|e| e.bytes)
        .take(5)
        .collect();
    let mut need = vec![1];
    for object in &objects {
        need.extend(digest(object));
    }
    need.extend([9; 32]); // nobody has this one
    gateway.say("mainstay/1/plant/d/gw-1/need", b"not a need");
    gateway.say("mainstay/1/plant/d/gw-1/need", &need);
    let heard = gateway.hear();
    assert_eq!(heard.len(), 5);
    for (object, (topic, payload)) in objects.iter().zip(&heard) {
        assert_eq!(topic, "mainstay/1/plant/d/gw-1/data");
        assert!(payload[0] == 1 && payload[1..33] == digest(object) && payload[33..] == *object);
    }
    let said = lines.next().expect("a line").expect("text");
    assert_eq!(said, "gw-1  5 of 6");
    server.kill().expect("it ends");
    let _ = server.wait();
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    mainstay_core::digest::Digest::of(bytes).0
}
