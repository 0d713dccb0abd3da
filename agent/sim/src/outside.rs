//! Everybody around the gateway: the operator who publishes and reads reports, the broker, the person at the console.
//! They do not lose power with the gateway; what they have been told, they know.

use crate::bundle::Published;
use crate::invariant;
use crate::power::{Answer, Figure, Violation};
use crate::world::{Shared, World};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::seam::{PieceSource, Result};
use mainstay_core::update::{Deployment, OutcomeKind, PhaseName, Report};
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

/// What happens beside the releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    None,
    /// In every trial, a person asks to go back.
    PersonRollsBack,
    /// The operator halts the release as soon as the first object has been fetched.
    HaltDuringDownload,
    /// The link is down for this many fetches, from the third on.
    OfflineDuringDownload(u32),
    /// Once all is settled and both groups are good, the one that runs cannot be loaded any more, and the gateway
    /// restarts.
    CommittedGroupDies,
    /// No copy of the bootloader's environment can be read any more, from the first start of the agent on.
    EnvironmentIsLost,
    /// The record is lost in both copies during the first trial, and the gateway restarts.
    RecordIsLostInTrial,
    /// The operator desires the next release as soon as the first object of this one has been fetched.
    SupersededDuringDownload,
    /// A new trust root arrives in this phase of the first deployment; the key that signed it may sign no more if
    /// `revokes`.
    TrustRotates {
        /// In which phase it is heard of.
        at: PhaseName,
        /// Does it take the right from the key that signed the first release?
        revokes: bool,
    },
    /// Once the first release is committed, a person goes back.
    PersonGoesBackAfterCommit,
    /// The clock has no battery: at each boot it begins in 1970.
    ClockHasNoBattery,
    /// The clock is corrected by ten years, forward, between install and reboot: the bundle has expired then.
    ExpiresBeforeReboot,
    /// The same, before the download is begun.
    ExpiresBeforeDownload,
    /// Once the first release is over, a person takes the gateway back to how the factory delivered it.
    FactoryReset,
    /// Once the first release is over, a person takes the gateway out of service.
    Decommission,
    /// The operator halts the release when it is installed.
    HaltBeforeReboot,
    /// Leave to reboot is given when it has been asked for so many times.
    LeaveComesLate(u32),
    /// A person at the bootloader gives the old group up during the first trial of the other one.
    OldGroupIsGivenUpInTrial,
    /// The bootloader reads another environment than the agent writes.
    EnvironmentIsElsewhere,
    /// The gateway has been updated for years, and has failed as often as its record holds.
    LongHistory,
}

/// What the world outside knows.
#[derive(Clone)]
pub struct Outside {
    /// What is published, in this order: the next follows when one is over.
    pub releases: Rc<[Published]>,
    /// The trust root that follows the image's, if there is one.
    pub next_root: Option<Rc<Vec<u8>>>,
    /// What happens beside that.
    pub twist: Twist,
    /// How each release ended, as far as the gateway has reported it, each report once.
    pub reports: Vec<Report>,
    /// Why the gateway refused releases.
    pub refused: Vec<String>,
    /// Deployments that the gateway accepted, by attempt.
    pub accepted: BTreeSet<u32>,
    /// Has the release in force been halted?
    pub halted: bool,
    /// Has the twist that happens once happened?
    pub twisted: bool,
    /// A person has sent the machine to the other group: nothing is begun any more.
    pub leaving: bool,
    /// How often leave to reboot has been asked for.
    pub asked: u32,
    current: usize,
    offers: u32,
    fetches: u32,
    last: Option<Digest>,
}

impl Outside {
    /// Nothing has happened.
    pub fn new(releases: Rc<[Published]>, twist: Twist) -> Self {
        Outside {
            releases,
            next_root: None,
            twist,
            reports: Vec::new(),
            refused: Vec::new(),
            accepted: BTreeSet::new(),
            halted: false,
            twisted: false,
            leaving: false,
            asked: 0,
            current: 0,
            offers: 0,
            fetches: 0,
            last: None,
        }
    }

