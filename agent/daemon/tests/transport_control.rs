//! The control connection against a real Mosquitto, rumqttd, and a broker that follows a script.

mod support;

use mainstay::transport::control::{OUTBOX_MAX, WILL_DELAY_S};
use mainstay::transport::{BrokerConfig, ControlLink, Event, Events};
use mainstay_core::fault::FaultKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::mosquitto::{MosquittoFixture, Options};
use support::objects::topics;
use support::peer::{Peer, wait_for};
use support::{DEVICE, broker, embedded, plain, rss_kib, scripted};

const SOON: Duration = Duration::from_secs(15);

fn start(config: BrokerConfig) -> (ControlLink, Events) {
    let births = AtomicUsize::new(0);
    let birth = move || format!("birth {}", births.fetch_add(1, Ordering::SeqCst) + 1).into_bytes();
    let subscriptions = vec![topics().desired_of_group("g"), topics().cmd()];
    ControlLink::start(&broker(config), subscriptions, (topics().state(), b"dead".to_vec()), birth)
        .expect("started")
}

fn connected(events: &mut Events) -> bool {
    wait_for(events, SOON, |e| match e {
        Event::Connected { session_present } => Some(*session_present),
        _ => None,
    })
}

fn disconnected(events: &mut Events) -> String {
    wait_for(events, SOON, |e| match e {
        Event::Disconnected { cause } => Some(cause.clone()),
        _ => None,
    })
}

fn message(events: &mut Events) -> (String, Vec<u8>, bool) {
    wait_for(events, SOON, |e| match e {
        Event::Message { topic, payload, retained } => Some((topic.clone(), payload.clone(), *retained)),
        _ => None,
    })
}

fn acknowledged(events: &mut Events, ticket: u64) {
    wait_for(events, SOON, |e| (*e == Event::Acknowledged { ticket }).then_some(()));
}

fn meets_a_broker(port: u16) {
    let mut peer = Peer::connect(port, "operator");
    peer.publish(&topics().desired_of_group("g"), b"run 2", true);
    peer.flush();
    peer.subscribe("mainstay/1/plant/d/+/state");
    peer.subscribe("mainstay/1/plant/d/+/report");

    let (link, mut events) = start(plain(port));
    assert!(!link.is_connected());
    assert!(!connected(&mut events), "a new session");
    assert!(link.is_connected());
    assert_eq!(message(&mut events), (topics().desired_of_group("g"), b"run 2".to_vec(), true));
    assert_eq!(peer.next(), (topics().state(), b"birth 1".to_vec(), false));

    link.publish(&topics().report(), b"r1", false, Some(7)).expect("taken");
    acknowledged(&mut events, 7);
    assert_eq!(peer.next(), (topics().report(), b"r1".to_vec(), false));
    peer.publish(&topics().cmd(), b"reboot", false);
    assert_eq!(message(&mut events), (topics().cmd(), b"reboot".to_vec(), false));

    link.subscribe(&topics().desired()).expect("taken");
    std::thread::sleep(Duration::from_millis(300));
    peer.publish(&topics().desired(), b"pin", false);
    assert_eq!(message(&mut events).1, b"pin");
    link.unsubscribe(&topics().desired()).expect("taken");
    std::thread::sleep(Duration::from_millis(300));
    peer.publish(&topics().desired(), b"unheard", false);
    peer.publish(&topics().cmd(), b"heard", false);
    assert_eq!(message(&mut events).1, b"heard");

    assert!(link.tell(&topics().prog(), b"12 %"));
    link.stop();
    assert_eq!(disconnected(&mut events), "we closed the connection");
    assert!(!link.is_connected());
    assert!(peer.hears_nothing_for(Duration::from_millis(500)), "no will after a DISCONNECT");
}

#[test]
fn birth_desired_state_reports_and_commands_go_through_mosquitto() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    meets_a_broker(broker.port);
}

#[test]
fn birth_desired_state_reports_and_commands_go_through_rumqttd() {
    meets_a_broker(embedded::start());
}

