//! `mainstayctl`: everything is in the library; see `mainstayctl::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mainstayctl::cli::main()
}
