//! An attempt that runs a program: started, polled, and ended with everything it started.
//!
//! The program gets a process group of its own, so that a shell's children go down with it. What it prints goes into
//! a pipe that is read as far as it is full and never waited for; its last line says why it failed.
//!
//! When the program has exited, or its time is up, the whole group is killed (SIGKILL): a check that leaves something
//! behind would leave one more with each attempt. The group is killed *before* its leader is reaped: until then its
//! number cannot be given to anybody else. A process that has made itself a session of its own escapes this; a unit
//! that a check starts through systemd is not in the group at all.

use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// What is read of the output at one poll, at most: a program that prints without end costs a poll no more.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What is kept of a line of output.
const LINE_BYTES_MAX: usize = 256;

/// A program that runs.
pub(super) struct CommandAttempt {
    child: Child,
    output: PipeReader,
    tail: Tail,
}

impl CommandAttempt {
    /// Starts it, in `/` and with nothing on its standard input.
    pub(super) fn start(words: &[String]) -> Result<Self, String> {
        let [program, arguments @ ..] = words else { return Err("no command".into()) };
        let pipe = || {
            let (output, input) = std::io::pipe()?;
            fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            std::io::Result::Ok((output, input.try_clone()?, input))
        };
        let (output, stdout, stderr) = pipe().map_err(|e| format!("pipe: {e}"))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = with_open_signals(|| command.spawn()).map_err(|e| format!("{program}: {e}"))?;
        Ok(CommandAttempt { child, output, tail: Tail::default() })
    }

    /// `None`: it still runs.
    pub(super) fn poll(&mut self) -> Option<Result<(), String>> {
        self.read();
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid()), flags) {
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) => self.read(), // what it printed between the first reading and its end
            Err(errno) => log::warn!("check: waitid: {errno}"),
        }
        self.kill();
        Some(match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.why(status)),
            Err(e) => Err(format!("wait: {e}")),
        })
    }

    /// Kills it and all of its group.
    pub(super) fn kill(&self) {
        let _ = killpg(self.pid(), Signal::SIGKILL); // no such group: it is gone
    }

    /// After [`kill`](Self::kill): is it gone? A process that hangs in the kernel is not, and cannot be made to.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32) // a process number is below 2^22
    }

    fn why(&self, status: ExitStatus) -> String {
        match self.tail.line().as_str() {
            "" => status.to_string(),
            line => format!("{status}: {line}"),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..READ_BYTES_MAX / buffer.len() {
            match self.output.read(&mut buffer) {
                Ok(0) | Err(_) => return, // closed, or nothing there now
                Ok(n) => self.tail.take(buffer.get(..n).unwrap_or_default()),
            }
        }
    }
}

/// A child inherits the signal mask of the thread that starts it, and the agent's threads block SIGTERM: a `timeout 5`
/// in a check's script could then never end what it started. While it is open here, a SIGTERM to the agent may come to
/// this thread and end it at once; in the middle of a trial that is the same as the orderly way.
fn with_open_signals<T>(act: impl FnOnce() -> T) -> T {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let done = act();
    if let Ok(mask) = before {
        let _ = mask.thread_set_mask(); // it was this thread's, so it can be set
    }
    done
}

/// The last line of a stream that is not empty, cut to [`LINE_BYTES_MAX`].
#[derive(Default)]
struct Tail {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl Tail {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' if !self.line.trim_ascii().is_empty() => {
                    std::mem::swap(&mut self.line, &mut self.last);
                    self.line.clear();
                }
                b'\n' | b'\r' => self.line.clear(),
                _ if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        let line = if self.line.trim_ascii().is_empty() { &self.last } else { &self.line };
        String::from_utf8_lossy(line.trim_ascii()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn sh(line: &str) -> CommandAttempt {
        CommandAttempt::start(&["sh", "-c", line].map(String::from)).unwrap()
    }

    fn wait(attempt: &mut CommandAttempt) -> Result<(), String> {
        let started = Instant::now();
        loop {
            if let Some(answer) = attempt.poll() {
                return answer;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_exit_status_decides_and_the_last_line_says_why() {
        #[rustfmt::skip]
        let cases = [
            ("exit 0",                              Ok(())),
            ("echo fine; exit 0",                   Ok(())),
            ("exit 3",                              Err("exit status: 3")),
            ("echo one; echo two >&2; exit 1",      Err("exit status: 1: two")),
            ("printf 'no newline'; exit 1",         Err("exit status: 1: no newline")),
            ("printf 'a\\n  \\n\\n'; exit 1",       Err("exit status: 1: a")),
            ("printf '10%%\\r20%%\\r'; exit 1",     Err("exit status: 1: 20%")),
            ("kill -9 $$",                          Err("signal: 9 (SIGKILL)")),
        ];
        for (line, answer) in cases {
            assert_eq!(wait(&mut sh(line)), answer.map_err(String::from), "{line}");
        }
        assert!(
            matches!(CommandAttempt::start(&["/no/such".into()]), Err(e) if e.starts_with("/no/such: No such"))
        );
    }

    #[test]
    fn a_check_can_be_ended_by_signals_that_the_agent_blocks() {
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.thread_block().unwrap();
        assert_eq!(wait(&mut sh("kill -TERM $$; exit 3")), Err("signal: 15 (SIGTERM)".into()));
        assert!(
            SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM),
            "the agent's own mask is as it was"
        );
    }

    #[test]
    fn endless_output_is_bounded_and_does_not_hold_up_a_poll() {
        let mut attempt = sh("exec yes 0123456789");
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(200) {
            assert_eq!(attempt.poll(), None);
        }
        let line = attempt.tail.line();
        assert!(!line.is_empty() && "0123456789".contains(&line), "{line}");
        attempt.tail.take(&[b'x'; 100_000]);
        assert_eq!(attempt.tail.line.len(), LINE_BYTES_MAX);
        attempt.kill();
        wait(&mut attempt).unwrap_err();
    }

    /// The state letter of a process (proc(5)), or `None` where there is no such process.
    fn state(pid: &str) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn gone(pid: &str) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            // A grandchild's zombie is its new parent's to reap: it does not run any more.
            if matches!(state(pid), None | Some('Z' | 'X')) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[test]
    fn killed_with_its_children_it_leaves_no_zombie() {
        let mut attempt = sh("sleep 1000 & echo $!; wait");
        let child = std::iter::repeat_with(|| {
            assert_eq!(attempt.poll(), None);
            std::thread::sleep(Duration::from_millis(5));
            attempt.tail.line()
        });
        let child = child.take(1000).find(|line| !line.is_empty()).unwrap();
        assert!(!gone_now(&child));
        attempt.kill();
        let pid = attempt.child.id().to_string();
        let started = Instant::now();
        while !attempt.is_gone() {
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(state(&pid), None, "the leader is reaped");
        assert!(gone(&child), "the child of the check still runs");
    }

    fn gone_now(pid: &str) -> bool {
        matches!(state(pid), None | Some('Z' | 'X'))
    }

    #[test]
    fn what_a_check_leaves_in_the_background_goes_with_it() {
        let mut attempt = sh("sleep 1000 & echo $!; exit 0");
        assert_eq!(
            wait(&mut attempt),
            Ok(()),
            "a child that holds the pipe open does not hold up the answer"
        );
        assert!(gone(&attempt.tail.line()));
    }
}
