//! The disks whose updates are recorded: one for each way in which a bootloader keeps its environment.
//!
//! ```text
//! 1 MiB   env        grub-fat: FAT16 with grub/grubenv     grub-ext4: ext4 with grub/grubenv
//!                    uboot-single: 16 KiB at 0             uboot-redundant: 16 KiB at 0 and at 16 KiB
//!         rootfs-a   what group A boots
//!         rootfs-b   what group B boots
//!         data       ext4: the agent's state
//! ```
//! Two of the updates go from A to B and two from B to A: what a bootloader does when it has lost its environment (it takes A
//! for good) is harmless only in the first case.

use crate::fs::ext4::Ext4;
use crate::fs::fat::Fat;
use crate::log::SECTOR;
use crate::medium::{Medium, Part};
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::Group;
use mainstay_hil::board::rootfs;
use mainstay_hil::disk::{Disk, MIB, Partition, UBOOT_ENV_BYTES};
use mainstay_hil::{Doing, Result, Trouble};
use mainstay_lab::disk::{Node, Tree, ext4, fat};
use std::path::Path;

/// Where a GRUB environment stands in its file system.
pub const GRUBENV: &str = "grub/grubenv";
/// The agent's state folder on the data partition.
pub const STATE: &str = "mainstay";
/// The images of this bench.
pub const IMAGE_BYTES: u64 = 4 * MIB;

const SIZES: mainstay_hil::disk::Layout =
    mainstay_hil::disk::Layout { env_mib: 16, rootfs_mib: 4, data_mib: 8 };

/// How the environment is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// GRUB's block, in a file on FAT.
    GrubFat,
    /// GRUB's block, in a file on ext4.
    GrubExt4,
    /// U-Boot's, one copy, raw.
    UbootSingle,
    /// U-Boot's, two copies in turns, raw.
    UbootRedundant,
}

impl Layout {
    /// All of them.
    pub const ALL: [Layout; 4] =
        [Layout::GrubFat, Layout::GrubExt4, Layout::UbootSingle, Layout::UbootRedundant];

    /// As it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::GrubFat => "grub-fat",
            Layout::GrubExt4 => "grub-ext4",
            Layout::UbootSingle => "uboot-single",
            Layout::UbootRedundant => "uboot-redundant",
        }
    }

    /// Reads [`Layout::name`].
    pub fn from_name(name: &str) -> Option<Layout> {
        Layout::ALL.into_iter().find(|layout| layout.name() == name)
    }

    /// The environment's format.
    pub const fn format(self) -> Format {
        let bytes = UBOOT_ENV_BYTES as usize;
        match self {
            Layout::GrubFat | Layout::GrubExt4 => Format::Grub,
            Layout::UbootSingle => Format::UbootSingle { bytes },
            Layout::UbootRedundant => Format::UbootRedundant { bytes, scheme: Scheme::Incremental },
        }
    }

    /// The group that is updated; the other one runs and is good.
    pub const fn target(self) -> Group {
        match self {
            Layout::GrubFat | Layout::UbootSingle => Group::B,
            Layout::GrubExt4 | Layout::UbootRedundant => Group::A,
        }
    }

    /// How the guest mounts the environment's partition, if it does.
    pub const fn mounted_as(self) -> Option<&'static str> {
        match self {
            Layout::GrubFat => Some("vfat"),
            Layout::GrubExt4 => Some("ext4"),
            Layout::UbootSingle | Layout::UbootRedundant => None,
        }
    }

    /// Makes the disk as it leaves the factory: `image` in the group that runs, zeros in the other, no state. `folder` is
    /// for what is needed on the way.
    pub fn factory(self, path: &Path, image: &Path, folder: &Path) -> Result<Disk> {
        let disk = Disk::create(path, &SIZES)?;
        disk.flash(rootfs(self.target().other()), image)?;
        let data = folder.join("data.ext4");
        ext4::make(&data, disk.partition("data")?.bytes, "data", ext4::Use::Data, &Tree::new())?;
        disk.flash("data", &data)?;

        let env = folder.join("env");
        let copies = self.format().blank(&self.factory_vars(), Mainstay.names());
        let copies = copies.doing(|| "a fresh environment")?;
        let bytes = disk.partition("env")?.bytes;
        let path = format!("/{GRUBENV}");
        match (self, copies.as_slice()) {
            (Layout::GrubFat, [block]) => {
                fat::make(&env, bytes, "ENV", &[(&path, block)])?;
                disk.flash("env", &env)?;
            }
            (Layout::GrubExt4, [block]) => {
                let mut tree = Tree::new();
                tree.add(&path, Node::Bytes(block.clone(), 0o644));
                ext4::make(&env, bytes, "env", ext4::Use::Data, &tree)?;
                disk.flash("env", &env)?;
            }
            _ => {
                for (copy, bytes) in (0..).zip(&copies) {
                    disk.write("env", copy * UBOOT_ENV_BYTES, bytes)?;
                }
            }
        }
        Ok(disk)
    }

    /// The variables of a board on which the running group is good. U-Boot's are joined by as much as a real one brings along
    /// (the stock environment of Debian's qemu_arm64 has 4.5 KiB), so that a change of ours touches several sectors.
    fn factory_vars(self) -> Vars {
        let mut vars = Vars::new();
        if !matches!(self.format(), Format::Grub) {
            for n in 0..60 {
                vars.set(
                    &format!("bootcmd_{n:02}"),
                    "setenv devnum 0; run scan_dev_for_boot_part; load ${kernel_addr_r}; booti",
                );
            }
        }
        let mut vars = vars.with(&Mainstay.fresh());
        if self.target() == Group::A {
            // B is good, A was never written.
            for (name, value) in [("BOOT_ORDER", "B  "), ("BOOT_A_GOOD", "0"), ("BOOT_B_GOOD", "1")] {
                vars.set(name, value);
            }
        }
        vars
    }

    /// The board file of the guest.
    pub fn board_file(self) -> String {
        let environment = match self {
            Layout::GrubFat | Layout::GrubExt4 => {
                format!("bootloader = \"grub\"\nenvironment = {{ path = \"/env/{GRUBENV}\" }}")
            }
            Layout::UbootSingle | Layout::UbootRedundant => {
                let copy = |n| {
                    format!(
                        "{{ path = \"/dev/vda1\", offset = {}, size = {UBOOT_ENV_BYTES} }}",
                        n * UBOOT_ENV_BYTES
                    )
                };
                let copies: Vec<_> = (0..self.format().copies() as u64).map(copy).collect();
                format!("bootloader = \"uboot\"\nenvironment = [{}]", copies.join(", "))
            }
        };
        let slot = |group, device| {
            format!("[[slot]]\ngroup = \"{group}\"\nclass = \"rootfs\"\ndevice = \"{device}\"\n")
        };
        format!(
            "compatible = \"{COMPATIBLE}\"\n\n[boot]\n{environment}\nlock_file = \"/run/environment.lock\"\n\n{}\n{}\n[watchdog]\nkind = \"none\"\n",
            slot("A", "/dev/vda2"),
            slot("B", "/dev/vda3")
        )
    }
}

