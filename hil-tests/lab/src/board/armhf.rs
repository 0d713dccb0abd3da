//! The armhf board: QEMU's model of an Orange Pi PC, as it comes: Debian's U-Boot for it, from its SPL on, one SD card, the SoC's
//! own watchdog, network chip and clock.
//!
//! ```text
//!      8 KiB            SPL, which the SoC's ROM loads, and U-Boot behind it
//!   1  boot      16 MiB FAT16: boot.scr (our script), uboot.env (U-Boot's environment, one copy)
//!   2  rootfs-a         ext4, read-only, with kernel and device tree
//!   3  rootfs-b
//!   4  data             ext4 with a journal: configuration and state of the agent
//! ```
//! The table is a DOS label: the SPL stands where a GPT has its entries.
//!
//! # What it lacks
//! The watchdog bites after 16 s at the latest, and the kernel needs 12 s of CPU until it has a driver for it: on a busy computer
//! that would bite kernels that are well. So U-Boot does not arm it, and a kernel that hangs stays so.

use super::uboot;
use super::{Board, Pace};
use crate::disk::{Disk, MIB, Partition, SECTOR, Tree, fat};
use crate::guest::{BoardFiles, Images, Ingredients, Nature};
use crate::machine::{Log, Machine, NETDEV, Setup};
use crate::provision::{Arch, Parts};
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::BootState;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the board is made of.
#[derive(Clone, Debug)]
pub struct ArmhfParts {
    /// `qemu-system-arm`.
    pub qemu: PathBuf,
    /// Kernel, modules, busybox and agent.
    pub guest: Ingredients,
    /// `sun8i-h3-orangepi-pc.dtb`.
    pub device_tree: PathBuf,
    /// `u-boot-sunxi-with-spl.bin`.
    pub uboot: PathBuf,
}

impl ArmhfParts {
    /// Out of what the laboratory found, with this device binary.
    pub fn of(parts: &Parts, agent: &Path) -> Result<ArmhfParts> {
        let kernel = parts.kernel(Arch::Armhf)?;
        let trees = kernel.device_trees.doing(|| "the kernel for armhf has no device trees")?;
        // Debian sorts them into a folder of their maker in later kernels.
        let places = [trees.join(DEVICE_TREE), trees.join("allwinner").join(DEVICE_TREE)];
        let device_tree = places.into_iter().find(|place| place.is_file());
        let guest = Ingredients {
            kernel: kernel.image,
            modules: kernel.modules,
            busybox: parts.busybox(Arch::Armhf)?,
            agent: agent.to_owned(),
        };
        Ok(ArmhfParts {
            qemu: parts.program("qemu-system-arm")?.to_owned(),
            guest,
            device_tree: device_tree.doing(|| format!("{}: no {DEVICE_TREE}", trees.display()))?,
            uboot: parts.uboot_sunxi()?,
        })
    }
}

/// The board, and the folder with its card.
pub struct Armhf {
    parts: ArmhfParts,
    folder: PathBuf,
    images: Images,
    /// What each factory begins with: all but the slots and the data.
    blank: Disk,
    disk: Disk,
}

const DEVICE_TREE: &str = "sun8i-h3-orangepi-pc.dtb";
const BOARD_TOML: &str = include_str!("../../boards/armhf-board.toml");
const ENVIRONMENT: &str = include_str!("../../boards/armhf.env");
/// U-Boot's environment, and how large its one copy is (CONFIG_ENV_SIZE of all sunxi boards).
const ENVIRONMENT_FILE: &str = "/uboot.env";
const FORMAT: Format = Format::UbootSingle { bytes: 0x10000 };
/// Where the SoC's ROM looks for the SPL.
const SPL_AT: u64 = 8 * 1024;
/// The size of an image: kernel 6 MB, busybox and the agent 4 MB, initrd 3 MB, and a little room.
const SLOT_BYTES: u64 = 20 * MIB;
const BOOT_BYTES: u64 = 16 * MIB;
/// A power of two, as QEMU wants it.
const CARD_BYTES: u64 = 128 * MIB;
/// Room for the SPL and U-Boot, 0.6 MiB.
const FIRST_PARTITION: u64 = 2 * MIB;
/// The name of the disk in its table, out of which Linux makes the partitions' PARTUUID.
const DISK_NAME: u32 = 0x4c41_4232;
/// How long the boot script waits for somebody when nothing is left to boot.
const PAUSE_S: u64 = 30;

