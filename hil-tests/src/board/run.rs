//! The board at work: one thread that looks at everything a hundred times a second.
//!
//! ```text
//! Off ──power──► Booting ──► Kernel ──► Up ──► Booting     reset asked for, or the watchdog bit
//!  ▲                │ ▲         ▲       │
//!  │   nothing left ▼ │ reset   │       │
//!  │             Pausing ───────┘ when the pause is over
//!  └──power cut─────┴───────────┴───────┘
//! ```
//! Bootloader and kernel take half of the boot time each.
//!
//! The bootloader arms the watchdog before it jumps into what is not good, so that an image that never comes up is reset
//! too; for a good group the agent, or nobody, arms it. An image that is not to fare well has an init that starts the agent
//! again whenever it has ended.

use super::machine::Machine;
use super::{Files, Firmware, Happening, Plan, Shared};
use crate::image::Behaviour;
use crate::{Doing, Result};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::Group;
use nix::sys::signal::{Signal, kill};
use std::fs::{File, OpenOptions};
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
/// How long an image that freezes seems to be well, and an agent that will be killed or stopped.
const FREEZES_AFTER: Duration = Duration::from_millis(300);
/// How soon init starts an agent again that has ended: as in the service file.
const RESTARTS_AFTER: Duration = Duration::from_millis(200);

enum Power {
    Off,
    Booting { until: Instant },
    Pausing { until: Instant },
    Kernel { until: Instant, booted: Booted },
    Up(Up),
}

/// What the bootloader has jumped into.
#[derive(Clone)]
struct Booted {
    group: Group,
    why: Why,
    behaviour: Behaviour,
    program: std::path::PathBuf,
}

/// A machine whose kernel has done its part.
#[derive(Default)]
struct Up {
    behaviour: Option<Behaviour>,
    /// When something happens to what runs: it freezes, is killed, is stopped. `None`: nothing any more.
    struck: Option<Instant>,
    /// When init starts the agent again.
    restart: Option<Instant>,
    agent: Option<Child>,
    /// What is started.
    program: std::path::PathBuf,
}

