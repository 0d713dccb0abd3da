//! The index, page by page. Each page is proven by its digest before a byte of it is read; the digests come from a
//! table, the table's digest from the signed manifest.
//!
//! ```text
//! Table         0 "MSTB" | 4 version 1 | 5 zero (3) | 8 count (u32) | 12 zero (4) | 16 count × digest (32)
//! SegmentPage   0 "MSSP" | 4 version 1 | 5 zero (3) | 8 first segment (u32) | 12 count (u32) | 16 count × digest (32)
//! RoutePage     0 "MSRP" | 4 version 1 | 5 zero (3) | 8 first segment (u32) | 12 count (u32) | 16 pieces (u32) | 20 zero (4)
//!               24 count × { encoding (u8), length (u24) }
//!               …  pieces × { digest (32), length (u32) }
//! ```
//! All numbers are little endian. The encodings of a run's segments, put in a row, are the same bytes as the run's
//! pieces, put in a row: where a piece ends and where a segment ends are independent, and a route page says both.

use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::Result;

/// The largest table.
pub const TABLE_BYTES_MAX: usize = 16 + TABLE_RUNS_MAX * 32;
/// The largest segment page.
pub const SEGMENT_PAGE_BYTES_MAX: usize = 16 + RUN_SEGMENTS_MAX * 32;
/// The largest route page.
pub const ROUTE_PAGE_BYTES_MAX: usize = 24 + RUN_SEGMENTS_MAX * 4 + RUN_PIECES_MAX * 36;

/// An object whose bytes are what its name says. Only [`VerifiedObject::prove`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedObject<'a>(&'a [u8]);

impl<'a> VerifiedObject<'a> {
    /// Compares the digest of `bytes` with `name`.
    pub fn prove(name: &Digest, bytes: &'a [u8]) -> Result<Self> {
        match Digest::of(bytes) {
            found if found == *name => Ok(VerifiedObject(bytes)),
            found => {
                Err(fault!(Corrupt, "object: expected {name:?}, found {found:?} ({} bytes)", bytes.len()))
            }
        }
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Copies the proven bytes into `out`, where they are as proven.
    pub fn keep(self, out: &mut [u8]) -> Result<VerifiedObject<'_>> {
        let most = out.len();
        let kept = out.get_mut(..self.0.len()).ok_or_else(|| {
            fault!(Corrupt, "object: expected at most {most} bytes, found {}", self.0.len())
        })?;
        kept.copy_from_slice(self.0);
        Ok(VerifiedObject(kept))
    }
}

/// Content that is what the index says. The slots are written from these alone.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedSegment<'a> {
    at: u64,
    bytes: &'a [u8],
}

impl<'a> VerifiedSegment<'a> {
    /// Compares the digest of `bytes` with `digest`, the one that the index lists for the segment at `at`.
    pub fn prove(at: u64, bytes: &'a [u8], digest: &Digest) -> Option<Self> {
        (Digest::of(bytes) == *digest).then_some(VerifiedSegment { at, bytes })
    }
    /// Where it goes in the slot, in bytes.
    pub const fn at(&self) -> u64 {
        self.at
    }
    /// Its content.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A list of pages, one for each run.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a [[u8; 32]]);

impl<'a> Table<'a> {
    /// Reads a table that must list `runs` pages.
    pub fn parse(object: VerifiedObject<'a>, runs: usize) -> Result<Self> {
        let ([count, zero], rest) = header("table", b"MSTB", object.bytes())?;
        let (digests, left) = rest.as_chunks::<32>();
        if zero != 0 {
            return Err(fault!(Unsupported, "table: reserved bytes are {zero:#010x}, expected zero"));
        }
        if count as usize != runs || digests.len() != runs || !left.is_empty() {
            return Err(fault!(
                Corrupt,
                "table: expected {runs} pages in {} bytes, found {count} in {}",
                16 + runs * 32,
                object.bytes().len()
            ));
        }
        Ok(Table(digests))
    }

    /// The name of the page of `run`.
    pub fn page(&self, run: usize) -> Result<Digest> {
        self.0.get(run).map(|d| Digest(*d)).ok_or_else(|| fault!(Corrupt, "table: no run {run}"))
    }
}

/// Digests of a run's segments.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPage<'a>(&'a [[u8; 32]]);

impl<'a> SegmentPage<'a> {
    /// Reads the page of the run that begins with segment `first` and holds `count` of them.
    pub fn parse(object: VerifiedObject<'a>, first: u32, count: usize) -> Result<Self> {
        let ([found_first, found_count], rest) = header("segment page", b"MSSP", object.bytes())?;
        let (digests, left) = rest.as_chunks::<32>();
        if (found_first, found_count as usize) != (first, count) || digests.len() != count || !left.is_empty()
        {
            return Err(fault!(
                Corrupt,
                "segment page: expected segments {first}+{count}, found {found_first}+{found_count} in {} bytes",
                object.bytes().len()
            ));
        }
        Ok(SegmentPage(digests))
    }

