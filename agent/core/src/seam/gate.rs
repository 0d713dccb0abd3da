//! What has to be allowed before the agent goes on: maintenance window, wave, approval, interlock.

use crate::update::{Deployment, OutcomeKind};

/// An answer to "may I?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Go on.
    Go,
    /// Not now; ask again later. The text says what is waited for.
    Wait(heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
    /// Never: the deployment has been withdrawn ([`OutcomeKind::Halted`]) or its time has passed
    /// ([`OutcomeKind::Expired`]).
    Stop(OutcomeKind, heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
}

/// Decides when, never what. Answers at once.
pub trait Gate {
    /// May the download begin?
    fn may_download(&mut self, deployment: &Deployment) -> Permission;
    /// May the machine go down to try the new group?
    fn may_reboot(&mut self, deployment: &Deployment) -> Permission;
}