struct Runner {
    agent: std::path::PathBuf,
    boot_time: Duration,
    pause: Duration,
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
        pause: plan.pause,
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
            Power::Booting { until } if Instant::now() >= *until => match self.firmware.waits()? {
                true => {
                    self.power = Power::Pausing { until: Instant::now() + self.pause };
                    self.shared.happened(Happening::NothingBootable, |status| status.pauses = true);
                    Ok(())
                }
                false => self.boot(),
            },
            Power::Pausing { until } if Instant::now() >= *until => {
                self.shared.set(|status| status.pauses = false);
                self.boot()
            }
            Power::Kernel { until, booted } if Instant::now() >= *until => {
                let booted = booted.clone();
                self.come_up(booted)
            }
            Power::Up(_) => self.user_space_goes_on(),
            _ => Ok(()),
        }
    }

    /// What happens to what runs, and what its init does about it.
    fn user_space_goes_on(&mut self) -> Result<()> {
        let Power::Up(up) = &mut self.power else { return Ok(()) };
        let now = Instant::now();
        let due = |when: Option<Instant>| when.is_some_and(|when| now >= when);
        if let Some(agent) = &mut up.agent {
            if let Some(status) = agent.try_wait().doing(|| "the agent")? {
                let again = matches!(up.behaviour, Some(Behaviour::AgentCrashes | Behaviour::AgentKilled));
                (up.agent, up.struck) = (None, None);
                up.restart = again.then(|| now + RESTARTS_AFTER);
                self.shared.happened(Happening::AgentEnded(status.to_string()), |status| status.agent = None);
            } else if due(up.struck) {
                up.struck = None;
                let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
                match up.behaviour {
                    Some(Behaviour::AgentKilled) => {
                        let _ = kill(pid, Signal::SIGKILL); // the next look finds it ended, as if it had ended before
                    }
                    Some(Behaviour::AgentHangs) => {
                        let _ = kill(pid, Signal::SIGSTOP); // it may have ended just now
                        self.shared.happened(Happening::AgentStopped, |_| {});
                    }
                    _ => {
                        self.machine.signal_all(Signal::SIGSTOP);
                        self.shared.happened(Happening::Froze, |_| {});
                    }
                }
            }
        } else if due(up.restart) {
            up.restart = None;
            let (program, behaviour) = (up.program.clone(), up.behaviour);
            let agent = self.start_agent(&program, behaviour)?;
            let pid = agent.id();
            if let Power::Up(up) = &mut self.power {
                (up.agent, up.struck) = (Some(agent), strikes(behaviour));
            }
            self.shared.happened(Happening::AgentRestarted, |status| status.agent = Some(pid));
        }
        Ok(())
    }

    /// Takes the lines that have come: `arm N`, `feed`. While the machine is not up nobody is there to send any.
    fn hear_the_watchdog(&mut self) {
        let mut line = [0; 64];
        while let Ok(length) = self.watchdog.recv(&mut line) {
            if !matches!(self.power, Power::Up(_)) {
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

    /// The bootloader's part.
    fn boot(&mut self) -> Result<()> {
        let Some((group, why)) = self.firmware.boot()? else {
            self.shared.happened(Happening::ResetAsked, |_| {}); // the last line of the script
            self.reset();
            return Ok(());
        };
        let image = self.firmware.image(group)?;
        let behaviour = image.as_ref().map_or(Behaviour::NeverUp, |image| image.behaviour);
        let own = image.as_ref().and_then(|image| image.agent.clone());
        let program = own.unwrap_or_else(|| self.agent.clone());
        let until = Instant::now() + self.boot_time / 2;
        self.power = Power::Kernel { until, booted: Booted { group, why, behaviour, program } };
        self.shared.happened(Happening::Boots(group, why), |status| {
            status.running = Some((group, why));
            status.image = image;
        });
        if why != Why::Good {
            self.arm(self.watchdog_s);
        }
        Ok(())
    }

    /// The kernel is done.
    fn come_up(&mut self, booted: Booted) -> Result<()> {
        let Booted { group, why, behaviour, program } = booted;
        self.power = Power::Up(Up::default());
        if behaviour == Behaviour::NeverUp {
            self.shared.happened(Happening::NeverComesUp, |_| {});
            return Ok(());
        }
        self.user_space(group, why, behaviour)?;
        let behaviour = Some(behaviour);
        let agent = self.start_agent(&program, behaviour)?;
        let pid = agent.id();
        let struck = strikes(behaviour);
        self.power = Power::Up(Up { behaviour, struck, restart: None, agent: Some(agent), program });
        self.shared.happened(Happening::AgentStarted, |status| status.agent = Some(pid));
        Ok(())
    }

    /// What does not outlive a boot is made anew, and the application comes up if it is healthy.
    fn user_space(&self, group: Group, why: Why, behaviour: Behaviour) -> Result<()> {
        let Files { run, running, app, .. } = &self.files;
        let _ = std::fs::remove_dir_all(run); // not there at the first boot
        std::fs::create_dir_all(run).doing(|| run.display().to_string())?;
        std::fs::write(running, format!("{group}\n")).doing(|| running.display().to_string())?;
        if behaviour == Behaviour::Healthy {
            std::fs::write(app, "").doing(|| app.display().to_string())?;
        }
        writeln!(self.log()?, "-- boots {group}, {}", why.name()).doing(|| "the agent's log")
    }

    fn start_agent(&self, program: &std::path::Path, behaviour: Option<Behaviour>) -> Result<Child> {
        let (log, errors) = (self.log()?, self.log()?);
        let mut agent = match behaviour {
            Some(Behaviour::AgentCrashes) => Command::new("false"), // the agent of this image
            _ => Command::new(program),
        };
        agent.arg("run").arg("--config").arg(&self.files.config).process_group(0);
        self.machine.mark(&mut agent);
        agent.stdin(Stdio::null()).stdout(log).stderr(errors);
        agent.spawn().doing(|| format!("starting {}", program.display()))
    }

    fn log(&self) -> Result<File> {
        let log = &self.files.log;
        OpenOptions::new().append(true).create(true).open(log).doing(|| log.display().to_string())
    }

    /// Off and on again.
    fn reset(&mut self) {
        self.down();
        self.shared.set(|status| *status = super::Status { power: true, ..Default::default() });
        self.power = Power::Booting { until: Instant::now() + self.boot_time / 2 };
    }

    fn power_cut(&mut self) {
        self.down();
        self.shared.happened(Happening::PowerCut, |status| *status = Default::default());
    }

    /// Nothing runs any more, and nothing is remembered but what stands on the disk.
    fn down(&mut self) {
        self.machine.kill_all();
        if let Power::Up(Up { agent: Some(agent), .. }) = &mut self.power {
            let _ = agent.wait(); // it has been killed, or has ended before
        }
        self.power = Power::Off;
        self.bites = None;
    }
}

/// When something happens to an image that fares so.
fn strikes(behaviour: Option<Behaviour>) -> Option<Instant> {
    let struck = [Behaviour::Freezes, Behaviour::AgentKilled, Behaviour::AgentHangs];
    behaviour.filter(|behaviour| struck.contains(behaviour)).map(|_| Instant::now() + FREEZES_AFTER)
}
