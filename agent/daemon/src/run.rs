//! `mainstay run`: the daemon. Opens everything, recovers, and then only passes things on: the agent decides.
//!
//! ```text
//! main      waits for SIGTERM or SIGINT
//! agent     the driver and the world; blocks as it likes
//! events    from the control connection to the agent's inbox
//! socket    commands of this binary; a thread more for each of at most four
//! feeder    the watchdog, while the agent shows that it lives
//! led       the status LED, where the board has one
//! mqtt-…    the connections; tunnel tasks on smol's executor
//! ```

use crate::agent::{Agent, Command, Opened, Request, Shared, Urgency, Watcher, Wish, World, presence};
use crate::config::{Broker as BrokerSection, Config};
use crate::health::{Feeder, HealthTrial};
use crate::sandbox;
use crate::status::{LinkStatus, Status};
use crate::store::{FolderStore, io_fault, write_private};
use crate::transport::{Broker, BrokerConfig, ControlLink, Event, Events};
use mainstay_board_support::gpio::Sign;
use mainstay_board_support::{Board, SystemClock};
use mainstay_core::audit::Head;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::report::{Availability, Presence};
use mainstay_core::seam::{Clock, StateFile, StateStore};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::Record;
use nix::sys::signal::{SigSet, Signal};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// What waits for the agent: news of the link and a few commands. Who finds it full waits.
const INBOX: usize = 16;
/// The agent's stack: manifests and records lie on it. Address space; what is not touched costs nothing.
const AGENT_STACK_BYTES: usize = 1024 * 1024;
/// The events' stack: a status, a trust root and a desired state lie on it, and a signature is proven.
const EVENTS_STACK_BYTES: usize = 256 * 1024;
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
            link: match self.broker() {
                Some(_) if daemon => LinkStatus::Down("not connected yet".into()),
                _ => LinkStatus::None,
            },
            progress: None,
            desired: None,
            waiting: None,
            fault: None,
            daemon,
            audit: Head::genesis(&self.config.device),
        }
    }

    /// How to reach the broker: no way any more, for a gateway that is decommissioned or on its way there.
    fn broker(&self) -> Option<&BrokerSection> {
        self.config.broker.as_ref().filter(|_| self.record.service.out_since().is_none())
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
        let interlock = interlock(board);
        Agent::start(config, opened, store, World::outside(trial, feeder, interlock, broker), shared)
    }
}

/// The interlock is opened when it is first asked: a line that is not there holds every reboot, and stops no trial.
fn interlock(board: &Board) -> Option<crate::agent::Interlock> {
    board.gpio.interlock.as_ref()?;
    let (board, mut line) = (board.clone(), None);
    Some(Box::new(move || {
        if line.is_none() {
            line = board.interlock()?;
        }
        line.as_mut().map_or(Ok(true), |line| line.may_reboot())
    }))
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
    crate::guard::before_the_sandbox();
    fence(&base);
    let shared = Shared::new(base.status(true), base.opened.trust.clone());
    let (inbox, commands) = sync_channel(INBOX);
    let socket = base.config.control_socket();
    let broker = match base.broker() {
        Some(section) => Some(Broker::new(link_config(section, &base.opened.trust, &base.record))?),
        None => None,
    };
    let recover = recovery_button(&base.opened.board, &base.config.state);
    led(&base.opened.board, shared.clone());
    let topics = base.config.broker.as_ref().map(|b| Topics::new(&base.config.device, &b.group));
    let mut agent = base.agent(broker.clone(), shared.clone())?;
    if recover {
        go_back_for_the_button(&mut agent);
    }
    if let (Some(broker), Some(topics)) = (broker, topics) {
        let events = connect(&broker, &mut agent, &shared)?;
        pass_on(events, inbox.clone(), shared.clone(), topics)?;
    }
    crate::socket::serve(&socket, inbox.clone(), shared.clone())?;
    let running = agent.thread(commands)?;
    crate::notify::ready();
    let signal = signals.wait().map_err(|e| fault!(Io, "wait for signals: {e}"))?;
    log::info!("{signal}: going down");
    shared.stop(&inbox);
    let ended = wait_for(&running, &shared);
    shared.close();
    let _ = std::fs::remove_file(&socket);
    match ended && running.join().is_err() {
        true => Err(fault!(Io, "the agent's thread has panicked; the log says where")),
        false => Ok(()),
    }
}

