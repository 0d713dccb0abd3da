//! Lives a story under every schedule of a class, and counts.

use crate::bundle::{Operator, Published};
use crate::hostile::Mutant;
use crate::life::{Broken, Life, Story, live};
use crate::outside::Outside;
use crate::power::{Keeps, Schedule, Upset};
use crate::world::Board;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::OutcomeKind;
use std::collections::BTreeMap;

/// A story, packed once and ready to be lived often.
pub struct Sweep<'a> {
    story: &'a Story,
    board: Board,
    mutant: Option<Mutant>,
    trust: TrustRoot,
    releases: Vec<Published>,
    /// What has been lived so far.
    pub tally: Tally,
}

/// What a sweep has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lives.
    pub schedules: u64,
    /// Effects, over all lives: the invariants were checked after each.
    pub effects: u64,
    /// How often each row of outcomes was the whole history of a life.
    pub histories: BTreeMap<Vec<(String, &'static str)>, u64>,
}

/// A schedule under which something did not hold.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub schedule: Schedule,
    /// What.
    pub broken: Broken,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Found { schedule, broken } = self;
        writeln!(f, "{}\n  under {schedule:?}", broken.what)?;
        let skipped = broken.trace.len().saturating_sub(90);
        broken.trace.iter().skip(skipped).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl<'a> Sweep<'a> {
    /// Packs the story's releases.
    pub fn new(story: &'a Story, board: Board, mutant: Option<Mutant>) -> Self {
        let operator = Operator::default();
        let releases = story.releases.iter().map(|image| operator.publish(image, story.tries));
        let releases = releases.collect::<Result<_, _>>().expect("images that can be packed");
        Sweep { story, board, mutant, trust: operator.trust(), releases, tally: Tally::default() }
    }

    /// One life. `fits`: is this how it may end?
    pub fn live(&mut self, schedule: &Schedule, fits: &dyn Fn(&Life) -> bool) -> Result<Life, Box<Found>> {
        let outside = Outside::new(self.releases.clone(), self.story.twist);
        let life = live(self.story, self.board, schedule, self.mutant, &self.trust, outside);
        let found = |broken| Box::new(Found { schedule: schedule.clone(), broken });
        let mut life = life.map_err(found)?;
        if !fits(&life) {
            let what = format!(
                "it ends as it may: {:?}, refused {:?}, runs {}",
                life.outcomes, life.refused, life.runs
            );
            return Err(found(Broken { what, trace: std::mem::take(&mut life.trace) }));
        }
        self.tally.schedules += 1;
        self.tally.effects += u64::from(life.effects);
        let history = life.outcomes.iter().map(|(version, kind)| (version.clone(), name(*kind))).collect();
        *self.tally.histories.entry(history).or_default() += 1;
        Ok(life)
    }

    /// Each of `upsets` at each effect of the undisturbed life, one at a time.
    pub fn one(&mut self, upsets: &[Upset], fits: &dyn Fn(&Life) -> bool) -> Result<(), Box<Found>> {
        let effects = self.live(&Vec::new(), &|_| true)?.effects;
        for at in 1..=effects {
            for upset in upsets {
                self.live(&vec![(at, *upset)], fits)?;
            }
        }
        Ok(())
    }

    /// Two of `upsets`: at each effect of the undisturbed life, and at each later one of the life that follows.
    pub fn two(&mut self, upsets: &[Upset], fits: &dyn Fn(&Life) -> bool) -> Result<(), Box<Found>> {
        let effects = self.live(&Vec::new(), &|_| true)?.effects;
        for at in 1..=effects {
            for first in upsets {
                let once = self.live(&vec![(at, *first)], fits)?.effects;
                for then in at + 1..=once {
                    for second in upsets {
                        self.live(&vec![(at, *first), (then, *second)], fits)?;
                    }
                }
            }
        }
        Ok(())
    }
}

const fn name(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Committed => "committed",
        OutcomeKind::RolledBack => "rolled back",
        OutcomeKind::FellBack => "fell back",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Rejected => "rejected",
        OutcomeKind::Halted => "halted",
        OutcomeKind::Expired => "expired",
    }
}

/// The ways in which the power can go at one effect: the two extremes, and two draws of what lies between.
pub const CUTS: [Upset; 4] = [
    Upset::Cut(Keeps::Nothing),
    Upset::Cut(Keeps::Everything),
    Upset::Cut(Keeps::Torn(1)),
    Upset::Cut(Keeps::Torn(2)),
];

/// The ways in which one effect can fail while the power stays.
pub const FAILURES: [Upset; 2] = [Upset::Fails, Upset::FailsButStands];
