//! The agent: owns the driver and the world, on a thread of its own, and blocks as it likes. All that others want of
//! it comes through its inbox; what cannot wait for the end of a download sets [`Shared::interrupt`].
//!
//! ```text
//!   broker ──► events ─┐                         ┌─► driver.turn ──► seams
//!   technician ────────┼─► inbox ─► agent (here) ┤
//!   timer ─────────────┘                         └─► status, reports, presence
//! ```
//! After each turn it looks again at what is desired, so that nothing depends on the order in which news came.

#[expect(clippy::indexing_slicing, reason = "an Origin is 0 or 1, and what it indexes has two places")]
mod desired;
mod gate;
mod observer;
mod once;
mod reports;
mod shared;
mod source;
mod technician;
mod world;

pub use desired::Origin;
pub use gate::{AgentGate, Interlock};
pub use observer::{AgentObserver, Line, Watcher};
pub use reports::presence;
pub use shared::{Shared, Urgency};
pub use source::{AgentSource, Origins};
pub use technician::{IN_TRIAL, Mark, Request, Wish};
pub use world::{Lent, Outside, World};

use crate::audit_log::AuditLog;
use crate::config::Config;
use crate::erase::Belongings;
use crate::health::Heartbeat;
use crate::inflate::Zstd;
use crate::store::FolderStore;
use crate::transport::{self, ControlLink};
use desired::Desires;
use mainstay_board_support::{Board, BoardPower, BoardSlots, SystemClock};
use mainstay_core::audit::Event;
use mainstay_core::boot::BootState;
use mainstay_core::fault;
use mainstay_core::limits::ENVELOPE_BYTES_MAX;
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::*;
use once::{ClockWatch, first_in_this_boot};
use reports::{Reporting, session};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use world::{Farewell, Living, Parting, Resting, workspace};

/// What comes into the agent's inbox.
pub enum Command {
    /// Something happened on the control connection.
    Link(transport::Event),
    /// A technician wants something.
    Technician(Request),
    /// The daemon is to end.
    Stop,
}

/// The agent.
pub struct Agent {
    config: Config,
    board: Board,
    driver: Driver,
    world: World,
    shared: Arc<Shared>,
    link: Option<ControlLink>,
    connected: bool,
    desires: Desires,
    /// How the oldest outcome is on its way to the broker.
    reporting: Reporting,
    tickets: u64,
    session: u64,
    /// A technician has done something after which the machine has to go down (and what): nothing is begun any more.
    leaving: Option<&'static str>,
    /// When the machine was asked to go down, and how long it is given. Until then news is read, and it is not asked
    /// again for each.
    asked: Option<(Instant, Duration)>,
    clock: ClockWatch,
}

/// What is opened before there is an agent: everything that can be wrong is found here.
pub struct Opened {
    /// The board.
    pub board: Board,
    /// Whom to believe.
    pub trust: TrustRoot,
    /// The group that was booted.
    pub running: mainstay_core::boot::Group,
}

impl Opened {
    /// Reads board, trust root and running group.
    pub fn open(config: &Config, state: &mut dyn StateStore) -> Result<Opened> {
        let board = Board::load(&config.board)?;
        let trust = load_trust(config, state)?;
        let running = board.running_group()?;
        Ok(Opened { board, trust, running })
    }
}

