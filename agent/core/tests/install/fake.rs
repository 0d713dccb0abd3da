//! A bundle, a source and slots in memory, each of which can be made to lie.

use mainstay_core::boot::Group;
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::PatchState;
use mainstay_core::bundle::recode::Tables;
use mainstay_core::bundle::{Artifact, Encoding, Route, RouteKind, VerifiedSegment};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstay_core::seam::{
    Entry, Inflate, Memory, NO_PREFIX, Note, Observer, PieceSource, Place, Result, SlotWriter,
};
use mainstay_core::update::{Installer, Reuse, Tools, WORKSPACE_BYTES};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a segment is made of, and how it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zeros: takes no bytes.
    Zero,
    /// Bytes that do not compress, by a seed: three pieces of its own.
    Raw(u8),
    /// One byte repeated: a frame of a few bytes, so that many share a piece.
    Frame(u8),
    /// The same, of a byte that the segment before it decides: a frame with a prefix.
    Follow(u8),
    /// As [`Kind::Raw`], but that no segment can have it as its prefix.
    Dictionary,
}

impl Kind {
    pub fn content(self, bytes: usize) -> Vec<u8> {
        match self {
            Kind::Zero => vec![0; bytes],
            Kind::Raw(seed) => {
                let mut x = u32::from(seed) + 1;
                let mut next = || {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (x >> 24) as u8
                };
                (0..bytes).map(|_| next()).collect()
            }
            Kind::Frame(byte) => vec![byte; bytes],
            Kind::Follow(_) => unreachable!("made from the segment before"),
            Kind::Dictionary => [&NO_PREFIX[..], &Kind::Raw(7).content(bytes - 4)].concat(),
        }
    }

    /// The same behind `before`, all that stands before it.
    pub fn content_after(self, before: &[u8], bytes: usize) -> Vec<u8> {
        match self {
            Kind::Follow(byte) => vec![followed(byte, &before[before.len() - SEGMENT_BYTES..]); bytes],
            kind => kind.content(bytes),
        }
    }

    fn encode(self, bytes: usize) -> (Encoding, Vec<u8>) {
        match self {
            Kind::Zero => (Encoding::Zero, Vec::new()),
            Kind::Raw(_) | Kind::Dictionary => (Encoding::Raw, self.content(bytes)),
            Kind::Frame(byte) => (Encoding::Zstd, fake_frame(byte, bytes)),
            Kind::Follow(byte) => (Encoding::Prefixed, fake_frame(byte, bytes)),
        }
    }
}

/// What a frame of `byte` makes with this prefix.
pub fn followed(byte: u8, prefix: &[u8]) -> u8 {
    prefix.iter().step_by(1000).fold(byte, |sum, byte| sum.wrapping_mul(3).wrapping_add(*byte))
}

/// "FAKE", how many, which byte.
pub fn fake_frame(byte: u8, bytes: usize) -> Vec<u8> {
    let mut frame = b"FAKE".to_vec();
    frame.extend_from_slice(&(bytes as u32).to_le_bytes());
    frame.push(byte);
    frame
}

/// Not zstd: unpacks [`fake_frame`].
pub struct FakeInflate;

