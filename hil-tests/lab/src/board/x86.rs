//! The x86_64 gateway: GRUB 2 with our script, one disk that boots under SeaBIOS and under OVMF, QEMU's i6300ESB.
//!
//! ```text
//!   1  bios       1 MiB   GRUB's core.img, for a BIOS
//!   2  esp       16 MiB   FAT16: EFI/BOOT/BOOTX64.EFI; grub/: mainstay-grub.cfg as grub.cfg, mainstay-board.cfg, grubenv
//!   3  rootfs-a           ext4, read-only
//!   4  rootfs-b
//!   5  data      16 MiB   ext4 with a journal: configuration and state of the agent
//!   6  boot       8 MiB   only where the environment is to stand on ext4: grub/ is here then, and not on the ESP
//! ```

use super::grub::{self, Platform};
use super::{Board, Pace};
use crate::disk::ext4::{self, Use};
use crate::disk::{Disk, Kind, MIB, Node, Plan, Tree, fat};
use crate::guest::{BoardFiles, Images, Ingredients, SLOT_BYTES};
use crate::machine::{Log, Machine, NETDEV, Setup};
use crate::provision::{Arch, GrubPlatform, Parts};
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::BootState;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the machine runs before GRUB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which QEMU brings.
    Bios,
    /// OVMF: its code, and what its variables begin as.
    Uefi {
        /// `OVMF_CODE_4M.fd`.
        code: PathBuf,
        /// `OVMF_VARS_4M.fd`.
        vars: PathBuf,
    },
}

/// Which file system GRUB's environment block stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentOn {
    /// The ESP.
    Fat,
    /// A partition of its own.
    Ext4,
}

/// What the board is made of.
#[derive(Clone, Debug)]
pub struct X86Parts {
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// Kernel, modules, busybox and agent.
    pub guest: Ingredients,
    /// `…/grub/i386-pc`, with `boot.img`.
    pub grub_pc: PathBuf,
    /// `…/grub/x86_64-efi`.
    pub grub_efi: PathBuf,
    /// What runs before GRUB.
    pub firmware: Firmware,
    /// Where GRUB's environment stands.
    pub environment: EnvironmentOn,
}

impl X86Parts {
    /// Out of what the laboratory found, with this device binary.
    pub fn of(parts: &Parts, agent: &Path, uefi: bool, environment: EnvironmentOn) -> Result<X86Parts> {
        let kernel = parts.kernel(Arch::Amd64)?;
        let firmware = if uefi {
            let ovmf = parts.ovmf()?;
            Firmware::Uefi { code: ovmf.code, vars: ovmf.vars }
        } else {
            Firmware::Bios
        };
        let guest = Ingredients {
            kernel: kernel.image,
            modules: kernel.modules,
            busybox: parts.busybox(Arch::Amd64)?,
            agent: agent.to_owned(),
        };
        Ok(X86Parts {
            qemu: parts.program("qemu-system-x86_64")?.to_owned(),
            guest,
            grub_pc: parts.grub_modules(GrubPlatform::Pc)?,
            grub_efi: parts.grub_modules(GrubPlatform::Efi)?,
            firmware,
            environment,
        })
    }
}

/// The board, and the folder with its disks.
pub struct X86 {
    parts: X86Parts,
    folder: PathBuf,
    images: Images,
    /// How much longer than its CPU time things take on this computer: 1 where it is idle.
    slowness: f64,
    /// What each factory begins with: all but the slots and the data.
    blank: Disk,
    disk: Disk,
}

