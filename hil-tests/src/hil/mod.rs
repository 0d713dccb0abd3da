//! `cargo hil`: the boot laboratory in one command. It makes the parts ready, plays the scenarios that were asked for on the
//! boards that were asked for, several boards side by side, and says what came of it.
//!
//! * [`words`] the command line
//! * [`catalog`] the benches and boards, and what each is made of
//! * [`crash`] the crash points, a program of their own
//! * [`run`] boards side by side, each with its scenarios
//! * [`progress`] what a person sees meanwhile
//! * [`evidence`] what is kept of a failure
//! * [`summary`] the table at the end, and how long the ways back took
//! * [`junit`] the same for machines
//!
//! A scenario that was not played, whatever the reason, is "not run", in the table and in the file: never passed.

pub mod catalog;
pub mod crash;
pub mod evidence;
pub mod junit;
pub mod progress;
pub mod run;
pub mod summary;
pub mod words;

use crate::scenario::Played;
use crate::{Doing, Result, interrupt};
use catalog::Ready;
use progress::Progress;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use summary::Summary;
use words::Words;

/// A case that was played, or was not, on a board.
#[derive(Clone, Debug)]
pub struct Case {
    /// `qemu/x86-bios` …
    pub board: String,
    /// How it ended.
    pub played: Played,
}

/// Does what was asked for; `true`: nothing failed, nobody interrupted it, and nothing was left out that was required.
pub fn hil(words: &Words) -> Result<bool> {
    if words.list {
        print!("{}", catalog::list());
        return Ok(true);
    }
    let stop = interrupt::flag()?;
    let progress = Arc::new(Progress::new());
    let boards = words.boards();
    evidence::forget(&words.folder)?;
    let ready = Ready::make(words, &boards, &progress)?;
    let results = run::all(words, &ready, &boards, &progress, &stop)?;
    progress.end();
    let summary = Summary::of(&results);
    println!("{summary}");
    let junit = words.junit.clone().unwrap_or_else(|| words.folder.join("junit.xml"));
    if let Some(folder) = junit.parent() {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
    }
    std::fs::write(&junit, junit::document(&results)).doing(|| junit.display().to_string())?;
    println!("{}", junit.display());
    let interrupted = stop.load(Ordering::Relaxed);
    Ok(!interrupted && summary.failed() == 0 && !(words.require_all && summary.not_run() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Verdict;
    use std::time::Duration;

    /// A case that took two seconds.
    pub fn case(board: &str, number: u8, verdict: Verdict) -> Case {
        let played = Played {
            number,
            title: "a title",
            case: "",
            verdict,
            took: Duration::from_secs(2),
            table: String::new(),
            figures: Vec::new(),
            evidence: None,
        };
        Case { board: board.to_owned(), played }
    }
}
