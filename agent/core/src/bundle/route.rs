//! How the segments of a run are made: its route page.
//!
//! ```text
//! full    0 "MSRP" | 4 version 1 | 5 zero (3) | 8 first segment (u32) | 12 count (u32) | 16 pieces (u32) | 20 zero (4)
//!         24 count × { encoding (u8), length (u24) }
//!         …  pieces × { digest (32), length (u32) }
//!
//! delta   0 "MSDP" | 4 version 1 | 5 zero (3) | 8 first segment (u32) | 12 count (u32) | 16 pieces (u32) | 20 spans (u32)
//!         24 spans × { encoding (u8), segments (u16) }
//!         …  for each segment of an encoding that has a length of its own (zstd, patch, prefixed, recoded): length (u24)
//!         …  for each segment that is not zero: the first 16 bytes of its content's digest
//!         …  pieces × { digest (32), length (u32) }
//! ```
//! All numbers are little endian. The encodings of a run's segments, put in a row, are the same bytes as the run's
//! pieces, put in a row: where a piece ends and where a segment ends are independent, and a route page says both.
//!
//! A delta page says itself what its segments must be, so that who takes it needs no segment page: on a small update those
//! would be a twelfth of what travels.

use super::page::{Proof, SHORT_DIGEST_BYTES, ShortDigest, VerifiedObject, header};
use crate::digest::Digest;
use crate::fault;
use crate::fault::Fault;
use crate::limits::*;
use crate::seam::Result;

/// The largest route page, full or delta. Full: 24 + 512 * 4 + 1536 * 36 = 57,368; delta: 24 + 512 * (3 + 3 + 16) + 1536 * 36.
pub const ROUTE_PAGE_BYTES_MAX: usize =
    24 + RUN_SEGMENTS_MAX * (3 + 3 + SHORT_DIGEST_BYTES) + RUN_PIECES_MAX * 36;

/// How a segment's content is made. Append-only: the number stands in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// All zero; takes no bytes.
    Zero = 0,
    /// As it is.
    Raw = 1,
    /// One zstd frame (RFC 8878), shorter than the content.
    Zstd = 2,
    /// What the base holds at the same place; takes no bytes. In delta routes alone.
    Copy = 3,
    /// One frame of [`patch`](super::patch), shorter than the content. In delta routes alone. What frames have learned lasts
    /// within a piece: a frame that begins in another piece than the one before it begins anew.
    Patch = 4,
    /// One zstd frame, shorter than the content and at most [`PREFIXED_BYTES_MAX`], that may refer to the segment before it as to
    /// a dictionary of raw content (RFC 8878, section 5). The first segment of an artifact has none.
    Prefixed = 5,
    /// Parts: patches, and blocks of zstd that patches make [opened](super::recode). Shorter than the content and at most
    /// [`PARTS_BYTES_MAX`]. In delta routes alone; what patches have learned goes on in them.
    Recoded = 6,
}

impl Encoding {
    fn of(number: u8) -> Result<Encoding> {
        Ok(match number {
            0 => Encoding::Zero,
            1 => Encoding::Raw,
            2 => Encoding::Zstd,
            3 => Encoding::Copy,
            4 => Encoding::Patch,
            5 => Encoding::Prefixed,
            6 => Encoding::Recoded,
            _ => {
                return Err(fault!(
                    Unsupported,
                    "route page: unknown encoding {number}; this agent is too old for it"
                ));
            }
        })
    }

    /// Does it need a base?
    pub const fn needs_base(self) -> bool {
        matches!(self, Encoding::Copy | Encoding::Patch | Encoding::Recoded)
    }

    /// Does it learn from the frames before it in its piece?
    pub const fn learns(self) -> bool {
        matches!(self, Encoding::Patch | Encoding::Recoded)
    }

    /// The length that it always has for `content` bytes; `None`: one of its own, which a page has to list.
    pub(super) const fn implied_length(self, content: usize) -> Option<usize> {
        match self {
            Encoding::Zero | Encoding::Copy => Some(0),
            Encoding::Raw => Some(content),
            Encoding::Zstd | Encoding::Patch | Encoding::Prefixed | Encoding::Recoded => None,
        }
    }

    /// Can `length` bytes of it make `content` bytes?
    fn fits(self, length: usize, content: usize) -> bool {
        let most = match self {
            Encoding::Prefixed => PREFIXED_BYTES_MAX,
            Encoding::Recoded => PARTS_BYTES_MAX,
            _ => SEGMENT_BYTES,
        };
        match self.implied_length(content) {
            Some(implied) => length == implied,
            None => length > 0 && length < content && length <= most,
        }
    }
}

/// A piece of a run: what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// SHA-256 of its bytes: its name.
    pub name: Digest,
    /// Its length in bytes, 1..=OBJECT_BYTES_MAX.
    pub length: u32,
}

