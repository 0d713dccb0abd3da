//! The topics of one gateway, and the two small formats of its own: `need` and `data`. Every name comes from
//! [`mainstay_core::topic`], which both ends share.

use mainstay_core::digest::Digest;
use mainstay_core::topic::{self, Leaf, Topic};

/// First byte of `need` and `data`.
pub const FORMAT: u8 = 1;
/// One `need` names at most 16 objects: 1 + 16 * 32 = 513 bytes.
pub const NEED_NAMES_MAX: usize = 16;
/// What stands before the object in a `data` message: the format and the object's name.
pub const DATA_HEADER_BYTES: usize = 1 + 32;

/// Makes the topics of one device in one fleet.
#[derive(Clone, Debug)]
pub struct Topics {
    fleet: String,
    device: String,
}

impl Topics {
    /// `fleet` and `device` have been checked by [`BrokerConfig::check`](super::BrokerConfig::check).
    pub fn new(fleet: &str, device: &str) -> Self {
        Topics { fleet: fleet.into(), device: device.into() }
    }

    /// A topic under the device's own name.
    pub fn own(&self, leaf: Leaf) -> Topic {
        topic::device(&self.fleet, &self.device, leaf)
    }

    /// An object by its digest.
    pub fn object(&self, name: &Digest) -> Topic {
        topic::object(&self.fleet, name)
    }

    /// The name in an object's topic; `None` for every other topic, and for upper-case digits.
    pub fn object_name(&self, topic: &[u8]) -> Option<Digest> {
        let rest = topic.strip_prefix(b"mainstay/1/")?.strip_prefix(self.fleet.as_bytes())?;
        Digest::from_hex(std::str::from_utf8(rest.strip_prefix(b"/c/")?).ok()?)
    }
}

/// A `need` message: the format byte, then the names, 32 bytes each, those that are waited for longest first.
/// Names beyond [`NEED_NAMES_MAX`] are left out; they are asked for in the next round.
pub fn need_payload(names: &[Digest]) -> Vec<u8> {
    let names = names.iter().take(NEED_NAMES_MAX);
    std::iter::once(FORMAT).chain(names.flat_map(|n| n.0)).collect()
}

/// The name in a `data` message; the object follows after [`DATA_HEADER_BYTES`].
///
/// ```text
/// byte 0        format, 1
/// byte 1..33    name: SHA-256 of the object
/// byte 33..     the object
/// ```
pub fn parse_data(payload: &[u8]) -> Option<Digest> {
    let (header, _) = payload.split_at_checked(DATA_HEADER_BYTES)?;
    match header.split_first()? {
        (&FORMAT, name) => Some(Digest(name.try_into().ok()?)),
        _ => None,
    }
}

/// A `data` message, as a server of objects sends it.
pub fn data_payload(name: &Digest, object: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(DATA_HEADER_BYTES + object.len());
    payload.push(FORMAT);
    payload.extend_from_slice(&name.0);
    payload.extend_from_slice(object);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_topic_gives_back_its_name_and_nothing_else_does() {
        let topics = Topics::new("plant", "gw-1");
        let name = Digest::of(b"x");
        assert_eq!(topics.object_name(topics.object(&name).as_bytes()), Some(name));
        let upper = topics.object(&name).to_uppercase();
        for other in [
            "",
            "mainstay/1/plant/c/",
            "mainstay/1/plan/c/00",
            "mainstay/1/plant/d/gw-1/data",
            upper.as_str(),
        ] {
            assert_eq!(topics.object_name(other.as_bytes()), None, "{other}");
        }
        assert_eq!(topics.object_name(mainstay_core::topic::manifest("plant", &name).as_bytes()), None);
        assert_eq!(topics.object_name(Topics::new("plant2", "gw-1").object(&name).as_bytes()), None);
    }

    #[test]
    fn a_data_message_gives_back_its_name_and_damaged_ones_do_not() {
        let name = Digest::of(b"x");
        let message = data_payload(&name, b"x");
        assert_eq!(parse_data(&message), Some(name));
        assert_eq!(message.get(DATA_HEADER_BYTES..), Some(&b"x"[..]));
        assert_eq!(parse_data(&message[..32]), None, "cut in its header");
        assert_eq!(parse_data(&[2; 40]), None, "another format");
        assert_eq!(parse_data(b""), None);
    }

    #[test]
    fn a_need_names_at_most_sixteen() {
        assert_eq!(need_payload(&[Digest::of(b"x"); 40]).len(), 1 + 16 * 32);
        assert_eq!(need_payload(&[Digest::of(b"x")])[0], FORMAT);
    }
}
