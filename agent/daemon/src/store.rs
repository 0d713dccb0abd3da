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
//!
//! What is read comes from the medium, and what was written is read back: after an fdatasync that failed, the page cache
//! says what was to be written, and the medium never got it. A copy whose write failed does not count, and is the one
//! that is written next: else the next write would go over the only copy that is whole.

use mainstay_core::copies::{COPY_BYTES_MAX, Copy, Pair, choose, copy_bytes, write};
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::seam::{Result, StateFile, StateStore};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state folder, opened by the one process that may write it.
pub struct FolderStore {
    folder: PathBuf,
    buffers: Box<[[u8; COPY_BYTES_MAX]; 2]>,
    /// Of each file, the copy whose last write failed.
    unsure: [Option<usize>; 3],
    _lock: Option<nix::fcntl::Flock<File>>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "three files of two copies, each of a fixed size; nothing from outside"
)]
impl FolderStore {
    /// Opens the folder for writing; makes it where it is missing. Busy: another agent holds its lock.
    pub fn open(folder: &Path) -> Result<Self> {
        own_folder("state folder", folder)?;
        let path = folder.join("lock");
        let file = private(&path).map_err(|e| io_fault("open", &path, &e))?;
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(
            |(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => {
                    fault!(
                        Busy,
                        "state folder {}: another mainstay holds it{}",
                        folder.display(),
                        holder(&path)
                    )
                }
                e => io_fault("lock", &path, &e.into()),
            },
        )?;
        // For the words of who comes second, and nothing else: that it could not be written stops nobody.
        let _ =
            lock.set_len(0).and_then(|()| lock.write_all_at(std::process::id().to_string().as_bytes(), 0));
        let store = Self::over(folder, Some(lock));
        store.settle();
        Ok(store)
    }

    /// What an agent that was killed in a write has left in the cache reaches the medium before anybody goes by it.
    fn settle(&self) {
        for file in [StateFile::Journal, StateFile::Manifest, StateFile::Trust] {
            for copy in [0, 1] {
                let _ = File::open(self.path(file, copy)).and_then(|file| file.sync_data()); // most are not there yet
            }
        }
    }

    /// Opens the folder for looking only: takes no lock, and refuses to write.
    pub fn look(folder: &Path) -> Self {
        Self::over(folder, None)
    }

    fn over(folder: &Path, lock: Option<nix::fcntl::Flock<File>>) -> Self {
        let buffers = Box::new([[0; COPY_BYTES_MAX]; 2]);
        FolderStore { folder: folder.into(), buffers, unsure: [None; 3], _lock: lock }
    }

    fn path(&self, file: StateFile, copy: usize) -> PathBuf {
        path_of(&self.folder, file, copy)
    }

    /// Which of the copies in the buffers counts.
    fn choose(&self, file: StateFile, lengths: [usize; 2]) -> Pair<'_> {
        let read = |copy: usize| match self.unsure[file as usize] {
            Some(unsure) if unsure == copy => Copy::Torn,
            _ => Copy::read(file, &self.buffers[copy][..lengths[copy]]),
        };
        choose(read(0), read(1))
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

#[expect(
    clippy::indexing_slicing,
    reason = "three files of two copies, each of a fixed size; nothing from outside"
)]
impl StateStore for FolderStore {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        let lengths = self.read(file)?;
        let pair = self.choose(file, lengths);
        let payload = pair
            .in_force
            .map_err(|why| why.fault(file).within(format_args!("{}", self.path(file, 0).display())))?;
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
        let lengths = self.read(file)?;
        let pair = self.choose(file, lengths);
        pair.may_be_written(file)?;
        let (copy, seq) = (pair.next_copy, pair.next_seq);
        let path = self.path(file, copy);
        let [written, found] = &mut *self.buffers;
        let (written, found) = (&mut written[..copy_bytes(file)], &mut found[..copy_bytes(file)]);
        write(file, seq, bytes, written)?;
        self.unsure[file as usize] = Some(copy);
        (|| {
            let new = !path.exists();
            let target = private(&path)?;
            target.write_all_at(written, 0)?;
            target.sync_data()?;
            // A new file is there after a power cut only when its folder says so.
            if new {
                File::open(&self.folder)?.sync_all()?;
            }
            let length = read_up_to(&path, found)?;
            let same = found.get(..length) == Some(&*written);
            if same { Ok(()) } else { Err(io::Error::other("what is read back is not what was written")) }
        })()
        .map_err(|e| io_fault(&format!("write {} bytes to", copy_bytes(file)), &path, &e))?;
        self.unsure[file as usize] = None;
        Ok(())
    }
}

/// ` (process 812)`, as whoever holds the lock has written in it; nothing where that is no number.
fn holder(lock: &Path) -> String {
    let mut bytes = [0; HOLDER_BYTES_MAX];
    let length = read_up_to(lock, &mut bytes).unwrap_or(0);
    let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default()).unwrap_or_default();
    text.parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The digits of the largest process id that fits in 32 bits.
const HOLDER_BYTES_MAX: usize = 10;

fn path_of(folder: &Path, file: StateFile, copy: usize) -> PathBuf {
    let name = match file {
        StateFile::Journal => "journal",
        StateFile::Manifest => "manifest",
        StateFile::Trust => "trust",
    };
    folder.join(format!("{name}.{copy}"))
}

