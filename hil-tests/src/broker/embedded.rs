//! rumqttd inside this process, plain MQTT 5 on a loopback port: no package, no root right, gone with the process.
//!
//! What to know of it (0.20, read in its source and measured):
//! * Retained messages live in memory, in a hash map of whole messages. See `hil-tests/README.md` for figures.
//! * A SUBSCRIBE looks at every retained message to find what matches: time grows with messages times subscriptions.
//! * It cannot be told to stop. The gate in front of it is shut instead; a broker that has to forget what it retained is left
//!   behind with its threads and its memory, and another one is started.
//! * It sends up to 100 messages whatever Receive Maximum says, and ends a connection whose PUBACKs come in another order
//!   than the messages did (which MQTT 5 section 4.6 asks for, too).
//! * Its port is plain and open to everybody on this machine. It is a bench's broker.

use super::gate::{free_port, wait_until_open};
use crate::{Doing, Result};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// The largest packet that it takes: room for an object of 96 KiB and whatever a test sends that is too large.
const PACKET_BYTES_MAX: usize = 256 * 1024;
/// How much of what was published live it keeps for each subscription: 4 × 1 MiB.
const LOG_SEGMENT_BYTES: usize = 1024 * 1024;
const LOG_SEGMENTS: usize = 4;

/// Starts one; where it listens.
pub fn start() -> Result<SocketAddr> {
    let listen = free_port()?;
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: PACKET_BYTES_MAX,
        max_inflight_count: 500,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server =
        ServerSettings { name: "bench".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 1000,
        max_outgoing_packet_count: 200,
        max_segment_size: LOG_SEGMENT_BYTES,
        max_segment_count: LOG_SEGMENTS,
        ..RouterConfig::default()
    };
    let v5 = Some(HashMap::from([("bench".to_owned(), server)]));
    let mut broker = Broker::new(Config { router, v5, ..Config::default() });
    let body = move || {
        if let Err(error) = broker.start() {
            eprintln!("embedded broker: {error}");
        }
    };
    thread::Builder::new().name("broker".into()).spawn(body).doing(|| "the embedded broker's thread")?;
    wait_until_open(listen, Duration::from_secs(10))?;
    Ok(listen)
}
