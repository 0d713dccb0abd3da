//! One connection, used by one caller: say something and wait until it is taken, or listen.
//!
//! A thread polls rumqttc and passes its events on; the caller's thread keeps the books: what waits for its
//! acknowledgement is kept, so that it can be sent again when the link breaks. Publishing retained messages twice
//! does no harm, so that is all there is to it. rumqttc only logs an acknowledgement that refuses; here each one
//! is looked at.

use super::tunnel::Tunnel;
use super::{Broker, Endpoint};
use crate::fail;
use crate::fail::{Failure, Result};
use crate::values::hex;
use rumqttc::Outgoing;
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, Packet, PubAckReason,
    PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as MqttError, QoS};
use rumqttc::v5::{Client, Connection, ConnectionError, Event, MqttOptions, StateError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Was it kept by the broker from before?
    pub retained: bool,
}

/// A connection that stands, or is made to stand again.
pub struct Session {
    broker: Broker,
    link: Link,
    /// Given to rumqttc, not yet on the wire.
    handed: VecDeque<Outbound>,
    /// On the wire, not yet acknowledged, by packet id.
    in_flight: BTreeMap<u16, Outbound>,
    /// Heard, not yet asked for.
    heard: VecDeque<Message>,
    /// Filters to listen to again after a reconnection.
    filters: Vec<(String, QoS)>,
    subscribed: usize,
    failures: u32,
}

/// A message on its way out, at least once.
#[derive(Clone)]
struct Outbound {
    retain: bool,
    topic: String,
    payload: Vec<u8>,
    expiry_s: Option<u32>,
}

/// What belongs to one connection and falls with it.
struct Link {
    client: Client,
    events: Receiver<std::result::Result<Event, ConnectionError>>,
    tunnel: Option<Tunnel>,
}

