//! Lives a story under every schedule of a class, and counts.

use crate::bundle::{Operator, Published};
use crate::explore::{Explorer, Fits, Ways};
use crate::life::{Broken, Life, Nursery, Story};
use crate::mutant::Mutant;
use crate::outside::{Outside, Twist};
use crate::power::{Answer, Figure, Keeps, Upset, Upsets};
use crate::world::{Board, World};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::OutcomeKind;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A story, packed once and ready to be lived often.
pub struct Sweep<'a> {
    story: &'a Story,
    board: Board,
    mutant: Option<Mutant>,
    trust: TrustRoot,
    releases: Rc<[Published]>,
    next_root: Option<Rc<Vec<u8>>>,
    nursery: Nursery,
    /// What has been lived so far.
    pub tally: Tally,
}

/// What a sweep has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Schedules whose end is known: lived, or seen to lead into a life that has been lived.
    pub schedules: u64,
    /// Lives, or ends of lives, that were really lived.
    pub lives: u64,
    /// Effects that were really lived: the invariants were checked after each.
    pub effects: u64,
    /// Upsets in all schedules.
    pub faults: u64,
    /// Effects of the undisturbed lives at which the power was cut.
    pub cut_points: u64,
    /// How often each row of outcomes was the whole history of a life that was lived.
    pub histories: BTreeMap<Vec<(String, &'static str)>, u64>,
}

impl Tally {
    /// A life has come to its end, of which the first effects had been lived before.
    pub fn lived(&mut self, life: &Life, effects_before: u32) {
        self.lives += 1;
        self.effects += u64::from(life.effects - effects_before);
        let history = life.outcomes.iter().map(|(version, kind)| (version.clone(), name(*kind))).collect();
        *self.histories.entry(history).or_default() += 1;
    }

    /// Both together.
    pub fn add(&mut self, other: &Tally) {
        self.schedules += other.schedules;
        self.lives += other.lives;
        self.effects += other.effects;
        self.faults += other.faults;
        self.cut_points += other.cut_points;
    }
}

/// A schedule under which something did not hold.
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub schedule: Upsets,
    /// What.
    pub broken: Broken,
}

impl Found {
    /// Under these upsets.
    pub fn of(schedule: &Upsets, broken: Broken) -> Box<Self> {
        Box::new(Found { schedule: schedule.clone(), broken })
    }
}

