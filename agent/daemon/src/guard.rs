//! The second guard: a process of its own that resets the machine when a trial has no verdict by its deadline, even if
//! the agent hangs, was stopped, or is dead, and even on a board without a watchdog.
//!
//! ```text
//! agent                          guard
//!   │ spawns ───────────────────► own session, never the OOM killer's first choice
//!   │ ◄──────────────────── 'R' ─ has taken over from the guard before it, if there was one
//!   │  ... checks ...             │ sleeps
//!   │ 'V' ──────────────────────► exits: there is a verdict, and it is healthy
//!   ✗ dies, hangs, is stopped     │ sleeps on: silence and a closed socket mean the same
//!                                 ▼ deadline: reboots, in the board's way
//!                                 ▼ 30 s later, and again: by reboot(2), then by sysrq
//! ```
//! **One guard at a time.** It holds a record lock on `guard` in the run folder; a new one kills the holder and takes
//! the lock. So an agent that is restarted again and again leaves one guard and not a hundred, and since the deadline
//! counts from the trial's beginning in this boot, the new guard has the old one's deadline. The lock names its holder
//! itself (F_GETLK), so no number of a process that is long gone is ever killed.
//!
//! **It waits with next to nothing**: one thread, no file but the socket and the lock, the reboot command on its own
//! command line, so that nothing has to be read or parsed at the moment at which nothing works any more. Measured on
//! x86_64 with musl: 1.2 MiB of RSS, of which 144 KiB are its own and the rest pages of the program's file, which
//! running agents have in memory anyway; it wakes every five seconds.
//!
//! **What it needs from outside**: a systemd unit with `KillMode=process`. By default systemd kills what a dead service
//! leaves in its control group, and the guard with it; the restarted agent then starts a new one, but an agent that is
//! not restarted has none.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mainstay_board_support::SystemClock;
use mainstay_board_support::board::RebootSpec;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::Clock;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// From the guard: it stands.
const READY: u8 = b'R';
/// To the guard: there is a verdict, go.
const VERDICT: u8 = b'V';

/// Seconds from one way of rebooting to the next, unless the command line says otherwise.
const AGAIN_S: u64 = 30;
/// How often it tries before it gives up: with [`AGAIN_S`], ten minutes.
const ROUNDS_MAX: u32 = 20;
/// The guard looks at the clock at least this often: poll(2) does not count sleep, the deadline does.
const SLICE_MS: u64 = 5_000;
/// How long the agent waits for [`READY`].
const READY_WAIT: Duration = Duration::from_secs(5);
/// How long a dismissed guard may take to go before it is killed.
const GOING_MAX: Duration = Duration::from_secs(2);
/// How often a new guard tries to take over: 10 ms apart, so 4 s, within [`READY_WAIT`].
const TAKE_OVER_TRIES: u32 = 400;
/// sync(2) may hang on a dead medium; the reset comes all the same.
const SYNC_MAX: Duration = Duration::from_secs(10);

/// How to start a guard.
#[derive(Clone, Debug)]
pub struct GuardSetup {
    program: Vec<OsString>,
    run: PathBuf,
    reboot: RebootSpec,
    again_s: u64,
}

impl GuardSetup {
    /// This very program, as `mainstay guard …`. `run` is the configuration's run folder; `reboot` the board's way.
    pub fn of_this_program(run: &Path, reboot: &RebootSpec) -> GuardSetup {
        // Not by its path: the file may have been replaced since.
        let program = ["/proc/self/exe", "guard"].map(OsString::from).to_vec();
        GuardSetup { program, run: run.into(), reboot: reboot.clone(), again_s: AGAIN_S }
    }

    fn command(&self, deadline_ms: u64) -> Command {
        let (program, first) = match self.program.split_first() {
            Some((program, first)) => (program.as_os_str(), first),
            None => ("/proc/self/exe".as_ref(), [].as_slice()),
        };
        let mut command = Command::new(program);
        command.args(first);
        command.args([
            "--deadline-boot-ms",
            &deadline_ms.to_string(),
            "--again-s",
            &self.again_s.to_string(),
        ]);
        command.arg("--lock").arg(lock_path(&self.run));
        match &self.reboot {
            RebootSpec::System => command.arg("--system"),
            RebootSpec::Command(words) => command.arg("--command").args(words),
        };
        command
    }
}