impl Armhf {
    /// Makes images' base and an empty card in `folder`, which it creates.
    pub fn create(parts: ArmhfParts, folder: &Path) -> Result<Armhf> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let images = Images::create(&folder.join("images"), &parts.guest, &board_files(&parts), SLOT_BYTES)?;
        let blank = blank(&parts, folder)?;
        let disk = blank.copy_to(&folder.join("disk.img"))?;
        Ok(Armhf { parts, folder: folder.to_owned(), images, blank, disk })
    }
}

impl Board for Armhf {
    fn name(&self) -> &'static str {
        "armhf-orangepi"
    }

    fn compatible(&self) -> &'static str {
        "lab-orangepi-pc"
    }

    fn images(&self) -> &Images {
        &self.images
    }

    fn lacks(&self, nature: Nature) -> Option<String> {
        let why =
            "U-Boot arms no watchdog: the SoC's bites after 16 s, and the kernel may need longer than that";
        (nature == Nature::KernelHangs).then(|| why.to_owned())
    }

    fn resets_by_watchdog(&self) -> bool {
        true // as Linux' sunxi_wdt and U-Boot do it on an H3
    }

    fn pace(&self) -> Pace {
        Pace {
            boot: Duration::from_secs(35),
            watchdog: Duration::from_secs(16),
            install: Duration::from_secs(60),
            pause: Duration::from_secs(PAUSE_S),
        }
    }

    fn factory(&mut self, image: &Path, data: &Tree) -> Result<()> {
        super::factory(&self.blank, &self.disk, &self.folder, image, data)
    }

    fn setup(&self) -> Setup {
        let arguments = [
            ("-M", "orangepi-pc".to_owned()),
            // The SoC has four, and QEMU makes it with no fewer.
            ("-smp", "4".to_owned()),
            ("-drive", format!("if=sd,format=raw,file={}", self.disk.path().display())),
            ("-nic", format!("user,id={NETDEV},model=allwinner-sun8i-emac")),
        ];
        let arguments =
            arguments.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        Setup { program: self.parts.qemu.clone(), arguments, snapshot: None }
    }

    fn variables(&self) -> Result<Vars> {
        let copy = fat::read(self.disk.path(), self.disk.partition("boot")?.start, ENVIRONMENT_FILE)?;
        Ok(FORMAT.parse(&[copy]).doing(|| "U-Boot's environment")?.vars().clone())
    }

    fn environment(&self) -> Result<BootState> {
        Mainstay.state(&self.variables()?).doing(|| "the boot variables")
    }

    fn disk(&self) -> &Disk {
        &self.disk
    }

    fn repair(&self, machine: &mut Machine, log: &Log) -> Result<()> {
        uboot::type_after_pause(machine, log, uboot::REPAIR)
    }
}

/// What the guest has to know of the board.
fn board_files(parts: &ArmhfParts) -> BoardFiles {
    let mut extra = Tree::new();
    extra.folder("/boot/env").file("/boot/board.dtb", &parts.device_tree, 0o644);
    let lab_board = "console=ttyS0\nboot_mount='boot vfat /boot/env'\nwatchdog_module=sunxi_wdt\n\
                     part_boot=/dev/mmcblk0p1\npart_data=/dev/mmcblk0p4\n";
    BoardFiles {
        initrd_modules: vec![
            "sunxi_mmc",
            "crc32c_generic",
            "ext4",
            "vfat",
            "nls_cp437",
            "nls_ascii",
            "dwmac_sun8i",
        ],
        watchdog_module: Some("sunxi_wdt"),
        lab_board: lab_board.to_owned(),
        board_toml: BOARD_TOML.to_owned(),
        extra,
        kernel_path: "/boot/zImage",
        pack_kernel: false,
    }
}

/// The environment that a board is made with, but for the variables that say what is booted.
fn default_environment() -> Result<Vars> {
    let mut vars = Vars::new();
    uboot::variables(ENVIRONMENT, &[("PAUSE_S", &PAUSE_S.to_string())], &mut vars)?;
    Ok(vars)
}

