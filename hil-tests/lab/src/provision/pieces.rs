//! What is not installed but unpacked: kernels, busybox, GRUB's modules, UEFI firmware and a board's U-Boot, most of them for
//! another architecture. They come from Debian's packages into the cache folder, `parts/ARCH/PACKAGE_VERSION_ARCH/`.
//!
//! A folder of that name is complete: it is unpacked under another name and renamed at the end. What is there is used, and
//! nobody asks for something newer; who wants that removes the folder.

use super::Arch;
use super::Want::{self, *};
use super::apt::{AptRoot, create};
use super::steps::Steps;
use super::version;
use crate::{Doing, Result, Trouble};
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package, or one of several, that is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Kernel(Arch),
    Busybox(Arch),
    GrubPc,
    GrubEfi,
    Ovmf,
    UbootSunxi,
}

impl Piece {
    #[rustfmt::skip]
    pub(super) const ALL: &[Piece] = &[
        Piece::Kernel(Arch::Amd64), Piece::Busybox(Arch::Amd64), Piece::GrubPc, Piece::GrubEfi, Piece::Ovmf,
        Piece::Kernel(Arch::Arm64), Piece::Busybox(Arch::Arm64),
        Piece::Kernel(Arch::Armhf), Piece::Busybox(Arch::Armhf), Piece::UbootSunxi,
    ];

