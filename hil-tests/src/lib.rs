//! The bench: a gateway's surroundings, as reusable parts.
//!
//! The device binary is never imitated here: `mainstay` runs as a real process, and so does `mainstayctl`. What is built here
//! is what stands around them: a broker with client certificates, a disk, a board with a bootloader and a watchdog, images
//! that behave in a known way, and a screen to watch it on.
//!
//! * [`pki`] certificates, for one bench
//! * [`broker`] an embedded broker or a real Mosquitto, behind a front door that counts, slows down and shuts
//! * [`bench`] what the scenarios of the laboratory are played on
//! * [`board`] power, bootloader, watchdog and reset around a real `mainstay run`
//! * [`disk`] a disk image with a partition table
//! * [`image`] root images whose behaviour the board can read
//! * [`gateway`] a board with the agent's configuration on it
//! * [`operator`] keys, trust root, bundles and publishing, by the real `mainstayctl`
//! * [`listener`] what gateways tell their operator
//! * [`bill`] what a bundle has to cost a gateway, computed without it
//! * [`programs`] the two binaries, built
//! * [`proof`] what was proven, line by line, with figures
//! * [`interrupt`] Ctrl-C
//! * [`scenario`] the ten scenarios of the laboratory, written once for all benches
//! * [`lab_machine`] an emulated machine, handled as a real board is
//! * [`screen`] to watch it on
//! * [`measure`] memory and time of the release binary
//! * [`hil`] `cargo hil`: boards and scenarios, and what came of it
//! * [`demo`] the six scenes of `cargo demo`
//!
//! Nothing here is for a device: the crate may depend on all others, and none on it.

pub mod bench;
pub mod bill;
pub mod board;
pub mod broker;
pub mod demo;
pub mod disk;
pub mod gateway;
pub mod hil;
pub mod image;
pub mod interrupt;
pub mod lab_machine;
pub mod listener;
pub mod measure;
pub mod operator;
pub mod package;
pub mod pki;
pub mod programs;
pub mod proof;
pub mod scenario;
pub mod screen;

pub use mainstay_lab::{Doing, Result, Trouble};
