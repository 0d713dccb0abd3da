//! The virtual bench: the real agent as a process of this computer, on a [`Board`] whose bootloader is the model of our boot
//! script and whose watchdog is simulated. No kernel runs here, so what only a kernel can do is not to be had.
//!
//! ```text
//! board's events (an order of their own) ─┐
//!                                         ├─► one sequence, as a serial console would show it
//! agent's log (lines, "-- boots" marks) ──┘   a mark in the log stands for the agent's start on the board
//! ```

use super::{Bench, Event, Evidence, Identity, ImageSpec, Nature, Need, Pace, What};
use crate::board::{self, Bootloader, Happening, rootfs};
use crate::broker::gate::{Gate, Side};
use crate::disk::MIB;
use crate::gateway::{COMPATIBLE, Credentials, Gateway, PAUSE, Plan};
use crate::image::{Behaviour, HEADER_BYTES, Header, Spec};
use crate::programs::Programs;
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::{BootState, Group};
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A virtual board on the bench.
pub struct VirtualBench {
    name: String,
    folder: PathBuf,
    agent: PathBuf,
    bootloader: Bootloader,
    built: u32,
    on: Option<Machine>,
}

/// What a factory made.
struct Machine {
    gateway: Gateway,
    /// The network's plug: between the gateway and its broker.
    plug: Gate,
    broker: std::net::SocketAddr,
    story: Story,
}

/// Images are of this size: large enough for a download to be cut, small enough to be made at once.
const IMAGE_BYTES: u64 = 8 * MIB;
/// The watchdog's timeout in seconds.
const WATCHDOG_S: u32 = 3;
/// How long things take on an idle machine: 1.0 s from the power to the first message, 1.3 s from publishing to the reboot.
const PACE: Pace = Pace {
    boot: Duration::from_secs(2),
    watchdog: Duration::from_secs(WATCHDOG_S as u64),
    install: Duration::from_secs(3),
    pause: PAUSE,
};

impl VirtualBench {
    /// A bench whose files stand in `folder`, with this device binary.
    pub fn new(folder: &Path, agent: &Path, bootloader: Bootloader) -> Result<VirtualBench> {
        std::fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let name = match bootloader {
            Bootloader::UBoot => "virtual/uboot",
            Bootloader::Grub => "virtual/grub",
        };
        let (name, folder, own) = (name.to_owned(), folder.to_owned(), folder.join("mainstay"));
        std::fs::copy(agent, &own).doing(|| format!("copying {}", agent.display()))?; // cargo may build it anew meanwhile
        let agent = own;
        Ok(VirtualBench { name, folder, agent, bootloader, built: 0, on: None })
    }

    fn machine(&self) -> Result<&Machine> {
        self.on.as_ref().doing(|| "there is no machine on the bench before the first factory")
    }

    fn board(&self) -> Result<&board::Board> {
        Ok(self.machine()?.gateway.board())
    }
}

/// What the board makes of an image of this nature; `None`: there is no image to read.
fn behaviour(nature: Nature) -> Option<Behaviour> {
    match nature {
        Nature::Healthy => Some(Behaviour::Healthy),
        Nature::CheckFails => Some(Behaviour::Unhealthy),
        Nature::UserspaceHangs => Some(Behaviour::Freezes),
        Nature::KernelHangs => Some(Behaviour::NeverUp),
        Nature::AgentCrashes => Some(Behaviour::AgentCrashes),
        Nature::AgentKilled => Some(Behaviour::AgentKilled),
        Nature::AgentHangs => Some(Behaviour::AgentHangs),
        Nature::RootGarbage | Nature::KernelPanics | Nature::InitMissing => None,
    }
}

impl Bench for VirtualBench {
    fn name(&self) -> &str {
        &self.name
    }

    fn lacks(&self, need: Need) -> Option<String> {
        match need {
            Need::Nature(Nature::KernelPanics | Nature::InitMissing) => {
                Some("no kernel runs on a virtual board".into())
            }
            Need::BootConsole => Some("the model of the boot script has no console".into()),
            _ => None,
        }
    }

