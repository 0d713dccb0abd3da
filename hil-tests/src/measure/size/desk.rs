//! The desk on which one method is weighed: a folder with `old` and `new` in it, and nothing else. Commands are run in it, so
//! that they read as one would type them.

use super::super::cost::{self, Cost};
use crate::{Doing, Result, Trouble};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a method costs on one pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weighed {
    /// Bytes that a device has to fetch which holds the old image, all told.
    pub wire: u64,
    /// Of these, what only says what is where.
    pub index: u64,
    /// Of who makes the update.
    pub pack: Option<Cost>,
    /// Of the device.
    pub apply: Option<Cost>,
    /// What has to be said of it below the table; mostly nothing.
    pub note: String,
}

/// A folder for one method.
pub struct Desk {
    folder: TempDir,
    bytes: u64,
}

impl Desk {
    /// Lays `old` and `new` on it.
    pub fn lay(workshop: &Path, old: &Path, new: &Path) -> Result<Desk> {
        let folder = tempfile::Builder::new().prefix("desk-").tempdir_in(workshop);
        let folder = folder.doing(|| workshop.display().to_string())?;
        for (image, name) in [(old, "old"), (new, "new")] {
            let link = std::os::unix::fs::symlink(image, folder.path().join(name));
            link.doing(|| format!("{}: laying it on the desk", image.display()))?;
        }
        let bytes = std::fs::metadata(new).doing(|| new.display().to_string())?.len();
        Ok(Desk { folder, bytes })
    }

    /// How long `new` is.
    pub fn new_bytes(&self) -> u64 {
        self.bytes
    }

    /// Where something of this name stands.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All of a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.at(name)).doing(|| name.to_owned())
    }

    /// Puts a file there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        std::fs::write(self.at(name), bytes).doing(|| name.to_owned())
    }

    /// How long a file is.
    pub fn weigh(&self, name: &str) -> Result<u64> {
        Ok(std::fs::metadata(self.at(name)).doing(|| name.to_owned())?.len())
    }

    /// Lays a program on it, to be run as `./NAME`.
    pub fn link(&self, name: &str, program: &Path) -> Result<()> {
        let at = self.at(name);
        let there = at.exists();
        let laid = if there { Ok(()) } else { std::os::unix::fs::symlink(program, at) };
        laid.doing(|| format!("{}: laying it on the desk", program.display()))
    }

    /// Runs a command line in the folder, split at blanks; what it prints is not kept.
    pub fn run(&self, line: &str) -> Result<Cost> {
        cost::run(self.command(line).stdout(Stdio::null()))
    }

    /// As [`Desk::run`]; what it prints goes into a file.
    pub fn run_into(&self, line: &str, name: &str) -> Result<Cost> {
        let out = File::create(self.at(name)).doing(|| name.to_owned())?;
        cost::run(self.command(line).stdout(out))
    }

    /// What a command line prints.
    pub fn ask(&self, line: &str) -> Result<String> {
        let output = self.command(line).stdin(Stdio::null()).output().doing(|| format!("starting {line}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(said),
            false => {
                let why = String::from_utf8_lossy(&output.stderr);
                Err(Trouble::new(format!("{line}: {}: {}", output.status, why.trim())))
            }
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        let mut command = match program.strip_prefix("./") {
            Some(name) => Command::new(self.at(name)),
            None => Command::new(program),
        };
        command.args(words).current_dir(self.folder.path()).env("LC_ALL", "C");
        command
    }

    /// The file `out`, which was made of `old`, has to be `new`; then it goes.
    pub fn prove(&self) -> Result<()> {
        let same = same(&self.at("out"), &self.at("new"))?;
        same.then_some(()).doing(|| "what it makes of the old image is not the new one")?;
        std::fs::remove_file(self.at("out")).doing(|| "out")
    }
}

/// Have two files the same bytes?
fn same(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).doing(|| path.display().to_string());
    let (mut one, mut other) = (open(one)?, open(other)?);
    let lengths = [&one, &other].map(|file| file.metadata().map(|about| about.len()).unwrap_or(u64::MAX));
    let [mut left, length] = lengths;
    if left != length {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    while left > 0 {
        let n = left.min(a.len() as u64) as usize;
        let (a, b) = (a.get_mut(..n).unwrap_or_default(), b.get_mut(..n).unwrap_or_default());
        one.read_exact(a).and_then(|()| other.read_exact(b)).doing(|| "comparing images")?;
        if a != b {
            return Ok(false);
        }
        left -= n as u64;
    }
    Ok(true)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A desk with these on it, and the folder that the images stand in.
    pub(in super::super) fn desk(old: &[u8], new: &[u8]) -> (TempDir, Desk) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("1.img"), old).unwrap();
        std::fs::write(at("2.img"), new).unwrap();
        let desk = Desk::lay(folder.path(), &at("1.img"), &at("2.img")).unwrap();
        (folder, desk)
    }

    #[test]
    fn an_image_that_is_not_the_new_one_is_told() {
        let (_folder, desk) = desk(b"old", b"new image");
        for (out, proven) in [(&b"new image"[..], true), (b"new imagE", false), (b"new", false)] {
            desk.write("out", out).unwrap();
            assert_eq!(desk.prove().is_ok(), proven, "{out:?}");
        }
        assert!(desk.prove().is_ok() || desk.at("out").exists(), "what is proven goes");
    }

    #[test]
    fn commands_see_both_images_and_their_words_are_kept_where_asked_for() {
        let (_folder, desk) = desk(b"old\n", b"new\n");
        assert_eq!(desk.ask("cat old new").unwrap(), "old\nnew\n");
        desk.run_into("cat new old", "both").unwrap();
        assert_eq!(
            (desk.read("both").unwrap().as_slice(), desk.weigh("both").unwrap()),
            (&b"new\nold\n"[..], 8)
        );
        assert!(desk.ask("cat nothing").unwrap_err().to_string().contains("nothing"));
        assert!(desk.run("cat nothing").is_err());
        assert_eq!(desk.new_bytes(), 4);
    }
}