impl Broken {
    /// A life that ended otherwise than it may.
    pub fn ending(life: &Life) -> Self {
        let Life { outcomes, refused, runs, trace, .. } = life;
        let what = format!("it ends as it may: {outcomes:?}, refused {refused:?}, runs {runs}");
        Broken { figure: Figure::WrongGroup, what, trace: trace.clone() }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Found { schedule, broken } = self;
        writeln!(f, "{}\n  under {}", broken.what, crate::schedule::text(schedule))?;
        let skipped = broken.trace.len().saturating_sub(90);
        broken.trace.iter().skip(skipped).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl<'a> Sweep<'a> {
    /// Packs the story's releases.
    pub fn new(story: &'a Story, board: Board, mutant: Option<Mutant>) -> Self {
        let operator = Operator::default();
        let published = story.releases.iter().enumerate().map(|(n, image)| {
            let before = n.checked_sub(1).map_or(&story.factory, |before| &story.releases[before]);
            operator.publish(image, (before, story.deltas), story.terms(n))
        });
        let releases = published.collect::<Result<_, _>>().expect("images that can be packed");
        let next_root = match story.twist {
            Twist::TrustRotates { revokes, .. } => {
                Some(Rc::new(operator.next_trust(revokes).expect("a root that can be signed")))
            }
            _ => None,
        };
        let (trust, nursery, tally) = (operator.trust(), Nursery::default(), Tally::default());
        Sweep { story, board, mutant, trust, releases, next_root, nursery, tally }
    }

    /// The gateway at its beginning.
    pub fn world(&self, schedule: &Upsets) -> World {
        let mut outside = Outside::new(self.releases.clone(), self.story.twist);
        outside.next_root = self.next_root.clone();
        World::new(self.board, &self.story.factory, self.story.older.as_ref(), outside, schedule)
    }

    /// One life, written down. `fits`: is this how it may end?
    pub fn live(&mut self, schedule: &Upsets, fits: &dyn Fn(&Life) -> bool) -> Result<Life, Box<Found>> {
        let mut world = self.world(schedule);
        world.trace = Some(Vec::new());
        let (_, life) = self.nursery.live(self.story, &self.trust, self.mutant, world);
        let life = life.map_err(|broken| Found::of(schedule, broken))?;
        if !fits(&life) {
            return Err(Found::of(schedule, Broken::ending(&life)));
        }
        self.tally.schedules += 1;
        self.tally.faults += schedule.len() as u64;
        self.tally.lived(&life, 0);
        Ok(life)
    }

    /// Each of `upsets` at each effect of the undisturbed life, one at a time.
    pub fn one(&mut self, upsets: &[Upset], fits: &dyn Fn(&Life) -> bool) -> Result<(), Box<Found>> {
        if let Some(keeps) = all_cuts(upsets) {
            return self.cuts(1, Ways { keeps, prefixes: false }, &|life, _| fits(life));
        }
        let effects = self.live(&Vec::new(), &|_| true)?.effects;
        for at in 1..=effects {
            for upset in upsets {
                self.live(&vec![(at, *upset)], fits)?;
            }
        }
        Ok(())
    }

    /// Two of `upsets`, all of them cuts: at each effect of the undisturbed life, and at each later one of the life
    /// that follows.
    pub fn two(&mut self, upsets: &[Upset], fits: &dyn Fn(&Life) -> bool) -> Result<(), Box<Found>> {
        let keeps = all_cuts(upsets).expect("cuts alone");
        self.cuts(2, Ways { keeps, prefixes: false }, &|life, _| fits(life))
    }

    /// Every row of up to so many cuts, in all these ways.
    pub fn cuts(&mut self, cuts: u8, ways: Ways, fits: Fits<'_>) -> Result<(), Box<Found>> {
        let world = self.world(&Upsets::new());
        let mut tally = std::mem::take(&mut self.tally);
        let found = Explorer::new(self.story, self.mutant, ways, fits, &mut tally).explore(world, cuts);
        self.tally = tally;
        // Lived again from its beginning, and written down.
        found.map_err(|found| {
            let cuts = found.schedule.len() as u8;
            match self.live(&found.schedule, &|life| cuts == 0 || fits(life, cuts)) {
                Err(again) => again,
                Ok(_) => found,
            }
        })
    }
}

fn all_cuts(upsets: &[Upset]) -> Option<Vec<Keeps>> {
    let cut = |upset: &Upset| match upset {
        Upset::Cut(keeps) => Some(*keeps),
        _ => None,
    };
    upsets.iter().map(cut).collect()
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

/// The ways in which the power can go at one effect: the two extremes, two draws of sectors, two of whole writes.
pub const CUTS: [Upset; 6] = [
    Upset::Cut(Keeps::Nothing),
    Upset::Cut(Keeps::Everything),
    Upset::Cut(Keeps::Torn(1)),
    Upset::Cut(Keeps::Torn(2)),
    Upset::Cut(Keeps::Reordered(1)),
    Upset::Cut(Keeps::Reordered(2)),
];

/// The ways in which one effect can fail while the power stays.
pub const FAILURES: [Upset; 3] = [Upset::Fails, Upset::FailsButStands, Upset::Short(1)];

/// The ways in which a link is not well, each for a few fetches.
pub const LINKS: [Upset; 3] =
    [Upset::Link(Answer::Drops, 3), Upset::Link(Answer::Corrupts, 3), Upset::Link(Answer::Repeats, 3)];