fn lock_path(run: &Path) -> PathBuf {
    run.join("guard")
}

/// A guard that stands. Dropping it is not dismissing it: it then counts on by itself.
pub struct Guard {
    child: Child,
    line: UnixStream,
}

/// This process's `oom_score_adj` (proc(5)), opened before the sandbox shuts `/proc`.
static OOM_SCORE: OnceLock<File> = OnceLock::new();

/// Before the sandbox, under which nobody can any more: opens what [`Guard::spawn`] needs for a guard that the OOM killer spares.
/// Without the right to, it stays as it is.
pub fn before_the_sandbox() {
    if let Ok(file) = OpenOptions::new().read(true).write(true).open("/proc/self/oom_score_adj") {
        let _ = OOM_SCORE.set(file);
    }
}

/// Starts a process that is spared: it inherits what this one is for that moment (needs `CAP_SYS_RESOURCE`). Nothing else is started
/// meanwhile: checks come when the guard stands.
fn spared<T>(score: Option<&File>, start: impl FnOnce() -> T) -> T {
    let mut was = [0; 8];
    let read = score.and_then(|file| Some((file, file.read_at(&mut was, 0).ok()?)));
    let Some((file, length)) = read else { return start() };
    let _ = file.write_at(SPARED, 0);
    let started = start();
    let _ = file.write_at(was.get(..length).unwrap_or_default(), 0);
    started
}

/// Never to be chosen.
const SPARED: &[u8] = b"-1000";

impl Guard {
    /// Starts one that resets the machine at `deadline_ms` (CLOCK_BOOTTIME) unless it is dismissed; returns when it
    /// stands. It takes over from a guard that an earlier agent left.
    pub fn spawn(setup: &GuardSetup, deadline_ms: u64) -> Result<Guard, Fault> {
        let fault = |what: &str, e: std::io::Error| fault!(Io, "second guard: {what}: {e}");
        crate::store::own_folder("run folder", &setup.run)
            .map_err(|f| f.within(format_args!("second guard")))?;
        let (line, theirs) = UnixStream::pair().map_err(|e| fault("socket", e))?;
        line.set_read_timeout(Some(READY_WAIT)).map_err(|e| fault("socket", e))?;
        let mut command = setup.command(deadline_ms);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let mut child = spared(OOM_SCORE.get(), || command.spawn()).map_err(|e| fault("start", e))?;
        drop(command); // and with it our copy of its end: a guard that dies closes the line
        let mut byte = [0];
        match (&line).read(&mut byte) {
            Ok(1) if byte == [READY] => Ok(Guard { child, line }),
            answer => {
                let _ = child.kill();
                let status = child.wait().map_err(|e| fault("wait", e))?;
                Err(match answer {
                    Ok(_) => fault!(Io, "second guard: expected it to stand, found that it ended: {status}"),
                    Err(e) => fault!(Timeout, "second guard: expected it to stand within 5 s, found: {e}"),
                })
            }
        }
    }

    /// There is a verdict: the guard goes.
    pub fn dismiss(mut self) {
        if let Err(e) = (&self.line).write_all(&[VERDICT]) {
            log::warn!("second guard: it was gone before it was dismissed: {e}");
        }
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > GOING_MAX {
                log::warn!("second guard: it does not go, killing it");
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.try_wait(); // reaps one that another guard has taken over from
    }
}

/// The process that guards now, if one does: for `doctor`, and for a simulated board that takes the power away.
pub fn standing(run: &Path) -> Option<i32> {
    let lock = OpenOptions::new().read(true).write(true).open(lock_path(run)).ok()?;
    holder(&lock).map(Pid::as_raw)
}

/// Sends a guard away that an agent which is not there any more has left: a person has decided about the trial.
/// `false`: none stands.
pub fn stand_down(run: &Path) -> bool {
    standing(run).is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok())
}

/// `mainstay guard …`: what the process does. `args` are those after `guard`. To be called before anything
/// else is begun, so that the guard is as small as it can be.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::from(guard(args))
}

