//! Objects by name, over a connection that lives as long as a download.
//!
//! Client id `<device>~dl`, Clean Start 1, no session, Receive Maximum = the largest window, packets up to 100 KiB. It is a
//! connection of its own because an unacknowledged object would hold back commands: the quota is one per
//! connection (MQTT 5 §4.9).
//!
//! *Get* is SUBSCRIBE to the object's own topic: the broker answers with the retained message. Never a wildcard: a broker
//! drops silently what does not fit its queue (1008 of 1500 objects came, measured). The PUBACK is held back until the
//! installer has proven the object and taken its bytes, so at most a window of objects is in memory, here and on the way;
//! that it is then built, proven and written, no acknowledgement waits for.
//!
//! What is asked for, and what is done about silence, lies and floods, [`pull`](super::pull) decides; this file sends,
//! receives and waits. The driver's thread calls [`BulkSource`] and blocks there; the connection's thread only
//! puts down what has come. Each has the lock for microseconds.

use super::backoff::jittered;
use super::link::{Broker, Handler, Link, Setup};
pub use super::pull::Stats;
use super::pull::{Limits, Order, Pull};
use super::sources::Side;
use super::teller::{BulkStatus, Teller};
use super::topics::{DATA_HEADER_BYTES, Topics, need_payload, parse_data};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::{PieceSource, Result};
use mainstay_core::topic::Leaf;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, Publish, SubscribeReasonCode};
use rumqttc::v5::{Client, ConnectionError, Event};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The largest packet: an object of 96 KiB, its topic, and the header of an answer.
pub const PACKET_BYTES_MAX: u32 = 100 * 1024;
/// Orders that wait for room: the largest window takes 33 objects' SUBSCRIBE, UNSUBSCRIBE and acknowledgement, and a
/// broker may send each object again upon each SUBSCRIBE. About 200 bytes each.
const QUEUE_MAX: usize = 512;
/// How soon a cancelled fetch is over.
pub const CANCEL_LATENCY: Duration = Duration::from_millis(100);
/// Without a connection for so long, another source is asked, where there is one.
pub const ABSENT_MAX: Duration = Duration::from_secs(60);

/// Pulls objects from a broker. Connects with the first object that is asked for; dropping it closes the connection.
pub struct BulkSource {
    broker: Broker,
    cancel: Arc<AtomicBool>,
    teller: Teller,
    shared: Arc<Shared>,
    link: Option<Link>,
    current: Option<Object>,
    /// There is no other source: what fails is tried for ever.
    alone: bool,
}

impl BulkSource {
    /// `cancel` ends a [`fetch`](PieceSource::fetch) within [`CANCEL_LATENCY`]. `on_status` is called on the thread that
    /// fetches, when the status changes, and every 30 s.
    pub fn new(
        broker: &Broker,
        cancel: Arc<AtomicBool>,
        on_status: impl FnMut(BulkStatus) + Send + 'static,
    ) -> Self {
        BulkSource {
            broker: broker.clone(),
            cancel,
            teller: Teller::new(on_status),
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(Limits {
                    objects: broker.config.window_max.into(),
                    bytes: u64::from(broker.config.window_kib) * 1024,
                    keep_alive: Duration::from_secs(broker.config.keep_alive_s.into()),
                })),
                changed: Condvar::new(),
            }),
            link: None,
            current: None,
            alone: true,
        }
    }

    /// There is another source: who cannot be reached, or has not got what is wanted, is given up, and a lie at once.
    pub const fn beside_another(mut self) -> Self {
        self.alone = false;
        self
    }

    /// Why the object is not waited for any more: the other source may have it.
    fn given_up(&self, status: &BulkStatus, begun: Instant) -> Option<Fault> {
        if self.alone {
            return None;
        }
        match status {
            BulkStatus::Connecting { cause } if begun.elapsed() >= ABSENT_MAX => {
                let cause = cause.as_deref().unwrap_or("the broker does not answer");
                Some(fault!(Disconnected, "{cause}"))
            }
            BulkStatus::Stalled { object, cause, .. } => {
                Some(fault!(NotFound, "object {object}: the broker has not got it: {cause}"))
            }
            _ => None,
        }
    }

    /// What was counted since the start.
    pub fn stats(&self) -> Stats {
        self.shared.lock().pull.stats
    }

    /// A reader of [`stats`](Self::stats) for another thread, while this one fetches.
    pub fn stats_reader(&self) -> impl Fn() -> Stats + Send + 'static {
        let shared = self.shared.clone();
        move || shared.lock().pull.stats
    }

    fn open(&mut self) -> Result<()> {
        if self.link.is_some() {
            return Ok(());
        }
        let config = &self.broker.config;
        let window = config.window_max;
        let setup = Setup {
            thread: "mqtt-bulk",
            client_id: format!("{}~dl", config.device),
            options: Box::new(move |options| {
                options.set_clean_start(true);
                options.set_session_expiry_interval(Some(0));
                options.set_receive_maximum(Some(window));
                options.set_max_packet_size(Some(PACKET_BYTES_MAX));
            }),
            ids: 2 * window + 8,
            requests: 2 * usize::from(window) + 8,
        };
        let topics = Topics::new(&config.fleet, &config.device);
        let shared = self.shared.clone();
        self.link = Some(Link::start(&self.broker, setup, |client| {
            let mut state = shared.lock();
            state.client = Some(client);
            state.topics = Some(topics);
            drop(state);
            Session { shared }
        })?);
        Ok(())
    }
}

