//! The seven scenes, and what they share: an update is made ready, published, and followed to its end.

mod broker_gone;
mod committed;
mod fell_back;
mod power_cut;
mod refused;
mod rolled_back;
mod small_delta;

use super::follow::{Mark, Moment, PATIENCE};
use super::stage::{Change, Stage};
use crate::Result;
use crate::bill::Bill;
use crate::board::rootfs;
use crate::image::Behaviour;
use crate::operator::Bundle;
use crate::proof::Proof;
use crate::screen::View;
use mainstay_core::boot::Group;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::report::Outcome;
use std::path::Path;

/// A scene.
pub struct Scene {
    /// From 1.
    pub number: u8,
    /// What it shows.
    pub title: &'static str,
    /// Plays it.
    pub play: fn(&mut Stage, &mut Proof) -> Result<()>,
}

/// All, in order.
pub const ALL: [Scene; 7] = [
    Scene { number: 1, title: "an update is taken, tried and committed", play: committed::play },
    Scene { number: 2, title: "an image whose health check fails is rolled back", play: rolled_back::play },
    Scene { number: 3, title: "an image that never comes up falls back", play: fell_back::play },
    Scene { number: 4, title: "forgeries and a downgrade are refused", play: refused::play },
    Scene { number: 5, title: "the power goes in mid-download", play: power_cut::play },
    Scene { number: 6, title: "the broker goes in mid-download", play: broker_gone::play },
    Scene {
        number: 7,
        title: "a fix of what runs is fetched as a delta, from a base that drifts",
        play: small_delta::play,
    },
];

/// An update, ready to be published, and how it stood before.
struct Update {
    bundle: Bundle,
    bill: Bill,
    /// The group that ran, and the version in it.
    from: (Group, String),
    floor: u32,
}

impl Update {
    /// Makes image and bundle, and sees to it that nearly all of it has to be fetched: there is nothing in the target that
    /// could be kept, as on a medium that has been replaced.
    fn to_be_fetched(stage: &mut Stage, version: &str) -> Result<Update> {
        let target = stage.running()?.other();
        stage.gateway.board().disk().clear(rootfs(target))?;
        Update::ready(stage, version, Behaviour::Healthy, Change::All)
    }

    /// Makes the image of a fix of what runs, and a bundle that knows what runs. There is nothing in the target that could be kept.
    fn of_what_runs(stage: &mut Stage, version: &str) -> Result<Update> {
        let target = stage.running()?.other();
        stage.gateway.board().disk().clear(rootfs(target))?;
        let base = stage.running_image()?;
        Update::packed(stage, version, (Behaviour::Healthy, Change::Bytes), TRIES_DEFAULT, Some(&base))
    }

    /// Makes image and bundle.
    fn ready(stage: &mut Stage, version: &str, behaviour: Behaviour, change: Change) -> Result<Update> {
        Update::with_tries(stage, version, behaviour, change, TRIES_DEFAULT)
    }

    fn with_tries(
        stage: &mut Stage,
        version: &str,
        behaviour: Behaviour,
        change: Change,
        tries: u8,
    ) -> Result<Update> {
        Update::packed(stage, version, (behaviour, change), tries, None)
    }

    fn packed(
        stage: &mut Stage,
        version: &str,
        (behaviour, change): (Behaviour, Change),
        tries: u8,
        base: Option<&Path>,
    ) -> Result<Update> {
        let floor = stage.gateway.status()?.floor;
        let image = stage.image(version, behaviour, change)?;
        let who = stage.operator.clone();
        let bundle = stage.pack(&who, image, version, floor + 1, tries, base)?;
        let from =
            (stage.running()?, stage.gateway.board().status().image.map(|i| i.version).unwrap_or_default());
        Ok(Update { bill: stage.bill(&bundle)?, bundle, from, floor })
    }

    /// Publishes it; what comes of it comes after the mark.
    fn publish(&self, stage: &mut Stage) -> Result<Mark> {
        stage.narrow(self.bill.delta.unwrap_or(self.bill.needed));
        let mark = stage.mark();
        let who = stage.operator.clone();
        stage.publish("operator", &who, &self.bundle)?;
        Ok(mark)
    }

    /// The group that is written.
    fn target(&self) -> Group {
        self.from.0.other()
    }

