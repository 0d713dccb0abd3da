//! Delta routes: segments made from what the running group holds, against a base, a source and frames that can lie.

use crate::fake::{FakeSlots, FakeSource, Kind, Packed, Seen, fake_frame, install_from};
use crate::{BOTH, NOTHING};
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::{Base, From, Op, PatchState, Transform, patch};
use mainstay_core::bundle::recode::{Codec, Part, patch_parts};
use mainstay_core::bundle::{Artifact, Encoding, Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstay_core::seam::Result;
use std::collections::BTreeMap;

/// How a segment comes by the delta route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Zero,
    /// As in the base.
    Same,
    /// As in the base, with some bytes changed. `true`: begins a piece.
    Patch(bool),
    /// The base's last 1000 bytes, the content's first 1000, and of the segment before as much as fits: behind the base's end
    /// stands what has been made so far. In a piece that has begun.
    Again,
    /// New bytes that do not compress: three pieces of its own.
    Raw,
    /// New bytes that do. `true`: begins a piece.
    Frame(u8, bool),
    /// New bytes of which the segment before decides, in a piece that has begun.
    Follow(u8),
    /// In parts: most as in the base, with some bytes changed; the end closed, of items that are what 50,000 bytes of the
    /// base are, as a block that is not compressed, and some new bytes. `true`: begins a piece.
    Parts(bool),
}
use Way::{Again, Follow, Frame, Parts, Patch, Raw, Same, Zero};

/// Of each kind, with three patches in one piece, and patches behind something else in it; the last segment is short.
const MIXED: [Way; 12] = [
    Same,
    Patch(true),
    Patch(false),
    Frame(3, false),
    Patch(false),
    Zero,
    Raw,
    Patch(true),
    Same,
    Patch(false),
    Frame(5, true),
    Patch(false),
];
const LAST: usize = 5000;

/// What the running group holds, and a bundle with a delta route from it.
struct Delta {
    base: Vec<u8>,
    packed: Packed,
}

struct Memory<'a>(&'a [u8]);

impl Base for Memory<'_> {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.0[at as usize..][..out.len()]);
        Ok(())
    }
}

fn noise(seed: u8) -> Vec<u8> {
    Kind::Raw(seed).content(SEGMENT_BYTES)
}

/// What may be done to a run's page and pieces before they are filed.
type Spoil<'a> = &'a dyn Fn(&mut author::Run);

