//! The installer: brings an artifact's content into the target's slot, one segment in memory at a time.
//!
//! ```text
//! manifest ─► table ─► segment page: what each segment must be            full route
//!         └─► table ─► route page:   how each is made, from which pieces
//! manifest ─► table ─► delta page:   both of these in one                 delta route (`route` says when)
//!
//! for each segment, looking ahead as far as the source's window lets it (`look`):
//!   stands in the target already?            keep it          (a resumed download)
//!   encoded as zero?                         write zeros
//!   encoded as a copy?                       copy it          (a delta route's)
//!   a group holds it, there or elsewhere?    copy it          (a full route: what did not change; `index`)
//!   else                                     ask for its pieces
//! then, in order (`make`): fetch ─► prove the piece ─► unpack or patch ─► prove the segment ─► write
//! what a delta route could not make (`delta`): the same by the full route, for those segments alone
//! ```
//! A source that only reads forward (a file) gives all of it anyway: there only zeros are looked for, and what was made is compared
//! with what stands in the target before it is written.
//!
//! Nothing is written that is not proven: slots are written from [`VerifiedSegment`](crate::bundle::VerifiedSegment) alone.
//! The slot itself is the resume state, so there is no progress file that could lie: after a cut, what stands there is looked
//! at and kept. A power cut between two writes leaves a prefix of whole segments and one that is torn; the torn one does
//! not match its digest and is made again.

mod delta;
mod index;
mod look;
mod make;
mod read_back;
mod route;
mod space;

pub use read_back::read_back;
pub use space::WORKSPACE_BYTES;

use crate::boot::Group;
use crate::bundle::{
    Artifact, Proof, ROUTE_PAGE_BYTES_MAX, RoutePage, SEGMENT_PAGE_BYTES_MAX, SegmentPage, Table,
    VerifiedObject, VerifiedSegment,
};
use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::{Inflate, Memory, Note, Observer, PieceSource, Place, Result, SlotWriter};
use delta::Patches;
use index::Indexed;
use space::{Set, Space};

/// Where content may come from beside the source. Looking costs a read and a hash of each segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Keep what stands in the target already.
    pub target: bool,
    /// Copy what the running group holds, at the same place or, where there is room for an index, at another.
    pub running: bool,
}

/// What the installer works with.
pub struct Tools<'a> {
    /// The slots.
    pub slots: &'a mut dyn SlotWriter,
    /// Where objects come from.
    pub source: &'a mut dyn PieceSource,
    /// Decompression.
    pub inflate: &'a mut dyn Inflate,
    /// Who wants to know.
    pub observer: &'a mut dyn Observer,
    /// What delta routes need in memory.
    pub memory: &'a mut dyn Memory,
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
    memory: &'a mut dyn Memory,
    progress: Progress,
    /// Segments in a row that a delta route has looked for in the target in vain.
    misses: u32,
    /// What is known of where content stands in both groups.
    indexed: Indexed,
}

/// One run and its proven pages.
struct Run<'p> {
    first: u32,
    count: usize,
    route: RoutePage<'p>,
    /// What its segments must be, where the route page does not say it.
    segments: Option<SegmentPage<'p>>,
    /// Where its pieces begin in the row of the route's, where that is known.
    place: Option<Place>,
    /// The pages that will be asked for next.
    next_pages: heapless::Vec<(Digest, usize), 2>,
    /// The segments that shall be made; `None`: all.
    only: Option<Set>,
}

impl Run<'_> {
    fn proof(&self, index: usize) -> Result<Proof> {
        match (self.route.proof(index)?, &self.segments) {
            (Some(proof), _) => Ok(proof),
            (None, Some(segments)) => Ok(Proof::Whole(segments.digest(index)?)),
            (None, None) => Err(beyond()),
        }
    }

    /// Where a segment stands in the slot, in bytes.
    const fn at(&self, index: usize) -> u64 {
        (self.first as u64 + index as u64) * SEGMENT_BYTES as u64
    }

    /// Where a piece stands in the row of the route's.
    fn piece_place(&self, piece: usize) -> Result<Option<Place>> {
        let Some(Place { route, at }) = self.place else { return Ok(None) };
        let before = (0..piece).try_fold(0, |sum, i| Ok(sum + u64::from(self.route.piece(i)?.length)))?;
        Ok(Some(Place { route, at: at + before }))
    }

    /// Where the pieces of the run after it begin.
    fn next_place(&self) -> Result<Option<Place>> {
        self.piece_place(self.route.piece_count())
    }
}

/// Which segments run number `run` of an artifact holds: the first one and how many.
fn run_of(artifact: &Artifact, run: usize) -> (u32, usize) {
    let first = (run * RUN_SEGMENTS_MAX) as u32;
    (first, artifact.segment_count().saturating_sub(first).min(RUN_SEGMENTS_MAX as u32) as usize)
}

const fn table_bytes(runs: usize) -> usize {
    16 + runs * 32
}

impl<'a> Installer<'a> {
    /// An installer for `total` bytes of content.
    pub fn new(target: Group, reuse: Reuse, total: u64, tools: Tools<'a>) -> Self {
        let Tools { slots, source, inflate, observer, memory } = tools;
        let progress = Progress { total, ..Progress::default() };
        Installer {
            target,
            reuse,
            slots,
            source,
            inflate,
            observer,
            memory,
            progress,
            misses: 0,
            indexed: Indexed::default(),
        }
    }

