//! File system images by their own tools, for the tests of what reads them.

use std::path::Path;
use std::process::{Command, Stdio};

pub const KIB: usize = 1024;

/// The same for the same seed, and nothing in it repeats.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Of 12 MiB, unless the file is there already.
pub fn make_ext4(image: &Path, tree: &Path, arguments: &[&str]) -> Option<()> {
    if !image.exists() {
        std::fs::File::create(image).unwrap().set_len(12 << 20).unwrap();
    }
    let mut mkfs = tool("mkfs.ext4");
    mkfs.args(["-q", "-F", "-N", "600"]).args(arguments).arg("-d").arg(tree).arg(image);
    run("e2fsprogs", &mut mkfs)
}

pub fn make_erofs(image: &Path, tree: &Path, arguments: &[&str]) -> Option<()> {
    run("erofs-utils", tool("mkfs.erofs").args(["-d0", "-T0"]).args(arguments).arg(image).arg(tree))
}

pub fn make_squashfs(image: &Path, tree: &Path, arguments: &[&str]) -> Option<()> {
    let mut mksquashfs = tool("mksquashfs");
    mksquashfs.arg(tree).arg(image).args(["-noappend", "-no-progress", "-quiet"]).args(arguments);
    run("squashfs-tools", &mut mksquashfs)
}

/// Nothing where the tool is missing; in CI that is a failure.
pub fn run(package: &str, command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(done) => {
            assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
            Some(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("not run: {} is not installed (package {package})", command.get_program().display());
            None
        }
        Err(e) => panic!("{command:?} (package {package}): {e}"),
    }
}

/// A tool of the host, found also where only root looks.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C").stdin(Stdio::null());
    command
}
