//! `bench.toml`: a board, and what stands around it, read strictly. What is wrong is said with its line:
//!
//! ```text
//! bench.toml:9: power.on: expected a command, as in ["relay", "on", "3"], found the text "relay on"
//! ```
//! `hil-tests/benches/example.toml` has every key, each with its reason.

use super::orders::Order;
use super::serial::Port;
use crate::bench::console::{Markers, Shell, Turn, repair};
use crate::bench::{Nature, Pace};
use crate::{Doing, Result};

use mainstay_board_support::toml_file::{self, Table, TomlFile, Value};
use mainstay_bootloader_glue::Format;
use mainstay_bootloader_glue::convention::{self, Convention};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All that `bench.toml` says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that it stands in: where its commands run.
    pub folder: PathBuf,
    /// What the bench is called.
    pub name: String,
    /// What bundles have to be made for.
    pub compatible: String,
    /// The serial port.
    pub port: Port,
    /// The longest that one command may take.
    pub command_patience: Duration,
    /// Turns the power on.
    pub power_on: Order,
    /// Cuts it.
    pub power_off: Order,
    /// Plugs the network in, and pulls it.
    pub link: Option<[Order; 2]>,
    /// How the board reaches the broker.
    pub broker: BrokerWay,
    /// Makes images.
    pub image: ImageMaker,
    /// Makes the board what it is when it leaves the factory.
    pub flash: Order,
    /// Destroys a slot.
    pub ruin: Option<Order>,
    /// Tells the version of the image in a slot; without it, the agent is asked, which knows only what it wrote itself.
    pub version: Option<Order>,
    /// Reads the bootloader's variables, also with the power off; without it, the agent is asked over the console.
    pub environment: Option<Environment>,
    /// The shell on the console.
    pub shell: ConsoleShell,
    /// What is typed to give the groups of the order their tries again.
    pub repair: Vec<Turn>,
    /// How long things take.
    pub pace: Pace,
    /// What lines say.
    pub markers: Markers,
}

/// How the board reaches the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerWay {
    /// The name or address by which the board calls this computer. The broker's certificate has to be for it.
    pub host: String,
    /// Where this computer listens for the board; `None`: the broker's own port is reached as it is.
    pub listen: Option<SocketAddr>,
}

/// How images are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMaker {
    /// The command.
    pub make: Order,
    /// What it can make.
    pub natures: Vec<Nature>,
    /// Builds the agent a second time; `None`: it cannot, or the image maker takes no agent.
    pub other_agent: Option<Order>,
}

/// How the environment is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Prints `name=value` lines, as `fw_printenv` and `grub-editenv - list` do.
    pub read: Order,
    grub: bool,
    convention: String,
}

/// A shell on the console, and the device binary in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleShell {
    /// The shell.
    pub shell: Shell,
    /// The words before a command of the device binary.
    pub agent: Vec<String>,
    /// The longest that a command may take.
    pub patience: Duration,
}

impl Environment {
    /// What the variables mean, as the board's convention has it.
    pub fn convention(&self) -> Result<Box<dyn Convention + Send>> {
        // Which U-Boot format it is does not matter here: the variables have been read by somebody else.
        let format = if self.grub { Format::Grub } else { Format::UbootSingle { bytes: 0x4000 } };
        convention::by_name(&self.convention, &format).doing(|| "the environment")
    }
}

const COMMAND: &str = "a command, as in [\"relay\", \"on\", \"3\"]";
const RATE: &str = "a rate that termios knows, as in 115200";
/// Seconds that a pace may have: a day.
const SECONDS: std::ops::RangeInclusive<u64> = 0..=86_400;
/// How long flashing may take where `bench.toml` says nothing.
const COMMAND_S: u64 = 900;
/// How long a command over the console may take where `bench.toml` says nothing.
const CONSOLE_S: u64 = 120;

impl Config {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Config> {
        let text = TomlFile::text_of(path).doing(|| "the bench")?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().doing(|| folder.display().to_string())?;
        Config::parse(&text, &path.display().to_string(), &folder).doing(|| "the bench")
    }

    /// Reads `text`; errors call it `name`, and relative paths begin at `folder`.
    pub fn parse(text: &str, name: &str, folder: &Path) -> toml_file::Result<Config> {
        TomlFile::parse(text, name, |top| config(top, folder))
    }
}

