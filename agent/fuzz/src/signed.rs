//! The structure-aware target: bundles whose every digest and signature is right and whose content is hostile, through
//! the whole way that an update goes: verify, judge, offer, withdraw, download, read back, arm, boot, trial, commit.
//!
//! `arbitrary` plans a bundle; core's own author makes it; at each level (frame, page, table, manifest body) bytes are
//! changed *before* the digest or the signature above them is taken. A source then gives the objects, or something else.
//! The driver that ships runs over slots, an environment and a state in memory, and over the model of our boot script.
//!
//! Claims, checked at every write of slots and environment: the running group is never written; no write lies outside
//! of a slot of its class; a group is made bootable only with all content as the manifest says it; the group that was
//! good before stays bootable until another is; fetches, turns, boots and heap are bounded; the floor never falls.

use crate::allocations::bounded;
use crate::throwaway::{KEYS, RELEASE, TRUST};
use arbitrary::{Arbitrary, Unstructured};
use mainstay::agent::Lent;
use mainstay::inflate::Zstd;
use mainstay_bootloader_glue::convention::{Convention, by_name};
use mainstay_bootloader_glue::store::Memory;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{EnvBootControl, Format, Vars, model};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::bundle::author::{RunBuilder, table};
use mainstay_core::bundle::patch::PatchState;
use mainstay_core::bundle::*;
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::fault;
use mainstay_core::limits::*;
use mainstay_core::policy::{Gateway, LateFallback, judge};
use mainstay_core::seam::{Memory as _, *};
use mainstay_core::trust::{MessageKind, seal};
use mainstay_core::update::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A plan.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    if let Ok(plan) = Plan::arbitrary(&mut u) {
        live(&plan);
    }
}

/// Does a sound plan reach its commit, and each one with a single lie in it not? A target that never gets past the
/// signature would claim everything and show nothing. Asked at each start of `run`, by `seeds`.
pub fn check() {
    type Lie = (&'static str, fn(&mut Plan), Option<OutcomeKind>);
    #[rustfmt::skip]
    let cases: [Lie; 16] = [
        ("none",                   |_| (),                                                        Some(OutcomeKind::Committed)),
        ("on U-Boot",              |p| p.uboot = true,                                            Some(OutcomeKind::Committed)),
        ("the link comes and goes", |p| p.lies = [Some((2, 0)), Some((4, 0))],                    Some(OutcomeKind::Committed)),
        ("another object once",    |p| p.lies = [Some((3, 2)), None],                             Some(OutcomeKind::Committed)),
        ("an unhealthy image",     |p| p.healthy = [false; 3],                                    Some(OutcomeKind::RolledBack)),
        ("a wrong digest",         |p| first(p).wrong_digest = true,                              Some(OutcomeKind::Failed)),
        ("a segment page",         |p| first(p).segment_page = Some(Spoil::Xor(20, 1)),           Some(OutcomeKind::Failed)),
        ("a route page",           |p| first(p).route_page = Some(Spoil::Xor(25, 1)),             Some(OutcomeKind::Failed)),
        ("a table",                |p| first(p).tables[1] = Some(Spoil::Put32(8, 2)),             Some(OutcomeKind::Failed)),
        ("a frame",                |p| first(p).segments[0] = Some(Segment::Chew(7, [9; 12])),    Some(OutcomeKind::Failed)),
        ("a prefix",               |p| first(p).segments[1] = Some(Segment::Follow(9, [0; 4])),   Some(OutcomeKind::Committed)),
        ("a frame behind a prefix", |p| first(p).segments[1] = Some(Segment::Follow(9, [9; 4])),  Some(OutcomeKind::Failed)),
        ("content",                |p| first(p).segments[0] = Some(Segment::Lie(7, 1)),           Some(OutcomeKind::Failed)),
        ("no such slot",           |p| first(p).class = 2,                                        Some(OutcomeKind::Failed)),
        ("under the floor",        |p| p.security_version = 2,                                    None),
        ("the envelope",           |p| p.envelope = Some(Spoil::Xor(200, 1)),                     None),
    ];
    for (name, lie, outcome) in cases {
        let mut plan = sound();
        lie(&mut plan);
        assert_eq!(live(&plan), outcome, "{name}");
    }
}

fn first(plan: &mut Plan) -> &mut ArtifactPlan {
    plan.artifacts[0].as_mut().expect("a sound plan has one")
}

/// A plan without a lie in it: one artifact for one slot, of one segment that is a frame.
pub fn sound() -> Plan {
    let artifact = ArtifactPlan {
        class: 0,
        segments: [Some(Segment::Frame(7)), None],
        last: 999,
        wrong_digest: false,
        size_is_off_by: 0,
        route_page: None,
        segment_page: None,
        tables: [None, None],
    };
    Plan {
        artifacts: [Some(artifact), None],
        security_version: 4,
        tries: 3,
        expires: None,
        body: None,
        envelope: None,
        lies: [None, None],
        uboot: false,
        healthy: [true; 3],
        reuse: [true; 2],
        prevent: false,
        resumed: false,
    }
}

/// Bytes that are changed before what stands above them is computed.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Spoil {
    Xor(u16, u8),
    Put32(u16, u32),
    Cut(u16),
    Append(u8, u8),
}

