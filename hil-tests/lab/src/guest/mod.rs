//! Small root file systems around the static device binary: Debian's kernel, busybox, an init of our own, and nothing else.
//!
//! ```text
//! /boot/vmlinuz, initrd.img     what GRUB loads (U-Boot looks for Image or zImage; a board may add a device tree)
//! /bin/busybox, /bin/*          the tools
//! /bin/mainstay                 the agent, static
//! /sbin/init                    guest/init: mounts, network, supervision, shell
//! /lib/lab/*.ko                 the watchdog's driver, which init loads right before the agent
//! /etc/lab/version, nature      what it calls itself, and how it fares
//! /etc/lab/board                what init has to know of the board
//! /etc/mainstay/board.toml      what the agent has to know of it
//! /data, /boot/efi, /run …      where things are mounted
//! ```
//! They are as small as they can be, because all of it is hashed several times under TCG. A base image is made once; an image
//! of some version and nature is a copy of it in which debugfs changed a few files: the same spec gives the same bytes.

pub mod cpio;
pub mod modules;
mod nature;

pub use nature::{Nature, spoil};

use crate::disk::ext4::{self, At, Use};
use crate::disk::{self, MIB, Tree};
use crate::run::{output_of_input, tool};
use crate::{Doing, Result};
use std::path::{Path, PathBuf};

/// What guests are made of.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// The kernel: bzImage, Image or zImage.
    pub kernel: PathBuf,
    /// Its modules: `…/lib/modules/VERSION`, with `modules.dep`.
    pub modules: PathBuf,
    /// A static busybox for the guest.
    pub busybox: PathBuf,
    /// The static device binary.
    pub agent: PathBuf,
}

/// What a board brings to its guests.
#[derive(Clone, Debug, Default)]
pub struct BoardFiles {
    /// Modules that the initrd loads, in this order, each after what it depends on; one that the kernel has built in is
    /// left out.
    pub initrd_modules: Vec<&'static str>,
    /// The watchdog's driver, if it is a module.
    pub watchdog_module: Option<&'static str>,
    /// `/etc/lab/board`: see guest/init.
    pub lab_board: String,
    /// `/etc/mainstay/board.toml`.
    pub board_toml: String,
    /// What else is to be in the image: folders to mount on, device trees, a kernel in another place.
    pub extra: Tree,
    /// Where its bootloader looks for the kernel: `/boot/vmlinuz`. The initrd is `/boot/initrd.img`.
    pub kernel_path: &'static str,
    /// Whether the kernel is packed with gzip, for a bootloader that unpacks it.
    pub pack_kernel: bool,
}

/// Makes images for one board.
pub struct Images {
    base: PathBuf,
    kernel: PathBuf,
    kernel_path: &'static str,
    pack_kernel: bool,
    agent: PathBuf,
    folder: PathBuf,
}

/// An image that is to be made.
#[derive(Clone, Debug)]
pub struct Spec<'s> {
    /// `/etc/lab/version`.
    pub version: &'s str,
    /// How it fares.
    pub nature: Nature,
    /// Another device binary than the base's.
    pub agent: Option<&'s Path>,
}

