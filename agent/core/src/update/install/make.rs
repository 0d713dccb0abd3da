//! Making what must be fetched: in order, one segment at a time.

use super::delta::{Patches, Window};
use super::look::Ahead;
use super::space::{Buffers, Cursor, Gathered, Room};
use super::{Installer, Run, SYNC_SEGMENTS, beyond};
use crate::bundle::patch::unpatch;
use crate::bundle::recode::{self, unpatch_parts};
use crate::bundle::{Artifact, Encoding, VerifiedSegment};
use crate::fault;
use crate::fault::Fault;
use crate::limits::{PART_SOURCES_BYTES_MAX, SEGMENT_BYTES};
use crate::seam::{NO_PREFIX, Result};

/// Why a segment was not made.
pub(super) enum Unmade {
    /// The target's medium said no: no other route would help.
    Target(Fault),
    /// The source did not give what the route is made of.
    Source(Fault),
    /// What it gave does not make a segment.
    Content(Fault),
    /// It makes another segment than it should.
    Unproven(Fault),
    /// The segment before it, which it needs, was not made.
    Unprefixed(Fault),
}

impl Unmade {
    pub fn fault(self) -> Fault {
        match self {
            Unmade::Target(f) | Unmade::Source(f) | Unmade::Content(f) => f,
            Unmade::Unproven(f) | Unmade::Unprefixed(f) => f,
        }
    }
}

