//! GRUB 2 on a disk without grub-install: made by grub-mkimage, and for a BIOS put where it looks for itself.
//!
//! ```text
//! sector 0            boot.img   loads one sector, from where the word at 0x5c says
//! the BIOS partition  core.img   its first sector (diskboot.img) loads the rest by a list of blocks at its own end
//! ESP                 EFI/BOOT/BOOTX64.EFI
//! ```
//! The offsets are GRUB's (include/grub/i386/pc/boot.h: GRUB_BOOT_MACHINE_KERNEL_SECTOR 0x5c, …_BOOT_DRIVE 0x64,
//! …_DRIVE_CHECK 0x66, …_LIST_SIZE 12); what grub-bios-setup writes there is written here.

use crate::disk::{Disk, SECTOR};
use crate::run::{output, tool};
use crate::{Doing, Result, Trouble};
use std::path::Path;

/// What our scripts need, the disk's table and file systems, and what arms the watchdog.
#[rustfmt::skip]
const MODULES: [&str; 31] = [
    "part_gpt", "fat", "ext2", "normal", "configfile", "search", "search_label", "loadenv", "test", "echo", "linux", "serial",
    "terminal", "terminfo", "reboot", "halt", "sleep", "probe", "regexp", "setpci", "memrw", "ls", "cat", "true", "eval",
    "help", "minicmd", "boot", "lspci", "read", "date",
];

/// Which GRUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// BIOS: `i386-pc`.
    Bios,
    /// UEFI: `x86_64-efi`.
    Uefi,
}

/// Makes the image that the firmware loads. `modules`: the folder `…/i386-pc` or `…/x86_64-efi`; `label`: of the file system
/// with `/grub/grub.cfg`.
pub fn image(platform: Platform, modules: &Path, label: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().doing(|| "a folder for GRUB")?;
    let (config, out) = (folder.path().join("embedded.cfg"), folder.path().join("image"));
    let text = format!(
        "search --no-floppy --label --set=root {label}\nset prefix=($root)/grub\nconfigfile $prefix/grub.cfg\n"
    );
    std::fs::write(&config, text).doing(|| config.display().to_string())?;
    let mut mkimage = tool("grub-mkimage");
    let (format, first) = match platform {
        Platform::Bios => ("i386-pc", Some("biosdisk")),
        Platform::Uefi => ("x86_64-efi", None),
    };
    mkimage.args(["-O", format, "-p", "/grub", "-d"]).arg(modules).arg("-c").arg(&config).arg("-o").arg(&out);
    output(mkimage.args(first).args(MODULES))?;
    std::fs::read(&out).doing(|| out.display().to_string())
}

/// Puts GRUB where a BIOS finds it: `boot` is `boot.img`, `core` the image, `partition` the BIOS boot partition.
pub fn install_bios(disk: &Disk, partition: &str, boot: &[u8], mut core: Vec<u8>) -> Result<()> {
    let place = disk.partition(partition)?;
    core.resize(core.len().next_multiple_of(SECTOR as usize), 0);
    let sectors = (core.len() as u64 / SECTOR) as u16;
    if core.len() as u64 > place.bytes || boot.len() < SECTOR as usize {
        return Err(Trouble::new(format!("GRUB: {} bytes do not fit into {partition}", core.len())));
    }
    let first = place.start / SECTOR;
    let mut sector = boot.get(..BOOT_CODE_BYTES).unwrap_or_default().to_vec();
    put(&mut sector, 0x5c, &first.to_le_bytes())?; // where core.img begins
    put(&mut sector, 0x64, &[0xff])?; // the drive that the BIOS says
    put(&mut sector, 0x66, &[0x90, 0x90])?; // and it is believed: two no-ops for the check
    // The list's only entry: sector, number of sectors, and the segment that they are loaded to.
    let mut list = (first + 1).to_le_bytes().to_vec();
    list.extend_from_slice(&(sectors - 1).to_le_bytes());
    list.extend_from_slice(&0x820_u16.to_le_bytes());
    put(&mut core, SECTOR as usize - list.len(), &list)?;
    disk.write_raw(0, &sector)?;
    disk.write_raw(SECTOR - 2, &[0x55, 0xaa])?;
    disk.write(partition, 0, &core)
}

/// Before the disk's signature and the partition table of the protective MBR.
const BOOT_CODE_BYTES: usize = 0x1b8;

fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> Result<()> {
    let place =
        bytes.get_mut(at..at + what.len()).doing(|| format!("GRUB's image: too short for {at:#x}"))?;
    place.copy_from_slice(what);
    Ok(())
}
