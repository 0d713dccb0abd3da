//! Disk images, made and read back without root and without loop devices: a partition table by our own hand, file systems by
//! the host's mkfs, debugfs and mtools. The same content gives the same bytes, whenever and wherever it is made: all
//! identifiers are derived from names, and all times are [`EPOCH_S`].

pub mod ext4;
pub mod fat;
mod tree;

pub use tree::{Node, Tree};

use crate::{Doing, Result, Trouble};
use gptman::{GPT, GPTPartitionEntry};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What sizes and starts are multiples of.
pub const MIB: u64 = 1024 * 1024;
/// The smallest that is addressed.
pub const SECTOR: u64 = 512;
/// The time that all files were made at: 1 January 2026, 00:00 UTC, in seconds. (FAT knows no time before 1980.)
pub const EPOCH_S: u64 = 1_767_225_600;

/// What a partition is for, which its type in the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GRUB's second stage under a BIOS.
    BiosBoot,
    /// The EFI system partition.
    Esp,
    /// A Linux file system.
    Linux,
}

impl Kind {
    /// The type's GUID as it stands on disk: the first three fields are little-endian (UEFI 2.10, appendix A).
    const fn guid(self) -> [u8; 16] {
        match self {
            Kind::BiosBoot => *b"Hah!IdontNeedEFI", // 21686148-6449-6e6f-744e-656564454649
            // c12a7328-f81f-11d2-ba4b-00a0c93ec93b
            Kind::Esp => *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b",
            // 0fc63daf-8483-4772-8e79-3d69d8477de4
            Kind::Linux => *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4",
        }
    }
}

/// A partition that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p> {
    /// Its name in the table.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// Its size, a multiple of [`MIB`].
    pub bytes: u64,
    /// What is written to its beginning; the rest is zero.
    pub content: Option<&'p Path>,
}

/// A partition of a disk, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins on the disk.
    pub start: u64,
    /// How large it is.
    pub bytes: u64,
}

/// A raw disk image.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
    partitions: Vec<Partition>,
}

impl Disk {
    /// Makes an image with a GPT (UEFI 2.10 chapter 5): the partitions one after the other from 1 MiB on. Sparse.
    pub fn create(path: &Path, plans: &[Plan]) -> Result<Disk> {
        let what = || path.display().to_string();
        let content: u64 = plans.iter().map(|plan| plan.bytes).sum();
        let mut file = OpenOptions::new();
        let mut file = file.read(true).write(true).create(true).truncate(true).open(path).doing(what)?;
        file.set_len(MIB + content + MIB).doing(what)?;
        let mut table = GPT::new_from(&mut file, SECTOR, guid(0)).doing(what)?;
        table.align = MIB / SECTOR;
        let mut disk = Disk { path: path.to_owned(), partitions: Vec::new() };
        let mut start = MIB;
        for (number, plan) in (1..).zip(plans) {
            if plan.bytes == 0 || plan.bytes % MIB != 0 {
                return Err(Trouble::new(format!(
                    "{}: expected whole MiB, found {} bytes",
                    plan.name, plan.bytes
                )));
            }
            table[number] = GPTPartitionEntry {
                partition_type_guid: plan.kind.guid(),
                unique_partition_guid: guid(number as u8),
                starting_lba: start / SECTOR,
                ending_lba: (start + plan.bytes) / SECTOR - 1,
                attribute_bits: 0,
                partition_name: plan.name.into(),
            };
            let name = plan.name.to_owned();
            disk.partitions.push(Partition { name, number, start, bytes: plan.bytes });
            start += plan.bytes;
        }
        GPT::write_protective_mbr_into(&mut file, SECTOR).doing(what)?;
        table.write_into(&mut file).doing(what)?;
        for plan in plans {
            if let Some(content) = plan.content {
                disk.flash(plan.name, content)?;
            }
        }
        Ok(disk)
    }

    /// An image whose partitions are known: made by another hand, or a copy.
    pub fn with(path: &Path, partitions: Vec<Partition>) -> Disk {
        Disk { path: path.to_owned(), partitions }
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition of this name.
    pub fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.partitions.iter().find(|partition| partition.name == name);
        found.doing(|| format!("{}: no partition {name}", self.path.display()))
    }

    /// A copy of it, sparse where it is sparse.
    pub fn copy_to(&self, path: &Path) -> Result<Disk> {
        copy_sparse(&self.path, path)?;
        Ok(Disk { path: path.to_owned(), partitions: self.partitions.clone() })
    }

    /// Fills `out` from `at` of a partition.
    pub fn read(&self, partition: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let at = self.within(partition, at, out.len() as u64)?;
        let file = File::open(&self.path).doing(|| self.path.display().to_string())?;
        file.read_exact_at(out, at).doing(|| format!("reading {partition} at {at}"))
    }

    /// Writes `bytes` at `at` of a partition.
    pub fn write(&self, partition: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let at = self.within(partition, at, bytes.len() as u64)?;
        self.write_raw(at, bytes)
    }

    /// Writes `bytes` anywhere on the disk: boot code lies before the first partition.
    pub fn write_raw(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let written = file.and_then(|file| file.write_all_at(bytes, at));
        written.doing(|| format!("{}: writing at {at}", self.path.display()))
    }

