//! One session of the machine: from where a group is booted to the next reboot or cut, or to the end of the story.
//!
//! What the agent does is done by the product's own [`Driver`]. The loop around it is what the daemon's is: offer what
//! is desired, report what is settled, hear what is new, ask again after a pause.

use crate::bundle::{COMPATIBLE, Zstd};
use crate::disk::{DATA, Own};
use crate::image::Behaviour;
use crate::invariant;
use crate::life::{DAY_S, Nursery, Story};
use crate::mutant::{Bent, Mutant, Seams};
use crate::odd_stories;
use crate::outside::{SimSource, Truth, Twist};
use crate::power::{Down, Figure, down, violated};
use crate::seams::{SimBoot, SimErase, SimPower, SimSlots, SimState, SimTrial};
use crate::world::{CLOCK_AT_FIRST, Shared, World};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::limits::ENVELOPE_BYTES_MAX;
use mainstay_core::policy::{Gateway, judge};
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{
    Deployment, Driver, OutcomeKind, Parts, Phase, PhaseName, Record, Rest, Reuse, Service, Settings,
};
/// One session of the machine: a group is booted.
pub struct Machine<'a> {
    story: &'a Story,
    shared: &'a Shared,
    group: Group,
    /// The image's trust root.
    anchor: &'a TrustRoot,
    /// Whom to believe now.
    trust: TrustRoot,
    boot: SimBoot,
    state: SimState,
    bent: Option<Bent>,
    room: &'a mut Nursery,
}

impl<'a> Machine<'a> {
    pub fn new(
        story: &'a Story,
        shared: &'a Shared,
        group: Group,
        anchor: &'a TrustRoot,
        bent: Option<Bent>,
        room: &'a mut Nursery,
    ) -> Self {
        let boot = SimBoot::new(shared, shared.with(|world| world.board));
        let agent = shared.with(|world| world.image(group).map_or(1, |image| image.agent));
        let state = SimState::new(shared, agent);
        Machine { story, shared, group, anchor, trust: anchor.clone(), boot, state, bent, room }
    }

    /// Until the story is told. A reboot, a cut or the watchdog unwinds. Is this agent mute at the end?
    pub fn run(&mut self) -> bool {
        let behaviour = self.shared.with(|world| world.image(self.group).map(|i| i.behaviour));
        if matches!(behaviour, None | Some(Behaviour::NeverBoots)) {
            self.shared.with(|world| world.hangs());
        }
        self.shared.with(World::mounts);
        if self.story.twist == Twist::ClockHasNoBattery {
            self.shared.with(|world| world.clock = 0);
        }
        self.trust = self.load_trust();
        let Some(mut driver) = self.start() else { return self.is_mute() };
        self.drop_what_is_not_believed(&mut driver);
        self.reconsider(&mut driver);
        let mut left_alone = 0;
        for _ in 0..TURNS_MAX {
            match self.with_parts(|parts| driver.turn(parts)) {
                Ok(Rest::Rebooting) if self.shared.with(|world| world.going_down) => down(Down::Reboot),
                Ok(Rest::Rebooting) => {} // the reset line did not take it: the next turn asks again
                Ok(Rest::Idle) => {
                    if !self.idle(&mut driver) {
                        return false;
                    }
                }
                Ok(Rest::Paused) => self.paused(&mut driver),
                Err(fault) => self.note(format_args!("turn: {fault}")),
            }
            // What never passes is waited out for ever: it stays put, and a session of some turns shows as much.
            left_alone += u32::from(self.shared.with(|world| world.ills.are_for_ever()));
            if left_alone > TURNS_WITH_AN_ILL_MAX {
                return false;
            }
        }
        violated(
            Figure::Stuck,
            format_args!("it settles: {TURNS_MAX} turns, and it is {}", driver.action().name()),
        );
    }

    /// `None`: the record is of a later agent. It is left alone, and the fault is said.
    fn start(&mut self) -> Option<Driver> {
        let settings = Settings {
            running: self.group,
            late_fallback: self.story.late_fallback,
            image_floor: self.story.factory.security_version,
            reuse: Reuse { target: true, running: true },
        };
        for _ in 0..TURNS_MAX {
            match self.with_parts(|parts| Driver::start(settings, parts)) {
                Ok(driver) => return Some(driver),
                Err(fault) if fault.kind == FaultKind::Unsupported => {
                    self.note(format_args!("start: {fault}"));
                    return None;
                }
                Err(fault) => self.note(format_args!("start: {fault}")),
            }
        }
        violated(Figure::Stuck, format_args!("it settles: {TURNS_MAX} starts"));
    }

