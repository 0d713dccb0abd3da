//! From whatever a power cut, a crash or a bootloader left behind to a phase that goes on: total, and pure.
//!
//! **Boot facts outrank the journal.** The journal says what the agent meant to do; the bootloader's variables and
//! the running group say what became of it. "Armed but never tried" and "tried and fell back" are the same journal:
//!
//! ```text
//! journal     running   target's boot state        so                                  →
//! Trial       target    –                          this is the trial                   run it
//! Trial       other     absent from the order      cut between journal and arming      arm
//! Trial       other     in order, tries left       armed, not tried (or not loadable)  reboot, a bounded number of times
//! Trial       other     in order, no tries left    tried, and fell back                mark bad, settle: fell back
//! Trial       other     good                       somebody marked it good by hand     settle: fell back
//! Committing  target    –                          cut before, at or after mark good   mark good again
//! Committing  other     –                          the trial was cut, tries ran out    mark bad, settle: fell back
//! RollingBack target    –                          mark bad did not get through        mark bad, reboot
//! RollingBack other     –                          we are back                         mark bad again, settle
//! ```

use super::record::{Outcome, OutcomeKind, Phase, Record};
use super::step::{Action, Step};
use crate::boot::{BootState, Group};
use crate::fault::clip;

/// What is so, whatever the journal says.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The group that was booted.
    pub running: Group,
    /// The bootloader's variables; `None` where they could not be read.
    pub boot: Option<BootState>,
}

/// How to go on.
pub fn recover(record: &Record, facts: Facts) -> Step {
    let Facts { running, boot } = facts;
    match record.phase.clone() {
        Phase::Idle | Phase::Settled(..) => Step::act(Action::Rest),
        Phase::Waiting(_) => Step::act(Action::AskToDownload),

        // The group that was being written has been booted all the same: not by this agent's arming.
        Phase::Downloading(d) | Phase::Verifying(d) | Phase::Installed(d) if d.target == running => {
            let why = "the target group was booted before its trial was armed";
            Step::settled(record, d, outcome(OutcomeKind::Failed, why))
        }
        // Withdrawn again, which changes nothing if it was: the slot itself says what has been written.
        Phase::Downloading(_) => Step::act(Action::Withdraw),
        Phase::Verifying(_) => Step::act(Action::ReadBack),
        Phase::Installed(_) => Step::act(Action::AskToReboot),

        Phase::Trial(d) if d.target == running => Step::act(Action::RunTrial),
        Phase::Trial(d) => {
            let Some(target) = boot.map(|boot| *boot.group(d.target)) else {
                return Step::again(Action::Look);
            };
            let fell_back = |why: &str| {
                Step::to(
                    record,
                    Phase::RollingBack(d.clone(), outcome(OutcomeKind::FellBack, why)),
                    Action::MarkBad,
                )
            };
            if target.good == Some(true) {
                Step::settled(
                    record,
                    d,
                    outcome(OutcomeKind::FellBack, "marked good by hand, but the other group runs"),
                )
            } else if target.priority > 0 && target.tries_left == 0 {
                fell_back("all tries used up without a verdict")
            } else if record.trial_reboots >= d.tries {
                // Else a bootloader that reads another environment than ours would keep us rebooting for ever.
                fell_back("the bootloader does not boot the target group; does it read this environment?")
            } else {
                let action = if target.priority == 0 { Action::Arm } else { Action::Reboot };
                let trial_reboots = record.trial_reboots.saturating_add(1);
                Step { record: Some(Record { trial_reboots, ..record.clone() }), action, pause: false }
            }
        }

        Phase::Committing(d) if d.target == running => Step::act(Action::MarkGood),
        Phase::Committing(d) => {
            let why = outcome(
                OutcomeKind::FellBack,
                "passed its checks, but the other group came up before the commit",
            );
            Step::to(record, Phase::RollingBack(d, why), Action::MarkBad)
        }
        Phase::RollingBack(..) => Step::act(Action::MarkBad),
    }
}

impl Step {
    const fn again(action: Action) -> Self {
        Step { record: None, action, pause: true }
    }
}

fn outcome(kind: OutcomeKind, why: &str) -> Outcome {
    Outcome { kind, detail: clip(why) }
}
