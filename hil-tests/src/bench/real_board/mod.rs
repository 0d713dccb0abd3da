//! A real board as a bench: a serial port that is listened to, and commands of the integrator's that do what this program
//! has no hands for. One file says it all, `bench.toml`; `board-support/PORTING.md` leads through it.
//!
//! * [`config`] the file
//! * [`serial`] the port
//! * [`orders`] the commands
//!
//! | what a scenario wants | what does it here |
//! |---|---|
//! | power | `power.on`, `power.off` |
//! | image | `image.make` |
//! | factory | `factory.flash` |
//! | events | lines of the console, by [`markers`](super::console::Markers) |
//! | link | `network.up`, `network.down`; else the door in front of the broker (`network.listen`) is shut |
//! | environment | `environment.read`; else `mainstay status --json` in the console's shell |
//! | agent | the console's shell |
//! | repair | `[[repair]]`, typed |
//!
//! What a serial console cannot tell is said by [`Bench::lacks`]: a watchdog that bites is a reset like any other here, where
//! the bootloader does not print what reset the machine.

pub mod config;
pub mod orders;
pub mod serial;

use super::console::{self, Console, Reader, Resets};
use super::{Bench, Event, Evidence, Identity, ImageSpec, Need, OTHER_BUILD, Pace, What};
use crate::broker::gate::{Gate, Side};
use crate::{Doing, Result, Trouble};
use config::Config;
use mainstay_bootloader_glue::Vars;
use mainstay_core::boot::{BootState, Group};
use mainstay_lab::machine::{Entry, Log, Seen};
use orders::{Orders, Told};
use serial::Serial;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A port that comes with the board's power (a USB gadget, an emulated machine) is given this long.
const PORT: Duration = Duration::from_secs(60);
/// A line of the kernel's or the agent's may tear an answer on the same console: it is asked for this often.
const TIMES: u32 = 3;

/// A real board. Its power goes when it is dropped.
pub struct RealBoard {
    config: Config,
    name: String,
    orders: Orders,
    serial: Serial,
    log: Log,
    reader: Reader,
    /// `None`: nobody knows yet.
    power: Option<bool>,
    events: Vec<Event>,
    /// The log's entries up to here are in `events`, or were before the last factory.
    read: usize,
    /// Where the console's bytes stood at the last factory.
    console_from: usize,
    door: Option<Gate>,
    images: Vec<(ImageSpec, PathBuf)>,
    other_agent: Option<PathBuf>,
    folder: TempDir,
}

impl RealBoard {
    /// The board that the file at `path` describes. Touches nothing but the serial port.
    pub fn open(path: &Path) -> Result<RealBoard> {
        RealBoard::with(Config::read(path)?)
    }

    /// The board of this description.
    pub fn with(config: Config) -> Result<RealBoard> {
        let log = Log::new();
        let serial = Serial::open(&config.port, &log)?;
        let orders = Orders { folder: config.folder.clone(), patience: config.command_patience };
        let folder =
            tempfile::Builder::new().prefix("mainstay-hil-").tempdir().doing(|| "a temporary folder")?;
        Ok(RealBoard {
            name: format!("board/{}", config.name),
            reader: Reader::new(config.markers.clone(), Resets::Guessed),
            orders,
            serial,
            log,
            power: None,
            events: Vec::new(),
            read: 0,
            console_from: 0,
            door: None,
            images: Vec::new(),
            other_agent: None,
            folder,
            config,
        })
    }

    /// Turns what was seen since the last look into events.
    fn look(&mut self) {
        let entries = self.log.since(self.read);
        self.read += entries.len();
        for Entry { at, seen } in entries {
            let mut tell = |what| self.events.push(Event { at, what });
            match seen {
                Seen::PowerOn => {
                    self.reader.begin();
                    tell(What::PowerOn);
                }
                Seen::PowerOff => {
                    self.reader.begin();
                    tell(What::PowerOff);
                }
                Seen::Line(line) => {
                    self.reader.line(&line).into_iter().for_each(&mut tell);
                    tell(What::Line(line));
                }
                Seen::Gone(_) | Seen::Qmp { .. } => {} // emulated machines have these
            }
        }
        if let Some((at, line)) = self.log.begun()
            && let Some(what) = self.reader.partial(&line)
        {
            self.events.push(Event { at, what });
        }
    }

