//! The agent's configuration: one TOML file, checked whole at start. What the board is stands in a file of its own
//! (`mainstay-board-support`'s `Board`), because the board's maker writes that one and the plant this one.
//!
//! ```toml
//! device = "gw-0001"                  # this gateway's name; the broker should insist that its certificate has it
//! board  = "board.toml"               # relative paths begin at this file's folder
//! trust  = "trust.root"               # the first trust root; rotated ones are kept in the state folder
//! state  = "/var/lib/mainstay"
//! run    = "/run/mainstay"
//! image_floor = 3                     # the image's own floor: holds if the state is ever lost
//!
//! [broker]                            # leave it out on a gateway that is only updated by hand
//! url   = "mqtts://broker.plant:8883"
//! group = "line-1"
//! ca    = "ca.pem"
//! cert  = "gw-0001.pem"
//! key   = "gw-0001.key"
//!
//! [https]                             # a second source of the same objects: see the module `transport::https`
//! url = "https://depot.plant/mainstay/"
//! ca  = "depot-ca.pem"
//!
//! [transport]                         # what a download may cost, and where it comes from
//! source = "https-then-mqtt"          # or "mqtt", "https", "mqtt-then-https"
//! rate_limit_kbit_s = 256
//! rate_limit_hours = "06:00-22:00"    # UTC; always, if left out
//! monthly_quota_mib = 500
//!
//! [update]
//! reboot = "auto"                     # or "approve": a person says when (`mainstay approve`)
//! late_fallback = "keep"              # or "prevent"
//! hours = "22:00-05:00"               # UTC; download and reboot only then
//!
//! [sandbox]                           # see the module `sandbox`
//! write = ["/run/plant"]              # where checks and the reboot command may write; /tmp and its like, if left out
//!
//! [reset]
//! erase = ["/data/app"]               # what a factory reset and decommissioning erase: folders are emptied, files removed
//!
//! [[check]]                           # health checks of the trial: see the module `health`
//! name = "broker"
//! broker = true
//! ```

use crate::health;
use crate::sandbox::Sandbox;
use crate::transport::config::{
    WINDOW_KIB_DEFAULT, WINDOW_KIB_MAX, WINDOW_KIB_MIN, WINDOW_MAX_DEFAULT, WINDOW_MAX_LIMIT,
};
use crate::transport::meter::Limits;
use crate::transport::{BrokerConfig, HttpsConfig, Policy};
use mainstay_board_support::toml_file::{Result, Table, TomlError, TomlFile};
use mainstay_core::limits::NAME_BYTES_MAX;
use mainstay_core::policy::LateFallback;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/mainstay/mainstay.toml";

/// The agent's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// This gateway's name.
    pub device: String,
    /// The board file.
    pub board: PathBuf,
    /// The trust root that the image brings.
    pub trust: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The folder for what does not outlive a boot: the control socket, the trial's deadline.
    pub run: PathBuf,
    /// The image's own floor.
    pub image_floor: u32,
    /// How to reach the broker, if there is one; its `fleet` is filled in from the trust root.
    pub broker: Option<Broker>,
    /// The web server that has the same objects, if there is one.
    pub https: Option<HttpsConfig>,
    /// Where objects come from, and what that may cost.
    pub transport: Transport,
    /// When and how.
    pub update: Update,
    /// The health checks.
    pub checks: Vec<health::CheckConfig>,
    /// What the daemon gives up.
    pub sandbox: Sandbox,
    /// What a factory reset erases: folders, whose content it is, and files.
    pub erase: Vec<PathBuf>,
}

/// The broker, and the group whose desired state this gateway follows.
#[derive(Clone, Debug)]
pub struct Broker {
    /// How to reach it.
    pub link: BrokerConfig,
    /// The group.
    pub group: String,
}

/// Where objects come from, and what that may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// Broker, web server, or both.
    pub policy: Policy,
    /// Rate and quota.
    pub limits: Limits,
}

