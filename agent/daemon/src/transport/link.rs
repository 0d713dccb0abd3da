//! One MQTT connection on one thread: connect, hand over events, and when it breaks say why, wait, and connect again.
//!
//! What rumqttc 0.25 would do by itself, and why it is not left to it:
//! * It comes back at once and for ever: here waits double, with jitter ([`Backoff`]).
//! * It keeps unacknowledged publishes and re-sends them, or drops them when the broker has lost the session; events of
//!   the old connection come out of the new one; a smaller Receive Maximum of the next broker leaves it
//!   without usable packet ids. So its whole state is thrown away between connections ([`forget`]), and who
//!   wants something re-sent ([`control`](super::control), [`bulk`](super::bulk)) keeps it itself.
//! * The broker's answers overwrite its options (a keep-alive of 0 would make it ping without a pause): they are
//!   set anew for each connection.
//! * Its default in-flight limit allocates 16 MB.

use super::backoff::{Backoff, Bounds, STEADY};
use super::config::{BrokerConfig, Endpoint};
use super::tunnel::{self, Tls, Tunnel};
use mainstay_core::{fault, fault::Fault};
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet, Publish};
use rumqttc::v5::{Client, Connection, ConnectionError, Event, MqttOptions, MqttState, StateError};
use rumqttc::{NetworkOptions, Outgoing, Transport};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Dialling, handshake, and five seconds for the CONNACK: the tunnel's own limits, which say more, come first.
pub const CONNECT_TIMEOUT: Duration =
    Duration::from_secs(tunnel::DIAL_TIMEOUT.as_secs() + tunnel::HANDSHAKE_TIMEOUT.as_secs() + 5);
/// Address space, not memory: only touched pages count. A debug build touches about 60 KiB of it.
const STACK_BYTES: usize = 256 * 1024;
/// When it is stopped, what was published before still goes out, but a broker that floods us does not keep us longer.
const GOODBYE: Duration = Duration::from_secs(2);

/// A broker: where it is, who we are to it, and the TLS that both connections share.
#[derive(Clone)]
pub struct Broker {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) endpoint: Endpoint,
    tls: Option<Arc<Tls>>,
}

impl Broker {
    /// Checks the configuration and reads the certificates; dials nothing.
    pub fn new(config: BrokerConfig) -> Result<Broker, Fault> {
        let endpoint = config.check()?;
        let tls = if endpoint.tls { Some(Tls::load(&config.credentials())?) } else { None };
        Ok(Broker { config: Arc::new(config), endpoint, tls })
    }
}

/// What stands behind a connection. Called on its thread, and never to block.
pub(super) trait Handler: Send + 'static {
    /// CONNACK has come; `ids` packet identifiers may be in use at once.
    fn connected(&mut self, session_present: bool, ids: u16);
    /// What has come, and what has been sent. `Err` closes the connection for this reason.
    fn event(&mut self, event: Event) -> Result<(), String>;
    /// The connection is over, or was never made. `true`: it was of use, so the next wait is a short one.
    fn disconnected(&mut self, cause: &str, error: Option<&ConnectionError>) -> bool;
}

/// What a connection is like; the rest stands in [`BrokerConfig`].
pub(super) struct Setup {
    pub thread: &'static str,
    pub client_id: String,
    /// Sets what differs: clean start, session expiry, will, Receive Maximum, Maximum Packet Size.
    pub options: Box<dyn FnOnce(&mut MqttOptions)>,
    /// Packet identifiers, each 216 bytes in rumqttc.
    pub ids: u16,
    /// Requests that can wait for the thread.
    pub requests: usize,
}

/// A running connection. Dropping it stops it.
pub(super) struct Link {
    client: Client,
    tunnel: Option<Arc<Tunnel>>,
    stop: Arc<Stop>,
}

impl Link {
    /// Starts the thread. `make` gets the client that the handler sends with.
    pub fn start<H: Handler>(
        broker: &Broker,
        setup: Setup,
        make: impl FnOnce(Client) -> H,
    ) -> Result<Link, Fault> {
        let tunnel = match &broker.tls {
            Some(tls) => Some(Arc::new(Tunnel::open(tls.clone(), broker.endpoint.clone())?)),
            None => None,
        };
        let mut options = match &tunnel {
            Some(tunnel) => MqttOptions::new(setup.client_id, tunnel.path(), 0),
            None => MqttOptions::new(setup.client_id, broker.endpoint.host.as_str(), broker.endpoint.port),
        };
        if tunnel.is_some() {
            options.set_transport(Transport::Unix);
        }
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(broker.config.connect_within.as_secs());
        options.set_network_options(network);
        options.set_connection_timeout(broker.config.connect_within.as_secs());
        options.set_keep_alive(Duration::from_secs(broker.config.keep_alive_s.into()));
        options.set_outgoing_inflight_upper_limit(setup.ids);
        options.set_manual_acks(true);
        (setup.options)(&mut options);

        let (client, connection) = Client::new(options.clone(), setup.requests);
        let stop = Arc::new(Stop::default());
        let run = Run {
            connection,
            options,
            ids: setup.ids,
            endpoint: broker.endpoint.clone(),
            bounds: broker.config.reconnect,
            tunnel: tunnel.clone(),
            stop: stop.clone(),
        };
        let handler = make(client.clone());
        std::thread::Builder::new()
            .name(setup.thread.into())
            .stack_size(STACK_BYTES)
            .spawn(move || run.run(handler))
            .map_err(|e| fault!(Io, "{}: cannot start the thread: {e}", setup.thread))?;
        Ok(Link { client, tunnel, stop })
    }

