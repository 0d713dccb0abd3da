//! A medium that fails under an opened slot, with real parts: loop devices over files that are cut short, taken away, or
//! lie on a file system without room; a tmpfs; a read-only mount. Needs root; where a part cannot be had, the test prints
//! `not run`. Everything is taken away again by `Drop`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_board_support::slots::Access;
use mainstay_board_support::{Board, BoardSlots};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::seam::{Result, SlotWriter};

const SEGMENT: u64 = SEGMENT_BYTES as u64;

fn ran(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// A loop device over a file.
struct Loop(PathBuf);

impl Loop {
    fn over(image: &Path) -> Option<Loop> {
        let device = ran("losetup", &["--find", "--show", image.to_str().unwrap()]);
        if device.is_none() {
            println!("not run: losetup: needs root and a free loop device");
        }
        device.map(|device| Loop(device.into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        ran("losetup", &["--detach", self.0.to_str().unwrap()]);
    }
}

/// A folder with a file system of its own, of `kib` KiB.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(kib: u64) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted = ran("mount", &["-t", "tmpfs", "-o", &size, "none", folder.path().to_str().unwrap()]);
        if mounted.is_none() {
            println!("not run: mount: needs root");
        }
        mounted.map(|_| Tmpfs(folder))
    }

    fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        ran("umount", &[self.0.path().to_str().unwrap()]);
    }
}

/// A runs; B is `target`.
fn slots(folder: &Path, target: &Path) -> BoardSlots {
    let board = format!(
        "compatible = \"bench\"\n[boot]\nbootloader = \"grub\"\nenvironment = {{ path = \"grubenv\" }}\n\
         [[slot]]\ngroup = \"A\"\nclass = \"rootfs\"\ndevice = \"slot-a\"\n\
         [[slot]]\ngroup = \"B\"\nclass = \"rootfs\"\ndevice = {target:?}\n[watchdog]\nkind = \"none\"\n"
    );
    let board = Board::parse(&board, folder.join("board.toml").to_str().unwrap()).unwrap();
    BoardSlots::new(&board, Group::A)
}

fn content(segment: u64) -> Vec<u8> {
    (0..SEGMENT).map(|i| (i * 31 + i / 251 + segment * 7) as u8).collect()
}

fn put(slots: &mut BoardSlots, segment: u64) -> Result<()> {
    let bytes = content(segment);
    let proven = VerifiedSegment::prove(segment * SEGMENT, &bytes, &Digest::of(&bytes)).unwrap();
    slots.write(Group::B, "rootfs", &proven)
}

fn read(slots: &mut BoardSlots, segment: u64) -> Result<Vec<u8>> {
    let mut out = vec![0; SEGMENT_BYTES];
    slots.read_back(Group::B, "rootfs", segment * SEGMENT, &mut out)?;
    Ok(out)
}

/// The file beneath the device is cut short: the blocks beyond its end are EIO, each time they are read.
#[test]
fn blocks_that_cannot_be_read_are_a_fault_that_names_the_device_and_their_neighbours_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(4 * SEGMENT).unwrap();
    let Some(device) = Loop::over(&image) else { return };
    let mut slots = slots(folder.path(), &device.0);
    assert_eq!(slots.access(Group::B, "rootfs"), Ok(Access::Direct));
    (0..4).for_each(|segment| put(&mut slots, segment).unwrap());
    slots.sync(Group::B, "rootfs").unwrap();
    OpenOptions::new().write(true).open(&image).unwrap().set_len(2 * SEGMENT).unwrap();
    for _ in 0..3 {
        let fault = read(&mut slots, 3).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Io, "{fault}");
        let device = device.0.display().to_string();
        assert!(fault.what.contains(&device) && fault.what.contains("slot B rootfs"), "{fault}");
        assert!(read(&mut slots, 1).unwrap() == content(1), "what can be read is read");
    }
    // Written anew, as a medium gives a bad block another place: the read-back finds it.
    put(&mut slots, 3).unwrap();
    slots.sync(Group::B, "rootfs").unwrap();
    assert!(read(&mut slots, 3).unwrap() == content(3));
}

