//! 7: the power goes at each phase of an update. Each time the gateway comes back by itself, boots nothing that has not been
//! verified, and ends committed: what was lost is done again.
//!
//! ```text
//! downloading   verifying   installed   bootloader   trial   committing
//!      ✗            ✗           ✗           ✗          ✗         ✗
//! └─ boots what ran before ─┘ └─ may boot the trial: all of it has been read back ─┘
//! ```
//! A phase may be over before the hand is at the switch; the table says how far the gateway had got. That each single write of
//! an update can be lost is proven elsewhere: in the simulator, and on recorded writes of these machines.

use super::Case;
use super::audit::{self, Entry};
use super::update::{Update, Wanted};
use super::watch::{Seen, in_words};
use super::world::World;
use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::listener::Said;
use crate::proof::Proof;
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::audit::Event;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::update::PhaseName;

pub const CASES: [Case; 6] = [
    case("while downloading", |world, proof| cut(world, proof, When::Phase(PhaseName::Downloading))),
    case("while verifying", |world, proof| cut(world, proof, When::Phase(PhaseName::Verifying))),
    case("when installed", |world, proof| cut(world, proof, When::Phase(PhaseName::Installed))),
    case("in the bootloader of the trial", |world, proof| cut(world, proof, When::Bootloader)),
    case("in the trial", |world, proof| cut(world, proof, When::Trial)),
    case("while committing", |world, proof| cut(world, proof, When::Phase(PhaseName::Committing))),
];

const fn case(name: &'static str, play: fn(&mut World<'_>, &mut Proof) -> Result<()>) -> Case {
    Case { name, needs: &[], broker_required: false, play }
}

/// When the power goes.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// The agent says that it is in this phase, or has come farther.
    Phase(PhaseName),
    /// The bootloader has chosen the trial.
    Bootloader,
    /// The agent has been started in the trial.
    Trial,
}

/// While the download is to be cut the broker's door lets so many bytes through in a second.
const NARROW: u64 = 64 * 1024;

fn cut(world: &mut World<'_>, proof: &mut Proof, when: When) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    if when == When::Phase(PhaseName::Downloading) {
        world.door.limit(Some(NARROW));
    }
    let mark = update.publish(world)?;
    let patience = world.patience(2, 2, 0);
    world.until(mark, "the moment to cut the power", patience, |seen| when.has_come(&update, seen))?;
    world.power(false)?;
    world.door.limit(None);
    let before = world.seen(mark)?;
    let tried = before.count(&update.boots());
    let armed = match world.has(Need::Environment) {
        true => Some(world.bench.environment()?.group(update.target()).bootable()),
        false => None,
    };

    world.power(true)?;
    let ended = update.follow(world, mark, 0)?;
    let log = audit::read(world)?;
    let (had, rest) = at_the_cut(&log, &update, tried);
    let told = had.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    proof.hold("the power went", !rest.is_empty(), format!("after {told}"));
    if let Some(armed) = armed {
        // The record says "Trial" before the environment is touched: it is all on the medium then, and has been read back.
        let right = !armed || had.iter().any(|phase| phase == "Trial");
        let figure = if armed { "bootable" } else { "not bootable" };
        proof.hold("the target is bootable only once it has been verified", right, figure);
    }
    let verified =
        log.iter().position(|entry| entry.about(update.bundle.name) && entry.value("phase") == "Installed");
    let accepted = log.iter().position(|entry| entry.about(update.bundle.name));
    let in_target =
        |entry: &Entry| entry.event == Event::Started && entry.value("running") == update.target().name();
    let since = accepted.unwrap_or_default();
    let first = log.iter().skip(since).position(in_target).map(|at| at + since);
    let right = verified.zip(first).is_some_and(|(verified, first)| verified < first);
    proof.hold("nothing unverified booted", right, format!("record {verified:?} before record {first:?}"));
    if armed == Some(false) && tried == 0 {
        let boots = ended.seen.events.iter().skip(before.events.len());
        let first = boots.map(|event| &event.what).find(|what| matches!(what, What::Boots(..)));
        let expected = What::Boots(update.from, Why::Good);
        let figure = first.map(in_words).unwrap_or_default();
        proof.hold("then what ran before booted", first == Some(&expected), figure);
    }
    let tries = ended.seen.count(&update.boots()).saturating_sub(ended.seen.bitten_on_the_way());
    proof.hold("it cost one try at most", tries <= tried.max(1) + 1, format!("{tries} boots into the trial"));
    update.is_committed(world, proof, &ended)
}