impl Images {
    /// Makes the base image, of `slot_bytes`, in `folder`, which it creates.
    pub fn create(folder: &Path, parts: &Ingredients, board: &BoardFiles, slot_bytes: u64) -> Result<Images> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let initrd = folder.join("initrd.img");
        std::fs::write(&initrd, make_initrd(parts, board)?).doing(|| initrd.display().to_string())?;
        let base = folder.join("base.ext4");
        let mut tree = board.extra.clone();
        tree.add(board.kernel_path, kernel(&parts.kernel, false, board.pack_kernel)?);
        tree.file("/boot/initrd.img", &initrd, 0o644);
        if let Some(module) = board.watchdog_module {
            // What it depends on is loaded by the initrd: nothing of that touches the device.
            let needed = modules::with_needed(&parts.modules, &[module])?;
            let last = needed.last().filter(|path| modules::name(path) == module);
            let last = last.doing(|| format!("{}: no module {module}", parts.modules.display()))?;
            tree.add(&format!("/lib/lab/{module}.ko"), disk::Node::Bytes(modules::plain(last)?, 0o644));
        }
        for folder in ["/dev", "/proc", "/sys", "/run", "/data", "/boot/efi", "/mnt"] {
            tree.folder(folder);
        }
        tree.file("/bin/busybox", &parts.busybox, 0o755).file(AGENT, &parts.agent, 0o755);
        for applet in APPLETS {
            tree.link(&format!("/bin/{applet}"), "busybox");
        }
        tree.link("/tmp", "/run").script("/sbin/init", include_str!("../../guest/init"));
        tree.script("/bin/lab-check", include_str!("../../guest/lab-check"));
        tree.script("/bin/lab-run", include_str!("../../guest/lab-run")).link("/bin/lab-show", "lab-run");
        tree.text("/etc/lab/board", &board.lab_board).text("/etc/mainstay/board.toml", &board.board_toml);
        ext4::make(&base, slot_bytes, "slot", Use::Slot, &tree)?;
        Ok(Images {
            base,
            kernel: parts.kernel.clone(),
            kernel_path: board.kernel_path,
            pack_kernel: board.pack_kernel,
            agent: parts.agent.clone(),
            folder: folder.to_owned(),
        })
    }

    /// The initrd, for boards that keep it elsewhere.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    /// The device binary of the base image.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// Makes an image at `path`.
    pub fn make(&self, path: &Path, spec: &Spec) -> Result<()> {
        disk::copy_sparse(&self.base, path)?;
        let at = At { file: path, offset: 0 };
        let mut tree = Tree::new();
        tree.text("/etc/lab/version", &format!("{}\n", spec.version));
        tree.text("/etc/lab/nature", &format!("{}\n", spec.nature.name()));
        if let Some(agent) = spec.agent {
            tree.file(AGENT, agent, 0o755);
        }
        if spec.nature == Nature::KernelHangs {
            tree.add(self.kernel_path, kernel(&self.kernel, true, self.pack_kernel)?);
        }
        ext4::edit(at, &tree)?;
        match spec.nature {
            Nature::InitMissing => ext4::remove(at, &["/sbin/init"]),
            Nature::RootGarbage => nature::spoil(path, 0, spec.version),
            _ => Ok(()),
        }
    }
}

/// The version of the image in a slot, as far as it can be read.
pub fn version_in(slot: At) -> Result<Option<String>> {
    let text = ext4::read(slot, "/etc/lab/version")?;
    Ok(text.and_then(|text| String::from_utf8(text).ok()).map(|text| text.trim().to_owned()))
}

/// A kernel as it goes into an image.
fn kernel(path: &Path, hangs: bool, packed: bool) -> Result<disk::Node> {
    let mut bytes = std::fs::read(path).doing(|| path.display().to_string())?;
    if hangs {
        bytes = nature::hanging_kernel(bytes)?;
    }
    if packed {
        bytes = output_of_input(tool("gzip").args(["-6", "-n"]), &bytes)?.stdout;
    }
    Ok(disk::Node::Bytes(bytes, 0o644))
}

fn make_initrd(parts: &Ingredients, board: &BoardFiles) -> Result<Vec<u8>> {
    let mut wanted = board.initrd_modules.clone();
    wanted.extend(board.watchdog_module);
    let mut loaded = modules::with_needed(&parts.modules, &wanted)?;
    loaded.retain(|path| Some(modules::name(path).as_str()) != board.watchdog_module);
    let mut tree = Tree::new();
    let mut order = String::new();
    for path in &loaded {
        let name = modules::name(path);
        tree.add(&format!("/modules/{name}.ko"), disk::Node::Bytes(modules::plain(path)?, 0o644));
        order += &format!("{name}\n");
    }
    for folder in ["/dev", "/proc", "/sys", "/mnt"] {
        tree.folder(folder);
    }
    tree.text("/modules/order", &order).file("/bin/busybox", &parts.busybox, 0o755);
    tree.script("/init", include_str!("../../guest/initrd-init"));
    let archive = cpio::archive(&tree)?;
    Ok(output_of_input(tool("gzip").args(["-9", "-n"]), &archive)?.stdout)
}

/// Where the agent stands in an image.
pub const AGENT: &str = "/bin/mainstay";
/// The size of an x86_64 image: kernel 12 MB, busybox and the agent 5 MB, initrd 1 MB, and a little room.
pub const SLOT_BYTES: u64 = 24 * MIB;

/// What init, a technician and our own scripts call.
#[rustfmt::skip]
const APPLETS: [&str; 47] = [
    "[", "awk", "base64", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "grep", "halt", "head",
    "hexdump", "insmod", "ip", "kill", "ln", "ls", "md5sum", "mkdir", "mount", "mv", "od", "poweroff", "ps", "pwd", "reboot",
    "rm", "sed", "setsid", "sh", "sha256sum", "sleep", "stty", "sync", "tail", "test", "touch", "tr", "umount", "uname",
    "usleep", "wc",
];
