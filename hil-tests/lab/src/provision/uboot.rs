//! U-Boot for the arm64 board, built from Debian's source package: what Debian builds itself keeps its environment in a NOR
//! flash that Debian's kernels cannot write, and has no boot counter.
//!
//! On top of `qemu_arm64_defconfig` comes a fragment of `boards/uboot-*.frag`. The result is kept in the cache folder as
//! `uboot/VARIANT-KEY/u-boot.bin`, where KEY is made of all that it depends on; a folder of that name is complete. Measured:
//! 46 s of CPU on one core, 25 s on two; a board starts it in half a second.

use super::apt::{AptRoot, create};
use super::steps::Steps;
use super::version;
use crate::{Doing, Result, Trouble};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which environment U-Boot has; else they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UbootVariant {
    /// Two copies, at 1 MiB and 1 MiB + 64 KiB of the first MMC, 16 KiB each.
    Redundant,
    /// One copy of 16 KiB at 1 MiB.
    Single,
}

impl UbootVariant {
    /// Its fragment of a configuration.
    fn fragment(self) -> &'static str {
        match self {
            UbootVariant::Redundant => include_str!("../../boards/uboot-redundant.frag"),
            UbootVariant::Single => include_str!("../../boards/uboot-single.frag"),
        }
    }

    /// As folders are called by it.
    pub(super) fn name(self) -> &'static str {
        match self {
            UbootVariant::Redundant => "redundant",
            UbootVariant::Single => "single",
        }
    }
}

/// Debian's source package.
const SOURCE: &str = "u-boot";
/// What the binary is made for, beside the fragment.
const DEFCONFIG: &str = "qemu_arm64_defconfig";
/// The MMC hangs on PCI, and the environment is read before U-Boot looks for PCI devices, but for this; it is no option of
/// kconfig in 2023.01.
const FLAGS: &str = "KCPPFLAGS=-DCONFIG_SYS_EARLY_PCI_INIT=1";
/// Its only use is the date in U-Boot's first line: a board is not to depend on the day when it was built.
const SOURCE_DATE_EPOCH: &str = "1704067200";
/// Begins the names of what is not complete.
const PARTIAL: &str = "partial-";

/// Where something is made that is not complete yet. What a killed run left is swept away; a make that has outlived its
/// run may still write there, so each process has a name of its own.
fn partial(cache: &Path, what: &str) -> Result<PathBuf> {
    let folder = cache.join("uboot");
    create(&folder)?;
    let entries = fs::read_dir(&folder).doing(|| format!("reading {}", folder.display()))?;
    for entry in entries.filter_map(std::result::Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            // If it cannot be removed it is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let partial = folder.join(format!("{PARTIAL}{}-{what}", std::process::id()));
    create(&partial)?;
    Ok(partial)
}

/// The built one, if it is in the cache for this fragment and the newest source that is there.
pub(super) fn find(cache: &Path, variant: UbootVariant) -> Option<PathBuf> {
    let binary = place(cache, variant, &source(cache)?).join("u-boot.bin");
    binary.is_file().then_some(binary)
}

/// Whether there is something to build from.
pub(super) fn has_source(cache: &Path) -> bool {
    source(cache).is_some()
}

/// Fetches the source.
pub(super) fn fetch_source(steps: &mut Steps, cache: &Path, root: &AptRoot) -> Result<()> {
    let partial = partial(cache, "source")?;
    steps.step("source of U-Boot", |steps| root.download_source(steps, SOURCE, &partial))?;
    let whole = cache.join("uboot/source");
    remove(&whole)?;
    fs::rename(&partial, &whole).doing(|| format!("renaming {}", partial.display()))
}

/// Builds it from the source in the cache.
pub(super) fn build(steps: &mut Steps, cache: &Path, variant: UbootVariant) -> Result<PathBuf> {
    let source = source(cache).doing(|| "the source of U-Boot is not in the cache")?;
    let tree = unpack(steps, cache, &source)?;
    let place = place(cache, variant, &source);
    let partial = partial(cache, variant.name())?;
    steps.step(format!("U-Boot for arm64, environment {}", variant.name()), |steps| {
        let out = format!("O={}", partial.display());
        let make = || {
            let mut make = Command::new("make");
            make.current_dir(&tree).args(["-s", &out]).env("CROSS_COMPILE", "aarch64-linux-gnu-");
            make.env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH).env_remove("MAKEFLAGS");
            make
        };
        steps.must(make().arg(DEFCONFIG))?;
        let config = partial.join(".config");
        let before = fs::read_to_string(&config).doing(|| format!("reading {}", config.display()))?;
        // Of two lines for one option the later one holds.
        fs::write(&config, before + variant.fragment()).doing(|| format!("writing {}", config.display()))?;
        steps.must(make().arg("olddefconfig"))?;
        let after = fs::read_to_string(&config).doing(|| format!("reading {}", config.display()))?;
        let refused = not_taken(variant.fragment(), &after);
        if !refused.is_empty() {
            let refused = refused.join(", ");
            return Err(Trouble::new(format!(
                "U-Boot's kconfig has not taken over {refused}: see {}",
                config.display()
            )));
        }
        let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
        steps.must(make().arg(format!("-j{jobs}")).arg(FLAGS).arg("u-boot.bin")).map(drop)
    })?;
    keep(&partial, &place)?;
    Ok(place.join("u-boot.bin"))
}

