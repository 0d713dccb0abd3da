//! Blocks of zstd and deflate, opened and closed, and segments in parts, over bytes that nobody has proven.
//!
//! Claims: it takes no heap; nothing is written beyond what is said to be; what a block opens to can be closed, to as many bytes, or
//! to the same; the base is read within its bounds, and no more than parts may; the same parts make the same bytes. A frame of zstd's
//! own opens, and closes to the same bytes, and so does a stream of deflate.

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
    DEAR.with_borrow_mut(|dear| match what % 7 {
        0 => blocks(rest, dear),
        1 => closed(rest, dear),
        2 => parts(rest, dear),
        3 => own(rest, dear),
        4 => deflate(rest, dear),
        5 => deflate_closed(rest, dear),
        _ => own_deflate(rest, dear),
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

/// Byte 0: the bit at which a block begins.
fn deflate(data: &[u8], dear: &mut Dear) {
    let [bit, block @ ..] = data else { return };
    let Dear { tables: [opening, closing], opened, out, .. } = dear;
    let bit = bit % 8;
    let Ok((bits, made)) = bounded(0, || opening.open_deflate(block, bit.into(), opened)) else { return };
    let end = usize::from(bit) + bits;
    assert!(end <= 8 * block.len());
    // Room that is left over is worked in; there need not be any.
    let mut exactly = vec![0; made];
    assert_eq!(opening.open_deflate(block, bit.into(), &mut exactly), Ok((bits, made)));
    assert_eq!(exactly, opened[..made]);
    out.fill(0xa5);
    match bounded(0, || closing.close_deflate(&opened[..made], bit.into(), out)) {
        Ok((read, written)) => {
            assert!(read == made && out[written.div_ceil(8)..].iter().all(|byte| *byte == 0xa5));
            // Another packer may have written a length of 258 in another way.
            let again = opening.open_deflate(out, bit.into(), &mut vec![0; made]);
            assert_eq!(again, Ok((written - usize::from(bit), made)));
        }
        Err(_) => assert!(opened.contains(&0xff), "only a word that its code does not have is not closed"),
    }
}

fn deflate_closed(data: &[u8], dear: &mut Dear) {
    let [bit, items @ ..] = data else { return };
    let Dear { tables: [tables, _], out, .. } = dear;
    let bit = u32::from(bit % 8);
    out.fill(0xa5);
    if let Ok((used, end)) = bounded(0, || tables.close_deflate(items, bit, out)) {
        assert!(used <= items.len() && out[end.div_ceil(8)..].iter().all(|byte| *byte == 0xa5));
        assert_eq!(out[0] & ((1 << bit) - 1), 0xa5 & ((1 << bit) - 1), "what stands before it stays");
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

fn own_deflate(content: &[u8], dear: &mut Dear) {
    let [level, content @ ..] = content else { return };
    let Dear { tables: [opening, closing], opened, out, .. } = dear;
    let mut packs =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new((level % 10).into()));
    std::io::Write::write_all(&mut packs, content).expect("deflate packs anything");
    let stream = packs.finish().expect("deflate packs anything");
    let mut at = 0;
    loop {
        let (from, bit) = (at / 8, at % 8);
        let head = u16::from_le_bytes([stream[from], stream.get(from + 1).copied().unwrap_or(0)]) >> bit;
        if head >> 1 & 3 == 0 {
            return; // stored
        }
        let (bits, made) = opening.open_deflate(&stream[from..], bit, opened).expect("a block of its own");
        out[0] = stream[from];
        let (used, end) = closing.close_deflate(&opened[..made], bit as u32, out).expect("what it opened to");
        assert_eq!((used, end), (made, bit + bits));
        assert_eq!(out[..end / 8], stream[from..from + end / 8]);
        if head & 1 == 1 {
            return;
        }
        at += bits;
    }
}
