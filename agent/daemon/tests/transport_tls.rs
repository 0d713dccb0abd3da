//! TLS against a Mosquitto that demands client certificates, and what is said when it does not come about.

mod support;

use mainstay::transport::config::Endpoint;
use mainstay::transport::tunnel::{Tls, Tunnel};
use mainstay::transport::{BrokerConfig, BulkSource, ControlLink, Event, Events};
use mainstay_core::digest::Digest;
use mainstay_core::seam::PieceSource;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use support::mosquitto::{MosquittoFixture, Options};
use support::objects::{self, topics};
use support::peer::wait_for;
use support::pki::Pki;
use support::{broker, eventually, plain, rss_kib, scripted};

fn secured(host: &str, port: u16, pki: &Pki) -> BrokerConfig {
    BrokerConfig {
        url: format!("mqtts://{host}:{port}"),
        allow_plain: false,
        ca: pki.ca.clone(),
        cert: pki.client.cert.clone(),
        key: pki.client.key.clone(),
        ..plain(port)
    }
}

fn start(config: BrokerConfig) -> (ControlLink, Events) {
    let will = (topics().state(), b"dead".to_vec());
    ControlLink::start(&broker(config), vec![topics().cmd()], will, || b"born".to_vec()).expect("started")
}

/// The first thing that happens.
fn outcome(config: BrokerConfig) -> String {
    let (_link, mut events) = start(config);
    wait_for(&mut events, Duration::from_secs(15), |e| match e {
        Event::Disconnected { cause } => Some(cause.clone()),
        Event::Connected { .. } => Some("connected".into()),
        _ => None,
    })
}

fn tls_broker(pki: &Pki) -> Option<MosquittoFixture> {
    MosquittoFixture::start(Options { tls: Some(pki), ..Options::default() })
}

#[test]
fn both_connections_work_through_the_tunnel() {
    let pki = Pki::new("localhost");
    let plain_port = support::free_port();
    let more = format!("listener {plain_port} 127.0.0.1");
    let Some(mosquitto) =
        MosquittoFixture::start(Options { tls: Some(&pki), more: &more, ..Options::default() })
    else {
        return;
    };
    let objects = objects::make(200, 96 * 1024);
    objects::publish(plain_port, &objects);

    let config = secured("localhost", mosquitto.port, &pki);
    let (link, mut events) = start(config.clone());
    wait_for(&mut events, Duration::from_secs(15), |e| matches!(e, Event::Connected { .. }).then_some(()));
    link.publish(&topics().report(), b"x", false, Some(1)).expect("taken");
    wait_for(&mut events, Duration::from_secs(15), |e| {
        (*e == Event::Acknowledged { ticket: 1 }).then_some(())
    });

    let mut source = BulkSource::new(&broker(config), Arc::default(), |_| {});
    let (before, mut most) = (rss_kib(), 0);
    objects::pull(&mut source, &objects, |_| most = most.max(rss_kib())).expect("pulled");
    println!("RSS of the test process: {before} KiB idle over TLS, {most} KiB at most while pulling");
    assert_eq!(source.stats().objects, 200);
    assert_eq!(source.stats().bytes, objects.iter().map(|(_, o)| o.len() as u64).sum::<u64>());
    assert!(link.is_connected());
}

#[test]
fn a_broker_that_dies_in_mid_pull_over_tls_is_found_again() {
    let pki = Pki::new("localhost");
    let plain_port = support::free_port();
    let more = format!("listener {plain_port} 127.0.0.1");
    let options = Options { tls: Some(&pki), more: &more, ..Options::default() };
    let Some(mut mosquitto) = MosquittoFixture::start(options) else { return };
    let objects = objects::make(60, 64 * 1024);
    objects::publish(plain_port, &objects);
    let mut source =
        BulkSource::new(&broker(secured("localhost", mosquitto.port, &pki)), Arc::default(), |_| {});
    objects::pull(&mut source, &objects, |done| {
        if done == 30 {
            mosquitto.kill();
            mosquitto.restart();
            objects::publish(plain_port, &objects[done..]);
        }
    })
    .expect("pulled");
    assert_eq!((source.stats().objects, source.stats().reconnects), (60, 1));
}

