//! Looking ahead: what need not be fetched is made at once, and what must be is announced, as far as the source's window goes.

use super::delta::Patches;
use super::space::{Buffers, Cursor, Set};
use super::{Installer, Run, beyond};
use crate::bundle::{Artifact, Encoding, Piece, Proof, VerifiedSegment};
use crate::fault;
use crate::seam::Result;

/// How far the looking ahead has come.
#[derive(Default)]
pub(super) struct Ahead {
    /// Segments of the run before this one have been decided.
    decided: usize,
    /// Where the decided segments end.
    end: Cursor,
    /// Pieces before this one have been announced, or need not be.
    pub announced: usize,
    /// Of pieces before this one the source knows where they lie, if they are wanted.
    placed: usize,
    /// The making has come to pieces before this one.
    pub come_to: usize,
    /// Pieces up to here are wanted.
    announce_end: usize,
    /// How many of the next run's pages have been announced.
    pub pages_announced: usize,
    /// The segments that the source must give.
    pub wanted: Set,
}

impl Ahead {
    pub const fn decided(&self) -> usize {
        self.decided
    }
}

impl Installer<'_> {
    /// Decides segments, at least up to `index`, and further as long as the source takes what they want. `at` is
    /// where the next fetch will be: what lies before it need not be announced any more.
    #[expect(clippy::too_many_arguments, reason = "what a run is made of, each in its own hand")]
    pub(super) fn look_ahead(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        ahead: &mut Ahead,
        index: usize,
        at: &Cursor,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        ahead.announced = ahead.announced.max(at.next_piece());
        loop {
            while ahead.announced < ahead.announce_end {
                let Piece { name, length } = run.route.piece(ahead.announced)?;
                self.place(run, ahead, ahead.announced)?;
                if !self.source.prefetch(&name, length) {
                    break;
                }
                ahead.announced += 1;
            }
            let full = ahead.announced < ahead.announce_end;
            if ahead.decided == run.count || (full && ahead.decided > index) {
                break;
            }
            let segment = ahead.decided;
            let (encoding, length) = run.route.segment(segment)?;
            let begins_in = ahead.end.piece;
            ahead.end.skip(&run.route, length)?;
            let asked_for = run.only.is_none_or(|only| only.has(segment));
            if asked_for && !self.have(artifact, run, segment, encoding, patches, buffers)? {
                // Pieces of which no segment is wanted lie in the gap, and are never announced.
                ahead.announced = ahead.announced.max(begins_in);
                ahead.announce_end = ahead.end.next_piece();
                ahead.wanted.insert(segment);
            }
            ahead.decided += 1;
        }
        // The next run's pages, so that the window does not run dry between two runs.
        while ahead.decided == run.count
            && ahead.announced >= ahead.announce_end
            && let Some((page, most)) = run.next_pages.get(ahead.pages_announced)
        {
            if !self.source.prefetch(page, *most as u32) {
                break;
            }
            ahead.pages_announced += 1;
        }
        Ok(())
    }

    /// Tells the source where a piece lies, once.
    pub(super) fn place(&mut self, run: &Run<'_>, ahead: &mut Ahead, piece: usize) -> Result<()> {
        if piece >= ahead.placed
            && let Some(place) = run.piece_place(piece)?
        {
            let Piece { name, length } = run.route.piece(piece)?;
            self.source.place(&name, length, place);
            ahead.placed = piece + 1;
        }
        Ok(())
    }

    /// Can the segment be had without the source? Then it is written, if it does not stand there already. Also `true` for
    /// a copy that the base does not give any more: what a delta route has left over is made after the run.
    fn have(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        index: usize,
        encoding: Encoding,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<bool> {
        let wanted = Wanted {
            class: artifact.class.as_str(),
            at: run.at(index),
            bytes: artifact.segment_bytes(run.first + index as u32),
            proof: run.proof(index)?,
        };
        match encoding {
            Encoding::Zero => self.zero(&wanted, buffers).map(|()| true),
            Encoding::Copy => {
                if !self.copy(&wanted, buffers)? {
                    patches.left.drifted(index);
                    if !self.stands(&wanted, buffers)? {
                        patches.left.set.insert(index);
                    }
                }
                Ok(true)
            }
            // It is all here, and to unpack it costs less than to hash what may be the same: `make` compares.
            _ if self.source.only_forward() => Ok(false),
            _ if patches.delta.is_some() => self.stands_from_before(&wanted, buffers),
            _ => match self.have_indexed(&wanted, buffers)? {
                Some(had) => Ok(had),
                None => Ok(self.stands(&wanted, buffers)? || self.copy_as_it_is(&wanted, buffers)?),
            },
        }
    }

    /// Does the target hold it, by its digest? A sector that a cut has torn may not be readable at all until it is written
    /// again.
    fn stands(&mut self, wanted: &Wanted<'_>, buffers: &mut Buffers<'_>) -> Result<bool> {
        let Wanted { class, at, bytes, proof } = *wanted;
        let buffer = buffers.segment.get_mut(..bytes).ok_or_else(beyond)?;
        let stands = self.reuse.target
            && self.slots.read_back(self.target, class, at, buffer).is_ok()
            && proof.holds(buffer);
        if stands {
            self.kept(bytes);
        }
        Ok(stands)
    }

    /// The same for what a delta route fetches. An interrupted installation leaves a beginning of such segments (they are
    /// made in their order), and a fresh one none: after some in a row that do not stand there, no more are read and hashed
    /// in vain. Some, because one can be torn, and those that had drifted are made last.
    fn stands_from_before(&mut self, wanted: &Wanted<'_>, buffers: &mut Buffers<'_>) -> Result<bool> {
        if self.misses >= MISSES_MAX {
            return Ok(false);
        }
        let stands = self.stands(wanted, buffers)?;
        self.misses = if stands { 0 } else { self.misses + 1 };
        Ok(stands)
    }

    fn zero(&mut self, wanted: &Wanted<'_>, buffers: &mut Buffers<'_>) -> Result<()> {
        let Wanted { class, at, bytes, proof } = *wanted;
        let buffer = buffers.segment.get_mut(..bytes).ok_or_else(beyond)?;
        let stands = self.reuse.target && self.zeros_stand(class, at, buffer);
        if stands && proof == Proof::Zeros {
            self.kept(bytes);
            return Ok(());
        }
        buffer.fill(0);
        let Some(segment) = VerifiedSegment::prove_by(at, buffer, &proof) else {
            return Err(fault!(
                Corrupt,
                "{class}: segment at {at}: encoded as zero, but its digest is not zero's"
            ));
        };
        if stands {
            self.kept(bytes);
        } else {
            self.slots.write(self.target, class, &segment)?;
            self.made(bytes);
        }
        Ok(())
    }

    /// Does the target hold zeros there? A page first, as in [`equals`](Self::equals). `buffer`: for reading, of that length.
    fn zeros_stand(&mut self, class: &str, mut at: u64, buffer: &mut [u8]) -> bool {
        let (first, rest) = buffer.split_at_mut(buffer.len().min(LOOK_BYTES));
        for part in [first, rest] {
            if self.slots.read_back(self.target, class, at, part).is_err() || !Proof::Zeros.holds(part) {
                return false;
            }
            at += part.len() as u64;
        }
        true
    }

    /// Copies what the base holds there. `false`: it does not, or cannot be read. The target is compared and not hashed: most
    /// of a small update stands there since the update before the last, and a write costs more than a look.
    fn copy(&mut self, wanted: &Wanted<'_>, buffers: &mut Buffers<'_>) -> Result<bool> {
        let Wanted { class, at, bytes, proof } = *wanted;
        buffers.prior_at = None;
        let Buffers { segment, prior: scratch, .. } = buffers;
        let buffer = segment.get_mut(..bytes).ok_or_else(beyond)?;
        if self.slots.read_back(self.target.other(), class, at, buffer).is_err() {
            return Ok(false);
        }
        let Some(segment) = VerifiedSegment::prove_by(at, buffer, &proof) else { return Ok(false) };
        if self.reuse.target && self.equals(class, &segment, scratch) {
            self.kept(bytes);
        } else {
            self.write_copied(class, &segment)?;
        }
        Ok(true)
    }

    /// Does the target hold this? A page first: where something else stands, it mostly shows there.
    pub(super) fn equals(&mut self, class: &str, segment: &VerifiedSegment<'_>, scratch: &mut [u8]) -> bool {
        let (first, rest) = segment.bytes().split_at(segment.bytes().len().min(LOOK_BYTES));
        let mut at = segment.at();
        for part in [first, rest] {
            let Some(found) = scratch.get_mut(..part.len()) else { return false };
            if self.slots.read_back(self.target, class, at, found).is_err() || !same(found, part) {
                return false;
            }
            at += part.len() as u64;
        }
        true
    }

    /// A full route's segment that the running group holds at the same place. A running group that is shorter, or cannot be
    /// read, has nothing to give; the source has.
    fn copy_as_it_is(&mut self, wanted: &Wanted<'_>, buffers: &mut Buffers<'_>) -> Result<bool> {
        let Wanted { class, at, bytes, proof } = *wanted;
        let buffer = buffers.segment.get_mut(..bytes).ok_or_else(beyond)?;
        if self.reuse.running
            && self.slots.read_back(self.target.other(), class, at, buffer).is_ok()
            && let Some(segment) = VerifiedSegment::prove_by(at, buffer, &proof)
        {
            self.write_copied(class, &segment)?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// A segment to be had.
pub(super) struct Wanted<'a> {
    pub class: &'a str,
    pub at: u64,
    pub bytes: usize,
    pub proof: Proof,
}

/// 8 bytes at a time: a C library's own comparison may go byte by byte (musl's does), and this is done with whole images.
fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut words = a.iter().zip(b);
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    a.len() == b.len() && words.all(|(a, b)| word(a) == word(b)) && a_rest == b_rest
}

/// How much of the target is compared before the rest of a segment is read.
const LOOK_BYTES: usize = 4096;

/// See [`Installer::stands_from_before`].
const MISSES_MAX: u32 = 4;
