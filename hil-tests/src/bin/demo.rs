//! `cargo demo`: see `mainstay_hil::demo`.

use mainstay_hil::demo::{play, words};
use std::process::ExitCode;

fn main() -> ExitCode {
    let played = match words::Words::read(std::env::args_os()) {
        Ok(None) => {
            print!("{}", words::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Some(words)) => play(&words),
        Err(wrong) => Err(wrong),
    };
    match played {
        Ok(holds) => ExitCode::from(u8::from(!holds)),
        Err(trouble) => {
            eprintln!("demo: {trouble}");
            ExitCode::FAILURE
        }
    }
}
