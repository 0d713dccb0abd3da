//! The programs that the laboratory starts, Debian's package for each, and who needs it.

use super::Want::{self, *};
use super::version::ProgramVersion;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that has to be installed on this machine.
#[derive(Debug)]
pub(super) struct Program {
    /// As it is called; of a header, its path.
    pub name: &'static str,
    /// Debian's package with it.
    pub package: &'static str,
    /// The oldest version that does, if any older one does not.
    pub at_least: Option<ProgramVersion>,
    /// Who needs it.
    pub wants: &'static [Want],
}

/// QEMU for boards with PCI: all was measured with 10.0. 8.0 is the oldest that goes together with the `qemu-utils` of newer
/// machines (it "Breaks: qemu-system-common (< 1:8.0)"); the 7.2 of Debian 12 was never tried.
const QEMU: Option<ProgramVersion> = Some(ProgramVersion(8, 0));
/// QEMU for the orangepi-pc: its model got the watchdog of the SoC ("hw/watchdog: Allwinner WDT emulation for system reset")
/// on 20 April 2023, the day after 8.0 was released.
const QEMU_ORANGEPI: Option<ProgramVersion> = Some(ProgramVersion(8, 1));

const X86: &[Want] = &[X86Bios, X86Uefi, CrashPoints];
const BOARDS: &[Want] = &[X86Bios, X86Uefi, Arm64, Arm64Single, Armhf, CrashPoints];
const ARM: &[Want] = &[Arm64, Arm64Single, Armhf];
const ARM64: &[Want] = &[Arm64, Arm64Single];

/// What boards and scenarios need.
#[rustfmt::skip]
pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "qemu-system-x86_64",  package: "qemu-system-x86", at_least: QEMU,          wants: X86 },
    Program { name: "qemu-system-aarch64", package: "qemu-system-arm", at_least: QEMU,          wants: ARM64 },
    Program { name: "qemu-system-arm",     package: "qemu-system-arm", at_least: QEMU_ORANGEPI, wants: &[Armhf] },
    Program { name: "qemu-img",            package: "qemu-utils",      at_least: None,          wants: BOARDS },
    Program { name: "grub-mkimage",        package: "grub-common",     at_least: None,          wants: X86 },
    Program { name: "grub-editenv",        package: "grub-common",     at_least: None,          wants: X86 },
    Program { name: "mkimage",             package: "u-boot-tools",    at_least: None,          wants: ARM },
    Program { name: "sfdisk",              package: "fdisk",           at_least: None,          wants: BOARDS },
    Program { name: "mkfs.ext4",           package: "e2fsprogs",       at_least: None,          wants: BOARDS },
    Program { name: "e2fsck",              package: "e2fsprogs",       at_least: None,          wants: BOARDS },
    Program { name: "debugfs",             package: "e2fsprogs",       at_least: None,          wants: BOARDS },
    Program { name: "mkfs.vfat",           package: "dosfstools",      at_least: None,          wants: BOARDS },
    Program { name: "fsck.vfat",           package: "dosfstools",      at_least: None,          wants: BOARDS },
    Program { name: "mcopy",               package: "mtools",          at_least: None,          wants: BOARDS },
    Program { name: "mmd",                 package: "mtools",          at_least: None,          wants: BOARDS },
    Program { name: "depmod",              package: "kmod",            at_least: None,          wants: BOARDS },
    Program { name: "mosquitto",           package: "mosquitto",       at_least: None,          wants: &[Mosquitto] },
];

/// What building U-Boot for arm64 needs beside (its own tools for signing need OpenSSL, though none of them is used), while none that fits is in the cache.
#[rustfmt::skip]
pub(super) const BUILDERS: &[Program] = &[
    Program { name: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu", at_least: None, wants: ARM64 },
    Program { name: "gcc",                   package: "gcc",                   at_least: None, wants: ARM64 },
    Program { name: "make",                  package: "make",                  at_least: None, wants: ARM64 },
    Program { name: "bison",                 package: "bison",                 at_least: None, wants: ARM64 },
    Program { name: "flex",                  package: "flex",                  at_least: None, wants: ARM64 },
    Program { name: "/usr/include/openssl/evp.h", package: "libssl-dev", at_least: None, wants: ARM64 },
    Program { name: "xz",                    package: "xz-utils",              at_least: None, wants: ARM64 },
];

/// How a program was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There, and new enough.
    At(PathBuf),
    /// There, but older than needed.
    TooOld(PathBuf, Option<ProgramVersion>),
    /// Not there.
    Nowhere,
}

impl Program {
    /// Looks for it where programs are: on the path, and where Debian keeps what only root usually calls.
    pub(super) fn find(&self) -> Found {
        if self.name.starts_with('/') {
            return if Path::new(self.name).is_file() { Found::At(self.name.into()) } else { Found::Nowhere };
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let folders = std::env::split_paths(&path).chain(more);
        let Some(at) = folders.map(|folder| folder.join(self.name)).find(|path| executable(path)) else {
            return Found::Nowhere;
        };
        let Some(bound) = self.at_least else { return Found::At(at) };
        match version(&at) {
            Some(version) if version >= bound => Found::At(at),
            version => Found::TooOld(at, version),
        }
    }

    /// Its name, with the bound if there is one.
    pub(super) fn wanted(&self) -> String {
        self.at_least.map_or(self.name.to_owned(), |bound| format!("{} {bound} or newer", self.name))
    }
}

fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

fn version(program: &Path) -> Option<ProgramVersion> {
    let output =
        Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    ProgramVersion::find(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_once_and_somebody_needs_it() {
        let all: Vec<_> = PROGRAMS.iter().chain(BUILDERS).collect();
        for program in &all {
            assert_eq!(all.iter().filter(|other| other.name == program.name).count(), 1, "{}", program.name);
            assert!(!program.wants.is_empty(), "{}", program.name);
        }
    }

    #[test]
    fn a_program_is_found_on_the_path_and_what_is_no_program_is_not() {
        let program = |name, at_least| Program { name, package: "p", at_least, wants: &[Mosquitto] };
        assert!(matches!(program("sh", None).find(), Found::At(path) if path.ends_with("sh")));
        assert_eq!(program("no-program-has-this-name", None).find(), Found::Nowhere);
        // Every Debian has bash, and it says its version.
        assert!(matches!(program("bash", Some(ProgramVersion(2, 0))).find(), Found::At(_)));
        let old = program("bash", Some(ProgramVersion(999, 0)));
        assert!(matches!(old.find(), Found::TooOld(_, Some(version)) if version < ProgramVersion(999, 0)));
        assert_eq!(old.wanted(), "bash 999.0 or newer");
    }
}