/// The envelope of the image's root, which is no longer than any other.
fn anchor_bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| crate::store::io_fault("read the trust root", path, &e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(ENVELOPE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > ENVELOPE_BYTES_MAX {
        let path = path.display();
        return Err(fault!(
            Full,
            "trust root {path}: expected at most {ENVELOPE_BYTES_MAX} bytes, found more"
        ));
    }
    Ok(bytes)
}

/// The trust root in force: the image's, or a later one that was rotated to on this gateway.
pub fn load_trust(config: &Config, state: &mut dyn StateStore) -> Result<TrustRoot> {
    let path = &config.trust;
    let bytes = anchor_bytes(path)?;
    let anchor =
        TrustRoot::anchor(&bytes).map_err(|f| f.within(format_args!("trust root {}", path.display())))?;
    let mut stored = vec![0; ENVELOPE_BYTES_MAX];
    // An older root is not taken instead by itself: it may believe keys that have been revoked since.
    let repair = "if the medium is to blame, remove both copies: the image's root counts then, and walks on from there";
    let loaded = state.load(StateFile::Trust, &mut stored);
    let loaded = loaded.map_err(|f| f.within(format_args!("trust root in the state folder ({repair})")))?;
    let Some(length) = loaded else { return Ok(anchor) };
    let stored = TrustRoot::anchor(stored.get(..length).unwrap_or_default())
        .map_err(|f| f.within(format_args!("trust root in the state folder")))?;
    // An image that brings a newer root than the gateway has rotated to is right: it was approved as a whole.
    Ok(if stored.fleet == anchor.fleet && stored.version > anchor.version { stored } else { anchor })
}

impl Agent {
    /// Puts the agent together and recovers what a power cut left.
    pub fn start(
        config: Config,
        opened: Opened,
        mut store: FolderStore,
        outside: Outside,
        shared: Arc<Shared>,
    ) -> Result<Agent> {
        let Outside { trial, feeder, interlock, broker } = outside;
        let Opened { board, trust, running } = opened;
        let settings = Settings {
            running,
            late_fallback: config.update.late_fallback,
            image_floor: config.image_floor,
            reuse: Reuse { target: true, running: config.update.reuse },
        };
        let floor = crate::run::journal(&mut store).map_or(0, |record| record.time_floor);
        let origins = Origins::of(&config, broker, floor)?;
        let clock = Box::new(SystemClock);
        let audit = AuditLog::open(&config.state, &config.device, &running);
        let heart = Arc::new(feeder.heartbeat("agent", SILENT_MAX));
        let mut world = World {
            boot: Box::new(board.open_boot_control()?),
            slots: Living { slots: BoardSlots::new(&board, running), heart: heart.clone() },
            store,
            gate: AgentGate::new(config.update.clone(), clock, interlock, shared.clone())
                .with_meter(origins.meter.clone()),
            trial: Resting { trial, heart: heart.clone(), shared: shared.clone() },
            power: Farewell { power: BoardPower::new(&board), shared: shared.clone() },
            observer: AgentObserver::new(shared.clone(), audit, heart.clone(), &trust.fleet, &config.device),
            erase: Parting {
                belongings: Belongings::of(&config),
                heart: heart.clone(),
                shared: shared.clone(),
            },
            source: AgentSource::new(origins, shared.clone(), heart),
            inflate: Zstd::default(),
            workspace: workspace(),
            memory: Lent::default(),
            trust,
        };
        let driver = Driver::start(settings, &mut world.parts())?;
        let mut agent = Agent {
            config,
            board,
            driver,
            world,
            shared,
            link: None,
            connected: false,
            desires: Desires::default(),
            reporting: Reporting::Not,
            tickets: 0,
            session: session(),
            leaving: None,
            asked: None,
            clock: ClockWatch::new(SystemClock.now().unix_s),
        };
        if agent.driver.record_was_lost() {
            let floor = agent.driver.record().floor;
            agent.audit(Event::StateLost, &[("floor", &floor)]);
        }
        agent.desires.remember_what_was_cancelled(agent.driver.record());
        agent.record_a_watchdog_reset();
        agent.drop_what_is_not_believed(); // an image may bring a newer trust root
        agent.reconsider();
        agent.show();
        Ok(agent)
    }

    /// The control connection, once it is there.
    pub fn attach(&mut self, link: ControlLink) {
        self.world.observer.link = Some(link.clone());
        self.shared.speak_through(link.clone(), self.state_topic(), self.session);
        self.link = Some(link);
    }

    /// Different at every start of the agent.
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// Where presence and the last will go.
    pub fn state_topic(&self) -> String {
        self.topic(mainstay_core::topic::Leaf::State).to_string()
    }

    /// Takes one piece of news, for an agent that has no inbox.
    pub fn take(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Link(event) => self.on_link(event),
            Command::Technician(request) => self.on_technician(request),
        }
    }

    /// No deployment is between its offer and its outcome.
    pub fn nothing_is_under_way(&self) -> bool {
        matches!(self.driver.record().phase, Phase::Idle | Phase::Settled(..))
    }

    /// There is something to do.
    pub fn has_work(&self) -> bool {
        self.driver.action() != Action::Rest
    }

    /// What it waits for, or what went wrong last.
    pub fn waits_for(&self) -> String {
        let status = self.shared.status();
        status.waiting.or(status.fault).unwrap_or_default()
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Receiver<Command>) {
        while !self.shared.is_stopping() {
            let rest = match self.time_to_go_down() {
                Some(_) => Rest::Rebooting,
                None if self.leaving.is_some() => {
                    self.leave();
                    Rest::Rebooting
                }
                None => self.turn(),
            };
            let begun = rest == Rest::Idle && self.has_work();
            let pause = match rest {
                // News came while it turned, or something was begun after it.
                _ if begun || self.shared.has_news(Urgency::BeforeReboot) => Duration::ZERO,
                Rest::Idle if self.something_is_not_kept() => self.config.update.retry,
                Rest::Idle => IDLE,
                Rest::Paused => self.config.update.retry,
                Rest::Rebooting => self.time_to_go_down().unwrap_or(REBOOT_AGAIN),
            };
            self.heart().rest();
            let first = inbox.recv_timeout(pause);
            self.heart().beat();
            let first = match first {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.shared.news_is_being_read();
            for command in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                self.take(command);
            }
            self.record_that_the_clock_was_set();
            self.reconsider();
            self.shared.tell();
        }
    }

    /// The medium takes no record: what was heard or reported is to be put on record when it does.
    fn something_is_not_kept(&self) -> bool {
        self.desires.waits_for_the_medium() || matches!(self.reporting, Reporting::Unnoted(..))
    }

    /// How much longer the machine is given to go down, where it has been asked to.
    fn time_to_go_down(&self) -> Option<Duration> {
        let asked = self.asked.filter(|_| self.leaving.is_some() || self.driver.action() == Action::Reboot);
        asked.and_then(|(at, given)| given.checked_sub(at.elapsed()))
    }

    /// It has been asked to. `failed`: it says that it could not; it may go down all the same.
    fn is_asked_to_go_down(&mut self, failed: bool) {
        self.asked = Some((Instant::now(), if failed { self.config.update.retry } else { REBOOT_AGAIN }));
    }

    /// One turn of the driver, and what follows from it.
    pub fn turn(&mut self) -> Rest {
        let before = (self.driver.record().phase.clone(), self.driver.record().floor);
        let service = self.driver.record().service;
        self.heart().beat();
        let rest = self.driver.turn(&mut self.world.parts()).unwrap_or_else(|fault| {
            // The state could not be made durable: nothing was done that it does not say, and it is tried again.
            let fault = format!("state: {fault}");
            let news =
                self.shared.change(|status| status.fault.replace(fault.clone()) != Some(fault.clone()));
            if news {
                log::error!("{fault}");
            }
            Rest::Paused
        });
        self.world.observer.record_what_was_ended_by_hand(); // a trial that no deployment asked for rolls nothing back
        if self.driver.action() == Action::Reboot {
            self.is_asked_to_go_down(rest != Rest::Rebooting);
        }
        self.show();
        if self.driver.record().floor > before.1 {
            let floor = self.driver.record().floor;
            self.audit(Event::FloorRaised, &[("floor", &floor)]);
        }
        if self.driver.record().phase != before.0 {
            self.after_phase();
        }
        if self.driver.record().service != service {
            self.after_service();
        }
        self.reconsider();
        self.report();
        self.release_watcher(rest);
        self.shared.tell();
        rest
    }

    /// A technician who watches an install is told when there is nothing more to see: it waits for a person, or goes
    /// down.
    fn release_watcher(&mut self, rest: Rest) {
        if self.shared.has_news(Urgency::BeforeReboot) {
            return; // it only pauses to hear that
        }
        if matches!(self.driver.action(), Action::Erase | Action::DestroyKey) && rest == Rest::Paused {
            let why = self.shared.status().fault.unwrap_or_default();
            let said = format!("not done yet, and on record: it is tried again, and at each start: {why}");
            return self.world.observer.tell(Line::Failed(said));
        }
        let Some(version) = self.driver.record().phase.deployment().map(|d| d.version.clone()) else {
            return;
        };
        match (&self.driver.record().phase, rest) {
            (Phase::Installed(_), Rest::Paused) => {
                let why = self.shared.status().waiting.unwrap_or_else(|| "leave to reboot".into());
                self.world
                    .observer
                    .tell(Line::Done(format!("{version} is written and proven; it waits for {why}")));
            }
            (Phase::Trial(_), Rest::Rebooting) => {
                self.world
                    .observer
                    .tell(Line::Done(format!("{version} is written and proven; rebooting into its trial")));
            }
            _ => {}
        }
    }

    /// The phase has changed: others are told, and what the old one held is let go.
    fn after_phase(&mut self) {
        let phase = self.driver.record().phase.clone();
        if !matches!(phase, Phase::Waiting(_) | Phase::Downloading(_)) {
            // What is written keeps its lock until it is settled: else another agent could write it before it is booted.
            let over = matches!(phase, Phase::Idle | Phase::Settled(..));
            self.world.let_go(over);
        }
        if let Phase::Settled(deployment, outcome) = &phase {
            let line = format!("{} {}", deployment.version, crate::status::outcome_text(outcome));
            let good = outcome.kind == OutcomeKind::Committed;
            self.world.observer.tell(if good { Line::Done(line) } else { Line::Failed(line) });
            if self.desires.other_than(&deployment.manifest).is_none() {
                self.desires.settled(deployment, outcome);
            }
        }
        self.shared.tell();
    }

    fn on_link(&mut self, event: transport::Event) {
        use transport::Event::*;
        match event {
            Connected { .. } => {
                self.connected = true;
                self.report_again();
            }
            Disconnected { .. } => self.connected = false,
            Message { topic, payload, .. } => self.on_message(&topic, &payload),
            Acknowledged { ticket } => self.acknowledged(ticket),
            Refused { ticket, what } => self.refused_by_broker(ticket, &what),
        }
    }

    fn topic(&self, leaf: mainstay_core::topic::Leaf) -> mainstay_core::topic::Topic {
        mainstay_core::topic::device(&self.world.trust.fleet, &self.config.device, leaf)
    }

    /// The board came up because its watchdog bit: in a trial that hung, or at any other time. Said once in each boot.
    fn record_a_watchdog_reset(&mut self) {
        let Some(status) = self.board.watchdog_boot_status().filter(|status| status.watchdog_reset()) else {
            return;
        };
        if first_in_this_boot(&self.config.run, "watchdog-bit") {
            log::warn!("the watchdog reset the machine before this boot (status {:#x})", status.0);
            self.audit(Event::WatchdogBit, &[("status", &format_args!("{:#x}", status.0))]);
        }
    }

    /// The records before this one have no time, or a wrong one.
    fn record_that_the_clock_was_set(&mut self) {
        if self.clock.has_been_set(SystemClock.now().unix_s) {
            self.audit(Event::ClockSet, &[]);
        }
    }

    /// Records what the driver does not note.
    fn audit(&mut self, event: Event, values: &[(&str, &dyn std::fmt::Display)]) {
        self.world.observer.audit.record(event, values);
    }

    fn heart(&self) -> &Heartbeat {
        &self.world.observer.heart
    }

    /// Brings the status up to date with record and environment.
    fn show(&mut self) {
        let boot: std::result::Result<BootState, _> =
            self.world.boot.state().map_err(|fault| fault.to_string());
        let record = self.driver.record().clone();
        let lost = self.driver.record_was_lost();
        let trust = (self.world.trust.fleet.to_string(), self.world.trust.version);
        let audit = self.world.observer.audit.head();
        self.shared.change(|status| {
            status.audit = audit;
            (status.boot, status.record, status.record_lost, status.trust) = (boot, record, lost, trust);
        });
    }
}

