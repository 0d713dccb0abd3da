//! One emulated machine: a QEMU process, with a hand at its power, an eye on its serial console and an ear at its QMP
//! events. What was seen stands in one order in its [`Log`].
//!
//! ```text
//! Machine::start ──► thread "console" ──spawns──► QEMU ──serial socket──► the same thread ──► Log
//!                                                  └─────QMP socket─────► thread "QMP" ─────► Log, answers
//! ```
//! QEMU must not outlive us, however we end. The kernel sees to it: QEMU is started with a parent death signal
//! (PR_SET_PDEATHSIG(2const), by setpriv(1) of util-linux, which becomes QEMU). That signal comes when the *thread* ends
//! that started the process, so the thread that starts QEMU is the one that reads its console until it has ended.
//!
//! The power is cut by SIGKILL. What the host has got by then is what the disk holds: writes that QEMU handed over, not
//! those in its queue. It is weaker than a real power cut, which is what the `blklogwrites` block driver is for.

mod log;
mod qmp;

pub use log::{Entry, Log, Seen, View};

use crate::run::tool;
use crate::{Doing, Result, Trouble};
use qmp::Qmp;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the network's back end is called, so that [`Machine::set_link`] finds it: `-netdev user,id=net0`.
pub const NETDEV: &str = "net0";
/// QEMU opens its sockets within 0.1 s of CPU; a busy host is given this long.
const START: Duration = Duration::from_secs(60);
/// A killed process is gone at once; its memory has to be given back.
const END: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody (a process' end, a socket that opens).
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Ticks of `/proc/PID/stat` in a second: USER_HZ, the same on all architectures that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What QEMU is started with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The program: `qemu-system-x86_64`, found on the path, or its path.
    pub program: PathBuf,
    /// Machine, memory, disks and devices. Display, serial port, monitor, accelerator (TCG; one CPU if no number is said) and
    /// what the watchdog does are added here.
    pub arguments: Vec<String>,
    /// A snapshot to go on from, made by [`Machine::save_snapshot`].
    pub snapshot: Option<String>,
}

/// A running machine. Its power goes when it is dropped.
pub struct Machine {
    child: Arc<Mutex<Child>>,
    process: u32,
    cut: Arc<AtomicBool>,
    console: UnixStream,
    reader: Option<JoinHandle<()>>,
    qmp: Qmp,
    log: Log,
    _folder: TempDir,
}

impl Machine {
    /// Turns the power on. What is seen goes to `log`, which may have had a machine before.
    pub fn start(setup: &Setup, log: &Log) -> Result<Machine> {
        let folder =
            tempfile::Builder::new().prefix("lab-").tempdir().doing(|| "a folder for QEMU's sockets")?;
        let serial = listen(&folder.path().join("serial"))?;
        let monitor = listen(&folder.path().join("qmp"))?;
        let cut = Arc::new(AtomicBool::new(false));
        let (born, birth) = channel();
        let (connected, connection) = channel();
        let reader = std::thread::Builder::new().name("console".into());
        let (command, errors) = command(setup, folder.path())?;
        let (its_log, its_cut) = (log.clone(), cut.clone());
        let reader = reader
            .spawn(move || run(command, &errors, &born, &connection, &its_log, &its_cut))
            .doing(|| "starting a thread")?;
        let child = birth.recv().doing(|| "starting QEMU")??;
        let process = lock(&child).id();
        let mut machine = Cutter { child: child.clone(), cut: cut.clone(), armed: true };
        let errors = folder.path().join("stderr");
        let console = accept(&serial, &child, &errors)?;
        connected
            .send(console.try_clone().doing(|| "the serial console")?)
            .doing(|| "the console's thread")?;
        let qmp = Qmp::new(accept(&monitor, &child, &errors)?, log.clone())?;
        machine.armed = false;
        Ok(Machine {
            child,
            process,
            cut,
            console,
            reader: Some(reader),
            qmp,
            log: log.clone(),
            _folder: folder,
        })
    }

