//! The audit log: what ran where, since when, approved by whom, in lines that a person reads on a serial console and
//! that cannot be changed unnoticed.
//!
//! ```text
//! 42 1800000000 settled outcome=Committed version=2.0.0 manifest=a2f0… attempt=7 9f86d081884c7d65
//! │  │          │       └ key=value, at most VALUES_MAX                           └ first 16 digits of the hash
//! │  │          └ event's id                        hash = SHA-256(hash before it || line up to the space before it)
//! │  └ Unix seconds, or - where the clock is not set
//! └ sequence number, from 1, one higher each time
//! ```
//! A line is printable ASCII. A value that is not `A-Z a-z 0-9 . _ : / + @ -` stands in double quotes, with `\"`, `\\`,
//! `\u{…}` for what is not printable ASCII, and `\~` at its end where it was cut.
//!
//! The hash of record 0, which does not exist, is SHA-256(`mainstay/1 audit` 00 || device id), so that no record of one
//! gateway fits another's log. A `started` record, one at each start of the agent, carries the whole hash before it
//! (`prev=`): a log whose beginning has been dropped to make room can be walked from there.
//!
//! What is found: each edit, insertion, removal, swap and repetition before the last record. What is *not* found by the
//! log alone: a tail cut at a line's end, and a log that was written anew from some record on; the chain holds no
//! secret. Against both stands the [`Head`]: it travels in reports and is kept beside the log, and a log that does not
//! come past a head that somebody remembers has lost what it said.
//!
//! `core` makes the lines and reads them; where they are kept, and how much of them, is the caller's.

mod event;
mod reader;
mod writer;

pub use event::Event;
pub use reader::{Broken, Record, Verifier};
pub use writer::{KEY_BYTES_MAX, LINE_BYTES_MAX, Line, VALUE_BYTES_MAX, VALUES_MAX, note, record};

use crate::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// Where a log stands: the number of its last record, and the hash that all before it went into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last record's number; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Of an empty log.
    pub fn genesis(device: &str) -> Head {
        let mut hasher = Hasher::new();
        hasher.update(b"mainstay/1 audit\0");
        hasher.update(device.as_bytes());
        Head { seq: 0, hash: hasher.finish() }
    }

    /// After one more record, whose line up to its hash is `text`.
    fn after(&self, text: &str) -> Head {
        let mut hasher = Hasher::new();
        hasher.update(&self.hash.0);
        hasher.update(text.as_bytes());
        Head { seq: self.seq.saturating_add(1), hash: hasher.finish() }
    }

    /// What stands at the end of a line.
    fn short(&self) -> heapless::String<HASH_DIGITS> {
        crate::fault::clip(self.hash)
    }
}

/// Hexadecimal digits of the hash on a line: 64 bits, for people and for finding accidents; the whole hash is in the head.
const HASH_DIGITS: usize = 16;
