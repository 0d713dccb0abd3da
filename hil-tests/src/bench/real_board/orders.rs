//! Commands of the integrator's that have hands where this program has none: power switch, image maker, flasher.
//!
//! Each is a list of words, the program first, run in the folder of `bench.toml`, with nothing to read and with what it has
//! to know in environment variables that begin with `MAINSTAY_HIL_`. It has done its work when it ends with 0. What it
//! prints is kept, and shown where it fails. It may leave something running behind it.

use crate::{Doing, Result, Trouble};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command, as `bench.toml` gives it: at least one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(pub Vec<String>);

/// Where commands run, and how long one may take.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The folder of `bench.toml`.
    pub folder: PathBuf,
    /// A longer one is killed.
    pub patience: Duration,
}

/// Between two looks whether a command has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What of a failed command's words is shown: the end says why.
const SAID_BYTES_MAX: usize = 2000;

/// What a command is told: `MAINSTAY_HIL_` and the name, and the value.
pub type Told<'a> = (&'a str, OsString);

impl Orders {
    /// Runs a command to its end; what it printed to standard output.
    pub fn run(&self, Order(words): &Order, told: &[Told]) -> Result<String> {
        let (program, rest) = words.split_first().doing(|| "a command: expected a word, found none")?;
        // "./x" is in the folder, whatever the folder of this process is (std's Command leaves open which one it means).
        let program = match program.contains('/') {
            true => self.folder.join(program),
            false => PathBuf::from(program),
        };
        let name = words.join(" ");
        // Files, and not pipes: what a command leaves running holds them open.
        let (out, errors) = (scratch()?, scratch()?);
        let mut command = Command::new(program);
        command.args(rest).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(reopened(&out)?).stderr(reopened(&errors)?);
        crate::programs::forget_this_package(&mut command); // an image maker may call cargo
        command.env("MAINSTAY_HIL_PID", std::process::id().to_string());
        for (key, value) in told {
            command.env(format!("MAINSTAY_HIL_{key}"), value);
        }
        let mut child = command.spawn().doing(|| format!("starting {name}"))?;
        let until = Instant::now() + self.patience;
        let status = loop {
            match child.try_wait().doing(|| name.clone())? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let limit = self.patience.as_secs();
                    return Err(Trouble::new(format!(
                        "{name}: not done after {limit} s: {}",
                        end(errors.path())
                    )));
                }
                None => std::thread::sleep(LOOK_AGAIN),
            }
        };
        if !status.success() {
            let said = [end(out.path()), end(errors.path())].join("\n");
            return Err(Trouble::new(format!("{name}: {status}: {}", said.trim())));
        }
        Ok(read(out.path()))
    }
}

fn scratch() -> Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new().doing(|| "a temporary file")
}

fn reopened(file: &tempfile::NamedTempFile) -> Result<File> {
    file.reopen().doing(|| "a temporary file")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn end(path: &Path) -> String {
    let all = read(path);
    let mut from = all.len().saturating_sub(SAID_BYTES_MAX);
    while !all.is_char_boundary(from) {
        from += 1;
    }
    all.get(from..).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Orders {
        Orders { folder: std::env::temp_dir(), patience: Duration::from_secs(60) }
    }

    fn shell(line: &str) -> Order {
        Order(["sh", "-c", line].map(str::to_owned).to_vec())
    }

    #[test]
    fn a_command_is_told_what_it_has_to_know_and_its_words_come_back() {
        let said = orders().run(&shell("echo $MAINSTAY_HIL_VERSION"), &[("VERSION", "2.0.0".into())]);
        assert_eq!(said.unwrap(), "2.0.0\n");
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        let error = orders().run(&shell("echo no relay >&2; exit 3"), &[]).unwrap_err().to_string();
        assert!(error.contains("no relay") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_command_that_leaves_something_running_has_ended_all_the_same() {
        let began = Instant::now();
        orders().run(&shell("sleep 30 & echo $!"), &[]).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_command_that_never_ends_is_killed() {
        let orders = Orders { patience: Duration::from_millis(100), ..orders() };
        let error = orders.run(&Order(vec!["sleep".into(), "1000".into()]), &[]).unwrap_err().to_string();
        assert!(error.starts_with("sleep 1000: not done after 0 s"), "{error}");
    }
}