    /// Where the board reaches the broker, which this computer reaches at `identity.broker`.
    fn broker_for_the_board(&mut self, identity: &Identity) -> Result<String> {
        let way = &self.config.broker;
        let port = match (way.listen, &mut self.door) {
            (None, _) => identity.broker.port(),
            (Some(_), Some(door)) => {
                door.reopen(identity.broker)?;
                door.address().port()
            }
            (Some(listen), none) => {
                let door = Gate::open_at(Side::PassThrough, listen, identity.broker)?;
                none.insert(door).address().port()
            }
        };
        Ok(format!("{}:{port}", way.host))
    }

    fn flash(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        let broker = self.broker_for_the_board(identity)?;
        let path = |path: &Path| OsString::from(path);
        let certificate = &identity.certificate;
        let required = if identity.broker_required { "1" } else { "0" };
        let told: [Told; 10] = [
            ("IMAGE", path(image)),
            ("DEVICE", identity.device.clone().into()),
            ("GROUP", identity.group.clone().into()),
            ("TRUST", path(&identity.trust)),
            ("BROKER", broker.into()),
            ("BROKER_REQUIRED", required.into()),
            ("CA", path(&identity.ca)),
            ("CERTIFICATE", path(&certificate.certificate)),
            ("KEY", path(&certificate.key)),
            ("FLOOR", identity.image_floor.to_string().into()),
        ];
        self.orders.run(&self.config.flash, &told).map(drop)
    }

    /// What `mainstay status --json` says, in the console's shell.
    fn status(&mut self) -> Result<serde_json::Value> {
        let mut torn = self.status_once();
        for _ in 1..TIMES {
            if torn.is_ok() {
                break;
            }
            torn = self.status_once();
        }
        torn
    }

    fn status_once(&mut self) -> Result<serde_json::Value> {
        let said = self.agent(&["status", "--json"])?;
        console::status(&said)
    }

    /// The variables, where there is a command that reads them.
    fn variables(&mut self) -> Option<Result<Vec<(String, String)>>> {
        let read = self.config.environment.as_ref()?.read.clone();
        let said = self.orders.run(&read, &[]);
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(said.map(|said| said.lines().filter_map(pair).collect()))
    }
}

impl Bench for RealBoard {
    fn name(&self) -> &str {
        &self.name
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let config = &self.config;
        let (missing, why) = match need {
            Need::Nature(nature) => {
                let missing = !config.image.natures.contains(&nature);
                (missing, format!("bench.toml: image.natures has no {:?}", nature.name()))
            }
            Need::WatchdogEvents => (
                config.markers.watchdog.is_empty(),
                "a serial console shows only the reset that follows; markers.watchdog: a line with its cause"
                    .to_owned(),
            ),
            Need::Environment | Need::BootConsole => (false, String::new()),
            Need::Link => {
                let missing = config.link.is_none() && config.broker.listen.is_none();
                (missing, "bench.toml: expected network.up and down, or network.listen".to_owned())
            }
            Need::OtherAgent => {
                (config.image.other_agent.is_none(), "bench.toml: no image.other_agent".to_owned())
            }
            Need::Ruin => (config.ruin.is_none(), "bench.toml: no factory.ruin".to_owned()),
        };
        missing.then_some(why)
    }

    fn pace(&self) -> Pace {
        self.config.pace
    }

    fn compatible(&self) -> &str {
        &self.config.compatible
    }

