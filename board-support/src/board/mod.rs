//! A board is data: one TOML file that says what the boot groups are, where the bootloader keeps its variables,
//! and which watchdog, reset and GPIO lines there are. Nothing here opens a device.
//!
//! The file is checked whole when it is loaded, so that a wrong line stops the agent at its start, on the desk of
//! whoever wrote it, and not in the middle of an update. [`PORTING.md`](../PORTING.md) says how to write one.
//!
//! ```text
//! compatible = "acme-gw100"            what bundles have to be made for
//! [boot]                               bootloader, convention, environment, how the running group is known
//! [[slot]] ...                         one per group and class: device [+ partition | + offset and size]
//! [watchdog]                           kind = "device" | "simulated" | "none"
//! [reboot]                             kind = "system", or command = [...]; may be left out
//! [gpio]                               lines; may be left out
//! ```

mod check;
mod read;

use std::path::{Path, PathBuf};

use heapless::String as Text;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_core::boot::Group;
use mainstay_core::limits::{BLOCK_BYTES, CLASS_BYTES_MAX, COMPATIBLE_BYTES_MAX};

pub use crate::toml_file::TomlError;
use crate::toml_file::{Result, TomlFile};

/// Slots begin and end at multiples of this on their device: the page size, and the block size of every medium
/// that the agent writes past the page cache.
pub const SLOT_ALIGN: u64 = BLOCK_BYTES as u64;

/// Slots of one board: both groups, each with at most the artifacts of one bundle.
pub const SLOTS_MAX: usize = 2 * mainstay_core::limits::ARTIFACTS_MAX;

/// A board, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// The file that it was read from, as errors name it.
    pub file: String,
    /// What a bundle has to be made for.
    pub compatible: Text<COMPATIBLE_BYTES_MAX>,
    /// Bootloader and running group.
    pub boot: Boot,
    /// The slots of both groups, in the file's order; at most [`SLOTS_MAX`].
    pub slots: Vec<SlotSpec>,
    /// The watchdog.
    pub watchdog: WatchdogSpec,
    /// How the machine is restarted.
    pub reboot: RebootSpec,
    /// The GPIO lines.
    pub gpio: GpioSpec,
}

impl Board {
    /// Reads and checks the file at `path`; relative paths in it begin at its folder.
    pub fn load(path: &Path) -> Result<Board> {
        let text = TomlFile::text_of(path)?;
        Board::parse(&text, &path.display().to_string())
    }

    /// Reads and checks `text`. `name` is the file's path: errors call it so, relative paths begin at its folder.
    pub fn parse(text: &str, name: &str) -> Result<Board> {
        TomlFile::parse(text, name, |top| read::board(top, name))
    }

    /// The slot of `group` for artifacts of `class`.
    pub fn slot(&self, group: Group, class: &str) -> Option<&SlotSpec> {
        self.slots.iter().find(|s| s.group == group && s.class == class)
    }

    /// The slot classes that each group has, in the file's order.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter(|s| s.group == Group::A).map(|s| s.class.as_str())
    }
}

/// What the file says about booting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which bootloader, and where its variables are.
    pub bootloader: Bootloader,
    /// Which variables mean what.
    pub convention: Convention,
    /// Held while the environment is read and written, shared with `fw_setenv` and its like.
    pub lock_file: PathBuf,
    /// How the running group is known.
    pub running: RunningSpec,
}

/// The bootloader and the place of its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootloader {
    /// U-Boot.
    UBoot {
        /// One environment, or two copies of it (CONFIG_ENV_REDUNDANT), of one size.
        copies: Vec<EnvironmentSpec>,
        /// What the flag byte of two copies means.
        flags: Scheme,
    },
    /// GRUB 2: the environment block (`grubenv`), [`GRUBENV_BYTES`] long.
    Grub(EnvironmentSpec),
}

impl Bootloader {
    /// Every place that holds a copy of the environment.
    pub fn environment(&self) -> &[EnvironmentSpec] {
        match self {
            Bootloader::UBoot { copies, .. } => copies,
            Bootloader::Grub(block) => std::slice::from_ref(block),
        }
    }
}

/// A GRUB environment block is always this long (GRUB manual, "Environment block").
pub const GRUBENV_BYTES: u64 = 1024;

/// Where one copy of the environment is: a file or device, and a range of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// The file or device.
    pub path: PathBuf,
    /// Where it begins, in bytes; negative: from the end of the file or device, as in fw_env.config.
    pub offset: i64,
    /// How long it is, in bytes (U-Boot's CONFIG_ENV_SIZE).
    pub size: u64,
}

impl EnvironmentSpec {
    /// Where it begins in a file or device of `bytes` bytes; `None` if it does not lie in it.
    pub fn begin(&self, bytes: u64) -> Option<u64> {
        let begin =
            if self.offset < 0 { bytes.checked_add_signed(self.offset)? } else { self.offset.unsigned_abs() };
        (begin.checked_add(self.size)? <= bytes).then_some(begin)
    }
}

/// Which variables of the environment mean what; bootloader-glue holds the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// Our own.
    Mainstay,
    /// RAUC's, so that its boot scripts stay as they are.
    Rauc,
    /// U-Boot's own bootcount and altbootcmd. U-Boot only.
    Bootcount,
}

/// How the running group is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunningSpec {
    /// `KEY=A` or `KEY=B` on the kernel's command line; the first key that is there counts.
    CommandLine(Vec<String>),
    /// A file that holds `A` or `B`: containers, and boards whose early user space finds it out.
    File(PathBuf),
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSpec {
    /// The group that it is booted with.
    pub group: Group,
    /// The class of artifacts that it takes.
    pub class: Text<CLASS_BYTES_MAX>,
    /// A block device or an image file.
    pub device: PathBuf,
    /// Which part of it.
    pub part: Part,
    /// The line of the board file that it begins at: for messages.
    pub line: u32,
}

/// Which part of a device or image file a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// A GPT partition: its number, its label, or its PARTUUID.
    Partition(String),
    /// A range, in bytes; both multiples of [`SLOT_ALIGN`], the size not 0.
    Range {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        size: u64,
    },
}

/// The watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchdogSpec {
    /// A Linux watchdog device.
    Device {
        /// Mostly `/dev/watchdog`.
        path: PathBuf,
        /// The timeout that is asked for, in seconds.
        timeout_s: u32,
    },
    /// A simulated board around the agent: the demo and tests.
    Simulated {
        /// Its Unix datagram socket or FIFO.
        path: PathBuf,
        /// The timeout that is asked for, in seconds.
        timeout_s: u32,
    },
    /// The board has none: a hang stays a hang.
    None,
}

/// How the machine is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebootSpec {
    /// The system's own way (see [`power`](crate::power)).
    System,
    /// This program with these arguments.
    Command(Vec<String>),
}

/// The GPIO lines that the agent uses; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpioSpec {
    /// Shows a person what the agent does.
    pub status_led: Option<LineSpec>,
    /// An input from the plant: active means that the machine may go down.
    pub interlock: Option<LineSpec>,
    /// A button that is held at start.
    pub recovery_button: Option<LineSpec>,
    /// Toggles an external watchdog chip, and the chip's fixed timeout in seconds.
    pub watchdog_toggle: Option<(LineSpec, u32)>,
}

/// One line of a GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSpec {
    /// The chip's character device.
    pub chip: PathBuf,
    /// The line's offset on the chip.
    pub line: u32,
    /// A low level means active.
    pub active_low: bool,
}
