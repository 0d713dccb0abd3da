//! The decompressor on the device, over frames that nobody has proven: C code.
//!
//! Claims: what comes out fits the buffer, whatever the frame says; nothing beyond the buffer changes; the context can
//! be used again after any frame; a frame of zstd's own unpacks to what went in. All of it with a prefix, too, and what a frame
//! makes of one does not change it.

use mainstay::inflate::Zstd;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::seam::{Inflate, NO_PREFIX};
use std::cell::RefCell;
use zstd_safe::CCtx;

thread_local! {
    static ZSTD: RefCell<Zstd> = RefCell::default();
}

/// Bytes 0 and 1: the room, up to 128 KiB; bit 7 of byte 1: the rest is content that gets a frame; bit 6: with a prefix, of
/// which byte 2 says the length, and which begins as the rest does; then the frame.
pub fn run(data: &[u8]) {
    let [low, high, rest @ ..] = data else { return };
    let room = usize::from(u16::from_le_bytes([*low, high & 0x3f])) * 8;
    let (prefix, frame) = match rest {
        [length, frame @ ..] if high & 0x40 > 0 => {
            (prefix(frame, usize::from(*length) * SEGMENT_BYTES / 256), frame)
        }
        _ => (Vec::new(), rest),
    };
    let before = prefix.clone();
    let mut out = vec![0xa5; room + 64];
    ZSTD.with_borrow_mut(|zstd| {
        if let Ok(made) = zstd.inflate(frame, &prefix, &mut out[..room]) {
            assert!(made <= room);
        }
        assert!(out[room..].iter().all(|byte| *byte == 0xa5), "nothing is written behind the buffer");
        assert!(prefix == before, "nor into the prefix");
        if high & 0x80 != 0 {
            let mut packed = Vec::with_capacity(zstd_safe::compress_bound(frame.len()));
            let made = CCtx::create().compress_using_dict(&mut packed, frame, &prefix, 1);
            made.expect("zstd packs anything");
            let mut out = vec![0; frame.len()];
            assert_eq!(zstd.inflate(&packed, &prefix, &mut out), Ok(frame.len()));
            assert_eq!(out, frame);
            assert!(
                frame.is_empty() || zstd.inflate(&packed, &prefix, &mut out[1..]).is_err(),
                "a frame that wants more"
            );
        }
    });
}

/// `length` bytes of prefix, from `seed` again and again; never a dictionary, which the installer sees to.
fn prefix(seed: &[u8], length: usize) -> Vec<u8> {
    let mut prefix: Vec<u8> = seed.iter().chain(&[7]).copied().cycle().take(length).collect();
    if prefix.starts_with(&NO_PREFIX) {
        prefix[0] ^= 1;
    }
    prefix
}
