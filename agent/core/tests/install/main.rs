//! The installer, claim by claim, against a source and slots that can lie (`fake.rs`).

mod delta;
mod fake;
mod index;

use fake::Kind::{Dictionary, Follow, Frame, Raw, Zero};
use fake::{FakeSlots, FakeSource, Kind, Packed, Run, fake_frame, install, pack};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::{OBJECT_BYTES_MAX, SEGMENT_BYTES};
use mainstay_core::update::Reuse;

const NOTHING: Reuse = Reuse { target: false, running: false };
const TARGET: Reuse = Reuse { target: true, running: false };
const BOTH: Reuse = Reuse { target: true, running: true };

/// Segments that share pieces, take three, take none, need the one before; the last one short.
const MIXED: [Kind; 8] = [Frame(1), Raw(1), Zero, Follow(2), Follow(3), Raw(2), Frame(4), Follow(5)];
const LAST: usize = 1000;

fn mixed() -> Packed {
    pack(&MIXED, LAST, |_| {})
}

fn slots(packed: &Packed) -> FakeSlots {
    FakeSlots::new(packed.content.len())
}

fn put(slots: &mut FakeSlots, group: usize, packed: &Packed, segment: usize) {
    let end = packed.content.len().min((segment + 1) * SEGMENT_BYTES);
    slots.groups[group][segment * SEGMENT_BYTES..end]
        .copy_from_slice(&packed.content[segment * SEGMENT_BYTES..end]);
}

#[test]
fn whatever_the_window_all_is_written_and_synced_and_nothing_is_announced_in_vain() {
    let packed = mixed();
    for window in [0, 1, 2, 3, 4, 100] {
        let (mut source, mut slots) = (FakeSource::new(&packed, window), slots(&packed));
        let seen = install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
        assert_eq!(slots.target(), packed.content, "window {window}");
        assert!(slots.synced > 0, "the last write is followed by a sync");
        source.assert_all_fetched();
        assert_eq!(source.fetched, packed.order, "each object once, in the file's order");
        let total = packed.content.len() as u64;
        assert_eq!(seen.progress[..2], [total, total]);
    }
}

/// Every set of segments that stand in the target already, with every small window: 256 × 4.
#[test]
fn whatever_stands_in_the_target_is_kept_and_only_the_rest_is_fetched() {
    let packed = mixed();
    for present in 0..1u32 << MIXED.len() {
        let window = present as usize % 4 + 1;
        let (mut source, mut slots) = (FakeSource::new(&packed, window), slots(&packed));
        source.anywhere = true;
        let there: Vec<usize> = (0..MIXED.len()).filter(|i| present >> i & 1 == 1).collect();
        there.iter().for_each(|segment| put(&mut slots, 1, &packed, *segment));
        let seen = install(&packed.artifact, TARGET, &mut source, &mut slots).unwrap();
        assert_eq!(slots.target(), packed.content, "{present:08b}");
        assert!(there.iter().all(|i| !slots.writes.contains(&(*i as u64))), "{present:08b}: written again");
        source.assert_all_fetched();
        let raw = |segment: usize| !there.contains(&segment);
        let pieces = source.fetched.len() - 4; // two tables, two pages
        let frames = [vec![0], vec![3, 4], vec![6, 7]]; // which share a piece
        let expected = 3 * usize::from(raw(1))
            + 3 * usize::from(raw(5))
            + frames.iter().filter(|shared| shared.iter().any(|i| raw(*i))).count();
        assert_eq!(pieces, expected, "{present:08b}");
        assert_eq!(seen.progress[0], seen.progress[1]);
    }
}

