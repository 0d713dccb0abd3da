//! Which group runs. The bootloader says it on the kernel's command line (`mainstay.group=A`, or RAUC's
//! `rauc.slot=A`); where that cannot be, a file holds it.
//!
//! It is read anew at each start and never remembered: what booted is a fact, not state.

use std::io::Read;
use std::path::Path;

use mainstay_core::boot::Group;
use mainstay_core::fault;
use mainstay_core::seam::Result;

use crate::board::{Board, RunningSpec};

/// The kernel's command line, as the bootloader gave it.
const COMMAND_LINE: &str = "/proc/cmdline";

impl Board {
    /// Which group runs now.
    pub fn running_group(&self) -> Result<Group> {
        match &self.boot.running {
            RunningSpec::File(path) => from_file(path),
            RunningSpec::CommandLine(keys) => {
                let line = std::fs::read_to_string(COMMAND_LINE)
                    .map_err(|e| fault!(Io, "running group: read {COMMAND_LINE}: {e}"))?;
                from_command_line(&line, keys)
            }
        }
    }
}

/// `A` or `B`, with room for what an error shows of anything else. What is longer names no group.
const RUNNING_BYTES_MAX: u64 = 64;

fn from_file(path: &Path) -> Result<Group> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(RUNNING_BYTES_MAX).read_to_string(&mut text))
        .map_err(|e| fault!(NotFound, "running group: expected A or B in {}, found: {e}", path.display()))?;
    Group::from_name(text.trim()).ok_or_else(|| {
        let found: String = text.chars().take(32).collect();
        fault!(Refused, "running group: expected A or B in {}, found {found:?}", path.display())
    })
}

/// The first of `keys` that the line has decides. Said twice, the last counts, as for the kernel's own parameters.
fn from_command_line(line: &str, keys: &[String]) -> Result<Group> {
    let words = || line.split_whitespace().filter_map(|word| word.split_once('='));
    for key in keys {
        if let Some((_, value)) = words().rfind(|(k, _)| k == key) {
            return Group::from_name(value).ok_or_else(|| {
                fault!(Refused, "running group: expected {key}=A or {key}=B, found {key}={value}")
            });
        }
    }
    Err(fault!(
        NotFound,
        "running group: expected {}=A or =B on the kernel's command line, found {:?}",
        keys.join("=, "),
        line.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_running_group() {
        let keys = ["mainstay.group".to_string(), "rauc.slot".to_string()];
        #[rustfmt::skip]
        let cases = [
            ("root=/dev/mmcblk0p2 mainstay.group=A quiet\n", Ok(Group::A)),
            ("mainstay.group=B",                             Ok(Group::B)),
            ("rauc.slot=B ro",                               Ok(Group::B)),
            ("rauc.slot=B mainstay.group=A",                 Ok(Group::A)),   // ours stands first
            ("mainstay.group=A mainstay.group=B",            Ok(Group::B)),   // the last counts
            ("mainstay.group=b",                             Err("found mainstay.group=b")),
            ("xmainstay.group=A mainstay.groupA",            Err("expected mainstay.group=, rauc.slot=A or =B")),
            ("",                                             Err("found \"\"")),
        ];
        for (line, expected) in cases {
            match (from_command_line(line, &keys), expected) {
                (Ok(found), Ok(group)) => assert_eq!(found, group, "{line}"),
                (Err(fault), Err(words)) => assert!(fault.what.contains(words), "{line}: {fault}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_file_names_the_running_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("running");
        assert!(from_file(&path).unwrap_err().what.contains("expected A or B in"));
        for (text, expected) in [("A\n", Some(Group::A)), ("B", Some(Group::B)), ("C\n", None), ("", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(from_file(&path).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_without_an_end_names_no_group() {
        let fault = from_file(Path::new("/dev/zero")).unwrap_err();
        assert!(fault.what.contains("expected A or B in /dev/zero"), "{fault}");
    }
}
