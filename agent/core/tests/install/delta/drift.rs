//! A base that is not what it was, cannot be read, or is not known: what it costs, and what is told.

use super::pack::{Delta, LAST, Way, Way::*, mixed, pack};
use crate::fake::{FakeSlots, FakeSource, Seen, install_from};
use crate::{BOTH, NOTHING};
use mainstay_core::bundle::{Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};

/// Segments of the base that are not what they were, and what is told of drift.
type Case = (&'static [usize], &'static [(u32, u32)]);

/// Installs it from what has drifted: nothing else is wrong, and this is told.
#[track_caller]
fn install_telling(
    drift: &[(u32, u32)],
    delta: &Delta,
    source: &mut FakeSource,
    slots: &mut FakeSlots,
) -> Seen {
    let seen = delta.install(source, slots).unwrap();
    delta.assert_made(slots);
    source.assert_all_fetched();
    assert_eq!(seen.drift, drift);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    seen
}

/// A recoded segment comes out right, teaches those behind it, and is left over where either of its parts has drifted, no other one
/// with it.
#[test]
fn a_segment_in_parts_is_made_and_drifts_like_a_patch() {
    const WAYS: [Way; 5] = [Parts(true), Patch(false), Parts(false), Same, Patch(false)];
    let delta = pack(&WAYS, LAST, &|_| {});
    let cases: [Case; 3] = [(&[], &[]), (&[2], &[(2, 1)]), (&[0], &[(0, 2)])];
    for (spoiled, drift) in cases {
        for window in [1, 100] {
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            for segment in spoiled {
                // Of the first segment, in the block that both recoded ones open; of the third, in its own first part.
                slots.groups[0][segment * SEGMENT_BYTES + 2000] ^= 1;
            }
            install_telling(drift, &delta, &mut source, &mut slots);
        }
    }
}

/// What has drifted takes along the frames that have it as their prefix, one after the other, and no others; the full route makes
/// all of them, in their order.
#[test]
fn a_frame_with_a_prefix_shares_the_fate_of_the_segment_before_it() {
    const WAYS: [Way; 7] = [Patch(true), Follow(1), Follow(2), Same, Follow(3), Zero, Follow(4)];
    let delta = pack(&WAYS, LAST, &|_| {});
    let cases: [Case; 4] = [(&[], &[]), (&[0], &[(0, 3)]), (&[3], &[(3, 2)]), (&[5, 6], &[])];
    for (spoiled, drift) in cases {
        for window in [1, 100] {
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            Delta::spoil(&mut slots, spoiled);
            install_telling(drift, &delta, &mut source, &mut slots);
        }
    }
}

#[test]
fn a_segment_that_has_drifted_costs_itself_alone_and_is_told() {
    let delta = mixed();
    type Case = (&'static [usize], &'static [(u32, u32)], usize);
    #[rustfmt::skip]
    let cases: [Case; 6] = [
        // drifted         told          pieces of the full route: raw segments take three, frames share one
        (&[0],             &[(0, 1)],    3),    // a copy
        (&[2],             &[(2, 1)],    3),    // a patch, with one behind it in its piece
        (&[1, 8],          &[(1, 2)],    6),
        (&[0, 1, 2, 4, 7], &[(0, 5)],    15),
        (&[5, 6],          &[],          0),    // nothing is made from these
        (&[11],            &[(11, 1)],   1),    // the end, 5000 bytes
    ];
    for (segments, told, pieces) in cases {
        for window in [0, 2] {
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            Delta::spoil(&mut slots, segments);
            let seen = install_telling(told, &delta, &mut source, &mut slots);
            assert_eq!(seen.routes.len(), 1, "{segments:?}: the delta route goes on");
            // Two tables and two pages beside the pieces, where any is wanted.
            let more = if pieces > 0 { pieces + 4 } else { 0 };
            assert_eq!(source.fetched.len(), 8 + more, "{segments:?}");
            let total = delta.packed.content.len() as u64;
            assert_eq!(seen.progress[..2], [total, total]);
        }
    }
}

#[test]
fn a_base_that_cannot_be_read_has_drifted_where_it_cannot_be_read() {
    let delta = mixed();
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    slots.groups[0].truncate(8 * SEGMENT_BYTES); // its second half is gone
    // The slot's size is what it was: the medium gives less.
    slots.room = Some(delta.base.len() as u64);
    let seen = delta.install(&mut source, &mut slots).unwrap();
    delta.assert_made(&slots);
    assert_eq!(seen.drift, [(8, 3)], "a copy, and two patches");
}

