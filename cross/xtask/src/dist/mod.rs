//! `cargo xtask dist`: the static device binaries, as they are given away.
//!
//! ```text
//! target/dist/TRIPLE/mainstay        one static file, stripped, within its budget
//! target/dist/SHA256SUMS             of all that stand there: sha256sum --check SHA256SUMS
//! ```
//! `--run` then lets each of them work ([`install`]), `--reproducible` builds each a second time, elsewhere, and
//! compares ([`again`]).

mod again;
mod elf;
mod install;

use crate::target::{TARGETS, Target};
use crate::{Outcome, size, tools};
use lexopt::prelude::*;
use std::path::PathBuf;
use std::process::Command;

/// Where what is given away stands.
pub fn folder() -> PathBuf {
    tools::target_dir().join("dist")
}

/// Parses the rest of the command line, builds, and does what else is asked for.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let (mut wanted, mut all, mut run, mut reproducible) = (Vec::new(), false, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Long("target") => wanted.push(args.value()?.string()?),
            Long("all") => all = true,
            Long("run") => run = true,
            Long("reproducible") => reproducible = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if all != wanted.is_empty() {
        return Err("dist: expected --all, or --target TRIPLE once or more".to_owned().into());
    }
    let targets = Target::chosen(&wanted)?;
    let built = binaries(&targets)?;
    if run {
        install::each(&built)?;
    }
    if reproducible {
        again::each(&built)?;
    }
    Ok(())
}

/// Builds `targets`, prints what they weigh, and puts them where they are given away; where each is.
pub fn binaries(targets: &[&'static Target]) -> Result<Vec<(&'static Target, PathBuf)>, crate::Failure> {
    let mut given = Vec::new();
    for (target, binary) in size::table(targets, |_| true)? {
        let place = folder().join(target.triple).join("mainstay");
        tools::copy(&binary, &place)?;
        given.push((target, place));
    }
    let there = |target: &&Target| folder().join(target.triple).join("mainstay").is_file();
    let names = TARGETS.iter().filter(there).map(|target| format!("{}/mainstay", target.triple));
    let sums = tools::output(Command::new("sha256sum").args(names).current_dir(folder()))?;
    tools::write(&folder().join("SHA256SUMS"), format!("{sums}\n"))?;
    println!("{sums}\n");
    Ok(given)
}