    /// Who needs it.
    pub(super) fn wants(self) -> &'static [Want] {
        match self {
            Piece::Kernel(Arch::Amd64) | Piece::Busybox(Arch::Amd64) => &[X86Bios, X86Uefi, CrashPoints],
            // The same disk boots under both firmwares.
            Piece::GrubPc | Piece::GrubEfi => &[X86Bios, X86Uefi, CrashPoints],
            Piece::Ovmf => &[X86Uefi],
            Piece::Kernel(Arch::Arm64) | Piece::Busybox(Arch::Arm64) => &[Arm64, Arm64Single],
            Piece::Kernel(Arch::Armhf) | Piece::Busybox(Arch::Armhf) | Piece::UbootSunxi => &[Armhf],
        }
    }

    /// What it is, for people.
    pub(super) fn label(self) -> String {
        match self {
            Piece::Kernel(arch) => format!("kernel for {arch}"),
            Piece::Busybox(arch) => format!("static busybox for {arch}"),
            Piece::GrubPc => "GRUB's modules for BIOS".to_owned(),
            Piece::GrubEfi => "GRUB's modules for UEFI".to_owned(),
            Piece::Ovmf => "UEFI firmware for x86_64".to_owned(),
            Piece::UbootSunxi => "U-Boot of the orangepi boards".to_owned(),
        }
    }

    /// The architecture of its package.
    pub(super) fn arch(self) -> Arch {
        match self {
            Piece::Kernel(arch) | Piece::Busybox(arch) => arch,
            Piece::GrubPc | Piece::GrubEfi | Piece::Ovmf => Arch::Amd64,
            Piece::UbootSunxi => Arch::Armhf,
        }
    }

    /// The package; of a kernel, what its packages' names begin with.
    fn package(self) -> &'static str {
        match self {
            Piece::Kernel(_) => KERNEL,
            Piece::Busybox(_) => "busybox-static",
            Piece::GrubPc => "grub-pc-bin",
            Piece::GrubEfi => "grub-efi-amd64-bin",
            Piece::Ovmf => "ovmf",
            Piece::UbootSunxi => "u-boot-sunxi",
        }
    }

    /// The file that it is all about, under the root folder that the package is unpacked into; the second place is that of
    /// Debian 13 and later.
    fn places(self) -> &'static [&'static str] {
        match self {
            Piece::Kernel(_) => &["boot"],
            Piece::Busybox(_) => &["bin/busybox", "usr/bin/busybox"],
            Piece::GrubPc => &["usr/lib/grub/i386-pc/boot.img"],
            Piece::GrubEfi => &["usr/lib/grub/x86_64-efi/normal.mod"],
            Piece::Ovmf => &["usr/share/OVMF/OVMF_CODE_4M.fd"],
            Piece::UbootSunxi => &["usr/lib/u-boot/orangepi_plus/u-boot-sunxi-with-spl.bin"],
        }
    }

    /// That file, if it is there.
    pub(super) fn locate(self, root: &Path) -> Option<PathBuf> {
        self.places().iter().map(|place| root.join(place)).find(|path| path.exists())
    }

    /// Whether the package that is installed on this machine will do too. (A busybox may be one with shared libraries, and
    /// a kernel is more often of the wrong kind.)
    fn may_be_installed(self) -> bool {
        matches!(self, Piece::GrubPc | Piece::GrubEfi | Piece::Ovmf)
    }

    /// Looks for it: the root folder that it is in, which is `/` for what is installed.
    pub(super) fn find(self, cache: &Path) -> Option<PathBuf> {
        if self.may_be_installed() && self.locate(Path::new("/")).is_some() {
            return Some(PathBuf::from("/"));
        }
        let shelf = self.shelf(cache);
        let mut there: Vec<String> = fs::read_dir(&shelf)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        there.retain(|name| !name.ends_with(PARTIAL) && self.locate(&shelf.join(name)).is_some());
        let best = match self {
            Piece::Kernel(arch) => {
                choose_kernel(there.iter().map(String::as_str), arch).map(|chosen| chosen.name.to_owned())
            }
            _ => {
                there.retain(|name| name.split('_').next() == Some(self.package()));
                there.into_iter().max_by(|a, b| version::compare(a, b))
            }
        };
        best.map(|name| shelf.join(name))
    }

    /// Fetches and unpacks it.
    pub(super) fn fetch(self, steps: &mut Steps, cache: &Path, root: &AptRoot) -> Result<PathBuf> {
        let package = match self {
            Piece::Kernel(arch) => {
                let names = root.names(steps, "^linux-image-[0-9]")?;
                let chosen = choose_kernel(names.iter().map(String::as_str), arch);
                chosen.doing(|| format!("apt knows no kernel for {arch}"))?.name.to_owned()
            }
            _ => self.package().to_owned(),
        };
        let what = format!("{}: {package}", self.label());
        steps.step(what, |steps| {
            let deb = root.download(steps, &package)?;
            let stem = deb
                .file_stem()
                .and_then(|stem| stem.to_str())
                .doing(|| format!("{}: no name", deb.display()))?;
            let shelf = self.shelf(cache);
            let partial = shelf.join(format!("{stem}{PARTIAL}"));
            remove(&partial)?;
            create(&partial)?;
            steps.must(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&partial))?;
            if self.locate(&partial).is_none() {
                return Err(Trouble::new(format!(
                    "{package}: expected {} in it, found none",
                    self.places().join(" or ")
                )));
            }
            if let Piece::Kernel(_) = self {
                order_modules(steps, &partial)?;
            }
            let whole = shelf.join(stem);
            remove(&whole)?;
            fs::rename(&partial, &whole).doing(|| format!("renaming {}", partial.display()))?;
            fs::remove_file(&deb).doing(|| format!("removing {}", deb.display()))?;
            Ok(whole)
        })
    }

    fn shelf(self, cache: &Path) -> PathBuf {
        cache.join("parts").join(self.arch().debian())
    }
}

/// Ends the name of what is not complete.
const PARTIAL: &str = ".partial";
/// Begins the name of a kernel's package.
const KERNEL: &str = "linux-image-";

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).doing(|| format!("removing {}", folder.display()))
    } else {
        Ok(())
    }
}

/// `modules.dep` and its like: a package does not carry them.
fn order_modules(steps: &mut Steps, root: &Path) -> Result<()> {
    let (modules, version) = modules_of(root)?;
    // depmod looks in lib/; Debian 13 and later unpack into usr/lib/.
    if !root.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", root.join("lib"))
            .doing(|| format!("linking {}/lib", root.display()))?;
    }
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    steps.must(Command::new("depmod").env("PATH", path).arg("-b").arg(root).arg(&version))?;
    if !modules.join("modules.dep").is_file() {
        return Err(Trouble::new(format!("{}: expected depmod to write modules.dep", modules.display())));
    }
    Ok(())
}