/// Packs `ways`; `spoil` may change each run of the delta route.
fn pack(ways: &[Way], last: usize, spoil: Spoil<'_>) -> Delta {
    let bytes = |i: usize| if i + 1 == ways.len() { last } else { SEGMENT_BYTES };
    let mut base: Vec<u8> = (0..ways.len()).flat_map(|i| noise(i as u8)).collect();
    if ways.iter().any(|way| matches!(way, Parts(_))) {
        // A block of zstd that is not compressed (RFC 8878, section 3.1.1.2).
        base[BLOCK_AT..BLOCK_AT + 3].copy_from_slice(&((BLOCK_BYTES as u32) << 3).to_le_bytes()[..3]);
    }
    let mut objects = BTreeMap::new();
    let mut order = Vec::new();
    let mut file = |bytes: Vec<u8>| {
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        order.push(name);
        name
    };
    let (mut content, mut full, mut delta) = (Vec::new(), Vec::new(), Vec::new());
    for (number, chunk) in ways.chunks(RUN_SEGMENTS_MAX).enumerate() {
        let (mut by_full, mut by_delta) = (RunBuilder::new(), RunBuilder::new());
        let mut state = Box::<PatchState>::default();
        for (i, way) in chunk.iter().enumerate() {
            let i = number * RUN_SEGMENTS_MAX + i;
            let at = i * SEGMENT_BYTES;
            let (segment, ops) = match way {
                Again => again(&base, &content, bytes(i)),
                Parts(_) => (in_parts(&base[at..at + bytes(i)]).0, Vec::new()),
                Follow(byte) => (Kind::Follow(*byte).content_after(&content, bytes(i)), Vec::new()),
                way => made(*way, &base[at..at + bytes(i)], at as u64),
            };
            let digest = Digest::of(&segment);
            let (encoding, encoded) = match way {
                Zero => (Encoding::Zero, Vec::new()),
                Frame(byte, _) => (Encoding::Zstd, fake_frame(*byte, segment.len())),
                Follow(byte) => (Encoding::Prefixed, fake_frame(*byte, segment.len())),
                _ => (Encoding::Raw, segment.clone()),
            };
            by_full.push(digest, encoding, &encoded).unwrap();
            let begins = matches!(way, Patch(true) | Frame(_, true) | Raw | Parts(true));
            if begins {
                state.reset();
            }
            let (encoding, encoded) = match way {
                Same => (Encoding::Copy, Vec::new()),
                Parts(_) => {
                    let before = [&base[..], &content].concat();
                    let (_, items) = in_parts(&base[at..at + segment.len()]);
                    let from = From { at: at as u64, transform: Transform::None, address: 0, anchor: 0 };
                    let sources = [(BLOCK_AT as u64, 1, BLOCK_BYTES as u32 + 3)];
                    let half = segment.len() - CLOSED_BYTES;
                    let (codec, closed) = (Codec::Zstd, CLOSED_BYTES);
                    let opened = &base[BLOCK_AT..BLOCK_AT + BLOCK_BYTES + 3];
                    let ops = [
                        Op::Extra { length: 1 },
                        Op::Copy { length: opened.len() as u32, at: 0 },
                        Op::Extra { length: (items.len() - 1 - opened.len()) as u32 },
                    ];
                    let parts = [
                        Part::Plain { length: half, ops: vec![Op::Add { length: half as u32, from }] },
                        Part::Closed {
                            codec,
                            length: closed,
                            sources: &sources,
                            opened,
                            items: &items,
                            ops: &ops,
                        },
                    ];
                    let frame = patch_parts(&parts, at as u64, &mut state, &mut Memory(&before), &segment);
                    (Encoding::Recoded, frame.unwrap())
                }
                Patch(_) | Again => {
                    let before = [&base[..], &content].concat();
                    let frame = patch(&ops, None, at as u64, &mut state, &mut Memory(&before), &segment);
                    (Encoding::Patch, frame.unwrap())
                }
                _ => (encoding, encoded),
            };
            by_delta.push_delta(digest, encoding, &encoded, begins).unwrap();
            content.extend_from_slice(&segment);
        }
        let first = (number * RUN_SEGMENTS_MAX) as u32;
        full.push(by_full.finish(first));
        let mut run = by_delta.finish_delta(first);
        spoil(&mut run);
        delta.push(run);
    }
    let pages = |page: fn(&author::Run) -> &Vec<u8>, runs: &[author::Run]| {
        author::table(&runs.iter().map(|run| Digest::of(page(run))).collect::<Vec<_>>())
    };
    let segments = file(pages(|run| &run.segment_page, &full));
    let full_table = file(pages(|run| &run.route_page, &full));
    let delta_table = file(pages(|run| &run.route_page, &delta));
    for run in full {
        file(run.segment_page);
        file(run.route_page);
        run.pieces.into_iter().for_each(|piece| _ = file(piece));
    }
    for run in delta {
        file(run.route_page);
        run.pieces.into_iter().for_each(|piece| _ = file(piece));
    }
    let kind = RouteKind::Delta { base: Digest::of(&base), base_bytes: base.len() as u64 };
    let artifact = Artifact {
        class: "rootfs".try_into().unwrap(),
        size: content.len() as u64,
        digest: Digest::of(&content),
        segments,
        routes: [
            Route { kind: RouteKind::Full, table: full_table, bytes: 0 },
            Route { kind, table: delta_table, bytes: 0 },
        ]
        .into_iter()
        .collect(),
    };
    Delta { base, packed: Packed { content, artifact, objects, order } }
}

/// A segment's content, and the operations that make it from the base.
fn made(way: Way, old: &[u8], at: u64) -> (Vec<u8>, Vec<Op>) {
    let mut segment = old.to_vec();
    match way {
        Same => {}
        Zero => segment.fill(0),
        Frame(byte, _) => segment.fill(byte),
        Raw => segment.reverse(),
        Again | Follow(_) | Parts(_) => unreachable!("made from the content"),
        Patch(_) => {
            // Some bytes differ here and there, and some are new at its end.
            (0..segment.len() - 100).step_by(9000).for_each(|i| segment[i] = segment[i].wrapping_add(7));
            let end = segment.len() - 100;
            segment[end..].fill(0xee);
            let from = From { at, transform: Transform::None, address: 0, anchor: 0 };
            return (segment, vec![Op::Add { length: end as u32, from }, Op::Extra { length: 100 }]);
        }
    }
    (segment, Vec::new())
}

