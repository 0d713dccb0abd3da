//! Pulling objects from a real Mosquitto, from rumqttd, and from a broker that lies, floods, dies or says nothing.

mod support;

use mainstay::transport::{BulkSource, BulkStatus};
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::seam::PieceSource;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::mosquitto::{MosquittoFixture, Options};
use support::objects::{self, topics};
use support::peer::Peer;
use support::{broker, embedded, eventually, plain, rss_kib, scripted};

type Statuses = Arc<Mutex<Vec<BulkStatus>>>;

fn source(port: u16) -> (BulkSource, Arc<AtomicBool>, Statuses) {
    let cancel = Arc::new(AtomicBool::new(false));
    let statuses = Statuses::default();
    let log = statuses.clone();
    let source = BulkSource::new(&broker(plain(port)), cancel.clone(), move |status| {
        log.lock().expect("log").push(status);
    });
    (source, cancel, statuses)
}

#[test]
fn two_hundred_objects_come_through_a_window_once_each() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(200, 96 * 1024);
    objects::publish(broker.port, &objects);
    let (mut source, _, statuses) = source(broker.port);
    let before = rss_kib();
    let mut most = 0;
    objects::pull(&mut source, &objects, |_| most = most.max(rss_kib())).expect("pulled");
    println!("RSS of the test process: {before} KiB before, {most} KiB at most while pulling");
    let stats = source.stats();
    assert_eq!(stats.objects, 200);
    assert_eq!(stats.bytes, objects.iter().map(|(_, o)| o.len() as u64).sum::<u64>(), "not a byte twice");
    assert_eq!((stats.refetches, stats.needs, stats.reconnects, stats.unrequested), (0, 0, 0, 0));
    assert_eq!(statuses.lock().expect("log").last(), Some(&BulkStatus::Pulling));
}

#[test]
fn an_object_that_was_not_announced_comes_too() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(20, 96 * 1024);
    objects::publish(broker.port, &objects);
    let (mut source, _, _) = source(broker.port);
    // Fill the window with what is not used yet, then want another: the broker's quota must not stand in the way.
    while objects.iter().take(19).any(|(name, _)| !source.prefetch(name, 0)) && source.stats().bytes == 0 {}
    std::thread::sleep(Duration::from_millis(300));
    let (name, object) = &objects[19];
    assert_eq!(source.fetch(name, 0).expect("fetched"), object.as_slice());
    source.release(name);
    objects::pull(&mut source, &objects[..19], |_| {}).expect("the others as well");
}

#[test]
fn rumqttd_serves_the_same_pull() {
    let port = embedded::start();
    let objects = objects::make(200, 96 * 1024);
    objects::publish(port, &objects);
    let (mut source, _, _) = source(port);
    objects::pull(&mut source, &objects, |_| {}).expect("pulled");
    assert_eq!(source.stats().objects, 200);
}

#[test]
fn a_broker_that_dies_in_mid_pull_costs_at_most_the_objects_that_were_on_their_way() {
    let Some(mut broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(120, 64 * 1024);
    objects::publish(broker.port, &objects);
    let (mut source, _, statuses) = source(broker.port);
    objects::pull(&mut source, &objects, |done| {
        if done == 40 || done == 80 {
            broker.kill();
            std::thread::sleep(Duration::from_millis(100));
            broker.restart();
            objects::publish(broker.port, &objects[done..]);
        }
    })
    .expect("pulled");
    let stats = source.stats();
    let total: u64 = objects.iter().map(|(_, o)| o.len() as u64).sum();
    assert_eq!((stats.objects, stats.reconnects), (120, 2), "{stats:?}");
    assert!(stats.bytes <= total + 2 * 8 * 64 * 1024, "{stats:?} for {total} bytes");
    assert_eq!(stats.unrequested, 0);
    let seen = statuses.lock().expect("log").clone();
    assert!(seen.iter().any(|s| matches!(s, BulkStatus::Connecting { cause: Some(_) })), "{seen:?}");
}

#[test]
fn a_missing_object_is_asked_for_and_its_answer_is_taken() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(12, 96 * 1024);
    let (stored, missing) = objects.split_at(9);
    objects::publish(broker.port, stored);
    let served = missing.to_vec();
    let (_server, asked) = Peer::serving(broker.port, move |name| {
        served.iter().find(|(n, _)| n == name).map(|(_, object)| object.clone())
    });
    let (mut source, _, _) = source(broker.port);
    objects::pull(&mut source, &objects, |_| {}).expect("pulled");
    let mut asked = asked.lock().expect("log").clone();
    asked.sort();
    asked.dedup();
    let mut expected: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    expected.sort();
    assert_eq!(asked, expected, "only what was missing");
}

