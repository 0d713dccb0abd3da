//! A broker that follows a script: it takes connections, answers CONNECT, and then does what an honest one never would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// CONNACK: success, no session, no properties (MQTT 5 §3.2).
pub const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

pub struct Scripted {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
}

/// `script` gets each connection and its CONNECT packet, one after the other.
pub fn start(mut script: impl FnMut(TcpStream, Vec<u8>) + Send + 'static) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut connect = vec![0; 4096];
            let Ok(taken) = stream.read(&mut connect) else { continue };
            if taken == 0 {
                continue;
            }
            connect.truncate(taken);
            counted.fetch_add(1, Ordering::SeqCst);
            script(stream, connect);
        }
    });
    Scripted { port, connections }
}

/// A PUBLISH at QoS 0.
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    publish_with(topic, &[], payload)
}

/// A PUBLISH at QoS 1.
pub fn publish_at_least_once(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    // The identifier stands between topic and properties (MQTT 5 section 3.3.2): where their length was, at QoS 0.
    let [high, low] = id.to_be_bytes();
    let mut packet = publish_with(topic, &[], &[&[low, 0], payload].concat());
    let at = packet.len() - payload.len() - 3;
    (packet[0], packet[at]) = (0x32, high);
    packet
}

/// A PUBLISH at QoS 0 with properties, less than 128 bytes of them.
pub fn publish_with(topic: &str, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut left = 2 + topic.len() + 1 + properties.len() + payload.len();
    loop {
        let more = if left > 127 { 0x80 } else { 0 };
        packet.push((left % 128) as u8 | more);
        left /= 128;
        if left == 0 {
            break;
        }
    }
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.push(properties.len() as u8);
    packet.extend(properties);
    packet.extend(payload);
    packet
}

/// Answers each SUBSCRIBE and each PUBLISH at QoS 1 as an honest broker does, and shows each PUBLISH, until the client
/// closes.
pub fn answer(mut stream: TcpStream, mut published: impl FnMut(&[u8])) {
    let mut held = Vec::new();
    let mut some = [0; 4096];
    while let Ok(taken @ 1..) = stream.read(&mut some) {
        held.extend_from_slice(&some[..taken]);
        while let Some((head, body)) = packet(&held) {
            let body = held[body].to_vec();
            let id = |at: usize| [body[at], body[at + 1]];
            match head >> 4 {
                3 if head & 0b110 == 0 => published(&body),
                3 => {
                    published(&body);
                    let [high, low] = id(2 + usize::from(u16::from_be_bytes(id(0))));
                    send(&mut stream, &[0x40, 2, high, low]);
                }
                8 => {
                    let [high, low] = id(0);
                    send(&mut stream, &[0x90, 4, high, low, 0, 1]);
                }
                12 => {
                    send(&mut stream, &[0xd0, 0]);
                }
                _ => {}
            }
            let (_, body) = packet(&held).expect("it was there a moment ago");
            held.drain(..body.end);
        }
    }
}

/// The first byte and the place of what follows the length, once a packet is there whole (MQTT 5 section 2.1).
fn packet(held: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (head, rest) = held.split_first()?;
    let digits = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let length = rest[..digits].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    let begin = 1 + digits;
    (held.len() >= begin + length).then_some((*head, begin..begin + length))
}

/// Reads and forgets until the client closes.
pub fn drain(mut stream: TcpStream) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|n| n > 0) {}
}

/// Writes; `false` when the client has closed.
pub fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}
