//! Walks a log and says where its chain breaks. It stops there: what follows a break hangs on nothing.

use super::writer::is_bare;
use super::{Event, HASH_DIGITS, Head};
use crate::digest::Digest;
use crate::fault;
use crate::fault::Fault;
use crate::seam::Result;

/// A record whose place in the chain has been proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub seq: u64,
    /// Unix seconds, where the clock was set.
    pub unix_s: Option<u64>,
    /// The event's id as it stands there.
    pub id: &'a str,
    /// The event; `None` where a newer agent wrote it.
    pub event: Option<Event>,
    /// `key=value …` as it stands there: printable ASCII.
    values: &'a str,
    hash: &'a str,
}

impl<'a> Record<'a> {
    /// Its keys and values, as they stand there: a quoted value without its quotes, but with its escapes.
    pub fn values(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.values;
        core::iter::from_fn(move || {
            let (key, value, left) = split_value(rest)?;
            rest = left;
            Some((key, value))
        })
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.values().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// Reads a line without its end; its place in the chain is still to be proven.
    fn parse(line: &'a str) -> Option<(Record<'a>, &'a str)> {
        let (text, hash) = line.rsplit_once(' ')?;
        let hex = |c: u8| c.is_ascii_digit() || matches!(c, b'a'..=b'f');
        if hash.len() != HASH_DIGITS
            || !hash.bytes().all(hex)
            || !line.bytes().all(|c| matches!(c, b' '..=b'~'))
        {
            return None;
        }
        let (seq, rest) = text.split_once(' ')?;
        let (time, rest) = rest.split_once(' ')?;
        let (id, values) =
            rest.split_once(' ').map_or((rest, ""), |(id, _)| (id, rest.get(id.len()..).unwrap_or_default()));
        let unix_s = if time == "-" { None } else { Some(number(time)?) };
        let (seq, event) = (number(seq)?, Event::from_id(id));
        if id.is_empty() || !id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
            return None;
        }
        let mut rest = values;
        while !rest.is_empty() {
            (_, _, rest) = split_value(rest)?;
        }
        Some((Record { seq, unix_s, id, event, values, hash }, text))
    }
}

/// Where a log breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line, from 1; one more than there are where it is the end that is missing.
    pub line: usize,
    /// Bytes of the log before it: all of these are sound.
    pub sound_bytes: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// Proves records one by one.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Where the chain stands; `None` until a first record says it.
    head: Option<Head>,
    /// What somebody remembers of this log.
    remembered: Option<Head>,
    /// Has the chain come past that?
    met: bool,
}

impl Verifier {
    /// From a head that is known: the genesis, or one that was kept.
    pub const fn from(head: Head) -> Verifier {
        Verifier { head: Some(head), remembered: None, met: false }
    }

    /// From wherever the log begins: its first record must be a start, whose `prev` is taken at its word.
    pub const fn from_first_start() -> Verifier {
        Verifier { head: None, remembered: None, met: false }
    }

    /// The chain must also come past this head, which somebody remembers: else its end has been cut or written anew.
    pub const fn remembering(self, head: Head) -> Verifier {
        Verifier { remembered: Some(head), ..self }
    }

