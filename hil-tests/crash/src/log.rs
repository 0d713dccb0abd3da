//! The log of all writes that a guest made, as QEMU's `blklogwrites` and the kernel's dm-log-writes keep it: read whole,
//! and written, because one recording is put together from several and controls are doctored.
//!
//! Source: the kernel's Documentation/admin-guide/device-mapper/log-writes.rst, whose numbers are all little endian.
//!
//! ```text
//! sector 0   0   8  magic 0x6a736677736872     then for each entry:
//!            8   8  version, 1                   0   8  first sector that is written
//!           16   8  entries                      8   8  sectors
//!           24   4  bytes of a sector           16   8  flags: 1 FLUSH  2 FUA  4 DISCARD  8 MARK
//!                   zeros                       24   8  bytes of a mark's text, which follows in this sector
//!                                                       zeros up to the sector's end
//!                                                the sectors' content; nothing for DISCARD and MARK
//! ```
//! FLUSH: all that was written before is on the medium, before this entry's own content is. FUA: this entry's content is on
//! the medium when the write returns. DISCARD: what stands in these sectors does not count any more. MARK: words of whoever
//! recorded; see [`crate::mark`].

use mainstay_hil::{Doing, Result, Trouble};
use std::ops::Range;

/// A sector, of the log and of the disk: what a medium is taken to write whole or not at all.
pub const SECTOR: usize = 512;
/// The most that a log may hold: an update of this bench writes a few tens of MiB.
pub const LOG_BYTES_MAX: usize = 1 << 30;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Where the number of entries stands in the first sector.
pub const ENTRIES_AT: u64 = 16;
/// An entry without its content: four numbers, and room for a mark.
const HEADER: usize = 32;
/// The longest text of a mark.
pub const MARK_BYTES_MAX: usize = SECTOR - HEADER;

/// What a write was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// A plain write.
    pub const WRITE: Flags = Flags(0);
    /// A flush of the disk's cache, before the content.
    pub const FLUSH: Flags = Flags(1);
    /// The content goes past the disk's cache.
    pub const FUA: Flags = Flags(2);
    /// The sectors are given up.
    pub const DISCARD: Flags = Flags(4);
    /// A note in the log.
    pub const MARK: Flags = Flags(8);
    const KNOWN: u64 = 15;

    /// Are these among them?
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first sector.
    pub sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// What it was.
    pub flags: Flags,
    /// Its content in the log's bytes; of a mark, its text.
    data: Range<usize>,
}

impl Entry {
    /// Is it the same as an entry of another log?
    pub fn same(&self, log: &WriteLog, other: &Entry, other_log: &WriteLog) -> bool {
        let head = |entry: &Entry| (entry.sector, entry.sectors, entry.flags);
        head(self) == head(other)
            && log.content(self) == other_log.content(other)
            && log.text(self) == other_log.text(other)
    }

    /// Where on the disk its content goes, in bytes. Empty where nothing is written.
    pub fn place(&self) -> Range<u64> {
        let bytes = SECTOR as u64;
        if self.flags.has(Flags::MARK) {
            0..0
        } else {
            self.sector * bytes..(self.sector + self.sectors) * bytes
        }
    }
}

/// A log.
#[derive(Clone, Debug)]
pub struct WriteLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads a log of writes to a disk of `disk_bytes`. What it does not hold whole is an error.
    pub fn parse(bytes: Vec<u8>, disk_bytes: u64) -> Result<WriteLog> {
        if bytes.len() > LOG_BYTES_MAX {
            return Err(Trouble::new(format!(
                "log: expected at most {LOG_BYTES_MAX} bytes, found {}",
                bytes.len()
            )));
        }
        let head = |at: usize| {
            number(&bytes, at).doing(|| format!("log: expected its head, found {} bytes", bytes.len()))
        };
        for (at, name, expected) in [(0, "magic", MAGIC), (8, "version", VERSION)] {
            let found = head(at)?;
            if found != expected {
                return Err(Trouble::new(format!(
                    "log: expected the {name} {expected:#x}, found {found:#x}"
                )));
            }
        }
        let (count, sector_bytes) = (head(ENTRIES_AT as usize)?, head(24)? & 0xffff_ffff);
        if sector_bytes != SECTOR as u64 {
            return Err(Trouble::new(format!(
                "log: expected sectors of {SECTOR} bytes, found {sector_bytes}"
            )));
        }
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for nr in 0..count {
            let entry = read_entry(&bytes, at, disk_bytes)
                .doing(|| format!("log: entry {nr} of {count}, at byte {at}"))?;
            at = if entry.flags.has(Flags::MARK) { at + SECTOR } else { entry.data.end };
            entries.push(entry);
        }
        Ok(WriteLog { bytes, entries })
    }

    /// All entries, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What an entry writes.
    pub fn content(&self, entry: &Entry) -> &[u8] {
        if entry.flags.has(Flags::MARK) {
            &[]
        } else {
            self.bytes.get(entry.data.clone()).unwrap_or_default()
        }
    }

    /// What a mark says.
    pub fn text(&self, entry: &Entry) -> Option<&str> {
        let marked = entry.flags.has(Flags::MARK).then(|| self.bytes.get(entry.data.clone()))?;
        marked.and_then(|text| std::str::from_utf8(text).ok())
    }
}