/// What the bench's gateways are.
pub const COMPATIBLE: &str = "crash-gateway";

/// Where everything stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    layout: Layout,
    partitions: Vec<Partition>,
}

impl Map {
    /// Of a disk of this layout.
    pub fn new(layout: Layout, disk: &Disk) -> Map {
        Map { layout, partitions: disk.partitions().to_vec() }
    }

    /// Of any disk that [`Layout::factory`] makes: the sizes are always the same.
    pub fn of(layout: Layout) -> Map {
        let mut start = MIB;
        let names = ["env", "rootfs-a", "rootfs-b", "data"];
        let sizes = [SIZES.env_mib, SIZES.rootfs_mib, SIZES.rootfs_mib, SIZES.data_mib];
        let partitions = (1..).zip(names.into_iter().zip(sizes)).map(|(number, (name, mib))| {
            let partition = Partition { name: name.to_owned(), number, start, bytes: mib * MIB };
            start += mib * MIB;
            partition
        });
        Map { layout, partitions: partitions.collect() }
    }

    /// The layout.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// A partition of a disk.
    pub fn part<'a>(&self, disk: &'a dyn Medium, name: &str) -> Part<'a> {
        let found = self.partitions.iter().find(|partition| partition.name == name);
        let (start, size) = found.map_or((0, 0), |partition| (partition.start, partition.bytes));
        Part { disk, start, size }
    }

    /// The name of the partition that this byte of the disk belongs to; `table` outside of all.
    pub fn name_at(&self, at: u64) -> &str {
        let within =
            |partition: &&Partition| (partition.start..partition.start + partition.bytes).contains(&at);
        self.partitions.iter().find(within).map_or("table", |partition| &partition.name)
    }

    /// The sectors of the ext4 superblocks: bytes 1024 to 2048 of their partitions.
    pub fn superblocks(&self) -> Vec<std::ops::Range<u64>> {
        let ext4 = |partition: &&Partition| {
            partition.name == "data" || partition.name == "env" && self.layout == Layout::GrubExt4
        };
        let sectors = |partition: &Partition| {
            let start = partition.start / SECTOR as u64;
            start + 2..start + 4
        };
        self.partitions.iter().filter(ext4).map(sectors).collect()
    }

    /// The copies of the environment as the bootloader reads them: without replaying a journal.
    pub fn copies(&self, disk: &dyn Medium) -> Result<Vec<Vec<u8>>> {
        self.copies_in(&self.part(disk, "env"))
    }

    /// The same, of the environment's partition alone.
    pub fn copies_in(&self, env: &dyn Medium) -> Result<Vec<Vec<u8>>> {
        let format = self.layout.format();
        match self.layout {
            Layout::UbootSingle | Layout::UbootRedundant => {
                let copy = |n| env.bytes(n as u64 * UBOOT_ENV_BYTES, format.copy_bytes());
                Ok((0..format.copies()).map(copy).collect())
            }
            Layout::GrubFat | Layout::GrubExt4 => Ok(vec![self.grubenv(env)?.read(env)?]),
        }
    }

    fn grubenv(&self, env: &dyn Medium) -> Result<crate::fs::Extents> {
        let found = match self.layout {
            Layout::GrubFat => Fat::open(env)?.find(GRUBENV)?,
            _ => Ext4::open(env)?.find(GRUBENV)?,
        };
        found.doing(|| format!("expected {GRUBENV}, found no such file"))
    }

    /// Where on the disk a bootloader's write goes, sector by sector: it overwrites what stands there.
    pub fn sectors_of(
        &self,
        disk: &dyn Medium,
        write: &mainstay_bootloader_glue::Write,
    ) -> Result<Vec<(u64, Vec<u8>)>> {
        let env = self.part(disk, "env");
        let file = match self.layout {
            Layout::GrubFat | Layout::GrubExt4 => Some(self.grubenv(&env)?),
            _ => None,
        };
        if !write.at.is_multiple_of(SECTOR) || !write.bytes.len().is_multiple_of(SECTOR) {
            return Err(Trouble::new(format!(
                "expected a write in sectors, found {} bytes at {}",
                write.bytes.len(),
                write.at
            )));
        }
        let sector = |(n, bytes): (usize, &[u8])| {
            let at = (write.at + n * SECTOR) as u64;
            let place = match &file {
                Some(file) => file
                    .place(at..at + SECTOR as u64)
                    .doing(|| format!("{GRUBENV}: expected byte {at} on the disk"))?,
                None => write.copy as u64 * UBOOT_ENV_BYTES + at,
            };
            Ok(((env.start + place) / SECTOR as u64, bytes.to_vec()))
        };
        write.bytes.chunks(SECTOR).enumerate().map(sector).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_bootloader_glue::convention::Why;
    use mainstay_bootloader_glue::model;

    #[test]
    fn each_factory_disk_boots_the_group_that_is_good_and_a_boot_script_can_save_to_it() {
        for layout in Layout::ALL {
            assert_eq!(Layout::from_name(layout.name()), Some(layout));
            let folder = tempfile::tempdir().unwrap();
            let (image, path) = (folder.path().join("image"), folder.path().join("disk"));
            std::fs::write(&image, vec![7; IMAGE_BYTES as usize]).unwrap();
            let disk = match layout.factory(&path, &image, folder.path()) {
                Ok(disk) => disk,
                Err(why) => {
                    println!("not run: {why}");
                    return;
                }
            };
            let map = Map::new(layout, &disk);
            assert_eq!(map, Map::of(layout));
            let mut bytes = std::fs::read(&path).unwrap();
            let running = layout.target().other();
            assert_eq!(map.part(&bytes, rootfs(running)).bytes(100, 2), [7, 7]);
            assert_eq!(map.name_at(map.part(&bytes, "data").start), "data");
            let copies = map.copies(&bytes).unwrap();
            let boot = model::boot(&layout.format(), &Mainstay, &copies, |_| true).unwrap();
            assert_eq!((boot.group, boot.writes.len()), (Some((running, Why::Good)), 0), "{layout:?}");
            // What a script saves is read again.
            let vars = layout
                .factory_vars()
                .with(&[mainstay_bootloader_glue::vars::Change::set("BOOT_ORDER", "A  ")]);
            let env = layout.format().parse(&copies).unwrap();
            for write in env.writes(&vars, Mainstay.names()).unwrap() {
                for (sector, content) in map.sectors_of(&bytes, &write).unwrap() {
                    let at = sector as usize * SECTOR;
                    bytes[at..at + SECTOR].copy_from_slice(&content);
                }
            }
            let copies = map.copies(&bytes).unwrap();
            assert_eq!(layout.format().parse(&copies).unwrap().vars().text("BOOT_ORDER").unwrap(), "A  ");
        }
    }
}
