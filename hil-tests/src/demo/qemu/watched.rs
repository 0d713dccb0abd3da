//! The bench of the demo: every look that a scene takes at the machine is drawn, too.
//!
//! A scene waits by looking at the machine's events twenty times a second; so the bench that it looks at is where to draw.
//! What is drawn is what a person beside the machine could know: its console, the bootloader's variables as they stand on
//! the disk, and which versions were put where.

use crate::Result;
use crate::bench::{Bench, Event, Evidence, Identity, ImageSpec, Need, Pace, What};
use crate::screen::{GroupView, Screen, View};
use mainstay_core::boot::{BootState, Group};
use std::cell::RefCell;
use std::io::Stdout;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is shown, and how far the machine's story has been told.
pub struct Watcher {
    /// Where.
    pub screen: Screen<Stdout>,
    told: usize,
    power: bool,
    running: Option<Group>,
    phase: String,
    /// What is in the slots, looked at when something may have changed.
    versions: [String; 2],
    stale: bool,
    state: Option<BootState>,
    asked: Option<Instant>,
}

/// The bench, watched.
pub struct Watched<B> {
    bench: B,
    watcher: Rc<RefCell<Watcher>>,
}

/// How often the disk is looked at: the agent writes to it a moment before anything can be seen on the console.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Watcher {
    /// Nothing told yet.
    pub fn new(screen: Screen<Stdout>) -> Watcher {
        Watcher {
            screen,
            told: 0,
            power: false,
            running: None,
            phase: "power is off".to_owned(),
            versions: Default::default(),
            stale: true,
            state: None,
            asked: None,
        }
    }

    /// Another gateway.
    fn begin(&mut self) {
        (self.told, self.running, self.stale) = (0, None, true);
    }

    fn tell(&mut self, events: &[Event]) {
        let mut lines = Vec::new();
        for event in events.get(self.told..).unwrap_or_default() {
            if let What::Line(line) = &event.what {
                if let Some(phase) = phase(line) {
                    self.phase = phase.to_owned();
                    self.stale = true;
                }
                lines.push(line.clone());
                continue;
            }
            self.screen.console(&std::mem::take(&mut lines));
            match &event.what {
                What::PowerOn => (self.power, self.phase) = (true, "firmware".to_owned()),
                What::PowerOff => {
                    (self.power, self.running, self.phase) = (false, None, "power is off".to_owned())
                }
                What::Reset => (self.running, self.phase) = (None, "firmware".to_owned()),
                What::Bootloader => self.phase = "bootloader".to_owned(),
                What::Boots(group, _) => {
                    (self.running, self.phase) = (Some(*group), format!("{group}: the kernel is loaded"));
                }
                What::Jumps => self.phase = "kernel".to_owned(),
                What::UserSpace => self.phase = "user space comes up".to_owned(),
                What::AgentStarts => self.phase = "the agent starts".to_owned(),
                What::WatchdogFires | What::NothingBootable | What::Prompt | What::Panic | What::Line(_) => {}
            }
            (self.stale, self.asked) = (true, None);
            if let Some(line) = words(&event.what) {
                self.screen.say(&format!("   machine   {line}"));
            }
        }
        self.told = events.len();
        self.screen.console(&lines);
    }

    fn draw(&mut self) {
        let standing = self.state.as_ref().map(View::standing).unwrap_or_default();
        let group = |group: Group| {
            let (version, standing) = (&self.versions[group as usize], &standing[group as usize]);
            let empty = version.is_empty() && standing != "not bootable";
            GroupView {
                version: version.clone(),
                standing: if empty { "empty".to_owned() } else { standing.clone() },
            }
        };
        let view = View {
            groups: Group::BOTH.map(group),
            running: self.running.filter(|_| self.power),
            phase: self.phase.clone(),
            progress: None,
        };
        self.screen.show(&view);
    }
}

