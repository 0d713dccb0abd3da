//! The connection that stays: desired state and commands down, birth, reports and results up.
//!
//! MQTT 5, client id = device id, Clean Start 0 and a session of seven days, so that commands wait in the broker while the
//! gateway is away. Receive Maximum 8, packets up to 128 KiB.
//!
//! * **Down.** A message is acknowledged when the daemon takes it from [`Events`], not before: a slow daemon makes the
//!   broker wait, and keep-alive goes on. Not every broker keeps to that (Mosquitto 2.0.11 sends up to eight
//!   more for *each* acknowledgement while its queue is long, measured; rumqttd sends all at once), so there is a second
//!   bound: with [`INBOX_MAX`] messages waiting the connection's thread stops reading, and after [`ROOM_WAIT`] it hangs
//!   up. What was not acknowledged comes again.
//! * **Up.** One publish is in flight at a time, the others wait in a bounded outbox. The outbox is ours: after a
//!   reconnect the unacknowledged one is sent again, whether the broker has kept the session or not. So everything
//!   is delivered at least once, in order, and what is published has to bear being said twice.
//! * **Presence.** At each connect the birth is published first, retained, on the will's topic. The will follows 60 s
//!   after the connection was lost, unless we are back by then.
//! * **Subscriptions** are made at the first connect of the process (retained state is then sent again: the daemon
//!   evaluates it anew at each start), and later whenever the broker has lost the session. In a session that an earlier
//!   process left they are made, taken back and made again: rumqttd 0.20 gives retained messages only to subscriptions
//!   that are new to it (MQTT 5 section 3.8.4 asks for more), and takes none back that were not made on this
//!   connection. A gateway that lost its power would not hear again what is desired of it.
//!
//! Events tell the newest state of the link, not its history: an unread `Connected` gives way to the next one.

use super::link::{Broker, Handler, Link, Setup};
use mainstay_core::{fault, fault::Fault};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{
    LastWill, LastWillProperties, Packet, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{Client, ConnectionError, StateError};
use smol::channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The broker keeps our subscriptions and what is queued for us for seven days.
pub const SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;
/// A link that is back within a minute has not been away, as far as others see.
pub const WILL_DELAY_S: u32 = 60;
/// Messages that the broker may send without an acknowledgement.
pub const RECEIVE_MAXIMUM: u16 = 8;
/// The largest packet either way: 128 KiB.
pub const PACKET_BYTES_MAX: u32 = 128 * 1024;
/// The largest payload that we publish: 64 KiB (a report has some hundred bytes).
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Publishes that wait, together with acknowledgements that the daemon has not read: 64.
pub const OUTBOX_MAX: usize = 64;
/// Messages that wait for the daemon: 16, or 2 MiB if each were as large as it may be.
pub const INBOX_MAX: usize = 2 * RECEIVE_MAXIMUM as usize;
/// How long a full inbox is waited for; keep-alive rests meanwhile, so it is less than the default of that.
pub const ROOM_WAIT: Duration = Duration::from_secs(20);
/// Topic filters of one gateway: its group, itself, commands, and room.
pub const SUBSCRIPTIONS_MAX: usize = 16;
/// Packet ids: one publish, and a SUBSCRIBE or UNSUBSCRIBE for each filter.
const IDS: u16 = 64;

/// What happens on the control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker has taken us.
    Connected {
        /// It still had our session; otherwise commands may have been lost, and retained state comes again.
        session_present: bool,
    },
    /// The link is down; it is tried again for ever.
    Disconnected {
        /// Why, for people.
        cause: String,
    },
    /// Something has come. It was acknowledged when this was taken.
    Message {
        /// Its topic.
        topic: String,
        /// Its bytes: not verified.
        payload: Vec<u8>,
        /// It stood in the broker before we subscribed.
        retained: bool,
    },
    /// The broker has taken what was published under this ticket.
    Acknowledged {
        /// As given to [`ControlLink::publish`].
        ticket: u64,
    },
    /// The broker has refused something, for good: it is not tried again.
    Refused {
        /// The ticket, if it was a publish that had one.
        ticket: Option<u64>,
        /// What, and why.
        what: String,
    },
}

