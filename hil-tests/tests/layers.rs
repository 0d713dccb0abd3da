//! Holds the arrows between the layers, as they are drawn in `agent/docs/ARCHITECTURE.md`:
//!
//! ```text
//! daemon ──► board-support ──► bootloader-glue ──► core ◄── sim
//!    └────────────────────────────────────────────► ▲
//! ctl ──────────────────────────────────────────────┤        hil-tests ──► all of them; nothing points back
//! hil-tests/lab ──► bootloader-glue, core ──────────┘
//! ```
//!
//! Method: ask `cargo metadata` for each member's normal and build dependencies on other members, and compare them with
//! the table below. A member that is not in the table is a fault too, so that a new crate gets its place on purpose.
//! Development dependencies are free: a test may look at anything.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may depend on whom. A row may allow an arrow that is not there (yet).
const LAYERS: [(&str, &[&str]); 11] = [
    ("mainstay-core", &[]),
    ("mainstay-bootloader-glue", &["mainstay-core"]),
    ("mainstay-board-support", &["mainstay-bootloader-glue", "mainstay-core"]),
    ("mainstay-sim", &["mainstay-core", "mainstay-bootloader-glue"]),
    ("mainstay", &["mainstay-board-support", "mainstay-bootloader-glue", "mainstay-core"]),
    ("mainstayctl", &["mainstay-core"]),
    ("xtask", &[]),
    ("mainstay-whole", &[]),
    ("mainstay-lab", &["mainstay-bootloader-glue", "mainstay-core"]),
    (
        "mainstay-hil",
        &[
            "mainstay-core",
            "mainstay-bootloader-glue",
            "mainstay-board-support",
            "mainstay-sim",
            "mainstay",
            "mainstayctl",
            "mainstay-lab",
        ],
    ),
    (
        "mainstay-crash",
        &["mainstay-core", "mainstay-bootloader-glue", "mainstay", "mainstay-lab", "mainstay-hil"],
    ),
];

/// One dependency of one member on another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrow {
    from: String,
    to: String,
    features: BTreeSet<String>,
}

/// What cargo says: the members' names, and the arrows between them.
fn ask_cargo() -> (BTreeSet<String>, Vec<Arrow>) {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut arrows = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = text(&dependency["name"]);
            let development = dependency["kind"].as_str() == Some("dev");
            if members.contains(&to) && !development {
                let features = dependency["features"].as_array().into_iter().flatten().map(text).collect();
                arrows.push(Arrow { from: text(&package["name"]), to, features });
            }
        }
    }
    (members, arrows)
}

/// Each arrow that the table does not allow, named.
fn offending(members: &BTreeSet<String>, arrows: &[Arrow]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let mut faults: Vec<String> = members
        .iter()
        .filter(|member| !allowed.contains_key(member.as_str()))
        .map(|member| format!("{member}: has no row in LAYERS; decide what it may depend on"))
        .collect();
    for Arrow { from, to, .. } in arrows {
        let row = allowed.get(from.as_str()).copied().unwrap_or_default();
        if !row.contains(&to.as_str()) {
            faults.push(format!("{from} -> {to}: this arrow points back; {from} may depend on {row:?}"));
        }
    }
    faults
}

#[test]
fn no_arrow_between_the_layers_points_back() {
    let (members, arrows) = ask_cargo();
    let faults = offending(&members, &arrows);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_row_of_the_table_is_a_member_of_the_workspace() {
    let (members, _) = ask_cargo();
    for (name, _) in LAYERS {
        assert!(members.contains(name), "{name}: in LAYERS, but not in the workspace");
    }
}

#[test]
fn the_device_binary_cannot_sign() {
    let (_, arrows) = ask_cargo();
    for Arrow { from, to, features } in arrows {
        let device =
            matches!(from.as_str(), "mainstay" | "mainstay-board-support" | "mainstay-bootloader-glue");
        let author = to == "mainstay-core" && features.contains("author");
        assert!(
            !(device && author),
            "{from} -> {to}: switches on `author`, which only the operator's side needs"
        );
    }
}

#[test]
fn an_arrow_that_points_back_is_named() {
    let members = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let arrow = |from: &str, to: &str| Arrow { from: from.into(), to: to.into(), features: BTreeSet::new() };
    #[rustfmt::skip]
    let cases = [
        // from                       to                           said of it
        ("mainstay-core",             "mainstay-bootloader-glue",  Some("mainstay-core -> mainstay-bootloader-glue")),
        ("mainstay-bootloader-glue",  "mainstay-board-support",    Some("mainstay-bootloader-glue -> mainstay-board-support")),
        ("mainstayctl",               "mainstay",                  Some("mainstayctl -> mainstay")),
        ("mainstay",                  "mainstay-sim",              Some("mainstay -> mainstay-sim")),
        ("mainstay-sim",              "mainstay-hil",              Some("mainstay-sim -> mainstay-hil")),
        ("mainstay",                  "mainstay-core",             None),
        ("mainstay-hil",              "mainstay-sim",              None),
    ];
    for (from, to, said) in cases {
        let faults = offending(&members, &[arrow(from, to)]);
        match said {
            Some(said) => assert!(faults.len() == 1 && faults[0].starts_with(said), "{faults:?}"),
            None => assert!(faults.is_empty(), "{faults:?}"),
        }
    }
    let stranger = BTreeSet::from(["stranger".to_owned()]);
    assert_eq!(offending(&stranger, &[]).len(), 1);
}