#[test]
fn wrong_bytes_in_the_store_are_made_good_by_need() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(6, 32 * 1024);
    let mut spoilt = objects.clone();
    spoilt[2].1[100] ^= 1;
    spoilt[4].1 = objects[5].1.clone(); // swapped for another good one
    objects::publish(broker.port, &spoilt);
    let good = objects.clone();
    let (_server, _) =
        Peer::serving(broker.port, move |name| good.iter().find(|(n, _)| n == name).map(|(_, o)| o.clone()));
    let (mut source, _, _) = source(broker.port);
    objects::pull(&mut source, &objects, |_| {}).expect("pulled");
    assert_eq!((source.stats().lies, source.stats().objects), (2, 6));
}

#[test]
fn three_lies_in_a_row_end_it_and_name_the_object() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let (name, object) = objects::make(1, 4096).remove(0);
    objects::publish(broker.port, &[(name, vec![1; 100])]);
    let (_server, _) = Peer::serving(broker.port, |_| Some(vec![2; 100]));
    let (mut source, _, _) = source(broker.port);
    let fault = objects::pull(&mut source, &[(name, object)], |_| {}).expect_err("lies");
    assert_eq!(fault.kind, FaultKind::Corrupt);
    assert!(fault.what.contains(&name.to_string()), "{fault}");
    assert_eq!(source.stats().lies, 3);
}

#[test]
fn a_store_that_was_cleared_and_filled_again_is_noticed_without_asking() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let (name, object) = objects::make(1, 4096).remove(0);
    let (mut source, _, _) = source(broker.port);
    let port = broker.port;
    let filler = std::thread::spawn({
        let object = object.clone();
        move || {
            std::thread::sleep(Duration::from_millis(700));
            objects::publish(port, &[(name, Vec::new()), (name, object)]);
        }
    });
    assert_eq!(source.fetch(&name, 0).expect("fetched"), object.as_slice());
    filler.join().expect("filler");
    assert_eq!(source.stats().lies, 0, "an empty message is no object");
}