#[derive(Arbitrary, Debug)]
enum Segment {
    Zero,
    Raw(u8),
    Frame(u8),
    /// Another encoding than the content has.
    Lie(u8, u8),
    /// Something for zstd to chew on.
    Chew(u8, [u8; 12]),
    /// A frame with the segment before as its prefix, where there is one that can be; some of its bytes changed.
    Follow(u8, [u8; 4]),
}

#[derive(Arbitrary, Debug)]
struct ArtifactPlan {
    class: u8,
    segments: [Option<Segment>; 2],
    last: u16,
    wrong_digest: bool,
    size_is_off_by: i8,
    route_page: Option<Spoil>,
    segment_page: Option<Spoil>,
    tables: [Option<Spoil>; 2],
}

/// What a bundle is made of, and how the gateway fares that gets it.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    artifacts: [Option<ArtifactPlan>; 2],
    security_version: u8,
    tries: u8,
    expires: Option<u64>,
    body: Option<Spoil>,
    envelope: Option<Spoil>,
    /// What the source gives instead of its n-th answer.
    lies: [Option<(u8, u8)>; 2],
    uboot: bool,
    healthy: [bool; 3],
    reuse: [bool; 2],
    prevent: bool,
    /// How much of the target stands there already.
    resumed: bool,
}

