//! The topics of `mainstay/1`, in one place for both ends. F: fleet, D: device id; at most seven slashes (a limit of
//! AWS IoT Core). What travels where stands in SPEC-wire.

use crate::digest::Digest;
use heapless::String;

/// `mainstay/1/` + fleet (48) + `/d/` + device (48) + leaf.
pub const TOPIC_BYTES_MAX: usize = 192;

/// A topic.
pub type Topic = String<TOPIC_BYTES_MAX>;

/// What a gateway publishes and listens to under its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Down, retained: the signed desired state for this gateway alone.
    Desired,
    /// Down: answers to `need`.
    Data,
    /// Up, retained: presence.
    State,
    /// Up: outcomes.
    Report,
    /// Up: progress.
    Progress,
    /// Up: objects that the broker does not hold.
    Need,
}

impl Leaf {
    /// The last level.
    pub const fn name(self) -> &'static str {
        match self {
            Leaf::Desired => "desired",
            Leaf::Data => "data",
            Leaf::State => "state",
            Leaf::Report => "report",
            Leaf::Progress => "prog",
            Leaf::Need => "need",
        }
    }
}

/// `mainstay/1/F/g/GROUP/desired`
pub fn group_desired(fleet: &str, group: &str) -> Topic {
    topic(format_args!("mainstay/1/{fleet}/g/{group}/desired"))
}

/// `mainstay/1/F/d/D/LEAF`; `device` may be `+`.
pub fn device(fleet: &str, device: &str, leaf: Leaf) -> Topic {
    topic(format_args!("mainstay/1/{fleet}/d/{device}/{}", leaf.name()))
}

/// `mainstay/1/F/m/HASH`: a manifest's envelope, by the SHA-256 of the whole envelope.
pub fn manifest(fleet: &str, name: &Digest) -> Topic {
    topic(format_args!("mainstay/1/{fleet}/m/{name}"))
}

/// `mainstay/1/F/c/HASH`: an object, by its SHA-256.
pub fn object(fleet: &str, name: &Digest) -> Topic {
    topic(format_args!("mainstay/1/{fleet}/c/{name}"))
}

/// `mainstay/1/F/t/VERSION`: the trust root's envelope of this version.
pub fn trust(fleet: &str, version: u32) -> Topic {
    topic(format_args!("mainstay/1/{fleet}/t/{version}"))
}

/// Names are bounded, so nothing is ever cut here.
fn topic(text: core::fmt::Arguments<'_>) -> Topic {
    crate::fault::clip(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_topics_are_not_cut_and_have_at_most_seven_slashes() {
        let name = "n".repeat(crate::limits::NAME_BYTES_MAX);
        let digest = Digest([0xff; 32]);
        let topics = [
            group_desired(&name, &name),
            device(&name, &name, Leaf::Desired),
            manifest(&name, &digest),
            object(&name, &digest),
            trust(&name, u32::MAX),
        ];
        for topic in topics {
            assert!(topic.len() < TOPIC_BYTES_MAX, "{topic}");
            assert!(topic.matches('/').count() <= 7, "{topic}");
        }
    }
}
