//! What a download may cost: a rate, and bytes in a month. Downloads alone; commands, states and reports are never held up.
//!
//! The rate is a bucket that holds no water: what is asked for is owed, and nothing more is asked for until that has run off. So
//! the long-term rate holds exactly, and what is under way comes at the speed of the link.
//!
//! Bytes of the month are counted as they come, with 1/25 for what TCP, IP and TLS add, and kept in a file of two records that
//! are written in turn, each in a block of its own:
//!
//! ```text
//! at 0     SEQUENCE MONTH BYTES CHECK     text, 64 bytes: the month counted from January of year 0; SHA-256, eight digits
//! at 4096  the same                       the record with the higher sequence that is whole counts
//! ```
//! It is written when a 64th of the month's bytes have come since (64 KiB at least, [`UNSAVED_BYTES_MAX`] at most), and at the end of a
//! download, which a reboot may come before: a cut loses at most that much of the count, and never makes it more. A month is one of UTC;
//! while the clock is not set, the month on record goes on.

use mainstay_core::digest::Digest;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a power cut can take from the count.
pub const UNSAVED_BYTES_MAX: u64 = 1 << 20;
const UNSAVED_BYTES_MIN: u64 = 64 << 10;
/// What TCP, IP and TLS add to what they carry, as its part: 52 bytes to 1448, and 22 to each record of 16 KiB.
const FRAMING: u64 = 25;
/// One record.
const RECORD_BYTES: usize = 64;
/// Where the second one is: a page of flash, or a block, holds one alone.
const SECOND_AT: u64 = 4096;

/// Limits of downloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// kbit/s: 1000 bits a second.
    pub rate_kbit_s: Option<u32>,
    /// Seconds of the day, UTC, between which the rate holds; always, where there are none or the clock is not set.
    pub rate_hours: Option<(u32, u32)>,
    /// MiB in a month.
    pub monthly_mib: Option<u32>,
}

/// Counts, and says when there may be more.
pub struct Meter {
    limits: Limits,
    file: PathBuf,
    /// Unix seconds, where the clock is set.
    clock: fn() -> Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What has been asked for and not run off yet, in bytes, and as of when.
    owed: f64,
    as_of: Option<Instant>,
    count: Count,
    unsaved: u64,
    /// The file cannot be written: said once.
    complained: bool,
}

/// What is on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    sequence: u64,
    /// 12 · year + month - 1; 0: none yet.
    month: u64,
    bytes: u64,
}

impl Meter {
    /// `folder`: where the count is kept. `clock`: Unix seconds, where they are known.
    pub fn new(limits: Limits, folder: &Path, clock: fn() -> Option<u64>) -> Arc<Meter> {
        let file = folder.join("quota");
        let count = if limits.monthly_mib.is_some() { read(&file) } else { Count::default() };
        let state = Mutex::new(State { count, ..State::default() });
        Arc::new(Meter { limits, file, clock, state })
    }

