//! `measure footprint | install`: see `mainstay_hil::measure`. `cargo xtask footprint` and `cargo xtask bench` build the
//! device binary and start it.
//!
//! Ends with 0 within budget, 1 above, 2 where it could not measure.

use mainstay_hil::measure::{HELP, Words, footprint, install};
use mainstay_hil::{Result, Trouble};
use std::process::ExitCode;

fn main() -> ExitCode {
    match measure() {
        Ok(within) => ExitCode::from(u8::from(!within)),
        Err(trouble) => {
            eprintln!("measure: {trouble}");
            ExitCode::from(2)
        }
    }
}

fn measure() -> Result<bool> {
    let words = Words::read(std::env::args_os())?;
    match words.what.as_str() {
        "footprint" => footprint::measure(&words),
        "install" => install::measure(&words),
        other => Err(Trouble::new(format!("expected footprint or install, found {other:?}\n\n{HELP}"))),
    }
}
