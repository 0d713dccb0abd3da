//! The log: one line a message on standard error, with the priority that systemd reads (`sd-daemon(3)`: `<6>`…)
//! where standard error is its journal, and a plain word elsewhere. What comes from outside is escaped: a log line
//! never steers a terminal.

use crate::terminal::printable;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write as _;

struct StandardError {
    journal: bool,
}

/// Begins logging. `verbose`: debug lines too.
pub fn start(verbose: bool) {
    static JOURNAL: StandardError = StandardError { journal: true };
    static TERMINAL: StandardError = StandardError { journal: false };
    let journal = std::env::var_os("JOURNAL_STREAM").is_some(); // systemd.exec(5)
    if log::set_logger(if journal { &JOURNAL } else { &TERMINAL }).is_ok() {
        log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries have their say only when something is wrong.
        metadata.target().starts_with("mainstay") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (priority, word) = match record.level() {
            Level::Error => (3, "error"),
            Level::Warn => (4, "warning"),
            Level::Info => (6, "info"),
            Level::Debug | Level::Trace => (7, "debug"),
        };
        let mut line = if self.journal { format!("<{priority}>") } else { format!("mainstay: {word}: ") };
        line.push_str(&printable(&record.args().to_string()));
        line.push('\n');
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
