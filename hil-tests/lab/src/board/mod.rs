//! The emulated boards: which machine, which bootloader, where its environment stands, and what a guest has to know of it.

pub mod arm64;
pub mod armhf;
pub mod grub;
mod kind;
pub mod uboot;
pub mod x86;

pub use kind::BoardKind;

use crate::Result;
use crate::disk::ext4::{self, Use};
use crate::disk::{Disk, Tree, copy_sparse};
use crate::guest::{Images, Nature};
use crate::machine::{Log, Machine, Setup};
use mainstay_bootloader_glue::Vars;
use mainstay_core::boot::{BootState, Group};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A board: what is flashed in its factory, how QEMU is started, and how its bootloader is read and repaired.
pub trait Board {
    /// As people call it: `x86-bios`.
    fn name(&self) -> &'static str;

    /// What bundles have to be made for.
    fn compatible(&self) -> &'static str;

    /// Makes images for its slots.
    fn images(&self) -> &Images;

    /// Why images of this nature cannot be had; `None`: they can.
    fn lacks(&self, nature: Nature) -> Option<String> {
        let _ = nature;
        None
    }

    /// Whether software that wants a reset has to let the watchdog bite, for the machine has nothing else that resets it.
    fn resets_by_watchdog(&self) -> bool {
        false
    }

    /// How long things take.
    fn pace(&self) -> Pace;

    /// Makes the machine's disks what they are when it leaves the factory: `image` in A, which is good; nothing in B; and
    /// these files on the data partition.
    fn factory(&mut self, image: &Path, data: &Tree) -> Result<()>;

    /// How QEMU is started with these disks.
    fn setup(&self) -> Setup;

    /// The bootloader's variables, as the disk's file holds them now.
    fn variables(&self) -> Result<Vars>;

    /// What they mean.
    fn environment(&self) -> Result<BootState>;

    /// The disk that holds its slots, under the names `rootfs-a` and `rootfs-b`.
    fn disk(&self) -> &Disk;

    /// Where a group's root file system stands: a file of the host, and the offset in it in bytes.
    fn slot(&self, group: Group) -> Result<(PathBuf, u64)> {
        let name = if group == Group::A { "rootfs-a" } else { "rootfs-b" };
        Ok((self.disk().path().to_owned(), self.disk().partition(name)?.start))
    }

    /// After the bootloader has said that nothing is left to boot: does at its console what its page tells people to do to
    /// give the groups of the order their tries again.
    fn repair(&self, machine: &mut Machine, log: &Log) -> Result<()>;
}

/// What is the same in every board's factory: its blank disk, the image in A, and a data partition with these files.
fn factory(blank: &Disk, disk: &Disk, folder: &Path, image: &Path, data: &Tree) -> Result<()> {
    copy_sparse(blank.path(), disk.path())?;
    disk.flash("rootfs-a", image)?;
    let file = folder.join("data.ext4");
    ext4::make(&file, disk.partition("data")?.bytes, "data", Use::Data, data)?;
    disk.flash("data", &file)
}

/// How long things take on a board, measured: seconds of CPU, of which its wall time is a multiple on a busy computer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From power or reset to the agent being connected.
    pub boot: Duration,
    /// The longest time until the watchdog bites what hangs, in the bootloader's hands or in the agent's.
    pub watchdog: Duration,
    /// From publishing an image to the reboot into its trial.
    pub install: Duration,
    /// How long the bootloader waits when nothing is left to boot; known, not measured.
    pub pause: Duration,
}

impl Pace {
    /// Waits give up after this many times what was measured: other work on the computer makes machines slow, not wrong.
    pub const PATIENCE: u32 = 6;
}
