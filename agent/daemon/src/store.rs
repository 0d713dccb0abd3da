//! The agent's durable state: a folder with two files for each [`StateFile`], written in place and alternately as
//! [`mainstay_core::copies`] draws them. No rename, so nothing rests on how a file system orders one.
//!
//! ```text
//! /var/lib/mainstay/     0700
//!   lock                 held by the one agent that may write
//!   journal.0 journal.1  the record
//!   manifest.0 …         the envelope of the manifest that the record speaks of
//!   trust.0 …            the envelope of the trust root in force, once it has been rotated
//!   audit.log            what happened, hash-chained
//! ```
//! A file gets its full size at its first write, so later writes change no metadata but times.

use mainstay_core::copies::{COPY_BYTES_MAX, Copy, choose, copy_bytes, write};
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::seam::{Result, StateFile, StateStore};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The state folder, opened by the one process that may write it.
pub struct FolderStore {
    folder: PathBuf,
    buffers: Box<[[u8; COPY_BYTES_MAX]; 2]>,
    _lock: Option<nix::fcntl::Flock<File>>,
}

impl FolderStore {
    /// Opens the folder for writing; makes it where it is missing. Busy: another agent holds its lock.
    pub fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| io_fault("make the state folder", folder, &e))?;
        let path = folder.join("lock");
        let file = private(&path).map_err(|e| io_fault("open", &path, &e))?;
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(
            |(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => {
                    fault!(Busy, "state folder {}: another mainstay holds it", folder.display())
                }
                e => io_fault("lock", &path, &e.into()),
            },
        )?;
        Ok(Self::over(folder, Some(lock)))
    }

    /// Opens the folder for looking only: takes no lock, and refuses to write.
    pub fn look(folder: &Path) -> Self {
        Self::over(folder, None)
    }

    fn over(folder: &Path, lock: Option<nix::fcntl::Flock<File>>) -> Self {
        let buffers = Box::new([[0; COPY_BYTES_MAX]; 2]);
        FolderStore { folder: folder.into(), buffers, _lock: lock }
    }

    fn path(&self, file: StateFile, copy: usize) -> PathBuf {
        path_of(&self.folder, file, copy)
    }

    /// Reads both copies; a file that is missing reads as empty.
    fn read(&mut self, file: StateFile) -> Result<[usize; 2]> {
        let mut lengths = [0; 2];
        for (copy, length) in lengths.iter_mut().enumerate() {
            let path = self.path(file, copy);
            let buffer = &mut self.buffers[copy][..copy_bytes(file)];
            *length = match read_up_to(&path, buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == ErrorKind::NotFound => 0,
                Err(e) => return Err(io_fault("read", &path, &e)),
            };
        }
        Ok(lengths)
    }
}

impl StateStore for FolderStore {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        let [zero, one] = self.read(file)?;
        let pair =
            choose(Copy::read(file, &self.buffers[0][..zero]), Copy::read(file, &self.buffers[1][..one]));
        let payload = pair.in_force.map_err(|()| {
            fault!(
                Corrupt,
                "state {}: expected a whole copy in one of two files, found none",
                self.path(file, 0).display()
            )
        })?;
        let Some(payload) = payload else { return Ok(None) };
        let room = out.len();
        let to = out.get_mut(..payload.len());
        to.ok_or_else(|| fault!(Full, "state {file:?}: {} bytes, room for {room}", payload.len()))?
            .copy_from_slice(payload);
        Ok(Some(payload.len()))
    }

    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        if self._lock.is_none() {
            return Err(fault!(Refused, "state folder {}: opened for looking only", self.folder.display()));
        }
        let [zero, one] = self.read(file)?;
        let pair =
            choose(Copy::read(file, &self.buffers[0][..zero]), Copy::read(file, &self.buffers[1][..one]));
        let (copy, seq) = (pair.next_copy, pair.next_seq);
        let buffer = &mut self.buffers[0][..copy_bytes(file)];
        write(file, seq, bytes, buffer)?;
        let path = self.path(file, copy);
        let written = (|| {
            let new = !path.exists();
            let target = private(&path)?;
            target.write_all_at(&self.buffers[0][..copy_bytes(file)], 0)?;
            target.sync_data()?;
            // A new file is there after a power cut only when its folder says so.
            if new { File::open(&self.folder)?.sync_all() } else { Ok(()) }
        })();
        written.map_err(|e| io_fault(&format!("write {} bytes to", copy_bytes(file)), &path, &e))
    }
}

