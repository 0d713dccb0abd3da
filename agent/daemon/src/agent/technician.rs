//! What a technician can ask of the agent, by the commands of this binary or the serial console.

use super::{Agent, Line};
use crate::file_source::FileSource;
use mainstay_core::audit::Event;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::update::{OutcomeKind, Phase};
use std::io::Read;
use std::sync::mpsc::Sender;

/// What is wanted, and where the answer goes. Every request is answered by exactly one [`Line::Done`] or
/// [`Line::Failed`], after any number of notes.
pub struct Request {
    /// What.
    pub what: Wish,
    /// Where the answer goes.
    pub reply: Sender<Line>,
}

/// What a technician can wish for.
pub enum Wish {
    /// Install this bundle.
    Install {
        /// Its bytes, front to back.
        input: Box<dyn Read + Send>,
        /// Even if its trial failed here before.
        retry: bool,
        /// Reboot into the trial without asking again.
        approve: bool,
    },
    /// Tell the bootloader something.
    Mark(Mark),
    /// Go back to the other group.
    RollBack,
    /// Reboot into the trial now.
    Approve,
    /// Drop what is not yet in its trial.
    Cancel,
}

/// What the bootloader can be told by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The running group is good.
    Good,
    /// This group may not be booted again.
    Bad(Group),
    /// This group, which is good, is booted next.
    Active(Group),
}

impl Agent {
    /// Answers a technician.
    pub(super) fn on_technician(&mut self, request: Request) {
        let Request { what, reply } = request;
        let answer = match what {
            Wish::Install { input, retry, approve } => match self.install(input, retry, approve, &reply) {
                Ok(()) => return, // the observer answers when it has settled, or waits for a reboot
                Err(fault) => Err(fault),
            },
            Wish::Mark(mark) => self.mark(mark),
            Wish::RollBack => self.go_back(),
            Wish::Approve => self.approve(),
            Wish::Cancel => self.cancel(),
        };
        let _ = reply.send(match answer {
            Ok(said) => Line::Done(said),
            Err(fault) => Line::Failed(fault.to_string()),
        });
        self.show();
    }

    fn install(
        &mut self,
        input: Box<dyn Read + Send>,
        retry: bool,
        approve: bool,
        reply: &Sender<Line>,
    ) -> Result<(), Fault> {
        let source = FileSource::open(input)?;
        let name = Digest::of(source.manifest());
        match &self.driver.record().phase {
            // The same bundle again, after a cut: it goes on where the slot says that it stopped.
            Phase::Downloading(d) if d.manifest == name => self.world.gate.by_hand = true,
            _ if !self.driver.accepts_offers() => {
                return Err(fault!(
                    Busy,
                    "busy with {}: {}; `mainstay cancel` drops it",
                    self.driver.record().phase.deployment().map_or("an update", |d| d.version.as_str()),
                    self.driver.action().name()
                ));
            }
            _ => self.offer(source.manifest(), true, retry)?,
        }
        self.world.gate.approved |= approve;
        self.world.source.file = Some(source);
        self.world.observer.watcher = Some(reply.clone());
        Ok(())
    }

    fn mark(&mut self, mark: Mark) -> Result<String, Fault> {
        self.no_trial("marked by hand")?;
        let running = self.driver.running();
        let boot = &mut self.world.boot;
        let said = match mark {
            Mark::Good => {
                boot.mark_good(running)?;
                format!("group {running} is marked good and stands first")
            }
            Mark::Bad(group) => {
                let left = boot.state()?;
                if !left.group(group.other()).bootable() {
                    return Err(fault!(
                        Refused,
                        "mark bad {group}: then nothing could be booted: group {} is not bootable",
                        group.other()
                    ));
                }
                boot.mark_bad(group)?;
                format!("group {group} is marked bad")
            }
            Mark::Active(group) => {
                if !boot.state()?.group(group).bootable() {
                    return Err(fault!(Refused, "mark active {group}: it is not bootable"));
                }
                self.not_under_the_floor(group)?;
                self.world.boot.mark_good(group)?;
                format!("group {group} is booted next")
            }
        };
        log::warn!("by hand: {said}");
        self.audit(Event::MarkedByHand, &[("what", &said)]);
        Ok(said)
    }

    fn go_back(&mut self) -> Result<String, Fault> {
        if self.driver.roll_back("a technician said so", &mut self.world.parts())? {
            self.audit(Event::RolledBackByHand, &[]);
            return Ok("the trial is over: going back".into());
        }
        self.no_trial("rolled back")?;
        let other = self.driver.running().other();
        if self.world.boot.state()?.group(other).good == Some(false)
            || !self.world.boot.state()?.group(other).bootable()
        {
            return Err(fault!(
                Refused,
                "rollback: group {other} is not good; there is nothing to go back to"
            ));
        }
        self.not_under_the_floor(other)?;
        self.world.boot.mark_good(other)?;
        log::warn!("by hand: rolled back to group {other}");
        self.audit(Event::RolledBackByHand, &[("group", &other)]);
        self.world.parts().power.reboot("Mainstay: rolled back by a technician")?;
        Ok(format!("group {other} is booted next: rebooting"))
    }

    fn approve(&mut self) -> Result<String, Fault> {
        match &self.driver.record().phase {
            Phase::Waiting(d) | Phase::Downloading(d) | Phase::Verifying(d) | Phase::Installed(d) => {
                self.world.gate.approved = true;
                Ok(format!("{} may reboot when it is written", d.version))
            }
            _ => Err(fault!(Refused, "approve: nothing waits for a reboot")),
        }
    }

    fn cancel(&mut self) -> Result<String, Fault> {
        if self.driver.stop(OutcomeKind::Halted, "cancelled by a technician", &mut self.world.parts())? {
            self.after_phase();
            return Ok("cancelled".into());
        }
        Err(fault!(Refused, "cancel: nothing to cancel before a trial; `mainstay rollback` ends a trial"))
    }

    fn no_trial(&self, doing: &str) -> Result<(), Fault> {
        match self.driver.record().phase {
            Phase::Trial(_) | Phase::Committing(_) | Phase::RollingBack(..) => Err(fault!(
                Busy,
                "a trial is on and cannot be {doing}: its checks decide; `mainstay rollback` ends it"
            )),
            Phase::Downloading(_) | Phase::Verifying(_) | Phase::Installed(_) => {
                Err(fault!(Busy, "an update is under way; `mainstay cancel` drops it"))
            }
            _ => Ok(()),
        }
    }

    /// A group of which the agent knows nothing is let through: a person asks for it, and the floor speaks of bundles.
    fn not_under_the_floor(&self, group: Group) -> Result<(), Fault> {
        let record = self.driver.record();
        match record.release(group) {
            Some(release) if release.security_version < record.floor => Err(Fault::new(
                FaultKind::Refused,
                format_args!(
                    "group {group} holds security version {}, the floor is {}",
                    release.security_version, record.floor
                ),
            )),
            _ => Ok(()),
        }
    }
}