impl Installer<'_> {
    /// One run: decides ahead, fetches and builds in order. What a delta route cannot make stands in `patches.left` then.
    pub(super) fn run(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        let mut ahead = Ahead::default();
        let mut at = Cursor::default();
        for index in 0..run.count {
            self.look_ahead(artifact, run, &mut ahead, index, &at, patches, buffers)?;
            let (encoding, length) = run.route.segment(index)?;
            patches.passes(index, at, length);
            if !ahead.wanted.has(index) {
                at.skip(&run.route, length)?;
            } else if let Err(unmade) = self.make(artifact, run, index, &mut at, &mut ahead, patches, buffers)
            {
                if patches.delta.is_none() {
                    return Err(unmade.fault());
                }
                patches.left.take(index, encoding, unmade)?;
                if patches.left.given_up {
                    self.give_up(run, index, at, &mut ahead, patches)?;
                    return Ok(());
                }
            }
            if (run.first as usize + index + 1).is_multiple_of(SYNC_SEGMENTS) {
                self.slots.sync(self.target, &artifact.class)?;
            }
        }
        Ok(())
    }

    /// The source does not have this route, or not all of it: what is wanted of this run from `index` on is left over, and
    /// what has been announced is taken back.
    fn give_up(
        &mut self,
        run: &Run<'_>,
        index: usize,
        at: Cursor,
        ahead: &mut Ahead,
        patches: &mut Patches<'_>,
    ) -> Result<()> {
        for piece in at.piece..ahead.announced {
            self.source.forget(&run.route.piece(piece)?.name);
        }
        for (page, _) in run.next_pages.iter().take(ahead.pages_announced) {
            self.source.forget(page);
        }
        // What has not been decided yet may stand in the target: the full route looks.
        for segment in index..run.count {
            if ahead.wanted.has(segment) || segment >= ahead.decided() {
                patches.left.set.insert(segment);
            }
        }
        Ok(())
    }

    /// Makes, proves and writes one segment.
    #[expect(clippy::too_many_arguments, reason = "what a run is made of, each in its own hand")]
    fn make(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        index: usize,
        at: &mut Cursor,
        ahead: &mut Ahead,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> core::result::Result<(), Unmade> {
        let class = artifact.class.as_str();
        let (encoding, length) = run.route.segment(index).map_err(Unmade::Content)?;
        let bytes = artifact.segment_bytes(run.first + index as u32);
        let proof = run.proof(index).map_err(Unmade::Content)?;
        // What was announced is fetched, even if it turns out that it cannot be read.
        let taught = match encoding.learns() {
            true => {
                self.hold(run, at.piece, ahead, buffers).map_err(Unmade::Source)?;
                self.learn(artifact, run, index, *at, patches, buffers)
            }
            false => Ok(()),
        };
        let room = Room::of(encoding);
        let encoded = self.gather(run, at, (length, room), ahead, buffers).map_err(Unmade::Source)?;
        taught.map_err(Unmade::Content)?;
        let place = run.at(index);
        if encoding == Encoding::Prefixed {
            self.hold_prior(class, place, patches.left.lacks_before(index), buffers)?;
        }
        self.unpack(class, place, bytes, encoding, encoded, patches, buffers)
            .map_err(|fault| Unmade::Content(fault.within(format_args!("{class}: segment at {place}"))))?;
        if encoding.learns() {
            patches.learned(index, *at);
        }
        let Buffers { segment, prior, prior_at, .. } = &mut *buffers;
        let content = segment.get(..bytes).ok_or_else(beyond).map_err(Unmade::Content)?;
        let segment = VerifiedSegment::prove_by(place, content, &proof).ok_or_else(|| {
            Unmade::Unproven(fault!(
                Corrupt,
                "{class}: segment at {place}: its content is not what the index says ({proof:?})"
            ))
        })?;
        // Of a source that only reads forward nothing was looked for before.
        let compare = self.reuse.target && self.source.only_forward();
        *prior_at = prior_at.filter(|_| !compare);
        if compare && self.equals(class, &segment, prior) {
            self.kept(bytes);
        } else {
            self.slots.write(self.target, class, &segment).map_err(Unmade::Target)?;
            self.made(bytes);
        }
        // What begins the next run is not known yet.
        let next = run.route.segment(index + 1).map(|(encoding, _)| encoding);
        if next.is_ok_and(|next| next == Encoding::Prefixed) || index + 1 == run.count {
            buffers.keep(place);
        }
        Ok(())
    }

    /// Sees to it that the segment before the one at `at` is held. It stands in the target: segments are made in their order,
    /// and what need not be made was there, or was copied, before.
    fn hold_prior(
        &mut self,
        class: &str,
        at: u64,
        lacking: bool,
        buffers: &mut Buffers<'_>,
    ) -> core::result::Result<(), Unmade> {
        let before = at.checked_sub(SEGMENT_BYTES as u64);
        let before = before.ok_or_else(beyond).map_err(Unmade::Content)?;
        if lacking {
            let fault = fault!(Corrupt, "{class}: segment at {at}: the one before it was not made");
            return Err(Unmade::Unprefixed(fault));
        }
        if buffers.prior_at != Some(before) {
            buffers.prior_at = None;
            let read = self.slots.read_back(self.target, class, before, buffers.prior);
            read.map_err(Unmade::Target)?;
            buffers.prior_at = Some(before);
        }
        match buffers.prior.starts_with(&NO_PREFIX) {
            false => Ok(()),
            true => Err(Unmade::Content(fault!(
                Corrupt,
                "{class}: segment at {at}: the one before it begins as a dictionary does, and cannot be a prefix"
            ))),
        }
    }

    /// Fetches a piece of the run, if it is not the one that is held.
    pub(super) fn hold(
        &mut self,
        run: &Run<'_>,
        piece: usize,
        ahead: &mut Ahead,
        buffers: &mut Buffers<'_>,
    ) -> Result<usize> {
        let wanted = run.route.piece(piece)?;
        let (name, length) = (wanted.name, wanted.length as usize);
        let comes_to_it = piece >= ahead.come_to;
        ahead.come_to = ahead.come_to.max(piece + 1);
        if buffers.held == Some(wanted) {
            if comes_to_it {
                // The route before ended with it, or it stands twice in a row: it may have been announced, and is here.
                self.source.forget(&name);
            }
            return Ok(length);
        }
        buffers.held = None;
        self.place(run, ahead, piece)?;
        let found = self.fetch(&name, length, buffers.piece)?.bytes().len();
        if found != length {
            return Err(fault!(Corrupt, "piece {name:?}: the index says {length} bytes, it has {found}"));
        }
        self.progress.fetched += length as u64;
        buffers.held = Some(wanted);
        Ok(length)
    }

    /// The `length` encoded bytes at the cursor: in the piece that is held if they lie within one, else put together in `room`.
    fn gather(
        &mut self,
        run: &Run<'_>,
        at: &mut Cursor,
        (length, room): (usize, Room),
        ahead: &mut Ahead,
        buffers: &mut Buffers<'_>,
    ) -> Result<Gathered> {
        let mut filled = 0;
        while filled < length {
            let piece_bytes = self.hold(run, at.piece, ahead, buffers)?;
            let here = (piece_bytes - at.offset).min(length - filled);
            if here == length {
                let start = at.offset;
                at.advance(piece_bytes, here);
                return Ok(Gathered::InPiece { start, length });
            }
            let Buffers { piece, encoded, segment, prior, prior_at, .. } = buffers;
            let from = piece.get(at.offset..at.offset + here);
            let to = match room {
                Room::Encoded => &mut **encoded,
                Room::Segment => &mut **segment,
                Room::Half => {
                    *prior_at = None;
                    prior.get_mut(PART_SOURCES_BYTES_MAX..).unwrap_or_default()
                }
                Room::Prior => {
                    *prior_at = None;
                    &mut **prior
                }
            };
            let to = to.get_mut(filled..filled + here);
            let (Some(from), Some(to)) = (from, to) else { return Err(beyond()) };
            to.copy_from_slice(from);
            filled += here;
            at.advance(piece_bytes, here);
        }
        Ok(Gathered::Assembled { room, length })
    }

    /// Makes the content of an encoding: the beginning of [`Buffers::segment`] is it then.
    #[expect(clippy::too_many_arguments, reason = "what a run is made of, each in its own hand")]
    fn unpack(
        &mut self,
        class: &str,
        at: u64,
        bytes: usize,
        encoding: Encoding,
        encoded: Gathered,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        if encoding == Encoding::Recoded {
            buffers.prior_at = None;
            let Buffers { piece, encoded: made, segment, prior, .. } = buffers;
            let (opened, half) = prior.split_at_mut_checked(PART_SOURCES_BYTES_MAX).ok_or_else(beyond)?;
            let frame = match encoded {
                Gathered::InPiece { start, length } => piece.get(start..start + length),
                Gathered::Assembled { length, .. } => half.get(..length),
            };
            let frame = frame.ok_or_else(beyond)?;
            let out = segment.get_mut(..bytes).ok_or_else(beyond)?;
            let (state, tables) = self.memory.recode();
            let mut base = Window::on(&mut *self.slots, self.target, class, at, patches)?;
            let mut room = recode::Room { tables, opened, made };
            let made = unpatch_parts(frame, at, state, &mut base, &mut room, out);
            patches.broken |= made.is_err();
            return made;
        }
        let Buffers { piece, encoded: assembled, segment, prior, .. } = buffers;
        let out = segment.get_mut(..bytes).ok_or_else(beyond)?;
        let frame = match encoded {
            Gathered::InPiece { start, length } => piece.get(start..start + length),
            Gathered::Assembled { room: Room::Encoded, length } => assembled.get(..length),
            Gathered::Assembled { room: Room::Prior, length } => prior.get(..length),
            Gathered::Assembled { room: Room::Segment | Room::Half, .. } => return Ok(()), // raw: it is the content
        };
        let frame = frame.ok_or_else(beyond)?;
        match encoding {
            Encoding::Raw => out.copy_from_slice(frame), // of this length: the page was checked
            Encoding::Zstd | Encoding::Prefixed => {
                let prefix = if encoding == Encoding::Prefixed { &**prior } else { &[] };
                let made = self.inflate.inflate(frame, prefix, out)?;
                if made != bytes {
                    return Err(fault!(Corrupt, "expected {bytes} bytes, its frame makes {made}"));
                }
            }
            Encoding::Patch => {
                let mut base = Window::on(&mut *self.slots, self.target, class, at, patches)?;
                let made = unpatch(frame, at, self.memory.patch(), &mut base, out);
                patches.broken |= made.is_err();
                made?;
            }
            Encoding::Zero | Encoding::Copy | Encoding::Recoded => return Err(beyond()), // `have` has made it; above
        }
        Ok(())
    }
}
