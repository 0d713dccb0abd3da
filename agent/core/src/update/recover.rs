//! From whatever a power cut, a crash or a bootloader left behind to a phase that goes on: total, and pure.
//!
//! **Boot facts outrank the journal.** The journal says what the agent meant to do; the bootloader's variables and
//! the running group say what became of it. "Armed but never tried" and "tried and fell back" are the same journal:
//!
//! ```text
//! journal     running   target's boot state        so                                  →
//! Waiting …   target    –                          the group before it has died        settle: failed
//! … Installed other     –                          cut, and nothing lost               go on
//! Trial       target    –                          this is the trial                   run it
//! Trial       other     absent from the order      cut between journal and arming      arm
//! Trial       other     in order, tries left       armed, not tried (or not loadable)  reboot, a bounded number of times
//! Trial       other     in order, no tries left    tried, and fell back                mark bad, settle: fell back
//! Trial       other     good                       somebody marked it good by hand     settle: fell back
//! Committing  target    good                       cut after mark good: no way back    mark good again, go on
//! Committing  target    not good, or not said      cut before it, perhaps              run the trial again
//! Committing  other     –                          the trial was cut, tries ran out    mark bad, settle: fell back
//! RollingBack target    –                          mark bad did not get through        mark bad, reboot, bounded
//! RollingBack other     –                          we are back                         mark bad again, settle
//! Settled     other     –   (it was committed)     it died after its commit            settle: fell back, late
//! Idle,       –         –   (running: not good)    a trial that the journal has lost   vouch for it, if it is well
//!   Settled
//! ```
//! A verdict counts in the boot in which it was given: what came up once and was cut may not come up well again, so
//! a commit that the bootloader does not confirm begins with the checks.

use super::record::{Deployment, Outcome, OutcomeKind, Phase, Record};
use super::step::{Action, Step};
use crate::boot::{BootState, Group};
use crate::digest::Digest;
use crate::fault::clip;
use crate::limits::{TRIAL_SECONDS_DEFAULT, TRIES_DEFAULT, TRIES_MAX};

/// What is so, whatever the journal says.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The group that was booted.
    pub running: Group,
    /// The bootloader's variables; `None` where they could not be read.
    pub boot: Option<BootState>,
    /// Has nobody tried yet, in this boot, to vouch for a group that the record knows no commit of? It is done once.
    pub first: bool,
    /// The record was damaged in both copies: what it said is not known.
    pub lost: bool,
}

/// How to go on.
pub fn recover(record: &Record, facts: Facts) -> Step {
    let Facts { running, boot, .. } = facts;
    match record.phase.clone() {
        Phase::Settled(d, Outcome { kind: OutcomeKind::Committed, .. }) if d.target != running => {
            let why = "late fallback: it was committed, and the other group has come up all the same";
            Step::settled(record, d, outcome(OutcomeKind::FellBack, why))
        }
        Phase::Idle | Phase::Settled(..) if unknown_trial(record, facts) => Step::act(Action::Vouch),
        Phase::Idle | Phase::Settled(..) => Step::act(Action::Rest),

        // The group that is to be written has been booted, and it was not this agent's arming: the one that ran
        // before cannot be loaded any more, or somebody has chosen by hand. What runs is never written.
        Phase::Waiting(d) | Phase::Downloading(d) | Phase::Verifying(d) | Phase::Installed(d)
            if d.target == running =>
        {
            let why = "the target group was booted before its trial was armed: did the other one die?";
            Step::settled(record, d, outcome(OutcomeKind::Failed, why))
        }
        Phase::Waiting(_) => Step::act(Action::AskToDownload),
        // Withdrawn again, which changes nothing if it was: the slot itself says what has been written.
        Phase::Downloading(_) => Step::act(Action::Withdraw),
        Phase::Verifying(_) => Step::act(Action::ReadBack),
        Phase::Installed(_) => Step::act(Action::AskToReboot),

        Phase::Trial(d) if d.target == running => Step::act(Action::RunTrial),
        Phase::Trial(d) => match boot {
            Some(boot) => not_in_the_trial(record, d, &boot),
            None => Step::again(Action::Look),
        },

        Phase::Committing(d) if d.target == running => {
            match boot.is_some_and(|boot| boot.group(running).good == Some(true)) {
                true => Step::act(Action::MarkGood),
                false => Step::to(record, Phase::Trial(d), Action::RunTrial),
            }
        }
        Phase::Committing(d) => {
            let why = "passed its checks, but the other group came up before the commit";
            Step::rolling_back(record, d, outcome(OutcomeKind::FellBack, why))
        }

        // Each time round costs a reboot. A bootloader that does not listen would make that go on for ever.
        Phase::RollingBack(d, Outcome { detail, .. })
            if d.target == running && record.trial_reboots >= TRIES_MAX =>
        {
            let why = clip(format_args!("stays, for the bootloader boots it again and again: {detail}"));
            Step::settled(record, d, Outcome { kind: OutcomeKind::Failed, detail: why })
        }
        Phase::RollingBack(d, _) if d.target == running => Step::once_more(record, Action::MarkBad),
        Phase::RollingBack(..) => Step::act(Action::MarkBad),
    }
}

