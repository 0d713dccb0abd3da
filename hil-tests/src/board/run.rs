//! The board at work: one thread that looks at everything a hundred times a second.
//!
//! ```text
//! Off ──power──► Booting ──boot time──► Up ──► Booting     reset asked for, or the watchdog bit
//!  ▲                │                   │
//!  └──power cut─────┴───────────────────┘
//! ```
//! The bootloader arms the watchdog before it jumps into a trial, so that an image that never comes up is reset
//! too; for a good group the agent, or nobody, arms it.

use super::machine::Machine;
use super::{Files, Firmware, Happening, Plan, Shared};
use crate::image::Behaviour;
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::Group;
use nix::sys::signal::Signal;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the board is told to do.
pub enum Order {
    PowerOn,
    PowerCut,
    Scrap,
}

/// How often the thread looks around.
const TICK: Duration = Duration::from_millis(10);
/// How long an image that freezes seems to be well.
const FREEZES_AFTER: Duration = Duration::from_millis(300);

enum Power {
    Off,
    Booting { until: Instant },
    Up { freezes: Option<Instant>, agent: Option<Child> },
}

struct Runner {
    agent: std::path::PathBuf,
    boot_time: Duration,
    watchdog_s: u32,
    files: Files,
    firmware: Firmware,
    machine: Machine,
    shared: Arc<Shared>,
    watchdog: UnixDatagram,
    /// When it bites, and after how many seconds without food.
    bites: Option<(Instant, u32)>,
    power: Power,
}

/// Starts the thread.
pub fn start(
    plan: &Plan,
    files: &Files,
    firmware: Firmware,
    shared: Arc<Shared>,
) -> Result<(Sender<Order>, JoinHandle<()>)> {
    let _ = std::fs::remove_file(&files.watchdog); // of a board that stood here before
    let watchdog = UnixDatagram::bind(&files.watchdog).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let mut runner = Runner {
        agent: plan.agent.clone(),
        boot_time: plan.boot_time,
        watchdog_s: plan.watchdog_s,
        files: files.clone(),
        firmware,
        machine: Machine::new(&plan.folder),
        shared,
        watchdog: watchdog.doing(|| files.watchdog.display().to_string())?,
        bites: None,
        power: Power::Off,
    };
    let (orders, inbox) = channel();
    let body = move || runner.run(&inbox);
    let thread = thread::Builder::new().name("board".into()).spawn(body).doing(|| "the board's thread")?;
    Ok((orders, thread))
}

