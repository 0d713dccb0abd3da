//! Blocks of zstd, opened and closed, and segments in parts, over bytes that nobody has proven.
//!
//! Claims: it takes no heap; nothing is written beyond what is said to be; what a block opens to can be closed, to as many bytes, or
//! to the same; the base is read within its bounds, and no more than parts may; the same parts make the same bytes. A frame of zstd's
//! own opens, and closes to the same bytes.

use crate::allocations::bounded;
use mainstay_core::bundle::patch::{Base, PatchState};
use mainstay_core::bundle::recode::{Room, Tables, unpatch_parts};
use mainstay_core::limits::*;
use mainstay_core::seam::Result;
use mainstayctl::zstd::header_bytes;
use std::cell::RefCell;

struct Dear {
    state: Box<PatchState>,
    tables: [Box<Tables>; 2],
    opened: Vec<u8>,
    made: Vec<u8>,
    out: Vec<u8>,
}

thread_local! {
    static DEAR: RefCell<Dear> = RefCell::new(Dear {
        state: Box::default(),
        tables: [Box::default(), Box::default()],
        opened: vec![0; PART_SOURCES_BYTES_MAX],
        made: vec![0; PART_MADE_BYTES_MAX],
        out: vec![0; SEGMENT_BYTES],
    });
}

/// Byte 0: what is done with the rest.
pub fn run(data: &[u8]) {
    let [what, rest @ ..] = data else { return };
    DEAR.with_borrow_mut(|dear| match what % 4 {
        0 => blocks(rest, dear),
        1 => closed(rest, dear),
        2 => parts(rest, dear),
        _ => own(rest, dear),
    });
}

/// Blocks in a row, each of which may take over from the one before.
fn blocks(mut rest: &[u8], dear: &mut Dear) {
    let Dear { tables: [opening, closing], opened, out, .. } = dear;
    opening.forget();
    closing.forget();
    for _ in 0..4 {
        opened.fill(0xa5);
        let Ok((used, made)) = bounded(0, || opening.open(rest, opened)) else { return };
        assert!(used <= rest.len() && opened[made..].iter().all(|byte| *byte == 0xa5));
        match bounded(0, || closing.close(&opened[..made], out)) {
            // Another encoder may have made it: then it is as long, or what its header says does not fit.
            Ok((read, written)) => assert_eq!((read, written), (made, used)),
            Err(_) => return,
        }
        rest = &rest[used..];
    }
}

fn closed(items: &[u8], dear: &mut Dear) {
    let Dear { tables: [tables, _], out, .. } = dear;
    tables.forget();
    out.fill(0xa5);
    if let Ok((used, made)) = bounded(0, || tables.close(items, out)) {
        assert!(used <= items.len() && out[made..].iter().all(|byte| *byte == 0xa5));
    }
}

/// The bytes themselves, again and again, are the base.
struct Held<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl Base for Held<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64 * 3
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        assert!(at.checked_add(out.len() as u64).is_some_and(|end| end <= self.bytes()), "within the base");
        self.read += out.len();
        let from = self.bytes.iter().cycle().skip(at as usize % self.bytes.len().max(1));
        out.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
        Ok(())
    }
}

/// Bytes 0 and 1: how long the segment is.
fn parts(data: &[u8], dear: &mut Dear) {
    let [low, high, parts @ ..] = data else { return };
    let Dear { state, tables: [tables, _], opened, made, out } = dear;
    let bytes = usize::from(u16::from_le_bytes([*low, *high]));
    let mut made_so = || {
        let mut base = Held { bytes: parts, read: 0 };
        state.reset();
        out.fill(0xa5);
        let mut room = Room { tables, opened, made };
        let done =
            bounded(0, || unpatch_parts(parts, 7 << 18, state, &mut base, &mut room, &mut out[..bytes]));
        assert!(out[bytes..].iter().all(|byte| *byte == 0xa5));
        let most = bytes + PARTS_MAX * PART_SOURCES_MAX * 255 * (PART_MADE_BYTES_MAX + 3);
        assert!(base.read <= most);
        (done.is_ok(), out[..bytes].to_vec())
    };
    assert_eq!(made_so(), made_so());
}

fn own(content: &[u8], dear: &mut Dear) {
    let [level, content @ ..] = content else { return };
    let Dear { tables: [opening, closing], opened, out, .. } = dear;
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    zstd_safe::compress(&mut frame, content, i32::from(level % 20)).expect("zstd packs anything");
    let mut at = header_bytes(&frame);
    opening.forget();
    closing.forget();
    loop {
        let (used, made) = opening.open(&frame[at..], opened).expect("a block of zstd's own");
        let closed = closing.close(&opened[..made], out).expect("what it opened to");
        assert_eq!((closed.0, &out[..closed.1]), (made, &frame[at..at + used]));
        if frame[at] & 1 == 1 {
            return;
        }
        at += used;
    }
}
