//! Records one whole update, every write of it: the real agent in a real kernel under QEMU takes a bundle from a real broker,
//! and what it writes to its disk goes through `blklogwrites` into a log.
//!
//! ```text
//! host      boot script ─ good ──┐                      ┌─ boot script ─ trial, counts ──┐
//! guest                          └► install, arm, reboot ┘                                └► checks, commit, report, off
//! log                     marks, w w F w …                marks, w       marks, w w F …
//! ```
//! QEMU loads the kernel itself, so what a bootloader does between the two boots is done here, by the model of our boot
//! scripts on the disk's own bytes, and logged like everything else; nothing flushes it, for GRUB and U-Boot do not.
//! (The real GRUB and U-Boot, which agree with the model, are played in the laboratory's scenarios.)
//!
//! A recording is a folder, so that a point can be judged again later:
//!
//! ```text
//! base.img   the disk before the first write      old.img new.img   what the groups may hold
//! log        all writes, with marks (crate::mark)  console-1 console-2   what the guest said
//! ```

pub mod desk;
pub mod guest;

use crate::layout::{Layout, Map};
use crate::log::{ENTRIES_AT, Flags, LogWriter, WriteLog};
use crate::mark::Mark;
use desk::{Desk, Ears};
use guest::Ingredients;
use mainstay_bootloader_glue::convention::{Mainstay, Why};
use mainstay_bootloader_glue::model;
use mainstay_core::boot::Group;
use mainstay_core::update::OutcomeKind;
use mainstay_hil::{Doing, Result, Trouble};
use mainstay_lab::machine::{Log, Machine, NETDEV, Setup};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An update, recorded.
pub struct Recording {
    /// The disk's layout.
    pub layout: Layout,
    /// The disk before the first write.
    pub base: Vec<u8>,
    /// All writes, and marks.
    pub log: WriteLog,
    /// What the group that ran held, and what the target holds after.
    pub images: [Vec<u8>; 2],
}

/// How long one boot may take: about 8 s of CPU were measured from QEMU's start to the guest's end, on a machine whose cores
/// were shared by eight; ten times that.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often it is looked whether something has been heard. A mark that comes late says less, never something wrong.
const LOOK: Duration = Duration::from_millis(20);

impl Recording {
    /// The folder in which recordings of this layout stand.
    pub fn folder(within: &Path, layout: Layout) -> PathBuf {
        within.join(layout.name())
    }

    /// Reads a recording that was made before.
    pub fn load(folder: &Path, layout: Layout) -> Result<Recording> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).doing(|| path.display().to_string())
        };
        let base = read("base.img")?;
        let log = WriteLog::parse(read("log")?, base.len() as u64)?;
        Ok(Recording { layout, base, log, images: [read("old.img")?, read("new.img")?] })
    }

    /// Records an update of a disk of this layout, into `folder`, which is made anew.
    pub fn make(with: &Ingredients, desk: &Desk, layout: Layout, folder: &Path) -> Result<Recording> {
        let _ = std::fs::remove_dir_all(folder); // not there the first time
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            std::fs::copy(from, &to).doing(|| to.display().to_string()).map(|_| to)
        };
        let old = copy(&desk.images[0], "old.img")?;
        copy(&desk.images[1], "new.img")?;
        let path = folder.join("disk.img");
        let disk = layout.factory(&path, &old, folder)?;
        copy(&path, "base.img")?;
        let device = format!("gw-{}", layout.name());
        let initrd = folder.join("initrd");
        guest::initrd(with, layout, desk.configuration(&device)?, &initrd)?;
        let mut set = Set {
            with,
            desk,
            folder,
            map: Map::new(layout, &disk),
            disk: path,
            ears: desk.ears(&device),
            log: LogWriter::default(),
            initrd,
        };
        let (running, target) = (layout.target().other(), layout.target());
        set.boot(1, (running, Why::Good))?;
        set.boot(2, (target, Why::Trial))?;
        let log = folder.join("log");
        std::fs::write(&log, set.log.finish()).doing(|| log.display().to_string())?;
        let recording = Recording::load(folder, layout)?;
        let committed = recording.marks().any(|(_, mark)| mark == Mark::Ended(OutcomeKind::Committed));
        if !committed {
            let console = folder.join("console-2");
            return Err(Trouble::new(format!(
                "{}: expected the operator to hear of a commit, heard of none; see {}",
                layout.name(),
                console.display()
            )));
        }
        Ok(recording)
    }

    /// All marks, with the number of entries before each.
    pub fn marks(&self) -> impl Iterator<Item = (usize, Mark)> + '_ {
        let entries = self.log.entries().iter().enumerate();
        entries.filter_map(|(at, entry)| Some((at, Mark::parse(self.log.text(entry)?)?)))
    }
}

/// What stands around one recording while it is made.
struct Set<'a> {
    with: &'a Ingredients,
    desk: &'a Desk,
    folder: &'a Path,
    map: Map,
    disk: PathBuf,
    ears: Ears,
    log: LogWriter,
    initrd: PathBuf,
}

