//! Pages of delta routes: what they say of each segment is held against what the reader knows, and they bring what each
//! segment must be themselves.

use crate::common::refused;
use mainstay_core::bundle::author::{Run, RunBuilder};
use mainstay_core::bundle::{Encoding, Proof, RoutePage, ShortDigest, VerifiedObject, VerifiedSegment};
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::limits::*;

fn object(bytes: &[u8]) -> VerifiedObject<'_> {
    VerifiedObject::prove(&Digest::of(bytes), bytes).unwrap()
}

/// Two copies, zeros, a patch, a zstd frame, a patch, and a raw end of 1000 bytes, as the run that begins with segment 512.
fn small_run() -> Run {
    let mut run = RunBuilder::new();
    let mut push = |n: u8, encoding, encoded: &[u8], begins| {
        run.push_delta(Digest([n; 32]), encoding, encoded, begins).unwrap();
    };
    push(1, Encoding::Copy, &[], false);
    push(2, Encoding::Copy, &[], false);
    push(3, Encoding::Zero, &[], false);
    push(4, Encoding::Patch, &[4; 500], true);
    push(5, Encoding::Zstd, &[5; 700], false);
    push(6, Encoding::Patch, &[6; 97_000], true);
    push(7, Encoding::Raw, &[7; 1000], false);
    run.finish_delta(512)
}

fn content(index: usize) -> usize {
    if index == 6 { 1000 } else { SEGMENT_BYTES }
}

fn read(bytes: &[u8]) -> Result<RoutePage<'_>, Fault> {
    RoutePage::parse_delta(object(bytes), 512, 7, content)
}

#[test]
fn a_delta_page_reads_back_as_it_was_made_and_says_what_each_segment_must_be() {
    let run = small_run();
    let page = read(&run.route_page).unwrap();
    let found: Vec<_> = (0..7).map(|i| page.segment(i).unwrap()).collect();
    let (zero, raw, zstd) = (Encoding::Zero, Encoding::Raw, Encoding::Zstd);
    let (copy, patch) = (Encoding::Copy, Encoding::Patch);
    assert_eq!(
        found,
        [(copy, 0), (copy, 0), (zero, 0), (patch, 500), (zstd, 700), (patch, 97_000), (raw, 1000)]
    );
    for (i, n) in [1, 2, 0, 4, 5, 6, 7].into_iter().enumerate() {
        let expected = if n == 0 { Proof::Zeros } else { Proof::Short(ShortDigest([n; 16])) };
        assert_eq!(page.proof(i).unwrap(), Some(expected), "{i}");
    }
    refused(page.segment(7), "no segment 7");
    assert_eq!(run.pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1200, 98_000]);
    // 24, five spans and one each, three lengths, six digests, two pieces.
    assert_eq!(run.route_page.len(), 24 + 6 * 3 + 3 * 3 + 6 * 16 + 2 * 36);
}

#[test]
fn a_delta_page_cut_short_at_any_length_or_with_a_byte_after_it_is_refused() {
    let whole = small_run().route_page;
    read(&whole).unwrap();
    for cut in 0..whole.len() {
        assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(read(&[&whole[..], &[0]].concat()).is_err());
}

#[test]
fn a_delta_page_that_lies_is_refused() {
    let page = small_run().route_page;
    let put = |at: usize, bytes: &[u8]| {
        let mut page = page.clone();
        page[at..at + bytes.len()].copy_from_slice(bytes);
        page
    };
    let span = |index: usize, encoding: u8, segments: u16| {
        let [a, b] = segments.to_le_bytes();
        put(24 + 3 * index, &[encoding, a, b])
    };
    let length = |index: usize, bytes: u32| put(24 + 6 * 3 + 3 * index, &bytes.to_le_bytes()[..3]);
    #[rustfmt::skip]
    let cases = [
        (put(0, b"MSRP"),          "delta page: expected magic"),
        (put(4, &[2]),             "delta page: expected version 1, found 2"),
        (put(8, &[1]),             "delta page: expected segments 512+7, found 513+7"),
        (put(16, &[3]),            "delta page: expected 3 pieces, found 72 bytes of them"),
        (put(16, &[0xff; 4]),      "delta page: expected at most 1536 pieces, found 4294967295"),
        (put(20, &[8]),            "delta page: expected at most 7 spans, found 8"),
        (put(20, &[0xff; 4]),      "delta page: expected at most 7 spans, found 4294967295"),
        (put(20, &[5]),            "delta page: segment 518: no span holds it"),
        (span(0, 3, 0),            "delta page: segment 512: a span of 0, expected 1 to 7"),
        (span(0, 3, 8),            "delta page: segment 512: a span of 8, expected 1 to 7"),
        (span(0, 3, u16::MAX),     "delta page: segment 512: a span of 65535, expected 1 to 7"),
        (span(0, 7, 2),            "unknown encoding 7; this agent is too old"),
        (span(0, 1, 2),            "its segments take 623488 bytes, its pieces hold 99200"),
        (length(0, 0),             "delta page: segment 515: Patch of 0 bytes cannot make 262144"),
        (length(0, 262_144),       "delta page: segment 515: Patch of 262144 bytes cannot make 262144"),
        (length(1, 701),           "delta page: its segments take 99201 bytes, its pieces hold 99200"),
        (put(page.len() - 4, &[0; 4]), "delta page: piece 1: expected 1 to 98304 bytes, found 0"),
    ];
    for (bytes, words) in cases {
        refused(read(&bytes), words);
    }
    refused(RoutePage::parse(object(&page), 512, 7, content), "route page: expected magic");
}

#[test]
fn what_begins_no_piece_is_not_put_into_one_for_which_it_was_not_made() {
    let mut run = RunBuilder::new();
    let mut push =
        |encoding, bytes: usize, begins| run.push_delta(Digest([1; 32]), encoding, &vec![1; bytes], begins);
    refused(push(Encoding::Patch, 10, false), "segment 0: Patch of 10 bytes needs a piece of its own");
    push(Encoding::Patch, 98_000, true).unwrap();
    push(Encoding::Patch, 304, false).unwrap();
    refused(push(Encoding::Zstd, 1, false), "segment 2: Zstd of 1 bytes needs a piece of its own");
    push(Encoding::Copy, 0, false).unwrap();
    push(Encoding::Patch, 200_000, true).unwrap();
    refused(push(Encoding::Patch, 1, false), "segment 4: Patch of 1 bytes");
    push(Encoding::Copy, 0, true).unwrap();
    push(Encoding::Patch, 1, false).unwrap(); // forgotten, and no byte since
}

#[test]
fn a_segment_is_what_its_proof_says_or_it_is_not_proven() {
    let digest = Digest::of(b"content");
    let mut last_of_short = ShortDigest::from(&digest);
    last_of_short.0[15] ^= 1;
    let cases: [(&[u8], Proof, bool); 7] = [
        (b"content", Proof::Whole(digest), true),
        (b"context", Proof::Whole(digest), false),
        (b"content", Proof::Short(ShortDigest::from(&digest)), true),
        (b"context", Proof::Short(ShortDigest::from(&digest)), false),
        (b"content", Proof::Short(last_of_short), false),
        (&[0; 9], Proof::Zeros, true),
        (&[0, 0, 1], Proof::Zeros, false),
    ];
    for (bytes, proof, holds) in cases {
        assert_eq!(VerifiedSegment::prove_by(0, bytes, &proof).is_some(), holds, "{bytes:?} by {proof:?}");
    }
}
