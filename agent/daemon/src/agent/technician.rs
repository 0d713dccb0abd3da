//! What a technician can ask of the agent, by the commands of this binary or the serial console.

use super::desired::CANCELLED;
use super::{Agent, Line, Watcher};
use crate::erase::{out_of_service, time_text};
use crate::file_source::FileSource;
use mainstay_core::audit::Event;
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::update::{OutcomeKind, Phase, Service};

/// What is wanted, and where the answer goes. Every request is answered by exactly one [`Line::Done`] or
/// [`Line::Failed`], after any number of notes.
pub struct Request {
    /// What.
    pub what: Wish,
    /// Where the answer goes.
    pub reply: Watcher,
}

/// What a technician can wish for.
pub enum Wish {
    /// Install this bundle.
    Install {
        /// Opened already: whoever gives it may be slow, and the agent does not wait for that.
        bundle: Box<FileSource>,
        /// Even if it runs already, or its trial failed here before.
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
    /// Take the gateway back to how the factory delivered it.
    FactoryReset,
    /// Take the gateway of this name out of service for good.
    Decommission(String),
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

/// Why nothing can be asked of the agent in a trial.
pub const IN_TRIAL: &str =
    "a trial is on: its checks decide, `mainstay status` shows them, `mainstay rollback` ends it";

impl Agent {
    /// Answers a technician.
    pub(super) fn on_technician(&mut self, request: Request) {
        let Request { what, reply } = request;
        if let Some(said) = self.does_not_serve(&what) {
            reply.hears(said.map_or_else(|fault| Line::Failed(fault.to_string()), Line::Done));
            return;
        }
        let answer = match what {
            Wish::FactoryReset | Wish::Decommission(_) => match self.begin_to_part(what, &reply) {
                Ok(()) => return, // answered when it is done, or has to be tried again
                Err(fault) => Err(fault),
            },
            Wish::Install { bundle, retry, approve } => match self.install(*bundle, retry, approve, &reply) {
                Ok(None) => return, // the observer answers when it has settled, or waits for a reboot
                Ok(Some(said)) => Ok(said),
                Err(fault) => Err(fault),
            },
            Wish::Mark(mark) => self.mark(mark),
            Wish::RollBack => self.go_back(),
            Wish::Approve => self.approve(),
            Wish::Cancel => self.cancel(),
        };
        reply.hears(match answer {
            Ok(said) => Line::Done(said),
            Err(fault) => Line::Failed(fault.to_string()),
        });
        self.show();
    }

    /// `Some`: there was nothing to do.
    fn install(
        &mut self,
        mut bundle: FileSource,
        retry: bool,
        approve: bool,
        reply: &Watcher,
    ) -> Result<Option<String>, Fault> {
        let name = Digest::of(bundle.manifest());
        let running = self.driver.running();
        match &self.driver.record().phase {
            // The same bundle again, after a cut: it goes on where the slot says that it stopped.
            Phase::Waiting(d) | Phase::Downloading(d) if d.manifest == name => self.world.gate.by_hand = true,
            // All of it is there: what the operator or the hours held up, a person lets go.
            Phase::Installed(d) if d.manifest == name => self.world.gate.by_hand = true,
            _ if !self.driver.accepts_offers() => {
                return Err(fault!(
                    Busy,
                    "busy with {}: {}; `mainstay cancel` drops it",
                    self.driver.record().phase.deployment().map_or("an update", |d| d.version.as_str()),
                    self.driver.action().name()
                ));
            }
            _ => match self.driver.record().release(running) {
                Some(release) if release.manifest == name && !retry => {
                    let version = &release.version;
                    return Ok(Some(format!(
                        "{version} runs already, in group {running}: nothing to do; --retry writes it into group {}",
                        running.other()
                    )));
                }
                _ => self.offer(bundle.manifest(), true, retry)?,
            },
        }
        self.world.gate.approved |= approve;
        if matches!(self.driver.record().phase, Phase::Waiting(_) | Phase::Downloading(_)) {
            bundle.makes(VerifiedManifest::open(&self.world.trust, bundle.manifest())?.content_bytes());
            self.world.source.file = Some(bundle);
        }
        self.world.observer.watched_by(reply.clone());
        if let Some(desired) = self.desires.other_than(&name) {
            let note =
                format!("the operator desires {desired}: this gateway goes back to it when all is over");
            self.world.observer.tell(Line::Note(note));
        }
        Ok(None)
    }

    fn mark(&mut self, mark: Mark) -> Result<String, Fault> {
        self.no_trial()?;
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
        if self.leaving.is_some() {
            return Ok("the machine has been asked to reboot into the other group".into());
        }
        let trial = matches!(self.driver.record().phase, Phase::Trial(_));
        if trial && self.driver.roll_back(BY_HAND, &mut self.world.parts())? {
            self.audit(Event::RolledBackByHand, &[]);
            return Ok("the trial is over: going back".into());
        }
        self.no_trial()?;
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
        self.driver.left_by_hand(BY_HAND, &mut self.world.parts())?;
        log::warn!("by hand: rolled back to group {other}");
        self.audit(Event::RolledBackByHand, &[("group", &other)]);
        self.leaving = Some("rolled back by a technician");
        Ok(match self.leave() {
            true => format!("group {other} is booted next: rebooting"),
            false => {
                format!("group {other} is booted next, but the reboot failed (see the log): reboot by hand")
            }
        })
    }

    /// The machine has to go down: a person has done something after which it must. `false`: it could not be asked to.
    pub(super) fn leave(&mut self) -> bool {
        let why = format!("Mainstay: {}", self.leaving.unwrap_or_default());
        let asked = self.world.parts().power.reboot(&why);
        self.is_asked_to_go_down(asked.is_err());
        asked.inspect_err(|fault| log::error!("{fault}")).is_ok()
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
        if self.driver.stop(OutcomeKind::Halted, CANCELLED, &mut self.world.parts())? {
            self.after_phase();
            return Ok(
                "cancelled; if the operator desires it, it is taken again at the operator's next word".into(),
            );
        }
        Err(fault!(Refused, "cancel: nothing to cancel before a trial; `mainstay rollback` ends a trial"))
    }

    /// The answer of a gateway that is out of service, or on its way there, or in the middle of a reset. The bootloader
    /// can be told something all the same: what boots is nobody's business but the person's who stands there.
    fn does_not_serve(&self, what: &Wish) -> Option<Result<String, Fault>> {
        let service = self.driver.record().service;
        let same = match what {
            Wish::Mark(_) => return None,
            Wish::FactoryReset => service == Service::Resetting,
            Wish::Decommission(name) => *name == self.config.device && service.out_since().is_some(),
            _ => false,
        };
        match service {
            Service::In => None,
            Service::Decommissioned(since) if same => {
                Some(Ok(format!("decommissioned since {}", time_text(since))))
            }
            _ if same => None, // who asks again waits for its end, too
            Service::Resetting => Some(Err(fault!(Busy, "a factory reset is under way"))),
            Service::Decommissioning(since) | Service::Decommissioned(since) => {
                Some(Err(out_of_service(since)))
            }
        }
    }

    fn begin_to_part(&mut self, what: Wish, reply: &Watcher) -> Result<(), Fault> {
        if self.driver.record().service == Service::In {
            self.no_trial()?;
            if self.leaving.is_some() || !self.driver.accepts_offers() {
                let doing = self.driver.action().name();
                return Err(fault!(Busy, "busy: {doing}; `mainstay cancel` drops an update"));
            }
            let since = self.now().max(self.driver.record().time_floor);
            match what {
                Wish::Decommission(name) if name != self.config.device => {
                    let device = &self.config.device;
                    return Err(fault!(Refused, "decommission: this gateway is {device}, not {name}"));
                }
                Wish::Decommission(_) => {
                    self.world.erase.belongings.can_be_given_up()?;
                    self.driver.decommission(since, &mut self.world.parts())?;
                }
                _ => {
                    self.world.erase.belongings.can_be_erased()?;
                    self.driver.reset(&mut self.world.parts())?;
                }
            }
        }
        self.world.observer.watched_by(reply.clone());
        self.show();
        Ok(())
    }

    /// A reset, or the end of service, is done.
    pub(super) fn after_service(&mut self) {
        if self.driver.record().service == Service::In {
            // The operator reads it in the presence, which stands until the machine is back.
            self.shared.change(|status| status.waiting = Some("the reboot after a factory reset".into()));
        }
        let said = match self.driver.record().service {
            Service::In if self.config.update.approve_reboot => {
                "the factory reset is done; reboot when the plant allows it: what runs may hold on to what was erased"
            }
            Service::In => {
                self.desires.forget_what_was_cancelled();
                self.leaving = Some("factory reset");
                match self.leave() {
                    true => "the factory reset is done: rebooting",
                    false => "the factory reset is done, but the reboot failed (see the log): reboot by hand",
                }
            }
            Service::Decommissioned(_) => {
                (self.link, self.connected) = (None, false);
                self.world.observer.link = None;
                "decommissioned: what this gateway needs of its key is gone; revoke its certificate at the broker"
            }
            Service::Resetting | Service::Decommissioning(_) => return,
        };
        self.world.observer.tell(Line::Done(said.into()));
    }

    fn no_trial(&self) -> Result<(), Fault> {
        match self.driver.record().phase {
            Phase::Trial(_) | Phase::Committing(_) | Phase::RollingBack(..) => {
                Err(fault!(Busy, "{IN_TRIAL}"))
            }
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

/// What stands in the outcome.
const BY_HAND: &str = "a technician said so";
