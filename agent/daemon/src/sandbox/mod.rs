//! What the daemon gives up once it has opened its configuration: it never needs it, so nobody who gets hold of it shall
//! have it. No systemd is needed; under the unit in `cross/package` it is the second fence.
//!
//! ```text
//! no new privileges   no set-user-id program makes anybody root again            prctl(2)
//! capabilities        what is left: resets the machine, reads what others own    capabilities(7)
//! Landlock            writes go to the state and run folders, the environment,
//!                     the other group's slots, and what the configuration names  landlock(7)
//! seccomp             no ptrace, mount, module, bpf, namespace, key ring …       seccomp(2)
//! no core dumps       a core holds the client's key
//! ```
//! Each holds for the threads and processes that come after it: the second guard, health checks, the command that
//! reboots. Reading and running programs stays free: checks are the integrator's own programs.
//!
//! A kernel that lacks one of them leaves the others; what could not be had is said once, and `doctor` says it too. It is
//! never a reason not to run: a gateway without an agent cannot be updated to a better kernel.

mod capabilities;
mod landlock;
mod seccomp;
mod sys;

use crate::config::Config;
use mainstay_board_support::board::{Board, WatchdogSpec};
use mainstay_board_support::slots;
use mainstay_core::boot::Group;
use std::path::{Path, PathBuf};

pub use capabilities::KEPT;

/// What the configuration's table `[sandbox]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Give up what is not needed?
    pub enabled: bool,
    /// Where health checks and the reboot command write besides: files or folders. Unless something is named, the folders
    /// for what is short-lived.
    pub write: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox {
            enabled: true,
            write: SHORT_LIVED.iter().map(PathBuf::from).filter(|place| place.exists()).collect(),
        }
    }
}

/// How one of the fences came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its name.
    pub name: &'static str,
    /// What stands, or why it does not.
    pub stands: Result<String, String>,
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.stands {
            Ok(how) => write!(f, "{} ({how})", self.name),
            Err(why) => write!(f, "{} ({why})", self.name),
        }
    }
}

/// Puts up all fences around this process. Before it has threads: those that are there already would stay outside.
pub fn enter(config: &Config, board: &Board, running: Group) -> Vec<Fence> {
    let places = writable(config, board, running);
    let given_up = given_up(config);
    let fence = |name, stands| Fence { name, stands };
    vec![
        fence("core dumps", sys::no_core_dumps().map(|()| "off".into())),
        fence("privileges", sys::no_new_privileges().map(|()| "no new ones".into())),
        fence("landlock", landlock::restrict(&places, &given_up)),
        fence("capabilities", capabilities::drop_all_but_kept()),
        fence("seccomp", seccomp::install()),
    ]
}

/// What the kernel could do, for `doctor`: nothing is changed.
pub fn possible() -> Vec<Fence> {
    vec![
        Fence { name: "landlock", stands: landlock::version().map(|version| format!("version {version}")) },
        Fence { name: "seccomp", stands: sys::seccomp_is_there().map(|()| "filters".into()) },
    ]
}

/// Where this daemon writes, as long as this group runs. The running group's slots are not among it: what the driver never
/// does, the kernel then refuses as well.
fn writable(config: &Config, board: &Board, running: Group) -> Vec<PathBuf> {
    let mut places = vec![config.state.clone(), config.run.clone()];
    places.extend(slots::devices(board, running.other()));
    for copy in board.boot.bootloader.environment() {
        places.push(copy.path.clone());
        places.extend(mainstay_board_support::force_ro(&copy.path));
    }
    places.extend(board.boot.lock_file.parent().map(Path::to_path_buf));
    if let WatchdogSpec::Device { path, .. } | WatchdogSpec::Simulated { path, .. } = &board.watchdog {
        places.push(path.clone());
    }
    let gpio = &board.gpio;
    let lines = [&gpio.status_led, &gpio.interlock, &gpio.recovery_button].into_iter().flatten();
    let toggled = gpio.watchdog_toggle.iter().map(|(line, _)| line);
    places.extend(lines.chain(toggled).map(|line| line.chip.clone()));
    places.extend(ALWAYS.iter().map(PathBuf::from).filter(|place| place.exists()));
    places.extend(config.sandbox.write.iter().cloned());
    // What a factory reset and decommissioning erase.
    places.extend(config.erase.iter().cloned());
    places.extend(identity(config));
    places
}

/// The client's keys and certificates, which decommissioning overwrites and removes.
fn identity(config: &Config) -> Vec<PathBuf> {
    config.identity().iter().filter_map(|path| path.canonicalize().ok()).collect()
}

/// The folders that they are removed from: nothing else is written there.
fn given_up(config: &Config) -> Vec<PathBuf> {
    identity(config).iter().filter_map(|path| path.parent()).map(Path::to_path_buf).collect()
}

/// The guard's last way to reset; nothing at all; where checks tell the person beside the machine, and the kernel's log.
const ALWAYS: [&str; 4] = ["/proc/sysrq-trigger", "/dev/null", "/dev/console", "/dev/kmsg"];
const SHORT_LIVED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
