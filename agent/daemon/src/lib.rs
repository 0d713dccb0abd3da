//! The device binary's parts, so that tests and `main.rs` reach them alike.

pub mod agent;
pub mod audit_log;
pub mod check_bundle;
pub mod config;
pub mod doctor;
pub mod file_source;
pub mod guard;
pub mod health;
pub mod inflate;
pub mod logger;
pub mod notify;
pub mod run;
pub mod socket;
pub mod status;
pub mod store;
pub mod terminal;
pub mod transport;
