//! Bundle files: packed, signed, verified and looked into. The bytes are drawn in `mainstay_core::bundle`.
//!
//! A bundle that nobody has signed is not a bundle, so it has another first line: [`UNSIGNED_MAGIC`]. The rest is
//! the same, but where the envelope stands there stands the bare body of the manifest. Devices refuse it at its
//! first bytes, and [`sign`](sign::sign) makes it a bundle.

pub mod base;
pub mod delta_route;
pub mod encode;
pub mod inspect;
pub mod pack;
pub mod packed;
pub mod reader;
pub mod sign;
pub mod walk;
pub mod writer;

pub use reader::{BundleReader, Head};
pub use walk::{Depth, Figures, Seen, walk, walk_content};

/// The first bytes of a bundle file that is not signed yet.
pub const UNSIGNED_MAGIC: [u8; 16] = *b"MAINSTAY-UNSIGN1";
/// What stands behind the name of a bundle that is not signed yet.
pub const UNSIGNED_SUFFIX: &str = ".unsigned";