#[test]
fn the_connect_packet_says_what_the_design_says() {
    let (sender, packets) = channel();
    let broker = scripted::start(move |_, connect| {
        let _ = sender.send(connect);
    });
    let (_link, _events) = start(plain(broker.port));
    let packet = packets.recv_timeout(SOON).expect("a CONNECT");
    // MQTT 5 §3.1: name, version 5, flags (will retain, will QoS 1, will; not Clean Start), keep-alive.
    assert_eq!(packet[2..12], [0, 4, b'M', b'Q', b'T', b'T', 5, 0b0010_1100, 0, 5]);
    let holds = |what: &[u8]| packet.windows(what.len()).any(|w| w == what);
    let with = |id: u8, value: u32| [&[id], &value.to_be_bytes()[..]].concat();
    assert!(holds(&with(17, 7 * 24 * 3600)), "session expiry");
    assert!(holds(&[33, 0, 8]), "Receive Maximum");
    assert!(holds(&with(39, 128 * 1024)), "Maximum Packet Size");
    assert!(holds(&with(24, WILL_DELAY_S)), "will delay");
    assert!(!holds(&[34, 0]), "no topic aliases");
    for text in [DEVICE, &topics().state(), "dead"] {
        assert!(holds(text.as_bytes()), "{text}");
    }
}

#[test]
fn what_is_published_while_the_broker_is_away_arrives_in_order_when_it_is_back() {
    let Some(mut broker) = MosquittoFixture::start(Options::default()) else { return };
    let (link, mut events) = start(plain(broker.port));
    connected(&mut events);
    broker.kill();
    let cause = disconnected(&mut events);
    assert!(cause.contains("127.0.0.1"), "{cause}");
    for n in 0..10_u8 {
        link.publish(&topics().report(), &[n], false, Some(n.into())).expect("taken");
    }
    for n in 0..10_u8 {
        link.publish(&topics().state(), &[n], true, None).expect("gives way to the next");
    }
    assert!(!link.tell(&topics().prog(), b"late"), "progress is not kept");
    broker.restart();
    let mut peer = Peer::connect(broker.port, "operator");
    peer.subscribe("mainstay/1/plant/d/+/report");
    for n in 0..10_u8 {
        acknowledged(&mut events, n.into());
    }
    let mut heard: Vec<u8> = (0..10).map(|_| peer.next().1[0]).collect();
    heard.dedup();
    // Reports sent before the peer was there are gone for it, so it may begin late, but never out of order.
    assert!(heard.is_sorted(), "{heard:?}");
    peer.subscribe("mainstay/1/plant/d/+/state");
    support::eventually(SOON, "the last of ten retained states", || peer.next().1 == [9]);
}

#[test]
fn a_session_that_the_broker_has_kept_is_gone_on_with() {
    let Some(mut broker) = MosquittoFixture::start(Options { persistent: true, ..Options::default() }) else {
        return;
    };
    let (link, mut events) = start(plain(broker.port));
    assert!(!connected(&mut events));
    link.publish(&topics().report(), b"x", false, Some(1)).expect("taken");
    acknowledged(&mut events, 1);
    broker.stop();
    disconnected(&mut events);
    broker.restart();
    let mut peer = Peer::connect(broker.port, "operator");
    peer.publish(&topics().cmd(), b"while away", false);
    assert!(connected(&mut events), "the session is there");
    assert_eq!(message(&mut events).1, b"while away");
    link.publish(&topics().report(), b"y", false, Some(2)).expect("taken");
    acknowledged(&mut events, 2);
}

#[test]
fn a_daemon_that_does_not_read_makes_the_broker_wait_and_loses_nothing() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let (link, mut events) = start(plain(broker.port));
    connected(&mut events);
    let mut peer = Peer::connect(broker.port, "operator");
    let before = rss_kib();
    for n in 0..200_u8 {
        peer.publish(&topics().cmd(), &[n; 50_000], false);
    }
    peer.flush();
    std::thread::sleep(Duration::from_secs(9)); // longer than one and a half keep-alives
    assert!(link.is_connected(), "nothing blocks the connection's thread");
    println!(
        "RSS of the test process, 200 unread commands of 50 kB at the broker: {before} -> {} KiB",
        rss_kib()
    );
    for n in 0..200_u8 {
        assert_eq!(message(&mut events).1[0], n);
    }
}

#[test]
fn the_outbox_is_bounded_and_says_when_it_is_full() {
    let (link, _events) = start(plain(support::free_port()));
    for n in 0..OUTBOX_MAX {
        link.publish(&topics().report(), b"x", false, Some(n as u64)).expect("fits");
    }
    let fault = link.publish(&topics().report(), b"x", false, None).expect_err("full");
    assert_eq!(fault.kind, FaultKind::Full);
    for (topic, bytes) in [("a/#", 1), ("", 1), ("a\0b", 1), ("a/b", 100_000)] {
        let fault = link.publish(topic, &vec![0; bytes], false, None).expect_err(topic);
        assert_eq!(fault.kind, FaultKind::Refused, "{topic}");
    }
}

