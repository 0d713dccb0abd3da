//! The simulator's binary, built with the tools' profile: `cargo xtask swarm`, and what `reliability` lives.

use crate::tools::{cargo, target_dir};
use crate::{Failure, Outcome};
use lexopt::prelude::*;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds it, and the mutants beside it; where it stands.
pub fn build() -> Result<PathBuf, String> {
    let mut build = cargo();
    build.args([
        "build",
        "--quiet",
        "--profile",
        "tool",
        "-p",
        "mainstay-sim",
        "--bin",
        "sim",
        "--example",
        "mutants",
    ]);
    match build.status().map_err(|e| format!("cargo build: {e}"))? {
        status if status.success() => Ok(target_dir().join("tool/sim")),
        status => Err(format!("the simulator cannot be built: {status}")),
    }
}

/// `cargo xtask swarm`: lives drawn from seeds, for as long as is asked, on every processor. What it finds it makes small,
/// and says the line that plays it again.
pub fn swarm(mut args: lexopt::Parser) -> Outcome {
    let (mut minutes, mut seed) = (None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Long("minutes") => minutes = Some(args.value()?.parse::<u64>()?),
            Long("seed") => seed = Some(args.value()?.parse::<u64>()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let minutes = minutes.ok_or_else(|| String::from("swarm: expected --minutes N"))?;
    let mut swarm = Command::new(build()?);
    swarm.args(["swarm", "--minutes", &minutes.to_string()]).stdin(Stdio::null());
    if let Some(seed) = seed {
        swarm.args(["--seed", &seed.to_string()]);
    }
    match swarm.status().map_err(|e| format!("sim swarm: {e}"))?.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Failure::DoesNotHold("swarm: see the lines above".into())),
        code => Err(Failure::Unmeasured(format!("sim swarm: ended with {code:?}"))),
    }
}
