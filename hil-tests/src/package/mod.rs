//! The Debian package on a real Debian: installed by dpkg into a guest with systemd, set up, and taken through updates.
//!
//! ```text
//! mmdebstrap ─► root, once ─┐
//! cargo xtask deb ─► .deb ──┼─► ext4, no root privilege kept ─► QEMU (x86_64, TCG), Debian's kernel
//! mainstayctl ─► 2, 3 ──────┘        guest/test, a stage for each boot ─► the serial console
//! ```
//! What is proven is what packaging can break: the maintainer scripts, `Type=notify`, the sandbox (it has to let the agent
//! write slots, environment and state, arm a watchdog and reset the machine), `KillMode=process` (the second guard outlives
//! crash and stop), and `end-trial` (an image in which the agent does not start falls back). The bootloader is played by a
//! script in the guest: real ones are the boards' of the laboratory.
//!
//! Needs root (mmdebstrap, owners in the image) and Debian's archive; what is missing is an error that says so.

use crate::operator::{Operator, Packing};
use crate::programs::{Programs, cargo};
use crate::{Doing, Result, Trouble};
use mainstay_lab::machine::{Log, Machine, Setup};
use mainstay_lab::provision::{Arch, Provision, Want};
use mainstay_lab::run::{output, tool};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the guest has beside Debian's minimal variant: systemd as init, a bus, modprobe, and `grub-editenv`.
const PACKAGES: &str = "systemd-sysv,dbus,udev,kmod,grub-common";
/// Root of the guest, and each slot.
const ROOT: &str = "700M";
const SLOT_BYTES: u64 = 8 << 20;
/// An image: noise that has to be written, then zeros.
const IMAGE_BYTES: (usize, u64) = (3 << 20, 5 << 20);
const COMPATIBLE: &str = "package-test";
/// Seconds that a trial may take: more than the test waits for anything, so that no guard comes between.
const DEADLINE_S: u32 = 3600;
/// From one thing that the guest tells to the next. All of it took 133 s of CPU (five boots), and 330 s of a busy machine.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Modules that the guest loads: the watchdog, and what systemd wants.
const MODULES: [&str; 2] = ["kernel/drivers/watchdog", "kernel/fs/autofs"];
/// Units of Debian that only cost time here.
const MASKED: [&str; 7] = [
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-networkd.service",
];
/// What of this folder's `guest` goes where.
const GUEST: [(&str, u32, &str); 6] = [
    ("var/lib/package-test/test", 0o755, include_str!("guest/test")),
    ("var/lib/package-test/bootloader", 0o755, include_str!("guest/bootloader")),
    ("var/lib/package-test/board.toml", 0o644, include_str!("guest/board.toml")),
    ("var/lib/package-test/mainstay.toml", 0o644, include_str!("guest/mainstay.toml")),
    ("etc/systemd/system/package-test.service", 0o644, include_str!("guest/package-test.service")),
    (
        "etc/systemd/system/package-bootloader.service",
        0o644,
        include_str!("guest/package-bootloader.service"),
    ),
];

