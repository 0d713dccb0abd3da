//! `cargo hil`: see `mainstay_hil::hil`.

use mainstay_hil::hil::{hil, words};
use std::process::ExitCode;

fn main() -> ExitCode {
    let held = match words::Words::read(std::env::args_os()) {
        Ok(None) => {
            print!("{}", words::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Some(words)) => hil(&words),
        Err(wrong) => Err(wrong),
    };
    match held {
        Ok(held) => ExitCode::from(u8::from(!held)),
        Err(trouble) => {
            eprintln!("hil: {trouble}");
            ExitCode::FAILURE
        }
    }
}