fn read_entry(bytes: &[u8], at: usize, disk_bytes: u64) -> Result<Entry> {
    let field = |n: usize| {
        number(bytes, at + 8 * n)
            .doing(|| format!("expected its head, found the log's end at {}", bytes.len()))
    };
    let (sector, sectors, flags, length) = (field(0)?, field(1)?, field(2)?, field(3)?);
    if flags & !Flags::KNOWN != 0 {
        return Err(Trouble::new(format!("expected flags of {:#x}, found {flags:#x}", Flags::KNOWN)));
    }
    let flags = Flags(flags);
    let body = at + SECTOR;
    let data = if flags.has(Flags::MARK) {
        let length = usize::try_from(length).ok().filter(|length| *length <= MARK_BYTES_MAX);
        let length = length.doing(|| format!("expected a mark of at most {MARK_BYTES_MAX} bytes"))?;
        at + HEADER..at + HEADER + length
    } else {
        let end = sector.checked_add(sectors).filter(|end| *end <= disk_bytes / SECTOR as u64);
        end.doing(|| {
            let disk = disk_bytes / SECTOR as u64;
            format!("expected a write within {disk} sectors, found {sectors} sectors at {sector}")
        })?;
        let written = if flags.has(Flags::DISCARD) { 0 } else { sectors as usize * SECTOR };
        body..body + written
    };
    if data.end > bytes.len() || body > bytes.len() {
        return Err(Trouble::new(format!(
            "expected content up to byte {}, found the log's end at {}",
            data.end,
            bytes.len()
        )));
    }
    Ok(Entry { sector, sectors, flags, data })
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

/// Makes a log.
#[derive(Clone, Debug)]
pub struct LogWriter {
    bytes: Vec<u8>,
    entries: u64,
}

impl Default for LogWriter {
    fn default() -> Self {
        LogWriter { bytes: vec![0; SECTOR], entries: 0 }
    }
}

impl LogWriter {
    /// Appends a write, a flush or a discard (whose content says only how long it is). Whole sectors are written.
    pub fn write(&mut self, sector: u64, flags: Flags, content: &[u8]) {
        let sectors = content.len().div_ceil(SECTOR);
        self.head(sector, sectors as u64, flags, 0);
        if !flags.has(Flags::DISCARD) {
            self.bytes.extend_from_slice(content);
            self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR), 0);
        }
    }

    /// Appends a flush.
    pub fn flush(&mut self) {
        self.write(0, Flags::FLUSH, &[]);
    }

    /// Appends a mark; what is too long is cut.
    pub fn mark(&mut self, text: &str) {
        let text = text.as_bytes().get(..MARK_BYTES_MAX).unwrap_or(text.as_bytes());
        self.head(0, 0, Flags::MARK, text.len() as u64);
        let at = self.bytes.len() - SECTOR + HEADER;
        if let Some(place) = self.bytes.get_mut(at..at + text.len()) {
            place.copy_from_slice(text);
        }
    }

    /// Appends an entry of another log.
    pub fn copy(&mut self, log: &WriteLog, entry: &Entry) {
        match log.text(entry) {
            Some(text) => self.mark(text),
            None if entry.flags.has(Flags::DISCARD) => self.head(entry.sector, entry.sectors, entry.flags, 0),
            None => self.write(entry.sector, entry.flags, log.content(entry)),
        }
    }

    /// The log's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let head = [MAGIC, VERSION, self.entries, SECTOR as u64];
        for (place, value) in self.bytes.chunks_exact_mut(8).zip(head) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        self.bytes
    }

    fn head(&mut self, sector: u64, sectors: u64, flags: Flags, length: u64) {
        for value in [sector, sectors, flags.0, length] {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR), 0);
        self.entries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 64 * SECTOR as u64;

    fn sample() -> Vec<u8> {
        let mut log = LogWriter::default();
        log.write(3, Flags::WRITE, &[7; 2 * SECTOR]);
        log.mark("heard settled");
        log.flush();
        log.write(60, Flags::DISCARD, &[0; 4 * SECTOR]);
        log.write(63, Flags::FUA, &[9; SECTOR]);
        log.finish()
    }

    #[test]
    fn what_was_written_is_read() {
        let log = WriteLog::parse(sample(), DISK).unwrap();
        let [write, mark, flush, discard, fua] = log.entries() else { panic!("{:?}", log.entries()) };
        assert_eq!((write.place(), log.content(write)), (1536..2560, &[7; 1024][..]));
        assert_eq!((log.text(mark), log.content(mark)), (Some("heard settled"), &[][..]));
        assert!(flush.flags.has(Flags::FLUSH) && flush.place().is_empty());
        assert_eq!((discard.place(), log.content(discard).len()), (30720..32768, 0));
        assert!(fua.flags.has(Flags::FUA) && log.text(fua).is_none());
        let mut copy = LogWriter::default();
        log.entries().iter().for_each(|entry| copy.copy(&log, entry));
        assert_eq!(copy.finish(), sample());
    }

    #[test]
    fn a_log_that_is_damaged_is_refused_and_says_where() {
        let with = |at: usize, byte: u8| {
            let mut bytes = sample();
            bytes[at] = byte;
            bytes
        };
        #[rustfmt::skip]
        let cases = [
            (Vec::new(),                          "found 0 bytes"),
            (with(0, 1),                          "expected the magic"),
            (with(8, 2),                          "expected the version 0x1, found 0x2"),
            (with(25, 16),                        "expected sectors of 512 bytes, found 4096"),
            (with(16, 6),                         "entry 5 of 6"),
            (with(512 + 16, 64),                  "expected flags of 0xf, found 0x40"),
            (with(512 + 1, 1),                    "expected a write within 64 sectors, found 2 sectors at 259"),
            (with(512 + 15, 0xff),                "expected a write within"),
            (with(4 * 512 + 26, 1),               "a mark of at most 480"),
            (sample()[..sample().len() - 1].to_vec(), "found the log's end"),
        ];
        for (bytes, says) in cases {
            let said = WriteLog::parse(bytes, DISK).unwrap_err().to_string();
            assert!(said.contains(says), "expected {says:?}, found {said:?}");
        }
    }
}
