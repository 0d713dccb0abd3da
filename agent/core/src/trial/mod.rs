//! The trial's verdict: which health check to start now, and whether the group that runs is healthy.
//!
//! Pure: the shell tells the time and what the checks answered, [`Trial`] says what to do next. It knows nothing of
//! what a check is (a command, a port, a file); it knows how often one may fail and how long it may take.
//!
//! | what happened | so |
//! |---|---|
//! | every required check has passed in this boot | healthy, after a short wait for the wanted ones' first answers |
//! | a required check has used up its retries | unhealthy, at once |
//! | the deadline has passed and a required check has not | unhealthy |
//! | the bundle requires a check that the gateway does not have | unhealthy, at once |
//! | a wanted check fails, hangs, never starts | it stands in the report, and decides nothing |
//!
//! What it promises, whatever it is told: it never says healthy while a required check has not passed, it is over
//! at the deadline at the latest, and once it has decided it stays decided.

mod check;
mod machine;
#[cfg(test)]
mod tests;

pub use check::{Check, CheckPlan, LAST_BYTES_MAX};
pub use machine::{RUNNING_MAX, Trial, Turn, WANTED_WAIT_MS};
