//! What a watchdog's driver says of itself in sysfs (Documentation/ABI/testing/sysfs-class-watchdog): for `doctor`, which
//! must not open the device, for that starts it.

use std::path::Path;

use super::reset_cause::{CLASS, folder};
use crate::board::{Board, WatchdogSpec};

/// What a driver says; `None` for what the kernel does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its name, as people know it.
    pub identity: Option<String>,
    /// The timeout that is set, in seconds.
    pub timeout_s: Option<u32>,
    /// The shortest that it takes, in seconds.
    pub min_timeout_s: Option<u32>,
    /// The longest that it takes, in seconds; 0 stands for no bound, and is left out.
    pub max_timeout_s: Option<u32>,
    /// Does it go on when its file is closed?
    pub nowayout: Option<bool>,
    /// Does it run?
    pub active: Option<bool>,
}

impl Board {
    /// What the watchdog's driver says of itself. `None`: the board has no such device, or the kernel does not show it.
    pub fn watchdog_driver(&self) -> Option<Driver> {
        match &self.watchdog {
            WatchdogSpec::Device { path, .. } => driver(path, Path::new(CLASS)),
            WatchdogSpec::Simulated { .. } | WatchdogSpec::None => None,
        }
    }
}

impl Driver {
    /// Its name, or what it is.
    pub fn name(&self) -> &str {
        self.identity.as_deref().unwrap_or("the watchdog")
    }

    /// The timeout that comes nearest to `seconds`, where it does not take that.
    pub fn takes_instead_of(&self, seconds: u32) -> Option<u32> {
        let takes = seconds.max(self.min_timeout_s.unwrap_or(0)).min(self.max_timeout_s.unwrap_or(u32::MAX));
        (takes != seconds).then_some(takes)
    }
}

fn driver(device: &Path, class: &Path) -> Option<Driver> {
    let folder = folder(device, class)?;
    let text =
        |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_string());
    let number = |name| text(name).and_then(|text| text.parse().ok());
    folder.is_dir().then(|| Driver {
        identity: text("identity"),
        timeout_s: number("timeout"),
        min_timeout_s: number("min_timeout"),
        max_timeout_s: number("max_timeout").filter(|most| *most > 0),
        nowayout: number("nowayout").map(|n: u32| n != 0),
        active: text("state").map(|state| state == "active"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is made up as the kernel makes it.
    #[test]
    fn a_driver_with_other_bounds_than_ours_and_one_that_runs_already_are_known_without_opening_them() {
        let class = tempfile::tempdir().unwrap();
        let says = |name: &str, files: &[(&str, &str)]| {
            std::fs::create_dir_all(class.path().join(name)).unwrap();
            files.iter().for_each(|(f, text)| std::fs::write(class.path().join(name).join(f), text).unwrap());
        };
        says(
            "watchdog0",
            &[
                ("identity", "imx2+ watchdog\n"),
                ("timeout", "60\n"),
                ("min_timeout", "1\n"),
                ("max_timeout", "16\n"),
                ("nowayout", "0\n"),
                ("state", "active\n"),
            ],
        );
        says(
            "watchdog1",
            &[("timeout", "30\n"), ("max_timeout", "0\n"), ("nowayout", "1\n"), ("state", "inactive")],
        );
        let soc = driver(Path::new("/nowhere/watchdog"), class.path()).unwrap();
        assert_eq!((soc.name(), soc.timeout_s), ("imx2+ watchdog", Some(60)));
        assert_eq!((soc.nowayout, soc.active), (Some(false), Some(true)));
        #[rustfmt::skip]
        let cases = [
            // wanted   it takes instead
            (30,        Some(16)),
            (16,        None),
            (1,         None),
            (0,         Some(1)),
        ];
        for (wanted, takes) in cases {
            assert_eq!(soc.takes_instead_of(wanted), takes, "{wanted} s");
        }
        let chip = driver(Path::new("/nowhere/watchdog1"), class.path()).unwrap();
        assert_eq!(
            (chip.takes_instead_of(86_400), chip.active, chip.nowayout),
            (None, Some(false), Some(true))
        );
        assert_eq!(driver(Path::new("/nowhere/watchdog7"), class.path()), None);
    }
}
