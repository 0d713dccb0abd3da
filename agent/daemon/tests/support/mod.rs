//! What the transport's tests share: brokers, certificates, and the other side of the wire.
//!
//! * [`mosquitto`] a real Mosquitto on a free loopback port, with its own folder; tests are skipped, with a line that
//!   says so, where it is not installed
//! * [`embedded`] rumqttd inside the test process
//! * [`scripted`] a broker that follows a script, for what no honest broker does
//! * [`pki`] a certificate authority and what it issues
//! * [`peer`] an MQTT client: publisher, observer, server of missing objects
//! * [`web`] web servers, and a folder as they serve it
//! * [`objects`] things to pull, and an installer that pulls them

#![allow(dead_code)] // each test binary uses its part

pub mod embedded;
pub mod mosquitto;
pub mod objects;
pub mod peer;
pub mod pki;
pub mod scripted;
pub mod web;

use mainstay::transport::backoff::Bounds;
use mainstay::transport::{Broker, BrokerConfig};
use std::time::{Duration, Instant};

pub const FLEET: &str = "plant";
pub const DEVICE: &str = "gw-1";

/// Plain TCP to a port of this machine, coming back quickly.
pub fn plain(port: u16) -> BrokerConfig {
    BrokerConfig {
        url: format!("mqtt://127.0.0.1:{port}"),
        allow_plain: true,
        device: DEVICE.into(),
        fleet: FLEET.into(),
        keep_alive_s: 5,
        reconnect: Bounds { first: Duration::from_millis(100), max: Duration::from_millis(400) },
        ..BrokerConfig::default()
    }
}

pub fn broker(config: BrokerConfig) -> Broker {
    Broker::new(config).expect("the configuration is good")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

/// Waits until `what` is true, and fails after `limit`.
pub fn eventually(limit: Duration, text: &str, mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Resident memory of this process in KiB.
pub fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("number")
}