    /// Says DISCONNECT (the broker then drops the will), closes, and ends the thread. Does not wait for that.
    pub fn stop(&self) {
        self.stop.set();
        let _ = self.client.try_disconnect(); // a full channel means traffic, and each event looks at `stop`
        if let Some(tunnel) = &self.tunnel {
            tunnel.end_dials();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Run {
    connection: Connection,
    options: MqttOptions,
    ids: u16,
    endpoint: Endpoint,
    bounds: Bounds,
    tunnel: Option<Arc<Tunnel>>,
    stop: Arc<Stop>,
}

impl Run {
    fn run(mut self, mut handler: impl Handler) {
        let mut backoff = Backoff::new(self.bounds);
        while !self.stop.is_set() {
            let ended = self.one_connection(&mut handler);
            // First the handler, so that it puts nothing more into the channel; then what is in there goes.
            let useful = handler.disconnected(&ended.cause, ended.error.as_ref());
            self.forget();
            if useful || ended.up_since.is_some_and(|since| since.elapsed() >= STEADY) {
                backoff.reset();
            }
            if self.stop.wait(backoff.next_wait()) {
                break;
            }
        }
    }

    fn one_connection(&mut self, handler: &mut impl Handler) -> Ended {
        let (mut up_since, mut stopping) = (None, None);
        loop {
            let event = match self.connection.recv() {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => {
                    let cause = self.describe(&error);
                    return Ended { up_since, cause, error: Some(error) };
                }
                Err(_) => return Ended { up_since, cause: "stopped".into(), error: None },
            };
            let going_on = match event {
                Event::Outgoing(Outgoing::Disconnect) => Err("we closed the connection".into()),
                Event::Incoming(Packet::ConnAck(connack)) => {
                    up_since = Some(Instant::now());
                    let theirs = connack.properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
                    handler.connected(connack.session_present, theirs.min(self.ids));
                    Ok(())
                }
                Event::Incoming(Packet::Publish(publish)) if has_an_alias(&publish) => {
                    Err("the broker uses topic aliases, and we have allowed none".into())
                }
                event => handler.event(event),
            };
            if let Err(cause) = going_on {
                return Ended { up_since, cause, error: None };
            }
            if self.stop.is_set() {
                stopping.get_or_insert_with(Instant::now);
            }
            if stopping.is_some_and(|since: Instant| since.elapsed() > GOODBYE) {
                return Ended { up_since, cause: "stopped".into(), error: None };
            }
        }
    }

    /// Closes the socket and forgets all of the connection that has ended.
    fn forget(&mut self) {
        let eventloop = &mut self.connection.eventloop;
        eventloop.clean();
        eventloop.pending.clear();
        eventloop.state = MqttState::new(self.ids, true);
        eventloop.options = self.options.clone();
    }

    fn describe(&self, error: &ConnectionError) -> String {
        if let Some(cause) = self.tunnel.as_ref().and_then(|t| t.cause()) {
            return cause;
        }
        let to = &self.endpoint;
        let what = match error {
            ConnectionError::Io(e) => return tunnel::of_io(e, to),
            ConnectionError::Timeout(_) => {
                let limit = self.options.connection_timeout();
                format!("no CONNACK within {limit} s: is that an MQTT 5 broker?")
            }
            ConnectionError::ConnectionRefused(code) => format!("the broker refused us: {code:?}"),
            ConnectionError::MqttState(state) => return self.describe_state(state),
            error => format!("{error}"),
        };
        format!("broker {to}: {what}")
    }

    fn describe_state(&self, error: &StateError) -> String {
        use rumqttc::v5::mqttbytes::Error as Coding;
        let to = &self.endpoint;
        let what = match error {
            StateError::Io(e) | StateError::Deserialization(Coding::Io(e)) => return tunnel::of_lost(e, to),
            StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. } => {
                format!("another client came with our id: is there a second {}?", self.options.client_id())
            }
            StateError::ServerDisconnect { reason_code, reason_string } => {
                let said = reason_string.as_deref().unwrap_or_default();
                format!("the broker ended the connection: {reason_code:?} {said}").trim_end().to_string()
            }
            StateError::ConnectionAborted => tunnel::CLOSED.into(),
            StateError::AwaitPingResp => {
                format!("no answer to our ping within {} s", self.options.keep_alive().as_secs())
            }
            error => format!("{error}"),
        };
        format!("broker {to}: {what}")
    }
}

/// We announce no Topic Alias Maximum, so no broker may send an alias (MQTT 5 section 3.3.2.3.4). rumqttc keeps each all
/// the same, and with it the packet that brought it: 65,535 aliases would pin 8 GiB.
fn has_an_alias(publish: &Publish) -> bool {
    publish.properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some())
}

struct Ended {
    up_since: Option<Instant>,
    cause: String,
    error: Option<ConnectionError>,
}

/// A flag that a wait can be cut short by.
#[derive(Default)]
struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `limit`, or until it is set: `true`.
    fn wait(&self, limit: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(set, limit, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
