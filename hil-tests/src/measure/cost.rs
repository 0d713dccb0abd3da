//! What a program costs: its CPU, and the highest memory that it ever had resident.
//!
//! CPU is the kernel's sum over the children that were waited for (getrusage(2)), taken before and after: one program at a
//! time is measured. The memory is VmHWM of the program itself, read while it stands still at its very end (ptrace(2),
//! PTRACE_O_TRACEEXIT): `ru_maxrss` would begin at what its parent had resident when it was started, which hides what small
//! programs need. Of a program that starts others, theirs is not seen.

use super::memory::Memory;
use crate::{Doing, Result, Trouble};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};

/// Of one program, or of several in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Seconds, of the user and of the system.
    pub cpu: f64,
    /// Bytes; `None` where the kernel lets nobody look.
    pub peak: Option<u64>,
}

impl Cost {
    /// One after the other.
    pub fn then(self, next: Cost) -> Cost {
        Cost { cpu: self.cpu + next.cpu, peak: self.peak.zip(next.peak).map(|(a, b)| a.max(b)) }
    }
}

/// Runs a program to its end. What it complains of is the error.
pub fn run(command: &mut Command) -> Result<Cost> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut said = tempfile::tempfile().doing(|| "a temporary file")?;
    let complaint = said.try_clone().doing(|| "a temporary file")?;
    let before = children_cpu()?;
    let child =
        command.stdin(Stdio::null()).stderr(complaint).spawn().doing(|| format!("starting {name}"))?;
    let (peak, ended) = follow(Pid::from_raw(child.id().cast_signed()))?;
    let cpu = children_cpu()? - before;
    if ended == WaitStatus::Exited(ended.pid().unwrap_or(Pid::this()), 0) {
        return Ok(Cost { cpu, peak });
    }
    let mut text = String::new();
    let read = said.seek(SeekFrom::Start(0)).and_then(|_| said.read_to_string(&mut text));
    let why = read.map_or_else(|why| why.to_string(), |_| text.trim().to_owned());
    Err(Trouble::new(format!("{command:?}: {ended:?}: {why}")))
}

/// Waits for a child's end; its memory at that, where it could be seen.
fn follow(child: Pid) -> Result<(Option<u64>, WaitStatus)> {
    // Refused where something else traces it, or where a sandbox forbids it: then its memory stays unknown.
    let seized = ptrace::seize(child, Options::PTRACE_O_TRACEEXIT).is_ok();
    let mut peak = None;
    loop {
        match waitpid(child, Some(WaitPidFlag::__WALL)).doing(|| "waiting for a child")? {
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == Event::PTRACE_EVENT_EXIT as i32 && seized {
                    peak = Memory::of(pid.as_raw().cast_unsigned()).ok().map(|memory| memory.peak);
                }
                let _ = ptrace::cont(pid, None::<Signal>); // it may have been killed meanwhile
            }
            WaitStatus::Stopped(pid, signal) => {
                let _ = ptrace::cont(pid, signal);
            }
            ended @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok((peak, ended)),
            _ => {}
        }
    }
}

/// Seconds that all children have used that were waited for.
fn children_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).doing(|| "getrusage")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MIB;

    #[test]
    fn a_program_s_memory_is_its_own_and_not_that_of_who_started_it() {
        let ballast = vec![1u8; 96 * MIB as usize]; // resident here when both are started
        let peak = |words: &[&str]| run(Command::new("dd").args(words).stdout(Stdio::null())).unwrap().peak;
        let small = peak(&["if=/dev/zero", "of=/dev/null", "bs=1M", "count=1"]);
        let large = peak(&["if=/dev/zero", "of=/dev/null", "bs=32M", "count=2"]);
        assert_eq!(std::hint::black_box(&ballast)[1], 1);
        let (Some(small), Some(large)) = (small, large) else {
            eprintln!("not run: the kernel does not let a program be looked at");
            return;
        };
        assert!(small < 16 * MIB, "{small}");
        assert!((32 * MIB..48 * MIB).contains(&large), "{large}");
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let why = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let why = why.to_string();
        assert!(why.contains("no such thing") && why.contains('3'), "{why}");
        assert!(run(&mut Command::new("/no/such/program")).unwrap_err().to_string().contains("/no/such"));
        let killed = run(Command::new("sh").args(["-c", "kill -9 $$"])).unwrap_err().to_string();
        assert!(killed.contains("SIGKILL"), "{killed}");
    }

    #[test]
    fn costs_add_up_in_time_and_not_in_memory() {
        let cost = |cpu, peak| Cost { cpu, peak };
        assert_eq!(cost(1.0, Some(5)).then(cost(2.0, Some(3))), cost(3.0, Some(5)));
        assert_eq!(cost(1.0, Some(5)).then(cost(2.0, None)), cost(3.0, None), "half a figure is none");
    }
}
