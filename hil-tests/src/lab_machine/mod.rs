//! An emulated machine that can be handled as a real board is: by commands, and over a serial port. What stands behind
//! `hil-tests/benches/qemu-pty/bench.toml`, so that the bench for real boards is tried without one.
//!
//! ```text
//! lab-machine image         image.make         an image, by the laboratory's own maker
//! lab-machine flash         factory.flash      disk.img and machine.json in the folder
//! lab-machine on, off       power.on, .off     QEMU, with its serial port as a pseudo terminal: FOLDER/tty
//! lab-machine up, down      network.up, .down  QMP set_link
//! lab-machine environment   environment.read   out of disk.img
//! lab-machine ruin          factory.ruin       into disk.img
//! lab-machine version       factory.version    out of disk.img
//! ```
//! What the commands have to know beside what they are told stands in one folder (`MAINSTAY_LAB_MACHINE`, or
//! `target/hil/lab-machine`), in `machine.json`; they share nothing else.
//!
//! * [`power`] QEMU as a process that outlives the command that started it, but not the bench
//! * `maker` images and disks

mod maker;
mod power;

use crate::{Doing, Result, Trouble};
use mainstay_bootloader_glue::Format;
use mainstay_core::boot::Group;
use mainstay_lab::disk::ext4::At;
use mainstay_lab::guest;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The machine's folder.
struct Folder(PathBuf);

/// What `machine.json` says: how QEMU is started, and where on the disk is what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Machine {
    program: PathBuf,
    arguments: Vec<String>,
    disk: PathBuf,
    /// Where GRUB's environment block stands, in bytes.
    environment_at: u64,
    /// Where the slots of A and B begin, in bytes.
    slots_at: [u64; 2],
}

/// The words of the command line.
const WORDS: &str = "image, flash, on, off, up, down, environment, ruin or version";
/// A GRUB environment block.
const ENVIRONMENT_BYTES: usize = 1024;

/// Does what one command is for.
pub fn run(words: &[String]) -> Result<()> {
    let folder = Folder::of_environment();
    std::fs::create_dir_all(&folder.0).doing(|| folder.0.display().to_string())?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["image"] => maker::image(&folder),
        ["flash"] => maker::flash(&folder),
        ["on"] => power::on(&folder),
        ["off"] => power::off(&folder),
        ["guard"] => power::guard(&folder),
        ["up"] => power::link(&folder, true),
        ["down"] => power::link(&folder, false),
        ["environment"] => environment(&folder),
        ["ruin"] => ruin(&folder),
        ["version"] => version(&folder),
        _ => Err(Trouble::new(format!("expected {WORDS}, found {:?}", words.join(" ")))),
    }
}

impl Folder {
    fn of_environment() -> Folder {
        let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/hil/lab-machine");
        Folder(std::env::var_os("MAINSTAY_LAB_MACHINE").map_or_else(|| PathBuf::from(usual), PathBuf::from))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Machine {
    fn read(folder: &Folder) -> Result<Machine> {
        let path = folder.at("machine.json");
        let text = std::fs::read_to_string(&path).doing(|| format!("{}: is it flashed?", path.display()))?;
        let value: Value = serde_json::from_str(&text).doing(|| path.display().to_string())?;
        Machine::of(&value).doing(|| format!("{}: expected what `flash` writes", path.display()))
    }

    fn of(value: &Value) -> Option<Machine> {
        let words = value["arguments"].as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
        let slots: Option<Vec<u64>> = value["slots_at"].as_array()?.iter().map(Value::as_u64).collect();
        Some(Machine {
            program: value["program"].as_str()?.into(),
            arguments: words.collect::<Option<_>>()?,
            disk: value["disk"].as_str()?.into(),
            environment_at: value["environment_at"].as_u64()?,
            slots_at: slots?.try_into().ok()?,
        })
    }

    /// Where the slot begins that the command was told of, in bytes.
    fn slot_told(&self) -> Result<u64> {
        let group = told_text("SLOT")?;
        let group = Group::from_name(&group).doing(|| format!("SLOT: expected A or B, found {group:?}"))?;
        let [a, b] = self.slots_at;
        Ok(if group == Group::A { a } else { b })
    }

    fn value(&self) -> Value {
        json!({
            "program": self.program, "arguments": self.arguments, "disk": self.disk,
            "environment_at": self.environment_at, "slots_at": self.slots_at,
        })
    }
}

/// What a command is told: `MAINSTAY_HIL_` and the name.
fn told(name: &str) -> Result<OsString> {
    let name = format!("MAINSTAY_HIL_{name}");
    std::env::var_os(&name).doing(|| format!("expected {name} in the environment, found nothing"))
}

fn told_text(name: &str) -> Result<String> {
    told(name)?.into_string().map_err(|found| Trouble::new(format!("MAINSTAY_HIL_{name}: {found:?}")))
}

/// Prints the bootloader's variables, as the disk's file holds them now.
fn environment(folder: &Folder) -> Result<()> {
    let machine = Machine::read(folder)?;
    let mut block = vec![0; ENVIRONMENT_BYTES];
    let disk = File::open(&machine.disk);
    let read = disk.and_then(|disk| disk.read_exact_at(&mut block, machine.environment_at));
    read.doing(|| machine.disk.display().to_string())?;
    let read = Format::Grub.parse(&[block]).doing(|| "GRUB's environment block")?;
    for entry in read.vars().entries() {
        println!("{entry:?}");
    }
    Ok(())
}

/// How much of a slot is destroyed, from its superblock on: superblock, group descriptors, inodes, folders.
const NOISE_BYTES: usize = 1024 * 1024;
/// An ext4 superblock stands 1 KiB into its file system (Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK_AT: u64 = 1024;

/// Fills the beginning of a slot with noise.
fn ruin(folder: &Folder) -> Result<()> {
    let machine = Machine::read(folder)?;
    write_noise(&machine.disk, machine.slot_told()? + SUPERBLOCK_AT)
}

/// Prints the version of the image in a slot, if one can be read there.
fn version(folder: &Folder) -> Result<()> {
    let machine = Machine::read(folder)?;
    let slot = At { file: &machine.disk, offset: machine.slot_told()? };
    println!("{}", guest::version_in(slot)?.unwrap_or_default());
    Ok(())
}

fn write_noise(disk: &Path, at: u64) -> Result<()> {
    // Noise that is the same each time: xorshift64 (Marsaglia, 2003).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(NOISE_BYTES)
    .collect();
    let file = OpenOptions::new().write(true).open(disk);
    file.and_then(|file| file.write_all_at(&noise, at)).doing(|| disk.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flash_writes_down_is_what_the_other_commands_read() {
        let machine = Machine {
            program: "qemu-system-x86_64".into(),
            arguments: vec!["-M".into(), "q35".into()],
            disk: "disk.img".into(),
            environment_at: 0x12_3456,
            slots_at: [1 << 20, 1 << 30],
        };
        assert_eq!(Machine::of(&machine.value()), Some(machine));
        assert_eq!(Machine::of(&json!({ "program": "x" })), None);
    }

    #[test]
    fn a_word_that_is_not_known_is_named() {
        let error = run(&["frobnicate".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("expected image, flash, on") && error.contains("frobnicate"), "{error}");
    }
}