    /// Whoever cannot start feeds no watchdog: a trial ends with it. A good group is left to the system's own feeder.
    fn is_mute(&self) -> bool {
        self.shared.with(|world| match world.watch.approved[self.group as usize] {
            true => true,
            false => world.hangs(),
        })
    }

    /// The image's root, or a later one that was rotated to on this gateway: as the daemon loads it.
    fn load_trust(&self) -> TrustRoot {
        let mut bytes = vec![0; ENVELOPE_BYTES_MAX];
        match self.state.clone().load(StateFile::Trust, &mut bytes) {
            Ok(Some(length)) => match TrustRoot::anchor(&bytes[..length]) {
                Ok(stored) if stored.version > self.anchor.version => stored,
                _ => self.anchor.clone(),
            },
            _ => self.anchor.clone(),
        }
    }

    /// Reports, and offers what is desired. `false`: there is nothing more to do.
    fn idle(&mut self, driver: &mut Driver) -> bool {
        if let Some(report) = driver.record().unreported.first().cloned()
            && !self.is(Mutant::NotReported)
        {
            self.report(driver, &report);
            return true;
        }
        if self.hears_of_a_new_root(driver) || self.goes_back_by_hand(driver) || self.is_to_part(driver) {
            return true;
        }
        let Some(published) = self.shared.with(|world| world.outside.desired().cloned()) else {
            return self.end();
        };
        let record = driver.record();
        if record.release(self.group).is_some_and(|r| r.manifest == published.name) {
            self.shared.with(|world| world.outside.next());
            return true;
        }
        // Durable before it is acted upon, as the daemon does: the time of signing has certainly passed.
        if record.time_floor < published.signed_at {
            let desired_seq = [published.signed_at, 0]; // it rises as the times of signing do
            let record = Record { time_floor: published.signed_at, desired_seq, ..record.clone() };
            if let Err(fault) = self.with_parts(|parts| driver.update(record, parts)) {
                self.note(format_args!("time: {fault}"));
                return true;
            }
        }
        let deployment = VerifiedManifest::open(&self.trust, &published.envelope).and_then(|manifest| {
            let record = match &self.bent {
                Some(bent) => bent.judged_by(driver.record()),
                None => driver.record().clone(),
            };
            let mut gateway = Gateway {
                compatible: COMPATIBLE,
                running: self.group,
                record: &record,
                unix_s: self.shared.with(|world| world.unix_s()),
                checks: &[],
                retry_failed: false,
            };
            self.bent.iter().for_each(|bent| bent.judges(&mut gateway));
            judge(&manifest, &gateway)
        });
        match deployment {
            Ok(deployment) => {
                self.shared.with(|world| world.outside.offered());
                match self.with_parts(|parts| driver.offer(&published.envelope, deployment, parts)) {
                    Ok(()) => {
                        let attempt = driver.record().attempts;
                        self.shared.with(|world| world.outside.accepted.insert(attempt));
                    }
                    Err(fault) if self.shared.with(|world| world.outside.gives_up()) => self.refused(&fault),
                    Err(fault) => self.note(format_args!("offer: {fault}")),
                }
            }
            Err(fault) => self.refused(&fault),
        }
        true
    }

    fn report(&mut self, driver: &mut Driver, report: &mainstay_core::update::Report) {
        // "Committed" is history where a late fallback follows it: the operator gets both, in their order.
        let history =
            driver.record().unreported.iter().skip(1).any(|later| later.manifest == report.manifest);
        if self.is(Mutant::AcknowledgesEarly)
            && let Err(fault) = self.with_parts(|parts| driver.acknowledge(report, parts))
        {
            self.note(format_args!("acknowledge: {fault}"));
        }
        let received = self.shared.with(|world| {
            let truth = Truth::of(world);
            world.outside.receive(report, history, &truth)
        });
        if let Err(lie) = received {
            down(Down::Violation(lie));
        }
        if let Err(fault) = self.with_parts(|parts| driver.acknowledge(report, parts)) {
            self.note(format_args!("acknowledge: {fault}"));
        }
    }

