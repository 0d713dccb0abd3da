//! The audit log on the medium: `audit.log` in the state folder, and `audit.log.1` before it.
//!
//! [`mainstay_core::audit`] makes the lines and proves them. Here they are appended, each made durable before the
//! agent goes on, so that what was done is never missing from it; a power cut in the middle of an append leaves a torn
//! last line, which the next start takes off and notes. A log that is broken anywhere else is kept aside as
//! `audit.broken`, whole, and a new one begins that says so: an attacker can destroy, not rewrite in silence.
//!
//! On a medium without room, or one that has gone read-only, an update is not held up by its log: what cannot be appended
//! is said in the ordinary log, and the first record that can be says how many are missing and why.
//!
//! At [`LOG_BYTES_MAX`] the log becomes `audit.log.1` and a new one begins with a `started` record, whose `prev` links
//! the two.

use crate::store::io_fault;
use crate::terminal::{complain, remark};
use mainstay_board_support::SystemClock;
use mainstay_core::audit::{Event, Head, LINE_BYTES_MAX, Line, Record, Verifier, note, record};
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::{Clock, Note};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file of this size gives way to a new one: about 1,500 records, years of a quiet gateway. Two are kept.
pub const LOG_BYTES_MAX: u64 = 256 * 1024;

/// The log, open for appending.
pub struct AuditLog {
    folder: PathBuf,
    file: Option<File>,
    bytes: u64,
    head: Head,
    /// The last fault that was recorded: one that comes again and again is recorded once.
    fault: Option<String>,
    /// Records that could not be kept since the last one that was, and why the first of them could not.
    missed: Option<(u32, Fault)>,
}

impl AuditLog {
    /// Walks what is there, mends a torn end, and records the start. A log that cannot be written does not stop the
    /// agent: it is said in the ordinary log, at each record.
    pub fn open(folder: &Path, device: &str, running: &dyn Display) -> AuditLog {
        let mut log = AuditLog {
            folder: folder.into(),
            file: None,
            bytes: 0,
            head: Head::genesis(device),
            fault: None,
            missed: None,
        };
        let broken = log.resume().unwrap_or_else(|fault| {
            log::error!("audit log: {fault}");
            None
        });
        let agent = crate::VERSION;
        log.record(Event::Started, &[("device", &device), ("running", running), ("agent", &agent)]);
        if let Some(fault) = broken {
            log::error!("audit log: {fault}");
            log.record(Event::LogBroken, &[("what", &fault.what)]);
        }
        log
    }

    /// Where the log stands.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Finds the head of the log that is there. `Some`: what was wrong with it, and has been dealt with.
    fn resume(&mut self) -> Result<Option<Fault>, Fault> {
        let path = self.folder.join(NAME);
        let walked = match walk(&path, |_, _| {}) {
            Ok(walked) => walked,
            Err(e) if e.kind() == ErrorKind::NotFound => Walked::default(),
            Err(e) => return Err(io_fault("read", &path, &e)),
        };
        self.head = walked.head.unwrap_or(self.head);
        let Some((fault, torn_end)) = walked.broken else {
            self.bytes = walked.sound_bytes;
            return self.append_to(&path).map(|()| None);
        };
        if torn_end {
            let file = OpenOptions::new().write(true).open(&path);
            let cut = file.and_then(|file| file.set_len(walked.sound_bytes).and_then(|()| file.sync_all()));
            cut.map_err(|e| io_fault("cut the torn end of", &path, &e))?;
            self.bytes = walked.sound_bytes;
        } else {
            let aside = self.folder.join(BROKEN);
            std::fs::rename(&path, &aside).map_err(|e| io_fault("set aside", &path, &e))?;
        }
        self.append_to(&path)?;
        Ok(Some(fault))
    }

    fn append_to(&mut self, path: &Path) -> Result<(), Fault> {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let synced = opened.and_then(|file| File::open(&self.folder)?.sync_all().map(|()| file));
        self.file = Some(synced.map_err(|e| io_fault("open", path, &e))?);
        Ok(())
    }

    /// Records what the driver noted.
    pub fn note(&mut self, noted: &Note<'_>) {
        if let Note::Fault { doing, fault } = noted {
            let this = format!("{doing}: {fault}");
            if self.fault.as_deref() == Some(&this) {
                return;
            }
            self.fault = Some(this);
        }
        self.catch_up();
        match note(&self.head, SystemClock.now().unix_s, noted) {
            Ok(Some(taken)) => self.append(taken),
            Ok(None) => {}
            Err(fault) => log::error!("audit log: {fault}"),
        }
    }

