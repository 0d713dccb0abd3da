//! Which points are judged.
//!
//! | | in order | all lost | some lost |
//! |---|---|---|---|
//! | around each write of environment and state | each | – | – |
//! | after each write of the environment | each | each | two ways |
//! | anywhere | – | – | as many as asked for, at random |
//! | `--all` | each | each | eight ways each |

use crate::layout::Map;
use crate::record::Recording;
use crate::replay::{Loss, Point, Random};
use std::collections::BTreeSet;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Points anywhere.
    pub points: usize,
    /// All there are, and eight ways to lose at each.
    pub all: bool,
    /// Decides where, and what is lost.
    pub seed: u64,
}

/// Ways to lose at each point, with `--all`.
const WAYS: u64 = 8;
/// And right after a write of the environment, always.
const WAYS_AFTER_ENVIRONMENT: u64 = 2;
/// Seeds are short, so that a point can be typed.
const SEEDS: u64 = 100_000;

/// The points, in ascending order.
pub fn choose(recording: &Recording, sample: &Sample) -> Vec<Point> {
    let map = Map::of(recording.layout);
    let entries = recording.log.entries();
    let mut random = Random(sample.seed);
    let mut points = BTreeSet::new();
    if sample.all {
        for at in 0..=entries.len() {
            let lost = (0..WAYS).map(|_| Loss::Lost(random.next() % SEEDS));
            points.extend([Loss::InOrder, Loss::All].into_iter().chain(lost).map(|loss| Point { at, loss }));
        }
        return points.into_iter().collect();
    }
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.place().is_empty()) {
        let name = map.name_at(entry.place().start);
        if matches!(name, "env" | "data") {
            points.extend([at, at + 1].map(|at| Point { at, loss: Loss::InOrder }));
        }
        if name == "env" {
            let at = at + 1;
            let lost = (0..WAYS_AFTER_ENVIRONMENT).map(|_| Loss::Lost(random.next() % SEEDS));
            points.extend([Loss::All].into_iter().chain(lost).map(|loss| Point { at, loss }));
        }
    }
    for _ in 0..sample.points {
        let at = (random.next() % (entries.len() as u64 + 1)) as usize;
        points.insert(Point { at, loss: Loss::Lost(random.next() % SEEDS) });
    }
    points.into_iter().collect()
}
