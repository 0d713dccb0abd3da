//! Frames that nobody has proven: each lie is refused by name, and whatever a frame says, it costs bounded reads.

use crate::common::*;
use mainstay_core::bundle::patch::{Base, From, Map, Op, PatchState, Transform, patch, patch_with, unpatch};
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::*;
use mainstay_core::seam::Result as Outcome;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn a_frame() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (base, content) = (noise(20, 3000), noise(21, 2000));
    let map = map(0, &[(0, 16), (1024, 32), (3000, 0)]);
    let ops = [add_as(Transform::Calls, 0, 1000), extra(500), add_as(Transform::Arm64, 2000, 500)];
    let frame = patch(&ops, Some(&map), 0, &mut state(), &mut Memory::of(&base), &content).unwrap();
    (base, content, frame)
}

/// Reads it into 2,000 bytes, and asserts what holds of any frame.
fn assert_harmless(frame: &[u8], base: &[u8]) -> Result<Vec<u8>, String> {
    let (mut memory, mut out) = (Memory::of(base), vec![0xa5; 2000]);
    let made = unpatch(frame, 0, &mut state(), &mut memory, &mut out);
    assert!(memory.reads <= PATCH_OPERATIONS_MAX && memory.read <= 2000, "{} reads", memory.reads);
    made.map(|()| out).map_err(|fault| fault.what.to_string())
}

#[test]
fn frame_cut_short_is_refused_by_name() {
    let (base, content, frame) = a_frame();
    assert_eq!(assert_harmless(&frame, &base), Ok(content));
    // Up to four bytes are looked at before they matter, and zeros may stand for them: the digest refuses those.
    for cut in (0..frame.len() - 4).rev().step_by(11) {
        if let Err(what) = assert_harmless(&frame[..cut], &base) {
            let named = ["cut short", "expected", "unknown transform", "do not ascend"];
            assert!(named.iter().any(|name| what.contains(name)), "{cut}: {what}");
        } else {
            panic!("{cut} of {} bytes made a segment", frame.len());
        }
    }
}

#[test]
fn bytes_behind_a_frame_are_refused_by_name() {
    let (base, _, frame) = a_frame();
    let what = assert_harmless(&[&frame[..], &[0; 5]].concat(), &base).unwrap_err();
    assert!(what.contains("more"), "{what}");
}

#[test]
fn frame_for_a_longer_base_is_refused_by_name_before_a_read() {
    let (base, content) = (noise(22, 3000), noise(23, 100));
    let frame = written(&[copy(2900, 100)], &base, &base[2900..]);
    let (mut shorter, mut out) = (Memory::of(&base[..2999]), vec![0; 100]);
    let fault = unpatch(&frame, 0, &mut state(), &mut shorter, &mut out).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Corrupt);
    assert_eq!(fault.what, "patch at 0: expected to read within a base of 2999 bytes, found 100 at 2900");
    assert_eq!(shorter.reads, 0);
    let frame = written(&[add(2900, 100)], &base, &content);
    assert!(read(&frame, &base[..2999], 100).is_err());
}

#[test]
fn operation_longer_than_its_segment_is_refused_by_name() {
    let base = noise(24, 3000);
    let frame = written(&[copy(0, 3000)], &base, &base);
    let what = assert_harmless(&frame, &base).unwrap_err();
    assert_eq!(what, "patch at 0: expected an operation of 1 to 2000 bytes, found 3000");
}

/// Eight bytes each on average is what the packer may ask for: a frame of single bytes stops at the bound.
#[test]
fn operations_beyond_their_bound_are_refused_by_name() {
    let (base, mut writes, mut frame_state) = (vec![0; 16], state(), state());
    let ops: Vec<Op> = (0..PATCH_OPERATIONS_MAX).map(|_| copy(0, 1)).collect();
    let frame = patch(&ops, None, 0, &mut writes, &mut Memory::of(&base), &vec![0; ops.len()]).unwrap();
    let (mut memory, mut out) = (Memory::of(&base), vec![0; 2 * PATCH_OPERATIONS_MAX]);
    let what = unpatch(&frame, 0, &mut frame_state, &mut memory, &mut out).unwrap_err().what;
    assert!(what.contains("at most 32768 operations") || what.contains("cut short"), "{what}");
    assert_eq!(memory.reads, PATCH_OPERATIONS_MAX);
}

/// The state is all the memory that a reader needs beside the frame and the segment.
#[test]
fn state_stays_within_164_kib() {
    assert!(size_of::<PatchState>() <= 164 * 1024, "{}", size_of::<PatchState>());
}