/// An event of the machine, for people; `None`: the console shows it.
fn words(what: &What) -> Option<String> {
    Some(match what {
        What::PowerOn => "power on".to_owned(),
        What::PowerOff => "POWER CUT".to_owned(),
        What::WatchdogFires => "THE WATCHDOG FIRES".to_owned(),
        What::Reset => "reset".to_owned(),
        What::Boots(group, why) => format!("GRUB boots {group} ({})", why.name()),
        What::NothingBootable => "NOTHING IS BOOTABLE".to_owned(),
        What::Prompt => "A BOOTLOADER'S PROMPT".to_owned(),
        What::Panic => "kernel panic".to_owned(),
        What::Bootloader | What::Jumps | What::UserSpace | What::AgentStarts | What::Line(_) => return None,
    })
}

/// The phase that a line of the agent's log tells.
fn phase(line: &str) -> Option<&str> {
    line.split_once("mainstay: info: phase ").map(|(_, phase)| phase)
}

impl<B: Bench> Watched<B> {
    /// Watches `bench`.
    pub fn new(bench: B, watcher: Rc<RefCell<Watcher>>) -> Watched<B> {
        Watched { bench, watcher }
    }

    /// Looks at the disk, where it may have changed.
    fn look(&mut self, watcher: &mut Watcher) {
        if watcher.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        watcher.asked = Some(Instant::now());
        if let Ok(state) = self.bench.environment() {
            watcher.state = Some(state); // else it is being written: the next look finds it
        }
        if std::mem::take(&mut watcher.stale) {
            watcher.versions = Group::BOTH.map(|group| match self.bench.version_in(group) {
                Ok(found) => found.unwrap_or_default(),
                Err(_) => "(not readable)".to_owned(),
            });
        }
    }
}

impl<B: Bench> Bench for Watched<B> {
    fn events(&mut self) -> Result<Vec<Event>> {
        let events = self.bench.events()?;
        let watcher = self.watcher.clone();
        let mut watcher = watcher.borrow_mut();
        watcher.tell(&events);
        self.look(&mut watcher);
        watcher.draw();
        Ok(events)
    }

    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        self.watcher.borrow_mut().begin();
        self.bench.factory(image, identity)
    }

    fn name(&self) -> &str {
        self.bench.name()
    }

    fn lacks(&self, need: Need) -> Option<String> {
        self.bench.lacks(need)
    }

    fn pace(&self) -> Pace {
        self.bench.pace()
    }

    fn compatible(&self) -> &str {
        self.bench.compatible()
    }

    fn broker_name(&self) -> Option<&str> {
        self.bench.broker_name()
    }

    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf> {
        self.bench.image(spec)
    }

    fn power(&mut self, on: bool) -> Result<()> {
        self.bench.power(on)
    }

    fn link(&mut self, up: bool) -> Result<()> {
        self.bench.link(up)
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        self.bench.type_in(keys)
    }

    fn repair(&mut self) -> Result<()> {
        self.bench.repair()
    }

    fn ruin(&mut self, group: Group) -> Result<()> {
        self.bench.ruin(group)
    }

    fn other_agent(&mut self) -> Result<PathBuf> {
        self.bench.other_agent()
    }

    fn environment(&mut self) -> Result<BootState> {
        self.bench.environment()
    }

    fn version_in(&mut self, group: Group) -> Result<Option<String>> {
        self.bench.version_in(group)
    }

    fn agent(&mut self, words: &[&str]) -> Result<String> {
        self.bench.agent(words)
    }

    fn evidence(&mut self) -> Result<Evidence> {
        self.bench.evidence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_is_read_from_the_agent_s_log_on_the_console() {
        let line = "mainstay: info: phase downloading: 2.0.0 for group B, attempt 1";
        assert_eq!(phase(line), Some("downloading: 2.0.0 for group B, attempt 1"));
        assert_eq!(phase("guest: agent starts"), None);
    }
}
