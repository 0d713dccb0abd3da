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

mod plan;
mod world;

pub use plan::{Objects, Plan, Spoil, file, follow, spoil, zstd_frame};

use crate::allocations::bounded;
use crate::throwaway::TRUST;
use arbitrary::{Arbitrary, Unstructured};
use mainstay::agent::Lent;
use mainstay::inflate::Zstd;
use mainstay_bootloader_glue::convention::{Convention, by_name};
use mainstay_bootloader_glue::store::Memory;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{EnvBootControl, Format, Vars, model};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::bundle::patch::PatchState;
use mainstay_core::limits::INDEX_SEGMENTS_MAX;
use mainstay_core::policy::{Gateway, LateFallback, judge};
use mainstay_core::seam::{Entry, Memory as _, StateFile};
use mainstay_core::update::*;
use plan::{ArtifactPlan, Segment, bundle};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use world::*;

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
