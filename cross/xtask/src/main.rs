//! `cargo xtask`: the project's own commands, in Rust, so that they run wherever the project builds.
//!
//! Each command prints a Markdown table that can be pasted into a page or a review, and fails when a budget of
//! `agent/docs/DESIGN.md` is broken. This crate depends on nothing of ours: it builds the others and measures them.

mod deb;
mod dist;
mod measure;
mod musl;
mod mutants;
mod recipes;
mod reliability;
mod sim;
mod size;
mod target;
mod tools;

use lexopt::prelude::*;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  size [--target TRIPLE]...   build the static device binary with the release profile, and weigh it
                              against its budget (default: every target, each where it can be built)
  dist --all | --target TRIPLE... [--run] [--reproducible]
                              the same, each within its budget or not at all, into target/dist/TRIPLE/mainstay, with
                              SHA256SUMS; --run: each takes an install into a file, under qemu-user where it must be;
                              --reproducible: each is built again at another place, and has to be the same bytes
  deb [--target TRIPLE]...    the binary, its unit and its configuration as Debian packages, into target/dist/deb, checked
                              by systemd-analyze, and by lintian where that is installed (default: every target)
  recipes                     make the list of crates of the Yocto recipe anew, from Cargo.lock
  footprint [--size MIB]... [--folder DIR]
                              measure the memory of the static device binary while it takes images over MQTT with TLS
                              from a Mosquitto, against its budgets (default: 64, 1024 and again 1024 MiB)
  bench [--folder DIR] [--json FILE]
                              all of the four below, one after another, each with its defaults (hours)
  bench pair [--folder DIR] [--formats ext4,erofs,squashfs,squashfs-gzip]
                              make the pairs of images that do not stand in the folder yet (default: target/pairs): a Debian root
                              file system and the same with security updates (root; mmdebstrap e2fsprogs erofs-utils
                              squashfs-tools), and three made-up ones
  bench size [--folder DIR] [--only TEXT]... [--json FILE]
                              bytes on the wire, CPU and memory of every method on every pair in the folder, each really run and
                              its result compared (apt: casync zchunk xdelta3 bsdiff zstd rdiff rauc squashfs-tools bzip2
                              xz-utils; what is not here is a row that says so); RAUC's adaptive mode, fixed blocks and
                              bsdiff with xz are counted as their documents say, and marked (emulated)
  bench link [--only TEXT]... [--folder DIR] [--json FILE]
                              how much of a slow, far, losing link a download fills, over MQTT with TLS from a Mosquitto, and
                              the agent's memory meanwhile; the link is emulated by a proxy
  bench install [--size MIB] [--rounds N] [--folder DIR] [--json FILE]
                              an install from a local file, beside its parts alone: decode, SHA-256, write, read back
                              (default: 1024 MiB, 3 rounds)
  mutants [--seams | --source] [--only TEXT]
                              play every wrong order and every left-out check on its list, and say which test catches it:
                              --seams: wrappers in the simulator; --source: changed sources, in a copy of the workspace
  swarm --minutes N [--seed S]
                              live stories drawn from seeds in the simulator, on every processor; what does not hold is made
                              small, and comes with the line that plays it again
  reliability [--quick | --full] [--swarm-minutes N | --swarm-lives N] [--seed S] [--fuzz-seconds N] [--json FILE]
                              every cut, failure, drawn life, mutant and fuzz target, and one table of what they showed
                              (default: quick, that is two cuts in two ways, not four, and failures with three tries
                              alone, each story on two boards; 2 minutes; 5 seconds a target)
  help                        this text

A command ends with 0 when everything it measured is within its budget, with 1 when something is above, two builds differ,
a mutant survives or something does not hold, and with 2 when it could not measure.
";

/// How a command can fail.
enum Failure {
    /// It was measured, and it is too much.
    AboveBudget(String),
    /// It was built twice, and is not the same.
    Differs(String),
    /// An invariant does not, or a fuzzer has found something.
    DoesNotHold(String),
    /// Mutants that no test catches.
    Survived(String),
    /// It could not be measured.
    Unmeasured(String),
}

type Outcome = Result<(), Failure>;

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Unmeasured(why)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(why: lexopt::Error) -> Self {
        Failure::Unmeasured(format!("{why}\n\n{HELP}"))
    }
}

fn main() -> ExitCode {
    match run(lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::AboveBudget(what)) => {
            eprintln!("xtask: above budget: {what}");
            ExitCode::from(1)
        }
        Err(Failure::Differs(what)) => {
            eprintln!("xtask: not reproducible: {what}");
            ExitCode::from(1)
        }
        Err(Failure::DoesNotHold(what)) => {
            eprintln!("xtask: does not hold: {what}");
            ExitCode::from(1)
        }
        Err(Failure::Survived(which)) => {
            eprintln!("xtask: no test catches: {which}");
            ExitCode::from(1)
        }
        Err(Failure::Unmeasured(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: lexopt::Parser) -> Outcome {
    match args.next()? {
        Some(Value(command)) if command == "size" => size::run(args),
        Some(Value(command)) if command == "dist" => dist::run(args),
        Some(Value(command)) if command == "deb" => deb::run(args),
        Some(Value(command)) if command == "recipes" => recipes::run(args),
        Some(Value(command)) if command == "footprint" => measure::run("footprint", args),
        Some(Value(command)) if command == "bench" => measure::bench(args),
        Some(Value(command)) if command == "mutants" => mutants::run(args),
        Some(Value(command)) if command == "swarm" => sim::swarm(args),
        Some(Value(command)) if command == "reliability" => reliability::run(args),
        Some(Value(command)) if command == "help" => help(),
        Some(Short('h') | Long("help")) | None => help(),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn help() -> Outcome {
    print!("{HELP}");
    Ok(())
}