/// Is the bootloader to be told that this boot came up? A convention that knows no "good" (RAUC's) counts every boot
/// of every group, and falls back from one that nobody vouches for. Only for a group that is past its trial.
pub fn confirms(record: &Record, facts: Facts) -> bool {
    let counted = facts.boot.is_some_and(|boot| boot.group(facts.running).good.is_none());
    counted
        && match &record.phase {
            Phase::Idle => !facts.lost,
            Phase::Settled(d, Outcome { kind: OutcomeKind::Committed, .. }) => d.target == facts.running,
            Phase::Settled(d, _)
            | Phase::Waiting(d)
            | Phase::Downloading(d)
            | Phase::Verifying(d)
            | Phase::Installed(d) => d.target != facts.running,
            Phase::Trial(_) | Phase::Committing(_) | Phase::RollingBack(..) => false,
        }
}

/// The trial is on, and the other group runs.
fn not_in_the_trial(record: &Record, d: Deployment, boot: &BootState) -> Step {
    let target = *boot.group(d.target);
    let fell_back =
        |d: Deployment, why: &str| Step::rolling_back(record, d, outcome(OutcomeKind::FellBack, why));
    if target.good == Some(true) {
        let why = "marked good by hand, but the other group runs";
        Step::settled(record, d, outcome(OutcomeKind::FellBack, why))
    } else if target.priority > 0 && target.tries_left == 0 {
        fell_back(d, "all tries used up without a verdict")
    } else if record.trial_reboots > d.tries {
        // Else a bootloader that reads another environment than ours would keep us rebooting for ever.
        fell_back(d, "the bootloader does not boot the target group; does it read this environment?")
    } else if target.priority == 0 {
        Step::act(Action::Arm)
    } else {
        Step::once_more(record, Action::Reboot)
    }
}

/// Does a group run that the bootloader has on trial, while the journal knows of none? Then the record was lost, or
/// nothing else was left to boot. Left alone, its tries would run out one reboot after the other, and no update would
/// be taken, for it would withdraw the only group that is good. So its checks are run, and if they pass it is marked
/// good. If they do not, nothing is marked bad: which of the two groups is the good one, nobody knows for certain.
/// Nothing is put on record either, so a cut changes nothing.
fn unknown_trial(record: &Record, facts: Facts) -> bool {
    let Some(boot) = facts.boot else { return false };
    facts.first
        && !left_by_hand(record, facts.running, &boot)
        && match boot.group(facts.running).good {
            Some(good) => !good,
            // Every boot is counted, and nothing says of which kind this one is.
            None => facts.lost || !confirms(record, facts),
        }
}

/// A person has gone back from what runs, and the agent was started anew before the machine went down: the other group
/// comes up next. Whoever vouched for this one now would bring it back.
fn left_by_hand(record: &Record, running: Group, boot: &BootState) -> bool {
    let rolled_back = matches!(
        &record.phase,
        Phase::Settled(d, Outcome { kind: OutcomeKind::RolledBack, .. }) if d.target == running
    );
    rolled_back && boot.select() == Some(running.other())
}

/// The deployment of what runs, as far as the record knows it: what a trial is run by that no deployment asked for.
pub(super) fn of_what_runs(record: &Record, running: Group) -> Deployment {
    let release = record.release(running);
    Deployment {
        manifest: release.map_or(Digest::default(), |r| r.manifest),
        version: release.map_or_else(|| clip("unknown"), |r| r.version.clone()),
        security_version: release.map_or(0, |r| r.security_version),
        target: running,
        attempt: 0,
        tries: TRIES_DEFAULT,
        deadline_s: TRIAL_SECONDS_DEFAULT,
        required: heapless::Vec::new(), // the gateway's own are required all the same
        not_before: None,
        expires: None,
    }
}

impl Step {
    const fn again(action: Action) -> Self {
        Step { record: None, action, pause: true }
    }

    /// One more reboot, counted.
    pub(super) fn once_more(record: &Record, action: Action) -> Self {
        let trial_reboots = record.trial_reboots.saturating_add(1);
        Step { record: Some(Record { trial_reboots, ..record.clone() }), action, pause: false }
    }
}

fn outcome(kind: OutcomeKind, why: &str) -> Outcome {
    Outcome { kind, detail: clip(why) }
}
