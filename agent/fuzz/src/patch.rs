//! A segment's patch on the device, over frames that nobody has proven.
//!
//! Claims: reading takes no heap; the base is read within its bounds, no more often than operations are allowed and
//! never more than the segment holds; the same frame makes the same bytes; after any frame the state, once reset, is as new.
//! A frame of our own makes what went in.

use crate::allocations::bounded;
use mainstay_core::bundle::patch::{Base, From, Op, PatchState, Transform, patch, unpatch};
use mainstay_core::limits::PATCH_OPERATIONS_MAX;
use mainstay_core::seam::Result;
use std::cell::RefCell;

thread_local! {
    static STATES: RefCell<[Box<PatchState>; 2]> = RefCell::default();
}

/// What stands at an offset is a function of it; half of it looks like calls.
struct Made {
    bytes: u64,
    reads: usize,
    read: usize,
}

impl Base for Made {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        assert!(at.checked_add(out.len() as u64).is_some_and(|end| end <= self.bytes), "within the base");
        (self.reads, self.read) = (self.reads + 1, self.read + out.len());
        for (n, byte) in out.iter_mut().enumerate() {
            let at = at + n as u64;
            *byte = if at.is_multiple_of(5) { 0xe8 } else { (at >> 3) as u8 & 15 };
        }
        Ok(())
    }
}

/// Bytes 0 and 1: the room; bit 7 of byte 1: the rest is content that gets a frame; byte 2: the base's size; then the frame.
pub fn run(data: &[u8]) {
    let [low, high, size, frame @ ..] = data else { return };
    let room = usize::from(u16::from_le_bytes([*low, high & 0x7f]));
    let mut base = Made { bytes: u64::from(*size) << 10, reads: 0, read: 0 };
    STATES.with_borrow_mut(|[state, other]| match high & 0x80 {
        0 => hostile(frame, room, &mut base, state, other),
        _ => own(frame, *size, state, other),
    });
}

fn hostile(frame: &[u8], room: usize, base: &mut Made, state: &mut PatchState, other: &mut PatchState) {
    let (mut out, mut again) = (vec![0; room], vec![0; room]);
    let at = frame.first().map_or(0, |byte| u64::from(*byte) << 29);
    let made = bounded(0, || {
        state.reset();
        unpatch(frame, at, state, base, &mut out)
    });
    assert!(base.reads <= PATCH_OPERATIONS_MAX, "{} reads", base.reads);
    assert!(base.read <= room, "{} bytes of the base for {room}", base.read);
    other.reset();
    assert_eq!(unpatch(frame, at, other, base, &mut again), made);
    assert_eq!(out, again);
    // Behind a hostile frame in the same piece: anything but harm.
    let _ = unpatch(frame, at, other, base, &mut again);
}

/// Operations of lengths and kinds that the content's own first bytes choose.
fn own(content: &[u8], seed: u8, state: &mut PatchState, other: &mut PatchState) {
    let mut base = Made { bytes: 1 << 36, reads: 0, read: 0 };
    let (mut ops, mut left) = (vec![], content);
    while let [first, second, ..] = *left {
        let length = (usize::from(second) + 1).min(left.len());
        let at = u64::from(first) << (seed % 28);
        let transform = Transform::ALL[usize::from(first) % Transform::ALL.len()];
        let from = From { at, transform, address: u32::from(second) << (seed % 24), anchor: u32::from(seed) };
        let length_u32 = length as u32;
        ops.push(if first % 3 == 0 {
            Op::Extra { length: length_u32 }
        } else {
            Op::Add { length: length_u32, from }
        });
        left = &left[length..];
    }
    if !left.is_empty() {
        ops.push(Op::Extra { length: 1 });
    }
    state.reset();
    other.reset();
    let frame = patch(&ops, None, 0, state, &mut base, content).expect("operations that make the content");
    let mut out = vec![0; content.len()];
    unpatch(&frame, 0, other, &mut base, &mut out).expect("a frame of our own");
    assert_eq!(out, content);
}