fn config(mut top: Table<'_>, folder: &Path) -> toml_file::Result<Config> {
    let name = top.need_text("name", "a name for this bench")?.to_owned();
    let compatible = top.need_text("compatible", "the board file's compatible")?.to_owned();
    let grub = one_of(&top.need("bootloader", "\"uboot\" or \"grub\"")?, &["uboot", "grub"])? == 1;
    let command_patience = top.integer("command_s", 1..=86_400)?.unwrap_or(COMMAND_S);
    let port = serial(top.need_table("serial")?, folder)?;
    let mut power = top.need_table("power")?;
    let (power_on, power_off) = (need_order(&mut power, "on")?, need_order(&mut power, "off")?);
    power.finish()?;
    let (broker, link) = network(top.need_table("network")?)?;
    let image = image(top.need_table("image")?)?;
    let mut factory = top.need_table("factory")?;
    let flash = need_order(&mut factory, "flash")?;
    let ruin = order(&mut factory, "ruin")?;
    let version = order(&mut factory, "version")?;
    factory.finish()?;
    let environment = top.table("environment")?.map(|table| environment(table, grub)).transpose()?;
    let shell = shell(top.need_table("console")?)?;
    let own_repair = top.value("repair").map(|value| turns(&value)).transpose()?;
    let pace = pace(top.need_table("pace")?)?;
    let markers = top.table("markers")?.map_or(Ok(Markers::default()), markers)?;
    top.finish()?;
    Ok(Config {
        folder: folder.to_owned(),
        name,
        compatible,
        port,
        command_patience: Duration::from_secs(command_patience),
        power_on,
        power_off,
        link,
        broker,
        image,
        flash,
        ruin,
        version,
        environment,
        shell,
        repair: own_repair.unwrap_or_else(|| if grub { repair::grub() } else { repair::uboot() }),
        pace,
        markers,
    })
}

fn serial(mut table: Table<'_>, folder: &Path) -> toml_file::Result<Port> {
    let path = table.need("path", "a path, as in \"/dev/ttyUSB0\"")?.path(folder)?;
    let rate = table.need("baud", RATE)?;
    let baud = rate.integer(1..=u64::MAX)?;
    if !Port::knows(baud) {
        return Err(rate.wrong(RATE));
    }
    let gap = Duration::from_millis(table.integer("gap_ms", 0..=1000)?.unwrap_or(0));
    table.finish()?;
    Ok(Port { path, baud, gap })
}

fn network(mut table: Table<'_>) -> toml_file::Result<(BrokerWay, Option<[Order; 2]>)> {
    let host = "the name or address by which the board calls this computer";
    let host = table.need_text("broker", host)?.to_owned();
    let listen = table.value("listen").map(|value| {
        let expected = "an address and a port of this computer, as in \"192.168.7.1:8883\"; port 0: any";
        value.text(expected)?.parse().map_err(|_| value.wrong(expected))
    });
    let listen = listen.transpose()?;
    let link = match (order(&mut table, "up")?, order(&mut table, "down")?) {
        (Some(up), Some(down)) => Some([up, down]),
        (None, None) => None,
        _ => return Err(table.error("up", "expected both up and down, or none; found one".to_owned())),
    };
    table.finish()?;
    Ok((BrokerWay { host, listen }, link))
}

fn image(mut table: Table<'_>) -> toml_file::Result<ImageMaker> {
    let make = need_order(&mut table, "make")?;
    let names = Nature::ALL.map(Nature::name);
    let expected = format!("an array of {}", names.join(", "));
    let natures = table.need("natures", &expected)?;
    let natures = natures.array(&expected)?;
    let natures = natures.iter().map(|value| one_of(value, &names).map(|at| Nature::ALL[at]));
    let natures = natures.collect::<toml_file::Result<_>>()?;
    let other_agent = order(&mut table, "other_agent")?;
    table.finish()?;
    Ok(ImageMaker { make, natures, other_agent })
}

fn environment(mut table: Table<'_>, grub: bool) -> toml_file::Result<Environment> {
    let read = need_order(&mut table, "read")?;
    let own = table.value("convention");
    let convention = own.as_ref().map_or(Ok("mainstay"), |value| value.text("a convention"))?.to_owned();
    let environment = Environment { read, grub, convention };
    if let (Some(value), Err(why)) = (&own, environment.convention()) {
        return Err(value.error(why.to_string()));
    }
    table.finish()?;
    Ok(environment)
}

fn shell(mut table: Table<'_>) -> toml_file::Result<ConsoleShell> {
    let prompt = table.need_text("prompt", "what the shell's prompt ends in")?.to_owned();
    let login = table.value("login").map_or(Ok(Vec::new()), |value| turns(&value))?;
    let agent = table.value("agent").map(|value| words(&value)).transpose()?;
    let patience = table.integer("command_s", 1..=3600)?.unwrap_or(CONSOLE_S);
    table.finish()?;
    Ok(ConsoleShell {
        shell: Shell { prompt, login },
        agent: agent.unwrap_or_else(|| vec!["mainstay".to_owned()]),
        patience: Duration::from_secs(patience),
    })
}

