//! Bent slots: where a segment goes, when it is durable, and what a read back says.

use super::{Bent, Mutant};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::seam::*;

pub(super) struct Slots<'a> {
    pub inner: Box<dyn SlotWriter + 'a>,
    pub bent: Bent,
}

impl SlotWriter for Slots<'_> {
    fn open(&mut self, group: Group, class: &str) -> Result<u64> {
        self.inner.open(group, class)
    }

    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        match self.bent.mutant {
            Mutant::WritesTheRunningGroup => return self.inner.write(group.other(), class, segment),
            Mutant::ReadBackFromMemory => {
                let written = (group, class.into(), segment.at(), segment.bytes().to_vec());
                self.bent.memory().session.written.push(written);
            }
            _ => {}
        }
        self.inner.write(group, class, segment)
    }

    fn sync(&mut self, group: Group, class: &str) -> Result<()> {
        match self.bent.mutant {
            Mutant::NotSynced => Ok(()),
            Mutant::OneSlotNotSynced if class == "appfs" => Ok(()),
            Mutant::SyncedAfterTheRecord => {
                self.bent.memory().session.unsynced.push((group, class.into()));
                Ok(())
            }
            _ => self.inner.sync(group, class),
        }
    }

    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let memory = self.bent.memory();
        let mut written = memory.session.written.iter().rev();
        let ours = written.find(|(g, c, from, bytes)| {
            (*g, c.as_str(), *from, bytes.len()) == (group, class, at, out.len())
        });
        match ours {
            Some((.., bytes)) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => self.inner.read_back(group, class, at, out),
        }
    }
}
