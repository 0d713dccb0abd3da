//! Tables, segment pages, route pages and delta pages, behind a digest that is right.
//!
//! Claims: what is taken can be walked to its end, and no further; its pieces hold exactly what its segments take, so that who
//! walks it never runs out of one before the other; each length is one that its encoding can have; it takes no heap, and
//! asks for each segment's content twice at most. Written anew from what was read it is the same, byte for byte (but that a
//! delta page may say in two spans what fits in one). A delta page made by the rules is taken, and says what went in; one of whose
//! pieces has a length that no piece may have is refused.

use crate::allocations::bounded;
use crate::signed::{Spoil, spoil};
use arbitrary::{Arbitrary, Unstructured};
use mainstay_core::bundle::{Encoding, Piece, Proof, RoutePage, SegmentPage, Table, VerifiedObject, author};
use mainstay_core::digest::Digest;
use mainstay_core::limits::*;
use std::cell::Cell;

/// Bytes 0 and 1: how many are expected; 2 and 3: the content of the last segment; 4: of which run; then the object, or, with
/// bit 7 of byte 1, the plan of a delta page.
pub fn run(data: &[u8]) {
    let [c0, c1, l0, l1, run, object @ ..] = data else { return };
    let is_plan = c1 & 0x80 > 0;
    let most = if is_plan { PLANNED_MAX } else { RUN_SEGMENTS_MAX };
    let count = usize::from(u16::from_le_bytes([*c0, c1 & 0x7f])) % (most + 1);
    let last = usize::from(u16::from_le_bytes([*l0, *l1])) + 1;
    let first = u32::from(*run) * RUN_SEGMENTS_MAX as u32;
    let content = |i: usize| if i + 1 == count { last.min(SEGMENT_BYTES) } else { SEGMENT_BYTES };
    if !is_plan {
        return read(object, first, count, content);
    }
    let Ok(plan) = Plan::arbitrary(&mut Unstructured::new(object)) else { return };
    let made = plan.made(first, count, content);
    if let Some(broken) = plan.broken(&made) {
        let page = broken.written(first);
        let object = VerifiedObject::prove(&Digest::of(&page), &page).expect("its own digest");
        assert!(
            RoutePage::parse_delta(object, first, count, content).is_err(),
            "a piece of a length that none has"
        );
    }
    let mut page = made.written(first);
    let object = VerifiedObject::prove(&Digest::of(&page), &page).expect("its own digest");
    let taken = RoutePage::parse_delta(object, first, count, content).expect("made by the rules");
    assert_eq!(Listed::of(&taken, count), made, "what went in");
    plan.spoil.iter().for_each(|by| spoil(&mut page, by));
    read(&page, first, count, content);
}

/// Segments of a page that is planned: a longer one shows nothing more, and takes longer.
const PLANNED_MAX: usize = 64;

fn read(object: &[u8], first: u32, count: usize, content: impl Fn(usize) -> usize) {
    let proven = VerifiedObject::prove(&Digest::of(object), object).expect("its own digest");
    let asked = Cell::new(0);
    let content = |i: usize| {
        asked.set(asked.get() + 1);
        content(i)
    };
    let (table, segments, full, delta) = bounded(0, || {
        (
            Table::parse(proven, count),
            SegmentPage::parse(proven, first, count),
            RoutePage::parse(proven, first, count, content),
            RoutePage::parse_delta(proven, first, count, content),
        )
    });
    assert!(asked.get() <= 2 * count, "twice for each segment, for the one kind of page that it is");
    if let Ok(table) = table {
        let names: Vec<_> = (0..count).map(|run| table.page(run).expect("as many as it says")).collect();
        assert!(table.page(count).is_err());
        assert_eq!(author::table(&names), object);
    }
    if let Ok(page) = segments {
        assert!((0..count).all(|i| page.digest(i).is_ok()) && page.digest(count).is_err());
    }
    if let Ok(page) = full {
        assert!((0..count).all(|i| page.proof(i).is_ok_and(|proof| proof.is_none())));
        route(&page, first, count, content);
        let listed = Listed::of(&page, count);
        assert!(listed.segments.iter().all(|(encoding, _)| !encoding.needs_base()));
        assert_eq!(listed.written_full(first), object);
    }
    if let Ok(page) = delta {
        route(&page, first, count, content);
        assert!(page.proof(count).is_err());
        let (again, spans) = (Listed::of(&page, count).written(first), spans_of(object));
        let ours = spans_of(&again);
        assert!(ours <= spans && spans <= count);
        let behind = |page: &[u8], spans: usize| page[24 + 3 * spans..].to_vec();
        assert_eq!((&again[..20], behind(&again, ours)), (&object[..20], behind(object, spans)));
        assert!(ours < spans || again == object);
    }
}

fn spans_of(page: &[u8]) -> usize {
    u32::from_le_bytes(page[20..24].try_into().expect("four")) as usize
}

