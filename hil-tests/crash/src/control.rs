//! Can the judge fail? Each recording is spoiled in ways in which real update scripts are wrong, and the judge has to see it.
//! A run whose judge overlooks one of them is a failed run, whatever the real recording came to.

use crate::judge::Judge;
use crate::judge::verdict::{Class, Fault};
use crate::layout::Map;
use crate::log::{Entry, Flags, LogWriter, SECTOR, WriteLog};
use crate::mark::Mark;
use crate::record::Recording;
use crate::replay::{Loss, Point, Random};
use mainstay_hil::board::rootfs;
use mainstay_hil::{Result, Trouble};

/// A way to spoil a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The guest never flushes: no fsync, no barriers.
    NoFlush,
    /// The target is armed before its content is written.
    ArmedFirst,
    /// One byte of the target is not what it should be when the trial begins.
    WrongByte,
    /// The environment is emptied and written anew, as `grub-editenv` and many scripts do.
    Rewritten,
    /// The operator is told before anything is on record.
    ToldTooEarly,
}

impl Control {
    /// All of them.
    pub const ALL: [Control; 5] = [
        Control::NoFlush,
        Control::ArmedFirst,
        Control::WrongByte,
        Control::Rewritten,
        Control::ToldTooEarly,
    ];

    /// What is wrong, and what the judge has to call it.
    pub const fn what(self) -> (&'static str, &'static [Class]) {
        use Class::*;
        match self {
            Control::NoFlush => ("nothing is flushed", &[LostRecords, Unverified]),
            Control::ArmedFirst => ("armed before it is written", &[Unverified]),
            Control::WrongByte => ("a byte of the target is wrong", &[Unverified]),
            Control::Rewritten => ("environment emptied and written anew", &[LostEnvironment]),
            Control::ToldTooEarly => ("told before it is on record", &[LostRecords]),
        }
    }

    /// The first point at which the judge sees what was spoiled. `None`: it has overlooked it.
    pub fn caught(self, recording: &Recording, seed: u64) -> Result<Option<(Point, Fault)>> {
        let spoiled = self.spoil(recording)?;
        let (old, new) = (recording.log.entries(), spoiled.log.entries());
        // Up to where it was spoiled it is the recording that is judged anyway.
        let same = |(at, entry): &(usize, &Entry)| {
            old.get(*at).is_some_and(|old| old.same(&recording.log, entry, &spoiled.log))
        };
        let first = new.iter().enumerate().take_while(same).count();
        let mut judge = Judge::new(&spoiled, false)?;
        let mut random = Random(seed);
        let (_, expected) = self.what();
        for at in first..=new.len() {
            let loss = match self {
                Control::NoFlush => Loss::Lost(random.next() % 100_000),
                _ => Loss::InOrder,
            };
            let point = Point { at, loss };
            let verdict = judge.judge(point)?;
            if let Some(fault) = verdict.faults.into_iter().find(|fault| expected.contains(&fault.class)) {
                return Ok(Some((point, fault)));
            }
        }
        Ok(None)
    }

    /// The recording with this fault in it.
    pub fn spoil(self, recording: &Recording) -> Result<Recording> {
        let Recording { layout, base, log, images } = recording;
        let map = Map::of(*layout);
        let name = |entry: &Entry| map.name_at(entry.place().start).to_owned();
        let writes_to = |entry: &Entry, part: &str| !entry.place().is_empty() && name(entry) == part;
        let target = rootfs(layout.target());
        let mut out = LogWriter::default();
        match self {
            Control::NoFlush => {
                for entry in
                    log.entries().iter().filter(|e| e.flags.has(Flags::MARK) || !e.place().is_empty())
                {
                    match log.text(entry) {
                        // Nobody is told anything either: the loss alone has to show.
                        Some(text) if text.starts_with("boots") => out.mark(text),
                        Some(_) => {}
                        None => out.write(entry.sector, Flags::WRITE, log.content(entry)),
                    }
                }
            }
            Control::ArmedFirst => {
                // Arming is the last write of the variables before the second boot.
                let (second, places) = (self.second_boot(recording)?, self.environment(recording)?);
                let arms =
                    |entry: &Entry| places.iter().any(|at| entry.place().contains(&(at * SECTOR as u64)));
                let armed = log.entries().iter().take(second).rposition(arms);
                let first = log.entries().iter().position(|entry| writes_to(entry, target));
                let (Some(armed), Some(first)) = (armed, first) else {
                    return Err(Trouble::new(
                        "control: expected writes of environment and target, found none",
                    ));
                };
                for (at, entry) in log.entries().iter().enumerate() {
                    if at == first {
                        log.entries().get(armed).into_iter().for_each(|armed| out.copy(log, armed));
                        out.flush();
                    }
                    if at != armed {
                        out.copy(log, entry);
                    }
                }
            }
            Control::WrongByte => {
                let last = log.entries().iter().rposition(|entry| writes_to(entry, target));
                for (at, entry) in log.entries().iter().enumerate() {
                    if Some(at) == last {
                        let mut content = log.content(entry).to_vec();
                        content.iter_mut().take(1).for_each(|byte| *byte ^= 1);
                        out.write(entry.sector, entry.flags, &content);
                    } else {
                        out.copy(log, entry);
                    }
                }
            }
            Control::Rewritten => {
                let places = self.environment(recording)?;
                for entry in log.entries() {
                    let place = entry.place();
                    if places.iter().any(|sector| place.contains(&(sector * SECTOR as u64))) {
                        places.iter().for_each(|sector| out.write(*sector, Flags::WRITE, &[0; SECTOR]));
                        out.flush();
                    }
                    out.copy(log, entry);
                }
            }
            Control::ToldTooEarly => {
                recording.marks().for_each(|(_, mark)| {
                    if !matches!(mark, Mark::Boots(..)) {
                        out.mark(&mark.to_string());
                    }
                });
                log.entries().iter().for_each(|entry| out.copy(log, entry));
            }
        }
        let log = WriteLog::parse(out.finish(), base.len() as u64)?;
        Ok(Recording { layout: *layout, base: base.clone(), log, images: images.clone() })
    }

    fn second_boot(self, recording: &Recording) -> Result<usize> {
        let boots = recording.marks().filter(|(_, mark)| matches!(mark, Mark::Boots(..)));
        let second = boots.map(|(at, _)| at).nth(1);
        second.ok_or_else(|| Trouble::new("control: expected a second boot in the log, found none"))
    }

    /// The first sector of each copy of the environment.
    fn environment(self, recording: &Recording) -> Result<Vec<u64>> {
        let map = Map::of(recording.layout);
        let format = recording.layout.format();
        let mut sectors = Vec::new();
        for copy in 0..format.copies() {
            let write = mainstay_bootloader_glue::Write { copy, at: 0, bytes: vec![0; SECTOR] };
            sectors.extend(map.sectors_of(&recording.base, &write)?.into_iter().map(|(sector, _)| sector));
        }
        Ok(sectors)
    }
}