/// The handle: sends. Clones share the connection; when the last one is dropped, the connection is closed.
#[derive(Clone)]
pub struct ControlLink {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

/// The receiving side.
pub struct Events {
    shared: Arc<Shared>,
    wake: Receiver<()>,
}

impl ControlLink {
    /// Starts the connection; returns at once. `birth` is called at each connect, on the connection's thread.
    pub fn start(
        broker: &Broker,
        subscriptions: Vec<String>,
        will: (String, Vec<u8>),
        birth: impl Fn() -> Vec<u8> + Send + 'static,
    ) -> Result<(ControlLink, Events), Fault> {
        if subscriptions.len() > SUBSCRIPTIONS_MAX {
            return Err(fault!(
                Full,
                "at most {SUBSCRIPTIONS_MAX} subscriptions, found {}",
                subscriptions.len()
            ));
        }
        for filter in &subscriptions {
            check_filter(filter)?;
        }
        let (topic, payload) = will;
        check_topic(&topic)?;
        let delay = LastWillProperties {
            delay_interval: Some(WILL_DELAY_S),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let last_will = LastWill::new(topic.clone(), payload, QoS::AtLeastOnce, true, Some(delay));
        let setup = Setup {
            thread: "mqtt-control",
            client_id: broker.config.device.clone(),
            options: Box::new(move |options| {
                options.set_clean_start(false);
                options.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
                options.set_receive_maximum(Some(RECEIVE_MAXIMUM));
                options.set_max_packet_size(Some(PACKET_BYTES_MAX));
                options.set_last_will(last_will);
            }),
            ids: IDS,
            // Subscriptions and unsubscriptions, acknowledgements, birth, one publish, DISCONNECT, and room.
            requests: 2 * SUBSCRIPTIONS_MAX + 2 * RECEIVE_MAXIMUM as usize + 8,
        };
        let (wake, woken) = bounded(1);
        let mut shared = None;
        let link = Link::start(broker, setup, |client| {
            let ours = Arc::new(Shared {
                wake,
                room: Condvar::new(),
                state: Mutex::new(State::new(client, subscriptions)),
            });
            shared = Some(ours.clone());
            Session { shared: ours, birth: Box::new(birth), state_topic: topic }
        })?;
        let shared = shared.ok_or_else(|| fault!(Io, "control connection: not started"))?;
        let events = Events { shared: shared.clone(), wake: woken };
        Ok((ControlLink { shared, link: Arc::new(link) }, events))
    }

    /// Publishes at QoS 1, now or when the link is back, and again until the broker has acknowledged it. With a
    /// ticket, the end is told by [`Event::Acknowledged`] or [`Event::Refused`]. Without one, a retained message gives
    /// way to a newer one on its topic.
    ///
    /// # Errors
    /// `Full` when [`OUTBOX_MAX`] wait, `Refused` for a topic or payload that cannot be sent.
    pub fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        ticket: Option<u64>,
    ) -> Result<(), Fault> {
        check_topic(topic)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let found = payload.len();
            return Err(fault!(
                Refused,
                "publish {topic}: expected at most {PAYLOAD_BYTES_MAX} bytes, found {found}"
            ));
        }
        let letter = Letter { topic: topic.into(), payload: payload.into(), retain, ticket };
        self.shared.lock().post(letter)
    }

    /// Publishes at QoS 0 if the link is up and idle, and otherwise not at all: for progress, which is out of date when
    /// it comes late. `true`: handed over.
    pub fn tell(&self, topic: &str, payload: &[u8]) -> bool {
        let state = self.shared.lock();
        let fits = payload.len() <= PAYLOAD_BYTES_MAX && check_topic(topic).is_ok();
        let idle = state.connected && state.outbox.is_empty();
        fits && idle && state.client.try_publish(topic, QoS::AtMostOnce, false, payload.to_vec()).is_ok()
    }

