//! An update: made ready, published, followed to its outcome, and what has to hold then.

use super::figure::Figure;
use super::watch::{Mark, Seen};
use super::world::World;
use crate::bench::{ImageSpec, Nature, Need, What};
use crate::listener::{Said, in_words};
use crate::operator::{Bundle, Packing};
use crate::proof::Proof;
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::Group;
use mainstay_core::report::{Availability, Outcome, Presence};
use mainstay_core::update::{OutcomeKind, PhaseName};
use std::path::PathBuf;

/// An update, and how the gateway stood before it.
pub struct Update {
    /// What is published.
    pub bundle: Bundle,
    /// The group that ran.
    pub from: Group,
    /// What stood in it.
    pub from_version: Option<String>,
    /// The floor.
    pub floor: u32,
    /// How often the bootloader tries it.
    pub tries: u8,
}

/// What an update is to be like.
pub struct Wanted {
    /// How its image fares.
    pub nature: Nature,
    /// How often the bootloader tries it.
    pub tries: u8,
    /// Its device binary; `None`: the bench's own.
    pub agent: Option<PathBuf>,
    /// Its security version, seen from the floor: 1 raises it.
    pub above_floor: i64,
}

impl Wanted {
    /// An image of this nature, above the floor, tried so often.
    pub fn new(nature: Nature, tries: u8) -> Wanted {
        Wanted { nature, tries, agent: None, above_floor: 1 }
    }
}

impl Update {
    /// Makes image and bundle for the gateway as it stands.
    pub fn ready(world: &mut World<'_>, wanted: Wanted) -> Result<Update> {
        let presence = world.presence().doing(|| "the gateway has not said how it stands")?;
        let version = world.next_version();
        let Wanted { nature, tries, agent, above_floor } = wanted;
        let image = world.bench.image(&ImageSpec { version: version.clone(), nature, agent })?;
        let (floor, from) = (presence.floor, presence.running);
        let bundle = world.operator.pack(&Packing {
            image: &image,
            compatible: world.bench.compatible(),
            version: &version,
            security_version: (i64::from(floor) + above_floor).max(0) as u32,
            tries,
            deadline_s: world.deadline_s(),
            level: 1,
        })?;
        Ok(Update { bundle, from, from_version: world.bench.version_in(from)?, floor, tries })
    }

    /// Publishes it; what comes of it comes after the mark.
    pub fn publish(&self, world: &mut World<'_>) -> Result<Mark> {
        let mark = world.mark();
        let group = world.group().to_owned();
        world.operator.publish(&self.bundle, &world.access, &group)?;
        Ok(mark)
    }

    /// The group that is written.
    pub fn target(&self) -> Group {
        self.from.other()
    }

    /// The event of its first boot.
    pub fn boots(&self) -> What {
        What::Boots(self.target(), Why::Trial)
    }

    /// Publishes it, and waits for the operator to hear its outcome: after one installation, so many boots beside the tries of
    /// the trial, and as many bites.
    pub fn play(&self, world: &mut World<'_>, bites: u32) -> Result<Ended> {
        let mark = self.publish(world)?;
        self.follow(world, mark, bites)
    }

    /// Waits for the operator to hear its outcome, and for the gateway to be quiet.
    pub fn follow(&self, world: &mut World<'_>, mark: Mark, bites: u32) -> Result<Ended> {
        let patience =
            world.patience(1, 2 + bites, bites) + std::time::Duration::from_secs(world.deadline_s().into());
        let what = format!("the outcome of {}", self.bundle.version);
        let outcome = world.until(mark, &what, patience, |seen| seen.outcome(self.bundle.name))?;
        let presence = self.settled(world, mark, &outcome)?;
        let seen = world.seen(mark)?;
        let heard = seen.heard.iter().find(
            |heard| matches!(&heard.what, Said::Outcome(outcome) if outcome.manifest == self.bundle.name),
        );
        // A bite on the way up, of an update that is committed all the same, is no way back.
        if outcome.kind == OutcomeKind::FellBack {
            world.figures.extend(heard.and_then(|heard| Figure::of(&seen, heard.at)));
        }
        Ok(Ended { outcome, presence, seen })
    }

