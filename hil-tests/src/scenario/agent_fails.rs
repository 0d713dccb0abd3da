//! 5: everything comes up in the trial but the agent, who is to judge it: it ends at once, again and again; it is killed; it
//! hangs. Nobody says that the trial went well, so the watchdog or the second guard ends it.

use super::Case;
use super::kernel_fails::{falls_back, goes_back, in_trial};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use mainstay_core::update::OutcomeKind;

pub const CASES: [Case; 3] = [
    Case {
        name: "it crashes again and again",
        needs: &[Need::Nature(Nature::AgentCrashes)],
        broker_required: false,
        play: crashes,
    },
    Case {
        name: "it is killed",
        needs: &[Need::Nature(Nature::AgentKilled)],
        broker_required: false,
        play: killed,
    },
    Case {
        name: "it hangs",
        needs: &[Need::Nature(Nature::AgentHangs)],
        broker_required: false,
        play: hangs,
    },
];

fn crashes(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (update, ended) = falls_back(world, proof, Nature::AgentCrashes, 1)?;
    let starts = in_trial(&update, &ended, &What::AgentStarts);
    proof.hold("it was started, and started again", starts > 1, format!("{starts} starts in the trial"));
    Ok(())
}

fn killed(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    // Whoever is first at the deadline of the trial ends it: the second guard, or an agent that has just been started again and
    // finds it passed.
    let kinds = [OutcomeKind::FellBack, OutcomeKind::RolledBack];
    let (update, ended) = goes_back(world, proof, Nature::AgentKilled, 1, &kinds)?;
    let starts = in_trial(&update, &ended, &What::AgentStarts);
    proof.hold("it was started", starts > 0, format!("{starts} starts in the trial"));
    Ok(())
}

fn hangs(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let (update, ended) = falls_back(world, proof, Nature::AgentHangs, 1)?;
    let starts = in_trial(&update, &ended, &What::AgentStarts);
    proof.equal("starts in the trial", starts, 1);
    Ok(())
}