    /// The release that the gateway shall run now.
    pub fn desired(&self) -> Option<&Published> {
        self.releases.get(self.current)
    }

    /// The release in force is over, for this gateway.
    pub fn next(&mut self) {
        self.current += 1;
        self.offers = 0;
        self.halted = false;
    }

    /// Does a person stand at the gateway now, to reset it or to take it out of service?
    pub fn parts_now(&self) -> bool {
        matches!(self.twist, Twist::FactoryReset | Twist::Decommission) && self.current > 0 && !self.twisted
    }

    /// The gateway took the offer.
    pub fn offered(&mut self) {
        self.offers += 1;
    }

    /// Has the release been offered often enough?
    pub fn gives_up(&self) -> bool {
        self.offers >= OFFERS_MAX
    }

    /// Is there something to be read that stops a download, a reboot, a trial?
    pub fn has_news(&self, phase: Option<PhaseName>) -> bool {
        match self.twist {
            Twist::TrustRotates { at, .. } => !self.twisted && phase == Some(at),
            _ => false,
        }
    }

    /// A report comes in; perhaps for the second time. `history`: another one of the same release follows. `Err`: it is
    /// not true.
    pub fn receive(
        &mut self,
        report: &Report,
        history: bool,
        truth: &Truth,
    ) -> core::result::Result<(), Violation> {
        if !history {
            invariant_a_report_is_true(report, truth)?;
        }
        if self.reports.contains(report) {
            return Ok(());
        }
        self.reports.push(report.clone());
        if self.desired().is_some_and(|published| published.name == report.manifest) {
            let failed = report.outcome.kind == OutcomeKind::Failed;
            if !failed || self.gives_up() {
                self.next();
            }
        }
        Ok(())
    }

    /// Does the release's halt concern this deployment?
    pub fn halts(&self, deployment: &Deployment) -> bool {
        self.halted && self.desired().is_some_and(|published| published.name == deployment.manifest)
    }

    /// Is another release desired than this one?
    pub fn supersedes(&self, deployment: &Deployment) -> bool {
        self.twist == Twist::SupersededDuringDownload
            && self.desired().is_some_and(|published| published.name != deployment.manifest)
    }

    /// The gateway has gone: what its connection knew is gone as well.
    pub const fn link_ends(&mut self) {
        self.last = None;
    }

    /// All that decides how a life goes on.
    pub fn state(&self) -> impl fmt::Debug + '_ {
        let Outside { releases: _, next_root: _, twist: _, last: _, reports, refused, accepted, .. } = self;
        // Fetches count only where a twist looks at them.
        let fetches = match self.twist {
            Twist::HaltDuringDownload | Twist::SupersededDuringDownload | Twist::OfflineDuringDownload(_) => {
                self.fetches
            }
            _ => 0,
        };
        let flags = (self.halted, self.twisted, self.leaving);
        (reports, refused, accepted, flags, self.current, self.offers, self.asked, fetches)
    }
}

/// What a report is held against.
pub struct Truth {
    /// A medium has failed, or somebody has meddled: what could not be given up may run.
    rotten: bool,
    /// Power cuts alone have taken this gateway back, and may bring it forward again before it is heard.
    late_fallback: bool,
    /// What runs has passed its checks and is marked good.
    approved: bool,
    running: Option<(u32, mainstay_core::boot::Group)>,
    comes_next: Option<mainstay_core::boot::Group>,
}

impl Truth {
    /// Of this gateway, now.
    pub fn of(world: &World) -> Self {
        let running = world.running.and_then(|g| world.image(g).map(|image| (image.version, g)));
        let approved = world.running.is_some_and(|group| world.watch.approved[group as usize]);
        let comes_next = world.boot_state().ok().and_then(|boot| boot.select());
        let (rotten, late_fallback) = (world.watch.rotten, world.watch.late_fallback);
        Truth { rotten, late_fallback, approved, running, comes_next }
    }
}