impl When {
    /// Has the moment come?
    fn has_come(self, update: &Update, seen: &Seen) -> Option<()> {
        let come = match self {
            When::Bootloader => seen.first(&update.boots()).is_some(),
            When::Trial => {
                let booted = seen.first(&update.boots())?;
                seen.events.iter().skip(booted).any(|event| event.what == What::AgentStarts)
            }
            When::Phase(phase) => {
                let line =
                    format!("phase {}: {}", format!("{phase:?}").to_lowercase(), update.bundle.version);
                // What is heard may come a phase later: whoever is told of a later one has missed the moment, and cuts now.
                let told = seen.heard.iter().any(|heard| match &heard.what {
                    Said::Presence(said) => {
                        let about =
                            said.deployment.as_ref().is_some_and(|(name, _)| *name == update.bundle.name);
                        about && said.phase as u8 >= phase as u8
                    }
                    _ => false,
                });
                told || seen.says(&[&line])
            }
        };
        come.then_some(())
    }
}

/// What the log says of an update: the phases it had been through when the power went, and all that came after. The power went
/// before the first start of the agent that no reboot of the update's own explains.
fn at_the_cut(log: &[Entry], update: &Update, tried: usize) -> (Vec<String>, Vec<Entry>) {
    let accepted = log.iter().position(|entry| entry.about(update.bundle.name)).unwrap_or(log.len());
    let of_update = log.get(accepted..).unwrap_or_default();
    let mut starts = of_update.iter().enumerate().filter(|(_, entry)| entry.event == Event::Started);
    // Where the trial had been booted, its agent may have come up before the cut; its start is part of what was before.
    let own = |(_, entry): &(usize, &Entry)| tried > 0 && entry.value("running") == update.target().name();
    let first = starts.next();
    let cut = match first {
        Some(first) if own(&first) => starts.next().or(Some(first)),
        other => other,
    };
    let cut = cut.map_or(of_update.len(), |(at, _)| at);
    let phases = of_update.iter().take(cut).filter(|entry| !entry.value("phase").is_empty());
    let phases = phases.map(|entry| entry.value("phase").to_owned()).collect();
    (phases, of_update.get(cut..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Bundle;
    use mainstay_core::boot::Group;
    use mainstay_core::digest::Digest;

    /// `phase` of this update, or `+A`, `+B`: a start of the agent in that group.
    fn log(words: &str) -> Vec<Entry> {
        let value = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let entry = |word: &str| match word.strip_prefix('+') {
            Some(group) => Entry { event: Event::Started, values: vec![value("running", group)] },
            None => {
                let values = vec![value("phase", word), value("manifest", &Digest([1; 32]).to_string())];
                Entry { event: Event::Phase, values }
            }
        };
        words.split(' ').map(entry).collect()
    }

    #[test]
    fn the_log_says_how_far_an_update_was_when_the_power_went() {
        let bundle = Bundle { path: "".into(), name: Digest([1; 32]), version: "2".into(), image: "".into() };
        let update = Update { bundle, from: Group::A, from_version: None, floor: 1, tries: TRIES_DEFAULT };
        #[rustfmt::skip]
        let cases = [
            // the whole log                                          tried  before the cut
            ("+A Waiting +A Downloading Trial +B Committing",         0,     "Waiting"),
            ("+A Waiting Trial +B Committing",                        0,     "Waiting Trial"),
            ("+A Waiting Trial +B Committing",                        1,     "Waiting Trial"),
            ("+A Waiting Trial +B +B Committing",                     1,     "Waiting Trial"),
            ("+A Waiting Trial +B Committing +B",                     1,     "Waiting Trial Committing"),
            ("+A Waiting Trial +A Trial +B Committing",               1,     "Waiting Trial"),
        ];
        for (words, tried, before) in cases {
            let (had, rest) = at_the_cut(&log(words), &update, tried);
            assert_eq!(had.join(" "), before, "{words}, tried {tried}");
            assert!(rest.first().is_some_and(|entry| entry.event == Event::Started));
        }
    }
}