pub(crate) fn spoil(bytes: &mut Vec<u8>, spoil: &Option<Spoil>) {
    let most = bytes.len();
    match spoil {
        None => {}
        Some(Spoil::Xor(at, by)) if most > 0 => bytes[usize::from(*at) % most] ^= by,
        Some(Spoil::Put32(at, value)) if most >= 4 => {
            let at = usize::from(*at) % (most - 3);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        Some(Spoil::Cut(at)) => bytes.truncate(usize::from(*at) % (most + 1)),
        Some(Spoil::Append(byte, count)) => bytes.resize(most + usize::from(*count), *byte),
        Some(_) => {}
    }
}

pub(crate) type Objects = BTreeMap<Digest, Vec<u8>>;

/// The signed envelope, and the objects by name.
fn bundle(plan: &Plan) -> Option<(Vec<u8>, Objects)> {
    let mut objects = Objects::new();
    let artifacts =
        plan.artifacts.iter().flatten().filter_map(|artifact| pack(artifact, &mut objects)).collect();
    let manifest = Manifest {
        compatible: "fuzzed".try_into().ok()?,
        version: "2.0.0".try_into().ok()?,
        security_version: plan.security_version.into(),
        artifacts,
        trial: TrialPolicy { tries: plan.tries, ..TrialPolicy::default() },
        not_before: None,
        expires: plan.expires,
        provenance: Provenance::default(),
        meta: heapless::Vec::new(),
    };
    // Not `encode`, which checks: what the author would refuse is what the reader has to.
    let mut body = mainstay_core::wire::encode_body(&manifest).ok()?;
    spoil(&mut body, &plan.body);
    let keys = RELEASE.map(|seed| &KEYS[seed as usize]);
    let mut envelope = seal(MessageKind::Manifest, &body, &keys).ok()?;
    spoil(&mut envelope, &plan.envelope);
    Some((envelope, objects))
}

/// The same bundle as a file. Objects stand in the order in which they are asked for, as far as the plan lets them.
pub fn file(plan: &Plan) -> Option<Vec<u8>> {
    let (envelope, objects) = bundle(plan)?;
    let mut out = [&BUNDLE_MAGIC, &Object::Manifest.header(envelope.len())[..], &envelope].concat();
    let kind = |bytes: &[u8]| match bytes.first_chunk::<4>() {
        Some(b"MSTB") => Object::Table,
        Some(b"MSSP") => Object::SegmentPage,
        Some(b"MSRP") => Object::RoutePage,
        Some(b"MSDP") => Object::DeltaPage,
        _ => Object::Piece,
    };
    let mut put = |bytes: &[u8]| {
        out.extend_from_slice(&kind(bytes).header(bytes.len()));
        out.extend_from_slice(bytes);
    };
    let manifest = VerifiedManifest::open(&TRUST, &envelope).ok();
    for artifact in manifest.iter().flat_map(|manifest| &manifest.artifacts) {
        let of = |name: &Digest| objects.get(name).cloned().unwrap_or_default();
        let tables =
            [of(&artifact.segments), of(&artifact.routes.first().map(|r| r.table).unwrap_or_default())];
        let pages = tables.clone().map(|table| {
            let name = table.get(16..48).and_then(|name| <[u8; 32]>::try_from(name).ok());
            name.map(|name| of(&Digest(name))).unwrap_or_default()
        });
        let row: Vec<u8> = pages[1].clone();
        tables.iter().chain(&pages).for_each(|object| put(object));
        // Each name in the route page is a piece's, wherever the segments before it end.
        let names = row.windows(32).filter_map(|name| <[u8; 32]>::try_from(name).ok()).map(Digest);
        names.filter_map(|name| objects.get(&name)).for_each(|piece| put(piece));
    }
    out.extend_from_slice(&Object::End.header(0));
    Some(out)
}

fn pack(plan: &ArtifactPlan, objects: &mut Objects) -> Option<Artifact> {
    let mut file = |mut bytes: Vec<u8>, spoiled: &Option<Spoil>| {
        spoil(&mut bytes, spoiled);
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        name
    };
    let segments: Vec<&Segment> = plan.segments.iter().flatten().collect();
    let (mut builder, mut content) = (RunBuilder::new(), Vec::new());
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        let bytes = if last { usize::from(plan.last) % 4096 + 1 } else { SEGMENT_BYTES };
        let (made, encoding, encoded) = make(segment, &content, bytes);
        builder.push(Digest::of(&made), encoding, &encoded).ok()?;
        content.extend_from_slice(&made);
    }
    let run = builder.finish(0);
    let route_bytes = run.pieces.iter().map(|piece| piece.len() as u64).sum();
    run.pieces.into_iter().for_each(|piece| {
        file(piece, &None);
    });
    let [segment_page, route_page] =
        [file(run.segment_page, &plan.segment_page), file(run.route_page, &plan.route_page)];
    let [segments, routes] =
        [file(table(&[segment_page]), &plan.tables[0]), file(table(&[route_page]), &plan.tables[1])];
    let digest = if plan.wrong_digest { Digest([7; 32]) } else { Digest::of(&content) };
    Some(Artifact {
        class: CLASSES[usize::from(plan.class) % CLASSES.len()].try_into().ok()?,
        size: (content.len() as u64).saturating_add_signed(plan.size_is_off_by.into()),
        digest,
        segments,
        routes: [Route { kind: RouteKind::Full, table: routes, bytes: route_bytes }].into_iter().collect(),
    })
}