impl Inflate for FakeInflate {
    fn inflate(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<usize> {
        assert!(prefix.is_empty() || prefix.len() == SEGMENT_BYTES, "the segment before, or nothing");
        let [b'F', b'A', b'K', b'E', a, b, c, d, byte] = *frame else {
            return Err(fault!(Corrupt, "fake frame: not one"));
        };
        let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let room = out.len();
        let place = out.get_mut(..bytes);
        place
            .ok_or_else(|| fault!(Corrupt, "fake frame: wants {bytes} bytes, there is room for {room}"))?
            .fill(followed(byte, prefix));
        Ok(bytes)
    }
}

/// One run, as the author made it; a test may spoil it before it is filed.
pub struct Run {
    pub segment_page: Vec<u8>,
    pub route_page: Vec<u8>,
    pub pieces: Vec<Vec<u8>>,
}

/// An artifact and its objects.
pub struct Packed {
    pub content: Vec<u8>,
    pub artifact: Artifact,
    pub objects: BTreeMap<Digest, Vec<u8>>,
    /// The objects in the order in which they stand in a bundle file.
    pub order: Vec<Digest>,
}

/// Packs segments, the last of which has `last` bytes; `spoil` may change each run.
pub fn pack(kinds: &[Kind], last: usize, spoil: impl Fn(&mut Run)) -> Packed {
    let bytes = |i: usize| if i + 1 == kinds.len() { last } else { SEGMENT_BYTES };
    let mut content = Vec::new();
    let mut runs = Vec::new();
    for (n, chunk) in kinds.chunks(RUN_SEGMENTS_MAX).enumerate() {
        let mut builder = RunBuilder::new();
        for (i, kind) in chunk.iter().enumerate() {
            let bytes = bytes(n * RUN_SEGMENTS_MAX + i);
            let segment = kind.content_after(&content, bytes);
            let (encoding, encoded) = kind.encode(bytes);
            builder.push(Digest::of(&segment), encoding, &encoded).unwrap();
            content.extend_from_slice(&segment);
        }
        let run = builder.finish((n * RUN_SEGMENTS_MAX) as u32);
        let mut run = Run { segment_page: run.segment_page, route_page: run.route_page, pieces: run.pieces };
        spoil(&mut run);
        runs.push(run);
    }
    let pages = |page: fn(&Run) -> &Vec<u8>| runs.iter().map(|run| Digest::of(page(run))).collect::<Vec<_>>();
    let tables =
        [author::table(&pages(|run| &run.segment_page)), author::table(&pages(|run| &run.route_page))];
    let names = tables.clone().map(|table| Digest::of(&table));
    let mut row: Vec<Vec<u8>> = tables.into();
    for run in runs {
        row.extend([run.segment_page, run.route_page]);
        row.extend(run.pieces);
    }
    let artifact = Artifact {
        class: "rootfs".try_into().unwrap(),
        size: content.len() as u64,
        digest: Digest::of(&content),
        segments: names[0],
        routes: [Route { kind: RouteKind::Full, table: names[1], bytes: 0 }].into_iter().collect(),
    };
    let order = row.iter().map(|object| Digest::of(object)).collect();
    Packed { content, artifact, objects: row.into_iter().map(|o| (Digest::of(&o), o)).collect(), order }
}

/// A source with a window. It holds the installer to its word: what is announced is fetched, in the order of the file.
pub struct FakeSource {
    pub objects: BTreeMap<Digest, Vec<u8>>,
    pub order: Vec<Digest>,
    pub window: usize,
    pub fetched: Vec<Digest>,
    /// Gives something else in the place of this object, so many times.
    pub lies: Option<(Digest, u32)>,
    /// Has no other place to ask.
    pub refutes: bool,
    /// Gives any object by its name, in any order.
    pub anywhere: bool,
    /// What it was told of where pieces lie.
    pub places: BTreeMap<Digest, Place>,
    /// Room for an index, entries.
    pub index: usize,
    /// Does not come back from this fetch.
    pub stops_at: Option<usize>,
    /// A line of one round trip: how many have passed while the installer waited.
    pub round_trips: u32,
    /// Reads of slots, as they count them, and how many there were when something was first asked for.
    pub reads: Rc<Cell<usize>>,
    pub reads_before: Option<usize>,
    /// And when each was asked for, in round trips.
    outstanding: BTreeMap<Digest, u32>,
    at: usize,
}

impl FakeSource {
    pub fn new(packed: &Packed, window: usize) -> Self {
        FakeSource {
            objects: packed.objects.clone(),
            order: packed.order.clone(),
            window,
            fetched: Vec::new(),
            lies: None,
            refutes: false,
            anywhere: false,
            places: BTreeMap::new(),
            index: 0,
            stops_at: None,
            round_trips: 0,
            reads: Rc::default(),
            reads_before: None,
            outstanding: BTreeMap::new(),
            at: 0,
        }
    }

