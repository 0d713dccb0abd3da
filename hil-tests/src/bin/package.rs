//! The Debian package in a real Debian: see `mainstay_hil::package`. `cargo run -p mainstay-hil --bin package`
//!
//! Ends with 0 when the package does what it must, with 1 when it does not, with 2 when it could not be tried.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = workspace.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    match mainstay_hil::package::run(&target.join("package"), &target.join("lab")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("package: {trouble}");
            ExitCode::from(2)
        }
    }
}
