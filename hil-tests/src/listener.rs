//! What gateways say of themselves, as an operator hears it: a plain MQTT 5 client of the bench's own, with a certificate.
//!
//! It keeps everything it has heard, so that who waits for a message cannot miss it; it comes back by itself when the
//! broker was gone. It also hears the desired states that stand on the broker, as anybody may who can read there.

use crate::broker::{Broker, gate::Gate, tunnel};
use crate::pki::Pki;
use crate::{Doing, Result};
use mainstay_core::digest::Digest;
use mainstay_core::report::{Outcome, Presence, Progress};
use mainstay_core::topic;
use mainstay_core::update::OutcomeKind;
use mainstay_core::wire::decode_body;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Something that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// The gateway, or the group of a desired state.
    pub who: String,
    /// What.
    pub what: Said,
}

/// What can be heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// How a gateway stands.
    Presence(Box<Presence>),
    /// How far the writing has come.
    Progress(Progress),
    /// How a deployment ended.
    Outcome(Box<Outcome>),
    /// What a group shall run, signed: the envelope as it came.
    Desired(Vec<u8>),
    /// Something that does not read, and why.
    Unreadable(String),
}

/// An operator's ears. Deaf when dropped.
pub struct Listener {
    fleet: String,
    client: Client,
    shared: Arc<Shared>,
    _tunnel: Gate,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// Subscribed, on the connection that stands now.
    up: bool,
    acknowledged: u64,
}

impl Listener {
    /// Connects and subscribes.
    pub fn start(broker: &Broker, pki: &Pki, name: &str, fleet: &str) -> Result<Listener> {
        let identity = pki.client(name)?;
        let tunnel = tunnel(broker.address(), pki, Some(&identity))?;
        let mut options = MqttOptions::new(name, "127.0.0.1", tunnel.address().port());
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(Some(PACKET_BYTES_MAX));
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        let (client, connection) = Client::new(options, usize::from(IN_FLIGHT));
        let shared = Arc::new(Shared::default());
        let ears = Ears { client: client.clone(), shared: shared.clone(), fleet: fleet.to_owned() };
        let body = move || ears.listen(connection);
        thread::Builder::new().name("listener".into()).spawn(body).doing(|| "the listener's thread")?;
        let listener = Listener { fleet: fleet.to_owned(), client, shared, _tunnel: tunnel };
        let up = listener.wait(Duration::from_secs(20), |state| state.up.then_some(()));
        up.doing(|| "the broker takes no subscriptions")?;
        Ok(listener)
    }

    /// What is heard from here on is [`Listener::since`] it.
    pub fn mark(&self) -> usize {
        self.shared.lock().heard.len()
    }

    /// What has been heard since a mark.
    pub fn since(&self, mark: usize) -> Vec<Heard> {
        self.shared.lock().heard.get(mark..).unwrap_or_default().to_vec()
    }

    /// Says something under a topic, retained, and waits until the broker has it. No bytes: what stands there goes.
    pub fn retain(&self, topic: &str, bytes: &[u8]) -> Result<()> {
        self.retain_all([(topic.to_owned(), bytes.to_vec())])
    }

    /// Takes objects off the broker.
    pub fn forget(&self, objects: &[Digest]) -> Result<()> {
        self.retain_all(objects.iter().map(|name| (topic::object(&self.fleet, name).to_string(), Vec::new())))
    }

    fn retain_all(&self, messages: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<()> {
        let mut wanted = self.shared.lock().acknowledged;
        for (topic, bytes) in messages {
            let sent = self.client.publish(topic.clone(), QoS::AtLeastOnce, true, bytes);
            sent.doing(|| format!("publishing {topic}"))?;
            wanted += 1;
        }
        let got = self.wait(Duration::from_secs(30), |state| (state.acknowledged >= wanted).then_some(()));
        got.doing(|| "the broker does not acknowledge")
    }

    fn wait<T>(&self, patience: Duration, found: impl Fn(&State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = found(&state) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How the bundle of this name fared, where that has been heard.
pub fn outcome(heard: &[Heard], name: Digest) -> Option<Outcome> {
    heard.iter().find_map(|heard| match &heard.what {
        Said::Outcome(outcome) if outcome.manifest == name => Some(Outcome::clone(outcome)),
        _ => None,
    })
}

/// How a deployment can end, in a word or two.
pub fn in_words(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Committed => "committed",
        OutcomeKind::RolledBack => "rolled back",
        OutcomeKind::FellBack => "fell back",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Rejected => "rejected",
        OutcomeKind::Halted => "halted",
        OutcomeKind::Expired => "expired",
    }
}

/// A desired state has at most 13 KiB; an object never comes here.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// Messages on their way to the broker.
const IN_FLIGHT: u16 = 64;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The thread's part.
struct Ears {
    client: Client,
    shared: Arc<Shared>,
    fleet: String,
}

impl Ears {
    /// Until the [`Listener`] has gone, which closes the way to the client.
    fn listen(self, mut connection: Connection) {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let leaves = ["+/state", "+/prog", "+/report"].map(|leaf| format!("d/{leaf}"));
                    let topics = leaves.into_iter().chain(["g/+/desired".to_owned()]);
                    let filter =
                        |topic| Filter::new(format!("mainstay/1/{}/{topic}", self.fleet), QoS::AtLeastOnce);
                    let _ = self.client.try_subscribe_many(topics.map(filter)); // full: the next connection asks again
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => self.shared.change(|state| state.up = true),
                Ok(Event::Incoming(Packet::PubAck(_))) => self.shared.change(|state| state.acknowledged += 1),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if let Some(heard) = self.understand(&publish) {
                        self.shared.change(|state| state.heard.push(heard));
                    }
                }
                Ok(_) => {}
                Err(_) if Arc::strong_count(&self.shared) == 1 => return,
                Err(_) => {
                    self.shared.change(|state| state.up = false);
                    thread::sleep(Duration::from_millis(100)); // the broker is gone; it comes back
                }
            }
        }
    }

    fn understand(&self, publish: &Publish) -> Option<Heard> {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let rest = topic.strip_prefix(&format!("mainstay/1/{}/", self.fleet))?.to_owned();
        let mut levels = rest.split('/');
        let (_, who, leaf) = (levels.next()?, levels.next()?.to_owned(), levels.next()?);
        let bytes = &publish.payload;
        let said = match leaf {
            "desired" => Ok(Said::Desired(bytes.to_vec())),
            "state" => decode_body("presence", bytes).map(|presence| Said::Presence(Box::new(presence))),
            "prog" => decode_body("progress", bytes).map(Said::Progress),
            "report" => decode_body("outcome", bytes).map(|outcome| Said::Outcome(Box::new(outcome))),
            _ => return None,
        };
        let what = said.unwrap_or_else(|fault| Said::Unreadable(format!("{topic}: {fault}")));
        Some(Heard { at: Instant::now(), who, what })
    }
}
