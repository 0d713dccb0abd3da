//! Rebuilds the disk as a power cut left it, at any entry of a log: nothing is copied but the sectors in question.
//!
//! ```text
//! log      w1  w2  F  w3  w4  w5 │ w6 …          cut before w6
//! safe     w1  w2                                F promised it
//! pending             w3  w4  w5                 the disk may have kept any sector of these, in any order
//! ```
//! **In order**: all of w3, w4, w5 are there: the disk wrote what it was given as it was given it. **Lost**: a generator,
//! seeded by the point, decides which sectors of them are: each by itself, or whole writes, few or many; each seed is one
//! way to lose. A FUA write is safe when it has returned; what was pending at its place is then older and does not come back.
//!
//! Assumed of the medium: a sector of 512 bytes is written whole or not at all, so are the two of an ext4 superblock
//! (`joined`; why, and what happens where they are not, stands in the README), and a flush that has returned covers all
//! entries before it in the log. (The log has writes in the order in which they ended. One that was still under way when
//! the flush began and ended before it did would count as safe here and need not be.)

use crate::log::{Entry, Flags, SECTOR, WriteLog};
use crate::medium::Rebuilt;
use mainstay_hil::{Doing, Result};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What became of the writes that nothing had flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// All are there.
    InOrder,
    /// Some are, as this seed decides.
    Lost(u64),
    /// None is.
    All,
}

/// A moment at which the power goes: before the entry `at` of the log, with this loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// How many entries of the log had been given to the disk.
    pub at: usize,
    /// What became of those that were not flushed.
    pub loss: Loss,
}

impl fmt::Display for Point {
    /// `1234`, `1234/7` or `1234/all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loss {
            Loss::InOrder => write!(f, "{}", self.at),
            Loss::Lost(seed) => write!(f, "{}/{seed}", self.at),
            Loss::All => write!(f, "{}/all", self.at),
        }
    }
}

impl FromStr for Point {
    type Err = mainstay_hil::Trouble;

    fn from_str(text: &str) -> Result<Point> {
        let (at, loss) = match text.split_once('/') {
            None => (text, Some(Loss::InOrder)),
            Some((at, "all")) => (at, Some(Loss::All)),
            Some((at, seed)) => (at, seed.parse().ok().map(Loss::Lost)),
        };
        let point = at.parse().ok().zip(loss).map(|(at, loss)| Point { at, loss });
        point.doing(|| format!("expected a point such as 1234, 1234/7 or 1234/all, found {text:?}"))
    }
}

/// A log on its way through a disk.
pub struct Replay<'a> {
    log: &'a WriteLog,
    safe: Vec<u8>,
    pending: Vec<&'a Entry>,
    next: usize,
    flushed: usize,
    /// Where the safe bytes have changed, in the order in which they did.
    changed: Vec<Range<u64>>,
    /// Sectors that one write keeps or loses together.
    joined: Vec<Range<u64>>,
}

impl<'a> Replay<'a> {
    /// Begins with the disk as it was before the first entry. `joined`: sectors that are never torn from each other.
    pub fn new(log: &'a WriteLog, base: Vec<u8>, joined: Vec<Range<u64>>) -> Replay<'a> {
        Replay { log, safe: base, pending: Vec::new(), next: 0, flushed: 0, changed: Vec::new(), joined }
    }

    /// Goes on to the point before entry `at`. Never back: points are visited in ascending order.
    pub fn advance(&mut self, at: usize) {
        let log: &'a WriteLog = self.log;
        for entry in log.entries().get(self.next..at).unwrap_or_default() {
            self.next += 1;
            if entry.flags.has(Flags::MARK) {
                continue;
            }
            if entry.flags.has(Flags::FLUSH) {
                for write in std::mem::take(&mut self.pending) {
                    self.apply(write);
                }
                self.flushed = self.next;
            }
            if entry.place().is_empty() {
                continue;
            }
            if entry.flags.has(Flags::FUA) {
                // What was pending comes first: all of it may be there, and none of it may stand over this.
                let place = entry.place();
                let overlaps =
                    |write: &&Entry| write.place().start < place.end && place.start < write.place().end;
                let (older, pending) = std::mem::take(&mut self.pending).into_iter().partition(overlaps);
                self.pending = pending;
                let older: Vec<&Entry> = older;
                older.into_iter().for_each(|write| self.apply(write));
                self.apply(entry);
            } else {
                self.pending.push(entry);
            }
        }
    }

    /// How many entries were given to the disk when the last flush had returned.
    pub const fn flushed(&self) -> usize {
        self.flushed
    }

    /// The disk as it comes back from a cut here. `Loss::Lost` of one seed is the same each time.
    pub fn rebuilt(&self, loss: Loss) -> Rebuilt<'_> {
        let mut disk = Rebuilt::over(&self.safe);
        let mut keeps = Keeps::new(loss, self.next as u64, self.pending.len());
        for (nr, write) in self.pending.iter().enumerate() {
            keeps.next_write(nr);
            let mut kept = false;
            for n in 0..write.sectors {
                let sector = write.sector + n;
                let joined = |range: &Range<u64>| n > 0 && range.start < sector && range.contains(&sector);
                kept = if self.joined.iter().any(joined) { kept } else { keeps.sector() };
                if kept {
                    disk.put(sector, self.sector_of(write, n as usize));
                }
            }
        }
        disk
    }

