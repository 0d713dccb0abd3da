//! The power switch: QEMU as a process.
//!
//! ```text
//! lab-machine on ──starts──► lab-machine guard ──starts──► QEMU ──► FOLDER/tty (pseudo terminal), FOLDER/qmp (socket)
//!      ends when tty is there     ends with QEMU, and when the bench has gone
//! ```
//! A command that switches the power on has to end, and the machine has to stay: so there is a guard. QEMU is killed when
//! the guard ends, however that comes about (PR_SET_PDEATHSIG(2const), by setpriv(1)), and the guard ends when the bench's
//! process has gone (`MAINSTAY_HIL_PID`). So nothing runs on after somebody's Ctrl-C.

use super::{Folder, Machine};
use crate::{Doing, Result, Trouble};
use mainstay_lab::machine::NETDEV;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// QEMU opens its sockets within 0.1 s of CPU, and is gone as soon after it was killed; a busy host is given this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Starts the machine; it runs on when this has ended. Nothing happens where it runs.
pub fn on(folder: &Folder) -> Result<()> {
    if running(folder).is_some() {
        return Ok(());
    }
    for name in ["tty", "qmp", "qemu.pid", "qemu.log"] {
        let _ = std::fs::remove_file(folder.at(name)); // left behind by a machine that was killed
    }
    let own = std::env::current_exe().doing(|| "this program's path")?;
    let log = std::fs::File::create(folder.at("qemu.log")).doing(|| "qemu.log")?;
    let mut guard = Command::new(own);
    guard.arg("guard").env("MAINSTAY_LAB_MACHINE", &folder.0);
    // A group of its own: Ctrl-C at the terminal is for the bench, which cuts the power then.
    guard.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let mut guard = guard.spawn().doing(|| "starting the guard")?;
    let until = Instant::now() + PATIENCE;
    while !folder.at("tty").exists() || running(folder).is_none() {
        let ended = guard.try_wait().doing(|| "the guard")?;
        if ended.is_some() || Instant::now() > until {
            let said = std::fs::read_to_string(folder.at("qemu.log")).unwrap_or_default();
            return Err(Trouble::new(format!("QEMU does not start: {}", said.trim())));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Kills the machine, at once. Nothing happens where it does not run.
pub fn off(folder: &Folder) -> Result<()> {
    let Some(process) = running(folder) else { return Ok(()) };
    unplug(folder);
    kill(process, Signal::SIGKILL).doing(|| format!("killing QEMU, process {process}"))?;
    let until = Instant::now() + PATIENCE;
    while running(folder).is_some() {
        if Instant::now() > until {
            return Err(Trouble::new(format!("QEMU, process {process}, does not go")));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Runs QEMU, until it ends or the bench has gone.
pub fn guard(folder: &Folder) -> Result<()> {
    let machine = Machine::read(folder)?;
    let at = |name: &str| folder.at(name).display().to_string();
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--"]).arg(&machine.program).args(&machine.arguments);
    qemu.args(["-nodefaults", "-display", "none", "-accel", "tcg,thread=multi", "-smp", "1"]);
    qemu.args(["-action", "watchdog=reset", "-pidfile", &at("qemu.pid")]);
    qemu.args(["-chardev", &format!("pty,id=serial,path={}", at("tty")), "-serial", "chardev:serial"]);
    qemu.args(["-chardev", &format!("socket,id=qmp,path={},server=on,wait=off", at("qmp"))]);
    qemu.args(["-mon", "chardev=qmp,mode=control"]);
    let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn().doing(|| "starting QEMU")?;
    let bench = std::env::var("MAINSTAY_HIL_PID").ok().map(|pid| format!("/proc/{pid}"));
    while qemu.try_wait().doing(|| "QEMU")?.is_none() {
        if bench.as_ref().is_some_and(|bench| !Path::new(bench).exists()) {
            let _ = qemu.kill();
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    unplug(folder);
    Ok(())
}

/// Takes the serial port's name away, before the number behind it (/dev/pts/N) becomes somebody else's terminal.
fn unplug(folder: &Folder) {
    let _ = std::fs::remove_file(folder.at("tty")); // QEMU does it by itself where it is not killed
}

/// QEMU's process, if it runs: the number in the file may have become somebody else's.
fn running(folder: &Folder) -> Option<Pid> {
    let written = std::fs::read_to_string(folder.at("qemu.pid")).ok()?;
    let number: i32 = written.trim().parse().ok()?;
    let words = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let own = folder.at("qemu.pid").display().to_string();
    words.split(|byte| *byte == 0).any(|word| word == own.as_bytes()).then(|| Pid::from_raw(number))
}

/// Plugs the network in, or pulls it. Without a machine there is nothing to plug: it comes up with its network.
pub fn link(folder: &Folder, up: bool) -> Result<()> {
    if running(folder).is_none() {
        return Ok(());
    }
    let mut qmp = UnixStream::connect(folder.at("qmp")).doing(|| "QMP")?;
    qmp.set_read_timeout(Some(PATIENCE)).doing(|| "QMP")?;
    let mut lines = BufReader::new(qmp.try_clone().doing(|| "QMP")?).lines();
    let set = json!({ "execute": "set_link", "arguments": { "name": NETDEV, "up": up } });
    for command in [json!({ "execute": "qmp_capabilities" }), set] {
        qmp.write_all(format!("{command}\n").as_bytes()).doing(|| "QMP")?;
        loop {
            let line = lines.next().doing(|| "QMP: it was closed")?.doing(|| "QMP")?;
            let answer: Value = serde_json::from_str(&line).doing(|| format!("QMP: {line}"))?;
            if answer.get("return").is_some() {
                break;
            }
            if let Some(error) = answer.get("error") {
                return Err(Trouble::new(format!("QMP: {command}: {error}")));
            }
        }
    }
    Ok(())
}