    /// May something more be asked for at `now`? Else the wait until it may.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate()?;
        let owed = self.lock().run_off(rate, now);
        (owed > 0.0).then(|| Duration::from_secs_f64(owed / rate))
    }

    /// `bytes` have been asked for, or (negative) were less than announced.
    pub fn owe(&self, bytes: i64, now: Instant) {
        let Some(rate) = self.rate() else { return };
        let mut state = self.lock();
        let owed = state.run_off(rate, now);
        state.owed = owed + bytes as f64 * (1.0 + 1.0 / FRAMING as f64);
    }

    /// `bytes` have come.
    pub fn came(&self, bytes: u64) {
        let Some(most) = self.limits.monthly_mib.filter(|_| bytes > 0) else { return };
        let unsaved = (u64::from(most) << 20) / 64;
        let mut state = self.lock();
        state.turn_month((self.clock)());
        let bytes = bytes.saturating_add(bytes / FRAMING);
        state.count.bytes = state.count.bytes.saturating_add(bytes);
        state.unsaved = state.unsaved.saturating_add(bytes);
        if state.unsaved >= unsaved.clamp(UNSAVED_BYTES_MIN, UNSAVED_BYTES_MAX) {
            self.save(&mut state);
        }
    }

    /// A download is over: what has been counted is made durable.
    pub fn settle(&self) {
        let mut state = self.lock();
        if state.unsaved > 0 {
            self.save(&mut state);
        }
    }

    /// The month's bytes are used up: the words for people, which say when it goes on.
    pub fn used_up(&self) -> Option<String> {
        let most = self.limits.monthly_mib?;
        let mut state = self.lock();
        state.turn_month((self.clock)());
        let used = state.count.bytes >> 20;
        if used < u64::from(most) {
            return None;
        }
        let goes_on = match (self.clock)() {
            Some(_) => {
                let next = state.count.month.saturating_add(1);
                format!("goes on {:04}-{:02}-01 UTC", next / 12, next % 12 + 1)
            }
            None => "goes on with a new month once the clock is set".into(),
        };
        Some(format!(
            "the monthly quota: {used} of {most} MiB are used; {goes_on}, or with a higher monthly_quota_mib"
        ))
    }

    /// MiB that were used this month, where they are counted.
    pub fn used_mib(&self) -> Option<u64> {
        self.limits.monthly_mib.map(|_| self.lock().count.bytes >> 20)
    }

    /// Bytes a second.
    fn rate(&self) -> Option<f64> {
        let rate = self.limits.rate_kbit_s?;
        let holds = match (self.limits.rate_hours, (self.clock)()) {
            (Some((from, to)), Some(now)) => within(from, to, (now % 86_400) as u32),
            _ => true,
        };
        holds.then(|| f64::from(rate.max(1)) * 125.0)
    }

    fn save(&self, state: &mut State) {
        state.count.sequence += 1;
        state.unsaved = 0;
        match write(&self.file, &state.count) {
            Ok(()) => state.complained = false,
            Err(e) if !state.complained => {
                state.complained = true;
                log::error!(
                    "quota: cannot write {}: {e}; it is counted in memory alone",
                    self.file.display()
                );
            }
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is `now` between `from` and `to`, which may run over midnight? Seconds of the day.
pub const fn within(from: u32, to: u32, now: u32) -> bool {
    if from < to { now >= from && now < to } else { now >= from || now < to }
}

impl State {
    fn run_off(&mut self, rate: f64, now: Instant) -> f64 {
        let since = self.as_of.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.owed = (self.owed - rate * since.as_secs_f64()).max(0.0);
        self.owed
    }

    /// Another month than the one on record, on a clock that is set, is a new one: also an earlier one, or a clock that was once
    /// wrong would hold downloads up for years.
    fn turn_month(&mut self, now: Option<u64>) {
        let Some(month) = now.map(month_of) else { return };
        if self.count.month != month {
            (self.count.month, self.count.bytes) = (month, 0);
            self.unsaved = self.unsaved.max(1);
        }
    }
}

/// 12 · year + month - 1 of a Unix time, by the days of the Gregorian calendar (400 years have 146,097).
fn month_of(unix_s: u64) -> u64 {
    let days = unix_s / 86_400 + 719_468; // since 1 March of year 0
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let (year, month) = if month < 10 { (year, month + 2) } else { (year + 1, month - 10) };
    12 * (year + 400 * era) + month
}

fn text(count: &Count) -> String {
    let mut text = format!("{} {} {}", count.sequence, count.month, count.bytes);
    let check = Digest::of(text.as_bytes()).to_string();
    let _ = write!(text, " {}", check.get(..8).unwrap_or_default()); // a String takes everything
    format!("{text:<63}\n")
}

fn record(bytes: &[u8]) -> Option<Count> {
    let line = std::str::from_utf8(bytes).ok()?;
    let mut words = line.split_whitespace().map(str::parse::<u64>);
    let mut word = || words.next()?.ok();
    let count = Count { sequence: word()?, month: word()?, bytes: word()? };
    (text(&count).as_bytes() == bytes).then_some(count)
}

fn read(path: &Path) -> Count {
    let Ok(file) = File::open(path) else { return Count::default() };
    let counts = [0, SECOND_AT].into_iter().filter_map(|at| {
        let mut bytes = [0; RECORD_BYTES];
        file.read_exact_at(&mut bytes, at).ok()?;
        record(&bytes)
    });
    counts.max_by_key(|count| count.sequence).unwrap_or_else(|| {
        log::warn!("quota: {} holds no whole record: the month is counted anew", path.display());
        Count::default()
    })
}

fn write(path: &Path, count: &Count) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let at = if count.sequence.is_multiple_of(2) { 0 } else { SECOND_AT };
    file.write_all_at(text(count).as_bytes(), at)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: u64 = 1_795_737_600; // 2026-11-27
    const DECEMBER: u64 = NOVEMBER + 7 * 86_400;
    const MIB: u64 = 1 << 20;

    fn quota(folder: &Path, clock: fn() -> Option<u64>) -> Arc<Meter> {
        Meter::new(Limits { monthly_mib: Some(100), ..Limits::default() }, folder, clock)
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        #[rustfmt::skip]
        let cases = [
            (0,             1970, 1),
            (951_782_399,   2000, 2),  // 2000-02-28 23:59:59
            (951_868_800,   2000, 3),  // 2000-03-01: it had a 29th
            (NOVEMBER,      2026, 11),
            (1_798_761_599, 2026, 12), // 2026-12-31 23:59:59
            (1_798_761_600, 2027, 1),
        ];
        for (unix_s, year, month) in cases {
            assert_eq!(month_of(unix_s), 12 * year + month - 1, "{unix_s}");
        }
    }

    #[test]
    fn what_is_used_up_is_said_with_the_day_on_which_it_goes_on_and_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let meter = quota(folder.path(), || Some(NOVEMBER));
        meter.came(90 * MIB);
        assert_eq!(meter.used_up(), None);
        meter.came(10 * MIB);
        let words = "the monthly quota: 103 of 100 MiB are used; goes on 2026-12-01 UTC, or with a higher monthly_quota_mib";
        assert_eq!(meter.used_up().as_deref(), Some(words), "1/25 is for the framing");
        assert_eq!(quota(folder.path(), || Some(NOVEMBER)).used_up().as_deref(), Some(words));
        assert!(quota(folder.path(), || None).used_up().is_some_and(|w| w.contains("once the clock is set")));
        assert_eq!(quota(folder.path(), || Some(DECEMBER)).used_up(), None, "a new month");
    }

    #[test]
    fn without_a_clock_the_month_on_record_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        quota(folder.path(), || Some(NOVEMBER)).came(50 * MIB);
        let meter = quota(folder.path(), || None);
        meter.came(50 * MIB);
        assert!(meter.used_up().is_some());
    }

    /// An agent that is cut off behind each download took as much as it liked of a small quota: less than what was written at once.
    #[test]
    fn cuts_behind_each_download_do_not_stretch_a_small_quota() {
        let folder = tempfile::tempdir().unwrap();
        let mut taken = 0;
        loop {
            let limits = Limits { monthly_mib: Some(1), ..Limits::default() };
            let meter = Meter::new(limits, folder.path(), || Some(NOVEMBER));
            if meter.used_up().is_some() {
                break;
            }
            for _ in 0..20 {
                meter.came(10_000);
                taken += 10_000;
            }
            assert!(taken < 2 * MIB, "{taken}");
        }
    }

    #[test]
    fn a_power_cut_loses_at_most_a_mebibyte_and_a_torn_record_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let meter = quota(folder.path(), || Some(NOVEMBER));
        for _ in 0..64 {
            meter.came(100_000);
        }
        let counted = meter.lock().count.bytes;
        let kept = quota(folder.path(), || Some(NOVEMBER)).lock().count;
        assert!(kept.bytes <= counted && counted - kept.bytes <= UNSAVED_BYTES_MAX, "{kept:?} of {counted}");
        meter.settle();
        assert_eq!(quota(folder.path(), || Some(NOVEMBER)).lock().count.bytes, counted, "settled");

        let newest = meter.lock().count.sequence;
        let at = if newest.is_multiple_of(2) { 0 } else { SECOND_AT };
        let file = OpenOptions::new().write(true).open(folder.path().join("quota")).unwrap();
        file.write_all_at(b"9", at + 3).unwrap();
        assert_eq!(quota(folder.path(), || Some(NOVEMBER)).lock().count, kept, "the record before");
    }

    #[test]
    fn outside_its_hours_the_rate_does_not_hold_and_without_a_clock_it_does() {
        let limits = |hours| Limits { rate_kbit_s: Some(8), rate_hours: hours, monthly_mib: None };
        let (day, night) = ((6 * 3600, 22 * 3600), (22 * 3600, 6 * 3600));
        let noon: fn() -> Option<u64> = || Some(NOVEMBER + 43_200);
        for (hours, clock, holds) in [
            (Some(day), noon, true),
            (Some(night), noon, false),
            (None, noon, true),
            (Some(night), || None, true),
        ] {
            let meter = Meter::new(limits(hours), Path::new("/nowhere"), clock);
            meter.owe(1_000_000, Instant::now());
            assert_eq!(meter.wait(Instant::now()).is_some(), holds, "{hours:?}");
        }
    }

    #[test]
    fn the_rate_holds_to_the_byte_over_time_however_large_the_objects_are() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { rate_kbit_s: Some(256), ..Limits::default() };
        let meter = Meter::new(limits, folder.path(), || None);
        let (begun, mut now, mut asked) = (Instant::now(), Instant::now(), 0u64);
        while asked < 20_000_000 {
            match meter.wait(now) {
                Some(wait) => now += wait,
                None => {
                    meter.owe(98_304, now);
                    meter.owe(-8_304, now); // it was shorter than announced
                    asked += 90_000;
                }
            }
        }
        let rate = asked as f64 * 8.0 * 1.04 / now.saturating_duration_since(begun).as_secs_f64();
        assert!((rate / 256_000.0 - 1.0).abs() < 0.01, "{rate}");
        assert_eq!(meter.used_up(), None, "no quota");
        assert!(!folder.path().join("quota").exists(), "and nothing is kept of it");
    }
}
