//! The one driver: persists what the machine says, acts through the seams, feeds back what came of it. The product
//! and the simulator run this same code.
//!
//! It blocks. Its owner calls [`Driver::turn`] when there is something to do, and again after a [`Rest`] that asks
//! for it. What it was told from outside (an offer, a halt, a rollback) it takes between two turns.

use super::install::{Installer, Reuse, Tools, WORKSPACE_BYTES, read_back};
use super::record::{Contents, Deployment, Outcome, OutcomeKind, Phase, Record, Report, Service};
use super::recover::{Facts, confirms, of_what_runs, recover};
use super::step::{Action, Event, Step, step};
use crate::boot::{BootState, Group};
use crate::bundle::{Artifact, VerifiedManifest};
use crate::fault;
use crate::fault::{Fault, FaultKind, clip};
use crate::limits::{ENVELOPE_BYTES_MAX, RECORD_BYTES_MAX, RETRIES_MAX};
use crate::policy::LateFallback;
use crate::seam::*;
use crate::trust::TrustRoot;

/// The world, as the driver sees it.
pub struct Parts<'a> {
    /// The bootloader's variables.
    pub boot: &'a mut dyn BootControl,
    /// The slots.
    pub slots: &'a mut dyn SlotWriter,
    /// The durable state.
    pub state: &'a mut dyn StateStore,
    /// When.
    pub gate: &'a mut dyn Gate,
    /// The health checks.
    pub trial: &'a mut dyn TrialRunner,
    /// The reset line.
    pub power: &'a mut dyn Power,
    /// Who wants to know.
    pub observer: &'a mut dyn Observer,
    /// Where pieces come from.
    pub source: &'a mut dyn PieceSource,
    /// What is erased with a factory reset, and at the end of service.
    pub erase: &'a mut dyn Erase,
    /// Decompression.
    pub inflate: &'a mut dyn Inflate,
    /// Whom to believe.
    pub trust: &'a TrustRoot,
    /// Memory to work in.
    pub workspace: &'a mut [u8; WORKSPACE_BYTES],
    /// Memory that only some updates need.
    pub memory: &'a mut dyn Memory,
}

/// What the driver is told once.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The group that was booted.
    pub running: Group,
    /// What becomes of the other group after a commit.
    pub late_fallback: LateFallback,
    /// The image's own floor: holds where the record has been lost.
    pub image_floor: u32,
    /// What the installer may take from beside the source.
    pub reuse: Reuse,
}

/// Why the driver gives the thread back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing to do until somebody offers something.
    Idle,
    /// Something to do, but not now: the gate says wait, the link is down, an action failed and is to be tried again.
    Paused,
    /// The machine is going down. If it does not, the next turn asks again.
    Rebooting,
}

/// Runs the update machine. Generic over nothing: the seams are objects, so it stands in the binary once.
pub struct Driver {
    record: Record,
    settings: Settings,
    action: Action,
    retries: u8,
    /// The record was damaged in both copies.
    lost: bool,
    /// It has been tried in this boot to vouch for a group that the record knows no commit of.
    tried: bool,
    /// The checks of a running group that the record knows nothing of have passed in this boot.
    vouched: bool,
    /// When it was looked at last, the running group was good, or has been confirmed since.
    standing: bool,
    /// What the running group's slots have been found to hold in this boot, where the record does not say it.
    recognised: Contents,
}