impl PieceSource for BulkSource {
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        if self.open().is_err() {
            return false; // `fetch` says why
        }
        let mut state = self.shared.lock();
        let taken = state.pull.prefetch(name, bytes, Instant::now());
        state.send();
        taken
    }

    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        self.bring(name, bytes)?;
        Ok(self.object())
    }

    fn release(&mut self, name: &Digest) {
        self.current = None;
        let mut state = self.shared.lock();
        state.pull.release(name);
        state.send();
    }

    fn forget(&mut self, name: &Digest) {
        let mut state = self.shared.lock();
        state.pull.abandon(name);
        state.send();
    }

    fn refute(&mut self, name: &Digest) -> Result<()> {
        self.current = None;
        let mut state = self.shared.lock();
        let asked_again = state.pull.refute(name, Instant::now());
        state.send();
        if asked_again && self.alone {
            return Ok(());
        }
        if !self.alone {
            state.pull.abandon(name);
            state.send();
            return Err(fault!(Corrupt, "object {name}: the broker's bytes are not what their name says"));
        }
        let lies = super::pull::LIES_MAX;
        Err(fault!(
            Corrupt,
            "object {name}: {lies} times in a row the broker's bytes were not what their name says"
        ))
    }
}

impl Side for BulkSource {
    fn bring(&mut self, name: &Digest, bytes: u32) -> Result<()> {
        self.open()?;
        self.current = None;
        let begun = Instant::now();
        let object = loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(fault!(Cancelled, "fetch {name}: cancelled"));
            }
            let now = Instant::now();
            let mut state = self.shared.lock();
            state.pull.want(name, bytes, now);
            if let Some(object) = state.pull.give(name) {
                state.send();
                break object;
            }
            state.pull.tick(now);
            state.send();
            let status = state.status(name, now);
            if let Some(why) = self.given_up(&status, begun) {
                state.pull.abandon(name);
                state.send();
                return Err(why);
            }
            if self.teller.is_news(&status, now) {
                drop(state);
                self.teller.tell(status, now); // without the lock
                state = self.shared.lock();
                if state.pull.give(name).is_some() {
                    continue;
                }
            }
            let until = state.pull.deadline().map(|at| at.saturating_duration_since(now));
            let limit = until.unwrap_or(CANCEL_LATENCY).min(CANCEL_LATENCY);
            drop(self.shared.changed.wait_timeout(state, limit));
        };
        self.teller.tell(BulkStatus::Pulling, Instant::now());
        self.current = Some(object);
        Ok(())
    }

    fn object(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Object::bytes)
    }

    fn received(&self) -> u64 {
        self.shared.lock().pull.stats.bytes
    }
}

/// An object as it came, with what is needed to acknowledge it.
#[derive(Clone)]
struct Object {
    publish: Publish,
    header: usize,
    connection: u64,
}

