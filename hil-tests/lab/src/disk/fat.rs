//! FAT without mounting: made by mkfs.vfat, filled and read by mtools.

use super::EPOCH_S;
use crate::run::{output, tool};
use crate::{Doing, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Makes a FAT16 of this size with this label (at most 11 characters) in a new file. `files`: absolute path in it, content.
pub fn make(path: &Path, bytes: u64, label: &str, files: &[(&str, &[u8])]) -> Result<()> {
    let file = File::create(path).doing(|| path.display().to_string())?;
    file.set_len(bytes).doing(|| path.display().to_string())?;
    drop(file);
    output(tool("mkfs.vfat").args(["-F", "16", "-n", label, "-i", "4c414231", "--invariant"]).arg(path))?;
    let mut folders = BTreeSet::new();
    for (name, _) in files {
        folders.extend(name.match_indices('/').skip(1).filter_map(|(at, _)| name.get(..at)));
    }
    for folder in folders {
        output(mtool("mmd").arg("-i").arg(path).arg(format!("::{folder}")))?;
    }
    let scratch = tempfile::NamedTempFile::new().doing(|| "a scratch file")?;
    for (name, content) in files {
        std::fs::write(scratch.path(), content).doing(|| "a scratch file")?;
        output(mtool("mcopy").arg("-o").arg("-i").arg(path).arg(scratch.path()).arg(format!("::{name}")))?;
    }
    Ok(())
}

/// What a file holds, of a FAT that begins `offset` bytes into `image`.
pub fn read(image: &Path, offset: u64, name: &str) -> Result<Vec<u8>> {
    let place = format!("{}@@{offset}", image.display());
    output(mtool("mcopy").arg("-i").arg(place).arg(format!("::{name}")).arg("-"))
}

fn mtool(name: &str) -> Command {
    let mut command = tool(name);
    command.env("MTOOLS_SKIP_CHECK", "1").env("MTOOLSRC", "/dev/null");
    command.env("SOURCE_DATE_EPOCH", EPOCH_S.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MIB;

    #[test]
    fn the_same_files_give_the_same_bytes_and_are_read_back() {
        if tool("mcopy").arg("--version").output().is_err() {
            return println!("not run: mtools is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("/grub/grub.cfg", b"echo"), ("/EFI/BOOT/BOOTX64.EFI", b"MZ")];
        let [first, second] = ["first", "second"].map(|name| {
            let path = folder.path().join(name);
            make(&path, 16 * MIB, "MAINSTAY", &files).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2100)); // FAT counts in two seconds
            path
        });
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap());
        assert_eq!(read(&first, 0, "/grub/grub.cfg").unwrap(), b"echo");
        assert!(read(&first, 0, "/none").is_err());
    }
}