impl Driver {
    /// Loads the record and recovers. A record that was never there is a factory's; a record that is damaged in both
    /// copies counts as lost: the gateway goes on with the image's floor and says so.
    pub fn start(settings: Settings, parts: &mut Parts<'_>) -> Result<Driver> {
        let mut bytes = [0; RECORD_BYTES_MAX];
        let loaded = parts.state.load(StateFile::Journal, &mut bytes);
        let loaded = loaded.and_then(|length| match length {
            Some(length) => Record::decode(bytes.get(..length).unwrap_or_default()).map(Some),
            None => Ok(None),
        });
        let (record, lost) = match loaded {
            Ok(Some(record)) => (record, false),
            Ok(None) => (Record::factory(settings.image_floor), false),
            Err(fault) if matches!(fault.kind, FaultKind::Corrupt) => {
                parts.observer.note(Note::Fault { doing: "loading the record", fault: &fault });
                (Record::factory(settings.image_floor), true)
            }
            Err(fault) => return Err(fault), // an unreadable medium, or a record of a newer agent: touch nothing
        };
        let mut driver = Driver {
            record,
            settings,
            action: Action::Look,
            retries: 0,
            lost,
            tried: false,
            vouched: false,
            standing: false,
            recognised: Contents::new(),
        };
        if driver.record.floor < settings.image_floor {
            driver.persist(Record { floor: settings.image_floor, ..driver.record.clone() }, parts)?;
        }
        Ok(driver)
    }

    /// What is so.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Was the record damaged in both copies?
    pub const fn record_was_lost(&self) -> bool {
        self.lost
    }

    /// What it does, or will do next.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The group that was booted.
    pub const fn running(&self) -> Group {
        self.settings.running
    }

    /// May a new deployment be offered?
    pub fn accepts_offers(&self) -> bool {
        matches!(self.record.phase, Phase::Idle | Phase::Settled(..))
            && self.action == Action::Rest
            && self.record.service == Service::In
    }

    /// A person wants the gateway as the factory delivered it. When this returns, that is on record, and the turns
    /// that follow, of this start or a later one, do it.
    pub fn reset(&mut self, parts: &mut Parts<'_>) -> Result<()> {
        self.begin(Event::Reset, parts)
    }

    /// A person takes the gateway out of service for good. `since`: Unix seconds. As for [`Driver::reset`].
    pub fn decommission(&mut self, since: u64, parts: &mut Parts<'_>) -> Result<()> {
        self.begin(Event::Decommission(since), parts)
    }

    fn begin(&mut self, event: Event, parts: &mut Parts<'_>) -> Result<()> {
        // See `update`: a lost record is not begun anew before it is known what runs.
        if !self.accepts_offers() || (self.lost && !self.standing) {
            return Err(fault!(Busy, "busy: {}, phase {:?}", self.action.name(), self.record.phase.name()));
        }
        self.feed(event, parts)
    }

    /// Takes a deployment that [`policy::judge`](crate::policy::judge) let through. The manifest's envelope is made
    /// durable first, so that a record never speaks of a manifest that is not there; a power cut between the two
    /// leaves a manifest that nothing speaks of. Busy: not now, later perhaps.
    ///
    /// What is refused, here or by `judge`, leaves no record: the desired state that asked for it is retained and
    /// judged again at every boot and connection, so its refusal can be said again.
    pub fn offer(&mut self, envelope: &[u8], deployment: Deployment, parts: &mut Parts<'_>) -> Result<()> {
        if !self.accepts_offers() {
            return Err(fault!(Busy, "busy: {}", self.action.name()));
        }
        let running = self.settings.running;
        if deployment.target == running {
            return Err(fault!(Refused, "offer: the target {running} is the group that runs"));
        }
        if !self.standing {
            self.action = Action::Look;
            parts.boot.state()?; // that it cannot be read is the better reason
            return Err(fault!(
                Busy,
                "offer: not now: the running group {running} is not good to the bootloader, and {} is the only way up",
                running.other()
            ));
        }
        parts.state.persist(StateFile::Manifest, envelope)?;
        self.feed(Event::Offered(deployment), parts)
    }

    /// Ends the deployment before its trial. `false`: there is none to end, or it is too late.
    pub fn stop(&mut self, kind: OutcomeKind, why: &str, parts: &mut Parts<'_>) -> Result<bool> {
        let before = self.record.phase.name();
        self.feed(Event::Stopped(Outcome { kind, detail: clip(why) }), parts)?;
        Ok(self.record.phase.name() != before)
    }

    /// A person goes back from what was committed, and the bootloader has been told to boot the other group. A power
    /// cut between the two makes this a late fallback in the record, as it would be without this.
    pub fn left_by_hand(&mut self, why: &str, parts: &mut Parts<'_>) -> Result<()> {
        self.feed(Event::RollBack(clip(why)), parts)
    }

