//! The arm64 gateway: U-Boot out of a flash, one card with all the rest, QEMU's i6300ESB.
//!
//! ```text
//!   1  env        1 MiB   U-Boot's environment: 16 KiB at 1 MiB of the card and, where it has two copies, at 1 MiB + 64 KiB
//!   2  boot      16 MiB   FAT16: boot.scr (our script), default.env (for a lost environment)
//!   3  rootfs-a           ext4, read-only, with the kernel
//!   4  rootfs-b
//!   5  data               ext4 with a journal: configuration and state of the agent
//! ```
//! Environment, slots and state are on one medium on purpose: so one record of its writes has them all in their order.
//!
//! # What the emulated card costs
//! QEMU hands its data over byte by byte: reading costs 0.15 to 0.2 s of CPU per MiB, writing the same, in U-Boot and in Linux.
//! (From a virtio disk U-Boot loads 44 MB within a second.) So the kernel is packed with gzip, 14 MB instead of 44, which `booti`
//! unpacks in 0.6 s; packed with zstd it would be 12 MB, but `booti` of 2023.01 did not start it.

use super::uboot::{self, EnvironmentPlace};
use super::{Board, Pace};
use crate::disk::{Disk, Kind, MIB, Plan, Tree, fat};
use crate::guest::{BoardFiles, Images, Ingredients};
use crate::machine::{Log, Machine, NETDEV, Setup};
use crate::provision::{Arch, Parts, UbootVariant};
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::{Bootcount, Convention, Mainstay};
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::BootState;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many copies of its environment U-Boot was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Written in turns.
    Two,
    /// Overwritten where it stands.
    One,
}

/// Who counts the boots of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Our boot script.
    Script,
    /// U-Boot itself: `bootcount`, `altbootcmd`.
    Uboot,
}

/// What the board is made of.
#[derive(Clone, Debug)]
pub struct Arm64Parts {
    /// `qemu-system-aarch64`.
    pub qemu: PathBuf,
    /// Kernel, modules, busybox and agent.
    pub guest: Ingredients,
    /// `u-boot.bin`, built with that many copies.
    pub uboot: PathBuf,
    /// How many.
    pub copies: Copies,
    /// Who counts.
    pub counts: Counts,
}

impl Arm64Parts {
    /// Out of what the laboratory found, with this device binary.
    pub fn of(parts: &Parts, agent: &Path, copies: Copies, counts: Counts) -> Result<Arm64Parts> {
        let kernel = parts.kernel(Arch::Arm64)?;
        let guest = Ingredients {
            kernel: kernel.image,
            modules: kernel.modules,
            busybox: parts.busybox(Arch::Arm64)?,
            agent: agent.to_owned(),
        };
        let variant = match copies {
            Copies::Two => UbootVariant::Redundant,
            Copies::One => UbootVariant::Single,
        };
        let uboot = parts.uboot(variant)?.to_owned();
        Ok(Arm64Parts {
            qemu: parts.program("qemu-system-aarch64")?.to_owned(),
            guest,
            uboot,
            copies,
            counts,
        })
    }
}

/// The board, and the folder with its card.
pub struct Arm64 {
    parts: Arm64Parts,
    folder: PathBuf,
    images: Images,
    /// What each factory begins with: all but the slots and the data.
    blank: Disk,
    disk: Disk,
}

const BOARD_TOML: &str = include_str!("../../boards/arm64-board.toml");
const ENVIRONMENT: &str = include_str!("../../boards/arm64.env");
const BY_SCRIPT: &str = include_str!("../../boards/arm64-script.env");
const BY_BOOTCOUNT: &str = include_str!("../../boards/arm64-bootcount.env");
/// The convention's own lines, of which [`BY_BOOTCOUNT`] changes some.
const BOOTCOUNT: &str = include_str!("../../../../bootloader-glue/scripts/mainstay-bootcount.env");

/// The size of an image: kernel 14 MB, busybox and the agent 4 MB, initrd 2 MB, and a little room.
const SLOT_BYTES: u64 = 24 * MIB;
const BOOT_BYTES: u64 = 16 * MIB;
/// What makes the card's size a power of two, 128 MiB with a MiB before and one behind the partitions: QEMU takes no other.
const DATA_BYTES: u64 = 126 * MIB - MIB - BOOT_BYTES - 2 * SLOT_BYTES;
/// CONFIG_ENV_SIZE, and where in its partition the second copy begins.
const COPY_BYTES: usize = 0x4000;
const SECOND_COPY: u64 = 0x10000;
/// QEMU's flash, of which U-Boot fills the beginning.
const FLASH_BYTES: u64 = 64 * MIB;
/// The watchdog that U-Boot arms has to leave the kernel and user space the time until the driver is loaded: 4 s of CPU were
/// measured, which took 41 s on two cores with a load of 22, and this is 60 s. In ticks of 1 ms, for each of its two stages.
const STAGE_TICKS: u32 = 30_000;
/// How long the boot script waits for somebody when nothing is left to boot.
const PAUSE_S: u64 = 30;