    /// Which change of the safe bytes was the last that touched these: where it is the same, so are the bytes.
    pub fn version(&self, place: &Range<u64>) -> usize {
        let overlaps = |changed: &Range<u64>| changed.start < place.end && place.start < changed.end;
        self.changed.iter().rposition(overlaps).map_or(0, |last| last + 1)
    }

    fn apply(&mut self, write: &Entry) {
        let place = write.place();
        let content = self.log.content(write);
        let Some(safe) = self.safe.get_mut(place.start as usize..place.end as usize) else { return };
        match content {
            [] => safe.fill(0), // a discard: zeros are what most devices then read as
            content => safe.copy_from_slice(content),
        }
        self.changed.push(place);
    }

    fn sector_of(&self, write: &Entry, n: usize) -> &[u8] {
        let content = self.log.content(write).get(n * SECTOR..(n + 1) * SECTOR);
        content.unwrap_or(&[0; SECTOR]) // a discard
    }
}

/// Decides sector by sector.
struct Keeps {
    random: Random,
    way: Way,
    last: usize,
    whole: Option<bool>,
}

/// Ways to lose. Each seed draws one.
#[derive(Clone, Copy)]
enum Way {
    Everything,
    Nothing,
    /// Each sector is kept with a chance of so many in 16.
    Sectors(u64),
    /// Each write is kept or lost as a whole: the disk wrote them in another order.
    Writes,
    /// All but the last write are there, and that one is torn.
    TornLast,
}

impl Keeps {
    fn new(loss: Loss, at: u64, pending: usize) -> Keeps {
        let seed = match loss {
            Loss::Lost(seed) => seed,
            _ => 0,
        };
        let mut random = Random(mix(seed) ^ at);
        let way = match loss {
            Loss::InOrder => Way::Nothing,
            Loss::All => Way::Everything,
            Loss::Lost(_) => match random.next() % 6 {
                0 | 1 => Way::Sectors(8),
                2 => Way::Sectors(14),
                3 => Way::Sectors(2),
                4 => Way::Writes,
                _ => Way::TornLast,
            },
        };
        Keeps { random, way, last: pending.saturating_sub(1), whole: None }
    }

    fn next_write(&mut self, nr: usize) {
        self.whole = match self.way {
            Way::Everything => Some(false),
            Way::Nothing => Some(true),
            Way::Writes => Some(self.random.next().is_multiple_of(2)),
            Way::TornLast if nr < self.last => Some(true),
            Way::TornLast | Way::Sectors(_) => None,
        };
    }

    fn sector(&mut self) -> bool {
        let of_16 = if let Way::Sectors(of_16) = self.way { of_16 } else { 8 };
        self.whole.unwrap_or_else(|| self.random.next() % 16 < of_16)
    }
}