    /// Nothing was announced in vain.
    pub fn assert_all_fetched(&self) {
        assert!(self.outstanding.is_empty(), "announced and not fetched: {:?}", self.outstanding);
    }
}

impl PieceSource for FakeSource {
    fn only_forward(&self) -> bool {
        !self.anywhere
    }
    fn place(&mut self, name: &Digest, _: u32, place: Place) {
        let told = self.places.insert(*name, place).is_some();
        assert!(told || !self.outstanding.contains_key(name), "told after it was announced");
    }
    fn forget(&mut self, name: &Digest) {
        self.outstanding.remove(name);
    }
    fn prefetch(&mut self, name: &Digest, _: u32) -> bool {
        if self.outstanding.contains_key(name) {
            return true;
        }
        let room = self.outstanding.len() < self.window;
        if room {
            self.reads_before.get_or_insert(self.reads.get());
            self.outstanding.insert(*name, self.round_trips);
        }
        room
    }
    fn fetch(&mut self, name: &Digest, _: u32) -> Result<&[u8]> {
        if self.stops_at == Some(self.fetched.len()) {
            return Err(fault!(Cancelled, "interrupted"));
        }
        if !self.anywhere && self.fetched.last() != Some(name) {
            let ahead = self.order.iter().skip(self.at).position(|there| there == name);
            let ahead = ahead.unwrap_or_else(|| panic!("{name:?} is not ahead of object {}", self.at));
            self.at += ahead + 1;
        }
        self.fetched.push(*name);
        let asked = self.outstanding.get(name).copied().unwrap_or(self.round_trips);
        self.round_trips = self.round_trips.max(asked + 1);
        if let Some((lied, times)) = &mut self.lies
            && lied == name
            && *times > 0
        {
            *times -= 1;
            return Ok(b"something else");
        }
        self.objects.get(name).map(Vec::as_slice).ok_or_else(|| fault!(NotFound, "no object {name:?}"))
    }
    fn release(&mut self, name: &Digest) {
        self.outstanding.remove(name);
    }
    fn refute(&mut self, name: &Digest) -> Result<()> {
        if self.refutes { Err(fault!(Corrupt, "{name:?}: no other place to ask")) } else { Ok(()) }
    }
}

/// Both groups' slot of the one class.
pub struct FakeSlots {
    pub groups: [Vec<u8>; 2],
    pub writes: Vec<u64>,
    /// Segments of the target that cannot be read until they are written.
    pub unreadable: BTreeSet<u64>,
    /// The running group cannot be read at all.
    pub running_fails: bool,
    pub synced: usize,
    /// So many writes go well, and none after them.
    pub writes_left: Option<usize>,
    /// What is said of their size, where that is another.
    pub room: Option<u64>,
    /// Reads of the running group, and their bytes.
    pub base_reads: (usize, usize),
    /// Reads of either.
    pub reads: Rc<Cell<usize>>,
}

/// The group that runs; the other is the target.
pub const RUNNING: Group = Group::A;

impl FakeSlots {
    pub fn new(bytes: usize) -> Self {
        let groups = [vec![0x11; bytes], vec![0x22; bytes]];
        FakeSlots {
            groups,
            writes: Vec::new(),
            unreadable: BTreeSet::new(),
            running_fails: false,
            synced: 0,
            writes_left: None,
            room: None,
            base_reads: (0, 0),
            reads: Rc::default(),
        }
    }
    pub fn target(&self) -> &[u8] {
        &self.groups[1]
    }
}

impl SlotWriter for FakeSlots {
    fn open(&mut self, group: Group, class: &str) -> Result<u64> {
        assert_eq!(class, "rootfs");
        Ok(self.room.unwrap_or(self.groups[group as usize].len() as u64))
    }
    fn write(&mut self, group: Group, _: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        assert_ne!(group, RUNNING, "the running group is never written");
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or_else(|| fault!(Io, "no power"))?;
        }
        let at = segment.at() as usize;
        self.groups[group as usize][at..at + segment.bytes().len()].copy_from_slice(segment.bytes());
        self.writes.push(segment.at() / SEGMENT_BYTES as u64);
        self.unreadable.remove(&segment.at());
        self.synced = 0;
        Ok(())
    }
    fn sync(&mut self, _: Group, _: &str) -> Result<()> {
        self.synced += 1;
        Ok(())
    }
    fn read_back(&mut self, group: Group, _: &str, at: u64, out: &mut [u8]) -> Result<()> {
        self.reads.set(self.reads.get() + 1);
        if (group != RUNNING && self.unreadable.contains(&at)) || (group == RUNNING && self.running_fails) {
            return Err(fault!(Io, "unreadable"));
        }
        if group == RUNNING {
            self.base_reads = (self.base_reads.0 + 1, self.base_reads.1 + out.len());
        }
        let found = self.groups[group as usize].get(at as usize..at as usize + out.len());
        out.copy_from_slice(found.ok_or_else(|| fault!(Io, "beyond the end"))?);
        Ok(())
    }
}

