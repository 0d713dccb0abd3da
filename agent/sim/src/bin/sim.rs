//! The sweeps that take more than a test should, and the line that plays a life again.
//!
//! ```text
//! sim sweep --cuts 1|2 [--board TEXT] [--story TEXT] [--tries N] [--bounded]
//! sim linear   [--board TEXT] [--story TEXT] [--tries N]
//! sim failures [--board TEXT] [--story TEXT] [--tries N] [--bounded]
//! sim swarm --minutes N | --lives N [--seed S]
//! sim replay 'story="a good update" board="U-Boot, mainstay" tries=3 schedule=cut@17:torn(2)'
//! ```
//! Each ends in one line that a program reads (`figures: …`), and with `--json FILE` in a file that says the same. It
//! leaves with 1 if something did not hold, and says the line that plays it again.

use mainstay_sim::explore::Ways;
use mainstay_sim::life::Broken;
use mainstay_sim::outside::Twist;
use mainstay_sim::power::{Figure, Keeps, Upset};
use mainstay_sim::schedule::{Line, Schedule};
use mainstay_sim::stories::{BOARDS, Case, all};
use mainstay_sim::swarm::{self, Figures};
use mainstay_sim::sweep::{CUTS, FAILURES, Found, LINKS, Sweep, Tally};
use mainstay_sim::world::Board;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match Command::read(&args).and_then(|command| command.run()) {
        Ok(held) => ExitCode::from(u8::from(!held)),
        Err(wrong) => {
            eprintln!("sim: {wrong}");
            ExitCode::from(2)
        }
    }
}

