//! What goes wrong, on one line: so that a failure is a line, and the line is lived again.
//!
//! ```text
//! story="a good update" board="U-Boot, mainstay" tries=3 schedule=cut@17:torn(2),fails@23
//! ```
//! `none`, `linear`, `exhaustive(K)` and `swarm(SEED)` stand for whole classes of rows; a failure is always one row.

use crate::power::{Answer, Keeps, Upset, Upsets};
use std::fmt;
use std::str::FromStr;

/// Which upsets a story is lived under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// None: as it is told.
    None,
    /// These.
    Row(Upsets),
    /// A cut at each effect, and after each sector of each write.
    Linear,
    /// Every row of up to so many cuts.
    Exhaustive(u8),
    /// Drawn from this seed: the story, the board and the upsets.
    Swarm(u64),
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::None => f.write_str("none"),
            Schedule::Row(row) => f.write_str(&text(row)),
            Schedule::Linear => f.write_str("linear"),
            Schedule::Exhaustive(cuts) => write!(f, "exhaustive({cuts})"),
            Schedule::Swarm(seed) => write!(f, "swarm({seed})"),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match split(text) {
            ("none", None) => Ok(Schedule::None),
            ("linear", None) => Ok(Schedule::Linear),
            ("exhaustive", Some(cuts)) => number(cuts).map(Schedule::Exhaustive),
            ("swarm", Some(seed)) => number(seed).map(Schedule::Swarm),
            _ => text.split(',').map(upset_at).collect::<Result<_, _>>().map(Schedule::Row),
        }
    }
}

/// A row, as it stands on a line.
pub fn text(row: &Upsets) -> String {
    if row.is_empty() {
        return "none".into();
    }
    row.iter().map(|(at, upset)| said(*at, *upset)).collect::<Vec<_>>().join(",")
}

fn said(at: u32, upset: Upset) -> String {
    match upset {
        Upset::Cut(Keeps::Nothing) => format!("cut@{at}:nothing"),
        Upset::Cut(Keeps::Everything) => format!("cut@{at}:everything"),
        Upset::Cut(Keeps::Torn(seed)) => format!("cut@{at}:torn({seed})"),
        Upset::Cut(Keeps::Reordered(seed)) => format!("cut@{at}:reordered({seed})"),
        Upset::Cut(Keeps::Prefix(sectors)) => format!("cut@{at}:prefix({sectors})"),
        Upset::Fails => format!("fails@{at}"),
        Upset::FailsButStands => format!("fails-but-stands@{at}"),
        Upset::Short(sectors) => format!("short@{at}:{sectors}"),
        Upset::Lost => format!("lost@{at}"),
        Upset::Stuck(seed) => format!("stuck@{at}:{seed}"),
        Upset::ReadOnly => format!("read-only@{at}"),
        Upset::Full(times) => format!("full@{at}:{times}"),
        Upset::Unreadable(times) => format!("unreadable@{at}:{times}"),
        Upset::Clock(to) => format!("clock@{at}:{to}"),
        Upset::Kill => format!("kill@{at}"),
        Upset::Link(Answer::Drops, times) => format!("link@{at}:drops({times})"),
        Upset::Link(Answer::Corrupts, times) => format!("link@{at}:corrupts({times})"),
        Upset::Link(Answer::Repeats, times) => format!("link@{at}:repeats({times})"),
    }
}

