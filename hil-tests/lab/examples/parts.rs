//! Makes the laboratory's parts ready and prints where they are: `cargo run -p mainstay-lab --example parts`.
//!
//!     parts [--offline] [--no-install] [--cache FOLDER] [WANT…]     without WANT: all (see `Want`; X86Bios, Arm64 …)
//!
//! It ends with 1 when something is missing; what, and how to get it, is said.

use mainstay_lab::provision::{Provision, Want};
use mainstay_lab::{Doing, Result, Trouble};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> Result<ExitCode> {
    let (mut cache, mut offline, mut no_install, mut wants) =
        ("target/lab".to_owned(), false, false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--offline" => offline = true,
            "--no-install" => no_install = true,
            "--cache" => cache = arguments.next().doing(|| "--cache needs a folder")?,
            name => wants.push(want(name)?),
        }
    }
    if wants.is_empty() {
        wants.extend(Want::ALL);
    }
    let began = Instant::now();
    let parts = Provision::new(cache).offline(offline).no_install(no_install).provide(&wants)?;
    print!("{parts}");
    for want in &wants {
        let ready = if parts.why_not(*want).is_some() { "not to be run" } else { "ready" };
        println!("{:<32} {ready}", format!("{want:?}"));
    }
    println!("{:<32} {:.1} s", "time", began.elapsed().as_secs_f32());
    Ok(if parts.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn want(name: &str) -> Result<Want> {
    let found = Want::ALL.iter().copied().find(|want| format!("{want:?}").eq_ignore_ascii_case(name));
    found.ok_or_else(|| Trouble::new(format!("{name}: expected one of {:?}", Want::ALL)))
}
