//! Decompression, which `core` itself does not hold (zstd is C).

use super::Result;

/// Unpacks one whole zstd frame (RFC 8878).
pub trait Inflate {
    /// Unpacks `frame` into `out` and says how many bytes came out. `prefix`: what the frame may refer to as if it stood before
    /// its content (a raw content dictionary, RFC 8878, section 5), or nothing. A frame that wants more than `out.len()`
    /// bytes is [`Corrupt`](crate::fault::FaultKind::Corrupt), and nothing beyond `out` is ever allocated for it.
    fn inflate(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<usize>;
}

/// A dictionary of another kind begins with these bytes (RFC 8878, section 5), so a prefix never does: a segment of which the one
/// before begins so has no prefix.
pub const NO_PREFIX: [u8; 4] = 0xec30_a437_u32.to_le_bytes();
