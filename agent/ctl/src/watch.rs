//! What the gateways of a fleet say of themselves: presence, progress, outcomes.
//!
//! These messages are not signed; the broker's access control says who speaks. They are for looking at, and no
//! decision is taken by them here. Their texts come from outside, so nothing that moves a terminal's cursor is
//! ever shown.

use crate::fail;
use crate::fail::Result;
use crate::values::hex;
use mainstay_core::report::{Availability, GroupReport, Outcome, Presence, Progress};
use mainstay_core::topic::{Leaf, device};
use mainstay_core::update::OutcomeKind;
use mainstay_core::wire::{check_name, decode_body};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a gateway has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// How it is; `None`: somebody has cleared what stood there.
    State(Option<Box<Presence>>),
    /// How far the writing has come.
    Progress(Progress),
    /// How a deployment ended.
    Outcome(Box<Outcome>),
}

/// One gateway, as far as it has been heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// How it is.
    pub presence: Option<Presence>,
    /// How far the writing has come.
    pub progress: Option<Progress>,
    /// How its last deployment ended.
    pub outcome: Option<Outcome>,
}

/// All gateways that have been heard, by device id.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// The gateways.
    pub gateways: BTreeMap<String, Gateway>,
}

/// What to listen to.
pub fn filters(fleet: &str) -> Result<Vec<String>> {
    check_name("fleet", fleet)?;
    let leaves = [Leaf::State, Leaf::Report, Leaf::Progress];
    Ok(leaves.iter().map(|leaf| device(fleet, "+", *leaf).as_str().into()).collect())
}

/// Reads a message: whose it is, and what it says.
pub fn read(fleet: &str, topic: &str, payload: &[u8]) -> Result<(String, Said)> {
    let elsewhere = || fail!("{}: not a topic of a gateway of fleet {fleet}", shown(topic));
    let rest = topic.strip_prefix("mainstay/1/").and_then(|t| t.strip_prefix(fleet)).ok_or_else(elsewhere)?;
    let (id, leaf) = rest.strip_prefix("/d/").and_then(|t| t.split_once('/')).ok_or_else(elsewhere)?;
    check_name("device", id)?;
    let said = match leaf {
        "state" if payload.is_empty() => Said::State(None),
        "state" => Said::State(Some(Box::new(decode_body("state", payload)?))),
        "prog" => Said::Progress(decode_body("progress", payload)?),
        "report" => Said::Outcome(Box::new(decode_body("report", payload)?)),
        _ => return Err(elsewhere()),
    };
    Ok((id.into(), said))
}

impl Fleet {
    /// Takes what a gateway has said; `false`: it says nothing new.
    ///
    /// A last will belongs to the session that left it. One that comes late, when a newer session has come up, says
    /// nothing. What the broker `kept` is always the newest word.
    pub fn take(&mut self, id: &str, said: &Said, kept: bool) -> bool {
        let gateway = self.gateways.entry(id.into()).or_default();
        let before = gateway.clone();
        match said {
            Said::State(None) => {
                self.gateways.remove(id);
                return true;
            }
            Said::State(Some(new)) => {
                let late = gateway.presence.as_ref().is_some_and(|known| known.session != new.session);
                if new.availability == Availability::Offline && late && !kept {
                    return false;
                }
                // A will is made before what happens in its session, so it knows nothing but that it is gone.
                match &mut gateway.presence {
                    Some(known)
                        if new.availability == Availability::Offline && known.session == new.session =>
                    {
                        known.availability = Availability::Offline;
                    }
                    known => *known = Some((**new).clone()),
                }
            }
            Said::Progress(progress) => gateway.progress = Some(*progress),
            Said::Outcome(outcome) => {
                gateway.progress = None;
                gateway.outcome = Some((**outcome).clone());
            }
        }
        *gateway != before
    }

    /// A table of at most `rows` gateways; those with something to say come first.
    pub fn table(&self, rows: usize) -> String {
        let head = ["gateway", "link", "runs", "phase", "doing", "A", "B", "floor", "note"].map(String::from);
        let mut sorted: Vec<(&String, &Gateway)> = self.gateways.iter().collect();
        sorted.sort_by_key(|(id, gateway)| (gateway.is_calm(), *id));
        let shown_rows = sorted.iter().take(rows).map(|(id, gateway)| gateway.row(id));
        let lines: Vec<[String; 9]> = std::iter::once(head).chain(shown_rows).collect();
        let mut widths = [0; 9];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        if sorted.len() > rows {
            out.push_str(&format!("… and {} more\n", sorted.len() - rows));
        }
        let online = self.gateways.values().filter(|g| g.link() == "online").count();
        out.push_str(&format!("{} gateways, {online} online\n", sorted.len()));
        out
    }
}

impl Gateway {
    /// One line: what has changed is somewhere in it.
    pub fn line(&self, id: &str) -> String {
        let [id, link, runs, phase, doing, a, b, _, note] = self.row(id);
        let parts =
            [id, link, format!("runs {runs}"), phase, doing, format!("A {a}"), format!("B {b}"), note];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
    }