/// Gives up what the daemon does not need, before there is a second thread.
fn fence(base: &Base) {
    if !base.config.sandbox.enabled {
        return log::warn!("sandbox: off, as the configuration says");
    }
    let fences = sandbox::enter(&base.config, &base.opened.board, base.opened.running);
    let line = |standing: bool| {
        let of = fences.iter().filter(|fence| fence.stands.is_ok() == standing).map(ToString::to_string);
        of.collect::<Vec<_>>().join("; ")
    };
    log::info!("sandbox: {}", line(true));
    if fences.iter().any(|fence| fence.stands.is_err()) {
        log::warn!("sandbox: not to be had here: {}", line(false));
    }
}

/// Gives the agent a moment to end. It may go down at any point, as in a power cut, so nobody waits for a trial, nor for
/// a medium that hangs: the next start goes on from the record. `true`: it has ended.
fn wait_for(running: &std::thread::JoinHandle<()>, shared: &Shared) -> bool {
    let begun = Instant::now();
    while !running.is_finished() && !shared.in_trial() && begun.elapsed() < END_WAIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !running.is_finished() {
        let phase = crate::status::phase_name(shared.status().record.phase.name());
        log::warn!("going down in the middle of phase {phase}: it goes on at the next start");
    }
    running.is_finished()
}

/// How long the agent is given to end: less than the 90 s after which systemd kills (DefaultTimeoutStopSec).
const END_WAIT: Duration = Duration::from_secs(10);

impl Agent {
    /// Runs the agent on a thread of its own.
    fn thread(self, commands: Receiver<Command>) -> Result<std::thread::JoinHandle<()>, Fault> {
        let thread = std::thread::Builder::new().name("agent".into()).stack_size(AGENT_STACK_BYTES);
        let run = move || {
            let _wake = WakeMain;
            self.run(&commands);
        };
        thread.spawn(run).map_err(|e| fault!(Io, "start the agent's thread: {e}"))
    }
}

/// A daemon whose agent is gone, as after a panic, is of no use: it ends, and is started anew.
struct WakeMain;

impl Drop for WakeMain {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTERM);
    }
}

fn connect(broker: &Broker, agent: &mut Agent, shared: &Arc<Shared>) -> Result<Events, Fault> {
    let session = agent.session();
    let will = body(&presence(&shared.status(), Availability::Offline, session));
    let status = shared.clone();
    let birth = move || body(&status.birth(session));
    let (link, events) =
        ControlLink::start(broker, agent.subscriptions(), (agent.state_topic(), will), birth)?;
    agent.attach(link);
    Ok(events)
}

fn body(presence: &Presence) -> Vec<u8> {
    let mut bytes = [0; 1024]; // about 600 when every text is full
    mainstay_core::wire::encode_body_into(presence, &mut bytes).map(<[u8]>::to_vec).unwrap_or_default()
}

/// The topics that carry what counts before it is read to the end.
struct Topics {
    device: String,
    group: String,
}

impl Topics {
    fn new(device: &str, group: &str) -> Topics {
        Topics { device: device.into(), group: group.into() }
    }

    /// How soon the agent has to see this message. What nobody with the right to do so has signed, and what is old,
    /// never cuts a download short: it waits like all else.
    fn urgency(&self, topic: &str, payload: &[u8], shared: &Shared) -> Option<Urgency> {
        use mainstay_core::topic::{Leaf, device, group_desired, trust};
        let (root, status) = (shared.trust(), shared.status());
        let desired = |group: &str, seq| DesiredState::open(&root, payload, group, seq, 0).ok();
        let [group_seq, device_seq] = status.record.desired_seq;
        let desired = if topic == group_desired(&root.fleet, &self.group).as_str() {
            desired(&self.group, group_seq)?
        } else if topic == device(&root.fleet, &self.device, Leaf::Desired).as_str() {
            desired(&format!("d/{}", self.device), device_seq)?
        } else if topic == trust(&root.fleet, root.version.saturating_add(1)).as_str() {
            return root.rotate(payload).is_ok().then_some(Urgency::Soon);
        } else {
            return None;
        };
        // The same bundle, on other terms: its download goes on.
        let same = status.record.phase.deployment().is_some_and(|d| d.manifest == desired.manifest);
        let goes_on = same && desired.action == DesiredAction::Run;
        Some(if goes_on { Urgency::BeforeReboot } else { Urgency::Soon })
    }
}