/// An agent at work that shows no sign of life for so long hangs. It beats at each access to a slot and each object.
const SILENT_MAX: Duration = Duration::from_secs(600);
/// How often an idle agent looks around by itself.
const IDLE: Duration = Duration::from_secs(60);
/// How long a machine that was asked to reboot is given before it is asked again: longer than the board gives an orderly
/// way down, or a supervisor would be asked twice for one reset, and reset what has come up by then.
const REBOOT_AGAIN: Duration = Duration::from_secs(240);
const _: () = assert!(REBOOT_AGAIN.as_secs() > mainstay_board_support::power::GRACE.as_secs());

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_trust_root_longer_than_any_envelope_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.root");
        for (length, taken) in [(ENVELOPE_BYTES_MAX, true), (ENVELOPE_BYTES_MAX + 1, false)] {
            std::fs::write(&path, vec![0; length]).unwrap();
            let found = anchor_bytes(&path);
            let words = format!("trust.root: expected at most {ENVELOPE_BYTES_MAX} bytes, found more");
            assert!(found.as_ref().is_ok_and(|b| b.len() == length) == taken, "{length}");
            assert!(found.err().is_none_or(|fault| fault.what.contains(&words)));
        }
    }
    use crate::status::{LinkStatus, Status};
    use mainstay_core::audit::Head;
    use mainstay_core::boot::Group;

    /// Of a gateway that nothing has happened to.
    pub fn shared() -> Arc<Shared> {
        let status = Status {
            device: "gw".into(),
            trust: ("plant".into(), 1),
            compatible: "acme".into(),
            running: Group::A,
            record: Record::factory(0),
            record_lost: false,
            boot: Err("not looked at".into()),
            link: LinkStatus::None,
            progress: None,
            desired: None,
            waiting: None,
            fault: None,
            daemon: true,
            audit: Head::genesis("gw"),
        };
        let trust = TrustRoot {
            fleet: "plant".try_into().unwrap(),
            version: 1,
            keys: heapless::Vec::new(),
            roles: Default::default(),
        };
        Shared::new(status, trust)
    }
}
