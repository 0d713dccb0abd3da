//! A gateway: a [`Board`] with the agent's configuration, a certificate and the fleet's trust root on it, and a way to
//! ask the real `mainstay status` how it stands.

use crate::board::{Board, Bootloader, Plan as BoardPlan, rootfs};
use crate::disk::Layout;
use crate::pki::{Identity, Pki};
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::Group;
use mainstay_core::digest::{Digest, Hasher};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What all gateways of the bench are.
pub const COMPATIBLE: &str = "bench-gateway";
/// The health check that passes when the image's application has come up.
pub const CHECK: &str = "app";

/// What a gateway is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything of it stands in here.
    pub folder: PathBuf,
    /// The device binary.
    pub agent: PathBuf,
    /// Its name, which its certificate carries.
    pub name: String,
    /// The group whose desired state it follows.
    pub group: String,
    /// Its bootloader.
    pub bootloader: Bootloader,
    /// Room for images of this size.
    pub slot_bytes: u64,
    /// The floor that its first image brings.
    pub image_floor: u32,
    /// The watchdog's timeout, in seconds.
    pub watchdog_s: u32,
    /// A person has to say when it may reboot into a trial.
    pub approve: bool,
    /// Where its broker is.
    pub broker: Option<SocketAddr>,
    /// A trial cannot do without the broker.
    pub broker_required: bool,
}

/// What it shows at the broker's door.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Whom to believe that it is the broker.
    pub ca: PathBuf,
    /// Its certificate and key.
    pub identity: Identity,
}

/// A gateway. Its power goes when it is dropped.
pub struct Gateway {
    plan: Plan,
    board: Board,
}

/// How a gateway says that it stands: `mainstay status --json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The daemon answered; otherwise it is what stands on the medium.
    pub daemon: bool,
    /// The phase of the update.
    pub phase: String,
    /// The version that the update is about.
    pub version: Option<String>,
    /// The floor.
    pub floor: u32,
    /// How the last deployment ended: kind and detail.
    pub outcome: Option<(String, String)>,
    /// Of the download that is on.
    pub progress: Option<Fetching>,
    /// What it waits for.
    pub waiting: Option<String>,
    /// The last thing that failed.
    pub fault: Option<String>,
    /// `connected`, `down` or `none`.
    pub broker: String,
    /// Outcomes that the broker has not acknowledged.
    pub unreported: u64,
}

/// Bytes of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetching {
    /// Content that stands in the target, and content in all.
    pub done: u64,
    /// See `done`.
    pub total: u64,
    /// Bytes of pieces that came from the broker.
    pub fetched: u64,
    /// Content that the running group gave.
    pub copied: u64,
    /// Content that stood in the target already.
    pub kept: u64,
}

impl Gateway {
    /// Builds one as it leaves the factory, but for the image: nothing is flashed yet, and its power is off.
    pub fn build(plan: Plan, pki: &Pki, trust: &Path) -> Result<Gateway> {
        let credentials = Credentials { ca: pki.ca(), identity: pki.client(&plan.name)? };
        Gateway::build_with(plan, &credentials, trust)
    }

    /// As [`Gateway::build`], with a certificate that is there already.
    pub fn build_with(plan: Plan, credentials: &Credentials, trust: &Path) -> Result<Gateway> {
        let board = Board::build(BoardPlan {
            folder: plan.folder.clone(),
            agent: plan.agent.clone(),
            compatible: COMPATIBLE.into(),
            layout: Layout::for_images_of(plan.slot_bytes),
            bootloader: plan.bootloader,
            watchdog_s: plan.watchdog_s,
            boot_time: BOOT_TIME,
            pause: PAUSE,
        })?;
        std::fs::copy(trust, plan.folder.join("trust.root")).doing(|| trust.display().to_string())?;
        let config = configuration(&plan, &board, credentials);
        let path = &board.files().config;
        std::fs::write(path, config).doing(|| path.display().to_string())?;
        Ok(Gateway { plan, board })
    }

    /// Changes a line of its configuration, which has to be there once.
    pub fn configure(&self, from: &str, to: &str) -> Result<()> {
        let path = &self.board.files().config;
        let text = std::fs::read_to_string(path).doing(|| path.display().to_string())?;
        match text.matches(from).count() {
            1 => std::fs::write(path, text.replace(from, to)).doing(|| path.display().to_string()),
            times => Err(Trouble::new(format!(
                "{}: expected {from:?} once, found it {times} times",
                path.display()
            ))),
        }
    }

    /// Its board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The group whose desired state it follows.
    pub fn group(&self) -> &str {
        &self.plan.group
    }

