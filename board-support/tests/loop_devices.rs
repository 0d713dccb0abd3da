//! Slots on block devices: loop devices over files in the temporary folder. They need root and free loop devices; where
//! these are missing, each test prints `not run`. Every device, mount and file is taken away again by `Drop`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use mainstay_board_support::slots::Access;
use mainstay_board_support::{Board, BoardSlots};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::seam::SlotWriter;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A loop device over an image of 16 MiB with two partitions: root-a of 4 MiB at 1 MiB, root-b of 4 MiB at 5 MiB.
struct Loop {
    folder: TempDir,
    device: PathBuf,
    mounts: Vec<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

/// One at a time: a child that another test's thread has just forked holds this one's devices until it has become the
/// program that it is to be, and an exclusive opening would find them busy.
static ALONE: Mutex<()> = Mutex::new(());

impl Loop {
    /// Without the kernel's devices for the partitions. `None`, and a line that says why, where this machine does not
    /// let us.
    fn new() -> Option<Loop> {
        Loop::with(&[])
    }

    fn with(options: &[&str]) -> Option<Loop> {
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&image);
        let mut file = file.unwrap();
        file.set_len(16 * MIB).unwrap();
        write_table(&mut file, 10_240);
        let device = match run(Command::new("losetup").args(["--find", "--show"]).args(options).arg(&image)) {
            Ok(device) => PathBuf::from(device.trim()),
            Err(why) => {
                println!("not run: losetup: {why}");
                return None;
            }
        };
        Some(Loop { folder, device, mounts: Vec::new(), _alone: alone })
    }

    /// The same with the kernel's devices for the partitions. A kernel that does not read GPT is told of them.
    fn with_partitions() -> Option<Loop> {
        let bench = Loop::with(&["--partscan"])?;
        for number in [1, 2] {
            let first = [2048, 10_240][number as usize - 1];
            if !bench.partition(number).exists()
                && let Err(why) = run(Command::new("addpart").arg(&bench.device).args([
                    number.to_string(),
                    first.to_string(),
                    "8192".to_string(),
                ]))
            {
                println!("not run: addpart: {why}");
                return None;
            }
        }
        Some(bench)
    }

    /// Moves root-b to `begin`, in the table only.
    fn move_second_partition(&self, begin: u64) {
        write_table(&mut OpenOptions::new().read(true).write(true).open(&self.device).unwrap(), begin / 512);
    }

    fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.device.display()))
    }

    /// Makes an ext4 on `device` and mounts it. `None` where that cannot be.
    fn mount(&mut self, device: &Path) -> Option<()> {
        let at = self.folder.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(device));
        match made.and_then(|_| run(Command::new("mount").arg(device).arg(&at))) {
            Ok(_) => {
                self.mounts.push(at);
                Some(())
            }
            Err(why) => {
                println!("not run: mount: {why}");
                None
            }
        }
    }

    fn board(&self, a: &str, b: &str) -> Board {
        let text = format!(
            "compatible = \"bench\"\n[boot]\nbootloader = \"grub\"\nenvironment = {{ path = \"grubenv\" }}\n\
             [[slot]]\ngroup = \"A\"\nclass = \"rootfs\"\n{a}\n[[slot]]\ngroup = \"B\"\nclass = \"rootfs\"\n{b}\n\
             [watchdog]\nkind = \"none\"\n"
        );
        Board::parse(&text, self.folder.path().join("board.toml").to_str().unwrap()).unwrap()
    }

    /// The board whose slots are the two partitions, by label.
    fn by_label(&self) -> Board {
        let part = |label| format!("device = {:?}\npartition = \"{label}\"", self.device);
        self.board(&part("root-a"), &part("root-b"))
    }
}

