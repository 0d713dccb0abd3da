//! The reboot.
//!
//! `kind = "system"` takes the most orderly way that there is and keeps the surest one behind it:
//!
//! 1. Where systemd runs (sd_booted(3): `/run/systemd/system` exists), `systemctl reboot`: services are stopped,
//!    file systems unmounted, and systemd's RebootWatchdogSec guards the way down.
//! 2. Where it does not, or `systemctl` fails, or the machine still runs after [`GRACE`]: sync(2), then
//!    reboot(2) with RB_AUTOBOOT. Journalling file systems and the bootloader's environment survive that: it is a
//!    power cut with clean caches.
//! 3. Where even that hangs, the watchdog bites: it is never disarmed, and nobody feeds it any more.
//!
//! `command = [...]` runs that program instead, for boards with a supervisor of their own, and for the demo.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mainstay_core::fault;
use mainstay_core::seam::{Power, Result};
use nix::sys::reboot::{RebootMode, reboot};

use crate::board::{Board, RebootSpec};

/// How long an orderly shutdown may take before the kernel is told to reset. systemd gives each service 90 s
/// (DefaultTimeoutStopSec); two of them one after the other are within this.
pub const GRACE: Duration = Duration::from_secs(200);

/// Restarts the machine in the board's way.
pub struct BoardPower {
    spec: RebootSpec,
}

impl BoardPower {
    /// As `board` says.
    pub fn new(board: &Board) -> BoardPower {
        BoardPower { spec: board.reboot.clone() }
    }
}

impl Power for BoardPower {
    fn reboot(&mut self, why: &str) -> Result<()> {
        log::warn!("reboot: {why}");
        match &self.spec {
            RebootSpec::Command(words) => run(words),
            RebootSpec::System if !Path::new("/run/systemd/system").is_dir() => reset(),
            RebootSpec::System => {
                // If the thread cannot be had, the watchdog is left.
                let _ = std::thread::Builder::new().name("reset".into()).spawn(|| {
                    std::thread::sleep(GRACE);
                    log::error!("reboot: the machine still runs after {} s, resetting it", GRACE.as_secs());
                    reset()
                });
                run(&["systemctl".to_string(), "reboot".to_string()]).or_else(|fault| {
                    log::error!("{fault}");
                    reset()
                })
            }
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let [program, arguments @ ..] = words else {
        return Err(fault!(Refused, "reboot: expected a command, found none"));
    };
    let status = Command::new(program).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(fault!(Io, "reboot: {program}: expected success, found {status}")),
        Err(e) => Err(fault!(Io, "reboot: {program}: {e}")),
    }
}

/// Writes out the caches and resets. Answers only if the kernel refuses.
///
/// nix says that this never returns `Ok` (`Infallible`), so a caller that unwrapped it would be compiled as if
/// nothing followed, and the linker would drop the rest of the agent from a size report.
fn reset() -> Result<()> {
    nix::unistd::sync();
    let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
    Err(fault!(Io, "reboot: expected the kernel to restart, found {errno}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reboots_in_the_boards_own_way() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("rebooted");
        let words = |line: &str| ["sh", "-c", line].map(String::from).to_vec();
        let mut power = BoardPower { spec: RebootSpec::Command(words(&format!("touch {}", mark.display()))) };
        power.reboot("test").unwrap();
        assert!(mark.exists());
    }

    #[test]
    fn a_reboot_command_that_fails_is_a_fault_with_its_status() {
        let spec = |line: &[&str]| RebootSpec::Command(line.iter().map(|w| w.to_string()).collect());
        for (line, words) in [
            (&["sh", "-c", "exit 3"][..], "exit status: 3"),
            (&["/no/such/program"][..], "/no/such/program: No such file"),
        ] {
            let fault = BoardPower { spec: spec(line) }.reboot("test").unwrap_err();
            assert!(fault.what.contains(words), "{fault}");
        }
    }
}
