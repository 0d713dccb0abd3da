//! rumqttd in this process, with its MQTT 5 listener. It ignores Receive Maximum, and its default payload limit of
//! 20 KiB is too small for objects.

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::TcpStream;
use std::time::Duration;

/// Starts one and gives its port. It runs as long as the process.
pub fn start() -> u16 {
    let port = super::free_port();
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 256 * 1024,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "v5".into(),
        listen: ([127, 0, 0, 1], port).into(),
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let config = Config {
        id: 0,
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 10 * 1024 * 1024,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("1".to_string(), server)])),
        ..Config::default()
    };
    std::thread::spawn(move || {
        let _ = Broker::new(config).start();
    });
    super::eventually(Duration::from_secs(10), "rumqttd listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    port
}
