//! Attempts of every kind, started and polled without ever blocking the trial's loop.
//!
//! Programs are polled (see [`command`](super::command)). What can only be waited for (a name's resolution, a
//! connection, a file system that may hang) is waited for on a thread of its own, which is told nothing when its time
//! is up and ends when the kernel lets it. So that a dead mount does not cost a thread per attempt, a check whose
//! last attempt still hangs fails its next one at once.

use super::command::CommandAttempt;
use super::config::Probe;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// What an attempt came to: passed, or why not.
pub(super) type Answer = Result<(), String>;

/// What a thread may use of its stack: musl's resolver takes about 10 KiB of it.
const STACK_BYTES: usize = 256 * 1024;

/// The attempts of one check, at most one at a time.
#[derive(Default)]
pub(super) struct Attempts {
    now: Option<Attempt>,
    /// Killed, or given up, and not yet gone.
    leaving: Option<Attempt>,
}

enum Attempt {
    Command(CommandAttempt),
    Thread(Receiver<Answer>),
    Known(Answer),
}

impl Attempts {
    /// Starts one. What cannot even be started has failed.
    pub(super) fn start(&mut self, probe: &Probe, timeout: Duration, broker: &AtomicBool) {
        self.now = Some(match self.is_idle() {
            true => Attempt::start(probe, timeout, broker).unwrap_or_else(|why| Attempt::Known(Err(why))),
            false => Attempt::Known(Err("the attempt before it still hangs".into())),
        });
    }

    /// The answer of the running attempt, once.
    pub(super) fn poll(&mut self) -> Option<Answer> {
        let answer = match self.now.as_mut()? {
            Attempt::Command(attempt) => attempt.poll(),
            Attempt::Thread(answer) => thread_answer(answer),
            Attempt::Known(answer) => Some(std::mem::replace(answer, Ok(()))),
        };
        if answer.is_some() {
            self.now = None;
        }
        answer
    }

    /// Ends the running attempt; its answer is dropped.
    pub(super) fn stop(&mut self) {
        if let Some(Attempt::Command(attempt)) = &self.now {
            attempt.kill();
        }
        self.leaving = self.now.take().or(self.leaving.take());
    }

    /// Does one run?
    pub(super) const fn is_running(&self) -> bool {
        self.now.is_some()
    }

    /// Is nothing left of those that were stopped? Reaps what is.
    pub(super) fn is_idle(&mut self) -> bool {
        let gone = match &mut self.leaving {
            None | Some(Attempt::Known(_)) => true,
            Some(Attempt::Command(attempt)) => attempt.is_gone(),
            Some(Attempt::Thread(answer)) => thread_answer(answer).is_some(),
        };
        if gone {
            self.leaving = None;
        }
        gone
    }
}

impl Attempt {
    fn start(probe: &Probe, timeout: Duration, broker: &AtomicBool) -> Result<Attempt, String> {
        match probe {
            Probe::Command(words) => CommandAttempt::start(words).map(Attempt::Command),
            // D-Bus would spare the process; systemctl is on every machine that runs systemd, and says the state.
            Probe::Unit(unit) => {
                let words = ["systemctl", "is-active", "--", unit].map(String::from);
                CommandAttempt::start(&words).map(Attempt::Command)
            }
            Probe::Broker => Ok(Attempt::Known(match broker.load(Ordering::Acquire) {
                true => Ok(()),
                false => Err("the broker has not been reached".into()),
            })),
            Probe::File(path) => {
                let path = path.clone();
                on_thread(move || {
                    std::fs::metadata(&path).map(drop).map_err(|e| format!("{}: {e}", path.display()))
                })
            }
            Probe::Tcp { host, port } => {
                let (host, port) = (host.clone(), *port);
                on_thread(move || connect(&host, port, timeout))
            }
            Probe::Disk { path, free_mib } => {
                let (path, free_mib) = (path.clone(), *free_mib);
                on_thread(move || room(&path, free_mib))
            }
            Probe::Greenboot(folder) => Err(format!("{}: is a folder of checks", folder.display())),
        }
    }
}

fn on_thread(probe: impl FnOnce() -> Answer + Send + 'static) -> Result<Attempt, String> {
    let (answer, waiting) = sync_channel(1);
    let thread = std::thread::Builder::new().name("check".into()).stack_size(STACK_BYTES);
    let body = move || drop(answer.send(probe())); // nobody waits any more: the attempt was given up
    thread.spawn(body).map_err(|e| format!("start a thread: {e}"))?;
    Ok(Attempt::Thread(waiting))
}

