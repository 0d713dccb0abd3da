//! The installer: brings an artifact's content into the target's slot, one segment in memory at a time.
//!
//! ```text
//! manifest ─► table ─► segment page: what each segment must be
//!         └─► table ─► route page:   how each is made, from which pieces
//!
//! for each segment, looking ahead as far as the source's window lets it:
//!   stands in the target already?            keep it          (a resumed download)
//!   the running group holds it there?        copy it          (what did not change)
//!   encoded as zero?                         write zeros
//!   else                                     ask for its pieces
//! then, in order: fetch ─► prove the piece ─► unpack ─► prove the segment ─► write
//! ```
//! Nothing is written that is not proven: slots are written from [`VerifiedSegment`] alone. The slot itself is the
//! resume state, so there is no progress file that could lie: after a cut, what stands there is hashed and kept.
//! A power cut between two writes leaves a prefix of whole segments and one that is torn; the torn one does not
//! match its digest and is made again.

use crate::boot::Group;
use crate::bundle::{
    Artifact, Encoding, Piece, ROUTE_PAGE_BYTES_MAX, RoutePage, SEGMENT_PAGE_BYTES_MAX, SegmentPage,
    TABLE_BYTES_MAX, Table, VerifiedObject, VerifiedSegment,
};
use crate::digest::{Digest, Hasher};
use crate::fault;
use crate::limits::*;
use crate::seam::{Inflate, Note, Observer, PieceSource, Result, SlotWriter};

/// What [`Installer`] needs in memory, given to it once:
/// 2 tables + segment page + route page + piece + encoded segment + segment = 723 KiB.
pub const WORKSPACE_BYTES: usize = 2 * TABLE_BYTES_MAX
    + SEGMENT_PAGE_BYTES_MAX
    + ROUTE_PAGE_BYTES_MAX
    + OBJECT_BYTES_MAX
    + 2 * SEGMENT_BYTES;

/// Where content may come from beside the source. Looking costs a read and a hash of each segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Keep what stands in the target already.
    pub target: bool,
    /// Copy what the running group holds at the same place.
    pub running: bool,
}

/// What has been done so far, over all artifacts; see [`Note::Progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    done: u64,
    total: u64,
    fetched: u64,
    copied: u64,
    kept: u64,
}

/// Writes artifacts into the slots of `target`.
pub struct Installer<'a> {
    /// The group that is written; withdrawn before.
    target: Group,
    reuse: Reuse,
    slots: &'a mut dyn SlotWriter,
    source: &'a mut dyn PieceSource,
    inflate: &'a mut dyn Inflate,
    observer: &'a mut dyn Observer,
    progress: Progress,
}

impl<'a> Installer<'a> {
    /// An installer for `total` bytes of content.
    pub fn new(
        target: Group,
        reuse: Reuse,
        total: u64,
        slots: &'a mut dyn SlotWriter,
        source: &'a mut dyn PieceSource,
        inflate: &'a mut dyn Inflate,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let progress = Progress { total, ..Progress::default() };
        Installer { target, reuse, slots, source, inflate, observer, progress }
    }

