//! What there is, and what there is not: each part by its accessor, whose error says what is missing and how to get it.

use super::pieces::{Piece, choose_kernel, modules_of};
use super::uboot::UbootVariant;
use super::{Arch, Want};
use crate::{Doing, Result, Trouble};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The laboratory's parts, as far as they could be had. One that was not wanted may be missing too.
#[derive(Debug, Default)]
pub struct Parts {
    pub(super) programs: BTreeMap<&'static str, PathBuf>,
    pub(super) pieces: BTreeMap<Piece, PathBuf>,
    pub(super) uboot: BTreeMap<UbootVariant, PathBuf>,
    pub(super) lacks: Vec<Lack>,
}

/// A Linux kernel as Debian builds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What QEMU, GRUB or U-Boot loads.
    pub image: PathBuf,
    /// `…/lib/modules/VERSION`, with `modules.dep`.
    pub modules: PathBuf,
    /// `uname -r`.
    pub version: String,
    /// The folder with the boards' device trees, where the architecture has them.
    pub device_trees: Option<PathBuf>,
    /// What somebody who runs it should know: an older series, something that it has not.
    pub note: Option<&'static str>,
}

impl Kernel {
    /// Whether it has a driver, built in or as a module (`i6300esb`, `virtio_blk`; `-` and `_` are the same).
    pub fn has(&self, driver: &str) -> bool {
        let file = format!("{}.ko", driver.replace('-', "_"));
        ["modules.dep", "modules.builtin"].iter().any(|list| {
            let Ok(list) = fs::read_to_string(self.modules.join(list)) else { return false };
            list.lines().any(|line| {
                let path = line.split(':').next().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default().replace('-', "_");
                // A module may be compressed: `.ko.xz`.
                name.strip_prefix(&file).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        })
    }

    /// Looks at what a package was unpacked into.
    pub(super) fn in_root(root: &Path, arch: Arch) -> Result<Kernel> {
        let (modules, version) = modules_of(root)?;
        let image = root.join(format!("boot/vmlinuz-{version}"));
        if !image.is_file() {
            return Err(Trouble::new(format!("expected a kernel at {}", image.display())));
        }
        let device_trees =
            Some(root.join(format!("usr/lib/linux-image-{version}"))).filter(|folder| folder.is_dir());
        let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let note = choose_kernel([name].into_iter(), arch).and_then(|chosen| chosen.kind.note);
        Ok(Kernel { image, modules, version, device_trees, note })
    }
}

/// UEFI firmware for x86_64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// The code: a read-only pflash.
    pub code: PathBuf,
    /// What a machine's variables begin as: to be copied for each.
    pub vars: PathBuf,
}

/// Which GRUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrubPlatform {
    /// `i386-pc`: BIOS.
    Pc,
    /// `x86_64-efi`: UEFI.
    Efi,
}

/// One thing that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What it is.
    pub what: String,
    /// Why it could not be had, if anybody tried.
    pub why: String,
    /// The line that gets it, for a shell.
    pub remedy: String,
    /// Who does without.
    pub wants: Vec<Want>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told(&[self.what.as_str()], &self.why, &self.remedy))
    }
}

fn told(what: &[&str], why: &str, remedy: &str) -> String {
    let is = if what.len() == 1 { "is" } else { "are" };
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    format!(
        "{} {is} missing{why}; to get {}: {remedy}",
        what.join(", "),
        if what.len() == 1 { "it" } else { "them" }
    )
}

/// One line for all that is missing for the same reason and that the same line gets.
fn summed_up<'a>(lacks: impl Iterator<Item = &'a Lack>) -> Vec<String> {
    let mut groups: Vec<(Vec<&str>, &Lack)> = Vec::new();
    for lack in lacks {
        match groups.iter_mut().find(|(_, first)| (&first.why, &first.remedy) == (&lack.why, &lack.remedy)) {
            Some((what, _)) => what.push(&lack.what),
            None => groups.push((vec![&lack.what], lack)),
        }
    }
    groups.iter().map(|(what, first)| told(what, &first.why, &first.remedy)).collect()
}