/// root-a and root-b, 4 MiB each, written by an implementation that is not ours.
fn write_table(file: &mut File, second: u64) {
    let mut gpt = gptman::GPT::new_from(file, 512, [7; 16]).unwrap();
    for (number, label, first) in [(1, "root-a", 2048), (2, "root-b", second)] {
        gpt[number] = gptman::GPTPartitionEntry {
            partition_type_guid: [0xAF; 16],
            unique_partition_guid: [number as u8; 16],
            starting_lba: first,
            ending_lba: first + 8191,
            attribute_bits: 0,
            partition_name: label.into(),
        };
    }
    gpt.write_into(file).unwrap();
    gptman::GPT::write_protective_mbr_into(file, 512).unwrap(); // the kernel wants one
    file.sync_all().unwrap();
}

impl Drop for Loop {
    fn drop(&mut self) {
        for at in &self.mounts {
            let _ = run(Command::new("umount").arg(at));
        }
        for number in ["1", "2"] {
            let _ = run(Command::new("delpart").arg(&self.device).arg(number));
        }
        let _ = run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
    }
}

fn content(segment: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251 + segment * 7) as u8).collect()
}

fn put(slots: &mut BoardSlots, at: usize, bytes: &[u8]) {
    let segment = VerifiedSegment::prove(at as u64, bytes, &Digest::of(bytes)).unwrap();
    slots.write(Group::B, "rootfs", &segment).unwrap();
}

#[test]
fn a_partition_of_a_block_device_is_written_past_the_page_cache_and_its_neighbour_stays() {
    let Some(bench) = Loop::new() else { return };
    let mut slots = BoardSlots::new(&bench.by_label(), Group::A);
    assert_eq!(slots.open(Group::B, "rootfs"), Ok(4 * MIB));
    assert_eq!(slots.access(Group::B, "rootfs"), Ok(Access::Direct));
    let tail = 5000;
    for segment in 0..3 {
        put(&mut slots, segment * SEGMENT_BYTES, &content(segment, SEGMENT_BYTES));
    }
    put(&mut slots, 3 * SEGMENT_BYTES, &content(3, tail));
    slots.sync(Group::B, "rootfs").unwrap();
    let mut read = vec![0; SEGMENT_BYTES];
    for segment in 0..3 {
        slots.read_back(Group::B, "rootfs", (segment * SEGMENT_BYTES) as u64, &mut read).unwrap();
        assert!(read == content(segment, SEGMENT_BYTES), "segment {segment}");
    }
    slots.read_back(Group::B, "rootfs", 3 * SEGMENT_BYTES as u64, &mut read[..tail + 1]).unwrap();
    assert!(read[..tail] == content(3, tail) && read[tail] == 0);
    slots.read_back(Group::A, "rootfs", 0, &mut read).unwrap();
    assert!(read.iter().all(|b| *b == 0));
}

#[test]
fn a_slot_on_a_block_device_belongs_to_one_agent_at_a_time() {
    let Some(bench) = Loop::new() else { return };
    let board = bench.by_label();
    let (mut first, mut second) = (BoardSlots::new(&board, Group::A), BoardSlots::new(&board, Group::A));
    first.open(Group::B, "rootfs").unwrap();
    let fault = second.open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "{fault}");
    first.close();
    assert_eq!(second.open(Group::B, "rootfs"), Ok(4 * MIB));
}

#[test]
fn a_mounted_slot_is_refused_while_its_neighbour_can_be_written() {
    let Some(mut bench) = Loop::with_partitions() else { return };
    let first = bench.partition(1);
    let Some(()) = bench.mount(&first) else { return };
    let board = bench.by_label();

    let mut slots = BoardSlots::new(&board, Group::B);
    let fault = slots.open(Group::A, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy);
    assert!(fault.what.contains("expected a slot that is not in use, found it mounted at"), "{fault}");

    let mut slots = BoardSlots::new(&board, Group::A);
    assert_eq!(slots.open(Group::A, "rootfs"), Ok(4 * MIB), "the running group is mounted, and can be read");
    assert_eq!(slots.open(Group::B, "rootfs"), Ok(4 * MIB));
    put(&mut slots, 0, &content(0, SEGMENT_BYTES));
    slots.sync(Group::B, "rootfs").unwrap();
}