fn route(page: &RoutePage<'_>, first: u32, count: usize, content: impl Fn(usize) -> usize) {
    let mut taken = 0;
    for i in 0..count {
        let ((encoding, length), content) = (page.segment(i).expect("as many as it says"), content(i));
        assert!(match encoding {
            Encoding::Zero | Encoding::Copy => length == 0,
            Encoding::Raw => length == content,
            Encoding::Zstd | Encoding::Patch => (1..content).contains(&length),
            Encoding::Recoded => (1..content.min(PARTS_BYTES_MAX + 1)).contains(&length),
            Encoding::Prefixed =>
                first as usize + i > 0 && (1..content.min(PREFIXED_BYTES_MAX + 1)).contains(&length),
        });
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

/// What a page lists.
#[derive(Debug, PartialEq)]
struct Listed {
    segments: Vec<(Encoding, usize)>,
    proofs: Vec<Option<Proof>>,
    pieces: Vec<Piece>,
}

impl Listed {
    fn of(page: &RoutePage<'_>, count: usize) -> Self {
        Listed {
            segments: (0..count).map(|i| page.segment(i).expect("as many as it says")).collect(),
            proofs: (0..count).map(|i| page.proof(i).expect("of each")).collect(),
            pieces: (0..page.piece_count()).map(|i| page.piece(i).expect("as many")).collect(),
        }
    }

    fn head(&self, magic: &[u8; 4], first: u32, last: usize) -> Vec<u8> {
        let numbers = [first, self.segments.len() as u32, self.pieces.len() as u32, last as u32];
        [&magic[..], &[1, 0, 0, 0], &numbers.map(u32::to_le_bytes).concat()].concat()
    }

    fn with_pieces(&self, mut page: Vec<u8>) -> Vec<u8> {
        let entry = |piece: &Piece| [&piece.name.0[..], &piece.length.to_le_bytes()].concat();
        page.extend(self.pieces.iter().flat_map(entry));
        page
    }

    /// A full route's page, as SPEC-bundle says.
    fn written_full(&self, first: u32) -> Vec<u8> {
        let entry = |(encoding, length): &(Encoding, usize)| {
            let [a, b, c, _] = (*length as u32).to_le_bytes();
            [*encoding as u8, a, b, c]
        };
        let mut page = self.head(b"MSRP", first, 0);
        page.extend(self.segments.iter().flat_map(entry));
        self.with_pieces(page)
    }

    /// A delta route's page, as SPEC-bundle says, in as few spans as it takes.
    fn written(&self, first: u32) -> Vec<u8> {
        let spans: Vec<_> = self.segments.chunk_by(|a, b| a.0 == b.0).collect();
        let mut page = self.head(b"MSDP", first, spans.len());
        for span in spans {
            let [a, b] = (span.len() as u16).to_le_bytes();
            page.extend([span[0].0 as u8, a, b]);
        }
        for (encoding, length) in &self.segments {
            if matches!(encoding, Encoding::Zstd | Encoding::Patch | Encoding::Prefixed | Encoding::Recoded) {
                page.extend(&(*length as u32).to_le_bytes()[..3]);
            }
        }
        for proof in &self.proofs {
            match proof {
                Some(Proof::Short(short)) => page.extend(short.0),
                Some(Proof::Zeros) => {}
                proof => unreachable!("{proof:?} of a delta page"),
            }
        }
        self.with_pieces(page)
    }
}

/// A delta page made by the rules, and what is done to it then.
#[derive(Arbitrary, Debug)]
struct Plan {
    spoil: [Option<Spoil>; 2],
    /// Pieces that add up, and of which one has a length that none may have.
    broken: bool,
    /// How large a piece is, but the last.
    piece: u16,
    digest: u8,
    /// Encoding, and of how many segments in a row; the last goes on to the end.
    spans: [(u8, u8); 6],
    lengths: [u16; 4],
}

impl Plan {
    fn broken(&self, made: &Listed) -> Option<Listed> {
        let bytes: usize = made.segments.iter().map(|(_, length)| length).sum();
        let piece = |length: usize| Piece { name: Digest([self.digest; 32]), length: length as u32 };
        let pieces = match self.broken {
            true if bytes > OBJECT_BYTES_MAX => vec![piece(bytes)],
            true => [&made.pieces[..], &[piece(0)]].concat(),
            false => return None,
        };
        Some(Listed { segments: made.segments.clone(), proofs: made.proofs.clone(), pieces })
    }

    fn made(&self, first: u32, count: usize, content: impl Fn(usize) -> usize) -> Listed {
        use Encoding::*;
        let all = [Zero, Raw, Zstd, Copy, Patch, Prefixed, Recoded];
        let spans = self.spans.iter().flat_map(|(encoding, of)| {
            std::iter::repeat_n(all[usize::from(*encoding) % all.len()], usize::from(*of) + 1)
        });
        let end = all[usize::from(self.digest) % all.len()];
        let segment = |(i, encoding): (usize, Encoding)| match (encoding, content(i)) {
            (Encoding::Zero | Encoding::Copy, _) => (encoding, 0),
            (Encoding::Raw, content) | (_, content @ 1) => (Encoding::Raw, content),
            (Encoding::Prefixed, content) if first as usize + i == 0 => (Encoding::Raw, content),
            (_, content) => {
                let most = match encoding {
                    Prefixed => PREFIXED_BYTES_MAX.min(content - 1),
                    Recoded => PARTS_BYTES_MAX.min(content - 1),
                    _ => content - 1,
                };
                (encoding, 1 + usize::from(self.lengths[i % 4]) * 4 % most)
            }
        };
        let segments: Vec<_> =
            spans.chain(std::iter::repeat(end)).take(count).enumerate().map(segment).collect();
        let digest = |i: usize| Digest::of(&[self.digest, i as u8]);
        let proof = |(i, (encoding, _)): (usize, &(Encoding, usize))| {
            Some(match encoding {
                Encoding::Zero => Proof::Zeros,
                _ => Proof::Short((&digest(i)).into()),
            })
        };
        let proofs = segments.iter().enumerate().map(proof).collect();
        let mut left: usize = segments.iter().map(|(_, length)| length).sum();
        // As few as there may be, or smaller ones.
        let least = left.div_ceil(RUN_PIECES_MAX).max(1);
        let size = (usize::from(self.piece) * 2 + 1).clamp(least, OBJECT_BYTES_MAX);
        let mut pieces = Vec::new();
        while left > 0 {
            let length = size.min(left);
            pieces.push(Piece { name: digest(pieces.len()), length: length as u32 });
            left -= length;
        }
        Listed { segments, proofs, pieces }
    }
}
