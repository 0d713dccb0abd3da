//! 6: both groups used up. How a board comes there without anybody's fault: one surge takes the power away in an update's only
//! try, and destroys the group that is good.
//!
//! The board has to say so and wait: not at a bootloader's prompt, where nobody stands, and not in resets one after the other.
//! From the console it is repaired as its page says: the trial gets another try, passes, and is committed. Left alone, it gives
//! each group of the order another chance after each wait, so that an image which hangs costs one attempt in a pause and no more.

use super::Case;
use super::update::{Update, Wanted};
use super::watch::Mark;
use super::world::World;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::Why;

pub const CASES: [Case; 2] = [
    Case { name: "repaired from the console", needs: &[Need::Ruin], broker_required: false, play: repaired },
    Case {
        name: "left alone",
        needs: &[Need::Ruin, Need::Nature(Nature::UserspaceHangs), Need::WatchdogEvents],
        broker_required: false,
        play: left_alone,
    },
];

fn repaired(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, 1))?;
    let mark = used_up(world, &update)?;
    let before = world.seen(mark)?;
    proof.equal("resets before it waits", before.count(&What::Reset), 0);
    if world.has(Need::Environment) {
        let state = world.bench.environment()?;
        let target = *state.group(update.target());
        let figure = format!("priority {}, {} tries left", target.priority, target.tries_left);
        proof.hold(
            "the trial is in the order, and used up",
            target.priority > 0 && !target.bootable(),
            figure,
        );
    }
    let mark = world.mark();
    world.bench.repair()?;
    let ended = update.follow(world, mark, 0)?;
    update.is_committed(world, proof, &ended)?;
    proof.equal("boots after the repair", ended.seen.count(&update.boots()), 1);
    world.give_up(); // its other group is noise
    Ok(())
}

fn left_alone(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::UserspaceHangs, 1))?;
    let mark = used_up(world, &update)?;
    let pause = world.bench.pace().pause;
    let patience = world.patience(0, 2, 1) + pause * 2;
    let found = What::NothingBootable;
    let seen = world.until_used_up(mark, "its second wait", patience, |seen| {
        (seen.count(&found) > 1).then(|| seen.clone())
    })?;
    let at: Vec<_> = seen.events.iter().filter(|event| event.what == found).map(|event| event.at).collect();
    let between = at.last().zip(at.first()).map(|(last, first)| *last - *first).doing(|| "two waits")?;
    proof.hold(
        "from wait to wait at least the pause",
        between >= pause,
        format!("{:.1} s, of which {:.0} s are the pause", between.as_secs_f64(), pause.as_secs_f64()),
    );
    let attempts = seen.count(&What::Boots(update.target(), Why::LastResort));
    proof.equal("attempts in between", attempts, 1);
    proof.equal("bites", seen.count(&What::WatchdogFires), 1);
    proof.equal("resets", seen.count(&What::Reset), 1);
    world.give_up();
    Ok(())
}

/// The power goes in the only try, and with it the group that is good; then it is on again, until nothing bootable is found.
fn used_up(world: &mut World<'_>, update: &Update) -> Result<Mark> {
    let mark = update.publish(world)?;
    let patience = world.patience(1, 1, 0);
    world.until(mark, "the trial", patience, |seen| seen.first(&update.boots()))?;
    world.power(false)?;
    world.bench.ruin(update.from)?;
    let mark = world.mark();
    world.power(true)?;
    let patience = world.patience(0, 1, 0);
    world.until_used_up(mark, "nothing bootable", patience, |seen| seen.first(&What::NothingBootable))?;
    Ok(mark)
}