    fn refused(&self, fault: &Fault) {
        self.note(format_args!("refused: {fault}"));
        self.shared.with(|world| {
            world.outside.refused.push(fault.what.to_string());
            world.outside.next();
        });
    }

    /// What happens in the midst of things.
    fn paused(&mut self, driver: &mut Driver) {
        if self.hears_of_a_new_root(driver) {
            return;
        }
        if self.reconsider(driver) {
            return;
        }
        let phase = driver.record().phase.name();
        if self.story.twist == Twist::PersonRollsBack && phase == PhaseName::Trial {
            let done = self.with_parts(|parts| driver.roll_back("asked for at the console", parts));
            if let Err(fault) = done {
                self.note(format_args!("{phase:?}: {fault}"));
            }
        }
    }

    /// What the operator desires now, held against what is under way: at a start, and after a pause.
    fn reconsider(&mut self, driver: &mut Driver) -> bool {
        let Some(deployment) =
            driver.record().phase.deployment().filter(|_| !driver.accepts_offers()).cloned()
        else {
            return false;
        };
        let why = self.shared.with(|world| match &world.outside {
            outside if outside.halts(&deployment) => Some("halted by the operator"),
            outside if outside.supersedes(&deployment) => Some("superseded"),
            _ => None,
        });
        let Some(why) = why else { return false };
        if let Err(fault) = self.with_parts(|parts| driver.stop(OutcomeKind::Halted, why, parts)) {
            self.note(format_args!("{why}: {fault}"));
        }
        true
    }

    /// As the daemon takes one: proven, made durable, believed; and what is under way is looked at again.
    fn hears_of_a_new_root(&mut self, driver: &mut Driver) -> bool {
        let phase = driver.record().phase.name();
        let news = self.shared.with(|world| {
            let heard = [Some(phase), invariant::phase(world)]; // the record may stand though its write has failed
            let news = heard.into_iter().any(|phase| world.outside.has_news(phase));
            world.outside.next_root.clone().filter(|_| news)
        });
        let Some(bytes) = news else { return false };
        let next = match self.trust.rotate(&bytes) {
            Ok(next) => next,
            Err(fault) => {
                self.note(format_args!("trust root: {fault}")); // it has been taken before a cut
                self.shared.with(|world| world.outside.twisted = true);
                return true;
            }
        };
        if let Err(fault) = self.with_parts(|parts| parts.state.persist(StateFile::Trust, &bytes)) {
            self.note(format_args!("trust root: {fault}"));
            return true;
        }
        self.note(format_args!("trust root: rotated to version {}", next.version));
        self.trust = next;
        self.shared.with(|world| world.outside.twisted = true);
        self.drop_what_is_not_believed(driver);
        true
    }

    /// A bundle that has not reached its trial goes no further when its signers count no more.
    fn drop_what_is_not_believed(&mut self, driver: &mut Driver) {
        use Phase::{Downloading, Installed, Verifying, Waiting};
        let (Waiting(d) | Downloading(d) | Verifying(d) | Installed(d)) = &driver.record().phase else {
            return;
        };
        let mut bytes = vec![0; ENVELOPE_BYTES_MAX];
        let Ok(Some(length)) = self.state.clone().load(StateFile::Manifest, &mut bytes) else { return };
        if mainstay_core::digest::Digest::of(&bytes[..length]) != d.manifest {
            return;
        }
        if let Err(fault) = VerifiedManifest::open(&self.trust, &bytes[..length]) {
            self.note(format_args!("not believed: {fault}"));
            let stopped = self.with_parts(|parts| driver.stop(OutcomeKind::Halted, "not believed", parts));
            if let Err(fault) = stopped {
                self.note(format_args!("not believed: {fault}"));
            }
        }
    }

