//! A fix of what the gateway runs: it fetches what differs. Then the same once more, after somebody has written to what runs: what has drifted
//! costs itself alone, and is told.

use super::{Update, mib, percent};
use crate::Result;
use crate::board::rootfs;
use crate::demo::follow::Moment;
use crate::demo::stage::Stage;
use crate::listener::Said;
use crate::proof::Proof;
use crate::{Doing, Trouble};
use mainstay_core::limits::{OBJECT_BYTES_MAX, SEGMENT_BYTES};

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::of_what_runs(stage, "8.0.0")?;
    let mark = update.publish(stage)?;
    let (outcome, moment) = update.follow(stage, mark)?;
    let delta = update.bill.delta.doing(|| "a bundle without a delta route")?;
    proof.hold("by the delta route from what runs", moment.log.contains(BY_DELTA), "as its log says");
    let fetched = fetched(&moment, &update);
    proof.hold(
        "fetched the delta route, and nothing else",
        fetched == delta,
        format!(
            "{fetched} bytes of pieces, {:.3} % of the full route's {}",
            percent(fetched, update.bill.needed),
            mib(update.bill.needed)
        ),
    );
    update.is_committed(stage, proof, &outcome)?;

    let update = Update::of_what_runs(stage, "8.1.0")?;
    let segment = drift(stage, &update)?;
    let mark = update.publish(stage)?;
    let (outcome, moment) = update.follow(stage, mark)?;
    let told = format!("what was installed: 1, the first is number {segment};");
    let heard = moment.heard.iter().any(|heard| match &heard.what {
        Said::Presence(presence) => presence.detail.contains(&told),
        _ => false,
    });
    proof.hold("the operator hears what has drifted", heard, format!("segment {segment}, of 256 KiB"));
    let delta = update.bill.delta.doing(|| "a bundle without a delta route")?;
    let beyond = self::fetched(&moment, &update).saturating_sub(delta);
    // Its encoding is no longer than itself, and lies in pieces that are fetched whole.
    let most = (SEGMENT_BYTES.div_ceil(OBJECT_BYTES_MAX) + 1) * OBJECT_BYTES_MAX;
    proof.hold(
        "which costs no more than that segment",
        beyond > 0 && beyond <= most as u64,
        format!("{} beside the delta, of at most {}", mib(beyond), mib(most as u64)),
    );
    update.is_committed(stage, proof, &outcome)
}

const BY_DELTA: &str = "by the delta route from ";

fn fetched(moment: &Moment, update: &Update) -> u64 {
    moment.runs(update.bundle.name).iter().map(|run| run.fetched).sum()
}

/// Changes a byte of what runs, in a segment that the update would take from there as it is; its number.
fn drift(stage: &mut Stage, update: &Update) -> Result<usize> {
    let running = stage.running()?;
    let old = stage.running_content()?;
    let new = std::fs::read(&update.bundle.image).doing(|| update.bundle.image.display().to_string())?;
    let mut segments = old.chunks(SEGMENT_BYTES).zip(new.chunks(SEGMENT_BYTES));
    let same = segments.position(|(old, new)| old == new && old.iter().any(|byte| *byte != 0));
    let segment = same.ok_or_else(|| Trouble::new("an update that takes no segment as it is"))?;
    let at = segment * SEGMENT_BYTES;
    let byte = old.get(at).doing(|| "a segment without a byte")? ^ 1;
    stage.gateway.board().disk().write(rootfs(running), at as u64, &[byte])?;
    stage.screen.say(&format!("   somebody  writes to what runs: byte {at} of {running}'s slot"));
    Ok(segment)
}