    /// Brings one artifact into its slot and syncs it.
    pub fn install(&mut self, artifact: &Artifact, workspace: &mut [u8; WORKSPACE_BYTES]) -> Result<()> {
        let class = artifact.class.as_str();
        let room = self.slots.open(self.target, class)?;
        if room < artifact.size {
            return Err(fault!(
                Full,
                "slot {class} of {}: holds {room} bytes, the artifact has {}",
                self.target,
                artifact.size
            ));
        }
        let mut rest = workspace.as_mut_slice();
        let mut take = |bytes: usize| -> Result<&mut [u8]> {
            let (taken, left) = core::mem::take(&mut rest)
                .split_at_mut_checked(bytes)
                .ok_or_else(|| fault!(Full, "installer: workspace too small"))?;
            rest = left;
            Ok(taken)
        };
        let (segment_table, route_table) = (take(TABLE_BYTES_MAX)?, take(TABLE_BYTES_MAX)?);
        let (segment_page, route_page) = (take(SEGMENT_PAGE_BYTES_MAX)?, take(ROUTE_PAGE_BYTES_MAX)?);
        let mut buffers = Buffers {
            piece: take(OBJECT_BYTES_MAX)?,
            held: None,
            encoded: take(SEGMENT_BYTES)?,
            segment: take(SEGMENT_BYTES)?,
        };

        let runs = artifact.run_count();
        let table_bytes = 16 + runs * 32;
        let segment_table = Table::parse(self.fetch(&artifact.segments, table_bytes, segment_table)?, runs)?;
        let route_table =
            Table::parse(self.fetch(&artifact.full_route()?.table, table_bytes, route_table)?, runs)?;

        for run in 0..runs {
            let first = (run * RUN_SEGMENTS_MAX) as u32;
            let count = (artifact.segment_count() - first).min(RUN_SEGMENTS_MAX as u32) as usize;
            let content = |index: usize| artifact.segment_bytes(first + index as u32);
            let page = self.fetch(&segment_table.page(run)?, 16 + count * 32, segment_page)?;
            let segments = SegmentPage::parse(page, first, count)?;
            let page = self.fetch(&route_table.page(run)?, ROUTE_PAGE_BYTES_MAX, route_page)?;
            let route = RoutePage::parse(page, first, count, content)?;
            let next_pages = match run + 1 {
                next if next < runs => heapless::Vec::from_array([
                    (segment_table.page(next)?, SEGMENT_PAGE_BYTES_MAX),
                    (route_table.page(next)?, ROUTE_PAGE_BYTES_MAX),
                ]),
                _ => heapless::Vec::new(),
            };
            self.run(artifact, Run { first, count, segments, route, next_pages }, &mut buffers)?;
        }
        self.slots.sync(self.target, class)
    }

    /// One run: decides ahead, fetches and builds in order.
    fn run(&mut self, artifact: &Artifact, run: Run<'_>, buffers: &mut Buffers<'_>) -> Result<()> {
        let mut ahead = Ahead::default();
        let mut at = Cursor::default();
        for index in 0..run.count {
            self.look_ahead(artifact, &run, &mut ahead, index, &at, buffers)?;
            let (encoding, length) = run.route.segment(index)?;
            if ahead.wanted(index) {
                let encoded = self.gather(&run, &mut at, length, buffers)?;
                self.build(artifact, &run, index, encoding, encoded, buffers)?;
            } else {
                at.skip(&run.route, length)?;
            }
            if (run.first as usize + index + 1).is_multiple_of(SYNC_SEGMENTS) {
                self.slots.sync(self.target, &artifact.class)?;
            }
        }
        Ok(())
    }

