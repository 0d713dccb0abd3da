//! `mainstay run`: the daemon. Opens everything, recovers, and then only passes things on: the agent decides.
//!
//! ```text
//! main      waits for SIGTERM or SIGINT
//! agent     the driver and the world; blocks as it likes
//! events    from the control connection to the agent's inbox
//! socket    commands of this binary; a thread more for each of at most four
//! feeder    the watchdog, while the agent shows that it lives
//! mqtt-…    the connections; tunnel tasks on smol's executor
//! ```

use crate::agent::{Agent, Command, Opened, Request, Shared, Wish, World, presence};
use crate::config::{Broker as BrokerSection, Config};
use crate::health::{Feeder, HealthTrial};
use crate::status::{LinkStatus, Status};
use crate::store::FolderStore;
use crate::transport::{Broker, BrokerConfig, ControlLink, Event, Events};
use mainstay_board_support::Board;
use mainstay_core::audit::Head;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::report::{Availability, Presence};
use mainstay_core::seam::{StateFile, StateStore};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::Record;
use nix::sys::signal::{SigSet, Signal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

/// What waits for the agent: news of the link and a few commands. Who finds it full waits.
const INBOX: usize = 16;
/// The agent's stack: manifests and records lie on it. Address space; what is not touched costs nothing.
const AGENT_STACK_BYTES: usize = 1024 * 1024;
/// The stacks of the threads that only pass things on.
const SMALL_STACK_BYTES: usize = 128 * 1024;

/// Everything that there is before the agent.
pub struct Base {
    /// The configuration.
    pub config: Config,
    /// The state folder, locked.
    pub store: FolderStore,
    /// Board, trust root, running group.
    pub opened: Opened,
    /// What stood in the journal; a factory's where it could not be read, which the driver will say.
    record: Record,
}

impl Base {
    /// Opens it all; the first thing that is wrong is the error.
    pub fn open(path: &Path) -> Result<Base, Fault> {
        let config = Config::load(path)?;
        let mut store = FolderStore::open(&config.state)?;
        let opened = Opened::open(&config, &mut store)?;
        let record = journal(&mut store).unwrap_or_else(|_| Record::factory(config.image_floor));
        Ok(Base { config, store, opened, record })
    }

    /// What `status` shows before the agent has looked.
    pub fn status(&self, daemon: bool) -> Status {
        let Opened { board, trust, running } = &self.opened;
        Status {
            device: self.config.device.clone(),
            trust: (trust.fleet.to_string(), trust.version),
            compatible: board.compatible.to_string(),
            running: *running,
            record: self.record.clone(),
            record_lost: false,
            boot: boot_state(board),
            link: match self.config.broker {
                Some(_) if daemon => LinkStatus::Down("not connected yet".into()),
                _ => LinkStatus::None,
            },
            progress: None,
            waiting: None,
            fault: None,
            daemon,
            audit: Head::genesis(&self.config.device),
        }
    }

    /// Puts the agent together, with its trial and the watchdog's feeder.
    pub fn agent(self, broker: Option<Broker>, shared: Arc<Shared>) -> Result<Agent, Fault> {
        let Base { config, store, opened, .. } = self;
        let board = &opened.board;
        let feeder = Feeder::for_board(board);
        let trial = HealthTrial::new(
            board,
            config.checks.clone(),
            &config.run,
            feeder.clone(),
            shared.connected.clone(),
        );
        shared.trial_runs_under(trial.interrupt());
        let interlock = board.interlock()?;
        let interlock =
            interlock.map(|mut line| Box::new(move || line.may_reboot()) as crate::agent::Interlock);
        Agent::start(config, opened, store, World::outside(trial, feeder, interlock, broker), shared)
    }
}

/// The record as it stands on the medium.
pub fn journal(store: &mut dyn StateStore) -> Result<Record, Fault> {
    let mut bytes = [0; RECORD_BYTES_MAX];
    match store.load(StateFile::Journal, &mut bytes)? {
        Some(length) => Record::decode(bytes.get(..length).unwrap_or_default()),
        None => Ok(Record::factory(0)),
    }
}

/// What the bootloader knows, or why it cannot be read.
pub fn boot_state(board: &Board) -> Result<mainstay_core::boot::BootState, String> {
    use mainstay_core::seam::BootControl as _;
    board.open_boot_control().and_then(|mut boot| boot.state()).map_err(|fault| fault.to_string())
}

/// The link as it is dialled: with the fleet of the trust root, and a time that has certainly passed.
pub fn link_config(section: &BrokerSection, trust: &TrustRoot, record: &Record) -> BrokerConfig {
    BrokerConfig { fleet: trust.fleet.to_string(), time_floor_s: record.time_floor, ..section.link.clone() }
}

/// Runs until a signal says otherwise.
pub fn run(path: &Path) -> Result<(), Fault> {
    // Blocked before there are threads, so that all of them inherit it and the signals come to `wait` alone.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(|e| fault!(Io, "block signals: {e}"))?;

    let base = Base::open(path)?;
    let shared = Shared::new(base.status(true));
    let (inbox, commands) = sync_channel(INBOX);
    let socket = base.config.control_socket();
    let broker = match &base.config.broker {
        Some(section) => Some(Broker::new(link_config(section, &base.opened.trust, &base.record))?),
        None => None,
    };
    let recover = recovery_button(&base.opened.board);
    let mut agent = base.agent(broker.clone(), shared.clone())?;
    if let Some(broker) = broker {
        let events = connect(&broker, &mut agent, &shared)?;
        pass_on(events, inbox.clone(), shared.clone())?;
    }
    crate::socket::serve(&socket, inbox.clone(), shared.clone())?;
    if recover {
        log::warn!("recovery button held at start: going back");
        let (reply, _) = channel();
        let _ = inbox.send(Command::Technician(Request { what: Wish::RollBack, reply }));
    }
    let running = agent.thread(commands)?;
    crate::notify::ready();
    let signal = signals.wait().map_err(|e| fault!(Io, "wait for signals: {e}"))?;
    log::info!("{signal}: going down");
    shared.interrupt.store(true, Ordering::Release);
    let _ = inbox.send(Command::Stop);
    let _ = running.join();
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

impl Agent {
    /// Runs the agent on a thread of its own.
    fn thread(self, commands: Receiver<Command>) -> Result<std::thread::JoinHandle<()>, Fault> {
        let thread = std::thread::Builder::new().name("agent".into()).stack_size(AGENT_STACK_BYTES);
        thread.spawn(move || self.run(&commands)).map_err(|e| fault!(Io, "start the agent's thread: {e}"))
    }
}

fn connect(broker: &Broker, agent: &mut Agent, shared: &Arc<Shared>) -> Result<Events, Fault> {
    let session = agent.session();
    let will = body(&Presence {
        availability: Availability::Offline,
        ..presence(&shared.status(), Availability::Offline, session)
    });
    let status = shared.clone();
    let birth = move || body(&presence(&status.status(), Availability::Online, session));
    let (link, events) =
        ControlLink::start(broker, agent.subscriptions(), (agent.state_topic(), will), birth)?;
    agent.attach(link);
    Ok(events)
}

fn body(presence: &Presence) -> Vec<u8> {
    let mut bytes = [0; 1024]; // about 600 when every text is full
    mainstay_core::wire::encode_body_into(presence, &mut bytes).map(<[u8]>::to_vec).unwrap_or_default()
}

/// Events of the link go to the inbox; one that changes what is desired also interrupts a download.
fn pass_on(mut events: Events, inbox: SyncSender<Command>, shared: Arc<Shared>) -> Result<(), Fault> {
    let pass = move || {
        // The broker gives its retained messages again at each connection: only what differs is news.
        let mut seen: Vec<(String, mainstay_core::digest::Digest)> = Vec::new();
        loop {
            let event = smol::block_on(events.next());
            shared.link_is(&event); // at once: the agent may be busy with a download for hours
            match &event {
                // Here and not in the agent: it may be in the middle of a trial whose checks ask.
                Event::Connected { .. } => shared.connected.store(true, Ordering::Release),
                Event::Disconnected { .. } => shared.connected.store(false, Ordering::Release),
                _ => {}
            }
            if let Event::Message { topic, payload, .. } = &event {
                let digest = mainstay_core::digest::Digest::of(payload);
                let known = seen.iter().any(|(t, d)| t == topic && *d == digest);
                if !known {
                    seen.retain(|(t, _)| t != topic);
                    seen.truncate(INBOX - 1);
                    seen.push((topic.clone(), digest));
                    shared.interrupt.store(true, Ordering::Release);
                }
            }
            if inbox.send(Command::Link(event)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("events".into()).stack_size(SMALL_STACK_BYTES);
    thread.spawn(pass).map_err(|e| fault!(Io, "start the thread of the link's events: {e}"))?;
    Ok(())
}

/// Is the recovery button held? A button that cannot be read is not held.
fn recovery_button(board: &Board) -> bool {
    let held = board.recovery_button().and_then(|button| match button {
        Some(mut button) => button.held(&mut mainstay_board_support::gpio::Sleep),
        None => Ok(false),
    });
    held.unwrap_or_else(|fault| {
        log::warn!("recovery button: {fault}");
        false
    })
}
