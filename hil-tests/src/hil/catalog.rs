//! The benches and boards, and what each is made of.
//!
//! | bench | made of |
//! |---|---|
//! | virtual | the debug build of the device binary, nothing else |
//! | qemu | the laboratory's parts ([`mainstay_lab::provision`]), and the static device binary of the board's architecture |
//! | board | a file that describes it |

use super::progress::Progress;
use super::words::Words;
use crate::bench::qemu::QemuBench;
use crate::bench::real_board::RealBoard;
use crate::bench::virtual_board::VirtualBench;
use crate::bench::{Bench, Need, OTHER_BUILD};
use crate::board::Bootloader;
use crate::broker;
use crate::programs::{Programs, static_agent, target};
use crate::scenario::ALL;
use crate::{Doing, Result, Trouble};
use mainstay_lab::board::BoardKind;
use mainstay_lab::provision::{Arch, Parts, Provision, Want};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Whose machine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process of this computer.
    Virtual,
    /// Emulated.
    Qemu,
    /// Real.
    Real,
}

/// A board.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// Whose machine it is.
    pub kind: Kind,
    /// As `--board` names it.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Played on each change.
    pub push: bool,
    /// Which emulated one it is.
    pub emulated: Option<BoardKind>,
}

/// All of them.
pub static BOARDS: LazyLock<Vec<Board>> = LazyLock::new(|| {
    let board = |kind, name, about| Board { kind, name, about, push: false, emulated: None };
    let mut boards = vec![
        board(Kind::Virtual, "uboot", "the model of our U-Boot script, a simulated watchdog"),
        board(Kind::Virtual, "grub", "the model of our GRUB script, a simulated watchdog"),
    ];
    boards.extend(BoardKind::ALL.iter().map(|kind| Board {
        push: PUSH.contains(&kind.name()),
        emulated: Some(*kind),
        ..board(Kind::Qemu, kind.name(), about(kind.name()))
    }));
    boards.push(board(Kind::Real, "board", "what --bench-file describes: a serial port and a power switch"));
    boards
});

/// What is played on each change.
const PUSH: [&str; 2] = ["x86-bios", "arm64-uboot"];

fn about(name: &str) -> &'static str {
    match name {
        "x86-bios" => "x86_64, SeaBIOS, GRUB 2, environment on FAT, i6300ESB",
        "x86-uefi" => "the same disk under OVMF",
        "x86-bios-ext4" => "as x86-bios, the environment on ext4",
        "arm64-uboot" => "arm64, U-Boot, redundant environment on a block device, i6300ESB",
        "arm64-uboot-single" => "the same, with one copy of the environment",
        "arm64-bootcount" => "arm64, U-Boot's own bootcount and altbootcmd, i6300ESB",
        "armhf-orangepi" => "orangepi-pc, SPL and U-Boot, the SoC's watchdog",
        _ => "emulated",
    }
}

impl Board {
    /// What the laboratory has to have for it.
    pub fn want(&self) -> Option<Want> {
        self.emulated.map(BoardKind::want)
    }

    /// What its device binary is built for, where it needs one of its own.
    pub fn triple(&self) -> Option<&'static str> {
        self.emulated.map(|kind| match kind.arch() {
            Arch::Amd64 => "x86_64-unknown-linux-musl",
            Arch::Arm64 => "aarch64-unknown-linux-musl",
            Arch::Armhf => "armv7-unknown-linux-musleabihf",
        })
    }

    /// As it stands in tables: `qemu/x86-bios`.
    pub fn path(&self) -> String {
        match self.kind {
            Kind::Virtual => format!("virtual/{}", self.name),
            Kind::Qemu => format!("qemu/{}", self.name),
            Kind::Real => "board".to_owned(),
        }
    }

    /// What `cargo hil` is told to play on it.
    pub fn words(&self) -> String {
        match self.kind {
            Kind::Virtual => format!("--bench virtual --board {}", self.name),
            Kind::Qemu => format!("--board {}", self.name),
            Kind::Real => "--bench board".to_owned(),
        }
    }
}

/// What `--list` prints.
pub fn list() -> String {
    let mut out =
        String::from("boards                                                (* played on each change)\n");
    for board in BOARDS.iter() {
        let mark = if board.push { "*" } else { " " };
        let _ = writeln!(out, " {mark} {:22} {}", board.path(), board.about); // a String takes everything
    }
    out += "\nscenarios\n";
    for scenario in &ALL {
        let mark = if crate::scenario::PUSH.contains(&scenario.number) { "*" } else { " " };
        let _ = writeln!(out, " {mark} {:2}  {}", scenario.number, scenario.title);
        for case in scenario.cases.iter().filter(|case| !case.name.is_empty() || !case.needs.is_empty()) {
            let needs: Vec<String> = case.needs.iter().map(|need| in_words(*need)).collect();
            let needs = if needs.is_empty() { String::new() } else { format!("needs {}", needs.join(", ")) };
            let _ = writeln!(out, "       {:34} {needs}", case.name);
        }
    }
    out
}