fn pace(mut table: Table<'_>) -> toml_file::Result<Pace> {
    let mut seconds = |key| table.need_integer(key, SECONDS).map(Duration::from_secs);
    let pace = Pace {
        boot: seconds("boot_s")?,
        watchdog: seconds("watchdog_s")?,
        install: seconds("install_s")?,
        pause: seconds("pause_s")?,
    };
    table.finish()?;
    Ok(pace)
}

fn markers(mut table: Table<'_>) -> toml_file::Result<Markers> {
    let usual = Markers::default();
    let mut texts = |key, usual| table.value(key).map_or(Ok(usual), |value| words(&value));
    let mut markers = Markers {
        bootloader: texts("bootloader", usual.bootloader)?,
        boots: usual.boots,
        jumps: texts("jumps", usual.jumps)?,
        nothing_bootable: texts("nothing_bootable", usual.nothing_bootable)?,
        prompt: texts("prompt", usual.prompt)?,
        user_space: texts("user_space", usual.user_space)?,
        panic: texts("panic", usual.panic)?,
        watchdog: texts("watchdog", usual.watchdog)?,
        agent_starts: texts("agent_starts", usual.agent_starts)?,
        agent: texts("agent", usual.agent)?,
    };
    if let Some(value) = table.value("boots") {
        let expected = "a text with {group} in it, as in \"mainstay: group {group} ({why})\"";
        let text = value.text(expected)?;
        if text.split("{group}").next().is_none_or(str::is_empty) || !text.contains("{group}") {
            return Err(value.wrong(expected));
        }
        markers.boots = text.to_owned();
    }
    table.finish()?;
    Ok(markers)
}

fn turns(value: &Value<'_>) -> toml_file::Result<Vec<Turn>> {
    let turn = |value: Value<'_>| {
        let mut table = value.table()?;
        let expect = table.text("expect")?.unwrap_or_default().to_owned();
        let send = table.need_text("send", "what is typed")?.to_owned();
        table.finish()?;
        Ok(Turn { expect, send })
    };
    value.array("an array of { expect, send }")?.into_iter().map(turn).collect()
}

fn order(table: &mut Table<'_>, key: &'static str) -> toml_file::Result<Option<Order>> {
    let order = |value: Value<'_>| match words(&value)? {
        words if words.is_empty() => Err(value.wrong(COMMAND)),
        words => Ok(Order(words)),
    };
    table.value(key).map(order).transpose()
}

fn need_order(table: &mut Table<'_>, key: &'static str) -> toml_file::Result<Order> {
    match order(table, key)? {
        Some(order) => Ok(order),
        None => Err(table.error(key, format!("expected {COMMAND}, found nothing"))),
    }
}

fn words(value: &Value<'_>) -> toml_file::Result<Vec<String>> {
    let items = value.array(COMMAND)?;
    items.iter().map(|item| item.text("a word that is not empty").map(str::to_owned)).collect()
}

fn one_of(value: &Value<'_>, names: &[&str]) -> toml_file::Result<usize> {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let expected = quoted.join(" or ");
    let text = value.text(&expected)?;
    names.iter().position(|name| *name == text).ok_or_else(|| value.wrong(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../benches/example.toml");

    fn parse(text: &str) -> toml_file::Result<Config> {
        Config::parse(text, "bench.toml", Path::new("/bench"))
    }

    #[test]
    fn the_example_reads_and_its_comments_tell_the_defaults() {
        let config = parse(EXAMPLE).unwrap();
        assert_eq!(config.port.baud, 115_200);
        assert_eq!(config.markers, Markers::default(), "the example says what is usual");
        assert_eq!(config.repair, repair::uboot());
        assert!(config.image.natures.contains(&Nature::Healthy));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        #[rustfmt::skip]
        let cases: [(&str, &str, &str); 6] = [
            ("baud = 115200",        "baud = 115201",      "serial.baud: expected a rate that termios knows, as in 115200, found the integer 115201"),
            ("on = [",               "on = [ 1,",          "power.on[0]: expected a word that is not empty, found the integer 1"),
            ("natures = [",          "natures = [ \"ill\",", "image.natures[0]: expected \"healthy\" or "),
            ("boot_s = ",            "boots_s = ",         "pace.boot_s: expected an integer of 0 to 86400, found nothing"),
            ("boots = \"mainstay: group {group} ({why})", "boots = \"{group}", "markers.boots: expected a text with {group} in it"),
            ("bootloader = \"uboot\"", "bootloader = \"lilo\"", "bootloader: expected \"uboot\" or \"grub\", found the text \"lilo\""),
        ];
        for (right, wrong, said) in cases {
            assert!(EXAMPLE.contains(right), "{right}");
            let text = EXAMPLE.replacen(right, wrong, 1);
            let error = parse(&text).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            let line = text.lines().position(|line| line.contains(wrong)).unwrap() as u32 + 1;
            // A key that is missing is told at its table.
            assert!(error.line <= line && error.line + 6 > line, "{error}: line {line}");
        }
    }
}
