//! The U-Boot environment: pure codec of one copy, and the rule by which of two copies one is in force.
//!
//! Sources: U-Boot env/common.c, include/env_internal.h, tools/env/fw_env.c; libubootenv src/uboot_env.c (read for
//! the format and compared by running them; see tests/real_tools.rs).
//!
//! ```text
//! single      0..4  crc32 of 4..    4..    data
//! redundant   0..4  crc32 of 5..    4      flags    5..   data
//!
//! crc32   zlib's, over all that follows (and follows the flags), padding included; the board's own byte order,
//!         which on a gateway is the byte order of the Linux that runs there
//! data    name=value NUL name=value NUL … NUL, then zeros up to the size
//! ```
//!
//! # What a power cut leaves behind
//! Redundant: a write goes to the copy that is **not** in force. Cut anywhere inside, that copy has a bad CRC or
//! is still what it was, and the copy in force stays in force: the old variables or the new ones, never a mixture.
//! Assumed of the medium: the flags byte, which the CRC does not cover, is the old one or the new one.
//! A copy that a cut has left damaged is wiped before it is written again; why stands at `Env::writes`.
//!
//! Single: the one copy is overwritten where it stands. Cut inside, its CRC is bad; U-Boot then starts with its
//! compiled-in default environment and **every** saved variable is lost: boot order, MAC addresses, all of it. That
//! is the price of a single environment, whoever writes it. `doctor` says so; make it redundant.

mod copy;
mod pair;

pub use copy::{Copy, decode, encode, find_size};
pub(crate) use pair::OBSOLETE;
pub use pair::{InForce, Scheme, in_force};

/// Smallest environment: 128 bytes hold a header and our five variables (5 + 5 * 15 bytes) and little else.
pub const ENV_BYTES_MIN: usize = 128;
/// Largest environment: 1 MiB; what boards use is 8 KiB to 256 KiB (U-Boot's qemu_arm64: 256 KiB).
pub const ENV_BYTES_MAX: usize = 1 << 20;