/// When and how.
#[derive(Clone, Debug)]
pub struct Update {
    /// Does a person have to say when the gateway may reboot into the trial?
    pub approve_reboot: bool,
    /// What becomes of the other group after a commit.
    pub late_fallback: LateFallback,
    /// Seconds of the day, UTC, between which it may download and reboot; may run over midnight.
    pub hours: Option<(u32, u32)>,
    /// Copy from the running group what did not change.
    pub reuse: bool,
    /// How long to wait before something is tried again.
    pub retry: Duration,
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Config> {
        let text = TomlFile::text_of(path)?;
        // What the daemon starts (the second guard, health checks) stands in another folder: no path may depend on ours.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        Config::parse(&text, &path)
    }

    /// Reads and checks `text`; `path` is what errors call it, and where relative paths begin.
    pub fn parse(text: &str, path: &Path) -> Result<Config> {
        TomlFile::parse(text, &path.display().to_string(), |top| config(top, path))
    }

    /// The Unix socket on which the daemon takes a technician's commands.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }
}

fn config(mut top: Table<'_>, path: &Path) -> Result<Config> {
    let base = path.parent().unwrap_or(Path::new("/"));
    let device = name(&mut top, "device")?;
    let board = top.need("board", "the path of the board file")?.path(base)?;
    let trust = top.need("trust", "the path of the trust root")?.path(base)?;
    let state = folder(&mut top, "state", base, "/var/lib/mainstay")?;
    let run = run_folder(&mut top, base)?;
    let image_floor = top.integer("image_floor", 0..=u32::MAX.into())?.unwrap_or(0) as u32;
    let broker = top.table("broker")?.map(|table| broker(table, base, &device)).transpose()?;
    let https = top.table("https")?.map(|table| https(table, base)).transpose()?;
    let transport = match top.table("transport")? {
        Some(table) => transport(table, https.is_some())?,
        None => Transport { policy: default_policy(https.is_some()), ..Transport::default() },
    };
    let update = match top.table("update")? {
        Some(table) => update(table)?,
        None => Update::default(),
    };
    let checks = match top.value("check") {
        Some(tables) => health::read_checks(tables.array("tables [[check]]")?, base)?,
        None => Vec::new(),
    };
    let sandbox = match top.table("sandbox")? {
        Some(table) => sandbox(table, base)?,
        None => Sandbox::default(),
    };
    let reset = top.table("reset")?;
    let line = reset.as_ref().map_or(0, Table::line);
    let erase = reset.map(|table| erase(table, base)).transpose()?.unwrap_or_default();
    top.finish()?;
    let config = Config {
        file: path.into(),
        device,
        board,
        trust,
        state,
        run,
        image_floor,
        broker,
        https,
        transport,
        update,
        checks,
        sandbox,
        erase,
    };
    nothing_needed_is_erased(&config, line)?;
    Ok(config)
}

fn erase(mut table: Table<'_>, base: &Path) -> Result<Vec<PathBuf>> {
    let value = table.need("erase", "paths of folders and files")?;
    let paths = value.array("paths of folders and files")?.iter().map(|path| path.path(base)).collect();
    table.finish()?;
    paths
}

/// By the paths as they are written; where links lead is looked at before anything is erased.
fn nothing_needed_is_erased(config: &Config, line: u32) -> Result<()> {
    for path in &config.erase {
        let up = path.components().any(|part| part == Component::ParentDir);
        let needed = config.needed().into_iter().find(|needed| crate::erase::overlap(path, needed));
        let found = match (up, needed) {
            (true, _) => "one with .. in it".to_string(),
            (_, Some(needed)) => format!("{}, for {}", path.display(), needed.display()),
            _ => continue,
        };
        let what =
            format!("expected a path that neither holds nor lies in what the agent needs, found {found}");
        return Err(TomlError::new(&config.file.display().to_string(), line, "reset.erase".into(), what));
    }
    Ok(())
}

