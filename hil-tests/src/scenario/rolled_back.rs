//! 2: the image comes up, and its required health check fails. The agent goes back by itself, the operator reads why, and the
//! same bundle is not tried a second time.

use super::Case;
use super::update::{Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::listener::in_words;
use crate::proof::Proof;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::update::OutcomeKind;

pub const CASES: [Case; 1] =
    [Case { name: "", needs: &[Need::Nature(Nature::CheckFails)], broker_required: false, play }];

fn play(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::CheckFails, TRIES_DEFAULT))?;
    let ended = update.play(world, 0)?;
    update.is_back(world, proof, &ended, &[OutcomeKind::RolledBack])?;
    let detail = &ended.outcome.detail;
    proof.hold("the report names the check", detail.contains("check"), detail);
    let slow = ended.seen.bitten_on_the_way();
    let tried = ended.seen.count(&update.boots()).saturating_sub(slow);
    proof.equal("boots into the trial that came up", tried, 1);
    proof.equal("bites once user space was up", ended.seen.count(&What::WatchdogFires) - slow, 0);
    if !proof.stands() {
        return Ok(()); // what was committed is not refused
    }

    let again = world.mark();
    let group = world.group().to_owned();
    world.operator.publish(&update.bundle, &world.access, &group)?;
    let patience = world.patience(1, 0, 0);
    let refusal = world.until(again, "the refusal", patience, |seen| {
        seen.outcome(update.bundle.name).filter(|outcome| outcome.kind == OutcomeKind::Rejected)
    })?;
    proof.hold(
        "published again it is refused",
        true,
        format!("{}: {}", in_words(refusal.kind), refusal.detail),
    );
    let resets = world.seen(again)?.count(&What::Reset);
    proof.equal("resets after that", resets, 0);
    Ok(())
}
