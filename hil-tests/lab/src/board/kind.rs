//! The boards by their names: what each needs to be provided, and how it is made.

use super::Board;
use super::arm64::{Arm64, Arm64Parts, Copies, Counts};
use super::armhf::{Armhf, ArmhfParts};
use super::x86::{EnvironmentOn, X86, X86Parts};
use crate::Result;
use crate::provision::{Arch, Parts, Want};
use std::path::Path;

/// A board that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoardKind {
    /// x86_64 with GRUB under a BIOS.
    X86Bios,
    /// The same disk under UEFI.
    X86Uefi,
    /// x86_64 with GRUB under a BIOS, its environment on ext4.
    X86BiosExt4,
    /// arm64 with U-Boot, its environment in two copies, our boot script.
    Arm64Uboot,
    /// The same, with one copy.
    Arm64UbootSingle,
    /// arm64 with U-Boot that counts by itself, its environment in two copies.
    Arm64Bootcount,
    /// An Orange Pi PC.
    ArmhfOrangepi,
}

impl BoardKind {
    /// All of them, in the order in which they are listed.
    pub const ALL: &[BoardKind] = &[
        BoardKind::X86Bios,
        BoardKind::X86Uefi,
        BoardKind::X86BiosExt4,
        BoardKind::Arm64Uboot,
        BoardKind::Arm64UbootSingle,
        BoardKind::Arm64Bootcount,
        BoardKind::ArmhfOrangepi,
    ];

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            BoardKind::X86Bios => "x86-bios",
            BoardKind::X86Uefi => "x86-uefi",
            BoardKind::X86BiosExt4 => "x86-bios-ext4",
            BoardKind::Arm64Uboot => "arm64-uboot",
            BoardKind::Arm64UbootSingle => "arm64-uboot-single",
            BoardKind::Arm64Bootcount => "arm64-bootcount",
            BoardKind::ArmhfOrangepi => "armhf-orangepi",
        }
    }

    /// The board of this name.
    pub fn from_name(name: &str) -> Option<BoardKind> {
        BoardKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// What has to be provided for it.
    pub const fn want(self) -> Want {
        match self {
            BoardKind::X86Bios | BoardKind::X86BiosExt4 => Want::X86Bios,
            BoardKind::X86Uefi => Want::X86Uefi,
            BoardKind::Arm64Uboot | BoardKind::Arm64Bootcount => Want::Arm64,
            BoardKind::Arm64UbootSingle => Want::Arm64Single,
            BoardKind::ArmhfOrangepi => Want::Armhf,
        }
    }

    /// What its device binary has to be built for.
    pub const fn arch(self) -> Arch {
        match self {
            BoardKind::X86Bios | BoardKind::X86Uefi | BoardKind::X86BiosExt4 => Arch::Amd64,
            BoardKind::Arm64Uboot | BoardKind::Arm64UbootSingle | BoardKind::Arm64Bootcount => Arch::Arm64,
            BoardKind::ArmhfOrangepi => Arch::Armhf,
        }
    }

    /// Makes the board, with its disks in `folder`, which it creates, and with this device binary in its images.
    pub fn create(self, parts: &Parts, agent: &Path, folder: &Path) -> Result<Box<dyn Board>> {
        let x86 = |uefi, environment| -> Result<Box<dyn Board>> {
            Ok(Box::new(X86::create(X86Parts::of(parts, agent, uefi, environment)?, folder)?))
        };
        let arm64 = |copies, counts| -> Result<Box<dyn Board>> {
            Ok(Box::new(Arm64::create(Arm64Parts::of(parts, agent, copies, counts)?, folder)?))
        };
        match self {
            BoardKind::X86Bios => x86(false, EnvironmentOn::Fat),
            BoardKind::X86Uefi => x86(true, EnvironmentOn::Fat),
            BoardKind::X86BiosExt4 => x86(false, EnvironmentOn::Ext4),
            BoardKind::Arm64Uboot => arm64(Copies::Two, Counts::Script),
            BoardKind::Arm64UbootSingle => arm64(Copies::One, Counts::Script),
            BoardKind::Arm64Bootcount => arm64(Copies::Two, Counts::Uboot),
            BoardKind::ArmhfOrangepi => Ok(Box::new(Armhf::create(ArmhfParts::of(parts, agent)?, folder)?)),
        }
    }
}
