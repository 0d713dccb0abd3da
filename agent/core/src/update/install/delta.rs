//! Delta routes: what is made from what the running group holds, and what becomes of what it does not hold any more.
//!
//! A delta page says itself what its segments must be, so no segment page is fetched. A segment that comes out wrong costs
//! itself alone: it is remembered, and when the run is over its segment page and the full route's page are fetched, and
//! those segments are made by the full route.
//!
//! | what is found | counts as | then |
//! |---|---|---|
//! | a copy or a patch makes another segment | drift: the running group is not what it was | that segment by the full route |
//! | a frame with a prefix behind a segment that is left over | shares its fate | the same |
//! | a frame that cannot be read, or another content that fails | broken: whoever packed it | the same, and those behind it in its piece |
//! | a page or a table that cannot be read, a piece that is not there | broken | the full route from there |
//! | more than half of a run was left over | | the full route from there |
//!
//! A broken delta route is said, and does not stop the update: the full route is signed by the same people and makes the
//! same content, and a gateway that refused both could not be mended by an update any more.

use super::make::Unmade;
use super::route::{DOING, Delta};
use super::space::{Buffers, Cursor, Set, Space};
use super::{Installer, Run, beyond, run_of, table_bytes};
use crate::boot::Group;
use crate::bundle::patch::{Base, unpatch};
use crate::bundle::recode::{Room, unpatch_parts};
use crate::bundle::{Artifact, Encoding, ROUTE_PAGE_BYTES_MAX, RoutePage, Table};
use crate::digest::Digest;
use crate::fault;
use crate::fault::{Fault, FaultKind};
use crate::limits::BLOCK_BYTES;
use crate::seam::{Note, Place, Result, SlotWriter};

