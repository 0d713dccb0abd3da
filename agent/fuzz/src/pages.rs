//! Tables, segment pages and route pages, behind a digest that is right.
//!
//! Claims: what is taken can be walked to its end, and no further; a route page's pieces hold exactly what its segments
//! take, so that who walks it never runs out of one before the other.

use crate::allocations::bounded;
use mainstay_core::bundle::{Encoding, RoutePage, SegmentPage, Table, VerifiedObject};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{OBJECT_BYTES_MAX, RUN_PIECES_MAX, RUN_SEGMENTS_MAX, SEGMENT_BYTES};

/// Bytes 0 and 1: how many are expected; 2 and 3: the content of the last segment; 4: of which run; then the object.
pub fn run(data: &[u8]) {
    let [c0, c1, l0, l1, run, object @ ..] = data else { return };
    let count = usize::from(u16::from_le_bytes([*c0, *c1])) % (RUN_SEGMENTS_MAX + 1);
    let last = usize::from(u16::from_le_bytes([*l0, *l1])) + 1;
    let first = u32::from(*run) * RUN_SEGMENTS_MAX as u32;
    bounded(0, || {
        let proven = VerifiedObject::prove(&Digest::of(object), object).expect("its own digest");
        if let Ok(table) = Table::parse(proven, count) {
            assert!((0..count).all(|run| table.page(run).is_ok()) && table.page(count).is_err());
        }
        if let Ok(page) = SegmentPage::parse(proven, first, count) {
            assert!((0..count).all(|i| page.digest(i).is_ok()) && page.digest(count).is_err());
        }
        let content = |i: usize| if i + 1 == count { last.min(SEGMENT_BYTES) } else { SEGMENT_BYTES };
        if let Ok(page) = RoutePage::parse(proven, first, count, content) {
            route(&page, count, content);
        }
    });
}

fn route(page: &RoutePage<'_>, count: usize, content: impl Fn(usize) -> usize) {
    let mut taken = 0;
    for i in 0..count {
        let (encoding, length) = page.segment(i).expect("as many as it says");
        assert!(length <= content(i) && (length > 0) == (encoding != Encoding::Zero));
        taken += length;
    }
    assert!(page.segment(count).is_err() && page.piece_count() <= RUN_PIECES_MAX);
    let mut held = 0;
    for i in 0..page.piece_count() {
        let piece = page.piece(i).expect("as many as it says");
        assert!((1..=OBJECT_BYTES_MAX).contains(&(piece.length as usize)));
        held += piece.length as usize;
    }
    assert!(page.piece(page.piece_count()).is_err());
    assert_eq!(taken, held, "segments and pieces hold the same bytes");
}
