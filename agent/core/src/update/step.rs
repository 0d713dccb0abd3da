//! The phase table: one match, a row per transition, in life-cycle order. Pure: it reads no clock, touches no
//! medium, and says only what shall be made durable and what shall then be done.
//!
//! The contract with the driver is persist, act, report: the driver makes the step's record durable, then performs
//! its action, then feeds what came of it back as the next event. Power may vanish between any two of these; what
//! [`recover`](super::recover) makes of each such moment is argued there.

use super::record::{
    Contents, Deployment, GroupRelease, Outcome, OutcomeKind, Phase, Record, Report, Service,
};
use crate::boot::Group;
use crate::fault::clip;
use core::fmt::Display;

/// What shall be done. Each is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Rest,
    /// Look at the boot state again and recover from it: it could not be read.
    Look,
    /// Run the health checks of a group that the bootloader has on trial and the record knows nothing of; if they
    /// pass, tell the bootloader that it is good.
    Vouch,
    /// Ask the gate for leave to download.
    AskToDownload,
    /// Make the target not bootable.
    Withdraw,
    /// Bring the content into the target's slots.
    Stream,
    /// Read the target's slots back and compare.
    ReadBack,
    /// Ask the gate for leave to reboot.
    AskToReboot,
    /// Make the target the next to be tried.
    Arm,
    /// Reboot.
    Reboot,
    /// Run the health checks.
    RunTrial,
    /// Tell the bootloader that the target is good.
    MarkGood,
    /// Put the other group behind it, or out of the order, as the policy says.
    LowerOther,
    /// Tell the bootloader that the target may not be booted again.
    MarkBad,
    /// Destroy what the gateway shows its broker who it is by: the client key and its certificate.
    DestroyKey,
    /// Erase the data that the integrator named.
    Erase,
}

impl Action {
    /// As it stands in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Rest => "resting",
            Action::Look => "reading the boot state",
            Action::Vouch => "vouching for the running group",
            Action::AskToDownload => "asking for leave to download",
            Action::Withdraw => "withdrawing the target group",
            Action::Stream => "writing the target group",
            Action::ReadBack => "reading the target group back",
            Action::AskToReboot => "asking for leave to reboot",
            Action::Arm => "arming the trial",
            Action::Reboot => "rebooting",
            Action::RunTrial => "running the health checks",
            Action::MarkGood => "marking the target good",
            Action::LowerOther => "lowering the other group",
            Action::MarkBad => "marking the target bad",
            Action::DestroyKey => "destroying the client key",
            Action::Erase => "erasing the gateway's data",
        }
    }
}

