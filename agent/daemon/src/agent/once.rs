//! What happens once: in a boot, or while the agent runs.

use std::path::Path;

/// A new one with each boot of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Is this asked for the first time in this boot? `name`: a file of the run folder that remembers it, by the kernel's
/// boot id, so that it holds for one boot even where the folder is no tmpfs. Where it cannot be remembered the answer
/// is no: better unsaid than said at each start.
pub(super) fn first_in_this_boot(run: &Path, name: &str) -> bool {
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    first_in(&run.join(name), boot.trim())
}

fn first_in(path: &Path, boot: &str) -> bool {
    let known = std::fs::read_to_string(path).is_ok_and(|noted| noted.trim() == boot);
    let folder = path.parent().unwrap_or(Path::new("."));
    !boot.is_empty()
        && !known
        && crate::store::own_folder("run folder", folder).is_ok()
        && crate::store::write_private(path, &format!("{boot}\n")).is_ok()
}

/// Notices that the clock has been set: from then on times mean something.
pub(super) struct ClockWatch {
    set: bool,
}

impl ClockWatch {
    /// With the clock as it is at the start.
    pub fn new(unix_s: Option<u64>) -> ClockWatch {
        ClockWatch { set: unix_s.is_some() }
    }

    /// Was it set since this was asked last?
    pub fn has_been_set(&mut self, unix_s: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.set, unix_s.is_some());
        !before && self.set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_once_in_a_boot_is_said_again_in_the_next_and_never_where_nothing_remembers_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/watchdog-bit");
        let asked = ["one", "one", "two", "two", "one"].map(|boot| first_in(&path, boot));
        assert_eq!(asked, [true, false, true, false, true]);
        assert!(!first_in(&path, ""), "no boot id");
        assert!(!first_in(Path::new("/proc/no/such/file"), "one"));
    }

    #[test]
    fn a_clock_is_set_once_until_it_is_lost_again() {
        let mut watch = ClockWatch::new(None);
        let set = [None, Some(1), Some(2), None, Some(3)].map(|now| watch.has_been_set(now));
        assert_eq!(set, [false, true, false, false, true]);
        assert!(!ClockWatch::new(Some(1)).has_been_set(Some(2)));
    }
}