/// Plays all of it in `folder` and prints a line for each thing that was tried. `cache`: where the laboratory keeps its parts.
/// `true`: the package does what it must.
pub fn run(folder: &Path, cache: &Path) -> Result<bool> {
    let began = Instant::now();
    if !nix::unistd::geteuid().is_root() {
        return Err(Trouble::new("not run: making a Debian root needs root"));
    }
    std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
    let parts = Provision::new(cache).provide(&[Want::X86Bios])?;
    let kernel = parts.kernel(Arch::Amd64)?;
    let root = folder.join("root");
    unpack(&debian(folder)?, &root)?;
    let package = package()?;
    let test = root.join("var/lib/package-test");
    for (to, mode, text) in GUEST {
        write(&root.join(to), text.as_bytes(), mode)?;
    }
    copy(&package, &test.join("mainstay.deb"))?;
    for unit in ["package-test.service", "package-bootloader.service"] {
        link(
            &format!("/etc/systemd/system/{unit}"),
            &root.join("etc/systemd/system/multi-user.target.wants").join(unit),
        )?;
    }
    for unit in MASKED {
        link("/dev/null", &root.join("etc/systemd/system").join(unit))?;
    }
    write(&root.join("etc/modules-load.d/watchdog.conf"), b"i6300esb\n", 0o644)?;
    write(&root.join("etc/fstab"), b"", 0o644)?;
    write(&root.join("boot/grubenv"), &environment(), 0o644)?;
    modules(&kernel.modules, &root.join("lib/modules").join(&kernel.version))?;
    bundles(&folder.join("operator"), &test)?;

    let disks = ["root.img", "slot-a.img", "slot-b.img"].map(|name| folder.join(name));
    let [disk, slot_a, slot_b] = &disks;
    let _ = std::fs::remove_file(disk);
    output(tool("mkfs.ext4").args(["-q", "-F", "-L", "root", "-d"]).arg(&root).arg(disk).arg(ROOT))?;
    for slot in [slot_a, slot_b] {
        let file = std::fs::File::create(slot).doing(|| slot.display().to_string())?;
        file.set_len(SLOT_BYTES).doing(|| slot.display().to_string())?;
    }
    let log = Log::new();
    let machine = Machine::start(&setup(&kernel.image, &disks), &log)?;
    let told = watch(&machine, began);
    let cpu = machine.cpu_seconds().unwrap_or_default(); // gone with a guest that powered itself off
    drop(machine);
    std::fs::write(folder.join("console.log"), log.console()).doing(|| folder.display().to_string())?;
    println!("{:>7.1} s  end; {cpu:.0} s of QEMU's CPU", began.elapsed().as_secs_f32());
    let held = told.inspect_err(|_| eprintln!("the console: {}", folder.join("console.log").display()))?;
    if !held {
        eprintln!("{}\nthe console: {}", tail(&log.console()), folder.join("console.log").display());
    }
    Ok(held)
}

/// Prints each thing that the guest says it has tried. `true`: none failed, and it came to the end of its last stage.
fn watch(machine: &Machine, began: Instant) -> Result<bool> {
    let (mut mark, mut held, mut stage) = (0, true, String::new());
    loop {
        let next = machine.wait(mark, PATIENCE, "a line of the test in the guest", |view| {
            let lines = view.entries.iter().enumerate();
            let mut said =
                lines.filter_map(|(at, entry)| Some((at, entry.seen.line()?.split("PACKAGE ").nth(1)?)));
            said.next().map(|(at, what)| (at, what.trim().to_owned()))
        });
        let (at, what) = next?;
        mark += at + 1;
        println!("{:>7.1} s  {what}", began.elapsed().as_secs_f32());
        held &= !what.starts_with("FAILED");
        if what == "end" {
            return Ok(held && stage == LAST_STAGE);
        }
        if what.starts_with("stage ") {
            stage = what;
        }
    }
}

/// What the guest calls its last stage.
const LAST_STAGE: &str = "stage 4";

fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
}

/// NVMe, because Debian's kernel has its driver built in: the guest needs no initrd.
fn setup(kernel: &Path, disks: &[PathBuf; 3]) -> Setup {
    let words = "-M q35 -cpu max -m 512 -device i6300esb -device virtio-rng-pci -kernel";
    let mut arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
    arguments.push(kernel.display().to_string());
    let line = "console=ttyS0 root=/dev/nvme0n1 rw quiet systemd.show_status=0 panic=5 net.ifnames=0";
    arguments.extend(["-append".to_owned(), line.to_owned()]);
    for (number, disk) in disks.iter().enumerate() {
        let drive = format!("if=none,id=d{number},format=raw,cache=unsafe,file={}", disk.display());
        arguments.extend(["-drive".to_owned(), drive]);
        arguments.extend(["-device".to_owned(), format!("nvme,drive=d{number},serial=d{number}")]);
    }
    Setup { program: "qemu-system-x86_64".into(), arguments, snapshot: None }
}

/// A minimal Debian as a tar file, of the release and from the archive that this machine's own apt uses; made once.
fn debian(folder: &Path) -> Result<PathBuf> {
    let mut ask = tool("apt-get");
    ask.args(["indextargets", "--format", "$(SITE) $(CODENAME) $(ORIGIN)", "Identifier: Packages"]);
    let said = String::from_utf8_lossy(&output(&mut ask)?).into_owned();
    let release = said.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [site, codename, "Debian"] if !codename.contains('-') => Some((site.to_owned(), codename.to_owned())),
        _ => None,
    });
    let (site, codename) = release.doing(|| "apt's lists: expected a release of Debian (apt-get update)")?;
    let tar = folder.join(format!("{codename}.tar"));
    if tar.is_file() {
        return Ok(tar);
    }
    if output(tool("mmdebstrap").arg("--version")).is_err() {
        output(tool("apt-get").args(["install", "-yq", "--no-install-recommends", "mmdebstrap"]))?;
    }
    println!("a minimal {codename}, by mmdebstrap (12 s of CPU, and 80 MB from the archive)");
    let fresh = folder.join("debian.new.tar");
    let mut mmdebstrap = tool("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), &codename]);
    output(mmdebstrap.arg(&fresh).arg(site))?;
    std::fs::rename(&fresh, &tar).doing(|| tar.display().to_string())?;
    Ok(tar)
}