/// Keeps the last progress, and what else was said.
#[derive(Default)]
pub struct Seen {
    /// done, total, fetched, copied, kept
    pub progress: [u64; 5],
    /// Drift: first segment, how many.
    pub drift: Vec<(u32, u32)>,
    /// The bases of the routes that were taken.
    pub routes: Vec<Option<Digest>>,
    pub faults: Vec<String>,
    /// What the running group was found to hold.
    pub holds: Option<Digest>,
}

impl Observer for Seen {
    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Progress { done, total, fetched, copied, kept } => {
                self.progress = [done, total, fetched, copied, kept];
            }
            Note::Drift { class: "rootfs", first, segments } => self.drift.push((first, segments)),
            Note::Route { class: "rootfs", base, .. } => self.routes.push(base),
            Note::Fault { doing, fault } => self.faults.push(format!("{doing}: {fault}")),
            note => panic!("{note:?}"),
        }
    }
}

/// Memory for patches.
#[derive(Default)]
pub struct Heap(Box<PatchState>, Vec<Entry>, Box<Tables>);

impl Memory for Heap {
    fn patch(&mut self) -> &mut PatchState {
        &mut self.0
    }
    fn recode(&mut self) -> (&mut PatchState, &mut Tables) {
        (&mut self.0, &mut self.2)
    }
    fn index(&mut self) -> &mut [Entry] {
        &mut self.1
    }
}

/// Installs one artifact into group B; nothing is known of what A holds.
pub fn install(
    artifact: &Artifact,
    reuse: Reuse,
    source: &mut FakeSource,
    slots: &mut FakeSlots,
) -> Result<Seen> {
    let mut seen = Seen::default();
    install_from(artifact, None, reuse, source, slots, &mut seen).map(|()| seen)
}

/// The same where A is known to hold `holds`.
pub fn install_from(
    artifact: &Artifact,
    holds: Option<Digest>,
    reuse: Reuse,
    source: &mut FakeSource,
    slots: &mut FakeSlots,
    seen: &mut Seen,
) -> Result<()> {
    let mut workspace: Box<[u8; WORKSPACE_BYTES]> =
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().unwrap();
    let mut memory = Heap(Box::default(), vec![Entry::default(); source.index], Box::default());
    let mut holds = holds;
    let tools = Tools { slots, source, inflate: &mut FakeInflate, observer: seen, memory: &mut memory };
    let installed = Installer::new(RUNNING.other(), reuse, artifact.size, tools).install(
        artifact,
        &mut holds,
        &mut workspace,
    );
    seen.holds = holds;
    installed
}
