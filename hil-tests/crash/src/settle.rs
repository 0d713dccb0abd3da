//! What Linux finds on an ext4 partition after a crash: it replays the journal when it mounts it. e2fsck does the same here, on
//! a copy, and what it made of the same bytes before is not made again.

use crate::fs::ext4::Ext4;
use crate::log::SECTOR;
use crate::medium::Rebuilt;
use crate::medium::{Medium, Part};
use crate::replay::Replay;
use mainstay_hil::{Doing, Result, Trouble};
use mainstay_lab::run::tool;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::rc::Rc;

/// The most partitions that are remembered: 8 or 16 MiB each.
const KEPT: usize = 24;

/// Replays journals.
pub struct Settler {
    folder: tempfile::TempDir,
    kept: HashMap<u64, Rc<Vec<u8>>>,
    /// How often e2fsck was run.
    pub replayed: u64,
}

impl Settler {
    /// Works in a folder of its own; in memory where there is such a place.
    pub fn new() -> Result<Settler> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Ok(Settler {
            folder: folder.doing(|| "a folder for file systems")?,
            kept: HashMap::new(),
            replayed: 0,
        })
    }

    /// The bytes of a partition after Linux has mounted it. `disk` is what `replay` rebuilt; `saved` is what a boot script
    /// wrote after that: sectors of the disk.
    pub fn settle(
        &mut self,
        replay: &Replay<'_>,
        disk: &Rebuilt<'_>,
        part: &Part<'_>,
        saved: &[(u64, Vec<u8>)],
    ) -> Result<Rc<Vec<u8>>> {
        let place = part.start..part.start + part.size;
        let mut key = DefaultHasher::new();
        (&place, replay.version(&place), saved).hash(&mut key);
        disk.differing(place.start, place.end).for_each(|over| over.hash(&mut key));
        self.settled(key.finish(), || {
            let mut bytes = part.bytes(0, part.size as usize);
            for (sector, content) in saved {
                let at = (sector * SECTOR as u64).saturating_sub(part.start) as usize;
                if let Some(place) = bytes.get_mut(at..at + content.len()) {
                    place.copy_from_slice(content);
                }
            }
            bytes
        })
    }

    fn settled(&mut self, key: u64, bytes: impl FnOnce() -> Vec<u8>) -> Result<Rc<Vec<u8>>> {
        if let Some(known) = self.kept.get(&key) {
            return Ok(known.clone());
        }
        let mut bytes = bytes();
        if Ext4::needs_recovery(&bytes) {
            let file = self.folder.path().join("ext4");
            std::fs::write(&file, &bytes).doing(|| file.display().to_string())?;
            self.replayed += 1;
            replay_journal(&file)?;
            bytes = std::fs::read(&file).doing(|| file.display().to_string())?;
        }
        if self.kept.len() >= KEPT {
            self.kept.clear(); // points come in ascending order: what was is seldom asked for again
        }
        let bytes = Rc::new(bytes);
        self.kept.insert(key, bytes.clone());
        Ok(bytes)
    }

    /// A folder to unpack things into, empty.
    pub fn fresh_folder(&self) -> Result<std::path::PathBuf> {
        let folder = self.folder.path().join("state");
        let _ = std::fs::remove_dir_all(&folder); // not there the first time
        std::fs::create_dir_all(&folder).doing(|| folder.display().to_string())?;
        Ok(folder)
    }
}

/// Replays the journal of the ext4 file system in `image`, as the kernel does when it mounts it, and nothing else.
fn replay_journal(image: &Path) -> Result<()> {
    let mut e2fsck = tool("e2fsck");
    let output = e2fsck.args(["-y", "-E", "journal_only"]).arg(image).output();
    let output = output.doing(|| "starting e2fsck (Debian: apt install e2fsprogs)")?;
    match output.status.code() {
        Some(0 | 1) => Ok(()), // 1: it was replayed (e2fsck(8), "EXIT CODE")
        _ => {
            let said = [output.stderr, output.stdout].concat();
            let said = String::from_utf8_lossy(&said);
            let first: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(3).collect();
            Err(Trouble::new(format!("e2fsck: {}: {}", output.status, first.join(" | "))))
        }
    }
}