fn unpack(tar: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        std::fs::remove_dir_all(root).doing(|| root.display().to_string())?;
    }
    std::fs::create_dir_all(root).doing(|| root.display().to_string())?;
    let mut unpack = tool("tar");
    unpack.args([
        "--extract",
        "--preserve-permissions",
        "--exclude=./usr/share/locale/*",
        "--exclude=./var/cache/*",
    ]);
    output(unpack.arg("--file").arg(tar).arg("--directory").arg(root)).map(drop)
}

/// The package for amd64, built; cargo says on standard error how far it is.
fn package() -> Result<PathBuf> {
    let mut xtask = cargo();
    xtask.args(["run", "--quiet", "--locked", "--package", "xtask", "--", "deb"]);
    let said = output(xtask.args(["--target", "x86_64-unknown-linux-musl"]))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let file = said.lines().find_map(|line| line.strip_prefix("packed "));
    Ok(file.doing(|| format!("cargo xtask deb: expected a package, found {said}"))?.into())
}

/// Keys, trust root, two images and their bundles, where the test in the guest looks for them.
fn bundles(folder: &Path, test: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).doing(|| folder.display().to_string())?;
    }
    let operator = Operator::new(&Programs::build()?.ctl, folder, "package")?;
    copy(&operator.trust(), &test.join("trust.root"))?;
    for version in ["2", "3"] {
        let image = test.join(format!("{version}.img"));
        let mut noise = vec![0; IMAGE_BYTES.0];
        let mut random = std::fs::File::open("/dev/urandom").doing(|| "/dev/urandom")?;
        std::io::Read::read_exact(&mut random, &mut noise).doing(|| "/dev/urandom")?;
        write(&image, &noise, 0o644)?;
        let file =
            std::fs::OpenOptions::new().write(true).open(&image).doing(|| image.display().to_string())?;
        file.set_len(IMAGE_BYTES.1).doing(|| image.display().to_string())?;
        let bundle = operator.pack(&Packing {
            image: &image,
            compatible: COMPATIBLE,
            version,
            security_version: 0,
            tries: 3,
            deadline_s: DEADLINE_S,
            level: 3,
        })?;
        copy(&bundle.path, &test.join(format!("{version}.bundle")))?;
    }
    Ok(())
}

/// GRUB's environment block of a gateway that left the factory on A.
fn environment() -> Vec<u8> {
    let variables = "BOOT_ORDER=A B\nBOOT_A_LEFT=0\nBOOT_A_GOOD=1\nBOOT_B_LEFT=0\nBOOT_B_GOOD=0\n";
    let mut block = format!("# GRUB Environment Block\n{variables}").into_bytes();
    block.resize(1024, b'#');
    block
}

/// Those modules that the guest loads, and the lists that modprobe reads.
fn modules(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.join("kernel")).doing(|| to.display().to_string())?;
    let lists = std::fs::read_dir(from).doing(|| from.display().to_string())?.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with("modules.").then_some(path)
    });
    for list in lists {
        copy(&list, &to.join(list.file_name().unwrap_or_default()))?;
    }
    for folder in MODULES.iter().filter(|folder| from.join(folder).is_dir()) {
        let above = to.join(folder);
        let above = above.parent().unwrap_or(to);
        std::fs::create_dir_all(above).doing(|| above.display().to_string())?;
        output(tool("cp").arg("-r").arg(from.join(folder)).arg(above))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).doing(|| above.display().to_string())?;
    std::fs::write(path, bytes).doing(|| path.display().to_string())?;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).doing(|| path.display().to_string())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).doing(|| format!("{} to {}", from.display(), to.display())).map(drop)
}

/// A symbolic link, in the place of whatever is there.
fn link(to: &str, at: &Path) -> Result<()> {
    let above = at.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).doing(|| above.display().to_string())?;
    let _ = std::fs::remove_file(at); // not there: good
    symlink(to, at).doing(|| at.display().to_string())
}