/// A base of 2^53 bytes, each of which is the lowest byte of its offset.
struct Endless;

impl Base for Endless {
    fn bytes(&self) -> u64 {
        1 << 53
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Outcome<()> {
        out.iter_mut().zip(at..).for_each(|(byte, at)| *byte = at as u8);
        Ok(())
    }
}

fn read_in(frame: &[u8], content: &[u8]) -> Duration {
    let (mut reads, mut out) = (state(), vec![0; content.len()]);
    let begun = Instant::now();
    unpatch(frame, 0, &mut reads, &mut Endless, &mut out).unwrap();
    let took = begun.elapsed();
    assert!(out == content);
    took
}

/// The worst frame that we know to make: as many maps as there may be, each full and with shifts that lie as far apart as can be; for
/// the rest operations of eight bytes that jump, change their transform, address and anchor each time, and of which each byte
/// differs. It is longer than any that a route can hold, where an encoding is shorter than its segment, and takes three times what a
/// segment of new bytes takes.
#[test]
fn worst_frame_costs_no_more_than_some_segments_of_new_bytes() {
    let far = |n: usize| if n.is_multiple_of(2) { i32::MAX - n as i32 } else { i32::MIN + n as i32 };
    let entries: Vec<(u32, i32)> =
        (0..PATCH_MAP_ENTRIES_MAX).map(|n| ((n as u32) << 20 | 0xf_ffff, far(n))).collect();
    let full = map(1 << 52, &entries);
    // Seven bits of chance in each byte: new bytes that are modelled, not stored.
    let content: Vec<u8> = noise(28, SEGMENT_BYTES).iter().map(|byte| byte & 127).collect();
    let count = PATCH_OPERATIONS_MAX - PATCH_MAPS_MAX;
    let mut ops: Vec<Op> = (0..count as u32)
        .map(|n| {
            let transform = Transform::ALL[3 + n as usize % 5];
            let (address, anchor) = (n.wrapping_mul(0x9e37_79b9), n.wrapping_mul(0x85eb_ca6b));
            let at = u64::from(n % 2) << 52 | u64::from(n.wrapping_mul(0xc2b2_ae35)) << 16;
            Op::Add { length: 8, from: From { at, transform, address, anchor } }
        })
        .collect();
    let left = SEGMENT_BYTES - 8 * count;
    ops.truncate(count - 1);
    ops.push(add((1 << 53) - 1024, 8 + left as u32));
    let maps: Vec<(usize, &Map)> = (0..PATCH_MAPS_MAX).map(|n| (n * 100, &*full)).collect();
    let worst = patch_with(&ops, &maps, 0, &mut state(), &mut Endless, &content).unwrap();
    let new = patch(&[extra(SEGMENT_BYTES as u32)], None, 0, &mut state(), &mut Endless, &content).unwrap();
    let (worst_took, new_took) = (read_in(&worst, &content), read_in(&new, &content));
    let ratio = worst_took.as_secs_f64() / new_took.as_secs_f64();
    println!("worst frame: {} bytes in {worst_took:?}; new bytes in {new_took:?}", worst.len());
    assert!(ratio < 8.0, "{ratio} times the cost of new bytes");
}

/// Where the numbers of a frame wrap around, nothing overflows: addresses and offsets at both ends of their types.
#[test]
fn numbers_at_the_ends_of_their_types_do_no_harm() {
    let base = noise(25, 64);
    let map = map(u64::MAX, &[(0, i32::MIN), (1, i32::MAX), (u32::MAX, i32::MIN)]);
    for transform in Transform::ALL {
        for (address, anchor) in [(0, u32::MAX), (u32::MAX, 0), (u32::MAX - 3, 1 << 31), (1 << 31, 7)] {
            let ops = [Op::Add { length: 64, from: From { at: 0, transform, address, anchor } }];
            for at in [0, 1 << 36, u64::MAX - 3] {
                let content = noise(26, 64);
                let frame = patch(&ops, Some(&map), at, &mut state(), &mut Memory::of(&base), &content);
                let frame = frame.unwrap();
                let mut out = vec![0; 64];
                unpatch(&frame, at, &mut state(), &mut Memory::of(&base), &mut out).unwrap();
                assert_eq!(out, content);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flipped_bits_make_an_error_or_other_bytes(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4)) {
        let (base, _, mut frame) = a_frame();
        for (at, bit) in flips {
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
        }
        let _ = assert_harmless(&frame, &base);
    }

    #[test]
    fn random_bytes_make_an_error_or_other_bytes(frame in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = assert_harmless(&frame, &noise(27, 3000));
    }
}
