//! Every bundle, board file and environment that must be refused, given to the real binary.
//!
//! Goal: a clear error that says what was expected and what was found; and the medium as it was, or the target group
//! withdrawn. Method: a bundle is made that is wrong in one way only (and properly signed wherever a thief of the
//! signing key is not the point), `mainstay install -` gets it, and files are compared.

mod gateway;

use gateway::*;
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Encoding, Object};
use mainstay_core::digest::Digest;
use mainstay_core::limits::SEGMENT_BYTES;
use std::process::Stdio;

#[test]
fn a_good_bundle_is_written_read_back_and_armed_and_nothing_else_changes() {
    let gateway = Gateway::new();
    let bundle = Workshop::new("2.0", 1);
    let before = gateway.medium();
    let said = gateway.feed(&["install"], &bundle.bytes());
    assert!(said.ok, "{said:?}");
    assert!(holds(&gateway.path("slot-b"), &bundle.content), "{said:?}");
    assert!(gateway.get("slot-b")[bundle.content.len()..].iter().all(|b| *b == 0xbb), "beyond the artifact");
    assert_eq!(gateway.medium()["slot-a"], before["slot-a"]);
    let state = gateway.boot_state();
    assert_eq!((state.select(), state.b.tries_left, state.b.good), (Some(Group::B), 3, Some(false)));
    assert!(state.a.bootable(), "the way back");
}

