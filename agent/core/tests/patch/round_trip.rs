//! Goal: whatever operations make, their frame makes again. Method: operations out of random numbers over random bases, and
//! the edges by hand.

use crate::common::*;
use mainstay_core::bundle::patch::{From, Op, Transform, patch, unpatch};
use mainstay_core::limits::{PATCH_MAP_ENTRIES_MAX, PATCH_OPERATIONS_MAX, SEGMENT_BYTES};
use proptest::prelude::*;

fn assert_comes_back(ops: &[Op], base: &[u8], content: &[u8]) -> usize {
    let frame = written(ops, base, content);
    assert_eq!(read(&frame, base, content.len()).as_deref(), Ok(content));
    frame.len()
}

#[test]
fn copy_of_a_whole_segment_costs_some_bytes() {
    let base = noise(1, 2 * SEGMENT_BYTES);
    let length = assert_comes_back(&[copy(77, SEGMENT_BYTES as u32)], &base, &base[77..][..SEGMENT_BYTES]);
    assert!(length <= 12, "{length}");
}

#[test]
fn what_differs_costs_no_more_than_it_must() {
    let base = noise(2, 10_000);
    let mut content = base.clone();
    for at in (0..10_000).step_by(500) {
        content[at] = content[at].wrapping_add(16);
    }
    let length = assert_comes_back(&[add(0, 10_000)], &base, &content);
    assert!(length <= 40, "{length} bytes for twenty differences of a kind");
}

#[test]
fn operations_at_the_edges_come_back() {
    let base = noise(3, 4096);
    let content = noise(4, 4096);
    assert_comes_back(&[], &base, &[]);
    assert_comes_back(&[extra(1)], &base, &content[..1]);
    assert_comes_back(&[add(0, 4096)], &base, &content);
    assert_comes_back(&[add(4095, 1), copy(0, 1), extra(1)], &base, &[7, base[0], 9]);
    assert_comes_back(&[add(10, 4)], &base, &base[10..14]);
    assert_comes_back(&[add(10, 4)], &base, &[base[10], base[11], base[12], !base[13]]);
}

#[test]
fn offsets_beyond_16_mib_come_back() {
    let mut base = vec![0; (40 << 20) + 64];
    base[40 << 20..].copy_from_slice(&noise(5, 64));
    let far = 40 << 20;
    let content = [&base[far..], &base[..64], &base[far..]].concat();
    assert_comes_back(&[copy(far as u64, 64), copy(0, 64), add(far as u64, 64)], &base, &content);
}

#[test]
fn writer_refuses_what_the_reader_would() {
    let base = noise(6, 100);
    let refused = |ops: &[Op], content: &[u8]| {
        patch(ops, None, 0, &mut state(), &mut Memory::of(&base), content).unwrap_err().what.to_string()
    };
    let cases: [(&[Op], usize, &str); 5] = [
        (&[add(0, 0), extra(1)], 1, "an empty operation"),
        (&[extra(2)], 1, "beyond the segment's end"),
        (&[extra(1)], 2, "operations make 1 of 2"),
        (&[copy(99, 2)], 2, "expected to read within a base of 100 bytes, found 2 at 99"),
        (&[copy(u64::MAX, 2)], 2, "expected to read within a base of 100 bytes"),
    ];
    for (ops, length, words) in cases {
        let what = refused(ops, &base[..length]);
        assert!(what.contains(words), "{what}");
    }
    let many = vec![extra(1); PATCH_OPERATIONS_MAX + 1];
    assert!(refused(&many, &noise(7, PATCH_OPERATIONS_MAX + 1)).contains("at most 32768 operations"));
}

#[test]
fn map_that_is_full_comes_back_and_is_used() {
    let entries: Vec<(u32, i32)> =
        (0..PATCH_MAP_ENTRIES_MAX as u32).map(|n| (n * 16, (n as i32 * 37) % 1000 - 500)).collect();
    let (large, base) = (map(1 << 40, &entries), noise(8, 4096));
    let mut full = map(0, &entries);
    assert!(!full.push(u32::MAX, 0), "there is no room");
    let ops = [Op::Add {
        length: 4096,
        from: From { at: 0, transform: Transform::Distance, address: 160, anchor: 0 },
    }];
    let content = noise(9, 4096);
    let frame = patch(&ops, Some(&large), 0, &mut state(), &mut Memory::of(&base), &content).unwrap();
    assert_eq!(read(&frame, &base, 4096), Ok(content));
}

/// Four segments of one piece with two maps, then a new piece: the second pass writes what the first one wrote.
#[test]
fn state_lasts_over_the_segments_of_a_piece_and_no_further() {
    let base = noise(10, 8192);
    let content = noise(11, 8192);
    let maps = [map(0, &[(0, 16), (4096, 32), (8192, 0)]), map(4096, &[(0, -16), (8192, 0)])];
    let (mut writes, mut reads) = (state(), state());
    let mut passes = vec![];
    for _ in 0..2 {
        let mut frames = vec![];
        for segment in 0..4 {
            let at = segment * 2048;
            let part = &content[at..][..2048];
            let ops =
                [add_as(Transform::X86, at as u64, 1000), extra(48), add_as(Transform::Anchored, 5, 1000)];
            let map = (segment % 2 == 0).then(|| &*maps[segment / 2]);
            let frame = patch(&ops, map, at as u64, &mut writes, &mut Memory::of(&base), part).unwrap();
            let mut out = vec![0; 2048];
            unpatch(&frame, at as u64, &mut reads, &mut Memory::of(&base), &mut out).unwrap();
            assert_eq!(out, part, "segment {segment}");
            frames.push(frame);
        }
        passes.push(frames);
        writes.reset();
        reads.reset();
    }
    assert_eq!(passes[0], passes[1], "nothing is left of the piece before");
}