    /// Records an event with its values.
    pub fn record(&mut self, event: Event, values: &[(&str, &dyn Display)]) {
        self.catch_up();
        self.make(event, values);
    }

    fn make(&mut self, event: Event, values: &[(&str, &dyn Display)]) {
        match record(&self.head, SystemClock.now().unix_s, event, values) {
            Ok(taken) => self.append(taken),
            Err(fault) => log::error!("audit log: {fault}"),
        }
    }

    /// Where records are missing: takes the log up again, and says so in it before anything else.
    fn catch_up(&mut self) {
        let Some((count, why)) = self.missed.take() else { return };
        if self.file.is_none() && self.resume().is_err() {
            self.missed = Some((count, why));
            return;
        }
        if self.bytes == 0 {
            self.make(Event::Started, &[("why", &"the log was begun anew")]); // every log begins with one
        }
        if self.missed.is_none() {
            self.make(
                Event::LogBroken,
                &[("what", &format_args!("{count} records were not kept: {}", why.what))],
            );
        }
        match self.missed.is_some() {
            true => self.missed = Some((count, why)), // not yet
            false => log::info!("audit log: kept again; {count} records are missing in it"),
        }
    }

    fn append(&mut self, (line, head): (Line, Head)) {
        let path = self.folder.join(NAME);
        let written = match &mut self.file {
            _ if self.missed.is_some() => return self.miss(&line, None),
            Some(file) => file.write_all(line.as_bytes()).and_then(|()| file.sync_data()),
            None => return self.miss(&line, Some(fault!(Io, "{} could not be opened", path.display()))),
        };
        match written {
            Ok(()) => {
                self.head = head;
                self.bytes += line.len() as u64;
                if self.bytes > LOG_BYTES_MAX {
                    self.rotate();
                }
            }
            // Part of the line may stand there: what follows would not be a record of its own.
            Err(e) => {
                self.miss(&line, Some(io_fault("append to", &path, &e)));
                self.file = None;
                if let Err(fault) = self.resume() {
                    log::error!("audit log: {fault}");
                }
            }
        }
    }

    /// A record that cannot be kept: the cause is said once, the record itself each time.
    fn miss(&mut self, line: &str, why: Option<Fault>) {
        if let Some(fault) = &why {
            log::error!("audit log: {fault}");
        }
        log::error!("audit log: not kept: {}", line.trim_end());
        let (count, first) = self.missed.take().unwrap_or((0, why.unwrap_or_else(|| fault!(Io, "unknown"))));
        self.missed = Some((count.saturating_add(1), first));
    }

    /// A power cut between the rename and the first record leaves no `audit.log`: the next start begins at the genesis
    /// again, and `show` says that the two do not follow from each other.
    fn rotate(&mut self) {
        let path = self.folder.join(NAME);
        let moved =
            std::fs::rename(&path, self.folder.join(BEFORE)).map_err(|e| io_fault("rename", &path, &e));
        self.bytes = 0;
        match moved.and_then(|()| self.append_to(&path)) {
            Ok(()) => self.make(Event::Started, &[("why", &"the log before is full")]),
            Err(fault) => {
                log::error!("audit log: {fault}");
                self.file = None; // the old one is `audit.log.1` by now
            }
        }
    }
}

/// Where the log of a gateway stands, for who only looks.
pub fn head(folder: &Path, device: &str) -> Head {
    let walked = walk(&folder.join(NAME), |_, _| {}).unwrap_or_default();
    walked.head.unwrap_or(Head::genesis(device))
}

/// Prints the log, both files, and says whether its chain holds. `true`: it does.
pub fn show(folder: &Path) -> Result<bool, Fault> {
    let mut out = std::io::stdout().lock();
    let mut said = Ok(());
    let (mut whole, mut records, mut last) = (true, 0u64, None::<Head>);
    for name in [BEFORE, NAME] {
        let path = folder.join(name);
        let print = |record: &Record<'_>, line: &str| {
            let _ = record;
            records += 1;
            if said.is_ok() {
                said = writeln!(out, "{line}");
            }
        };
        match walk(&path, print) {
            Ok(walked) => {
                if let Some((fault, _)) = walked.broken {
                    whole = false;
                    complain(format_args!("{}: {fault}", path.display()));
                }
                if let (Some(before), Some(first)) = (last, walked.first)
                    && before != first
                {
                    whole = false;
                    complain(format_args!("{}: does not follow from {BEFORE}", path.display()));
                }
                last = walked.head.or(last);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(io_fault("read", &path, &e)),
        }
    }
    if folder.join(BROKEN).exists() {
        complain(format_args!(
            "an earlier log was found broken and is kept as {}",
            folder.join(BROKEN).display()
        ));
    }
    match last {
        Some(head) if whole => {
            remark(format_args!("{records} records, the chain holds; head {} {}", head.seq, head.hash))
        }
        None if whole => remark("no records yet"),
        _ => remark("THE CHAIN IS BROKEN: this log is not what was written"),
    }
    Ok(whole)
}

