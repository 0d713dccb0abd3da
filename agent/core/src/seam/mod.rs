//! The seams: all that touches the world stands behind one of these. They block, they may fail with a
//! [`Fault`](crate::fault::Fault), and they are object-safe. The simulator implements each of them.

mod boot_control;
mod clock;
mod erase;
mod gate;
mod inflate;
mod memory;
mod observer;
mod piece_source;
mod power;
mod slot_writer;
mod state_store;
mod trial_runner;
mod watchdog;

pub use boot_control::BootControl;
pub use clock::{Clock, Now};
pub use erase::Erase;
pub use gate::{Gate, Permission};
pub use inflate::{Inflate, NO_PREFIX};
pub use memory::{Entry, Memory};
pub use observer::{Note, Observer};
pub use piece_source::{PieceSource, Place};
pub use power::Power;
pub use slot_writer::{SlotWriter, in_parts};
pub use state_store::{StateFile, StateStore};
pub use trial_runner::{TrialRunner, Verdict};
pub use watchdog::Watchdog;

/// What every seam answers.
pub type Result<T> = core::result::Result<T, crate::fault::Fault>;
