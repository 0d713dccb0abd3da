//! MQTT 5 packets from a broker that nobody vouches for, through the client library that the device carries.
//!
//! The library is not ours, but a panic in it is: its thread would be gone, or the daemon with it. Claims: its decoder and
//! its state take any bytes; what is decoded lies within the packet size that we announce.

use bytes::BytesMut;
use rumqttc::v5::MqttState;
use rumqttc::v5::mqttbytes::Error;
use rumqttc::v5::mqttbytes::v5::Packet;

/// What both connections announce as the largest packet.
const PACKET_BYTES_MAX: u32 = 128 * 1024;

/// A stream of bytes, as the broker sends it.
pub fn run(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    let mut state = MqttState::new(24, true);
    for _ in 0..256 {
        let before = stream.len();
        let packet = match Packet::read(&mut stream, Some(PACKET_BYTES_MAX)) {
            Ok(packet) => packet,
            Err(Error::InsufficientBytes(_)) => return,
            Err(_) => return, // the link hangs up
        };
        assert!(stream.len() < before && before - stream.len() <= PACKET_BYTES_MAX as usize + 5);
        if matches!(&packet, Packet::Publish(p) if p.properties.as_ref().is_some_and(|p| p.topic_alias.is_some()))
        {
            return; // the link hangs up: its test says why
        }
        // The link answers, and hands the packet on, until the state says that the connection is over.
        if state.handle_incoming_packet(packet).is_err() {
            return;
        }
        state.events.clear();
    }
}