    /// Ends the trial: a person wants to go back. `false`: there is no trial.
    pub fn roll_back(&mut self, why: &str, parts: &mut Parts<'_>) -> Result<bool> {
        let before = self.record.phase.name();
        self.feed(Event::RollBack(clip(why)), parts)?;
        Ok(self.record.phase.name() != before)
    }

    /// The operator has this outcome: it need not be sent again.
    pub fn acknowledge(&mut self, report: &Report, parts: &mut Parts<'_>) -> Result<()> {
        let mut record = self.record.clone();
        record.unreported.retain(|waiting| waiting != report);
        self.update(record, parts)
    }

    /// Changes what the record holds beside the phase. Nothing is written if nothing changes.
    pub fn update(&mut self, record: Record, parts: &mut Parts<'_>) -> Result<()> {
        let Record { phase, floor, service, .. } = &self.record;
        let record =
            Record { phase: phase.clone(), floor: record.floor.max(*floor), service: *service, ..record };
        if record == self.record {
            return Ok(());
        }
        // A record that was lost stays so on the medium until the running group is known to be good: the next boot
        // would take a new one for that of a gateway which has nothing on trial.
        if self.lost && !self.standing {
            self.record = record;
            return Ok(());
        }
        self.persist(record, parts)
    }

    /// Goes on until there is nothing to do now. An error is the state store's: the step that could not be made durable
    /// has not been taken, and the next turn takes it again; no action has begun that is not on record.
    pub fn turn(&mut self, parts: &mut Parts<'_>) -> Result<Rest> {
        loop {
            let pause = match self.action {
                Action::Rest => return Ok(Rest::Idle),
                Action::Look => {
                    let Some(facts) = self.look(parts) else { return Ok(Rest::Paused) };
                    let step = recover(&self.record, facts);
                    self.take(step, parts)?
                }
                action => {
                    let Some(event) = self.act(action, parts) else { return Ok(Rest::Paused) };
                    let step = step(&self.record, action, event, self.settings.running);
                    match step {
                        Some(step) => self.take(step, parts)?,
                        None => return Ok(Rest::Paused), // the table has no row: leave everything as it is
                    }
                }
            };
            if pause {
                return Ok(if self.action == Action::Reboot { Rest::Rebooting } else { Rest::Paused });
            }
        }
    }

    /// Reads the boot state, and vouches for the running group where every boot is counted. `None`: that failed, and
    /// is to be tried again later; after some times it goes on all the same, for a deployment has its own way to fail.
    fn look(&mut self, parts: &mut Parts<'_>) -> Option<Facts> {
        let running = self.settings.running;
        let boot = self.noted(Action::Look, parts, |parts| parts.boot.state()).ok();
        let facts = Facts { running, boot, first: !self.tried, lost: self.lost && !self.vouched };
        let confirms = confirms(&self.record, facts);
        let confirmed =
            confirms && self.noted(Action::Look, parts, |parts| parts.boot.mark_good(running)).is_ok();
        self.standing =
            confirmed || boot.is_some_and(|boot| boot.group(running).good.unwrap_or(self.vouched));
        if boot.is_some() && confirms == confirmed {
            self.retries = 0;
            return Some(facts);
        }
        self.retries = self.retries.saturating_add(1);
        (self.retries >= RETRIES_MAX).then(|| {
            self.retries = 0;
            facts
        })
    }