fn make(segment: &Segment, before: &[u8], bytes: usize) -> (Vec<u8>, Encoding, Vec<u8>) {
    let noise =
        |seed: u8| (0..bytes).map(|i| (i as u8).wrapping_mul(seed | 1) ^ (i >> 8) as u8).collect::<Vec<u8>>();
    match segment {
        Segment::Zero => (vec![0; bytes], Encoding::Zero, Vec::new()),
        Segment::Raw(seed) => (noise(*seed), Encoding::Raw, noise(*seed)),
        Segment::Frame(byte) => {
            let content = vec![*byte; bytes];
            let frame = zstd_frame(&content);
            (content, Encoding::Zstd, frame)
        }
        Segment::Lie(byte, encoding) => {
            let encoding = [Encoding::Zero, Encoding::Raw, Encoding::Zstd][usize::from(encoding % 3)];
            let length = if encoding == Encoding::Zero { 0 } else { bytes };
            (vec![*byte; bytes], encoding, vec![byte.wrapping_add(1); length])
        }
        Segment::Chew(byte, by) => {
            let content = vec![*byte; bytes];
            (content.clone(), Encoding::Zstd, chewed(zstd_frame(&content), by))
        }
        Segment::Follow(byte, by) => {
            let (content, encoding, frame) = follow(*byte, before, bytes);
            (content, encoding, chewed(frame, by))
        }
    }
}

/// With bytes behind the magic changed.
fn chewed(mut frame: Vec<u8>, by: &[u8]) -> Vec<u8> {
    frame.iter_mut().skip(4).zip(by).for_each(|(byte, by)| *byte ^= by);
    frame
}

/// Content that is like the segment before, and its frame; or, where none can be its prefix, a frame of a byte.
pub(crate) fn follow(byte: u8, before: &[u8], bytes: usize) -> (Vec<u8>, Encoding, Vec<u8>) {
    let prefix = before.last_chunk::<SEGMENT_BYTES>().filter(|prefix| !prefix.starts_with(&NO_PREFIX));
    let Some(prefix) = prefix else {
        let content = vec![byte; bytes];
        let frame = zstd_frame(&content);
        return (content, Encoding::Zstd, frame);
    };
    let mut content = prefix[..bytes].to_vec();
    content.iter_mut().step_by(9973).for_each(|there| *there ^= byte);
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes));
    let _ = zstd_safe::CCtx::create().compress_using_dict(&mut frame, &content, prefix, 1);
    (content, Encoding::Prefixed, frame)
}

pub(crate) fn zstd_frame(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    let _ = zstd_safe::compress(&mut out, content, 1);
    out
}

/// Of slots that there are, and one that there is not.
const CLASSES: [&str; 3] = ["rootfs", "config", "none"];
/// The first is as large as the largest plan, the second is not.
const SLOTS: [(&str, usize); 2] = [("rootfs", SEGMENT_BYTES + 8192), ("config", 2048)];
const RUNNING_AT_FIRST: Group = Group::A;
const FLOOR: u32 = 3;