    /// Decides segments, at least up to `index`, and further as long as the source takes what they want. `at` is
    /// where the next fetch will be: what lies before it need not be announced any more.
    fn look_ahead(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        ahead: &mut Ahead,
        index: usize,
        at: &Cursor,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        ahead.announced = ahead.announced.max(at.next_piece());
        loop {
            while ahead.announced < ahead.announce_end {
                let Piece { name, length } = run.route.piece(ahead.announced)?;
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
            if !self.have(artifact, run, segment, encoding, buffers)? {
                // Pieces of which no segment is wanted lie in the gap, and are never announced.
                ahead.announced = ahead.announced.max(begins_in);
                ahead.announce_end = ahead.end.next_piece();
                ahead.want(segment);
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

    /// Can the segment be had without the source? Then it is written, if it does not stand there already.
    fn have(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        index: usize,
        encoding: Encoding,
        buffers: &mut Buffers<'_>,
    ) -> Result<bool> {
        let class = artifact.class.as_str();
        let at = (run.first as u64 + index as u64) * SEGMENT_BYTES as u64;
        let bytes = artifact.segment_bytes(run.first + index as u32);
        let digest = run.segments.digest(index)?;
        let buffer = buffers.segment(bytes)?;
        // A sector that a cut has torn may not be readable at all until it is written again.
        if self.reuse.target
            && self.slots.read_back(self.target, class, at, buffer).is_ok()
            && VerifiedSegment::prove(at, buffer, &digest).is_some()
        {
            self.progress.kept += bytes as u64;
            self.made(bytes);
            return Ok(true);
        }
        if encoding == Encoding::Zero {
            buffer.fill(0);
            let Some(segment) = VerifiedSegment::prove(at, buffer, &digest) else {
                return Err(fault!(
                    Corrupt,
                    "{class}: segment at {at}: encoded as zero, but its digest is not zero's"
                ));
            };
            self.slots.write(self.target, class, &segment)?;
            self.made(bytes);
            return Ok(true);
        }
        // A running group that is shorter, or cannot be read, has nothing to give; the source has.
        if self.reuse.running
            && self.slots.read_back(self.target.other(), class, at, buffer).is_ok()
            && let Some(segment) = VerifiedSegment::prove(at, buffer, &digest)
        {
            self.slots.write(self.target, class, &segment)?;
            self.progress.copied += bytes as u64;
            self.made(bytes);
            return Ok(true);
        }
        Ok(false)
    }

    /// The `length` encoded bytes at the cursor: in the piece that is held if they lie within one, else put together.
    fn gather(
        &mut self,
        run: &Run<'_>,
        at: &mut Cursor,
        length: usize,
        buffers: &mut Buffers<'_>,
    ) -> Result<Gathered> {
        let mut filled = 0;
        while filled < length {
            let Piece { name, length: piece_bytes } = run.route.piece(at.piece)?;
            let piece_bytes = piece_bytes as usize;
            if buffers.held != Some(name) {
                buffers.held = None;
                let found = self.fetch(&name, piece_bytes, buffers.piece)?.bytes().len();
                if found != piece_bytes {
                    return Err(fault!(
                        Corrupt,
                        "piece {name:?}: the index says {piece_bytes} bytes, it has {found}"
                    ));
                }
                self.progress.fetched += piece_bytes as u64;
                buffers.held = Some(name);
            }
            let here = (piece_bytes - at.offset).min(length - filled);
            if here == length {
                let start = at.offset;
                at.advance(piece_bytes, here);
                return Ok(Gathered::InPiece { start, length });
            }
            let Buffers { piece, encoded, .. } = buffers;
            let from = piece.get(at.offset..at.offset + here);
            let to = encoded.get_mut(filled..filled + here);
            let (Some(from), Some(to)) = (from, to) else { return Err(beyond()) };
            to.copy_from_slice(from);
            filled += here;
            at.advance(piece_bytes, here);
        }
        Ok(Gathered::Assembled { length })
    }

    /// Makes, proves and writes one segment.
    fn build(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        index: usize,
        encoding: Encoding,
        encoded: Gathered,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        let class = artifact.class.as_str();
        let at = (run.first as u64 + index as u64) * SEGMENT_BYTES as u64;
        let bytes = artifact.segment_bytes(run.first + index as u32);
        let digest = run.segments.digest(index)?;
        let Buffers { piece, encoded: assembled, segment, .. } = buffers;
        let frame = match encoded {
            Gathered::InPiece { start, length } => piece.get(start..start + length),
            Gathered::Assembled { length } => assembled.get(..length),
        };
        let frame = frame.ok_or_else(beyond)?;
        let content = match encoding {
            Encoding::Raw => frame,
            Encoding::Zstd => {
                let out = segment.get_mut(..bytes).ok_or_else(beyond)?;
                let made = self
                    .inflate
                    .inflate(frame, out)
                    .map_err(|f| f.within(format_args!("{class}: segment at {at}")))?;
                if made != bytes {
                    return Err(fault!(
                        Corrupt,
                        "{class}: segment at {at}: expected {bytes} bytes, its frame makes {made}"
                    ));
                }
                out
            }
            Encoding::Zero => return Err(beyond()), // `have` has made it
            Encoding::Copy | Encoding::Patch => return Err(beyond()), // a full page has none
        };
        let segment = VerifiedSegment::prove(at, content, &digest).ok_or_else(|| {
            fault!(Corrupt, "{class}: segment at {at}: its content is not what the index says ({digest:?})")
        })?;
        self.slots.write(self.target, class, &segment)?;
        self.made(bytes);
        Ok(())
    }

    /// Fetches an object into `out` and proves it; asks again as long as the source has another place to ask, up to a
    /// bound. `bytes`: its length, or the most that it can be.
    fn fetch<'b>(&mut self, name: &Digest, bytes: usize, out: &'b mut [u8]) -> Result<VerifiedObject<'b>> {
        for _ in 0..FETCHES_MAX {
            let found = self.source.fetch(name, bytes as u32)?;
            if let Ok(object) = VerifiedObject::prove(name, found) {
                let kept = object.keep(out)?;
                self.source.release(name);
                return Ok(kept);
            }
            self.source.refute(name)?;
        }
        Err(fault!(Corrupt, "object {name:?}: what the source gave was not it, {FETCHES_MAX} times"))
    }

    fn made(&mut self, bytes: usize) {
        self.progress.done += bytes as u64;
        let Progress { done, total, fetched, copied, kept } = self.progress;
        self.observer.note(Note::Progress { done, total, fetched, copied, kept });
    }
}

/// The buffers that a run works in.
struct Buffers<'w> {
    /// The piece fetched last.
    piece: &'w mut [u8],
    /// Its name, once it is proven.
    held: Option<Digest>,
    /// A segment's encoding that lies in more than one piece.
    encoded: &'w mut [u8],
    /// A segment's content.
    segment: &'w mut [u8],
}

impl Buffers<'_> {
    fn segment(&mut self, bytes: usize) -> Result<&mut [u8]> {
        self.segment.get_mut(..bytes).ok_or_else(beyond)
    }
}

