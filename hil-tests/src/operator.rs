//! The operator's desk: keys, a trust root, bundles and the way onto the broker, all by the real `mainstayctl`.
//!
//! ```text
//! FOLDER/root.key .pub       release.key .pub       operator.key .pub       one each, threshold 1
//! FOLDER/trust.root          who may sign what in this fleet
//! FOLDER/VERSION.bundle
//! ```
//! An [`Operator`] with keys of its own and the fleet's name is an attacker: the gateways' trust root does not know it.

use crate::broker::Broker;
use crate::pki::{Identity, Pki};
use crate::{Doing, Result, Trouble};
use mainstay_core::digest::Digest;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Somebody with `mainstayctl` and keys.
#[derive(Clone, Debug)]
pub struct Operator {
    ctl: PathBuf,
    folder: PathBuf,
    operator_key: PathBuf,
}

/// What to pack.
#[derive(Clone, Debug)]
pub struct Packing<'a> {
    /// For the slots of the class `rootfs`.
    pub image: &'a Path,
    /// The hardware that it is for.
    pub compatible: &'a str,
    /// For people.
    pub version: &'a str,
    /// For the floor.
    pub security_version: u32,
    /// How often the bootloader tries it.
    pub tries: u8,
    /// How long the trial may take, in seconds.
    pub deadline_s: u32,
    /// zstd level: a bench has no time for high ones.
    pub level: u8,
}

/// A signed bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The file.
    pub path: PathBuf,
    /// The SHA-256 of its manifest's envelope.
    pub name: Digest,
    /// Its version.
    pub version: String,
    /// The image that it was made of.
    pub image: PathBuf,
}

/// The way to a broker.
#[derive(Clone, Debug)]
pub struct Access {
    /// `mqtts://…`
    pub url: String,
    /// Whom to believe.
    pub ca: PathBuf,
    /// Who we are.
    pub identity: Identity,
}

impl Access {
    /// To `broker`, with a certificate in the name of `client`.
    pub fn new(broker: &Broker, pki: &Pki, client: &str) -> Result<Access> {
        let url = format!("mqtts://{}", broker.address());
        Ok(Access { url, ca: pki.ca(), identity: pki.client(client)? })
    }
}

impl Operator {
    /// Makes keys and a trust root for `fleet` in `folder`.
    pub fn new(ctl: &Path, folder: &Path, fleet: &str) -> Result<Operator> {
        let operator = Operator::with_keys(ctl, folder, &["root", "release", "operator"], None)?;
        operator.init_trust(fleet)
    }

    /// Somebody who has the operator's key, and a release key of his own: his trust root is nobody else's.
    pub fn usurper(&self, folder: &Path, fleet: &str) -> Result<Operator> {
        let keys = ["root", "release"];
        let usurper = Operator::with_keys(&self.ctl, folder, &keys, Some(self.operator_key.clone()))?;
        usurper.init_trust(fleet)
    }

    fn with_keys(ctl: &Path, folder: &Path, keys: &[&str], operator: Option<PathBuf>) -> Result<Operator> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let operator_key = operator.unwrap_or_else(|| folder.join("operator.key"));
        let operator = Operator { ctl: ctl.to_owned(), folder: folder.to_owned(), operator_key };
        for key in keys {
            // Thrown away with the bench's folder; a real one has a passphrase.
            operator.run(&["key", "generate", key, "--no-passphrase", "--out", &text(folder)?])?;
        }
        Ok(operator)
    }

    fn init_trust(self, fleet: &str) -> Result<Operator> {
        let public = |key: &str| text(&self.folder.join(key).with_extension("pub"));
        let operator = text(&self.operator_key.with_extension("pub"))?;
        self.run(
            &[
                &["trust", "init", "--fleet", fleet, "--out", &text(&self.trust())?][..],
                &["--root-key", &public("root")?, "--release-key", &public("release")?],
                &["--operator-key", &operator, "--sign-with", &text(&self.folder.join("root.key"))?],
            ]
            .concat(),
        )?;
        Ok(self)
    }

    /// The trust root.
    pub fn trust(&self) -> PathBuf {
        self.folder.join("trust.root")
    }

    /// Makes a bundle and signs it with the release key.
    pub fn pack(&self, packing: &Packing<'_>) -> Result<Bundle> {
        self.pack_with(packing, &[])
    }

    /// As [`Operator::pack`], with further words to `mainstayctl pack`.
    pub fn pack_with(&self, packing: &Packing<'_>, further: &[&str]) -> Result<Bundle> {
        let Packing { image, compatible, version, security_version, tries, deadline_s, level } = packing;
        let path = self.folder.join(format!("{version}.bundle"));
        let said = self.run(
            &[
                &[
                    "pack",
                    "--quiet",
                    "--artifact",
                    &format!("rootfs={}", text(image)?),
                    "--out",
                    &text(&path)?,
                ][..],
                &["--compatible", compatible, "--version", version, "--level", &level.to_string()],
                &["--security-version", &security_version.to_string(), "--tries", &tries.to_string()],
                &["--deadline-s", &deadline_s.to_string(), "--builder", "bench"],
                &["--sign-with", &text(&self.folder.join("release.key"))?],
                further,
            ]
            .concat(),
        )?;
        let name = said.lines().find_map(|line| Digest::from_hex(line.strip_prefix("bundle")?.trim()));
        let name = name.doing(|| format!("mainstayctl pack: expected the bundle's name, found {said:?}"))?;
        Ok(Bundle { path, name, version: (*version).to_owned(), image: image.to_path_buf() })
    }

    /// Brings a bundle onto the broker and tells `group` to run it; how long that took.
    pub fn publish(&self, bundle: &Bundle, access: &Access, group: &str) -> Result<Duration> {
        let began = Instant::now();
        let Access { url, ca, identity } = access;
        self.run(
            &[
                &["publish", "--quiet", &text(&bundle.path)?, "--broker", url, "--group", group][..],
                &[
                    "--ca",
                    &text(ca)?,
                    "--cert",
                    &text(&identity.certificate)?,
                    "--key",
                    &text(&identity.key)?,
                ],
                &["--trust", &text(&self.trust())?, "--operator-key", &text(&self.operator_key)?],
            ]
            .concat(),
        )?;
        Ok(began.elapsed())
    }

    /// What `mainstayctl inspect` says of a bundle, for programs.
    pub fn inspect(&self, bundle: &Path) -> Result<serde_json::Value> {
        let said = self.run(&["inspect", &text(bundle)?, "--json"])?;
        serde_json::from_str(&said).doing(|| format!("mainstayctl inspect: expected JSON, found {said:?}"))
    }

    /// Runs `mainstayctl`; what it says. Its complaint is the error.
    fn run(&self, words: &[&str]) -> Result<String> {
        let mut ctl = Command::new(&self.ctl);
        ctl.args(words).stdin(Stdio::null()).env_remove("MAINSTAY_PASSPHRASE");
        let output = ctl.output().doing(|| format!("starting {}", self.ctl.display()))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let verb = words.iter().take(2).map(OsStr::new).map(OsStr::to_string_lossy);
            return Err(Trouble::new(format!("mainstayctl {}: {why}", verb.collect::<Vec<_>>().join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).doing(|| format!("{}: expected a path in UTF-8", path.display()))
}