fn in_words(need: Need) -> String {
    match need {
        Need::Nature(nature) => format!("an image of the nature {nature:?}"),
        Need::WatchdogEvents => "a watchdog whose biting is seen".into(),
        Need::Environment => "a readable environment".into(),
        Need::Link => "a network plug".into(),
        Need::BootConsole => "the bootloader's console".into(),
        Need::OtherAgent => "a second build of the agent".into(),
        Need::Ruin => "a slot that can be destroyed".into(),
    }
}

/// Everything that boards are made of.
pub struct Ready {
    /// The programs for this computer.
    pub programs: Programs,
    /// The broker that emulated and real boards get.
    pub broker: broker::Kind,
    parts: Parts,
    /// The static device binaries, by triple: the one and the other build.
    agents: BTreeMap<&'static str, Result<(PathBuf, Option<PathBuf>)>>,
    bench_file: Option<PathBuf>,
}

impl Ready {
    /// Finds, fetches and builds what these boards need. What could not be had stops nobody but who needs it.
    pub fn make(words: &Words, boards: &[&'static Board], progress: &Progress) -> Result<Ready> {
        let elsewhere = boards.iter().any(|board| board.kind != Kind::Virtual);
        let mut wants: Vec<Want> = boards.iter().filter_map(|board| board.want()).collect();
        if elsewhere && words.broker != Some(broker::Kind::Embedded) {
            wants.push(Want::Mosquitto);
        }
        let parts = match wants.is_empty() {
            true => Parts::default(),
            false => {
                progress.say("the laboratory's parts");
                let provision = Provision::new(target().join("lab"));
                let provision = provision.offline(words.offline).no_install(words.no_install);
                provision.provide(&wants).doing(|| "the laboratory's parts")?
            }
        };
        for lack in parts.lacks() {
            progress.say(&format!("  {lack}"));
        }
        progress.say("the programs");
        let programs = Programs::build()?;
        let mut agents = BTreeMap::new();
        for triple in boards.iter().filter_map(|board| board.triple()) {
            let other = words.scenarios().contains(&OTHER_AGENT);
            agents.entry(triple).or_insert_with(|| {
                progress.say(&format!("the device binary for {triple}"));
                device_binaries(triple, other)
            });
        }
        let there = broker::Kind::Mosquitto.available().is_ok();
        let broker = match words.broker {
            Some(kind) => kind,
            None if elsewhere && there => broker::Kind::Mosquitto,
            None => broker::Kind::Embedded,
        };
        broker.available()?;
        Ok(Ready { programs, broker, parts, agents, bench_file: words.bench_file.clone() })
    }

    /// Puts a board on the bench, its files in `folder`. The error is why it cannot be played on.
    pub fn bench(&self, board: &Board, folder: &Path) -> Result<Box<dyn Bench>> {
        if let Some(why) = board.want().and_then(|want| self.parts.why_not(want)) {
            return Err(Trouble::new(why));
        }
        match (board.kind, board.name) {
            (Kind::Virtual, name) => {
                let bootloader = if name == "grub" { Bootloader::Grub } else { Bootloader::UBoot };
                Ok(Box::new(VirtualBench::new(folder, &self.programs.agent, bootloader)?))
            }
            (Kind::Real, _) => {
                let file = self.bench_file.as_ref();
                let file =
                    file.doing(|| "no board is described: --bench-file FILE, see board-support/PORTING.md")?;
                Ok(Box::new(RealBoard::open(file)?))
            }
            (Kind::Qemu, name) => {
                let agents = board.triple().and_then(|triple| self.agents.get(triple));
                let (agent, other) = agents.doing(|| "no device binary was built for it")?.clone()?;
                let kind = board.emulated.doing(|| format!("{name} is not in the laboratory"))?;
                let machine = kind.create(&self.parts, &agent, &folder.join("board")).doing(|| name)?;
                Ok(Box::new(QemuBench::new(machine, folder, other)?))
            }
        }
    }
}

/// The scenario that needs a second build of the agent.
const OTHER_AGENT: u8 = 9;

/// Builds the static device binary for a target, and another build of it if that is wanted. Both are kept under names of their
/// own: what cargo builds next has the same place.
fn device_binaries(triple: &'static str, other: bool) -> Result<(PathBuf, Option<PathBuf>)> {
    let folder = target().join("lab").join("agents").join(triple);
    std::fs::create_dir_all(&folder).doing(|| folder.display().to_string())?;
    let build = |name: &str, suffix: Option<&str>| -> Result<PathBuf> {
        let (from, to) = (static_agent(triple, suffix)?, folder.join(name));
        std::fs::copy(&from, &to).doing(|| format!("copying {}", from.display()))?;
        Ok(to)
    };
    let other = match other {
        true => Some(build("mainstay-other", Some(OTHER_BUILD))?),
        false => None,
    };
    Ok((build("mainstay", None)?, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_board_and_scenario_and_what_a_case_needs() {
        let list = list();
        assert!(BOARDS.iter().all(|board| list.contains(&board.path())), "{list}");
        assert!(ALL.iter().all(|scenario| list.contains(scenario.title)), "{list}");
        let case = list.lines().find(|line| line.contains("it never reaches user space")).unwrap();
        assert!(
            case.ends_with("needs an image of the nature KernelHangs, a watchdog whose biting is seen"),
            "{case}"
        );
    }
}
