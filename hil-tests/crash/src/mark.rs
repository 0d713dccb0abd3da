//! Notes that the recorder leaves in a log: what was seen from outside, and after which write. A gateway that has told its
//! operator something must never un-say it, whatever the power does.
//!
//! ```text
//! boots B trial                                     a boot script chose this
//! heard phase=trial floor=1 seq=17 hash=9f86…       the operator heard the gateway's presence
//! ended committed                                   the operator heard how the deployment ended
//! ```

use mainstay_bootloader_glue::convention::Why;
use mainstay_core::audit::Head;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::update::{OutcomeKind, PhaseName};
use std::fmt;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The boot script chose this group; its writes, if any, follow.
    Boots(Group, Why),
    /// The operator heard a presence.
    Heard {
        /// Where the update stood.
        phase: PhaseName,
        /// The floor.
        floor: u32,
        /// Where the audit log stood.
        audit: Head,
    },
    /// The operator heard the outcome.
    Ended(OutcomeKind),
}

const PHASES: [PhaseName; 9] = [
    PhaseName::Idle,
    PhaseName::Waiting,
    PhaseName::Downloading,
    PhaseName::Verifying,
    PhaseName::Installed,
    PhaseName::Trial,
    PhaseName::Committing,
    PhaseName::RollingBack,
    PhaseName::Settled,
];
const KINDS: [OutcomeKind; 7] = [
    OutcomeKind::Committed,
    OutcomeKind::RolledBack,
    OutcomeKind::FellBack,
    OutcomeKind::Failed,
    OutcomeKind::Rejected,
    OutcomeKind::Halted,
    OutcomeKind::Expired,
];
const WHYS: [Why; 3] = [Why::Good, Why::Trial, Why::LastResort];

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Boots(group, why) => write!(f, "boots {group} {}", why.name()),
            Mark::Heard { phase, floor, audit } => {
                write!(f, "heard phase={phase:?} floor={floor} seq={} hash={}", audit.seq, audit.hash)
            }
            Mark::Ended(kind) => write!(f, "ended {kind:?}"),
        }
    }
}

impl Mark {
    /// Reads what [`Mark`]'s `Display` wrote. `None`: somebody else's mark.
    pub fn parse(text: &str) -> Option<Mark> {
        let words: Vec<&str> = text.split(' ').collect();
        let value = |word: &str, key: &str| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        match *words.as_slice() {
            ["boots", group, why] => Some(Mark::Boots(
                Group::from_name(group)?,
                WHYS.into_iter().find(|known| known.name() == why)?,
            )),
            ["heard", phase, floor, seq, hash] => {
                let phase = value(phase, "phase")?;
                let phase = PHASES.into_iter().find(|known| format!("{known:?}") == phase)?;
                let (seq, hash) =
                    (value(seq, "seq")?.parse().ok()?, Digest::from_hex(&value(hash, "hash")?)?);
                Some(Mark::Heard {
                    phase,
                    floor: value(floor, "floor")?.parse().ok()?,
                    audit: Head { seq, hash },
                })
            }
            ["ended", kind] => KINDS.into_iter().find(|known| format!("{known:?}") == kind).map(Mark::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_read_as_it_was_written_and_others_are_nobody_s() {
        let audit = Head::genesis("gw");
        let marks = WHYS.map(|why| Mark::Boots(Group::B, why)).into_iter();
        let marks = marks.chain(PHASES.map(|phase| Mark::Heard { phase, floor: 7, audit }));
        for mark in marks.chain(KINDS.map(Mark::Ended)) {
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
        for other in ["", "boots C good", "boots A", "heard phase=Idle floor=x seq=1 hash=00", "ended well"] {
            assert_eq!(Mark::parse(other), None, "{other:?}");
        }
    }
}
