//! 10: ten updates, one after the other, good and bad mixed. Then the audit log tells exactly what happened: its chain holds, and
//! its records of what was accepted, refused and settled are what was done and what the operator heard, no more and no less.

use super::Case;
use super::audit;
use super::update::{Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use mainstay_core::audit::Event;
use mainstay_core::report::Outcome;
use mainstay_core::update::OutcomeKind::{self, Committed, FellBack, Rejected, RolledBack};

pub const CASES: [Case; 1] = [Case { name: "", needs: &[], broker_required: false, play }];

/// What is published, and how it has to end. What the bench has no image for is replaced by an image whose check fails.
#[rustfmt::skip]
const UPDATES: [(Nature, i64, OutcomeKind); 10] = [
    // image                 above the floor   ends
    (Nature::Healthy,        1,                Committed),
    (Nature::CheckFails,     1,                RolledBack),
    (Nature::Healthy,        1,                Committed),
    (Nature::RootGarbage,    1,                FellBack),
    (Nature::UserspaceHangs, 1,                FellBack),
    (Nature::Healthy,       -1,                Rejected),
    (Nature::Healthy,        1,                Committed),
    (Nature::KernelHangs,    1,                FellBack),
    (Nature::CheckFails,     1,                RolledBack),
    (Nature::Healthy,        1,                Committed),
];

/// One record of the log, as far as it is known from outside: what, version, how it ended.
type Line = (Event, String, String);

fn play(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let begin = world.mark();
    let mut expected: Vec<Line> = Vec::new();
    let mut ends = Vec::new();
    for (nature, above_floor, end) in UPDATES {
        let (nature, end) = match world.has(Need::Nature(nature)) {
            true => (nature, end),
            false => (Nature::CheckFails, RolledBack),
        };
        let update = Update::ready(world, Wanted { above_floor, ..Wanted::new(nature, 1) })?;
        let ended = update.play(world, u32::from(end == FellBack))?;
        ends.push((ended.outcome.kind, end));
        expected.extend(records(&ended.outcome));
    }
    let right = ends.iter().filter(|(found, expected)| found == expected).count();
    let found: Vec<String> = ends.iter().map(|(found, _)| format!("{found:?}")).collect();
    proof.hold("each of the ten ended as it had to", right == UPDATES.len(), found.join(", "));

    let log = audit::read(world)?;
    proof.hold(
        "the chain holds, past the head that the operator was told",
        true,
        format!("{} records", log.len()),
    );
    let told = [Event::Accepted, Event::Rejected, Event::Settled];
    let found: Vec<Line> = log
        .iter()
        .filter(|entry| told.contains(&entry.event))
        .map(|entry| (entry.event, entry.value("version").to_owned(), entry.value("outcome").to_owned()))
        .collect();
    let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    let figure = match differs {
        Some(at) => format!("record {at}: {:?}, expected {:?}", found.get(at), expected.get(at)),
        None => format!("{} records, expected {}", found.len(), expected.len()),
    };
    proof.hold("it tells what happened, no more and no less", found == expected, figure);

    let seen = world.seen(begin)?;
    let alarms = [Event::StateLost, Event::LogBroken, Event::LateFallback, Event::MarkedByHand];
    let alarms = log.iter().filter(|entry| alarms.contains(&entry.event)).count();
    proof.equal("records of what did not happen", alarms, 0);
    // Not every watchdog's driver knows afterwards that it bit; none may say so when it did not.
    let bitten = log.iter().filter(|entry| entry.event == Event::WatchdogBit).count();
    let bites = seen.count(&What::WatchdogFires);
    proof.hold("no bite that no watchdog made", bitten <= bites, format!("{bitten} recorded, {bites} seen"));
    // One start in the factory's boot, before the first update; the rest since.
    let starts = log.iter().filter(|entry| entry.event == Event::Started).count();
    let boots = seen.events.iter().filter(|event| matches!(event.what, What::Boots(..))).count();
    proof.hold(
        "no start that no boot explains",
        starts <= boots + 1,
        format!("{starts} starts, {} boots", boots + 1),
    );
    Ok(())
}

/// What the log has to hold of an update that ended so.
fn records(outcome: &Outcome) -> Vec<Line> {
    let version = outcome.version.as_str().to_owned();
    match outcome.kind {
        Rejected => vec![(Event::Rejected, version, String::new())],
        kind => vec![
            (Event::Accepted, version.clone(), String::new()),
            (Event::Settled, version, format!("{kind:?}")),
        ],
    }
}
