//! What a gateway gives up: the data that the integrator named, with a factory reset; the client key and its certificate
//! as well, when it is decommissioned.
//!
//! Promises that what was erased is not found again after a power cut, and that beginning again is always right. Refuses
//! to touch what the agent itself needs, and what is mounted below a place that was named: who names `/data` has not
//! thereby named the disk that somebody plugged in under it. Erasing is unlinking; what flash cells still hold is the
//! medium's affair, and OPERATING says so.

use crate::config::Config;
use crate::store::io_fault;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::{Erase, Result};
use nix::unistd::{AccessFlags, access};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// What a gateway has that it can give up.
#[derive(Clone, Debug)]
pub struct Belongings {
    /// Folders whose content is erased, and files.
    data: Vec<PathBuf>,
    /// What may not lie in any of them.
    needed: Vec<PathBuf>,
    /// Client key and certificate; none where the broker is reached without.
    identity: Vec<PathBuf>,
}

impl Belongings {
    /// As the configuration names them.
    pub fn of(config: &Config) -> Belongings {
        Belongings { data: config.erase.clone(), needed: config.needed(), identity: config.identity() }
    }

    /// Can a factory reset be begun? The first place at which it could not.
    pub fn can_be_erased(&self) -> Result<()> {
        self.data.iter().try_for_each(|path| self.resolved(path).map(|_| ()))
    }

    /// Can decommissioning be begun? A key that is not there may lie on what is not mounted, and would come back with it.
    pub fn can_be_given_up(&self) -> Result<()> {
        self.can_be_erased()?;
        for path in &self.identity {
            let folder = path.canonicalize().and_then(|place| {
                let folder = folder_of(&place);
                access(folder, AccessFlags::W_OK).map(|()| folder.to_path_buf()).map_err(io::Error::from)
            });
            let hint = "without the agent (stop it) this command does it itself";
            folder.map_err(|e| match e.kind() {
                ErrorKind::ReadOnlyFilesystem => io_fault("destroy", path, &e).within(format_args!("{hint}")),
                _ => io_fault("destroy", path, &e),
            })?;
        }
        Ok(())
    }

    /// Where `path` is, whatever links lead there; `None`: nowhere. Refused: something there has to stay.
    fn resolved(&self, path: &Path) -> Result<Option<PathBuf>> {
        let place = match path.canonicalize() {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            place => place.map_err(|e| io_fault("erase", path, &e))?,
        };
        let needed = self.needed.iter().filter_map(|needed| needed.canonicalize().ok());
        if let Some(needed) = needed.into_iter().find(|needed| overlap(&place, needed)) {
            return Err(fault!(
                Refused,
                "erase {}: expected nothing there that the agent needs, found {}",
                path.display(),
                needed.display()
            ));
        }
        let table = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(table).map_err(|e| io_fault("read", table, &e))?;
        match mounted_below(&mounts, &place) {
            Some(mount) => Err(fault!(
                Refused,
                "erase {}: expected nothing mounted below it, found {mount}: name it by itself, or unmount it",
                path.display()
            )),
            None => Ok(Some(place)),
        }
    }
}

impl Erase for Belongings {
    fn erase(&mut self) -> Result<()> {
        for path in &self.data {
            let Some(place) = self.resolved(path)? else { continue };
            erase(&place).map_err(|e| io_fault("erase", path, &e))?;
        }
        Ok(())
    }

    fn destroy_key(&mut self) -> Result<()> {
        self.identity.iter().try_for_each(|path| destroy(path).map_err(|e| io_fault("destroy", path, &e)))
    }
}

/// A file is removed, a folder emptied: it may be where something is mounted. Links are removed and not followed.
fn erase(place: &Path) -> io::Result<()> {
    if !fs::metadata(place)?.is_dir() {
        fs::remove_file(place)?;
        return sync(folder_of(place));
    }
    // What still runs may fill it again meanwhile; it is not raced without end.
    for _ in 0..PASSES_MAX {
        let mut empty = true;
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            empty = false;
            let removed = match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path()), // by openat: nobody can slip a link under it
                false => fs::remove_file(entry.path()),
            };
            removed.or_else(gone_is_gone)?;
        }
        if empty {
            return sync(place);
        }
    }
    Err(io::Error::other(format!("something filled it again {PASSES_MAX} times: stop it")))
}

/// Overwrites, then removes: where the file system writes in place, the old bytes are gone before the name is. A power
/// cut in between leaves zeros under the name, and it is begun again.
fn destroy(path: &Path) -> io::Result<()> {
    let place = match path.canonicalize() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // Removed, perhaps just before a power cut: make sure that it stays so.
            return if folder_of(path).exists() { sync(folder_of(path)) } else { Ok(()) };
        }
        place => place?,
    };
    let mut file = OpenOptions::new().write(true).open(&place)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("expected a file"));
    }
    io::copy(&mut io::repeat(0).take(found.len()), &mut file)?;
    file.sync_all()?;
    fs::remove_file(&place).or_else(gone_is_gone)?;
    sync(folder_of(&place))
}

fn gone_is_gone(e: io::Error) -> io::Result<()> {
    if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Does one of the two lie in the other?
pub(crate) fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The first mount point below `place`, from a mountinfo table, whose fifth field it is (proc_pid_mountinfo(5)).
fn mounted_below<'m>(mountinfo: &'m str, place: &Path) -> Option<&'m str> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.into_iter().find(|point| {
        let point = point.replace("\\040", " ");
        Path::new(&point) != place && Path::new(&point).starts_with(place)
    })
}

/// How often a folder that fills again is emptied.
const PASSES_MAX: usize = 5;