    /// Brings one artifact into its slot and syncs it. `holds`: the digest of what the running group's slot of this class
    /// holds, where that is known; where it is not and has been found out, it stands there afterwards.
    pub fn install(
        &mut self,
        artifact: &Artifact,
        holds: &mut Option<Digest>,
        workspace: &mut [u8; WORKSPACE_BYTES],
    ) -> Result<()> {
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
        (self.misses, self.indexed) = (0, Indexed::default());
        let mut space = Space::of(workspace)?;
        let done = match self.choose(artifact, holds, &mut space.work) {
            Some(delta) => self.by_delta(artifact, delta, &mut space)?,
            None => 0,
        };
        if done < artifact.run_count() {
            self.by_full(artifact, done, &mut space)?;
        }
        self.slots.sync(self.target, class)
    }

    /// The full route, from run `from` on.
    fn by_full(&mut self, artifact: &Artifact, from: usize, space: &mut Space<'_>) -> Result<()> {
        let Space { table, spare, page: route_page, work } = space;
        let (segment_table, segment_page) = Space::split(spare)?;
        let (runs, full) = (artifact.run_count(), artifact.full_route()?);
        // They come while the groups are read: to connect alone takes some round trips.
        self.announce([artifact.segments, full.table].map(|name| (name, table_bytes(runs))));
        self.index(artifact, work)?;
        self.observer.note(Note::Route { class: &artifact.class, base: None, bytes: full.bytes });
        let segment_table =
            Table::parse(self.fetch(&artifact.segments, table_bytes(runs), segment_table)?, runs)?;
        let route_table = Table::parse(self.fetch(&full.table, table_bytes(runs), table)?, runs)?;
        // How many bytes of pieces lie before a run in the midst, only the pages before it would say.
        let mut place = (from == 0).then_some(Place { route: full.table, at: 0 });
        for run in from..runs {
            let pages = [segment_table.page(run)?, route_table.page(run)?];
            let next_pages = match run + 1 {
                next if next < runs => heapless::Vec::from_array([
                    (segment_table.page(next)?, SEGMENT_PAGE_BYTES_MAX),
                    (route_table.page(next)?, ROUTE_PAGE_BYTES_MAX),
                ]),
                _ => heapless::Vec::new(),
            };
            let run = self.full_run(artifact, run, pages, segment_page, route_page)?;
            let run = Run { place, next_pages, ..run };
            self.run(artifact, &run, &mut Patches::none(), work)?;
            place = run.next_place()?;
        }
        Ok(())
    }

    /// Fetches the two pages of a run of the full route.
    fn full_run<'p>(
        &mut self,
        artifact: &Artifact,
        run: usize,
        [segment_page, route_page]: [Digest; 2],
        segments: &'p mut [u8],
        route: &'p mut [u8],
    ) -> Result<Run<'p>> {
        let (first, count) = run_of(artifact, run);
        self.announce([(segment_page, table_bytes(count)), (route_page, ROUTE_PAGE_BYTES_MAX)]);
        let page = self.fetch(&segment_page, table_bytes(count), segments)?;
        let segments = Some(SegmentPage::parse(page, first, count)?);
        let page = self.fetch(&route_page, ROUTE_PAGE_BYTES_MAX, route)?;
        let content = |index: usize| artifact.segment_bytes(first + index as u32);
        let route = RoutePage::parse(page, first, count, content)?;
        Ok(Run { first, count, route, segments, place: None, next_pages: heapless::Vec::new(), only: None })
    }

    /// Asks for two objects that are fetched next, each of at most so many bytes, so that together they take one round trip.
    /// What has no room in the window is asked for when it is fetched.
    fn announce(&mut self, objects: [(Digest, usize); 2]) {
        for (name, bytes) in objects {
            if !self.source.prefetch(&name, bytes as u32) {
                break;
            }
        }
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

    /// So many bytes of the content stood in the target already.
    fn kept(&mut self, bytes: usize) {
        self.progress.kept += bytes as u64;
        self.made(bytes);
    }

    /// Writes what a group of this gateway has given.
    fn write_copied(&mut self, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        self.slots.write(self.target, class, segment)?;
        self.progress.copied += segment.bytes().len() as u64;
        self.made(segment.bytes().len());
        Ok(())
    }

    /// So many bytes more of the content stand in the target.
    fn made(&mut self, bytes: usize) {
        self.progress.done += bytes as u64;
        let Progress { done, total, fetched, copied, kept } = self.progress;
        self.observer.note(Note::Progress { done, total, fetched, copied, kept });
    }
}

/// The page was checked when it was parsed, so its lengths lie within the buffers.
fn beyond() -> fault::Fault {
    fault!(Corrupt, "installer: a length beyond its bounds in a page that was checked")
}

/// How often an object is asked for that turns out not to be what its name says: a broker that lies all the time
/// shall not keep the agent busy for ever.
const FETCHES_MAX: usize = 8;

/// What is written is made durable every 64 segments (16 MiB): this bounds what a power cut can cost, no more.
const SYNC_SEGMENTS: usize = 64;
