//! Decompression, which `core` itself does not hold (zstd is C).

use super::Result;

/// Unpacks one whole zstd frame (RFC 8878).
pub trait Inflate {
    /// Unpacks `frame` into `out` and says how many bytes came out. A frame that wants more than `out.len()`
    /// bytes is [`Corrupt`](crate::fault::FaultKind::Corrupt), and nothing beyond `out` is ever allocated for it.
    fn inflate(&mut self, frame: &[u8], out: &mut [u8]) -> Result<usize>;
}
