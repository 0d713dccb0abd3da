//! The phase table and recovery, row by row.
//!
//! Every phase × action × event is played. The rows below say what each that belongs together leads to; whatever has
//! no row must change nothing.

mod recovery;
mod table;

use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::update::{Deployment, GroupRelease, Outcome, OutcomeKind, Phase, PhaseName, Record};

/// The group that runs before the update; the target is B.
pub(crate) const A: Group = Group::A;
pub(crate) const B: Group = Group::B;

pub(crate) fn deployment() -> Deployment {
    Deployment {
        manifest: Digest([2; 32]),
        version: "2".try_into().unwrap(),
        security_version: 20,
        target: B,
        attempt: 7,
        tries: 3,
        deadline_s: 600,
        required: Default::default(),
        not_before: None,
        expires: None,
    }
}

pub(crate) fn outcome(kind: OutcomeKind) -> Outcome {
    Outcome { kind, detail: "because".try_into().unwrap() }
}

pub(crate) fn phase(name: PhaseName) -> Phase {
    let d = deployment();
    match name {
        PhaseName::Idle => Phase::Idle,
        PhaseName::Waiting => Phase::Waiting(d),
        PhaseName::Downloading => Phase::Downloading(d),
        PhaseName::Verifying => Phase::Verifying(d),
        PhaseName::Installed => Phase::Installed(d),
        PhaseName::Trial => Phase::Trial(d),
        PhaseName::Committing => Phase::Committing(d),
        PhaseName::RollingBack => Phase::RollingBack(d, outcome(OutcomeKind::RolledBack)),
        PhaseName::Settled => Phase::Settled(d, outcome(OutcomeKind::Failed)),
    }
}

pub(crate) const PHASES: [PhaseName; 9] = [
    PhaseName::Idle,
    PhaseName::Waiting,
    PhaseName::Downloading,
    PhaseName::Verifying,
    PhaseName::Installed,
    PhaseName::Trial,
    PhaseName::Committing,
    PhaseName::RollingBack,
    PhaseName::Settled,
];

/// A gateway that runs version 1 in A, in this phase.
pub(crate) fn record(phase: Phase) -> Record {
    let release = |n: u8, committed| GroupRelease {
        manifest: Digest([n; 32]),
        version: n.to_string().as_str().try_into().unwrap(),
        security_version: u32::from(n) * 10,
        committed,
        artifacts: Default::default(),
    };
    Record {
        phase,
        groups: [Some(release(1, true)), Some(release(2, false))],
        attempts: 7,
        trial_reboots: 1,
        ..Record::factory(10)
    }
}