/// 0: dismissed. 1: it could not take over, or could not reset the machine. 2: its command line is wrong.
fn guard(args: impl Iterator<Item = OsString>) -> u8 {
    let order = match Order::parse(args) {
        Ok(order) => order,
        Err(why) => {
            say(&why);
            return 2;
        }
    };
    let _ = SigSet::empty().thread_set_mask(); // the agent's threads block SIGTERM, and a child inherits that
    let _ = nix::unistd::setsid(); // refused only if it leads a group already
    let _ = nix::unistd::chdir("/");
    let lock = match take_over(&order.lock) {
        Ok(lock) => lock,
        Err(why) => {
            say(&why);
            return 1;
        }
    };
    let line = std::io::stdin();
    let heard = nix::unistd::write(line.as_fd(), &[READY]);
    let dismissed = match heard {
        Ok(_) => wait(&order, line.as_fd()),
        Err(_) => wait_alone(&order), // the agent died in between
    };
    if !dismissed {
        reset(&order);
    }
    drop(lock);
    u8::from(!dismissed)
}

/// Are these words a guard's command line? For the fuzzer.
#[cfg(fuzzing)]
pub fn is_an_order(words: impl Iterator<Item = OsString>) -> bool {
    Order::parse(words).is_ok()
}

/// What its command line says.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    deadline_ms: u64,
    again: Duration,
    lock: PathBuf,
    reboot: RebootSpec,
}

impl Order {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Order, String> {
        let usage = "mainstay guard: expected --deadline-boot-ms N --lock FILE [--again-s N] (--system | --command PROGRAM …)";
        let wrong = |found: &str| format!("{usage}; found {found}");
        let (mut deadline_ms, mut lock, mut again) = (None, None, Duration::from_secs(AGAIN_S));
        loop {
            let Some(key) = args.next() else { return Err(wrong("no --system and no --command")) };
            let reboot = match key.to_str() {
                Some("--system") => RebootSpec::System,
                Some("--command") => {
                    let words = args
                        .by_ref()
                        .map(|word| word.into_string().map_err(|_| wrong("a word that is no UTF-8")));
                    RebootSpec::Command(words.collect::<Result<_, _>>()?)
                }
                Some(name @ ("--deadline-boot-ms" | "--again-s" | "--lock")) => {
                    let value = args.next().ok_or_else(|| wrong(&format!("{name} without a value")))?;
                    let number = || {
                        value
                            .to_str()
                            .and_then(|text| text.parse().ok())
                            .ok_or_else(|| wrong(&format!("{name} {value:?}")))
                    };
                    match name {
                        "--deadline-boot-ms" => deadline_ms = Some(number()?),
                        "--again-s" => again = Duration::from_secs(number()?),
                        _ => lock = Some(PathBuf::from(value)),
                    }
                    continue;
                }
                _ => return Err(wrong(&format!("{key:?}"))),
            };
            let (Some(deadline_ms), Some(lock)) = (deadline_ms, lock) else {
                return Err(wrong("no --deadline-boot-ms or no --lock"));
            };
            return Ok(Order { deadline_ms, again, lock, reboot });
        }
    }

    fn left_ms(&self) -> u64 {
        self.deadline_ms.saturating_sub(SystemClock.now().boot_ms)
    }
}

/// Takes the lock; who holds it is killed. Between the two there is no moment without a guard: this one stands already.
fn take_over(path: &Path) -> Result<File, String> {
    let what = |e: &dyn std::fmt::Display| format!("mainstay guard: {}: {e}", path.display());
    let mut options = OpenOptions::new();
    let lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| what(&e))?;
    for _ in 0..TAKE_OVER_TRIES {
        match fcntl(&lock, FcntlArg::F_SETLK(&whole_file())) {
            Ok(_) => return Ok(lock),
            Err(Errno::EACCES | Errno::EAGAIN) => {}
            Err(errno) => return Err(what(&errno)),
        }
        if let Some(pid) = holder(&lock) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(what(&"the guard before this one does not go"))
}

