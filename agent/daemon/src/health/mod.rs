//! The trial on a real machine: health checks as real programs, ports and files, under the watchdog and the second
//! guard. What the answers mean is decided in [`mainstay_core::trial`]; here they are asked for.
//!
//! | module | holds |
//! |---|---|
//! | `config` | the tables `[[check]]` |
//! | `greenboot` | greenboot's `required.d` and `wanted.d` |
//! | `command`, `probe` | attempts, started and polled without blocking |
//! | `feeder` | who feeds the watchdog, and on what condition |
//! | `begun` | when the trial began, whatever happened to the agent since |
//! | `runner` | [`HealthTrial`], the seam `TrialRunner` |
//!
//! The second guard is [`crate::guard`].

mod begun;
mod command;
mod config;
mod feeder;
mod greenboot;
mod probe;
mod runner;
#[cfg(test)]
mod tests;

pub use config::{CheckConfig, Probe, read_checks};
pub use feeder::{Feeder, Heartbeat};
pub use runner::{ARM_WAIT, GUARD_MARGIN_MS, HealthTrial, Interrupt, ROLLBACK_MAX};