#[test]
fn a_flood_of_answers_nobody_asked_for_is_cut_off_and_the_pull_goes_on() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let objects = objects::make(40, 64 * 1024);
    objects::publish(broker.port, &objects[..39]);
    let (mut source, _, _) = source(broker.port);
    objects::pull(&mut source, &objects[..20], |_| {}).expect("the first half");

    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let (stop, port) = (stop.clone(), broker.port);
        move || {
            let mut peer = Peer::connect(port, "intruder");
            let junk = mainstay::transport::topics::data_payload(&Digest::of(b"junk"), &[0; 60_000]);
            while !stop.load(Ordering::Relaxed) {
                peer.publish(&topics().data(), &junk, false);
                peer.publish(&topics().data(), b"not even a header", false);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let before = rss_kib();
    let reader = source.stats_reader();
    let last = objects[39].clone();
    let port = broker.port;
    let relief = std::thread::spawn(move || {
        eventually(Duration::from_secs(20), "the connection is closed and opened three times", || {
            reader().reconnects >= 3
        });
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("flood");
        objects::publish(port, &[last]);
    });
    objects::pull(&mut source, &objects[20..], |_| {}).expect("the second half");
    relief.join().expect("relief");
    println!("RSS of the test process under the flood: {before} KiB before, {} KiB after", rss_kib());
    assert!(source.stats().unrequested >= 9, "{:?}", source.stats());
    assert_eq!(source.stats().objects, 40);
}

#[test]
fn a_broker_that_floods_is_left_after_three_messages_and_found_again_ever_more_slowly() {
    let flooding = scripted::start(|mut stream, _| {
        let mut packets = Vec::from(scripted::CONNACK);
        for _ in 0..100 {
            packets.extend(scripted::publish("somewhere/else", &[7; 50_000]));
        }
        while scripted::send(&mut stream, &packets) {}
    });
    let (mut source, cancel, _) = source(flooding.port);
    let watch = std::thread::spawn({
        let connections = flooding.connections.clone();
        move || {
            eventually(Duration::from_secs(10), "it comes back", || connections.load(Ordering::SeqCst) >= 5);
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let fault = source.fetch(&Digest::of(b"x"), 0).expect_err("cancelled");
    assert_eq!(fault.kind, FaultKind::Cancelled);
    watch.join().expect("watch");
    let (stats, connections) = (source.stats(), flooding.connections.load(Ordering::SeqCst) as u64);
    assert!(stats.unrequested >= 3 * (connections - 1), "{stats:?} over {connections} connections");
    assert!(
        stats.unrequested <= 20 * connections,
        "each connection is cut soon: {stats:?} over {connections}"
    );
}

/// A second copy of an object is no strike: a broker may give one upon each SUBSCRIBE. Each is acknowledged, and waits
/// for that as a whole; a broker that sends them faster than acknowledgements go out filled the memory.
#[test]
fn an_object_that_comes_again_without_end_does_not_make_us_grow() {
    let object = vec![7; 90_000];
    let name = Digest::of(&object);
    let packet = scripted::publish_at_least_once(&topics().object(&name), 1, &object);
    let flooding = scripted::start(move |mut stream, _| {
        scripted::send(&mut stream, &scripted::CONNACK);
        while scripted::send(&mut stream, &packet) {}
    });
    let (mut source, _, _) = source(flooding.port);
    source.fetch(&name, 0).expect("it comes, and again");
    let (before, begun) = (rss_kib(), Instant::now());
    while begun.elapsed() < Duration::from_secs(3) && source.stats().bytes < 1 << 30 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(rss_kib() < before + 32 * 1024, "from {before} to {} KiB: {:?}", rss_kib(), source.stats());
    }
    assert!(source.stats().refetches > 100, "{:?}", source.stats());
}

#[test]
fn damaged_packets_never_stop_the_connections_thread() {
    // Goal: whatever bytes a broker sends, the worst is a new connection. Method: real packets of every kind a broker
    // sends, with bytes changed, cut and repeated; 300 connections, and then an honest one.
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (name, object) = objects::make(1, 1000).remove(0);
    let honest = scripted::publish(&topics().object(&name), &object);
    let mut left = 300;
    let damaged = scripted::start(move |mut stream, _| {
        if left == 0 {
            scripted::send(&mut stream, &scripted::CONNACK);
            scripted::send(&mut stream, &honest);
            return scripted::drain(stream);
        }
        left -= 1;
        let samples: [&[u8]; 14] = [
            &[0x20, 9, 0, 0, 6, 33, 0, 0, 0x13, 0, 0], // CONNACK: Receive Maximum 0, Server Keep Alive 0
            &[0x20, 6, 0, 0, 3, 33, 0, 1],
            &[0x20, 8, 1, 0, 5, 39, 0, 0, 0, 5], // Maximum Packet Size 5
            &[0x90, 4, 0, 1, 0, 1],              // SUBACK
            &[0x90, 3, 0, 1, 0],
            &[0xb0, 4, 0, 1, 0, 0], // UNSUBACK
            &[0x40, 2, 0, 1],       // PUBACK
            &[0x40, 4, 0xff, 0xff, 0x87, 0],
            &[0x50, 2, 0, 1],                                    // PUBREC
            &[0x62, 2, 0, 1],                                    // PUBREL
            &[0x70, 2, 0, 1],                                    // PUBCOMP
            &[0xd0, 0],                                          // PINGRESP
            &[0xe0, 2, 0x8e, 0],                                 // DISCONNECT
            &[0x32, 12, 0, 1, b'x', 0, 1, 3, 35, 0, 1, 1, 2, 3], // PUBLISH with a topic alias
        ];
        if random(3) > 0 {
            scripted::send(&mut stream, &scripted::CONNACK);
        }
        for _ in 0..1 + random(4) {
            let mut packet = samples[random(samples.len())].to_vec();
            for _ in 0..random(4) {
                let at = random(packet.len());
                packet[at] = random(256) as u8;
            }
            packet.truncate(1 + random(packet.len() + 8));
            scripted::send(&mut stream, &packet);
        }
    });
    let mut config = plain(damaged.port);
    config.reconnect.first = Duration::from_millis(1);
    config.reconnect.max = Duration::from_millis(1);
    let mut source = BulkSource::new(&broker(config), Arc::default(), |_| {});
    assert_eq!(source.fetch(&name, 0).expect("fetched at last"), object.as_slice());
    assert!(damaged.connections.load(Ordering::SeqCst) > 300);
}

#[test]
fn a_fetch_is_cancelled_at_once_whatever_it_waits_for() {
    let Some(mosquitto) = MosquittoFixture::start(Options::default()) else { return };
    for (what, port) in
        [("a missing object", mosquitto.port), ("a broker that is not there", support::free_port())]
    {
        let (mut source, cancel, _) = source(port);
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            cancel.store(true, Ordering::Relaxed);
            Instant::now()
        });
        let fault = source.fetch(&Digest::of(b"nobody has this"), 0).expect_err(what);
        let late = canceller.join().expect("canceller").elapsed();
        assert_eq!(fault.kind, FaultKind::Cancelled, "{what}");
        assert!(late < Duration::from_millis(500), "{what}: {late:?} later");
    }
}

#[test]
fn an_object_that_nobody_has_is_reported_as_stalled_and_still_taken_when_it_comes() {
    let Some(broker) = MosquittoFixture::start(Options::default()) else { return };
    let (name, object) = objects::make(1, 4096).remove(0);
    let (mut source, _, statuses) = source(broker.port);
    let port = broker.port;
    let late = std::thread::spawn({
        let object = object.clone();
        move || {
            let stalled = |s: &BulkStatus| matches!(s, BulkStatus::Stalled { object, .. } if *object == name);
            eventually(Duration::from_secs(40), "stalled", || {
                statuses.lock().expect("log").iter().any(stalled)
            });
            objects::publish(port, &[(name, object)]);
        }
    });
    assert_eq!(source.fetch(&name, 0).expect("fetched"), object.as_slice());
    late.join().expect("late");
    assert!(source.stats().needs >= 7, "{:?}", source.stats());
}
