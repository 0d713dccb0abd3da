//! Keys and trust roots, as an operator meets them at the command line.

mod common;

use common::Desk;
use mainstay_core::trust::TrustRoot;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

fn mode(desk: &Desk, name: &str) -> u32 {
    std::fs::metadata(desk.path(name)).expect("a file").permissions().mode() & 0o777
}

fn with_passphrase(desk: &Desk, words: &str, arguments: &[&str]) -> Output {
    desk.command(arguments).env("MAINSTAY_PASSPHRASE", words).output().expect("runs")
}

#[test]
fn a_key_is_encrypted_unless_it_is_told_not_to_be() {
    let desk = Desk::new();
    assert!(with_passphrase(&desk, "four random words", &["key", "generate", "alice"]).status.success());
    assert_eq!((mode(&desk, "alice.key"), mode(&desk, "alice.pub") & 0o444), (0o600, 0o444));
    let text = String::from_utf8(desk.read("alice.key")).expect("text");
    assert!(text.contains("kdf argon2id 65536 3 1 ") && text.contains("cipher chacha20poly1305 "), "{text}");

    let plain = desk.run(&["key", "generate", "bob", "--no-passphrase"]);
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("WARNING") && said.contains("NOT encrypted"), "{said}");

    // The public half can be had without a passphrase, from either file.
    let shown = desk.ok(&["key", "public", "alice.key"]);
    assert_eq!(shown, desk.ok(&["key", "public", "alice.pub"]));
}

#[test]
fn a_passphrase_comes_from_a_file_or_the_environment_and_must_be_right() {
    let desk = Desk::furnished();
    desk.write("words", "correct horse battery\nsecond line\n");
    desk.ok(&["key", "generate", "alice", "--passphrase-file", "words"]);
    desk.write("image", "content");
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    let sign = ["sign", "x.bundle", "--key", "alice.key"];

    let said = desk.refused(&sign);
    assert!(said.contains("no terminal to ask at") && said.contains("MAINSTAY_PASSPHRASE"), "{said}");
    let wrong = with_passphrase(&desk, "correct horse", &sign);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said.contains("alice.key: the passphrase does not open this key"), "{said}");
    assert!(with_passphrase(&desk, "correct horse battery", &sign).status.success());
    desk.ok(&["sign", "x.bundle", "--key", "alice.key", "--passphrase-file", "words"]);
}

