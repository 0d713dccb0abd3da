//! Deltas of synthetic images. What they are to cost stands in each test; that they work, every test proves with [`prove`].

use mainstay_core::bundle::Encoding;
use mainstay_core::limits::{OBJECT_BYTES_MAX, RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstayctl::Result;
use mainstayctl::delta::{How, Made, Summary, make, prove};
use mainstayctl::layout::ReadAt;

/// Bytes that nothing compresses and nothing repeats.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

const HOW: How = How { level: 3, threads: 2, transforms: true };

/// Makes and proves; all segments, and the figures.
fn delta_by(base: &dyn ReadAt, new: &dyn ReadAt, how: How) -> (Vec<(u32, Made)>, Summary) {
    let (mut all, told) = (Vec::new(), std::sync::atomic::AtomicU64::new(0));
    let tell = |bytes| {
        told.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let summary = make(base, new, how, &tell, &mut |index, made| {
        all.push((index, made));
        Ok(())
    })
    .unwrap();
    assert_eq!(told.into_inner(), new.bytes(), "progress is told of each byte once");
    prove(base, new, all.clone()).unwrap();
    let bytes: usize = all.iter().map(|(_, made)| made.bytes.len()).sum();
    assert_eq!(summary.bytes(), bytes as u64);
    assert_eq!(summary.sources.iter().sum::<u64>(), bytes as u64, "each byte has its source");
    (all, summary)
}

fn delta(base: &[u8], new: &[u8]) -> (Vec<(u32, Made)>, Summary) {
    delta_by(&base, &new, HOW)
}

fn ways(all: &[(u32, Made)]) -> Vec<Encoding> {
    all.iter().map(|(_, made)| made.encoding).collect()
}

/// What the segments cost without a base.
fn full(new: &[u8]) -> usize {
    let zstd = |segment: &[u8]| {
        let mut frame = vec![0; zstd_safe::compress_bound(segment.len())];
        zstd_safe::compress(frame.as_mut_slice(), segment, HOW.level).unwrap().min(segment.len())
    };
    new.chunks(SEGMENT_BYTES).filter(|segment| segment.iter().any(|byte| *byte != 0)).map(zstd).sum()
}

#[test]
fn one_changed_byte_costs_some_bytes_and_its_segment_alone() {
    let base = noise(4 * SEGMENT_BYTES + 1000, 1);
    let mut new = base.clone();
    new[2 * SEGMENT_BYTES + 12345] ^= 0x40;
    let (all, summary) = delta(&base, &new);
    assert_eq!(ways(&all), [Encoding::Copy, Encoding::Copy, Encoding::Patch, Encoding::Copy, Encoding::Copy]);
    assert!(summary.bytes() < 40, "{} bytes", summary.bytes());

    let (all, summary) = delta(&base, &base);
    assert_eq!((ways(&all), summary.bytes()), (vec![Encoding::Copy; 5], 0));
}

#[test]
fn an_image_that_has_nothing_in_common_is_never_larger_than_without_a_base() {
    let words = |seed| -> Vec<u8> {
        noise(SEGMENT_BYTES / 4, seed)
            .iter()
            .flat_map(|byte| format!("w{:03} ", byte % 200).into_bytes())
            .collect()
    };
    let zeros = vec![0; SEGMENT_BYTES + 5];
    for (base, new) in [
        (noise(2 * SEGMENT_BYTES, 1), noise(2 * SEGMENT_BYTES, 2)),
        (noise(SEGMENT_BYTES, 1), [words(3), noise(70_000, 4)].concat()),
        (Vec::new(), words(5)),
        (noise(10, 6), zeros.clone()),
        (zeros, noise(10, 7)),
        (noise(10, 8), Vec::new()),
    ] {
        let (_, summary) = delta(&base, &new);
        let full = full(&new) as u64;
        assert!(summary.bytes() <= full, "{} to {}: {} of {full}", base.len(), new.len(), summary.bytes());
    }
}

/// Goal: statistics are weighed against zstd where content is new, and taken where they are worth the gateway's time. Method: words out
/// of few, drawn at random, alone and beside noise; numbers that grow, of which zstd makes less.
#[test]
fn words_out_of_few_are_modelled_and_other_new_content_is_left_to_zstd() {
    let words = |bytes: usize, seed| -> Vec<u8> {
        let word = |n: u64| {
            let digits = (n * 7_654_321_987_123).to_string();
            format!("{} ", digits.split_at(2 + n as usize % 7).0)
        };
        let few: Vec<String> = (1..=16).map(word).collect();
        let drawn = noise(bytes, seed).into_iter().flat_map(|byte| few[usize::from(byte % 16)].bytes());
        drawn.take(bytes).collect()
    };
    let numbers: Vec<u8> = (0..60_000).flat_map(|n| format!("{n} ").into_bytes()).collect();
    let half = SEGMENT_BYTES / 2;
    let new =
        [words(SEGMENT_BYTES, 1), noise(half, 2), words(half, 3), numbers[..SEGMENT_BYTES].to_vec()].concat();
    let how = How { level: 19, ..HOW };
    let (all, summary) = delta_by(&noise(100_000, 4), &new, how);
    let all_ways = ways(&all);
    assert_eq!(all_ways[..2], [Encoding::Patch; 2]);
    assert!(matches!(all_ways[2], Encoding::Zstd | Encoding::Prefixed), "{all_ways:?}");
    let modelled: usize = all[..2].iter().map(|(_, made)| made.bytes.len()).sum();
    let zstd = |segment: &[u8]| {
        let mut frame = vec![0; zstd_safe::compress_bound(segment.len())];
        zstd_safe::compress(frame.as_mut_slice(), segment, 19).unwrap()
    };
    let packed: usize = new.chunks(SEGMENT_BYTES).take(2).map(zstd).sum();
    assert!(
        modelled + 2 * SEGMENT_BYTES / 128 < packed,
        "{modelled} of {packed}, {} in all",
        summary.bytes()
    );
}

/// What a patch would have to put right is nowhere in the new image: zstd makes it from nothing.
#[test]
fn zstd_is_taken_where_it_is_smaller_than_a_patch_that_explains_nearly_all() {
    let mut new = noise(300, 1).repeat(SEGMENT_BYTES / 300 + 1);
    new.truncate(SEGMENT_BYTES);
    let (mut base, gaps) = (new.clone(), noise(4000, 2));
    let mut at = 0;
    for gap in gaps {
        at += 70 + usize::from(gap % 64);
        base.get_mut(at).into_iter().for_each(|byte| *byte = byte.wrapping_add(1 + gap / 2));
    }
    for level in [3, 19] {
        let (all, summary) = delta_by(&base, &new, How { level, ..HOW });
        assert_eq!(ways(&all), [Encoding::Zstd]);
        assert!(summary.bytes() < 500, "{} bytes by level {level}", summary.bytes());
    }
}

#[test]
fn content_that_has_moved_by_any_number_of_bytes_is_copied() {
    let base = noise(6 * SEGMENT_BYTES, 1);
    for inserted in [4096, 10_001] {
        let new = [noise(inserted, 2), base.clone()].concat();
        let (_, summary) = delta(&base, &new);
        let most = inserted as u64 + inserted as u64 / 100 + 300;
        assert!(summary.bytes() <= most, "{inserted} inserted: {} bytes", summary.bytes());
    }
}

#[test]
fn a_part_that_was_taken_away_and_one_that_moved_and_changed_cost_little() {
    let base = noise(5 * SEGMENT_BYTES, 1);
    let mut moved = base[900_000..1_100_000].to_vec();
    moved.iter_mut().step_by(997).for_each(|byte| *byte = byte.wrapping_add(16));
    let new = [&base[..333_333], &moved, &base[444_444..900_000]].concat();
    let (_, summary) = delta(&base, &new);
    assert!(summary.bytes() < 700, "{} bytes for 201 changed ones", summary.bytes());
}

/// Work is shared out differently with each number of threads: nothing of that may be seen.
#[test]
fn any_number_of_threads_makes_the_same_bytes() {
    let base = noise(6 * SEGMENT_BYTES, 1);
    let mut new = [&noise(5000, 2), &base[700_000..], &noise(6000, 3), &base[..600_001]].concat();
    new.iter_mut().step_by(30_011).for_each(|byte| *byte ^= 1);
    let one = delta_by(&base, &new, How { threads: 1, ..HOW });
    for threads in [2, 4, 9] {
        let many = delta_by(&base, &new, How { threads, ..HOW });
        assert_eq!(one.0, many.0, "{threads} threads");
        assert_eq!(one.1, many.1, "{threads} threads");
    }
}

/// A piece has room for so much; what is larger is alone in its pieces.
#[test]
fn pieces_begin_where_the_one_before_is_full() {
    let base = noise(8 * SEGMENT_BYTES, 1);
    let mut new = base.clone();
    for (segment, bytes) in [(0, 50_000), (1, 40_000), (2, 30_000), (4, 262_144), (5, 10), (7, 20_000)] {
        let at = segment * SEGMENT_BYTES;
        new[at..at + bytes].copy_from_slice(&noise(bytes, 100 + segment as u64));
    }
    let (all, summary) = delta(&base, &new);
    let begins: Vec<_> = all.iter().map(|(_, made)| made.begins_piece).collect();
    assert_eq!(begins, [true, false, true, false, true, true, false, false], "{:?}", ways(&all));
    let (mut used, mut pieces) = (0, 0);
    for (_, made) in &all {
        used = if made.begins_piece { 0 } else { used };
        pieces += usize::from(used == 0) * made.bytes.len().div_ceil(OBJECT_BYTES_MAX);
        assert!(used == 0 || used + made.bytes.len() <= OBJECT_BYTES_MAX);
        used += made.bytes.len();
    }
    assert_eq!(summary.pieces as usize, pieces);
}

/// Zeros, but for a few bytes.
struct Sparse {
    bytes: u64,
    ones: Vec<u64>,
}

impl ReadAt for Sparse {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        for one in &self.ones {
            if let Some(place) = one.checked_sub(at).and_then(|place| out.get_mut(place as usize)) {
                *place = 1;
            }
        }
        Ok(())
    }
}

/// A run's pieces are told apart from the next run's: the device may begin there.
#[test]
fn a_run_begins_a_piece_even_where_nothing_travels() {
    let run = (RUN_SEGMENTS_MAX * SEGMENT_BYTES) as u64;
    let (bytes, second) = (run + 4 * SEGMENT_BYTES as u64, run + SEGMENT_BYTES as u64);
    let spread = |at: u64| (0..300).map(move |n| at + n * n * 2 + 9000); // enough to learn from
    let base = Sparse { bytes, ones: vec![5000] };
    let new = Sparse { bytes, ones: [5000].into_iter().chain(spread(0)).chain(spread(second)).collect() };
    let (all, _) = delta_by(&base, &new, HOW);
    let begins: Vec<_> = all.iter().filter(|(_, made)| made.begins_piece).map(|(index, _)| *index).collect();
    assert_eq!(begins, [0, RUN_SEGMENTS_MAX as u32]);
    let patched: Vec<_> =
        all.iter().filter(|(_, made)| !made.bytes.is_empty()).map(|(index, _)| *index).collect();
    assert_eq!(patched, [0, RUN_SEGMENTS_MAX as u32 + 1]);
}

#[test]
fn a_broken_frame_is_found_by_proving_it() {
    let base = noise(3 * SEGMENT_BYTES, 1);
    let mut new = [&noise(3000, 2), &base[..2 * SEGMENT_BYTES]].concat();
    new[SEGMENT_BYTES + 99] ^= 1;
    let (all, _) = delta(&base, &new);
    assert_eq!(ways(&all)[..2], [Encoding::Patch, Encoding::Patch]);
    type Damage = fn(&mut Vec<(u32, Made)>);
    let breaks: [(&str, Damage); 7] = [
        ("a bit", |all| all[1].1.bytes[5] ^= 1),
        ("cut short", |all| all[0].1.bytes.truncate(1000)),
        ("another way", |all| all[1].1.encoding = Encoding::Copy),
        ("bytes too many", |all| all[1].1.bytes.extend(1..9)),
        ("what was learned is forgotten", |all| all[1].1.begins_piece = true),
        ("one missing", |all| drop(all.remove(1))),
        ("the last missing", |all| drop(all.pop())),
    ];
    for (what, damage) in breaks {
        let mut broken = all.clone();
        damage(&mut broken);
        assert!(prove(&base, &new, broken).is_err(), "{what}");
    }
}

/// Blocks and bytes at any offset alike; but never from the segment that is being made, or a later one.
#[test]
fn what_is_new_twice_travels_once() {
    let (base, fresh) = (noise(4 * SEGMENT_BYTES, 1), noise(9000, 2));
    for (first, second, once) in [
        (4096, 3 * SEGMENT_BYTES + 8192, true),                // blocks
        (5001, 2 * SEGMENT_BYTES + 77, true),                  // anywhere
        (SEGMENT_BYTES - 4500, 2 * SEGMENT_BYTES - 20, true),  // over the ends of segments
        (SEGMENT_BYTES + 4096, SEGMENT_BYTES + 65_536, false), // twice in one segment
    ] {
        let mut new = base.clone();
        for at in [first, second] {
            new[at..at + fresh.len()].copy_from_slice(&fresh);
        }
        let (_, summary) = delta(&base, &new);
        let (bytes, expected) = (summary.bytes(), if once { 9000..9250 } else { 13_000..18_500 });
        assert!(expected.contains(&bytes), "{first} and {second}: {bytes} bytes");
    }
}
