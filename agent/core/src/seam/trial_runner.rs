//! The trial: watchdog armed, health checks until the deadline.

use super::Result;
use crate::update::Deployment;

/// What the trial showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every required check passed in this boot.
    Healthy,
    /// A required check did not pass by the deadline. The text names it.
    Unhealthy(heapless::String<{ crate::limits::DETAIL_BYTES_MAX }>),
}

/// Runs the trial of the running group.
pub trait TrialRunner {
    /// Blocks until there is a verdict, at the latest when the deployment's deadline has passed.
    fn run(&mut self, deployment: &Deployment) -> Result<Verdict>;
}