#[test]
fn a_new_passphrase_is_long_enough_or_there_is_no_key() {
    let desk = Desk::new();
    let output = with_passphrase(&desk, "short", &["key", "generate", "alice"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("expected at least 8 characters, found 5"), "{said}");
    assert_eq!(desk.names(), Vec::<String>::new());
}

#[test]
fn a_key_is_never_overwritten() {
    let desk = Desk::new();
    desk.key("alice");
    let before = desk.read("alice.key");
    let said = desk.refused(&["key", "generate", "alice", "--no-passphrase"]);
    assert!(said.contains("exists already") && said.contains("never overwritten"), "{said}");
    assert_eq!(desk.read("alice.key"), before);
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    let desk = Desk::furnished();
    desk.write("image", "content");
    for bits in [0o644, 0o640, 0o606] {
        std::fs::set_permissions(desk.path("release.key"), PermissionsExt::from_mode(bits)).expect("set");
        let said = desk.refused(&[
            "pack",
            "--artifact",
            "rootfs=image",
            "--compatible",
            "c",
            "--version",
            "1",
            "--sign-with",
            "release.key",
            "--out",
            "x.bundle",
        ]);
        let found = format!("release.key: expected mode 0600 (its owner alone), found {bits:04o}");
        assert!(said.contains(&found) && said.contains("chmod 600 release.key"), "{said}");
    }
    assert!(!desk.path("x.bundle").exists());
}

/// A fleet whose root and release roles are held by three people each, two of whom must sign.
fn council() -> Desk {
    let desk = Desk::new();
    for name in ["anna", "ben", "carl", "dora", "eve"] {
        desk.key(name);
    }
    desk.ok(&[
        "trust",
        "init",
        "--fleet",
        "plant",
        "--root-key",
        "anna.pub",
        "--root-key",
        "ben.pub",
        "--root-key",
        "carl.pub",
        "--root-threshold",
        "2",
        "--release-key",
        "dora.pub",
        "--operator-key",
        "eve.pub",
        "--sign-with",
        "anna.key",
        "--sign-with",
        "ben.key",
        "--out",
        "1.root",
    ]);
    desk
}

#[test]
fn a_root_that_too_few_have_signed_is_a_draft_and_only_when_asked_for() {
    let desk = council();
    let init = [
        "trust",
        "init",
        "--fleet",
        "plant",
        "--root-key",
        "anna.pub",
        "--root-key",
        "ben.pub",
        "--root-threshold",
        "2",
        "--release-key",
        "dora.pub",
        "--sign-with",
        "anna.key",
        "--out",
        "draft.root",
    ];
    let said = desk.refused(&init);
    assert!(
        said.contains("expected 2 valid signature(s) of role root") && said.contains("--draft"),
        "{said}"
    );
    assert!(!desk.path("draft.root").exists());

    let said = desk.ok(&[&init[..], &["--draft"]].concat());
    assert!(said.contains("DRAFT"), "{said}");
    assert!(
        desk.refused(&["verify", "x", "--trust", "draft.root"]).contains("draft.root: TrustRoot: expected 2")
    );
    let said = desk.refused(&["trust", "sign", "draft.root", "--key", "eve.key"]);
    assert!(said.contains("holds no root role"), "{said}");
    let said = desk.ok(&["trust", "sign", "draft.root", "--key", "ben.key"]);
    assert!(said.contains("complete: gateways take it"), "{said}");
    TrustRoot::anchor(&desk.read("draft.root")).expect("complete");
}

/// Where the root keys are lost, an image brings the root of a new chain; gateways take it if its version is higher.
#[test]
fn a_new_chain_begins_above_the_one_whose_root_keys_are_lost_and_is_rotated_as_any_other() {
    let desk = council();
    desk.key("fay");
    let init = ["trust", "init", "--fleet", "plant", "--root-key", "fay.pub", "--release-key", "dora.pub"];
    let at = |version| {
        [&init[..], &["--sign-with", "fay.key", "--root-version", version, "--out", "7.root"]].concat()
    };
    assert!(desk.refused(&at("0")).contains("expected a version from 1, found 0"));
    desk.ok(&at("7"));
    let root = TrustRoot::anchor(&desk.read("7.root")).expect("complete");
    assert_eq!(root.version, 7);
    // The keys of the old chain say nothing in it.
    let said = desk.refused(&["trust", "sign", "7.root", "--key", "anna.key"]);
    assert!(said.contains("holds no root role"), "{said}");
    let rotate =
        ["trust", "rotate", "--from", "7.root", "--add", "operator=eve.pub", "--sign-with", "fay.key"];
    desk.ok(&[&rotate[..], &["--out", "8.root"]].concat());
    assert_eq!(root.rotate(&desk.read("8.root")).expect("a rotation").version, 8);
}

#[test]
fn a_rotation_is_signed_by_those_before_and_those_after() {
    let desk = council();
    let first = TrustRoot::anchor(&desk.read("1.root")).expect("the first");
    desk.key("fred");
    desk.key("gina");
    // Ben and Carl go, Fred and Gina come: two of {anna, ben, carl} and two of {anna, fred, gina} must sign.
    let rotate = [
        "trust",
        "rotate",
        "--from",
        "1.root",
        "--add",
        "root=fred.pub",
        "--add",
        "root=gina.pub",
        "--remove",
        "root=ben.pub",
        "--remove",
        "root=carl.pub",
    ];
    #[rustfmt::skip]
    let too_few: [&[&str]; 4] = [
        &["anna.key"],                             // one of each
        &["anna.key", "ben.key"],                  // two before, one after
        &["anna.key", "fred.key"],                 // one before, two after
        &["fred.key", "gina.key"],                 // nobody before
    ];
    let with = |signers: &[&'static str], out: &'static str| -> Vec<&'static str> {
        let signers = signers.iter().flat_map(|key| ["--sign-with", *key]);
        rotate.into_iter().chain(signers).chain(["--out", out]).collect()
    };
    for signers in too_few {
        let said = desk.refused(&with(signers, "2.root"));
        assert!(said.contains("of role root"), "{signers:?}: {said}");
        assert!(!desk.path("2.root").exists());
    }
    let said = desk.refused(&with(&["anna.key", "ben.key", "fred.key", "eve.key"], "2.root"));
    assert!(said.contains("holds no root role, before or after the change"), "{said}");
    desk.ok(&with(&["anna.key", "ben.key", "fred.key"], "2.root"));
    let second = first.rotate(&desk.read("2.root")).expect("gateways take it");
    assert_eq!((second.version, second.keys.len()), (2, 5));

    // A draft goes from desk to desk. Carl holds the role before the change alone, which needs the root before.
    desk.ok(&[&with(&["anna.key"], "3.root")[..], &["--draft"]].concat());
    let said = desk.refused(&["trust", "sign", "3.root", "--key", "carl.key"]);
    assert!(said.contains("holds no root role") && said.contains("--from"), "{said}");
    let said = desk.ok(&["trust", "sign", "3.root", "--key", "carl.key", "--from", "1.root"]);
    assert!(said.contains("DRAFT") && first.rotate(&desk.read("3.root")).is_err(), "{said}");
    let said = desk.ok(&["trust", "sign", "3.root", "--key", "gina.key", "--from", "1.root"]);
    assert!(said.contains("complete"), "{said}");
    first.rotate(&desk.read("3.root")).expect("gateways take it");
}

#[test]
fn roles_and_thresholds_change_and_nonsense_is_refused() {
    let desk = council();
    let both = ["--sign-with", "anna.key", "--sign-with", "ben.key"];
    let rotate = |change: &[&str], out: &str| {
        desk.run(&[&["trust", "rotate", "--from", "1.root"], change, &both, &["--out", out]].concat())
    };
    #[rustfmt::skip]
    let refused: [(&[&str], &str); 9] = [
        (&[],                                          "nothing changes"),
        (&["--add", "captain=eve.pub"],                "expected root, release, operator or factory, found \"captain\""),
        (&["--add", "release=dora.pub"],               "holds the role release already"),
        (&["--remove", "release=eve.pub"],             "does not hold the role release"),
        (&["--remove", "release=dora.pub"],            "role release: expected a threshold of 1 to 0"),
        (&["--threshold", "release=2"],                "role release: expected a threshold of 1 to 1 (its members), found 2"),
        (&["--threshold", "root=0"],                   "role root: expected a threshold of 1 to 3"),
        (&["--threshold", "root=many"],                "expected a number, found \"many\""),
        (&["--add", "release=image"],                  "image: "),
    ];
    desk.write("image", "content");
    for (change, expected) in refused {
        let output = rotate(change, "2.root");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{change:?}");
        assert!(said.contains(expected), "{change:?}: {said}");
    }
    let id = desk.ok(&["key", "public", "eve.pub"]).split_whitespace().nth(1).expect("an id").to_owned();
    let by_id = format!("operator={id}");
    let change = [
        "--remove",
        &by_id,
        "--add",
        "release=eve.pub",
        "--threshold",
        "release=2",
        "--add",
        "factory=eve.pub",
    ];
    assert!(rotate(&change, "2.root").status.success());
    let shown: serde_json::Value =
        serde_json::from_str(&desk.ok(&["trust", "show", "2.root", "--from", "1.root", "--json"]))
            .expect("JSON");
    assert_eq!(shown["complete"], true);
    let roles: Vec<(u64, usize)> = (0..4)
        .map(|i| {
            let role = &shown["roles"][i];
            (role["threshold"].as_u64().expect("a number"), role["keys"].as_array().expect("keys").len())
        })
        .collect();
    assert_eq!(roles, [(2, 3), (2, 2), (0, 0), (1, 1)]);
}

#[test]
fn a_trust_root_that_was_changed_is_refused() {
    let desk = council();
    let whole = desk.read("1.root");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        desk.write("changed.root", &changed);
        // Each start of the binary costs some milliseconds; the library is asked for every byte, the binary for some.
        assert!(TrustRoot::anchor(&changed).is_err(), "byte {at}");
        if at % 37 == 0 {
            let said = desk.refused(&["verify", "x", "--trust", "changed.root"]);
            assert!(said.contains("changed.root: "), "byte {at}: {said}");
        }
    }
}
