//! A full route over a broker, on a gateway that holds some of it already, at other places.

use crate::fake::Kind::{Frame, Raw, Zero};
use crate::fake::{FakeSlots, FakeSource, Kind, Packed, Seen, install, pack};
use crate::{BOTH, NOTHING};
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::update::Reuse;

/// Eight whole segments and a short one.
const KINDS: [Kind; 9] = [Raw(1), Raw(2), Zero, Raw(3), Raw(4), Frame(1), Raw(5), Raw(6), Raw(7)];
const LAST: usize = 1000;

fn packed() -> Packed {
    pack(&KINDS, LAST, |_| {})
}

fn source(packed: &Packed, room: usize) -> FakeSource {
    let mut source = FakeSource::new(packed, 3);
    (source.anywhere, source.index) = (true, room);
    source
}

/// Puts segment `segment` of the content at segment `at` of a group's slot.
fn put(slots: &mut FakeSlots, group: usize, at: usize, packed: &Packed, segment: usize) {
    let from = packed.content[segment * SEGMENT_BYTES..].len().min(SEGMENT_BYTES);
    slots.groups[group][at * SEGMENT_BYTES..][..from]
        .copy_from_slice(&packed.content[segment * SEGMENT_BYTES..][..from]);
}

fn run(packed: &Packed, reuse: Reuse, room: usize, slots: &mut FakeSlots) -> (Seen, usize) {
    let mut source = source(packed, room);
    let seen = install(&packed.artifact, reuse, &mut source, slots).unwrap();
    assert!(slots.target()[..packed.content.len()] == packed.content);
    source.assert_all_fetched();
    (seen, source.fetched.len() - 4) // beside two tables and two pages
}

/// All pieces: three for each raw segment, one for the frame and one for the end.
const PIECES: usize = 6 * 3 + 2;

/// Round trips with nothing else on the line, as many as tables, pages and a first piece one after another, cost a twentieth of
/// a download of 64 MiB at 50 Mbit/s and 50 ms.
#[test]
fn both_tables_take_one_round_trip_both_pages_another_and_the_groups_are_read_meanwhile() {
    let packed = packed();
    let (mut source, mut slots) = (source(&packed, 18), FakeSlots::new(9 * SEGMENT_BYTES));
    (source.window, source.reads) = (100, slots.reads.clone());
    install(&packed.artifact, BOTH, &mut source, &mut slots).unwrap();
    assert_eq!(source.round_trips, 3, "tables, pages, pieces");
    assert_eq!(source.reads_before, Some(0), "reads of the groups before anything was asked for");
}

#[test]
fn what_a_group_holds_at_another_place_is_copied_and_not_fetched() {
    let packed = packed();
    #[rustfmt::skip]
    let cases = [
        // held: group, at, segment                room   reuse    pieces fetched
        (&[][..],                                  18,    BOTH,    PIECES),
        (&[(0, 5, 0)],                             18,    BOTH,    PIECES - 3),     // in the running group, further on
        (&[(1, 7, 1)],                             18,    BOTH,    PIECES - 3),     // in the target
        (&[(0, 0, 0), (1, 0, 0)],                  18,    BOTH,    PIECES - 3),     // in both: kept
        (&[(0, 1, 0), (0, 2, 1), (0, 4, 3)],       18,    BOTH,    PIECES - 9),     // a segment was put in at the front
        (&[(0, 5, 0)],                             18,    NOTHING, PIECES),
        (&[(0, 5, 0)],                             0,     BOTH,    PIECES),         // no room: only the same place
        (&[(0, 0, 0), (0, 8, 1)],                  0,     BOTH,    PIECES - 3),
        (&[(0, 8, 1), (0, 6, 6)],                  8,     BOTH,    PIECES - 3),     // room for four: beyond it the same place
        (&[(0, 8, 8)],                             18,    BOTH,    PIECES - 1),     // the short end, in its place
    ];
    for (held, room, reuse, pieces) in cases {
        let mut slots = FakeSlots::new(9 * SEGMENT_BYTES);
        held.iter().for_each(|(group, at, segment)| put(&mut slots, *group, *at, &packed, *segment));
        let (seen, fetched) = run(&packed, reuse, room, &mut slots);
        assert_eq!(fetched, pieces, "{held:?}, room {room}");
        let total = packed.content.len() as u64;
        assert_eq!(seen.progress[..2], [total, total]);
    }
}

/// An image whose segments have all moved by one, in the target itself: what is overwritten before it is copied is fetched,
/// and the rest is not; nothing wrong is written.
#[test]
fn what_the_target_held_vanishes_as_it_is_overwritten_and_is_fetched_then() {
    let packed = packed();
    for by in [1, 2, 3] {
        for back in [false, true] {
            let mut slots = FakeSlots::new(12 * SEGMENT_BYTES);
            for segment in 0..8usize {
                let at = if back { segment.checked_sub(by) } else { Some(segment + by) };
                at.iter().for_each(|at| put(&mut slots, 1, *at, &packed, segment));
            }
            let (seen, fetched) = run(&packed, BOTH, 24, &mut slots);
            // Forward, each is read before its place is written. Backward, most have been overwritten by then.
            let copied = seen.progress[3] / SEGMENT_BYTES as u64;
            let most = (fetched, copied) == (PIECES - 19, 7);
            assert!(back || most, "moved by {by}: {fetched} pieces, {copied} copied");
        }
    }
}

/// One hash of each segment of a group, and a look at what is copied: what is not there is not looked for again.
#[test]
fn each_group_is_read_once() {
    let packed = packed();
    let mut slots = FakeSlots::new(9 * SEGMENT_BYTES);
    put(&mut slots, 0, 3, &packed, 0);
    run(&packed, BOTH, 18, &mut slots);
    // All of it once, the one segment that is copied, and the short end in its place.
    assert_eq!(slots.base_reads, (9 + 1 + 1, 10 * SEGMENT_BYTES + LAST));
}
