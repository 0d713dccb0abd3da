//! The lock that fw_printenv and fw_setenv take: flock(2) on a file that holds nothing.
//!
//! Early in boot its directory may not be there yet (libubootenv issue 14), and then there is nobody else either:
//! going on without the lock is right, and [`Lock::missing`] says why.
//!
//! Its directory is writable by everybody on most systems (`/run/lock`, 1777), and its name is known. So nobody but its
//! owner may open it: whoever can open a file, if only for reading, can lock it, and a lock that is never given back
//! would end each trial at its commit. What somebody else has put there, a link or a file of his own, is not waited for:
//! those whom this lock is for are root.

use crate::Result;
use mainstay_core::fault;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What U-Boot's tools and libubootenv lock.
pub const DEFAULT_LOCK: &str = "/var/lock/fw_printenv.lock";

/// A lock file, held or not.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    held: Option<File>,
    missing: Option<String>,
}

impl Lock {
    /// The lock at `path`, not held.
    pub fn new(path: impl Into<PathBuf>) -> Lock {
        Lock { path: path.into(), held: None, missing: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the lock could not be had at all when it was last wanted, if it could not.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Takes it. Busy: somebody else has held it for 5 s.
    pub fn take(&mut self) -> Result<()> {
        self.missing = None;
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) => {
                self.missing = Some(format!("{}: {error}", self.path.display()));
                return Ok(());
            }
        };
        let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS_MAX);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(LOCK_POLL_MS));
                }
                Err(TryLockError::WouldBlock) => {
                    let path = self.path.display();
                    return Err(fault!(
                        Busy,
                        "{path}: expected it to be free within {LOCK_WAIT_MS_MAX} ms, found it locked"
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(fault!(Io, "{}: flock: {error}", self.path.display()));
                }
            }
        }
        self.held = Some(file);
        Ok(())
    }

    /// Gives it back. Closing the file does it; the file stays.
    pub fn give(&mut self) {
        self.held = None;
    }
}

/// Opens the file, or makes it, for its owner alone; a link is not followed, and a stranger's file is none.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    let (found, us) = (file.metadata()?, nix::unistd::geteuid().as_raw());
    if found.uid() != us && found.uid() != 0 {
        return Err(io::Error::other(format!("belongs to user {}, and is not waited for", found.uid())));
    }
    if found.uid() == us && found.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// fw_setenv holds it for a write of at most 1 MiB; 5 s of it is no write any more but somebody who hangs.
const LOCK_WAIT_MS_MAX: u64 = 5_000;
/// Between two looks.
const LOCK_POLL_MS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    #[test]
    fn a_missing_lock_directory_is_no_error_and_is_reported() {
        let mut lock = Lock::new("/nowhere/at/all/fw_printenv.lock");
        lock.take().unwrap();
        assert!(lock.missing().unwrap().contains("/nowhere/at/all"));
    }

    /// `/run/lock` is everybody's. A user of the gateway who is not root could hold the environment's lock for ever, and
    /// each trial was rolled back at its commit; or have root make a file wherever a link of his pointed to.
    #[test]
    fn what_another_user_puts_in_the_locks_place_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        let path = dir.path().join("made.lock");
        Lock::new(&path).take().unwrap();
        assert_eq!(mode(&path), 0o600, "who cannot open it cannot lock it");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        Lock::new(&path).take().unwrap();
        assert_eq!(mode(&path), 0o600);

        let (link, target) = (dir.path().join("link.lock"), dir.path().join("nologin"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut lock = Lock::new(&link);
        lock.take().unwrap();
        assert!(lock.missing().is_some() && !target.exists(), "{:?}", lock.missing());

        if !nix::unistd::geteuid().is_root() {
            return println!("not run: needs root to give a file away");
        }
        let strange = dir.path().join("strange.lock");
        let held = File::create(&strange).unwrap();
        held.lock().unwrap();
        std::os::unix::fs::chown(&strange, Some(65_534), None).unwrap();
        let mut lock = Lock::new(&strange);
        lock.take().unwrap();
        assert!(lock.missing().unwrap().contains("belongs to user 65534"), "{:?}", lock.missing());
    }

    #[test]
    fn a_lock_that_somebody_holds_is_busy_and_free_once_they_give_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut theirs = Lock::new(dir.path().join("lock"));
        let mut ours = Lock::new(dir.path().join("lock"));
        theirs.take().unwrap();
        assert_eq!(ours.take().unwrap_err().kind, FaultKind::Busy);
        theirs.give();
        ours.take().unwrap();
        assert_eq!(ours.missing(), None);
    }
}