#[test]
fn each_failure_names_its_cause() {
    let ours = Pki::new("localhost");
    let theirs = Pki::new("localhost");
    let elsewhere = Pki::new("broker.elsewhere");
    let expired = Pki::until("localhost", 2021);
    let Some(good) = tls_broker(&ours) else { return };
    let Some(misnamed) = tls_broker(&elsewhere) else { return };
    let Some(old) = tls_broker(&expired) else { return };
    let Some(in_the_clear) = MosquittoFixture::start(Options::default()) else { return };
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let silent_port = silent.local_addr().expect("address").port();
    let closed = support::free_port();

    let wrong_ca = BrokerConfig { ca: theirs.ca.clone(), ..secured("localhost", good.port, &ours) };
    let stranger = BrokerConfig { ca: ours.ca.clone(), ..secured("localhost", good.port, &theirs) };
    let ca_path = theirs.ca.display().to_string();
    let cases: Vec<(&str, BrokerConfig, Vec<&str>)> = vec![
        ("all is well", secured("localhost", good.port, &ours), vec!["connected"]),
        ("wrong CA", wrong_ca, vec!["broker's certificate: not issued by a CA in", &ca_path]),
        (
            "wrong host name",
            secured("localhost", misnamed.port, &elsewhere),
            vec!["broker's certificate: not valid for name localhost", "broker.elsewhere"],
        ),
        (
            "expired",
            secured("localhost", old.port, &expired),
            vec!["broker's certificate: expired 2021-01-01"],
        ),
        (
            "a stranger's certificate",
            stranger,
            vec!["our client certificate refused by the broker: UnknownCA"],
        ),
        ("nobody there", secured("localhost", closed, &ours), vec!["connection refused", "localhost"]),
        (
            "no TLS there",
            secured("localhost", in_the_clear.port, &ours),
            vec!["does it speak TLS at this port?"],
        ),
        ("no such name", secured("no-such-host.invalid", 1, &ours), vec!["cannot be resolved"]),
        ("no answer", secured("localhost", silent_port, &ours), vec!["TLS handshake: no answer within 10 s"]),
        ("TLS broker, plain client", plain(good.port), vec!["broker 127.0.0.1"]),
        ("plain, nobody there", plain(closed), vec!["connection refused"]),
    ];
    for (what, config, texts) in cases {
        let cause = outcome(config);
        println!("{what}: {cause}");
        for text in texts {
            assert!(cause.contains(text), "{what}: \"{text}\" is not in: {cause}");
        }
    }
}

#[test]
fn a_broker_without_tls_1_3_is_told_apart() {
    let pki = Pki::new("localhost");
    // A fatal alert, protocol_version (RFC 8446 §6.2), is what a TLS 1.2 server answers to a TLS 1.3 client.
    let old = scripted::start(|mut stream, _| {
        scripted::send(&mut stream, &[0x15, 3, 3, 0, 2, 2, 70]);
        scripted::drain(stream);
    });
    let cause = outcome(secured("localhost", old.port, &pki));
    assert!(cause.contains("we speak TLS 1.3 only"), "{cause}");
}

#[test]
fn a_lost_link_is_taken_up_with_its_cause_in_the_bulk_status_too() {
    let pki = Pki::new("localhost");
    let stranger = Pki::new("localhost");
    let Some(good) = tls_broker(&pki) else { return };
    let config = BrokerConfig { ca: pki.ca.clone(), ..secured("localhost", good.port, &stranger) };
    let cancel = Arc::new(AtomicBool::new(false));
    let (sender, statuses) = std::sync::mpsc::channel();
    let mut source = BulkSource::new(&broker(config), cancel.clone(), move |status| {
        let _ = sender.send(format!("{status:?}"));
    });
    let fetching = std::thread::spawn(move || source.fetch(&Digest::of(b"x"), 0).map(<[u8]>::to_vec));
    eventually(Duration::from_secs(15), "the cause is told", || {
        statuses.try_iter().any(|s| s.contains("our client certificate refused by the broker: UnknownCA"))
    });
    cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(fetching.join().expect("thread").is_err());
}

const TUNNEL: &str = "MAINSTAY_TEST_TUNNEL";

#[test]
fn the_tunnel_lets_in_this_process_and_no_other() {
    if let Ok(name) = std::env::var(TUNNEL) {
        return knock(&name); // the child below
    }
    let pki = Pki::new("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    listener.set_nonblocking(true).expect("nonblocking");
    let tls = Tls::load(&secured("localhost", port, &pki).credentials()).expect("loaded");
    let tunnel = Tunnel::open(tls, Endpoint { tls: true, host: "127.0.0.1".into(), port }).expect("open");
    let name = tunnel.path().trim_start_matches('\0').to_string();

    let child = std::process::Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", "the_tunnel_lets_in_this_process_and_no_other"])
        .env(TUNNEL, &name)
        .status()
        .expect("child");
    assert!(child.success(), "the child was not turned away");
    assert!(listener.accept().is_err(), "nothing was dialled for it");

    let address = SocketAddr::from_abstract_name(&name).expect("name");
    let _own = UnixStream::connect_addr(&address).expect("connect");
    let begun = Instant::now();
    while listener.accept().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing was dialled for ourselves");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// As another process: connects, and is closed without a word.
fn knock(name: &str) {
    let address = SocketAddr::from_abstract_name(name).expect("name");
    let mut stream = UnixStream::connect_addr(&address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let _ = stream.write_all(b"let me in");
    let read = stream.read(&mut [0; 16]);
    assert!(!matches!(read, Ok(1..)), "something came back");
    let timed_out = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!read.as_ref().is_err_and(timed_out), "it was left open: {read:?}");
}