/// What is done with a story on a board.
type Sweeping<'a> = &'a (dyn Fn(&Case, Board, &mut Sweep<'_>) -> Result<(), Box<Found>> + Sync);

/// What is asked for.
#[derive(Clone)]
struct Command {
    what: String,
    rest: Vec<String>,
    board: String,
    story: String,
    tries: Option<u8>,
    cuts: u8,
    bounded: bool,
    minutes: Option<u64>,
    lives: Option<u64>,
    seed: u64,
    json: Option<String>,
}

impl Command {
    fn read(args: &[String]) -> Result<Self, String> {
        let (mut what, mut rest) = (String::new(), Vec::new());
        let mut command = Command {
            what: String::new(),
            rest: Vec::new(),
            board: String::new(),
            story: String::new(),
            tries: None,
            cuts: 1,
            bounded: false,
            minutes: None,
            lives: None,
            seed: 1,
            json: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().ok_or_else(|| format!("{arg}: expected a value"));
            match arg.as_str() {
                "--board" => command.board = value()?,
                "--story" => command.story = value()?,
                "--tries" => command.tries = Some(number(&value()?)?),
                "--cuts" => command.cuts = number(&value()?)?,
                "--bounded" => command.bounded = true,
                "--minutes" => command.minutes = Some(number(&value()?)?),
                "--lives" => command.lives = Some(number(&value()?)?),
                "--seed" => command.seed = number(&value()?)?,
                "--json" => command.json = Some(value()?),
                _ if what.is_empty() => what.clone_from(arg),
                _ => rest.push(arg.clone()),
            }
        }
        (command.what, command.rest) = (what, rest);
        Ok(command)
    }

    fn run(&self) -> Result<bool, String> {
        let began = Instant::now();
        let sum = match self.what.as_str() {
            "sweep" => self.sweep(self.cuts, false),
            "linear" => self.sweep(1, true),
            "failures" => self.failures(),
            "swarm" => self.swarm()?,
            "replay" => return self.replay(),
            other => {
                return Err(format!("expected sweep, linear, failures, swarm or replay, found \"{other}\""));
            }
        };
        println!(
            "{} lives of {} stories on {} boards in {:.1} s",
            sum.tally.lives,
            sum.stories.len(),
            sum.boards.len(),
            began.elapsed().as_secs_f32()
        );
        if let Some(path) = &self.json {
            std::fs::write(path, sum.json(began.elapsed())).map_err(|e| format!("{path}: {e}"))?;
        }
        println!("figures: {}", sum.line());
        Ok(sum.broken.is_empty())
    }

    fn class(&self, schedule: &Schedule) -> Sum {
        match schedule {
            Schedule::Exhaustive(cuts) => self.sweep(*cuts, false),
            _ => self.sweep(1, true),
        }
    }

    /// Every row of up to so many cuts, of every story on every board.
    fn sweep(&self, cuts: u8, prefixes: bool) -> Sum {
        self.for_each(&|case, board, sweep| {
            let keeps = match (cuts, prefixes) {
                (_, true) => Vec::new(),
                (1, _) => CUTS.iter().map(keeps_of).collect(),
                _ if self.bounded => vec![Keeps::Nothing, Keeps::Torn(3)],
                _ => vec![Keeps::Nothing, Keeps::Everything, Keeps::Torn(3), Keeps::Reordered(3)],
            };
            let tries = board.convention().tries_max().min(case.story.tries);
            sweep.cuts(cuts, Ways { keeps, prefixes }, &|life, cuts| case.after_cuts(life, tries, cuts))
        })
    }

    /// Everything that can go wrong with one effect while the power stays.
    fn failures(&self) -> Sum {
        self.for_each(&|case, board, sweep| {
            if self.bounded && !has_its_turn(case, board) {
                return Ok(());
            }
            let lies = [Upset::Lost, Upset::Stuck(3), Upset::Kill, Upset::Full(3), Upset::Unreadable(2)];
            let ills = [Upset::Full(u32::MAX), Upset::Unreadable(u32::MAX), Upset::ReadOnly];
            let ills = if board.convention == "rauc" { &ills[..2] } else { &ills[..] };
            sweep.one(&[&FAILURES[..], &lies].concat(), &|life| case.after_failures(life, false))?;
            // A link is asked again, and time is not gone by but where a bundle has an end.
            sweep.one(&LINKS, &|life| case.as_told(life))?;
            if !matches!(case.story.twist, Twist::ExpiresBeforeDownload | Twist::ExpiresBeforeReboot) {
                sweep.one(&[Upset::Clock(0), Upset::Clock(4_000_000_000)], &|life| case.as_told(life))?;
            }
            sweep.one(ills, &|life| case.after_failures(life, true))
        })
    }

    /// Each story on each board with three tries and with one, on as many threads as there are processors.
    fn for_each(&self, sweep: Sweeping<'_>) -> Sum {
        let tries = self.tries.map_or_else(|| vec![3, 1], |tries| vec![tries]);
        let mut jobs = Vec::new();
        for tries in tries {
            for board in BOARDS.into_iter().filter(|(name, _)| chosen(name, &self.board)) {
                let stories = all(tries)
                    .into_iter()
                    .filter(|case| chosen(&case.story.name, &self.story) && case.is_told_on(board.1));
                jobs.extend(stories.map(|case| (case.story.name, board, tries)));
            }
        }
        let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::default()));
        on_all_processors(&|| {
            while let Some((name, (board_name, board), tries)) = jobs.get(next.fetch_add(1, Relaxed)) {
                let case = all(*tries).into_iter().find(|case| case.story.name == *name);
                let case = case.unwrap_or_else(|| unreachable!("it was listed"));
                let mut lived = Sweep::new(&case.story, *board, None);
                let found = sweep(&case, *board, &mut lived);
                let line = |row| Line {
                    story: name.clone(),
                    board: (*board_name).into(),
                    tries: *tries,
                    schedule: Schedule::Row(row),
                };
                let broken = found.err().map(|found| (line(found.schedule), found.broken));
                lock(&sum).add(name, board_name, &lived.tally, broken);
            }
        });
        sum.into_inner().unwrap_or_default()
    }

    fn swarm(&self) -> Result<Sum, String> {
        let until = match (self.minutes, self.lives) {
            (Some(minutes), None) => Instant::now() + Duration::from_secs(minutes * 60),
            (None, Some(_)) => Instant::now() + Duration::from_secs(u32::MAX.into()),
            _ => return Err("swarm: expected --minutes N or --lives N".into()),
        };
        let (lives, next) = (self.lives.unwrap_or(u64::MAX), AtomicU64::new(0));
        let sum = Mutex::new(Sum::default());
        let (began, told) = (Instant::now(), AtomicU64::new(0));
        on_all_processors(&|| {
            while Instant::now() < until && lock(&sum).broken.len() < BROKEN_MAX {
                let n = next.fetch_add(1, Relaxed);
                if n >= lives {
                    break;
                }
                let mut tally = Tally::default();
                let lived = swarm::life(self.seed.wrapping_add(n), &mut tally);
                let mut sum = lock(&sum);
                sum.tally.add(&tally);
                if let Err(broken) = lived {
                    eprintln!("seed {}", self.seed.wrapping_add(n));
                    sum.broke(broken);
                }
                let seconds = began.elapsed().as_secs();
                if seconds >= told.load(Relaxed) + PROGRESS_S {
                    told.store(seconds, Relaxed);
                    sum.progress(seconds);
                }
            }
        });
        let mut sum = sum.into_inner().unwrap_or_default();
        sum.boards.extend(BOARDS.map(|(name, _)| name.to_string()));
        sum.stories.insert("drawn".into());
        Ok(sum)
    }

    /// One life, written down; or the class of lives that the line names.
    fn replay(&self) -> Result<bool, String> {
        let line = self.rest.first().ok_or("replay: expected a line")?;
        let line: Line = line.parse()?;
        if let Schedule::Linear | Schedule::Exhaustive(_) = line.schedule {
            let Line { board, story, tries, ref schedule } = line;
            let (board, story) = (format!("\"{board}\""), format!("\"{story}\""));
            let sum = Command { board, story, tries: Some(tries), ..self.clone() }.class(schedule);
            println!("figures: {}", sum.line());
            return Ok(sum.broken.is_empty());
        }
        match swarm::replay(&line)? {
            Ok(life) => {
                life.trace.iter().for_each(|line| println!("{line}"));
                println!(
                    "{line}\nholds: {:?}, refused {:?}, runs {}",
                    life.outcomes, life.refused, life.runs
                );
                Ok(true)
            }
            Err(found) => {
                found.broken.trace.iter().for_each(|line| println!("{line}"));
                println!("{line}\n{}: {}", found.broken.figure.name(), found.broken.what);
                Ok(false)
            }
        }
    }
}

