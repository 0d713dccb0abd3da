//! The broker goes while a bundle is being written, and comes back with what it had. The agent waits, connects again and goes
//! on where it was; nothing is given up, nothing is fetched twice.

use super::power_cut::in_mid_download;
use super::{PATIENCE, Update, mib};
use crate::Result;
use crate::board::Happening;
use crate::broker::Memory;
use crate::demo::stage::Stage;
use crate::proof::Proof;

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::to_be_fetched(stage, "7.0.0")?;
    let mark = update.publish(stage)?;
    let before = in_mid_download(stage, &update, mark)?;

    let cut = stage.mark();
    stage.screen.say("   broker    is gone");
    stage.broker.stop();
    stage.follow(cut, "the agent to notice that the broker is gone", PATIENCE, |moment| {
        moment.status.as_ref().filter(|status| status.broker == "down").map(drop)
    })?;
    stage.broker.restart(Memory::Kept)?;
    stage.screen.say("   broker    is back, with what it had");
    let (outcome, moment) = update.follow(stage, mark)?;

    let boots = moment.events.iter().filter(|event| matches!(event, Happening::Boots(..))).count();
    proof.hold("no boot but the one into the trial", boots == 1, format!("{boots} boot"));
    let phases = moment.phases(&update.bundle.version);
    proof.hold(
        "the download was never given up",
        phases.iter().filter(|phase| *phase == "downloading").count() == 1,
        format!("broker gone at {}; {}", mib(before.done), phases.join(", ")),
    );
    let fetched: Vec<u64> = moment.runs(update.bundle.name).iter().map(|run| run.fetched).collect();
    update.is_charged_once(proof, moment.sent, &fetched);
    update.is_committed(stage, proof, &outcome)
}