impl Installer<'_> {
    /// Installs by a delta route; how many runs of it are done. The full route goes on from there, if there are more.
    pub(super) fn by_delta(
        &mut self,
        artifact: &Artifact,
        delta: Delta,
        space: &mut Space<'_>,
    ) -> Result<usize> {
        let Space { table, spare, page: page_room, work } = space;
        let (class, runs) = (artifact.class.as_str(), artifact.run_count());
        self.observer.note(Note::Route { class, base: Some(delta.base), bytes: delta.bytes });
        let table = self.fetch(&delta.table, table_bytes(runs), table);
        let table = match table.and_then(|table| Table::parse(table, runs)) {
            Ok(table) => table,
            Err(fault) => return self.refuse(class, fault).map(|()| 0),
        };
        let mut place = Some(Place { route: delta.table, at: 0 });
        for number in 0..runs {
            let (first, count) = run_of(artifact, number);
            let name = table.page(number)?;
            let route = match self.delta_page(artifact, &delta, &name, number, page_room) {
                Ok(route) => route,
                Err(fault) => return self.refuse(class, fault).map(|()| number),
            };
            let next = table.page(number + 1).ok();
            let next_pages = next.iter().map(|name| (*name, ROUTE_PAGE_BYTES_MAX)).collect();
            let run = Run { first, count, route, segments: None, place, next_pages, only: None };
            let mut patches = Patches::of(delta, spare);
            self.run(artifact, &run, &mut patches, work)?;
            place = run.next_place()?;
            let left = patches.left;
            self.say(class, first, &left);
            if left.set.len() > 0 {
                self.mend(artifact, number, left.set, spare, page_room, work)?;
            }
            if (left.given_up || left.set.len() > count / 2)
                && let Some(next) = next
            {
                self.source.forget(&next);
                let left = left.set.len();
                let why = fault!(Corrupt, "{left} of {count} segments could not be made");
                self.refuse(class, why)?;
                return Ok(number + 1);
            }
        }
        Ok(runs)
    }

    fn delta_page<'b>(
        &mut self,
        artifact: &Artifact,
        delta: &Delta,
        name: &Digest,
        run: usize,
        room: &'b mut [u8],
    ) -> Result<RoutePage<'b>> {
        let (first, count) = run_of(artifact, run);
        let content = |index: usize| artifact.segment_bytes(first + index as u32);
        let page = self.fetch(name, ROUTE_PAGE_BYTES_MAX, room)?;
        let page = RoutePage::parse_delta(page, first, count, content)?;
        for index in 0..count {
            let segment = first + index as u32;
            let end = u64::from(segment) * crate::limits::SEGMENT_BYTES as u64 + content(index) as u64;
            if page.segment(index)?.0 == Encoding::Copy && end > delta.base_bytes {
                return Err(fault!(
                    Corrupt,
                    "delta page: segment {segment}: a copy up to byte {end} of a base of {} bytes",
                    delta.base_bytes
                ));
            }
        }
        Ok(page)
    }

    /// The delta route is no use from here on: that is said, and the full one is taken. `Err`: it has nothing to do with the
    /// route, and would be the same with the other.
    fn refuse(&mut self, class: &str, fault: Fault) -> Result<()> {
        if !is_the_routes_own(&fault) {
            return Err(fault);
        }
        let fault = fault.within(format_args!("{class}: the full route from here on"));
        self.observer.note(Note::Fault { doing: DOING, fault: &fault });
        Ok(())
    }

    /// Tells of what a run has left over.
    fn say(&mut self, class: &str, first: u32, left: &Left) {
        if let Some(index) = left.first_drifted {
            let (first, segments) = (first + index as u32, left.drifted);
            self.observer.note(Note::Drift { class, first, segments });
        }
        if let Some(why) = &left.why {
            self.observer.note(Note::Fault { doing: DOING, fault: why });
        }
    }

    /// Makes the segments of a run that a delta route has left over, by the full route. Both tables are fetched anew for each
    /// such run: that is less than a piece, and keeps the tables of three routes out of memory.
    fn mend(
        &mut self,
        artifact: &Artifact,
        run: usize,
        only: Set,
        spare: &mut [u8],
        page_room: &mut [u8],
        work: &mut Buffers<'_>,
    ) -> Result<()> {
        let runs = artifact.run_count();
        let (table, segment_page) = Space::split(spare)?;
        let full = artifact.full_route()?.table;
        self.announce([artifact.segments, full].map(|name| (name, table_bytes(runs))));
        let [segments, route] = [artifact.segments, full].map(|name| {
            let table = self.fetch(&name, table_bytes(runs), table)?;
            Table::parse(table, runs)?.page(run)
        });
        let place = (run == 0).then_some(Place { route: full, at: 0 });
        let run = self.full_run(artifact, run, [segments?, route?], segment_page, page_room)?;
        let run = Run { place, only: Some(only), ..run };
        self.run(artifact, &run, &mut Patches::none(), work)
    }

    /// Brings what patches have learned up to the frame that begins at `at`, in a piece that is held: frames before it in
    /// the same piece that were not wanted are read all the same, for what they teach. That needs nothing of the base.
    pub(super) fn learn(
        &mut self,
        artifact: &Artifact,
        run: &Run<'_>,
        index: usize,
        at: Cursor,
        patches: &mut Patches<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<()> {
        if patches.piece != Some(at.piece) {
            self.memory.patch().reset();
            (patches.piece, patches.broken) = (Some(at.piece), false);
            let begins = patches.begins.filter(|(_, there)| there.piece == at.piece);
            patches.next = begins.unwrap_or((index, at));
        }
        let base_bytes = patches.delta.map_or(0, |delta| delta.base_bytes);
        let reach = |at: u64| Dry(base_bytes.saturating_add(at));
        while patches.next.0 < index && !patches.broken {
            let (segment, there) = &mut patches.next;
            let (encoding, length) = run.route.segment(*segment)?;
            if encoding.learns() {
                let frame = buffers.piece.get(there.offset..there.offset + length).ok_or_else(beyond)?;
                let bytes = artifact.segment_bytes(run.first + *segment as u32);
                let out = buffers.segment.get_mut(..bytes).ok_or_else(beyond)?;
                let at = run.at(*segment);
                let (state, tables) = self.memory.recode();
                let read = match encoding {
                    Encoding::Patch => unpatch(frame, at, state, &mut reach(at), out),
                    _ => {
                        buffers.prior_at = None;
                        let opened = &mut *buffers.prior;
                        let mut room = Room { tables, opened, made: buffers.encoded };
                        unpatch_parts(frame, at, state, &mut reach(at), &mut room, out)
                    }
                };
                patches.broken = read.is_err();
                read.map_err(|fault| fault.within(format_args!("{}: on the way", artifact.class)))?;
            }
            there.skip(&run.route, length)?;
            *segment += 1;
        }
        match patches.broken {
            false => Ok(()),
            true => Err(fault!(
                Corrupt,
                "{}: segment at {}: a frame before it in its piece cannot be read",
                artifact.class,
                run.at(index)
            )),
        }
    }
}

