//! All processes of one board. Its agent starts others (health checks, and a guard that has to outlive it in a session of
//! its own), and a machine that loses its power loses them all: a process group is not enough to find them by.
//!
//! So the agent is started with a variable in its environment that names the board, what it starts inherits it, and
//! `/proc/PID/environ` says who has it (proc_pid_environ(5): the environment that a process was started with).

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Names the board.
const VARIABLE: &str = "MAINSTAY_BENCH_BOARD";
/// Killing is over when nobody is left; who forks meanwhile is found in the next round.
const ROUNDS_MAX: u32 = 100;

/// The processes of one board.
pub struct Machine {
    /// `VARIABLE=folder`, as it stands in an environment.
    entry: Vec<u8>,
    folder: std::path::PathBuf,
}

impl Machine {
    /// The board in this folder.
    pub fn new(folder: &Path) -> Machine {
        let entry = format!("{VARIABLE}={}", folder.display()).into_bytes();
        Machine { entry, folder: folder.to_owned() }
    }

    /// What `command` starts belongs to the board.
    pub fn mark(&self, command: &mut Command) {
        command.env(VARIABLE, &self.folder);
    }

    /// Sends a signal to all of them.
    pub fn signal_all(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill(pid, signal); // it may have ended just now
        }
    }

    /// Kills all of them; nobody is left then, but for those that have yet to be waited for.
    pub fn kill_all(&self) {
        for _ in 0..ROUNDS_MAX {
            let processes = self.processes();
            if processes.iter().all(|pid| kill(*pid, Signal::SIGKILL) == Err(Errno::ESRCH)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Those that run. A process that has ended and is not waited for has no environment any more.
    fn processes(&self) -> Vec<Pid> {
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(); // not ours to read
            environment.split(|byte| *byte == 0).any(|entry| entry == self.entry)
        };
        numbers.filter(ours).map(Pid::from_raw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_a_session_of_its_own_is_found_and_another_board_s_is_not() {
        let machines = ["/bench/one", "/bench/two"].map(|folder| Machine::new(Path::new(folder)));
        let mut children = machines.each_ref().map(|machine| {
            // The shell ends at once; what it has started in a session of its own goes on.
            let mut shell = Command::new("sh");
            machine.mark(shell.args(["-c", "setsid sleep 1000 &"]));
            shell.spawn().unwrap()
        });
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
        let [one, two] = &machines;
        let began = std::time::Instant::now();
        while one.processes().is_empty() || two.processes().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
        one.kill_all();
        assert_eq!((one.processes().len(), two.processes().len()), (0, 1));
        two.kill_all();
        assert!(two.processes().is_empty());
    }
}
