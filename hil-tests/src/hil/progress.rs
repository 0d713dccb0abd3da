//! What a person sees while boards are played on: on a terminal one line for each board that says what it waits for, drawn again
//! and again below what has been decided; everywhere else a line for each thing that is waited for.

use crate::scenario::world::Wait;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lines.
pub struct Progress {
    live: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each board waits for.
    waits: BTreeMap<String, String>,
    /// What was said of it last, where nothing is drawn.
    said: BTreeMap<String, String>,
    drawn: usize,
}

impl Progress {
    /// On standard output, whatever it is.
    pub fn new() -> Progress {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Progress { live: std::io::stdout().is_terminal() && !dumb, state: Mutex::default() }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let mut state = self.lock();
        state.wipe();
        put(&format!("{line}\n"));
        state.draw();
    }

    /// What a board waits for.
    pub fn wait(&self, board: &str, wait: &Wait<'_>) {
        let Wait { scenario, what, since, last } = wait;
        let mut state = self.lock();
        if self.live {
            let last = if last.is_empty() { String::new() } else { format!("; last: {last}") };
            let line = format!(" … {board:22} {scenario:2}  {what}, {} s{last}", since.as_secs());
            if state.waits.get(board) != Some(&line) {
                state.waits.insert(board.to_owned(), line);
                state.wipe();
                state.draw();
            }
            return;
        }
        let line = format!(" … {board:22} {scenario:2}  {what}");
        if state.said.get(board) != Some(&line) {
            put(&format!("{line}\n"));
            state.said.insert(board.to_owned(), line);
        }
    }

    /// A board is done with.
    pub fn done(&self, board: &str) {
        let mut state = self.lock();
        state.waits.remove(board);
        if self.live {
            state.wipe();
            state.draw();
        }
    }

    /// Nothing is drawn any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.wipe();
        state.waits.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl State {
    fn draw(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        self.drawn = self.waits.len();
        let lines: Vec<&str> = self.waits.values().map(String::as_str).collect();
        // Without wrapping (DECAWM off): a narrow terminal cuts a line, and the count of lines stays right.
        put(&format!("\x1b[?7l{}\n\x1b[?7h", lines.join("\n")));
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            put(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

/// Nobody who watches has to be there.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