/// Encodings and pieces of a run.
#[derive(Clone, Copy, Debug)]
pub struct RoutePage<'a> {
    /// Encoding in the highest byte, length below.
    segments: [u32; RUN_SEGMENTS_MAX],
    count: usize,
    /// Of a delta page: one for each segment that is not zero.
    proofs: Option<&'a [[u8; SHORT_DIGEST_BYTES]]>,
    pieces: &'a [[u8; 36]],
}

impl<'a> RoutePage<'a> {
    /// Reads the page of a full route for the run that begins with segment `first` and holds `count` of them; `content(i)`
    /// says how many bytes segment i of the run holds. Every length is checked against every other here, once, so that who
    /// walks the page later need not.
    pub fn parse(
        object: VerifiedObject<'a>,
        first: u32,
        count: usize,
        content: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let (head, rest) = Head::read("route page", b"MSRP", object.bytes(), first, count)?;
        if head.last != 0 {
            return Err(head.bad("reserved bytes are not zero"));
        }
        let cut = || head.bad("cut short in its segments");
        let (listed, pieces) = rest.split_at_checked(count * 4).ok_or_else(cut)?;
        let mut segments = [0; RUN_SEGMENTS_MAX];
        for (index, (place, &[encoding, a, b, c])) in
            segments.iter_mut().zip(listed.as_chunks::<4>().0).enumerate()
        {
            let encoding = Encoding::of(encoding)?;
            if encoding.needs_base() {
                return Err(
                    head.bad_segment(index, format_args!("{encoding:?} in a full route, which has no base"))
                );
            }
            *place = entry(encoding, u32::from_le_bytes([a, b, c, 0]));
        }
        let pieces = head.pieces(pieces)?;
        RoutePage { segments, count, proofs: None, pieces }.checked(&head, content)
    }

    /// The same for a page of a delta route.
    pub fn parse_delta(
        object: VerifiedObject<'a>,
        first: u32,
        count: usize,
        content: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let (head, rest) = Head::read("delta page", b"MSDP", object.bytes(), first, count)?;
        let spans = head.last as usize;
        if spans > count {
            return Err(fault!(Corrupt, "delta page: expected at most {count} spans, found {spans}"));
        }
        let cut = |within: &str| head.bad(within);
        let (listed, mut rest) =
            rest.split_at_checked(spans * 3).ok_or_else(|| cut("cut short in its spans"))?;
        let mut segments = [0; RUN_SEGMENTS_MAX];
        let mut filled = 0;
        for &[encoding, a, b] in listed.as_chunks::<3>().0 {
            let (encoding, number) = (Encoding::of(encoding)?, usize::from(u16::from_le_bytes([a, b])));
            let span = segments.get_mut(..count).and_then(|all| all.get_mut(filled..filled + number));
            let Some(span) = span.filter(|span| !span.is_empty()) else {
                return Err(head.bad_segment(
                    filled,
                    format_args!("a span of {number}, expected 1 to {}", count - filled),
                ));
            };
            for place in span {
                let length = match encoding.implied_length(content(filled)) {
                    Some(implied) => implied as u32,
                    None => {
                        let (&[a, b, c], left) =
                            rest.split_first_chunk().ok_or_else(|| cut("cut short in its lengths"))?;
                        rest = left;
                        u32::from_le_bytes([a, b, c, 0])
                    }
                };
                *place = entry(encoding, length);
                filled += 1;
            }
        }
        if filled != count {
            return Err(head.bad_segment(filled, format_args!("no span holds it")));
        }
        let proofs = segments.iter().take(count).filter(|entry| is_proven(**entry)).count();
        let (proofs, pieces) = rest
            .split_at_checked(proofs * SHORT_DIGEST_BYTES)
            .ok_or_else(|| cut("cut short in its digests"))?;
        let (proofs, pieces) = (Some(proofs.as_chunks().0), head.pieces(pieces)?);
        RoutePage { segments, count, proofs, pieces }.checked(&head, content)
    }

    /// Do all lengths fit together?
    fn checked(self, head: &Head, content: impl Fn(usize) -> usize) -> Result<Self> {
        let mut encoded_total = 0u64;
        for index in 0..self.count {
            let (encoding, length) = self.segment(index)?;
            let content = content(index);
            if !encoding.fits(length, content) {
                return Err(head.bad_segment(
                    index,
                    format_args!("{encoding:?} of {length} bytes cannot make {content} bytes"),
                ));
            }
            if encoding == Encoding::Prefixed && head.first as usize + index == 0 {
                return Err(head.bad_segment(index, format_args!("a prefix, and no segment before it")));
            }
            encoded_total += length as u64;
        }
        let mut pieces_total = 0u64;
        for index in 0..self.piece_count() {
            let Piece { length, .. } = self.piece(index)?;
            if length == 0 || length as usize > OBJECT_BYTES_MAX {
                return Err(fault!(
                    Corrupt,
                    "{}: piece {index}: expected 1 to {OBJECT_BYTES_MAX} bytes, found {length}",
                    head.what
                ));
            }
            pieces_total += length as u64;
        }
        if pieces_total != encoded_total {
            return Err(fault!(
                Corrupt,
                "{}: its segments take {encoded_total} bytes, its pieces hold {pieces_total}",
                head.what
            ));
        }
        Ok(self)
    }

