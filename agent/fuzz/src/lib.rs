//! What is fuzzed: one module for each target, one public function in it that takes bytes and asserts.
//!
//! A target is a claim about all bytes: no panic (with overflow checks and debug assertions on), no loop without an end,
//! no memory beyond a bound, and what its own file says above that. `fuzz_targets/` hands each function to libFuzzer
//! and does nothing else, so that a reproducer can be played by any program that links this crate.
//!
//! `arbitrary` builds values from a target's bytes where bytes alone would never get past a checksum, a digest or a
//! signature; those are then made right by [`throwaway`] keys, so that what is behind them is reached.

pub mod allocations;
pub mod throwaway;

pub mod audit;
pub mod boot_env;
pub mod bundle;
pub mod config;
pub mod console;
pub mod ctl;
pub mod delta_route;
pub mod desired;
pub mod envelope;
pub mod gpt;
pub mod grub_env;
pub mod http;
pub mod manifest;
pub mod messages;
pub mod mqtt;
pub mod pages;
pub mod patch;
pub mod recode;
pub mod seeds;
pub mod signed;
pub mod state;
pub mod trust_root;
pub mod wire;
pub mod zstd;

/// Where files of a target lie that are written thousands of times a second: in memory, where there is such a place.
pub fn memory_folder() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { memory.into() } else { std::env::temp_dir() }
}
