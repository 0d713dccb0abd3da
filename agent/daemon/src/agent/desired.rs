//! What the operator desires, and what follows from it for this gateway, now. Evaluated anew after every turn and at
//! every piece of news: the answer depends on what is so, not on the order in which it became known.

use super::Agent;
use mainstay_core::audit::Event;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::digest::Digest;
use mainstay_core::fault::{Fault, FaultKind, clip};
use mainstay_core::limits::ENVELOPE_BYTES_MAX;
use mainstay_core::policy::{DesiredAction, DesiredState, Gateway, Wanted, judge};
use mainstay_core::seam::{Clock, StateFile, StateStore};
use mainstay_core::topic::{self, Leaf};
use mainstay_core::trust::{Role, TrustRoot};
use mainstay_core::update::*;
use std::time::{Duration, Instant};

/// Which topic a desired state came by: the gateway's own outranks its group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The group's.
    Group = 0,
    /// The gateway's own.
    Device = 1,
}

/// What is known of the operator's will.
#[derive(Default)]
pub struct Desires {
    /// By [`Origin`].
    words: [Word; 2],
    /// A desired state with a new number has come, and has not been judged yet.
    news: bool,
    /// By [`Origin`]: signed too far ahead of the clock, and when. Looked at again when the clock has been corrected.
    early: [Option<(u64, Vec<u8>)>; 2],
    /// The manifest that has been asked for.
    asked: Option<Digest>,
    /// The manifest that came, not yet judged.
    manifest: Option<(Digest, Vec<u8>)>,
    /// The desired manifest, where it was refused, or ended otherwise than it should.
    spurned: Option<Spurned>,
}

/// What was heard under one topic since the agent started.
#[derive(Default)]
enum Word {
    #[default]
    None,
    Desired(Box<DesiredState>),
    /// It does not count any more.
    Expired,
}

struct Spurned {
    manifest: Digest,
    failures: u32,
    /// Not before then; `None`: not until there is news.
    again: Option<Instant>,
}

impl Desires {
    /// What counts now, or what is waited for. `seq`: the numbers that are on record.
    ///
    /// The gateway's own word outranks the group's. Where there once was one of its own, the group's does not count
    /// until it has been heard again: else whoever can clear or withhold a retained message would decide which of the
    /// two is obeyed. An operator hands the gateway back by signing one more that expires.
    fn current(&self, seq: [u64; 2]) -> Result<&DesiredState, &'static str> {
        let [group, device] = &self.words;
        match (device, group) {
            (Word::Desired(desired), _) => Ok(desired),
            (Word::None, _) if seq[Origin::Device as usize] > 0 => Err(
                "the operator's word for this gateway: it has one of its own, not heard since the agent started",
            ),
            (_, Word::Desired(desired)) => Ok(desired),
            (Word::Expired, Word::None) | (_, Word::Expired) => {
                Err("the operator's word: the last one has expired")
            }
            (Word::None, Word::None) => Err("the operator's word: none heard since the agent started"),
        }
    }

    /// What the operator desires, by its version, if that is another bundle.
    pub(super) fn other_than(&self, manifest: &Digest) -> Option<&str> {
        let [group, device] = &self.words;
        let desired = [device, group].into_iter().find_map(|word| match word {
            Word::Desired(desired) => Some(desired),
            _ => None,
        })?;
        let other = desired.action == DesiredAction::Run && desired.manifest != *manifest;
        other.then_some(desired.version.as_str())
    }

    /// What has expired counts for nothing from now on.
    fn expire(&mut self, now: u64) {
        for word in &mut self.words {
            if let Word::Desired(desired) = word
                && let Some(expires) = desired.expires.filter(|expires| now > *expires)
            {
                log::warn!("desired state of {}: expired at {expires} (Unix seconds)", desired.group);
                *word = Word::Expired;
            }
        }
    }

    /// The deployment of a desired bundle ended. One that failed on the way is tried again, less and less often; all
    /// else is final, until there is news: what a technician cancelled, the operator's unchanged word does not bring back.
    pub fn settled(&mut self, deployment: &Deployment, outcome: &Outcome) {
        match outcome.kind {
            OutcomeKind::Committed => self.spurned = None,
            OutcomeKind::Failed => self.postpone(deployment.manifest),
            _ => self.refuse(deployment.manifest),
        }
    }

    /// What a technician cancelled stays so over a restart of the agent, for as long as it is the last that was deployed:
    /// the record says it. All else is judged anew at a start, for an image may bring another trust root.
    pub(super) fn remember_what_was_cancelled(&mut self, record: &Record) {
        if let Phase::Settled(deployment, outcome) = &record.phase
            && outcome.kind == OutcomeKind::Halted
            && outcome.detail == CANCELLED
        {
            self.refuse(deployment.manifest);
        }
    }

    fn postpone(&mut self, manifest: Digest) {
        let failures = match &self.spurned {
            Some(spurned) if spurned.manifest == manifest => spurned.failures.saturating_add(1),
            _ => 1,
        };
        let factor = 2u32.saturating_pow(failures - 1).min(FAILED_AGAIN_FACTOR_MAX);
        let again = Some(Instant::now() + FAILED_AGAIN_MIN * factor);
        self.spurned = Some(Spurned { manifest, failures, again });
    }

    fn refuse(&mut self, manifest: Digest) {
        self.spurned = Some(Spurned { manifest, failures: 0, again: None });
    }

    fn may_try(&self, manifest: &Digest) -> bool {
        match &self.spurned {
            Some(spurned) if spurned.manifest == *manifest => {
                spurned.again.is_some_and(|at| Instant::now() >= at)
            }
            _ => true,
        }
    }
}