    fn pace(&self) -> Pace {
        PACE
    }

    fn compatible(&self) -> &str {
        COMPATIBLE
    }

    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf> {
        let ImageSpec { version, nature, agent } = spec;
        if let Some(why) = self.lacks(Need::Nature(*nature)) {
            return Err(Trouble::new(why));
        }
        let path = self.folder.join(format!("{version}.img"));
        let behaviour = behaviour(*nature);
        let header = Header {
            version: version.clone(),
            behaviour: behaviour.unwrap_or(Behaviour::NeverUp),
            agent: agent.clone(),
        };
        Spec { header, bytes: IMAGE_BYTES, seed: 1, changed_percent: 30 }.write(&path)?;
        if behaviour.is_none() {
            let file = std::fs::OpenOptions::new().write(true).open(&path);
            let noise = noise(HEADER_BYTES, version.bytes().map(u64::from).sum());
            file.and_then(|file| file.write_all_at(&noise, 0)).doing(|| path.display().to_string())?;
        }
        Ok(path)
    }

    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        self.on = None; // its power goes
        self.built += 1;
        let plug = Gate::open(Side::PassThrough, identity.broker)?;
        let plan = Plan {
            folder: self.folder.join(format!("board-{}", self.built)),
            agent: self.agent.clone(),
            name: identity.device.clone(),
            group: identity.group.clone(),
            bootloader: self.bootloader,
            slot_bytes: IMAGE_BYTES,
            image_floor: identity.image_floor,
            watchdog_s: WATCHDOG_S,
            approve: false,
            broker: Some(plug.address()),
            broker_required: identity.broker_required,
        };
        let credentials = Credentials { ca: identity.ca.clone(), identity: identity.certificate.clone() };
        let gateway = Gateway::build_with(plan, &credentials, &identity.trust)?;
        gateway.board().flash(Group::A, image)?;
        self.on = Some(Machine { gateway, plug, broker: identity.broker, story: Story::default() });
        Ok(())
    }

    fn power(&mut self, on: bool) -> Result<()> {
        let board = self.board()?;
        if board.status().power == on {
            return Ok(());
        }
        let mark = board.mark();
        match on {
            true => board.power_on(),
            false => board.power_cut(),
        }
        let done = |what: &Happening| matches!(what, Happening::PowerOn | Happening::PowerCut);
        board.wait_for(mark, ORDER_TAKEN, done).map(drop)
    }

    fn link(&mut self, up: bool) -> Result<()> {
        let machine =
            self.on.as_mut().doing(|| "there is no machine on the bench before the first factory")?;
        match up {
            true => machine.plug.reopen(machine.broker),
            false => {
                machine.plug.shut();
                Ok(())
            }
        }
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        let Some(machine) = &mut self.on else { return Ok(Vec::new()) };
        machine.story.read_on(&machine.gateway)?;
        Ok(machine.story.told.clone())
    }

    fn type_in(&mut self, _: &str) -> Result<()> {
        Err(Trouble::new("a virtual board has no console to type at"))
    }

    fn repair(&mut self) -> Result<()> {
        self.board()?.repair()
    }

    fn ruin(&mut self, group: Group) -> Result<()> {
        let board = self.board()?;
        if board.status().power {
            return Err(Trouble::new("a slot is destroyed with the power off, and it is on"));
        }
        board.disk().write(rootfs(group), 0, &noise(MIB as usize, 1))
    }

    fn other_agent(&mut self) -> Result<PathBuf> {
        Programs::other_agent()
    }

    fn environment(&mut self) -> Result<BootState> {
        self.board()?.boot_state()
    }

    fn version_in(&mut self, group: Group) -> Result<Option<String>> {
        Ok(self.board()?.image_in(group).ok().flatten().map(|image| image.version))
    }

    fn agent(&mut self, words: &[&str]) -> Result<String> {
        let board = self.board()?;
        let own = board.status().image.and_then(|image| image.agent);
        let mut agent = Command::new(own.unwrap_or_else(|| self.agent.clone()));
        agent.arg("--config").arg(&board.files().config).args(words).stdin(Stdio::null());
        let output = agent.output().doing(|| format!("starting mainstay {}", words.join(" ")))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Trouble::new(format!("mainstay {}: {why}", words.join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn evidence(&mut self) -> Result<Evidence> {
        let Some(machine) = &mut self.on else { return Ok(Evidence::default()) };
        machine.story.read_on(&machine.gateway)?;
        let began = machine.gateway.board().began();
        let line = |event: &Event| match &event.what {
            What::Line(line) => format!("{line}\n"),
            what => format!("[{:8.3}] {what:?}\n", (event.at.saturating_duration_since(began)).as_secs_f64()),
        };
        let vars = machine.gateway.board().vars();
        let environment = vars.map(|vars| vars.entries().iter().map(|entry| format!("{entry:?}")).collect());
        Ok(Evidence {
            console: machine.story.told.iter().map(line).collect(),
            environment: environment.unwrap_or_else(|trouble: Trouble| vec![trouble.to_string()]),
        })
    }
}

/// The board's thread looks a hundred times a second.
const ORDER_TAKEN: Duration = Duration::from_secs(10);

/// Bytes that are no image. The same each time.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// What was seen, in one order.
#[derive(Default)]
struct Story {
    told: Vec<Event>,
    happenings: usize,
    log: usize,
}

impl Story {
    /// Takes what is new. Of the board's events each boot of user space has its mark in the log: lines before the mark
    /// belong before it.
    fn read_on(&mut self, gateway: &Gateway) -> Result<()> {
        let board = gateway.board();
        let mut news: VecDeque<board::Event> = board.events().into_iter().skip(self.happenings).collect();
        self.happenings += news.len();
        let (log, end) = gateway.log_since(self.log);
        let whole = log.rfind('\n').map_or(0, |at| at + 1);
        self.log = end - (log.len() - whole);
        for line in log.get(..whole).unwrap_or_default().lines() {
            if line.starts_with(MARK) {
                self.tell(&mut news, board.began(), true)?;
            }
            self.told.push(Event { at: Instant::now(), what: What::Line(line.to_owned()) });
        }
        self.tell(&mut news, board.began(), false)
    }

    /// Tells the board's news: up to the next start of a user space, or all of them.
    fn tell(&mut self, news: &mut VecDeque<board::Event>, began: Instant, to_start: bool) -> Result<()> {
        while let Some(event) = news.pop_front() {
            let at = began + event.at;
            let started = event.what == Happening::AgentStarted;
            let whats = in_common_words(event.what)?;
            self.told.extend(whats.into_iter().map(|what| Event { at, what }));
            if started && to_start {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How a boot of user space is marked in the agent's log.
const MARK: &str = "-- boots ";

fn in_common_words(happening: Happening) -> Result<Vec<What>> {
    let line = |text: String| vec![What::Line(format!("-- {text}"))];
    Ok(match happening {
        Happening::PowerOn => vec![What::PowerOn, What::Bootloader],
        Happening::PowerCut => vec![What::PowerOff],
        Happening::Boots(group, why) => vec![What::Boots(group, why), What::Jumps],
        Happening::NothingBootable => vec![What::NothingBootable],
        Happening::NeverComesUp => line("nothing comes up".into()),
        Happening::AgentStarted => vec![What::UserSpace, What::AgentStarts],
        Happening::AgentRestarted => vec![What::AgentStarts],
        Happening::AgentEnded(status) => line(format!("the agent has ended: {status}")),
        Happening::AgentStopped => line("the agent hangs".into()),
        Happening::Froze => line("the machine hangs".into()),
        Happening::WatchdogArmed(seconds) => line(format!("watchdog armed, {seconds} s")),
        Happening::WatchdogBites => vec![What::WatchdogFires, What::Reset, What::Bootloader],
        Happening::ResetAsked => vec![What::Reset, What::Bootloader],
        Happening::Broken(why) => return Err(Trouble::new(format!("the bench is broken: {why}"))),
    })
}
