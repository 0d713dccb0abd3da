//! Crash points: the disk of a real guest, rebuilt at each of its writes during a whole update, and judged.
//!
//! ```text
//! record   QEMU runs kernel and agent; blklogwrites logs every write      log, mark, layout, record
//! rebuild  the disk before any entry of the log, with what was not        medium, replay, sample
//!          flushed there, lost or torn
//! judge    what would the bootloader boot, what is in it, what does       fs, settle, judge
//!          the agent find of its own, how does it go on
//! doubt    spoil the recording: does the judge see it?                    control
//! ```
//! The simulator (`agent/sim`) cuts the power at every write of a disk that it has made up, thousands of times a second; here
//! the writes are those of a real kernel's page cache, journal and file systems under the shipped binary.

pub mod control;
pub mod fs;
pub mod judge;
pub mod layout;
pub mod log;
pub mod mark;
pub mod medium;
pub mod record;
pub mod replay;
pub mod report;
pub mod run;
pub mod sample;
pub mod settle;

pub use report::Report;
pub use run::{Options, run};
