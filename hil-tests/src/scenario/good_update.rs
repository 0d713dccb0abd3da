//! 1: a good update over MQTT. It is installed, armed, booted once, found healthy and committed, and the operator has the report.

use super::Case;
use super::update::{Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, What};
use crate::listener::Said;
use crate::proof::Proof;
use mainstay_core::limits::TRIES_DEFAULT;

pub const CASES: [Case; 1] = [Case { name: "", needs: &[], broker_required: false, play }];

fn play(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    let ended = update.play(world, 0)?;
    update.is_committed(world, proof, &ended)?;
    let slow = ended.seen.bitten_on_the_way();
    let boots = ended
        .seen
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Boots(..)))
        .count()
        .saturating_sub(slow);
    let tried = ended.seen.count(&update.boots()).saturating_sub(slow);
    proof.hold(
        "one boot, and that was the trial",
        (boots, tried) == (1, 1),
        format!("{boots}, {tried} of them the trial"),
    );
    let bites = ended.seen.count(&What::WatchdogFires);
    let panics = ended.seen.count(&What::Panic);
    proof.hold(
        "no bite once user space was up, no panic",
        (bites, panics) == (slow, 0),
        format!("{bites} bites, {slow} of them on the way up; {panics} panics"),
    );
    let whole = ended.seen.heard.iter().rev().find_map(|heard| match &heard.what {
        Said::Progress(progress) if progress.manifest == update.bundle.name => Some(*progress),
        _ => None,
    });
    let whole = whole.map_or((0, 1), |progress| (progress.done, progress.total));
    proof.hold(
        "the operator saw it written whole",
        whole.0 == whole.1,
        format!("{} of {} bytes", whole.0, whole.1),
    );
    Ok(())
}
