//! What gateways say of themselves, as the operator's tool reads it: presence, progress, outcomes, and the topics that
//! they come by. Unsigned, and from whoever the broker lets speak.
//!
//! Claims: reading, remembering and showing are total; what is shown holds nothing that steers a terminal; nothing is
//! taken from a topic that is not a gateway's of this fleet.

use mainstay::transport::topics::{DATA_HEADER_BYTES, Topics, data_payload, parse_data};
use mainstay_core::digest::Digest;
use mainstay_core::report::{Outcome, Presence, Progress};
use mainstay_core::wire::{check_name, decode_body, encode_body};
use mainstayctl::watch::{Fleet, as_json, one_line, read};

/// Some messages to one watcher, each: 0 what topic, bit 7 kept | 1 length of the topic | 2 and 3 of the payload | both.
pub fn run(data: &[u8]) {
    let (mut fleet, mut rest) = (Fleet::default(), data);
    for _ in 0..8 {
        let Some(([what, topic_bytes, low, high], left)) = rest.split_first_chunk::<4>() else { return };
        let (text, left) = left.split_at(left.len().min((*topic_bytes).into()));
        let (payload, left) = left.split_at(left.len().min(u16::from_le_bytes([*low, *high]).into()));
        rest = left;
        let Ok(text) = std::str::from_utf8(text) else { return };
        let leaf = ["state", "prog", "report", "need"][usize::from(what % 4)];
        let topic = match what >> 2 & 3 {
            0 => text.to_string(),
            1 => format!("mainstay/1/plant/d/{text}/{leaf}"),
            _ => format!("mainstay/1/plant/d/gw-{}/{leaf}", what >> 4 & 3),
        };
        topics(&topic, payload);
        bodies(payload);
        let Ok((id, said)) = read("plant", &topic, payload) else { continue };
        assert!(topic.starts_with(&format!("mainstay/1/plant/d/{id}/")) && check_name("id", &id).is_ok());
        fleet.take(&id, &said, what & 0x80 != 0);
        shown(&one_line(&as_json(&id, &said)));
        fleet.gateways.iter().for_each(|(id, gateway)| shown(&gateway.line(id)));
        fleet.table(usize::from(what >> 6)).lines().for_each(shown);
    }
}

fn shown(line: &str) {
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

/// The device's side: objects by their topic, and by a `data` message.
fn topics(topic: &str, payload: &[u8]) {
    let topics = Topics::new("plant", "gw-1");
    if let Some(name) = topics.object_name(topic.as_bytes()) {
        assert_eq!(topics.object(&name).as_str(), topic, "a topic has one spelling");
    }
    let _ = topics.object_name(payload);
    if let Some(name) = parse_data(payload) {
        assert_eq!(data_payload(&name, &payload[DATA_HEADER_BYTES..]), payload);
    }
    if let Some(digest) = Digest::from_hex(topic) {
        assert_eq!(digest.to_string(), topic);
    }
}

fn bodies(payload: &[u8]) {
    if let Ok(presence) = decode_body::<Presence>("presence", payload) {
        let again = encode_body(&presence).expect("what is read can be written");
        assert_eq!(decode_body::<Presence>("presence", &again), Ok(presence));
    }
    if let Ok(progress) = decode_body::<Progress>("progress", payload) {
        let again = encode_body(&progress).expect("what is read can be written");
        assert_eq!(decode_body::<Progress>("progress", &again), Ok(progress));
    }
    if let Ok(outcome) = decode_body::<Outcome>("outcome", payload) {
        let again = encode_body(&outcome).expect("what is read can be written");
        assert_eq!(decode_body::<Outcome>("outcome", &again), Ok(outcome));
    }
}
