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
    let boots = ended.seen.events.iter().filter(|event| matches!(event.what, What::Boots(..))).count();
    let tried = ended.seen.count(&update.boots());
    proof.hold(
        "one boot, and that was the trial",
        (boots, tried) == (1, 1),
        format!("{boots}, {tried} of them the trial"),
    );
    let bad = [What::WatchdogFires, What::Panic].map(|what| ended.seen.count(&what));
    proof.hold("no bite, no panic", bad == [0, 0], format!("{bad:?}"));
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
