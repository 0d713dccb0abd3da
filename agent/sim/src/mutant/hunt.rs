//! Hunts one mutant: lives its story undisturbed, then with what the table says going wrong once, until a check does not
//! hold.

use super::{Mutant, Row, Tale, Under};
use crate::life::{Life, Story};
use crate::odd_stories::meddled;
use crate::power::{Answer, Keeps, Upset, Upsets};
use crate::schedule;
use crate::stories::{BOARDS, Case, all};
use crate::sweep::{CUTS, FAILURES, Found, Sweep};
use crate::world::Board;

/// How a mutant was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// What did not hold.
    pub by: String,
    /// What had to go wrong for it.
    pub under: Under,
    /// The schedule, on a line.
    pub schedule: String,
}

/// Hunts the mutant of this row in the story that is said to be enough. `None`: it escapes.
pub fn hunt(row: &Row) -> Option<Caught> {
    hunt_in(row, Some(row.mutant))
}

/// The same without the mutant: nothing may be caught.
pub fn without(row: &Row) -> Option<Caught> {
    hunt_in(row, None)
}

fn hunt_in(row: &Row, mutant: Option<Mutant>) -> Option<Caught> {
    let (Tale::Told(name) | Tale::Twisted(name, _)) = row.tale;
    let (told, meddled) = (all(TRIES), meddled(TRIES));
    let case = told.iter().chain(&meddled).find(|case| case.story.name == name);
    let case = case.unwrap_or_else(|| panic!("a story that is called {name:?}"));
    let twisted = match row.tale {
        Tale::Told(_) => case.story.clone(),
        Tale::Twisted(_, twist) => Story { twist, ..case.story.clone() },
    };
    let board = BOARDS[row.board].1;
    let mut sweep = Sweep::new(&twisted, board, mutant);
    let told = Some(case).filter(|_| matches!(row.tale, Tale::Told(_)));
    let trace = match sweep.live(&Upsets::new(), &|life| told.is_none_or(|case| case.as_told(life))) {
        Ok(life) => life.trace,
        Err(found) => return Some(caught(Under::Undisturbed, &found)),
    };
    // Where somebody meddles, what else goes wrong may end the story in another way.
    let told = told.filter(|case| !meddled.iter().any(|other| other.story.name == case.story.name));
    let (upsets, only) = upsets(row.under);
    for at in effects(&trace, only) {
        for upset in upsets {
            let upsets = vec![(at, *upset)];
            let fits = |life: &Life| told.is_none_or(|case| may_end(case, life, &upsets, board));
            if let Err(found) = sweep.live(&upsets, &fits) {
                return Some(caught(row.under, &found));
            }
        }
    }
    None
}

/// As after any upset; but a link that lies once gives nobody a reason to give up.
fn may_end(case: &Case, life: &Life, row: &Upsets, board: Board) -> bool {
    match row.first() {
        Some((_, Upset::Link(..))) => case.as_told(life),
        _ => case.fits(life, row, board),
    }
}

fn caught(under: Under, found: &Found) -> Caught {
    Caught { by: found.broken.what.clone(), under, schedule: schedule::text(&found.schedule) }
}

/// The numbers of the effects, as the trace names them.
fn effects(trace: &[String], only: Option<&str>) -> Vec<u32> {
    let numbered = |line: &String| {
        let (number, name) = line.trim_start().split_once(' ')?;
        let chosen = only.is_none_or(|only| name == only);
        number.parse().ok().filter(|_| chosen)
    };
    trace.iter().filter_map(numbered).collect()
}

const TRIES: u8 = 3;
/// What goes wrong at each effect, or at each of one name.
const fn upsets(under: Under) -> (&'static [Upset], Option<&'static str>) {
    match under {
        Under::Undisturbed => (&[], None),
        Under::Cut => (&CUTS, None),
        Under::CutWithin => (&[Upset::Cut(Keeps::Prefix(1)), Upset::Cut(Keeps::Prefix(2))], None),
        Under::Failure => (&FAILURES, None),
        Under::MediumLies => (&[Upset::Lost, Upset::Stuck(1)], Some("a segment is written")),
        Under::LinkLies => (&[Upset::Link(Answer::Corrupts, 1), Upset::Link(Answer::Drops, 2)], None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_read_from_the_trace_by_their_numbers() {
        let trace =
            ["   1 a slot is synced", "     => Trial", "  12 a segment is written: Lost"].map(String::from);
        assert_eq!(effects(&trace, None), [1, 12]);
        assert_eq!(effects(&trace[..2], Some("a slot is synced")), [1]);
    }
}
