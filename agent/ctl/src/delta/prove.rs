//! What a gateway does with a delta, done here first: the tool ships no patch that does not work.

use super::Made;
use crate::fail::{Failure, Within};
use crate::layout::ReadAt;
use crate::zstd::Zstd;
use crate::{Result, fail};
use mainstay_core::bundle::Encoding;
use mainstay_core::bundle::patch::{self, PatchState};
use mainstay_core::bundle::recode::{Room, Tables, unpatch_parts};
use mainstay_core::fault;
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, SEGMENT_BYTES};

/// Makes the segments again as a gateway does, and compares them with `new`: all of them, in order.
pub fn prove(base: &dyn ReadAt, new: &dyn ReadAt, made: impl IntoIterator<Item = (u32, Made)>) -> Result<()> {
    let source = Before::new(base, new);
    let (total, mut at, mut maker) = (new.bytes(), 0, Maker::new(&source));
    let mut content = Vec::new();
    for (index, made) in made {
        let expected = (at / SEGMENT_BYTES as u64) as u32;
        if index != expected || at >= total {
            return Err(fail!("delta: expected segment {expected} of {total} bytes, found {index}"));
        }
        content.resize((total - at).min(SEGMENT_BYTES as u64) as usize, 0);
        new.read_at(at, &mut content)?;
        maker.prove(at, &made, &content)?;
        at += content.len() as u64;
    }
    match at {
        at if at == total => Ok(()),
        at => Err(fail!("delta: expected segments for {total} bytes, found {at}")),
    }
}

/// What stands there when a segment is made: the base, and behind it the new image's segments before this one.
pub struct Before<'a> {
    base: &'a dyn ReadAt,
    new: &'a dyn ReadAt,
    base_bytes: u64,
}

impl<'a> Before<'a> {
    /// Of these two.
    pub fn new(base: &'a dyn ReadAt, new: &'a dyn ReadAt) -> Self {
        Before { base, new, base_bytes: base.bytes() }
    }

    /// The new image's segment before the one at `at`, empty where that is the first.
    pub fn prior(&self, at: u64) -> Result<Vec<u8>> {
        let Some(from) = at.checked_sub(SEGMENT_BYTES as u64) else { return Ok(Vec::new()) };
        let mut prior = vec![0; SEGMENT_BYTES];
        self.new.read_at(from, &mut prior)?;
        Ok(prior)
    }

    /// The base alone.
    pub fn base(&self) -> &'a dyn ReadAt {
        self.base
    }

    /// For the patch of the segment at `at`.
    pub fn segment(&self, at: u64) -> Pread<'_> {
        Pread { before: self, bytes: self.base_bytes + at }
    }
}

impl ReadAt for Before<'_> {
    fn bytes(&self) -> u64 {
        self.base_bytes + self.new.bytes()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let from_base = self.base_bytes.saturating_sub(at).min(out.len() as u64) as usize;
        let (first, second) = out.split_at_mut(from_base);
        if !first.is_empty() {
            self.base.read_at(at, first)?;
        }
        match second.is_empty() {
            true => Ok(()),
            false => self.new.read_at(at.saturating_sub(self.base_bytes), second),
        }
    }
}

/// Makes segments, one after the other.
pub struct Maker<'a> {
    before: &'a Before<'a>,
    state: Box<PatchState>,
    zstd: Zstd,
    tables: Box<Tables>,
    opened: Vec<u8>,
    made: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Maker<'a> {
    /// At the beginning of a route.
    pub fn new(before: &'a Before<'a>) -> Self {
        Maker {
            before,
            state: Box::default(),
            zstd: Zstd::default(),
            tables: Box::default(),
            opened: vec![0; PART_SOURCES_BYTES_MAX],
            made: vec![0; PART_MADE_BYTES_MAX],
            out: Vec::new(),
        }
    }

    /// Makes the segment at `at`, and compares it with what it has to be.
    pub fn prove(&mut self, at: u64, made: &Made, content: &[u8]) -> Result<()> {
        if made.begins_piece {
            self.state.reset();
        }
        self.out.clear();
        self.out.resize(content.len(), 0);
        self.fill(at, made).within(|| format!("segment at {at}"))?;
        match self.out.iter().zip(content).position(|(made, is)| made != is) {
            None => Ok(()),
            Some(place) => Err(fail!(
                "segment at {at}: expected what it was made of, found another byte at {place} ({:?})",
                made.encoding
            )),
        }
    }

    fn fill(&mut self, at: u64, made: &Made) -> Result<()> {
        let out = self.out.as_mut_slice();
        let without = |length: usize| match made.bytes.len() {
            found if found == length => Ok(()),
            found => Err(fail!("expected {length} bytes, found {found}")),
        };
        match made.encoding {
            Encoding::Zero => without(0),
            Encoding::Copy => without(0).and_then(|()| self.before.base().read_at(at, out)),
            Encoding::Raw => without(out.len()).map(|()| out.copy_from_slice(&made.bytes)),
            Encoding::Patch => {
                let mut base = self.before.segment(at);
                Ok(patch::unpatch(&made.bytes, at, &mut self.state, &mut base, out)?)
            }
            Encoding::Recoded => {
                let mut base = self.before.segment(at);
                let mut room =
                    Room { tables: &mut self.tables, opened: &mut self.opened, made: &mut self.made };
                Ok(unpatch_parts(&made.bytes, at, &mut self.state, &mut base, &mut room, out)?)
            }
            Encoding::Zstd => self.zstd.unpack(&made.bytes, &[], out),
            Encoding::Prefixed => self.zstd.unpack(&made.bytes, &self.before.prior(at)?, out),
        }
    }
}

/// The same as core's codec reads it.
pub struct Pread<'a> {
    before: &'a Before<'a>,
    bytes: u64,
}

impl patch::Base for Pread<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> mainstay_core::seam::Result<()> {
        self.before.read_at(at, out).map_err(|Failure { what, .. }| fault!(Io, "{what}"))
    }
}