    /// Proves the next line, without its `\n`.
    pub fn line<'a>(&mut self, line: &'a str) -> Result<Record<'a>> {
        let (record, text) = Record::parse(line).ok_or_else(|| match self.head {
            Some(head) => fault!(
                Corrupt,
                "audit: expected record {}, found no record: {}",
                head.seq.saturating_add(1),
                Shown(line)
            ),
            None => fault!(Corrupt, "audit: expected a record, found none: {}", Shown(line)),
        })?;
        let before = match self.head {
            Some(head) => head,
            None => first_head(&record)?,
        };
        let expected = before.seq.saturating_add(1);
        if record.seq > expected {
            return Err(fault!(
                Corrupt,
                "audit: expected record {expected}, found {}: what was between is gone",
                record.seq
            ));
        }
        if record.seq < expected {
            return Err(fault!(
                Corrupt,
                "audit: expected record {expected}, found {}: repeated, or out of order",
                record.seq
            ));
        }
        let after = before.after(text);
        if after.short() != record.hash {
            return Err(fault!(
                Corrupt,
                "audit: record {expected}: expected hash {}, found {}: it was changed, or one before it was",
                after.short(),
                record.hash
            ));
        }
        self.compare(&before)?;
        self.compare(&after)?;
        self.head = Some(after);
        Ok(record)
    }

    /// The log has ended: where it stands, if it came past what is remembered.
    pub fn finish(mut self) -> Result<Option<Head>> {
        if let Some(head) = self.head {
            self.compare(&head)?;
        }
        match (self.remembered, self.head) {
            (Some(_), head) if self.met => Ok(head),
            (Some(remembered), Some(head)) if head.seq >= remembered.seq => Err(fault!(
                Corrupt,
                "audit: begins after record {}, which is remembered: whether it follows from it cannot be told",
                remembered.seq
            )),
            (Some(remembered), head) => Err(fault!(
                Corrupt,
                "audit: expected to come to record {}, which is remembered, but it ends at {}: its end has been cut",
                remembered.seq,
                head.map_or(0, |head| head.seq)
            )),
            (None, head) => Ok(head),
        }
    }

    /// Proves a whole log and hands each record to `each`; the head at its end.
    pub fn walk(
        mut self,
        log: &[u8],
        mut each: impl FnMut(&Record<'_>),
    ) -> core::result::Result<Option<Head>, Broken> {
        let (mut lines, mut sound_bytes) = (0, 0);
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            let proven = match line.strip_suffix(b"\n").map(core::str::from_utf8) {
                Some(Ok(text)) => self.line(text).map(|record| each(&record)),
                Some(Err(_)) => Err(fault!(Corrupt, "audit: expected ASCII, found other bytes")),
                None => Err(fault!(Corrupt, "audit: cut short: {} bytes without a line's end", line.len())),
            };
            lines += 1;
            if let Err(fault) = proven {
                return Err(Broken { line: lines, sound_bytes, fault });
            }
            sound_bytes += line.len();
        }
        self.finish().map_err(|fault| Broken { line: lines + 1, sound_bytes, fault })
    }

    /// Is it the head that is remembered?
    fn compare(&mut self, head: &Head) -> Result<()> {
        match self.remembered {
            Some(remembered) if remembered.seq == head.seq && remembered.hash != head.hash => Err(fault!(
                Corrupt,
                "audit: record {} is not the one that is remembered: the log was written anew",
                head.seq
            )),
            Some(remembered) if remembered.seq == head.seq => {
                self.met = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The head before a log's first record: only a start tells it.
fn first_head(record: &Record<'_>) -> Result<Head> {
    let prev =
        record.value("prev").filter(|_| record.event == Some(Event::Started)).and_then(Digest::from_hex);
    match (prev, record.seq.checked_sub(1)) {
        (Some(hash), Some(seq)) => Ok(Head { seq, hash }),
        _ => Err(fault!(
            Corrupt,
            "audit: expected the log to begin with a start and its prev, found {} {}",
            record.seq,
            record.id
        )),
    }
}

/// ` key=value` or ` key="value"` at the front: key, value, and what follows.
fn split_value(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.strip_prefix(' ')?.split_once('=')?;
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let mut escaped = false;
            let end = quoted.bytes().position(|c| {
                let ends = c == b'"' && !escaped;
                escaped = c == b'\\' && !escaped;
                ends
            })?;
            (quoted.get(..end)?, quoted.get(end + 1..)?)
        }
        None => {
            let (value, rest) = rest.split_at(rest.bytes().position(|c| !is_bare(c)).unwrap_or(rest.len()));
            (!value.is_empty()).then_some((value, rest))?
        }
    };
    (rest.is_empty() || rest.starts_with(' ')).then_some((key, value, rest))
}

/// A number in its one spelling.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The beginning of a line that may be anything.
struct Shown<'a>(&'a str);

impl core::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes, \"", self.0.len())?;
        self.0
            .chars()
            .take(40)
            .try_for_each(|c| write!(f, "{}", crate::wire::Ascii(c.encode_utf8(&mut [0; 4]))))?;
        f.write_str("\"")
    }
}