/// What walking a log file found.
#[derive(Default)]
struct Walked {
    /// The head that its first record follows from.
    first: Option<Head>,
    /// The head after its last sound record.
    head: Option<Head>,
    /// Bytes of sound records.
    sound_bytes: u64,
    /// What is wrong after them, and whether it is only a last line without its end.
    broken: Option<(Fault, bool)>,
}

/// Proves a file line by line, in the memory of one line.
fn walk(path: &Path, mut each: impl FnMut(&Record<'_>, &str)) -> std::io::Result<Walked> {
    let mut file = BufReader::new(File::open(path)?);
    let mut walked = Walked::default();
    let mut verifier = Verifier::from_first_start();
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut file).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(walked);
        }
        let text = line.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok());
        let proven = match text {
            Some(text) => verifier.line(text).map(|record| {
                if walked.first.is_none() {
                    walked.first = first(&record);
                }
                each(&record, text);
            }),
            None => {
                Err(fault!(Corrupt, "expected a line of ASCII, found {} bytes that are none", line.len()))
            }
        };
        match proven {
            Ok(()) => {
                walked.sound_bytes += line.len() as u64;
                walked.head = verifier.clone().finish().unwrap_or(walked.head);
            }
            Err(fault) => {
                let torn_end = !line.ends_with(b"\n") && line.len() <= LINE_BYTES_MAX;
                walked.broken = Some((fault, torn_end));
                return Ok(walked);
            }
        }
    }
}

/// The head that a `started` record says it follows from.
fn first(record: &Record<'_>) -> Option<Head> {
    let hash = mainstay_core::digest::Digest::from_hex(record.value("prev")?)?;
    Some(Head { seq: record.seq.checked_sub(1)?, hash })
}

