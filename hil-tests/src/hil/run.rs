//! Boards side by side, each with its scenarios one after the other.

use super::catalog::{Board, Kind, Ready};
use super::progress::Progress;
use super::words::Words;
use super::{Case, evidence};
use crate::bench::Bench;
use crate::broker;
use crate::scenario::world::{Show, World};
use crate::scenario::{Played, Scenario, Verdict, find, play};
use crate::{Doing, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Plays everything; in the order of the boards, and of the scenarios on each.
pub fn all(
    words: &Words,
    ready: &Ready,
    boards: &[&'static Board],
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Case>> {
    let queue: Mutex<VecDeque<(usize, &'static Board)>> =
        Mutex::new(boards.iter().copied().enumerate().collect());
    // By a function: what is locked in a loop's head stays locked in its body.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let results: Mutex<Vec<(usize, Case)>> = Mutex::default();
    // A machine lives as long as the thread that started it: each board stays with its own.
    std::thread::scope(|scope| {
        for _ in 0..words.jobs.min(boards.len()) {
            scope.spawn(|| {
                while let Some((place, board)) = next() {
                    let mut one = |case: Case| {
                        results.lock().unwrap_or_else(PoisonError::into_inner).push((place, case));
                    };
                    on(words, ready, board, progress, stop, &mut one);
                    progress.done(&board.path());
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place); // stable: a board's cases stay in their order
    Ok(results.into_iter().map(|(_, case)| case).collect())
}

/// Plays on one board.
fn on(
    words: &Words,
    ready: &Ready,
    board: &'static Board,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
    each: &mut dyn FnMut(Case),
) {
    let path = board.path();
    let scenarios: Vec<&'static Scenario> = words.scenarios().into_iter().filter_map(find).collect();
    let mut each = |played: Played| {
        progress.say(&line(&path, &played));
        if let Some((before, after)) = &played.evidence {
            progress.say(&indented(&played.table));
            progress.say(&evidence::in_short(before, after));
            match evidence::keep(&words.folder, &path, &played) {
                Ok(Some(folder)) => progress.say(&format!("      kept: {}", folder.display())),
                Ok(None) => {}
                Err(trouble) => progress.say(&format!("      not kept: {trouble}")),
            }
            progress.say(&format!("      again: {}", repeat(board, words, played.number)));
        }
        each(Case { board: path.clone(), played });
    };
    let setting = tempfile::Builder::new().prefix("mainstay-hil-").tempdir();
    let setting = setting.doing(|| "a folder").and_then(|folder| {
        let bench = ready.bench(board, &folder.path().join("bench"))?;
        Ok((folder, bench))
    });
    let (folder, mut bench): (_, Box<dyn Bench>) = match setting {
        Ok(setting) => setting,
        Err(why) => {
            return scenarios.iter().for_each(|scenario| not_run(scenario, &why.to_string(), &mut each));
        }
    };
    let broker = match board.kind {
        Kind::Virtual => words.broker.unwrap_or(broker::Kind::Embedded),
        _ => ready.broker,
    };
    for scenario in scenarios {
        if stop.load(Ordering::Relaxed) {
            not_run(scenario, "interrupted", &mut each);
            continue;
        }
        // A fleet of its own: what a broker holds of one scenario is nothing to the next.
        let own = folder.path().join(format!("scenario-{}", scenario.number));
        let show = {
            let (progress, path) = (progress.clone(), path.clone());
            Box::new(move |wait: &crate::scenario::world::Wait<'_>| progress.wait(&path, wait)) as Show
        };
        let world = World::around(bench.as_mut(), broker, &ready.programs.ctl, &own, stop.clone(), show);
        match world {
            Ok(mut world) => play(&mut world, scenario, &mut each),
            Err(trouble) => {
                let why = format!("what stands around the board could not be set up: {trouble}");
                each(untouched(
                    scenario,
                    scenario.cases.first().map_or("", |case| case.name),
                    Verdict::Failed(why),
                ));
            }
        }
        let _ = bench.power(false); // the next one begins in the factory all the same
        if !words.keep {
            let _ = std::fs::remove_dir_all(&own); // the folder goes in the end
        }
    }
    drop(bench);
    if words.keep {
        progress.say(&format!("   {path}: kept {}", folder.keep().display()));
    }
}

fn not_run(scenario: &Scenario, why: &str, each: &mut dyn FnMut(Played)) {
    for case in scenario.cases {
        each(untouched(scenario, case.name, Verdict::NotRun(why.to_owned())));
    }
}

/// A case of which nothing was played.
fn untouched(scenario: &Scenario, case: &'static str, verdict: Verdict) -> Played {
    Played {
        number: scenario.number,
        title: scenario.title,
        case,
        verdict,
        took: Duration::ZERO,
        table: String::new(),
        figures: Vec::new(),
        evidence: None,
    }
}

/// What plays it again.
fn repeat(board: &Board, words: &Words, number: u8) -> String {
    let mut line = format!("cargo hil {} --scenario {number}", board.words());
    if let Some(file) = words.bench_file.as_ref().filter(|_| board.kind == Kind::Real) {
        line += &format!(" --bench-file {}", file.display());
    }
    match words.broker {
        Some(broker::Kind::Embedded) => line + " --broker embedded",
        Some(broker::Kind::Mosquitto) => line + " --broker mosquitto",
        None => line,
    }
}

/// A case in one line.
fn line(board: &str, played: &Played) -> String {
    let Played { number, title, case, verdict, took, .. } = played;
    let name = if case.is_empty() { (*title).to_owned() } else { format!("{title}: {case}") };
    let (mark, said) = match verdict {
        Verdict::Ok => (" ✓ ", format!("{:.1} s", took.as_secs_f64())),
        Verdict::Failed(why) => (" ✗ ", format!("FAILED after {:.1} s: {why}", took.as_secs_f64())),
        Verdict::NotRun(why) => (" - ", format!("not run: {}", why.lines().next().unwrap_or_default())),
    };
    format!("{mark}{board:22} {number:2}  {name}  {said}")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::catalog::BOARDS;
    use super::*;

    #[test]
    fn a_case_is_told_in_one_line_and_the_command_that_repeats_it_is_one() {
        let scenario = find(4).unwrap();
        let failed = untouched(scenario, scenario.cases[0].name, Verdict::Failed("no outcome".into()));
        assert_eq!(
            line("qemu/x86-bios", &failed),
            " ✗ qemu/x86-bios           4  the kernel fails: it panics  FAILED after 0.0 s: no outcome"
        );
        for board in BOARDS.iter() {
            let words = Words::read(
                std::iter::once("hil".into())
                    .chain(repeat(board, &Words::default(), 4).split_whitespace().skip(2).map(Into::into)),
            );
            let words = words.unwrap().unwrap();
            assert_eq!(words.boards(), [board], "{}", board.path());
            assert_eq!(words.scenarios(), [4]);
        }
    }
}