#[test]
fn a_base_of_which_most_has_drifted_is_given_up_for_the_full_route() {
    let mut ways = vec![Same; RUN_SEGMENTS_MAX];
    ways.extend([Same, Same, Patch(true)]);
    let delta = pack(&ways, LAST, &|_| {});
    for (drifted, given_up) in [(256, false), (257, true)] {
        let (mut source, mut slots) = (delta.source(2), delta.slots());
        Delta::spoil(&mut slots, &(0..drifted).collect::<Vec<_>>());
        let seen = delta.install(&mut source, &mut slots).unwrap();
        delta.assert_made(&slots);
        source.assert_all_fetched();
        assert_eq!(seen.drift, [(0, drifted as u32)]);
        let base = Some(Digest::of(&delta.base));
        assert_eq!(seen.routes, if given_up { vec![base, None] } else { vec![base] });
        let words = "taking a delta route: rootfs: the full route from here on: 257 of 512 segments";
        assert_eq!(seen.faults.iter().any(|said| said.starts_with(words)), given_up, "{:?}", seen.faults);
    }
}

#[test]
fn a_base_that_nobody_knows_means_the_full_route_and_what_stands_at_the_same_place_is_copied() {
    let delta = mixed();
    let artifact = &delta.packed.artifact;
    #[rustfmt::skip]
    let cases = [
        // what is known              drifted   reads forward only   the route taken
        (Some(Digest::of(&delta.base)), false,  false,               true),
        (Some(Digest([7; 32])),         false,  false,               false),  // the record says that it is another
        (None,                          false,  false,               true),   // by its digest
        (None,                          true,   false,               false),
        (Some(Digest::of(&delta.base)), false,  true,                false),
        (None,                          false,  true,                false),
    ];
    for (holds, drifted, forward, by_delta) in cases {
        let (mut source, mut slots) = (delta.source(2), delta.slots());
        source.anywhere = !forward;
        if drifted {
            Delta::spoil(&mut slots, &[3]);
        }
        let mut seen = Seen::default();
        install_from(artifact, holds, BOTH, &mut source, &mut slots, &mut seen).unwrap();
        delta.assert_made(&slots);
        assert_eq!(seen.routes, [by_delta.then(|| Digest::of(&delta.base))]);
        if by_delta {
            assert_eq!(seen.holds, Some(Digest::of(&delta.base)), "is known from then on");
        } else {
            assert_eq!(seen.holds, holds);
            let copied = if forward { 0 } else { 2 * SEGMENT_BYTES as u64 };
            assert_eq!(seen.progress[3], copied, "copied");
        }
    }
}

/// A gateway as the factory wrote it: the record knows nothing. The shorter base is looked for on the way to the longer.
#[test]
fn a_base_is_recognised_among_several_in_one_pass_that_ends_where_it_is_found() {
    let delta = mixed();
    let whole = delta.base.len() as u64;
    let route = |base: Digest, base_bytes| Route {
        kind: RouteKind::Delta { base, base_bytes },
        table: delta.packed.artifact.routes[1].table,
        bytes: 0,
    };
    let mut artifact = delta.packed.artifact.clone();
    artifact.routes.clear();
    artifact.routes.extend([
        delta.packed.artifact.routes[0].clone(),
        route(Digest([1; 32]), whole - 10),
        route(Digest::of(&delta.base), whole),
        route(Digest([2; 32]), whole),
        route(Digest([3; 32]), 100),
        route(Digest([4; 32]), whole + 1), // beyond the slot
    ]);
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let mut seen = Seen::default();
    install_from(&artifact, None, NOTHING, &mut source, &mut slots, &mut seen).unwrap();
    delta.assert_made(&slots);
    assert_eq!(seen.routes, [Some(Digest::of(&delta.base))]);
    let reads = slots.base_reads;
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    install_from(&artifact, seen.holds, NOTHING, &mut source, &mut slots, &mut seen).unwrap();
    assert_eq!(reads.1 - slots.base_reads.1, whole as usize, "hashed once, and not when it is known");
}
