//! What the command line says: the help as it is drawn in `golden/`, and errors that name what was expected, what
//! was found and what to do. `UPDATE_GOLDEN=1 cargo test -p mainstayctl` draws the help anew.

mod common;

use common::Desk;
use std::path::Path;

#[test]
fn the_help_is_as_it_was_drawn() {
    let desk = Desk::new();
    let mut wrong = Vec::new();
    #[rustfmt::skip]
    let commands: [&[&str]; 18] = [
        &[], &["key"], &["key", "generate"], &["key", "public"], &["trust"], &["trust", "init"], &["trust", "rotate"],
        &["trust", "sign"], &["trust", "show"], &["trust", "publish"], &["pack"], &["sign"], &["verify"], &["inspect"], &["publish"], &["halt"],
        &["resume"], &["watch"],
    ];
    for command in commands {
        let name = [&["help"], command].concat().join("-");
        let found = desk.ok(&[command, &["--help"]].concat());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).expect("written");
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "changed: {wrong:?}; look at it, then run with UPDATE_GOLDEN=1");
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_is_missing() {
    let desk = Desk::new();
    #[rustfmt::skip]
    let cases: [(&[&str], &str); 9] = [
        (&[],                                                        "Usage: mainstayctl"),
        (&["fly"],                                                   "unrecognized subcommand 'fly'"),
        (&["key"],                                                   "Usage: mainstayctl key"),
        (&["pack", "--out", "x"],                                    "--artifact <CLASS=IMAGE>"),
        (&["pack", "--artifact", "rootfs", "--out", "x"],            "expected NAME=VALUE, found \"rootfs\""),
        (&["pack", "--level", "23"],                                 "23 is not in 1..=22"),
        (&["sign", "x"],                                             "--key <K.key>"),
        (&["publish", "x", "--broker", "mqtt://b", "--trust", "t", "--operator-key", "k"], "<--group <GROUP>|--device <DEVICE>>"),
        (&["watch", "--broker", "mqtt://b", "--fleet", "f", "--cert", "c"], "--key <KEY.pem>"),
    ];
    for (arguments, expected) in cases {
        let output = desk.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let desk = Desk::furnished();
    desk.write("image", [1; 5000]);
    desk.write("empty", "");
    desk.write("text", "This is not a bundle at all, it is text.");
    std::fs::create_dir(desk.path("folder")).expect("a folder");
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    fn pack<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["pack", "--compatible", "c", "--version", "1", "--out", "y.bundle"];
        all.extend(more);
        all
    }
    let publish = |more: &[&'static str]| -> Vec<&'static str> {
        let mut all = vec!["publish", "x.bundle", "--trust", "trust.root", "--operator-key", "operator.key"];
        all.extend(more);
        all
    };
    let long = "x".repeat(49);
    let long_version =
        ["pack", "--artifact", "rootfs=image", "--compatible", "c", "--version", &long, "--out", "y.bundle"];
    #[rustfmt::skip]
    let cases: [(Vec<&str>, &[&str]); 26] = [
        (vec!["verify", "gone", "--trust", "trust.root"],            &["gone: no such file or folder"]),
        (vec!["verify", "text", "--trust", "trust.root"],            &["text: expected a bundle", "found \"This is not a bu\""]),
        (vec!["verify", "empty", "--trust", "trust.root"],           &["empty: bundle: cut short at byte 0", "to do:"]),
        (vec!["verify", "folder", "--trust", "trust.root"],          &["folder: expected a bundle file, found a folder"]),
        (vec!["verify", "x.bundle", "--trust", "image"],             &["image: envelope: expected magic MSE1", "to do: name a trust root"]),
        (vec!["verify", "x.bundle", "--trust", "root.pub"],          &["root.pub: envelope: "]),
        (vec!["sign", "x.bundle", "--key", "release.pub"],           &["release.pub: expected", "NAME.key"]),
        (vec!["sign", "x.bundle", "--key", "gone.key"],              &["gone.key: no such file"]),
        (vec!["key", "public", "image"],                             &["image: expected"]),
        (vec!["key", "generate", "../alice", "--no-passphrase"],     &["name: expected letters, digits"]),
        (vec!["key", "generate", "a", "--no-passphrase", "--out", "gone"], &["gone/a.key", "no such file or folder"]),
        (pack(&["--artifact", "rootfs=gone"]),                       &["gone: no such file"]),
        (pack(&["--artifact", "rootfs=empty"]),                      &["empty: expected an image, found an empty file"]),
        (pack(&["--artifact", "rootfs=folder"]),                     &["folder: expected an image, found a folder", "mkfs"]),
        (pack(&["--artifact", "a/b=image"]),                         &["manifest: class: expected letters, digits"]),
        (pack(&["--artifact", "a=image", "--artifact", "a=image"]),  &["two artifacts of class a"]),
        (pack(&["--artifact", "a=image", "--tries", "10"]),          &["expected 1 to 9 tries, found 10"]),
        (pack(&["--artifact", "a=image", "--expires", "soon"]),      &["expected Unix seconds, 2026-11-20T10:00:00Z (UTC) or +7d, found \"soon\""]),
        (pack(&["--artifact", "a=image", "--sbom", "gone"]),         &["gone: no such file"]),
        (long_version.to_vec(),                                      &["--version: expected at most 48 bytes, found 49"]),
        (publish(&["--broker", "http://b", "--group", "g"]),         &["expected mqtts://host[:8883] or mqtt://host[:1883], found \"http://b\""]),
        (publish(&["--broker", "mqtts://b", "--group", "g"]),        &["a certificate authority is needed", "--ca"]),
        (publish(&["--broker", "mqtt://127.0.0.1:1", "--group", "g"]), &["mqtt://127.0.0.1:1: ", "refused", "look whether the broker is up"]),
        (publish(&["--broker", "mqtt://b", "--group", "a/b"]),       &["group: expected letters, digits"]),
        (publish(&["--broker", "mqtt://b", "--group", "g", "--rollout", "half"]), &["expected 0% to 100% with at most two decimals, found \"half\""]),
        (publish(&["--broker", "mqtt://b", "--group", "g", "--seq", "last"]), &["--seq: expected auto or a number, found \"last\""]),
    ];
    for (arguments, expected) in cases {
        let said = desk.refused(&arguments);
        for part in expected {
            assert!(said.contains(part), "{arguments:?}: expected {part:?} in: {said}");
        }
        assert!(
            said.starts_with("mainstayctl: ") || said.starts_with("note: ") || said.starts_with("WARNING"),
            "{said}"
        );
        assert!(!desk.path("y.bundle").exists() && !desk.path("y.bundle.unsigned").exists(), "{arguments:?}");
    }
    assert!(!desk.names().iter().any(|name| name.starts_with(".mainstayctl")), "{:?}", desk.names());
}

#[test]
fn results_stand_on_standard_output_alone() {
    let desk = Desk::furnished();
    desk.write("image", [1; 5000]);
    desk.bundle("x.bundle", &["rootfs=image"], "1");
    let output = desk.run(&["inspect", "x.bundle", "--json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
