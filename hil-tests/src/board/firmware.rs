//! The bootloader: bootloader-glue's model of our boot script, run over the bytes that stand on the disk.
//!
//! ```text
//! partition env    U-Boot   copy 0 at 0, copy 1 at 16 KiB
//!                  GRUB     the block at 0
//! ```

use super::rootfs;
use crate::disk::{Disk, UBOOT_ENV_BYTES};
use crate::image::{HEADER_BYTES, Header};
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::{Convention, Mainstay, Why};
use mainstay_bootloader_glue::model::{self, Boot};
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::{BootState, Group};

/// A bootloader and the disk that it boots from.
#[derive(Clone)]
pub struct Firmware {
    disk: Disk,
    format: Format,
}

impl Firmware {
    pub fn new(disk: Disk, format: Format) -> Firmware {
        Firmware { disk, format }
    }

    /// Writes the environment of a board that leaves the factory: A is good, B was never written, and a variable of
    /// the bootloader's own that nobody may lose.
    pub fn factory(&self) -> Result<()> {
        let mut vars = Vars::new().with(&Mainstay.fresh());
        vars.set("bootdelay", "2");
        let copies = self.format.blank(&vars, Mainstay.names()).doing(|| "a fresh environment")?;
        (0..).zip(copies).try_for_each(|(copy, bytes)| self.disk.write("env", at(copy), &bytes))
    }

    /// Would the boot script find nothing to boot, and wait?
    pub fn waits(&self) -> Result<bool> {
        Ok(matches!(self.script()?.group, None | Some((_, Why::LastResort))))
    }

    /// Runs the boot script, but for its wait: writes what it writes, and says what it jumps into.
    pub fn boot(&self) -> Result<Option<(Group, Why)>> {
        let boot = self.script()?;
        for write in &boot.writes {
            self.disk.write("env", at(write.copy) + write.at as u64, &write.bytes)?;
        }
        Ok(boot.group)
    }

    /// Gives each group of the order so many tries, as a person does at the bootloader's console.
    pub fn give_tries(&self, tries: u8) -> Result<()> {
        let (mut vars, state) = (self.vars()?, self.state()?);
        for group in Group::BOTH.into_iter().filter(|group| state.group(*group).priority > 0) {
            vars.set(&format!("BOOT_{group}_LEFT"), tries.to_string());
        }
        let copies = self.format.blank(&vars, Mainstay.names()).doing(|| "the repaired environment")?;
        (0..).zip(copies).try_for_each(|(copy, bytes)| self.disk.write("env", at(copy), &bytes))
    }

    fn script(&self) -> Result<Boot> {
        let copies = self.copies()?;
        let loads = |group| self.image(group).is_ok_and(|header| header.is_some());
        model::boot(&self.format, &Mainstay, &copies, loads).doing(|| "boot script")
    }

    /// The first sector of a group's slot: where a kernel would be.
    pub fn image(&self, group: Group) -> Result<Option<Header>> {
        let mut first = [0; HEADER_BYTES];
        self.disk.read(rootfs(group), 0, &mut first)?;
        Header::decode(&first)
    }

    /// What the variables mean.
    pub fn state(&self) -> Result<BootState> {
        Mainstay.state(&self.vars()?).doing(|| "the boot state")
    }

    /// The variables.
    pub fn vars(&self) -> Result<Vars> {
        let env = self.format.parse(&self.copies()?).doing(|| "the environment")?;
        Ok(env.vars().clone())
    }

    fn copies(&self) -> Result<Vec<Vec<u8>>> {
        let copy = |copy| {
            let mut bytes = vec![0; self.format.copy_bytes()];
            self.disk.read("env", at(copy), &mut bytes).map(|()| bytes)
        };
        (0..self.format.copies()).map(copy).collect()
    }
}

/// Where in the partition a copy begins.
fn at(copy: usize) -> u64 {
    copy as u64 * UBOOT_ENV_BYTES
}
