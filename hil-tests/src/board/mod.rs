//! The virtual board: what stands around a real `mainstay run`.
//!
//! ```text
//!           ┌───────────────────────────── board ──────────────────────────────┐
//!  power ──►│ bootloader (bootloader-glue's model, on the disk's own bytes)    │
//!           │   └► picks a group, counts a try, arms the watchdog for a trial  │
//!           │        └► reads the slot's first sector, as a kernel would       │
//!           │             └► starts `mainstay run`, unless nothing comes up    │
//!           │ watchdog (socket)   reset line (a file)   disk (GPT image)       │
//!           └──────────────────────────────────────────────────────────────────┘
//! ```
//! What the board does not know: bundles, trust, MQTT, the agent's state. What it does to the agent it does from outside:
//! it starts the process and kills it (`SIGKILL`, and all that it has started, wherever that has fled to), because the
//! power failed, because the watchdog bit, or because a reset was asked for.
//!
//! What is not like a real board: the host keeps what was written but not synced (the simulator in `agent/sim` is
//! where such writes are lost), and seconds are short.

mod firmware;
mod machine;
mod run;

use crate::disk::{Disk, Layout, UBOOT_ENV_BYTES};
use crate::image::{HEADER_BYTES, Header};
use crate::{Doing, Result, Trouble};
use firmware::Firmware;
use mainstay_bootloader_glue::convention::Why;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::limits::TRIES_DEFAULT;
use run::Order;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which bootloader the board has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootloader {
    /// U-Boot with a redundant environment, 2 × 16 KiB.
    UBoot,
    /// GRUB with its environment block, 1 KiB.
    Grub,
}

/// What a board is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything of the board's stands in here.
    pub folder: PathBuf,
    /// The device binary.
    pub agent: PathBuf,
    /// What bundles have to be made for.
    pub compatible: String,
    /// The disk.
    pub layout: Layout,
    /// The bootloader.
    pub bootloader: Bootloader,
    /// The watchdog's timeout, in seconds: what the bootloader arms it with, and what the agent asks for.
    pub watchdog_s: u32,
    /// How long bootloader and kernel take.
    pub boot_time: Duration,
    /// How long the bootloader waits when nothing is left to boot, before each group has another chance.
    pub pause: Duration,
}

/// The files of a board, all in its folder.
#[derive(Clone, Debug)]
pub struct Files {
    /// The board file: `board.toml`.
    pub board: PathBuf,
    /// The agent's configuration: `mainstay.toml`. Whoever builds a gateway writes it.
    pub config: PathBuf,
    /// What the kernel says it runs: `A` or `B`.
    pub running: PathBuf,
    /// What the agent keeps: the data partition's part.
    pub state: PathBuf,
    /// What does not outlive a boot.
    pub run: PathBuf,
    /// There when the application of a healthy image is up. In `run`.
    pub app: PathBuf,
    /// Asks for a reset when it appears.
    pub reset: PathBuf,
    /// The watchdog's socket.
    pub watchdog: PathBuf,
    /// What the agent said, all boots one after the other.
    pub log: PathBuf,
}

/// What happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the board was built.
    pub at: Duration,
    /// What.
    pub what: Happening,
}

/// What can happen on a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The power came on.
    PowerOn,
    /// The power went.
    PowerCut,
    /// The bootloader jumps into this group.
    Boots(Group, Why),
    /// The bootloader found nothing to boot, and waits.
    NothingBootable,
    /// What was booted never comes up.
    NeverComesUp,
    /// The agent has been started.
    AgentStarted,
    /// The agent ended, with this status; in an image that is to fare well it did so by itself.
    AgentEnded(String),
    /// The image's init has started the agent again.
    AgentRestarted,
    /// The agent was stopped, and nothing else.
    AgentStopped,
    /// The machine froze, and the agent with it.
    Froze,
    /// The watchdog was armed, with this many seconds.
    WatchdogArmed(u32),
    /// The watchdog was not fed in time and resets the machine.
    WatchdogBites,
    /// A reset was asked for.
    ResetAsked,
    /// The board itself is broken: the bench's fault.
    Broken(String),
}

