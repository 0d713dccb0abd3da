//! Can the judge be right, and can it be wrong? Without QEMU: a disk as it leaves the factory, an agent whose record says
//! `Trial`, and a log made here by the real codecs. A sound order of writes has no fault at any point, however much of it is
//! lost; each order that is wrong in one thing is called by its name.

use mainstay_bootloader_glue::Write;
use mainstay_bootloader_glue::convention::{Convention, Mainstay, Op};
use mainstay_core::boot::Group;
use mainstay_core::copies::{copy_bytes, write};
use mainstay_core::digest::Digest;
use mainstay_core::fault::clip;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::seam::StateFile;
use mainstay_core::update::{Deployment, Outcome, OutcomeKind, Phase, Record};
use mainstay_crash::fs::ext4::Ext4;
use mainstay_crash::judge::Judge;
use mainstay_crash::judge::verdict::Class;
use mainstay_crash::layout::{IMAGE_BYTES, Layout, Map};
use mainstay_crash::log::{Flags, LogWriter, SECTOR, WriteLog};
use mainstay_crash::record::Recording;
use mainstay_crash::replay::{Loss, Point};
use mainstay_hil::board::rootfs;
use mainstay_lab::disk::{Node, Tree, ext4};
use std::collections::BTreeSet;

/// What the guest of this test does, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Writes the target's content.
    Content,
    /// The same, one byte of it wrong.
    WrongContent,
    /// Flushes.
    Flush,
    /// Makes the target the next to be tried.
    Arm,
    /// Overwrites the first sector of each copy of the environment with zeros.
    EmptyEnvironment,
    /// Empties both copies of the record, and writes them anew.
    EmptyRecords,
    /// Writes a record with a lower floor.
    LowerFloor,
    /// Writes a record that says the trial was lost.
    GivesUp,
    /// Writes a record that says it was committed.
    Commits,
}

/// One layout's disk, and a log in the making.
struct Guest {
    layout: Layout,
    map: Map,
    base: Vec<u8>,
    images: [Vec<u8>; 2],
    log: LogWriter,
}

fn record(phase: impl FnOnce(Deployment) -> Phase, target: Group, floor: u32) -> Record {
    let deployment = Deployment {
        manifest: Digest([1; 32]),
        version: clip("2"),
        security_version: 7,
        target,
        attempt: 1,
        tries: 3,
        deadline_s: 60,
        required: Default::default(),
        not_before: None,
        expires: None,
    };
    Record { phase: phase(deployment), floor, attempts: 1, trial_reboots: 1, ..Record::factory(floor) }
}

/// One copy of the record's file, as the agent's store writes it.
fn copy(record: &Record, seq: u64) -> Vec<u8> {
    let mut bytes = [0; RECORD_BYTES_MAX];
    let payload = record.encode(&mut bytes).unwrap();
    let mut file = vec![0; copy_bytes(StateFile::Journal)];
    write(StateFile::Journal, seq, payload, &mut file).unwrap();
    file
}

impl Guest {
    /// `None`: this machine has not the tools that make file systems.
    fn new(layout: Layout) -> Option<Guest> {
        let folder = tempfile::tempdir().unwrap();
        let images = [vec![0x11; IMAGE_BYTES as usize], vec![0x22; IMAGE_BYTES as usize]];
        let (old, path, data) =
            (folder.path().join("old"), folder.path().join("disk"), folder.path().join("data"));
        std::fs::write(&old, &images[0]).unwrap();
        let disk = match layout.factory(&path, &old, folder.path()) {
            Ok(disk) => disk,
            Err(why) => {
                println!("not run: {why}");
                return None;
            }
        };
        let mut tree = Tree::new();
        tree.folder("/mainstay");
        for n in 0..2u64 {
            let bytes = copy(&record(Phase::Trial, layout.target(), 5), n + 1);
            tree.add(&format!("/mainstay/journal.{n}"), Node::Bytes(bytes, 0o600));
        }
        ext4::make(&data, disk.partition("data").unwrap().bytes, "data", ext4::Use::Data, &tree).unwrap();
        disk.flash("data", &data).unwrap();
        let base = std::fs::read(&path).unwrap();
        let mut guest =
            Guest { layout, map: Map::new(layout, &disk), base, images, log: LogWriter::default() };
        // An agent withdraws its target before it writes it.
        for write in guest.change(Op::Withdraw(layout.target())) {
            for (sector, content) in guest.map.sectors_of(&guest.base, &write).unwrap() {
                let at = sector as usize * SECTOR;
                guest.base[at..at + SECTOR].copy_from_slice(&content);
            }
        }
        Some(guest)
    }

    /// The writes that make this change of the environment.
    fn change(&self, op: Op) -> Vec<Write> {
        let format = self.layout.format();
        let env = format.parse(&self.map.copies(&self.base).unwrap()).unwrap();
        let changes = Mainstay.change(env.vars(), op).unwrap();
        env.writes(&env.vars().with(&changes), Mainstay.names()).unwrap()
    }

