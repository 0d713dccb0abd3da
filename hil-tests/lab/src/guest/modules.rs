//! A kernel's modules: which file has which, and what it needs before it (`modules.dep`, depmod(8): each line a file and
//! the files that it depends on, all relative to the folder; what is loaded first stands last).

use crate::run::{output, tool};
use crate::{Doing, Result};
use std::path::{Path, PathBuf};

/// The files of these modules and of all that they need, in the order in which they have to be loaded. One that is in
/// `modules.builtin` needs no loading; one that the kernel does not have at all is an error.
pub fn with_needed(modules: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let read = |name: &str| {
        let path = modules.join(name);
        std::fs::read_to_string(&path).doing(|| path.display().to_string())
    };
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let mut files: Vec<PathBuf> = Vec::new();
    for wanted in wanted {
        if builtin.lines().any(|line| name(Path::new(line)) == *wanted) {
            continue;
        }
        let line = dependencies.lines().filter_map(|line| line.split_once(':'));
        let found = line.clone().find(|(file, _)| name(Path::new(file)) == *wanted);
        let (file, needed) = found.doing(|| format!("{}: no module {wanted}", modules.display()))?;
        for file in needed.split_whitespace().rev().chain([file]) {
            let path = modules.join(file);
            if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// A module's name: of its file, with `_` for `-`, as lsmod shows it.
pub fn name(file: &Path) -> String {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The module as the kernel takes it, decompressed.
pub fn plain(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => output(tool("xz").arg("-dc").arg(file)),
        Some("zst") => output(tool("zstd").args(["-q", "-dc"]).arg(file)),
        Some("gz") => output(tool("gzip").arg("-dc").arg(file)),
        _ => std::fs::read(file).doing(|| file.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_only_once_and_what_is_built_in_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let dep = "k/vfat.ko.xz: k/fat.ko.xz\nk/fat.ko.xz:\nk/virtio-rng.ko.xz:\nk/a.ko: k/b.ko k/fat.ko.xz\nk/b.ko:\n";
        std::fs::write(folder.path().join("modules.dep"), dep).unwrap();
        std::fs::write(folder.path().join("modules.builtin"), "kernel/virtio_pci.ko\n").unwrap();
        let wanted = ["virtio_pci", "vfat", "virtio_rng", "a"];
        let names: Vec<String> =
            with_needed(folder.path(), &wanted).unwrap().iter().map(|path| name(path)).collect();
        assert_eq!(names, ["fat", "vfat", "virtio_rng", "b", "a"]);
        let missing = with_needed(folder.path(), &["ext4"]).unwrap_err();
        assert!(missing.to_string().ends_with("no module ext4"), "{missing}");
    }
}