    /// What was seen.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// QEMU's process.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Is QEMU there?
    pub fn runs(&self) -> bool {
        matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Waits for something since a mark of the log: see [`Log::wait`].
    pub fn wait<T>(
        &self,
        mark: usize,
        patience: Duration,
        what: &str,
        look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        self.log.wait(mark, patience, what, look)
    }

    /// Waits for a line that contains `text`, or a prompt that does.
    pub fn wait_line(&self, mark: usize, patience: Duration, text: &str) -> Result<String> {
        self.wait(mark, patience, &format!("a line with {text:?}"), |view| view.line_with(text))
    }

    /// Types at the console.
    pub fn type_in(&mut self, keys: &str) -> Result<()> {
        self.console.write_all(keys.as_bytes()).doing(|| "typing at the serial console")
    }

    /// Runs a QMP command; its `return`.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.qmp.command(command, arguments)
    }

    /// Runs a line of QEMU's human monitor; what it printed.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let said = self.qmp("human-monitor-command", json!({ "command-line": line }))?;
        Ok(said.as_str().unwrap_or_default().trim().to_owned())
    }

    /// Plugs the network in, or pulls it. The machine needs a back end called [`NETDEV`].
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp("set_link", json!({ "name": NETDEV, "up": up })).map(drop)
    }

    /// Saves memory, devices and disks, which have to be qcow2, under a name.
    pub fn save_snapshot(&mut self, name: &str) -> Result<()> {
        match self.monitor(&format!("savevm {name}"))? {
            said if said.is_empty() => Ok(()),
            said => Err(Trouble::new(format!("savevm {name}: {said}"))),
        }
    }

    /// Goes back to what was saved.
    pub fn load_snapshot(&mut self, name: &str) -> Result<()> {
        match self.monitor(&format!("loadvm {name}"))? {
            said if said.is_empty() => Ok(()),
            said => Err(Trouble::new(format!("loadvm {name}: {said}"))),
        }
    }

    /// The seconds of CPU that QEMU has used.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.process);
        let stat = std::fs::read_to_string(&path).doing(|| path.clone())?;
        // proc_pid_stat(5): after the name in parentheses, utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).doing(|| format!("{path}: {stat}"))?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Cuts the power, at once; what the host's files hold is what the disks hold.
    pub fn cut(mut self) -> Result<()> {
        self.end()
    }

    /// Waits for QEMU to end by itself, after the guest has powered off.
    pub fn wait_end(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.runs() {
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("QEMU still runs after {} s", patience.as_secs())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        kill(&self.child, &self.cut);
        reader.join().map_err(|_| Trouble::new("the console's thread panicked"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.end(); // it is gone either way
    }
}

/// Kills QEMU where [`Machine::start`] does not come to its end.
struct Cutter {
    child: Arc<Mutex<Child>>,
    cut: Arc<AtomicBool>,
    armed: bool,
}

impl Drop for Cutter {
    fn drop(&mut self) {
        if self.armed {
            kill(&self.child, &self.cut);
        }
    }
}

fn kill(child: &Mutex<Child>, cut: &AtomicBool) {
    let mut child = lock(child);
    if matches!(child.try_wait(), Ok(None)) {
        cut.store(true, Ordering::SeqCst);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The command that becomes QEMU, and the file that its standard error goes to.
fn command(setup: &Setup, folder: &Path) -> Result<(std::process::Command, PathBuf)> {
    let errors = folder.join("stderr");
    let file = std::fs::File::create(&errors).doing(|| errors.display().to_string())?;
    let socket = |name: &str| format!("socket,id={name},path={}", folder.join(name).display());
    let mut command = tool("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&setup.program).args(&setup.arguments);
    command.args(["-nodefaults", "-display", "none", "-accel", "tcg,thread=multi"]);
    if !setup.arguments.iter().any(|argument| argument == "-smp") {
        command.args(["-smp", "1"]);
    }
    command.args(["-action", "watchdog=reset"]);
    command.args(["-chardev", &socket("serial"), "-serial", "chardev:serial"]);
    command.args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
    if let Some(snapshot) = &setup.snapshot {
        command.args(["-loadvm", snapshot]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    Ok((command, errors))
}

/// The thread "console": starts QEMU, reads until it is gone, says so.
fn run(
    mut command: std::process::Command,
    errors: &Path,
    born: &Sender<Result<Arc<Mutex<Child>>>>,
    connection: &Receiver<UnixStream>,
    log: &Log,
    cut: &AtomicBool,
) {
    let child = match command.spawn() {
        Ok(child) => Arc::new(Mutex::new(child)),
        Err(error) => {
            let _ = born.send(Err(Trouble::new(format!("starting setpriv and QEMU: {error}"))));
            return;
        }
    };
    log.push(Seen::PowerOn);
    if born.send(Ok(child.clone())).is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    if let Ok(mut console) = connection.recv() {
        while let Ok(read @ 1..) = console.read(&mut buffer) {
            log.console_bytes(buffer.get(..read).unwrap_or_default());
        }
    }
    // The socket closes before the process ends, and this thread's end would kill what still writes its disks.
    let deadline = Instant::now() + END;
    while matches!(lock(&child).try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
    log.push(match cut.load(Ordering::SeqCst) {
        true => Seen::PowerOff,
        false => Seen::Gone(said(errors)),
    });
}

fn listen(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path).doing(|| path.display().to_string())?;
    listener.set_nonblocking(true).doing(|| path.display().to_string())?;
    Ok(listener)
}

fn accept(listener: &UnixListener, child: &Mutex<Child>, errors: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + START;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).doing(|| "QEMU's socket")?;
                return Ok(stream);
            }
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                return Err(Trouble::new(format!("QEMU's socket: {error}")));
            }
            Err(_) => {}
        }
        let ended = lock(child).try_wait().doing(|| "QEMU")?;
        if ended.is_some() || Instant::now() > deadline {
            let how = ended.map_or("it does not connect".into(), |status| status.to_string());
            return Err(Trouble::new(format!("QEMU did not start: {how}: {}", said(errors))));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn said(errors: &Path) -> String {
    std::fs::read_to_string(errors).unwrap_or_default().trim().to_owned()
}

fn lock(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An x86 machine without a disk, or `None` where there is no QEMU.
    fn bare(log: &Log) -> Option<Machine> {
        let program = PathBuf::from("qemu-system-x86_64");
        if tool(&program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("not run: qemu-system-x86_64 is not installed");
            return None;
        }
        let arguments = ["-M", "q35", "-m", "16"].map(str::to_owned).to_vec();
        Some(Machine::start(&Setup { program, arguments, snapshot: None }, log).unwrap())
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_cut_machine_is_gone_and_a_reset_by_hand_is_an_event() {
        let log = Log::new();
        let Some(mut machine) = bare(&log) else { return };
        machine.qmp("system_reset", json!({})).unwrap();
        machine.wait(0, PATIENCE, "the reset", |view| view.event("RESET")).unwrap();
        assert!(machine.cpu_seconds().unwrap() >= 0.0);
        let process = machine.process();
        machine.cut().unwrap();
        assert!(!Path::new(&format!("/proc/{process}")).exists());
        let seen = log.since(0);
        assert_eq!(seen.first().unwrap().seen, Seen::PowerOn);
        assert_eq!(seen.last().unwrap().seen, Seen::PowerOff);
    }

    #[test]
    fn qemu_that_refuses_its_arguments_is_quoted() {
        let Some(_) = bare(&Log::new()) else { return };
        let arguments = vec!["-no-such-option".to_owned()];
        let setup = Setup { program: "qemu-system-x86_64".into(), arguments, snapshot: None };
        let Err(error) = Machine::start(&setup, &Log::new()) else { panic!("started") };
        assert!(error.to_string().contains("-no-such-option"), "{error}");
    }
}
