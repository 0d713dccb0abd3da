//! The index, page by page. Each page is proven by its digest before a byte of it is read; the digests come from a
//! table, the table's digest from the signed manifest.
//!
//! ```text
//! Table         0 "MSTB" | 4 version 1 | 5 zero (3) | 8 count (u32) | 12 zero (4) | 16 count × digest (32)
//! SegmentPage   0 "MSSP" | 4 version 1 | 5 zero (3) | 8 first segment (u32) | 12 count (u32) | 16 count × digest (32)
//! ```
//! All numbers are little endian. How segments are made, route pages say: [`route`](super::route).

use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::Result;

/// The largest table.
pub const TABLE_BYTES_MAX: usize = 16 + TABLE_RUNS_MAX * 32;
/// The largest segment page.
pub const SEGMENT_PAGE_BYTES_MAX: usize = 16 + RUN_SEGMENTS_MAX * 32;

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

/// The first 16 bytes of a SHA-256: what a delta page holds a segment against. To make other bytes of the same 128 bits is
/// out of reach (2^128; NIST SP 800-107, section 5.1), and the whole content's SHA-256 is compared when it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortDigest(pub [u8; SHORT_DIGEST_BYTES]);

/// See [`ShortDigest`].
pub const SHORT_DIGEST_BYTES: usize = 16;

impl From<&Digest> for ShortDigest {
    fn from(digest: &Digest) -> Self {
        ShortDigest(digest.0.first_chunk().copied().unwrap_or_default()) // 16 of 32
    }
}

/// What a page says that a segment must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Of this digest.
    Whole(Digest),
    /// Of a digest that begins so.
    Short(ShortDigest),
    /// All zero.
    Zeros,
}

impl Proof {
    /// Are these bytes it?
    pub fn holds(&self, bytes: &[u8]) -> bool {
        match self {
            Proof::Whole(digest) => Digest::of(bytes) == *digest,
            Proof::Short(short) => ShortDigest::from(&Digest::of(bytes)) == *short,
            Proof::Zeros => all_zero(bytes),
        }
    }
}

/// 8 bytes at a time, whatever the program is built for: a quarter of an image is zeros, and all of them are looked at.
fn all_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
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
        VerifiedSegment::prove_by(at, bytes, &Proof::Whole(*digest))
    }

    /// Holds `bytes` against what a page says of the segment at `at`.
    pub fn prove_by(at: u64, bytes: &'a [u8], proof: &Proof) -> Option<Self> {
        proof.holds(bytes).then_some(VerifiedSegment { at, bytes })
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

/// Magic, version and the two numbers that every page begins with; and what follows them.
pub(super) fn header<'a>(what: &str, magic: &[u8; 4], bytes: &'a [u8]) -> Result<([u32; 2], &'a [u8])> {
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
