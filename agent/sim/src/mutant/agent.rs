//! What else the agent asks and does: leave from the gate, the reset line; and what its loop makes of the record.

use super::{Bent, Mutant};
use mainstay_core::policy::Gateway;
use mainstay_core::seam::*;
use mainstay_core::update::{Deployment, Record};

pub(super) struct Leave<'a> {
    pub inner: Box<dyn Gate + 'a>,
    pub bent: Bent,
}

impl Leave<'_> {
    fn heard(&self, answer: Permission) -> Permission {
        match (self.bent.mutant, answer) {
            (Mutant::HaltUnheard, Permission::Stop(..))
            | (Mutant::LeaveNotWaitedFor, Permission::Wait(_)) => Permission::Go,
            (_, answer) => answer,
        }
    }
}

impl Gate for Leave<'_> {
    fn may_download(&mut self, deployment: &Deployment) -> Permission {
        let answer = self.inner.may_download(deployment);
        self.heard(answer)
    }
    fn may_reboot(&mut self, deployment: &Deployment) -> Permission {
        let answer = self.inner.may_reboot(deployment);
        self.heard(answer)
    }
}

pub(super) struct Reset<'a> {
    pub inner: Box<dyn Power + 'a>,
    pub bent: Bent,
}

impl Power for Reset<'_> {
    fn reboot(&mut self, why: &str) -> Result<()> {
        if self.bent.is(Mutant::NeverReboots) { Ok(()) } else { self.inner.reboot(why) }
    }
}

impl Bent {
    /// The record that a bundle is judged by.
    pub fn judged_by(&self, record: &Record) -> Record {
        let floor = if self.is(Mutant::FloorNotAskedFor) { 0 } else { record.floor };
        Record { floor, ..record.clone() }
    }

    /// What it is judged by beside that.
    pub fn judges(&self, gateway: &mut Gateway<'_>) {
        gateway.retry_failed |= self.is(Mutant::FailedIsTriedAgain);
    }
}
