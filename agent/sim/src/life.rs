//! A gateway's life: switched on, and on again after every cut, reset and reboot, until its story is told.
//!
//! What happens between two boots, `machine.rs` says.

use crate::bundle::{Deltas, Terms};
use crate::image::Image;
use crate::machine::Machine;
use crate::mutant::{Bent, Mutant};
use crate::outside::Twist;
use crate::power::{Down, Figure, Keeps, Violation};
use crate::world::{CLOCK_AT_FIRST, Shared, World};
use mainstay_core::bundle::patch::PatchState;
use mainstay_core::bundle::recode::Tables;
use mainstay_core::policy::LateFallback;
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{OutcomeKind, WORKSPACE_BYTES};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::result::Result;

/// Who the gateway is and what happens to it.
#[derive(Clone, Debug)]
pub struct Story {
    /// For people, and on the line that plays a life again.
    pub name: String,
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
    /// What each release knows of the one before it.
    pub deltas: Deltas,
    /// What else happens.
    pub twist: Twist,
}

impl Story {
    /// What the operator writes onto the release of this number.
    pub fn terms(&self, release: usize) -> Terms {
        let expires = matches!(self.twist, Twist::ExpiresBeforeReboot | Twist::ExpiresBeforeDownload);
        Terms {
            tries: self.tries,
            signed_at: CLOCK_AT_FIRST - DAY_S + release as u64,
            expires: expires.then_some(CLOCK_AT_FIRST + DAY_S),
            later_key: matches!(self.twist, Twist::TrustRotates { .. }) && release > 0,
        }
    }
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
    /// What runs has passed its checks and is good to the bootloader, or an ill that never passes keeps it where it is.
    pub stands: bool,
    /// The agent that runs does not know the record's format, has said so, and has left it alone.
    pub mute: bool,
    /// What happened, where somebody wanted to know.
    pub trace: Vec<String>,
}

/// A life in which something did not hold.
#[derive(Debug)]
pub struct Broken {
    /// What, in the words of the reliability table.
    pub figure: Figure,
    /// What.
    pub what: String,
    /// What happened until then.
    pub trace: Vec<String>,
}

/// What one thread needs to live lives, made once: lives are many.
pub struct Nursery {
    pub(crate) workspace: Box<[u8; WORKSPACE_BYTES]>,
    pub(crate) patches: Patches,
}

/// What patches learn. No index: slots are smaller than a segment here.
#[derive(Default)]
pub(crate) struct Patches(Box<PatchState>, Box<Tables>);

impl Memory for Patches {
    fn patch(&mut self) -> &mut PatchState {
        &mut self.0
    }
    fn recode(&mut self) -> (&mut PatchState, &mut Tables) {
        (&mut self.0, &mut self.1)
    }
}

impl Default for Nursery {
    fn default() -> Self {
        let workspace = vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().expect("as long as it is");
        Nursery { workspace, patches: Patches::default() }
    }
}

impl Nursery {
    /// Lives on from a gateway without power until the story is told. The world as it is then, and the life or what
    /// did not hold.
    pub fn live(
        &mut self,
        story: &Story,
        anchor: &TrustRoot,
        mutant: Option<Mutant>,
        world: World,
    ) -> (Shared, Result<Life, Broken>) {
        let shared = Shared::new(world);
        let bent = mutant.map(Bent::new);
        shared.with(|world| {
            world.leaves_out = mutant.and_then(Mutant::leaves_out);
            world.watch.agreement.late_fallback = story.late_fallback;
        });
        let mut mute = false;
        let what = loop {
            let session = AssertUnwindSafe(|| {
                let group = match shared.with(|world| world.running) {
                    Some(group) => group, // the agent alone is started anew
                    None => match shared.power_on() {
                        Some((group, _)) => group,
                        None => shared.with(|world| world.nothing_loads()),
                    },
                };
                bent.iter().for_each(Bent::session_begins);
                Machine::new(story, &shared, group, anchor, bent.clone(), self).run()
            });
            let thrown = match catch_unwind(session) {
                Ok(ends_mute) => {
                    mute = ends_mute;
                    break None;
                }
                Err(thrown) => thrown,
            };
            match thrown.downcast::<Down>().map(|d| *d) {
                Ok(Down::Violation(what)) => break Some(what),
                Ok(Down::PowerCut | Down::Killed) => {}
                Ok(how @ (Down::Reboot | Down::Watchdog)) => {
                    let reset = AssertUnwindSafe(|| {
                        shared.with(|world| {
                            world.say(|| format!("     -- {how:?}"));
                            if how == Down::Reboot {
                                world.unmounts();
                            }
                            world.lose_power(Keeps::Nothing, None);
                        });
                    });
                    if let Some(what) = violation_of(reset) {
                        break Some(what);
                    }
                }
                Err(panic) => break Some(panicked(&*panic)),
            }
        };
        let life = shared.with(|world| {
            let what = what.or_else(|| every_deployment_was_reported(world, mute).err());
            let trace = world.trace.take().unwrap_or_default();
            match what {
                Some(Violation { figure, what }) => Err(Broken { figure, what, trace }),
                None => Ok(Life {
                    effects: world.effects,
                    boots: world.boots,
                    outcomes: world
                        .outside
                        .reports
                        .iter()
                        .map(|r| (r.version.to_string(), r.outcome.kind))
                        .collect(),
                    refused: world.outside.refused.clone(),
                    runs: world.running.and_then(|g| world.image(g)).map_or(0, |image| image.version),
                    stands: world.ills.are_for_ever()
                        || world.running.is_some_and(|group| world.watch.approved[group as usize]),
                    mute,
                    trace,
                }),
            }
        });
        (shared, life)
    }
}

/// Does the work, and catches the violation that it ends in.
pub fn violation_of(work: impl FnOnce() + std::panic::UnwindSafe) -> Option<Violation> {
    let thrown = catch_unwind(work).err()?;
    match thrown.downcast::<Down>().map(|d| *d) {
        Ok(Down::Violation(what)) => Some(what),
        Ok(other) => Some(Violation::new(Figure::Stuck, format_args!("the simulator itself: {other:?}"))),
        Err(panic) => Some(panicked(&*panic)),
    }
}

/// The agent ships with panic = "abort": it would be started again, and panic again.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Violation {
    let texts = (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>());
    let text = texts.0.map(String::as_str).or(texts.1.copied()).unwrap_or_default();
    Violation::new(Figure::Stuck, format_args!("it settles: it panics: {text}"))
}

/// A medium that takes no write holds no outcome, and an agent that does not know the record cannot read one to report:
/// it is still there.
fn every_deployment_was_reported(world: &World, mute: bool) -> Result<(), Violation> {
    let outside = &world.outside;
    if mute || world.ills.are_for_ever() {
        return Ok(());
    }
    match outside.accepted.iter().find(|attempt| !outside.reports.iter().any(|r| r.attempt == **attempt)) {
        Some(attempt) => Err(Violation::new(
            Figure::LostOutcome,
            format_args!("an outcome is reported at least once: attempt {attempt} never was"),
        )),
        None => Ok(()),
    }
}

/// Of a day.
pub const DAY_S: u64 = 86_400;
