//! Every cut, and every cut after every cut, without living anything twice.
//!
//! A power cut leaves nothing of a gateway but its media, and what the world outside has been told. So while a life is
//! lived, the gateway is cloned at each effect, its power is cut there in each way, and what is left is lived on from
//! there; the beginning is not lived again. And two cuts that leave the same behind have the same future: each
//! distinct state is lived on once, and the schedules that lead to it are counted as often as they do.
//!
//! ```text
//! life     ──1──2──3──4── …         the schedules cut@1, cut@2 … each in each way
//!             ╲  ╲  ╲
//! forks        ●  ●  ●              same media, same story so far? then one of them is lived on
//!              │     └──4'──5'── …  and forked again, if two cuts are asked for
//! ```

use crate::bundle::Operator;
use crate::life::{Broken, Life, Nursery, Story, violation_of};
use crate::mutant::Mutant;
use crate::power::{Keeps, Upset, Upsets, Violation};
use crate::sweep::{Found, Tally};
use crate::world::{Op, World};
use mainstay_core::digest::Digest;
use mainstay_core::trust::TrustRoot;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// What is cut beside a life, and what was left.
#[derive(Clone)]
pub struct Forks {
    ways: Rc<Ways>,
    made: Vec<Fork>,
}

/// How the power can go at each effect.
#[derive(Clone, Debug)]
pub struct Ways {
    /// At every effect.
    pub keeps: Vec<Keeps>,
    /// And after each sector of a write of more than one.
    pub prefixes: bool,
}

#[derive(Clone)]
struct Fork {
    at: u32,
    keeps: Keeps,
    world: Box<Result<World, Violation>>,
}

impl Forks {
    fn new(ways: &Rc<Ways>) -> Self {
        Forks { ways: ways.clone(), made: Vec::new() }
    }

    /// Cuts the power of clones, just before this effect and within it.
    pub fn grow(world: &mut World, op: &Op<'_>) {
        let Some(mut forks) = world.forks.take() else { return };
        let inside = if forks.ways.prefixes { 1..op.sectors() } else { 0..0 };
        let prefixes = inside.map(|sectors| Keeps::Prefix(sectors as u16));
        for keeps in forks.ways.keeps.iter().copied().chain(prefixes) {
            let mut left = world.clone();
            let broken = violation_of(AssertUnwindSafe(|| left.cut(keeps, op)));
            let fork = Fork { at: world.effects, keeps, world: Box::new(broken.map_or(Ok(left), Err)) };
            forks.made.push(fork);
        }
        world.forks = Some(forks);
    }
}

/// What a life that went on from a cut comes to, with all that follows from further cuts.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    schedules: u64,
    faults: u64,
}

/// Says whether a life may end so, after so many cuts.
pub type Fits<'a> = &'a dyn Fn(&Life, u8) -> bool;

/// Lives a story under every row of up to so many cuts.
pub struct Explorer<'a> {
    /// The story.
    pub story: &'a Story,
    /// A wrong order, if there is one.
    pub mutant: Option<Mutant>,
    /// How the power goes.
    pub ways: Rc<Ways>,
    /// How a life may end.
    pub fits: Fits<'a>,
    /// What has been lived.
    pub tally: &'a mut Tally,
    anchor: TrustRoot,
    nursery: Nursery,
    seen: HashMap<(Digest, u8, u8), Weight>,
}

impl<'a> Explorer<'a> {
    /// Nothing lived yet.
    pub fn new(
        story: &'a Story,
        mutant: Option<Mutant>,
        ways: Ways,
        fits: Fits<'a>,
        tally: &'a mut Tally,
    ) -> Self {
        Explorer {
            story,
            mutant,
            ways: Rc::new(ways),
            fits,
            tally,
            anchor: Operator::default().trust(),
            nursery: Nursery::default(),
            seen: HashMap::new(),
        }
    }

    /// From this gateway on, under no cut and under every row of up to `cuts`. The undisturbed life may end as it
    /// likes: how it should is asked elsewhere.
    pub fn explore(&mut self, world: World, cuts: u8) -> Result<(), Box<Found>> {
        let mut so_far = Upsets::new();
        let weight = self.from(world, cuts, &mut so_far)?;
        self.tally.schedules += weight.schedules;
        self.tally.faults += weight.faults;
        Ok(())
    }

    fn from(&mut self, mut world: World, cuts_left: u8, so_far: &mut Upsets) -> Result<Weight, Box<Found>> {
        let effects_before = world.effects;
        world.forks = (cuts_left > 0).then(|| Forks::new(&self.ways));
        let (shared, life) = self.nursery.live(self.story, &self.anchor, self.mutant, world);
        let life = life.map_err(|broken| Found::of(so_far, broken))?;
        if !so_far.is_empty() && !(self.fits)(&life, so_far.len() as u8) {
            return Err(Found::of(so_far, Broken::ending(&life)));
        }
        self.tally.lived(&life, effects_before);
        let forks = shared.with(|world| world.forks.take()).map(|forks| forks.made).unwrap_or_default();
        if so_far.is_empty() {
            self.tally.cut_points += forks.last().map_or(0, |fork| u64::from(fork.at));
        }
        let mut weight = Weight { schedules: 1, faults: so_far.len() as u64 };
        for Fork { at, keeps, world } in forks {
            so_far.push((at, Upset::Cut(keeps)));
            let behind = match *world {
                Err(Violation { figure, what }) => {
                    return Err(Found::of(so_far, Broken { figure, what, trace: Vec::new() }));
                }
                Ok(world) => self.behind(world, cuts_left - 1, so_far)?,
            };
            weight.schedules += behind.schedules;
            weight.faults += behind.faults;
            so_far.pop();
        }
        Ok(weight)
    }

    fn behind(&mut self, world: World, cuts_left: u8, so_far: &mut Upsets) -> Result<Weight, Box<Found>> {
        let key = (world.fingerprint(), cuts_left, so_far.len() as u8);
        if let Some(weight) = self.seen.get(&key) {
            return Ok(*weight);
        }
        let weight = self.from(world, cuts_left, so_far)?;
        self.seen.insert(key, weight);
        Ok(weight)
    }
}