impl Agent {
    /// The topics that the control connection subscribes to from the start.
    pub fn subscriptions(&self) -> Vec<String> {
        let fleet = &self.world.trust.fleet;
        let Some(broker) = &self.config.broker else { return Vec::new() };
        vec![
            topic::group_desired(fleet, &broker.group).to_string(),
            self.topic(Leaf::Desired).to_string(),
            topic::trust(fleet, self.world.trust.version + 1).to_string(),
        ]
    }

    /// Something came by the control connection. Nothing in it is believed but what is signed.
    pub(super) fn on_message(&mut self, topic: &str, payload: &[u8]) {
        let fleet = self.world.trust.fleet.clone();
        let Some(group) = self.config.broker.as_ref().map(|b| b.group.clone()) else { return };
        let result = if topic == topic::group_desired(&fleet, &group).as_str() {
            self.on_desired(Origin::Group, &group, payload)
        } else if topic == self.topic(Leaf::Desired).as_str() {
            self.on_desired(Origin::Device, &format!("d/{}", self.config.device), payload)
        } else if topic == topic::trust(&fleet, self.world.trust.version + 1).as_str() {
            self.on_trust(payload)
        } else if self.desires.asked.is_some_and(|name| topic == topic::manifest(&fleet, &name).as_str()) {
            self.on_manifest(payload)
        } else {
            log::debug!("message under {topic}, which nobody asked for: dropped");
            Ok(())
        };
        if let Err(fault) = result {
            log::warn!("{topic}: {fault}");
            self.shared.change(|status| status.fault = Some(format!("{topic}: {fault}")));
        }
    }

    fn on_desired(&mut self, origin: Origin, group: &str, payload: &[u8]) -> Result<(), Fault> {
        let slot = origin as usize;
        if payload.is_empty() {
            // A cleared retained message: anybody who may clear topics can do that, so it withdraws nothing.
            log::info!("desired state of {group}: the broker holds none");
            return Ok(());
        }
        let seq = self.driver.record().desired_seq[slot];
        // At time 0 nothing has expired: that one counts no more is a word, too, if its number is not an old one.
        let desired = DesiredState::open(&self.world.trust, payload, group, seq, 0)?;
        let floor = self.driver.record().time_floor;
        if let Err(fault) = desired.signed_in_time(self.unix(), floor) {
            self.desires.early[slot] = Some((desired.signed_at, payload.to_vec()));
            return Err(fault);
        }
        self.desires.early[slot] = None;
        // Durable before it is acted upon: after a power cut the broker cannot bring an older one back.
        let mut record = self.driver.record().clone();
        record.desired_seq[slot] = desired.seq;
        record.time_floor = record.time_floor.max(desired.signed_at);
        self.driver.update(record, &mut self.world.parts())?;
        // The same is heard again at each start and each connection: that is no news.
        let differs = matches!(&self.desires.words[slot], Word::Desired(known) if **known != desired);
        if desired.seq > seq || differs {
            let values: [(&str, &dyn std::fmt::Display); 5] = [
                ("group", &group),
                ("seq", &desired.seq),
                ("action", &format!("{:?}", desired.action)),
                ("version", &desired.version),
                ("manifest", &desired.manifest),
            ];
            self.audit(Event::DesiredTaken, &values);
            (self.desires.spurned, self.desires.news) = (None, true);
        }
        let DesiredState { action, version, seq, .. } = &desired;
        log::info!("desired state of {group}: {action:?} {version} (sequence {seq})");
        self.desires.words[slot] = Word::Desired(Box::new(desired));
        Ok(())
    }

