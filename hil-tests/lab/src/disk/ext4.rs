//! ext4 without mounting: made by mkfs.ext4, filled, changed and read by debugfs.
//!
//! `mkfs.ext4 -d` would take the times of the host's files with it, so debugfs fills the file system, with the time held at
//! [`EPOCH_S`]. The features are named one by one: what mkfs.ext4 switches on by itself differs from version to
//! version, and GRUB 2.06 refuses what it does not know.

use super::{EPOCH_S, Node, Tree};
use crate::run::{output, output_of_input, tool};
use crate::{Doing, Result, Trouble};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// What a file system is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A slot: mounted read-only, read by GRUB and U-Boot. No journal.
    Slot,
    /// Data, or the bootloader's files: written, with a journal and checksums.
    Data,
}

impl Use {
    const fn features(self) -> &'static str {
        match self {
            Use::Slot => "none,extent,filetype,sparse_super,large_file,ext_attr,dir_index",
            Use::Data => {
                "none,has_journal,extent,filetype,sparse_super,large_file,ext_attr,dir_index,metadata_csum"
            }
        }
    }
}

/// Where an ext4 stands: a file, and how far into it.
#[derive(Clone, Copy, Debug)]
pub struct At<'f> {
    /// The image file, of the file system or of a whole disk.
    pub file: &'f Path,
    /// In bytes.
    pub offset: u64,
}

impl At<'_> {
    /// As libext2fs takes it: `FILE?offset=N`.
    fn name(&self) -> String {
        match self.offset {
            0 => self.file.display().to_string(),
            offset => format!("{}?offset={offset}", self.file.display()),
        }
    }
}

/// Makes a file system of this size with this label in a new file.
pub fn make(path: &Path, bytes: u64, label: &str, purpose: Use, tree: &Tree) -> Result<()> {
    let file = File::create(path).doing(|| path.display().to_string())?;
    file.set_len(bytes).doing(|| path.display().to_string())?;
    drop(file);
    let mut mkfs = timed(tool("mkfs.ext4"));
    mkfs.args(["-q", "-F", "-b", "4096", "-I", "256", "-N", "256", "-m", "0", "-L", label]);
    mkfs.args(["-O", purpose.features(), "-U", UUID]);
    let seed = format!("hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0");
    mkfs.args(["-E", &seed]).arg(path);
    output(&mut mkfs)?;
    fill(At { file: path, offset: 0 }, tree, true)
}

/// Writes the files and links of `tree`, in folders that are there already; a file that is there is replaced.
pub fn edit(at: At, tree: &Tree) -> Result<()> {
    fill(at, tree, false)
}

/// `folders`: makes them too. debugfs' mkdir in the place of a folder that is there leaves a second one without a name.
fn fill(at: At, tree: &Tree, folders: bool) -> Result<()> {
    let scratch = tempfile::tempdir().doing(|| "a folder for files")?;
    let mut script = String::new();
    for (number, (path, node)) in tree.nodes().enumerate() {
        let (folder, name) = path.rsplit_once('/').doing(|| format!("{path}: expected an absolute path"))?;
        let folder = if folder.is_empty() { "/" } else { folder };
        let write = |from: &Path, mode: u32| {
            let from = from.display();
            format!("cd {folder}\nrm {name}\nwrite {from} {name}\nsif {name} mode 0100{mode:o}\n")
        };
        script += &match node {
            Node::Folder if !folders => String::new(),
            Node::Folder => format!("cd {folder}\nmkdir {name}\n"),
            Node::Link(to) => format!("cd {folder}\nrm {name}\nsymlink {name} {to}\n"),
            Node::File(from, mode) => write(from, *mode),
            Node::Bytes(bytes, mode) => {
                let file = scratch.path().join(number.to_string());
                std::fs::write(&file, bytes).doing(|| file.display().to_string())?;
                write(&file, *mode)
            }
        };
    }
    run_script(at, &script)
}

