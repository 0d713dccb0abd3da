//! The other side of the wire: a plain rumqttc client that publishes, watches, and serves missing objects.

use mainstay::transport::topics::{FORMAT, data_payload};
use mainstay_core::digest::Digest;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{Client, Event, MqttOptions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A client on plain TCP. Its thread ends with its connection.
pub struct Peer {
    pub client: Client,
    inbox: Receiver<Publish>,
    acknowledged: Arc<AtomicUsize>,
    subscribed: Arc<AtomicUsize>,
    published: usize,
    subscriptions: usize,
}

impl Peer {
    pub fn connect(port: u16, id: &str) -> Peer {
        Peer::connect_and(port, id, |_, _| {})
    }

    /// `on_message` sees each message before it goes to the inbox.
    fn connect_and(
        port: u16,
        id: &str,
        mut on_message: impl FnMut(&Client, &Publish) + Send + 'static,
    ) -> Peer {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_outgoing_inflight_upper_limit(20);
        options.set_max_packet_size(Some(1024 * 1024));
        let (client, mut connection) = Client::new(options, 100);
        let (sender, inbox) = channel();
        let (acknowledged, subscribed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let peer = Peer {
            client: client.clone(),
            inbox,
            acknowledged: acknowledged.clone(),
            subscribed: subscribed.clone(),
            published: 0,
            subscriptions: 0,
        };
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::PubAck(_))) => {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        subscribed.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        on_message(&client, &publish);
                        let _ = sender.send(publish);
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        peer
    }

    /// QoS 1; does not wait.
    pub fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) {
        self.published += 1;
        let _ = self.client.publish(topic, QoS::AtLeastOnce, retain, payload.to_vec());
    }

    /// Waits until the broker has taken all that was published.
    pub fn flush(&self) {
        super::eventually(Duration::from_secs(60), "the broker acknowledges what the peer publishes", || {
            self.acknowledged.load(Ordering::SeqCst) >= self.published
        });
    }

    /// Subscribes, and waits until it stands.
    pub fn subscribe(&mut self, filter: &str) {
        self.subscriptions += 1;
        self.client.subscribe(filter, QoS::AtLeastOnce).expect("request");
        super::eventually(Duration::from_secs(10), "the broker subscribes the peer", || {
            self.subscribed.load(Ordering::SeqCst) >= self.subscriptions
        });
    }

    /// The next message within ten seconds: topic, payload, retained.
    pub fn next(&self) -> (String, Vec<u8>, bool) {
        let publish = self.inbox.recv_timeout(Duration::from_secs(60)).expect("a message");
        (String::from_utf8_lossy(&publish.topic).into_owned(), publish.payload.to_vec(), publish.retain)
    }

    /// The payload of the next message, if one comes.
    pub fn next_within(&self, limit: Duration) -> Option<Vec<u8>> {
        self.inbox.recv_timeout(limit).ok().map(|publish| publish.payload.to_vec())
    }

    /// Whether nothing comes for a while.
    pub fn hears_nothing_for(&self, limit: Duration) -> bool {
        self.inbox.recv_timeout(limit).is_err()
    }

    /// A peer that answers `need` with what `find` gives; the second value holds what was asked for.
    pub fn serving(
        port: u16,
        find: impl Fn(&Digest) -> Option<Vec<u8>> + Send + 'static,
    ) -> (Peer, Arc<Mutex<Vec<Digest>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let mut peer = Peer::connect_and(port, "chunkd", move |client, publish| {
            assert_eq!(publish.payload.first(), Some(&FORMAT));
            let topic = String::from_utf8_lossy(&publish.topic).replace("/need", "/data");
            for name in publish.payload[1..].chunks_exact(32) {
                let name = Digest(name.try_into().expect("32 bytes"));
                log.lock().expect("log").push(name);
                if let Some(object) = find(&name) {
                    let _ = client.try_publish(&topic, QoS::AtLeastOnce, false, data_payload(&name, &object));
                }
            }
        });
        peer.subscribe("mainstay/1/+/d/+/need");
        (peer, asked)
    }
}

/// Waits for an event that `wanted` takes, and gives what it made of it; others are passed over.
pub fn wait_for<T>(
    events: &mut mainstay::transport::Events,
    limit: Duration,
    mut wanted: impl FnMut(&mainstay::transport::Event) -> Option<T>,
) -> T {
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        match events.try_next() {
            Some(event) => match wanted(&event) {
                Some(found) => return found,
                None => seen.push(event),
            },
            None => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}; seen: {seen:?}");
    }
}
