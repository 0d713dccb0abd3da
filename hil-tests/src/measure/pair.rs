//! Pairs of images to weigh updates on: a real one, by the script `pairs/make-pair`, and three made-up ones that are the same
//! on every machine with the same e2fsprogs. What stands in the folder already is taken as it is.
//!
//! ```text
//! one-byte       one byte in the middle of the image differs           the least that can change
//! all-changed    each file has other content, name and length the same   nothing to profit from but the file system itself
//! inserted       8 MiB are written before all other files               all content is there, elsewhere
//! ```
//! An image is ext4, 64 MiB, with 40 files of 1 MiB: text-like, incompressible and holes, as in the bench's images. The files are
//! written by debugfs, one after another in our order: mkfs.ext4 -d takes the order of the folder that it reads, which is the
//! builder's file system's affair.

use super::Words;
use crate::disk::MIB;
use crate::image::{Behaviour, Header, Spec};
use crate::{Doing, Result, Trouble};
use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

const IMAGE_BYTES: u64 = 64 * MIB;
const FILES: u32 = 40;
const FILE_BYTES: u64 = MIB;
const INSERTED_BYTES: u64 = 8 * MIB;
const CHANGED_AT: u64 = IMAGE_BYTES / 2 + 321;

/// Makes those that are missing.
pub fn make(words: &Words) -> Result<()> {
    let folder = words.pairs();
    std::fs::create_dir_all(&folder).doing(|| folder.display().to_string())?;
    let there = |name: &str| ["v1", "v2"].iter().all(|v| folder.join(name.replace("v?", v)).is_file());
    for (name, make) in MADE_UP {
        match there(name) {
            true => println!("{name}: there already"),
            false => {
                make(words, &folder)?;
                println!("{name}: made");
            }
        }
    }
    let formats: Vec<&str> = words.formats.split(',').collect();
    let missing: Vec<&str> = formats.into_iter().filter(|format| !there(&images(format))).collect();
    match missing.is_empty() {
        true => println!("v?.{{{}}}: there already", words.formats),
        false => real(&folder, &missing)?,
    }
    Ok(())
}

/// What the images of a format of the real pair are called.
fn images(format: &str) -> String {
    match format.split_once('-') {
        Some((file_system, packer)) => format!("{packer}-v?.{file_system}"),
        None => format!("v?.{format}"),
    }
}

type Make = fn(&Words, &Path) -> Result<()>;

const MADE_UP: [(&str, Make); 3] =
    [("one-byte-v?.ext4", one_byte), ("all-changed-v?.ext4", all_changed), ("inserted-v?.ext4", inserted)];

fn one_byte(words: &Words, folder: &Path) -> Result<()> {
    let (old, new) = (folder.join("one-byte-v1.ext4"), folder.join("one-byte-v2.ext4"));
    ext4(words, &old, "1", false)?;
    std::fs::copy(&old, &new).doing(|| new.display().to_string())?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&new);
    let changed = file.and_then(|file| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, CHANGED_AT)?;
        file.write_all_at(&[byte[0] ^ 1], CHANGED_AT)
    });
    changed.doing(|| new.display().to_string())
}

fn all_changed(words: &Words, folder: &Path) -> Result<()> {
    ext4(words, &folder.join("all-changed-v1.ext4"), "1", false)?;
    ext4(words, &folder.join("all-changed-v2.ext4"), "2", false)
}

fn inserted(words: &Words, folder: &Path) -> Result<()> {
    ext4(words, &folder.join("inserted-v1.ext4"), "1", false)?;
    ext4(words, &folder.join("inserted-v2.ext4"), "1", true)
}

