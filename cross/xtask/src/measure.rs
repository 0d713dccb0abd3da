//! `cargo xtask footprint` and `cargo xtask bench`: memory and time of the static device binary.
//!
//! What measures stands in `hil-tests` (`measure`), which has the broker, the board and the images; it is started through
//! cargo, so that this crate depends on nothing of ours. All further words go to it: `cargo xtask footprint --size 16`.

use crate::{Failure, Outcome, size, tools};
use std::ffi::OsString;

/// Measures `what`, which is a word of `measure`.
pub fn run(what: &str, mut args: lexopt::Parser) -> Outcome {
    let further: Vec<OsString> = args.raw_args()?.collect();
    let (binary, light) = size::host_binary()?;
    let mut cargo = tools::cargo();
    cargo.args(["run", "--quiet", "--package", "mainstay-hil", "--bin", "measure", "--", what, "--agent"]);
    let status = cargo.arg(binary).args(further).status().map_err(|e| format!("cargo: {e}"))?;
    match (status.code(), light) {
        (Some(0), true) => Ok(()),
        (Some(0), false) => Err(Failure::AboveBudget("the binary's size".into())),
        (Some(1), _) => Err(Failure::AboveBudget("see the lines above".into())),
        _ => Err(Failure::Unmeasured(format!("{what}: {status}"))),
    }
}
