//! `cargo xtask footprint` and `cargo xtask bench`: memory, time and bytes, measured on the static device binary.
//!
//! What measures stands in `hil-tests` (`measure`), which has the broker, the board and the images; it is started through
//! cargo, so that this crate depends on nothing of ours. All further words go to it: `cargo xtask footprint --size 16`.

use crate::target::{TARGETS, Tree};
use crate::{Failure, Outcome, size, tools};
use std::ffi::OsString;

/// Parts of the bench, in the order in which `bench` alone plays them.
const PARTS: [&str; 4] = ["pair", "size", "link", "install"];

/// `bench`, and its part where one is named.
pub fn bench(args: lexopt::Parser) -> Outcome {
    let (part, further) = part(args)?;
    measure(&part, further)
}

/// The part of the bench, `bench` for all of them, and the words behind it.
fn part(mut args: lexopt::Parser) -> Result<(String, Vec<OsString>), Failure> {
    let mut further: Vec<OsString> = args.raw_args()?.collect();
    let named = further.first().and_then(|word| word.to_str()).filter(|word| !word.starts_with('-'));
    let Some(named) = named.map(str::to_owned) else { return Ok(("bench".into(), further)) };
    further.remove(0);
    match PARTS.contains(&named.as_str()) {
        true => Ok((named, further)),
        false => {
            let known = PARTS.join(", ");
            Err(Failure::Unmeasured(format!("bench: expected one of {known}, or none, found {named:?}")))
        }
    }
}

/// Measures `what`, which is a word of `measure`.
pub fn run(what: &str, mut args: lexopt::Parser) -> Outcome {
    let further: Vec<OsString> = args.raw_args()?.collect();
    measure(what, further)
}

fn measure(what: &str, further: Vec<OsString>) -> Outcome {
    let mut cargo = tools::cargo();
    cargo.args(["run", "--quiet", "--package", "mainstay-hil", "--bin", "measure", "--", what]);
    let mut light = true;
    if !matches!(what, "pair" | "size") {
        let (binary, is_light) = size::host_binary()?;
        light = is_light;
        cargo.arg("--agent").arg(binary);
    }
    if matches!(what, "size" | "bench") {
        match apply() {
            Ok(apply) => drop(cargo.arg("--apply").arg(apply)),
            Err(why) => eprintln!("the apply path alone is not measured: {why}"),
        }
    }
    let status = cargo.args(further).status().map_err(|e| format!("cargo: {e}"))?;
    match (status.code(), light) {
        (Some(0), true) => Ok(()),
        (Some(0), false) => Err(Failure::AboveBudget("the binary's size".into())),
        (Some(1), _) => Err(Failure::AboveBudget("see the lines above".into())),
        _ => Err(Failure::Unmeasured(format!("{what}: {status}"))),
    }
}

/// The device's apply path as a program of its own, static, as the device binary is.
fn apply() -> Result<std::path::PathBuf, String> {
    let source = tools::workspace().join("agent/daemon/examples/apply.rs");
    if !source.is_file() {
        return Err(format!("not available in this build: no {}", source.display()));
    }
    let host = TARGETS.iter().find(|target| target.is_native());
    let host = host.ok_or_else(|| format!("no static target for {}", std::env::consts::ARCH))?;
    host.build_example(&Tree::ours(), "apply")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_bench_is_named_first_or_all_are_meant() {
        let read = |line: &str| part(lexopt::Parser::from_args(line.split_whitespace()));
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        #[rustfmt::skip]
        let cases = [
            ("",                        "bench",    words(&[])),
            ("--json x",                "bench",    words(&["--json", "x"])),
            ("install --size 64",       "install",  words(&["--size", "64"])),
            ("link",                    "link",     words(&[])),
            ("pair --folder x",         "pair",     words(&["--folder", "x"])),
        ];
        for (line, expected, further) in cases {
            let found = read(line).unwrap_or_else(|_| panic!("{line}: refused"));
            assert_eq!(found, (expected.to_owned(), further), "{line}");
        }
        let Err(Failure::Unmeasured(why)) = read("speed --size 1") else { panic!("it is taken") };
        assert!(why.contains("link") && why.contains("\"speed\""), "{why}");
    }
}
