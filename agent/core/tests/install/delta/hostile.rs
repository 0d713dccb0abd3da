//! Delta routes that lie, reach beyond what there is, or list a piece twice.

use super::pack::{LAST, MIXED, Memory, Way::*, mixed, pack};
use crate::BOTH;
use crate::fake::{Seen, install_from};
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::{Op, patch};
use mainstay_core::bundle::{Encoding, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::SEGMENT_BYTES;

/// A delta route that is broken or hostile is named, and what it would have made comes by the full route. No byte is written
/// that is not proven: the fake slots take nothing else, and the content is right in the end.
#[test]
fn a_delta_route_that_lies_is_named_and_does_not_stop_the_update() {
    fn frame_in(run: &mut author::Run, piece: usize, at: usize, bytes: &[u8]) {
        run.pieces[piece][at..at + bytes.len()].copy_from_slice(bytes);
        let pages = run.route_page.len() - (run.pieces.len() - piece) * 36;
        run.route_page[pages..pages + 32].copy_from_slice(&Digest::of(&run.pieces[piece]).0);
    }
    type Case = (fn(&mut author::Run), &'static str, bool);
    #[rustfmt::skip]
    let cases: [Case; 8] = [
        // what is done to it                                        is named                                        given up
        (|run| run.route_page[8] ^= 1,                               "delta page: expected segments 0+12, found 1+12", true),
        (|run| run.route_page[24] = 9,                               "unknown encoding 9",                           true),
        (|run| run.route_page[20] = 99,                              "expected at most 12 spans, found 99",          true),
        (|run| { run.route_page.pop(); },                            "delta page: expected 6 pieces, found",         true),
        (|run| frame_in(run, 0, 0, &[0xff; 16]),                     "rootfs: segment at 262144: patch at 262144: ", false),
        (|run| frame_in(run, 4, 0, &[0x55; 16]),                     "rootfs: segment at 1835008: patch at",         false),
        (|run| { let page = &mut run.route_page; let n = page.len(); page[n - 36] ^= 1; },
                                                                     "no object",                                    true),
        (|run| frame_in(run, 5, 4, &u32::MAX.to_le_bytes()),         "wants 4294967295 bytes, there is room",        false),
    ];
    for (spoil, words, given_up) in cases {
        for window in [0, 1, 3] {
            let delta = pack(&MIXED, LAST, &spoil);
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            let seen = delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            source.assert_all_fetched();
            let [said] = &seen.faults[..] else { panic!("{words}: {:?}", seen.faults) };
            assert!(said.starts_with("taking a delta route: ") && said.contains(words), "{words}: {said}");
            let by_full = seen.routes.contains(&None) || source.fetched.len() > 8;
            assert!(by_full, "{words}");
            let pages_refused = seen.routes.contains(&None);
            assert!(given_up || !pages_refused, "{words}: only some segments are made otherwise");
        }
    }
}

#[test]
fn a_base_that_is_larger_than_the_slot_is_named_and_the_full_route_taken() {
    let delta = mixed();
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    slots.groups[0].truncate(delta.base.len() - 1);
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    let words = "rootfs: a delta route from a base of 3145728 bytes, the running group's slot holds 3145727";
    assert_eq!(seen.faults, [format!("taking a delta route: {words}")]);
    assert_eq!(seen.routes, [None]);
}

/// The page says "copy" for a place that the base does not reach.
#[test]
fn a_copy_from_beyond_the_base_is_named() {
    let mut delta = mixed();
    let RouteKind::Delta { base_bytes, .. } = &mut delta.packed.artifact.routes[1].kind else { panic!() };
    *base_bytes = SEGMENT_BYTES as u64 * 8;
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    let words = "delta page: segment 8: a copy up to byte 2359296 of a base of 2097152 bytes";
    assert!(seen.faults[0].contains(words), "{:?}", seen.faults);
    // Patches that read beyond it are named by the codec.
    let delta = pack(&[Patch(true), Patch(true)], SEGMENT_BYTES, &|_| {});
    let mut artifact = delta.packed.artifact.clone();
    let RouteKind::Delta { base_bytes, .. } = &mut artifact.routes[1].kind else { panic!() };
    *base_bytes = 5;
    let (mut source, mut slots, mut seen) = (delta.source(2), delta.slots(), Seen::default());
    let holds = Some(Digest::of(&delta.base));
    install_from(&artifact, holds, BOTH, &mut source, &mut slots, &mut seen).unwrap();
    delta.assert_made(&slots);
    assert!(seen.faults[0].contains("expected to read within a base of 5 bytes"), "{:?}", seen.faults);
}

/// Also where what is repeated has drifted, so that it does not stand there yet: both come by the full route.
#[test]
fn a_patch_reaches_what_has_been_made_so_far_and_not_what_is_to_come() {
    let delta = pack(&[Patch(true), Again, Same, Again, Again], LAST, &|_| {});
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert_eq!(delta.fetched(&source), [true]);

    let (mut source, mut slots) = (delta.source(2), delta.slots());
    slots.groups[0][100] ^= 1; // in what the first patch reads
    delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);

    // A segment that would repeat what follows it.
    let future = Op::Copy { length: 1000, at: delta.base.len() as u64 };
    let before = [&delta.base[..], &delta.packed.content].concat();
    let frame =
        patch(&[future], None, 0, &mut Box::default(), &mut Memory(&before), &delta.packed.content[..1000])
            .unwrap();
    let mut lying = RunBuilder::new();
    lying.push_delta(Digest::of(&[0; 1000]), Encoding::Patch, &frame, true).unwrap();
    let lying = lying.finish_delta(0);
    let mut delta = pack(&[Patch(true)], 1000, &|run| {
        run.route_page = lying.route_page.clone();
        run.pieces = lying.pieces.clone();
    });
    delta.packed.artifact.size = 1000;
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    assert!(seen.faults[0].contains("expected to read within a base of 262144 bytes"), "{:?}", seen.faults);
}

/// Else its place in the source's window would never be free again. It is here when it is wanted the second time.
#[test]
fn a_piece_that_is_wanted_twice_in_a_row_is_fetched_once_and_not_left_announced() {
    let frames = [Frame(3, true), Frame(5, false)];
    // The delta page's digest of the first is wrong: the full route makes it, of the same piece.
    let shared = pack(&frames, LAST, &|run| run.route_page[24 + 3 + 2 * 3] ^= 1);
    // 256 KiB of one byte as they are: the first two of three pieces are alike.
    let alike = pack(&[Frame(7, true)], SEGMENT_BYTES, &|run| {
        let mut raw = RunBuilder::new();
        raw.push_delta(run.digests[0], Encoding::Raw, &[7; SEGMENT_BYTES], true).unwrap();
        *run = raw.finish_delta(0);
    });
    for window in [1, 2, 3] {
        for (delta, objects) in [(&shared, 2 + 1 + 4), (&alike, 2 + 2)] {
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            source.assert_all_fetched();
            assert_eq!(source.fetched.len(), objects, "window {window}");
        }
    }
}

/// The bytes behind a shorter piece in its buffer are another's.
#[test]
fn a_piece_that_is_listed_again_with_another_length_is_refused() {
    let delta = pack(&[Frame(7, true)], SEGMENT_BYTES, &|run| {
        let mut raw = RunBuilder::new();
        raw.push_delta(run.digests[0], Encoding::Raw, &[7; SEGMENT_BYTES], true).unwrap();
        *run = raw.finish_delta(0);
        // The third is said to be the first, as far as it goes.
        let names = run.route_page.len() - 3 * 36;
        run.route_page.copy_within(names..names + 32, names + 2 * 36);
    });
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    source.assert_all_fetched();
    let words = "the index says 87380 bytes, it has 87382";
    assert!(seen.faults.iter().any(|said| said.contains(words)), "{:?}", seen.faults);
}
