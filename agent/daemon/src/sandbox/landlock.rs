//! Landlock (landlock(7), Linux 5.13): a file system that can be read and, but for a few places, not written.
//!
//! A rule holds for the file or folder that is there when it is made. A device that goes away and comes back is another one
//! to the kernel: it stays unwritable until the agent is started anew. Where a place is not there yet, its folder is
//! allowed in its stead, unless that lies right below the root; of `/dev`, devices are written and none is made.

use super::sys;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const WRITE_FILE: u64 = 1 << 1;
const REMOVE_FILE: u64 = 1 << 5;
/// Remove folders and files, make folders, files, sockets, FIFOs and links.
const CHANGE_FOLDER: u64 = 1 << 4 | REMOVE_FILE | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12;
/// Make device nodes: nobody may, anywhere.
const MAKE_NODES: u64 = 1 << 6 | 1 << 11;
/// Move and link between folders; version 2.
const REFER: u64 = 1 << 13;
/// Version 3.
const TRUNCATE: u64 = 1 << 14;

/// The version of Landlock here, or why there is none.
pub fn version() -> Result<u32, String> {
    sys::landlock_version()
}

/// Forbids every write but to `places`, and to remove files but from `given_up`. What has been allowed, in one sentence.
pub fn restrict(places: &[PathBuf], given_up: &[PathBuf]) -> Result<String, String> {
    let version = version()?;
    let since = |first: u32, access: u64| if version >= first { access } else { 0 };
    let file = WRITE_FILE | since(3, TRUNCATE);
    let folder = file | CHANGE_FOLDER | since(2, REFER);
    let ruleset = sys::landlock_ruleset(folder | MAKE_NODES)?;
    let mut allowed: Vec<&Path> = Vec::new();
    for place in places.iter().filter_map(|place| there(place)) {
        let Ok((opened, is_folder)) = name(place) else { continue };
        // Where a device is missing, what comes to /dev later can be written, but nothing made there nor removed.
        let whole = is_folder && place != Path::new("/dev");
        allow(&ruleset, place, &opened, if whole { folder } else { file })?;
        if !allowed.contains(&place) {
            allowed.push(place);
        }
    }
    for place in given_up {
        let Ok((opened, true)) = name(place) else { continue };
        allow(&ruleset, place, &opened, REMOVE_FILE)?;
    }
    sys::landlock_restrict(&ruleset)?;
    Ok(format!("version {version}, writes to {} places", allowed.len()))
}

/// Opens a place to name it, not to use it (O_PATH): a watchdog that is opened begins to count. Is it a folder?
fn name(place: &Path) -> std::io::Result<(File, bool)> {
    let flags = nix::libc::O_PATH | nix::libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(place)?;
    let is_folder = opened.metadata()?.is_dir();
    Ok((opened, is_folder))
}

fn allow(ruleset: &OwnedFd, place: &Path, opened: &File, access: u64) -> Result<(), String> {
    sys::landlock_allow(ruleset, opened.as_fd(), access).map_err(|why| format!("{}: {why}", place.display()))
}

/// The place, or the folder in which it would be made: never the root of all, nor a folder right below it but `/dev`, to
/// which a watchdog or a slot may come late.
fn there(place: &Path) -> Option<&Path> {
    let open = |folder: &&Path| folder.ancestors().count() > 2 || *folder == Path::new("/dev");
    match place.exists() {
        true => Some(place),
        false => place.parent().filter(open).filter(|folder| folder.exists()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_missing_opens_its_folder_but_never_the_root_nor_what_is_right_below() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert_eq!(there(&missing), Some(folder.path()));
        assert_eq!(there(folder.path()), Some(folder.path()));
        assert_eq!(there(Path::new("/dev/no-such-device")), Some(Path::new("/dev")));
        for place in ["/etc/no-such-file", "/no-such-file", "/no/such/folder"] {
            assert_eq!(there(Path::new(place)), None, "{place}");
        }
    }
}