/// Makes the folder where it is missing, for its owner alone; a folder that is there must be the agent's own, and loses
/// what lets others write in it.
///
/// The names in it are known to everybody. In a folder that others may write in (`run = "/tmp/mainstay"`, made before us
/// by somebody else) each of them could be a link to a file that root then writes, or a state with a lower floor.
pub fn own_folder(what: &str, folder: &Path) -> Result<()> {
    let io =
        |doing: &'static str| move |e: io::Error| io_fault(doing, folder, &e).within(format_args!("{what}"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("make"))?;
    let found = std::fs::metadata(folder).map_err(io("look at"))?;
    let us = nix::unistd::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        return Err(fault!(
            Refused,
            "{what} {}: expected it to belong to user {us} or root, found that it belongs to user {}",
            folder.display(),
            found.uid()
        ));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        log::warn!("{what} {}: others may write in it (mode {mode:o}): taken from them", folder.display());
        // A file system without modes of its own (FAT) keeps those of its mount: then it has been said, at least.
        let _ = std::fs::set_permissions(folder, Permissions::from_mode(mode & !0o022));
    }
    Ok(())
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

/// Writes a whole file of the state or run folder that needs neither copies nor a sync, for its owner alone whatever the
/// umask.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let file = private(path)?;
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)
}

/// From the medium, as far as the system lets one: pages that are clean are dropped first. That it may be ignored
/// (tmpfs) is fine: what has no medium behind it cannot differ from it.
fn read_up_to(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(buffer.get_mut(filled..).unwrap_or_default()) {
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

    /// A write of the record failed after it had reached the page cache. The store took the cache for the medium, and its
    /// next write went over the only copy that was whole: a power cut in it lost the record, or took the floor back.
    #[test]
    fn a_copy_whose_write_failed_does_not_count_and_is_the_one_that_is_written_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        store.persist(StateFile::Journal, b"one").unwrap();
        store.persist(StateFile::Journal, b"two").unwrap();
        // As if "three" had been written to copy 0, and its sync had failed.
        let mut bytes = vec![0; copy_bytes(StateFile::Journal)];
        write(StateFile::Journal, 3, b"three", &mut bytes).unwrap();
        std::fs::write(folder.path().join("journal.0"), bytes).unwrap();
        store.unsure[StateFile::Journal as usize] = Some(0);
        assert_eq!(load(&mut store, StateFile::Journal).unwrap(), Some(b"two".to_vec()));
        let whole = std::fs::read(folder.path().join("journal.1")).unwrap();
        store.persist(StateFile::Journal, b"three, again").unwrap();
        assert_eq!(std::fs::read(folder.path().join("journal.1")).unwrap(), whole, "left alone");
        assert_eq!(load(&mut store, StateFile::Journal).unwrap(), Some(b"three, again".to_vec()));
        assert_eq!(store.unsure, [None; 3]);
    }

    #[test]
    fn a_write_that_fails_is_remembered_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        store.persist(StateFile::Journal, b"one").unwrap();
        std::fs::create_dir(folder.path().join("journal.1")).unwrap();
        assert!(store.persist(StateFile::Journal, b"two").is_err());
        std::fs::remove_dir(folder.path().join("journal.1")).unwrap();
        store.persist(StateFile::Journal, b"two").unwrap();
        assert_eq!(store.unsure, [None; 3]);
        assert_eq!(load(&mut store, StateFile::Journal).unwrap(), Some(b"two".to_vec()));
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

    /// What nothing can be made durable on: /dev/null takes every write, and fdatasync(2) of it is an error.
    #[test]
    fn a_copy_that_cannot_be_made_durable_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(folder.path()).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("journal.0")).unwrap();
        let fault = store.persist(StateFile::Journal, b"x").unwrap_err();
        // EINVAL of fdatasync, and not the comparison that follows: nothing can be read back there, either.
        assert!(fault.what.contains("journal.0") && fault.what.contains("os error 22"), "{fault}");
    }

    #[test]
    fn state_is_for_its_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        let mut store = FolderStore::open(&folder).unwrap();
        store.persist(StateFile::Journal, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("journal.0")), 0o600);
    }

    /// Each name in the folder is known: who may write in it could put a link in the place of each.
    #[test]
    fn a_folder_that_others_may_write_in_is_closed_to_them_and_one_that_is_theirs_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (found, left) in
            [(0o777, 0o755), (0o1777, 0o1755), (0o770, 0o750), (0o755, 0o755), (0o700, 0o700)]
        {
            std::fs::set_permissions(&folder, Permissions::from_mode(found)).unwrap();
            own_folder("run folder", &folder).unwrap();
            assert_eq!(mode(&folder), left, "{found:o}");
        }
        if !nix::unistd::geteuid().is_root() {
            return println!("not run: needs root to give the folder away");
        }
        std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
        let fault = own_folder("run folder", &folder).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused);
        assert!(fault.what.contains("found that it belongs to user 65534"), "{fault}");
        assert_eq!(FolderStore::open(&folder).err().map(|f| f.kind), Some(FaultKind::Refused));
        assert!(!folder.join("lock").exists(), "nothing is made in it");
    }
}
