//! A bench: the machine that the scenarios are played on, as a hand at its power switch, an eye on its serial console and a
//! finger on its network plug have it. Scenarios are written once, against [`Bench`], and run unchanged on each.
//!
//! | bench | the machine | bootloader, kernel, watchdog |
//! |---|---|---|
//! | virtual | the real agent in a process of this computer | the model of our boot script; none; simulated |
//! | QEMU | an emulated x86_64, arm64 or armhf machine | real GRUB or U-Boot; Debian's; an emulated device |
//! | real board | whatever hangs on a serial port and a power switch | whatever it has |
//!
//! What a scenario may know of a machine is what all of them can tell: [`Event`]s in the order in which they were seen, the
//! environment, and what the operator hears over MQTT. What one of them cannot do it says ([`Bench::lacks`]), and the
//! scenario is then reported as not run on it.

pub mod console;
pub mod qemu;
pub mod real_board;
pub mod virtual_board;

use crate::Result;
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::{BootState, Group};
pub use mainstay_lab::board::Pace;
pub use mainstay_lab::guest::Nature;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What an image is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpec {
    /// What it calls itself.
    pub version: String,
    /// How it fares.
    pub nature: Nature,
    /// The device binary in it; `None`: the bench's own.
    pub agent: Option<PathBuf>,
}

/// What one gateway gets in the factory beside its first image.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, which its certificate carries.
    pub device: String,
    /// The group whose desired state it follows.
    pub group: String,
    /// The fleet's trust root.
    pub trust: PathBuf,
    /// The broker, as this computer reaches it. A bench knows how its machine does.
    pub broker: SocketAddr,
    /// Whom to believe that it is the broker.
    pub ca: PathBuf,
    /// Its certificate and key.
    pub certificate: crate::pki::Identity,
    /// The floor that its first image brings.
    pub image_floor: u32,
    /// Where a trial cannot do without the broker: the required check is then "connected", too.
    pub broker_required: bool,
}

/// What a scenario may need and not every bench has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Images of this nature.
    Nature(Nature),
    /// A watchdog whose biting is seen as an event of its own ([`What::WatchdogFires`]), apart from the reset after it.
    WatchdogEvents,
    /// The environment can be read ([`Bench::environment`]) while the machine runs.
    Environment,
    /// The network link can be pulled.
    Link,
    /// The bootloader's own console can be typed into.
    BootConsole,
    /// A second build of the agent can be put into an image ([`Bench::other_agent`]).
    OtherAgent,
    /// What is in a slot can be destroyed behind the machine's back ([`Bench::ruin`]).
    Ruin,
}

/// Something seen on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The power came on.
    PowerOn,
    /// The power was cut.
    PowerOff,
    /// The watchdog device bit: not the reset that follows it.
    WatchdogFires,
    /// The machine was reset: by its watchdog, its kernel or itself.
    Reset,
    /// The bootloader is there.
    Bootloader,
    /// The bootloader chose this group.
    Boots(Group, Why),
    /// The bootloader jumps into a kernel.
    Jumps,
    /// The bootloader found nothing more to boot, and waits.
    NothingBootable,
    /// A person could type at the bootloader's prompt: it gave up and leaves the board there.
    Prompt,
    /// The kernel has started user space.
    UserSpace,
    /// The kernel panicked.
    Panic,
    /// The agent was started.
    AgentStarts,
    /// A line of the console; on a bench without one, of the agent's log.
    Line(String),
}

/// What the version of [`Bench::other_agent`] ends in: it is built with `MAINSTAY_BUILD` set to this.
pub const OTHER_BUILD: &str = "+other";

/// A machine, and hands for it. Its power goes when it is dropped.
pub trait Bench {
    /// As it is called in `cargo hil --list`: `virtual`, `qemu/x86-bios` …
    fn name(&self) -> &str;

    /// Why something cannot be had here; `None`: it can.
    fn lacks(&self, need: Need) -> Option<String>;

    /// How long things take.
    fn pace(&self) -> Pace;

    /// What bundles have to be made for.
    fn compatible(&self) -> &str;

    /// By which name or address the machine calls this computer, where that is not one that every broker's certificate is for
    /// ([`Pki`](crate::pki::Pki)).
    fn broker_name(&self) -> Option<&str> {
        None
    }

    /// Makes an image for the slots of the class `rootfs`. The same spec gives the same bytes.
    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf>;

    /// Cuts the power and makes the machine what it is when it leaves the factory: `image` in group A, which is good, nothing in
    /// B, an empty state folder, and this identity. The power stays off.
    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()>;

    /// Turns the power on, or cuts it: at once, and nothing is written any more. Does nothing where it is so already.
    fn power(&mut self, on: bool) -> Result<()>;

    /// Plugs the network in, or pulls it.
    fn link(&mut self, up: bool) -> Result<()>;

    /// All that was seen since the last [`Bench::factory`], in order. Does not wait.
    fn events(&mut self) -> Result<Vec<Event>>;

    /// Types at the console.
    fn type_in(&mut self, keys: &str) -> Result<()>;

    /// Brings the bootloader to where a person types to it, after [`What::NothingBootable`], then does what its page says to give
    /// the groups of the order their tries again.
    fn repair(&mut self) -> Result<()>;

    /// With the power off: fills the beginning of a group's slot with noise, as a dying medium does, so that neither bootloader
    /// nor kernel can read it.
    fn ruin(&mut self, group: Group) -> Result<()>;

    /// Another build of the device binary for this machine, whose version ends in [`OTHER_BUILD`].
    fn other_agent(&mut self) -> Result<PathBuf>;

    /// What the bootloader's variables mean. With the power off, too.
    fn environment(&mut self) -> Result<BootState>;

    /// The version of the image in a group's slot, as far as it can be read: whole or not.
    fn version_in(&mut self, group: Group) -> Result<Option<String>>;

    /// Runs a command of the device binary on the machine, as a technician does, and answers what it printed.
    fn agent(&mut self, words: &[&str]) -> Result<String>;

    /// Where all that explains a failure stands: serial log, environment.
    fn evidence(&mut self) -> Result<Evidence>;
}

/// What explains a failure.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What was on the console since the last factory.
    pub console: String,
    /// The variables of the environment, `name=value` each.
    pub environment: Vec<String>,
}
