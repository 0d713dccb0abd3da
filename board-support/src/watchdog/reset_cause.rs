//! Did the watchdog reset the machine? Asked of sysfs (Documentation/ABI/testing/sysfs-class-watchdog, `bootstatus`,
//! CONFIG_WATCHDOG_SYSFS) and not of the device: opening that starts the watchdog, and most boots have no trial to guard.

use std::path::{Path, PathBuf};

use super::BootStatus;
use crate::board::{Board, WatchdogSpec};

/// Where Linux shows its watchdogs.
pub(super) const CLASS: &str = "/sys/class/watchdog";

impl Board {
    /// What the watchdog's driver says of the last reset. `None`: the board has no such device, its driver is not loaded
    /// yet, or the kernel does not show it. A driver that cannot tell says nothing happened.
    pub fn watchdog_boot_status(&self) -> Option<BootStatus> {
        match &self.watchdog {
            WatchdogSpec::Device { path, .. } => boot_status(path, Path::new(CLASS)),
            WatchdogSpec::Simulated { .. } | WatchdogSpec::None => None,
        }
    }
}

/// Where Linux shows this one. `/dev/watchdog` is the older name of the first one.
pub(super) fn folder(device: &Path, class: &Path) -> Option<PathBuf> {
    let device = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_path_buf());
    let name = device.file_name()?.to_str().filter(|name| name.starts_with("watchdog"))?;
    Some(class.join(if name == "watchdog" { "watchdog0" } else { name }))
}

fn boot_status(device: &Path, class: &Path) -> Option<BootStatus> {
    let text = std::fs::read_to_string(folder(device, class)?.join("bootstatus")).ok()?;
    text.trim().parse().ok().map(BootStatus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_word_is_read_without_opening_the_device() {
        let class = tempfile::tempdir().unwrap();
        let says = |name: &str, text: &str| {
            std::fs::create_dir_all(class.path().join(name)).unwrap();
            std::fs::write(class.path().join(name).join("bootstatus"), text).unwrap();
        };
        says("watchdog0", "32\n");
        says("watchdog1", "0\n");
        says("watchdog2", "what\n");
        #[rustfmt::skip]
        let cases = [
            // device               reset by the watchdog
            ("/nowhere/watchdog",   Some(true)),
            ("/nowhere/watchdog0",  Some(true)),
            ("/nowhere/watchdog1",  Some(false)),
            ("/nowhere/watchdog2",  None),
            ("/nowhere/watchdog9",  None),
            ("/nowhere/tty0",       None),
        ];
        for (device, reset) in cases {
            let status = boot_status(Path::new(device), class.path());
            assert_eq!(status.map(BootStatus::watchdog_reset), reset, "{device}");
        }
    }
}
