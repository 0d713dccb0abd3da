//! The agent: owns the driver and the world, on a thread of its own, and blocks as it likes. All that others want of
//! it comes through its inbox; what cannot wait for the end of a download sets [`Shared::interrupt`].
//!
//! ```text
//!   broker ──► events ─┐                         ┌─► driver.turn ──► seams
//!   technician ────────┼─► inbox ─► agent (here) ┤
//!   timer ─────────────┘                         └─► status, reports, presence
//! ```
//! After each turn it looks again at what is desired, so that nothing depends on the order in which news came.

mod desired;
mod gate;
mod observer;
mod source;
mod technician;

pub use desired::Origin;
pub use gate::{AgentGate, Interlock};
pub use observer::{AgentObserver, Line};
pub use source::AgentSource;
pub use technician::{Mark, Request, Wish};

use crate::audit_log::AuditLog;
use crate::config::Config;
use crate::health::{Feeder, HealthTrial, Heartbeat, Interrupt};
use crate::inflate::Zstd;
use crate::status::{LinkStatus, Status};
use crate::store::FolderStore;
use crate::transport::{self, Broker, ControlLink};
use desired::Desires;
use mainstay_board_support::{Board, BoardPower, BoardSlots, SystemClock};
use mainstay_core::audit::Event;
use mainstay_core::boot::BootState;
use mainstay_core::fault;
use mainstay_core::limits::{DETAIL_BYTES_MAX, ENVELOPE_BYTES_MAX};
use mainstay_core::report::{Availability, GroupReport, Presence};
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What comes into the agent's inbox.
pub enum Command {
    /// Something happened on the control connection.
    Link(transport::Event),
    /// A technician wants something.
    Technician(Request),
    /// The daemon is to end.
    Stop,
}

/// What the agent shares with the threads around it.
pub struct Shared {
    status: Mutex<Status>,
    /// Ends a download's waiting: there is news in the inbox that cannot wait.
    pub interrupt: Arc<AtomicBool>,
    /// Does the control connection stand? A health check may ask.
    pub connected: Arc<AtomicBool>,
    /// Ends a trial, in which the agent has no eye for its inbox.
    trial: Mutex<Option<Interrupt>>,
}

impl Shared {
    /// Begins with `status`.
    pub fn new(status: Status) -> Arc<Self> {
        Arc::new(Shared {
            status: Mutex::new(status),
            interrupt: Arc::default(),
            connected: Arc::default(),
            trial: Mutex::new(None),
        })
    }

    /// How a trial is ended from outside.
    pub fn trial_runs_under(&self, interrupt: Interrupt) {
        *self.trial.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
    }

    /// Ends the trial that runs. `false`: none runs.
    pub fn end_trial(&self, why: &str) -> bool {
        let trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        trial.as_ref().is_some_and(|trial| trial.roll_back(why))
    }