    /// The broker gives what it keeps once for each connection, and a clock is often set after that.
    fn look_again_at_what_came_early(&mut self) {
        let latest = DesiredState::signed_at_most(self.now(), self.driver.record().time_floor);
        for slot in 0..self.desires.early.len() {
            let due = self.desires.early[slot].take_if(|(signed_at, _)| *signed_at <= latest);
            let (Some((_, payload)), Some(broker)) = (due, &self.config.broker) else { continue };
            let (origin, group) = match slot {
                0 => (Origin::Group, broker.group.clone()),
                _ => (Origin::Device, format!("d/{}", self.config.device)),
            };
            if let Err(fault) = self.on_desired(origin, &group, &payload) {
                log::warn!("desired state of {group}: {fault}");
            }
        }
    }

    fn on_trust(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let next: TrustRoot = self.world.trust.rotate(payload)?;
        self.world.store.persist(StateFile::Trust, payload)?;
        log::info!("trust root: rotated to version {}", next.version);
        self.audit(Event::TrustRotated, &[("version", &next.version)]);
        let old = topic::trust(&next.fleet, next.version);
        if !next.shares_a_member(&self.world.trust, Role::Operator) {
            self.begin_to_count_anew()?;
        }
        self.shared.trust_is(&next);
        self.world.trust = next;
        self.desires.spurned = None; // what was refused for its signer may be right now
        self.desires.early = Default::default();
        self.desires.words = Default::default(); // and who signed these may have lost the right to: heard again below
        self.drop_what_is_not_believed();
        if let Some(link) = &self.link {
            link.unsubscribe(&old)?;
            // The root after this one; and the desired states again, which may have come before the root that proves
            // them: the broker gives what it keeps upon each SUBSCRIBE.
            for filter in self.subscriptions() {
                link.subscribe(&filter)?;
            }
        }
        Ok(())
    }

    /// No key that could sign a desired state before can do so any more, so no old one can be played again, whatever its
    /// number. A leaked key that has signed the highest number there is would otherwise have the last word for good.
    ///
    /// Not below 1: that there was a word for this gateway alone is still known. A power cut right before this leaves the
    /// numbers as they were; the next rotation of that kind does it.
    fn begin_to_count_anew(&mut self) -> Result<(), Fault> {
        let mut record = self.driver.record().clone();
        record.desired_seq = record.desired_seq.map(|seq| seq.min(1));
        self.driver.update(record, &mut self.world.parts())
    }

    fn on_manifest(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some(name) = self.desires.asked else { return Ok(()) };
        if Digest::of(payload) != name {
            return Err(mainstay_core::fault!(
                Corrupt,
                "manifest: the broker gave something else under this name"
            ));
        }
        self.forget_asked();
        self.desires.manifest = Some((name, payload.to_vec()));
        Ok(())
    }

    fn forget_asked(&mut self) {
        if let (Some(name), Some(link)) = (self.desires.asked.take(), &self.link) {
            let _ = link.unsubscribe(&topic::manifest(&self.world.trust.fleet, &name));
        }
    }

    /// A bundle that has not reached its trial goes no further when its signers count no more.
    pub(super) fn drop_what_is_not_believed(&mut self) {
        use Phase::{Downloading, Installed, Verifying, Waiting};
        let (Waiting(d) | Downloading(d) | Verifying(d) | Installed(d)) = &self.driver.record().phase else {
            return;
        };
        let mut bytes = vec![0; ENVELOPE_BYTES_MAX];
        let name = d.manifest;
        match self.world.store.load(StateFile::Manifest, &mut bytes) {
            // What stands there is not this deployment's, or is damaged: the driver finds that by itself.
            Ok(Some(length)) if Digest::of(&bytes[..length]) == name => {
                if let Err(fault) = VerifiedManifest::open(&self.world.trust, &bytes[..length]) {
                    let version = self.world.trust.version;
                    self.stop(&format!("not believed under trust root {version}: {fault}"));
                }
            }
            _ => {}
        }
    }

