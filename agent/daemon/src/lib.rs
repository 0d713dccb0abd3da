//! The device binary's parts, so that tests and `main.rs` reach them alike.

pub mod transport;