    /// Adds a subscription, now and for all further connections.
    pub fn subscribe(&self, filter: &str) -> Result<(), Fault> {
        check_filter(filter)?;
        let mut state = self.shared.lock();
        if !state.subscriptions.iter().any(|f| f == filter) {
            if state.subscriptions.len() >= SUBSCRIPTIONS_MAX {
                return Err(fault!(Full, "subscribe {filter}: at most {SUBSCRIPTIONS_MAX} subscriptions"));
            }
            state.subscriptions.push(filter.into());
        }
        state.dropped.retain(|f| f != filter);
        if state.connected {
            state.send_subscribe(filter);
        }
        Ok(())
    }

    /// Takes a subscription back; also one that an earlier process left in the broker's session.
    pub fn unsubscribe(&self, filter: &str) -> Result<(), Fault> {
        check_filter(filter)?;
        let mut state = self.shared.lock();
        state.subscriptions.retain(|f| f != filter);
        if state.connected {
            let _ = state.client.try_unsubscribe(filter);
        } else if state.dropped.len() < SUBSCRIPTIONS_MAX && !state.dropped.iter().any(|f| f == filter) {
            state.dropped.push(filter.into());
        }
        Ok(())
    }

    /// The broker has taken us, and has not been lost since, as far as we know.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().connected
    }

    /// Closes the connection with a DISCONNECT, upon which the broker drops the will. To be seen as gone, publish that
    /// first and wait for its ticket.
    pub fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.room.notify_all();
        self.link.stop();
    }
}

impl Events {
    /// The next event. Waits without end while nothing happens.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            if self.wake.recv().await.is_err() {
                std::future::pending::<()>().await; // the connection's thread is gone: nothing will happen
            }
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.shared.lock().take_event();
        self.shared.room.notify_all();
        event
    }
}

struct Shared {
    wake: Sender<()>,
    room: Condvar,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A publish on its way.
struct Letter {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    ticket: Option<u64>,
}

/// Whose PUBACK is awaited. There is never more than one, so it needs no packet id.
#[derive(PartialEq)]
enum Sending {
    Nothing,
    Birth,
    FirstOfOutbox,
}

enum Queued {
    Told(Event),
    Came { publish: Publish, connection: u64 },
}

struct State {
    client: Client,
    connected: bool,
    /// The broker's session is that of an earlier process.
    inherited: bool,
    connection: u64,
    subscriptions: Vec<String>,
    /// Unsubscribed while the link was down.
    dropped: Vec<String>,
    subscribing: VecDeque<String>,
    awaiting_suback: VecDeque<(u16, String)>,
    outbox: VecDeque<Letter>,
    sending: Sending,
    events: VecDeque<Queued>,
    acks_due: Vec<Publish>,
    stopping: bool,
}

impl State {
    fn new(client: Client, subscriptions: Vec<String>) -> Self {
        State {
            client,
            connected: false,
            inherited: false,
            connection: 0,
            subscriptions,
            dropped: Vec::new(),
            subscribing: VecDeque::new(),
            awaiting_suback: VecDeque::new(),
            outbox: VecDeque::new(),
            sending: Sending::Nothing,
            events: VecDeque::new(),
            acks_due: Vec::new(),
            stopping: false,
        }
    }

    fn post(&mut self, letter: Letter) -> Result<(), Fault> {
        let in_flight = usize::from(self.sending == Sending::FirstOfOutbox);
        let waiting = self.outbox.iter_mut().skip(in_flight);
        let same = |l: &&mut Letter| l.retain && l.ticket.is_none() && l.topic == letter.topic;
        if letter.retain
            && letter.ticket.is_none()
            && let Some(older) = waiting.rev().find(same)
        {
            *older = letter;
            return Ok(());
        }
        let answer =
            |e: &&Queued| matches!(e, Queued::Told(Event::Acknowledged { .. } | Event::Refused { .. }));
        let told = self.events.iter().filter(answer).count();
        if self.outbox.len() + told >= OUTBOX_MAX {
            return Err(fault!(
                Full,
                "publish {}: {OUTBOX_MAX} wait for the broker or to be read",
                letter.topic
            ));
        }
        self.outbox.push_back(letter);
        self.send_next();
        Ok(())
    }