    /// Holds what is desired against what is so, and does the next thing that follows.
    pub(super) fn reconsider(&mut self) {
        if self.config.broker.is_none() || self.leaving {
            return; // by hand alone, or not any more
        }
        self.look_again_at_what_came_early();
        let record = self.driver.record();
        self.desires.expire(self.now().max(record.time_floor));
        let busy = !self.driver.accepts_offers();
        let under_way = record.phase.deployment().map(|d| d.manifest).filter(|_| busy);
        let desired = match self.desires.current(record.desired_seq) {
            Ok(desired) => desired.clone(),
            Err(why) => {
                // The operator may have halted or put off what is under way, before the agent was started anew.
                self.world.gate.held = Some(why.to_string());
                self.shared.change(|status| status.desired = None);
                return;
            }
        };
        let held = match desired.wanted(&self.config.device, self.unix()) {
            Wanted::Now => None,
            Wanted::Drop => Some("the operator: halted".to_string()),
            Wanted::Nothing => Some("the operator: paused".to_string()),
            Wanted::Later(Some(begins)) => Some(format!("its turn in the window: {begins} (Unix seconds)")),
            Wanted::Later(None) => Some("its turn in the window: the clock is not set".to_string()),
            Wanted::NotYet(m) => {
                Some(format!("its wave: place {} of 10000, the rollout is at {}", m.place, m.rollout_bp))
            }
        };
        let wanted = held.is_none();
        self.show_desired(&desired, held.as_deref());
        self.world.gate.held = held;
        // What a person brought by hand is not the operator's to drop, unless it is the same bundle.
        let by_hand = self.world.gate.by_hand;
        match (under_way, desired.action) {
            (Some(manifest), DesiredAction::Halt) if manifest == desired.manifest || !by_hand => {
                self.stop("withdrawn by the operator");
            }
            // Also where it is not this gateway's turn: nobody desires the old one any more.
            (Some(manifest), DesiredAction::Run) if manifest != desired.manifest && !by_hand => {
                self.stop(&format!("superseded: the operator desires {}", desired.version));
            }
            (None, DesiredAction::Run) if wanted && !busy => self.follow(&desired),
            _ => {}
        }
    }

    /// What `mainstay status` says of the operator's word.
    fn show_desired(&self, desired: &DesiredState, held: Option<&str>) {
        let runs = self.runs(&desired.manifest);
        let why = match held {
            _ if runs && desired.action == DesiredAction::Run => "runs",
            Some(held) => held,
            None if self.driver.record().has_failed(&desired.manifest) => "its trial failed here",
            None if !self.desires.may_try(&desired.manifest) => "not taken: see the last fault, or the log",
            None => "",
        };
        let colon = if why.is_empty() { "" } else { ": " };
        let text = format!("{} (sequence {}, {}){colon}{why}", desired.version, desired.seq, desired.group);
        self.shared.change(|status| status.desired = Some(text));
    }

    fn runs(&self, manifest: &Digest) -> bool {
        let release = self.driver.record().release(self.driver.running());
        release.is_some_and(|release| release.manifest == *manifest)
    }

    fn stop(&mut self, why: &str) {
        match self.driver.stop(OutcomeKind::Halted, why, &mut self.world.parts()) {
            Ok(true) => {
                self.after_phase();
                self.show();
            }
            Ok(false) => {} // too late: the trial decides
            Err(fault) => {
                log::error!("halt: {fault}");
                // It is tried again after the next turn; until then the machine does not go down for it.
                self.world.gate.held = Some(format!("{why}; not on record yet: {}", fault.what));
            }
        }
    }

    /// Brings the desired bundle under way, unless it runs already, has been refused, or its trial failed here and the
    /// operator has said nothing new since.
    fn follow(&mut self, desired: &DesiredState) {
        let name = desired.manifest;
        self.desires.news &= !self.runs(&name);
        let failed = self.driver.record().has_failed(&name) && !self.desires.news;
        if self.runs(&name) || failed || !self.desires.may_try(&name) {
            return;
        }
        match self.desires.manifest.take() {
            Some((came, envelope)) if came == name => match self.offer(&envelope, false, false) {
                Ok(()) => self.desires.news = false,
                Err(fault) => self.not_taken(&name, &desired.version, &fault),
            },
            _ => self.ask_for_manifest(name),
        }
    }

