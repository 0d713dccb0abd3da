//! Tables and pages: whatever they say, the reader holds it against what it knows already.

use crate::common::refused;
use mainstay_core::bundle::author::{Run, RunBuilder, table};
use mainstay_core::bundle::{
    Encoding, OBJECT_HEADER_BYTES, Object, Piece, ROUTE_PAGE_BYTES_MAX, RoutePage, SEGMENT_PAGE_BYTES_MAX,
    SegmentPage, TABLE_BYTES_MAX, Table, VerifiedObject, VerifiedSegment,
};
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::limits::*;
use proptest::prelude::*;

fn object(bytes: &[u8]) -> VerifiedObject<'_> {
    VerifiedObject::prove(&Digest::of(bytes), bytes).unwrap()
}

/// A run of four segments that begins with segment 512: zero, raw (its last, of 1000 bytes), and two frames.
fn small_run() -> Run {
    let mut run = RunBuilder::new();
    run.push(Digest([1; 32]), Encoding::Zero, &[]).unwrap();
    run.push(Digest([2; 32]), Encoding::Zstd, &[2; 50_000]).unwrap();
    run.push(Digest([3; 32]), Encoding::Zstd, &[3; 150_000]).unwrap();
    run.push(Digest([4; 32]), Encoding::Raw, &[4; 1000]).unwrap();
    run.finish(512)
}

fn content(index: usize) -> usize {
    if index == 3 { 1000 } else { SEGMENT_BYTES }
}

fn route(bytes: &[u8]) -> Result<RoutePage<'_>, Fault> {
    RoutePage::parse(object(bytes), 512, 4, content)
}

/// `bytes` with a little-endian number put in at `at`.
fn put(bytes: &[u8], at: usize, number: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn pages_read_back_as_they_were_made() {
    let run = small_run();
    let page = SegmentPage::parse(object(&run.segment_page), 512, 4).unwrap();
    assert_eq!(page.digest(2).unwrap(), Digest([3; 32]));
    refused(page.digest(4), "no segment 4");
    let page = route(&run.route_page).unwrap();
    let lengths: Vec<_> = (0..4).map(|i| page.segment(i).unwrap()).collect();
    let (zero, raw, zstd) = (Encoding::Zero, Encoding::Raw, Encoding::Zstd);
    assert_eq!(lengths, [(zero, 0), (zstd, 50_000), (zstd, 150_000), (raw, 1000)]);
    assert_eq!(page.piece_count(), run.pieces.len());
    for (i, piece) in run.pieces.iter().enumerate() {
        assert_eq!(page.piece(i).unwrap(), Piece { name: Digest::of(piece), length: piece.len() as u32 });
    }
    assert_eq!(run.pieces.iter().map(Vec::len).collect::<Vec<_>>(), [50_000, 75_000, 75_000, 1000]);
    refused(page.piece(4), "no piece 4");
    let table = table(&[Digest([5; 32]), Digest([6; 32])]);
    let read = Table::parse(object(&table), 2).unwrap();
    assert_eq!(read.page(1).unwrap(), Digest([6; 32]));
    refused(read.page(2), "no run 2");
}

#[test]
fn a_table_or_page_cut_short_at_any_length_or_with_a_byte_after_it_is_refused() {
    let run = small_run();
    let table = table(&[Digest([5; 32]), Digest([6; 32])]);
    type Read = fn(&[u8]) -> Result<(), Fault>;
    let cases: [(&[u8], Read); 3] = [
        (&table, |bytes| Table::parse(object(bytes), 2).map(|_| ())),
        (&run.segment_page, |bytes| SegmentPage::parse(object(bytes), 512, 4).map(|_| ())),
        (&run.route_page, |bytes| route(bytes).map(|_| ())),
    ];
    for (whole, read) in cases {
        read(whole).unwrap();
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&[whole, &[0]].concat()).is_err());
    }
}

#[test]
fn a_table_that_lies_is_refused() {
    let two = table(&[Digest([5; 32]), Digest([6; 32])]);
    let three = table(&[Digest([5; 32]); 3]);
    #[rustfmt::skip]
    let cases = [
        (put(&two, 0, 0),                "table: expected magic"),
        (put(&two, 4, 2),                "table: expected version 1, found 2"),
        (put(&two, 4, 0x0100_0001),      "table: reserved bytes"),
        (put(&two, 8, 1),                "expected 2 pages in 80 bytes, found 1 in 80"),
        (put(&two, 8, u32::MAX),         "expected 2 pages in 80 bytes, found 4294967295 in 80"),
        (put(&two, 12, 1),               "table: reserved bytes"),
        (three.clone(),                  "expected 2 pages in 80 bytes, found 3 in 112"),
        (put(&three, 8, 2),              "expected 2 pages in 80 bytes, found 2 in 112"),
        (small_run().segment_page,       "table: expected magic"),
    ];
    for (bytes, words) in cases {
        refused(Table::parse(object(&bytes), 2), words);
    }
}

