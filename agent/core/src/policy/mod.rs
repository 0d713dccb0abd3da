//! Whether and when: eligibility of a manifest, desired state, membership in a wave, maintenance windows.

mod desired;
mod eligibility;

pub use desired::{DesiredAction, DesiredState, MaintenanceWindow, Membership, SIGNED_AHEAD_S_MAX, Wanted};
pub use eligibility::{Gateway, judge};

/// What becomes of the other group once a new one is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateFallback {
    /// It stays in the order, behind: one more way up from a dead medium. Price: a thief, or a broken medium, can
    /// bring up what stands below the floor.
    #[default]
    Keep,
    /// It is taken out of the order. Price: if the committed group dies, nothing is left to boot.
    Prevent,
}