    fn row(&self, id: &str) -> [String; 9] {
        let Some(p) = &self.presence else {
            let doing = self.percent().unwrap_or_default();
            let note = self.outcome.as_ref().map_or(String::new(), ended);
            let unknown = || String::from("?");
            return [
                shown(id),
                unknown(),
                unknown(),
                unknown(),
                doing,
                unknown(),
                unknown(),
                unknown(),
                note,
            ];
        };
        let running = &p.groups[p.running as usize]; // A is 0, B is 1
        let deployment = p.deployment.as_ref().map_or(String::new(), |(_, version)| shown(version));
        let doing = [Some(deployment), self.percent()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let note = match (&self.outcome, p.detail.is_empty()) {
            (_, false) => shown(&p.detail),
            (Some(outcome), true) => ended(outcome),
            (None, true) => p.outcome.as_ref().map_or(String::new(), |(kind, detail)| ending(kind, detail)),
        };
        [
            shown(id),
            self.link().into(),
            format!("{} {}", p.running, version_or_unknown(running)),
            format!("{:?}", p.phase),
            doing.trim().into(),
            group(&p.groups[0]),
            group(&p.groups[1]),
            p.floor.to_string(),
            note,
        ]
    }

    fn link(&self) -> &'static str {
        match self.presence.as_ref().map(|p| p.availability) {
            Some(Availability::Online) => "online",
            Some(Availability::Offline) => "OFFLINE",
            Some(Availability::Rebooting) => "rebooting",
            None => "?",
        }
    }

    fn percent(&self) -> Option<String> {
        let Progress { done, total, .. } = self.progress?;
        Some(format!("{} %", done.saturating_mul(100) / total.max(1)))
    }

    fn is_calm(&self) -> bool {
        let idle = |p: &Presence| {
            p.availability == Availability::Online && p.deployment.is_none() && p.detail.is_empty()
        };
        self.presence.as_ref().is_some_and(idle)
    }
}

/// `2.0.0 trial 3` `1.0.0 good` `withdrawn`
fn group(group: &GroupReport) -> String {
    let boot = match group.boot {
        None => String::new(),
        Some((0, _, _)) => "withdrawn".into(),
        Some((_, _, 1)) => "good".into(),
        Some((_, tries, 0)) => format!("trial {tries}"),
        Some((_, tries, _)) => format!("tries {tries}"),
    };
    format!("{} {boot}", version_or_unknown(group)).trim_end().into()
}

fn version_or_unknown(group: &GroupReport) -> String {
    match group.version.as_str() {
        "" => "?".into(),
        version => shown(version),
    }
}

fn ended(outcome: &Outcome) -> String {
    format!("{} {}", shown(&outcome.version), ending(&outcome.kind, &outcome.detail))
}

fn ending(kind: &OutcomeKind, detail: &str) -> String {
    let detail = shown(detail);
    let colon = if detail.is_empty() { "" } else { ": " };
    format!("{kind:?}{colon}{detail}")
}

/// A message for programs.
pub fn as_json(id: &str, said: &Said) -> Value {
    let group = |group: &GroupReport| {
        let boot = group.boot.map(|(priority, tries_left, good)| {
            let good = match good {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            };
            json!({"priority": priority, "tries_left": tries_left, "good": good})
        });
        json!({"version": group.version.as_str(), "boot": boot})
    };
    match said {
        Said::State(None) => json!({"device": id, "kind": "cleared"}),
        Said::State(Some(p)) => json!({
            "device": id, "kind": "state",
            "availability": format!("{:?}", p.availability), "session": format!("{:016x}", p.session),
            "running": p.running.name(), "groups": {"A": group(&p.groups[0]), "B": group(&p.groups[1])},
            "phase": format!("{:?}", p.phase),
            "deployment": p.deployment.as_ref().map(|(manifest, version)| {
                json!({"manifest": hex(&manifest.0), "version": version.as_str()})
            }),
            "outcome": p.outcome.as_ref().map(|(kind, detail)| {
                json!({"kind": format!("{kind:?}"), "detail": detail.as_str()})
            }),
            "floor": p.floor, "trust": p.trust, "desired_seq": p.desired_seq,
            "detail": p.detail.as_str(), "agent": p.agent.as_str(),
            "audit": {"seq": p.audit.seq, "hash": p.audit.hash.to_string()},
        }),
        Said::Progress(p) => json!({
            "device": id, "kind": "progress", "manifest": hex(&p.manifest.0),
            "done": p.done, "total": p.total, "fetched": p.fetched, "copied": p.copied, "kept": p.kept,
        }),
        Said::Outcome(o) => json!({
            "device": id, "kind": "outcome", "manifest": hex(&o.manifest.0), "version": o.version.as_str(),
            "attempt": o.attempt, "outcome": format!("{:?}", o.kind), "detail": o.detail.as_str(),
            "running": o.running.name(), "running_version": o.running_version.as_str(),
        }),
    }
}