/// Who holds the lock. Zero and below mean that it is nobody whom this process could name (fcntl(2): another process
/// namespace, an open file description's lock), and would mean whole groups of processes to kill(2).
fn holder(lock: &File) -> Option<Pid> {
    let mut found = whole_file();
    fcntl(lock, FcntlArg::F_GETLK(&mut found)).ok()?;
    let held = found.l_type != libc::F_UNLCK as libc::c_short;
    (held && found.l_pid > 1).then(|| Pid::from_raw(found.l_pid))
}

/// An exclusive lock over all of a file.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Waits for the verdict or the deadline, whichever comes first. `true`: there is a verdict.
fn wait(order: &Order, line: std::os::fd::BorrowedFd<'_>) -> bool {
    loop {
        let left = order.left_ms();
        if left == 0 {
            return false;
        }
        let mut lines = [PollFd::new(line, PollFlags::POLLIN)];
        let slice = PollTimeout::from(left.min(SLICE_MS) as u16); // 5,000 fits
        match poll(&mut lines, slice) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return wait_alone(order),
        }
        let mut byte = [0];
        match nix::unistd::read(line, &mut byte) {
            Ok(1) if byte == [VERDICT] => return true,
            Ok(1) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(_) => return wait_alone(order), // the agent is dead
        }
    }
}

/// Nobody will dismiss it any more. Never `true`.
fn wait_alone(order: &Order) -> bool {
    while order.left_ms() > 0 {
        std::thread::sleep(Duration::from_millis(order.left_ms().min(SLICE_MS)));
    }
    false
}

/// Resets the machine: in the board's way first, then, where that is the system's, past the system. Comes back only
/// if it could not.
fn reset(order: &Order) {
    for round in 1..=ROUNDS_MAX {
        say(&format!(
            "mainstay guard: the trial has no verdict by its deadline: reboot, try {round} of {ROUNDS_MAX}"
        ));
        let orderly = ["systemctl", "reboot"].map(String::from);
        let (words, system) = match &order.reboot {
            RebootSpec::Command(words) => (words.as_slice(), false),
            RebootSpec::System if Path::new("/run/systemd/system").is_dir() => (orderly.as_slice(), true),
            RebootSpec::System => ([].as_slice(), true),
        };
        let asked = Instant::now();
        let mut asking = start(words);
        // Where asking the system has failed, there is nothing to wait for; a board's own supervisor may be slow.
        while asked.elapsed() < order.again && !(system && has_failed(&mut asking)) {
            std::thread::sleep(Duration::from_millis(100).min(order.again));
            has_failed(&mut asking); // reaps
        }
        if system {
            reset_hard();
            std::thread::sleep(order.again);
        }
    }
}

/// `None`: there is nothing to start, or it cannot be started.
fn start(words: &[String]) -> Option<Child> {
    let (program, arguments) = words.split_first()?;
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    child.inspect_err(|e| say(&format!("mainstay guard: {program}: {e}"))).ok()
}

fn has_failed(child: &mut Option<Child>) -> bool {
    match child {
        None => true,
        Some(child) => matches!(child.try_wait(), Ok(Some(status)) if !status.success()),
    }
}

/// Past the system: caches out as far as the medium lets them, then reboot(2), then sysrq (Documentation/admin-guide/
/// sysrq.rst), which needs nothing of the kernel but its keyboard handler.
fn reset_hard() {
    say("mainstay guard: resetting past the system");
    let syncing = std::thread::Builder::new().stack_size(64 * 1024).spawn(nix::unistd::sync);
    let started = Instant::now();
    while syncing.as_ref().is_ok_and(|thread| !thread.is_finished()) && started.elapsed() < SYNC_MAX {
        std::thread::sleep(Duration::from_millis(50));
    }
    let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
    say(&format!("mainstay guard: expected the kernel to restart, found {errno}"));
    if let Err(e) = std::fs::write("/proc/sysrq-trigger", "b") {
        say(&format!("mainstay guard: /proc/sysrq-trigger: {e}"));
    }
}

/// To standard error, and to the kernel's log, which reaches the serial console. The guard has no logger; a reader
/// that is gone must not end it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("<2>{line}\n").as_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests;
