//! The smallest way to make each segment of a new image on a gateway that still holds the base image.
//!
//! ```text
//! base, new ─► blocks ────► what stands in the base as it is: copies
//!          └─► pairing ───► a file and the file it was before, metadata and metadata, the rest and what it resembles
//!                └─► scan ► bytes that are like bytes of the base (suffix arrays, for what changed alone)
//!                     └───► moves: an executable's addresses, and which transform predicts its code best
//! new, new ──► repeats ──► what is new twice
//! spans of all of these ──► encode: a frame for each segment, or zstd, or the bytes themselves: the smallest
//! ```
//! The result depends on the two images and on [`How`], never on how many threads there are. No image is held in memory: it is
//! read where it is needed. What is wrong here costs bytes and nothing else: each patch is applied again before it is handed out,
//! and the gateway proves every segment by its digest.
//!
//! How images are laid out is not known here ([`layout`](crate::layout) says it), nor how patches are written (core's
//! [`patch`](mainstay_core::bundle::patch) does), nor what a bundle is.

mod blocks;
mod closed;
mod content;
mod draft;
mod elf;
mod encode;
mod job;
mod moves;
mod pairs;
mod parallel;
mod part;
mod plan;
mod prove;
mod ranges;
mod repeats;
mod scan;
mod streams;
mod suffix;
mod votes;

pub use prove::prove;

use crate::Result;
use crate::layout::ReadAt;
use mainstay_core::bundle::Encoding;

/// A segment, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// How.
    pub encoding: Encoding,
    /// What travels.
    pub bytes: Vec<u8>,
    /// A piece begins with this segment: nothing that patches have learned before it counts. True where a run begins, whatever
    /// the encoding is.
    pub begins_piece: bool,
}

/// How to make a delta.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// zstd level, 1..=22.
    pub level: i32,
    /// Worker threads, 1 or more.
    pub threads: usize,
    /// Predict executables' code by what has moved.
    pub transforms: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments and encoded bytes by [`Encoding`], at its number.
    pub encodings: [Tally; 7],
    /// Encoded bytes by [`Source`], in its order; shares within a segment are estimated.
    pub sources: [u64; 4],
    /// What transforms saved, estimated from the bytes that they predicted.
    pub transforms_saved: u64,
    /// Pieces of the route.
    pub pieces: u32,
    /// The files that cost most, with their encoded bytes (estimated within a segment), the worst first.
    pub files: Vec<(String, u64)>,
}

impl Summary {
    /// All encodings together.
    pub fn bytes(&self) -> u64 {
        self.encodings.iter().map(|tally| tally.bytes).sum()
    }
}

/// How often, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Segments.
    pub segments: u32,
    /// Encoded bytes.
    pub bytes: u64,
}

/// What a segment's bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file that is also in the base.
    File,
    /// The file system's own blocks.
    Metadata,
    /// Anything else that changed.
    Content,
    /// What stands in the base as it is, and how it is found there.
    Copies,
}

/// Gives each segment of `new` in order to `take`, made from `base`, and from the new image up to the segment itself: behind the base's
/// end a patch finds what the gateway has written so far, so that what is new twice travels once. `progress` hears of bytes of
/// the new image as they are done, all of them once.
pub fn make(
    base: &dyn ReadAt,
    new: &dyn ReadAt,
    how: How,
    progress: &(dyn Fn(u64) + Sync),
    take: &mut dyn FnMut(u32, Made) -> Result<()>,
) -> Result<Summary> {
    let plan = plan::plan(base, new, how, progress)?;
    encode::encode(&prove::Before::new(base, new), new, &plan, how, take)
}
