//! A bent state store: what is put on record, and when.

use super::medium::{self, Copies};
use super::{Bent, Mutant};
use crate::invariant;
use crate::seams::SimBoot;
use crate::world::Shared;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::seam::*;
use mainstay_core::update::{Deployment, GroupRelease, Outcome, OutcomeKind, Phase, Record, Report};

pub(super) struct State<'a> {
    pub inner: Box<dyn StateStore + 'a>,
    pub bent: Bent,
    pub shared: Shared,
    pub agent: u8,
}

impl State<'_> {
    /// What stands on the medium for certain.
    fn on_record(&self) -> Option<Record> {
        self.shared.with(|world| invariant::record(world)).ok().flatten()
    }

    /// The record as the mutant writes it; `None`: it does not.
    fn bend(&mut self, mut record: Record) -> Result<Option<Record>> {
        use Mutant::*;
        match (self.bent.mutant, record.phase.clone()) {
            (FloorBeforeMarkGood, Phase::Committing(d)) | (FloorAtInstall, Phase::Installed(d)) => {
                record.floor = record.floor.max(d.security_version);
            }
            (FloorForgotten, Phase::Settled(..)) => {
                record.floor = self.on_record().map_or(record.floor, |before| before.floor);
            }
            (FloorLowered, Phase::Waiting(_)) => record.floor = record.floor.saturating_sub(1),
            // "Trial" is made durable only once the trial has been armed and tried.
            (ActsBeforeItPersists, Phase::Trial(_)) => return Ok(None),
            (ArmsBeforeTheRecord, Phase::Trial(d)) => {
                if matches!(self.on_record(), Some(Record { phase: Phase::Installed(_), .. })) {
                    let board = self.shared.with(|world| world.board);
                    SimBoot::new(&self.shared, board).arm_trial(d.target, d.tries)?;
                }
            }
            (CommittedBeforeMarkGood, Phase::Committing(d)) => {
                record.phase =
                    Phase::Settled(d, Outcome { kind: OutcomeKind::Committed, detail: Default::default() });
            }
            (InstalledBeforeReadBack, Phase::Verifying(d)) => {
                *record.release_mut(d.target) = Some(release(&d));
                record.phase = Phase::Installed(d);
            }
            (OutcomeForgotten, _) => record.unreported.clear(),
            (OutcomeBeforeItIsSettled, Phase::Trial(d)) => record.report(committed(&d)),
            (FailedForgotten, _) => record.failed.clear(),
            (RebootsNotCounted, _) => record.trial_reboots = 0,
            (TimeForgotten, Phase::Installed(_)) => record.time_floor = 0,
            (AttemptsForgotten, Phase::Settled(..)) => record.attempts = 0,
            (TargetNotForgotten, Phase::Downloading(_)) => {
                record.groups = self.on_record().map_or(record.groups, |before| before.groups);
            }
            _ => {}
        }
        Ok(Some(record))
    }
}

fn release(d: &Deployment) -> GroupRelease {
    let (manifest, version) = (d.manifest, d.version.clone());
    let (committed, artifacts) = (false, Default::default());
    GroupRelease { manifest, version, security_version: d.security_version, committed, artifacts }
}

/// What a gateway says that has committed it.
pub(super) fn committed(d: &Deployment) -> Report {
    let outcome = Outcome { kind: OutcomeKind::Committed, detail: Default::default() };
    Report { manifest: d.manifest, version: d.version.clone(), attempt: d.attempt, outcome }
}

impl StateStore for State<'_> {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        match self.inner.load(file, out) {
            Err(fault)
                if self.bent.is(Mutant::LostRecordTakenForNone) && fault.kind == FaultKind::Corrupt =>
            {
                Ok(None)
            }
            loaded => loaded,
        }
    }

    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        if file == StateFile::Manifest && self.bent.is(Mutant::ManifestNotWritten) {
            return Ok(());
        }
        if file != StateFile::Journal {
            return self.inner.persist(file, bytes);
        }
        let Some(record) = self.bend(Record::decode(bytes)?)? else { return Ok(()) };
        let mut out = [0; RECORD_BYTES_MAX];
        let bytes = record.encode(&mut out)?;
        match self.bent.mutant {
            Mutant::OneCopyOnly => medium::persist(&self.shared, self.agent, bytes, Copies::OnlyTheFirst),
            Mutant::NewerCopyOverwritten => {
                medium::persist(&self.shared, self.agent, bytes, Copies::TheNewer)
            }
            _ => self.inner.persist(file, bytes),
        }
    }
}
