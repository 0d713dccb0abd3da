//! zstd (RFC 8878), by the reference implementation: four times faster than the pure-Rust one, for 102 KB of binary.

use mainstay_core::fault;
use mainstay_core::seam::{Inflate, Result};
use zstd_safe::DCtx;

/// One decompression context, used again for every segment: about 160 KiB, made once.
pub struct Zstd(DCtx<'static>);

impl Default for Zstd {
    fn default() -> Self {
        Zstd(DCtx::create())
    }
}

impl Inflate for Zstd {
    /// One frame in one call into a buffer of the segment's size: zstd needs no window of its own for that, and a
    /// frame that claims more stops at the buffer's end.
    fn inflate(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<usize> {
        let room = out.len();
        self.0.decompress_using_dict(out, frame, prefix).map_err(|code| {
            let why = zstd_safe::get_error_name(code);
            fault!(Corrupt, "zstd: a frame of {} bytes for {room} bytes of content: {why}", frame.len())
        })
    }
}