/// GRUB's script for our convention, unchanged.
const SCRIPT: &str = include_str!("../../../../bootloader-glue/scripts/mainstay-grub.cfg");
const BOARD_SCRIPT: &str = include_str!("../../boards/x86-grub-board.cfg");
const BOARD_TOML: &str = include_str!("../../boards/x86-board.toml");
const ESP_BYTES: u64 = 16 * MIB;
const DATA_BYTES: u64 = 16 * MIB;
const BOOT_BYTES: u64 = 8 * MIB;
/// What GRUB searches for its files by; no other file system on the disk is called so.
const LABEL: &str = "MAINSTAY";
/// From the jump to the driver's loading a boot takes 6.5 s of CPU (measured). The watchdog that GRUB arms leaves it six times
/// as much, in seconds of the wall clock; on a busy computer as many times more as there are jobs for each of its cores:
/// 7 s of CPU took 59 s on two cores with a load of 14.
const PREARM_S: f64 = 40.0;
/// The least, in seconds. (The timer counts to 1048 s.)
const PREARM_S_MIN: f64 = 60.0;
/// Nobody waits for longer than that.
const SLOWNESS_MAX: f64 = 7.5;
/// How long GRUB waits for somebody when nothing is left to boot, in seconds: long enough for a hand at the console of a
/// machine on a busy computer.
const PAUSE_S: u32 = 60;
/// GRUB's environment block begins with it.
const ENVIRONMENT_MAGIC: &[u8] = b"# GRUB Environment Block\n";
const ENVIRONMENT_BYTES: usize = 1024;

impl X86 {
    /// Makes images' base and an empty disk in `folder`, which it creates.
    pub fn create(parts: X86Parts, folder: &Path) -> Result<X86> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let files = board_files(parts.environment);
        let images = Images::create(&folder.join("images"), &parts.guest, &files, SLOT_BYTES)?;
        let slowness = load().clamp(1.0, SLOWNESS_MAX);
        let blank = blank(&parts, prearm_s(slowness), folder)?;
        let disk = blank.copy_to(&folder.join("disk.img"))?;
        Ok(X86 { parts, folder: folder.to_owned(), images, slowness, blank, disk })
    }

    /// Where GRUB's environment block stands: the partition, and the offset in it in bytes.
    pub fn environment_at(&self) -> Result<(&'static str, u64)> {
        let partition = match self.parts.environment {
            EnvironmentOn::Fat => "esp",
            EnvironmentOn::Ext4 => "boot",
        };
        let at = self.disk.find(partition, ENVIRONMENT_MAGIC)?;
        Ok((partition, at.doing(|| format!("{partition}: no GRUB environment block"))?))
    }

    /// QEMU's arguments but for the disk, which has to be a block device or drive called `disk0`: for who puts something in
    /// between, as `blklogwrites`.
    pub fn arguments_without_disk(&self) -> Vec<String> {
        // Memory: Linux comes up in 128 MiB under a BIOS; OVMF needs 256, or GRUB finds no room for the kernel.
        let memory = if self.parts.firmware == Firmware::Bios { "128" } else { "256" };
        let netdev = format!("user,id={NETDEV}");
        let nic = format!("virtio-net-pci,netdev={NETDEV},romfile=");
        let mut arguments = vec![
            "-M",
            "q35",
            "-cpu",
            CPU,
            "-m",
            memory,
            "-device",
            "virtio-rng-pci",
            "-device",
            "i6300esb",
            "-netdev",
            &netdev,
            "-device",
            &nic,
            "-device",
            "virtio-blk-pci,drive=disk0,bootindex=1",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        if let Firmware::Uefi { code, .. } = &self.parts.firmware {
            let pflash =
                |path: &Path, more: &str| format!("if=pflash,format=raw,file={}{more}", path.display());
            arguments.extend(["-drive".to_owned(), pflash(code, ",readonly=on")]);
            arguments.extend(["-drive".to_owned(), pflash(&self.uefi_variables(), "")]);
        }
        arguments
    }

    fn uefi_variables(&self) -> PathBuf {
        self.folder.join("uefi-variables.fd")
    }
}

/// All of the instruction set that TCG knows: with SHA-NI a hash costs a fifth.
const CPU: &str = "max";