/// Would the other route be any better?
fn is_the_routes_own(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::NotFound | FaultKind::Corrupt | FaultKind::Unsupported)
}

/// How far a run has come along a delta route. With `delta` absent it is a full route's, and holds nothing.
pub(super) struct Patches<'w> {
    pub delta: Option<Delta>,
    pub left: Left,
    /// A frame in the piece that the state has learned from could not be read.
    pub broken: bool,
    /// That piece.
    piece: Option<usize>,
    /// The segment that comes next in it, and where its encoding begins.
    next: (usize, Cursor),
    /// The first segment whose encoding begins in the piece that the run has come to.
    begins: Option<(usize, Cursor)>,
    /// Part of the base, as it was read.
    window: &'w mut [u8],
    /// What part.
    window_at: u64,
    window_bytes: usize,
}

impl<'w> Patches<'w> {
    pub fn none() -> Self {
        Patches {
            delta: None,
            left: Left::default(),
            broken: false,
            piece: None,
            next: (0, Cursor::default()),
            begins: None,
            window: &mut [],
            window_at: 0,
            window_bytes: 0,
        }
    }

    pub fn of(delta: Delta, window: &'w mut [u8]) -> Self {
        Patches { delta: Some(delta), window, ..Patches::none() }
    }

    /// The run comes to a segment whose encoding begins at `at`.
    pub fn passes(&mut self, index: usize, at: Cursor, length: usize) {
        if length > 0 && self.begins.is_none_or(|(_, there)| there.piece != at.piece) {
            self.begins = Some((index, at));
        }
    }

    /// The frame of a segment has been read; the next encoding begins at `at`.
    pub fn learned(&mut self, index: usize, at: Cursor) {
        self.next = (index + 1, at);
    }
}

/// What a delta route could not make of a run.
#[derive(Default)]
pub(super) struct Left {
    /// These segments, for the full route.
    pub set: Set,
    /// So many of them because the running group does not hold what it should (or they stood in the target all the same).
    drifted: u32,
    /// The first of these, counted from the run's beginning.
    first_drifted: Option<usize>,
    /// What else was wrong, first.
    why: Option<Fault>,
    /// The source does not have all of the route.
    pub given_up: bool,
}

impl Left {
    /// What the base holds is not what it was.
    pub fn drifted(&mut self, index: usize) {
        self.drifted += 1;
        self.first_drifted = Some(self.first_drifted.map_or(index, |first| first.min(index)));
    }

    /// Is the segment before this one left over?
    pub fn lacks_before(&self, index: usize) -> bool {
        index.checked_sub(1).is_some_and(|before| self.set.has(before))
    }

    /// A segment was not made. `Err`: nor would it be by another route.
    pub fn take(&mut self, index: usize, encoding: Encoding, unmade: Unmade) -> Result<()> {
        let fault = match unmade {
            Unmade::Unprefixed(_) => {
                self.drifted(index);
                self.set.insert(index);
                return Ok(());
            }
            Unmade::Unproven(_) if encoding.learns() => {
                self.drifted(index);
                self.set.insert(index);
                return Ok(());
            }
            Unmade::Source(fault) if is_the_routes_own(&fault) => {
                self.given_up = true;
                fault
            }
            Unmade::Content(fault) | Unmade::Unproven(fault) => fault,
            Unmade::Source(fault) | Unmade::Target(fault) => return Err(fault),
        };
        self.set.insert(index);
        self.why.get_or_insert(fault);
        Ok(())
    }
}

