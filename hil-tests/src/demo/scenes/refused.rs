//! What is not to be believed: a bundle that nobody with a release key has signed, a desired state that no operator has
//! signed, an old one that the broker brings again, and a downgrade. The gateway says why, and does not write a byte.

use super::{Change, PATIENCE, said, untouched};
use crate::demo::stage::Stage;
use crate::image::Behaviour;
use crate::listener::Said;
use crate::operator::{Bundle, Operator};
use crate::proof::Proof;
use crate::{Doing, Result};
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::topic;
use mainstay_core::update::OutcomeKind;

pub fn play(stage: &mut Stage, proof: &mut Proof) -> Result<()> {
    let before = stage.gateway.fingerprint()?;
    let floor = stage.gateway.status()?.floor;
    let begin = stage.mark();

    stage
        .screen
        .say("   attacker  has stolen the operator's key and signs a bundle with a release key of his own");
    let thief = stage.thief()?;
    let forged = bundle(stage, &thief, "5.0.0", floor + 1)?;
    let heard = stage.listener.mark();
    let claim = "a forged bundle under a desired state of the operator's key: refused";
    rejected(stage, proof, ("attacker", &thief), &forged, claim, "release")?;
    let old = stage.listener.since(heard).into_iter().find_map(|heard| match heard.what {
        Said::Desired(bytes) if heard.who == stage.gateway.group() => Some(bytes),
        _ => None,
    });
    let old = old.doing(|| "the desired state that has just been published was not heard")?;

    stage.screen.say("   attacker  signs a desired state with keys of his own");
    let attacker = stage.attacker()?;
    let foreign = bundle(stage, &attacker, "5.1.0", floor + 1)?;
    let mark = stage.mark();
    stage.publish("attacker", &attacker, &foreign)?;
    let why = complaint(stage, mark, "operator")?;
    proof.hold("a forged desired state is not followed", true, why);

    let operator = stage.operator.clone();
    let older = bundle(stage, &operator, "0.9.0", floor.saturating_sub(1))?;
    let claim = "a downgrade, signed by all who have to: refused";
    rejected(stage, proof, ("operator", &operator), &older, claim, "the floor is")?;

    stage.screen.say("   broker    brings the first desired state again");
    let mark = stage.mark();
    let desired = topic::group_desired(super::super::stage::FLEET, stage.gateway.group());
    stage.listener.retain(&desired, &old)?;
    let why = complaint(stage, mark, "replayed")?;
    proof.hold("a desired state that is brought again is not followed", true, why);

    stage.settle()?;
    let phases = stage.follow(begin, "the gateway", PATIENCE, |moment| {
        Some(
            [&forged, &foreign, &older]
                .map(|bundle| moment.phases(&bundle.version).len())
                .iter()
                .sum::<usize>(),
        )
    })?;
    proof.equal("phases entered", phases, 0);
    proof.equal("floor as before", stage.gateway.status()?.floor, floor);
    untouched(proof, stage, &before)
}

fn bundle(stage: &mut Stage, who: &Operator, version: &str, security_version: u32) -> Result<Bundle> {
    let image = stage.image(version, Behaviour::Healthy, Change::Little)?;
    let bundle = stage.pack(who, image, version, security_version, TRIES_DEFAULT, None)?;
    stage.bill(&bundle)?; // so that the broker forgets it when the scene is over
    Ok(bundle)
}

/// Publishes, and waits for the gateway to refuse with a reason that holds `word`.
fn rejected(
    stage: &mut Stage,
    proof: &mut Proof,
    (name, who): (&str, &Operator),
    bundle: &Bundle,
    claim: &str,
    word: &str,
) -> Result<()> {
    let mark = stage.mark();
    stage.publish(name, who, bundle)?;
    let outcome = stage.outcome(mark, bundle.name, PATIENCE)?;
    let right = outcome.kind == OutcomeKind::Rejected && outcome.detail.contains(word);
    proof.hold(claim, right, format!("{}: {}", said(&outcome), outcome.detail));
    Ok(())
}

/// Waits for the agent to say of a desired state that it will not have it, with a reason that holds `word`.
fn complaint(stage: &mut Stage, mark: crate::demo::follow::Mark, word: &str) -> Result<String> {
    stage.follow(mark, "the agent's complaint", PATIENCE, |moment| {
        let line = moment.log.lines().find(|line| line.contains("/desired: ") && line.contains(word))?;
        Some(line.split_once("/desired: ")?.1.to_owned())
    })
}