/// A card with SPL, U-Boot, boot script and environment, A good, and nothing in slots and data.
fn blank(parts: &ArmhfParts, folder: &Path) -> Result<Disk> {
    let vars = default_environment()?.with(&Mainstay.fresh());
    let environment = FORMAT.blank(&vars, &[]).doing(|| "U-Boot's environment")?;
    let environment = environment.first().doing(|| "U-Boot's environment")?;
    let script = uboot::boot_script("arm", folder)?;
    let boot = folder.join("boot.fat");
    fat::make(&boot, BOOT_BYTES, "BOOT", &[("/boot.scr", &script), (ENVIRONMENT_FILE, environment)])?;
    let path = folder.join("blank.img");
    let file = File::create(&path).doing(|| path.display().to_string())?;
    file.set_len(CARD_BYTES).doing(|| path.display().to_string())?;
    let disk = Disk::with(&path, partitions());
    disk.write_raw(0, &dos_label(disk.partitions()))?;
    let loader = std::fs::read(&parts.uboot).doing(|| parts.uboot.display().to_string())?;
    disk.write_raw(SPL_AT, &loader)?;
    disk.flash("boot", &boot)?;
    Ok(disk)
}

fn partitions() -> Vec<Partition> {
    let data = CARD_BYTES - FIRST_PARTITION - BOOT_BYTES - 2 * SLOT_BYTES;
    let sizes = [("boot", BOOT_BYTES), ("rootfs-a", SLOT_BYTES), ("rootfs-b", SLOT_BYTES), ("data", data)];
    let mut start = FIRST_PARTITION;
    let mut number = 0;
    let next = |(name, bytes): (&str, u64)| {
        number += 1;
        start += bytes;
        Partition { name: name.to_owned(), number, start: start - bytes, bytes }
    };
    sizes.into_iter().map(next).collect()
}

/// The first sector: a name of the disk at 0x1b8, four entries from 0x1be on, 16 bytes each, and a signature.
///
/// ```text
/// 0       0x80: what is booted from      4       type: 0x0c FAT, 0x83 Linux
/// 1..4    CHS, which nobody reads        8..12   first sector      12..16  sectors
/// ```
fn dos_label(partitions: &[Partition]) -> Vec<u8> {
    let mut sector = vec![0; 0x1b8];
    sector.extend(DISK_NAME.to_le_bytes());
    sector.extend([0, 0]);
    for partition in partitions {
        let (boots, kind) = if partition.name == "boot" { (0x80, 0x0c) } else { (0, 0x83) };
        sector.extend([boots, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
        // A card of 128 MiB has 2^18 sectors.
        sector.extend(((partition.start / SECTOR) as u32).to_le_bytes());
        sector.extend(((partition.bytes / SECTOR) as u32).to_le_bytes());
    }
    sector.extend([0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::boot::Group;

    #[test]
    fn the_label_fills_one_sector_and_the_partitions_fill_the_card() {
        let partitions = partitions();
        let label = dos_label(&partitions);
        assert_eq!((label.len() as u64, &label[510..]), (SECTOR, &[0x55, 0xaa][..]));
        assert_eq!(label[0x1be..0x1c6], [0x80, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff]);
        assert_eq!(label[0x1c6..0x1ca], 4096_u32.to_le_bytes());
        let last = partitions.last().unwrap();
        assert_eq!(last.start + last.bytes, CARD_BYTES);
        let fits = |pair: &[Partition]| pair[0].start + pair[0].bytes == pair[1].start;
        assert!(partitions.windows(2).all(fits));
    }

    #[test]
    fn the_factory_s_environment_fits_and_says_that_a_is_good() {
        let vars = default_environment().unwrap();
        assert!(Mainstay.is_fresh(&vars));
        let vars = vars.with(&Mainstay.fresh());
        assert_eq!(Mainstay.state(&vars).unwrap().select(), Some(Group::A));
        FORMAT.blank(&vars, &[]).unwrap();
        assert_eq!(vars.text("mainstay_pause_s"), Some(PAUSE_S.to_string()));
    }
}
