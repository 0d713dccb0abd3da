//! From a slot's description to the real range of a real device, whatever the device is called.
//!
//! A GPT partition of a block device becomes the kernel's own partition device where the kernel has one, because
//! only that can be opened exclusively while its neighbours are mounted. Elsewhere (an image file, a loop device
//! without partitions) it is a range.

use std::fs::File;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mainstay_core::fault;
use mainstay_core::seam::Result;
use nix::sys::stat::{major, minor};

use super::gpt::Gpt;
use super::medium::{self, Identity};
use crate::board::{Part, SlotSpec};

/// Where a slot really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What has to be opened.
    pub path: PathBuf,
    /// What that is.
    pub identity: Identity,
    /// Where the slot begins in it, in bytes.
    pub offset: u64,
    /// How long the slot is, in bytes.
    pub size: u64,
    /// It is a block device, and the slot is all of it.
    pub whole_device: bool,
    /// The same range, said of the disk: for comparing slots with one another.
    pub extent: Extent,
    /// What is odd about the partition table.
    pub note: Option<String>,
}

/// A range of a disk or file, by the numbers that the kernel knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    disk: Identity,
    from: u64,
    size: u64,
}

impl Extent {
    pub(super) fn overlaps(&self, other: &Extent) -> bool {
        self.disk == other.disk && self.from < other.from + other.size && other.from < self.from + self.size
    }

    /// The extent of `size` bytes at `offset` of what is open as `identity`.
    pub(super) fn of(identity: Identity, offset: u64, size: u64) -> Extent {
        if let Identity::Block { device } = identity
            && let Some((disk, start)) = parent_of_partition(device)
        {
            return Extent { disk: Identity::Block { device: disk }, from: start + offset, size };
        }
        Extent { disk: identity, from: offset, size }
    }
}

/// Finds the place of `slot`. Reads the partition table where it names a partition; writes nothing.
pub(super) fn find(slot: &SlotSpec) -> Result<Place> {
    let path = &slot.device;
    let file = File::open(path).map_err(|e| medium::io_fault("open", path, &e))?;
    let identity = medium::identity(&file, path)?;
    let bytes = medium::length(&file, path)?;
    let (offset, size, note) = match &slot.part {
        Part::Whole => (0, bytes, None),
        Part::Range { offset, size } => (*offset, *size, None),
        Part::Partition(selector) => {
            let within = |f: mainstay_core::fault::Fault| f.within(format_args!("{}", path.display()));
            let gpt = Gpt::read(&file, bytes).map_err(within)?;
            let partition = gpt.find(selector).map_err(within)?;
            let note = gpt.note.as_ref().map(|note| format!("{}: {note}", path.display()));
            if let Identity::Block { device } = identity
                && let Some(node) =
                    kernel_partition(device, partition.number, partition.offset, partition.size)
            {
                return whole_partition(&node, partition.size, note);
            }
            (partition.offset, partition.size, note)
        }
    };
    if size == 0 {
        return Err(fault!(Refused, "{}: expected a slot, found 0 bytes", path.display()));
    }
    if offset + size > bytes {
        let path = path.display();
        return Err(fault!(Refused, "{path}: expected {size} bytes at {offset}, found the end at {bytes}"));
    }
    let extent = Extent::of(identity, offset, size);
    let whole_device = matches!(identity, Identity::Block { .. }) && slot.part == Part::Whole;
    Ok(Place { path: path.clone(), identity, offset, size, whole_device, extent, note })
}

fn whole_partition(node: &Path, size: u64, note: Option<String>) -> Result<Place> {
    let file = File::open(node).map_err(|e| medium::io_fault("open", node, &e))?;
    let identity = medium::identity(&file, node)?;
    let extent = Extent::of(identity, 0, size);
    Ok(Place { path: node.to_path_buf(), identity, offset: 0, size, whole_device: true, extent, note })
}

/// `/sys/dev/block/179:0`.
pub(super) fn sysfs_of(device: u64) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)))
}

/// The number in a file of sysfs.
pub(super) fn sysfs_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The kernel's device for partition `number` of `disk`, if it has one that begins and ends where the table says.
/// sysfs counts in 512-byte sectors whatever the medium's block size (Documentation/ABI/stable/sysfs-block).
fn kernel_partition(disk: u64, number: u32, offset: u64, size: u64) -> Option<PathBuf> {
    for child in std::fs::read_dir(sysfs_of(disk)).ok()?.flatten() {
        let at = |name: &str| sysfs_number(&child.path().join(name));
        if at("partition") == Some(number.into())
            && at("start") == Some(offset / 512)
            && at("size") == Some(size / 512)
        {
            let name = child.file_name().to_string_lossy().replace('!', "/");
            return Some(Path::new("/dev").join(name)).filter(|node| is_device(node, &child.path()));
        }
    }
    None
}

/// Is `node` the device that sysfs means?
fn is_device(node: &Path, sysfs: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(node) else { return false };
    let number = std::fs::read_to_string(sysfs.join("dev")).unwrap_or_default();
    number.trim() == format!("{}:{}", major(meta.st_rdev()), minor(meta.st_rdev()))
}

/// The disk that `device` is a partition of, and where on it it begins, in bytes.
fn parent_of_partition(device: u64) -> Option<(u64, u64)> {
    let sysfs = std::fs::canonicalize(sysfs_of(device)).ok()?;
    sysfs_number(&sysfs.join("partition"))?;
    let start = sysfs_number(&sysfs.join("start"))?.checked_mul(512)?;
    let number = std::fs::read_to_string(sysfs.parent()?.join("dev")).ok()?;
    Some((device_number(number.trim())?, start))
}

/// `"179:0"` as a device number.
pub(super) fn device_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
}