    /// What `mainstay status` shows now.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// The way to the broker, as this event says that it is.
    pub fn link_is(&self, event: &transport::Event) {
        let link = match event {
            transport::Event::Connected { .. } => LinkStatus::Connected,
            transport::Event::Disconnected { cause } => LinkStatus::Down(cause.clone()),
            _ => return,
        };
        self.change(|status| status.link = link);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world, as this gateway has it.
pub struct World {
    boot: Box<dyn BootControl + Send>,
    slots: BoardSlots,
    store: FolderStore,
    /// When.
    pub gate: AgentGate,
    trial: Resting,
    power: BoardPower,
    /// Who wants to know.
    pub observer: AgentObserver,
    /// Where objects come from.
    pub source: AgentSource,
    inflate: Zstd,
    workspace: Box<[u8; WORKSPACE_BYTES]>,
    trust: TrustRoot,
}

/// What the world has that is made before the agent.
pub struct Outside {
    trial: HealthTrial,
    feeder: Feeder,
    interlock: Option<Interlock>,
    broker: Option<Broker>,
}

/// A trial may take a day, and has a heart of its own: the agent's rests meanwhile.
struct Resting {
    trial: HealthTrial,
    heart: Arc<Heartbeat>,
}

impl TrialRunner for Resting {
    fn run(&mut self, deployment: &Deployment) -> Result<Verdict> {
        self.heart.rest();
        let verdict = self.trial.run(deployment);
        self.heart.beat();
        verdict
    }
}

impl World {
    /// What is made before the agent.
    pub fn outside(
        trial: HealthTrial,
        feeder: Feeder,
        interlock: Option<Interlock>,
        broker: Option<Broker>,
    ) -> Outside {
        Outside { trial, feeder, interlock, broker }
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            boot: &mut *self.boot,
            slots: &mut self.slots,
            state: &mut self.store,
            gate: &mut self.gate,
            trial: &mut self.trial,
            power: &mut self.power,
            observer: &mut self.observer,
            source: &mut self.source,
            inflate: &mut self.inflate,
            trust: &self.trust,
            workspace: &mut self.workspace,
        }
    }
}

/// Zeroed pages that cost no memory until they are touched.
fn workspace() -> Box<[u8; WORKSPACE_BYTES]> {
    match vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into() {
        Ok(workspace) => workspace,
        Err(_) => unreachable!("a slice of WORKSPACE_BYTES is an array of WORKSPACE_BYTES"),
    }
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
    /// The ticket of the outcome that is on its way to the broker.
    reporting: Option<(u64, Report)>,
    tickets: u64,
    session: u64,
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

/// The trust root in force: the image's, or a later one that was rotated to on this gateway.
pub fn load_trust(config: &Config, state: &mut dyn StateStore) -> Result<TrustRoot> {
    let path = &config.trust;
    let bytes = std::fs::read(path).map_err(|e| crate::store::io_fault("read the trust root", path, &e))?;
    let anchor =
        TrustRoot::anchor(&bytes).map_err(|f| f.within(format_args!("trust root {}", path.display())))?;
    let mut stored = vec![0; ENVELOPE_BYTES_MAX];
    let Some(length) = state.load(StateFile::Trust, &mut stored)? else { return Ok(anchor) };
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
        store: FolderStore,
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
        let clock = Box::new(SystemClock);
        let audit = AuditLog::open(&config.state, &config.device, &running);
        let heart = Arc::new(feeder.heartbeat("agent", SILENT_MAX));
        let session = session();
        let mut world = World {
            boot: Box::new(board.open_boot_control()?),
            slots: BoardSlots::new(&board, running),
            store,
            gate: AgentGate::new(config.update.clone(), clock, interlock),
            trial: Resting { trial, heart: heart.clone() },
            power: BoardPower::new(&board),
            observer: AgentObserver::new(
                shared.clone(),
                audit,
                heart.clone(),
                &trust.fleet,
                &config.device,
                session,
            ),
            source: AgentSource::new(broker, shared.interrupt.clone(), heart),
            inflate: Zstd::default(),
            workspace: workspace(),
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
            reporting: None,
            tickets: 0,
            session,
        };
        if agent.driver.record_was_lost() {
            let floor = agent.driver.record().floor;
            agent.audit(Event::StateLost, &[("floor", &floor)]);
        }
        agent.show();
        Ok(agent)
    }

    /// The control connection, once it is there.
    pub fn attach(&mut self, link: ControlLink) {
        self.world.observer.link = Some(link.clone());
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

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let rest = self.turn();
            let pause = match rest {
                Rest::Idle => IDLE,
                Rest::Paused => self.config.update.retry,
                Rest::Rebooting => REBOOT_AGAIN,
            };
            self.heart().rest();
            let first = inbox.recv_timeout(pause);
            self.heart().beat();
            let first = match first {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.shared.interrupt.store(false, Ordering::Release);
            for command in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                if matches!(command, Command::Stop) {
                    return self.leave();
                }
                self.take(command);
            }
            self.reconsider();
        }
    }

    /// A daemon that ends on purpose says so; its last will would come only if the link broke.
    fn leave(&mut self) {
        self.publish_presence(Availability::Offline);
        if let Some(link) = &self.link {
            link.stop();
        }
    }

    /// One turn of the driver, and what follows from it.
    pub fn turn(&mut self) -> Rest {
        let before = self.driver.record().phase.name();
        self.heart().beat();
        let rest = self.driver.turn(&mut self.world.parts()).unwrap_or_else(|fault| {
            // The state could not be made durable: nothing was done that it does not say, and it is tried again.
            log::error!("{fault}");
            self.shared.change(|status| status.fault = Some(fault.to_string()));
            Rest::Paused
        });
        self.show();
        if self.driver.record().phase.name() != before {
            self.after_phase();
        }
        self.reconsider();
        self.report();
        self.release_watcher(rest);
        rest
    }

    /// A technician who watches an install is told when there is nothing more to see: it waits for a person, or goes
    /// down.
    fn release_watcher(&mut self, rest: Rest) {
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
        let over = !matches!(phase, Phase::Waiting(_) | Phase::Downloading(_));
        if over {
            self.world.source.close();
            self.world.slots.close();
            self.world.workspace = workspace(); // gives the touched pages back
        }
        if let Phase::Settled(deployment, outcome) = &phase {
            let line = format!("{} {}", deployment.version, crate::status::outcome_text(outcome));
            let good = outcome.kind == OutcomeKind::Committed;
            if good {
                let floor = self.driver.record().floor;
                self.audit(Event::FloorRaised, &[("floor", &floor)]);
            }
            self.world.observer.tell(if good { Line::Done(line) } else { Line::Failed(line) });
            self.desires.settled(deployment, outcome);
        }
        self.publish_presence(Availability::Online);
    }

