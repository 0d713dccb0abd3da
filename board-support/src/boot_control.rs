//! From the board's data to boot control: bootloader-glue knows formats and conventions, the board knows the places.

use std::path::Path;

use mainstay_bootloader_glue::store::{Lock, Place, Places};
use mainstay_bootloader_glue::{EnvBootControl, Format, convention};
use mainstay_core::fault;
use mainstay_core::seam::Result;

use crate::board::{Board, Bootloader, Convention, EnvironmentSpec, GRUBENV_BYTES};

impl Board {
    /// Boot control over the bootloader's environment. Nothing is read yet.
    pub fn open_boot_control(&self) -> Result<EnvBootControl<Places>> {
        let format = self.environment_format();
        let places = self.boot.bootloader.environment().iter().map(place).collect::<Result<_>>()?;
        let store = Places::new(&format, places, Lock::new(&self.boot.lock_file))?;
        let convention = convention::by_name(self.boot.convention.name(), &format)?;
        Ok(EnvBootControl::new(store, format, convention))
    }

    /// How the environment is stored.
    pub fn environment_format(&self) -> Format {
        match &self.boot.bootloader {
            Bootloader::Grub(_) => Format::Grub,
            Bootloader::UBoot { copies, flags } => {
                let bytes = copies.first().map_or(0, |copy| copy.size) as usize; // at most 16 MiB
                match copies.len() {
                    2 => Format::UbootRedundant { bytes, scheme: *flags },
                    _ => Format::UbootSingle { bytes },
                }
            }
        }
    }
}

impl Convention {
    /// As the board file and bootloader-glue name it.
    pub const fn name(self) -> &'static str {
        match self {
            Convention::Mainstay => "mainstay",
            Convention::Rauc => "rauc",
            Convention::Bootcount => "bootcount",
        }
    }
}

fn place(copy: &EnvironmentSpec) -> Result<Place> {
    let bytes = usize::try_from(copy.size);
    let bytes = bytes.map_err(|_| fault!(Refused, "environment: {} bytes do not fit memory", copy.size))?;
    let place = Place::new(&copy.path, copy.offset, bytes);
    Ok(match force_ro(&copy.path) {
        Some(file) => place.with_force_ro(file),
        None => place,
    })
}

/// eMMC boot partitions (`mmcblk0boot0`) are write-protected by the kernel until this file says 0
/// (Documentation/driver-api/mmc/mmc-dev-parts.rst).
pub fn force_ro(path: &Path) -> Option<std::path::PathBuf> {
    let device = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = device.strip_prefix("/dev").ok()?.to_str()?;
    let (disk, boot) = name.strip_prefix("mmcblk")?.split_once("boot")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(disk) && digits(boot)).then(|| Path::new("/sys/class/block").join(name).join("force_ro"))
}

const _: () = assert!(GRUBENV_BYTES == 1024, "the GRUB format of bootloader-glue is 1024 bytes long");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_emmc_boot_partitions_have_a_write_protection_to_lift() {
        #[rustfmt::skip]
        let cases = [
            ("/dev/mmcblk0boot0",  Some("/sys/class/block/mmcblk0boot0/force_ro")),
            ("/dev/mmcblk12boot1", Some("/sys/class/block/mmcblk12boot1/force_ro")),
            ("/dev/mmcblk0",       None),
            ("/dev/mmcblk0p1",     None),
            ("/dev/mmcblkboot0",   None),
            ("/tmp/mmcblk0boot0",  None),
        ];
        for (path, file) in cases {
            assert_eq!(force_ro(Path::new(path)).as_deref(), file.map(Path::new), "{path}");
        }
    }
}
