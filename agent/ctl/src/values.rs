//! Values as operators write them: times, shares, durations, hexadecimal.

use crate::fail;
use crate::fail::Result;
use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds, now.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A point in time, in Unix seconds: `1795000000`, `2026-11-20T10:00:00Z`, or `+90m` from `now` (s, m, h, d).
pub fn time(text: &str, now: u64) -> Result<u64> {
    let read = match text.strip_prefix('+') {
        Some(span) => duration_s(span).ok().and_then(|span| now.checked_add(span)),
        None => text.parse().ok().or_else(|| rfc3339(text)),
    };
    read.ok_or_else(|| {
        fail!("time: expected Unix seconds, 2026-11-20T10:00:00Z (UTC) or +7d, found {text:?}")
    })
}

/// A span in seconds: `90`, `90s`, `15m`, `12h`, `7d`.
pub fn duration_s(text: &str) -> Result<u64> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let unit = units.into_iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, each)));
    let (number, each) = unit.unwrap_or((text, 1));
    let read = number.parse::<u64>().ok().and_then(|n| n.checked_mul(each));
    read.ok_or_else(|| fail!("duration: expected a number with s, m, h or d behind it, found {text:?}"))
}

/// A share in 1/10000: `100%`, `12.5%`, `0.01%`.
pub fn share_bp(text: &str) -> Result<u16> {
    let wrong = || fail!("share: expected 0% to 100% with at most two decimals, found {text:?}");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let bp = format!("{whole}{part:0<2}").parse().map_err(|_| wrong())?;
    if bp > 10_000 { Err(wrong()) } else { Ok(bp) }
}

/// A share for people: `12.5%`.
pub fn share(bp: u16) -> String {
    let text = format!("{}.{:02}", bp / 100, bp % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Unix seconds for people: `2026-11-20T10:00:00Z`.
pub fn utc(unix_s: u64) -> String {
    let (days, rest) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    // Secrets come this way: one text of the right size, and no shorter copies of it left behind.
    let mut text = String::with_capacity(bytes.len() * 2);
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.extend(char::from_digit(nibble.into(), 16));
    }
    text
}

/// Reads exactly `N` bytes of hexadecimal.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != N * 2 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

/// `YYYY-MM-DDTHH:MM:SSZ` alone: offsets and fractions say more than anybody here needs.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let fields = |text: &str, mark: char, widths: [usize; 3]| -> Option<[u64; 3]> {
        let mut fields = text.split(mark);
        let mut out = [0; 3];
        for (field, width) in out.iter_mut().zip(widths) {
            let digits =
                fields.next().filter(|f| f.len() == width && f.bytes().all(|c| c.is_ascii_digit()))?;
            *field = digits.parse().ok()?;
        }
        fields.next().is_none().then_some(out)
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that the month does not have comes back as another date.
    (day >= 1 && civil(days) == (year, month, day))
        .then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar; years are counted from March, so that the leap day comes last.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// The other way: a search from above, by at most two years. The calendar repeats itself every 400 years, so the search
/// is in the first of these spans: over all of time it would take the longer the further off the date is.
fn civil(days: u64) -> (u64, u64, u64) {
    const SPAN_DAYS: u64 = 146_097;
    let (spans, days) = (days / SPAN_DAYS, days % SPAN_DAYS);
    let mut year = 1970 + days / 365;
    while days_from_civil(year, 1, 1) > days {
        year -= 1;
    }
    let month = (1..=12).rev().find(|m| days_from_civil(year, *m, 1) <= days).unwrap_or(1);
    (400 * spans + year, month, days - days_from_civil(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_ways() {
        #[rustfmt::skip]
        let cases = [
            ("0",                    Some(0)),
            ("1795000000",           Some(1_795_000_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56Z", Some(951_827_696)),
            ("2026-11-20T10:00:00Z", Some(1_795_168_800)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("+2h",                  Some(1_007_200)),
            ("+7d",                  Some(1_604_800)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-1-01T00:00:00Z",  None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01",           None),
            ("tomorrow",             None),
            ("+",                    None),
            ("-1",                   None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text, 1_000_000).ok(), expected, "{text}");
        }
    }

    #[test]
    fn each_day_of_four_centuries_is_written_and_read_back() {
        for day in (0..146_097u64).step_by(1) {
            let unix_s = day * 86_400 + 3_723;
            assert_eq!(rfc3339(&utc(unix_s)), Some(unix_s));
        }
    }

    /// Found by the fuzz target `ctl`: the last date that 64 bits hold took twelve seconds to be shown, for it was searched
    /// for year by year; and any bundle that somebody asks to `inspect` may expire then.
    #[test]
    fn a_date_at_the_end_of_time_is_shown_at_once() {
        let begun = std::time::Instant::now();
        assert_eq!(utc(u64::MAX), "584554051223-11-09T07:00:15Z");
        assert_eq!(utc(253_402_300_800), "10000-01-01T00:00:00Z");
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn shares_have_two_decimals_at_most() {
        #[rustfmt::skip]
        let cases = [
            ("100%", Some(10_000)), ("0%", Some(0)), ("12.5%", Some(1_250)), ("0.01%", Some(1)), ("007%", Some(700)),
            ("100.01%", None), ("101%", None), ("1.234%", None), ("50", None), ("%", None), ("-1%", None), (".5%", None),
        ];
        for (text, expected) in cases {
            assert_eq!(share_bp(text).ok(), expected, "{text}");
        }
        let back = [(10_000, "100%"), (0, "0%"), (1_250, "12.5%"), (1, "0.01%"), (1_000, "10%")];
        for (bp, text) in back {
            assert_eq!(share(bp), text);
        }
    }

    #[test]
    fn hexadecimal_is_taken_whole_or_not_at_all() {
        assert_eq!(unhex::<3>(&hex(&[0, 10, 255])), Some([0, 10, 255]));
        for wrong in ["", "0", "00ff0", "00ff0g", "00ff0000", "+0ff00"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }
}