/// What a patch reads: the base, and behind its end the content that has been made so far, from the slot that is written; what
/// is new twice travels once so. Through a window, because operations are small and neighbours, and each read of the medium
/// costs the same however small it is.
///
/// A segment before this one that is left for the full route does not stand there yet: what repeats it shares its fate.
pub(super) struct Window<'a> {
    slots: &'a mut dyn SlotWriter,
    /// That is written; the base stands in the other.
    target: Group,
    class: &'a str,
    /// Of the base,
    base_bytes: u64,
    /// and of these and the content made so far together.
    bytes: u64,
    window: &'a mut [u8],
    at: &'a mut u64,
    filled: &'a mut usize,
}

impl<'a> Window<'a> {
    pub fn on(
        slots: &'a mut dyn SlotWriter,
        target: Group,
        class: &'a str,
        made: u64,
        patches: &'a mut Patches<'_>,
    ) -> Result<Self> {
        let Patches { delta: Some(delta), window, window_at: at, window_bytes: filled, .. } = patches else {
            return Err(beyond()); // a full page has no patches
        };
        let base_bytes = delta.base_bytes;
        let bytes = base_bytes.saturating_add(made);
        Ok(Window { slots, target, class, base_bytes, bytes, window, at, filled })
    }

    /// Where the range that holds `at` begins, ends, and in which group it stands.
    fn range(&self, at: u64) -> (u64, u64, Group) {
        match at < self.base_bytes {
            true => (0, self.base_bytes, self.target.other()),
            false => (self.base_bytes, self.bytes, self.target),
        }
    }

    /// What the window holds of `length` bytes at `at`.
    fn held(&self, at: u64, length: usize) -> Option<&[u8]> {
        let skip = at.checked_sub(*self.at)?;
        let held = self.window.get(..*self.filled)?;
        held.get(usize::try_from(skip).ok()?..)?.get(..length)
    }

    /// Moves the window over `at`, as far as its range goes.
    fn fill(&mut self, at: u64) {
        let (begin, end, group) = self.range(at);
        let from = (at - begin) - (at - begin) % BLOCK;
        let room = self.window.len() - self.window.len() % BLOCK as usize;
        *self.at = begin + from;
        *self.filled = (end - *self.at).min(room as u64) as usize;
        let Some(window) = self.window.get_mut(..*self.filled) else { return };
        if self.slots.read_back(group, self.class, from, window).is_err() {
            *self.filled = 0;
        }
    }

    /// Reads what lies in one range.
    fn read_within(&mut self, at: u64, out: &mut [u8]) {
        if self.held(at, out.len()).is_none() && out.len() <= SMALL_BYTES {
            self.fill(at);
        }
        if let Some(held) = self.held(at, out.len()) {
            return out.copy_from_slice(held);
        }
        let (begin, _, group) = self.range(at);
        if self.slots.read_back(group, self.class, at - begin, out).is_err() {
            out.fill(0);
        }
    }
}

impl Base for Window<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A place that cannot be read is answered with zeros: see [`Base::read`].
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let (_, end, _) = self.range(at);
        let here = (end - at).min(out.len() as u64) as usize;
        let (first, second) = out.split_at_mut(here);
        self.read_within(at, first);
        if !second.is_empty() {
            self.read_within(end, second);
        }
        Ok(())
    }
}

/// A base of so many bytes that is not read: for frames whose content nobody wants.
struct Dry(u64);

impl Base for Dry {
    fn bytes(&self) -> u64 {
        self.0
    }
    fn read(&mut self, _at: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        Ok(())
    }
}

/// The window begins at a multiple of this: media are read in whole blocks past the page cache.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// More than this is read into its place at once, and not through the window.
const SMALL_BYTES: usize = 16 * 1024;