    fn does(&mut self, what: Does) {
        let target = self.layout.target();
        match what {
            Does::Content => self.content(0),
            Does::WrongContent => self.content(1),
            Does::Flush => self.log.flush(),
            Does::Arm => {
                self.change(Op::ArmTrial(target, 3)).iter().for_each(|write| self.environment(write));
            }
            Does::EmptyEnvironment => {
                for copy in 0..self.layout.format().copies() {
                    self.environment(&Write { copy, at: 0, bytes: vec![0; SECTOR] });
                }
            }
            Does::EmptyRecords => {
                let bytes = copy(&record(Phase::Trial, target, 5), 3);
                for bytes in [&[0; SECTOR][..], &bytes] {
                    self.record(0, bytes);
                    self.record(1, bytes);
                }
            }
            Does::LowerFloor => self.record(0, &copy(&record(Phase::Trial, target, 4), 3)),
            Does::GivesUp => {
                let outcome = Outcome { kind: OutcomeKind::FellBack, detail: clip("") };
                self.record(0, &copy(&record(|d| Phase::RollingBack(d, outcome), target, 5), 3));
            }
            Does::Commits => {
                let outcome = Outcome { kind: OutcomeKind::Committed, detail: clip("") };
                self.record(0, &copy(&record(|d| Phase::Settled(d, outcome), target, 7), 3));
            }
        }
    }

    fn content(&mut self, wrong: u8) {
        let start = self.map.part(&self.base, rootfs(self.layout.target())).start;
        for (n, chunk) in self.images[1].chunks(256 * 1024).enumerate() {
            let mut chunk = chunk.to_vec();
            chunk[0] ^= if n == 3 { wrong } else { 0 };
            self.log.write((start as usize / SECTOR + n * chunk.len() / SECTOR) as u64, Flags::WRITE, &chunk);
        }
    }

    fn environment(&mut self, write: &Write) {
        for (sector, content) in self.map.sectors_of(&self.base, write).unwrap() {
            self.log.write(sector, Flags::WRITE, &content);
        }
    }

    /// In place, as the agent does: the file has its size.
    fn record(&mut self, copy: usize, bytes: &[u8]) {
        let data = self.map.part(&self.base, "data");
        let found = Ext4::open(&data).unwrap().find(&format!("mainstay/journal.{copy}")).unwrap().unwrap();
        for (n, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = (n * SECTOR) as u64;
            match found.place(at..at + sector.len() as u64) {
                Some(place) => self.log.write((data.start + place) / SECTOR as u64, Flags::WRITE, sector),
                None => assert!(sector.iter().all(|byte| *byte == 0), "debugfs makes holes of zeros"),
            }
        }
    }

    fn recorded(self) -> Recording {
        let log = WriteLog::parse(self.log.finish(), self.base.len() as u64).unwrap();
        Recording { layout: self.layout, base: self.base, log, images: self.images }
    }
}

/// Everything that the judge finds, at all points.
fn found(layout: Layout, order: &[Does]) -> Option<BTreeSet<Class>> {
    let mut guest = Guest::new(layout)?;
    order.iter().for_each(|what| guest.does(*what));
    let recording = guest.recorded();
    let mut judge = Judge::new(&recording, false).unwrap();
    let mut classes = BTreeSet::new();
    for at in 0..=recording.log.entries().len() {
        let ways = (0..3).map(|n| Loss::Lost(n * 1000 + at as u64));
        for loss in [Loss::InOrder, Loss::All].into_iter().chain(ways) {
            let verdict = judge.judge(Point { at, loss }).unwrap();
            classes.extend(verdict.faults.iter().map(|fault| fault.class));
        }
    }
    Some(classes)
}

#[test]
fn a_sound_order_has_no_fault_and_a_wrong_one_is_called_by_its_name() {
    use Class::*;
    use Does::*;
    #[rustfmt::skip]
    let cases: [(&[Does], &[Class]); 8] = [
        (&[Content, Flush, Arm, Flush],                        &[]),
        (&[Content, Arm, Flush],                               &[Unverified]),
        (&[Arm, Flush, Content, Flush],                        &[Unverified]),
        (&[WrongContent, Flush, Arm, Flush],                   &[Unverified]),
        (&[Content, Flush, EmptyRecords, Flush, Arm, Flush],   &[LostRecords]),
        (&[Content, Flush, Arm, Flush, LowerFloor, Flush],     &[LostRecords]),
        (&[Content, Flush, Arm, Flush, Commits, Flush],        &[WrongGroup]),
        (&[Content, Flush, Arm, Flush, GivesUp, Flush],        &[WrongGroup, LostRecords]),
    ];
    for (order, expected) in cases {
        let Some(found) = found(Layout::GrubFat, order) else { return };
        assert_eq!(found, expected.iter().copied().collect(), "{order:?}");
    }
    for layout in [Layout::GrubExt4, Layout::UbootRedundant] {
        let (sound, _) = cases[0];
        assert_eq!(found(layout, sound), Some(BTreeSet::new()), "{layout:?}");
        let emptied = [Content, Flush, EmptyEnvironment, Flush, Arm, Flush];
        let Some(found) = found(layout, &emptied) else { return };
        assert!(found.contains(&LostEnvironment), "{layout:?}: {found:?}");
    }
}

#[test]
fn one_copy_of_u_boot_s_environment_is_lost_when_its_write_is_torn() {
    use Does::*;
    let Some(found) = found(Layout::UbootSingle, &[Content, Flush, Arm, Flush]) else { return };
    assert_eq!(found, BTreeSet::from([Class::LostEnvironment]));
}