/// A file gives all of it anyway: what is made is compared, which costs less than to hash what may be the same, and both groups
/// are spared: the target the writing, the running one the reading.
#[test]
fn from_a_file_what_stands_in_the_target_is_unpacked_and_not_written_again() {
    let packed = mixed();
    for present in 0..1u32 << MIXED.len() {
        let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
        let there: Vec<usize> = (0..MIXED.len()).filter(|i| present >> i & 1 == 1).collect();
        for segment in 0..MIXED.len() {
            put(&mut slots, 0, &packed, segment);
        }
        there.iter().for_each(|segment| put(&mut slots, 1, &packed, *segment));
        let seen = install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
        assert_eq!(slots.target(), packed.content, "{present:08b}");
        let rest: Vec<u64> = (0..MIXED.len() as u64).filter(|i| present >> i & 1 == 0).collect();
        let mut written = slots.writes.clone();
        written.sort_unstable(); // zeros are written ahead
        assert_eq!(written, rest, "{present:08b}");
        assert_eq!(source.fetched, packed.order, "{present:08b}");
        assert_eq!(slots.base_reads, (0, 0), "{present:08b}");
        assert_eq!((seen.progress[0], seen.progress[3]), (seen.progress[1], 0));
        let kept = |segment: &usize| if *segment + 1 == MIXED.len() { LAST } else { SEGMENT_BYTES };
        assert_eq!(seen.progress[4], there.iter().map(kept).sum::<usize>() as u64, "{present:08b}: kept");
    }
}

#[test]
fn what_the_running_group_holds_at_the_same_place_is_copied_and_not_fetched() {
    let packed = mixed();
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
    source.anywhere = true;
    put(&mut slots, 0, &packed, 1);
    put(&mut slots, 0, &packed, 7);
    let seen = install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
    assert_eq!(slots.target(), packed.content);
    assert_eq!(seen.progress[3], (SEGMENT_BYTES + LAST) as u64, "copied");
    assert_eq!(slots.groups[0][..9], [0x11; 9], "the running group is only read");
}

#[test]
fn a_running_group_that_is_shorter_has_nothing_to_give_and_that_is_all() {
    let packed = mixed();
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
    source.anywhere = true;
    slots.groups[0].truncate(SEGMENT_BYTES / 2);
    install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
    assert_eq!(slots.target(), packed.content);
}

/// EIO while copying from the running group: what it cannot give is fetched.
#[test]
fn a_running_group_that_cannot_be_read_has_nothing_to_give_and_that_is_all() {
    let packed = mixed();
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
    source.anywhere = true;
    (0..MIXED.len()).for_each(|segment| put(&mut slots, 0, &packed, segment));
    slots.running_fails = true;
    let seen = install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
    assert_eq!(slots.target(), packed.content);
    assert_eq!(seen.progress[3], 0, "copied");
    assert_eq!(source.fetched, packed.order);
}

/// A power cut in the midst of a write can leave a sector that the medium cannot read until it is written again. The
/// installer gave up on it, and so would have every later attempt.
#[test]
fn a_target_segment_that_cannot_be_read_is_written_anew() {
    let packed = mixed();
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
    (0..MIXED.len()).for_each(|segment| put(&mut slots, 1, &packed, segment));
    slots.unreadable.insert(SEGMENT_BYTES as u64);
    install(&packed.artifact, TARGET, &mut source, &mut slots).unwrap();
    assert_eq!(slots.writes, [1]);
}

#[test]
fn a_piece_that_stands_twice_in_a_row_is_fetched_once() {
    let packed = pack(&[Raw(1), Zero, Raw(1)], SEGMENT_BYTES, |_| {});
    for window in 1..=4 {
        let (mut source, mut slots) = (FakeSource::new(&packed, window), slots(&packed));
        install(&packed.artifact, NOTHING, &mut source, &mut slots).unwrap();
        assert_eq!(slots.target(), packed.content);
        source.assert_all_fetched();
    }
    let same = |run: &mut Run| {
        // One frame of two: the second is the first again, in a piece of its own.
        let frame = fake_frame(1, SEGMENT_BYTES);
        run.pieces = vec![frame.clone(), frame.clone()];
        let entry = [&Digest::of(&frame).0[..], &(frame.len() as u32).to_le_bytes()].concat();
        run.route_page.truncate(24 + 2 * 4);
        run.route_page[16] = 2;
        run.route_page.extend([entry.clone(), entry].concat());
    };
    let packed = pack(&[Frame(1), Frame(1)], SEGMENT_BYTES, same);
    let (mut source, mut slots) = (FakeSource::new(&packed, 1), slots(&packed));
    install(&packed.artifact, NOTHING, &mut source, &mut slots).unwrap();
    assert_eq!((slots.target(), source.fetched.len()), (&packed.content[..], 5));
    source.assert_all_fetched();
}

