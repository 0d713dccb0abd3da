//! The boot laboratory's machines: real bootloaders, real kernels and real watchdogs, emulated by QEMU.
//!
//! * [`provision`] finds or installs what is needed: QEMU, kernels, bootloaders
//! * [`machine`] one QEMU: its power, its serial console, its QMP events, in one order
//! * [`disk`] disk images made and read back without root and without loop devices
//! * [`guest`] small root file systems around the static device binary, and images that fail in a known way
//! * [`board`] the emulated boards: which machine, which bootloader, where its environment stands
//! * [`run`] the host's tools
//!
//! Nothing here knows scenarios, brokers or bundles: that is `mainstay-hil`, which builds on this.

pub mod board;
pub mod disk;
pub mod guest;
pub mod machine;
pub mod provision;
pub mod run;
mod trouble;

pub use trouble::{Doing, Result, Trouble};