fn broker(mut table: Table<'_>, base: &Path, device: &str) -> Result<Broker> {
    let url = table.need_text("url", "mqtts://host[:port]")?.to_string();
    let path = |table: &mut Table<'_>, key| -> Result<PathBuf> {
        Ok(table.value(key).map(|v| v.path(base)).transpose()?.unwrap_or_default())
    };
    let defaults = BrokerConfig::default();
    let link = BrokerConfig {
        ca: path(&mut table, "ca")?,
        cert: path(&mut table, "cert")?,
        key: path(&mut table, "key")?,
        allow_plain: table.flag("allow_plain")?.unwrap_or(false),
        keep_alive_s: table.integer("keep_alive_s", 5..=1800)?.unwrap_or(defaults.keep_alive_s.into()) as u16,
        window_max: table
            .integer("window_max", 1..=WINDOW_MAX_LIMIT.into())?
            .unwrap_or(WINDOW_MAX_DEFAULT.into()) as u16,
        window_kib: window_kib(&mut table)?,
        device: device.to_string(),
        url,
        ..defaults
    };
    let group = name(&mut table, "group")?;
    // All of the link is checked here but the fleet, which the trust root says.
    let fleet = "checked-later".to_string();
    BrokerConfig { fleet, ..link.clone() }
        .check()
        .map_err(|fault| table.error("", fault.what.to_string()))?;
    table.finish()?;
    Ok(Broker { link, group })
}

fn https(mut table: Table<'_>, base: &Path) -> Result<HttpsConfig> {
    let url = table.need_text("url", "https://host[:port]/path/")?.to_string();
    let path = |table: &mut Table<'_>, key| -> Result<Option<PathBuf>> {
        table.value(key).map(|v| v.path(base)).transpose()
    };
    let ca = path(&mut table, "ca")?.unwrap_or_default();
    let identity = match (path(&mut table, "cert")?, path(&mut table, "key")?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(table.error("cert", "expected cert and key, or neither, found one".into())),
    };
    let config = HttpsConfig {
        url,
        ca,
        identity,
        allow_plain: table.flag("allow_plain")?.unwrap_or(false),
        window_kib: window_kib(&mut table)?,
        ..HttpsConfig::default()
    };
    config.check().map_err(|fault| table.error("", fault.what.to_string()))?;
    table.finish()?;
    Ok(config)
}

fn window_kib(table: &mut Table<'_>) -> Result<u16> {
    let found = table.integer("window_kib", WINDOW_KIB_MIN.into()..=WINDOW_KIB_MAX.into())?;
    Ok(found.unwrap_or(WINDOW_KIB_DEFAULT.into()) as u16)
}

const fn default_policy(https: bool) -> Policy {
    if https { Policy::HttpsThenMqtt } else { Policy::Mqtt }
}

fn transport(mut table: Table<'_>, https: bool) -> Result<Transport> {
    let policy = match table.value("source") {
        None => default_policy(https),
        Some(value) => {
            let expected = "\"mqtt\", \"https\", \"mqtt-then-https\" or \"https-then-mqtt\"";
            let policy = Policy::from_name(value.text(expected)?).ok_or_else(|| value.wrong(expected))?;
            if policy != Policy::Mqtt && !https {
                return Err(value.wrong("\"mqtt\", for there is no table [https]"));
            }
            policy
        }
    };
    let rate_kbit_s = table.integer("rate_limit_kbit_s", RATE_KBIT_S)?.map(|rate| rate as u32);
    let monthly_mib = table.integer("monthly_quota_mib", QUOTA_MIB)?.map(|most| most as u32);
    let rate_hours = match table.value("rate_limit_hours") {
        None => None,
        Some(value) => {
            let expected = "hours of the day in UTC, as in \"06:00-22:00\"";
            Some(hours(value.text(expected)?).ok_or_else(|| value.wrong(expected))?)
        }
    };
    table.finish()?;
    Ok(Transport { policy, limits: Limits { rate_kbit_s, rate_hours, monthly_mib } })
}

/// The slowest that an object of 96 KiB comes within two minutes, and 10 Gbit/s.
const RATE_KBIT_S: std::ops::RangeInclusive<u64> = 8..=10_000_000;
/// To a PiB.
const QUOTA_MIB: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

