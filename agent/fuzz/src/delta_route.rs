//! A hostile delta route before the installer: a bundle that is validly signed, whose full route is sound, and whose delta
//! route is whatever a plan makes of it, over a base that may not be what it was, and a target that may hold anything.
//!
//! `arbitrary` plans; [`made`] makes, with [`parts`]. Tables and pages are spoiled, pieces are other objects, patches read outside of the base, say
//! another length or are no frames at all, copies lie beyond the base, and digests lie along with what is made.
//!
//! Claims: only the target is written, within the content's place, and a segment at most once in an attempt; each write is what
//! the full route's digest, or the delta page's own, says; fetches and reads of the base are bounded, each object that was
//! announced is fetched or taken back, and no heap is taken at all. Where the page's digests do not lie and the full route
//! can be had, the content is right, whatever the delta route was; where they lie, reading back refuses what is not right.

mod made;
mod parts;

use crate::allocations::bounded;
use crate::signed::Spoil;
use crate::throwaway::TRUST;
use arbitrary::{Arbitrary, Unstructured};
use made::Made;
use mainstay::agent::Lent;
use mainstay::inflate::Zstd;
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Proof, VerifiedManifest, VerifiedSegment};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::limits::*;
use mainstay_core::policy::{Gateway, judge};
use mainstay_core::seam::*;
use mainstay_core::update::{Installer, Record, Reuse, Tools, WORKSPACE_BYTES, read_back};
use std::cell::RefCell;

/// What a bundle is made of, and how the gateway fares that gets it.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    segments: [Option<Way>; 3],
    /// Bytes of the last.
    last: u16,
    /// Which of them begin a piece though they need not.
    begins: u8,
    /// What the base is: one of [`BASES`].
    base: u8,
    /// What is done to the delta page, the table that names it, and pieces that it names.
    page: [Option<Spoil>; 2],
    table: Option<Spoil>,
    pieces: [Option<(u8, Spoil)>; 2],
    /// Another object in the place of the page, and of a piece.
    table_names: Option<u8>,
    elsewhere: Option<(u8, u8)>,
    /// Is it known what the running group holds? 0: yes; 1: no; 2: something else.
    known: u8,
    /// A byte of the base that is not what it was, and a segment of it that cannot be read.
    drifted: Option<u32>,
    unreadable: Option<u8>,
    /// What the target holds at first.
    target: u8,
    reuse: [bool; 2],
    /// How many objects may be announced at once.
    window: u8,
    /// An object that the source does not have.
    withheld: Option<u8>,
    /// What the source gives instead of its n-th answer, or (bit 2) from then on.
    lie: Option<(u8, u8)>,
    /// After so many writes the power goes, once.
    cut: Option<u8>,
}

impl Plan {
    fn base(&self) -> u8 {
        self.base % BASES.len() as u8
    }
}

/// How a segment comes by the delta route.
#[derive(Arbitrary, Debug)]
enum Way {
    Zero,
    Same,
    Raw(u8),
    Frame(u8),
    Patch([Option<OpPlan>; 4], Option<(u32, [(u16, i16); 3])>),
    /// In parts, and what is done to them; the last is what these leave, plain.
    Parts([Option<PartPlan>; 3], Option<Spoil>),
    /// A frame with the segment before as its prefix, where there is one that can be.
    Follow(u8),
    /// Sound, but of another content than the manifest's, and the page's digest says that it is right.
    Lie(u8),
    /// Bytes in the place of a patch's frame or of parts; `lies`: and the page says that what they make is right.
    Hostile {
        frame: [u8; 12],
        times: u8,
        lies: bool,
        parts: bool,
    },
}

/// An operation of a patch. Bit 7 of `kind`: `at` may lie anywhere.
#[derive(Arbitrary, Debug)]
struct OpPlan {
    kind: u8,
    length: u32,
    at: u32,
    transform: u8,
}

/// A part: plain, a block of zstd, a block of deflate that begins at a bit. Bit 7 of `kind`: its source may lie anywhere.
#[derive(Arbitrary, Debug)]
struct PartPlan {
    kind: u8,
    length: u16,
    at: u32,
    letter: u8,
    bit: u8,
}

/// Each group's slot: room for all segments of a plan.
const SLOT_BYTES: usize = 3 * SEGMENT_BYTES;
/// How long the base may be said to be; the last is longer than the slot.
const BASES: [u64; 4] =
    [SLOT_BYTES as u64, SLOT_BYTES as u64 - 100_000, SEGMENT_BYTES as u64 + 7, SLOT_BYTES as u64 + 1];

