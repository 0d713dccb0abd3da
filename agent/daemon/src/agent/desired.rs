//! What the operator desires, and what follows from it for this gateway, now. Evaluated anew after every turn and at
//! every piece of news: the answer depends on what is so, not on the order in which it became known.

use super::Agent;
use mainstay_core::audit::Event;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::digest::Digest;
use mainstay_core::fault::{Fault, clip};
use mainstay_core::policy::{DesiredState, Gateway, Wanted, judge};
use mainstay_core::seam::{Clock, StateFile, StateStore};
use mainstay_core::topic::{self, Leaf};
use mainstay_core::trust::TrustRoot;
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
    states: [Option<DesiredState>; 2],
    /// The manifest that has been asked for.
    asked: Option<Digest>,
    /// The manifest that came, not yet judged.
    manifest: Option<(Digest, Vec<u8>)>,
    /// A manifest that was refused, or that failed: not before then, and never at all for a refusal.
    spurned: Option<Spurned>,
}

struct Spurned {
    manifest: Digest,
    failures: u32,
    again: Option<Instant>,
}

impl Desires {
    fn current(&self) -> Option<&DesiredState> {
        let [group, device] = &self.states;
        device.as_ref().or(group.as_ref())
    }

    /// A deployment ended. One that failed on the way is tried again, less and less often; all else is final.
    pub fn settled(&mut self, deployment: &Deployment, outcome: &Outcome) {
        if outcome.kind != OutcomeKind::Failed {
            return;
        }
        let failures = match &self.spurned {
            Some(spurned) if spurned.manifest == deployment.manifest => spurned.failures.saturating_add(1),
            _ => 1,
        };
        let again = Some(
            Instant::now()
                + FAILED_AGAIN_MIN * 2u32.saturating_pow(failures - 1).min(FAILED_AGAIN_FACTOR_MAX),
        );
        self.spurned = Some(Spurned { manifest: deployment.manifest, failures, again });
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
        let record = self.driver.record();
        let now = self.now().max(record.time_floor);
        let desired = DesiredState::open(&self.world.trust, payload, group, record.desired_seq[slot], now)?;
        // Durable before it is acted upon: after a power cut the broker cannot bring an older one back.
        let mut record = record.clone();
        record.desired_seq[slot] = desired.seq;
        record.time_floor = record.time_floor.max(desired.signed_at);
        self.driver.update(record, &mut self.world.parts())?;
        let news = self.desires.states[slot].as_ref() != Some(&desired);
        if news {
            let values: [(&str, &dyn std::fmt::Display); 5] = [
                ("group", &group),
                ("seq", &desired.seq),
                ("action", &format!("{:?}", desired.action)),
                ("version", &desired.version),
                ("manifest", &desired.manifest),
            ];
            self.audit(Event::DesiredTaken, &values);
            log::info!(
                "desired state of {group}: {:?} {} (sequence {})",
                desired.action,
                desired.version,
                desired.seq
            );
            self.desires.spurned = None;
        }
        self.desires.states[slot] = Some(desired);
        Ok(())
    }

    fn on_trust(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let next: TrustRoot = self.world.trust.rotate(payload)?;
        self.world.store.persist(StateFile::Trust, payload)?;
        log::info!("trust root: rotated to version {}", next.version);
        self.audit(Event::TrustRotated, &[("version", &next.version)]);
        let old = topic::trust(&next.fleet, next.version);
        self.world.trust = next;
        self.desires.spurned = None; // what was refused for its signer may be right now
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

    /// Holds what is desired against what is so, and does the next thing that follows.
    pub(super) fn reconsider(&mut self) {
        let Some(desired) = self.desires.current().cloned() else { return };
        let unix_s = self.unix();
        let under_way = self
            .driver
            .record()
            .phase
            .deployment()
            .map(|d| d.manifest)
            .filter(|_| !self.driver.accepts_offers());
        let held = match desired.wanted(&self.config.device, unix_s) {
            Wanted::Now => None,
            Wanted::Drop => {
                // What a person brought by hand is not the operator's to drop, unless it is the same bundle.
                if under_way == Some(desired.manifest) {
                    self.stop("withdrawn by the operator");
                }
                Some("the operator: halted".to_string())
            }
            Wanted::Nothing => Some("the operator: paused".to_string()),
            Wanted::Later(Some(begins)) => Some(format!("its turn in the window: {begins} (Unix seconds)")),
            Wanted::Later(None) => Some("its turn in the window: the clock is not set".to_string()),
            Wanted::NotYet(m) => {
                Some(format!("its wave: place {} of 10000, the rollout is at {}", m.place, m.rollout_bp))
            }
        };
        let wanted = held.is_none();
        self.world.gate.held = held;
        if !wanted {
            return;
        }
        match under_way {
            Some(manifest) if manifest == desired.manifest => {}
            Some(_) if self.world.gate.by_hand => {}
            Some(_) => self.stop("superseded by a newer desired state"),
            None => self.follow(&desired),
        }
    }

    fn stop(&mut self, why: &str) {
        match self.driver.stop(OutcomeKind::Halted, why, &mut self.world.parts()) {
            Ok(true) => {
                self.after_phase();
                self.show();
            }
            Ok(false) => {} // too late: the trial decides
            Err(fault) => log::error!("halt: {fault}"),
        }
    }

    /// Brings the desired bundle under way, unless it runs already or has been refused.
    fn follow(&mut self, desired: &DesiredState) {
        let running = self.driver.record().release(self.driver.running()).map(|r| r.manifest);
        if running == Some(desired.manifest) || !self.desires.may_try(&desired.manifest) {
            return;
        }
        match self.desires.manifest.take() {
            Some((name, envelope)) if name == desired.manifest => {
                if let Err(fault) = self.offer(&envelope, false, false) {
                    self.refused(&desired.manifest, &desired.version, &fault);
                }
            }
            _ => self.ask_for_manifest(desired.manifest),
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
            let room = self.world.slots.size(target, &artifact.class)?;
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

    /// A bundle was refused before it was a deployment: said once, and not tried again until there is news.
    fn refused(&mut self, manifest: &Digest, version: &str, fault: &Fault) {
        log::warn!("refused {version}: {fault}");
        self.audit(Event::Rejected, &[("version", &version), ("manifest", manifest), ("why", &fault.what)]);
        self.shared.change(|status| status.fault = Some(format!("refused {version}: {fault}")));
        self.desires.refuse(*manifest);
        let mut record = self.driver.record().clone();
        let outcome = Outcome { kind: OutcomeKind::Rejected, detail: clip(fault) };
        record.report(Report { manifest: *manifest, version: clip(version), attempt: 0, outcome });
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

/// A bundle that failed on its way is tried again after a minute, then two, four … up to an hour.
const FAILED_AGAIN_MIN: Duration = Duration::from_secs(60);
/// See [`FAILED_AGAIN_MIN`].
const FAILED_AGAIN_FACTOR_MAX: u32 = 60;
