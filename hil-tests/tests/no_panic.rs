//! Holds the lints that keep panics out of what runs on a device: each of its crates denies them outside of tests, nobody
//! allows one again without a reason, and numbers that overflow are caught in the released binary as well.
//!
//! Method: the sources and the manifest are read as text. That the lints are obeyed is clippy's affair, on every push.

use std::path::{Path, PathBuf};

/// The crates' roots.
const ROOTS: [&str; 5] = [
    "agent/core/src/lib.rs",
    "agent/daemon/src/lib.rs",
    "agent/daemon/src/main.rs",
    "bootloader-glue/src/lib.rs",
    "board-support/src/lib.rs",
];

/// Each is a way to panic over what came from outside.
const LINTS: [&str; 9] = [
    "unwrap_used",
    "expect_used",
    "panic",
    "unreachable",
    "todo",
    "unimplemented",
    "indexing_slicing",
    "string_slice",
    "get_unwrap",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Attributes of `text` that begin so, each up to its closing bracket.
fn attributes<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(word).map(|(at, _)| text[at..].split_once(")]").map_or(&text[at..], |(all, _)| all))
}

#[test]
fn every_crate_of_the_device_denies_each_way_to_panic() {
    for root in ROOTS {
        let text = read(&repository().join(root));
        let denied = attributes(&text, "deny(").next().unwrap_or_else(|| panic!("{root}: denies nothing"));
        for lint in LINTS {
            let name = format!("clippy::{lint}");
            let stands = denied.split([',', '(', ')']).any(|word| word.trim() == name);
            assert!(stands, "{root}: expected deny({name}), found {denied}");
        }
    }
}

#[test]
fn nobody_lets_a_panic_in_again_without_a_reason() {
    let mut wrong = Vec::new();
    for root in ["agent/core/src", "agent/daemon/src", "bootloader-glue/src", "board-support/src"] {
        let mut files = Vec::new();
        sources(&repository().join(root), &mut files);
        assert!(files.len() > 5, "{root}: {} files", files.len());
        for file in files {
            let text = read(&file);
            let let_in = |word| {
                attributes(&text, word).filter(|a| LINTS.iter().any(|l| a.contains(&format!("clippy::{l}"))))
            };
            wrong.extend(let_in("allow(").map(|a| format!("{}: {a}", file.display())));
            let silent = let_in("expect(clippy").filter(|a| !a.contains("reason = \""));
            wrong.extend(silent.map(|a| format!("{}: {a}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "expected #[expect(…, reason = \"…\")], found {wrong:#?}");
}

#[test]
fn the_released_binary_checks_its_arithmetic() {
    let manifest = read(&repository().join("Cargo.toml"));
    let profile = manifest.split("[profile.release]").nth(1).and_then(|rest| rest.split("\n[").next());
    let profile = profile.expect("a release profile");
    assert!(profile.contains("\noverflow-checks = true"), "{profile}");
    // A package's own profile would win over it. "*" is every package that is none of this workspace's (The Cargo Book, "Overrides").
    let off: Vec<&str> = manifest
        .split("\n[")
        .filter(|section| section.contains("overflow-checks = false"))
        .filter_map(|section| section.lines().next())
        .collect();
    assert_eq!(off, ["profile.release.package.\"*\"]"], "libraries alone may go without");
}
