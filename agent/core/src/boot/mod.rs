//! What the bootloader will do: the groups, and which of them it boots next.

mod state;

pub use state::{BootState, Group, GroupState};