/// All that outlives a boot.
struct World {
    slots: BTreeMap<(usize, &'static str), Vec<u8>>,
    running: Group,
    /// What the verified manifest says of each class.
    promised: Vec<(String, u64, Digest)>,
    state: BTreeMap<u8, Vec<u8>>,
    fetches: usize,
    asked_for: BTreeSet<Digest>,
    reboots: usize,
}

impl World {
    /// Is all that the manifest promises in `group`, byte for byte?
    fn proven(&self, group: Group) -> bool {
        self.promised.iter().all(|(class, size, digest)| {
            let slot = self.slots.iter().find(|((g, c), _)| *g == group as usize && c == class);
            slot.and_then(|(_, bytes)| bytes.get(..*size as usize)).is_some_and(|bytes| {
                let mut hasher = Hasher::new();
                hasher.update(bytes);
                hasher.finish() == *digest
            })
        })
    }
}

#[derive(Clone)]
struct Shared(Rc<RefCell<World>>);

thread_local! {
    /// What costs more to make than a run of the target.
    static DEAR: RefCell<(Zstd, Box<[u8; WORKSPACE_BYTES]>, Lent)> = RefCell::new((
        Zstd::default(),
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().expect("of this size"),
        Lent::default(),
    ));
}

/// How it ended; `None`: it never began.
fn live(plan: &Plan) -> Option<OutcomeKind> {
    let (envelope, objects) = bundle(plan)?;
    let manifest = VerifiedManifest::open(&TRUST, &envelope).ok()?;
    let promised = manifest.artifacts.iter().map(|a| (a.class.as_str().into(), a.size, a.digest)).collect();
    let slots = SLOTS.iter().flat_map(|(class, bytes)| {
        [Group::A, Group::B].map(|group| {
            let resumed = plan.resumed && group == Group::B;
            ((group as usize, *class), vec![if resumed { 0 } else { 0xa0 + group as u8 }; *bytes])
        })
    });
    let world = Shared(Rc::new(RefCell::new(World {
        slots: slots.collect(),
        running: RUNNING_AT_FIRST,
        promised,
        state: BTreeMap::new(),
        fetches: 0,
        asked_for: BTreeSet::new(),
        reboots: 0,
    })));
    let format = match plan.uboot {
        true => Format::UbootRedundant { bytes: 512, scheme: Scheme::Incremental },
        false => Format::Grub,
    };
    let convention = by_name("mainstay", &format).expect("for both");
    let vars = Vars::new().with(&convention.fresh());
    let mut copies = format.blank(&vars, convention.names()).expect("they fit");
    DEAR.with_borrow_mut(|(zstd, workspace, lent)| {
        // What core borrows is as large as it ever gets, whatever a bundle says: made before what a life takes is bounded.
        bounded(LENT_BYTES_MAX, || _ = (lent.patch().reset(), lent.index().len()));
        for boot in 0..BOOTS_MAX {
            let mut session = Session { world: &world, plan, objects: &objects, format, boot };
            // The driver and core have no heap: what is left is the environment's copies, and what observers format.
            copies = bounded(256 * 1024, || {
                session.run(&envelope, &manifest, copies.clone(), zstd, workspace, lent)
            });
            if !boots(&world, &format, &*convention, &mut copies) {
                break;
            }
        }
    });
    let world = world.0.borrow();
    let env = format.parse(&copies).expect("an environment that can be read");
    let state = convention.state(env.vars()).expect("and that means something");
    assert!(state.leaves_a_way_up(world.running), "there is always a way up: {state:?}");
    let record = Record::decode(world.state.get(&(StateFile::Journal as u8))?).expect("a record");
    match record.phase {
        Phase::Settled(_, outcome) => Some(outcome.kind),
        _ => None,
    }
}

/// The machine goes down and comes up; `false`: there was no reason to.
fn boots(world: &Shared, format: &Format, convention: &dyn Convention, copies: &mut [Vec<u8>]) -> bool {
    let mut world = world.0.borrow_mut();
    if world.reboots == 0 {
        return false;
    }
    world.reboots = 0;
    let boot = model::boot(format, convention, copies, |_| true).expect("the script can write");
    boot.writes.iter().for_each(|write| write.apply(copies));
    let (group, _) = boot.group.expect("there is always something to boot");
    assert!(group == RUNNING_AT_FIRST || world.proven(group), "what is booted is proven");
    world.running = group;
    true
}

/// The state of patches, and the index of what both groups hold.
const LENT_BYTES_MAX: usize = size_of::<PatchState>() + 2 * INDEX_SEGMENTS_MAX * size_of::<Entry>();

/// Reboots of one life: a trial, a rollback, and as many more as the tries allow.
const BOOTS_MAX: usize = 12;
/// Turns of the driver in one boot.
const TURNS_MAX: usize = 24;

struct Session<'a> {
    world: &'a Shared,
    plan: &'a Plan,
    objects: &'a Objects,
    format: Format,
    boot: usize,
}