/// A text from outside, with nothing in it that a terminal obeys, nor that makes a row read otherwise than it is.
fn shown(text: &str) -> String {
    text.chars().map(|c| if mainstay_core::wire::is_unseen(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::audit::Head;
    use mainstay_core::boot::Group;
    use mainstay_core::digest::Digest;
    use mainstay_core::fault::clip;
    use mainstay_core::update::PhaseName;
    use mainstay_core::wire::encode_body;

    fn presence(availability: Availability, session: u64) -> Presence {
        Presence {
            availability,
            session,
            running: Group::A,
            groups: [
                GroupReport { version: clip("1.0.0"), boot: Some((1, 0, 1)) },
                GroupReport { version: clip("2.0.0"), boot: Some((2, 3, 0)) },
            ],
            phase: PhaseName::Downloading,
            deployment: Some((Digest([7; 32]), clip("2.0.0"))),
            outcome: None,
            floor: 4,
            trust: 1,
            desired_seq: 9,
            detail: heapless::String::new(),
            agent: clip("0.1.0"),
            audit: Head::genesis("gw"),
        }
    }

    fn state(availability: Availability, session: u64) -> Said {
        Said::State(Some(Box::new(presence(availability, session))))
    }

    #[test]
    fn messages_are_read_from_their_topics_and_nothing_else_is() {
        let body = encode_body(&presence(Availability::Online, 1)).unwrap();
        let (id, said) = read("plant", "mainstay/1/plant/d/gw-1/state", &body).unwrap();
        assert_eq!((id.as_str(), &said), ("gw-1", &state(Availability::Online, 1)));
        #[rustfmt::skip]
        let refused: [(&str, &[u8]); 7] = [
            ("mainstay/1/other/d/gw-1/state",       &body),
            ("mainstay/1/plant/d/gw-1/other",       &body),
            ("mainstay/1/plant/d/gw\u{1b}[2J/state", &body),
            ("mainstay/1/plant/g/gw-1/state",       &body),
            ("mainstay/1/plant/d/gw-1/state",       &body[..20]),
            ("mainstay/1/plant/d/gw-1/prog",        &[]),
            ("mainstay/1/plant/d/gw-1/report",      &[9, 9, 9]),
        ];
        for (topic, payload) in refused {
            assert!(read("plant", topic, payload).is_err(), "{topic}");
        }
    }

    #[test]
    fn a_will_of_an_older_session_says_nothing_about_a_newer_one() {
        use Availability::{Offline, Online};
        let mut fleet = Fleet::default();
        assert!(fleet.take("gw", &state(Online, 1), true));
        assert!(fleet.take("gw", &state(Online, 2), false));
        assert!(!fleet.take("gw", &state(Offline, 1), false));
        assert_eq!(fleet.gateways["gw"].link(), "online");
        assert!(fleet.take("gw", &state(Offline, 2), false));
        assert_eq!(fleet.gateways["gw"].link(), "OFFLINE");
        assert!(fleet.take("gw", &state(Offline, 3), true), "what the broker kept is the newest word");
    }

    #[test]
    fn the_table_shows_who_has_something_to_say_first_and_obeys_nobody() {
        let mut fleet = Fleet::default();
        let mut calm = presence(Availability::Online, 1);
        (calm.deployment, calm.phase) = (None, PhaseName::Idle);
        fleet.take("a-calm", &Said::State(Some(Box::new(calm))), true);
        let mut rude = presence(Availability::Online, 1);
        rude.detail = clip("\u{1b}[2J\u{7}gone\u{202e}on");
        fleet.take("b-busy", &Said::State(Some(Box::new(rude))), true);
        let progress =
            Progress { manifest: Digest([7; 32]), done: 30, total: 40, fetched: 0, copied: 0, kept: 0 };
        fleet.take("b-busy", &Said::Progress(progress), false);
        let table = fleet.table(1);
        assert_eq!(
            table,
            "gateway  link    runs     phase        doing       A           B              floor  note\n\
             b-busy   online  A 1.0.0  Downloading  2.0.0 75 %  1.0.0 good  2.0.0 trial 3  4      ?[2J?gone?on\n\
             … and 1 more\n\
             2 gateways, 2 online\n"
        );
    }

    #[test]
    fn an_outcome_ends_the_progress_and_a_cleared_state_ends_the_gateway() {
        let mut fleet = Fleet::default();
        fleet.take("gw", &state(Availability::Online, 1), true);
        let progress =
            Progress { manifest: Digest([7; 32]), done: 1, total: 2, fetched: 0, copied: 0, kept: 0 };
        fleet.take("gw", &Said::Progress(progress), false);
        let outcome = Outcome {
            manifest: Digest([7; 32]),
            version: clip("2.0.0"),
            attempt: 1,
            kind: OutcomeKind::Committed,
            detail: heapless::String::new(),
            running: Group::B,
            running_version: clip("2.0.0"),
        };
        assert!(fleet.take("gw", &Said::Outcome(Box::new(outcome)), false));
        assert!(
            fleet.gateways["gw"].line("gw").ends_with("2.0.0 Committed"),
            "{}",
            fleet.gateways["gw"].line("gw")
        );
        assert_eq!(fleet.gateways["gw"].progress, None);
        assert!(fleet.take("gw", &Said::State(None), false));
        assert!(fleet.gateways.is_empty());
    }
}
