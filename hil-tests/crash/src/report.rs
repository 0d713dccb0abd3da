//! What a run came to: a table for people, and whether it is good enough.

use crate::judge::may_lose_its_environment;
use crate::judge::verdict::{Class, Fault, Verdict};
use crate::layout::Layout;
use crate::replay::Point;
use std::fmt;
use std::time::Duration;

/// One layout's points.
#[derive(Clone, Debug)]
pub struct Row {
    /// The layout.
    pub layout: Layout,
    /// Entries of its log.
    pub entries: usize,
    /// Points that were judged.
    pub points: usize,
    /// Points with a fault of each class, in the order of [`Class::ALL`].
    pub counts: [usize; Class::ALL.len()],
    /// Points with a fault that the layout is not known to have.
    pub failures: Vec<(Point, Vec<Fault>)>,
    /// Points whose faults all follow from an environment that this layout may lose: see the README.
    pub known: usize,
    /// What was spoiled, and where the judge saw it.
    pub controls: Vec<(&'static str, Option<(Point, Fault)>)>,
    /// How long the points took.
    pub took: Duration,
}

impl Row {
    /// Of a layout without points yet.
    pub const fn new(layout: Layout, entries: usize) -> Row {
        Row {
            layout,
            entries,
            points: 0,
            counts: [0; Class::ALL.len()],
            failures: Vec::new(),
            known: 0,
            controls: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Counts one more point.
    pub fn count(&mut self, point: Point, verdict: Verdict) {
        self.points += 1;
        for (count, class) in self.counts.iter_mut().zip(Class::ALL) {
            *count += usize::from(verdict.has(class));
        }
        if verdict.sound() {
            return;
        }
        // What a bootloader does that has lost its only copy follows from it; what the agent forgets does not.
        let follows = |class| matches!(class, Class::LostEnvironment | Class::WrongGroup);
        if may_lose_its_environment(self.layout)
            && verdict.has(Class::LostEnvironment)
            && verdict.faults.iter().all(|fault| follows(fault.class))
        {
            self.known += 1;
        } else {
            self.failures.push((point, verdict.faults));
        }
    }

    /// Is all as it has to be?
    pub fn good(&self) -> bool {
        self.points > 0
            && self.failures.is_empty()
            && self.controls.iter().all(|(_, caught)| caught.is_some())
    }
}

/// All layouts.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each layout.
    pub rows: Vec<Row>,
    /// What decided the points.
    pub seed: u64,
    /// Superblocks were torn, too: what repeats a point has to say so.
    pub torn_superblocks: bool,
    /// Why nothing was run.
    pub not_run: Option<String>,
}

impl Report {
    /// Is all as it has to be? What was not run is not.
    pub fn good(&self) -> bool {
        self.not_run.is_none() && !self.rows.is_empty() && self.rows.iter().all(Row::good)
    }

    /// Points of all layouts.
    pub fn points(&self) -> usize {
        self.rows.iter().map(|row| row.points).sum()
    }
}

/// At most so many failures are told one by one.
const TOLD: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.not_run {
            return writeln!(f, "crash points: not run: {why}");
        }
        let names = Class::ALL.map(Class::name).join(" | ");
        writeln!(
            f,
            "| layout | writes | points | {names} | points/min |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for row in &self.rows {
            let counts = row.counts.map(|count| count.to_string()).join(" | ");
            let pace = 60.0 * row.points as f64 / row.took.as_secs_f64().max(1e-9);
            let name = row.layout.name();
            writeln!(f, "| {name} | {} | {} | {counts} | {pace:.0} |", row.entries, row.points)?;
        }
        writeln!(f, "\n{} points; seed {}", self.points(), self.seed)?;
        for row in &self.rows {
            let name = row.layout.name();
            if row.known > 0 {
                writeln!(
                    f,
                    "{name}: {} points lost their environment, as one copy of several sectors does when its write is torn",
                    row.known
                )?;
            }
            for (what, caught) in &row.controls {
                match caught {
                    Some((point, fault)) => writeln!(f, "control: {name}: {what}: seen at {point}: {fault}")?,
                    None => writeln!(f, "control: {name}: {what}: OVERLOOKED")?,
                }
            }
            for (point, faults) in row.failures.iter().take(TOLD) {
                for fault in faults {
                    writeln!(f, "FAILED: {name} {point}: {fault}")?;
                }
                writeln!(
                    f,
                    "  again: cargo crash-points --replay --layout {name} --point {point} --keep disk.img"
                )?;
            }
            if row.failures.len() > TOLD {
                writeln!(f, "  … and {} more of {name}", row.failures.len() - TOLD)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Loss;

    fn verdict(classes: &[Class]) -> Verdict {
        let faults = classes.iter().map(|class| Fault { class: *class, what: "x".into() });
        Verdict { faults: faults.collect() }
    }

    #[test]
    fn only_a_single_copy_may_lose_its_environment_and_what_the_agent_forgets_is_never_excused() {
        use Class::*;
        #[rustfmt::skip]
        let cases: [(Layout, &[Class], bool); 7] = [
            (Layout::UbootSingle,    &[],                              true),
            (Layout::UbootSingle,    &[LostEnvironment],               true),
            (Layout::UbootSingle,    &[LostEnvironment, WrongGroup],   true),
            (Layout::UbootSingle,    &[WrongGroup],                    false),
            (Layout::UbootSingle,    &[LostEnvironment, LostRecords],  false),
            (Layout::UbootRedundant, &[LostEnvironment],               false),
            (Layout::GrubFat,        &[LostEnvironment],               false),
        ];
        for (layout, classes, good) in cases {
            let mut row = Row::new(layout, 1);
            row.count(Point { at: 1, loss: Loss::InOrder }, verdict(classes));
            assert_eq!(row.good(), good, "{layout:?} {classes:?}");
        }
    }

    #[test]
    fn a_report_without_points_or_with_a_control_that_was_overlooked_is_not_good() {
        let mut report = Report { rows: Vec::new(), seed: 1, torn_superblocks: false, not_run: None };
        assert!(!report.good());
        let mut row = Row::new(Layout::GrubFat, 1);
        row.count(Point { at: 1, loss: Loss::InOrder }, verdict(&[]));
        row.controls.push(("never flushed", None));
        report.rows.push(row);
        assert!(!report.good() && report.to_string().contains("OVERLOOKED"));
        report.not_run = Some("no QEMU".into());
        assert!(!report.good() && report.to_string().contains("not run: no QEMU"));
    }
}
