//! The power goes while a bundle is being written. The gateway boots what it ran, the slot says what it holds already, and
//! only the rest is fetched.

use super::{PATIENCE, Update, mib};
use crate::Result;
use crate::board::Happening;
use crate::demo::follow::Moment;
use crate::demo::stage::Stage;
use crate::gateway::Fetching;
use crate::proof::Proof;
use mainstay_bootloader_glue::convention::Why;

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::to_be_fetched(stage, "6.0.0")?;
    let mark = update.publish(stage)?;
    let first = in_mid_download(stage, &update, mark)?;

    let cut = stage.mark();
    stage.gateway.board().power_cut();
    let off = |moment: &Moment| moment.events.contains(&Happening::PowerCut).then_some(());
    stage.follow(cut, "the power cut", PATIENCE, off)?;
    let target = update.target();
    let bootable = stage.gateway.board().boot_state()?.group(target).bootable();
    proof.hold(
        "what is half written is not bootable",
        !bootable,
        format!("group {target}, {} in", mib(first.done)),
    );
    stage.gateway.board().power_on();
    let boots = Happening::Boots(update.from.0, Why::Good);
    stage.follow(cut, "the boot after the power cut", PATIENCE, |moment| {
        moment.events.contains(&boots).then_some(())
    })?;
    let (outcome, moment) = update.follow(stage, mark)?;
    let runs = moment.runs(update.bundle.name);
    let kept = runs.last().map_or(0, |run| run.kept);
    proof.hold(
        "all that stood in the slot was kept",
        runs.len() == 2 && kept >= first.done,
        format!("{} when the power went, {} kept", mib(first.done), mib(kept)),
    );
    let mut fetched: Vec<u64> = runs.iter().map(|run| run.fetched).collect();
    if let Some(run) = fetched.first_mut() {
        *run = first.fetched.max(*run); // asked at the last moment; told only now and then
    }
    update.is_charged_once(proof, moment.sent, &fetched);
    update.is_committed(stage, proof, &outcome)
}

/// Follows a download to its middle; how far it has come.
pub(super) fn in_mid_download(
    stage: &mut Stage,
    update: &Update,
    mark: crate::demo::follow::Mark,
) -> Result<Fetching> {
    stage.follow(mark, "the middle of the download", PATIENCE, |moment| {
        let status = moment.status.as_ref().filter(|status| status.phase == "downloading")?;
        status.progress.filter(|progress| progress.fetched * 5 >= update.bill.needed * 2)
    })
}