impl Session<'_> {
    /// One boot; the environment as it leaves it.
    fn run(
        &mut self,
        envelope: &[u8],
        manifest: &VerifiedManifest,
        copies: Vec<Vec<u8>>,
        inflate: &mut Zstd,
        workspace: &mut [u8; WORKSPACE_BYTES],
        memory: &mut Lent,
    ) -> Vec<Vec<u8>> {
        let convention = by_name("mainstay", &self.format).expect("for both");
        let control = EnvBootControl::new(Memory::new(copies), self.format, convention);
        let mut boot = Boot { control, world: self.world.clone() };
        let running = self.world.0.borrow().running;
        let (mut slots, mut state) = (Slots(self.world.clone()), State(self.world.clone()));
        let (mut gate, mut power, mut observer) = (Open, Reset(self.world.clone()), Nobody);
        let healthy = self.plan.healthy[self.boot % self.plan.healthy.len()];
        let mut trial = Checks(healthy);
        let mut source = Source {
            objects: self.objects,
            lies: &self.plan.lies,
            world: self.world.clone(),
            lied: Vec::new(),
        };
        let mut parts = Parts {
            boot: &mut boot,
            slots: &mut slots,
            state: &mut state,
            gate: &mut gate,
            trial: &mut trial,
            power: &mut power,
            observer: &mut observer,
            source: &mut source,
            erase: &mut Nothing,
            inflate,
            trust: &TRUST,
            workspace,
            memory,
        };
        let settings = Settings {
            running,
            late_fallback: if self.plan.prevent { LateFallback::Prevent } else { LateFallback::Keep },
            image_floor: FLOOR,
            reuse: Reuse { target: self.plan.reuse[0], running: self.plan.reuse[1] },
        };
        let mut driver = Driver::start(settings, &mut parts).expect("the state can be read");
        let mut floor = driver.record().floor;
        let mut offered = self.boot > 0;
        for _ in 0..TURNS_MAX {
            let rest = driver.turn(&mut parts).expect("the state can be written");
            assert!(driver.record().floor >= floor, "the floor never falls");
            floor = driver.record().floor;
            match rest {
                Rest::Rebooting => break,
                Rest::Idle if offered => break,
                Rest::Idle => offered = offer(&mut driver, envelope, manifest, running, &mut parts),
                Rest::Paused => {}
            }
        }
        if let Phase::Settled(d, Outcome { kind: OutcomeKind::Committed, .. }) = &driver.record().phase {
            assert!(self.world.0.borrow().proven(d.target), "what is committed is proven");
            assert!(d.security_version >= FLOOR && floor >= d.security_version);
        }
        boot.control.store().copies.clone()
    }
}

fn offer(
    driver: &mut Driver,
    envelope: &[u8],
    manifest: &VerifiedManifest,
    running: Group,
    parts: &mut Parts<'_>,
) -> bool {
    let gateway = Gateway {
        compatible: "fuzzed",
        running,
        record: driver.record(),
        unix_s: Some(1_800_000_000),
        checks: &[],
        retry_failed: false,
    };
    if let Ok(deployment) = judge(manifest, &gateway) {
        assert_eq!(deployment.target, running.other());
        let _ = driver.offer(envelope, deployment, parts);
    }
    true
}

struct Boot {
    control: EnvBootControl<Memory>,
    world: Shared,
}

impl Boot {
    fn after(&mut self, done: Result<()>) -> Result<()> {
        let state = self.control.state()?;
        let world = self.world.0.borrow();
        for group in Group::BOTH {
            let bootable = state.group(group).bootable();
            assert!(
                !bootable || group == RUNNING_AT_FIRST || world.proven(group),
                "{group} is made bootable unproven"
            );
        }
        assert!(state.leaves_a_way_up(Group::A) || state.leaves_a_way_up(Group::B), "a way up is left");
        done
    }
}

impl BootControl for Boot {
    fn state(&mut self) -> Result<BootState> {
        self.control.state()
    }
    fn withdraw(&mut self, group: Group) -> Result<()> {
        let done = self.control.withdraw(group);
        self.after(done)
    }
    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        let done = self.control.arm_trial(group, tries);
        self.after(done)
    }
    fn mark_good(&mut self, group: Group) -> Result<()> {
        let done = self.control.mark_good(group);
        self.after(done)
    }
    fn mark_bad(&mut self, group: Group) -> Result<()> {
        let done = self.control.mark_bad(group);
        self.after(done)
    }
}

struct Slots(Shared);