/// A plan.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    if let Ok(plan) = Plan::arbitrary(&mut u) {
        attempt(&plan);
    }
}

/// Is this a plan that comes to its end by the delta route alone?
pub fn by_delta_alone(data: &[u8]) -> bool {
    Plan::arbitrary(&mut Unstructured::new(data)).is_ok_and(|plan| attempt(&plan) == Some(End::Delta))
}

/// How an installation ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By the delta route alone.
    Delta,
    /// With the help of the full route, or by it.
    Full,
    /// What was made is refused when it is read back.
    Refused,
    /// It broke off: the source, or the medium.
    Broken,
}

/// Does a sound plan come to its end by the delta route alone, and each one with a single lie in it as it should? Asked at each
/// start of `run`, by `seeds`.
pub fn check() {
    type Lie = (&'static str, fn(&mut Plan), End);
    let patch = || Way::Patch([op(1, 5000), op(2, 300), op(0, 70_000), None], None);
    assert_eq!(attempt(&sound(patch())), Some(End::Delta), "sound");
    #[rustfmt::skip]
    let cases: [Lie; 31] = [
        ("one not known yet",     |p| p.known = 1,                                                     End::Delta),
        ("every object twice",    |p| p.lie = Some((2, 2)),                                            End::Delta),
        ("cut once",              |p| p.cut = Some(1),                                                 End::Delta),
        ("all stands there",      |p| p.target = 2,                                                    End::Delta),
        ("a prefix",              |p| p.segments[1] = Some(Way::Follow(5)),                            End::Delta),
        ("a prefix, twice",       |p| p.segments = [Some(Way::Raw(4)), Some(Way::Follow(5)), Some(Way::Follow(6))], End::Delta),
        ("a full piece withheld", |p| p.withheld = Some(4),                                            End::Delta),
        ("another base",          |p| p.known = 2,                                                     End::Full),
        ("a base beyond",         |p| p.base = 3,                                                      End::Full),
        ("a copy beyond",         |p| { p.base = 2; p.segments[1] = Some(Way::Same); },                End::Full),
        ("drifted",               |p| p.drifted = Some(3),                                             End::Full),
        ("a prefix drifted",      |p| { p.segments[1] = Some(Way::Follow(5)); p.drifted = Some(3); },  End::Full),
        ("unreadable",            |p| p.unreadable = Some(0),                                          End::Full),
        ("the table",             |p| p.table = Some(Spoil::Put32(8, 2)),                              End::Full),
        ("its page",              |p| p.table_names = Some(1),                                         End::Full),
        ("its spans",             |p| p.page[0] = Some(Spoil::Put32(20, 7)),                           End::Full),
        ("a digest",              |p| p.page[0] = Some(Spoil::Xor(24 + 9 + 3 + 3, 1)),                 End::Full),
        ("another piece",         |p| p.elsewhere = Some((0, 2)),                                      End::Full),
        ("a frame",               |p| p.pieces[0] = Some((0, Spoil::Xor(3, 255))),                     End::Full),
        ("outside of the base",   |p| p.segments[1] = Some(Way::Patch([op(0x84, 9), None, None, None], None)), End::Full),
        ("no frame",              |p| p.segments[1] = Some(Way::Hostile { frame: *b"not a frame.", times: 9, lies: true, parts: false }), End::Full),
        ("no parts",              |p| p.segments[1] = Some(Way::Hostile { frame: *b"nor parts...", times: 9, lies: true, parts: true }), End::Full),
        ("parts",                 |p| p.segments[1] = Some(in_parts(0, None)),                         End::Delta),
        ("a drifted source",      |p| { p.segments[1] = Some(in_parts(0, None)); p.drifted = Some(parts::ZSTD_AT as u32 + 1); }, End::Full),
        ("a source elsewhere",    |p| p.segments[1] = Some(in_parts(0x80, None)),                      End::Full),
        ("a part of another kind", |p| p.segments[1] = Some(in_parts(0, Some(Spoil::Xor(0, 3)))),      End::Full),
        ("another content",       |p| p.segments[1] = Some(Way::Lie(3)),                               End::Refused),
        ("another zero",          |p| p.segments[1] = Some(Way::Lie(1)),                               End::Refused),
        ("a copy that lies",      |p| p.segments[1] = Some(Way::Lie(0)),                               End::Refused),
        ("another for ever",      |p| p.lie = Some((2, 6)),                                            End::Broken),
        ("the link",              |p| p.lie = Some((2, 0)),                                            End::Broken),
    ];
    for (name, lie, end) in cases {
        let mut plan = sound(patch());
        lie(&mut plan);
        assert_eq!(attempt(&plan), Some(end), "{name}");
    }
}

fn op(kind: u8, length: u32) -> Option<OpPlan> {
    Some(OpPlan { kind, length, at: 2_000_000, transform: kind })
}

fn in_parts(anywhere: u8, spoil: Option<Spoil>) -> Way {
    let part = |kind, bit| Some(PartPlan { kind: kind | anywhere, length: 900, at: 70_000, letter: 7, bit });
    Way::Parts([part(0, 0), part(1, 0), part(2, 5)], spoil)
}

/// A copy, `way`, and a frame of zstd, with no lie in it.
fn sound(way: Way) -> Plan {
    Plan {
        segments: [Some(Way::Same), Some(way), Some(Way::Frame(3))],
        last: 999,
        begins: 0b010,
        base: 0,
        page: [None, None],
        table: None,
        pieces: [None, None],
        table_names: None,
        elsewhere: None,
        known: 0,
        drifted: None,
        unreadable: None,
        target: 0,
        reuse: [true; 2],
        window: 2,
        withheld: None,
        lie: None,
        cut: None,
    }
}

thread_local! {
    /// What costs more to make than a run of the target.
    static DEAR: RefCell<Dear> = RefCell::new(Dear::new());
}

struct Dear {
    zstd: Zstd,
    workspace: Box<[u8; WORKSPACE_BYTES]>,
    lent: Lent,
    /// What the running group holds, as it was.
    base: Vec<u8>,
    /// The digests of [`BASES`].
    digests: [Digest; 4],
}

impl Dear {
    fn new() -> Self {
        let mut lent = Lent::default();
        lent.recode().0.reset();
        lent.index().fill(Entry::default());
        // Noise in 8 bytes of 16; every fifth byte of the rest looks like a call.
        let noise = |n: usize| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3];
        let byte = |n: usize| {
            if n & 8 == 0 {
                noise(n)
            } else if n.is_multiple_of(5) {
                0xe8
            } else {
                (n >> 9) as u8
            }
        };
        let mut base: Vec<u8> = (0..SLOT_BYTES).map(byte).collect();
        parts::put_blocks(&mut base);
        let digest = |bytes: u64| Digest::of(base.get(..bytes as usize).unwrap_or(b"longer than the slot"));
        let workspace = vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().expect("of this size");
        Dear { zstd: Zstd::default(), workspace, lent, digests: BASES.map(digest), base }
    }
}