impl Session {
    /// Connects, and looks whether the broker can do what is needed.
    pub fn open(broker: &Broker) -> Result<Self> {
        let mut broker = broker.clone();
        if broker.client_id.is_none() {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|e| fail!("random numbers: {e}"))?;
            broker.client_id = Some(format!("mainstayctl-{}", hex(&random)));
        }
        let link = Link::open(&broker)?;
        Ok(Session {
            broker,
            link,
            handed: VecDeque::new(),
            in_flight: BTreeMap::new(),
            heard: VecDeque::new(),
            filters: Vec::new(),
            subscribed: 0,
            failures: 0,
        })
    }

    /// Publishes a retained message; waits only while the window is full. [`flush`](Self::flush) waits for the rest.
    pub fn put(&mut self, topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Result<()> {
        self.hand(Outbound { retain: true, topic: topic.into(), payload: payload.into(), expiry_s })
    }

    /// The same, for who listens now: the broker keeps nothing.
    pub fn say(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.hand(Outbound { retain: false, topic: topic.into(), payload: payload.into(), expiry_s: None })
    }

    fn hand(&mut self, message: Outbound) -> Result<()> {
        while self.handed.len() + self.in_flight.len() >= self.broker.window as usize {
            self.turn(ACK_TIMEOUT)?.ok_or_else(|| self.silent("acknowledges nothing"))?;
        }
        self.handed.push_back(message.clone());
        if self.link.send(message).is_err() {
            self.turn(ACK_TIMEOUT)?; // says why, or connects again and sends it
        }
        Ok(())
    }

    /// Waits until all that was published is acknowledged.
    pub fn flush(&mut self) -> Result<()> {
        while !self.handed.is_empty() || !self.in_flight.is_empty() {
            self.turn(ACK_TIMEOUT)?.ok_or_else(|| self.silent("acknowledges nothing"))?;
        }
        Ok(())
    }

    /// Begins to listen, and waits until the broker agrees. For a wide filter over what many have said, take QoS
    /// 0: of what a broker keeps, Mosquitto queues at most 1000 messages for QoS 1 and drops the others without a
    /// word.
    pub fn listen(&mut self, filter: &str, qos: QoS) -> Result<()> {
        self.filters.push((filter.into(), qos));
        let wanted = self.subscribed + 1;
        self.link.listen(filter, qos).or_else(|_| self.reconnect("the connection ended"))?;
        while self.subscribed < wanted {
            self.turn(ACK_TIMEOUT)?.ok_or_else(|| self.silent("does not answer a subscription"))?;
        }
        Ok(())
    }

    /// The next message; `None` when nothing was said for so long.
    pub fn hear(&mut self, patience: Duration) -> Result<Option<Message>> {
        let until = Instant::now() + patience;
        loop {
            if let Some(message) = self.heard.pop_front() {
                return Ok(Some(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.turn(left)?.is_none() {
                return Ok(None);
            }
        }
    }

    /// What the broker keeps at `topic`. There is no telling "nothing is kept" but by silence: a broker sends what
    /// it keeps right behind its answer to the subscription, so a second subscription's answer, and a moment more,
    /// is waited for.
    pub fn retained(&mut self, topic: &str) -> Result<Option<Vec<u8>>> {
        self.listen(topic, QoS::AtLeastOnce)?;
        self.listen(&format!("{topic}/-"), QoS::AtLeastOnce)?; // nobody publishes there
        let until = Instant::now() + RETAINED_GRACE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.hear(left)? {
                Some(message) if message.topic == topic && message.payload.is_empty() => {}
                Some(message) if message.topic == topic => return Ok(Some(message.payload)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Takes leave, so that the broker does not wait for us.
    pub fn close(mut self) -> Result<()> {
        self.flush()?;
        let _ = self.link.client.disconnect(); // it may be gone already, and nothing is owed
        while self.link.events.recv_timeout(CLOSE_TIMEOUT).is_ok_and(|event| event.is_ok()) {}
        Ok(())
    }

    /// One event; `None` when there was none for so long.
    fn turn(&mut self, patience: Duration) -> Result<Option<()>> {
        let event = match self.link.events.recv_timeout(patience) {
            Ok(Ok(event)) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return self.reconnect("the connection ended").map(Some),
            Ok(Err(error)) => {
                let said = self.link.explain(&self.broker.endpoint, &error);
                return match passing(&error) {
                    true => self.reconnect(&said.to_string()).map(Some),
                    false => Err(said),
                };
            }
        };
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(message) = self.handed.pop_front() {
                    self.in_flight.insert(id, message);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(message) = self.in_flight.remove(&ack.pkid) {
                    self.failures = 0;
                    taken(&self.broker.endpoint, &message, ack.reason)?;
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                for code in &ack.return_codes {
                    if !matches!(code, SubscribeReasonCode::Success(_)) {
                        return Err(fail!("{}: refuses a subscription: {code:?}", self.broker.endpoint)
                            .todo("the broker's access control must let operators read this topic"));
                    }
                }
                self.failures = 0;
                self.subscribed += 1;
            }
            Event::Incoming(Packet::Publish(publish)) => self.heard.push_back(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
                retained: publish.retain,
            }),
            _ => {}
        }
        Ok(Some(()))
    }

    /// Connects again, listens again, and sends again what was not acknowledged, in its order.
    fn reconnect(&mut self, why: &str) -> Result<()> {
        loop {
            if self.failures >= RECONNECTS_MAX {
                return Err(fail!("{why}; gave up after {RECONNECTS_MAX} attempts to connect again"));
            }
            eprintln!("{why}; connecting again");
            thread::sleep(RECONNECT_WAIT * 2u32.saturating_pow(self.failures));
            self.failures += 1;
            match Link::open(&self.broker) {
                Ok(link) => {
                    self.link = link;
                    break;
                }
                Err(failure) if self.failures >= RECONNECTS_MAX => return Err(failure),
                Err(_) => {}
            }
        }
        self.subscribed = 0;
        for (filter, qos) in &self.filters {
            self.link.listen(filter, *qos)?;
        }
        let again = std::mem::take(&mut self.in_flight).into_values().chain(self.handed.drain(..));
        self.handed = again.collect();
        for message in self.handed.clone() {
            self.link.send(message)?;
        }
        Ok(())
    }

    fn silent(&self, what: &str) -> Failure {
        fail!("{}: is connected, but {what} for {} s", self.broker.endpoint, ACK_TIMEOUT.as_secs())
    }
}

impl Link {
    fn open(broker: &Broker) -> Result<Self> {
        let endpoint = &broker.endpoint;
        let tunnel = match endpoint.tls {
            true => Some(Tunnel::dial(broker)?),
            false => None,
        };
        let id = broker.client_id.clone().unwrap_or_default();
        let mut options = match &tunnel {
            Some(tunnel) => {
                let mut options = MqttOptions::new(id, tunnel.path().to_string_lossy(), 0);
                options.set_transport(Transport::unix());
                options
            }
            // rumqttc puts host and port together with a colon
            None if endpoint.host.contains(':') => {
                MqttOptions::new(id, format!("[{}]", endpoint.host), endpoint.port)
            }
            None => MqttOptions::new(id, endpoint.host.clone(), endpoint.port),
        };
        if let Some((name, password)) = &broker.login {
            options.set_credentials(name, password.as_str());
        }
        let mut properties = ConnectProperties::new();
        properties.max_packet_size = Some(PACKET_BYTES_MAX);
        options
            .set_connect_properties(properties)
            .set_clean_start(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
            .set_outgoing_inflight_upper_limit(broker.window);
        let (client, connection) = Client::new(options, broker.window as usize * 2 + FILTERS_MAX);
        let (tell, events) = sync_channel(EVENTS_MAX);
        let poll = move || poll(connection, &tell);
        thread::Builder::new()
            .name("mqtt".into())
            .spawn(poll)
            .map_err(|e| fail!("mqtt: cannot start a thread: {e}"))?;
        let link = Link { client, events, tunnel };
        match link.events.recv_timeout(CONNECT_TIMEOUT + KEEP_ALIVE) {
            Ok(Ok(Event::Incoming(Packet::ConnAck(ack)))) => able(broker, &ack).map(|()| link),
            Ok(Err(error)) => Err(link.explain(endpoint, &error)),
            Ok(Ok(other)) => Err(fail!("{endpoint}: expected the answer to CONNECT, found {other:?}")),
            Err(_) => Err(fail!("{endpoint}: no answer to CONNECT")),
        }
    }

    fn send(&self, message: Outbound) -> Result<()> {
        let Outbound { retain, topic, payload, expiry_s } = message;
        let properties =
            PublishProperties { message_expiry_interval: expiry_s, ..PublishProperties::default() };
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .map_err(|_| fail!("the connection ended"))
    }

    fn listen(&self, filter: &str, qos: QoS) -> Result<()> {
        self.client.subscribe_many([Filter::new(filter, qos)]).map_err(|_| fail!("the connection ended"))
    }

    /// What ended a connection. The tunnel knows more than rumqttc, which sees a closed socket.
    fn explain(&self, endpoint: &Endpoint, error: &ConnectionError) -> Failure {
        if let Some(cause) = self.tunnel.as_ref().and_then(Tunnel::cause) {
            return fail!("{endpoint}: {cause}");
        }
        use ConnectionError::{ConnectionRefused, Io, MqttState};
        match error {
            ConnectionRefused(code) | MqttState(StateError::ConnFail { reason: code }) => {
                refused(endpoint, *code)
            }
            MqttState(StateError::OutgoingPacketTooLarge { pkt_size, max }) => {
                fail!("{endpoint}: takes packets of at most {max} bytes, and one of {pkt_size} has to go")
                    .todo(RAISE_PACKET)
            }
            // Mosquitto answers so, though MQTT 5 §3.4.2.1 does not list the code, and rumqttc does not read it.
            MqttState(StateError::Deserialization(MqttError::InvalidConnectReturnCode(0x95))) => {
                fail!("{endpoint}: refuses a message as too large (0x95)").todo(RAISE_PACKET)
            }
            MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                let failure = fail!("{endpoint}: ended the connection: {reason_code:?}");
                match reason_code {
                    DisconnectReasonCode::PacketTooLarge => failure.todo(RAISE_PACKET),
                    _ => failure,
                }
            }
            Io(e) | MqttState(StateError::Io(e) | StateError::Deserialization(MqttError::Io(e)))
                if self.tunnel.is_none() =>
            {
                fail!("{endpoint}: {e}").todo(LOOK_AT_PORT)
            }
            other => fail!("{endpoint}: {other}"),
        }
    }
}

/// The broker has answered CONNECT with a no.
fn refused(endpoint: &Endpoint, code: ConnectReturnCode) -> Failure {
    let todo = match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            "look at --username and --password-file, or at --cert and --key"
        }
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => {
            "the broker must speak MQTT 5"
        }
        _ => "look into the broker's log",
    };
    fail!("{endpoint}: refuses the connection: {code:?}").todo(todo)
}

/// Passes events on until the connection fails, or nobody listens any more.
fn poll(mut connection: Connection, tell: &SyncSender<std::result::Result<Event, ConnectionError>>) {
    for event in connection.iter() {
        let last = event.is_err();
        if tell.send(event).is_err() || last {
            return;
        }
    }
}

/// Can this broker keep a fleet's objects?
fn able(broker: &Broker, ack: &ConnAck) -> Result<()> {
    let endpoint = &broker.endpoint;
    let Some(properties) = &ack.properties else { return Ok(()) };
    if broker.keeps && properties.retain_available == Some(0) {
        return Err(fail!("{endpoint}: keeps no retained messages")
            .todo("switch them on (Mosquitto: retain_available true)"));
    }
    if properties.max_qos == Some(0) {
        return Err(fail!("{endpoint}: takes QoS 0 alone").todo("allow QoS 1 (Mosquitto: max_qos 1)"));
    }
    match properties.max_packet_size {
        Some(most) if most < PACKET_BYTES_MAX => {
            Err(fail!("{endpoint}: takes packets of at most {most} bytes, expected {PACKET_BYTES_MAX}")
                .todo(RAISE_PACKET))
        }
        _ => Ok(()),
    }
}

/// Did the broker take it?
fn taken(endpoint: &Endpoint, message: &Outbound, reason: PubAckReason) -> Result<()> {
    let Outbound { topic, payload, .. } = message;
    let todo = match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return Ok(()),
        PubAckReason::NotAuthorized => "the broker's access control must let operators write this topic",
        PubAckReason::QuotaExceeded => "the broker's store is full: raise its quota, or clear old objects",
        PubAckReason::ImplementationSpecificError | PubAckReason::UnspecifiedError => {
            "look into the broker's log; a limit on the size of messages is said so by some"
        }
        _ => "look into the broker's log",
    };
    Err(fail!("{endpoint}: refuses {topic} ({} bytes): {reason:?} (0x{:02x})", payload.len(), code(reason))
        .todo(todo))
}

/// The number on the wire (MQTT 5 §3.4.2.1).
fn code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

/// Will the same work later?
fn passing(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionRefused(_) | ConnectionError::RequestsDone => false,
        ConnectionError::MqttState(state) => !matches!(
            state,
            StateError::ConnFail { .. }
                | StateError::OutgoingPacketTooLarge { .. }
                | StateError::Deserialization(MqttError::InvalidConnectReturnCode(_))
                | StateError::ServerDisconnect {
                    reason_code: DisconnectReasonCode::PacketTooLarge
                        | DisconnectReasonCode::NotAuthorized
                        | DisconnectReasonCode::QuotaExceeded
                        | DisconnectReasonCode::ProtocolError
                        | DisconnectReasonCode::MalformedPacket
                        | DisconnectReasonCode::SessionTakenOver
                        | DisconnectReasonCode::AdministrativeAction,
                    ..
                }
        ),
        _ => true,
    }
}

const LOOK_AT_PORT: &str =
    "look whether the broker is up, listens on this port, and takes connections without TLS there";
const RAISE_PACKET: &str =
    "raise its limit (Mosquitto: max_packet_size, message_size_limit) to 128 KiB or more";
/// The largest object (96 KiB), its topic (at most 192 bytes) and its properties, with room.
const PACKET_BYTES_MAX: u32 = 97 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that acknowledges nothing for so long is given up.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a retained message may take after the answer to a subscription behind it.
const RETAINED_GRACE: Duration = Duration::from_millis(500);
/// Attempts without any progress between them: 1 + 2 + 4 + 8 + 16 s.
const RECONNECTS_MAX: u32 = 5;
const RECONNECT_WAIT: Duration = Duration::from_secs(1);
const FILTERS_MAX: usize = 8;
const EVENTS_MAX: usize = 64;