    /// Until the gateway says of itself what the report said.
    fn settled(&self, world: &mut World<'_>, mark: Mark, outcome: &Outcome) -> Result<Presence> {
        let patience = world.patience(0, 1, 0);
        let kind = outcome.kind;
        world.until(mark, "a quiet gateway", patience, |seen| {
            let presence = seen.presence.as_ref()?;
            let there = presence.availability == Availability::Online;
            let ended = presence.outcome.as_ref().map(|(kind, _)| *kind);
            let told = match kind {
                // A bundle that was not accepted is no deployment: the phase is about another one, or none.
                OutcomeKind::Rejected => matches!(presence.phase, PhaseName::Idle | PhaseName::Settled),
                _ => presence.phase == PhaseName::Settled && ended == Some(kind),
            };
            (there && told).then(|| presence.clone())
        })
    }

    /// It is what runs, whole and good, and the floor is raised.
    pub fn is_committed(&self, world: &mut World<'_>, proof: &mut Proof, ended: &Ended) -> Result<()> {
        let (target, version) = (self.target(), &self.bundle.version);
        proof.equal("outcome that the operator received", in_words(ended.outcome.kind), "committed");
        let report = &ended.outcome;
        proof.hold(
            format!("the report says that {version} runs in {target}"),
            report.running == target && report.running_version == version.as_str(),
            format!("{} in {}", report.running_version, report.running),
        );
        proof.equal("the gateway says that it runs", ended.presence.running, target);
        proof.equal("floor raised", ended.presence.floor, self.floor + 1);
        let found = world.bench.version_in(target)?.unwrap_or_default();
        proof.equal(format!("group {target} holds"), found, version.clone());
        good(world, proof, target)
    }

    /// What ran before runs again, nothing else can be booted, and the floor has not moved.
    pub fn is_back(
        &self,
        world: &mut World<'_>,
        proof: &mut Proof,
        ended: &Ended,
        kinds: &[OutcomeKind],
    ) -> Result<()> {
        let (from, target) = (self.from, self.target());
        let expected: Vec<&str> = kinds.iter().map(|kind| in_words(*kind)).collect();
        let right = kinds.contains(&ended.outcome.kind);
        let (found, expected) = (in_words(ended.outcome.kind), expected.join(" or "));
        let figure = if right { found.to_owned() } else { format!("{found}, expected {expected}") };
        proof.hold("outcome that the operator received", right, figure);
        proof.equal("the gateway says that it runs", ended.presence.running, from);
        proof.equal("the report says that it runs", ended.outcome.running, from);
        let found = world.bench.version_in(from)?;
        let same = found == self.from_version;
        proof.hold(format!("group {from} holds what it held"), same, found.unwrap_or_default());
        proof.equal("floor as before", ended.presence.floor, self.floor);
        good(world, proof, from)?;
        if world.has(Need::Environment) {
            let state = *world.bench.environment()?.group(target);
            proof.hold(
                format!("group {target} is not bootable"),
                !state.bootable(),
                format!("priority {}, {} tries left", state.priority, state.tries_left),
            );
        }
        Ok(())
    }
}

/// How an update ended.
pub struct Ended {
    /// What the operator was told.
    pub outcome: Outcome,
    /// How the gateway stands since.
    pub presence: Presence,
    /// What was seen from its publishing on.
    pub seen: Seen,
}

/// The environment calls this group good.
pub fn good(world: &mut World<'_>, proof: &mut Proof, group: Group) -> Result<()> {
    if world.has(Need::Environment) {
        let state = *world.bench.environment()?.group(group);
        proof.hold(
            format!("in the environment {group} is good"),
            // A convention that knows no "good" has given it all its tries again.
            state.priority > 0 && state.good.unwrap_or(state.tries_left > 0),
            format!("priority {}, good {:?}", state.priority, state.good),
        );
    }
    Ok(())
}
