//! Plays the seam mutants: one binary of the simulator's crate plays all of them and prints a row for each.
//!
//! The line that it prints is the contract between the two, as this crate knows none of ours:
//!
//! ```text
//! mutant: NAME | WHAT IT DOES | WHAT CATCHES IT, or "nobody" | SCHEDULE | SECONDS
//! ```

use super::{Caught, Row};
use crate::tools::{cargo, output};
use std::time::Duration;

/// Plays those whose name contains `only`.
pub fn play(only: &str, row: &mut dyn FnMut(Row)) -> Result<(), String> {
    let mut run = cargo();
    run.args([
        "run",
        "--quiet",
        "--profile",
        "tool",
        "-p",
        "mainstay-sim",
        "--example",
        "mutants",
        "--",
        only,
    ]);
    for line in output(&mut run)?.lines() {
        if let Some(line) = line.strip_prefix("mutant: ") {
            row(parse(line).ok_or_else(|| format!("mutants: expected a row of five, found {line:?}"))?);
        }
    }
    Ok(())
}

fn parse(line: &str) -> Option<Row> {
    let mut cells = line.split(" | ").map(str::trim);
    let mut next = || cells.next().map(String::from);
    let (name, does, by, schedule, seconds) = (next()?, next()?, next()?, next()?, next()?);
    let caught = if by == "nobody" { Caught::Nobody } else { Caught::By(by) };
    let seconds = Duration::try_from_secs_f32(seconds.parse().ok()?).ok()?.as_secs_f32();
    Some(Row { name, does, caught, schedule, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_and_half_a_row_is_not() {
        let row =
            parse("not withdrawn | it writes at once | nothing unverified | undisturbed | 0.25").unwrap();
        assert_eq!(
            (row.name.as_str(), row.schedule.as_str(), row.seconds),
            ("not withdrawn", "undisturbed", 0.25)
        );
        assert!(matches!(row.caught, Caught::By(by) if by == "nothing unverified"));
        assert!(matches!(parse("a | b | nobody | one cut | 1").unwrap().caught, Caught::Nobody));
        assert!(parse("a | b | nobody | one cut").is_none());
    }
}