impl Object {
    fn bytes(&self) -> &[u8] {
        self.publish.payload.get(self.header..).unwrap_or_default()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a SUBSCRIBE was for.
enum Topic {
    /// The answers to `need`: the first one of a connection.
    Data,
    /// The same again, which changes nothing: for the sake of the answer.
    Probe,
    Object(Digest),
}

struct State {
    pull: Pull<Object>,
    client: Option<Client>,
    topics: Option<Topics>,
    up: bool,
    connection: u64,
    cause: Option<String>,
    /// Orders that wait for room in the request channel, or for a free packet id.
    queue: VecDeque<Order<Object>>,
    /// SUBSCRIBE, UNSUBSCRIBE and `need` that are not answered. rumqttc gives out packet ids in a circle without
    /// looking, so there are never more of them than ids.
    unanswered: u16,
    ids: u16,
    /// SUBSCRIBEs without their packet id yet.
    subscribing: VecDeque<Topic>,
    awaiting_suback: VecDeque<(u16, Topic)>,
    /// When the first SUBSCRIBE of this connection went out.
    began: Instant,
    hang_up: Option<String>,
}

impl State {
    fn new(limits: Limits) -> Self {
        State {
            pull: Pull::new(limits, jittered, Instant::now()),
            client: None,
            topics: None,
            up: false,
            connection: 0,
            cause: None,
            queue: VecDeque::new(),
            unanswered: 0,
            ids: 0,
            subscribing: VecDeque::new(),
            awaiting_suback: VecDeque::new(),
            began: Instant::now(),
            hang_up: None,
        }
    }

    /// Does what the pull orders, as far as there is room.
    fn send(&mut self) {
        self.queue.extend(self.pull.orders().into_iter().map(light));
        if self.queue.len() > QUEUE_MAX {
            self.hang_up =
                Some(format!("the broker sends faster than {QUEUE_MAX} messages can be acknowledged"));
            self.queue.clear(); // `connected` orders all that is still wanted anew
        }
        let (Some(client), Some(topics)) = (&self.client, &self.topics) else { return };
        if !self.up {
            self.queue.clear(); // `connected` orders all that is still wanted anew
            return;
        }
        while let Some(order) = self.queue.front() {
            let asks = !matches!(order, Order::Acknowledge(_) | Order::Reopen(_));
            if asks && self.unanswered >= self.ids {
                return;
            }
            let sent = match order {
                Order::Subscribe(name) => {
                    let sent = client.try_subscribe(topics.object(name).as_str(), QoS::AtLeastOnce).is_ok();
                    if sent {
                        self.subscribing.push_back(Topic::Object(*name));
                    }
                    sent
                }
                Order::Probe => {
                    let sent =
                        client.try_subscribe(topics.own(Leaf::Data).as_str(), QoS::AtLeastOnce).is_ok();
                    if sent {
                        self.subscribing.push_back(Topic::Probe);
                    }
                    sent
                }
                Order::Unsubscribe(name) => client.try_unsubscribe(topics.object(name).as_str()).is_ok(),
                Order::Need(names) => client
                    .try_publish(
                        topics.own(Leaf::Need).as_str(),
                        QoS::AtLeastOnce,
                        false,
                        need_payload(names),
                    )
                    .is_ok(),
                Order::Acknowledge(object) if object.connection == self.connection => {
                    client.try_ack(&object.publish).is_ok()
                }
                Order::Acknowledge(_) => true, // its connection is gone, and the quota with it
                Order::Reopen(why) => {
                    self.hang_up = Some(why.clone());
                    let _ = client.try_disconnect(); // wakes the thread; if there is no room, it is awake
                    true
                }
            };
            if !sent {
                return; // no room: the thread comes back here with its next event
            }
            self.unanswered += u16::from(asks);
            self.queue.pop_front();
        }
    }

    fn status(&self, name: &Digest, now: Instant) -> BulkStatus {
        match self.pull.stalled(now) {
            _ if !self.up => BulkStatus::Connecting { cause: self.cause.clone() },
            Some(silent_for) => {
                let cause =
                    self.cause.clone().unwrap_or_else(|| "neither the store nor anybody else has it".into());
                BulkStatus::Stalled { object: *name, silent_for, cause }
            }
            None => BulkStatus::Pulling,
        }
    }

    fn came(&mut self, publish: Publish) {
        let now = Instant::now();
        let Some(topics) = &self.topics else { return };
        let bytes = publish.payload.len();
        let answer = publish.topic == topics.own(Leaf::Data).as_bytes();
        let (name, header) = if answer {
            (parse_data(&publish.payload), DATA_HEADER_BYTES)
        } else {
            (topics.object_name(&publish.topic), 0)
        };
        let cleared = bytes == 0 && name.is_some();
        let object = Object { publish, header, connection: self.connection };
        match name {
            // An empty retained message is how a topic is cleared: it says that there is nothing.
            Some(_) if cleared => self.queue.push_back(light(Order::Acknowledge(object))),
            Some(name) => {
                self.pull.arrived(&name, object, bytes, answer, now);
            }
            None => self.pull.unknown(object, bytes),
        }
    }

    fn suback(&mut self, id: u16, codes: &[SubscribeReasonCode]) {
        self.unanswered = self.unanswered.saturating_sub(1);
        let Some(at) = self.awaiting_suback.iter().position(|(i, _)| *i == id) else { return };
        let Some((_, topic)) = self.awaiting_suback.remove(at) else { return };
        let refused = codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_)));
        if let Some(code) = refused {
            let what = match topic {
                Topic::Object(name) => format!("object {name}"),
                Topic::Data | Topic::Probe => "the answers to `need`".to_string(),
            };
            self.cause = Some(format!("the broker refuses a subscription to {what}: {code:?}"));
        }
        let now = Instant::now();
        match topic {
            Topic::Object(name) => self.pull.subscribed(&name, refused.is_none(), now),
            Topic::Data => self.pull.greeted(now.saturating_duration_since(self.began)),
            Topic::Probe => self.pull.probed(now),
        }
    }
}