fn thread_answer(answer: &Receiver<Answer>) -> Option<Answer> {
    match answer.try_recv() {
        Ok(answer) => Some(answer),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => Some(Err("the probe ended without an answer".into())),
    }
}

/// Tries the addresses of `host` one after the other until one takes the connection or the time is up.
fn connect(host: &str, port: u16, timeout: Duration) -> Answer {
    let until = Instant::now() + timeout;
    let addresses = (host, port).to_socket_addrs().map_err(|e| format!("resolve {host}: {e}"))?;
    let mut why = format!("resolve {host}: no address");
    for address in addresses {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(()),
            Err(e) => why = format!("connect {address}: {e}"),
        }
    }
    Err(why)
}

/// Is so much free for everybody (f_bavail, statvfs(3))?
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // 32-bit targets have narrower counts
fn room(path: &Path, free_mib: u64) -> Answer {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let free = u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size() as u64) >> 20;
    match free >= free_mib {
        true => Ok(()),
        false => Err(format!("{}: expected {free_mib} MiB free, found {free}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answer(probe: &Probe, broker: bool) -> Answer {
        let mut attempts = Attempts::default();
        attempts.start(probe, Duration::from_secs(5), &AtomicBool::new(broker));
        let started = Instant::now();
        loop {
            if let Some(answer) = attempts.poll() {
                assert!(!attempts.is_running() && attempts.poll().is_none(), "an answer is given once");
                return answer;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{probe:?} does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    fn refused(probe: &Probe, why: &str) {
        let found = answer(probe, false).unwrap_err();
        assert!(found.contains(why), "expected {why:?}, found {found:?}");
    }

    #[test]
    fn a_port_passes_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = |host: &str| Probe::Tcp { host: host.into(), port };
        assert_eq!(answer(&tcp("127.0.0.1"), false), Ok(()));
        assert_eq!(answer(&tcp("localhost"), false), Ok(()));
        drop(listener);
        refused(&tcp("127.0.0.1"), "Connection refused");
        refused(&tcp("no-such-host.invalid"), "resolve no-such-host.invalid:");
    }

    #[test]
    fn files_disks_and_the_broker() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        refused(&Probe::File(ready.clone()), "No such file");
        std::fs::write(&ready, "").unwrap();
        assert_eq!(answer(&Probe::File(ready), false), Ok(()));
        let disk = |path: &Path, free_mib| Probe::Disk { path: path.into(), free_mib };
        assert_eq!(answer(&disk(folder.path(), 1), false), Ok(()));
        refused(&disk(folder.path(), 1 << 40), "expected 1099511627776 MiB free, found ");
        refused(&disk(&folder.path().join("gone"), 1), "ENOENT");
        refused(&Probe::Broker, "the broker has not been reached");
        assert_eq!(answer(&Probe::Broker, true), Ok(()));
    }

    #[test]
    fn a_unit_that_is_not_active_says_what_it_is() {
        let unit = Probe::Unit("no-such-unit-for-mainstay.service".into());
        match answer(&unit, false) {
            Err(why) if why.contains("systemctl: No such file") => println!("not run: systemctl is missing"),
            // "inactive" where systemd runs; without it, systemctl's own last line.
            Err(why) => assert!(why.starts_with("exit status: "), "{why}"),
            Ok(()) => panic!("a unit that does not exist is active"),
        }
    }

    #[test]
    fn an_attempt_that_hangs_beyond_its_time_costs_no_second_thread() {
        let (release, hold) = sync_channel::<()>(0);
        let hanging = on_thread(move || hold.recv().map_err(|e| e.to_string())).unwrap();
        let mut attempts = Attempts { now: Some(hanging), leaving: None };
        attempts.stop();
        let start = |attempts: &mut Attempts| {
            attempts.start(&Probe::Broker, Duration::from_secs(1), &AtomicBool::new(true));
            attempts.poll().unwrap()
        };
        assert_eq!(start(&mut attempts), Err("the attempt before it still hangs".into()));
        assert_eq!(start(&mut attempts), Err("the attempt before it still hangs".into()));
        release.send(()).unwrap();
        while !attempts.is_idle() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(start(&mut attempts), Ok(()));
    }
}