/// A medium may take half an hour for it, and nobody shall look at a silent console meanwhile. The end of the bundle is held back until
/// the console has said how much has been written.
#[test]
fn what_is_on_the_way_is_said_while_the_bundle_still_comes() {
    use std::io::{BufRead, BufReader, Write};
    let gateway = Gateway::new();
    let bundle = Workshop::new("2.0", 1).bytes();
    let mut command = gateway.command(&["install", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let (most, rest) = bundle.split_at(bundle.len() - 64 * 1024);
    input.write_all(most).unwrap();
    let mut until = |word: &str| said.find(|line| line.as_ref().unwrap().contains(word)).unwrap().unwrap();
    until("downloading: 2.0 for group B");
    until(" % of ");
    input.write_all(rest).unwrap();
    drop(input);
    until("verifying: 2.0 for group B");
    until("2.0 is written and proven");
    assert!(child.wait().unwrap().success());
}

/// Refused before it is taken: nothing at all changes.
#[test]
fn what_the_manifest_gives_away_is_refused_with_the_medium_untouched() {
    let with = |change: fn(&mut Workshop)| {
        let mut bundle = Workshop::new("2.0", 5);
        change(&mut bundle);
        bundle.bytes()
    };
    let mut other_version = Workshop::new("2.0", 5).manifest.encode().unwrap_or_default();
    other_version.insert(0, 2);
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        ("another maker's signer",   with(|b| b.signers = vec![STRANGER]),                    &["expected 1 valid signature(s) of role release", "found 0 (of 1 on it)"]),
        ("another role's signer",    with(|b| b.signers = vec![OPERATOR]),                    &["expected 1 valid signature(s) of role release"]),
        ("another compatible",       with(|b| b.manifest.compatible = "other".try_into().unwrap()), &["this gateway is test-gw, the bundle is for other"]),
        ("under the floor",          with(|b| b.manifest.security_version = 2),               &["downgrade: the floor is security version 3, the bundle has 2"]),
        ("expired",                  with(|b| b.manifest.expires = Some(1_735_689_601)),      &["expired: the bundle may be begun until 1735689601, now is"]),
        ("an unknown check",         with(|b| b.manifest.trial.required.push("plc".try_into().unwrap()).unwrap()), &["requires the health check plc, which is not configured here"]),
        ("too large for the slot",   with(|b| b.content.resize(SLOT_BYTES as usize + 1, 7)),  &["holds 4194304 bytes, the artifact has 4194305"]),
        ("an unknown version",       with(|b| b.body = Some(vec![2, 0, 0])),                  &["manifest: expected version 1, found 2"]),
        ("an oversized field",       with(|b| b.body = Some([vec![1, 200, 1], vec![b'x'; 200]].concat())), &["manifest", "compatible"]),
        ("a field that is cut",      with(|b| b.body = Some(vec![1, 7, b'g'])),               &["manifest"]),
        ("an empty file",            Vec::new(),                                              &["bundle: cut short at byte 0"]),
        ("not a bundle",             b"hsqs and so on, much longer than a magic".to_vec(),    &["expected the magic MAINSTAY-BUNDLE1"]),
    ];
    let gateway = Gateway::with("image_floor = 3", 1);
    for (what, bundle, words) in cases {
        let before = gateway.medium();
        let said = gateway.feed(&["install"], &bundle);
        assert!(!said.ok, "{what}: {said:?}");
        for word in words {
            assert!(said.text.contains(word), "{what}: expected {word:?} in {said:?}");
        }
        assert_eq!(gateway.medium(), before, "{what}");
        assert!(gateway.status().contains("\"phase\":\"idle\""), "{what}");
    }
}

#[test]
fn one_signature_of_two_that_are_needed_is_not_enough_and_twice_the_same_is_one() {
    let gateway = Gateway::with("", 2);
    let mut bundle = Workshop::new("2.0", 1);
    for signers in [vec![RELEASE], vec![RELEASE, RELEASE], vec![RELEASE, STRANGER]] {
        bundle.signers = signers.clone();
        let before = gateway.medium();
        let said = gateway.feed(&["install"], &bundle.bytes());
        assert!(said.text.contains("expected 2 valid signature(s) of role release"), "{signers:?}: {said:?}");
        assert_eq!(gateway.medium(), before, "{signers:?}");
    }
    bundle.signers = vec![RELEASE_TWO, RELEASE];
    let said = gateway.feed(&["install"], &bundle.bytes());
    assert!(said.ok, "{said:?}");
}

/// Signed, so taken; then found to lie while it is written: the target is withdrawn and the running group stands.
#[test]
fn what_only_shows_while_it_is_written_leaves_the_target_withdrawn() {
    let with = |change: fn(&mut Workshop)| {
        let mut bundle = Workshop::new("2.0", 1);
        change(&mut bundle);
        bundle.bytes()
    };
    #[rustfmt::skip]
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("an index that lies about its sizes", with(|b| b.spoil = |o| o[1].1[33..36].copy_from_slice(&[1, 0, 0])), "its segments take"),
        ("a segment longer than its content",  with(|b| b.spoil = |o| o[1].1[25..28].copy_from_slice(&[0xff; 3])), "cannot make 262144 bytes"),
        ("an unknown encoding",                with(|b| b.spoil = |o| o[1].1[24] = 9),                             "unknown encoding 9"),
        ("a page cut short",                   with(|b| b.spoil = |o| o[0].1.truncate(40)),                       "segment page"),
        ("a piece that lies about its hash",   with(|b| b.spoil = |o| o[2].1[0] ^= 1),                             "is not in it, or not where it belongs"),
        ("content that the index disowns",     with(|b| b.claim = |_| Digest([7; 32])),                            "its content is not what the index says"),
        ("zeros that are not zeros",           with(|b| b.encode = |_| (Encoding::Zero, Vec::new())),              "encoded as zero, but its digest is not zero's"),
        ("a decompression bomb",               with(|b| b.encode = |_| (Encoding::Zstd, zstd(&vec![0; 64 << 20]))), "zstd: a frame of"),
    ];
    for (what, bundle, words) in cases {
        let gateway = Gateway::new();
        let before = gateway.medium();
        let said = gateway.feed(&["install"], &bundle);
        assert!(!said.ok && said.text.contains(words), "{what}: expected {words:?} in {said:?}");
        withdrawn(&gateway, what);
        assert_eq!(gateway.medium()["slot-a"], before["slot-a"], "{what}");
        assert!(gateway.status().contains("\"kind\":\"failed\""), "{what}: {}", gateway.status());
        // And the gateway takes the next bundle as if nothing had been.
        let good = Workshop::new("2.1", 1);
        let said = gateway.feed(&["install"], &good.bytes());
        assert!(said.ok && holds(&gateway.path("slot-b"), &good.content), "{what}: {said:?}");
    }
}