    /// Performs an action. `None`: it failed and is to be tried again later.
    fn act(&mut self, action: Action, parts: &mut Parts<'_>) -> Option<Event> {
        let running = self.settings.running;
        let deployment = match (action, self.record.phase.deployment()) {
            (Action::Vouch, _) | (_, None) => of_what_runs(&self.record, running),
            (_, Some(deployment)) => deployment.clone(),
        };
        let target = deployment.target;
        let done = |()| Event::Done;
        let result = match action {
            Action::Rest | Action::Look => return None,
            Action::Vouch => match self.noted(action, parts, |parts| vouch(running, &deployment, parts)) {
                Err(fault) if fault.kind == FaultKind::Cancelled => return None,
                vouched => {
                    self.tried = true;
                    self.vouched = vouched == Ok(Event::Done);
                    vouched
                }
            },
            Action::AskToDownload => return Some(asked(parts.gate.may_download(&deployment), parts)),
            Action::AskToReboot => {
                // Its signers may have lost the right since it was written; whoever heard of that may not have been able
                // to put its end on record. A manifest that cannot be read now has been proven before.
                if let Err(fault) = stored_manifest(&deployment, parts)
                    && fault.kind == FaultKind::Refused
                {
                    return Some(Event::Stopped(Outcome { kind: OutcomeKind::Halted, detail: clip(fault) }));
                }
                // After a restart the locks are taken again here; that somebody else has them is said by the arming.
                let _ = claim(&deployment, parts);
                return Some(asked(parts.gate.may_reboot(&deployment), parts));
            }
            Action::Withdraw => self
                .noted(action, parts, |parts| {
                    claim(&deployment, parts)?;
                    withdraw(target, running, parts)
                })
                .map(done),
            Action::Stream => match self.stream_noted(&deployment, parts) {
                Err(fault)
                    if matches!(
                        fault.kind,
                        FaultKind::Disconnected | FaultKind::Timeout | FaultKind::Cancelled
                    ) =>
                {
                    return Some(Event::NotYet);
                }
                // What the source or the medium gave is not going to change by asking again.
                Err(fault) => return Some(Event::Failed(clip(fault))),
                Ok(()) => Ok(Event::Done),
            },
            Action::ReadBack => match self.noted(action, parts, |parts| self.read_back(&deployment, parts)) {
                Err(fault) => return Some(Event::Failed(clip(fault))),
                Ok(contents) => Ok(Event::Proven(contents)),
            },
            Action::Arm => self
                .noted(action, parts, |parts| {
                    claim(&deployment, parts)?;
                    parts.boot.arm_trial(target, deployment.tries)
                })
                .map(done),
            Action::Reboot => {
                self.noted(action, parts, |parts| parts.power.reboot("Mainstay: update")).map(done)
            }
            Action::RunTrial => match self.noted(action, parts, |parts| parts.trial.run(&deployment)) {
                Ok(Verdict::Healthy) => Ok(Event::Healthy),
                Ok(Verdict::Unhealthy(why)) => Ok(Event::Unhealthy(why)),
                // Somebody wants to be heard (a rollback, a shutdown): that is no verdict.
                Err(fault) if fault.kind == FaultKind::Cancelled => return None,
                Err(fault) => Err(fault), // a watchdog that did not open once says nothing of the image
            },
            // A write that failed is made again: that it can be read says nothing of the medium (the page cache has it,
            // and a power cut takes it back after the floor has risen). Only when none has succeeded, what is read
            // decides.
            Action::MarkGood => self
                .noted(action, parts, |parts| {
                    let last = self.retries.saturating_add(1) >= RETRIES_MAX;
                    parts.boot.mark_good(target).or_else(|fault| match last.then(|| parts.boot.state()) {
                        Some(Ok(boot)) if boot.group(target).good == Some(true) => Ok(()),
                        _ => Err(fault),
                    })
                })
                .map(done),
            Action::LowerOther => self
                .noted(action, parts, |parts| match self.settings.late_fallback {
                    LateFallback::Keep => Ok(()),
                    LateFallback::Prevent => parts.boot.mark_bad(target.other()),
                })
                .map(done),
            Action::MarkBad => self.noted(action, parts, |parts| {
                if target == running && !parts.boot.state()?.leaves_a_way_up(target.other()) {
                    return Ok(Event::NoWayBack);
                }
                parts.boot.mark_bad(target).map(done)
            }),
            Action::DestroyKey => self.noted(action, parts, |parts| parts.erase.destroy_key()).map(done),
            Action::Erase => self.noted(action, parts, |parts| parts.erase.erase()).map(done),
        };
        match result {
            Ok(event) => {
                self.retries = 0;
                Some(event)
            }
            Err(fault) => {
                self.retries = self.retries.saturating_add(1);
                (self.retries >= RETRIES_MAX).then(|| {
                    self.retries = 0;
                    Event::Failed(clip(format_args!("{}: {fault}", action.name())))
                })
            }
        }
    }

