//! `cargo hil`: see `mainstay_hil::hil`.

use mainstay_hil::hil::{crash, hil, words};
use std::process::ExitCode;

fn main() -> ExitCode {
    let held = match (crash::words(std::env::args_os()), words::Words::read(std::env::args_os())) {
        (Some(words), _) => crash::crash(&words),
        (None, Ok(None)) => {
            print!("{}", words::HELP);
            return ExitCode::SUCCESS;
        }
        (None, Ok(Some(words))) => hil(&words),
        (None, Err(wrong)) => Err(wrong),
    };
    match held {
        Ok(held) => ExitCode::from(u8::from(!held)),
        Err(trouble) => {
            eprintln!("hil: {trouble}");
            ExitCode::FAILURE
        }
    }
}