    fn send_next(&mut self) {
        let acks = std::mem::take(&mut self.acks_due);
        for publish in acks {
            self.acknowledge(publish);
        }
        if !self.connected || self.sending != Sending::Nothing {
            return;
        }
        if let Some(next) = self.outbox.front()
            && self
                .client
                .try_publish(next.topic.as_str(), QoS::AtLeastOnce, next.retain, next.payload.clone())
                .is_ok()
        {
            self.sending = Sending::FirstOfOutbox;
        }
    }

    fn send_subscribe(&mut self, filter: &str) {
        if self.inherited && self.client.try_subscribe(filter, QoS::AtLeastOnce).is_ok() {
            self.subscribing.push_back(filter.into());
            let _ = self.client.try_unsubscribe(filter); // no room: nor is there for what follows
        }
        if self.client.try_subscribe(filter, QoS::AtLeastOnce).is_ok() {
            self.subscribing.push_back(filter.into());
        } else {
            log::warn!("subscribe {filter}: no room for the request");
        }
    }

    /// A full request channel is waited out: the thread comes back to `acks_due` with its next event.
    fn acknowledge(&mut self, publish: Publish) {
        if self.client.try_ack(&publish).is_err() {
            self.acks_due.push(publish);
        }
    }

    fn take_event(&mut self) -> Option<Event> {
        match self.events.pop_front()? {
            Queued::Told(event) => Some(event),
            Queued::Came { publish, connection } => {
                let event = Event::Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                };
                // One from an earlier connection cannot be acknowledged on this one.
                if self.connected && connection == self.connection {
                    self.acknowledge(publish);
                }
                Some(event)
            }
        }
    }

    /// An unread event of this kind gives way.
    fn tell_newest(&mut self, event: Event) {
        let kind = std::mem::discriminant(&event);
        self.events.retain(|e| !matches!(e, Queued::Told(older) if std::mem::discriminant(older) == kind));
        self.events.push_back(Queued::Told(event));
    }

    /// The broker's last word on what is in flight.
    fn settle(&mut self, refused: Option<String>) {
        if std::mem::replace(&mut self.sending, Sending::Nothing) != Sending::FirstOfOutbox {
            if let Some(why) = refused {
                log::error!("control: the broker refused our birth: {why}");
            }
            return;
        }
        let Some(letter) = self.outbox.pop_front() else { return };
        let event = match (refused, letter.ticket) {
            (None, None) => return,
            (None, Some(ticket)) => Event::Acknowledged { ticket },
            (Some(why), ticket) => {
                Event::Refused { ticket, what: format!("publish {}: {why}", letter.topic) }
            }
        };
        self.events.push_back(Queued::Told(event));
    }

    fn inbox_is_full(&self) -> bool {
        self.events.iter().filter(|e| matches!(e, Queued::Came { .. })).count() >= INBOX_MAX
    }

    fn suback(&mut self, id: u16, codes: &[SubscribeReasonCode]) {
        let Some(at) = self.awaiting_suback.iter().position(|(i, _)| *i == id) else { return };
        let Some((_, filter)) = self.awaiting_suback.remove(at) else { return };
        if let Some(code) = codes.iter().find(|c| !matches!(c, SubscribeReasonCode::Success(_))) {
            let event = Event::Refused { ticket: None, what: format!("subscribe {filter}: {code:?}") };
            if !self.events.iter().any(|e| matches!(e, Queued::Told(told) if *told == event)) {
                self.events.push_back(Queued::Told(event));
            }
        }
    }
}

/// The connection's thread.
struct Session {
    shared: Arc<Shared>,
    birth: Box<dyn Fn() -> Vec<u8> + Send>,
    state_topic: String,
}