/// The folder with a kernel's modules, and the kernel's version: the folder's name.
pub(super) fn modules_of(root: &Path) -> Result<(PathBuf, String)> {
    for folder in [root.join("lib/modules"), root.join("usr/lib/modules")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        if let Some(version) = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).next() {
            return Ok((folder.join(&version), version));
        }
    }
    Err(Trouble::new(format!("{}: expected lib/modules/VERSION, found none", root.display())))
}

/// A kernel that Debian builds, and what is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its first numbers; empty: any.
    series: &'static str,
    /// The end of its name.
    flavour: &'static str,
    /// What somebody who runs it should know.
    pub note: Option<&'static str>,
}

/// The best first.
#[rustfmt::skip]
fn kinds(arch: Arch) -> &'static [Kind] {
    const UNTRIED: Option<&str> = Some("this series was never tried here");
    const SLOWER: Option<&str> = Some("everything is in it, but it takes GRUB longer to load");
    match arch {
        Arch::Amd64 => &[
            Kind { series: "6.12.", flavour: "cloud-amd64", note: None },
            Kind { series: "6.12.", flavour: "amd64",       note: SLOWER },
            Kind { series: "6.1.",  flavour: "amd64",       note: SLOWER },
            Kind { series: "6.1.",  flavour: "cloud-amd64", note: Some("no i6300esb: only softdog can watch") },
            Kind { series: "",      flavour: "cloud-amd64", note: UNTRIED },
            Kind { series: "",      flavour: "amd64",       note: UNTRIED },
        ],
        // The cloud kernel of arm64 has no i6300esb.
        Arch::Arm64 => &[
            Kind { series: "6.12.", flavour: "arm64",       note: None },
            Kind { series: "6.1.",  flavour: "arm64",       note: UNTRIED },
            Kind { series: "",      flavour: "arm64",       note: UNTRIED },
        ],
        Arch::Armhf => &[
            Kind { series: "6.12.", flavour: "armmp",       note: None },
            Kind { series: "6.1.",  flavour: "armmp",       note: UNTRIED },
            Kind { series: "",      flavour: "armmp",       note: UNTRIED },
        ],
    }
}

/// A kernel's package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen<'a> {
    /// Its name, as it was given.
    pub name: &'a str,
    pub kind: &'static Kind,
}

/// Of names of packages (or of their files, `NAME_VERSION_ARCH`) the newest kernel of the best kind that there is. A kernel
/// that Debian has not signed yet (`-unsigned`) is as good, for nobody here checks it; of two equals the signed one is taken.
pub(super) fn choose_kernel<'a>(names: impl Iterator<Item = &'a str>, arch: Arch) -> Option<Chosen<'a>> {
    let names: Vec<&str> = names.collect();
    kinds(arch).iter().find_map(|kind| {
        let fitting = names.iter().filter_map(|name| Some((kind.version(name)?, *name)));
        let newest =
            fitting.max_by(|a, b| version::compare(a.0, b.0).then_with(|| signed_first(a.1, b.1)))?;
        Some(Chosen { name: newest.1, kind })
    })
}

fn signed_first(a: &str, b: &str) -> Ordering {
    b.contains("-unsigned").cmp(&a.contains("-unsigned"))
}