/// The group that runs; the other is the target.
const RUNNING: Group = Group::A;

/// How it ended; `None`: there was no such bundle.
fn attempt(plan: &Plan) -> Option<End> {
    DEAR.with_borrow_mut(|dear| {
        let digest = dear.digests[plan.base() as usize];
        let made = made::make(plan, &dear.base, digest)?;
        let manifest = VerifiedManifest::open(&TRUST, &made.envelope).expect("signed, and within its bounds");
        let record = Record::factory(3);
        let gateway = Gateway {
            compatible: "fuzzed",
            running: RUNNING,
            record: &record,
            unix_s: None,
            checks: &[],
            retry_failed: false,
        };
        assert!(judge(&manifest, &gateway).is_ok(), "it is accepted");
        let mut slots = Slots::new(plan, &made, &dear.base);
        let holds = [Some(digest), None, Some(Digest([7; 32]))][usize::from(plan.known % 3)];
        let mut ends = None;
        for _ in 0..=usize::from(plan.cut.is_some()) {
            ends = Some(install(plan, &made, &manifest, holds, &mut slots, dear));
            slots.writes_left = usize::MAX;
        }
        ends
    })
}

fn install(
    plan: &Plan,
    made: &Made,
    manifest: &VerifiedManifest,
    mut holds: Option<Digest>,
    slots: &mut Slots<'_>,
    dear: &mut Dear,
) -> End {
    let artifact = &manifest.artifacts[0];
    let mut source = Source::new(plan, made);
    let (withheld, mut seen) = (source.withheld, Seen { full: false, done: (0, artifact.size) });
    (slots.written, slots.reads) = ([false; 3], 0);
    let reuse = Reuse { target: plan.reuse[0], running: plan.reuse[1] };
    let cut = slots.writes_left < usize::MAX;
    let installed = bounded(0, || {
        let tools = Tools {
            slots,
            source: &mut source,
            inflate: &mut dear.zstd,
            observer: &mut seen,
            memory: &mut dear.lent,
        };
        Installer::new(RUNNING.other(), reuse, artifact.size, tools).install(
            artifact,
            &mut holds,
            &mut dear.workspace,
        )
    });
    let full = seen.full || made.full[..4].iter().any(|name| source.fetched(name));
    let is_right = slots.target[..made.content.len()] == made.content;
    let says = |(said, right): &(Proof, Proof)| match (said, right) {
        (Proof::Short(short), Proof::Whole(digest)) => *short == digest.into(),
        (Proof::Zeros, _) => false, // is asked below
        _ => unreachable!("a delta page says short digests"),
    };
    let zeros = |i: usize| Proof::Zeros.holds(made.content.chunks(SEGMENT_BYTES).nth(i).unwrap_or_default());
    let honest =
        made.said.iter().enumerate().all(|(i, said)| says(said) || (said.0 == Proof::Zeros && zeros(i)));
    match installed {
        Ok(()) => {
            assert!(
                source.outstanding.iter().all(Option::is_none),
                "announced, and not fetched or taken back"
            );
            assert_eq!(seen.done.0, seen.done.1, "all of it is said to be done");
            assert!(is_right || !honest, "what is made by honest digests is right");
            let kept = read_back(RUNNING.other(), artifact, slots, &mut dear.workspace);
            assert_eq!(kept.is_ok(), is_right, "what is accepted is right, and only that");
            match (kept, full) {
                (Err(_), _) => End::Refused,
                (Ok(()), true) => End::Full,
                (Ok(()), false) => End::Delta,
            }
        }
        Err(fault) => {
            // A lie that the page's own digest lets pass may be the prefix of what comes behind it, by the full route, too.
            let excused = withheld.is_some() || plan.lie.is_some() || cut || !honest;
            assert!(excused, "the full route can be had, and the medium is well: {fault}");
            End::Broken
        }
    }
}