/// 513 segments: the second run's pages are announced while the first run's last pieces are on their way.
#[test]
fn the_window_reaches_over_the_end_of_a_run() {
    let mut kinds = vec![Zero; 513];
    (kinds[0], kinds[511], kinds[512]) = (Frame(1), Frame(2), Frame(3));
    let packed = pack(&kinds, LAST, |_| {});
    for window in [1, 3] {
        let (mut source, mut slots) = (FakeSource::new(&packed, window), slots(&packed));
        install(&packed.artifact, NOTHING, &mut source, &mut slots).unwrap();
        assert!(slots.target() == packed.content, "window {window}");
        assert_eq!(source.fetched, packed.order);
        source.assert_all_fetched();
    }
}

/// `mainstay verify` runs over slots that keep nothing, and a fresh installation should not read what it has just written.
#[test]
fn the_segment_before_is_held_for_the_next_one_over_the_end_of_a_run_too() {
    let mut kinds = vec![Zero; 514];
    (kinds[0], kinds[1], kinds[2], kinds[3]) = (Raw(1), Follow(1), Follow(2), Raw(2));
    (kinds[4], kinds[511], kinds[512], kinds[513]) = (Follow(3), Frame(2), Follow(3), Follow(4));
    let packed = pack(&kinds, LAST, |_| {});
    for window in [1, 100] {
        let (mut source, mut slots) = (FakeSource::new(&packed, window), slots(&packed));
        install(&packed.artifact, NOTHING, &mut source, &mut slots).unwrap();
        assert!(slots.target() == packed.content, "window {window}");
        assert_eq!(slots.reads.get(), 0, "window {window}");
    }
}

#[test]
fn a_source_that_lies_is_asked_again_and_not_for_ever() {
    let packed = mixed();
    let piece = packed.order[5];
    #[rustfmt::skip]
    let cases = [
        // lies      another place   fails with
        (2,          true,           None),
        (7,          true,           None),
        (u32::MAX,   true,           Some("was not it, 8 times")),
        (1,          false,          Some("no other place to ask")),
    ];
    for (times, elsewhere, fails) in cases {
        let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
        source.lies = Some((piece, times));
        source.refutes = !elsewhere;
        match (install(&packed.artifact, NOTHING, &mut source, &mut slots), fails) {
            (Ok(_), None) => assert_eq!(slots.target(), packed.content),
            (Err(fault), Some(says)) => {
                assert_eq!((fault.kind, fault.what.contains(says)), (FaultKind::Corrupt, true), "{fault}")
            }
            (found, _) => panic!("{times} lies: {:?}", found.map(|_| ()).map_err(|f| f.what)),
        }
        let lies = times - source.lies.map_or(0, |(_, left)| left);
        assert!(lies <= 8, "asked {lies} times");
    }
}

#[test]
fn a_slot_that_is_too_small_takes_nothing() {
    let packed = mixed();
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), FakeSlots::new(packed.content.len() - 1));
    let fault = install(&packed.artifact, BOTH, &mut source, &mut slots).err().unwrap();
    assert_eq!(fault.kind, FaultKind::Full);
    assert!(fault.what.contains("holds 1836007 bytes, the artifact has 1836008"), "{fault}");
    assert!(slots.writes.is_empty() && source.fetched.is_empty());
}

#[test]
fn an_object_that_is_not_there_ends_the_installation() {
    let packed = mixed();
    for missing in &packed.order {
        let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
        source.objects.remove(missing);
        let fault = install(&packed.artifact, NOTHING, &mut source, &mut slots).err().unwrap();
        assert_eq!(fault.kind, FaultKind::NotFound);
    }
}

