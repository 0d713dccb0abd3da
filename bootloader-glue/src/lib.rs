//! What a bootloader remembers, read and changed without its tools.
//!
//! ```text
//! codec        uboot/, grub/     bytes   <-> variables     pure; golden files made by the real tools
//! convention   convention/       variables <-> BootState   pure; which names and values mean what
//! store        store/            where the bytes stand     thin; lock, one write, read back
//! control.rs                     the three put together: mainstay_core::seam::BootControl
//! model.rs                       what our boot scripts do with the same bytes, for the simulator and the demo
//! ```
//! Every change of the boot state is one write of the environment, however many variables it touches. What a power
//! cut inside that write leaves behind depends on the format, and stands there: [`uboot`], [`grub`].

#![forbid(unsafe_code)]
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

pub mod control;
pub mod convention;
pub mod format;
pub mod grub;
pub mod model;
pub mod store;
pub mod uboot;
pub mod vars;

pub use control::EnvBootControl;
pub use convention::Convention;
pub use format::{Env, Format, Write};
pub use store::EnvStore;
pub use vars::Vars;

/// What everything here answers.
pub type Result<T> = core::result::Result<T, mainstay_core::fault::Fault>;
