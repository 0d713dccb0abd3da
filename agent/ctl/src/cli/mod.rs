//! The command line: what can be said, and what is answered. It reads arguments, calls the library and prints;
//! nothing is decided here.
//!
//! Results go to standard output, progress and warnings to standard error. Exit codes: 0 done; 1 refused or
//! failed, and the reason stands on standard error; 2 the command itself was wrong.

mod broker;
mod bundle;
mod fleet;
mod keys;
mod trust;

use crate::fail::Result;
use crate::keys::Passphrases;
use crate::meter::Audience;
use broker::BrokerArgs;
use clap::{Args, Parser, Subcommand};
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keys, trust, bundles and rollouts for a fleet of gateways that run Mainstay
#[derive(Debug, Parser)]
#[command(name = "mainstayctl", version, after_help = EXIT_CODES)]
struct Cli {
    /// Show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 refused or failed (the reason is on standard error); 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and show signing keys
    #[command(subcommand)]
    Key(keys::Key),
    /// Make, rotate and show trust roots
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Make a bundle from images
    Pack(Box<bundle::Pack>),
    /// Sign a bundle, or add a signature
    Sign(bundle::Sign),
    /// Verify a bundle to its last byte
    Verify(bundle::Verify),
    /// Show what a bundle is made of
    Inspect(bundle::Inspect),
    /// Write a bundle as static files, for a web server
    Export(bundle::Export),
    /// Bring a bundle onto a broker, and tell a group to run it
    Publish(Box<fleet::Publish>),
    /// Tell a group to drop what has not reached its trial
    Halt(fleet::Change),
    /// Tell a group to begin nothing new
    Pause(fleet::Change),
    /// Tell a group to go on, with another share if you like
    Resume(fleet::Resume),
    /// Watch the gateways of a fleet
    Watch(fleet::Watch),
    /// Give gateways the objects that their broker does not hold, until it is ended
    Serve(fleet::Serve),
}

/// Where passphrases come from
#[derive(Debug, Args)]
struct PassphraseArgs {
    /// File whose first line is the passphrase of all keys [otherwise: MAINSTAY_PASSPHRASE, or the terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    fn passphrases(&self) -> Passphrases {
        Passphrases { file: self.passphrase_file.clone() }
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // answers --help and wrong usage itself, with exit code 2
    let audience = if cli.quiet { Audience::Nobody } else { Audience::Auto };
    match run(&cli.command, audience) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mainstayctl: {failure}");
            ExitCode::from(1)
        }
    }
}

fn run(command: &Command, audience: Audience) -> Result<()> {
    match command {
        Command::Key(command) => keys::run(command),
        Command::Trust(command) => trust::run(command),
        Command::Pack(command) => bundle::pack(command, audience),
        Command::Sign(command) => bundle::sign(command, audience),
        Command::Verify(command) => bundle::verify(command, audience),
        Command::Inspect(command) => bundle::inspect(command, audience),
        Command::Export(command) => bundle::export(command, audience),
        Command::Publish(command) => fleet::publish(command, audience),
        Command::Halt(command) => fleet::halt(command),
        Command::Pause(command) => fleet::pause(command),
        Command::Resume(command) => fleet::resume(command),
        Command::Watch(command) => fleet::watch(command),
        Command::Serve(command) => fleet::serve(command, audience),
    }
}

/// A line of result. A reader that has gone away (`| head`) is no failure.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line that must not be mistaken for a result.
fn warn(line: impl Display) {
    eprintln!("{line}");
}

/// `NAME=VALUE`
fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("expected NAME=VALUE, found {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_fits_together() {
        Cli::command().debug_assert();
    }
}
