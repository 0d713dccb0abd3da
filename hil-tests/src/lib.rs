//! The bench: a gateway's surroundings, as reusable parts.
//!
//! The device binary is never imitated here: `mainstay` runs as a real process, and so does `mainstayctl`. What is built here
//! is what stands around them: a broker with client certificates, a disk, a board with a bootloader and a watchdog, images
//! that behave in a known way, and a screen to watch it on.
//!
//! * [`pki`] certificates, for one bench
//! * [`broker`] an embedded broker or a real Mosquitto, behind a front door that counts, slows down and shuts
//! * [`board`] power, bootloader, watchdog and reset around a real `mainstay run`
//! * [`disk`] a disk image with a partition table
//! * [`image`] root images whose behaviour the board can read
//! * [`screen`] to watch it on
//!
//! Nothing here is for a device: the crate may depend on all others, and none on it.

pub mod board;
pub mod broker;
pub mod disk;
pub mod image;
pub mod pki;
pub mod screen;
mod trouble;

pub use trouble::{Doing, Result, Trouble};
