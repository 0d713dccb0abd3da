//! Things to pull, and an installer that pulls them as the real one does: ahead in a window, each proven by its name.

use super::peer::Peer;
use mainstay::transport::BulkSource;
use mainstay::transport::topics::Topics;
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::seam::PieceSource;
use mainstay_core::topic::{self, Leaf};

pub type Object = (Digest, Vec<u8>);

/// `count` objects of up to `most` bytes that do not compress and do not repeat.
pub fn make(count: usize, most: usize) -> Vec<Object> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|n| {
            let bytes = if n % 2 == 0 { most } else { most / 3 + 1 };
            let object: Vec<u8> =
                (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect();
            (Digest::of(&object), object)
        })
        .collect()
}

/// The topics that the tests use, as texts.
pub struct TestTopics(Topics);

pub fn topics() -> TestTopics {
    TestTopics(Topics::new(super::FLEET, super::DEVICE))
}

impl TestTopics {
    pub fn object(&self, name: &Digest) -> String {
        self.0.object(name).to_string()
    }
    pub fn desired_of_group(&self, group: &str) -> String {
        topic::group_desired(super::FLEET, group).to_string()
    }
    pub fn desired(&self) -> String {
        self.0.own(Leaf::Desired).to_string()
    }
    pub fn data(&self) -> String {
        self.0.own(Leaf::Data).to_string()
    }
    pub fn state(&self) -> String {
        self.0.own(Leaf::State).to_string()
    }
    pub fn report(&self) -> String {
        self.0.own(Leaf::Report).to_string()
    }
    pub fn prog(&self) -> String {
        self.0.own(Leaf::Progress).to_string()
    }
    /// One that the agent itself has no use for.
    pub fn cmd(&self) -> String {
        format!("mainstay/1/{}/d/{}/cmd", super::FLEET, super::DEVICE)
    }
    /// Another one.
    pub fn rsp(&self) -> String {
        format!("mainstay/1/{}/d/{}/rsp", super::FLEET, super::DEVICE)
    }
}

/// Publishes them retained, and waits until the broker has them.
pub fn publish(port: u16, objects: &[Object]) {
    let mut peer = Peer::connect(port, "release");
    for (name, object) in objects {
        peer.publish(&topics().object(name), object, true);
    }
    peer.flush();
    let _ = peer.client.disconnect();
}

/// Pulls all of them in order; `after` is called after each. The first fault ends it.
pub fn pull(source: &mut BulkSource, objects: &[Object], mut after: impl FnMut(usize)) -> Result<(), Fault> {
    let mut ahead = objects.iter();
    let mut next = ahead.next();
    for (at, (name, object)) in objects.iter().enumerate() {
        while let Some((name, object)) = next {
            if !source.prefetch(name, object.len() as u32) {
                break;
            }
            next = ahead.next();
        }
        while Digest::of(source.fetch(name, object.len() as u32)?) != *name {
            source.refute(name)?;
        }
        source.release(name);
        after(at + 1);
    }
    Ok(())
}