    fn stream_noted(&mut self, deployment: &Deployment, parts: &mut Parts<'_>) -> Result<()> {
        let mut recognised = core::mem::take(&mut self.recognised);
        let streamed =
            self.noted(Action::Stream, parts, |parts| self.stream(deployment, &mut recognised, parts));
        self.recognised = recognised;
        streamed
    }

    /// Writes every artifact that the stored manifest names into the target. What the running group holds is known from the
    /// record, or by its digest from then on.
    fn stream(
        &self,
        deployment: &Deployment,
        recognised: &mut Contents,
        parts: &mut Parts<'_>,
    ) -> Result<()> {
        let manifest = stored_manifest(deployment, parts)?;
        let (reuse, total) = (self.settings.reuse, manifest.content_bytes());
        let recorded = self.record.release(self.settings.running).map(|release| &release.artifacts);
        let Parts { slots, source, inflate, observer, memory, workspace, .. } = parts;
        let tools =
            Tools { slots: *slots, source: *source, inflate: *inflate, observer: *observer, memory: *memory };
        let mut installer = Installer::new(deployment.target, reuse, total, tools);
        for artifact in &manifest.artifacts {
            let find = |contents: &Contents| {
                let found = contents.iter().find(|(class, _)| *class == artifact.class);
                found.map(|(_, digest)| *digest)
            };
            let known = recorded.and_then(find).or_else(|| find(recognised));
            let mut holds = known;
            let installed = installer.install(artifact, &mut holds, workspace);
            if let (None, Some(found)) = (known, holds) {
                let _ = recognised.push((artifact.class.clone(), found)); // a class stands there once
            }
            installed?;
        }
        Ok(())
    }

    /// Proves every artifact on the medium; what the target holds then.
    fn read_back(&self, deployment: &Deployment, parts: &mut Parts<'_>) -> Result<Contents> {
        let manifest = stored_manifest(deployment, parts)?;
        let Parts { slots, workspace, .. } = parts;
        let proven = |artifact: &Artifact| {
            read_back(deployment.target, artifact, *slots, workspace)
                .map(|()| (artifact.class.clone(), artifact.digest))
        };
        manifest.artifacts.iter().map(proven).collect()
    }

