//! Turns one emulated board on and prints when it gets where, in seconds of QEMU's CPU and of the clock: where the README's
//! figures come from, and the quickest look at a board that does not come up.
//!
//!     power_on BOARD AGENT [NATURE] [--cache FOLDER] [--keep FOLDER]
//!
//! BOARD: as `BoardKind` calls it, with U-Boot; AGENT: the static device binary for it. There is no broker,
//! and no identity on the data partition.

use mainstay_core::boot::Group;
use mainstay_lab::board::{Board, BoardKind};
use mainstay_lab::disk::Tree;
use mainstay_lab::guest::{Nature, Spec};
use mainstay_lab::machine::{Log, Machine};
use mainstay_lab::provision::Provision;
use mainstay_lab::{Doing, Result, Trouble};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is waited for, in this order. The last one is init's, right before it starts the agent.
const MILESTONES: [&str; 5] =
    ["U-Boot 20", "mainstay: group", "Starting kernel", "user space is up", "agent starts"];
/// The slowest board takes 25 s of CPU for all of them.
const PATIENCE: Duration = Duration::from_secs(150);

fn main() -> Result<()> {
    let mut words = Vec::new();
    let (mut cache, mut keep) = (PathBuf::from("target/lab"), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--cache" => cache = arguments.next().doing(|| "--cache needs a folder")?.into(),
            "--keep" => keep = Some(PathBuf::from(arguments.next().doing(|| "--keep needs a folder")?)),
            _ => words.push(argument),
        }
    }
    let [board, agent, nature @ ..] = &words[..] else {
        return Err(Trouble::new("expected BOARD AGENT [NATURE]"));
    };
    let name = nature.first().map_or("healthy", String::as_str);
    let nature = Nature::from_name(name);
    let nature = nature.doing(|| format!("{name}: no such nature"))?;
    let scratch = tempfile::tempdir().doing(|| "a scratch folder")?;
    let folder = keep.unwrap_or_else(|| scratch.path().to_owned());
    play(make(board, Path::new(agent), &cache, &folder)?, nature, &folder)
}

fn make(name: &str, agent: &Path, cache: &Path, folder: &Path) -> Result<Box<dyn Board>> {
    let kind = BoardKind::from_name(name).doing(|| format!("{name}: no such board"))?;
    kind.create(&Provision::new(cache).provide(&[kind.want()])?, agent, folder)
}

fn play(mut board: Box<dyn Board>, nature: Nature, folder: &Path) -> Result<()> {
    let image = folder.join("image.ext4");
    let began = Instant::now();
    board.images().make(&image, &Spec { version: "1", nature, agent: None })?;
    board.factory(&image, &Tree::new())?;
    println!("{}: image and disk {:.1} s", board.name(), began.elapsed().as_secs_f64());
    let log = Log::new();
    let machine = Machine::start(&board.setup(), &log)?;
    let began = Instant::now();
    let mut mark = 0;
    let reached = MILESTONES.iter().try_for_each(|milestone| {
        let line = machine.wait_line(mark, PATIENCE, milestone)?;
        mark = log.mark();
        println!(
            "{:6.1} s CPU {:6.1} s  {}",
            machine.cpu_seconds()?,
            began.elapsed().as_secs_f64(),
            line.trim()
        );
        Ok(())
    });
    println!("{:?}", board.environment()?.group(Group::A));
    if reached.is_err() {
        println!("{}", log.console());
    }
    reached
}