    /// The digest of the segment at `index` in this run.
    pub fn digest(&self, index: usize) -> Result<Digest> {
        self.0
            .get(index)
            .map(|d| Digest(*d))
            .ok_or_else(|| fault!(Corrupt, "segment page: no segment {index}"))
    }
}

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
    segments: &'a [[u8; 4]],
    pieces: &'a [[u8; 36]],
}

impl<'a> RoutePage<'a> {
    /// Reads the page of the run that begins with segment `first` and holds `count` of them; `content(i)` says how
    /// many bytes segment i of the run holds. Every length is checked against every other here, once, so that who
    /// walks the page later need not.
    pub fn parse(
        object: VerifiedObject<'a>,
        first: u32,
        count: usize,
        content: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let ([found_first, found_count], rest) = header("route page", b"MSRP", object.bytes())?;
        let bad = |why: &str| fault!(Corrupt, "route page of segments {first}+{count}: {why}");
        if (found_first, found_count as usize) != (first, count) {
            return Err(fault!(
                Corrupt,
                "route page: expected segments {first}+{count}, found {found_first}+{found_count}"
            ));
        }
        let (&[p0, p1, p2, p3, z0, z1, z2, z3], rest) =
            rest.split_first_chunk::<8>().ok_or_else(|| bad("cut short in its header"))?;
        let pieces = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if [z0, z1, z2, z3] != [0; 4] {
            return Err(bad("reserved bytes are not zero"));
        }
        if pieces > RUN_PIECES_MAX {
            return Err(fault!(
                Corrupt,
                "route page: expected at most {RUN_PIECES_MAX} pieces, found {pieces}"
            ));
        }
        let (segments, rest) =
            rest.split_at_checked(count * 4).ok_or_else(|| bad("cut short in its segments"))?;
        let (segments, _) = segments.as_chunks::<4>();
        let (listed, left) = rest.as_chunks::<36>();
        if listed.len() != pieces || !left.is_empty() {
            return Err(fault!(
                Corrupt,
                "route page: expected {pieces} pieces, found {} bytes of them",
                rest.len()
            ));
        }
        let page = RoutePage { segments, pieces: listed };
        let mut encoded_total = 0u64;
        for index in 0..count {
            let (encoding, length) = page.segment(index)?;
            let content = content(index);
            let fits = match encoding {
                Encoding::Zero => length == 0,
                Encoding::Raw => length == content,
                Encoding::Zstd => length > 0 && length < content,
            };
            if !fits {
                return Err(fault!(
                    Corrupt,
                    "route page: segment {}: {encoding:?} of {length} bytes cannot make {content} bytes",
                    first as usize + index
                ));
            }
            encoded_total += length as u64;
        }
        let mut pieces_total = 0u64;
        for index in 0..pieces {
            let Piece { length, .. } = page.piece(index)?;
            if length == 0 || length as usize > OBJECT_BYTES_MAX {
                return Err(fault!(
                    Corrupt,
                    "route page: piece {index}: expected 1 to {OBJECT_BYTES_MAX} bytes, found {length}"
                ));
            }
            pieces_total += length as u64;
        }
        if pieces_total != encoded_total {
            return Err(fault!(
                Corrupt,
                "route page: its segments take {encoded_total} bytes, its pieces hold {pieces_total}"
            ));
        }
        Ok(page)
    }

    /// Encoding and encoded length of the segment at `index` in this run.
    pub fn segment(&self, index: usize) -> Result<(Encoding, usize)> {
        let &[encoding, a, b, c] =
            self.segments.get(index).ok_or_else(|| fault!(Corrupt, "route page: no segment {index}"))?;
        let encoding = match encoding {
            0 => Encoding::Zero,
            1 => Encoding::Raw,
            2 => Encoding::Zstd,
            _ => {
                return Err(fault!(
                    Unsupported,
                    "route page: unknown encoding {encoding}; this agent is too old for it"
                ));
            }
        };
        Ok((encoding, u32::from_le_bytes([a, b, c, 0]) as usize))
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

/// Magic, version and the two numbers that every page begins with; and what follows them.
fn header<'a>(what: &str, magic: &[u8; 4], bytes: &'a [u8]) -> Result<([u32; 2], &'a [u8])> {
    let short = || fault!(Corrupt, "{what}: cut short at {} bytes", bytes.len());
    let (head, rest) = bytes.split_first_chunk::<16>().ok_or_else(short)?;
    let [m0, m1, m2, m3, version, z0, z1, z2, a0, a1, a2, a3, b0, b1, b2, b3] = *head;
    if [m0, m1, m2, m3] != *magic {
        return Err(fault!(Corrupt, "{what}: expected magic {magic:02x?}, found {:02x?}", [m0, m1, m2, m3]));
    }
    if [z0, z1, z2] != [0; 3] {
        return Err(fault!(Unsupported, "{what}: reserved bytes are {:02x?}, expected zero", [z0, z1, z2]));
    }
    if version != 1 {
        return Err(fault!(
            Unsupported,
            "{what}: expected version 1, found {version}; this agent is too old for it"
        ));
    }
    Ok(([u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([b0, b1, b2, b3])], rest))
}