    fn feed(&mut self, event: Event, parts: &mut Parts<'_>) -> Result<()> {
        match step(&self.record, self.action, event, self.settings.running) {
            Some(step) => self.take(step, parts).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Persists, then makes the action the one to do next. Says whether to pause before it.
    fn take(&mut self, step: Step, parts: &mut Parts<'_>) -> Result<bool> {
        if let Some(record) = step.record {
            self.persist(record, parts)?;
        }
        if self.action != step.action {
            self.retries = 0;
        }
        self.action = step.action;
        Ok(step.pause)
    }

    fn persist(&mut self, record: Record, parts: &mut Parts<'_>) -> Result<()> {
        let mut bytes = [0; RECORD_BYTES_MAX];
        parts.state.persist(StateFile::Journal, record.encode(&mut bytes)?)?;
        let before = core::mem::replace(&mut self.record, record);
        if before.service != self.record.service {
            parts.observer.note(Note::Service { before: before.service, now: self.record.service });
        }
        let phase = &self.record.phase;
        if before.phase != *phase {
            parts.observer.note(Note::Phase { phase: phase.name(), deployment: phase.deployment() });
            if let Phase::Settled(deployment, outcome) = phase {
                parts.observer.note(Note::Settled { deployment, outcome });
            }
        }
        Ok(())
    }

    fn noted<T>(
        &self,
        action: Action,
        parts: &mut Parts<'_>,
        act: impl FnOnce(&mut Parts<'_>) -> Result<T>,
    ) -> Result<T> {
        act(parts).inspect_err(|fault| parts.observer.note(Note::Fault { doing: action.name(), fault }))
    }
}

/// Runs the checks of the running group, whatever it is, and marks it good if they pass. `Unhealthy` only where giving
/// it up leads somewhere: the bootloader has it on trial, and the other group is good.
fn vouch(running: Group, deployment: &Deployment, parts: &mut Parts<'_>) -> Result<Event> {
    match parts.trial.run(deployment)? {
        Verdict::Healthy => parts.boot.mark_good(running).map(|()| Event::Done),
        Verdict::Unhealthy(why) => {
            let boot = parts.boot.state()?;
            let on_trial = boot.group(running).good == Some(false);
            let elsewhere =
                boot.group(running.other()).good == Some(true) && boot.group(running.other()).bootable();
            Ok(if on_trial && elsewhere { Event::Unhealthy(why) } else { Event::Failed(why) })
        }
    }
}

/// Opens the target's slots, which takes their locks, before the environment is told anything of that group: another
/// agent, by another state folder, may be writing it or have armed it, and would lose its trial or boot what it did not
/// write. Only that they are held counts here; what else is wrong with a slot is said when it is written.
fn claim(deployment: &Deployment, parts: &mut Parts<'_>) -> Result<()> {
    let Ok(manifest) = stored_manifest(deployment, parts) else { return Ok(()) };
    let mut artifacts = manifest.artifacts.iter();
    artifacts.try_for_each(|artifact| match parts.slots.open(deployment.target, artifact.class.as_str()) {
        Err(fault) if fault.kind == FaultKind::Busy => Err(fault),
        _ => Ok(()),
    })
}

/// Withdraws, and looks whether it took: no byte of a bootable group is ever written. Before that, looks whether the
/// bootloader holds the running group for good: else the target is the only way up, and stays as it is.
fn withdraw(target: Group, running: Group, parts: &mut Parts<'_>) -> Result<()> {
    let boot: BootState = parts.boot.state()?;
    let ours = boot.group(running);
    if target == running || ours.good == Some(false) || !boot.leaves_a_way_up(running) {
        return Err(fault!(
            Refused,
            "boot state: expected the running group {running} to be good before {target} is withdrawn, found {ours:?}"
        ));
    }
    parts.boot.withdraw(target)?;
    let boot: BootState = parts.boot.state()?;
    if boot.group(target).bootable() {
        return Err(fault!(
            Io,
            "boot state: withdrew {target}, but it reads as bootable: {:?}",
            boot.group(target)
        ));
    }
    Ok(())
}

/// The manifest that the record speaks of, proven anew under the trust root in force now.
fn stored_manifest(deployment: &Deployment, parts: &mut Parts<'_>) -> Result<VerifiedManifest> {
    // The workspace holds it while it is read: the installer has not begun to use it.
    let bytes = parts.workspace.get_mut(..ENVELOPE_BYTES_MAX).unwrap_or_default();
    let length = parts.state.load(StateFile::Manifest, bytes)?;
    let length =
        length.ok_or_else(|| fault!(NotFound, "state: the manifest of the deployment is not there"))?;
    let manifest = VerifiedManifest::open(parts.trust, bytes.get(..length).unwrap_or_default())?;
    if manifest.name() != deployment.manifest {
        return Err(fault!(
            Corrupt,
            "state: expected the manifest {:?}, found {:?}",
            deployment.manifest,
            manifest.name()
        ));
    }
    Ok(manifest)
}

fn asked(permission: Permission, parts: &mut Parts<'_>) -> Event {
    match permission {
        Permission::Go => Event::Allowed,
        Permission::Wait(why) => {
            parts.observer.note(Note::Waiting { why: &why });
            Event::NotYet
        }
        Permission::Stop(kind, why) => Event::Stopped(Outcome { kind, detail: why }),
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Outcome {
        Outcome { kind: OutcomeKind::Failed, detail: clip(fault) }
    }
}