/// "Committed" is said by a gateway that runs it, and that comes up with it again; anything else by one that does not. A
/// gateway that a person has sent back says so while it still waits to go down: the other group comes up next.
fn invariant_a_report_is_true(report: &Report, truth: &Truth) -> core::result::Result<(), Violation> {
    let runs_it = truth.running.is_some_and(|(version, _)| version.to_string() == report.version.as_str());
    let comes_up_again = truth.comes_next == truth.running.map(|(_, group)| group);
    let kind = report.outcome.kind;
    let lie = match kind {
        OutcomeKind::Committed => !runs_it || !comes_up_again || !truth.approved,
        OutcomeKind::RolledBack => runs_it && comes_up_again && !truth.rotten,
        // It did; its presence says that it runs again what it had fallen back from.
        OutcomeKind::FellBack if truth.late_fallback => false,
        _ => runs_it && !truth.rotten, // it stays where there is no other way up, and says so
    };
    if !lie {
        return Ok(());
    }
    let what = format!(
        "an outcome is reported truthfully: {kind:?} {} ({}), but {:?} runs and {:?} comes next",
        report.version, report.outcome.detail, truth.running, truth.comes_next
    );
    Err(Violation::new(Figure::LostOutcome, what))
}

/// The broker.
pub struct SimSource {
    shared: Shared,
    found: Vec<u8>,
}

impl SimSource {
    /// Serves what is published.
    pub fn new(shared: &Shared) -> Self {
        SimSource { shared: shared.clone(), found: Vec::new() }
    }
}

impl PieceSource for SimSource {
    fn prefetch(&mut self, _: &Digest, _: u32) -> bool {
        true
    }
    fn fetch(&mut self, name: &Digest, _: u32) -> Result<&[u8]> {
        self.found = self.shared.with(|world| answer(world, name))?;
        Ok(&self.found)
    }
    fn release(&mut self, _: &Digest) {}
    /// What came was not it: it is asked for again, as the daemon does.
    fn refute(&mut self, _: &Digest) -> Result<()> {
        Ok(())
    }
}

fn answer(world: &mut World, name: &Digest) -> Result<Vec<u8>> {
    let phase = invariant::phase(world);
    let outside = &mut world.outside;
    outside.fetches += 1;
    match outside.twist {
        Twist::HaltDuringDownload if outside.fetches > 1 => outside.halted = true,
        Twist::SupersededDuringDownload if outside.fetches > 1 && !outside.twisted => {
            outside.twisted = true;
            outside.next();
            return Err(fault!(Cancelled, "download: interrupted by news"));
        }
        Twist::OfflineDuringDownload(fetches) if (3..3 + fetches).contains(&outside.fetches) => {
            return Err(fault!(Disconnected, "the link is down"));
        }
        _ => {}
    }
    if outside.halted || outside.has_news(phase) {
        return Err(fault!(Cancelled, "download: interrupted by news"));
    }
    let ill = world.ills.link.take().filter(|(_, times)| *times > 0);
    world.ills.link = ill.map(|(answer, times)| (answer, times - u32::from(times != u32::MAX)));
    let find =
        |name: &Digest| outside.releases.iter().find_map(|published| published.objects.get(name)).cloned();
    let found = find(name).ok_or_else(|| fault!(NotFound, "no object {name:?}"))?;
    let before = outside.last.replace(*name);
    match (ill, before.and_then(|name| find(&name))) {
        (Some((Answer::Drops, _)), _) => Err(fault!(Disconnected, "the link is down")),
        (Some((Answer::Repeats, _)), Some(earlier)) => Ok(earlier),
        (Some((Answer::Corrupts, _)), _) => {
            let mut spoilt = found;
            let middle = spoilt.len() / 2;
            spoilt[middle] ^= 1;
            Ok(spoilt)
        }
        _ => Ok(found),
    }
}

/// A release whose download or write failed is offered again, this many times.
const OFFERS_MAX: u32 = 3;
