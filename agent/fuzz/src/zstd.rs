//! The decompressor on the device, over frames that nobody has proven: C code.
//!
//! Claims: what comes out fits the buffer, whatever the frame says; nothing beyond the buffer changes; the context can
//! be used again after any frame; a frame of zstd's own unpacks to what went in.

use mainstay::inflate::Zstd;
use mainstay_core::seam::Inflate;
use std::cell::RefCell;

thread_local! {
    static ZSTD: RefCell<Zstd> = RefCell::default();
}

/// Bytes 0 and 1: the room; bit 7 of byte 1: the rest is content that gets a frame; then the frame.
pub fn run(data: &[u8]) {
    let [low, high, frame @ ..] = data else { return };
    let room = usize::from(u16::from_le_bytes([*low, high & 0x7f])) * 8;
    let mut out = vec![0xa5; room + 64];
    ZSTD.with_borrow_mut(|zstd| {
        if let Ok(made) = zstd.inflate(frame, &mut out[..room]) {
            assert!(made <= room);
        }
        assert!(out[room..].iter().all(|byte| *byte == 0xa5), "nothing is written behind the buffer");
        if high & 0x80 != 0 {
            let mut packed = Vec::with_capacity(zstd_safe::compress_bound(frame.len()));
            zstd_safe::compress(&mut packed, frame, 1).expect("zstd packs anything");
            let mut out = vec![0; frame.len()];
            assert_eq!(zstd.inflate(&packed, &mut out), Ok(frame.len()));
            assert_eq!(out, frame);
            assert!(
                frame.is_empty() || zstd.inflate(&packed, &mut out[1..]).is_err(),
                "a frame that wants more"
            );
        }
    });
}