/// The binary and its configuration, out of the folder in which it was built; that folder goes.
fn keep(built: &Path, place: &Path) -> Result<()> {
    let kept = built.join("kept");
    create(&kept)?;
    for (from, to) in [("u-boot.bin", "u-boot.bin"), (".config", "config")] {
        let from = built.join(from);
        fs::rename(&from, kept.join(to)).doing(|| format!("renaming {}", from.display()))?;
    }
    remove(place)?;
    fs::rename(&kept, place).doing(|| format!("renaming {}", kept.display()))?;
    remove(built)
}

/// `u-boot_VERSION.orig.tar.xz` in the cache, the newest. Debian's patches are for other boards, and are left out.
fn source(cache: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(cache.join("uboot/source")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let originals = names.filter(|name| name.starts_with("u-boot_") && name.contains(".orig.tar."));
    let newest = originals.max_by(|a, b| version::compare(a, b))?;
    Some(cache.join("uboot/source").join(newest))
}

/// Where a variant is kept: the name has all in it that the binary depends on but for the compiler.
fn place(cache: &Path, variant: UbootVariant, source: &Path) -> PathBuf {
    let name = source.file_name().unwrap_or_default().as_encoded_bytes();
    let mut hash = Sha256::new();
    for part in [
        name,
        DEFCONFIG.as_bytes(),
        FLAGS.as_bytes(),
        SOURCE_DATE_EPOCH.as_bytes(),
        variant.fragment().as_bytes(),
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let key: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    cache.join("uboot").join(format!("{}-{key}", variant.name()))
}

/// The source tree, which both variants are built from without a change in it.
fn unpack(steps: &mut Steps, cache: &Path, source: &Path) -> Result<PathBuf> {
    let tree = cache.join("uboot/tree");
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mark = tree.join("unpacked-from");
    if fs::read_to_string(&mark).is_ok_and(|from| from == name) {
        return Ok(tree);
    }
    let partial = partial(cache, "tree")?;
    steps.step(format!("unpacking {name}"), |steps| {
        steps.must(
            Command::new("tar").arg("-xf").arg(source).arg("-C").arg(&partial).arg("--strip-components=1"),
        )
    })?;
    let mark = partial.join("unpacked-from");
    fs::write(&mark, name).doing(|| format!("writing {}", mark.display()))?;
    remove(&tree)?;
    fs::rename(&partial, &tree).doing(|| format!("renaming {}", partial.display()))?;
    Ok(tree)
}

/// The lines of a fragment that say something: options, and those that are off.
fn options(fragment: &str) -> impl Iterator<Item = &str> {
    let off = |line: &str| line.starts_with("# CONFIG_") && line.ends_with(" is not set");
    fragment.lines().map(str::trim).filter(move |line| line.starts_with("CONFIG_") || off(line))
}

/// The options of a fragment that a finished configuration does not have: kconfig drops without a word what does not exist
/// or whose dependencies are not met. (An option that is off may be missing altogether.)
fn not_taken<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let missed = |line: &&str| match line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"))
    {
        Some(option) => config.lines().any(|found| found.starts_with(&format!("{option}="))),
        None => config.lines().all(|found| found != *line),
    };
    options(fragment).filter(missed).collect()
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).doing(|| format!("removing {}", folder.display()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_kconfig_drops_is_noticed() {
        let config = "CONFIG_MMC=y\nCONFIG_ENV_SIZE=0x4000\n# CONFIG_USB is not set\nCONFIG_CMD_DFU=y\n";
        #[rustfmt::skip]
        let cases: &[(&str, &[&str])] = &[
            ("# a word\n\nCONFIG_MMC=y\n# CONFIG_USB is not set\n", &[]),
            ("# CONFIG_NEVER_HEARD_OF is not set\n",                &[]),
            ("CONFIG_ENV_SIZE=0x10000\n",                           &["CONFIG_ENV_SIZE=0x10000"]),
            ("CONFIG_USB=y\nCONFIG_MMC=y\n",                        &["CONFIG_USB=y"]),
            ("# CONFIG_CMD_DFU is not set\n",                       &["# CONFIG_CMD_DFU is not set"]),
        ];
        for (fragment, dropped) in cases {
            assert_eq!(not_taken(fragment, config), *dropped, "{fragment}");
        }
    }

    #[test]
    fn the_variants_differ_in_the_copies_of_their_environment_only() {
        let all = |variant: UbootVariant| -> Vec<&str> { options(variant.fragment()).collect() };
        let (redundant, single) = (all(UbootVariant::Redundant), all(UbootVariant::Single));
        let only = |these: &[&'static str], those: &[&str]| -> Vec<&str> {
            these.iter().filter(|line| !those.contains(line)).copied().collect()
        };
        let copies = ["CONFIG_SYS_REDUNDAND_ENVIRONMENT=y", "CONFIG_ENV_OFFSET_REDUND=0x110000"];
        assert_eq!(only(&redundant, &single), copies);
        assert_eq!(only(&single, &redundant), ["# CONFIG_SYS_REDUNDAND_ENVIRONMENT is not set"]);
    }

    #[test]
    fn another_source_or_variant_has_another_place_and_nothing_half_is_found() {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path();
        assert_eq!(find(cache, UbootVariant::Single), None);
        create(&cache.join("uboot/source")).unwrap();
        for name in [
            "u-boot_2023.01+dfsg.orig.tar.xz",
            "u-boot_2023.01+dfsg-2.debian.tar.xz",
            "u-boot_2022.10+dfsg.orig.tar.xz",
        ] {
            fs::write(cache.join("uboot/source").join(name), "").unwrap();
        }
        let newest = source(cache).unwrap();
        assert!(newest.ends_with("u-boot_2023.01+dfsg.orig.tar.xz"), "{}", newest.display());
        let here = place(cache, UbootVariant::Single, &newest);
        assert_ne!(here, place(cache, UbootVariant::Single, Path::new("u-boot_2022.10+dfsg.orig.tar.xz")));
        let built = partial(cache, "single").unwrap();
        fs::write(built.join("u-boot.bin"), "U-Boot").unwrap();
        fs::write(built.join(".config"), "").unwrap();
        assert_eq!(find(cache, UbootVariant::Single), None);
        keep(&built, &here).unwrap();
        assert_eq!(find(cache, UbootVariant::Single), Some(here.join("u-boot.bin")));
        assert_eq!(find(cache, UbootVariant::Redundant), None);
        assert!(!built.exists());
    }
}
