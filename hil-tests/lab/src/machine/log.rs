//! What was seen of a machine, in one order: lines of its serial console, QMP events, its power. A log may outlive the
//! QEMU process that it was filled by: who cuts the power and turns it on again goes on with the same one.

use crate::{Result, Trouble};
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something that was seen, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When this process read it.
    pub at: Instant,
    /// What.
    pub seen: Seen,
}

/// What can be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// QEMU was started.
    PowerOn,
    /// QEMU was killed by us.
    PowerOff,
    /// QEMU ended by itself: the guest powered off, or QEMU failed, with what it said on standard error.
    Gone(String),
    /// A line of the console, without its end and without the terminal's escape sequences. Empty lines are left out.
    Line(String),
    /// An event of QMP: `RESET`, `WATCHDOG`, `SHUTDOWN`, `GUEST_PANICKED` … with its data.
    Qmp {
        /// Its name.
        event: String,
        /// Its `data`; null where it has none.
        data: Value,
    },
}

impl Seen {
    /// The line, where it is one.
    pub fn line(&self) -> Option<&str> {
        match self {
            Seen::Line(line) => Some(line),
            _ => None,
        }
    }

    /// Is it the QMP event of this name?
    pub fn is_event(&self, name: &str) -> bool {
        matches!(self, Seen::Qmp { event, .. } if event == name)
    }
}

/// What a wait looks at.
pub struct View<'l> {
    /// All entries since the mark.
    pub entries: &'l [Entry],
    /// The line that is not ended yet: a prompt.
    pub partial: &'l str,
}

impl View<'_> {
    /// The first line since the mark that contains `text`, or the line that is not ended yet.
    pub fn line_with(&self, text: &str) -> Option<String> {
        let lines = self.entries.iter().filter_map(|entry| entry.seen.line());
        lines.chain([self.partial]).find(|line| line.contains(text)).map(str::to_owned)
    }

    /// When the first QMP event of this name came.
    pub fn event(&self, name: &str) -> Option<Instant> {
        self.entries.iter().find(|entry| entry.seen.is_event(name)).map(|entry| entry.at)
    }
}

/// The log: a handle that can be cloned.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    news: Condvar,
}

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    /// All bytes of the console, as they came.
    console: Vec<u8>,
    partial: String,
    /// When it was begun.
    begun: Option<Instant>,
    escape: Escape,
}

impl Log {
    /// An empty one.
    pub fn new() -> Log {
        Log::default()
    }

    /// How many entries there are: where a later look begins.
    pub fn mark(&self) -> usize {
        self.lock().entries.len()
    }

    /// All entries since a mark.
    pub fn since(&self, mark: usize) -> Vec<Entry> {
        self.lock().entries.get(mark..).unwrap_or_default().to_vec()
    }