/// Where the bytes that make a segment have been put.
enum Gathered {
    /// Within the piece that is held.
    InPiece { start: usize, length: usize },
    /// In the buffer for encodings.
    Assembled { length: usize },
}

/// One run and its proven pages.
struct Run<'p> {
    first: u32,
    count: usize,
    segments: SegmentPage<'p>,
    route: RoutePage<'p>,
    next_pages: heapless::Vec<(Digest, usize), 2>,
}

/// A place in the row of a run's pieces.
#[derive(Clone, Copy, Default)]
struct Cursor {
    piece: usize,
    offset: usize,
}

impl Cursor {
    /// Goes on by `bytes` within the piece, which has `piece_bytes`.
    fn advance(&mut self, piece_bytes: usize, bytes: usize) {
        self.offset += bytes;
        if self.offset >= piece_bytes {
            *self = Cursor { piece: self.piece + 1, offset: 0 };
        }
    }

    /// Goes on by `bytes`, over as many pieces as it takes.
    fn skip(&mut self, route: &RoutePage<'_>, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            let piece_bytes = route.piece(self.piece)?.length as usize;
            let here = (piece_bytes - self.offset).min(bytes);
            self.advance(piece_bytes, here);
            bytes -= here;
        }
        Ok(())
    }

    /// The first piece of which nothing has been passed.
    const fn next_piece(&self) -> usize {
        self.piece + (self.offset > 0) as usize
    }
}

/// How far the looking ahead has come.
#[derive(Default)]
struct Ahead {
    /// Segments of the run before this one have been decided.
    decided: usize,
    /// Where the decided segments end.
    end: Cursor,
    /// Pieces before this one have been announced, or need not be.
    announced: usize,
    /// Pieces up to here are wanted.
    announce_end: usize,
    /// How many of the next run's pages have been announced.
    pages_announced: usize,
    /// A bit for each segment that the source must give.
    wanted: [u32; RUN_SEGMENTS_MAX / 32],
}

impl Ahead {
    fn want(&mut self, segment: usize) {
        if let Some(word) = self.wanted.get_mut(segment / 32) {
            *word |= 1 << (segment % 32);
        }
    }

    fn wanted(&self, segment: usize) -> bool {
        self.wanted.get(segment / 32).is_some_and(|word| word >> (segment % 32) & 1 == 1)
    }
}

/// The page was checked when it was parsed, so its lengths lie within the buffers.
fn beyond() -> fault::Fault {
    fault!(Corrupt, "installer: a length beyond its bounds in a page that was checked")
}

/// Reads an artifact back from the medium and compares it with the manifest.
pub fn read_back(
    target: Group,
    artifact: &Artifact,
    slots: &mut dyn SlotWriter,
    workspace: &mut [u8; WORKSPACE_BYTES],
) -> Result<()> {
    let class = artifact.class.as_str();
    slots.open(target, class)?;
    let mut hasher = Hasher::new();
    for segment in 0..artifact.segment_count() {
        let buffer = workspace.get_mut(..artifact.segment_bytes(segment)).ok_or_else(beyond)?;
        slots.read_back(target, class, segment as u64 * SEGMENT_BYTES as u64, buffer)?;
        hasher.update(buffer);
    }
    match hasher.finish() {
        found if found == artifact.digest => Ok(()),
        found => Err(fault!(
            Corrupt,
            "slot {class} of {target}: reads back as {found:?}, expected {:?}: the medium does not keep what is written",
            artifact.digest
        )),
    }
}

/// How often an object is asked for that turns out not to be what its name says: a broker that lies all the time
/// shall not keep the agent busy for ever.
const FETCHES_MAX: usize = 8;

/// What is written is made durable every 64 segments (16 MiB): this bounds what a power cut can cost, no more.
const SYNC_SEGMENTS: usize = 64;