/// Bytes without order are stored: they cost their own length and a handful more, and what can be modelled is modelled still.
#[test]
fn packed_bytes_cost_no_more_than_themselves() {
    let packed = noise(31, 5000);
    let frame = written(&[extra(5000)], &[], &packed);
    assert!(frame.len() <= 5000 + 8, "{} bytes", frame.len());
    assert_eq!(read(&frame, &[], 5000), Ok(packed));
    let text: Vec<u8> = noise(32, 5000).iter().map(|byte| b'a' + byte % 4).collect();
    let frame = written(&[extra(5000)], &[], &text);
    assert!(frame.len() < 2000, "{} bytes of text", frame.len());
    assert_eq!(read(&frame, &[], 5000), Ok(text));
}

/// A base that has drifted must cost its own segment alone: what has been learned does not depend on the base.
#[test]
fn segments_behind_one_whose_base_has_drifted_are_read_all_the_same() {
    let (base, content) = (noise(12, 4096), noise(13, 4096));
    let ops = |at| [add_as(Transform::X86, at, 1500), extra(48), copy(at, 500)];
    let content = [&content[..1548], &base[..500], &content[2048..3596], &base[2048..2548]].concat();
    let map = map(0, &[(0, 16), (2048, 32), (4096, 0)]);
    let mut writes = state();
    let frames = [0, 2048].map(|at: usize| {
        let part = &content[at..][..2048];
        patch(
            &ops(at as u64),
            (at == 0).then_some(&*map),
            at as u64,
            &mut writes,
            &mut Memory::of(&base),
            part,
        )
        .unwrap()
    });
    let drifted = [&noise(14, 2048)[..], &base[2048..]].concat();
    let (mut reads, mut out) = (state(), vec![0; 2048]);
    unpatch(&frames[0], 0, &mut reads, &mut Memory::of(&drifted), &mut out).unwrap();
    assert_ne!(out, content[..2048], "the first segment is wrong, and its digest says so");
    unpatch(&frames[1], 2048, &mut reads, &mut Memory::of(&drifted), &mut out).unwrap();
    assert_eq!(out, content[2048..]);
}

/// Statistics are part of the format: a change of a rate, a context or a table makes another frame, and needs another
/// number in routes.
#[test]
fn frame_of_today_is_the_frame_of_tomorrow() {
    let base: Vec<u8> = (0..=255).cycle().take(600).collect();
    let mut content = base[20..320].to_vec();
    (content[5], content[6], content[100]) = (1, 2, 3);
    content.extend_from_slice(b"statistics are part of the format");
    content.extend_from_slice(&base[400..500]);
    let map = map(0, &[(0, 4), (300, 8), (600, 0)]);
    let ops = [add(20, 200), add_as(Transform::X86, 220, 100), extra(33), copy(400, 100)];
    let frame = patch(&ops, Some(&map), 0, &mut state(), &mut Memory::of(&base), &content).unwrap();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(read(&frame, &base, content.len()), Ok(content));
}

const GOLDEN: &str = concat!(
    "10158e21325a47bf534acc8edaa00607505cdf9989b868ad1ac126aab8589a4d",
    "7a4c9a1554718e670ea9dac8425098c0c668fc18"
);

fn an_op() -> impl Strategy<Value = (u8, u32, u64, u8, u32, bool)> {
    (0..3u8, 1..400u32, 0..4096u64, 0..8u8, any::<u32>(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_operations_come_back(
        seed in any::<u32>(),
        many in prop::collection::vec(an_op(), 1..24),
        entries in prop::collection::btree_map(0..6000u32, -70_000..70_000i32, 0..20),
        starts in 0..(1u64 << 36),
    ) {
        let (base, mut content, mut ops) = (noise(seed, 4500), vec![], vec![]);
        for (kind, length, at, transform, address, near) in many {
            let begin = content.len();
            let from = &base[at as usize..][..length as usize];
            match kind {
                0 => content.extend_from_slice(from),
                1 => content.extend(from.iter().enumerate().map(|(n, b)| if n % 7 == 3 { !b } else { *b })),
                _ => content.extend(noise(seed ^ address, length as usize)),
            }
            assert_eq!(content.len(), begin + length as usize);
            let address = if near { at as u32 } else { address };
            let transform = Transform::ALL[usize::from(transform)];
            let anchor = address / 2;
            ops.push(match kind {
                0 => copy(at, length),
                1 => Op::Add { length, from: From { at, transform, address, anchor } },
                _ => extra(length),
            });
        }
        let map = map(0, &entries.into_iter().collect::<Vec<_>>());
        let frame = patch(&ops, Some(&map), starts, &mut state(), &mut Memory::of(&base), &content).unwrap();
        let mut out = vec![0; content.len()];
        unpatch(&frame, starts, &mut state(), &mut Memory::of(&base), &mut out).unwrap();
        prop_assert_eq!(out, content);
    }
}