/// Between the moment at which a manifest is proven and those at which the rest of the file is read lie minutes, and a
/// USB stick, a network share or a pipe can give something else by then. Other updaters have verified a file, opened it
/// again, and installed what stood there the second time. Here nothing is read twice: what follows is proven piece by
/// piece against what was proven before it, in memory, and written from that memory.
#[test]
fn what_follows_a_proven_manifest_cannot_be_another_bundles() {
    let (wanted, other) = (Workshop::new("2.0", 1), Workshop::new("1.9", 1));
    let (wanted_file, wanted_places) = wanted.file();
    let (other_file, other_places) = other.file();
    // From the first object, from each page and piece after it: the file is exchanged for the other one there.
    for at in 1..wanted_places.len() - 1 {
        let gateway = Gateway::new();
        let running = gateway.medium()["slot-a"];
        let exchanged = [&wanted_file[..wanted_places[at]], &other_file[other_places[at]..]].concat();
        let said = gateway.feed(&["install"], &exchanged);
        let same = wanted_file[wanted_places[at]..] == other_file[other_places[at]..];
        assert_eq!(said.ok, same, "exchanged from object {at}: {said:?}");
        if !same {
            withdrawn(&gateway, &format!("exchanged from object {at}"));
            assert!(!holds(&gateway.path("slot-b"), &other.content), "object {at}");
        }
        assert_eq!(gateway.medium()["slot-a"], running, "object {at}");
    }
}

#[test]
fn a_bundle_cut_off_anywhere_is_refused_and_never_armed() {
    let bundle = Workshop::new("2.0", 1);
    let (bytes, places) = bundle.file();
    // Each class of length: within the magic, within each header, within and at the end of each object.
    let mut cuts = vec![0, 1, 8, 15, 16];
    for pair in places.windows(2) {
        cuts.extend([pair[0], pair[0] + 3, pair[0] + 8, pair[0] + 9, (pair[0] + pair[1]) / 2, pair[1] - 1]);
    }
    for cut in cuts {
        let gateway = Gateway::new();
        let said = gateway.feed(&["install"], &bytes[..cut]);
        assert!(!said.ok && said.text.contains("cut short"), "cut at {cut}: {said:?}");
        assert!(!gateway.boot_state().b.bootable(), "cut at {cut}");
        assert_eq!(gateway.boot_state().select(), Some(Group::A), "cut at {cut}");
    }
    // Without its end mark nothing of the content is missing; `verify` still says that the file is.
    let gateway = Gateway::new();
    let said = gateway.feed(&["verify"], &bytes[..*places.last().unwrap()]);
    assert!(!said.ok && said.text.contains("cut short"), "{said:?}");
    assert!(gateway.feed(&["verify"], &bytes).ok);
}

#[test]
fn a_bundle_with_a_bit_flipped_is_refused_wherever_the_bit_is() {
    let bundle = Workshop::new("2.0", 1);
    let (bytes, places) = bundle.file();
    // Every header and the start of every object, and then 60 places spread over the whole.
    let starts = places
        .iter()
        .take(places.len() - 1)
        .flat_map(|place| [*place, place + 1, place + 4, place + 8, place + 20]);
    let spread = (0..60).map(|i| i * bytes.len() / 60 + 17).filter(|at| *at < *places.last().unwrap());
    let gateway = Gateway::new();
    for (n, at) in starts.chain(spread).enumerate() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (n % 8);
        let said = gateway.feed(&["verify"], &flipped);
        assert!(!said.ok, "byte {at}: {said:?}");
        if n % 7 == 0 {
            // A fresh one each time: what stands in a slot from a try before is kept, and its pieces are not read.
            let gateway = Gateway::new();
            let said = gateway.feed(&["install"], &flipped);
            assert!(!said.ok, "byte {at}: {said:?}");
            assert_eq!(gateway.boot_state().select(), Some(Group::A), "byte {at}");
            assert!(!gateway.boot_state().b.bootable(), "byte {at}");
        }
    }
}

