//! `cargo xtask mutants`: has every wrong order and every left-out check a test that catches it?
//!
//! There are two kinds. **Seam mutants** are wrappers around the driver's seams and lies in the agent's loop: they are
//! compiled, and the simulator lives its stories with them until an invariant breaks. **Source mutants** are for what lies
//! below the seams and beside them: one text of a file put in the place of another, and one narrow test that has to fail.
//! A mutant that nobody catches is an invariant that is missing, and the command fails.

mod list;
mod seams;
mod source;

use crate::{Failure, Outcome};
use lexopt::prelude::*;

/// What became of one mutant.
pub struct Row {
    name: String,
    does: String,
    caught: Caught,
    schedule: String,
    seconds: f32,
}

enum Caught {
    By(String),
    Nobody,
}

/// How many of how many were caught.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Caught.
    pub caught: usize,
    /// All.
    pub all: usize,
}

/// Which are played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Both,
    Seams,
    Source,
}

/// Reads the arguments, plays, prints the table.
pub fn run(mut args: lexopt::Parser) -> Outcome {
    let (mut which, mut only) = (Which::Both, String::new());
    while let Some(arg) = args.next()? {
        match arg {
            Long("seams") => which = Which::Seams,
            Long("source") => which = Which::Source,
            Long("only") => only = args.value()?.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    println!("| mutant | what it does | caught by | schedule, or crate | seconds |\n|---|---|---|---|---|");
    let (mut count, mut survivors) = (Count::default(), Vec::new());
    let mut row = |row: Row| {
        count.all += 1;
        let Row { name, does, caught, schedule, seconds } = row;
        let by = match caught {
            Caught::By(by) => {
                count.caught += 1;
                by
            }
            Caught::Nobody => {
                survivors.push(name.clone());
                "**nobody**".into()
            }
        };
        println!("| {name} | {does} | {by} | {schedule} | {seconds:.1} |");
    };
    if which != Which::Source {
        seams::play(&only, &mut row)?;
    }
    if which != Which::Seams {
        source::play(&only, &mut row)?;
    }
    println!("\nmutants: caught {} of {}", count.caught, count.all);
    match survivors.is_empty() {
        true if count.all == 0 => {
            Err(Failure::Unmeasured(format!("mutants: none of them is named {only:?}")))
        }
        true => Ok(()),
        false => Err(Failure::Survived(survivors.join(", "))),
    }
}
