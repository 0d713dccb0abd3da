//! The table at the end: boards and scenarios, and how long the ways back took.
//!
//! ```text
//!                          1          2          4              7
//! qemu/x86-bios            ok 31 s    ok 40 s    FAILED 90 s    ok 4/6 80 s      4 of 6 cases, the others were not run
//! qemu/arm64-uboot         not run    not run    not run        not run
//! ```

use super::Case;
use crate::scenario::Verdict;
use crate::scenario::figure::Figure;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What came of it.
pub struct Summary<'a> {
    cases: &'a [Case],
}

/// How wide a column is.
const COLUMN: usize = 14;

impl<'a> Summary<'a> {
    /// Of these.
    pub fn of(cases: &'a [Case]) -> Summary<'a> {
        Summary { cases }
    }

    /// Cases that failed.
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.played.verdict, Verdict::Failed(_))).count()
    }

    /// Cases that were not run.
    pub fn not_run(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.played.verdict, Verdict::NotRun(_))).count()
    }

    fn boards(&self) -> Vec<&'a str> {
        let mut boards: Vec<&str> = self.cases.iter().map(|case| case.board.as_str()).collect();
        boards.dedup();
        boards
    }

    /// All cases of a scenario on a board.
    fn cell(&self, board: &str, number: u8) -> String {
        let cases: Vec<&Case> =
            self.cases.iter().filter(|case| case.board == board && case.played.number == number).collect();
        let seconds = cases.iter().map(|case| case.played.took).sum::<Duration>().as_secs_f64();
        let failed = cases.iter().any(|case| matches!(case.played.verdict, Verdict::Failed(_)));
        let ok = cases.iter().filter(|case| case.played.verdict == Verdict::Ok).count();
        match (cases.len(), failed, ok) {
            (0, ..) => String::new(),
            (_, true, _) => format!("FAILED {seconds:.0} s"),
            (_, false, 0) => "not run".to_owned(),
            (all, false, ok) if ok == all => format!("ok {seconds:.0} s"),
            (all, false, ok) => format!("ok {ok}/{all} {seconds:.0} s"),
        }
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |board: &str| -> Vec<Figure> {
            self.cases
                .iter()
                .filter(|case| case.board == board)
                .flat_map(|case| case.played.figures.clone())
                .collect()
        };
        if self.cases.iter().all(|case| case.played.figures.is_empty()) {
            return Ok(());
        }
        writeln!(
            f,
            "\nseconds from \"watchdog fires\" to \"previous group runs and its operator knows\": median, longest"
        )?;
        write!(f, "{:22} {:>5}", "", "ways")?;
        for part in ["bootloader", "kernel", "ours", "in all"] {
            write!(f, "{part:>COLUMN$}")?;
        }
        writeln!(f)?;
        for board in self.boards() {
            let figures = of(board);
            if figures.is_empty() {
                continue;
            }
            write!(f, "{board:22} {:>5}", figures.len())?;
            let parts: [fn(&Figure) -> Duration; 4] =
                [|figure| figure.bootloader, |figure| figure.kernel, |figure| figure.ours, Figure::whole];
            for part in parts {
                let mut values: Vec<f64> = figures.iter().map(|figure| part(figure).as_secs_f64()).collect();
                values.sort_by(f64::total_cmp);
                let median = values.get(values.len() / 2).copied().unwrap_or_default();
                let longest = values.last().copied().unwrap_or_default();
                write!(f, "{:>COLUMN$}", format!("{median:.1}, {longest:.1}"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: BTreeSet<u8> = self.cases.iter().map(|case| case.played.number).collect();
        write!(f, "\n{:22}", "")?;
        for number in &numbers {
            write!(f, "  {number:<COLUMN$}")?;
        }
        writeln!(f)?;
        for board in self.boards() {
            write!(f, "{board:22}")?;
            for number in &numbers {
                write!(f, "  {:COLUMN$}", self.cell(board, *number))?;
            }
            writeln!(f)?;
        }
        self.figures(f)?;
        let mut told = BTreeSet::new();
        for case in self.cases {
            if let Verdict::NotRun(why) = &case.played.verdict
                && told.insert((&case.board, why))
            {
                writeln!(f, "\nnot run on {}: {why}", case.board)?;
            }
        }
        let ok = self.cases.len() - self.failed() - self.not_run();
        let (failed, not_run) = (self.failed(), self.not_run());
        write!(f, "\n{} cases: {ok} ok, {failed} FAILED, {not_run} not run", self.cases.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::case;
    use super::*;

    #[test]
    fn a_cell_says_the_worst_of_its_cases_and_how_many_were_played() {
        let not_run = || Verdict::NotRun("no kernel\napt-get install kernel".into());
        let cases = [
            case("virtual/uboot", 1, Verdict::Ok),
            case("virtual/uboot", 4, Verdict::Ok),
            case("virtual/uboot", 4, not_run()),
            case("qemu/x86-bios", 1, Verdict::Failed("x".into())),
            case("qemu/x86-bios", 4, not_run()),
            case("qemu/x86-bios", 4, not_run()),
        ];
        let summary = Summary::of(&cases);
        let cells = [("virtual/uboot", 1), ("virtual/uboot", 4), ("qemu/x86-bios", 1), ("qemu/x86-bios", 4)]
            .map(|(board, number)| summary.cell(board, number));
        assert_eq!(cells, ["ok 2 s", "ok 1/2 4 s", "FAILED 2 s", "not run"]);
        let text = summary.to_string();
        assert!(text.ends_with("6 cases: 2 ok, 1 FAILED, 3 not run"), "{text}");
        assert_eq!(text.matches("not run on qemu/x86-bios: no kernel\napt-get install kernel\n").count(), 1);
        assert!(!text.contains("watchdog fires"), "no way back was measured");
    }

    #[test]
    fn the_ways_back_are_told_for_each_board_that_has_some() {
        let figure = |seconds: u64| Figure {
            bootloader: Duration::from_secs(seconds),
            kernel: Duration::from_secs(3),
            ours: Duration::from_secs(1),
        };
        let mut cases = [case("a", 3, Verdict::Ok), case("b", 3, Verdict::Ok)];
        cases[1].played.figures = vec![figure(9), figure(1), figure(2)];
        let text = Summary::of(&cases).to_string();
        let line = text.lines().find(|line| line.starts_with("b ") && line.contains(',')).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["b", "3", "2.0,", "9.0", "3.0,", "3.0", "1.0,", "1.0", "6.0,", "13.0"]);
    }
}