/// The pages are right by their digests here, and lie: who signed them was careless, or worse. Each lie is named, and no
/// byte is written that is not what the segment page says.
#[test]
fn pages_that_lie_are_refused_and_no_unproven_byte_is_written() {
    fn number(page: &mut [u8], at: usize, value: u32) {
        page[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    /// In place of the first segment's frame, which begins the first piece, comes `frame`.
    fn first_frame(run: &mut Run, frame: &[u8]) {
        run.pieces[0] = frame.to_vec();
        number(&mut run.route_page, 24, 2 | (frame.len() as u32) << 8);
        let first = 24 + MIXED.len() * 4;
        run.route_page[first..first + 32].copy_from_slice(&Digest::of(frame).0);
        number(&mut run.route_page, first + 32, frame.len() as u32);
    }
    type Spoil = fn(&mut Run);
    #[rustfmt::skip]
    let cases: [(Spoil, &str); 18] = [
        (|run| number(&mut run.segment_page, 8, 1),                 "segment page: expected segments 0+8, found 1+8"),
        (|run| number(&mut run.segment_page, 12, 7),                "segment page: expected segments 0+8, found 0+7"),
        (|run| run.segment_page.truncate(200),                      "segment page: expected segments 0+8"),
        (|run| run.segment_page[20] ^= 1,                           "its content is not what the index says"),
        (|run| run.segment_page[16 + 2 * 32] ^= 1,                  "encoded as zero, but its digest is not zero's"),
        (|run| number(&mut run.route_page, 8, 512),                 "route page: expected segments 0+8, found 512+8"),
        (|run| number(&mut run.route_page, 16, 4000),               "expected at most 1536 pieces, found 4000"),
        (|run| number(&mut run.route_page, 16, 8),                  "route page: expected 8 pieces"),
        (|run| run.route_page[24] = 9,                              "unknown encoding 9"),
        (|run| run.route_page[25] += 1,                             "its segments take"),
        (|run| number(&mut run.route_page, 28, 1 | 5 << 8),         "Raw of 5 bytes cannot make 262144 bytes"),
        (|run| number(&mut run.route_page, 24, 5 | 9 << 8),         "segment 0: a prefix, and no segment before it"),
        (|run| number(&mut run.route_page, 28, 5 | 131_073 << 8),   "Prefixed of 131073 bytes cannot make 262144 bytes"),
        (|run| number(&mut run.route_page, 32, 7 << 8),             "Zero of 7 bytes cannot make 262144 bytes"),
        (|run| {
            let (first, second) = (24 + MIXED.len() * 4 + 32, 24 + MIXED.len() * 4 + 36 + 32);
            number(&mut run.route_page, first, OBJECT_BYTES_MAX as u32 + 1);
            number(&mut run.route_page, second, 1);
        },                                                          "expected 1 to 98304 bytes, found 98305"),
        (|run| {
            // The first two pieces trade a byte: the sum is right, each is wrong.
            let (first, second) = (24 + MIXED.len() * 4 + 32, 24 + MIXED.len() * 4 + 36 + 32);
            number(&mut run.route_page, first, run.pieces[0].len() as u32 + 1);
            number(&mut run.route_page, second, run.pieces[1].len() as u32 - 1);
        },                                                          "the index says 10 bytes, it has 9"),
        (|run| first_frame(run, &fake_frame(1, 1 << 30)),           "wants 1073741824 bytes, there is room for 262144"),
        (|run| first_frame(run, &fake_frame(1, SEGMENT_BYTES - 1)), "expected 262144 bytes, its frame makes 262143"),
    ];
    let honest = mixed();
    for (spoil, says) in cases {
        let packed = pack(&MIXED, LAST, spoil);
        let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
        let fault = install(&packed.artifact, BOTH, &mut source, &mut slots)
            .err()
            .unwrap_or_else(|| panic!("{says}"));
        assert!(fault.what.contains(says), "expected {says:?}, found {fault}");
        assert!(
            matches!(fault.kind, FaultKind::Corrupt | FaultKind::Unsupported),
            "{says}: {:?}",
            fault.kind
        );
        for segment in &slots.writes {
            let start = *segment as usize * SEGMENT_BYTES;
            let end = honest.content.len().min(start + SEGMENT_BYTES);
            assert!(slots.target()[start..end] == honest.content[start..end], "{says}: segment {segment}");
        }
    }
}

/// zstd would take it for a dictionary of another kind, and read what stands in it.
#[test]
fn what_begins_as_a_dictionary_is_no_prefix() {
    let packed = pack(&[Dictionary, Follow(1)], LAST, |_| {});
    let (mut source, mut slots) = (FakeSource::new(&packed, 2), slots(&packed));
    let fault = install(&packed.artifact, NOTHING, &mut source, &mut slots).err().unwrap();
    assert_eq!(fault.kind, FaultKind::Corrupt);
    assert!(
        fault.what.contains("segment at 262144: the one before it begins as a dictionary does"),
        "{fault}"
    );
    assert_eq!(slots.writes, [0]);
}
