//! The life of an update: the record that survives, the phase table, recovery, the installer, the driver.

mod driver;
mod install;
mod record;
mod recover;
mod step;

pub use driver::{Driver, Parts, Rest, Settings};
pub use install::{Installer, Reuse, Tools, WORKSPACE_BYTES, read_back};
pub use record::{
    Contents, Deployment, GroupRelease, Outcome, OutcomeKind, Phase, PhaseName, Record, Report, Service,
};
pub use recover::{Facts, confirms, recover};
pub use step::{Action, Event, Step, step};