/// What all threads have seen together.
#[derive(Default)]
struct Sum {
    stories: BTreeSet<String>,
    boards: BTreeSet<String>,
    tally: Tally,
    broken: Vec<(Line, Broken)>,
}

impl Sum {
    fn add(&mut self, story: &str, board: &str, tally: &Tally, broken: Option<(Line, Broken)>) {
        self.stories.insert(story.into());
        self.boards.insert(board.into());
        self.tally.add(tally);
        broken.into_iter().for_each(|broken| self.broke(broken));
    }

    fn broke(&mut self, (line, broken): (Line, Broken)) {
        println!("{}: {}\n  sim replay '{line}'", broken.figure.name(), broken.what);
        self.broken.push((line, broken));
    }

    fn progress(&self, seconds: u64) {
        let Tally { lives, effects, faults, .. } = self.tally;
        eprintln!(
            "{seconds} s: {lives} lives, {} each second, {effects} effects, {faults} faults",
            lives / seconds.max(1)
        );
    }

    fn figures(&self) -> Figures {
        Figure::ALL
            .map(|figure| self.broken.iter().filter(|(_, broken)| broken.figure == figure).count() as u64)
    }

    fn counts(&self) -> [(&'static str, u64); 6] {
        let Tally { cut_points, schedules, effects, faults, .. } = self.tally;
        let stories = self.stories.len() as u64;
        [
            ("stories", stories),
            ("boards", self.boards.len() as u64),
            ("cut_points", cut_points),
            ("schedules", schedules),
            ("effects", effects),
            ("faults", faults),
        ]
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let figures = Figure::ALL.into_iter().zip(self.figures());
        self.counts().into_iter().chain(figures.map(|(figure, count)| (figure.name(), count)))
    }

    fn line(&self) -> String {
        self.all().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
    }

    fn json(&self, took: Duration) -> String {
        let figures = self.all().map(|(name, count)| format!("  \"{name}\": {count},\n")).collect::<String>();
        let lives = self.tally.lives;
        let seconds = took.as_secs_f32();
        format!("{{\n{figures}  \"lives\": {lives},\n  \"seconds\": {seconds:.1}\n}}\n")
    }
}

/// By its whole name in quotes, as it stands on a line, or by a part of it.
fn chosen(name: &str, wanted: &str) -> bool {
    match wanted.strip_prefix('"').and_then(|wanted| wanted.strip_suffix('"')) {
        Some(whole) => name == whole,
        None => name.contains(wanted),
    }
}

fn keeps_of(upset: &Upset) -> Keeps {
    match upset {
        Upset::Cut(keeps) => *keeps,
        other => unreachable!("{other:?} is no cut"),
    }
}

fn on_all_processors(work: &(dyn Fn() + Sync)) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

fn lock(sum: &Mutex<Sum>) -> std::sync::MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("expected a number, found \"{text}\""))
}

/// How often a swarm says how far it is, in seconds.
const PROGRESS_S: u64 = 10;

/// A swarm that has found so many broken lives has found enough.
const BROKEN_MAX: usize = 10;

/// Of the boards each story has two, one after the other; so each board has a fourth of the stories, and each failure its
/// place in all of them.
fn has_its_turn(case: &Case, board: Board) -> bool {
    let place = BOARDS.iter().position(|(_, known)| *known == board).unwrap_or(0);
    (case.story.name.bytes().map(usize::from).sum::<usize>() + place).is_multiple_of(BOARDS.len() / 2)
}
