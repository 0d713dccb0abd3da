//! Delta routes: segments made from what the running group holds, against a base, a source and frames that can lie.

mod drift;
mod hostile;
mod pack;

use crate::BOTH;
use crate::fake::{FakeSlots, Seen, install_from};
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::{Op, patch};
use mainstay_core::bundle::{Encoding, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::SEGMENT_BYTES;
use pack::{Delta, LAST, MIXED, Memory, Way, Way::*, mixed, noise, pack};

#[test]
fn whatever_the_window_each_kind_is_made_and_neither_segment_page_nor_full_route_is_fetched() {
    let delta = mixed();
    for window in [0, 1, 2, 3, 100] {
        let (mut source, mut slots) = (delta.source(window), delta.slots());
        let seen = delta.install(&mut source, &mut slots).unwrap();
        delta.assert_made(&slots);
        source.assert_all_fetched();
        // A table and a page; pieces: [1, 2, 3, 4], three of 6, [7, 9], [10, 11].
        assert_eq!(source.fetched.len(), 2 + 6, "window {window}");
        let kinds: Vec<_> = source.fetched.iter().map(|name| &delta.packed.objects[name][..4]).collect();
        assert_eq!(kinds[..2], [b"MSTB", b"MSDP"]);
        assert_eq!(delta.fetched(&source), [true; 6]);
        let total = delta.packed.content.len() as u64;
        assert_eq!(seen.progress[..2], [total, total]);
        assert_eq!((seen.progress[3], seen.progress[4]), (2 * SEGMENT_BYTES as u64, 0), "copied, kept");
        assert_eq!(seen.routes, [Some(Digest::of(&delta.base))]);
        assert!(seen.drift.is_empty() && seen.faults.is_empty(), "{:?}", seen.faults);
    }
}

/// On a far line each takes as long as tens of kilobytes, and a delta route is not much more.
#[test]
fn a_delta_route_takes_three_round_trips_and_what_has_drifted_three_more() {
    let delta = mixed();
    for (spoiled, expected) in [(&[][..], 3), (&[1], 6)] {
        let (mut source, mut slots) = (delta.source(100), delta.slots());
        Delta::spoil(&mut slots, spoiled);
        delta.install(&mut source, &mut slots).unwrap();
        delta.assert_made(&slots);
        // Table, page, pieces; then both tables, both pages, and a segment's pieces.
        assert_eq!(source.round_trips, expected, "{spoiled:?}");
    }
}

#[test]
fn pieces_are_placed_in_the_row_of_their_route_before_they_are_asked_for() {
    let delta = mixed();
    let (mut source, mut slots) = (delta.source(1), delta.slots());
    delta.install(&mut source, &mut slots).unwrap();
    let mut at = 0;
    for name in delta.delta_pieces() {
        let place = source.places[name];
        assert_eq!((place.route, place.at), (delta.packed.artifact.routes[1].table, at));
        at += delta.packed.objects[name].len() as u64;
    }
    assert_eq!(source.places.len(), 6);
}

/// 513 and 1 segments: the second run goes by its own page, whose place in the row follows the first run's pieces.
#[test]
fn the_next_run_is_announced_in_time_and_its_pieces_follow_in_the_row() {
    let mut ways = vec![Zero; 514];
    (ways[0], ways[511], ways[512], ways[513]) = (Patch(true), Frame(2, false), Same, Patch(true));
    let delta = pack(&ways, LAST, &|_| {});
    for window in [1, 3] {
        let (mut source, mut slots) = (delta.source(window), delta.slots());
        delta.install(&mut source, &mut slots).unwrap();
        delta.assert_made(&slots);
        source.assert_all_fetched();
        let mut places: Vec<_> = source.places.iter().map(|(name, place)| (place.at, *name)).collect();
        places.sort_unstable();
        let first = delta.packed.objects[&places[0].1].len() as u64;
        assert_eq!((places.len(), places[0].0, places[1].0), (2, 0, first));
    }
}

#[test]
fn what_stands_in_the_target_is_not_written_again() {
    let delta = mixed();
    let (mut source, mut slots) = (delta.source(2), delta.slots());
    let bytes = delta.packed.content.len();
    slots.groups[1][..bytes].copy_from_slice(&delta.packed.content);
    let seen = delta.install(&mut source, &mut slots).unwrap();
    assert!(slots.writes.is_empty());
    assert_eq!(seen.progress, [bytes as u64, bytes as u64, 0, 0, bytes as u64]);
    assert_eq!(source.fetched.len(), 2, "no piece of which nothing is wanted");
}

/// Every set of segments that stand in the target: what frames teach lasts within a piece, so frames that nobody wants are
/// read for those behind them. 128 installations.
#[test]
fn frames_that_are_not_wanted_are_read_for_what_they_teach() {
    const WAYS: [Way; 7] =
        [Patch(true), Patch(false), Frame(3, false), Patch(false), Same, Patch(true), Patch(false)];
    let delta = pack(&WAYS, SEGMENT_BYTES, &|_| {});
    for present in 0..1u32 << WAYS.len() {
        let (mut source, mut slots) = (delta.source(3), delta.slots());
        for segment in (0..WAYS.len()).filter(|i| present >> i & 1 == 1) {
            let place = segment * SEGMENT_BYTES..(segment + 1) * SEGMENT_BYTES;
            slots.groups[1][place.clone()].copy_from_slice(&delta.packed.content[place]);
        }
        let seen = delta.install(&mut source, &mut slots).unwrap();
        delta.assert_made(&slots);
        source.assert_all_fetched();
        assert!(seen.faults.is_empty() && seen.drift.is_empty(), "{present:07b}: {:?}", seen.faults);
        // After four in a row that are missing, no more are looked for.
        let mut misses = 0;
        let mut wanted = [false; WAYS.len()];
        for i in [0, 1, 2, 3, 5, 6] {
            wanted[i] = misses == 4 || present >> i & 1 == 0;
            misses = if wanted[i] { 4.min(misses + 1) } else { 0 };
        }
        let expected = [wanted[..4].contains(&true), wanted[5..].contains(&true)];
        assert_eq!(delta.fetched(&source), expected, "{present:07b}");
    }
}

/// Goal: after a power cut at each write, the next attempt makes all of it and fetches no piece that was used, but the one
/// in flight. Method: the medium refuses the n-th write, and every one after it.
#[test]
fn after_a_cut_at_any_write_no_piece_is_fetched_twice_but_the_one_in_flight() {
    let delta = mixed();
    for writes in 0..MIXED.len() {
        for window in [1, 3] {
            let (mut source, mut slots) = (delta.source(window), delta.slots());
            slots.writes_left = Some(writes);
            let fault = delta.install(&mut source, &mut slots).err().unwrap();
            assert_eq!(fault.kind, FaultKind::Io);
            let before = source.fetched;
            (source, slots.writes_left) = (delta.source(window), None);
            // The write that broke off left half a segment.
            let seen = delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            let pieces = delta.delta_pieces();
            let twice =
                pieces.iter().filter(|piece| before.contains(piece) && source.fetched.contains(piece));
            let twice: Vec<_> = twice.collect();
            let last = before.iter().rev().find(|name| pieces.contains(name));
            let in_flight: Vec<_> = last.into_iter().collect();
            let raw = &pieces[1..4]; // three pieces that make one segment are in flight together
            let allowed = twice.iter().all(|name| in_flight.contains(name) || raw.contains(name));
            assert!(allowed && twice.len() <= 3, "{writes} writes, window {window}: {twice:?}");
            assert!(seen.drift.is_empty());
        }
    }
}

/// News that cannot wait, or a link that is down, have nothing to do with the route.
#[test]
fn an_interruption_ends_the_installation_and_is_no_reason_for_another_route() {
    let delta = mixed();
    for stops_at in 0..8 {
        let (mut source, mut slots) = (delta.source(2), delta.slots());
        source.stops_at = Some(stops_at);
        let fault = delta.install(&mut source, &mut slots).err().unwrap();
        assert_eq!(fault.kind, FaultKind::Cancelled, "at fetch {stops_at}");
    }
}

/// Bases are read through a window: a patch of many small operations costs few reads.
#[test]
fn many_small_operations_cost_few_reads_of_the_medium() {
    let base = [noise(0), noise(1)].concat();
    let ops: Vec<Op> =
        (0..4096u64).map(|i| Op::Copy { length: 64, at: i * 64 + u64::from(i % 2 == 1) * 1000 }).collect();
    let content: Vec<u8> = ops
        .iter()
        .flat_map(|op| match op {
            Op::Copy { length, at } => base[*at as usize..][..*length as usize].to_vec(),
            _ => unreachable!(),
        })
        .collect();
    let frame = patch(&ops, None, 0, &mut Box::default(), &mut Memory(&base), &content).unwrap();
    let mut run = RunBuilder::new();
    run.push_delta(Digest::of(&content), Encoding::Patch, &frame, true).unwrap();
    let delta = pack(&[Patch(true)], SEGMENT_BYTES, &|_| {});
    let run = run.finish_delta(0);
    let mut source = delta.source(2);
    let table = author::table(&[Digest::of(&run.route_page)]);
    let mut artifact = delta.packed.artifact.clone();
    artifact.digest = Digest::of(&content);
    artifact.routes[1].table = Digest::of(&table);
    let (digest, base_bytes) = (Digest::of(&base), base.len() as u64);
    artifact.routes[1].kind = RouteKind::Delta { base: digest, base_bytes };
    for object in [table, run.route_page].into_iter().chain(run.pieces) {
        source.objects.insert(Digest::of(&object), object);
    }
    let mut slots = FakeSlots::new(base.len());
    slots.groups[0].copy_from_slice(&base);
    let mut seen = Seen::default();
    install_from(&artifact, Some(digest), BOTH, &mut source, &mut slots, &mut seen).unwrap();
    assert!(slots.target()[..SEGMENT_BYTES] == content);
    assert!(slots.base_reads.0 < 64, "{:?}", slots.base_reads);
}