/// An acknowledgement takes an identifier alone. What waits for its turn shall not keep a packet alive, topic included:
/// both are parts of it. Who still needs the object has a copy of his own.
fn light(order: Order<Object>) -> Order<Object> {
    match order {
        Order::Acknowledge(mut object) => {
            (object.publish.payload, object.publish.topic) = Default::default();
            object.publish.properties = None;
            Order::Acknowledge(object)
        }
        other => other,
    }
}

/// The connection's thread.
struct Session {
    shared: Arc<Shared>,
}

impl Session {
    fn done(&self, mut state: MutexGuard<'_, State>) -> std::result::Result<(), String> {
        state.send();
        let hang_up = state.hang_up.take();
        drop(state);
        self.shared.changed.notify_all();
        hang_up.map_or(Ok(()), Err)
    }
}

impl Handler for Session {
    fn connected(&mut self, _session_present: bool, ids: u16) {
        let mut state = self.shared.lock();
        state.up = true;
        state.connection += 1;
        state.cause = None;
        // One id stays free, so that the circle never meets its own tail.
        (state.ids, state.unanswered) = (ids.saturating_sub(1).max(1), 0);
        state.hang_up = None;
        state.queue.clear();
        if let (Some(client), Some(topics)) = (&state.client, &state.topics)
            && client.try_subscribe(topics.own(Leaf::Data).as_str(), QoS::AtLeastOnce).is_ok()
        {
            state.subscribing.push_back(Topic::Data);
            state.began = Instant::now();
            state.unanswered += 1;
        }
        state.pull.connected(Instant::now());
        let _ = self.done(state);
    }

    fn event(&mut self, event: Event) -> std::result::Result<(), String> {
        let mut state = self.shared.lock();
        match event {
            Event::Incoming(Packet::Publish(publish)) => state.came(publish),
            Event::Incoming(Packet::SubAck(ack)) => state.suback(ack.pkid, &ack.return_codes),
            Event::Incoming(Packet::UnsubAck(_)) => state.unanswered = state.unanswered.saturating_sub(1),
            Event::Incoming(Packet::PubAck(ack)) => {
                state.unanswered = state.unanswered.saturating_sub(1);
                let heard = ack.reason == PubAckReason::Success;
                state.pull.need_taken(heard, Instant::now());
                state.cause = match ack.reason {
                    PubAckReason::Success => None,
                    PubAckReason::NoMatchingSubscribers => {
                        Some("nobody answers `need` at this broker".into())
                    }
                    reason => Some(format!("the broker refuses `need`: {reason:?}")),
                };
            }
            Event::Outgoing(Outgoing::Subscribe(id)) => {
                if let Some(name) = state.subscribing.pop_front() {
                    state.awaiting_suback.push_back((id, name));
                }
            }
            _ => {}
        }
        self.done(state)
    }

    fn disconnected(&mut self, cause: &str, _error: Option<&ConnectionError>) -> bool {
        let mut state = self.shared.lock();
        let useful = state.up && state.pull.came_through();
        state.up = false;
        state.cause = Some(state.hang_up.take().unwrap_or_else(|| cause.into()));
        state.pull.disconnected();
        state.queue.clear();
        state.subscribing.clear();
        state.awaiting_suback.clear();
        drop(state);
        self.shared.changed.notify_all();
        useful
    }
}
