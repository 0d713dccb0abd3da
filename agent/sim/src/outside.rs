//! Everybody around the gateway: the operator who publishes and reads reports, the broker, the person at the console.
//! They do not lose power with the gateway; what they have been told, they know.

use crate::bundle::Published;
use crate::world::World;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::seam::{PieceSource, Result};
use mainstay_core::update::{Deployment, OutcomeKind, Report};
use std::collections::BTreeSet;

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
}

/// What the world outside knows.
pub struct Outside {
    /// What is published, in this order: the next follows when one is over.
    pub releases: Vec<Published>,
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
    current: usize,
    offers: u32,
    fetches: u32,
}

impl Outside {
    /// Nothing has happened.
    pub fn new(releases: Vec<Published>, twist: Twist) -> Self {
        Outside {
            releases,
            twist,
            reports: Vec::new(),
            refused: Vec::new(),
            accepted: BTreeSet::new(),
            halted: false,
            twisted: false,
            current: 0,
            offers: 0,
            fetches: 0,
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

    /// The gateway took the offer.
    pub fn offered(&mut self) {
        self.offers += 1;
    }

    /// Has the release been offered often enough?
    pub fn gives_up(&self) -> bool {
        self.offers >= OFFERS_MAX
    }

    /// A report comes in; perhaps for the second time. `history`: another one of the same release follows. `Err`: it is
    /// not true.
    pub fn receive(
        &mut self,
        report: &Report,
        history: bool,
        world: &World,
    ) -> core::result::Result<(), String> {
        if !history {
            invariant_a_report_is_true(report, world)?;
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

    /// How the last release ended, if it did.
    pub fn last_outcome(&self) -> Option<OutcomeKind> {
        self.reports.last().map(|report| report.outcome.kind)
    }
}

/// "Committed" is said by a gateway that runs it, and that comes up with it again; anything else by one that does not.
fn invariant_a_report_is_true(report: &Report, world: &World) -> core::result::Result<(), String> {
    let running = world.running.and_then(|g| world.image(g));
    let runs_it = running.is_some_and(|image| image.version.to_string() == report.version.as_str());
    let kind = report.outcome.kind;
    let comes_up_again = world.boot_state().ok().and_then(|boot| boot.select()) == world.running;
    match kind {
        OutcomeKind::Committed if !runs_it || !comes_up_again => Err(format!(
            "an outcome is reported truthfully: {kind:?} {}, but {:?} runs {:?} and {:?} comes next",
            report.version,
            world.running,
            running.map(|i| i.version),
            world.boot_state()
        )),
        OutcomeKind::Committed => Ok(()),
        _ if runs_it => Err(format!(
            "an outcome is reported truthfully: {kind:?} {} ({}), but it runs",
            report.version, report.outcome.detail
        )),
        _ => Ok(()),
    }
}

/// The broker.
pub struct SimSource<'a> {
    outside: &'a mut Outside,
    found: Vec<u8>,
}

impl<'a> SimSource<'a> {
    /// Serves what is published.
    pub fn new(outside: &'a mut Outside) -> Self {
        SimSource { outside, found: Vec::new() }
    }
}

impl PieceSource for SimSource<'_> {
    fn prefetch(&mut self, _: &Digest, _: u32) -> bool {
        true
    }
    fn fetch(&mut self, name: &Digest, _: u32) -> Result<&[u8]> {
        let outside = &mut *self.outside;
        outside.fetches += 1;
        match outside.twist {
            Twist::HaltDuringDownload if outside.fetches > 1 => {
                outside.halted = true;
                return Err(fault!(Cancelled, "halted"));
            }
            Twist::OfflineDuringDownload(fetches) if (3..3 + fetches).contains(&outside.fetches) => {
                return Err(fault!(Disconnected, "the link is down"));
            }
            _ => {}
        }
        let found = outside.releases.iter().find_map(|published| published.objects.get(name));
        self.found.clone_from(found.ok_or_else(|| fault!(NotFound, "no object {name:?}"))?);
        Ok(&self.found)
    }
    fn release(&mut self, _: &Digest) {}
    fn refute(&mut self, name: &Digest) -> Result<()> {
        Err(fault!(Corrupt, "object {name:?} is not what its name says"))
    }
}

/// A release whose download or write failed is offered again, this many times.
const OFFERS_MAX: u32 = 3;
