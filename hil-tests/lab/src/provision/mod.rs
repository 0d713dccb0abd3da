//! Gives the laboratory its parts: finds what is there, gets what is missing, and says of the rest how to get it.
//!
//! | part | comes from | needs root |
//! |---|---|---|
//! | programs: QEMU, file system tools, Mosquitto, compilers | Debian's packages, installed (`install.rs`) | yes |
//! | kernels, busybox, GRUB's modules, firmware, a board's U-Boot | Debian's packages, unpacked in the cache folder | no |
//! | U-Boot for arm64 | Debian's source package, built in the cache folder | no |
//!
//! What it promises:
//! * A board whose parts cannot be had keeps no other from being run: [`Parts::why_not`] has the reason, with the line for a
//!   shell that helps.
//! * Everything comes through apt, which checks the archive's signature. No address stands in this repository: apt's own
//!   sources are asked (`apt.rs`).
//! * Nothing half stays behind: what is unpacked or built gets its name when it is whole.
//! * Two at once take turns, by a lock in the cache folder; a second run finds everything, and asks the network nothing.
//! * It asks no question, and waits for no key.

mod apt;
mod install;
mod parts;
mod pieces;
mod programs;
mod steps;
mod uboot;
mod version;

pub use parts::{GrubPlatform, Kernel, Lack, Ovmf, Parts};
pub use uboot::UbootVariant;

use crate::{Doing, Result, Trouble};
use apt::{AptRoot, Release, Scope};
use pieces::Piece;
use programs::{BUILDERS, Found, PROGRAMS, Program};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use steps::Steps;

/// Debian's architectures of the boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
    /// ARMv7 with hardware floating point.
    Armhf,
}

impl Arch {
    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
            Arch::Armhf => "armhf",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

/// What parts are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// The x86_64 board with GRUB under BIOS. (Its disk boots under UEFI too, so GRUB is there for both.)
    X86Bios,
    /// The x86_64 board with GRUB under UEFI.
    X86Uefi,
    /// The arm64 board, U-Boot with a redundant environment.
    Arm64,
    /// The arm64 board, U-Boot with a single environment.
    Arm64Single,
    /// The orangepi-pc.
    Armhf,
    /// A real broker.
    Mosquitto,
    /// What records the writes of an x86_64 guest, and judges the disks that they make.
    CrashPoints,
}

impl Want {
    /// All of them.
    pub const ALL: &[Want] = &[
        Want::X86Bios,
        Want::X86Uefi,
        Want::Arm64,
        Want::Arm64Single,
        Want::Armhf,
        Want::Mosquitto,
        Want::CrashPoints,
    ];

    /// The U-Boot that it needs built.
    fn uboot(self) -> Option<UbootVariant> {
        match self {
            Want::Arm64 => Some(UbootVariant::Redundant),
            Want::Arm64Single => Some(UbootVariant::Single),
            _ => None,
        }
    }
}

/// How parts are made ready.
#[derive(Clone, Debug)]
pub struct Provision {
    cache: PathBuf,
    offline: bool,
    no_install: bool,
    quiet: bool,
}

impl Provision {
    /// With a cache folder, which is made if it is not there.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Provision { cache: cache.into(), offline: false, no_install: false, quiet: false }
    }

    /// Nothing is fetched, and so nothing installed; U-Boot is built still if its source is in the cache.
    pub fn offline(self, offline: bool) -> Self {
        Provision { offline, ..self }
    }

    /// Nothing is installed on this machine, also as root; the cache folder is filled still.
    pub fn no_install(self, no_install: bool) -> Self {
        Provision { no_install, ..self }
    }

    /// Nothing is printed; the log is written still.
    pub fn quiet(self, quiet: bool) -> Self {
        Provision { quiet, ..self }
    }

    /// Makes ready what is wanted, as far as it can be had.
    ///
    /// # Errors
    /// Only where the cache folder cannot be used. What is missing is in [`Parts::lacks`].
    pub fn provide(&self, wants: &[Want]) -> Result<Parts> {
        let cache = std::path::absolute(&self.cache).doing(|| format!("finding {}", self.cache.display()))?;
        apt::create(&cache)?;
        let _locked = lock(&cache, self.quiet)?;
        let steps = Steps::open(&cache.join("parts.log"), self.quiet)?;
        let root = effective_user().is_some_and(|user| user == 0);
        let (offline, no_install) = (self.offline, self.no_install);
        let mut work = Work {
            cache,
            steps,
            offline,
            no_install,
            root,
            updated: false,
            release: None,
            roots: BTreeMap::new(),
        };
        let mut parts = Parts::default();
        work.programs(&mut parts, wants);
        work.pieces(&mut parts, wants);
        work.uboots(&mut parts, wants);
        Ok(parts)
    }
}

