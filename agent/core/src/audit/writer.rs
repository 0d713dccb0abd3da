//! Makes a line. Pure: it says the line and the head after it. Whoever keeps the log writes the line first and takes the new
//! head when it stands; if the write fails, the old head still holds, and the same record is made again.

use super::{Event, HASH_DIGITS, Head, event::ID_BYTES_MAX};
use crate::fault;
use crate::seam::{Note, Result};
use crate::update::{PhaseName, Service};
use core::fmt::{self, Display, Write};
use heapless::String;

/// Values of one record, beside the `prev` of a start.
pub const VALUES_MAX: usize = 8;
/// A key: `a-z`, `0-9` and `-`.
pub const KEY_BYTES_MAX: usize = 16;
/// A value as it stands on the line, with its quotes.
pub const VALUE_BYTES_MAX: usize = 200;
/// A line with its end: two numbers of at most 20 digits, the id, `prev=` and its hash, the values, the hash; a space
/// before each but the first.
pub const LINE_BYTES_MAX: usize = 20
    + 21
    + (1 + ID_BYTES_MAX)
    + (1 + 5 + 64)
    + VALUES_MAX * (1 + KEY_BYTES_MAX + 1 + VALUE_BYTES_MAX)
    + (1 + HASH_DIGITS)
    + 1;

/// A line, with the `\n` at its end.
pub type Line = String<LINE_BYTES_MAX>;

/// The record that follows `head`: its line, and the head after it. A value that is too long is cut; it is the caller's
/// mistake, and [`Refused`](crate::fault::FaultKind::Refused), to have too many values or a key that is not one.
pub fn record(
    head: &Head,
    unix_s: Option<u64>,
    event: Event,
    values: &[(&str, &dyn Display)],
) -> Result<(Line, Head)> {
    if values.len() > VALUES_MAX {
        return Err(fault!(Refused, "audit: takes {VALUES_MAX} values, found {}", values.len()));
    }
    // The arithmetic of LINE_BYTES_MAX says that this never happens.
    let full = |_| fault!(Full, "audit: record {} does not fit {LINE_BYTES_MAX} bytes", head.seq);
    let seq =
        head.seq.checked_add(1).ok_or_else(|| fault!(Full, "audit: the sequence numbers are used up"))?;
    let mut line = Line::new();
    write!(line, "{seq} ").map_err(full)?;
    match unix_s {
        Some(seconds) => write!(line, "{seconds} "),
        None => line.write_str("- "),
    }
    .map_err(full)?;
    line.write_str(event.id()).map_err(full)?;
    if event == Event::Started {
        write!(line, " prev={}", head.hash).map_err(full)?;
    }
    for (key, value) in values {
        check_key(key)?;
        write!(line, " {key}=").map_err(full)?;
        put_value(&mut line, value).map_err(full)?;
    }
    let after = head.after(&line);
    writeln!(line, " {}", after.short()).map_err(full)?;
    Ok((line, after))
}

/// The record of what the driver said; `None` where nothing is recorded (progress, waiting, routes).
pub fn note(head: &Head, unix_s: Option<u64>, note: &Note<'_>) -> Result<Option<(Line, Head)>> {
    let taken = match note {
        Note::Progress { .. } | Note::Waiting { .. } | Note::Route { .. } => return Ok(None),
        Note::Phase { phase: PhaseName::Settled, .. } => return Ok(None), // its Settled follows, and says more
        Note::Phase { phase, deployment: None } => {
            record(head, unix_s, Event::Phase, &[("phase", &Named(phase))])
        }
        Note::Phase { phase, deployment: Some(deployment) } => {
            let event = if *phase == PhaseName::Waiting { Event::Accepted } else { Event::Phase };
            let values: [(&str, &dyn Display); 5] = [
                ("phase", &Named(phase)),
                ("version", &deployment.version),
                ("target", &deployment.target),
                ("attempt", &deployment.attempt),
                ("manifest", &deployment.manifest),
            ];
            record(head, unix_s, event, &values)
        }
        Note::Settled { deployment, outcome } => {
            let values: [(&str, &dyn Display); 6] = [
                ("outcome", &Named(&outcome.kind)),
                ("version", &deployment.version),
                ("target", &deployment.target),
                ("attempt", &deployment.attempt),
                ("manifest", &deployment.manifest),
                ("why", &outcome.detail),
            ];
            record(head, unix_s, Event::Settled, &values)
        }
        Note::Service { before, now } => {
            let event = match (before, now) {
                (Service::Resetting, _) | (_, Service::Resetting) => Event::FactoryReset,
                _ => Event::Decommissioned,
            };
            let done = matches!(now, Service::In | Service::Decommissioned(_));
            record(head, unix_s, event, &[("step", &if done { "done" } else { "begun" })])
        }
        Note::Drift { class, first, segments } => {
            let values: [(&str, &dyn Display); 3] =
                [("class", class), ("segments", segments), ("first", first)];
            record(head, unix_s, Event::Drift, &values)
        }
        Note::Fault { doing, fault } => {
            record(head, unix_s, Event::Fault, &[("doing", doing), ("what", &fault.what)])
        }
    };
    taken.map(Some)
}

/// An append-only enum by the name of its variant.
struct Named<T>(T);

impl<T: fmt::Debug> Display for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn check_key(key: &str) -> Result<()> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(fits) || key == "prev" {
        return Err(fault!(Refused, "audit: {key:?} is no key (a-z, 0-9 and -, at most {KEY_BYTES_MAX})"));
    }
    Ok(())
}

/// May a value of such characters stand without quotes?
pub(super) const fn is_bare(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b':' | b'/' | b'+' | b'@' | b'-')
}

fn put_value(line: &mut Line, value: &dyn Display) -> fmt::Result {
    let mut escaped = Escaped { text: String::new(), cut: false };
    let _ = write!(escaped, "{value}"); // fails only by being cut, which it says itself
    let Escaped { text, cut } = escaped;
    match !cut && !text.is_empty() && text.bytes().all(is_bare) {
        true => line.write_str(&text),
        false => write!(line, "\"{text}{}\"", if cut { "\\~" } else { "" }),
    }
}

/// Takes text, escaped, up to its room; then says that it was cut.
struct Escaped {
    text: String<{ VALUE_BYTES_MAX - 2 - 2 }>, // quotes, cut mark
    cut: bool,
}

impl Write for Escaped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            // Whole or not at all: an escape that was cut in two would say something else.
            let mut one: String<12> = String::new();
            match c {
                '"' | '\\' => write!(one, "\\{c}")?,
                ' '..='~' => write!(one, "{c}")?,
                c => write!(one, "{}", c.escape_unicode())?,
            }
            if self.text.push_str(&one).is_err() {
                self.cut = true;
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}
