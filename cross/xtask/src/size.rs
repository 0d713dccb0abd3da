//! `cargo xtask size`: the static device binary, weighed. What else is measured of it begins here, too: [`host_binary`].
//!
//! The budget is a promise to integrators: everything in (TLS, MQTT, zstd, signatures) and no library beside it. What is
//! weighed is the file that goes into the image, stripped by the release profile. A target that cannot be built on this
//! machine is listed as not built, with the reason; only the host's own architecture has to be there, and what was asked
//! for by name.

use crate::target::{TARGETS, Target, Tree};
use crate::{Failure, Outcome};
use lexopt::prelude::*;
use std::path::{Path, PathBuf};

const MIB: f64 = 1024.0 * 1024.0;

/// Parses the rest of the command line, builds, prints the table.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let mut wanted: Vec<String> = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Long("target") => wanted.push(args.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let required = |target: &Target| !wanted.is_empty() || target.is_native();
    table(&Target::chosen(&wanted)?, required).map(drop)
}

/// Builds each of `targets` and prints what it weighs, as a table; those that were built, and where they are. An error if
/// one is above its budget, or if one that is `required` could not be built.
pub fn table(
    targets: &[&'static Target],
    required: impl Fn(&Target) -> bool,
) -> Result<Vec<(&'static Target, PathBuf)>, Failure> {
    println!("| binary | target | bytes | MiB | budget | of budget |");
    println!("|---|---|--:|--:|--:|--:|");
    let (mut built, mut above, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for target in targets {
        let Target { triple, budget_mib, .. } = *target;
        match target.build(&Tree::ours()).and_then(|binary| Ok((weigh(&binary)?, binary))) {
            Ok((bytes, binary)) => {
                let mib = bytes as f64 / MIB;
                let ratio = 100.0 * mib / budget_mib;
                println!("| mainstay | {triple} | {bytes} | {mib:.2} | {budget_mib:.1} MiB | {ratio:.0} % |");
                if mib > *budget_mib {
                    above.push(format!("{triple}: {mib:.2} MiB, of at most {budget_mib:.1} MiB"));
                }
                built.push((*target, binary));
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
    println!();
    match (above.is_empty(), missing.is_empty()) {
        (false, _) => Err(Failure::AboveBudget(above.join("; "))),
        (true, false) => Err(Failure::Unmeasured(missing.join("; "))),
        (true, true) => Ok(built),
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
    let host = TARGETS.iter().find(|target| target.is_native());
    let host = host.ok_or_else(|| format!("no static target for {}", std::env::consts::ARCH))?;
    let binary = host.build(&Tree::ours())?;
    let (bytes, budget) = (weigh(&binary)?, host.budget_mib);
    println!("| binary | bytes | MiB | budget |\n|---|--:|--:|--:|");
    println!("| mainstay, {} | {bytes} | {:.2} | {budget:.1} MiB |\n", host.triple, bytes as f64 / MIB);
    Ok((binary, bytes as f64 / MIB <= budget))
}

fn weigh(binary: &Path) -> Result<u64, String> {
    let file = std::fs::metadata(binary).map_err(|e| format!("{}: {e}", binary.display()))?;
    Ok(file.len())
}
