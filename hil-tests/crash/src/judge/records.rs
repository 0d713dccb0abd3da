//! What the agent finds of its own after a crash, read by its own code: the store of the daemon, the record of the core, the
//! chain of the audit log.

use crate::fs::ext4::Ext4;
use crate::layout::STATE;
use mainstay::store::FolderStore;
use mainstay_core::audit::{Head, LINE_BYTES_MAX, Verifier};
use mainstay_core::boot::Group;
use mainstay_core::update::{Outcome, OutcomeKind, Phase, Record};
use mainstay_hil::{Doing, Result, Trouble};
use std::path::Path;

/// The state of a gateway.
#[derive(Clone, Debug)]
pub struct Records {
    /// The record in force.
    pub record: Record,
    /// The heads that its audit log comes past, from the genesis on.
    pub heads: Vec<Head>,
}

impl Records {
    /// Unpacks the state folder of a settled data partition into `folder`, and opens it there.
    pub fn read(data: &[u8], folder: &Path, device: &str) -> Result<Records> {
        let data = data.to_vec();
        let mut log = None;
        for (name, content) in Ext4::open(&data)?.files(STATE)? {
            let path = folder.join(&name);
            std::fs::write(&path, &content).doing(|| path.display().to_string())?;
            if name == "audit.broken" || name == "audit.log.1" {
                return Err(Trouble::new(format!(
                    "state folder: expected no {name} after one update, found one"
                )));
            }
            if name == "audit.log" {
                log = Some(content);
            }
        }
        let record = mainstay::run::journal(&mut FolderStore::look(folder)).doing(|| "the record")?;
        let heads = walk(&log.unwrap_or_default(), device).doing(|| "the audit log")?;
        Ok(Records { record, heads })
    }

    /// How far the update has come: never less than it was.
    pub fn rank(&self, target: Group) -> usize {
        match &self.record.phase {
            Phase::Idle if self.record.release(target).is_some_and(|release| release.committed) => DONE,
            phase => phase.name() as usize,
        }
    }

    /// Is the update known to be committed?
    pub fn committed(&self, target: Group) -> bool {
        match &self.record.phase {
            Phase::Settled(_, Outcome { kind, .. }) => *kind == OutcomeKind::Committed,
            Phase::Idle => self.rank(target) == DONE,
            _ => false,
        }
    }

    /// Where the audit log ends.
    pub fn head(&self) -> Option<&Head> {
        self.heads.last()
    }
}

/// Idle again, after the commit.
const DONE: usize = 9;

/// Proves the log line by line from the genesis on. A last line without its end is what a power cut leaves of an append: the
/// agent's next start takes it off.
fn walk(log: &[u8], device: &str) -> Result<Vec<Head>> {
    let mut verifier = Verifier::from(Head::genesis(device));
    let mut heads = vec![Head::genesis(device)];
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            if line.len() > LINE_BYTES_MAX {
                return Err(Trouble::new(format!(
                    "expected a line, found {} bytes without an end",
                    line.len()
                )));
            }
            break;
        };
        let text = std::str::from_utf8(text).doing(|| "expected a line of ASCII")?;
        verifier.line(text).doing(|| format!("after record {}", heads.len() - 1))?;
        heads.push(verifier.clone().finish().doing(|| "its head")?.doing(|| "expected a head, found none")?);
    }
    Ok(heads)
}