impl Arm64 {
    /// Makes images' base and an empty card in `folder`, which it creates.
    pub fn create(parts: Arm64Parts, folder: &Path) -> Result<Arm64> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let images = Images::create(&folder.join("images"), &parts.guest, &board_files(&parts), SLOT_BYTES)?;
        let blank = blank(&parts, folder)?;
        let disk = blank.copy_to(&folder.join("disk.img"))?;
        let flash = folder.join("flash.img");
        std::fs::copy(&parts.uboot, &flash).doing(|| parts.uboot.display().to_string())?;
        let file = std::fs::OpenOptions::new().write(true).open(&flash);
        file.and_then(|file| file.set_len(FLASH_BYTES)).doing(|| flash.display().to_string())?;
        Ok(Arm64 { parts, folder: folder.to_owned(), images, blank, disk })
    }

    /// Where the environment stands.
    pub fn environment_place(&self) -> EnvironmentPlace {
        place(self.parts.copies)
    }

    /// How its variables are read.
    pub fn convention(&self) -> &'static dyn Convention {
        convention(self.parts.counts)
    }

    /// QEMU's arguments but for the card, which has to be a block device or drive called `disk0`: for who puts something in
    /// between, as `blklogwrites`.
    pub fn arguments_without_disk(&self) -> Vec<String> {
        let flash = self.folder.join("flash.img");
        // Slots are pinned: boards/arm64.env finds the watchdog by its own.
        [
            ("-M", "virt".to_owned()),
            ("-cpu", CPU.to_owned()),
            ("-m", "256".to_owned()),
            ("-drive", format!("if=pflash,format=raw,readonly=on,file={}", flash.display())),
            ("-device", "sdhci-pci,addr=2".to_owned()),
            ("-device", "sd-card,drive=disk0".to_owned()),
            ("-netdev", format!("user,id={NETDEV}")),
            ("-device", format!("virtio-net-pci,addr=3,netdev={NETDEV},romfile=")),
            ("-device", "i6300esb,addr=4".to_owned()),
            ("-device", "virtio-rng-pci,addr=5".to_owned()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
    }
}

/// An instruction set with SHA-256.
const CPU: &str = "cortex-a57";

impl Board for Arm64 {
    fn name(&self) -> &'static str {
        match (self.parts.counts, self.parts.copies) {
            (Counts::Script, Copies::Two) => "arm64-uboot",
            (Counts::Script, Copies::One) => "arm64-uboot-single",
            (Counts::Uboot, Copies::Two) => "arm64-bootcount",
            (Counts::Uboot, Copies::One) => "arm64-bootcount-single",
        }
    }

    fn compatible(&self) -> &'static str {
        "lab-arm64-gateway"
    }

    fn images(&self) -> &Images {
        &self.images
    }

    fn pace(&self) -> Pace {
        Pace {
            boot: Duration::from_secs(10),
            watchdog: Duration::from_millis(2 * u64::from(STAGE_TICKS)),
            install: Duration::from_secs(30),
            pause: Duration::from_secs(PAUSE_S),
        }
    }

    fn factory(&mut self, image: &Path, data: &Tree) -> Result<()> {
        super::factory(&self.blank, &self.disk, &self.folder, image, data)
    }

    fn setup(&self) -> Setup {
        let mut arguments = self.arguments_without_disk();
        // Not aio=io_uring, which takes a fifth less CPU: of reads that QEMU finishes later (Linux asks for such) one in twelve boots
        // under load never ended.
        let drive = format!("if=none,id=disk0,format=raw,file={}", self.disk.path().display());
        arguments.extend(["-drive".to_owned(), drive]);
        Setup { program: self.parts.qemu.clone(), arguments, snapshot: None }
    }

    fn variables(&self) -> Result<Vars> {
        self.environment_place().read(&self.disk)
    }

    fn environment(&self) -> Result<BootState> {
        self.convention().state(&self.variables()?).doing(|| "the boot variables")
    }

    fn disk(&self) -> &Disk {
        &self.disk
    }

    fn repair(&self, machine: &mut Machine, log: &Log) -> Result<()> {
        let line = match self.parts.counts {
            Counts::Script => uboot::REPAIR.to_owned(),
            Counts::Uboot => repair_of_bootcount(&self.variables()?),
        };
        uboot::type_after_pause(machine, log, &line)
    }
}

/// The group beside the one that is booted, and has turned out not to be bootable, if it may be booted; on trial again.
fn repair_of_bootcount(vars: &Vars) -> String {
    let group = match vars.text("mainstay_group").as_deref() {
        Some("A") => "B",
        _ => "A",
    };
    format!("setenv mainstay_group {group}; setenv upgrade_available 1; setenv bootcount 0; saveenv; reset")
}

