//! The lock that fw_printenv and fw_setenv take: flock(2) on a file that holds nothing.
//!
//! Early in boot its directory may not be there yet (libubootenv issue 14), and then there is nobody else either:
//! going on without the lock is right, and [`Lock::missing`] tells `doctor`.

use crate::Result;
use mainstay_core::fault;
use std::fs::{File, OpenOptions, TryLockError};
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
        let file = match OpenOptions::new().write(true).create(true).truncate(false).open(&self.path) {
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