    fn ask_for_manifest(&mut self, name: Digest) {
        if self.desires.asked == Some(name) {
            return;
        }
        self.forget_asked();
        let topic = topic::manifest(&self.world.trust.fleet, &name);
        if let Some(link) = &self.link {
            match link.subscribe(&topic) {
                Ok(()) => self.desires.asked = Some(name),
                Err(fault) => log::warn!("manifest: {fault}"),
            }
        }
    }

    /// Verifies, judges and takes a manifest.
    pub(super) fn offer(&mut self, envelope: &[u8], by_hand: bool, retry_failed: bool) -> Result<(), Fault> {
        let manifest = VerifiedManifest::open(&self.world.trust, envelope)?;
        let checks: Vec<_> = self.config.checks.iter().map(|check| check.plan.name.clone()).collect();
        let gateway = Gateway {
            compatible: &self.board.compatible,
            running: self.driver.running(),
            record: self.driver.record(),
            unix_s: self.unix(),
            checks: &checks,
            retry_failed,
        };
        let deployment = judge(&manifest, &gateway)?;
        self.fits(&manifest, deployment.target)?;
        self.world.gate.reset(by_hand);
        self.driver.offer(envelope, deployment, &mut self.world.parts())?;
        self.show();
        self.after_phase();
        Ok(())
    }

    /// Is there a slot for each artifact, large enough? Asked before anything is touched.
    fn fits(&self, manifest: &VerifiedManifest, target: mainstay_core::boot::Group) -> Result<(), Fault> {
        for artifact in &manifest.artifacts {
            let room = self.world.slots.slots.size(target, &artifact.class)?;
            if room < artifact.size {
                return Err(mainstay_core::fault!(
                    Refused,
                    "slot {} of {target}: holds {room} bytes, the artifact has {}",
                    artifact.class,
                    artifact.size
                ));
            }
        }
        Ok(())
    }

    /// A bundle was not taken. What was understood and is not allowed is said once, and not tried again until there is
    /// news; where it is the medium or the moment that says no, it is tried again.
    fn not_taken(&mut self, manifest: &Digest, version: &str, fault: &Fault) {
        use FaultKind::{Corrupt, Refused, Unsupported};
        self.desires.news = false;
        self.shared.change(|status| status.fault = Some(format!("{version} not taken: {fault}")));
        // An action other than rest: the driver looks at the boot state first, and may find that it stands.
        if !matches!(fault.kind, Refused | Corrupt | Unsupported) || !self.driver.accepts_offers() {
            log::warn!("{version} not taken, to be tried again: {fault}");
            return self.desires.postpone(*manifest);
        }
        log::warn!("refused {version}: {fault}");
        self.audit(Event::Rejected, &[("version", &version), ("manifest", manifest), ("why", &fault.what)]);
        self.desires.refuse(*manifest);
        let mut record = self.driver.record().clone();
        let outcome = Outcome { kind: OutcomeKind::Rejected, detail: clip(fault) };
        let report = Report { manifest: *manifest, version: clip(version), attempt: 0, outcome };
        if record.unreported.contains(&report) {
            return; // it is said already, and must not push out what is not
        }
        record.report(report);
        if let Err(fault) = self.driver.update(record, &mut self.world.parts()) {
            log::error!("report of a refusal: {fault}");
        }
    }

    fn unix(&self) -> Option<u64> {
        mainstay_board_support::SystemClock.now().unix_s
    }

    fn now(&self) -> u64 {
        self.unix().unwrap_or(0)
    }
}

/// The outcome's detail, where a technician has cancelled. It stands in records: it does not change.
pub(super) const CANCELLED: &str = "cancelled by a technician";

/// A bundle that failed on its way is tried again after a minute, then two, four … up to an hour.
const FAILED_AGAIN_MIN: Duration = Duration::from_secs(60);
/// See [`FAILED_AGAIN_MIN`].
const FAILED_AGAIN_FACTOR_MAX: u32 = 60;
