//! `cargo crash-points`: records updates under QEMU, and judges the disk after a power cut at hundreds of their writes.
//!
//! Exit codes: 0 all is as it has to be; 1 something is wrong; 2 the words were; 3 not run.

use lexopt::prelude::*;
use mainstay_crash::layout::Layout;
use mainstay_crash::run::{Options, run};
use std::process::ExitCode;

const HELP: &str = "\
cargo crash-points: cuts the power of a recorded update at hundreds of its writes

  --layout NAME      grub-fat, grub-ext4, uboot-single, uboot-redundant; may be said again; all of them if not
  --points N         points at random for each layout, beside those around each write of environment and state
  --all              every write, in ten ways
  --seed N           what decides the points; printed by each run
  --replay           with the recordings of the run before
  --point P          this point alone (1234, 1234/7, 1234/all), with --replay and one --layout
  --keep FILE        its disk
  --recordings DIR   where recordings stand (target/crash-points)
  --torn-superblocks tear the two sectors of an ext4 superblock from each other, too: shows what the README tells of it
  --agent FILE       a static device binary for x86_64; else it is built
  --cache DIR        the laboratory's parts (target/lab)
";

fn main() -> ExitCode {
    let options = match words() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("crash-points: {wrong}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(report) => {
            print!("{report}");
            match (report.good(), &report.not_run) {
                (true, _) => ExitCode::SUCCESS,
                (false, Some(_)) => ExitCode::from(3),
                (false, None) => ExitCode::FAILURE,
            }
        }
        Err(trouble) => {
            eprintln!("crash-points: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn words() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options::default();
    let mut layouts = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(word) = parser.next()? {
        match word {
            Short('h') | Long("help") => return Ok(None),
            Long("layout") => {
                let name = parser.value()?.string()?;
                let known = Layout::ALL.map(Layout::name).join(", ");
                layouts
                    .push(Layout::from_name(&name).ok_or(format!("expected one of {known}, found {name}"))?);
            }
            Long("points") => options.points = parser.value()?.parse()?,
            Long("all") => options.all = true,
            Long("seed") => options.seed = Some(parser.value()?.parse()?),
            Long("replay") => options.replay = true,
            Long("point") => options.point = Some(parser.value()?.parse()?),
            Long("keep") => options.keep = Some(parser.value()?.into()),
            Long("recordings") => options.recordings = parser.value()?.into(),
            Long("torn-superblocks") => options.torn_superblocks = true,
            Long("agent") => options.agent = Some(parser.value()?.into()),
            Long("cache") => options.cache = parser.value()?.into(),
            other => return Err(other.unexpected()),
        }
    }
    if options.point.is_some() && (layouts.len() != 1 || !options.replay) {
        return Err("--point belongs to a recording: expected --replay and one --layout beside it".into());
    }
    if !layouts.is_empty() {
        options.layouts = layouts;
    }
    Ok(Some(options))
}
