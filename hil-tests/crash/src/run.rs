//! One run: records what is not recorded, judges, and spoils what it has recorded to see whether the judge notices.

use crate::control::Control;
use crate::judge::Judge;
use crate::layout::Layout;
use crate::record::Recording;
use crate::record::desk::Desk;
use crate::record::guest::Ingredients;
use crate::replay::Point;
use crate::report::{Report, Row};
use crate::sample::{Sample, choose};
use mainstay_hil::programs::target;
use mainstay_hil::programs::{Programs, cargo};
use mainstay_hil::{Doing, Result, Trouble};
use mainstay_lab::provision::{Arch, Provision, Want};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Instant, SystemTime};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which layouts.
    pub layouts: Vec<Layout>,
    /// Points anywhere, for each layout, beside those around each write of environment and state.
    pub points: usize,
    /// Every point.
    pub all: bool,
    /// What decides the points; `None`: something new each time.
    pub seed: Option<u64>,
    /// This one point, and no other.
    pub point: Option<Point>,
    /// Where the disk of `point` is kept.
    pub keep: Option<PathBuf>,
    /// Where recordings stand.
    pub recordings: PathBuf,
    /// With the recordings that are there, instead of new ones.
    pub replay: bool,
    /// The two sectors of an ext4 superblock may be torn from each other, too.
    pub torn_superblocks: bool,
    /// The static device binary; `None`: it is built.
    pub agent: Option<PathBuf>,
    /// The laboratory's cache folder.
    pub cache: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            layouts: Layout::ALL.to_vec(),
            points: POINTS,
            all: false,
            seed: None,
            point: None,
            keep: None,
            recordings: target().join("crash-points"),
            replay: false,
            torn_superblocks: false,
            agent: None,
            cache: target().join("lab"),
        }
    }
}

/// Points anywhere. Those around each write of environment and state are about 150 more for each layout.
const POINTS: usize = 100;

/// Runs. An error is the bench's own trouble; what is wrong with disks, and what could not be run, is in the report.
pub fn run(options: &Options) -> Result<Report> {
    let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed = options.seed.unwrap_or(time % 1_000_000);
    let mut report =
        Report { rows: Vec::new(), seed, torn_superblocks: options.torn_superblocks, not_run: None };
    let stage = match Stage::open(options)? {
        Ok(stage) => stage,
        Err(why) => {
            report.not_run = Some(why);
            return Ok(report);
        }
    };
    for layout in &options.layouts {
        let recording = stage.recording(*layout, options)?;
        let row = judge(&recording, options, seed)?;
        eprintln!("{}: judged {} points in {} s", layout.name(), row.points, row.took.as_secs());
        report.rows.push(row);
    }
    Ok(report)
}

fn judge(recording: &Recording, options: &Options, seed: u64) -> Result<Row> {
    let mut row = Row::new(recording.layout, recording.log.entries().len());
    let points = match options.point {
        Some(point) => vec![point],
        None => choose(recording, &Sample { points: options.points, all: options.all, seed }),
    };
    let began = Instant::now();
    let mut judge = Judge::new(recording, options.torn_superblocks)?;
    for point in points {
        let verdict = judge.judge(point).doing(|| format!("{} {point}", recording.layout.name()))?;
        row.count(point, verdict);
    }
    row.took = began.elapsed();
    match options.point {
        Some(point) => {
            if let Some(keep) = &options.keep {
                std::fs::write(keep, judge.disk(point)).doing(|| keep.display().to_string())?;
            }
        }
        None => {
            for control in Control::ALL {
                row.controls.push((control.what().0, control.caught(recording, seed)?));
            }
        }
    }
    Ok(row)
}

/// Where recordings come from.
enum Stage {
    /// They are there.
    Replay,
    /// They are made.
    Record { with: Ingredients, desk: Box<Desk>, _folder: tempfile::TempDir },
}

impl Stage {
    /// `Ok(Err(why))`: something is missing on this machine.
    fn open(options: &Options) -> Result<std::result::Result<Stage, String>> {
        if options.replay {
            return Ok(Ok(Stage::Replay));
        }
        let parts = Provision::new(&options.cache).provide(&[Want::CrashPoints])?;
        if let Some(why) = parts.why_not(Want::CrashPoints) {
            return Ok(Err(why));
        }
        let agent = match &options.agent {
            Some(agent) => agent.clone(),
            None => build_agent()?,
        };
        let kernel = parts.kernel(Arch::Amd64)?;
        let busybox = parts.busybox(Arch::Amd64)?;
        let with = Ingredients { kernel: kernel.image, modules: kernel.modules, busybox, agent };
        let folder = tempfile::tempdir().doing(|| "a folder for broker and keys")?;
        let desk = Box::new(Desk::open(folder.path(), &Programs::build()?.ctl)?);
        Ok(Ok(Stage::Record { with, desk, _folder: folder }))
    }

    fn recording(&self, layout: Layout, options: &Options) -> Result<Recording> {
        let folder = Recording::folder(&options.recordings, layout);
        match self {
            Stage::Replay => Recording::load(&folder, layout),
            Stage::Record { with, desk, .. } => {
                let began = Instant::now();
                let recording = Recording::make(with, desk, layout, &folder)?;
                let writes = recording.log.entries().len();
                eprintln!("{}: recorded {writes} writes in {} s", layout.name(), began.elapsed().as_secs());
                Ok(recording)
            }
        }
    }
}

/// The binary as it ships.
fn build_agent() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let mut cargo = cargo();
    cargo.env_remove("MAINSTAY_BUILD").args(["xtask", "dist", "--target", TARGET]);
    let status = cargo.stdin(Stdio::null()).stdout(Stdio::null()).status().doing(|| "starting cargo")?;
    if !status.success() {
        return Err(Trouble::new(format!("the device binary: cargo xtask dist --target {TARGET}: {status}")));
    }
    Ok(target().join("dist").join(TARGET).join("mainstay"))
}