/// How it stands right now.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Is there power?
    pub power: bool,
    /// Does the bootloader wait, for nothing is left to boot?
    pub pauses: bool,
    /// What is booted, and why.
    pub running: Option<(Group, Why)>,
    /// What the booted image says of itself.
    pub image: Option<Header>,
    /// The agent's process.
    pub agent: Option<u32>,
}

/// A board. Its power goes when it is dropped.
pub struct Board {
    plan: Plan,
    files: Files,
    disk: Disk,
    firmware: Firmware,
    shared: Arc<Shared>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    began: Instant,
    state: Mutex<(Status, Vec<Event>)>,
    changed: Condvar,
}

impl Board {
    /// Builds a board with an empty disk and a fresh environment; its power is off.
    pub fn build(plan: Plan) -> Result<Board> {
        let folder = &plan.folder;
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let files = Files::within(folder);
        for folder in [&files.state, &files.run] {
            std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        }
        let disk = Disk::create(&folder.join("disk.img"), &plan.layout)?;
        let format = match plan.bootloader {
            Bootloader::UBoot => {
                Format::UbootRedundant { bytes: UBOOT_ENV_BYTES as usize, scheme: Scheme::Incremental }
            }
            Bootloader::Grub => Format::Grub,
        };
        let firmware = Firmware::new(disk.clone(), format);
        firmware.factory()?;
        let board = board_file(&plan, &files, &disk)?;
        std::fs::write(&files.board, board).doing(|| files.board.display().to_string())?;
        let shared = Arc::new(Shared {
            began: Instant::now(),
            state: Mutex::new((Status::default(), Vec::new())),
            changed: Condvar::new(),
        });
        let (orders, thread) = run::start(&plan, &files, firmware.clone(), shared.clone())?;
        Ok(Board { plan, files, disk, firmware, shared, orders, thread: Some(thread) })
    }

    /// What it was built from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where its files are.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Its disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Writes an image into a group's slot, as the factory does.
    pub fn flash(&self, group: Group, image: &Path) -> Result<()> {
        self.disk.flash(rootfs(group), image)
    }

    /// Turns the power on. Nothing happens where it is on.
    pub fn power_on(&self) {
        let _ = self.orders.send(Order::PowerOn); // the thread ends only with the board
    }

    /// Takes the power away, now. Nothing happens where it is off.
    pub fn power_cut(&self) {
        let _ = self.orders.send(Order::PowerCut);
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.shared.lock().0.clone()
    }

    /// When it was built: its events count from here.
    pub fn began(&self) -> Instant {
        self.shared.began
    }

    /// What a person does at the bootloader's console in its wait after [`Happening::NothingBootable`]: gives the groups of the
    /// order their tries again, and resets.
    pub fn repair(&self) -> Result<()> {
        if !self.status().pauses {
            return Err(Trouble::new("the bootloader does not wait for anybody"));
        }
        self.firmware.give_tries(TRIES_DEFAULT)?;
        let reset = &self.files.reset;
        std::fs::write(reset, "").doing(|| reset.display().to_string())
    }