impl Default for Update {
    fn default() -> Self {
        Update {
            approve_reboot: false,
            late_fallback: LateFallback::Keep,
            hours: None,
            reuse: true,
            retry: Duration::from_secs(5),
        }
    }
}

fn update(mut table: Table<'_>) -> Result<Update> {
    let defaults = Update::default();
    let approve_reboot = match table.value("reboot") {
        None => defaults.approve_reboot,
        Some(value) => match value.text("\"auto\" or \"approve\"")? {
            "auto" => false,
            "approve" => true,
            _ => return Err(value.wrong("\"auto\" or \"approve\"")),
        },
    };
    let late_fallback = match table.value("late_fallback") {
        None => defaults.late_fallback,
        Some(value) => match value.text("\"keep\" or \"prevent\"")? {
            "keep" => LateFallback::Keep,
            "prevent" => LateFallback::Prevent,
            _ => return Err(value.wrong("\"keep\" or \"prevent\"")),
        },
    };
    let hours = match table.value("hours") {
        None => None,
        Some(value) => {
            let expected = "hours of the day in UTC, as in \"22:00-05:00\"";
            Some(hours(value.text(expected)?).ok_or_else(|| value.wrong(expected))?)
        }
    };
    let reuse = table.flag("reuse")?.unwrap_or(defaults.reuse);
    let retry = table.integer("retry_s", 1..=3600)?.map_or(defaults.retry, Duration::from_secs);
    table.finish()?;
    Ok(Update { approve_reboot, late_fallback, hours, reuse, retry })
}

fn sandbox(mut table: Table<'_>, base: &Path) -> Result<Sandbox> {
    let enabled = table.flag("enabled")?.unwrap_or(true);
    let expected = "paths of files and folders";
    let write = match table.value("write") {
        None => Sandbox::default().write,
        Some(value) => {
            let paths = value.array(expected)?;
            paths.into_iter().map(|path| path.path(base)).collect::<Result<_>>()?
        }
    };
    table.finish()?;
    Ok(Sandbox { enabled, write })
}

/// `"22:00-05:00"` → seconds of the day.
fn hours(text: &str) -> Option<(u32, u32)> {
    let time = |text: &str| {
        let (hours, minutes) = text.trim().split_once(':')?;
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
    };
    let (from, to) = text.split_once('-')?;
    Some((time(from)?, time(to)?)).filter(|(from, to)| from != to)
}

fn name(table: &mut Table<'_>, key: &'static str) -> Result<String> {
    let expected = "a name of letters, digits, '.', '_' and '-'";
    let value = table.need(key, expected)?;
    let text = value.text(expected)?;
    match mainstay_core::wire::check_name(key, text) {
        Ok(()) if text.len() <= NAME_BYTES_MAX => Ok(text.to_string()),
        _ => Err(value.wrong(&format!("{expected}, at most {NAME_BYTES_MAX}"))),
    }
}

fn folder(table: &mut Table<'_>, key: &'static str, base: &Path, default: &str) -> Result<PathBuf> {
    Ok(table.value(key).map(|v| v.path(base)).transpose()?.unwrap_or(PathBuf::from(default)))
}