/// Events of the link go to the inbox; one that changes what is desired also cuts a download short.
fn pass_on(
    mut events: Events,
    inbox: SyncSender<Command>,
    shared: Arc<Shared>,
    topics: Topics,
) -> Result<(), Fault> {
    let pass = move || {
        // The broker gives its retained messages again at each connection: only what differs is news.
        let mut seen: Vec<(String, mainstay_core::digest::Digest)> = Vec::new();
        loop {
            let event = smol::block_on(events.next());
            if shared.link_is(&event) {
                continue;
            }
            let mut urgency = None;
            if let Event::Message { topic, payload, .. } = &event {
                let digest = mainstay_core::digest::Digest::of(payload);
                if !seen.iter().any(|(t, d)| t == topic && *d == digest) {
                    seen.retain(|(t, _)| t != topic);
                    seen.truncate(INBOX - 1);
                    seen.push((topic.clone(), digest));
                    urgency = topics.urgency(topic, payload, &shared);
                }
            }
            // In a trial the inbox may stay full for long; whether the link stands is asked by health checks all the same.
            let full = || {
                shared.look_at_the_link();
                std::thread::sleep(FULL_LOOK);
            };
            shared.bring_patiently(&inbox, Command::Link(event), urgency, full);
        }
    };
    let thread = std::thread::Builder::new().name("events".into()).stack_size(EVENTS_STACK_BYTES);
    thread.spawn(pass).map_err(|e| fault!(Io, "start the thread of the link's events: {e}"))?;
    Ok(())
}

/// How often the link is looked at while the inbox is full.
const FULL_LOOK: Duration = Duration::from_millis(250);

/// Shows on the status LED what the agent does, on a thread of its own; only where the board has one.
fn led(board: &Board, shared: Arc<Shared>) {
    let mut led = match board.status_led() {
        Ok(Some(led)) => led,
        Ok(None) => return,
        Err(fault) => return log::warn!("{fault}"),
    };
    let show = move || {
        let mut well = true;
        loop {
            let sign = shared.sign();
            let shown = led.show(sign, SystemClock.now().boot_ms);
            match shown {
                Err(fault) if well => {
                    log::warn!("{fault}");
                    well = false;
                }
                Err(_) => {}
                Ok(()) => well = true,
            }
            std::thread::sleep(if sign == Sign::Quiet { LED_QUIET } else { LED_LOOK });
        }
    };
    let thread = std::thread::Builder::new().name("led".into()).stack_size(SMALL_STACK_BYTES);
    if let Err(e) = thread.spawn(show) {
        log::warn!("status LED: start its thread: {e}");
    }
}

/// An LED that is steadily on need not be looked at ten times a second.
const LED_QUIET: Duration = Duration::from_secs(1);
/// See [`LED_QUIET`].
const LED_LOOK: Duration = Duration::from_millis(100);

/// Is the gateway to go back because the recovery button is held? A button that cannot be read is not held.
fn recovery_button(board: &Board, state: &Path) -> bool {
    let held = board.recovery_button().and_then(|button| match button {
        Some(mut button) => button.held(&mut mainstay_board_support::gpio::Sleep),
        None => Ok(false),
    });
    let held = held.unwrap_or_else(|fault| {
        log::warn!("recovery button: {fault}");
        false
    });
    once_for_each_press(held, &state.join("button"))
}

/// The recovery button was held at the start: as if a technician had said `mainstay rollback`, with the same bounds.
pub fn go_back_for_the_button(agent: &mut Agent) {
    log::warn!("recovery button held at start: going back");
    let (reply, answer) = channel();
    agent.take(Command::Technician(Request { what: Wish::RollBack, reply: Watcher::Elsewhere(reply) }));
    answer.try_iter().for_each(|line| log::warn!("recovery button: {line:?}"));
}

/// Going back takes a reboot, and a person may still hold the button when the other group starts: that would go back,
/// too, and so on. So `mark` remembers that the button was heard, until it is found released.
fn once_for_each_press(held: bool, mark: &Path) -> bool {
    match (held, mark.exists()) {
        (true, false) => {
            let marked = write_private(mark, "held\n").and_then(|()| std::fs::File::open(mark)?.sync_all());
            marked.inspect_err(|e| log::error!("recovery button: {}", io_fault("write", mark, e))).is_ok()
        }
        (true, true) => {
            log::warn!("recovery button: still held since it was heard; release it");
            false
        }
        (false, true) => {
            let _ = std::fs::remove_file(mark);
            false
        }
        (false, false) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_that_stays_pressed_over_the_reboot_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("button");
        let starts = [false, true, true, true, false, false, true];
        let heard = starts.map(|held| once_for_each_press(held, &mark));
        assert_eq!(heard, [false, true, false, false, false, false, true]);
        assert!(
            !once_for_each_press(true, &folder.path().join("no/such/folder")),
            "or it would go on for ever"
        );
    }
}
