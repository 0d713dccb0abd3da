//! What a gateway says of itself. Postcard behind a version byte, unsigned: the broker's access control says who
//! speaks; what counts for an auditor is the hash-chained log.
//!
//! | message | topic | retained | when |
//! |---|---|---|---|
//! | [`Presence`] | `…/state` | yes | after every connection, at every change of phase, as the last will |
//! | [`Outcome`] | `…/report` | no | when settled, until acknowledged by the broker |
//! | [`Progress`] | `…/prog` | no | while writing, at most every five seconds or five percent |

use crate::audit::Head;
use crate::boot::Group;
use crate::digest::Digest;
use crate::limits::{DETAIL_BYTES_MAX, VERSION_BYTES_MAX};
use crate::update::{OutcomeKind, PhaseName};
use heapless::String;
use serde::{Deserialize, Serialize};

/// Is it there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// Connected.
    Online,
    /// Gone without a word: the last will.
    Offline,
    /// Going down on purpose; back by the deadline.
    Rebooting,
    /// Connected, and a factory reset is under way.
    Resetting,
    /// Out of service for good: the last word of this gateway, for its key is destroyed next.
    Decommissioned,
}

/// What one group holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its version; empty where the agent does not know.
    pub version: String<VERSION_BYTES_MAX>,
    /// What the bootloader knows of it, where it could be read: priority, tries left, good (0 no, 1 yes, 2 unsaid).
    pub boot: Option<(u8, u8, u8)>,
}

/// A gateway's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Is it there?
    pub availability: Availability,
    /// Different at every start of the agent: a will of an older session says nothing about a newer one.
    pub session: u64,
    /// The running group.
    pub running: Group,
    /// What A and B hold.
    pub groups: [GroupReport; 2],
    /// Where the update stands.
    pub phase: PhaseName,
    /// The bundle that it is about.
    pub deployment: Option<(Digest, String<VERSION_BYTES_MAX>)>,
    /// How it ended, if it has: an outcome that was reported while nobody listened is not lost.
    pub outcome: Option<(OutcomeKind, String<DETAIL_BYTES_MAX>)>,
    /// The floor.
    pub floor: u32,
    /// The version of the trust root in force.
    pub trust: u32,
    /// The highest sequence number of a desired state that was accepted.
    pub desired_seq: u64,
    /// What it waits for, or what is wrong.
    pub detail: String<DETAIL_BYTES_MAX>,
    /// The agent's version.
    pub agent: String<24>,
    /// Where the audit log stands: who keeps this can tell whether its end was cut later.
    pub audit: Head,
}

/// How far the writing has come. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The bundle.
    pub manifest: Digest,
    /// Content that stands in the target.
    pub done: u64,
    /// Content in all.
    pub total: u64,
    /// Bytes that were fetched.
    pub fetched: u64,
    /// Content that the running group gave.
    pub copied: u64,
    /// Content that stood in the target already.
    pub kept: u64,
}

/// How a deployment ended. Idempotent by (manifest, attempt, kind).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The bundle.
    pub manifest: Digest,
    /// Its version.
    pub version: String<VERSION_BYTES_MAX>,
    /// Which deployment of this gateway.
    pub attempt: u32,
    /// How.
    pub kind: OutcomeKind,
    /// Why.
    pub detail: String<DETAIL_BYTES_MAX>,
    /// The group that runs now.
    pub running: Group,
    /// The version that runs now; empty where the agent does not know.
    pub running_version: String<VERSION_BYTES_MAX>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::clip;

    #[test]
    fn the_largest_presence_is_as_long_as_the_specification_says() {
        let long = "x".repeat(400);
        let group = || GroupReport { version: clip(&long), boot: Some((9, 9, 2)) };
        let presence = Presence {
            availability: Availability::Rebooting,
            session: u64::MAX,
            running: Group::B,
            groups: [group(), group()],
            phase: PhaseName::Settled,
            deployment: Some((Digest([0xff; 32]), clip(&long))),
            outcome: Some((OutcomeKind::Expired, clip(&long))),
            floor: u32::MAX,
            trust: u32::MAX,
            desired_seq: u64::MAX,
            detail: clip(&long),
            agent: clip(&long),
            audit: Head { seq: u64::MAX, hash: Digest([0xff; 32]) },
        };
        let mut bytes = [0; 1024];
        let body = crate::wire::encode_body_into(&presence, &mut bytes).unwrap();
        assert_eq!(body.len(), 615);
        assert_eq!(crate::wire::decode_body::<Presence>("presence", body).unwrap(), presence);
    }
}