#[test]
fn a_second_gateway_with_our_name_is_named_as_the_cause() {
    // Mosquitto 2.0.11 only closes; a broker that keeps to MQTT 5 §3.14.2.1 says 0x8E first.
    let Some(silent) = MosquittoFixture::start(Options::default()) else { return };
    let (_link, mut events) = start(plain(silent.port));
    connected(&mut events);
    let (_double, mut theirs) = start(plain(silent.port));
    connected(&mut theirs);
    let cause = disconnected(&mut events);
    assert!(cause.contains("a second client with our id"), "{cause}");

    let polite = scripted::start(|mut stream, _| {
        scripted::send(&mut stream, &scripted::CONNACK);
        scripted::send(&mut stream, &[0xe0, 2, 0x8e, 0]);
        scripted::drain(stream); // closed with our packets unread, TCP would throw the DISCONNECT away
    });
    let (_link, mut events) = start(plain(polite.port));
    let cause = disconnected(&mut events);
    assert!(cause.contains("is there a second gw-1?"), "{cause}");
}

/// Found by reading what the fuzz target `mqtt` calls: an alias is kept for as long as the connection, and with it the
/// whole packet that brought it, whatever maximum was announced. A hostile broker could fill the memory of a gateway
/// with messages that are otherwise as they should be.
#[test]
fn a_broker_that_uses_topic_aliases_is_hung_up_on() {
    let broker = scripted::start(|mut stream, _| {
        scripted::send(&mut stream, &scripted::CONNACK);
        let topic = topics().desired_of_group("g").to_string();
        for alias in 1..=u16::MAX {
            let [high, low] = alias.to_be_bytes();
            let packet = scripted::publish_with(&topic, &[0x23, high, low], &[0; 4000]);
            if !scripted::send(&mut stream, &packet) {
                break;
            }
        }
    });
    let (_link, mut events) = start(plain(broker.port));
    let before = rss_kib();
    let cause = disconnected(&mut events);
    assert!(cause.contains("topic aliases"), "{cause}");
    assert!(rss_kib() < before + 8 * 1024, "from {before} to {} KiB", rss_kib());
}

#[test]
fn a_broker_that_ignores_receive_maximum_is_not_read_any_further_and_loses_nothing() {
    // rumqttd sends its whole queue at once.
    let port = embedded::start();
    let (link, mut events) = start(plain(port));
    connected(&mut events);
    let mut peer = Peer::connect(port, "operator");
    for n in 0..100_u8 {
        peer.publish(&topics().cmd(), &[n; 1000], false);
    }
    peer.flush();
    std::thread::sleep(Duration::from_secs(1));
    assert!(link.is_connected());
    for n in 0..100_u8 {
        assert_eq!(message(&mut events).1[0], n);
    }
}

#[test]
fn what_the_broker_forbids_is_reported_and_does_not_stop_the_rest() {
    let acl = "topic readwrite mainstay/1/plant/d/gw-1/report\ntopic read mainstay/1/plant/g/#\n";
    let options = Options { acl: Some(acl), more: "max_packet_size 20000", ..Options::default() };
    let Some(broker) = MosquittoFixture::start(options) else { return };
    let (link, mut events) = start(plain(broker.port));
    let refused = Arc::new(Mutex::new(Vec::new()));
    link.publish(&topics().rsp(), b"x", false, Some(1)).expect("taken");
    link.publish(&topics().report(), &[0; 30_000], false, Some(2)).expect("taken");
    link.publish(&topics().report(), b"good", false, Some(3)).expect("taken");
    let log = refused.clone();
    wait_for(&mut events, SOON, |e| match e {
        Event::Refused { ticket, what } => {
            log.lock().expect("log").push((*ticket, what.clone()));
            None
        }
        e => (*e == Event::Acknowledged { ticket: 3 }).then_some(()),
    });
    let refused = refused.lock().expect("log").clone();
    let holds = |ticket, text: &str| refused.iter().any(|(t, what)| *t == ticket && what.contains(text));
    assert!(holds(Some(1), "rsp: NotAuthorized"), "{refused:?}");
    assert!(holds(Some(2), "20000"), "{refused:?}");
}
