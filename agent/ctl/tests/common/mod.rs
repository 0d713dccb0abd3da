//! What the tests share: a desk to work at, the binary, and a broker where there is one.
#![allow(dead_code)] // each test file uses its own part

pub mod client;

use mainstay_core::digest::Digest;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with keys, a trust root and what a test puts there.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    /// An empty one.
    pub fn new() -> Self {
        Desk { folder: tempfile::tempdir().expect("a folder") }
    }

    /// With `root`, `release` and `operator` keys and `trust.root` of the fleet `plant`.
    pub fn furnished() -> Self {
        let desk = Desk::new();
        for name in ["root", "release", "operator"] {
            desk.key(name);
        }
        desk.ok(&[
            "trust",
            "init",
            "--fleet",
            "plant",
            "--root-key",
            "root.pub",
            "--release-key",
            "release.pub",
            "--operator-key",
            "operator.pub",
            "--sign-with",
            "root.key",
            "--out",
            "trust.root",
        ]);
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// An unprotected key.
    pub fn key(&self, name: &str) {
        self.ok(&["key", "generate", name, "--no-passphrase"]);
    }

    /// The binary, in this folder, without a terminal and without what the caller's environment holds.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstayctl"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("MAINSTAY_PASSPHRASE")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("mainstayctl starts")
    }

    /// Must end with 0; its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Must end with 1; its standard error.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }

    /// Packs and signs `images` as `OUT`.
    pub fn bundle(&self, out: &str, images: &[&str], version: &str) {
        let mut arguments = vec![
            "pack",
            "--compatible",
            "acme-gw1",
            "--version",
            version,
            "--level",
            "3",
            "--sign-with",
            "release.key",
            "--out",
            out,
        ];
        for image in images {
            arguments.extend(["--artifact", image]);
        }
        self.ok(&arguments);
    }
}

/// Numbers that look random and are the same in each run (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// The bytes of one object of a bundle file, with where its header begins.
pub struct Entry {
    pub at: usize,
    pub kind: u8,
    pub bytes: Vec<u8>,
}

/// Takes a bundle file apart by its drawing, without the library.
pub fn entries(file: &[u8]) -> Vec<Entry> {
    let mut at = 16;
    let mut entries = Vec::new();
    while at < file.len() {
        let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().expect("four bytes")) as usize;
        entries.push(Entry { at, kind: file[at], bytes: file[at + 8..at + 8 + length].to_vec() });
        at += 8 + length;
    }
    entries
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A real Mosquitto on a port of its own.
pub struct Mosquitto {
    child: Child,
    pub port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts one with these lines of configuration behind its listener; `None`, with a line that says so, where
    /// there is none.
    pub fn start(lines: &str) -> Option<Self> {
        let Some(program) = mosquitto() else {
            eprintln!("not run: mosquitto is not installed");
            return None;
        };
        let port = free_port();
        Some(Self::start_at(&program, port, lines))
    }

    fn start_at(program: &Path, port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let conf = folder.path().join("mosquitto.conf");
        // Started by root, it would else become a user who cannot read the test's files.
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        std::fs::write(&conf, format!("user root\nlistener {port} 127.0.0.1\n{lines}\n")).expect("written");
        let child = Command::new(program)
            .arg("-v")
            .arg("-c")
            .arg(&conf)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto starts");
        let broker = Mosquitto { child, port, folder };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen: {}", broker.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}
