//! Plays a scenario's cases, one after the other, and says how each ended.

use super::figure::Figure;
use super::world::World;
use super::{Case, Scenario};
use crate::Result;
use crate::bench::Evidence;
use crate::proof::Proof;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Played {
    /// Of which scenario.
    pub number: u8,
    /// The scenario's title.
    pub title: &'static str,
    /// The case's name; empty where there is only one.
    pub case: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// What was claimed, and what was found.
    pub table: String,
    /// How long the ways back took.
    pub figures: Vec<Figure>,
    /// What explains a failure: before the case, and after it.
    pub evidence: Option<(Evidence, Evidence)>,
}

/// Ended how?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that had to hold was found to hold.
    Ok,
    /// Something did not, or it broke off: what.
    Failed(String),
    /// It was not played: why.
    NotRun(String),
}

/// Plays it on another gateway; `each` hears of each case as soon as it is over.
pub fn play(world: &mut World<'_>, scenario: &'static Scenario, each: &mut dyn FnMut(Played)) {
    world.give_up();
    world.scenario = scenario.number;
    for case in scenario.cases {
        let began = Instant::now();
        let played = |verdict, table, figures, evidence| Played {
            number: scenario.number,
            title: scenario.title,
            case: case.name,
            verdict,
            took: began.elapsed(),
            table,
            figures,
            evidence,
        };
        let lacks = case.needs.iter().find_map(|need| world.bench.lacks(*need));
        if let Some(why) = lacks {
            each(played(Verdict::NotRun(why), String::new(), Vec::new(), None));
            continue;
        }
        if world.stop.load(Ordering::Relaxed) {
            each(played(Verdict::NotRun("interrupted".into()), String::new(), Vec::new(), None));
            continue;
        }
        let (before, proof) = one(world, scenario, case);
        let figures = std::mem::take(&mut world.figures);
        let verdict = match proof.failed() {
            _ if world.stop.load(Ordering::Relaxed) => Verdict::NotRun("interrupted".into()),
            Some(why) => Verdict::Failed(why),
            None => Verdict::Ok,
        };
        let evidence = match verdict {
            Verdict::Failed(_) => Some((before, world.bench.evidence().unwrap_or_default())),
            _ => None,
        };
        if verdict != Verdict::Ok {
            world.give_up();
        }
        each(played(verdict, proof.table(), figures, evidence));
    }
}

/// One case: what explains it before, and what was proven.
fn one(world: &mut World<'_>, scenario: &Scenario, case: &Case) -> (Evidence, Proof) {
    let mut proof = Proof::default();
    proof.scene(scenario.number, if case.name.is_empty() { scenario.title } else { case.name });
    let ready = world.open_the_door().and_then(|()| world.ready(case.broker_required));
    let before = world.bench.evidence().unwrap_or_default(); // it explains; nothing hangs on it
    let played: Result<()> = ready.and_then(|()| (case.play)(world, &mut proof));
    if let Err(trouble) = played {
        proof.broken(trouble);
    }
    (before, proof)
}
