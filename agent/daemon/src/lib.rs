//! The device binary's parts, so that tests and `main.rs` reach them alike.

// They panic where the stream is closed; `terminal` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::get_unwrap
    )
)]

pub mod agent;
pub mod audit_log;
pub mod check_bundle;
pub mod config;
pub mod doctor;
pub mod erase;
pub mod file_source;
pub mod guard;
pub mod health;
pub mod inflate;
pub mod logger;
pub mod notify;
pub mod run;
pub mod sandbox;
pub mod socket;
pub mod status;
pub mod store;
pub mod terminal;
pub mod transport;

/// This build's version: the package's, and what the environment variable `MAINSTAY_BUILD` held when it was built. A
/// distribution marks its own builds so (`+acme.4`), and the laboratory tells two builds of one commit apart by it.
pub const VERSION: &str = concat_version();

const fn concat_version() -> &'static str {
    const PACKAGE: &[u8] = env!("CARGO_PKG_VERSION").as_bytes();
    const BUILD: &[u8] = match option_env!("MAINSTAY_BUILD") {
        Some(build) => build.as_bytes(),
        None => &[],
    };
    const BYTES: [u8; PACKAGE.len() + BUILD.len()] = {
        let mut bytes = [0; PACKAGE.len() + BUILD.len()];
        let (package, build) = bytes.split_at_mut(PACKAGE.len());
        package.copy_from_slice(PACKAGE);
        build.copy_from_slice(BUILD);
        bytes
    };
    match core::str::from_utf8(&BYTES) {
        Ok(version) => version,
        Err(_) => env!("CARGO_PKG_VERSION"), // two texts, one behind the other, are a text
    }
}
