//! `pack --base`: what a gateway with that base fetches, and that the bundle around it stays a bundle.

mod common;

use common::{Desk, Dice};
use mainstay_core::digest::Digest;
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Noise in which nothing repeats, so that all that a delta saves it saves by the base.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    Dice(seed).bytes(bytes)
}

/// The base, and the same with a hundred bytes changed in the middle and a hundred put in at the front of its second half.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let old = noise(1, 3 * MIB);
    let mut new = old.clone();
    new[MIB..MIB + 100].copy_from_slice(&noise(2, 100));
    new.splice(2 * MIB..2 * MIB, noise(3, 100));
    new.truncate(3 * MIB);
    (old, new)
}

fn desk() -> Desk {
    let desk = Desk::furnished();
    let (old, new) = pair();
    desk.write("old.img", old);
    desk.write("new.img", new);
    desk.bundle("old.bundle", &["rootfs=old.img"], "1.0.0");
    desk
}

fn pack(desk: &Desk, out: &str, more: &[&str]) -> Value {
    let mut arguments =
        vec!["pack", "--compatible", "acme-gw1", "--version", "2.0.0", "--level", "3", "--json"];
    arguments.extend(["--sign-with", "release.key", "--out", out, "--artifact", "rootfs=new.img"]);
    arguments.extend(more);
    serde_json::from_str(&desk.ok(&arguments)).expect("JSON")
}

fn routes(desk: &Desk, bundle: &str) -> Vec<Value> {
    let found: Value = serde_json::from_str(&desk.ok(&["inspect", bundle, "--json"])).expect("JSON");
    found["artifacts"][0]["routes"].as_array().expect("routes").clone()
}

#[test]
fn a_delta_is_made_from_an_image_or_from_the_bundle_that_brought_it_and_is_the_same() {
    let desk = desk();
    let from_image = pack(&desk, "a.bundle", &["--base", "old.img"]);
    pack(&desk, "b.bundle", &["--base", "old.bundle"]);
    pack(&desk, "c.bundle", &["--base", "rootfs=old.img", "--threads", "4"]);
    assert_eq!(desk.read("a.bundle"), desk.read("b.bundle"));
    assert_eq!(desk.read("a.bundle"), desk.read("c.bundle"));

    let routes = routes(&desk, "a.bundle");
    assert_eq!(routes.len(), 2);
    assert_eq!(routes[1]["kind"], "delta");
    assert_eq!(routes[1]["base"], Digest::of(&pair().0).to_string());
    let bytes = |route: &Value| route["bytes"].as_u64().unwrap() + route["index_bytes"].as_u64().unwrap();
    assert_eq!(from_image["deltas"][0]["bytes"], bytes(&routes[1]));
    assert_eq!(from_image["deltas"][0]["kept"], true);
    // Two hundred new bytes, 12 digests of 16 bytes, headers, a table.
    assert!(bytes(&routes[1]) < 1000, "{}", bytes(&routes[1]));
    assert!(bytes(&routes[0]) > 3 * MIB as u64);
    desk.ok(&["verify", "a.bundle", "--trust", "trust.root"]);
    assert!(desk.ok(&["inspect", "a.bundle"]).contains("from base"));
}

#[test]
fn a_delta_that_saves_nothing_is_left_out_and_a_base_named_twice_counts_once() {
    let desk = desk();
    desk.write("other.img", noise(9, 3 * MIB));
    let packed =
        pack(&desk, "a.bundle", &["--base", "other.img", "--base", "old.img", "--base", "old.bundle"]);
    let kept: Vec<_> = packed["deltas"].as_array().unwrap().iter().map(|d| d["kept"].clone()).collect();
    assert_eq!(kept, [false, true]);
    assert_eq!(routes(&desk, "a.bundle").len(), 2);
}

#[test]
fn of_more_bases_than_a_bundle_holds_those_that_save_most_are_taken() {
    let desk = desk();
    let (old, _) = pair();
    let mut arguments = Vec::new();
    for n in 0..9usize {
        let name = format!("base{n}.img");
        let mut base = old.clone();
        base[..n * 2000].copy_from_slice(&noise(20 + n as u64, n * 2000)); // the higher, the less they have in common
        desk.write(&name, base);
        arguments.push(name);
    }
    let arguments: Vec<&str> = arguments.iter().rev().flat_map(|name| ["--base", name]).collect();
    let packed = pack(&desk, "a.bundle", &arguments);
    let left_out: Vec<_> = packed["deltas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|delta| delta["kept"] == false)
        .map(|delta| delta["base"].clone())
        .collect();
    assert_eq!(left_out, ["base8.img", "base7.img"]);
    assert_eq!(routes(&desk, "a.bundle").len(), 8);
}

#[test]
fn signatures_are_added_to_a_bundle_with_deltas_and_a_flipped_byte_in_one_is_found() {
    let desk = desk();
    pack(&desk, "a.bundle", &["--base", "old.img"]);
    desk.key("second");
    desk.ok(&["sign", "a.bundle", "--key", "second.key", "--out", "b.bundle"]);
    assert_eq!(routes(&desk, "b.bundle").len(), 2);

    let mut bytes = desk.read("a.bundle");
    let last_piece = bytes.len() - 8 - 20; // the end mark, and within the delta's last piece
    bytes[last_piece] ^= 1;
    desk.write("c.bundle", bytes);
    let said = desk.refused(&["verify", "c.bundle", "--trust", "trust.root"]);
    assert!(said.contains("artifact rootfs: delta from"), "{said}");
}

#[test]
fn a_base_that_is_none_is_refused_before_the_long_work() {
    let desk = desk();
    std::fs::create_dir(desk.path("folder")).unwrap();
    desk.write("empty.img", b"");
    #[rustfmt::skip]
    let cases = [
        ("nothing.img",           "no such file"),
        ("folder",                "expected an image or a bundle, found a folder"),
        ("empty.img",             "expected 1 to 68719476736 bytes, found 0"),
        ("kernel=old.bundle",     "no such file"), // no artifact of that class: it is a path
    ];
    for (base, words) in cases {
        let said = desk.refused(&[
            "pack",
            "--compatible",
            "acme-gw1",
            "--version",
            "2",
            "--out",
            "x.bundle",
            "--artifact",
            "rootfs=new.img",
            "--base",
            base,
        ]);
        assert!(said.contains(words), "{base}: {said}");
        assert!(!desk.path("x.bundle.unsigned").exists());
    }
    let said = desk.refused(&[
        "pack",
        "--compatible",
        "acme-gw1",
        "--version",
        "2",
        "--out",
        "x.bundle",
        "--artifact",
        "rootfs=new.img",
        "--artifact",
        "kernel=new.img",
        "--base",
        "old.img",
    ]);
    assert!(
        said.contains("there are 2 artifacts that it could be of") && said.contains("--base CLASS=IMAGE"),
        "{said}"
    );
    let said = desk.refused(&[
        "pack",
        "--compatible",
        "acme-gw1",
        "--version",
        "2",
        "--out",
        "x.bundle",
        "--artifact",
        "kernel=new.img",
        "--base",
        "old.bundle",
    ]);
    assert!(said.contains("expected an artifact of class kernel, found none"), "{said}");
}
