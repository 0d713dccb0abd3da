//! Lives that are drawn: a story of random parts on a random board, under a few upsets of random classes. Each life
//! comes from its seed alone; one that goes wrong is made as small as it gets and printed as one line.
//!
//! Swarm testing (Groce and others, 2012): a mix of everything hides what only a few classes together show, so each
//! life leaves most classes out.

use crate::life::{Broken, Life};
use crate::made::Made;
use crate::mutant::Mutant;
use crate::outside::Twist;
use crate::power::{Answer, Draw, Figure, Keeps, Upset, Upsets};
use crate::schedule::{Line, Schedule};
use crate::stories::{self, BOARDS};
use crate::sweep::{Found, Sweep, Tally};
use crate::world::Board;

/// A life to be lived.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The story's parts.
    pub made: Made,
    /// Where.
    pub board: (&'static str, Board),
    /// Tries of each trial.
    pub tries: u8,
    /// What goes wrong.
    pub upsets: Upsets,
    /// A wrong order, to show what is made of a life that breaks.
    pub mutant: Option<Mutant>,
}

impl Drawn {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let (board, tries) = (draw.of(&BOARDS), draw.of(&[3, 3, 2, 1]));
        let mut made = Made::draw(&mut draw);
        if made.twist == Twist::PersonGoesBackAfterCommit && stories::is_raucs_grub(board.1) {
            made.twist = Twist::None; // see `Case::is_told_on`
        }
        let mut drawn = Drawn { made, board, tries, upsets: Upsets::new(), mutant: None };
        let effects = drawn.undisturbed();
        let classes: Vec<Class> = Class::ALL.into_iter().filter(|_| draw.below(3) == 0).collect();
        if classes.is_empty() || effects == 0 {
            return drawn;
        }
        for _ in 0..1 + draw.below(FAULTS_MAX) {
            // A life under upsets takes more effects than one without.
            let at = 1 + draw.below(u64::from(effects) * 5 / 4) as u32;
            let class = draw.of(&classes);
            if drawn.upsets.iter().all(|(taken, _)| *taken != at) && class.fits(board.1) {
                drawn.upsets.push((at, class.draw(&mut draw)));
            }
        }
        drawn.upsets.sort_by_key(|(at, _)| *at);
        drawn
    }

    /// Lives it.
    pub fn live(&self, tally: &mut Tally) -> Result<(), Box<Found>> {
        let story = self.made.story(self.tries);
        let mut sweep = Sweep::new(&story, self.board.1, self.mutant);
        let lived = sweep.live(&self.upsets, &|life| may_end_so(self, life)).map(|_| ());
        tally.add(&sweep.tally);
        lived
    }

    /// As it stands on a line.
    pub fn line(&self) -> Line {
        Line {
            story: self.made.to_string(),
            board: self.board.0.into(),
            tries: self.tries,
            schedule: match self.upsets.is_empty() {
                true => Schedule::None,
                false => Schedule::Row(self.upsets.clone()),
            },
        }
    }

    /// The smallest life that breaks the same way, and how.
    pub fn shrink(self, broken: Box<Found>) -> (Drawn, Box<Found>) {
        let (mut smallest, mut found, mut left) = (self, broken, SHRINKS_MAX);
        loop {
            let figure = found.broken.figure;
            let smaller = smallest.simpler().into_iter().take(left).find_map(|simpler| {
                left -= 1;
                let again = simpler.live(&mut Tally::default()).err()?;
                (again.broken.figure == figure).then_some((simpler, again))
            });
            match smaller {
                Some((simpler, again)) => (smallest, found) = (simpler, again),
                None => return (smallest, found),
            }
        }
    }

    fn undisturbed(&self) -> u32 {
        let story = self.made.story(self.tries);
        let life = Sweep::new(&story, self.board.1, None).live(&Upsets::new(), &|_| true);
        life.map_or(0, |life| life.effects)
    }

    /// One upset less, earlier, or plainer; one part of the story less; the plainest board.
    fn simpler(&self) -> Vec<Drawn> {
        let mut simpler = Vec::new();
        for n in 0..self.upsets.len() {
            let mut without = self.clone();
            without.upsets.remove(n);
            simpler.push(without);
        }
        simpler.extend(self.made.simpler().into_iter().map(|made| Drawn { made, ..self.clone() }));
        if self.board.0 != BOARDS[0].0 {
            simpler.push(Drawn { board: BOARDS[0], ..self.clone() });
        }
        if self.tries != 3 {
            simpler.push(Drawn { tries: 3, ..self.clone() });
        }
        for n in 0..self.upsets.len() {
            let (at, upset) = self.upsets[n];
            for upset in plainer(upset) {
                let mut plain = self.clone();
                plain.upsets[n] = (at, upset);
                simpler.push(plain);
            }
            let floor = n.checked_sub(1).map_or(0, |before| self.upsets[before].0);
            for earlier in
                [floor + 1, floor + (at - floor) / 2, at - 1].into_iter().filter(|e| *e > floor && *e < at)
            {
                let mut early = self.clone();
                early.upsets[n] = (earlier, upset);
                simpler.push(early);
            }
        }
        simpler
    }
}