const NAME: &str = "audit.log";
const BEFORE: &str = "audit.log.1";
const BROKEN: &str = "audit.broken";

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> AuditLog {
        AuditLog::open(folder, "gw-1", &"A")
    }

    fn text(folder: &Path) -> String {
        std::fs::read_to_string(folder.join(NAME)).unwrap()
    }

    #[test]
    fn the_chain_goes_on_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            open(folder.path()).record(Event::MarkedByHand, &[("what", &"good")]);
        }
        assert_eq!(text(folder.path()).lines().count(), 6);
        assert!(show(folder.path()).unwrap());
    }

    #[test]
    fn a_torn_end_costs_the_torn_record_alone_and_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).record(Event::MarkedByHand, &[("what", &"good")]);
        let whole = text(folder.path());
        for cut in [1, 10, 30] {
            std::fs::write(folder.path().join(NAME), &whole[..whole.len() - cut]).unwrap();
            open(folder.path());
            let mended = text(folder.path());
            assert!(
                mended.contains("log-broken") && mended.starts_with(whole.lines().next().unwrap()),
                "{mended}"
            );
            assert!(show(folder.path()).unwrap(), "{mended}");
        }
    }

    #[test]
    fn an_edited_log_is_set_aside_whole_and_the_new_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).record(Event::MarkedByHand, &[("what", &"good")]);
        let edited = text(folder.path()).replace("what=good", "what=bad");
        std::fs::write(folder.path().join(NAME), &edited).unwrap();
        assert!(!show(folder.path()).unwrap());
        open(folder.path());
        assert_eq!(std::fs::read_to_string(folder.path().join(BROKEN)).unwrap(), edited);
        assert!(text(folder.path()).contains("log-broken") && show(folder.path()).unwrap());
    }

    #[test]
    fn a_full_log_gives_way_to_one_that_follows_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        let long = "x".repeat(150);
        while !folder.path().join(BEFORE).exists() {
            log.record(Event::Fault, &[("what", &long)]);
        }
        log.record(Event::Fault, &[("what", &long)]);
        assert!(show(folder.path()).unwrap());
        let size = std::fs::metadata(folder.path().join(BEFORE)).unwrap().len();
        assert!(size > LOG_BYTES_MAX && size < LOG_BYTES_MAX + LINE_BYTES_MAX as u64, "{size}");
        // A full log that is not the one before is noticed.
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        open(folder.path());
        assert!(!show(folder.path()).unwrap());
    }

    /// A file system of its own, of `kib` KiB. `None`: it cannot be had here, which has been said.
    fn tmpfs(kib: usize) -> Option<(tempfile::TempDir, Unmount)> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "none"]).arg(folder.path());
        match mount.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success()) {
            true => {
                let path = folder.path().into();
                Some((folder, Unmount(path)))
            }
            false => {
                println!("not run: needs root to mount a tmpfs");
                None
            }
        }
    }

    struct Unmount(PathBuf);

    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(&self.0).status();
        }
    }

    fn fill(folder: &Path) {
        let mut file = File::create(folder.join("fill")).unwrap();
        while file.write_all(&[0xff; 4096]).is_ok() {}
    }

    /// What could not be appended was gone without a trace in the log, and the chain held over the gap; where the log
    /// could not be opened again at once, nothing was kept any more until the agent was started anew.
    #[test]
    fn records_that_found_no_room_are_counted_in_the_log_once_there_is_room() {
        let Some((folder, _mounted)) = tmpfs(64) else { return };
        let mut log = open(folder.path());
        let long = "x".repeat(150);
        fill(folder.path());
        let mut tried = 0;
        while log.missed.is_none() {
            log.record(Event::Fault, &[("what", &long)]); // what is left of the log's own last page
            tried += 1;
            assert!(tried < 100);
        }
        let kept = text(folder.path()).lines().count();
        for _ in 0..9 {
            log.record(Event::MarkedByHand, &[("what", &"bad")]);
        }
        assert_eq!(text(folder.path()).lines().count(), kept, "and no torn line");
        std::fs::remove_file(folder.path().join("fill")).unwrap();
        log.record(Event::MarkedByHand, &[("what", &"good")]);
        let after = text(folder.path());
        let last: Vec<&str> = after.lines().skip(kept).collect();
        assert_eq!(last.len(), 2, "{last:?}");
        assert!(last[0].contains("log-broken") && last[0].contains("10 records were not kept"), "{last:?}");
        assert!(last[0].contains("No space left on device"), "{last:?}");
        assert!(last[1].contains("what=good"), "{last:?}");
        assert!(show(folder.path()).unwrap());
    }

    #[test]
    fn a_log_that_goes_read_only_or_is_full_when_it_is_to_give_way_goes_on_when_it_can() {
        let Some((folder, _mounted)) = tmpfs(1024) else { return };
        let remount = |how: &str| {
            let mut mount = std::process::Command::new("mount");
            mount.args(["-o", &format!("remount,{how}")]).arg(folder.path());
            mount.status().is_ok_and(|status| status.success())
        };
        let mut log = open(folder.path());
        let long = "x".repeat(150);
        while log.bytes <= LOG_BYTES_MAX - 400 {
            log.record(Event::Fault, &[("what", &long)]);
        }
        log.file = None; // the file that is open keeps a file system from going read-only
        assert!(remount("ro"));
        for _ in 0..3 {
            log.record(Event::Fault, &[("what", &long)]);
        }
        assert!(log.missed.is_some() && show(folder.path()).unwrap());
        assert!(remount("rw"));
        for _ in 0..3 {
            log.record(Event::Fault, &[("what", &long)]);
        }
        assert!(folder.path().join(BEFORE).exists() && log.missed.is_none());
        assert!(
            std::fs::read_to_string(folder.path().join(BEFORE)).unwrap().contains("3 records were not kept")
        );
        assert!(show(folder.path()).unwrap());
        // The next one finds no page for its first record.
        while log.bytes <= LOG_BYTES_MAX - 200 {
            log.record(Event::Fault, &[("what", &long)]);
        }
        let name = folder.path().join(BEFORE);
        std::fs::write(&name, b"").unwrap(); // so that what it held is no room for the new one
        fill(folder.path());
        for _ in 0..3 {
            log.record(Event::Fault, &[("what", &long)]);
        }
        assert!(log.missed.is_some());
        std::fs::remove_file(folder.path().join("fill")).unwrap();
        log.record(Event::MarkedByHand, &[("what", &"good")]);
        assert!(text(folder.path()).contains("what=good"), "{}", text(folder.path()));
        assert!(show(folder.path()).unwrap());
    }

    #[test]
    fn a_fault_that_comes_again_and_again_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        let fault = fault!(Io, "the medium says no");
        for _ in 0..100 {
            log.note(&Note::Fault { doing: "marking", fault: &fault });
        }
        assert_eq!(text(folder.path()).matches("the medium says no").count(), 1);
    }
}