impl Set<'_> {
    /// The boot script, then the machine until it goes down.
    fn boot(&mut self, nr: u32, expected: (Group, Why)) -> Result<()> {
        self.boot_script(expected)?;
        let log = self.folder.join(format!("log-{nr}"));
        let console = self.folder.join(format!("console-{nr}"));
        let marks = self.machine(expected.0, &log, &console)?;
        let size = std::fs::metadata(&self.disk).doing(|| self.disk.display().to_string())?.len();
        let bytes = std::fs::read(&log).doing(|| log.display().to_string())?;
        let recorded = WriteLog::parse(bytes, size).doing(|| log.display().to_string())?;
        let mut marks = marks.into_iter().peekable();
        for (at, entry) in recorded.entries().iter().enumerate() {
            while let Some((_, mark)) = marks.next_if(|(before, _)| *before <= at as u64) {
                self.log.mark(&mark.to_string());
            }
            self.log.copy(&recorded, entry);
        }
        marks.for_each(|(_, mark)| self.log.mark(&mark.to_string()));
        std::fs::remove_file(&log).doing(|| log.display().to_string())
    }

    fn boot_script(&mut self, expected: (Group, Why)) -> Result<()> {
        let what = || self.disk.display().to_string();
        let bytes = std::fs::read(&self.disk).doing(what)?;
        let format = self.map.layout().format();
        let copies = self.map.copies(&bytes).doing(what)?;
        let boot = model::boot(&format, &Mainstay, &copies, |_| true).doing(|| "the boot script")?;
        if boot.group != Some(expected) {
            return Err(Trouble::new(format!(
                "{}: expected the boot script to choose {expected:?}, found {:?}; see the consoles in {}",
                self.map.layout().name(),
                boot.group,
                self.folder.display()
            )));
        }
        self.log.mark(&Mark::Boots(expected.0, expected.1).to_string());
        let file = File::options().write(true).open(&self.disk).doing(what)?;
        for write in &boot.writes {
            for (sector, content) in self.map.sectors_of(&bytes, write)? {
                file.write_all_at(&content, sector * content.len() as u64).doing(what)?;
                self.log.write(sector, Flags::WRITE, &content);
            }
        }
        Ok(())
    }

    /// Runs QEMU until the guest resets or goes off; the marks, each with the number of entries that were in the log when it
    /// was heard: all that the guest had been told was safe is among them.
    fn machine(&mut self, group: Group, log: &Path, console: &Path) -> Result<Vec<(u64, Mark)>> {
        drop(File::create_new(log).doing(|| log.display().to_string())?);
        let entries = File::open(log).doing(|| log.display().to_string())?;
        let seen = Log::new();
        let machine = Machine::start(&self.setup(group, log), &seen)?;
        let began = Instant::now();
        let mut marks = Vec::new();
        loop {
            let runs = machine.runs();
            for mark in self.desk.heard(&mut self.ears) {
                let mut count = [0; 8];
                entries.read_exact_at(&mut count, ENTRIES_AT).doing(|| log.display().to_string())?;
                marks.push((u64::from_le_bytes(count), mark));
            }
            let late = began.elapsed() > PATIENCE;
            if !runs || late {
                drop(machine);
                std::fs::write(console, seen.console()).doing(|| console.display().to_string())?;
                if late {
                    let console = console.display();
                    return Err(Trouble::new(format!(
                        "expected the guest to go down within {PATIENCE:?}; see {console}"
                    )));
                }
                return Ok(marks);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn setup(&self, group: Group, log: &Path) -> Setup {
        let text = |path: &Path| path.display().to_string();
        let line = format!("console=ttyS0 quiet panic=-1 mainstay.group={group}");
        let mut arguments: Vec<String> = [
            // An emulated processor: what the host offers under /dev/kvm cannot be relied upon.
            ["-M", "q35"],
            ["-cpu", "Nehalem,+rdrand"],
            ["-m", "192"],
            ["-append", &line],
            ["-kernel", &text(&self.with.kernel)],
            ["-initrd", &text(&self.initrd)],
            ["-device", "virtio-blk-pci,drive=logged"],
            ["-netdev", &format!("user,id={NETDEV}")],
            ["-device", &format!("virtio-net-pci,netdev={NETDEV},romfile=")],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        arguments.push("-no-reboot".into());
        arguments.extend(logged_disk("logged", &self.disk, log));
        Setup { program: "qemu-system-x86_64".into(), arguments, snapshot: None }
    }
}

/// QEMU's words for a disk whose writes go to a log, which is there and empty. `name`: what a device calls it.
pub fn logged_disk(name: &str, disk: &Path, log: &Path) -> Vec<String> {
    let (disk, log) = (disk.display(), log.display());
    let nodes = [
        format!("driver=file,filename={disk},node-name={name}-disk"),
        format!("driver=file,filename={log},node-name={name}-log"),
        // With an update of its head at each write, the number of entries there is never behind.
        format!(
            "driver=blklogwrites,node-name={name},file={name}-disk,log={name}-log,log-sector-size=512,log-super-update-interval=1"
        ),
    ];
    nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]).collect()
}