impl Parts {
    /// All that was wanted is there.
    pub fn complete(&self) -> bool {
        self.lacks.is_empty()
    }

    /// What is missing of all that was wanted, for a report: one line each.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// The lines for a shell that get all that is missing, each once.
    pub fn remedies(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = Vec::new();
        for lack in &self.lacks {
            if !lines.contains(&lack.remedy.as_str()) {
                lines.push(&lack.remedy);
            }
        }
        lines
    }

    /// Why a board or a scenario that needs this cannot be run, one line for each reason; `None`: it can.
    pub fn why_not(&self, want: Want) -> Option<String> {
        let reasons = summed_up(self.lacks.iter().filter(|lack| lack.wants.contains(&want)));
        (!reasons.is_empty()).then(|| reasons.join("\n"))
    }

    /// A program that is installed here.
    pub fn program(&self, name: &str) -> Result<&Path> {
        self.programs.get(name).map(PathBuf::as_path).ok_or_else(|| self.missing(name))
    }

    /// The kernel for an architecture.
    pub fn kernel(&self, arch: Arch) -> Result<Kernel> {
        let piece = Piece::Kernel(arch);
        Kernel::in_root(self.root(piece)?, arch).doing(|| piece.label())
    }

    /// A busybox without shared libraries.
    pub fn busybox(&self, arch: Arch) -> Result<PathBuf> {
        self.located(Piece::Busybox(arch))
    }

    /// UEFI firmware for x86_64.
    pub fn ovmf(&self) -> Result<Ovmf> {
        let code = self.located(Piece::Ovmf)?;
        let vars = code.with_file_name("OVMF_VARS_4M.fd");
        vars.is_file()
            .then_some(())
            .doing(|| format!("expected the firmware's variables at {}", vars.display()))?;
        Ok(Ovmf { code, vars })
    }

    /// The folder with GRUB's modules and images.
    pub fn grub_modules(&self, platform: GrubPlatform) -> Result<PathBuf> {
        let file = self.located(match platform {
            GrubPlatform::Pc => Piece::GrubPc,
            GrubPlatform::Efi => Piece::GrubEfi,
        })?;
        Ok(file.parent().unwrap_or(&file).to_owned())
    }

    /// `u-boot.bin` for QEMU's arm64 `virt` machine, as built here.
    pub fn uboot(&self, variant: UbootVariant) -> Result<&Path> {
        self.uboot.get(&variant).map(PathBuf::as_path).ok_or_else(|| self.missing(&uboot_label(variant)))
    }

    /// SPL and U-Boot of the orangepi boards, for sector 16 of the card.
    pub fn uboot_sunxi(&self) -> Result<PathBuf> {
        self.located(Piece::UbootSunxi)
    }

    fn root(&self, piece: Piece) -> Result<&Path> {
        self.pieces.get(&piece).map(PathBuf::as_path).ok_or_else(|| self.missing(&piece.label()))
    }

    fn located(&self, piece: Piece) -> Result<PathBuf> {
        piece.locate(self.root(piece)?).doing(|| format!("{} has gone from the cache", piece.label()))
    }

    fn missing(&self, what: &str) -> Trouble {
        match self.lacks.iter().find(|lack| lack.what == what || lack.what.starts_with(&format!("{what} "))) {
            Some(lack) => Trouble::new(lack),
            None => Trouble::new(format!("{what} was not asked for when the parts were made ready")),
        }
    }
}

impl fmt::Display for Parts {
    /// A table: what there is, then what is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, path) in &self.programs {
            writeln!(f, "{name:<32} {}", path.display())?;
        }
        for (piece, root) in &self.pieces {
            let (path, note) = match piece {
                Piece::Kernel(arch) => match Kernel::in_root(root, *arch) {
                    Ok(kernel) => (kernel.image, kernel.note),
                    Err(_) => (root.clone(), Some("no kernel in it")),
                },
                _ => (piece.locate(root).unwrap_or_else(|| root.clone()), None),
            };
            let note = note.map_or(String::new(), |note| format!(" ({note})"));
            writeln!(f, "{:<32} {}{note}", piece.label(), path.display())?;
        }
        for (variant, path) in &self.uboot {
            writeln!(f, "{:<32} {}", uboot_label(*variant), path.display())?;
        }
        summed_up(self.lacks.iter()).iter().try_for_each(|reason| writeln!(f, "{reason}"))
    }
}