/// What `factory-reset` and `decommission` say before they begin.
pub fn plan(config: &Config, decommission: bool) -> String {
    let what = if decommission { "decommissioning" } else { "factory reset" };
    let mut out = format!("{what} of {}, for good:\n", config.device);
    let belongings = Belongings::of(config);
    for path in &belongings.data {
        out += &format!("  erases    {}\n", path.display());
    }
    if decommission {
        for path in &belongings.identity {
            out += &format!("  destroys  {}\n", path.display());
        }
        out += "  it takes no update and connects to no broker any more; nothing leads back\n\
                stays: both groups (it boots what it runs), the agent's record, the audit log\n";
    } else {
        out += "  forgets   what was cancelled by hand, and which bundles failed here\n\
                stays: both groups and what runs, floor, trust root, sequence numbers, client key, audit log\n";
    }
    out
}

impl Config {
    /// What the agent needs: no place that is erased may hold any of it, or lie in it.
    pub(crate) fn needed(&self) -> Vec<PathBuf> {
        let mut needed =
            [&self.file, &self.board, &self.trust, &self.state, &self.run].map(PathBuf::clone).to_vec();
        if let Some(broker) = &self.broker {
            needed.extend([&broker.link.ca, &broker.link.cert, &broker.link.key].map(PathBuf::clone));
        }
        if let Some(https) = &self.https {
            needed.push(https.ca.clone());
            needed.extend(https.identity.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        }
        needed.retain(|path| !path.as_os_str().is_empty());
        needed
    }

    /// The client's keys and certificates, for the broker and for the web server: often the same.
    pub(crate) fn identity(&self) -> Vec<PathBuf> {
        let broker = self.broker.iter().flat_map(|broker| [&broker.link.key, &broker.link.cert]);
        let https = self.https.iter().flat_map(|https| &https.identity).flat_map(|(cert, key)| [key, cert]);
        let mut identity: Vec<PathBuf> = Vec::new();
        for path in broker.chain(https).filter(|path| !path.as_os_str().is_empty()) {
            if !identity.contains(path) {
                identity.push(path.clone());
            }
        }
        identity
    }
}

/// Why a gateway that is out of service does not do as it is asked.
pub fn out_of_service(since: u64) -> Fault {
    fault!(Refused, "decommissioned since {}: it takes no update any more", time_text(since))
}

/// A time that may not be known.
pub fn time_text(unix_s: u64) -> String {
    match unix_s {
        0 => "a time that was not known".into(),
        unix_s => format!("{unix_s} (Unix seconds)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belongings(data: &[PathBuf], needed: &[PathBuf], identity: &[PathBuf]) -> Belongings {
        Belongings { data: data.to_vec(), needed: needed.to_vec(), identity: identity.to_vec() }
    }

    #[test]
    fn a_folder_is_emptied_a_file_is_removed_and_no_link_is_followed_out_of_them() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::create_dir_all(at("data/deep/er")).unwrap();
        fs::create_dir_all(at("outside")).unwrap();
        for file in ["data/one", "data/deep/er/two", "settings", "outside/stays"] {
            fs::write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("outside"), at("data/link")).unwrap();
        std::os::unix::fs::symlink(at("outside"), at("data/deep/link")).unwrap();
        let mut belongings = belongings(&[at("data"), at("settings"), at("never-there")], &[], &[]);
        for _ in 0..2 {
            belongings.erase().unwrap(); // again changes nothing
            assert_eq!(fs::read_dir(at("data")).unwrap().count(), 0);
            assert!(!at("settings").exists() && at("outside/stays").exists());
        }
    }

    #[test]
    fn what_the_agent_needs_is_not_erased_whatever_links_lead_there() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::create_dir_all(at("state")).unwrap();
        fs::write(at("state/journal.0"), "x").unwrap();
        std::os::unix::fs::symlink(at("state"), at("data")).unwrap();
        for data in [at("data"), home.path().into(), at("state/journal.0")] {
            let mut belongings = belongings(&[data], &[at("state")], &[]);
            assert!(belongings.can_be_erased().unwrap_err().what.contains("that the agent needs"));
            assert!(belongings.erase().is_err() && at("state/journal.0").exists());
        }
    }

    #[test]
    fn key_and_certificate_are_overwritten_before_they_are_removed_and_a_second_time_is_no_fault() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        fs::write(at("secret"), "PRIVATE KEY").unwrap();
        fs::write(at("cert"), "CERTIFICATE").unwrap();
        fs::hard_link(at("secret"), at("inode")).unwrap(); // the same bytes, under a name that stays
        std::os::unix::fs::symlink(at("secret"), at("key")).unwrap();
        let mut belongings = belongings(&[], &[], &[at("key"), at("cert")]);
        belongings.can_be_given_up().unwrap();
        belongings.destroy_key().unwrap();
        assert_eq!(fs::read(at("inode")).unwrap(), [0; 11]);
        assert!(!at("secret").exists() && !at("cert").exists());
        belongings.destroy_key().unwrap();
        assert!(
            belongings.can_be_given_up().unwrap_err().what.contains("key"),
            "what is not there is not begun with"
        );
    }

    #[test]
    fn what_is_mounted_below_a_place_is_found_and_the_place_itself_may_be_a_mount() {
        let table = "21 1 8:1 / / rw - ext4 /dev/a rw\n22 21 8:2 / /data rw - ext4 /dev/b rw\n\
                     23 22 8:3 / /data/usb\\040stick rw - vfat /dev/c rw\n";
        #[rustfmt::skip]
        let cases = [
            ("/data",            Some("/data/usb\\040stick")),
            ("/data/usb stick",  None),
            ("/data/app",        None),
            ("/dat",             None),
        ];
        for (place, found) in cases {
            assert_eq!(mounted_below(table, Path::new(place)), found, "{place}");
        }
    }
}