/// An image of files whose content is this version's, with a large one before them or not.
fn ext4(words: &Words, image: &Path, version: &str, inserted: bool) -> Result<()> {
    let folder = words.workshop()?;
    let at = |name: &str| folder.path().join(name);
    let raw = at("image");
    let file = std::fs::File::create(&raw).doing(|| raw.display().to_string())?;
    file.set_len(IMAGE_BYTES).doing(|| raw.display().to_string())?;
    let fresh = format!("hash_seed={UUID},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0");
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-b", "4096", "-m", "0", "-L", "rootfs", "-U", UUID, "-E", &fresh]).arg(&raw);
    tool(&mut mkfs)?;

    let mut script = String::new();
    let mut content = |name: &str, bytes: u64, seed: u64| {
        let header = Header::new(version, Behaviour::Healthy);
        Spec { header, bytes, seed, changed_percent: 100 }.write(&at(name))?;
        // Names are ours and without blanks; the folder is where debugfs is started.
        writeln!(script, "write {name} {name}").doing(|| "a script for debugfs")
    };
    if inserted {
        content("000-inserted", INSERTED_BYTES, 1000)?;
    }
    for number in 1..=FILES {
        content(&format!("{number:03}-content"), FILE_BYTES, u64::from(number))?;
    }
    std::fs::write(at("script"), script).doing(|| "a script for debugfs")?;
    tool(Command::new("debugfs").args(["-w", "-f", "script", "image"]).current_dir(folder.path()))?;
    std::fs::copy(&raw, image).doing(|| image.display().to_string()).map(drop)
}

const UUID: &str = "6b1c9a52-0000-4000-8000-0000000000bb";
/// What e2fsprogs takes for now.
const FAKE_TIME: &str = "1790000000";

/// Runs one of e2fsprogs' tools.
fn tool(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.env("E2FSPROGS_FAKE_TIME", FAKE_TIME).env("PATH", path).stdin(Stdio::null());
    let output = command.output().doing(|| format!("{name} (Debian: apt install e2fsprogs)"))?;
    // debugfs ends well whatever its commands came to; it says the name of the file, and then what went wrong.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let failed = said.lines().any(|line| line.contains("write:") || line.contains("Could not"));
    match output.status.success() && !failed {
        true => Ok(()),
        false => Err(Trouble::new(format!("{name}: {}: {}", output.status, said.trim()))),
    }
}

/// The real pair.
fn real(folder: &Path, formats: &[&str]) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pairs/make-pair");
    println!("the real pair, as {}: making it, about three minutes", formats.join(", "));
    let status = Command::new(script).arg(folder).args(formats).stdin(Stdio::null()).status();
    let status = status.doing(|| script)?;
    match status.success() {
        true => Ok(()),
        false => Err(Trouble::new(format!("{script}: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the made-up pairs are what their names say, and the same each time. Method: make them twice; compare block by block.
    #[test]
    fn made_up_pairs_differ_as_their_names_say_and_are_the_same_each_time() {
        let tools = ["mkfs.ext4", "debugfs"];
        if tools.iter().any(|tool| Command::new(tool).arg("-V").output().is_err()) {
            eprintln!("not run: e2fsprogs is not installed");
            return;
        }
        let words = Words::read(["measure", "pair"].map(Into::into)).unwrap();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for folder in &folders {
            MADE_UP.iter().for_each(|(_, make)| make(&words, folder.path()).unwrap());
        }
        let read = |at: usize, name: &str| std::fs::read(folders[at].path().join(name)).unwrap();
        for (name, _) in MADE_UP {
            for name in ["v1", "v2"].map(|v| name.replace("v?", v)) {
                assert!(read(0, &name) == read(1, &name), "{name} is another each time");
                assert_eq!(read(0, &name).len() as u64, IMAGE_BYTES);
            }
        }
        let (old, new) = (read(0, "one-byte-v1.ext4"), read(0, "one-byte-v2.ext4"));
        assert_eq!(old.iter().zip(&new).filter(|(a, b)| a != b).count(), 1);
        // 40 MiB of files, a quarter of them holes.
        let data =
            |image: &[u8]| image.chunks(4096).filter(|block| block.iter().any(|byte| *byte != 0)).count();
        let changed = read(0, "all-changed-v2.ext4");
        let same = old.chunks(4096).zip(changed.chunks(4096)).filter(|(a, b)| a == b && a[0] != 0).count();
        assert!(data(&changed) > 6000 && same * 50 < data(&changed), "{same} of {}", data(&changed));
        let inserted = read(0, "inserted-v2.ext4");
        let in_place =
            old.chunks(4096).zip(inserted.chunks(4096)).filter(|(a, b)| a == b && a[0] != 0).count();
        let there: std::collections::HashSet<&[u8]> = old.chunks(4096).collect();
        let elsewhere = inserted.chunks(4096).filter(|block| there.contains(block)).count();
        assert!(in_place * 10 < data(&old), "{in_place} blocks lie where they did, of {}", data(&old));
        assert!(elsewhere * 10 > inserted.len() / 4096 * 8, "{elsewhere}");
    }
}