#[test]
fn an_environment_that_cannot_be_read_stops_the_install_before_a_byte_is_written() {
    let environments: [(&str, Vec<u8>, &str); 4] = [
        ("garbage", vec![0x55; 1024], "environment"),
        ("empty", Vec::new(), "grubenv"),
        ("of another size", vec![b'#'; 512], "grubenv"),
        ("tries out of range", spoiled_tries(), "BOOT_A_LEFT"),
    ];
    for (what, environment, words) in environments {
        let gateway = Gateway::new();
        gateway.put("grubenv", &environment);
        let before = gateway.medium();
        let said = gateway.feed(&["install"], &Workshop::new("2.0", 1).bytes());
        assert!(!said.ok && said.text.contains(words), "{what}: {said:?}");
        assert_eq!(gateway.medium(), before, "{what}");
        let doctor = gateway.run(&["doctor"]);
        assert!(!doctor.ok && doctor.text.contains("WRONG"), "{what}: {doctor:?}");
    }
}

fn spoiled_tries() -> Vec<u8> {
    let gateway = Gateway::new();
    let text = String::from_utf8(gateway.get("grubenv")).unwrap();
    text.replace("BOOT_A_LEFT=0", "BOOT_A_LEFT=x").into_bytes()
}

#[test]
fn a_wrong_board_file_stops_every_command_with_its_line() {
    #[rustfmt::skip]
    let cases = [
        ("convention = \"mainstay\"", "convention = \"mender\"",  "board.toml:4: boot.convention: expected"),
        ("class = \"rootfs\"",        "klass = \"rootfs\"",      "board.toml:"),
        ("running_file = \"running\"", "running_file = \"gone\"", "running group: expected A or B in"),
        ("device = \"slot-b\"",       "device = \"slot-a\"",     "board.toml:"),
        ("device = \"slot-b\"",       "device = \"gone\"",       "gone"),
    ];
    for (from, to, words) in cases {
        let gateway = Gateway::new();
        let board = String::from_utf8(gateway.get("board.toml")).unwrap();
        assert!(board.contains(from), "{from}");
        gateway.put("board.toml", board.replace(from, to).as_bytes());
        let before = gateway.medium();
        let said = gateway.feed(&["install"], &Workshop::new("2.0", 1).bytes());
        assert!(!said.ok && said.text.contains(words), "{to}: expected {words:?} in {said:?}");
        assert_eq!(gateway.medium(), before, "{to}");
    }
}

#[test]
fn the_last_byte_of_the_last_segment_counts() {
    let mut bundle = Workshop::new("2.0", 1);
    bundle.content.truncate(2 * SEGMENT_BYTES + 1);
    let gateway = Gateway::new();
    let said = gateway.feed(&["install"], &bundle.bytes());
    assert!(said.ok && holds(&gateway.path("slot-b"), &bundle.content), "{said:?}");
    assert_eq!(gateway.get("slot-b")[bundle.content.len()], 0xbb);
    let (_, objects) = bundle.objects();
    assert!(objects.iter().any(|(kind, _)| *kind == Object::Piece));
}

/// The running group is bootable and chosen, the target is not, and the floor is where it was.
fn withdrawn(gateway: &Gateway, what: &str) {
    let state = gateway.boot_state();
    assert_eq!(state.select(), Some(Group::A), "{what}");
    assert!(!state.b.bootable(), "{what}: {state:?}");
    assert!(gateway.status().contains("\"floor\":0"), "{what}");
}