/// What came of an action, or what somebody asked for. Lives for one step, so its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A manifest was verified and judged eligible.
    Offered(Deployment),
    /// The gate says: go on.
    Allowed,
    /// The gate says: not now. Or: the link is down, the machine is going down.
    NotYet,
    /// The gate, or a person, says: never. Halted or Expired.
    Stopped(Outcome),
    /// The action is done.
    Done,
    /// The target has been read back, and holds this.
    Proven(Contents),
    /// The action failed, and its retries are used up.
    Failed(heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
    /// The other group cannot be booted, so this one is not given up.
    NoWayBack,
    /// Every required check passed in this boot.
    Healthy,
    /// A required check did not.
    Unhealthy(heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
    /// A person wants the trial to end.
    RollBack(heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
    /// A person wants the gateway as the factory delivered it.
    Reset,
    /// A person takes the gateway out of service, now (Unix seconds).
    Decommission(u64),
}

/// What follows: persist `record` if there is one, then do `action`; `pause` before it, if it is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What shall be durable before the action begins.
    pub record: Option<Record>,
    /// What shall be done then.
    pub action: Action,
    /// Let some time pass first.
    pub pause: bool,
}

/// One row of the table. `None`: the event does not belong to this phase and changes nothing.
pub fn step(record: &Record, doing: Action, event: Event, running: Group) -> Option<Step> {
    use Action::*;
    let next = |phase: Phase, action: Action| Some(Step::to(record, phase, action));
    let act = |action: Action| Some(Step { record: None, action, pause: false });
    let later = |action: Action| Some(Step { record: None, action, pause: true });
    let settle = |d: Deployment, outcome: Outcome| Some(Step::settled(record, d, outcome));

    match (record.phase.clone(), doing, event) {
        (Phase::Idle | Phase::Settled(..), Rest, Event::Offered(d)) if record.service == Service::In => {
            Some(Step::accepted(record, d))
        }

        // A life-cycle story of its own, told only where no update is: on record first, so that whatever was begun is
        // gone on with; then erased; on record as done only then.
        (Phase::Idle | Phase::Settled(..), Rest, Event::Reset) if record.service == Service::In => {
            Some(Step::serving(record, Service::Resetting, Erase))
        }
        (Phase::Idle | Phase::Settled(..), Rest, Event::Decommission(since))
            if record.service == Service::In =>
        {
            Some(Step::serving(record, Service::Decommissioning(since), DestroyKey))
        }
        (Phase::Idle | Phase::Settled(..), DestroyKey, Event::Done) => act(Erase),
        (Phase::Idle | Phase::Settled(..), DestroyKey, Event::Failed(_)) => later(DestroyKey),
        (Phase::Idle | Phase::Settled(..), Erase, Event::Done) => Some(Step::erased(record)),
        (Phase::Idle | Phase::Settled(..), Erase, Event::Failed(_)) => later(Erase),

        (Phase::Idle | Phase::Settled(..), Vouch, Event::Done) => act(Look),
        // The bootloader has it on trial and the other group is good: its tries run out, and then that one comes up.
        (Phase::Idle | Phase::Settled(..), Vouch, Event::Unhealthy(_)) => act(Reboot),
        (Phase::Idle | Phase::Settled(..), Reboot, Event::Done | Event::Failed(_)) => later(Reboot),
        (Phase::Idle | Phase::Settled(..), Vouch, Event::Failed(_)) => act(Rest),

        (Phase::Waiting(d), AskToDownload, Event::Allowed) => Some(Step::downloading(record, d)),
        (Phase::Waiting(_), AskToDownload, Event::NotYet) => later(AskToDownload),
        (Phase::Waiting(d), _, Event::Stopped(outcome)) => settle(d, outcome),

        // A failed withdrawal wrote no byte of the target, and the slots are as they were.
        (Phase::Downloading(_), Withdraw, Event::Done) => act(Stream),
        (Phase::Downloading(d), Withdraw | Stream, Event::Failed(why)) => settle(d, failed(why)),
        (Phase::Downloading(d), Stream, Event::Done) => next(Phase::Verifying(d), ReadBack),
        (Phase::Downloading(_), Stream, Event::NotYet) => later(Stream),
        (Phase::Downloading(d), _, Event::Stopped(outcome)) => settle(d, outcome),

        (Phase::Verifying(d), ReadBack, Event::Proven(contents)) => {
            Some(Step::installed(record, d, contents))
        }
        (Phase::Verifying(d), ReadBack, Event::Failed(why)) => settle(d, failed(why)),
        (Phase::Verifying(d), _, Event::Stopped(outcome)) => settle(d, outcome),

        (Phase::Installed(d), AskToReboot, Event::Allowed) => next(Phase::Trial(d), Arm),
        (Phase::Installed(_), AskToReboot, Event::NotYet) => later(AskToReboot),
        (Phase::Installed(d), _, Event::Stopped(outcome)) => settle(d, outcome),

        (Phase::Trial(_), Arm, Event::Done) => Some(Step::once_more(record, Reboot)),
        // Whether the environment took the arming is not known: mark bad makes sure, or says that it cannot.
        (Phase::Trial(d), Arm, Event::Failed(why)) => Some(Step::rolling_back(record, d, failed(why))),
        (Phase::Trial(_), Reboot, Event::Done | Event::NotYet | Event::Failed(_)) => later(Reboot),
        (Phase::Trial(d), RunTrial, Event::Healthy) => next(Phase::Committing(d), MarkGood),
        (Phase::Trial(d), RunTrial, Event::Unhealthy(why) | Event::Failed(why))
        | (Phase::Trial(d), _, Event::RollBack(why)) => {
            Some(Step::rolling_back(record, d, Outcome { kind: OutcomeKind::RolledBack, detail: why }))
        }

        // Until mark good stands, going back is open; the driver has looked and it does not stand.
        (Phase::Committing(_), MarkGood, Event::Done) => act(LowerOther),
        (Phase::Committing(d), MarkGood, Event::Failed(why)) => {
            Some(Step::rolling_back(record, d, Outcome { kind: OutcomeKind::RolledBack, detail: why }))
        }
        // From here on there is no way back, so what fails is tried again.
        (Phase::Committing(d), LowerOther, Event::Done) => Some(Step::committed(record, d)),
        (Phase::Committing(_), LowerOther, Event::Failed(_)) => later(LowerOther),

        (Phase::RollingBack(d, _), MarkBad, Event::Done) if running == d.target => act(Reboot),
        (Phase::RollingBack(d, outcome), MarkBad, Event::Done) => settle(d, outcome),
        // The bootloader cannot be told; its own count of tries still brings the other group up.
        (Phase::RollingBack(d, _), MarkBad, Event::Failed(_)) if running == d.target => later(Reboot),
        (Phase::RollingBack(..), MarkBad, Event::Failed(_)) => later(MarkBad),
        (Phase::RollingBack(d, Outcome { detail, .. }), MarkBad, Event::NoWayBack) => {
            settle(d, failed(format_args!("stays, for the other group cannot be booted: {detail}")))
        }
        (Phase::RollingBack(..), Reboot, Event::Done | Event::NotYet | Event::Failed(_)) => later(Reboot),

        // After the commit, and the bootloader has been told already: the other group that comes up then has not
        // fallen back late, it was asked for: also where it was asked for before the first look of this boot, as by a
        // recovery button that is held while the agent starts.
        (
            Phase::Settled(d, Outcome { kind: OutcomeKind::Committed, .. }),
            Rest | Look,
            Event::RollBack(why),
        ) if running == d.target => settle(d, Outcome { kind: OutcomeKind::RolledBack, detail: why }),

        _ => None,
    }
}

impl Step {
    /// Nothing to make durable.
    pub(super) const fn act(action: Action) -> Self {
        Step { record: None, action, pause: false }
    }

    /// The phase, and what follows.
    pub(super) fn to(record: &Record, phase: Phase, action: Action) -> Self {
        Step { record: Some(Record { phase, ..record.clone() }), action, pause: false }
    }

    fn serving(record: &Record, service: Service, action: Action) -> Self {
        Step { record: Some(Record { service, ..record.clone() }), action, pause: false }
    }

    /// A reset forgets what people said by hand and what failed here, and nothing that an attacker would like forgotten:
    /// floor, time floor and sequence numbers stay, and so do attempts and outcomes that nobody has heard of yet. What
    /// was committed stays on record too, or a later fallback from it would pass for what the gateway always ran.
    fn erased(record: &Record) -> Self {
        let mut next = record.clone();
        next.service = match record.service {
            Service::Decommissioning(since) => Service::Decommissioned(since),
            _ => Service::In,
        };
        if next.service == Service::In {
            next.failed.clear();
            if matches!(&next.phase, Phase::Settled(_, outcome) if outcome.kind == OutcomeKind::Halted) {
                next.phase = Phase::Idle;
            }
        }
        Step { record: Some(next), action: Action::Look, pause: false }
    }

    fn accepted(record: &Record, mut d: Deployment) -> Self {
        let attempts = record.attempts.saturating_add(1);
        d.attempt = attempts;
        let phase = Phase::Waiting(d);
        Step {
            record: Some(Record { phase, attempts, trial_reboots: 0, ..record.clone() }),
            action: Action::AskToDownload,
            pause: false,
        }
    }

    /// What the target held is forgotten in the same record: from now on it holds nothing that is known.
    fn downloading(record: &Record, d: Deployment) -> Self {
        let mut next = record.clone();
        *next.release_mut(d.target) = None;
        next.phase = Phase::Downloading(d);
        Step { record: Some(next), action: Action::Withdraw, pause: false }
    }

    fn installed(record: &Record, d: Deployment, artifacts: Contents) -> Self {
        let mut next = record.clone();
        *next.release_mut(d.target) = Some(GroupRelease {
            manifest: d.manifest,
            version: d.version.clone(),
            security_version: d.security_version,
            committed: false,
            artifacts,
        });
        next.phase = Phase::Installed(d);
        Step { record: Some(next), action: Action::AskToReboot, pause: false }
    }

    /// The floor rises in the same record that says "committed", after the bootloader has been told: a floor above
    /// a group that is not yet marked good could leave no group at or above it.
    fn committed(record: &Record, d: Deployment) -> Self {
        let mut next = record.clone();
        next.floor = next.floor.max(d.security_version);
        if let Some(release) = next.release_mut(d.target) {
            release.committed = true;
        }
        next.failed.retain(|failed| *failed != d.manifest);
        Step::settled(&next, d, Outcome { kind: OutcomeKind::Committed, detail: heapless::String::new() })
    }

    /// The reboots are counted anew: so many and no more are spent on getting back.
    pub(super) fn rolling_back(record: &Record, d: Deployment, outcome: Outcome) -> Self {
        let phase = Phase::RollingBack(d, outcome);
        Step {
            record: Some(Record { phase, trial_reboots: 0, ..record.clone() }),
            action: Action::MarkBad,
            pause: false,
        }
    }

    /// The outcome is durable and queued for the operator, and a bundle whose trial failed is remembered. Then the
    /// boot state is looked at once more: the group that runs may have to be confirmed.
    pub(super) fn settled(record: &Record, d: Deployment, outcome: Outcome) -> Self {
        let mut next = record.clone();
        if matches!(outcome.kind, OutcomeKind::RolledBack | OutcomeKind::FellBack) {
            next.remember_failed(d.manifest);
        }
        next.report(Report {
            manifest: d.manifest,
            version: d.version.clone(),
            attempt: d.attempt,
            outcome: outcome.clone(),
        });
        next.trial_reboots = 0;
        next.phase = Phase::Settled(d, outcome);
        Step { record: Some(next), action: Action::Look, pause: false }
    }
}

fn failed(why: impl Display) -> Outcome {
    Outcome { kind: OutcomeKind::Failed, detail: clip(why) }
}
