//! What `doctor` looks at beneath files: is there room and leave to write, is each copy of the environment whole and of
//! the size that U-Boot has, and what does the watchdog's driver say of itself? Nothing is written, and no watchdog is
//! opened.

use super::Report;
use crate::audit_log::LOG_BYTES_MAX;
use crate::config::Config;
use crate::store::{bytes_to_come, free_bytes};
use mainstay_board_support::board::Board;
use mainstay_bootloader_glue::store::{Place, Places};
use mainstay_bootloader_glue::{EnvBootControl, Format};
use mainstay_core::fault::{Fault, FaultKind};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::Path;

/// The file system of the state folder.
pub(super) fn state(config: &Config, report: &mut Report) {
    let Ok(stat) = statvfs(&config.state) else { return }; // that it is not there has been said
    let path = config.state.display();
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return report.wrong(
            "state medium",
            format_args!("{path} is on a file system that is read-only"),
            "nothing is begun or armed without a record: was it mounted so, or has an error made it so (dmesg)?",
        );
    }
    let (free, needed) = (free_bytes(&stat), bytes_to_come(&config.state));
    let log = needed + 2 * LOG_BYTES_MAX;
    if free < needed {
        report.wrong(
            "state medium",
            format_args!("{path}: {free} bytes free, the next update needs {needed}"),
            "make room: until then no update is taken; what runs goes on",
        );
    } else if free < log {
        report.doubtful(
            "state medium",
            format_args!("{path}: {free} bytes free, the audit log may need {log}"),
            "make room: updates go on without it, and the log says how many records are missing",
        );
    } else {
        report.good("state medium", format_args!("{path}: writable, {free} bytes free"));
    }
}

/// The copies of the environment, where they stand, and who else may write them.
pub(super) fn environment(boot: &mut EnvBootControl<Places>, report: &mut Report) {
    match boot.env() {
        Ok(env) => {
            if let Some(copy) = env.damaged() {
                let path = boot.store().all().get(copy).map(|place| place.path().display().to_string());
                report.doubtful(
                    "environment",
                    format_args!(
                        "copy {copy} ({}) is damaged; the other one counts",
                        path.as_deref().unwrap_or("?")
                    ),
                    "a power cut in a write leaves this; the next write heals it. Again and again: look at the medium",
                );
            }
        }
        Err(fault) => sizes(boot, &fault, report),
    }
    for path in files(boot.store().all()) {
        if statvfs(path).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY)) {
            report.wrong(
                "environment",
                format_args!("{} is on a file system that is read-only", path.display()),
                "no group can be armed or marked: mount it writable, and look into dmesg if an error made it so",
            );
        }
    }
    if let Some(why) = boot.store().lock_file().missing() {
        report.doubtful(
            "environment",
            format_args!("no lock: {why}"),
            "fw_setenv at the same moment may undo a change: let lock_file be where its folder exists",
        );
    }
}

/// The CRC is wrong in all copies: is it right for another size, or with the other kind of header?
fn sizes(boot: &EnvBootControl<Places>, fault: &Fault, report: &mut Report) {
    let redundant = match boot.format() {
        Format::UbootSingle { .. } => false,
        Format::UbootRedundant { .. } => true,
        Format::Grub => return,
    };
    if fault.kind != FaultKind::Corrupt {
        return;
    }
    for place in boot.store().all() {
        let Some((size, flags)) = place.find_size() else { continue };
        let with =
            |flags| if flags { "with a flags byte (CONFIG_ENV_REDUNDANT)" } else { "without a flags byte" };
        report.wrong(
            "environment",
            format_args!(
                "{}: U-Boot's copy has {size} bytes, {}; the board file says {} bytes, {}",
                place.path().display(),
                with(flags),
                place.bytes(),
                with(redundant)
            ),
            "let size in the board file be U-Boot's CONFIG_ENV_SIZE, and list two copies only if it is redundant",
        );
    }
}

fn files(places: &[Place]) -> impl Iterator<Item = &Path> {
    let mut paths: Vec<&Path> = places.iter().map(Place::path).collect();
    paths.dedup();
    paths.into_iter().filter(|path| path.is_file())
}

/// What the driver of the watchdog says of itself, where the kernel shows it.
pub(super) fn watchdog(board: &Board, daemon_runs: bool, report: &mut Report) {
    let (Some(driver), Some(wanted)) = (board.watchdog_driver(), board.watchdog_timeout_s()) else { return };
    if let Some(takes) = driver.takes_instead_of(wanted) {
        report.doubtful(
            "watchdog",
            format_args!("{} does not take {wanted} s; {takes} s is as near as it goes", driver.name()),
            "the agent feeds four times in what it takes: let timeout_s say so, or choose a longer one that it can",
        );
    }
    if driver.nowayout == Some(false) {
        report.doubtful(
            "watchdog",
            format_args!("{} stops when its file is closed", driver.name()),
            "an agent that is killed in a trial leaves nothing that bites: CONFIG_WATCHDOG_NOWAYOUT, or nowayout=1",
        );
    }
    if driver.active == Some(true) && !daemon_runs {
        let timeout = driver.timeout_s.map_or("a timeout of its own".into(), |s| format!("{s} s"));
        report.doubtful(
            "watchdog",
            format_args!("{} runs already, with {timeout}", driver.name()),
            "fine if the bootloader has armed it: the kernel or a service feeds it until the agent takes it. Held by \
             systemd (RuntimeWatchdogSec): a trial then fails with \"busy\"",
        );
    }
}