    /// Encoding and encoded length of the segment at `index` in this run.
    pub fn segment(&self, index: usize) -> Result<(Encoding, usize)> {
        let listed = self.segments.get(..self.count).and_then(|all| all.get(index));
        let entry = listed.ok_or_else(|| fault!(Corrupt, "route page: no segment {index}"))?;
        Ok((Encoding::of((entry >> 24) as u8)?, (entry & 0xff_ffff) as usize))
    }

    /// What a delta page says that the segment must be; `None`: it is a full route's, and the segment page says so.
    pub fn proof(&self, index: usize) -> Result<Option<Proof>> {
        let Some(proofs) = self.proofs else { return Ok(None) };
        if self.segment(index)?.0 == Encoding::Zero {
            return Ok(Some(Proof::Zeros));
        }
        let before = self.segments.iter().take(index).filter(|entry| is_proven(**entry)).count();
        let proof = proofs.get(before).ok_or_else(|| fault!(Corrupt, "delta page: no digest of {index}"))?;
        Ok(Some(Proof::Short(ShortDigest(*proof))))
    }

    /// The piece at `index` in this run.
    pub fn piece(&self, index: usize) -> Result<Piece> {
        let entry = self.pieces.get(index).ok_or_else(|| fault!(Corrupt, "route page: no piece {index}"))?;
        let (name, length) = entry.split_at(32);
        match (<[u8; 32]>::try_from(name), <[u8; 4]>::try_from(length)) {
            (Ok(name), Ok(length)) => Ok(Piece { name: Digest(name), length: u32::from_le_bytes(length) }),
            _ => Err(fault!(Corrupt, "route page: no piece {index}")), // 36 is 32 and 4
        }
    }

    /// Pieces of this run.
    pub const fn piece_count(&self) -> usize {
        self.pieces.len()
    }
}

const fn entry(encoding: Encoding, length: u32) -> u32 {
    (encoding as u32) << 24 | length // 24 bits
}

/// Does a delta page hold a digest for it? All but zeros have one.
const fn is_proven(entry: u32) -> bool {
    entry >> 24 != Encoding::Zero as u32
}

/// What both kinds of page begin with.
struct Head {
    what: &'static str,
    first: u32,
    count: usize,
    pieces: usize,
    /// Zero, or the number of spans.
    last: u32,
}

impl Head {
    fn read<'a>(
        what: &'static str,
        magic: &[u8; 4],
        bytes: &'a [u8],
        first: u32,
        count: usize,
    ) -> Result<(Head, &'a [u8])> {
        let ([found_first, found_count], rest) = header(what, magic, bytes)?;
        if (found_first, found_count as usize) != (first, count) || count > RUN_SEGMENTS_MAX {
            return Err(fault!(
                Corrupt,
                "{what}: expected segments {first}+{count}, found {found_first}+{found_count}"
            ));
        }
        let mut head = Head { what, first, count, pieces: 0, last: 0 };
        let (&[p0, p1, p2, p3, z0, z1, z2, z3], rest) =
            rest.split_first_chunk::<8>().ok_or_else(|| head.bad("cut short in its header"))?;
        head.pieces = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        head.last = u32::from_le_bytes([z0, z1, z2, z3]);
        if head.pieces > RUN_PIECES_MAX {
            let found = head.pieces;
            return Err(fault!(Corrupt, "{what}: expected at most {RUN_PIECES_MAX} pieces, found {found}"));
        }
        Ok((head, rest))
    }

    fn pieces<'a>(&self, rest: &'a [u8]) -> Result<&'a [[u8; 36]]> {
        match rest.as_chunks::<36>() {
            (listed, []) if listed.len() == self.pieces => Ok(listed),
            _ => Err(fault!(
                Corrupt,
                "{}: expected {} pieces, found {} bytes of them",
                self.what,
                self.pieces,
                rest.len()
            )),
        }
    }

    fn bad(&self, why: &str) -> Fault {
        fault!(Corrupt, "{} of segments {}+{}: {why}", self.what, self.first, self.count)
    }

    fn bad_segment(&self, index: usize, why: core::fmt::Arguments<'_>) -> Fault {
        fault!(Corrupt, "{}: segment {}: {why}", self.what, self.first as usize + index)
    }
}
