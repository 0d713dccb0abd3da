//! 9: an update of the update agent itself, and back. The image brings another build of it; the new one takes over the old one's
//! trial, state and log, and commits itself; then the old one takes over from the new one.

use super::Case;
use super::audit;
use super::update::{Ended, Update, Wanted};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, OTHER_BUILD};
use crate::proof::Proof;
use mainstay_core::audit::Event;
use mainstay_core::limits::TRIES_DEFAULT;
use std::path::PathBuf;

pub const CASES: [Case; 1] = [Case { name: "", needs: &[Need::OtherAgent], broker_required: false, play }];

fn play(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let other = world.bench.other_agent()?;
    let there = update(world, proof, Some(other))?;
    let back = update(world, proof, None)?;
    let builds = [&there, &back].map(|ended| ended.presence.agent.ends_with(OTHER_BUILD));
    let agents = format!("{}, then {}", there.presence.agent, back.presence.agent);
    proof.hold("another build ran, and then the first one again", builds == [true, false], agents);
    let attempts = [there.outcome.attempt, back.outcome.attempt];
    proof.hold("one count of deployments", attempts[1] == attempts[0] + 1, format!("{attempts:?}"));
    let seq = [there.presence.desired_seq, back.presence.desired_seq];
    proof.hold("one sequence of desired states", seq[1] > seq[0], format!("{seq:?}"));

    let log = audit::read(world)?;
    proof.hold("one log, its chain whole over both builds", true, format!("{} records", log.len()));
    let lost = log.iter().filter(|entry| matches!(entry.event, Event::StateLost | Event::LogBroken)).count();
    proof.equal("records of lost state or a broken log", lost, 0);
    let mut agents: Vec<&str> =
        log.iter().filter(|entry| entry.event == Event::Started).map(|entry| entry.value("agent")).collect();
    agents.dedup();
    let others: Vec<bool> = agents.iter().map(|agent| agent.ends_with(OTHER_BUILD)).collect();
    proof.hold("the log names who wrote it", others == [false, true, false], agents.join(", "));
    Ok(())
}

fn update(world: &mut World<'_>, proof: &mut Proof, agent: Option<PathBuf>) -> Result<Ended> {
    let wanted = Wanted { agent, ..Wanted::new(Nature::Healthy, TRIES_DEFAULT) };
    let update = Update::ready(world, wanted)?;
    let ended = update.play(world, 0)?;
    update.is_committed(world, proof, &ended)?;
    Ok(ended)
}