    /// Writes a whole file to the beginning of a partition and zeros what is behind it: what the factory does.
    pub fn flash(&self, partition: &str, content: &Path) -> Result<()> {
        let what = || format!("{partition} of {}", self.path.display());
        let mut from = File::open(content).doing(|| content.display().to_string())?;
        let bytes = from.metadata().doing(|| content.display().to_string())?.len();
        let start = self.within(partition, 0, bytes)?;
        self.erase(partition)?;
        let to = OpenOptions::new().write(true).open(&self.path).doing(what)?;
        let (mut buffer, mut at) = (vec![0; MIB as usize], start);
        loop {
            let read = from.read(&mut buffer).doing(|| content.display().to_string())?;
            let Some(read @ [_, ..]) = buffer.get(..read) else { return Ok(()) };
            if read.iter().any(|byte| *byte != 0) {
                to.write_all_at(read, at).doing(what)?; // zeros stay a hole
            }
            at += read.len() as u64;
        }
    }

    /// Zeros a partition.
    pub fn erase(&self, partition: &str) -> Result<()> {
        let (bytes, zeros) = (self.partition(partition)?.bytes, vec![0; MIB as usize]);
        let mut piece = zeros.clone();
        for at in (0..bytes).step_by(MIB as usize) {
            self.read(partition, at, &mut piece)?;
            if piece != zeros {
                self.write(partition, at, &zeros)?;
            }
        }
        Ok(())
    }

    /// Where in a partition the first sector begins that starts with `magic`, in bytes.
    pub fn find(&self, partition: &str, magic: &[u8]) -> Result<Option<u64>> {
        let (bytes, mut piece) = (self.partition(partition)?.bytes, vec![0; MIB as usize]);
        for at in (0..bytes).step_by(MIB as usize) {
            self.read(partition, at, &mut piece)?;
            let sectors = piece.chunks(SECTOR as usize).position(|sector| sector.starts_with(magic));
            if let Some(sector) = sectors {
                return Ok(Some(at + sector as u64 * SECTOR));
            }
        }
        Ok(None)
    }

    fn within(&self, partition: &str, at: u64, bytes: u64) -> Result<u64> {
        let place = self.partition(partition)?;
        match at.checked_add(bytes) {
            Some(end) if end <= place.bytes => Ok(place.start + at),
            _ => Err(Trouble::new(format!(
                "{partition}: expected a place within {} bytes, found {bytes} bytes at {at}",
                place.bytes
            ))),
        }
    }
}

/// Copies a file, leaving out what is zero.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).doing(|| from.display().to_string())?;
    let target = File::create(to).doing(|| to.display().to_string())?;
    let bytes = source.seek(SeekFrom::End(0)).doing(|| from.display().to_string())?;
    target.set_len(bytes).doing(|| to.display().to_string())?;
    let mut buffer = vec![0; COPIED_BYTES];
    let mut at = 0;
    while at < bytes {
        let piece = buffer.len().min((bytes - at) as usize);
        let piece = buffer.get_mut(..piece).unwrap_or_default();
        source.read_exact_at(piece, at).doing(|| from.display().to_string())?;
        if piece.iter().any(|byte| *byte != 0) {
            target.write_all_at(piece, at).doing(|| to.display().to_string())?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// How much is copied, or left out, at a time.
const COPIED_BYTES: usize = 64 * 1024;

/// Identifiers only have to be distinct on one disk: `4c414200-…-00NN`.
const fn guid(number: u8) -> [u8; 16] {
    [0x00, 0x42, 0x41, 0x4c, 0x4e, 0x49, 0x41, 0x4d, 0x80, 0x53, 0x54, 0x41, 0x59, 0, 0, number]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_hold_what_was_flashed_and_nothing_of_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let (long, short) = (folder.path().join("long"), folder.path().join("short"));
        std::fs::write(&long, vec![7; 3 * MIB as usize]).unwrap();
        std::fs::write(&short, b"short").unwrap();
        let plans = [
            Plan { name: "bios", kind: Kind::BiosBoot, bytes: MIB, content: None },
            Plan { name: "rootfs-a", kind: Kind::Linux, bytes: 4 * MIB, content: Some(&long) },
        ];
        let disk = Disk::create(&folder.path().join("disk"), &plans).unwrap();
        assert_eq!(disk.partition("rootfs-a").unwrap().start, 2 * MIB);
        disk.flash("rootfs-a", &short).unwrap();
        let mut out = vec![1; 4 * MIB as usize];
        disk.read("rootfs-a", 0, &mut out).unwrap();
        assert!(out.starts_with(b"short\0") && out[5..].iter().all(|byte| *byte == 0));
        assert!(disk.write("rootfs-a", 4 * MIB - 1, b"xx").is_err());
        disk.write("rootfs-a", 2 * SECTOR, b"magic").unwrap();
        assert_eq!(disk.find("rootfs-a", b"magic").unwrap(), Some(2 * SECTOR));
        let copy = disk.copy_to(&folder.path().join("copy")).unwrap();
        assert_eq!(std::fs::read(disk.path()).unwrap(), std::fs::read(copy.path()).unwrap());
    }
}