    fn on_link(&mut self, event: transport::Event) {
        use transport::Event::*;
        match event {
            Connected { .. } => {
                self.connected = true;
                self.publish_presence(Availability::Online);
                self.reporting = None;
            }
            Disconnected { .. } => self.connected = false,
            Message { topic, payload, .. } => self.on_message(&topic, &payload),
            Acknowledged { ticket } => {
                if let Some((_, report)) = self.reporting.take_if(|(ours, _)| *ours == ticket)
                    && let Err(fault) = self.driver.acknowledge(&report, &mut self.world.parts())
                {
                    log::warn!("outcome was reported, but that could not be noted: {fault}");
                }
                self.report();
            }
            Refused { ticket, what } => {
                log::error!("broker refuses: {what}");
                self.shared.change(|status| status.fault = Some(format!("broker refuses: {what}")));
                // Tried again after the next connection: whoever mends the broker's access control must get the report.
                self.reporting.take_if(|(ours, _)| Some(*ours) == ticket);
            }
        }
    }

    /// Sends the oldest outcome that the operator does not have yet.
    fn report(&mut self) {
        let (Some(link), true, None) = (&self.link, self.connected, &self.reporting) else { return };
        let Some(report) = self.driver.record().unreported.first().cloned() else { return };
        let running = self.driver.running();
        let message = mainstay_core::report::Outcome {
            manifest: report.manifest,
            version: report.version.clone(),
            attempt: report.attempt,
            kind: report.outcome.kind,
            detail: report.outcome.detail.clone(),
            running,
            running_version: self
                .driver
                .record()
                .release(running)
                .map(|r| r.version.clone())
                .unwrap_or_default(),
        };
        let topic = self.topic(mainstay_core::topic::Leaf::Report);
        self.tickets += 1;
        let mut bytes = [0; 1024];
        let sent = mainstay_core::wire::encode_body_into(&message, &mut bytes)
            .and_then(|body| link.publish(&topic, body, false, Some(self.tickets)));
        match sent {
            Ok(()) => self.reporting = Some((self.tickets, report)),
            Err(fault) => log::warn!("report: {fault}"),
        }
    }

    fn publish_presence(&mut self, availability: Availability) {
        let Some(link) = &self.link else { return };
        let mut bytes = [0; 1024];
        let message = self.presence(availability);
        let sent = mainstay_core::wire::encode_body_into(&message, &mut bytes)
            .and_then(|body| link.publish(&self.topic(mainstay_core::topic::Leaf::State), body, true, None));
        if let Err(fault) = sent {
            log::warn!("presence: {fault}");
        }
    }

    fn presence(&self, availability: Availability) -> Presence {
        presence(&self.shared.status(), availability, self.session)
    }

    fn topic(&self, leaf: mainstay_core::topic::Leaf) -> mainstay_core::topic::Topic {
        mainstay_core::topic::device(&self.world.trust.fleet, &self.config.device, leaf)
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

/// What a gateway says of itself, from its status.
pub fn presence(status: &Status, availability: Availability, session: u64) -> Presence {
    let group = |group| GroupReport {
        version: status.record.release(group).map(|r| r.version.clone()).unwrap_or_default(),
        boot: status.boot.as_ref().ok().map(|boot| {
            let state = boot.group(group);
            (state.priority, state.tries_left, state.good.map_or(2, u8::from))
        }),
    };
    let detail = status.waiting.as_deref().or(status.fault.as_deref()).unwrap_or("");
    let [group_seq, device_seq] = status.record.desired_seq;
    Presence {
        availability,
        session,
        running: status.running,
        groups: mainstay_core::boot::Group::BOTH.map(group),
        phase: status.record.phase.name(),
        deployment: status.record.phase.deployment().map(|d| (d.manifest, d.version.clone())),
        floor: status.record.floor,
        trust: status.trust.1,
        desired_seq: group_seq.max(device_seq),
        detail: fault::clip::<DETAIL_BYTES_MAX>(detail),
        agent: fault::clip(env!("CARGO_PKG_VERSION")),
        audit: status.audit,
    }
}

/// Different at every start, and rising as long as the clock does.
fn session() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_millis() as u64)
}

/// An agent at work that shows no sign of life for so long hangs: reading 64 GiB back at 150 MiB/s is within it.
const SILENT_MAX: Duration = Duration::from_secs(600);
/// How often an idle agent looks around by itself.
const IDLE: Duration = Duration::from_secs(60);
/// How long a machine that was asked to reboot is given before it is asked again.
const REBOOT_AGAIN: Duration = Duration::from_secs(60);