impl Kind {
    /// The version in a package's name, if it is of this kind. Each part of it begins with a digit, which a flavour's does
    /// not: `linux-image-6.12.117+deb12-rt-amd64` is no `amd64`.
    fn version<'a>(&self, name: &'a str) -> Option<&'a str> {
        let name = name.split('_').next()?.strip_prefix(KERNEL)?;
        let name = name.strip_suffix("-unsigned").unwrap_or(name);
        let version = name.strip_suffix(self.flavour)?.strip_suffix('-')?;
        let numbers = version.split('-').all(|part| part.starts_with(|first: char| first.is_ascii_digit()));
        // `linux-image-6.12-amd64` is empty: it only depends on the newest one.
        let whole = version.contains('.') && version.matches('.').count() > 1;
        (numbers && whole && version.starts_with(self.series)).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_the_best_kind_is_chosen() {
        #[rustfmt::skip]
        let cases: &[(Arch, &[&str], Option<&str>)] = &[
            // newest by number, not by letter
            (Arch::Amd64, &["linux-image-6.12.95+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64"],
             Some("linux-image-6.12.117+deb12-cloud-amd64")),
            // cloud before generic, 6.12 before 6.1, and in 6.1 the one with a watchdog
            (Arch::Amd64, &["linux-image-6.12.117+deb12-amd64", "linux-image-6.12.43+deb12-cloud-amd64"],
             Some("linux-image-6.12.43+deb12-cloud-amd64")),
            (Arch::Amd64, &["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-amd64", "linux-image-6.1.0-55-amd64"],
             Some("linux-image-6.1.0-55-amd64")),
            (Arch::Amd64, &["linux-image-6.1.0-56-cloud-amd64"], Some("linux-image-6.1.0-56-cloud-amd64")),
            // a series that nobody has tried is better than none, and no better than one that was
            (Arch::Amd64, &["linux-image-6.16.3+deb14-cloud-amd64"], Some("linux-image-6.16.3+deb14-cloud-amd64")),
            (Arch::Amd64, &["linux-image-6.16.3+deb14-cloud-amd64", "linux-image-6.1.0-9-amd64"], Some("linux-image-6.1.0-9-amd64")),
            // signed before unsigned, newer before signed
            (Arch::Arm64, &["linux-image-6.12.95+deb12-arm64", "linux-image-6.12.95+deb12-arm64-unsigned"],
             Some("linux-image-6.12.95+deb12-arm64")),
            (Arch::Arm64, &["linux-image-6.12.95+deb12-arm64", "linux-image-6.12.117+deb12-arm64-unsigned"],
             Some("linux-image-6.12.117+deb12-arm64-unsigned")),
            // what only looks alike
            (Arch::Arm64, &["linux-image-6.12.1+deb12-rt-arm64", "linux-image-6.12.1+deb12-arm64-16k", "linux-image-6.12-arm64",
                            "linux-image-6.12.1+deb12-cloud-arm64", "linux-image-arm64", "linux-image-6.12-arm64-signed-template"], None),
            (Arch::Armhf, &["linux-image-6.12.95+deb12-armmp-lpae", "linux-image-6.12.95+deb12-rt-armmp"], None),
            (Arch::Armhf, &["linux-image-6.12.95+deb12-armmp"], Some("linux-image-6.12.95+deb12-armmp")),
            // as a folder is called
            (Arch::Armhf, &["linux-image-6.12.95+deb12-armmp_6.12.95-1~bpo12+1_armhf", "busybox-static_1_armhf"],
             Some("linux-image-6.12.95+deb12-armmp_6.12.95-1~bpo12+1_armhf")),
            (Arch::Amd64, &[], None),
        ];
        for (arch, names, expected) in cases {
            assert_eq!(
                choose_kernel(names.iter().copied(), *arch).map(|chosen| chosen.name),
                *expected,
                "{names:?}"
            );
        }
    }

    #[test]
    fn what_lacks_something_is_taken_with_a_note() {
        let note = |name| choose_kernel([name].into_iter(), Arch::Amd64).unwrap().kind.note;
        assert_eq!(note("linux-image-6.12.117+deb12-cloud-amd64"), None);
        assert!(note("linux-image-6.1.0-56-cloud-amd64").unwrap().contains("no i6300esb"));
        assert!(note("linux-image-7.0.1-amd64").unwrap().contains("never tried"));
    }

    #[test]
    fn what_was_not_unpacked_to_its_end_is_not_there() {
        let cache = tempfile::tempdir().unwrap();
        let piece = Piece::Busybox(Arch::Armhf);
        let shelf = cache.path().join("parts/armhf");
        assert_eq!(piece.find(cache.path()), None);
        for (name, found) in [
            ("busybox-static_1%3a1.35.0-4_armhf.partial", None),
            ("busybox-static_1%3a1.35.0-4_armhf", Some("busybox-static_1%3a1.35.0-4_armhf")),
            ("busybox-static_1%3a1.9.0-4_armhf", Some("busybox-static_1%3a1.35.0-4_armhf")),
        ] {
            create(&shelf.join(name).join("bin")).unwrap();
            fs::write(shelf.join(name).join("bin/busybox"), "").unwrap();
            assert_eq!(piece.find(cache.path()), found.map(|name| shelf.join(name)), "{name}");
        }
    }
}
