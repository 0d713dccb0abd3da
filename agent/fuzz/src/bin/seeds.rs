//! Writes the seeds: `seeds FOLDER`. The fuzzer's runtime is linked in, for the code around it is built for it; no target
//! runs.

use libfuzzer_sys as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds FOLDER");
        return ExitCode::from(2);
    };
    match mainstay_fuzz::seeds::write(folder.as_ref()) {
        Ok(count) => println!("seeds: {count}"),
        Err(e) => {
            eprintln!("seeds: {}: {e}", folder.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
