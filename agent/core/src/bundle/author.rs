//! Making bundles: pure, one run at a time, so that an operator's tool can pack an image of any size with the
//! memory of one run. Compression is the caller's: it hands in each segment already encoded.

use super::page::ShortDigest;
use super::route::Encoding;
use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::Result;
use alloc::vec::Vec;

/// One run in the making: takes encoded segments, cuts them into pieces.
///
/// A segment goes whole into the piece in progress if it still fits there. Otherwise that piece is closed, and a
/// segment larger than a piece is cut into as few pieces of its own as it takes. So a resumed download fetches
/// again at most the one piece that was in flight.
#[derive(Default)]
pub struct RunBuilder {
    digests: Vec<Digest>,
    segments: Vec<(Encoding, usize)>,
    pieces: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// What patches have learned was forgotten since the last byte.
    forgotten: bool,
}

/// One finished run.
pub struct Run {
    /// The segment page.
    pub segment_page: Vec<u8>,
    /// The route page.
    pub route_page: Vec<u8>,
    /// The pieces, in order.
    pub pieces: Vec<Vec<u8>>,
    /// The digests of the segments' contents.
    pub digests: Vec<Digest>,
}

impl RunBuilder {
    /// Starts a run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Segments so far.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// No segment yet?
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes the next segment of a delta route. `begins_piece`: it begins with a piece, and what patches have learned was
    /// forgotten before it. The maker says so and not this builder, because a frame cannot be put into another piece than it
    /// was made for: a segment that needs a new piece and does not say so is refused.
    pub fn push_delta(
        &mut self,
        content: Digest,
        encoding: Encoding,
        encoded: &[u8],
        begins_piece: bool,
    ) -> Result<()> {
        if begins_piece {
            self.close();
            self.forgotten = true;
        }
        let room = OBJECT_BYTES_MAX - self.open.len();
        let new_piece = self.open.is_empty() || encoded.len() > room;
        if new_piece && !self.forgotten && !encoded.is_empty() {
            let (segment, bytes) = (self.segments.len(), encoded.len());
            return Err(fault!(
                Refused,
                "run: segment {segment}: {encoding:?} of {bytes} bytes needs a piece of its own (the one in progress has room for {room})"
            ));
        }
        self.forgotten &= encoded.is_empty();
        self.push(content, encoding, encoded)
    }

    /// Takes the next segment: the digest of its content, and the bytes that make it.
    pub fn push(&mut self, content: Digest, encoding: Encoding, encoded: &[u8]) -> Result<()> {
        if self.segments.len() == RUN_SEGMENTS_MAX || encoded.len() > SEGMENT_BYTES {
            return Err(fault!(
                Full,
                "run: takes {RUN_SEGMENTS_MAX} segments of at most {SEGMENT_BYTES} bytes"
            ));
        }
        self.digests.push(content);
        self.segments.push((encoding, encoded.len()));
        if self.open.len() + encoded.len() > OBJECT_BYTES_MAX {
            self.close();
        }
        if encoded.len() > OBJECT_BYTES_MAX {
            let cuts = encoded.len().div_ceil(OBJECT_BYTES_MAX);
            self.pieces.extend(encoded.chunks(encoded.len().div_ceil(cuts)).map(<[u8]>::to_vec));
        } else {
            self.open.extend_from_slice(encoded);
        }
        Ok(())
    }

    /// Ends the run, which began with segment `first` of its artifact.
    pub fn finish(mut self, first: u32) -> Run {
        self.close();
        let count = self.segments.len() as u32;
        let mut route_page = head(b"MSRP", first, count);
        route_page.extend_from_slice(&(self.pieces.len() as u32).to_le_bytes());
        route_page.extend_from_slice(&[0; 4]);
        for (encoding, length) in &self.segments {
            let [a, b, c, _] = (*length as u32).to_le_bytes();
            route_page.extend_from_slice(&[*encoding as u8, a, b, c]);
        }
        self.into_run(first, route_page)
    }

    /// The same for a delta route: its route page holds the digests too.
    pub fn finish_delta(mut self, first: u32) -> Run {
        self.close();
        let spans: Vec<_> = self.segments.chunk_by(|a, b| a.0 == b.0).collect();
        let mut page = head(b"MSDP", first, self.segments.len() as u32);
        page.extend_from_slice(&(self.pieces.len() as u32).to_le_bytes());
        page.extend_from_slice(&(spans.len() as u32).to_le_bytes());
        for span in spans {
            let [a, b] = (span.len() as u16).to_le_bytes(); // at most RUN_SEGMENTS_MAX
            page.extend(span.first().map(|(encoding, _)| [*encoding as u8, a, b]).unwrap_or_default());
        }
        for (encoding, length) in &self.segments {
            let [a, b, c, _] = (*length as u32).to_le_bytes();
            if encoding.implied_length(0).is_none() {
                page.extend_from_slice(&[a, b, c]);
            }
        }
        for ((encoding, _), digest) in self.segments.iter().zip(&self.digests) {
            if *encoding != Encoding::Zero {
                page.extend_from_slice(&ShortDigest::from(digest).0);
            }
        }
        self.into_run(first, page)
    }

    /// The run of a route page that lacks its pieces yet.
    fn into_run(self, first: u32, mut route_page: Vec<u8>) -> Run {
        for piece in &self.pieces {
            route_page.extend_from_slice(&Digest::of(piece).0);
            route_page.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        }
        let mut segment_page = head(b"MSSP", first, self.segments.len() as u32);
        self.digests.iter().for_each(|d| segment_page.extend_from_slice(&d.0));
        Run { segment_page, route_page, pieces: self.pieces, digests: self.digests }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(core::mem::take(&mut self.open));
        }
    }
}

/// The table of these pages.
pub fn table(pages: &[Digest]) -> Vec<u8> {
    let mut out = head(b"MSTB", pages.len() as u32, 0);
    pages.iter().for_each(|d| out.extend_from_slice(&d.0));
    out
}

fn head(magic: &[u8; 4], a: u32, b: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(magic);
    out.extend_from_slice(&[1, 0, 0, 0]);
    out.extend_from_slice(&a.to_le_bytes());
    out.extend_from_slice(&b.to_le_bytes());
    out
}
