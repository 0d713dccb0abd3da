//! The life of an update: the record that survives, the phase table, recovery.

mod record;

pub use record::{Deployment, GroupRelease, Outcome, OutcomeKind, Phase, PhaseName, Record};
