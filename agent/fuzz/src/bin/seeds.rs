//! Writes the seeds: `seeds FOLDER`, after asking the targets that are long ways whether they reach their ends. The
//! fuzzer's runtime is linked in, for the code around it is built for it; it does not run.

use libfuzzer_sys as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds FOLDER");
        return ExitCode::from(2);
    };
    mainstay_fuzz::signed::check();
    mainstay_fuzz::delta_route::check();
    mainstay_fuzz::messages::check();
    match mainstay_fuzz::seeds::write(folder.as_ref()) {
        Ok(count) => println!("seeds: {count}"),
        Err(e) => {
            eprintln!("seeds: {}: {e}", folder.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