impl Board for X86 {
    fn name(&self) -> &'static str {
        match (&self.parts.firmware, self.parts.environment) {
            (Firmware::Bios, EnvironmentOn::Fat) => "x86-bios",
            (Firmware::Bios, EnvironmentOn::Ext4) => "x86-bios-ext4",
            (Firmware::Uefi { .. }, EnvironmentOn::Fat) => "x86-uefi",
            (Firmware::Uefi { .. }, EnvironmentOn::Ext4) => "x86-uefi-ext4",
        }
    }

    fn compatible(&self) -> &'static str {
        "lab-x86-gateway"
    }

    fn images(&self) -> &Images {
        &self.images
    }

    fn pace(&self) -> Pace {
        // Measured, in seconds of CPU: power to the first message 8 under a BIOS and 10 under UEFI; install 1.2.
        let boot = if self.parts.firmware == Firmware::Bios { 10.0 } else { 14.0 };
        Pace {
            boot: Duration::from_secs_f64(boot * self.slowness),
            watchdog: Duration::from_secs(prearm_s(self.slowness).into()),
            install: Duration::from_secs_f64(5.0 * self.slowness),
            pause: Duration::from_secs(PAUSE_S.into()),
        }
    }

    fn factory(&mut self, image: &Path, data: &Tree) -> Result<()> {
        super::factory(&self.blank, &self.disk, &self.folder, image, data)?;
        if let Firmware::Uefi { vars, .. } = &self.parts.firmware {
            std::fs::copy(vars, self.uefi_variables()).doing(|| vars.display().to_string())?;
        }
        Ok(())
    }

    fn setup(&self) -> Setup {
        let mut arguments = self.arguments_without_disk();
        let drive = format!("if=none,id=disk0,format=raw,file={}", self.disk.path().display());
        arguments.extend(["-drive".to_owned(), drive]);
        Setup { program: self.parts.qemu.clone(), arguments, snapshot: None }
    }

    fn variables(&self) -> Result<Vars> {
        let (partition, at) = self.environment_at()?;
        let mut block = vec![0; ENVIRONMENT_BYTES];
        self.disk.read(partition, at, &mut block)?;
        Ok(Format::Grub.parse(&[block]).doing(|| "GRUB's environment block")?.vars().clone())
    }

    fn environment(&self) -> Result<BootState> {
        Mainstay.state(&self.variables()?).doing(|| "the boot variables")
    }

    fn disk(&self) -> &Disk {
        &self.disk
    }

    fn repair(&self, machine: &mut Machine, log: &Log) -> Result<()> {
        let mark = log.mark();
        machine.type_in(ESCAPE)?;
        machine.wait(mark, KEY_TAKEN, "GRUB's menu", |view| view.line_with(LAST_ENTRY))?;
        // GRUB's menu knows Emacs' keys: the arrows of a terminal are several characters each.
        machine.type_in(&NEXT.repeat(LAST_ENTRY_BELOW))?;
        machine.type_in("\r")?;
        machine.wait(mark, KEY_TAKEN, "the reset by GRUB's menu", |view| view.event("RESET")).map(drop)
    }
}

/// Interrupts GRUB's `sleep --interruptible`.
const ESCAPE: &str = "\x1b";
/// The entry of mainstay-grub.cfg that gives the groups their tries again, and how far it is below the first.
const LAST_ENTRY: &str = "Three tries for the groups";
const LAST_ENTRY_BELOW: usize = 4;
/// Control-N: one entry down.
const NEXT: &str = "\x0e";
/// GRUB draws its menu within 0.1 s of CPU; the machine's computer may be busy.
const KEY_TAKEN: Duration = Duration::from_secs(30);

/// What the guest has to know of the board.
fn board_files(environment: EnvironmentOn) -> BoardFiles {
    let (partition, kind, folder) = match environment {
        EnvironmentOn::Fat => ("esp", "vfat", "/boot/efi"),
        EnvironmentOn::Ext4 => ("boot", "ext4", "/boot/grub-files"),
    };
    let mut extra = Tree::new();
    extra.folder(folder);
    BoardFiles {
        initrd_modules: vec!["virtio_blk", "virtio_net", "virtio_rng", "vfat", "nls_cp437", "nls_ascii"],
        watchdog_module: Some("i6300esb"),
        lab_board: format!(
            "console=ttyS0\nboot_mount='{partition} {kind} {folder}'\nwatchdog_module=i6300esb\n"
        ),
        board_toml: BOARD_TOML.replace("/boot/efi", folder),
        extra,
        kernel_path: "/boot/vmlinuz",
        pack_kernel: false,
    }
}

