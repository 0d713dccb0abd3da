//! The watchdog of a simulated board: the demo and tests, never a product.
//!
//! "The board" is another process that owns a Unix datagram socket or a FIFO. Each call is one line, sent whole:
//!
//! ```text
//! arm 30      the timeout begins, 30 seconds
//! feed        it begins anew
//! ```
//! What the board does when no line comes in time is its own affair: it takes the power away.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use mainstay_core::fault;
use mainstay_core::seam::{Result, Watchdog};
use nix::fcntl::OFlag;

/// Sends lines to a simulated board. Nobody there is
/// [`Disconnected`](mainstay_core::fault::FaultKind::Disconnected), and the next call tries again.
pub struct SimulatedWatchdog {
    path: PathBuf,
}

impl SimulatedWatchdog {
    /// The board's socket or FIFO.
    pub fn new(path: &Path) -> SimulatedWatchdog {
        SimulatedWatchdog { path: path.to_path_buf() }
    }

    fn say(&self, line: &str) -> Result<()> {
        self.send(line.as_bytes()).map_err(|e| {
            let line = line.trim_end();
            fault!(Disconnected, "simulated watchdog {}: \"{line}\": {e}", self.path.display())
        })
    }

    fn send(&self, line: &[u8]) -> std::io::Result<()> {
        let kind = std::fs::metadata(&self.path)?.file_type();
        if kind.is_socket() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            let sent = socket.send_to(line, &self.path)?;
            return if sent == line.len() { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) };
        }
        if !kind.is_fifo() {
            return Err(std::io::Error::other("expected a socket or a FIFO, found neither"));
        }
        // Non-blocking: without a reader the opening fails (ENXIO, fifo(7)) instead of hanging. A line is shorter
        // than PIPE_BUF, so it is written whole or not at all.
        let mut fifo =
            OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.path)?;
        fifo.write_all(line)
    }
}

impl Watchdog for SimulatedWatchdog {
    fn arm(&mut self, seconds: u32) -> Result<u32> {
        self.say(&format!("arm {seconds}\n")).map(|()| seconds)
    }

    fn feed(&mut self) -> Result<()> {
        self.say("feed\n")
    }

    fn time_left(&mut self) -> Result<Option<u32>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use mainstay_core::fault::FaultKind;

    use super::*;

    #[test]
    fn a_board_behind_a_socket_hears_one_line_per_call() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        let board = UnixDatagram::bind(&path).unwrap();
        let mut watchdog = SimulatedWatchdog::new(&path);
        assert_eq!(watchdog.arm(30), Ok(30));
        assert_eq!(watchdog.feed(), Ok(()));
        let mut heard = [0; 64];
        for line in ["arm 30\n", "feed\n"] {
            let n = board.recv(&mut heard).unwrap();
            assert_eq!(std::str::from_utf8(&heard[..n]), Ok(line));
        }
        assert_eq!(watchdog.time_left(), Ok(None));
    }

    #[test]
    fn a_board_behind_a_fifo_hears_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|s| s.success()) {
            println!("not run: mkfifo is missing");
            return;
        }
        let board = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let mut watchdog = SimulatedWatchdog::new(&path);
        watchdog.arm(30).unwrap();
        watchdog.feed().unwrap();
        let mut heard = String::new();
        board.unwrap().read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "arm 30\nfeed\n");
        let fault = watchdog.feed().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Disconnected, "nobody reads any more: {fault}");
    }

    #[test]
    fn nobody_there_is_a_fault_and_not_a_hang() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        let mut watchdog = SimulatedWatchdog::new(&path);
        assert_eq!(watchdog.feed().unwrap_err().kind, FaultKind::Disconnected);
        drop(UnixDatagram::bind(&path).unwrap());
        assert_eq!(watchdog.feed().unwrap_err().kind, FaultKind::Disconnected);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(watchdog.feed().unwrap_err().what.contains("expected a socket or a FIFO"));
    }
}