fn convention(counts: Counts) -> &'static dyn Convention {
    match counts {
        Counts::Script => &Mainstay,
        Counts::Uboot => &Bootcount,
    }
}

fn place(copies: Copies) -> EnvironmentPlace {
    let (format, offsets) = match copies {
        Copies::Two => {
            (Format::UbootRedundant { bytes: COPY_BYTES, scheme: Scheme::Incremental }, vec![0, SECOND_COPY])
        }
        Copies::One => (Format::UbootSingle { bytes: COPY_BYTES }, vec![0]),
    };
    EnvironmentPlace { format, partition: "env", offsets }
}

/// What the guest has to know of the board.
fn board_files(parts: &Arm64Parts) -> BoardFiles {
    let second = "    { path = \"/dev/mmcblk0\", offset = 0x110000, size = 0x4000 },\n";
    let board_toml = match parts.copies {
        Copies::Two => BOARD_TOML.to_owned(),
        Copies::One => BOARD_TOML.replace(second, ""),
    };
    BoardFiles {
        initrd_modules: vec!["sdhci_pci", "crc32c_generic", "ext4", "virtio_net", "virtio_rng"],
        watchdog_module: Some("i6300esb"),
        lab_board: "console=ttyAMA0\nwatchdog_module=i6300esb\n".to_owned(),
        board_toml: board_toml.replace("@CONVENTION@", convention(parts.counts).name()),
        extra: Tree::new(),
        kernel_path: "/boot/Image",
        pack_kernel: true,
    }
}

/// The environment that a board is made with, but for the variables that say what is booted.
fn default_environment(counts: Counts) -> Result<Vars> {
    let (ticks, total, pause) =
        (format!("{STAGE_TICKS:x}"), (2 * STAGE_TICKS / 1000).to_string(), PAUSE_S.to_string());
    let filled = [("STAGE_TICKS", ticks.as_str()), ("TOTAL_S", total.as_str()), ("PAUSE_S", pause.as_str())];
    let mut vars = Vars::new();
    let texts: &[&str] = match counts {
        Counts::Script => &[ENVIRONMENT, BY_SCRIPT],
        Counts::Uboot => &[BOOTCOUNT, ENVIRONMENT, BY_BOOTCOUNT],
    };
    for text in texts {
        uboot::variables(text, &filled, &mut vars)?;
    }
    Ok(vars)
}

/// A card with boot script and environment, A good, and nothing in slots and data.
fn blank(parts: &Arm64Parts, folder: &Path) -> Result<Disk> {
    let defaults = default_environment(parts.counts)?;
    let (script, text) = (uboot::boot_script("arm64", folder)?, uboot::as_text(&defaults));
    let mut files: Vec<(&str, &[u8])> = vec![("/default.env", &text)];
    if parts.counts == Counts::Script {
        files.push(("/boot.scr", &script));
    }
    let boot = folder.join("boot.fat");
    fat::make(&boot, BOOT_BYTES, "BOOT", &files)?;
    let linux = |name, bytes, content| Plan { name, kind: Kind::Linux, bytes, content };
    let plans = [
        linux("env", MIB, None),
        linux("boot", BOOT_BYTES, Some(&boot)),
        linux("rootfs-a", SLOT_BYTES, None),
        linux("rootfs-b", SLOT_BYTES, None),
        linux("data", DATA_BYTES, None),
    ];
    let disk = Disk::create(&folder.join("blank.img"), &plans)?;
    let vars = defaults.with(&convention(parts.counts).fresh());
    place(parts.copies).write(&disk, &vars)?;
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::boot::Group;

    #[test]
    fn the_factory_s_environment_fits_and_says_that_a_is_good() {
        for counts in [Counts::Script, Counts::Uboot] {
            let vars = default_environment(counts).unwrap();
            assert!(convention(counts).is_fresh(&vars), "a lost environment has to look like one");
            let vars = vars.with(&convention(counts).fresh());
            let state = convention(counts).state(&vars).unwrap();
            assert_eq!((state.select(), state.b.bootable()), (Some(Group::A), false));
            place(Copies::Two).format.blank(&vars, &[]).unwrap();
            for name in ["bootcmd", "mainstay_args", "mainstay_watchdog", "mainstay_pause_s", "kernel_addr_r"]
            {
                let text = vars.text(name).unwrap();
                assert!(!text.contains('@'), "{name}={text}");
            }
        }
    }

    #[test]
    fn the_card_s_size_is_a_power_of_two() {
        assert!((2 * MIB + MIB + BOOT_BYTES + 2 * SLOT_BYTES + DATA_BYTES).is_power_of_two());
    }
}