/// Both groups' slot of the one class, and what the target may be given.
struct Slots<'a> {
    made: &'a Made,
    base: Vec<u8>,
    target: Vec<u8>,
    unreadable: Option<u64>,
    writes_left: usize,
    written: [bool; 3],
    /// Of the running group.
    reads: usize,
}

impl<'a> Slots<'a> {
    fn new(plan: &Plan, made: &'a Made, base: &[u8]) -> Self {
        let (mut base, mut target) = (base.to_vec(), vec![0x22; SLOT_BYTES]);
        let stands = match plan.target % 4 {
            0 => &[],
            1 => &made.content[..made.content.len().min(SEGMENT_BYTES)],
            2 => &made.content[..],
            _ => &base[..],
        };
        target[..stands.len()].copy_from_slice(stands);
        if let Some(at) = plan.drifted {
            base[at as usize % SLOT_BYTES] ^= 1;
        }
        Slots {
            made,
            base,
            target,
            unreadable: plan.unreadable.map(|segment| u64::from(segment % 3)),
            writes_left: plan.cut.map_or(usize::MAX, |cut| usize::from(cut % 4)),
            written: [false; 3],
            reads: 0,
        }
    }
}

impl SlotWriter for Slots<'_> {
    fn open(&mut self, _: Group, class: &str) -> Result<u64> {
        assert_eq!(class, "rootfs");
        Ok(SLOT_BYTES as u64)
    }
    fn write(&mut self, group: Group, _: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        assert_ne!(group, RUNNING, "the running group is never written");
        let (at, bytes) = (segment.at() as usize, segment.bytes());
        let index = at / SEGMENT_BYTES;
        assert!(at.is_multiple_of(SEGMENT_BYTES));
        let right = self.made.content.chunks(SEGMENT_BYTES).nth(index).expect("no write beyond the content");
        assert_eq!(bytes.len(), right.len(), "whole segments");
        let said = self.made.said.get(index);
        assert!(bytes == right || said.is_some_and(|(said, _)| said.holds(bytes)), "no write unproven");
        assert!(!core::mem::replace(&mut self.written[index], true), "no segment twice");
        self.writes_left = self.writes_left.checked_sub(1).ok_or_else(|| fault!(Io, "no power"))?;
        self.target[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self, _: Group, _: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, group: Group, _: &str, at: u64, out: &mut [u8]) -> Result<()> {
        assert!(out.len() <= SEGMENT_BYTES);
        let range = at as usize..at as usize + out.len();
        if group != RUNNING {
            out.copy_from_slice(self.target.get(range).ok_or_else(|| fault!(Io, "beyond the end"))?);
            return Ok(());
        }
        self.reads += 1;
        // Recognising, indexing and copying are once for each segment or base; an operation's read may come in two parts, and
        // each part through the window first.
        let most = 16 + self.made.patches * PATCH_OPERATIONS_MAX * 4;
        assert!(self.reads <= most, "reads of the base are bounded: expected {most}");
        let part = SEGMENT_BYTES as u64;
        let end = at + out.len() as u64;
        if self.unreadable.is_some_and(|bad| at < (bad + 1) * part && end > bad * part) {
            return Err(fault!(Io, "unreadable"));
        }
        out.copy_from_slice(self.base.get(range).ok_or_else(|| fault!(Io, "beyond the end"))?);
        Ok(())
    }
}