#[test]
fn what_is_mounted_is_refused_under_each_of_its_names() {
    let Some(mut bench) = Loop::with_partitions() else { return };
    let first = bench.partition(1);
    let Some(()) = bench.mount(&first) else { return };
    let link = bench.folder.path().join("by-label");
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let disk = &bench.device;
    let image = bench.folder.path().join("disk.img");
    let b = format!("device = {:?}", bench.partition(2));
    #[rustfmt::skip]
    let names = [
        format!("device = {first:?}"),
        format!("device = {link:?}"),
        format!("device = {disk:?}\npartition = 1"),
        format!("device = {disk:?}\noffset = \"1 MiB\"\nsize = \"4 MiB\""),
        format!("device = {image:?}\npartition = 1"),
        format!("device = {image:?}\noffset = \"4 MiB\"\nsize = 4096"),
    ];
    for a in names {
        let board = bench.board(&a, &b);
        let fault = BoardSlots::new(&board, Group::B).open(Group::A, "rootfs").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Busy, "{a}: {fault}");
        assert!(fault.what.contains("mounted at"), "{a}: {fault}");
    }
}

#[test]
fn a_range_of_a_disk_and_a_partition_in_it_are_one_place() {
    let Some(bench) = Loop::with_partitions() else { return };
    let second = bench.partition(2);
    let a = format!("device = {:?}\noffset = \"8 MiB\"\nsize = \"2 MiB\"", bench.device);
    let board = bench.board(&a, &format!("device = {second:?}"));
    let fault = BoardSlots::new(&board, Group::A).open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("found that it overlaps rootfs of group A"), "{fault}");
}

#[test]
fn a_device_that_another_program_holds_is_refused() {
    let Some(bench) = Loop::with_partitions() else { return };
    let second = bench.partition(2);
    let o_excl = nix::fcntl::OFlag::O_EXCL.bits();
    let holder = OpenOptions::new().read(true).custom_flags(o_excl).open(&second).unwrap();
    let mut slots = BoardSlots::new(&bench.by_label(), Group::A);
    let fault = slots.open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy);
    assert!(fault.what.contains("held by another program"), "{fault}");
    drop(holder);
    assert_eq!(slots.open(Group::B, "rootfs"), Ok(4 * MIB));
}

/// A read-back has to find what the medium has made of the bytes. Here the medium is the file under the loop device,
/// and one byte in it changes after the sync: an answer from the page cache of the device would not show that.
#[test]
fn a_read_back_finds_what_the_medium_has_made_of_it() {
    let Some(bench) = Loop::new() else { return };
    let image = bench.folder.path().join("disk.img");
    for (access, begin) in [(Access::Direct, 5 * MIB), (Access::Buffered, 5 * MIB + 512)] {
        bench.move_second_partition(begin);
        let mut slots = BoardSlots::new(&bench.by_label(), Group::A);
        assert_eq!(slots.access(Group::B, "rootfs"), Ok(access));
        for segment in 0..3 {
            put(&mut slots, segment * SEGMENT_BYTES, &content(segment, SEGMENT_BYTES));
        }
        slots.sync(Group::B, "rootfs").unwrap();
        let mut read = vec![0; SEGMENT_BYTES];
        slots.read_back(Group::B, "rootfs", SEGMENT_BYTES as u64, &mut read).unwrap();
        assert!(read == content(1, SEGMENT_BYTES), "{access:?}");

        let changed = begin + SEGMENT_BYTES as u64 + 70_000;
        let file = OpenOptions::new().write(true).open(&image).unwrap();
        file.write_all_at(&[!content(1, SEGMENT_BYTES)[70_000]], changed).unwrap();
        slots.read_back(Group::B, "rootfs", SEGMENT_BYTES as u64, &mut read).unwrap();
        let expected = content(1, SEGMENT_BYTES);
        let wrong: Vec<_> = (0..SEGMENT_BYTES).filter(|i| read[*i] != expected[*i]).collect();
        assert_eq!(wrong, [70_000], "{access:?}: the byte that has changed on the medium");
    }
}
