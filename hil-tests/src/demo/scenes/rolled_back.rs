//! An image that comes up, but whose application does not: the required health check fails, the agent goes back, and
//! the same bundle is not tried again, however often it is published.

use super::{Change, PATIENCE, Update, said, untouched};
use crate::Result;
use crate::demo::stage::Stage;
use crate::gateway::CHECK;
use crate::image::Behaviour;
use crate::proof::Proof;
use mainstay_core::update::OutcomeKind;

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(stage, "3.0.0", Behaviour::Unhealthy, Change::Little)?;
    let mark = update.publish(stage)?;
    let (outcome, moment) = update.follow(stage, mark)?;
    proof.equal("outcome that the operator received", said(&outcome), "rolled back".to_owned());
    proof.hold("it names the health check", outcome.detail.contains(CHECK), &outcome.detail);
    let phases = moment.phases(&update.bundle.version);
    let path = ["trial", "rolling-back", "settled"];
    proof.hold("tried, and rolled back", phases.ends_with(&path.map(str::to_owned)), phases.join(", "));
    update.is_back(stage, proof)?;

    let before = stage.gateway.fingerprint()?;
    let mark = update.publish(stage)?;
    let again = stage.follow(mark, "the refusal", PATIENCE, |moment| {
        moment.outcome(update.bundle.name).filter(|outcome| outcome.kind == OutcomeKind::Rejected)
    })?;
    stage.settle()?;
    proof.hold("published again, it is refused", again.detail.contains("failed here before"), &again.detail);
    untouched(proof, stage, &before)
}
