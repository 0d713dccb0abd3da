//! 8: the broker is gone for the whole trial. Whether that is a reason to go back is the policy's to say: a gateway whose checks
//! require the connection goes back, one whose checks do not commits, and tells the operator when it can.

use super::Case;
use super::update::{Update, Wanted};
use super::watch::Mark;
use super::world::World;
use crate::Result;
use crate::bench::{Nature, What};
use crate::proof::Proof;
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::update::OutcomeKind;
use std::time::Duration;

pub const CASES: [Case; 2] = [
    Case { name: "which the policy allows", needs: &[], broker_required: false, play: allowed },
    Case { name: "which the policy forbids", needs: &[], broker_required: true, play: forbidden },
];

fn allowed(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    let mark = to_the_trial(world, &update)?;
    let patience = world.patience(0, 1, 0) + Duration::from_secs(world.deadline_s().into());
    let settled = ["settled: ", &update.bundle.version, "committed"];
    world.until(mark, "the commit without a broker", patience, |seen| seen.says(&settled).then_some(()))?;
    let heard = world.seen(mark)?.outcome(update.bundle.name);
    proof.hold("it commits while nobody can hear it", heard.is_none(), "as its log says");
    world.open_the_door()?;
    let ended = update.follow(world, mark, 0)?;
    update.is_committed(world, proof, &ended)
}

fn forbidden(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    let mark = to_the_trial(world, &update)?;
    let patience = world.patience(0, 2, 0) + Duration::from_secs(world.deadline_s().into());
    let back = What::Boots(update.from, Why::Good);
    world.until(mark, "the way back without a broker", patience, |seen| {
        let trial = seen.first(&update.boots())?;
        seen.events.iter().skip(trial).find(|event| event.what == back).map(drop)
    })?;
    world.open_the_door()?;
    let ended = update.follow(world, mark, 0)?;
    update.is_back(world, proof, &ended, &[OutcomeKind::RolledBack])?;
    let detail = &ended.outcome.detail;
    proof.hold("the report names the check", detail.contains("connected"), detail);
    Ok(())
}

/// Publishes, and lets the broker go as soon as the machine resets into the trial: it is away before the agent is there.
fn to_the_trial(world: &mut World<'_>, update: &Update) -> Result<Mark> {
    let mark = update.publish(world)?;
    let patience = world.patience(1, 0, 0);
    world.until(mark, "the reset into the trial", patience, |seen| seen.first(&What::Reset))?;
    world.door.shut();
    Ok(mark)
}