impl Runner {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Ok(Order::PowerOn) if matches!(self.power, Power::Off) => {
                    self.shared.happened(Happening::PowerOn, |status| status.power = true);
                    self.reset();
                }
                Ok(Order::PowerCut) if !matches!(self.power, Power::Off) => self.power_cut(),
                Ok(Order::PowerOn | Order::PowerCut) | Err(TryRecvError::Empty) => {}
                Ok(Order::Scrap) | Err(TryRecvError::Disconnected) => return self.down(),
            }
            if let Err(trouble) = self.look_around() {
                self.down();
                self.shared
                    .happened(Happening::Broken(trouble.to_string()), |status| *status = Default::default());
            }
            thread::sleep(TICK);
        }
    }

    fn look_around(&mut self) -> Result<()> {
        self.hear_the_watchdog();
        if self.bites.is_some_and(|(when, _)| Instant::now() >= when) {
            self.shared.happened(Happening::WatchdogBites, |_| {});
            self.reset();
        }
        if self.files.reset.exists() {
            std::fs::remove_file(&self.files.reset).doing(|| self.files.reset.display().to_string())?;
            if !matches!(self.power, Power::Off) {
                self.shared.happened(Happening::ResetAsked, |_| {});
                self.reset();
            }
        }
        match &mut self.power {
            Power::Booting { until } if Instant::now() >= *until => self.boot(),
            Power::Up { freezes, agent: Some(agent) } => {
                if let Some(status) = agent.try_wait().doing(|| "the agent")? {
                    self.power = Power::Up { freezes: None, agent: None };
                    self.shared
                        .happened(Happening::AgentEnded(status.to_string()), |status| status.agent = None);
                } else if freezes.is_some_and(|when| Instant::now() >= when) {
                    self.machine.signal_all(Signal::SIGSTOP);
                    *freezes = None;
                    self.shared.happened(Happening::Froze, |_| {});
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the lines that have come: `arm N`, `feed`. While the machine is not up nobody is there to send any.
    fn hear_the_watchdog(&mut self) {
        let mut line = [0; 64];
        while let Ok(length) = self.watchdog.recv(&mut line) {
            if !matches!(self.power, Power::Up { .. }) {
                continue;
            }
            let line = String::from_utf8_lossy(line.get(..length).unwrap_or_default()).into_owned();
            let seconds = match line.trim().split_once(' ') {
                Some(("arm", seconds)) => seconds.parse().ok(),
                _ => None,
            };
            if let Some(seconds) = seconds {
                self.arm(seconds);
            } else if let Some((when, seconds)) = &mut self.bites {
                *when = Instant::now() + Duration::from_secs(u64::from(*seconds));
            }
        }
    }

    fn arm(&mut self, seconds: u32) {
        self.bites = Some((Instant::now() + Duration::from_secs(u64::from(seconds)), seconds));
        self.shared.happened(Happening::WatchdogArmed(seconds), |_| {});
    }

    /// Bootloader, kernel, user space.
    fn boot(&mut self) -> Result<()> {
        let Some((group, why)) = self.firmware.boot()? else {
            self.power = Power::Up { freezes: None, agent: None };
            self.shared.happened(Happening::NothingBootable, |_| {});
            return Ok(());
        };
        let image = self.firmware.image(group)?;
        let behaviour = image.as_ref().map_or(Behaviour::NeverUp, |image| image.behaviour);
        self.power = Power::Up { freezes: None, agent: None };
        self.shared.happened(Happening::Boots(group, why), |status| {
            status.running = Some((group, why));
            status.image = image;
        });
        if why == Why::Trial {
            self.arm(self.watchdog_s);
        }
        if behaviour == Behaviour::NeverUp {
            self.shared.happened(Happening::NeverComesUp, |_| {});
            return Ok(());
        }
        let agent = self.user_space(group, why, behaviour)?;
        let pid = agent.id();
        let freezes = (behaviour == Behaviour::Freezes).then(|| Instant::now() + FREEZES_AFTER);
        self.power = Power::Up { freezes, agent: Some(agent) };
        self.shared.happened(Happening::AgentStarted, |status| status.agent = Some(pid));
        Ok(())
    }

    /// What does not outlive a boot is made anew, the application comes up if it is healthy, the agent is started.
    fn user_space(&self, group: Group, why: Why, behaviour: Behaviour) -> Result<Child> {
        let Files { run, running, app, config, log, .. } = &self.files;
        let _ = std::fs::remove_dir_all(run); // not there at the first boot
        std::fs::create_dir_all(run).doing(|| run.display().to_string())?;
        std::fs::write(running, format!("{group}\n")).doing(|| running.display().to_string())?;
        if behaviour == Behaviour::Healthy {
            std::fs::write(app, "").doing(|| app.display().to_string())?;
        }
        let log =
            OpenOptions::new().append(true).create(true).open(log).doing(|| log.display().to_string())?;
        let errors = log.try_clone().doing(|| "the agent's log")?;
        writeln!(&log, "-- boots {group}, {}", why.name()).doing(|| "the agent's log")?;
        let mut agent = Command::new(&self.agent);
        agent.arg("run").arg("--config").arg(config).process_group(0);
        self.machine.mark(&mut agent);
        agent.stdin(Stdio::null()).stdout(log).stderr(errors);
        agent.spawn().doing(|| format!("starting {}", self.agent.display()))
    }

    /// Off and on again.
    fn reset(&mut self) {
        self.down();
        self.shared.set(|status| *status = super::Status { power: true, ..Default::default() });
        self.power = Power::Booting { until: Instant::now() + self.boot_time };
    }

    fn power_cut(&mut self) {
        self.down();
        self.shared.happened(Happening::PowerCut, |status| *status = Default::default());
    }

    /// Nothing runs any more, and nothing is remembered but what stands on the disk.
    fn down(&mut self) {
        self.machine.kill_all();
        if let Power::Up { agent: Some(agent), .. } = &mut self.power {
            let _ = agent.wait(); // it has been killed, or has ended before
        }
        self.power = Power::Off;
        self.bites = None;
    }
}