    /// After the commit, as the daemon does it: the bootloader first, then the record, then the reset.
    fn goes_back_by_hand(&mut self, driver: &mut Driver) -> bool {
        let committed = matches!(&driver.record().phase, Phase::Settled(d, o) if o.kind == OutcomeKind::Committed && d.target == self.group);
        let due = self.story.twist == Twist::PersonGoesBackAfterCommit && committed;
        if !due || self.shared.with(|world| world.outside.twisted) {
            return false;
        }
        let other = self.group.other();
        let why = "rolled back by a technician";
        let fit = self
            .boot
            .state()
            .is_ok_and(|boot| boot.group(other).good != Some(false) && boot.group(other).bootable());
        let image = self.shared.with(|world| world.image(other).map(|image| image.security_version));
        if !fit || image.is_none_or(|version| version < driver.record().floor) {
            self.note(format_args!("by hand: refused"));
            self.shared.with(|world| world.outside.twisted = true);
            return true;
        }
        let told = self
            .with_parts(|parts| parts.boot.mark_good(other).and_then(|()| driver.left_by_hand(why, parts)));
        match told {
            Ok(()) => {
                self.shared.with(|world| world.outside.twisted = true);
                let _ = self.with_parts(|parts| parts.power.reboot(why)); // if it fails, a person pulls the plug
                down(Down::Reboot)
            }
            Err(fault) => self.note(format_args!("by hand: {fault}")),
        }
        true
    }

    /// Between two releases a person resets the gateway, or takes it out of service. Asked again until it is done: who
    /// has typed it looks whether it was.
    fn is_to_part(&mut self, driver: &mut Driver) -> bool {
        let (due, data) = self.shared.with(|world| (world.outside.parts_now(), world.disk.owns(DATA)));
        if !due {
            return false;
        }
        let since = self.shared.with(|world| world.clock);
        let asked = match (self.story.twist, driver.record().service) {
            (Twist::FactoryReset, Service::In) if data == Own::Gone => {
                self.shared.with(|world| world.outside.twisted = true);
                let _ = self.with_parts(|parts| parts.power.reboot("factory reset"));
                down(Down::Reboot)
            }
            (Twist::Decommission, Service::Decommissioned(_)) => {
                self.shared.with(|world| world.outside.twisted = true);
                Ok(())
            }
            (Twist::FactoryReset, _) => self.with_parts(|parts| driver.reset(parts)),
            _ => self.with_parts(|parts| driver.decommission(since, parts)),
        };
        if let Err(fault) = asked {
            self.note(format_args!("by hand: {fault}"));
        }
        true
    }

    /// All is told, but for a twist that comes last.
    fn end(&mut self) -> bool {
        self.shared.with(|world| {
            let (twist, twisted) = (world.outside.twist, world.outside.twisted);
            if twist == Twist::CommittedGroupDies && !twisted && world.watch.approved == [true, true] {
                world.outside.twisted = true;
                world.watch.rotten = true;
                world.dead = world.running;
                down(Down::Watchdog);
            }
        });
        false
    }

    /// Is this mutant at work?
    fn is(&self, mutant: Mutant) -> bool {
        self.bent.as_ref().is_some_and(|bent| bent.is(mutant))
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        self.shared.with(|world| world.say(|| format!("     {line}")));
    }

    /// The seams of this session, wrapped where a mutant bends them, for the time of one call.
    fn with_parts<T>(&mut self, work: impl FnOnce(&mut Parts<'_>) -> T) -> T {
        self.strikes();
        let cancelled = self.story.twist == Twist::PersonRollsBack;
        let seams = Seams {
            boot: Box::new(self.boot.clone()),
            state: Box::new(self.state.clone()),
            slots: Box::new(SimSlots(self.shared.clone())),
            gate: Box::new(SimGate(self.shared)),
            trial: Box::new(SimTrial { shared: self.shared.clone(), cancelled }),
            power: Box::new(SimPower(self.shared.clone())),
            observer: Box::new(Tracer(self.shared)),
            source: Box::new(SimSource::new(self.shared)),
            inflate: Box::new(Zstd),
        };
        let mut seams = match &self.bent {
            Some(bent) => bent.wrap(seams, self.shared, self.state.agent()),
            None => seams,
        };
        work(&mut Parts {
            boot: &mut *seams.boot,
            slots: &mut *seams.slots,
            state: &mut *seams.state,
            gate: &mut *seams.gate,
            trial: &mut *seams.trial,
            power: &mut *seams.power,
            observer: &mut *seams.observer,
            source: &mut *seams.source,
            erase: &mut SimErase(self.shared.clone()),
            inflate: &mut *seams.inflate,
            trust: &self.trust,
            workspace: &mut self.room.workspace,
            memory: &mut self.room.patches,
        })
    }

    /// A medium that rots, where the story says so.
    fn strikes(&self) {
        self.shared.with(|world| {
            if world.outside.twisted {
                return;
            }
            match self.story.twist {
                Twist::RecordIsLostInTrial
                    if self.group == Group::B && invariant::phase(world) == Some(PhaseName::Trial) =>
                {
                    world.outside.twisted = true;
                    world.outside.accepted.clear(); // who has lost the record cannot report what it said
                    world.watch.rotten = true;
                    crate::state::destroy(&mut world.disk, StateFile::Journal);
                    down(Down::Watchdog);
                }
                Twist::EnvironmentIsLost => {
                    world.outside.twisted = true;
                    world.watch.rotten = true;
                    world.spoil_env();
                }
                _ => odd_stories::strikes(world),
            }
        });
        odd_stories::meddles(self.shared);
    }
}

/// As the daemon's gate: expiry before the download, halts and news before both.
struct SimGate<'a>(&'a Shared);