    /// All that has happened.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().1.clone()
    }

    /// A mark: what happens from here on is [`Board::since`] it.
    pub fn mark(&self) -> usize {
        self.shared.lock().1.len()
    }

    /// What has happened since a mark.
    pub fn since(&self, mark: usize) -> Vec<Happening> {
        self.shared.lock().1.iter().skip(mark).map(|event| event.what.clone()).collect()
    }

    /// Waits until something has happened since `mark`; `patience` runs from now.
    pub fn wait_for(
        &self,
        mark: usize,
        patience: Duration,
        wanted: impl Fn(&Happening) -> bool,
    ) -> Result<Happening> {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            let (_, events) = &*state;
            if let Some(event) = events.iter().skip(mark).find(|event| wanted(&event.what)) {
                return Ok(event.what.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen: Vec<_> = events.iter().skip(mark).map(|event| &event.what).collect();
                return Err(Trouble::new(format!("waited {patience:?} in vain; the board saw {seen:?}")));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What the bootloader's environment says.
    pub fn boot_state(&self) -> Result<BootState> {
        self.firmware.state()
    }

    /// All variables of the environment.
    pub fn vars(&self) -> Result<Vars> {
        self.firmware.vars()
    }

    /// What the image in a group's slot says of itself.
    pub fn image_in(&self, group: Group) -> Result<Option<Header>> {
        let mut first = [0; HEADER_BYTES];
        self.disk.read(rootfs(group), 0, &mut first)?;
        Header::decode(&first)
    }

    /// Does a group's slot begin with exactly this image?
    pub fn holds(&self, group: Group, image: &Path) -> Result<bool> {
        let what = || image.display().to_string();
        let mut file = File::open(image).doing(what)?;
        let mut left = file.metadata().doing(what)?.len();
        let mut at = 0;
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        while left > 0 {
            let length = CHUNK.min(left as usize);
            ours.truncate(length);
            theirs.truncate(length);
            self.disk.read(rootfs(group), at, &mut ours)?;
            file.read_exact(&mut theirs).doing(what)?;
            if ours != theirs {
                return Ok(false);
            }
            at += length as u64;
            left -= length as u64;
        }
        Ok(true)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Scrap);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic in it has been printed
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Status, Vec<Event>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the status, where nothing happened that anybody waits for.
    fn set(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().0);
    }

    /// Changes the status and says what happened.
    fn happened(&self, what: Happening, change: impl FnOnce(&mut Status)) {
        let mut state = self.lock();
        change(&mut state.0);
        let at = self.began.elapsed();
        state.1.push(Event { at, what });
        self.changed.notify_all();
    }
}

impl Files {
    fn within(folder: &Path) -> Files {
        let run = folder.join("run");
        Files {
            board: folder.join("board.toml"),
            config: folder.join("mainstay.toml"),
            running: folder.join("running"),
            state: folder.join("state"),
            app: run.join("app-is-up"),
            run,
            reset: folder.join("reset"),
            watchdog: folder.join("watchdog.sock"),
            log: folder.join("agent.log"),
        }
    }
}

/// How much of a slot is compared at a time.
const CHUNK: usize = 1024 * 1024;

/// The partition that a group's root file system is in.
pub fn rootfs(group: Group) -> &'static str {
    match group {
        Group::A => "rootfs-a",
        Group::B => "rootfs-b",
    }
}

/// The board file; the paths in it begin at its folder, but the reset command has no such folder.
fn board_file(plan: &Plan, files: &Files, disk: &Disk) -> Result<String> {
    let Plan { compatible, watchdog_s, .. } = plan;
    let start = disk.partition("env")?.start;
    let environment = match plan.bootloader {
        Bootloader::UBoot => {
            let copy = |at: u64| {
                format!("{{ path = \"disk.img\", offset = {}, size = {UBOOT_ENV_BYTES} }}", start + at)
            };
            format!("bootloader = \"uboot\"\nenvironment = [{}, {}]", copy(0), copy(UBOOT_ENV_BYTES))
        }
        Bootloader::Grub => {
            format!("bootloader = \"grub\"\nenvironment = {{ path = \"disk.img\", offset = {start} }}")
        }
    };
    let reset = files.reset.display();
    Ok(format!(
        r#"# The virtual board of the bench.
compatible = "{compatible}"

[boot]
{environment}
running_file = "running"
lock_file = "environment.lock"

[[slot]]
group = "A"
class = "rootfs"
device = "disk.img"
partition = "rootfs-a"

[[slot]]
group = "B"
class = "rootfs"
device = "disk.img"
partition = "rootfs-b"

[watchdog]
kind = "simulated"
path = "watchdog.sock"
timeout_s = {watchdog_s}

[reboot]
command = ["touch", "{reset}"]
"#
    ))
}
