//! 3: user space hangs in the trial, in each of its tries. The watchdog, a device of its own, fires each time; when the tries
//! have run out the bootloader goes back, and the operator hears that it did.

use super::Case;
use super::update::{Ended, Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::update::OutcomeKind;

pub const CASES: [Case; 1] = [Case {
    name: "",
    needs: &[Need::Nature(Nature::UserspaceHangs), Need::WatchdogEvents],
    broker_required: false,
    play,
}];

fn play(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::UserspaceHangs, TRIES_DEFAULT))?;
    let ended = update.play(world, TRIES_DEFAULT.into())?;
    update.is_back(world, proof, &ended, &[OutcomeKind::FellBack])?;
    each_try_is_bitten(proof, &update, &ended);
    let reached = ended.seen.count(&What::UserSpace);
    let all = (usize::from(update.tries) + 1).saturating_sub(ended.seen.bitten_on_the_way());
    let what = "what was not bitten on its way up came up, and the way back too";
    proof.hold(what, reached == all && reached > 1, format!("{reached} of {all}"));
    Ok(())
}

/// As many boots into the trial as it had tries, and each ended by the watchdog device.
pub fn each_try_is_bitten(proof: &mut Proof, update: &Update, ended: &Ended) {
    let boots = ended.seen.count(&update.boots());
    // A bite counts where it ends a boot of the trial: the last thing booted before it was the trial.
    let mut trial = false;
    let mut bites = 0;
    for event in &ended.seen.events {
        match &event.what {
            what @ What::Boots(..) => trial = *what == update.boots(),
            What::WatchdogFires if trial => bites += 1,
            _ => {}
        }
    }
    let tries = usize::from(update.tries);
    let what = format!("{tries} tries, each ended by the watchdog device");
    proof.hold(
        what,
        (boots, bites) == (tries, tries),
        format!("{boots} boots into the trial, {bites} bites"),
    );
}
