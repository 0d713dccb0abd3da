//! 4: the kernel of the trial does not bring user space up. It panics, it hangs before it gets so far, it cannot read its root
//! file system, it finds no `init`. One try each: that the tries run out is shown elsewhere.

use super::Case;
use super::hangs::each_try_is_bitten;
use super::update::{Ended, Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use mainstay_core::update::OutcomeKind;

pub const CASES: [Case; 4] = [
    Case {
        name: "it panics",
        needs: &[Need::Nature(Nature::KernelPanics)],
        broker_required: false,
        play: panics,
    },
    Case {
        name: "it never reaches user space",
        needs: &[Need::Nature(Nature::KernelHangs), Need::WatchdogEvents],
        broker_required: false,
        play: hangs,
    },
    Case {
        name: "the root file system is garbage",
        needs: &[Need::Nature(Nature::RootGarbage)],
        broker_required: false,
        play: garbage,
    },
    Case {
        name: "init is missing",
        needs: &[Need::Nature(Nature::InitMissing)],
        broker_required: false,
        play: no_init,
    },
];

fn panics(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (_, ended) = falls_back(world, proof, Nature::KernelPanics, 1)?;
    proof.hold("the kernel panicked", ended.seen.count(&What::Panic) > 0, ended.seen.count(&What::Panic));
    Ok(())
}

fn hangs(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (update, ended) = falls_back(world, proof, Nature::KernelHangs, 1)?;
    each_try_is_bitten(proof, &update, &ended);
    // Nobody but the bootloader can have armed it: user space was not there.
    proof.equal("times that the trial reached user space", in_trial(&update, &ended, &What::UserSpace), 0);
    Ok(())
}

fn garbage(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (update, ended) = falls_back(world, proof, Nature::RootGarbage, 1)?;
    proof.equal("times that an agent ran in the trial", in_trial(&update, &ended, &What::AgentStarts), 0);
    Ok(())
}

fn no_init(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (update, ended) = falls_back(world, proof, Nature::InitMissing, 1)?;
    proof.equal("times that an agent ran in the trial", in_trial(&update, &ended, &What::AgentStarts), 0);
    Ok(())
}

/// Plays an update whose trial has one try, and whose outcome is that it fell back.
pub fn falls_back(
    world: &mut World<'_>,
    proof: &mut Proof,
    nature: Nature,
    bites: u32,
) -> Result<(Update, Ended)> {
    goes_back(world, proof, nature, bites, &[OutcomeKind::FellBack])
}

/// As [`falls_back`], with one of these outcomes.
pub fn goes_back(
    world: &mut World<'_>,
    proof: &mut Proof,
    nature: Nature,
    bites: u32,
    kinds: &[OutcomeKind],
) -> Result<(Update, Ended)> {
    let update = Update::ready(world, Wanted::new(nature, 1))?;
    let ended = update.play(world, bites)?;
    update.is_back(world, proof, &ended, kinds)?;
    Ok((update, ended))
}

/// How often this was seen while the trial was what had been booted last.
pub fn in_trial(update: &Update, ended: &Ended, wanted: &What) -> usize {
    let mut trial = false;
    let mut count = 0;
    for event in &ended.seen.events {
        match &event.what {
            what @ What::Boots(..) => trial = *what == update.boots(),
            what => count += usize::from(trial && what == wanted),
        }
    }
    count
}
