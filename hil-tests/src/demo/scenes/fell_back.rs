//! Images that nobody can ask how they are: one never comes up, one freezes. The watchdog that the bootloader armed
//! bites, each time a try is gone, and when none is left the bootloader goes back by itself.

use super::{Change, PATIENCE, Update, said};
use crate::Result;
use crate::board::Happening;
use crate::demo::stage::Stage;
use crate::image::Behaviour;
use crate::proof::Proof;
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::limits::TRIES_DEFAULT;

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(stage, "4.0.0", Behaviour::NeverUp, Change::Little)?;
    let tries = falls_back(stage, proof, &update, TRIES_DEFAULT)?;
    let counted: Vec<String> = tries.iter().map(u8::to_string).collect();
    proof.equal(
        "tries left, as the environment counted them",
        counted.join(" → "),
        "3 → 2 → 1 → 0".to_owned(),
    );
    update.is_back(stage, proof)?;

    let update = Update::with_tries(stage, "4.1.0", Behaviour::Freezes, Change::Little, 1)?;
    falls_back(stage, proof, &update, 1)?;
    update.is_back(stage, proof)
}

/// Follows an update until it has fallen back; the tries that its group had left, one after the other.
fn falls_back(stage: &mut Stage, proof: &mut Proof, update: &Update, tries: u8) -> Result<Vec<u8>> {
    let target = update.target();
    let mark = update.publish(stage)?;
    let mut counted: Vec<u8> = Vec::new();
    let outcome = stage.follow(mark, "the way back", PATIENCE, |moment| {
        let group = moment.boot.as_ref().map(|boot| *boot.group(target)).filter(|group| group.priority > 0);
        // Before it is armed the group has none: it is empty, or good, or withdrawn.
        let left = group.map(|group| group.tries_left).filter(|left| *left > 0 || !counted.is_empty());
        if let Some(left) = left.filter(|left| counted.last() != Some(left)) {
            counted.push(left);
        }
        moment.outcome(update.bundle.name)
    })?;
    stage.settle()?;
    let events = stage.follow(mark, "the gateway", PATIENCE, |moment| Some(moment.events.clone()))?;
    let how = match events.contains(&Happening::Froze) {
        true => "freezes",
        false => "never comes up",
    };
    let count = |wanted: &Happening| events.iter().filter(|event| *event == wanted).count();
    let boots = count(&Happening::Boots(target, Why::Trial));
    let bites = count(&Happening::WatchdogBites);
    let all = usize::from(tries);
    proof.hold(
        format!("{}, which {how}: each try ends with a bite", update.bundle.version),
        boots == all && bites == all,
        format!("{boots} boots into {target}, {bites} bites"),
    );
    proof.equal("outcome that the operator received", said(&outcome), "fell back".to_owned());
    Ok(counted)
}