/// One call of [`Provision::provide`].
struct Work {
    cache: PathBuf,
    steps: Steps,
    offline: bool,
    no_install: bool,
    /// Whether this process may install.
    root: bool,
    /// Whether this machine's lists were fetched.
    updated: bool,
    /// What apt said of its archive, asked once.
    release: Option<Result<Rc<Release>>>,
    /// The private configurations, prepared once.
    roots: BTreeMap<&'static str, Result<Rc<AptRoot>>>,
}

impl Work {
    fn programs(&mut self, parts: &mut Parts, wants: &[Want]) {
        let wanted = |program: &&Program| program.wants.iter().any(|want| wants.contains(want));
        let mut needed: Vec<&'static Program> = PROGRAMS.iter().filter(wanted).collect();
        let unbuilt: Vec<Want> = wants.iter().copied().filter(|want| self.unbuilt(*want).is_some()).collect();
        needed.extend(
            BUILDERS.iter().filter(|program| program.wants.iter().any(|want| unbuilt.contains(want))),
        );
        let missing = look(parts, &needed);
        if missing.is_empty() {
            return;
        }
        let lacks = install::install(self, missing);
        // What apt says it has installed is looked for all the same.
        for (program, found) in look(parts, &needed) {
            let known = lacks.iter().find(|lack| lack.what == program.wanted()).cloned();
            parts.lacks.push(known.unwrap_or_else(|| Lack {
                what: program.wanted(),
                why: format!("{} is installed, and still it is not found: {found:?}", program.package),
                remedy: format!("dpkg -L {}", program.package),
                wants: program.wants.to_vec(),
            }));
        }
    }

    fn pieces(&mut self, parts: &mut Parts, wants: &[Want]) {
        for &piece in Piece::ALL.iter().filter(|piece| piece.wants().iter().any(|want| wants.contains(want)))
        {
            let found = match piece.find(&self.cache) {
                Some(root) => Ok(root),
                None if self.offline => Err(Trouble::new("not in the cache, and nothing is fetched")),
                None => self.fetch(piece),
            };
            match found {
                Ok(root) => drop(parts.pieces.insert(piece, root)),
                Err(why) => parts.lacks.push(self.unfetched(piece.label(), why, piece.wants())),
            }
        }
    }

    fn fetch(&mut self, piece: Piece) -> Result<PathBuf> {
        let root = self.apt_root(Scope::Packages(piece.arch()))?;
        piece.fetch(&mut self.steps, &self.cache, &root)
    }

    fn uboots(&mut self, parts: &mut Parts, wants: &[Want]) {
        for want in wants {
            let Some(variant) = want.uboot() else { continue };
            let built = match uboot::find(&self.cache, variant) {
                Some(built) => Ok(built),
                None => self.build_uboot(parts, variant),
            };
            match built {
                Ok(built) => drop(parts.uboot.insert(variant, built)),
                Err(why) => {
                    let mut lack = self.unfetched(parts::uboot_label(variant), why, &[*want]);
                    if let Some(builder) = missing_builder(parts) {
                        let builder = parts.lacks.iter().find(|lack| lack.what == builder.wanted());
                        lack.remedy = builder.map_or(lack.remedy, |builder| builder.remedy.clone());
                    }
                    parts.lacks.push(lack);
                }
            }
        }
    }

    fn build_uboot(&mut self, parts: &Parts, variant: UbootVariant) -> Result<PathBuf> {
        if let Some(builder) = missing_builder(parts) {
            return Err(Trouble::new(format!("it is built here, and that needs {}", builder.name)));
        }
        if !uboot::has_source(&self.cache) {
            if self.offline {
                return Err(Trouble::new("its source is not in the cache, and nothing is fetched"));
            }
            let root = self.apt_root(Scope::Sources)?;
            uboot::fetch_source(&mut self.steps, &self.cache, &root)?;
        }
        uboot::build(&mut self.steps, &self.cache, variant)
    }

