//! `lab-machine`: the commands behind `hil-tests/benches/qemu-pty/bench.toml`. See `mainstay_hil::lab_machine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match mainstay_hil::lab_machine::run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("lab-machine: {trouble}");
            ExitCode::FAILURE
        }
    }
}
