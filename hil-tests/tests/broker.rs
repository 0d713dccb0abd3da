//! The bench's brokers, with a real MQTT 5 client on the other end: what a gateway's download rests on.
//!
//! Each test runs with the embedded broker and with a Mosquitto, where one is installed.

use mainstay_hil::broker::{Broker, Kind, Memory, gate::Gate, tunnel};
use mainstay_hil::pki::Pki;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet};
use rumqttc::v5::{Client, Event, MqttOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// As large as what travels: `mainstay_core::limits::OBJECT_BYTES_MAX`.
const OBJECT_BYTES: usize = 96 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` with each broker that this machine has.
fn with_each_broker(test: impl Fn(Broker, &Pki, &Path)) {
    for kind in [Kind::Embedded, Kind::Mosquitto] {
        if let Err(why) = kind.available() {
            println!("not run: {why}");
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(&folder.path().join("pki")).unwrap();
        let broker = Broker::start(kind, &pki, &folder.path().join("broker")).unwrap();
        println!("{kind:?}");
        test(broker, &pki, folder.path());
    }
}

/// An MQTT client with a certificate of its own.
struct Peer {
    client: Client,
    packets: Receiver<Result<Packet, String>>,
    _tunnel: Gate,
}

impl Peer {
    fn connect(broker: &Broker, pki: &Pki, name: &str) -> Peer {
        let identity = pki.client(name).unwrap();
        let tunnel = tunnel(broker.address(), pki, Some(&identity)).unwrap();
        let mut peer = Peer::over(tunnel, name);
        match peer.next() {
            Ok(Packet::ConnAck(ack)) => assert_eq!(ack.code, ConnectReturnCode::Success),
            other => panic!("expected CONNACK, found {other:?}"),
        }
        peer
    }

    fn over(tunnel: Gate, name: &str) -> Peer {
        let mut options = MqttOptions::new(name, "127.0.0.1", tunnel.address().port());
        options.set_max_packet_size(Some(256 * 1024)).set_receive_maximum(Some(16));
        options.set_outgoing_inflight_upper_limit(16);
        let (client, mut connection) = Client::new(options, 16);
        let (to, packets) = channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                let packet = match event {
                    Ok(Event::Incoming(packet)) => Ok(packet),
                    Ok(Event::Outgoing(_)) => continue,
                    Err(error) => Err(error.to_string()),
                };
                let last = packet.is_err();
                if to.send(packet).is_err() || last {
                    return;
                }
            }
        });
        Peer { client, packets, _tunnel: tunnel }
    }

    fn next(&mut self) -> Result<Packet, String> {
        match self.packets.recv_timeout(PATIENCE) {
            Ok(packet) => packet,
            Err(RecvTimeoutError::Timeout) => panic!("nothing for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => Err("the client has ended".into()),
        }
    }

    /// Publishes, retained, and waits until the broker has acknowledged it.
    fn retain(&mut self, topic: &str, payload: &[u8]) {
        self.client.publish(topic, QoS::AtLeastOnce, true, payload.to_vec()).unwrap();
        while !matches!(self.next().unwrap(), Packet::PubAck(_)) {}
    }

    /// Asks for exact topics, eight at a time, and takes what is retained there.
    fn fetch(&mut self, topics: &[String]) -> BTreeMap<String, Vec<u8>> {
        let mut got = BTreeMap::new();
        for few in topics.chunks(8) {
            let filters = few.iter().map(|topic| Filter::new(topic.clone(), QoS::AtLeastOnce));
            self.client.subscribe_many(filters).unwrap();
            let wanted = got.len() + few.len();
            while got.len() < wanted {
                if let Packet::Publish(publish) = self.next().unwrap() {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    got.insert(topic, publish.payload.to_vec());
                }
            }
        }
        got
    }

    /// What is retained at `topic`; `None` when nothing comes for half a second.
    fn glance(&mut self, topic: &str) -> Option<Vec<u8>> {
        self.client.subscribe(topic, QoS::AtLeastOnce).unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        while let Ok(packet) = self.packets.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Packet::Publish(publish) = packet.unwrap() {
                return Some(publish.payload.to_vec());
            }
        }
        None
    }
}

fn objects(count: usize) -> BTreeMap<String, Vec<u8>> {
    let object = |index: usize| (0..OBJECT_BYTES).map(|at| (index * 7 + at * 31 + at / 251) as u8).collect();
    (0..count).map(|index| (format!("mainstay/1/bench/c/{index:064x}"), object(index))).collect()
}

#[test]
fn what_one_client_retains_another_fetches_whole() {
    with_each_broker(|broker, pki, _| {
        let objects = objects(64);
        let mut operator = Peer::connect(&broker, pki, "operator");
        objects.iter().for_each(|(topic, bytes)| operator.retain(topic, bytes));
        let before = broker.gate().to_clients();
        let topics: Vec<String> = objects.keys().cloned().collect();
        let mut device = Peer::connect(&broker, pki, "gateway-1");
        assert!(device.fetch(&topics) == objects, "what came is not what was retained");
        let sent = broker.gate().to_clients() - before;
        let content = (objects.len() * OBJECT_BYTES) as u64;
        assert!((content..content + content / 50).contains(&sent), "{sent} bytes sent for {content} bytes");
    });
}

#[test]
fn nobody_gets_in_without_a_certificate_of_this_ca() {
    with_each_broker(|broker, pki, folder| {
        let stranger = Pki::create(&folder.join("stranger")).unwrap().client("gateway-1").unwrap();
        for (who, identity) in [("nobody", None), ("a stranger", Some(&stranger))] {
            let tunnel = tunnel(broker.address(), pki, identity).unwrap();
            let mut peer = Peer::over(tunnel, "gateway-1");
            let answer = peer.next();
            assert!(answer.is_err(), "{who}: expected a refusal, found {answer:?}");
        }
        Peer::connect(&broker, pki, "gateway-1");
    });
}

#[test]
fn a_broker_that_goes_away_cuts_its_clients_and_comes_back_knowing_what_it_should() {
    with_each_broker(|mut broker, pki, _| {
        #[rustfmt::skip]
        let cases = [
            // comes back with  and holds then
            (Memory::Kept,      Some(b"desired".to_vec())),
            (Memory::Lost,      None),
        ];
        for (memory, holds) in cases {
            let mut client = Peer::connect(&broker, pki, "operator");
            client.retain("mainstay/1/bench/g/all/desired", b"desired");
            let address = broker.address();
            broker.stop();
            while client.next().is_ok() {}
            assert!(std::net::TcpStream::connect(address).is_err(), "something still listens at {address}");
            broker.restart(memory).unwrap();
            assert_eq!(broker.address(), address, "it comes back where it was");
            let mut client = Peer::connect(&broker, pki, "gateway-1");
            assert_eq!(client.glance("mainstay/1/bench/g/all/desired"), holds, "{memory:?}");
        }
    });
}

#[test]
fn a_narrow_gate_lets_through_no_more_than_its_limit() {
    with_each_broker(|broker, pki, _| {
        let objects = objects(16);
        let mut operator = Peer::connect(&broker, pki, "operator");
        objects.iter().for_each(|(topic, bytes)| operator.retain(topic, bytes));
        let topics: Vec<String> = objects.keys().cloned().collect();
        let mut device = Peer::connect(&broker, pki, "gateway-1");
        broker.gate().limit(Some(2 * 1024 * 1024));
        let began = Instant::now();
        device.fetch(&topics);
        let took = began.elapsed();
        // 1.5 MiB at 2 MiB/s is 750 ms; the first and the last buffer do not wait.
        assert!(took > Duration::from_millis(600), "{took:?}");
    });
}
