//! Bent boot control: what is asked of the bootloader, and what it is said to have answered.

use super::{Bent, Mutant};
use crate::invariant;
use crate::seams::SimSlots;
use crate::world::Shared;
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::limits::TRIES_MAX;
use mainstay_core::seam::*;
use mainstay_core::update::PhaseName;

pub(super) struct Boot<'a> {
    pub inner: Box<dyn BootControl + 'a>,
    pub bent: Bent,
    pub shared: Shared,
}

impl Boot<'_> {
    /// What the driver is about, as far as it is on record.
    fn in_phase(&self, phase: PhaseName) -> bool {
        self.shared.with(|world| invariant::phase(world)) == Some(phase)
    }

    /// A group on trial is told that the other one is good.
    fn with_a_way_up(&self, mut state: BootState) -> BootState {
        let running = self.shared.with(|world| world.running);
        if let Some(running) = running.filter(|group| state.group(*group).good == Some(false)) {
            *state.group_mut(running.other()) = GroupState { priority: 1, tries_left: 0, good: Some(true) };
        }
        state
    }
}

impl BootControl for Boot<'_> {
    fn state(&mut self) -> Result<BootState> {
        let mut state = self.inner.state()?;
        let memory = self.bent.memory();
        // The driver looks whether its withdrawal took: it is told so.
        if let Some(group) = memory.session.withdrawn {
            *state.group_mut(group) = GroupState::WITHDRAWN;
        }
        Ok(match self.bent.mutant {
            Mutant::AnswersFromMemory => memory.before_arming.unwrap_or(state),
            Mutant::NoLookForAWayUp => self.with_a_way_up(state),
            _ => state,
        })
    }

    fn withdraw(&mut self, group: Group) -> Result<()> {
        match self.bent.mutant {
            Mutant::NotWithdrawn => {
                self.bent.memory().session.withdrawn = Some(group);
                Ok(())
            }
            Mutant::WithdrawsTheWrongGroup => self.inner.withdraw(group.other()),
            _ => self.inner.withdraw(group),
        }
    }

    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        let session = std::mem::take(&mut self.bent.memory().session);
        for (group, class) in session.unsynced {
            SimSlots(self.shared.clone()).sync(group, &class)?;
        }
        if self.bent.is(Mutant::AnswersFromMemory) {
            let state = self.inner.state()?;
            self.bent.memory().before_arming.get_or_insert(state);
        }
        match self.bent.mutant {
            Mutant::ArmsTheRunningGroup => self.inner.arm_trial(group.other(), tries),
            Mutant::ArmsWithMoreTries => self.inner.arm_trial(group, TRIES_MAX),
            Mutant::MarkGoodBeforeTrial => {
                self.inner.arm_trial(group, tries)?;
                self.inner.mark_good(group)
            }
            _ => self.inner.arm_trial(group, tries),
        }
    }

    fn mark_good(&mut self, group: Group) -> Result<()> {
        match self.bent.mutant {
            Mutant::MarkGoodForgotten => Ok(()),
            Mutant::MarksTheWrongGroupGood => self.inner.mark_good(group.other()),
            Mutant::CommitsBehindTheOther => {
                self.inner.mark_good(group)?;
                self.inner.mark_good(group.other())
            }
            Mutant::BootsNotConfirmed if !self.in_phase(PhaseName::Committing) => Ok(()),
            _ => self.inner.mark_good(group),
        }
    }

    fn mark_bad(&mut self, group: Group) -> Result<()> {
        match self.bent.mutant {
            Mutant::MarksTheWrongGroupBad => self.inner.mark_bad(group.other()),
            Mutant::MarkBadForgotten if self.in_phase(PhaseName::RollingBack) => Ok(()),
            Mutant::LateFallbackNotPrevented if self.in_phase(PhaseName::Committing) => Ok(()),
            _ => self.inner.mark_bad(group),
        }
    }
}
