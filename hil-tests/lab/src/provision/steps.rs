//! What the user sees while parts are made ready, and what stays behind for the one who has to find out why they were not.
//!
//! One line per step with its time goes to standard error. All that apt, dpkg and make print goes to a log file; of a
//! program that fails, its last lines are in the error.

use crate::{Doing, Result, Trouble};
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The log, and whether anything is said.
pub(super) struct Steps {
    log: File,
    path: PathBuf,
    quiet: bool,
}

/// What a program came to.
pub(super) struct Ended {
    /// It said so by its exit status.
    pub ok: bool,
    /// What it wrote on standard output.
    pub stdout: String,
    /// Both outputs, as they stand in the log.
    pub all: String,
    /// The command and how it ended, for an error.
    pub how: String,
}

impl Steps {
    /// With the log at a path; what stood there is from an earlier run, and gone.
    pub(super) fn open(path: &Path, quiet: bool) -> Result<Steps> {
        let mut options = File::options();
        let log = options.create(true).truncate(true).read(true).write(true).open(path);
        Ok(Steps { log: log.doing(|| format!("opening {}", path.display()))?, path: path.to_owned(), quiet })
    }

    /// Does something that takes a while; says what it was, what came of it and how long it took.
    pub(super) fn step<T>(
        &mut self,
        what: impl Display,
        work: impl FnOnce(&mut Steps) -> Result<T>,
    ) -> Result<T> {
        let began = Instant::now();
        if !self.quiet && std::io::stderr().is_terminal() {
            // Written over by the line that says how long it took.
            eprint!("parts: {what} …\r");
        }
        let done = work(self);
        let came_of_it = if done.is_ok() { "" } else { "  not done" };
        self.say(format_args!("parts: {what}  {:.1} s{came_of_it}", began.elapsed().as_secs_f32()));
        done
    }

    /// A line for the user, and for the log.
    pub(super) fn say(&mut self, line: impl Display) {
        if !self.quiet {
            eprintln!("{line}");
        }
        // What cannot be logged is no reason to stop: the user has the line.
        let _ = writeln!(self.log, "── {line}");
    }

    /// Runs a program to its end, without a terminal and in no language but C's. Both outputs go to the log.
    ///
    /// # Errors
    /// Only when it cannot be started.
    pub(super) fn run(&mut self, command: &mut Command) -> Result<Ended> {
        let line = line(command);
        let doing = || format!("running {line}");
        let _ = writeln!(self.log, "$ {line}");
        let began = self.log.stream_position().doing(doing)?;
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let output = command
            .stdout(Stdio::piped())
            .stderr(self.log.try_clone().doing(doing)?)
            .output()
            .doing(doing)?;
        self.log.write_all(&output.stdout).doing(doing)?;
        let mut all = Vec::new();
        self.log.seek(SeekFrom::Start(began)).doing(doing)?;
        self.log.read_to_end(&mut all).doing(doing)?;
        Ok(Ended {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            all: String::from_utf8_lossy(&all).into_owned(),
            how: format!("{line}: {}", output.status),
        })
    }

    /// As [`Steps::run`], where a failure of the program is an error too: with its last lines, and where the rest is.
    pub(super) fn must(&mut self, command: &mut Command) -> Result<String> {
        let ended = self.run(command)?;
        if ended.ok {
            return Ok(ended.stdout);
        }
        let log = self.path.display();
        Err(Trouble::new(format!(
            "{}; its last lines (all are in {log}):\n{}",
            ended.how,
            last_lines(&ended.all)
        )))
    }
}

/// The command as it would be typed, with the variables that were set for it.
pub(super) fn line(command: &Command) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy().into_owned();
        let plain = |byte: char| byte.is_ascii_alphanumeric() || "-_./=:+,@%".contains(byte);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let ours = ["LC_ALL", "DEBIAN_FRONTEND"];
    let set = command.get_envs().filter(|(name, _)| !ours.iter().any(|ours| name == ours));
    let set = set.filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// The end of an output: as much as a person reads.
pub(super) fn last_lines(text: &str) -> String {
    const LINES_MAX: usize = 15;
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_its_status_and_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::open(&folder.path().join("log"), true).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]).env("APT_CONFIG", "a b");
        let error = steps.must(&mut command).unwrap_err().to_string();
        assert!(
            error.starts_with("APT_CONFIG='a b' sh -c 'echo one; echo two >&2; exit 3': exit status: 3"),
            "{error}"
        );
        assert!(error.contains("  one") && error.contains("  two"), "{error}");
        assert_eq!(steps.must(Command::new("echo").arg("three")).unwrap(), "three\n");
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.contains("two\none\n$ echo three\nthree\n"), "{log}");
    }
}