    fn broker_name(&self) -> Option<&str> {
        Some(&self.config.broker.host)
    }

    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf> {
        if let Some((_, made)) = self.images.iter().find(|(made, _)| made == spec) {
            return Ok(made.clone());
        }
        let out = self.folder.path().join(format!("image-{}", self.images.len()));
        let mut told: Vec<Told> = vec![
            ("OUT", out.clone().into()),
            ("VERSION", spec.version.clone().into()),
            ("NATURE", spec.nature.name().into()),
        ];
        if let Some(agent) = &spec.agent {
            told.push(("AGENT", agent.into()));
        }
        self.orders.run(&self.config.image.make, &told)?;
        made(&out, "image.make")?;
        self.images.push((spec.clone(), out.clone()));
        Ok(out)
    }

    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        self.power(false)?;
        self.flash(image, identity)?;
        self.events.clear();
        self.reader.begin();
        self.read = self.log.mark();
        self.console_from = self.log.console().len();
        self.link(true)
    }

    fn power(&mut self, on: bool) -> Result<()> {
        if self.power == Some(on) {
            return Ok(());
        }
        if !on {
            self.orders.run(&self.config.power_off, &[])?;
            self.power = Some(false);
            self.log.push(Seen::PowerOff);
            return Ok(());
        }
        self.power = None; // a switch that fails half-way is switched again
        self.log.push(Seen::PowerOn); // before it: the board speaks at once
        self.orders.run(&self.config.power_on, &[])?;
        self.power = Some(true);
        self.serial.ready(PORT)
    }

    fn link(&mut self, up: bool) -> Result<()> {
        match (&self.config.link, &mut self.door) {
            (Some([plug, pull]), _) => {
                let order = if up { plug } else { pull };
                self.orders.run(order, &[]).map(drop)
            }
            (None, Some(door)) if up => door.reopen(door.behind()),
            (None, Some(door)) => {
                door.shut();
                Ok(())
            }
            (None, None) if up => Ok(()), // it was never pulled
            (None, None) => Err(Trouble::new(self.lacks(Need::Link).unwrap_or_default())),
        }
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        self.look();
        Ok(self.events.clone())
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        self.serial.type_in(keys)
    }

    fn repair(&mut self) -> Result<()> {
        self.look();
        self.reader.expect_prompt();
        let patience = self.config.pace.boot * Pace::PATIENCE;
        console::converse(&mut self.serial, &self.config.repair, patience)
    }

    fn ruin(&mut self, group: Group) -> Result<()> {
        let ruin = self.config.ruin.as_ref().doing(|| "bench.toml: no factory.ruin")?;
        self.orders.run(ruin, &[("SLOT", group.name().into())]).map(drop)
    }

    fn other_agent(&mut self) -> Result<PathBuf> {
        if let Some(made) = &self.other_agent {
            return Ok(made.clone());
        }
        let order = self.config.image.other_agent.as_ref().doing(|| "bench.toml: no image.other_agent")?;
        let out = self.folder.path().join("other-agent");
        self.orders.run(order, &[("OUT", out.clone().into()), ("BUILD", OTHER_BUILD.into())])?;
        made(&out, "image.other_agent")?;
        self.other_agent = Some(out.clone());
        Ok(out)
    }

    fn environment(&mut self) -> Result<BootState> {
        let Some(read) = self.variables() else { return console::boot_state(&self.status()?) };
        let mut variables = Vars::new();
        read?.iter().for_each(|(name, value)| variables.set(name, value));
        let convention = self.config.environment.as_ref().map(|environment| environment.convention());
        let convention = convention.doing(|| "no environment")??;
        convention.state(&variables).doing(|| "the environment")
    }

    fn version_in(&mut self, group: Group) -> Result<Option<String>> {
        if let Some(order) = &self.config.version {
            let said = self.orders.run(order, &[("SLOT", group.name().into())])?;
            return Ok(Some(said.trim()).filter(|said| !said.is_empty()).map(str::to_owned));
        }
        let status = self.status()?;
        Ok(console::group_of(&status, group)["version"].as_str().map(str::to_owned))
    }

    fn agent(&mut self, words: &[&str]) -> Result<String> {
        let own = self.config.shell.agent.iter().map(String::as_str);
        let line: Vec<String> = own.chain(words.iter().copied()).map(console::quoted).collect();
        let patience = self.config.shell.patience;
        let ran = self.config.shell.shell.run(&mut self.serial, &line.join(" "), patience)?;
        match ran.code {
            0 => Ok(ran.printed),
            code => {
                Err(Trouble::new(format!("{}: exit code {code}: {}", line.join(" "), ran.printed.trim())))
            }
        }
    }

    fn evidence(&mut self) -> Result<Evidence> {
        let console = self.log.console().get(self.console_from..).unwrap_or_default().to_owned();
        let environment = match self.variables() {
            Some(Ok(read)) => read.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            Some(Err(trouble)) => vec![format!("not readable: {trouble}")],
            None => vec!["not read: bench.toml has no environment.read".to_owned()],
        };
        Ok(Evidence { console, environment })
    }
}

impl Drop for RealBoard {
    fn drop(&mut self) {
        if self.power != Some(false)
            && let Err(trouble) = self.orders.run(&self.config.power_off, &[])
        {
            eprintln!("{}: the power may still be on: {trouble}", self.name);
        }
    }
}

/// A command has to have left something there.
fn made(out: &Path, key: &str) -> Result<()> {
    match out.metadata() {
        Ok(found) if found.len() > 0 => Ok(()),
        _ => Err(Trouble::new(format!(
            "bench.toml: {key}: it has to leave its work in $MAINSTAY_HIL_OUT, and left nothing in {}",
            out.display()
        ))),
    }
}

#[cfg(test)]
mod tests;
