//! Memory of a process, in the kernel's own words (proc_pid_status(5)): VmRSS now, and VmHWM, the highest that it ever was.

use crate::{Doing, Result};

/// Of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// VmHWM.
    pub peak: u64,
    /// VmRSS.
    pub now: u64,
    /// Of `now`, what is its own.
    pub anon: u64,
    /// Of `now`, pages of files.
    pub file: u64,
}

impl Memory {
    /// Asks the kernel. A process that has ended has none.
    pub fn of(process: u32) -> Result<Memory> {
        let path = format!("/proc/{process}/status");
        let text = std::fs::read_to_string(&path).doing(|| &path)?;
        Memory::read(&text).doing(|| format!("{path}: expected VmHWM, VmRSS, RssAnon and RssFile"))
    }

    fn read(text: &str) -> Option<Memory> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory {
            peak: field("VmHWM")?,
            now: field("VmRSS")?,
            anon: field("RssAnon")?,
            file: field("RssFile")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernel_s_words_and_a_process_that_has_ended_has_none() {
        let text = "Name:\tmainstay\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\nRssAnon:\t     100 kB\nRssFile:\t    3996 kB\n";
        let expected = Memory { peak: 5120 * 1024, now: 4096 * 1024, anon: 100 * 1024, file: 3996 * 1024 };
        assert_eq!(Memory::read(text), Some(expected));
        assert_eq!(Memory::read("Name:\tmainstay\nState:\tZ (zombie)\n"), None);
        assert!(Memory::of(std::process::id()).unwrap().now > 0);
    }
}