    /// Follows it until the operator has heard its outcome and nothing is left to tell.
    fn follow(&self, stage: &mut Stage, mark: Mark) -> Result<(Outcome, Moment)> {
        let outcome = stage.outcome(mark, self.bundle.name, PATIENCE)?;
        stage.settle()?;
        let moment = stage.follow(mark, "the gateway", PATIENCE, |moment| Some(moment.clone()))?;
        Ok((outcome, moment))
    }

    /// It is what runs, whole and good, and the floor is raised.
    fn is_committed(&self, stage: &Stage, proof: &mut Proof, outcome: &Outcome) -> Result<()> {
        let (target, board) = (self.target(), stage.gateway.board());
        let version = &self.bundle.version;
        proof.equal("outcome that the operator received", said(outcome), "committed".to_owned());
        let (runs, image) = (stage.running()?, board.image_in(target)?.map(|image| image.version));
        proof.hold(
            format!("group {target} runs {version}"),
            runs == target && image.as_ref() == Some(version),
            format!("{runs} runs, {target} holds {}", image.unwrap_or_default()),
        );
        let same = board.holds(target, &self.bundle.image)?;
        proof.hold("its slot is the image, byte by byte", same, mib(self.bill.content));
        let boot = board.boot_state()?;
        proof.equal("in the environment", View::standing(&boot)[target as usize].as_str(), "good");
        let floor = stage.gateway.status()?.floor;
        proof.hold("floor raised", floor == self.floor + 1, format!("{} → {floor}", self.floor));
        Ok(())
    }

    /// What ran before runs again, and the floor has not moved.
    fn is_back(&self, stage: &Stage, proof: &mut Proof) -> Result<()> {
        let (group, version) = &self.from;
        let board = stage.gateway.board();
        let (runs, boot) = (stage.running()?, board.boot_state()?);
        let running = board.status().image.map(|image| image.version).unwrap_or_default();
        proof.hold(
            format!("group {group} runs {version} again, and is good"),
            runs == *group && running == *version && boot.group(*group).good == Some(true),
            format!("{runs} runs {running}"),
        );
        let target = self.target();
        proof.hold(
            format!("group {target} is not bootable"),
            !boot.group(target).bootable(),
            format!("priority {}, {} tries left", boot.group(target).priority, boot.group(target).tries_left),
        );
        proof.equal("floor as before", stage.gateway.status()?.floor, self.floor);
        Ok(())
    }

    /// What a cut download was charged, at the broker's door and by the agent's own account, over all its runs.
    fn is_charged_once(&self, proof: &mut Proof, sent: u64, fetched: &[u64]) {
        let whole = self.bill.needed;
        let all: u64 = fetched.iter().sum();
        let runs: Vec<String> = fetched.iter().map(|bytes| mib(*bytes)).collect();
        proof.hold(
            "fetched, by the agent's account",
            all <= whole + WINDOW_BYTES && all > 0,
            format!("{} = {:.1} % of {}", runs.join(" + "), percent(all, whole), mib(whole)),
        );
        // Beside the pieces: pages again after the cut, topics (about 200 bytes an object there and back), TLS, presence.
        let most = whole + WINDOW_BYTES + whole / 50 + OVERHEAD_BYTES;
        proof.hold(
            "sent, counted at the broker's door",
            sent <= most,
            format!("{} = {:.1} %; at most {}", mib(sent), percent(sent, whole), mib(most)),
        );
    }
}

/// What may be on its way when a download is cut: the agent's window, `window_kib`.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// Handshakes, presence, and the pages of one run, twice.
const OVERHEAD_BYTES: u64 = 256 * 1024;

/// An outcome in a word.
fn said(outcome: &Outcome) -> String {
    crate::listener::in_words(outcome.kind).to_owned()
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / 1024.0 / 1024.0)
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Were slots and environment left as they were?
fn untouched(
    proof: &mut Proof,
    stage: &Stage,
    before: &[(&'static str, mainstay_core::digest::Digest); 3],
) -> Result<()> {
    let now = stage.gateway.fingerprint()?;
    let changed: Vec<&str> =
        before.iter().zip(&now).filter(|(before, now)| before != now).map(|(before, _)| before.0).collect();
    let figure = match changed.is_empty() {
        true => {
            let short = |(name, digest): &(&str, mainstay_core::digest::Digest)| {
                format!("{name} {}", digest.to_string().get(..8).unwrap_or_default())
            };
            now.iter().map(short).collect::<Vec<_>>().join(", ")
        }
        false => format!("changed: {}", changed.join(", ")),
    };
    proof.hold("environment and slots byte for byte as before", changed.is_empty(), figure);
    Ok(())
}
