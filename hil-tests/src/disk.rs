//! A gateway's disk: an image file with a partition table (GPT, UEFI 2.10 chapter 5), sparse until it is written.
//!
//! ```text
//! 1 MiB   env        raw; a redundant U-Boot environment (16 KiB at 0, 16 KiB at 16 KiB), or a GRUB block (1 KiB at 0)
//!         rootfs-a   what group A boots
//!         rootfs-b   what group B boots
//!         data       the agent's state: what survives an update
//! ```
//! Sizes are multiples of 1 MiB and so are starts, as every partitioning tool has it.

use crate::{Doing, Result};
use gptman::{GPT, GPTPartitionEntry};
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What sizes and starts are multiples of.
pub const MIB: u64 = 1024 * 1024;
/// One copy of the U-Boot environment.
pub const UBOOT_ENV_BYTES: u64 = 16 * 1024;
const SECTOR: u64 = 512;
/// Before the first partition and after the last: room for the two partition tables.
const MARGIN: u64 = MIB;
/// A Linux file system's type, 0fc63daf-8483-4772-8e79-3d69d8477de4, as it stands on disk (mixed-endian).
const LINUX_DATA: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

/// How large each partition is, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The bootloader's environment.
    pub env_mib: u64,
    /// Each of the two root file systems.
    pub rootfs_mib: u64,
    /// The agent's state.
    pub data_mib: u64,
}

impl Layout {
    /// With room for root images of `bytes`.
    pub fn for_images_of(bytes: u64) -> Layout {
        Layout { env_mib: 1, rootfs_mib: bytes.div_ceil(MIB).max(1), data_mib: 4 }
    }

    fn partitions(&self) -> [(&'static str, u64); 4] {
        [
            ("env", self.env_mib),
            ("rootfs-a", self.rootfs_mib),
            ("rootfs-b", self.rootfs_mib),
            ("data", self.data_mib),
        ]
    }
}

/// A disk image.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
    partitions: Vec<Partition>,
}

/// A partition, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name in the table.
    pub name: String,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it begins on the disk.
    pub start: u64,
    /// How large it is.
    pub bytes: u64,
}

impl Disk {
    /// Makes a new image at `path`.
    pub fn create(path: &Path, layout: &Layout) -> Result<Disk> {
        let what = || path.display().to_string();
        let content: u64 = layout.partitions().iter().map(|(_, mib)| mib * MIB).sum();
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).open(path).doing(what)?;
        file.set_len(MARGIN + content + MARGIN).doing(what)?;

        let mut table = GPT::new_from(&mut file, SECTOR, guid(0)).doing(what)?;
        table.align = MIB / SECTOR;
        let mut partitions = Vec::new();
        let mut start = MARGIN;
        for (number, (name, mib)) in (1..).zip(layout.partitions()) {
            let bytes = mib * MIB;
            table[number] = GPTPartitionEntry {
                partition_type_guid: LINUX_DATA,
                unique_partition_guid: guid(number as u8),
                starting_lba: start / SECTOR,
                ending_lba: (start + bytes) / SECTOR - 1,
                attribute_bits: 0,
                partition_name: name.into(),
            };
            partitions.push(Partition { name: name.to_owned(), number, start, bytes });
            start += bytes;
        }
        GPT::write_protective_mbr_into(&mut file, SECTOR).doing(what)?;
        table.write_into(&mut file).doing(what)?;
        file.sync_all().doing(what)?;
        Ok(Disk { path: path.to_owned(), partitions })
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

    /// Fills `out` from `at` of a partition.
    pub fn read(&self, partition: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let (file, at) = self.open(partition, at, out.len())?;
        file.read_exact_at(out, at).doing(|| format!("reading {partition} at {at}"))
    }

    /// Writes `bytes` at `at` of a partition, through to the medium.
    pub fn write(&self, partition: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let (file, at) = self.open(partition, at, bytes.len())?;
        let written = file.write_all_at(bytes, at).and_then(|()| file.sync_data());
        written.doing(|| format!("writing {partition} at {at}"))
    }

    /// Writes a whole file to the beginning of a partition: what the factory does.
    pub fn flash(&self, partition: &str, image: &Path) -> Result<()> {
        let bytes = std::fs::metadata(image).doing(|| image.display().to_string())?.len();
        let (mut to, at) = self.open(partition, 0, bytes as usize)?;
        let mut from = File::open(image).doing(|| image.display().to_string())?;
        let copied = std::io::Seek::seek(&mut to, std::io::SeekFrom::Start(at))
            .and_then(|_| std::io::copy(&mut from, &mut to))
            .and_then(|_| to.sync_data());
        copied.doing(|| format!("flashing {} to {partition}", image.display()))
    }