impl Session {
    /// Puts a message into the inbox, or waits for room there.
    fn came(&self, publish: Publish) -> Result<(), String> {
        let mut state = self.shared.lock();
        if publish.qos == QoS::AtMostOnce && state.inbox_is_full() {
            return Ok(()); // it may be lost, by its own promise
        }
        let _ = self.shared.wake.try_send(());
        let full = |s: &mut State| s.inbox_is_full() && !s.stopping;
        state = match self.shared.room.wait_timeout_while(state, ROOM_WAIT, full) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
        if state.inbox_is_full() {
            return Err(format!(
                "{INBOX_MAX} messages were not taken by the daemon for {} s",
                ROOM_WAIT.as_secs()
            ));
        }
        let connection = state.connection;
        state.events.push_back(Queued::Came { publish, connection });
        Ok(())
    }
}

impl Handler for Session {
    fn connected(&mut self, session_present: bool, _ids: u16) {
        let birth = (self.birth)();
        let mut state = self.shared.lock();
        let first = state.connection == 0;
        state.inherited = session_present && (first || state.inherited);
        state.connection += 1;
        state.connected = true;
        if session_present {
            // The broker sends again what was not acknowledged.
            state
                .events
                .retain(|e| !matches!(e, Queued::Came { publish, .. } if publish.qos != QoS::AtMostOnce));
        }
        for filter in std::mem::take(&mut state.dropped) {
            let _ = state.client.try_unsubscribe(filter);
        }
        if first || !session_present {
            for filter in state.subscriptions.clone() {
                state.send_subscribe(&filter);
            }
        }
        let topic = self.state_topic.as_str();
        if state.client.try_publish(topic, QoS::AtLeastOnce, true, birth).is_ok() {
            state.sending = Sending::Birth;
        }
        state.tell_newest(Event::Connected { session_present });
        state.send_next();
        drop(state);
        let _ = self.shared.wake.try_send(());
    }

    fn event(&mut self, event: rumqttc::v5::Event) -> Result<(), String> {
        use rumqttc::v5::Event::{Incoming, Outgoing as Sent};
        if let Incoming(Packet::Publish(publish)) = event {
            self.came(publish)?;
            let _ = self.shared.wake.try_send(());
            return Ok(());
        }
        let mut state = self.shared.lock();
        match event {
            Incoming(Packet::PubAck(ack)) => {
                let taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                state.settle((!taken).then(|| format!("{:?}", ack.reason)));
            }
            Incoming(Packet::SubAck(ack)) => state.suback(ack.pkid, &ack.return_codes),
            Sent(Outgoing::Subscribe(id)) => {
                if let Some(filter) = state.subscribing.pop_front() {
                    state.awaiting_suback.push_back((id, filter));
                }
            }
            _ => {}
        }
        state.send_next();
        let wake = !state.events.is_empty();
        drop(state);
        if wake {
            let _ = self.shared.wake.try_send(());
        }
        Ok(())
    }

    fn disconnected(&mut self, cause: &str, error: Option<&ConnectionError>) -> bool {
        let mut state = self.shared.lock();
        state.connected = false;
        if let Some(ConnectionError::MqttState(StateError::Deserialization(
            e @ mqttbytes::Error::OutgoingPacketTooLarge { .. },
        ))) = error
        {
            state.settle(Some(e.to_string())); // or it would be sent, and break the link, for ever
        }
        state.sending = Sending::Nothing;
        state.subscribing.clear();
        state.awaiting_suback.clear();
        state.acks_due.clear();
        state.tell_newest(Event::Disconnected { cause: cause.into() });
        drop(state);
        let _ = self.shared.wake.try_send(());
        false
    }
}

/// MQTT 5 §4.7: no wildcards, no NUL; and ours are short.
fn check_topic(topic: &str) -> Result<(), Fault> {
    check_filter(topic)?;
    if topic.contains(['+', '#']) {
        return Err(fault!(Refused, "topic \"{topic}\": expected no wildcard"));
    }
    Ok(())
}

fn check_filter(filter: &str) -> Result<(), Fault> {
    if filter.len() > 256 || filter.contains('\0') || !mqttbytes::valid_filter(filter) {
        return Err(fault!(
            Refused,
            "topic \"{filter}\": expected 1 to 256 bytes, no NUL, wildcards only whole"
        ));
    }
    Ok(())
}