fn path_of(folder: &Path, file: StateFile, copy: usize) -> PathBuf {
    let name = match file {
        StateFile::Journal => "journal",
        StateFile::Manifest => "manifest",
        StateFile::Trust => "trust",
    };
    folder.join(format!("{name}.{copy}"))
}

/// The room that an update still takes in this folder: a file that is there has its full size for ever.
pub fn bytes_to_come(folder: &Path) -> u64 {
    let files = [StateFile::Journal, StateFile::Manifest].into_iter();
    let copies = files.flat_map(|file| [0, 1].map(|copy| (file, path_of(folder, file, copy))));
    copies.filter(|(_, path)| !path.exists()).map(|(file, _)| copy_bytes(file) as u64).sum()
}

/// What root may still write on a file system.
#[allow(clippy::useless_conversion)] // its fields are of other sizes on 32 bits
pub fn free_bytes(stat: &nix::sys::statvfs::Statvfs) -> u64 {
    u64::from(stat.blocks_free()).saturating_mul(stat.fragment_size().into())
}

/// Opens or makes a file that only its owner reads and writes.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_up_to(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// An error of the operating system, with what was being done to which path.
pub fn io_fault(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        ErrorKind::NotFound => FaultKind::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => FaultKind::Full,
        ErrorKind::ReadOnlyFilesystem => FaultKind::ReadOnly,
        ErrorKind::PermissionDenied => FaultKind::Refused,
        _ => FaultKind::Io,
    };
    Fault::new(kind, format_args!("{doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(store: &mut FolderStore, file: StateFile) -> Result<Option<Vec<u8>>> {
        let mut out = vec![0; COPY_BYTES_MAX];
        Ok(store.load(file, &mut out)?.map(|length| out[..length].to_vec()))
    }

    #[test]
    fn what_was_persisted_last_is_loaded_and_the_other_copy_is_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        assert_eq!(load(&mut store, StateFile::Journal).unwrap(), None);
        for round in 0..5u8 {
            store.persist(StateFile::Journal, &[round; 100]).unwrap();
            assert_eq!(load(&mut store, StateFile::Journal).unwrap(), Some(vec![round; 100]));
        }
        // The newest copy is torn: the one before it counts.
        let newest = folder.path().join("journal.0");
        let mut bytes = std::fs::read(&newest).unwrap();
        bytes[40] ^= 0xff;
        std::fs::write(&newest, bytes).unwrap();
        assert_eq!(load(&mut store, StateFile::Journal).unwrap(), Some(vec![3; 100]));
    }

    #[test]
    fn two_damaged_copies_are_an_error_that_names_the_file_and_not_an_empty_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        store.persist(StateFile::Trust, b"root").unwrap();
        std::fs::write(folder.path().join("trust.0"), b"garbage").unwrap();
        let fault = load(&mut store, StateFile::Trust).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Corrupt);
        assert!(fault.what.contains("trust.0"), "{fault}");
    }

    #[test]
    fn a_second_agent_is_refused_and_a_looker_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        assert_eq!(FolderStore::open(folder.path()).err().unwrap().kind, FaultKind::Busy);
        store.persist(StateFile::Journal, b"x").unwrap();
        let mut looker = FolderStore::look(folder.path());
        assert_eq!(load(&mut looker, StateFile::Journal).unwrap(), Some(b"x".to_vec()));
        assert_eq!(looker.persist(StateFile::Journal, b"y").unwrap_err().kind, FaultKind::Refused);
    }

    #[test]
    fn state_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        let mut store = FolderStore::open(&folder).unwrap();
        store.persist(StateFile::Journal, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("journal.0")), 0o600);
    }
}