fn again(base: &[u8], content: &[u8], bytes: usize) -> (Vec<u8>, Vec<Op>) {
    let before = content.len() - SEGMENT_BYTES;
    let segment = [&base[base.len() - 1000..], &content[..1000], &content[before..before + bytes - 2000]];
    let across = Op::Copy { length: 2000, at: base.len() as u64 - 1000 };
    let last = Op::Copy { length: bytes as u32 - 2000, at: (base.len() + before) as u64 };
    (segment.concat(), vec![across, last])
}

/// Segments of the base that are not what they were, and what is told of drift.
type Case = (&'static [usize], &'static [(u32, u32)]);

const BLOCK_AT: usize = 1000;
const BLOCK_BYTES: usize = 50_000;
/// What is closed of a segment in parts.
const CLOSED_BYTES: usize = 60_000;

/// A segment in parts, of what stood there, and the items of its end: the block (an opened one is as it is), and what is left.
fn in_parts(old: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let half = old.len() - CLOSED_BYTES;
    let mut segment = old[..half].to_vec();
    segment.iter_mut().step_by(7000).for_each(|byte| *byte ^= 9);
    let block =
        [&((BLOCK_BYTES as u32) << 3).to_le_bytes()[..3], &noise(0)[BLOCK_AT + 3..][..BLOCK_BYTES]].concat();
    let (mut items, mut left) = ([&[2], &block[..]].concat(), old.len() - half - block.len());
    segment.extend(block);
    while left > 0 {
        let length = left.min(60_000);
        let bytes: Vec<u8> = (0..length).map(|n| (n % 5) as u8).collect();
        items.push(0);
        items.extend((length as u16).to_le_bytes());
        items.extend(&bytes);
        segment.extend(bytes);
        left -= length;
    }
    (segment, items)
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
            let seen = delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            source.assert_all_fetched();
            assert_eq!(seen.drift, drift, "{spoiled:?}");
            assert!(seen.faults.is_empty(), "{:?}", seen.faults);
        }
    }
}

fn mixed() -> Delta {
    pack(&MIXED, LAST, &|_| {})
}

impl Delta {
    fn source(&self, window: usize) -> FakeSource {
        let mut source = FakeSource::new(&self.packed, window);
        source.anywhere = true;
        source
    }

    /// The base runs; the target holds nothing of use.
    fn slots(&self) -> FakeSlots {
        let mut slots = FakeSlots::new(self.base.len());
        slots.groups[0].copy_from_slice(&self.base);
        slots
    }

    fn install(&self, source: &mut FakeSource, slots: &mut FakeSlots) -> Result<Seen> {
        let (mut seen, holds) = (Seen::default(), Some(Digest::of(&self.base)));
        install_from(&self.packed.artifact, holds, BOTH, source, slots, &mut seen).map(|()| seen)
    }

    #[track_caller]
    fn assert_made(&self, slots: &FakeSlots) {
        assert!(slots.target()[..self.packed.content.len()] == self.packed.content, "another content");
    }

    /// The names of the pieces of the delta route, in order, and whether they were fetched.
    fn fetched(&self, source: &FakeSource) -> Vec<bool> {
        self.delta_pieces().iter().map(|piece| source.fetched.contains(piece)).collect()
    }

    /// A bundle of one run: what stands behind the delta route's page.
    fn delta_pieces(&self) -> &[Digest] {
        let pages = self.packed.order.iter().rposition(|name| self.packed.objects[name].starts_with(b"MSDP"));
        &self.packed.order[pages.unwrap() + 1..]
    }

    fn spoil(slots: &mut FakeSlots, segments: &[usize]) {
        segments.iter().for_each(|segment| slots.groups[0][segment * SEGMENT_BYTES + 2] ^= 1);
    }
}

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
            let seen = delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            source.assert_all_fetched();
            assert_eq!(seen.drift, drift, "{spoiled:?}");
            assert!(seen.faults.is_empty(), "{:?}", seen.faults);
        }
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
            let seen = delta.install(&mut source, &mut slots).unwrap();
            delta.assert_made(&slots);
            source.assert_all_fetched();
            assert_eq!(seen.drift, told, "{segments:?}");
            assert_eq!(seen.routes.len(), 1, "{segments:?}: the delta route goes on");
            assert!(seen.faults.is_empty(), "{:?}", seen.faults);
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
