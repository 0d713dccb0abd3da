//! `cargo xtask reliability`: everything that is to show that a gateway comes up again, and one table of what it showed.
//!
//! ```text
//! simulator ─► one cut everywhere ─► linear ─► one failure ─► two cuts ─► swarm     one lane: its threads take all processors
//! mutants   ─► seams ─► source ─► fuzz                                              the other: builds, and runs little
//! ```
//! No figure is typed in: each is read from what ran (`figures.rs`), and a part that says none is an error. What has to be
//! zero is zero, or the command fails.

mod figures;
mod part;

use crate::{Failure, Outcome, sim, tools};
use figures::Figures;
use lexopt::prelude::*;
use part::{Done, Part};
use std::path::PathBuf;
use std::time::Instant;

/// What was asked for.
struct Plan {
    full: bool,
    swarm: [String; 2],
    seed: Option<String>,
    fuzz_seconds: u64,
    json: Option<PathBuf>,
}

/// Reads the arguments, runs the parts, prints the table.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let mut plan = Plan {
        full: false,
        swarm: ["--minutes".into(), "2".into()],
        seed: None,
        fuzz_seconds: 5,
        json: None,
    };
    while let Some(arg) = args.next()? {
        match arg {
            Long("quick") => plan.full = false,
            Long("full") => plan.full = true,
            Long("swarm-minutes") => plan.swarm = ["--minutes".into(), args.value()?.string()?],
            Long("swarm-lives") => plan.swarm = ["--lives".into(), args.value()?.string()?],
            Long("seed") => plan.seed = Some(args.value()?.string()?),
            Long("fuzz-seconds") => plan.fuzz_seconds = args.value()?.parse()?,
            Long("json") => plan.json = Some(args.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let began = Instant::now();
    let sim = sim::build()?;
    let built = Done {
        name: "build of the simulator",
        seconds: began.elapsed().as_secs_f32(),
        figures: Figures::default(),
    };
    let (lives, rest) = (lives(&plan, &sim), rest(&plan));
    let (lives, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| part::in_turn(rest));
        (part::in_turn(lives), rest.join().unwrap_or_else(|_| Err("a lane panicked".into())))
    });
    let done: Vec<Done> = [vec![built], lives?, rest?].concat();
    let seconds = began.elapsed().as_secs_f32();
    print_parts(&done, seconds);
    let sum = Figures::sum(&done);
    sum.print();
    if let Some(path) = &plan.json {
        tools::write(path, sum.json(seconds))?;
    }
    let broken = sum.broken();
    if broken.is_empty() { Ok(()) } else { Err(Failure::DoesNotHold(broken.join(", "))) }
}

/// What the simulator lives, one after the other: each takes all processors.
fn lives(plan: &Plan, sim: &std::path::Path) -> Vec<Part> {
    let lives = |name, args: &[&str]| Part::new(name, sim, args);
    // Quick: what takes minutes is lived in fewer ways, with three tries alone, each story on two boards of the eight.
    let (failures, two): (&[&str], &[&str]) = match plan.full {
        true => (&["failures"], &["sweep", "--cuts", "2"]),
        false => (&["failures", "--tries", "3", "--bounded"], &["sweep", "--cuts", "2", "--bounded"]),
    };
    let mut parts = vec![
        lives("exhaustive(1)", &["sweep", "--cuts", "1"]),
        lives("linear", &["linear"]),
        lives("one failure", failures),
        lives("exhaustive(2)", two),
    ];
    let [bound, number] = &plan.swarm;
    if number != "0" {
        let seed: Vec<&str> = plan.seed.iter().flat_map(|seed| ["--seed", seed]).collect();
        parts.push(lives("swarm", &[&["swarm", bound, number], &seed[..]].concat()));
    }
    parts
}

/// What builds: mutants and fuzzing.
fn rest(plan: &Plan) -> Vec<Part> {
    let this = std::env::current_exe().unwrap_or_else(|_| "xtask".into());
    let mut parts = vec![
        Part::new("seam mutants", &this, &["mutants", "--seams"]),
        Part::new("source mutants", &this, &["mutants", "--source"]),
    ];
    if plan.fuzz_seconds > 0 {
        let fuzz = tools::workspace().join("agent/fuzz/run");
        parts.push(Part::new("fuzz", &fuzz, &[&plan.fuzz_seconds.to_string()]));
    }
    parts
}

fn print_parts(done: &[Done], seconds: f32) {
    println!("| part | seconds | schedules | effects | faults |\n|---|---|---|---|---|");
    for Done { name, seconds, figures } in done {
        let [schedules, effects, faults] = ["schedules", "effects", "faults"].map(|name| figures.text(name));
        println!("| {name} | {seconds:.0} | {schedules} | {effects} | {faults} |");
    }
    println!("| all, in two lanes | {seconds:.0} | | | |\n");
}