    /// Makes a partition all zeros, and gives the host its room back.
    pub fn clear(&self, partition: &str) -> Result<()> {
        let length = self.partition(partition)?.bytes;
        let (file, at) = self.open(partition, 0, length as usize)?;
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let cleared = fallocate(&file, hole, at as i64, length as i64);
        cleared.doing(|| format!("clearing {partition}"))?;
        file.sync_data().doing(|| format!("clearing {partition}"))
    }

    /// The file, and where on the disk `at` of the partition is, if `length` bytes from there lie within it.
    fn open(&self, name: &str, at: u64, length: usize) -> Result<(File, u64)> {
        let Partition { start, bytes, .. } = *self.partition(name)?;
        let end = at.checked_add(length as u64).filter(|end| *end <= bytes);
        end.doing(|| format!("{name} holds {bytes} bytes; wanted {length} at {at}"))?;
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        Ok((file.doing(|| self.path.display().to_string())?, start + at))
    }
}

/// Any 16 bytes will do on a bench, as long as no two are the same.
fn guid(number: u8) -> [u8; 16] {
    let mut guid = *b"mainstay bench \0";
    guid[15] = number;
    guid
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const LAYOUT: Layout = Layout { env_mib: 1, rootfs_mib: 8, data_mib: 2 };

    #[test]
    fn a_partition_holds_what_was_written_to_it_and_nothing_of_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::create(&folder.path().join("disk.img"), &LAYOUT).unwrap();
        for partition in disk.partitions() {
            let mark = vec![partition.number as u8; partition.bytes as usize];
            disk.write(&partition.name, 0, &mark).unwrap();
        }
        for partition in disk.partitions() {
            let mut back = vec![0; partition.bytes as usize];
            disk.read(&partition.name, 0, &mut back).unwrap();
            assert!(back.iter().all(|byte| *byte == partition.number as u8), "{}", partition.name);
        }
        let mut file = File::open(disk.path()).unwrap();
        let table = GPT::find_from(&mut file).unwrap();
        assert_eq!(
            table.iter().filter(|(_, entry)| entry.is_used()).count(),
            4,
            "both tables are still there"
        );
    }

    #[test]
    fn a_partition_that_is_cleared_is_zero_and_its_neighbours_are_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::create(&folder.path().join("disk.img"), &LAYOUT).unwrap();
        for partition in disk.partitions() {
            disk.write(&partition.name, 0, &vec![7; partition.bytes as usize]).unwrap();
        }
        disk.clear("rootfs-a").unwrap();
        for partition in disk.partitions() {
            let mut back = vec![1; partition.bytes as usize];
            disk.read(&partition.name, 0, &mut back).unwrap();
            let expected = if partition.name == "rootfs-a" { 0 } else { 7 };
            assert!(back.iter().all(|byte| *byte == expected), "{}", partition.name);
        }
    }

    #[test]
    fn nothing_is_written_past_a_partition_s_end() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::create(&folder.path().join("disk.img"), &LAYOUT).unwrap();
        let end = disk.partition("env").unwrap().bytes;
        let refused = disk.write("env", end - 1, &[1, 2]).unwrap_err().to_string();
        assert_eq!(refused, format!("env holds {end} bytes; wanted 2 at {}", end - 1));
        assert!(disk.write("env", u64::MAX, &[1]).is_err());
        assert!(disk.write("rootfs-c", 0, &[1]).unwrap_err().to_string().contains("no partition rootfs-c"));
    }

    #[test]
    fn sfdisk_reads_the_table_as_we_do() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::create(&folder.path().join("disk.img"), &LAYOUT).unwrap();
        let sfdisk = ["/usr/sbin/sfdisk", "/sbin/sfdisk", "/usr/bin/sfdisk"];
        let Some(sfdisk) = sfdisk.into_iter().find(|program| Path::new(program).is_file()) else {
            println!("not run: sfdisk is not installed (Debian: apt install fdisk)");
            return;
        };
        let verify = Command::new(sfdisk).arg("--verify").arg(disk.path()).output().unwrap();
        let said = String::from_utf8_lossy(&verify.stdout) + String::from_utf8_lossy(&verify.stderr);
        assert!(verify.status.success() && said.contains("No errors detected"), "{said}");
        let json = Command::new(sfdisk).arg("--json").arg(disk.path()).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let theirs: Vec<(String, u64, u64)> = json["partitiontable"]["partitions"].as_array().unwrap()[..]
            .iter()
            .map(|p| {
                let number = |key: &str| p[key].as_u64().unwrap() * SECTOR;
                (p["name"].as_str().unwrap().to_owned(), number("start"), number("size"))
            })
            .collect();
        let ours: Vec<(String, u64, u64)> =
            disk.partitions().iter().map(|p| (p.name.clone(), p.start, p.bytes)).collect();
        assert_eq!(theirs, ours);
    }
}
