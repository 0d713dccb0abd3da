//! The board's serial port: what comes in goes to a [`Log`], line by line; what is typed goes out.
//!
//! It is opened raw (termios(3), cfmakeraw): nothing is echoed, translated or taken for a signal. A port may come and go:
//! an adapter that is fed by the board, a pseudo terminal whose other end is a machine that is started and killed. So a
//! thread opens it whenever it is there, and again when it has gone.

use crate::bench::console::Console;
use crate::{Doing, Result, Trouble};
use mainstay_lab::machine::Log;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, BaudRate, ControlFlags, SetArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rates that a board's console may have, and what termios calls them.
#[rustfmt::skip]
const RATES: [(u64, BaudRate); 12] = [
    (9_600, BaudRate::B9600),         (19_200, BaudRate::B19200),       (38_400, BaudRate::B38400),
    (57_600, BaudRate::B57600),       (115_200, BaudRate::B115200),     (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),     (921_600, BaudRate::B921600),     (1_000_000, BaudRate::B1000000),
    (1_500_000, BaudRate::B1500000),  (2_000_000, BaudRate::B2000000),  (3_000_000, BaudRate::B3000000),
];

/// A port that is not there tells nobody when it comes. Short, for what a machine says first is said soon.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a look at a quiet port takes before it is looked whether anybody still listens.
const QUIET_MS: u16 = 200;

/// Which port, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `/dev/ttyUSB0`, or better a name of `/dev/serial/by-id/`.
    pub path: PathBuf,
    /// Bits a second; 8 data bits, no parity, 1 stop bit, no flow control.
    pub baud: u64,
    /// Pause after each byte that is typed: a bootloader without interrupts loses what comes faster than it looks.
    pub gap: Duration,
}

impl Port {
    /// Is this a rate that can be set?
    pub fn knows(baud: u64) -> bool {
        RATES.iter().any(|(rate, _)| *rate == baud)
    }

    fn open(&self) -> Result<File> {
        let name = || self.path.display().to_string();
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK; // without O_NONBLOCK it may wait for a carrier
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path).doing(name)?;
        let mut settings = termios::tcgetattr(&file).doing(|| format!("{}: as a serial port", name()))?;
        termios::cfmakeraw(&mut settings);
        settings.control_flags |= ControlFlags::CLOCAL | ControlFlags::CREAD;
        settings.control_flags &= !(ControlFlags::CSTOPB | ControlFlags::CRTSCTS);
        let rate = RATES.iter().find(|(rate, _)| *rate == self.baud);
        let rate = rate.doing(|| format!("{}: no such rate: {}", name(), self.baud))?.1;
        termios::cfsetspeed(&mut settings, rate).doing(|| format!("{}: {} baud", name(), self.baud))?;
        termios::tcsetattr(&file, SetArg::TCSANOW, &settings).doing(|| format!("{}: raw", name()))?;
        Ok(file)
    }
}

/// An open port, or one that is waited for. Closed when dropped.
pub struct Serial {
    port: Port,
    log: Log,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The port, where it is there; else why it is not.
    open: Mutex<Option<Arc<File>>>,
    why: Mutex<String>,
    over: AtomicBool,
}

impl Serial {
    /// Opens the port now, or as soon as it is there.
    pub fn open(port: &Port, log: &Log) -> Result<Serial> {
        let shared = Arc::new(Shared::default());
        let (its_port, its_log, its) = (port.clone(), log.clone(), shared.clone());
        let reader = std::thread::Builder::new().name("serial".into());
        let reader = reader.spawn(move || its.listen(&its_port, &its_log)).doing(|| "starting a thread")?;
        Ok(Serial { port: port.clone(), log: log.clone(), shared, reader: Some(reader) })
    }

    /// Waits until the port is there.
    pub fn ready(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        while lock(&self.shared.open).is_none() {
            if Instant::now() > until {
                return Err(self.absent());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn absent(&self) -> Trouble {
        let why = lock(&self.shared.why).clone();
        Trouble::new(format!(
            "serial port {}: expected it to be there, found: {why}",
            self.port.path.display()
        ))
    }
}

impl Console for Serial {
    fn log(&self) -> &Log {
        &self.log
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        let Some(file) = lock(&self.shared.open).clone() else { return Err(self.absent()) };
        for byte in keys.as_bytes() {
            write(&file, *byte, &self.port.path)?;
            if !self.port.gap.is_zero() {
                std::thread::sleep(self.port.gap);
            }
        }
        Ok(())
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join(); // it has said what it had to say
        }
    }
}

/// A byte, waiting where the port's buffer is full.
fn write(mut file: &File, byte: u8, path: &Path) -> Result<()> {
    let until = Instant::now() + TYPING;
    loop {
        match file.write(&[byte]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(Trouble::new(format!("typing at {}: {error}", path.display()))),
        }
    }
}

/// The longest that a byte may take to go out: at 9600 baud it takes a millisecond.
const TYPING: Duration = Duration::from_secs(20);

impl Shared {
    /// The thread: opens, reads until the port is gone, opens again.
    fn listen(&self, port: &Port, log: &Log) {
        while !self.over.load(Ordering::SeqCst) {
            match port.open() {
                Ok(file) => {
                    let file = Arc::new(file);
                    *lock(&self.open) = Some(file.clone());
                    let why = self.read(&file, log);
                    *lock(&self.open) = None;
                    *lock(&self.why) = why;
                }
                Err(trouble) => *lock(&self.why) = trouble.to_string(),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Reads until the port is gone, or nobody listens; why it ended.
    fn read(&self, mut file: &File, log: &Log) -> String {
        let mut buffer = [0; 4096];
        while !self.over.load(Ordering::SeqCst) {
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(QUIET_MS)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
            match file.read(&mut buffer) {
                Ok(0) => return "its other end has gone".to_owned(),
                Ok(read) => log.console_bytes(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return error.to_string(),
            }
        }
        "nobody listens any more".to_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
