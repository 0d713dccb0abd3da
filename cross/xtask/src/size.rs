//! `cargo xtask size`: the static device binary, weighed. What else is measured of it begins here, too: [`host_binary`].
//!
//! The budget is a promise to integrators: everything in (TLS, MQTT, zstd, signatures) and no library beside it. What is
//! weighed is the file that goes into the image, stripped by the release profile. A target that cannot be built on this
//! machine is listed as not built, with the reason; only the host's own architecture has to be there.

use crate::{Failure, Outcome, tools};
use lexopt::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: f64 = 1024.0 * 1024.0;

/// A target that the device binary is built for.
struct Target {
    triple: &'static str,
    /// The largest that the binary may be, in MiB.
    budget_mib: f64,
    /// C compilers that will do (ring and zstd are C), in the order in which they are looked for.
    compilers: &'static [&'static str],
    /// Linking without a C library of the target's on this machine: Rust's own linker and its own copy of musl.
    self_contained: bool,
}

const TARGETS: [Target; 2] = [
    Target {
        triple: "x86_64-unknown-linux-musl",
        budget_mib: 3.0,
        compilers: &["x86_64-linux-musl-gcc", "musl-gcc"],
        self_contained: false,
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        budget_mib: 2.5,
        compilers: &["aarch64-linux-musl-gcc", "aarch64-linux-gnu-gcc"],
        self_contained: true,
    },
];

/// Parses the rest of the command line, builds, prints the table.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let mut wanted: Vec<String> = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Long("target") => wanted.push(args.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    for triple in &wanted {
        if !TARGETS.iter().any(|target| target.triple == triple) {
            let known = TARGETS.map(|target| target.triple).join(", ");
            return Err(format!("size: no target {triple}; there are {known}").into());
        }
    }
    let required = |target: &Target| match wanted.is_empty() {
        true => target.triple.starts_with(std::env::consts::ARCH),
        false => true,
    };
    let chosen = |target: &&Target| wanted.is_empty() || wanted.iter().any(|triple| triple == target.triple);

    println!("| binary | target | bytes | MiB | budget | of budget |");
    println!("|---|---|--:|--:|--:|--:|");
    let mut above = Vec::new();
    let mut missing = Vec::new();
    for target in TARGETS.iter().filter(chosen) {
        let Target { triple, budget_mib, .. } = *target;
        match build(target).and_then(|binary| weigh(&binary)) {
            Ok(bytes) => {
                let mib = bytes as f64 / MIB;
                let ratio = 100.0 * mib / budget_mib;
                println!("| mainstay | {triple} | {bytes} | {mib:.2} | {budget_mib:.1} MiB | {ratio:.0} % |");
                if mib > budget_mib {
                    above.push(format!("{triple}: {mib:.2} MiB, of at most {budget_mib:.1} MiB"));
                }
            }
            Err(why) => {
                let why = gist(&why);
                println!("| mainstay | {triple} | not built: {why} | | {budget_mib:.1} MiB | |");
                if required(target) {
                    missing.push(format!("{triple}: {why}"));
                }
            }
        }
    }
    match (above.is_empty(), missing.is_empty()) {
        (false, _) => Err(Failure::AboveBudget(above.join("; "))),
        (true, false) => Err(Failure::Unmeasured(missing.join("; "))),
        (true, true) => Ok(()),
    }
}

/// The one line of a long complaint that says what is wrong.
fn gist(complaint: &str) -> String {
    let mut lines = complaint.lines();
    let error = lines.clone().find(|line| line.contains("error"));
    error.or_else(|| lines.next()).unwrap_or_default().to_owned()
}

/// The static device binary for this machine's own architecture, built; and whether it is within its budget.
pub fn host_binary() -> Result<(PathBuf, bool), String> {
    let host = TARGETS.iter().find(|target| target.triple.starts_with(std::env::consts::ARCH));
    let host = host.ok_or_else(|| format!("no static target for {}", std::env::consts::ARCH))?;
    let binary = build(host)?;
    let (bytes, budget) = (weigh(&binary)?, host.budget_mib);
    println!("| binary | bytes | MiB | budget |\n|---|--:|--:|--:|");
    println!("| mainstay, {} | {bytes} | {:.2} | {budget:.1} MiB |\n", host.triple, bytes as f64 / MIB);
    Ok((binary, bytes as f64 / MIB <= budget))
}

fn weigh(binary: &Path) -> Result<u64, String> {
    let file = std::fs::metadata(binary).map_err(|e| format!("{}: {e}", binary.display()))?;
    Ok(file.len())
}

/// Builds the device binary for `target`; where it is.
fn build(target: &Target) -> Result<PathBuf, String> {
    let triple = target.triple;
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let library = tools::output(rustc.args(["--print", "target-libdir", "--target", triple]))?;
    if !std::path::Path::new(&library).is_dir() {
        return Err(format!("no standard library for it: rustup target add {triple}"));
    }
    let compiler = target.compilers.iter().find(|compiler| tools::installed(compiler));
    let compiler =
        compiler.ok_or_else(|| format!("no C compiler for it: one of {}", target.compilers.join(", ")))?;

    let mut cargo = tools::cargo();
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "mainstay",
        "--bin",
        "mainstay",
        "--target",
        triple,
    ]);
    cargo.env(format!("CC_{}", triple.replace('-', "_")), compiler);
    if target.self_contained {
        let variable = triple.replace('-', "_").to_uppercase();
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), "rust-lld");
        cargo.env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-C link-self-contained=yes");
    }
    tools::output(&mut cargo)?;
    Ok(tools::target_dir().join(triple).join("release/mainstay"))
}