#[test]
fn a_segment_page_that_lies_is_refused() {
    let page = small_run().segment_page;
    #[rustfmt::skip]
    let cases = [
        (put(&page, 0, 0),               "segment page: expected magic"),
        (put(&page, 4, 9),               "segment page: expected version 1, found 9"),
        (put(&page, 4, 0x0001_0001),     "segment page: reserved bytes"),
        (put(&page, 8, 0),               "expected segments 512+4, found 0+4"),
        (put(&page, 12, 3),              "expected segments 512+4, found 512+3"),
        (put(&page, 12, u32::MAX),       "expected segments 512+4, found 512+4294967295"),
        (page[..page.len() - 32].into(), "found 512+4 in 112 bytes"),
        (small_run().route_page,         "segment page: expected magic"),
    ];
    for (bytes, words) in cases {
        refused(SegmentPage::parse(object(&bytes), 512, 4), words);
    }
}

#[test]
fn a_route_page_that_lies_is_refused() {
    let page = small_run().route_page;
    let entry =
        |index: usize, encoding: u8, length: u32| put(&page, 24 + 4 * index, length << 8 | encoding as u32);
    let piece = |index: usize, length: u32| put(&page, 24 + 4 * 4 + 36 * index + 32, length);
    #[rustfmt::skip]
    let cases = [
        (put(&page, 0, 0),               "route page: expected magic"),
        (put(&page, 4, 3),               "route page: expected version 1, found 3"),
        (put(&page, 8, 511),             "expected segments 512+4, found 511+4"),
        (put(&page, 12, 5),              "expected segments 512+4, found 512+5"),
        (put(&page, 16, 3),              "expected 3 pieces, found 144 bytes of them"),
        (put(&page, 16, 5),              "expected 5 pieces, found 144 bytes of them"),
        (put(&page, 16, 1537),           "expected at most 1536 pieces, found 1537"),
        (put(&page, 16, u32::MAX),       "expected at most 1536 pieces, found 4294967295"),
        (put(&page, 20, 1),              "reserved bytes are not zero"),
        (entry(0, 0, 1),                 "segment 512: Zero of 1 bytes cannot make 262144"),
        (entry(0, 3, 0),                 "segment 512: Copy in a full route, which has no base"),
        (entry(1, 4, 50_000),            "segment 513: Patch in a full route, which has no base"),
        (entry(1, 5, 131_073),           "segment 513: Prefixed of 131073 bytes cannot make 262144"),
        (entry(1, 6, 50_000),            "segment 513: Recoded in a full route, which has no base"),
        (entry(0, 7, 0),                 "unknown encoding 7; this agent is too old"),
        (entry(0, 255, 0),               "unknown encoding 255"),
        (entry(1, 1, 50_000),            "segment 513: Raw of 50000 bytes cannot make 262144"),
        (entry(1, 2, 0),                 "segment 513: Zstd of 0 bytes"),
        (entry(1, 2, 262_144),           "segment 513: Zstd of 262144 bytes cannot make 262144"),
        (entry(1, 2, 0xff_ffff),         "segment 513: Zstd of 16777215 bytes"),
        (entry(3, 1, 1001),              "segment 515: Raw of 1001 bytes cannot make 1000"),
        (entry(1, 2, 50_001),            "its segments take 201001 bytes, its pieces hold 201000"),
        (piece(0, 0),                    "piece 0: expected 1 to 98304 bytes, found 0"),
        (piece(0, 98_305),               "piece 0: expected 1 to 98304 bytes, found 98305"),
        (piece(3, u32::MAX),             "piece 3: expected 1 to 98304 bytes, found 4294967295"),
        (piece(3, 999),                  "its segments take 201000 bytes, its pieces hold 200999"),
    ];
    for (bytes, words) in cases {
        refused(route(&bytes), words);
    }
}

#[test]
fn an_object_that_is_not_what_its_name_says_is_refused() {
    let name = Digest::of(b"what was asked for");
    refused(VerifiedObject::prove(&name, b"something else"), "expected");
    refused(VerifiedObject::prove(&name, b""), "(0 bytes)");
    let proven = VerifiedObject::prove(&name, b"what was asked for").unwrap();
    refused(proven.keep(&mut [0; 17]), "expected at most 17 bytes, found 18");
    assert_eq!(proven.keep(&mut [0; 20]).unwrap().bytes(), b"what was asked for");
    assert!(VerifiedSegment::prove(0, b"content", &Digest::of(b"context")).is_none());
    let segment = VerifiedSegment::prove(9, b"content", &Digest::of(b"content")).unwrap();
    assert_eq!((segment.at(), segment.bytes()), (9, &b"content"[..]));
}