impl Gate for SimGate<'_> {
    fn may_download(&mut self, deployment: &Deployment) -> Permission {
        let now = self.0.with(|world| {
            if world.outside.twist == Twist::ExpiresBeforeDownload {
                world.clock = CLOCK_AT_FIRST + 3650 * DAY_S;
            }
            world.unix_s()
        });
        match deployment.expires {
            Some(expires) if now.is_some_and(|now| now > expires) => Permission::Stop(
                OutcomeKind::Expired,
                "it could be begun until then".try_into().unwrap_or_default(),
            ),
            _ => self.heard_all(deployment),
        }
    }
    fn may_reboot(&mut self, deployment: &Deployment) -> Permission {
        self.0.with(|world| {
            if world.outside.twist == Twist::ExpiresBeforeReboot {
                world.clock = CLOCK_AT_FIRST + 3650 * DAY_S;
            }
        });
        let answer = match self.0.with(odd_stories::leave) {
            Permission::Go => self.heard_all(deployment),
            other => other,
        };
        if answer == Permission::Go {
            self.0.with(|world| world.watch.agreement.leave = Some(deployment.attempt));
        }
        answer
    }
}

impl SimGate<'_> {
    fn heard_all(&self, deployment: &Deployment) -> Permission {
        let (halted, news) = self.0.with(|world| {
            let outside = &world.outside;
            let news = outside.supersedes(deployment) || outside.has_news(invariant::phase(world));
            (outside.halts(deployment), news)
        });
        if halted {
            let why = "halted by the operator".try_into().unwrap_or_default();
            return Permission::Stop(OutcomeKind::Halted, why);
        }
        if news {
            return Permission::Wait("news that has just come to be read".try_into().unwrap_or_default());
        }
        Permission::Go
    }
}

/// Writes down what the driver says.
struct Tracer<'a>(&'a Shared);

impl Observer for Tracer<'_> {
    fn note(&mut self, note: Note<'_>) {
        self.0.with(|world| {
            world.say(|| match note {
                Note::Service { now, .. } => format!("     => {now:?}"),
                Note::Phase { phase, .. } => format!("     => {phase:?}"),
                Note::Settled { outcome, .. } => format!("     => {:?}: {}", outcome.kind, outcome.detail),
                Note::Fault { doing, fault } => format!("     {doing}: {fault}"),
                Note::Waiting { why } => format!("     waits for {why}"),
                Note::Route { class, base, bytes } => {
                    let from = base.map_or("the full route".into(), |base| format!("from {base:?}"));
                    format!("     {class}: {from}, {bytes} bytes")
                }
                Note::Drift { class, first, segments } => {
                    format!("     drift: {class}: {segments} segments from {first} on")
                }
                Note::Progress { done, total, .. } => format!("     {done} of {total} bytes"),
            });
        });
    }
}

/// Far more than a session with a few faults takes.
const TURNS_MAX: usize = 200;
/// More than the retries of any action.
const TURNS_WITH_AN_ILL_MAX: u32 = 40;