/// How many jobs there are for each core of this computer: its load average over the last minute (proc_loadavg(5)).
fn load() -> f64 {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let jobs: f64 = average.split(' ').next().and_then(|jobs| jobs.parse().ok()).unwrap_or_default();
    jobs / std::thread::available_parallelism().map_or(1, usize::from) as f64
}

fn prearm_s(slowness: f64) -> u32 {
    (PREARM_S * slowness).max(PREARM_S_MIN) as u32
}

/// A disk with GRUB, a fresh environment, and nothing in slots and data.
fn blank(parts: &X86Parts, prearm_s: u32, folder: &Path) -> Result<Disk> {
    let core = grub::image(Platform::Bios, &parts.grub_pc, LABEL)?;
    let efi = grub::image(Platform::Uefi, &parts.grub_efi, LABEL)?;
    let ticks = prearm_s * 1000 / 2; // for each of the timer's two stages
    let board = BOARD_SCRIPT.replace("@STAGE@", &ticks.to_string());
    let board = board.replace("@PAUSE_S@", &PAUSE_S.to_string());
    let board = board.replace("@TOTAL_S@", &prearm_s.to_string());
    let environment = Format::Grub.blank(&Vars::default(), &[]).doing(|| "a GRUB environment block")?;
    let environment = environment.first().doing(|| "a GRUB environment block")?;
    let grub: [(&str, &[u8]); 3] = [
        ("/grub/grub.cfg", SCRIPT.as_bytes()),
        ("/grub/mainstay-board.cfg", board.as_bytes()),
        ("/grub/grubenv", environment),
    ];
    let (esp, boot) = (folder.join("esp.fat"), folder.join("boot.ext4"));
    let loader: (&str, &[u8]) = ("/EFI/BOOT/BOOTX64.EFI", &efi);
    let linux = |name, bytes, content| Plan { name, kind: Kind::Linux, bytes, content };
    let mut plans = vec![
        Plan { name: "bios", kind: Kind::BiosBoot, bytes: MIB, content: None },
        Plan { name: "esp", kind: Kind::Esp, bytes: ESP_BYTES, content: Some(&esp) },
        linux("rootfs-a", SLOT_BYTES, None),
        linux("rootfs-b", SLOT_BYTES, None),
        linux("data", DATA_BYTES, None),
    ];
    match parts.environment {
        EnvironmentOn::Fat => {
            let files: Vec<(&str, &[u8])> = grub.into_iter().chain([loader]).collect();
            fat::make(&esp, ESP_BYTES, LABEL, &files)?;
        }
        EnvironmentOn::Ext4 => {
            fat::make(&esp, ESP_BYTES, "ESP", &[loader])?;
            let mut tree = Tree::new();
            for (path, content) in grub {
                tree.add(path, Node::Bytes(content.to_vec(), 0o644));
            }
            ext4::make(&boot, BOOT_BYTES, LABEL, Use::Data, &tree)?;
            plans.push(linux("boot", BOOT_BYTES, Some(&boot)));
        }
    }
    let disk = Disk::create(&folder.join("blank.img"), &plans)?;
    let boot_image = parts.grub_pc.join("boot.img");
    let boot_image = std::fs::read(&boot_image).doing(|| boot_image.display().to_string())?;
    grub::install_bios(&disk, "bios", &boot_image, core)?;
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_that_grub_arms_is_more_patient_on_a_busy_computer() {
        for (slowness, seconds) in [(1.0, 60), (2.0, 80), (SLOWNESS_MAX, 300)] {
            assert_eq!(prearm_s(slowness), seconds);
        }
    }
}
