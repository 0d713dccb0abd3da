//! A gateway's life: switched on, and on again after every cut, reset and reboot, until its story is told.
//!
//! What the agent does is done by the product's own [`Driver`]. The loop around it is what the daemon's is: offer what
//! is desired, report what is settled, ask again after a pause.

use crate::bundle::{COMPATIBLE, Zstd};
use crate::hostile::Mutant;
use crate::image::{Behaviour, Image};
use crate::outside::{Outside, SimSource, Twist};
use crate::power::{Down, Keeps, Schedule, down};
use crate::seams::{SimBoot, SimPower, SimSlots, SimState, SimTrial};
use crate::world::{Board, Shared, World};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::fault::Fault;
use mainstay_core::policy::{Gateway, LateFallback, judge};
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{
    Deployment, Driver, OutcomeKind, Parts, PhaseName, Record, Rest, Reuse, Settings, WORKSPACE_BYTES,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::result::Result;

/// Who the gateway is and what happens to it.
#[derive(Clone, Debug)]
pub struct Story {
    /// For people.
    pub name: &'static str,
    /// In A, and good.
    pub factory: Image,
    /// In B, and good: an older one.
    pub older: Option<Image>,
    /// What is published, one after the other.
    pub releases: Vec<Image>,
    /// How many tries each release gets.
    pub tries: u8,
    /// What becomes of the other group after a commit.
    pub late_fallback: LateFallback,
    /// What else happens.
    pub twist: Twist,
}

/// A life that came to its end.
#[derive(Debug)]
pub struct Life {
    /// Effects in all.
    pub effects: u32,
    /// Boots in all.
    pub boots: u32,
    /// How each reported deployment ended: version, outcome.
    pub outcomes: Vec<(String, OutcomeKind)>,
    /// Why releases were refused.
    pub refused: Vec<String>,
    /// The version that runs at the end.
    pub runs: u32,
    /// What happened.
    pub trace: Vec<String>,
}

/// A life in which something did not hold.
#[derive(Debug)]
pub struct Broken {
    /// What.
    pub what: String,
    /// What happened until then.
    pub trace: Vec<String>,
}

/// Lives a story under a schedule. `outside` holds the story's releases, packed: a sweep packs once.
pub fn live(
    story: &Story,
    board: Board,
    schedule: &Schedule,
    mutant: Option<Mutant>,
    trust: &TrustRoot,
    mut outside: Outside,
) -> Result<Life, Broken> {
    let mut world = World::new(board, &story.factory, story.older.as_ref(), schedule.clone());
    world.images.extend(story.releases.iter().cloned());
    let shared = Shared::new(world);
    let mut workspace: Box<[u8; WORKSPACE_BYTES]> =
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().expect("as long as it is");
    let what = loop {
        let session = AssertUnwindSafe(|| {
            let Some((group, _)) = shared.power_on() else { down(Down::Watchdog) };
            let mut machine =
                Machine { story, shared: &shared, group, trust, mutant, workspace: &mut workspace };
            machine.run(&mut outside);
        });
        let Err(thrown) = catch_unwind(session) else { break None };
        match thrown.downcast::<Down>().map(|d| *d) {
            Ok(Down::Violation(what)) => break Some(what),
            Ok(Down::PowerCut) => {}
            Ok(how @ (Down::Reboot | Down::Watchdog)) => {
                let fell = catch_unwind(AssertUnwindSafe(|| {
                    shared.with(|world| {
                        world.trace.push(format!("     -- {how:?}"));
                        world.lose_power(Keeps::Nothing);
                    });
                }));
                if let Err(thrown) = fell {
                    match thrown.downcast::<Down>().map(|d| *d) {
                        Ok(Down::Violation(what)) => break Some(what),
                        other => break Some(format!("the simulator itself: {other:?}")),
                    }
                }
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    };
    let what = what.or_else(|| every_deployment_was_reported(&outside).err());
    shared.with(|world| match what {
        Some(what) => Err(Broken { what, trace: std::mem::take(&mut world.trace) }),
        None => Ok(Life {
            effects: world.effects,
            boots: world.boots,
            outcomes: outside.reports.iter().map(|r| (r.version.to_string(), r.outcome.kind)).collect(),
            refused: outside.refused.clone(),
            runs: world.running.and_then(|g| world.image(g)).map_or(0, |image| image.version),
            trace: std::mem::take(&mut world.trace),
        }),
    })
}

fn every_deployment_was_reported(outside: &Outside) -> Result<(), String> {
    match outside.accepted.iter().find(|attempt| !outside.reports.iter().any(|r| r.attempt == **attempt)) {
        Some(attempt) => Err(format!("an outcome is reported at least once: attempt {attempt} never was")),
        None => Ok(()),
    }
}

/// One session of the machine: a group is booted.
struct Machine<'a> {
    story: &'a Story,
    shared: &'a Shared,
    group: Group,
    trust: &'a TrustRoot,
    mutant: Option<Mutant>,
    workspace: &'a mut [u8; WORKSPACE_BYTES],
}

impl Machine<'_> {
    /// Until the story is told. A reboot, a cut or the watchdog unwinds.
    fn run(&mut self, outside: &mut Outside) {
        let behaviour = self.shared.with(|world| world.image(self.group).map(|i| i.behaviour));
        if matches!(behaviour, None | Some(Behaviour::NeverBoots)) {
            down(Down::Watchdog);
        }
        let mut driver = self.start(outside);
        // As the daemon does at each start: what is known of the time goes on record.
        let record = Record { time_floor: driver.record().time_floor + 1, ..driver.record().clone() };
        if let Err(fault) = self.with_parts(outside, |parts| driver.update(record, parts)) {
            self.note(format!("time: {fault}"));
        }
        for _ in 0..TURNS_MAX {
            match self.with_parts(outside, |parts| driver.turn(parts)) {
                Ok(Rest::Rebooting) => down(Down::Reboot),
                Ok(Rest::Idle) => {
                    if !self.idle(&mut driver, outside) {
                        return;
                    }
                }
                Ok(Rest::Paused) => self.paused(&mut driver, outside),
                Err(fault) => self.note(format!("turn: {fault}")),
            }
        }
        down(Down::Violation(format!("it settles: {TURNS_MAX} turns, and it is {}", driver.action().name())));
    }

    fn start(&mut self, outside: &mut Outside) -> Driver {
        let settings = Settings {
            running: self.group,
            late_fallback: self.story.late_fallback,
            image_floor: self.story.factory.security_version,
            reuse: Reuse { target: true, running: true },
        };
        for _ in 0..TURNS_MAX {
            match self.with_parts(outside, |parts| Driver::start(settings, parts)) {
                Ok(driver) => return driver,
                Err(fault) => self.note(format!("start: {fault}")),
            }
        }
        down(Down::Violation(format!("it settles: {TURNS_MAX} starts")))
    }

    /// Reports, and offers what is desired. `false`: there is nothing more to do.
    fn idle(&mut self, driver: &mut Driver, outside: &mut Outside) -> bool {
        if let Some(report) = driver.record().unreported.first().cloned() {
            // "Committed" is history where a late fallback follows it: the operator gets both, in their order.
            let history =
                driver.record().unreported.iter().skip(1).any(|later| later.manifest == report.manifest);
            if let Err(lie) = self.shared.with(|world| outside.receive(&report, history, world)) {
                down(Down::Violation(lie));
            }
            if let Err(fault) = self.with_parts(outside, |parts| driver.acknowledge(&report, parts)) {
                self.note(format!("acknowledge: {fault}"));
            }
            return true;
        }
        let Some(published) = outside.desired().cloned() else { return self.end(outside) };
        let record = driver.record();
        if record.release(self.group).is_some_and(|r| r.manifest == published.name) {
            outside.next();
            return true;
        }
        let manifest =
            VerifiedManifest::open(self.trust, &published.envelope).expect("signed by the operator");
        let gateway = Gateway {
            compatible: COMPATIBLE,
            running: self.group,
            record,
            unix_s: None,
            checks: &[],
            retry_failed: false,
        };
        match judge(&manifest, &gateway) {
            Ok(deployment) => {
                outside.offered();
                match self.with_parts(outside, |parts| driver.offer(&published.envelope, deployment, parts)) {
                    Ok(()) => {
                        outside.accepted.insert(driver.record().attempts);
                    }
                    Err(fault) if outside.gives_up() => self.refused(outside, &fault),
                    Err(fault) => self.note(format!("offer: {fault}")),
                }
            }
            Err(fault) => self.refused(outside, &fault),
        }
        true
    }

    fn refused(&self, outside: &mut Outside, fault: &Fault) {
        self.note(format!("refused: {fault}"));
        outside.refused.push(fault.what.to_string());
        outside.next();
    }

    /// What happens in the midst of things.
    fn paused(&mut self, driver: &mut Driver, outside: &mut Outside) {
        let phase = driver.record().phase.name();
        let done = if outside.twist == Twist::HaltDuringDownload
            && driver.record().phase.deployment().is_some_and(|d| outside.halts(d))
        {
            self.with_parts(outside, |parts| {
                driver.stop(OutcomeKind::Halted, "halted by the operator", parts)
            })
        } else if outside.twist == Twist::PersonRollsBack && phase == PhaseName::Trial {
            self.with_parts(outside, |parts| driver.roll_back("asked for at the console", parts))
        } else {
            return;
        };
        if let Err(fault) = done {
            self.note(format!("{phase:?}: {fault}"));
        }
    }

    /// All is told, but for a twist that comes last.
    fn end(&mut self, outside: &mut Outside) -> bool {
        let approved = self.shared.with(|world| world.watch.approved);
        if outside.twist == Twist::CommittedGroupDies && !outside.twisted && approved == [true, true] {
            outside.twisted = true;
            self.shared.with(|world| {
                world.watch.rotten = true;
                world.dead = world.running;
            });
            down(Down::Watchdog);
        }
        false
    }

    fn note(&self, line: String) {
        self.shared.with(|world| world.trace.push(format!("     {line}")));
    }

    fn with_parts<T>(&mut self, outside: &mut Outside, work: impl FnOnce(&mut Parts<'_>) -> T) -> T {
        let board = self.shared.with(|world| world.board);
        let cancelled = outside.twist == Twist::PersonRollsBack;
        if outside.twist == Twist::RecordIsLostInTrial && !outside.twisted {
            let trial = self.shared.with(|world| crate::invariant::record(world).ok().flatten());
            if trial.is_some_and(|r| r.phase.name() == PhaseName::Trial && self.group == Group::B) {
                outside.twisted = true;
                outside.accepted.clear(); // who has lost the record cannot report what it said
                self.shared.with(|world| {
                    world.watch.rotten = true;
                    world.state.destroy(StateFile::Journal);
                });
                down(Down::Watchdog);
            }
        }
        if outside.twist == Twist::EnvironmentIsLost && !outside.twisted {
            outside.twisted = true;
            self.shared.with(|world| {
                world.watch.rotten = true;
                world.spoil_env();
            });
        }
        let mut gate = OpenGate { halted: outside.halted };
        let mut boot: Box<dyn BootControl> = Box::new(SimBoot::new(self.shared, board));
        let mut state: Box<dyn StateStore> = Box::new(SimState(self.shared.clone()));
        let mut slots: Box<dyn SlotWriter> = Box::new(SimSlots(self.shared.clone()));
        if let Some(mutant) = self.mutant {
            (boot, state, slots) = mutant.wrap(boot, state, slots);
        }
        work(&mut Parts {
            boot: &mut *boot,
            slots: &mut *slots,
            state: &mut *state,
            gate: &mut gate,
            trial: &mut SimTrial { shared: self.shared.clone(), cancelled },
            power: &mut SimPower(self.shared.clone()),
            observer: &mut Tracer(self.shared),
            source: &mut SimSource::new(outside),
            inflate: &mut Zstd,
            trust: self.trust,
            workspace: self.workspace,
        })
    }
}

/// Lets everything pass, but what is halted.
struct OpenGate {
    halted: bool,
}

impl Gate for OpenGate {
    fn may_download(&mut self, _: &Deployment) -> Permission {
        match self.halted {
            true => {
                Permission::Stop(OutcomeKind::Halted, "halted by the operator".try_into().unwrap_or_default())
            }
            false => Permission::Go,
        }
    }
    fn may_reboot(&mut self, deployment: &Deployment) -> Permission {
        self.may_download(deployment)
    }
}

/// Writes down what the driver says.
struct Tracer<'a>(&'a Shared);

impl Observer for Tracer<'_> {
    fn note(&mut self, note: Note<'_>) {
        let line = match note {
            Note::Phase { phase, .. } => format!("     => {phase:?}"),
            Note::Settled { outcome, .. } => format!("     => {:?}: {}", outcome.kind, outcome.detail),
            Note::Fault { doing, fault } => format!("     {doing}: {fault}"),
            Note::Waiting { .. } | Note::Progress { .. } => return,
        };
        self.0.with(|world| world.trace.push(line));
    }
}

/// Far more than a session with a few faults takes.
const TURNS_MAX: usize = 200;