/// splitmix64 (Steele, Lea and Flood, 2014): the same on every machine, so that a seed repeats a point.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogWriter;
    use crate::medium::Medium;

    const SECTORS: u64 = 16;

    /// Eight writes of one sector each, a flush in their middle; each sector is filled with its write's number, from 1.
    fn log() -> WriteLog {
        let mut log = LogWriter::default();
        for nr in 1..=8u8 {
            log.write(u64::from(nr), Flags::WRITE, &[nr; SECTOR]);
            if nr == 4 {
                log.flush();
            }
        }
        WriteLog::parse(log.finish(), SECTORS * SECTOR as u64).unwrap()
    }

    /// The first byte of each sector.
    fn disk_at(at: usize, loss: Loss) -> Vec<u8> {
        let log = log();
        let mut replay = Replay::new(&log, vec![0; SECTORS as usize * SECTOR], Vec::new());
        replay.advance(at);
        let disk = replay.rebuilt(loss);
        (0..9).map(|sector| disk.bytes(sector * SECTOR as u64, 1)[0]).collect()
    }

    #[test]
    fn in_order_a_disk_has_all_that_it_was_given() {
        for (at, last) in [(0, 0), (3, 3), (4, 4), (5, 4), (6, 5), (9, 8)] {
            let expected: Vec<u8> = (0..9).map(|n| if n <= last { n } else { 0 }).collect();
            assert_eq!(disk_at(at, Loss::InOrder), expected, "at {at}");
        }
    }

    #[test]
    fn what_was_flushed_is_never_lost_and_what_was_not_is_lost_sooner_or_later() {
        let (mut kept, mut lost) = ([false; 9], [false; 9]);
        for seed in 0..200 {
            let disk = disk_at(9, Loss::Lost(seed));
            assert_eq!(disk[..5], [0, 1, 2, 3, 4], "seed {seed}");
            assert_eq!(disk, disk_at(9, Loss::Lost(seed)), "the same seed loses the same");
            for nr in 5..9 {
                kept[nr] |= disk[nr] == nr as u8;
                lost[nr] |= disk[nr] == 0;
            }
        }
        assert_eq!((&kept[5..], &lost[5..]), (&[true; 4][..], &[true; 4][..]));
        assert_eq!(disk_at(9, Loss::All), [0, 1, 2, 3, 4, 0, 0, 0, 0]);
        let before = disk_at(4, Loss::All);
        assert_eq!(before, [0; 9], "before the flush nothing is promised");
    }

    #[test]
    fn a_sector_that_was_written_twice_has_an_old_a_middle_or_a_new_content_and_a_fua_write_is_safe() {
        let mut log = LogWriter::default();
        log.write(1, Flags::WRITE, &[1; SECTOR]);
        log.write(1, Flags::WRITE, &[2; SECTOR]);
        log.write(2, Flags::WRITE, &[3; SECTOR]);
        log.write(2, Flags::FUA, &[4; SECTOR]);
        let log = WriteLog::parse(log.finish(), SECTORS * SECTOR as u64).unwrap();
        let mut replay = Replay::new(&log, vec![0; SECTORS as usize * SECTOR], Vec::new());
        replay.advance(4);
        let mut seen = [false; 3];
        for seed in 0..100 {
            let disk = replay.rebuilt(Loss::Lost(seed));
            seen[usize::from(disk.bytes(512, 1)[0])] = true;
            assert_eq!(disk.bytes(1024, 1), [4], "seed {seed}");
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn joined_sectors_are_never_torn_from_each_other_and_their_neighbours_are() {
        let mut log = LogWriter::default();
        log.write(0, Flags::WRITE, &[5; 8 * SECTOR]);
        let log = WriteLog::parse(log.finish(), SECTORS * SECTOR as u64).unwrap();
        let joined = std::iter::once(2..4).collect();
        let mut replay = Replay::new(&log, vec![0; SECTORS as usize * SECTOR], joined);
        replay.advance(1);
        let mut torn = false;
        for seed in 0..100 {
            let disk = replay.rebuilt(Loss::Lost(seed));
            let of = |sector: u64| disk.bytes(sector * SECTOR as u64, 1)[0];
            assert_eq!(of(2), of(3), "seed {seed}");
            torn |= of(1) != of(2) && of(3) != of(4);
        }
        assert!(torn);
    }

    #[test]
    fn a_point_is_read_as_it_is_written() {
        for point in ["0", "1234/7", "12/all"] {
            assert_eq!(point.parse::<Point>().unwrap().to_string(), point);
        }
        for odd in ["", "x", "1/", "1/x", "-1"] {
            assert!(odd.parse::<Point>().is_err(), "{odd:?}");
        }
    }
}