/// Objects by name, with a window. Takes no heap after it is made.
struct Source<'a> {
    made: &'a Made,
    withheld: Option<Digest>,
    lie: Option<(usize, u8)>,
    lied: Vec<u8>,
    window: usize,
    outstanding: [Option<Digest>; 4],
    /// In their order.
    fetched: Vec<Digest>,
    most: usize,
}

impl<'a> Source<'a> {
    fn new(plan: &Plan, made: &'a Made) -> Self {
        let names = || made.full.iter().chain(made.objects.keys().filter(|name| !made.full.contains(name)));
        let withheld = plan.withheld.and_then(|n| names().nth(usize::from(n) % made.objects.len()).copied());
        // Table, page and pieces; and of the full route two tables, two pages and the pieces, for those that are left over or
        // from there on, whatever comes first. Each asked for eight times.
        let most = 8 * (2 + made.pieces[0] + 2 * (4 + made.pieces[1]));
        Source {
            made,
            withheld,
            lie: plan.lie.map(|(at, kind)| (usize::from(at), kind)),
            lied: vec![plan.lie.map_or(0, |(_, kind)| kind); OBJECT_BYTES_MAX + 1],
            window: usize::from(plan.window % 5),
            outstanding: [None; 4],
            fetched: Vec::with_capacity(most),
            most,
        }
    }

    fn fetched(&self, name: &Digest) -> bool {
        self.fetched.contains(name)
    }
}

impl PieceSource for Source<'_> {
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        let known = self.outstanding.contains(&Some(*name));
        let free = self.outstanding.iter_mut().take(self.window).find(|place| place.is_none());
        match free {
            Some(place) if !known => *place = Some(*name),
            _ => {}
        }
        self.outstanding.contains(&Some(*name))
    }
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        assert!(self.fetched.len() < self.most, "fetches are bounded");
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        self.fetched.push(*name);
        let answer = self.fetched.len() - 1;
        match self.lie.filter(|(at, kind)| *at == answer || (*at < answer && kind & 4 > 0)) {
            Some((_, kind)) if kind % 4 == 0 => return Err(fault!(Disconnected, "the link is down")),
            Some((_, kind)) if kind % 4 == 1 => return Err(fault!(NotFound, "it is not there")),
            Some((_, kind)) if kind % 4 == 2 => return Ok(&self.lied[..7]),
            Some(_) => return Ok(&self.lied),
            None => {}
        }
        let found = self.made.objects.get(name).filter(|_| self.withheld != Some(*name));
        found.map(Vec::as_slice).ok_or_else(|| fault!(NotFound, "no object {name:?}"))
    }
    fn release(&mut self, name: &Digest) {
        self.forget(name);
    }
    fn forget(&mut self, name: &Digest) {
        self.outstanding.iter_mut().filter(|place| **place == Some(*name)).for_each(|place| *place = None);
    }
    fn refute(&mut self, _: &Digest) -> Result<()> {
        Ok(())
    }
}

/// Was the full route taken, and how much is said to be done, of how much?
struct Seen {
    full: bool,
    done: (u64, u64),
}

impl Observer for Seen {
    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Progress { done, total, .. } => {
                assert!(done <= total && done > self.done.0, "no more is done than there is, and never less");
                self.done = (done, total);
            }
            Note::Route { base: None, .. } => self.full = true,
            _ => {}
        }
    }
}