/// Removes files.
pub fn remove(at: At, paths: &[&str]) -> Result<()> {
    run_script(at, &paths.iter().map(|path| format!("rm {path}\n")).collect::<String>())
}

/// What a file holds; `None` where there is none, or nothing that could be read as a file system.
pub fn read(at: At, path: &str) -> Result<Option<Vec<u8>>> {
    let mut debugfs = timed(tool("debugfs"));
    let result = debugfs.args(["-R", &format!("cat {path}")]).arg(at.name()).output();
    let result = result.doing(|| "starting debugfs")?;
    // debugfs ends with 0 whatever happened; what went wrong stands on standard error, after its own name.
    let said = complaints(&result.stderr);
    Ok((result.status.success() && said.is_empty()).then_some(result.stdout))
}

/// Runs e2fsck, read-only: what it found, or nothing where the file system is clean.
pub fn check(at: At) -> Result<Option<String>> {
    let result = timed(tool("e2fsck")).args(["-f", "-n"]).arg(at.name()).output().doing(|| "e2fsck")?;
    let said = String::from_utf8_lossy(&result.stdout).into_owned();
    Ok((!result.status.success()).then_some(said))
}

fn run_script(at: At, script: &str) -> Result<()> {
    let mut debugfs = timed(tool("debugfs"));
    let result = output_of_input(debugfs.args(["-w", "-f", "-"]).arg(at.name()), script.as_bytes())?;
    // It goes on after what went wrong, and ends with 0.
    let said = String::from_utf8_lossy(&result.stderr);
    let harmless =
        |line: &str| ["debugfs ", "rm: File not found"].iter().any(|begin| line.starts_with(begin));
    match said.lines().find(|line| !harmless(line)) {
        None => Ok(()),
        Some(line) => Err(Trouble::new(format!("debugfs {}: {line}", at.name()))),
    }
}

fn complaints(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    said.lines().filter(|line| !line.starts_with("debugfs ")).collect::<Vec<_>>().join("; ")
}

/// e2fsprogs takes the time from this variable.
fn timed(mut command: Command) -> Command {
    command.env("E2FSPROGS_FAKE_TIME", EPOCH_S.to_string());
    command
}

/// All of them have the same; what tells them apart is their partition.
const UUID: &str = "4c414200-4e49-414d-8053-544159000000";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MIB;

    #[test]
    fn the_same_tree_gives_the_same_bytes_and_is_read_back() {
        if tool("mkfs.ext4").arg("-V").output().is_err() {
            return println!("not run: mkfs.ext4 is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::new();
        tree.text("/etc/lab/version", "1\n").script("/sbin/init", "#!/bin/sh\n").link("/bin/sh", "busybox");
        let [first, second] = ["first", "second"].map(|name| {
            let path = folder.path().join(name);
            make(&path, 4 * MIB, "slot", Use::Slot, &tree).unwrap();
            edit(At { file: &path, offset: 0 }, Tree::new().text("/etc/lab/version", "22\n")).unwrap();
            std::fs::read(path).unwrap()
        });
        assert!(first == second);
        let at = At { file: &folder.path().join("first"), offset: 0 };
        assert_eq!(read(at, "/etc/lab/version").unwrap().unwrap(), b"22\n");
        assert_eq!(read(at, "/no/such").unwrap(), None);
        assert_eq!(check(at).unwrap().as_deref(), None);
        remove(at, &["/sbin/init"]).unwrap();
        assert_eq!(read(at, "/sbin/init").unwrap(), None);
        assert!(remove(at, &["/sbin"]).is_err(), "a folder is not removed");
        std::fs::write(folder.path().join("noise"), vec![0x5a; MIB as usize]).unwrap();
        let noise = At { file: &folder.path().join("noise"), offset: 0 };
        assert_eq!(read(noise, "/etc/lab/version").unwrap(), None);
    }
}
