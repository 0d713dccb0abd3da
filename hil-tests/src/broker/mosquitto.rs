//! A real Mosquitto as a process, with TLS 1.3 and client certificates of its own.
//!
//! ```text
//! FOLDER/mosquitto.conf   written anew at each start
//! FOLDER/mosquitto.log
//! FOLDER/mosquitto.db     retained messages, where they are to be kept over a restart
//! ```

use super::gate::{free_port, wait_until_open};
use crate::pki::Pki;
use crate::programs::installed;
use crate::{Doing, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program, where it is installed.
pub fn program() -> Result<PathBuf> {
    installed("mosquitto").doing(|| "mosquitto is not installed (Debian: apt install mosquitto)")
}

/// A running Mosquitto. Killed when dropped.
pub struct Mosquitto {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Mosquitto {
    /// Starts one in `folder`, which it creates.
    pub fn start(pki: &Pki, folder: &Path) -> Result<Mosquitto> {
        let address = free_port()?;
        fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let text = configuration(pki, folder, address);
        let file = folder.join("mosquitto.conf");
        fs::write(&file, text).doing(|| file.display().to_string())?;
        let child = spawn(folder)?;
        let mosquitto = Mosquitto { child, folder: folder.to_owned(), address };
        mosquitto.wait()?;
        Ok(mosquitto)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in good order: what it retained is written to its folder first.
    pub fn terminate(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGTERM).doing(|| "ending mosquitto")?;
        self.child.wait().doing(|| "waiting for mosquitto").map(drop)
    }

    /// Kills it, and removes what it had written down.
    pub fn kill_and_forget(&mut self) -> Result<()> {
        let _ = self.child.kill(); // it may be gone already
        self.child.wait().doing(|| "waiting for mosquitto")?;
        match fs::remove_file(self.folder.join("mosquitto.db")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing(|| "mosquitto.db"),
            _ => Ok(()),
        }
    }

    /// Starts it again, at the same address.
    pub fn restart(&mut self) -> Result<()> {
        let _ = self.child.kill(); // it has been ended by one of the two above
        let _ = self.child.wait();
        self.child = spawn(&self.folder)?;
        self.wait()
    }

    fn wait(&self) -> Result<()> {
        let log = self.folder.join("mosquitto.log");
        let open = wait_until_open(self.address, Duration::from_secs(10));
        open.doing(|| format!("mosquitto, see {}", log.display()))
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be gone already
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Result<Child> {
    let mut command = Command::new(program()?);
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().doing(|| "starting mosquitto")
}

/// `mosquitto.conf(5)`. Queue and in-flight limits stay at Mosquitto's own defaults, as a fleet would find them.
fn configuration(pki: &Pki, folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    let (ca, broker) = (pki.ca(), pki.broker());
    let (ca, certificate, key) = (ca.display(), broker.certificate.display(), broker.key.display());
    let (ip, port) = (address.ip(), address.port());
    // As root it would become the user `mosquitto`, who may not read our files.
    let user = if nix::unistd::geteuid().is_root() { "user root" } else { "" };
    format!(
        "{user}
listener {port} {ip}
cafile {ca}
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
set_tcp_nodelay true
persistence true
persistence_location {folder}/
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
log_type notice
"
    )
}