fn upset_at(text: &str) -> Result<(u32, Upset), String> {
    let unknown = || format!("upset \"{text}\": expected something like cut@17:torn(2) or fails@23");
    let (what, rest) = text.split_once('@').ok_or_else(unknown)?;
    let (at, how) = rest.split_once(':').unwrap_or((rest, ""));
    let (how, inner) = split(how);
    let upset = match (what, how, inner) {
        ("cut", "nothing", None) => Upset::Cut(Keeps::Nothing),
        ("cut", "everything", None) => Upset::Cut(Keeps::Everything),
        ("cut", "torn", Some(seed)) => Upset::Cut(Keeps::Torn(number(seed)?)),
        ("cut", "reordered", Some(seed)) => Upset::Cut(Keeps::Reordered(number(seed)?)),
        ("cut", "prefix", Some(sectors)) => Upset::Cut(Keeps::Prefix(number(sectors)?)),
        ("fails", "", None) => Upset::Fails,
        ("fails-but-stands", "", None) => Upset::FailsButStands,
        ("short", sectors, None) => Upset::Short(number(sectors)?),
        ("lost", "", None) => Upset::Lost,
        ("stuck", seed, None) => Upset::Stuck(number(seed)?),
        ("read-only", "", None) => Upset::ReadOnly,
        ("full", times, None) => Upset::Full(number(times)?),
        ("unreadable", times, None) => Upset::Unreadable(number(times)?),
        ("clock", to, None) => Upset::Clock(number(to)?),
        ("kill", "", None) => Upset::Kill,
        ("link", "drops", Some(times)) => Upset::Link(Answer::Drops, number(times)?),
        ("link", "corrupts", Some(times)) => Upset::Link(Answer::Corrupts, number(times)?),
        ("link", "repeats", Some(times)) => Upset::Link(Answer::Repeats, number(times)?),
        _ => return Err(unknown()),
    };
    Ok((number(at)?, upset))
}

/// `name(inner)`.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((name, inner)) => (name, Some(inner)),
        None => (text, None),
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("expected a number, found \"{text}\""))
}

/// A life, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The story's name: one of [`stories`](crate::stories), or what a swarm has put together.
    pub story: String,
    /// The board's.
    pub board: String,
    /// Tries of each trial.
    pub tries: u8,
    /// What goes wrong.
    pub schedule: Schedule,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { story, board, tries, schedule } = self;
        write!(f, "story=\"{story}\" board=\"{board}\" tries={tries} schedule={schedule}")
    }
}

impl FromStr for Line {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let quoted = |key: &str| {
            let (_, rest) = text.split_once(&format!("{key}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_string())
        };
        let bare = |key: &str| {
            let (_, rest) = text.split_once(&format!("{key}="))?;
            rest.split_whitespace().next()
        };
        let missing = |key: &str| format!("expected {key}= on the line, found \"{text}\"");
        Ok(Line {
            story: quoted("story").ok_or_else(|| missing("story"))?,
            board: quoted("board").ok_or_else(|| missing("board"))?,
            tries: number(bare("tries").ok_or_else(|| missing("tries"))?)?,
            schedule: bare("schedule").ok_or_else(|| missing("schedule"))?.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_reads_back_from_its_line() {
        let upsets = [
            Upset::Cut(Keeps::Nothing),
            Upset::Cut(Keeps::Everything),
            Upset::Cut(Keeps::Torn(u64::MAX)),
            Upset::Cut(Keeps::Reordered(7)),
            Upset::Cut(Keeps::Prefix(3)),
            Upset::Fails,
            Upset::FailsButStands,
            Upset::Short(2),
            Upset::Lost,
            Upset::Stuck(9),
            Upset::ReadOnly,
            Upset::Full(u32::MAX),
            Upset::Unreadable(1),
            Upset::Clock(0),
            Upset::Link(Answer::Drops, 1),
            Upset::Link(Answer::Corrupts, 2),
            Upset::Link(Answer::Repeats, 3),
            Upset::Kill,
        ];
        let row = upsets.into_iter().enumerate().map(|(n, upset)| (n as u32 + 1, upset)).collect();
        use Schedule::*;
        for schedule in [None, Linear, Exhaustive(2), Swarm(42), Row(row)] {
            let line =
                Line { story: "a good update".into(), board: "U-Boot, mainstay".into(), tries: 3, schedule };
            assert_eq!(line.to_string().parse(), Ok(line.clone()), "{line}");
        }
    }

    #[test]
    fn a_line_that_says_something_else_is_refused_and_says_what_was_expected() {
        for text in ["", "story=\"x\"", "story=\"x\" board=\"y\" tries=3 schedule=cut@x:nothing", "tries=3"] {
            assert!(text.parse::<Line>().is_err_and(|why| why.contains("expected")), "{text}");
        }
    }
}