    /// The U-Boot that is wanted and still to be built.
    fn unbuilt(&self, want: Want) -> Option<UbootVariant> {
        want.uboot().filter(|variant| uboot::find(&self.cache, *variant).is_none())
    }

    /// Of what is in the cache folder, not of this machine: no other line gets it than the one that was typed.
    fn unfetched(&self, what: String, why: Trouble, wants: &[Want]) -> Lack {
        let remedy =
            if self.offline { "the same command without --offline" } else { "the same command again" };
        Lack { what, why: why.to_string(), remedy: remedy.to_owned(), wants: wants.to_vec() }
    }

    fn release(&mut self) -> Result<Rc<Release>> {
        if self.release.is_none() {
            self.release =
                Some(Release::of_this_machine(&mut self.steps, &self.cache, self.offline).map(Rc::new));
        }
        self.release.clone().doing(|| "apt was not asked")?
    }

    fn apt_root(&mut self, scope: Scope) -> Result<Rc<AptRoot>> {
        if let Some(root) = self.roots.get(scope.name()) {
            return root.clone();
        }
        let release = self.release()?;
        let root = AptRoot::prepare(&mut self.steps, &self.cache, &release, scope).map(Rc::new);
        self.roots.insert(scope.name(), root.clone());
        root
    }
}

/// What U-Boot cannot be built without.
fn missing_builder(parts: &Parts) -> Option<&'static Program> {
    BUILDERS.iter().find(|builder| !parts.programs.contains_key(builder.name))
}

/// Notes where programs are; those that are missing or too old.
fn look(parts: &mut Parts, needed: &[&'static Program]) -> Vec<(&'static Program, Found)> {
    let mut missing = Vec::new();
    for program in needed {
        match program.find() {
            Found::At(path) => drop(parts.programs.insert(program.name, path)),
            found => missing.push((*program, found)),
        }
    }
    missing
}

/// Holds the cache folder's lock until it is dropped; the system lets go of it when the process ends, however it does.
fn lock(cache: &Path, quiet: bool) -> Result<File> {
    let path = cache.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.doing(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            if !quiet {
                eprintln!(
                    "parts: another process is making them ready in {}; waiting for it",
                    cache.display()
                );
            }
            file.lock().doing(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(Trouble::new(format!("locking {}: {error}", path.display())));
        }
    }
    Ok(file)
}

/// Who this process is to the kernel: the owner of its folder in /proc (proc(5)).
fn effective_user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::metadata("/proc/self").ok()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_cache_is_missing_when_nothing_may_be_fetched_and_the_reason_says_what_helps() {
        let cache = tempfile::tempdir().unwrap();
        let provision = Provision::new(cache.path().join("deep/hil")).offline(true).quiet(true);
        let parts = provision.provide(&[Want::Armhf]).unwrap();
        let why = parts.why_not(Want::Armhf).unwrap();
        for missing in ["kernel for armhf", "static busybox for armhf", "U-Boot of the orangepi boards"] {
            assert!(why.contains(missing), "{why}");
        }
        assert!(why.contains("the same command without --offline"), "{why}");
        assert_eq!(parts.why_not(Want::X86Bios), None, "not wanted, not missing");
        assert!(parts.kernel(Arch::Armhf).unwrap_err().to_string().contains("without --offline"));
        assert!(parts.kernel(Arch::Amd64).unwrap_err().to_string().contains("not asked for"));
        assert!(cache.path().join("deep/hil/parts.log").is_file());
        assert_eq!(provision.provide(&[]).unwrap().lacks(), []);
    }

    #[test]
    fn two_at_once_take_turns() {
        let cache = tempfile::tempdir().unwrap();
        let first = lock(cache.path(), true).unwrap();
        let path = cache.path().to_owned();
        let second = std::thread::spawn(move || lock(&path, true).map(drop));
        assert!(File::options().write(true).open(cache.path().join("lock")).unwrap().try_lock().is_err());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