fn plainer(upset: Upset) -> Vec<Upset> {
    match upset {
        Upset::Cut(Keeps::Nothing) | Upset::Fails => Vec::new(),
        Upset::Cut(Keeps::Everything) => vec![Upset::Cut(Keeps::Nothing)],
        Upset::Cut(_) => vec![Upset::Cut(Keeps::Nothing), Upset::Cut(Keeps::Everything)],
        Upset::Full(times) if times > 1 => vec![Upset::Full(1), Upset::Fails],
        Upset::Unreadable(times) if times > 1 => vec![Upset::Unreadable(1)],
        Upset::Link(answer, times) if times > 1 => vec![Upset::Link(answer, 1)],
        Upset::Short(_) | Upset::Stuck(_) | Upset::Lost | Upset::FailsButStands => vec![Upset::Fails],
        _ => Vec::new(),
    }
}

/// A class of upsets, which a life has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Cuts,
    Failures,
    Lies,
    Reads,
    Room,
    Clock,
    Link,
    ReadOnly,
    Kills,
}

impl Class {
    const ALL: [Class; 9] = [
        Class::Cuts,
        Class::Failures,
        Class::Lies,
        Class::Reads,
        Class::Room,
        Class::Clock,
        Class::Link,
        Class::ReadOnly,
        Class::Kills,
    ];

    /// RAUC's scripts do not look whether they could save, so nothing counts there on a medium that takes no write.
    fn fits(self, board: Board) -> bool {
        self != Class::ReadOnly || board.convention != "rauc"
    }

    fn draw(self, draw: &mut Draw) -> Upset {
        let seed = draw.number();
        match self {
            Class::Cuts => Upset::Cut(draw.of(&[
                Keeps::Nothing,
                Keeps::Everything,
                Keeps::Torn(seed),
                Keeps::Reordered(seed),
                Keeps::Prefix(1 + (seed % 8) as u16),
            ])),
            Class::Failures => {
                draw.of(&[Upset::Fails, Upset::FailsButStands, Upset::Short((seed % 4) as u16)])
            }
            Class::Lies => draw.of(&[Upset::Lost, Upset::Stuck(seed)]),
            Class::Reads => Upset::Unreadable(draw.of(&[1, 1, 3, 20, u32::MAX])),
            Class::Room => Upset::Full(draw.of(&[1, 2, 5, 20, u32::MAX])),
            Class::Clock => Upset::Clock(draw.of(&[0, 1_735_700_000, 1_800_200_000, 4_000_000_000])),
            Class::Link => Upset::Link(
                draw.of(&[Answer::Drops, Answer::Corrupts, Answer::Repeats]),
                draw.of(&[1, 2, 5, 9]),
            ),
            Class::ReadOnly => Upset::ReadOnly,
            Class::Kills => Upset::Kill,
        }
    }
}

/// The invariants have held; beyond them, every report is of a release, and what runs is approved.
fn may_end_so(drawn: &Drawn, life: &Life) -> bool {
    let published =
        |version: &str| drawn.made.releases.iter().any(|release| release.0.to_string() == version);
    life.outcomes.iter().all(|(version, _)| published(version)) && life.stands
}

/// A row of lives, and the first that went wrong, made small.
pub fn life(seed: u64, tally: &mut Tally) -> Result<(), (Line, Broken)> {
    let drawn = Drawn::new(seed);
    drawn.live(tally).map_err(|found| {
        let (smallest, found) = drawn.shrink(found);
        (smallest.line(), found.broken)
    })
}

/// Lives what stands on a line, and writes it down: how it ended, and whether it may.
pub fn replay(line: &Line) -> Result<Result<Life, Box<Found>>, String> {
    if let Schedule::Swarm(seed) = line.schedule {
        return replay(&Drawn::new(seed).line()); // whatever else stands on the line: the seed draws all of it
    }
    let board = stories::board(&line.board)?;
    let none = Upsets::new();
    let row = match &line.schedule {
        Schedule::None => &none,
        Schedule::Row(row) => row,
        class => return Err(format!("replay: expected one row of upsets, found the class {class}")),
    };
    if line.story.starts_with("made:") {
        let (made, upsets) = (line.story.parse()?, row.clone());
        let drawn = Drawn { made, board, tries: line.tries, upsets, mutant: None };
        let story = drawn.made.story(drawn.tries);
        let lived = Sweep::new(&story, board.1, None).live(row, &|life| may_end_so(&drawn, life));
        return Ok(lived);
    }
    let case = stories::all(line.tries).into_iter().find(|case| case.story.name == line.story);
    let case = case.ok_or_else(|| format!("replay: no story is called \"{}\"", line.story))?;
    let fits = |life: &Life| case.fits(life, row, board.1);
    Ok(Sweep::new(&case.story, board.1, None).live(row, &fits))
}

/// In one life.
const FAULTS_MAX: u64 = 5;
/// Lives that are spent on making one smaller.
const SHRINKS_MAX: usize = 2_000;

/// What a figure of the table counts, in the order of [`Figure::ALL`].
pub type Figures = [u64; Figure::ALL.len()];
