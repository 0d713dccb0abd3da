//! What a board is, and the parts of the world that differ from board to board.
//!
//! | module | what it gives | the seam of `mainstay-core` |
//! |---|---|---|
//! | [`board`] | the board file, checked whole | |
//! | [`Board::open_boot_control`] | the bootloader's environment, through bootloader-glue | `BootControl` |
//! | [`slots`] | block devices, image files, GPT partitions | `SlotWriter` |
//! | [`watchdog`] | `/dev/watchdog`, a toggled GPIO line, a simulated one | `Watchdog` |
//! | [`gpio`] | status LED, interlock, recovery button, over embedded-hal | |
//! | [`power`] | the reboot | `Power` |
//! | [`clock`] | CLOCK_BOOTTIME and the wall clock | `Clock` |
//! | [`running`] | which group runs | |
//! | [`toml_file`] | strict reading of a TOML file, for the agent's own configuration too | |
//!
//! It decides nothing about updates: `mainstay-core` does. Everything here blocks and answers
//! [`Fault`](mainstay_core::fault::Fault)s that say what was expected and what was found.

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

pub mod board;
mod boot_control;
pub mod clock;
pub mod gpio;
pub mod power;
pub mod running;
pub mod slots;
pub mod toml_file;
pub mod watchdog;

pub use board::{Board, TomlError};
pub use boot_control::force_ro;
pub use clock::SystemClock;
pub use power::BoardPower;
pub use slots::BoardSlots;
