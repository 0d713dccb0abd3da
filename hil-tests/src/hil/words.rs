//! The command line of `cargo hil`.

use super::catalog::{BOARDS, Board, Kind};
use crate::broker;
use crate::programs::target;
use crate::scenario::{ALL, PUSH};
use crate::{Doing, Result, Trouble};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` says.
pub const HELP: &str = "\
cargo hil [OPTION...]: the scenarios of the boot laboratory, on real bootloaders and kernels

  --list                what there is: benches, boards, scenarios, and who needs what
  --bench BENCH         virtual, qemu or board; may be repeated
  --board BOARD         by its name in the list; may be repeated
  --scenario N[,N...]   only these
  --set push|nightly    push: x86-bios and arm64-uboot, scenarios 1 to 4 and 7 (this is played where nothing else is
                        said); nightly: every emulated board, every scenario
  --broker BROKER       mosquitto or embedded [mosquitto for emulated and real boards, where it is installed]
  --bench-file FILE     the real board's description, for --bench board
  --jobs N              so many boards side by side [2]
  --offline             fetch nothing, install nothing
  --no-install          install nothing on this computer
  --folder FOLDER       where reports and evidence are put [target/hil]
  --junit FILE          the report for machines [FOLDER/junit.xml]
  --keep                leave disks and images where they are at the end
  --require-all         fail where anything was not run
  --crash [OPTION...]   instead: crash points, see --crash --help
  --help                this text

Ends with 0 when nothing failed. What could not be run is reported as not run, with the line that changes that.
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Only say what there is.
    pub list: bool,
    /// These benches.
    pub benches: Vec<Kind>,
    /// These boards.
    pub names: Vec<String>,
    /// These scenarios.
    pub numbers: Vec<u8>,
    /// A set.
    pub set: Option<Set>,
    /// The broker, where it was said.
    pub broker: Option<broker::Kind>,
    /// The real board's description.
    pub bench_file: Option<PathBuf>,
    /// Boards side by side.
    pub jobs: usize,
    /// Fetch nothing.
    pub offline: bool,
    /// Install nothing.
    pub no_install: bool,
    /// Where reports go.
    pub folder: PathBuf,
    /// Where the JUnit report goes, where it was said.
    pub junit: Option<PathBuf>,
    /// Leave what the boards are made of.
    pub keep: bool,
    /// What is not run fails.
    pub require_all: bool,
}

/// Boards and scenarios that are played together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// On each change.
    Push,
    /// Everything.
    Nightly,
}

impl Default for Words {
    fn default() -> Self {
        Words {
            list: false,
            benches: Vec::new(),
            names: Vec::new(),
            numbers: Vec::new(),
            set: None,
            broker: None,
            bench_file: None,
            jobs: 2,
            offline: false,
            no_install: false,
            folder: target().join("hil"),
            junit: None,
            keep: false,
            require_all: false,
        }
    }
}

impl Words {
    /// Reads the arguments; `None`: help was asked for.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Option<Words>> {
        let mut words = Words::default();
        // The alias in .cargo/config.toml ends with one `--` already; a person types another, as cargo has taught them.
        let typed = args.into_iter().enumerate().filter(|(place, word)| !(*place == 1 && word == "--"));
        let mut parser = lexopt::Parser::from_iter(typed.map(|(_, word)| word));
        let wrong = |why: lexopt::Error| Trouble::new(format!("{why}\n\n{HELP}"));
        while let Some(word) = parser.next().map_err(wrong)? {
            match word {
                Long("help") | Short('h') => return Ok(None),
                Long("list") => words.list = true,
                Long("bench") => words.benches.push(named(&mut parser, &KINDS)?),
                Long("board") => words.names.push(board(&mut parser)?),
                Long("scenario") => words.numbers.extend(numbers(&mut parser)?),
                Long("set") => {
                    words.set = Some(named(&mut parser, &[("push", Set::Push), ("nightly", Set::Nightly)])?);
                }
                Long("broker") => words.broker = Some(named(&mut parser, &BROKERS)?),
                Long("bench-file") => words.bench_file = Some(parser.value().map_err(wrong)?.into()),
                Long("jobs") => words.jobs = jobs(&mut parser)?,
                Long("offline") => words.offline = true,
                Long("no-install") => words.no_install = true,
                Long("folder") => words.folder = parser.value().map_err(wrong)?.into(),
                Long("junit") => words.junit = Some(parser.value().map_err(wrong)?.into()),
                Long("keep") => words.keep = true,
                Long("require-all") => words.require_all = true,
                other => return Err(wrong(other.unexpected())),
            }
        }
        match words.boards().is_empty() {
            true => Err(Trouble::new("no board is of those benches and has one of those names: see --list")),
            false => Ok(Some(words)),
        }
    }

    /// The boards that are meant.
    pub fn boards(&self) -> Vec<&'static Board> {
        let named =
            |board: &&Board| self.names.is_empty() || self.names.iter().any(|name| name == board.name);
        let of_bench = |board: &&Board| self.benches.is_empty() || self.benches.contains(&board.kind);
        let said = !self.names.is_empty() || !self.benches.is_empty();
        let of_set = |board: &&Board| match self.set {
            Some(Set::Nightly) => board.kind == Kind::Qemu || said,
            Some(Set::Push) => board.push || said,
            None => said || board.push,
        };
        BOARDS.iter().filter(named).filter(of_bench).filter(of_set).collect()
    }

    /// The numbers of the scenarios that are meant.
    pub fn scenarios(&self) -> Vec<u8> {
        let said = !self.names.is_empty() || !self.benches.is_empty();
        match (self.numbers.is_empty(), self.set) {
            (false, _) => self.numbers.clone(),
            (true, Some(Set::Push)) => PUSH.to_vec(),
            (true, None) if !said => PUSH.to_vec(),
            (true, _) => ALL.iter().map(|scenario| scenario.number).collect(),
        }
    }
}

const KINDS: [(&str, Kind); 3] = [("virtual", Kind::Virtual), ("qemu", Kind::Qemu), ("board", Kind::Real)];
const BROKERS: [(&str, broker::Kind); 2] =
    [("mosquitto", broker::Kind::Mosquitto), ("embedded", broker::Kind::Embedded)];
/// More boards side by side than that is a slip of the finger.
const JOBS_MAX: usize = 64;

fn text(parser: &mut lexopt::Parser) -> Result<String> {
    parser.value().and_then(|value| value.string()).map_err(|why| Trouble::new(format!("{why}\n\n{HELP}")))
}

fn named<T: Copy>(parser: &mut lexopt::Parser, known: &[(&str, T)]) -> Result<T> {
    let text = text(parser)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    found.doing(|| format!("expected {}, found {text:?}", names.join(", ")))
}

fn board(parser: &mut lexopt::Parser) -> Result<String> {
    let text = text(parser)?;
    let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
    let known = names.contains(&text.as_str());
    known.then_some(()).doing(|| format!("--board: expected one of {}, found {text:?}", names.join(", ")))?;
    Ok(text)
}

fn numbers(parser: &mut lexopt::Parser) -> Result<Vec<u8>> {
    let text = text(parser)?;
    let number =
        |word: &str| word.trim().parse().ok().filter(|number| crate::scenario::find(*number).is_some());
    let numbers: Option<Vec<u8>> = text.split(',').map(number).collect();
    numbers
        .doing(|| format!("--scenario: expected 1 to {}, or several with commas, found {text:?}", ALL.len()))
}

fn jobs(parser: &mut lexopt::Parser) -> Result<usize> {
    let text = text(parser)?;
    let number = text.parse().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs));
    number.doing(|| format!("--jobs: expected 1 to {JOBS_MAX}, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Words>> {
        Words::read(std::iter::once("hil").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn what_is_not_said_is_the_push_set_and_what_is_said_narrows_it() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &[u8]); 9] = [
            // words                              boards                          scenarios
            ("",                                  &["x86-bios", "arm64-uboot"],   &PUSH),
            ("--set push",                        &["x86-bios", "arm64-uboot"],   &PUSH),
            ("--scenario 3",                      &["x86-bios", "arm64-uboot"],   &[3]),
            ("--board x86-uefi",                  &["x86-uefi"],                  &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            ("--board x86-uefi --set push",       &["x86-uefi"],                  &PUSH),
            ("--bench virtual --scenario 1,10",   &["uboot", "grub"],             &[1, 10]),
            ("--bench virtual --board grub",      &["grub"],                      &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            ("--bench board",                     &["board"],                     &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            ("-- --scenario 1 --scenario 2",      &["x86-bios", "arm64-uboot"],   &[1, 2]),
        ];
        for (line, boards, scenarios) in cases {
            let words = read(line).unwrap().unwrap();
            let found: Vec<&str> = words.boards().iter().map(|board| board.name).collect();
            assert_eq!((found.as_slice(), words.scenarios().as_slice()), (boards, scenarios), "{line}");
        }
        let nightly = read("--set nightly").unwrap().unwrap();
        assert!(nightly.boards().iter().all(|board| board.kind == Kind::Qemu) && nightly.boards().len() > 2);
        assert_eq!(nightly.scenarios().len(), ALL.len());
    }

    #[test]
    fn all_options_are_read() {
        let line =
            "--keep --junit a.xml --folder f --jobs 4 --offline --no-install --require-all --broker embedded";
        let words = read(line).unwrap().unwrap();
        let expected = Words {
            keep: true,
            junit: Some("a.xml".into()),
            folder: "f".into(),
            jobs: 4,
            offline: true,
            no_install: true,
            require_all: true,
            broker: Some(broker::Kind::Embedded),
            ..Words::default()
        };
        assert_eq!(words, expected);
        assert_eq!(read("--list --help").unwrap(), None);
    }

    #[test]
    fn a_wrong_word_is_named_with_what_was_expected() {
        #[rustfmt::skip]
        let cases = [
            ("--scenario 11",               "--scenario: expected 1 to 10, or several with commas, found \"11\""),
            ("--scenario 1,,2",             "found \"1,,2\""),
            ("--bench quantum",             "expected virtual, qemu, board, found \"quantum\""),
            ("--board z80",                 "--board: expected one of uboot, grub, x86-bios"),
            ("--jobs 0",                    "--jobs: expected 1 to 64, found \"0\""),
            ("--bench virtual --board x86-bios", "no board is of those benches"),
            ("--frobnicate",                "invalid option '--frobnicate'"),
            ("--folder",                    "missing argument"),
        ];
        for (line, words) in cases {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
