//! A Mosquitto of one's own: `MosquittoFixture::start(..)`, and it dies with the fixture.

use super::pki::Pki;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the broker is set up; `Default` is plain TCP, everybody allowed, nothing kept on disk.
#[derive(Default)]
pub struct Options<'a> {
    /// TLS with this server certificate; clients have to show one of the same CA.
    pub tls: Option<&'a Pki>,
    /// Keeps sessions and retained messages over [`MosquittoFixture::stop`] and `restart`.
    pub persistent: bool,
    /// The lines of an ACL file.
    pub acl: Option<&'a str>,
    /// Further lines of `mosquitto.conf`.
    pub more: &'a str,
}

/// A running (or stopped) broker.
pub struct MosquittoFixture {
    pub port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl MosquittoFixture {
    /// `None`, with a printed line, where Mosquitto is not installed.
    pub fn start(options: Options) -> Option<Self> {
        if executable().is_none() {
            println!("not run: mosquitto is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("folder");
        let port = super::free_port();
        let mut lines = vec![
            "per_listener_settings false".to_string(),
            "allow_anonymous true".into(),
            "log_type error".into(),
            "log_type warning".into(),
        ];
        if nix::unistd::geteuid().is_root() {
            lines.push("user root".into()); // or it would drop to a user that cannot read our folder
        }
        if options.persistent {
            lines.push("persistence true".into());
            lines.push(format!("persistence_location {}/", folder.path().display()));
        }
        if let Some(acl) = options.acl {
            let path = folder.path().join("acl");
            std::fs::write(&path, acl).expect("acl");
            lines.push(format!("acl_file {}", path.display()));
        }
        lines.push(options.more.into());
        lines.push(format!("listener {port} 127.0.0.1"));
        if let Some(pki) = options.tls {
            lines.push(format!("cafile {}", pki.ca.display()));
            lines.push(format!("certfile {}", pki.server.cert.display()));
            lines.push(format!("keyfile {}", pki.server.key.display()));
            lines.push("require_certificate true".into());
            lines.push("tls_version tlsv1.3".into());
        }
        std::fs::write(folder.path().join("mosquitto.conf"), lines.join("\n")).expect("configuration");
        let mut fixture = MosquittoFixture { port, folder, child: None };
        fixture.restart();
        Some(fixture)
    }

    /// Starts it (again) on the same port, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("log file");
        let child = Command::new(executable().expect("installed"))
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto starts");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "mosquitto does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGHUP: it reads its certificate anew, and its connections stay.
    pub fn reads_its_certificate_anew(&self) {
        let child = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-HUP", &child]).status().expect("kill").success());
    }

    /// It is stopped, and takes and says nothing, until it goes on.
    pub fn holds_its_breath(&self, stopped: bool) {
        let signal = if stopped { "-STOP" } else { "-CONT" };
        let child = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &child]).status().expect("kill").success());
    }

    /// SIGKILL: nothing is saved.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM: what is persistent is saved.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }

    /// What it has complained about.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for MosquittoFixture {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian puts it into a folder that is not in everybody's PATH.
fn executable() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|file| file.is_file())
}