#[test]
fn a_medium_without_room_beneath_the_slot_fails_the_write_or_its_sync_and_takes_it_later() {
    let Some(tmpfs) = Tmpfs::new(2 * 1024) else { return };
    let image = tmpfs.file("disk.img", 8 * SEGMENT); // 2 MiB with holes
    let fill = tmpfs.file("fill", 0);
    for through_a_device in [false, true] {
        let device = if through_a_device { Loop::over(&image) } else { None };
        if through_a_device && device.is_none() {
            return;
        }
        let target = device.as_ref().map_or(image.clone(), |device| device.0.clone());
        OpenOptions::new().write(true).open(&image).unwrap().set_len(0).unwrap();
        OpenOptions::new().write(true).open(&image).unwrap().set_len(8 * SEGMENT).unwrap();
        std::fs::write(&fill, vec![0xff; 3 * SEGMENT_BYTES]).unwrap();
        let mut slots = slots(tmpfs.0.path(), &target);
        let failed = (0..8).find_map(|segment| {
            let written = put(&mut slots, segment).and_then(|()| slots.sync(Group::B, "rootfs"));
            written.err().map(|fault| (segment, fault))
        });
        let (segment, fault) = failed.expect("there is no room for all of it");
        assert!(matches!(fault.kind, FaultKind::Full | FaultKind::Io), "{fault}");
        assert!(fault.what.contains(&target.display().to_string()), "{fault}");
        assert!(segment > 0 && read(&mut slots, 0).unwrap() == content(0), "what was written stands");
        std::fs::remove_file(&fill).unwrap();
        put(&mut slots, segment).unwrap();
        slots.sync(Group::B, "rootfs").unwrap();
        assert!(read(&mut slots, segment).unwrap() == content(segment));
    }
}

#[test]
fn a_device_that_is_never_there_is_gone_or_is_another_one_is_told_apart_from_one_that_is_too_small() {
    let folder = tempfile::tempdir().unwrap();
    let (name, image, other) =
        (folder.path().join("by-name"), folder.path().join("disk.img"), folder.path().join("other.img"));
    std::fs::File::create(&image).unwrap().set_len(2 * SEGMENT).unwrap();
    std::fs::File::create(&other).unwrap().set_len(SEGMENT).unwrap();
    let fault = slots(folder.path(), &name).open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "never there: {fault}");
    assert!(fault.what.contains("by-name"), "{fault}");

    std::os::unix::fs::symlink(&image, &name).unwrap();
    let mut opened = slots(folder.path(), &name);
    assert_eq!(opened.open(Group::B, "rootfs"), Ok(2 * SEGMENT));
    put(&mut opened, 0).unwrap();
    // The name goes, and comes to mean another device, in the middle of the download.
    std::fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(&other, &name).unwrap();
    put(&mut opened, 1).unwrap();
    opened.sync(Group::B, "rootfs").unwrap();
    assert!(
        read(&mut opened, 1).unwrap() == content(1),
        "the slot that was opened is the slot that is written"
    );
    assert!(std::fs::read(&other).unwrap().iter().all(|byte| *byte == 0), "and not what has its name now");
    drop(opened);
    let mut again = slots(folder.path(), &name);
    assert_eq!(
        again.open(Group::B, "rootfs"),
        Ok(SEGMENT),
        "a new download sees the other one, and its size"
    );
    let fault = put(&mut again, 1).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Full, "too small: {fault}");
    std::fs::remove_file(&name).unwrap();
    assert_eq!(slots(folder.path(), &name).open(Group::B, "rootfs").unwrap_err().kind, FaultKind::NotFound);
}

/// Its device is detached while the slot is open: the kernel keeps it for who holds it, and the name is free after that.
#[test]
fn a_loop_device_that_is_detached_under_an_open_slot_lasts_until_it_is_closed_and_is_not_there_after() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(2 * SEGMENT).unwrap();
    let Some(device) = Loop::over(&image) else { return };
    let path = device.0.clone();
    let mut opened = slots(folder.path(), &path);
    put(&mut opened, 0).unwrap();
    drop(device);
    let written = put(&mut opened, 1).and_then(|()| opened.sync(Group::B, "rootfs"));
    match written {
        Ok(()) => assert!(read(&mut opened, 1).unwrap() == content(1)),
        Err(fault) => assert_eq!(fault.kind, FaultKind::Io, "{fault}"),
    }
    drop(opened);
    let gone = slots(folder.path(), &path).open(Group::B, "rootfs");
    assert!(gone.is_err() || gone == Ok(0), "{gone:?}");
}

#[test]
fn a_slot_on_a_read_only_file_system_is_refused_by_name_and_its_bytes_can_be_looked_at() {
    let Some(tmpfs) = Tmpfs::new(1024) else { return };
    let image = tmpfs.file("disk.img", SEGMENT);
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&content(0), 0).unwrap();
    let folder = tmpfs.0.path().to_str().unwrap();
    assert!(ran("mount", &["-o", "remount,ro", folder]).is_some());
    let fault = put(&mut slots(tmpfs.0.path(), &image), 0).unwrap_err();
    assert_eq!(fault.kind, FaultKind::ReadOnly, "{fault}");
    assert!(fault.what.contains(image.to_str().unwrap()), "{fault}");
    assert!(ran("mount", &["-o", "remount,rw", folder]).is_some());
    put(&mut slots(tmpfs.0.path(), &image), 0).unwrap();
}