impl SlotWriter for Slots {
    fn open(&mut self, _: Group, class: &str) -> Result<u64> {
        let size = SLOTS.iter().find(|(c, _)| *c == class).map(|(_, bytes)| *bytes as u64);
        size.ok_or_else(|| fault!(NotFound, "no slot of class {class}"))
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        let mut world = self.0.0.borrow_mut();
        assert_ne!(group, world.running, "the running group is never written");
        let slot = world.slots.iter_mut().find(|((g, c), _)| *g == group as usize && *c == class);
        let (_, slot) = slot.expect("only a slot that there is is written");
        let (at, bytes) = (segment.at() as usize, segment.bytes());
        assert!(at.is_multiple_of(SEGMENT_BYTES) && !bytes.is_empty() && bytes.len() <= SEGMENT_BYTES);
        slot.get_mut(at..at + bytes.len()).expect("no write outside of the slot").copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self, _: Group, _: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let world = self.0.0.borrow();
        let slot = world.slots.iter().find(|((g, c), _)| *g == group as usize && *c == class);
        let found = slot.and_then(|(_, slot)| slot.get(at as usize..at as usize + out.len()));
        out.copy_from_slice(found.ok_or_else(|| fault!(Io, "beyond the end"))?);
        Ok(())
    }
}

struct State(Shared);

impl StateStore for State {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        let world = self.0.0.borrow();
        let Some(bytes) = world.state.get(&(file as u8)) else { return Ok(None) };
        out[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(bytes.len()))
    }
    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        self.0.0.borrow_mut().state.insert(file as u8, bytes.to_vec());
        Ok(())
    }
}

struct Open;

impl Gate for Open {
    fn may_download(&mut self, _: &Deployment) -> Permission {
        Permission::Go
    }
    fn may_reboot(&mut self, _: &Deployment) -> Permission {
        Permission::Go
    }
}

struct Checks(bool);

impl TrialRunner for Checks {
    fn run(&mut self, _: &Deployment) -> Result<Verdict> {
        Ok(if self.0 { Verdict::Healthy } else { Verdict::Unhealthy(fault::clip("fuzzed")) })
    }
}

struct Reset(Shared);

impl Power for Reset {
    fn reboot(&mut self, _: &str) -> Result<()> {
        self.0.0.borrow_mut().reboots += 1;
        Ok(())
    }
}

struct Nothing;

impl Erase for Nothing {
    fn erase(&mut self) -> Result<()> {
        panic!("nobody asked for it")
    }
    fn destroy_key(&mut self) -> Result<()> {
        panic!("nobody asked for it")
    }
}

struct Nobody;

impl Observer for Nobody {
    fn note(&mut self, note: Note<'_>) {
        if let Note::Progress { done, total, .. } = note {
            assert!(done <= total, "no more is done than there is");
        }
    }
}

/// Gives what there is, and at some answers something else.
struct Source<'a> {
    objects: &'a Objects,
    lies: &'a [Option<(u8, u8)>; 2],
    world: Shared,
    lied: Vec<u8>,
}

impl PieceSource for Source<'_> {
    fn prefetch(&mut self, _: &Digest, bytes: u32) -> bool {
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        !bytes.is_multiple_of(3)
    }
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        let mut world = self.world.0.borrow_mut();
        (world.fetches, _) = (world.fetches + 1, world.asked_for.insert(*name));
        // Two tables, two pages and as many pieces as a page can list, for two artifacts, each asked for eight times.
        assert!(world.fetches <= 2 * 8 * (4 + RUN_PIECES_MAX), "fetches are bounded");
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        let answer = world.fetches as u8;
        match self.lies.iter().flatten().find(|(at, _)| *at == answer) {
            Some((_, kind)) if kind % 4 == 0 => Err(fault!(Disconnected, "the link is down")),
            Some((_, kind)) if kind % 4 == 1 => Err(fault!(NotFound, "it is not there")),
            Some((_, kind)) => {
                self.lied = vec![*kind; OBJECT_BYTES_MAX + 1];
                Ok(&self.lied)
            }
            None => self
                .objects
                .get(name)
                .map(Vec::as_slice)
                .ok_or_else(|| fault!(NotFound, "no object {name:?}")),
        }
    }
    fn release(&mut self, _: &Digest) {}
    fn refute(&mut self, _: &Digest) -> Result<()> {
        Ok(())
    }
}