    /// A command of the device binary, as a technician types it on this gateway.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut agent = Command::new(&self.plan.agent);
        agent.arg("--config").arg(&self.board.files().config).args(words).stdin(Stdio::null());
        agent
    }

    /// Asks how it stands.
    pub fn status(&self) -> Result<Status> {
        let output = self.command(&["status", "--json"]).output().doing(|| "starting mainstay status")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Trouble::new(format!("mainstay status: {}", why.trim())));
        }
        Status::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// What the agent has logged from `at` on, and where the log ends now.
    pub fn log_since(&self, at: usize) -> (String, usize) {
        let log = std::fs::read(&self.board.files().log).unwrap_or_default(); // not there before the first boot
        (String::from_utf8_lossy(log.get(at..).unwrap_or_default()).into_owned(), log.len())
    }

    /// What may not change when something is refused: environment and slots, each by its digest.
    pub fn fingerprint(&self) -> Result<[(&'static str, Digest); 3]> {
        let digest = |name: &'static str| Ok((name, self.digest(name)?));
        Ok([digest("env")?, digest(rootfs(Group::A))?, digest(rootfs(Group::B))?])
    }

    fn digest(&self, partition: &str) -> Result<Digest> {
        let disk = self.board.disk();
        let mut left = disk.partition(partition)?.bytes;
        let (mut at, mut buffer, mut hasher) = (0, vec![0; HASHED_BYTES], Hasher::new());
        while left > 0 {
            buffer.truncate(HASHED_BYTES.min(left as usize));
            disk.read(partition, at, &mut buffer)?;
            hasher.update(&buffer);
            at += buffer.len() as u64;
            left -= buffer.len() as u64;
        }
        Ok(hasher.finish())
    }
}

/// Bootloader and kernel: long enough to be seen, short enough not to bore.
const BOOT_TIME: Duration = Duration::from_millis(600);
/// How long its bootloader waits when nothing is left to boot.
pub const PAUSE: Duration = Duration::from_secs(5);
/// How much is hashed at a time.
const HASHED_BYTES: usize = 1024 * 1024;

/// The agent's configuration. Relative paths begin at its own folder.
fn configuration(plan: &Plan, board: &Board, credentials: &Credentials) -> String {
    let Plan { name, group, image_floor, approve, broker, broker_required, .. } = plan;
    let app = board.files().app.display();
    let reboot = if *approve { "approve" } else { "auto" };
    let broker = match broker {
        None => String::new(),
        Some(address) => {
            let Credentials { ca, identity } = credentials;
            let (ca, certificate, key) =
                (ca.display(), identity.certificate.display(), identity.key.display());
            format!(
                r#"[broker]
url = "mqtts://{address}"
group = "{group}"
ca = "{ca}"
cert = "{certificate}"
key = "{key}"
keep_alive_s = 5
"#
            )
        }
    };
    let broker_check = match broker_required {
        true => BROKER_CHECK,
        false => "",
    };
    format!(
        r#"# A gateway of the bench.
device = "{name}"
board = "board.toml"
trust = "trust.root"
state = "state"
run = "run"
image_floor = {image_floor}

{broker}
[update]
reboot = "{reboot}"
retry_s = 1

[[check]]
name = "{CHECK}"
file = "{app}"
required = true
timeout_s = 2
retries = 2
interval_s = 1
{broker_check}"#
    )
}

/// Required of a trial that cannot do without the broker.
const BROKER_CHECK: &str = r#"
[[check]]
name = "connected"
broker = true
required = true
timeout_s = 5
retries = 2
interval_s = 1
"#;

impl Status {
    /// Reads one line of JSON.
    fn read(json: &str) -> Result<Status> {
        let value: Value = serde_json::from_str(json).doing(|| format!("status {json:?}"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let outcome = &value["outcome"];
        let progress = &value["progress"];
        Ok(Status {
            daemon: value["daemon"].as_bool().doing(|| format!("status: expected daemon, found {json}"))?,
            phase: text(&value["phase"]).doing(|| format!("status: expected phase, found {json}"))?,
            version: text(&value["deployment"]["version"]),
            floor: number(&value["floor"]) as u32,
            outcome: text(&outcome["kind"]).map(|kind| (kind, text(&outcome["detail"]).unwrap_or_default())),
            progress: progress.is_object().then(|| Fetching {
                done: number(&progress["done"]),
                total: number(&progress["total"]),
                fetched: number(&progress["fetched"]),
                copied: number(&progress["copied"]),
                kept: number(&progress["kept"]),
            }),
            waiting: text(&value["waiting"]),
            fault: text(&value["fault"]),
            broker: text(&value["broker"]["state"]).unwrap_or_default(),
            unreported: number(&value["unreported"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_and_without_what_may_be_null() {
        let quiet = r#"{"phase":"idle","deployment":null,"floor":3,"outcome":null,"progress":null,"waiting":null,
            "fault":null,"broker":{"state":"down","cause":"refused"},"unreported":0,"daemon":true}"#;
        let expected = Status {
            daemon: true,
            phase: "idle".into(),
            floor: 3,
            broker: "down".into(),
            ..Status::default()
        };
        assert_eq!(Status::read(quiet).unwrap(), expected);
        let busy = r#"{"phase":"downloading","deployment":{"version":"2"},"floor":1,"outcome":{"kind":"failed","detail":"x"},
            "progress":{"done":1,"total":2,"fetched":3,"copied":4,"kept":5},"broker":{"state":"connected"},"daemon":true}"#;
        let busy = Status::read(busy).unwrap();
        assert_eq!(busy.progress, Some(Fetching { done: 1, total: 2, fetched: 3, copied: 4, kept: 5 }));
        assert_eq!((busy.version, busy.outcome), (Some("2".into()), Some(("failed".into(), "x".into()))));
        assert!(Status::read("{}").is_err() && Status::read("").is_err());
    }
}