    /// All that was on the console, with what is not a line yet; escape sequences and all.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.lock().console).into_owned()
    }

    /// The line that is not ended yet.
    pub fn partial(&self) -> String {
        self.lock().partial.clone()
    }

    /// The line that is not ended yet, and when it was begun; `None`: nothing is on it.
    pub fn begun(&self) -> Option<(Instant, String)> {
        let inner = self.lock();
        inner.begun.map(|at| (at, inner.partial.clone()))
    }

    /// Adds an entry, now.
    pub fn push(&self, seen: Seen) {
        let mut inner = self.lock();
        if matches!(seen, Seen::PowerOff | Seen::PowerOn | Seen::Gone(_)) {
            inner.end_line(Instant::now());
            inner.escape = Escape::No;
        }
        inner.entries.push(Entry { at: Instant::now(), seen });
        drop(inner);
        self.0.news.notify_all();
    }

    /// Adds what came from the console, now.
    pub fn console_bytes(&self, bytes: &[u8]) {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.console.extend_from_slice(bytes);
        for byte in bytes {
            inner.take(*byte, now);
        }
        drop(inner);
        self.0.news.notify_all();
    }

    /// Waits until `look` finds what it looks for among what was seen since `mark`. `what` is named when it gives up: after
    /// `patience`, or when QEMU has ended by itself.
    pub fn wait<T>(
        &self,
        mark: usize,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            let entries = inner.entries.get(mark..).unwrap_or_default();
            if let Some(found) = look(&View { entries, partial: &inner.partial }) {
                return Ok(found);
            }
            let gone = entries.iter().rev().find_map(|entry| match &entry.seen {
                Seen::Gone(said) => Some(said.clone()),
                _ => None,
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if gone.is_none() && !left.is_zero() {
                let waited = self.0.news.wait_timeout(inner, left);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let how = match gone {
                Some(said) => format!("QEMU has ended: {said}"),
                None => format!("not within {} s", patience.as_secs()),
            };
            return Err(Trouble::new(format!("{what}: {how}; the console's end:\n{}", inner.end())));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in a terminal's escape sequence (ECMA-48) the console stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// After ESC [: parameters, until a byte of `@` to `~`.
    Control,
}

impl Inner {
    fn take(&mut self, byte: u8, now: Instant) {
        self.escape = match (self.escape, byte) {
            (_, 0x1b) => Escape::Begun,
            (Escape::Begun, b'[') => Escape::Control,
            (Escape::Begun, _) | (Escape::Control, b'@'..=b'~') => Escape::No,
            (Escape::Control, _) => Escape::Control,
            (Escape::No, b'\n') => {
                self.end_line(now);
                Escape::No
            }
            (Escape::No, 0..0x20 | 0x7f) => Escape::No,
            (Escape::No, byte) => {
                self.begun.get_or_insert(now);
                self.partial.push(byte as char);
                if self.partial.len() >= LINE_BYTES_MAX {
                    self.end_line(now);
                }
                Escape::No
            }
        };
    }

    fn end_line(&mut self, now: Instant) {
        let line = std::mem::take(&mut self.partial);
        self.begun = None;
        if !line.trim().is_empty() {
            self.entries.push(Entry { at: now, seen: Seen::Line(line) });
        }
    }

    /// The last lines.
    fn end(&self) -> String {
        let lines: Vec<&str> = self.entries.iter().filter_map(|entry| entry.seen.line()).collect();
        let from = lines.len().saturating_sub(LINES_SHOWN);
        let shown = lines.get(from..).unwrap_or_default().join("\n");
        format!("{shown}\n{}", self.partial)
    }
}

/// A longer line is cut there: binary garbage has no line ends.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How many lines of the console a trouble shows.
const LINES_SHOWN: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Log) -> Vec<String> {
        log.since(0).iter().filter_map(|entry| entry.seen.line().map(str::to_owned)).collect()
    }

    #[test]
    fn lines_are_told_without_the_terminal_s_escapes_and_a_prompt_is_seen_before_its_line_ends() {
        let log = Log::new();
        log.console_bytes(b"\x1b[2J\x1b[01;01Hmainstay: order A B\r\n\r\n~ ");
        log.console_bytes(b"# \x1b[");
        assert_eq!(lines(&log), ["mainstay: order A B"]);
        assert_eq!(log.partial(), "~ # ");
        log.console_bytes(b"6nls\r\n");
        assert_eq!(lines(&log), ["mainstay: order A B", "~ # ls"]);
        assert!(log.console().starts_with("\u{1b}[2J"));
    }

    #[test]
    fn a_cut_ends_the_line_that_was_begun() {
        let log = Log::new();
        log.console_bytes(b"half a li");
        log.push(Seen::PowerOff);
        let entries = log.since(0);
        assert_eq!(entries[0].seen, Seen::Line("half a li".into()));
        assert_eq!(entries[1].seen, Seen::PowerOff);
    }

    #[test]
    fn a_wait_looks_behind_its_mark_only_and_says_what_it_waited_for() {
        let log = Log::new();
        log.console_bytes(b"ready\n");
        let mark = log.mark();
        let nothing = log.wait(mark, Duration::ZERO, "the second ready", |view| view.line_with("ready"));
        assert!(nothing.unwrap_err().to_string().starts_with("the second ready: not within 0 s"));
        let writer = log.clone();
        let thread = std::thread::spawn(move || writer.console_bytes(b"ready again"));
        let found = log.wait(mark, Duration::from_secs(20), "ready", |view| view.line_with("again"));
        assert_eq!(found.unwrap(), "ready again");
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_ends_when_qemu_has_ended_by_itself() {
        let log = Log::new();
        log.push(Seen::Gone("no such device".into()));
        let error = log.wait(0, Duration::from_secs(600), "a line", |view| view.line_with("x")).unwrap_err();
        assert!(error.to_string().contains("QEMU has ended: no such device"), "{error}");
    }
}