/// The path of a Unix socket has at most 107 bytes (unix(7)), and the control socket lies in this folder.
fn run_folder(table: &mut Table<'_>, base: &Path) -> Result<PathBuf> {
    const BYTES_MAX: usize = 107 - "/control.sock".len();
    let Some(value) = table.value("run") else { return Ok(PathBuf::from("/run/mainstay")) };
    let path = value.path(base)?;
    match path.as_os_str().len() {
        0..=BYTES_MAX => Ok(path),
        found => Err(value.error(format!(
            "expected a path of at most {BYTES_MAX} bytes, for a socket lies in it, found {found}: {}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
device = "gw-0001"
board = "board.toml"
trust = "trust.root"
[broker]
url = "mqtts://broker.plant"
group = "line-1"
ca = "ca.pem"
cert = "gw.pem"
key = "gw.key"
"#;

    fn parse(text: &str) -> std::result::Result<Config, String> {
        Config::parse(text, Path::new("/etc/mainstay/mainstay.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default_and_relative_paths_begin_at_the_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.board, Path::new("/etc/mainstay/board.toml"));
        assert_eq!(config.state, Path::new("/var/lib/mainstay"));
        assert_eq!(config.broker.as_ref().unwrap().group, "line-1");
        assert!(!config.update.approve_reboot && config.update.reuse && config.checks.is_empty());
        assert_eq!((config.transport.policy, config.transport.limits), (Policy::Mqtt, Limits::default()));
        let more = "[https]\nurl = \"https://depot/x\"\nca = \"d.pem\"\n[transport]\nmonthly_quota_mib = 9\n[broker]";
        let config = parse(&GOOD.replace("[broker]", more)).unwrap();
        assert_eq!(config.https.unwrap().ca, Path::new("/etc/mainstay/d.pem"));
        assert_eq!(config.transport.policy, Policy::HttpsThenMqtt);
        assert_eq!(config.transport.limits.monthly_mib, Some(9));
    }

    #[test]
    fn each_wrong_line_is_named_with_what_was_expected_and_what_was_found() {
        #[rustfmt::skip]
        let cases = [
            ("device = \"gw-0001\"", "device = \"gw/1\"",          "mainstay.toml:2: device: expected a name"),
            ("board = \"board.toml\"", "bored = 1",                "board: expected the path of the board file, found nothing"),
            ("[broker]", "run = \"/a/path/that/is/far/too/long/for/the/socket/that/lies/in/it/because/somebody/meant/well/and/named/it/\"\n[broker]", "mainstay.toml:5: run: expected a path of at most 94 bytes"),
            ("[broker]", "extra = 1\n[broker]",                    "mainstay.toml:5: extra: expected one of"),
            ("mqtts://broker.plant", "http://x",                   "expected mqtts://host[:port], found \"http://x\""),
            ("mqtts://broker.plant", "mqtt://x",                   "allow_plain"),
            ("ca = \"ca.pem\"", "",                                "broker ca: expected the path of a PEM file"),
            ("group = \"line-1\"", "group = 7",                    "mainstay.toml:7: broker.group: expected a name"),
            ("[broker]", "[update]\nreboot = \"later\"\n[broker]", "update.reboot: expected \"auto\" or \"approve\""),
            ("[broker]", "[reset]\nerase = [\"/etc\"]\n[broker]", "mainstay.toml:5: reset.erase: expected a path that neither holds nor lies in what the agent needs, found /etc, for /etc/mainstay/mainstay.toml"),
            ("[broker]", "[reset]\nerase = [\"/var/lib/mainstay/x\"]\n[broker]", "found /var/lib/mainstay/x, for /var/lib/mainstay"),
            ("[broker]", "[reset]\nerase = [\"/data/../var\"]\n[broker]", "found one with .. in it"),
            ("[broker]", "[transport]\nsource = \"https\"\n[broker]", "transport.source: expected \"mqtt\", for there is no table [https]"),
            ("[broker]", "[transport]\nrate_limit_kbit_s = 7\n[broker]", "transport.rate_limit_kbit_s: expected"),
            ("[broker]", "[transport]\nmonthly_quota_mib = 0\n[broker]", "transport.monthly_quota_mib: expected"),
            ("[broker]", "[https]\nurl = \"https://depot/\"\n[broker]", "https ca: expected the path of a PEM file"),
            ("[broker]", "[https]\nurl = \"https://depot/\"\nca = \"c\"\ncert = \"x\"\n[broker]", "expected cert and key, or neither"),
            ("[broker]", "[update]\nhours = \"25:00-26:00\"\n[broker]", "update.hours: expected hours of the day"),
        ];
        for (from, to, words) in cases {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn hours_may_run_over_midnight_but_not_be_empty() {
        assert_eq!(hours("22:00-05:30"), Some((79_200, 19_800)));
        assert_eq!(hours("00:00-00:00"), None);
        assert_eq!(hours("24:00-01:00"), None);
    }
}