/// The worst run: nothing compresses, each segment needs three pieces of its own.
#[test]
fn the_largest_pages_fit_an_object() {
    let mut run = RunBuilder::new();
    let frame = vec![7; SEGMENT_BYTES - 1];
    for _ in 0..RUN_SEGMENTS_MAX {
        run.push(Digest([1; 32]), Encoding::Zstd, &frame).unwrap();
    }
    refused(run.push(Digest([1; 32]), Encoding::Zero, &[]), "takes 512 segments");
    let run = run.finish(0);
    assert_eq!((run.pieces.len(), run.route_page.len()), (RUN_PIECES_MAX, 57_368));
    let mut delta = RunBuilder::new();
    for index in 0..RUN_SEGMENTS_MAX {
        let encoding = if index % 2 == 0 { Encoding::Zstd } else { Encoding::Patch };
        delta.push_delta(Digest([1; 32]), encoding, &frame, true).unwrap();
    }
    let delta = delta.finish_delta(0);
    assert_eq!((delta.pieces.len(), delta.route_page.len()), (RUN_PIECES_MAX, ROUTE_PAGE_BYTES_MAX));
    RoutePage::parse_delta(object(&delta.route_page), 0, RUN_SEGMENTS_MAX, |_| SEGMENT_BYTES).unwrap();
    assert_eq!(run.segment_page.len(), SEGMENT_PAGE_BYTES_MAX);
    assert_eq!(table(&[Digest([0; 32]); TABLE_RUNS_MAX]).len(), TABLE_BYTES_MAX);
    assert!(ROUTE_PAGE_BYTES_MAX.max(SEGMENT_PAGE_BYTES_MAX).max(TABLE_BYTES_MAX) <= OBJECT_BYTES_MAX);
    RoutePage::parse(object(&run.route_page), 0, RUN_SEGMENTS_MAX, |_| SEGMENT_BYTES).unwrap();
}

#[test]
fn the_header_of_an_object_in_a_file_is_held_to_its_kind() {
    #[rustfmt::skip]
    let cases: [([u8; OBJECT_HEADER_BYTES], &str); 10] = [
        ([0, 0, 0, 0, 0, 0, 0, 0],               "unknown kind of object 0"),
        ([6, 0, 0, 0, 1, 0, 0, 0],               "unknown kind of object 6"),
        ([254, 0, 0, 0, 0, 0, 0, 0],             "unknown kind of object 254"),
        ([5, 1, 0, 0, 1, 0, 0, 0],               "reserved bytes"),
        ([5, 0, 0, 1, 1, 0, 0, 0],               "reserved bytes"),
        ([5, 0, 0, 0, 1, 0x80, 1, 0],            "Piece of 98305 bytes, expected at most 98304"),
        ([2, 0, 0, 0, 255, 255, 255, 255],       "Table of 4294967295 bytes"),
        ([1, 0, 0, 0, 0x4d, 0x32, 0, 0],         "Manifest of 12877 bytes, expected at most 12876"),
        ([255, 0, 0, 0, 1, 0, 0, 0],             "End of 1 bytes, expected at most 0"),
        ([255, 0, 0, 1, 0, 0, 0, 0],             "reserved bytes"),
    ];
    for (header, words) in cases {
        refused(Object::parse_header(&header), words);
    }
    let (piece, table) = (Object::Piece, Object::Table);
    for (object, length) in [(Object::Manifest, 12_876), (table, 16), (piece, 98_304), (Object::End, 0)] {
        assert_eq!(Object::parse_header(&object.header(length)).unwrap(), (object, length));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        magic in prop::sample::select(vec![*b"MSTB", *b"MSSP", *b"MSRP", *b"MSDP", *b"JUNK"]),
        first in 0u32..3, count in 0u32..5, rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = magic.to_vec();
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(first.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(rest);
        let _ = Table::parse(object(&bytes), first as usize);
        let _ = SegmentPage::parse(object(&bytes), first, count as usize);
        let _ = RoutePage::parse(object(&bytes), first, count as usize, |_| SEGMENT_BYTES);
        let _ = RoutePage::parse_delta(object(&bytes), first, count as usize, |_| SEGMENT_BYTES);
    }

    /// Whoever changes a page has to get past its digest first; past that, it reads as a sound page or not at all.
    #[test]
    fn a_route_page_with_bytes_changed_is_sound_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = small_run().route_page;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(page) = route(&bytes) {
            let encoded: usize = (0..4).map(|i| page.segment(i).unwrap().1).sum();
            let pieces: usize = (0..page.piece_count()).map(|i| page.piece(i).unwrap().length as usize).sum();
            prop_assert_eq!(encoded, pieces);
        }
    }

    /// However the encodings fall, the pieces in a row are the encodings in a row, and none is too large.
    #[test]
    fn a_built_run_is_one_that_the_reader_takes(lengths in prop::collection::vec(0usize..SEGMENT_BYTES, 1..20)) {
        let mut run = RunBuilder::new();
        let mut row = Vec::new();
        for (i, length) in lengths.iter().enumerate() {
            let encoded = vec![i as u8; *length];
            let encoding = if *length == 0 { Encoding::Zero } else { Encoding::Zstd };
            run.push(Digest([0; 32]), encoding, &encoded).unwrap();
            row.extend(encoded);
        }
        let run = run.finish(0);
        prop_assert!(run.pieces.concat() == row);
        RoutePage::parse(object(&run.route_page), 0, lengths.len(), |_| SEGMENT_BYTES).unwrap();
    }
}
