//! `measure footprint | link | install`: see `mainstay_hil::measure`. `cargo xtask footprint` and `cargo xtask bench` build
//! the device binary and start it.
//!
//! Ends with 0 within budget, 1 above, 2 where it could not measure.

use mainstay_hil::measure::{Words, measure};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Words::read(std::env::args_os()).and_then(|words| measure(&words)) {
        Ok(within) => ExitCode::from(u8::from(!within)),
        Err(trouble) => {
            eprintln!("measure: {trouble}");
            ExitCode::from(2)
        }
    }
}