/// What a built U-Boot is called in reports.
pub(super) fn uboot_label(variant: UbootVariant) -> String {
    format!("U-Boot for arm64, {}", variant.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(what: &str, wants: &[Want]) -> Lack {
        let remedy = "apt-get install -y --no-remove --no-install-recommends qemu-system-arm".to_owned();
        Lack { what: what.to_owned(), why: "not root".to_owned(), remedy, wants: wants.to_vec() }
    }

    #[test]
    fn a_board_whose_parts_are_missing_is_not_run_and_the_others_are() {
        let lacks = vec![
            lack("qemu-system-aarch64 8.0 or newer", &[Want::Arm64]),
            lack("U-Boot for arm64, single", &[Want::Arm64Single]),
            lack("mkimage", &[Want::Arm64, Want::Armhf]),
        ];
        let parts = Parts { lacks, ..Parts::default() };
        assert!(!parts.complete());
        #[rustfmt::skip]
        let cases: &[(Want, &[&str])] = &[
            (Want::X86Bios,     &[]),
            (Want::Arm64,       &["qemu-system-aarch64 8.0 or newer, mkimage are missing (not root); to get them: apt-get install"]),
            (Want::Arm64Single, &["U-Boot for arm64, single is missing"]),
            (Want::Armhf,       &["mkimage is missing"]),
        ];
        for (want, reasons) in cases {
            let why = parts.why_not(*want);
            assert_eq!(why.is_none(), reasons.is_empty(), "{want:?}");
            let why = why.unwrap_or_default();
            assert!(reasons.iter().all(|reason| why.contains(reason)), "{want:?}: {why}");
            assert_eq!(why.lines().count(), reasons.len(), "{want:?}: {why}");
        }
        assert_eq!(
            parts.remedies(),
            ["apt-get install -y --no-remove --no-install-recommends qemu-system-arm"]
        );
        let asked = parts.program("qemu-system-aarch64").unwrap_err().to_string();
        assert!(asked.contains("to get it: apt-get install"), "{asked}");
        assert!(parts.program("mosquitto").unwrap_err().to_string().contains("not asked for"));
        assert!(parts.uboot(UbootVariant::Single).unwrap_err().to_string().contains("is missing (not root)"));
    }

    #[test]
    fn a_kernel_knows_its_drivers() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("linux-image-6.1.0-56-cloud-amd64_6.1.1_amd64");
        let modules = root.join("lib/modules/6.1.0-56-cloud-amd64");
        for folder in [&modules, &root.join("boot")] {
            fs::create_dir_all(folder).unwrap();
        }
        let dep = "kernel/drivers/watchdog/softdog.ko:\nkernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz\n";
        fs::write(modules.join("modules.dep"), dep).unwrap();
        fs::write(modules.join("modules.builtin"), "kernel/drivers/virtio/virtio-pci.ko\n").unwrap();
        assert!(Kernel::in_root(&root, Arch::Amd64).is_err(), "no image");
        fs::write(root.join("boot/vmlinuz-6.1.0-56-cloud-amd64"), "").unwrap();
        let kernel = Kernel::in_root(&root, Arch::Amd64).unwrap();
        let drivers =
            ["softdog", "vfat", "virtio_pci", "i6300esb", "fat", "soft"].map(|driver| kernel.has(driver));
        assert_eq!(drivers, [true, true, true, false, false, false]);
        assert_eq!((kernel.version.as_str(), kernel.device_trees), ("6.1.0-56-cloud-amd64", None));
        assert!(kernel.note.unwrap().contains("i6300esb"));
    }
}
