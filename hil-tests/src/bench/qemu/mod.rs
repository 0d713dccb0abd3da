//! The QEMU bench: one of the laboratory's emulated boards, with the gateway's identity on its data partition.
//!
//! | what a scenario wants | how it is done |
//! |---|---|
//! | power | QEMU is started, or killed |
//! | events | the console's lines and QMP's events ([`story`]) |
//! | link | QMP `set_link`: a cable that is pulled; connections hang, they are not reset |
//! | environment, version in a slot | read from the disk's file, by our own codecs |
//! | a command of the agent | typed at the console's shell ([`shell`]) |
//!
//! QEMU's user network shows this computer as 10.0.2.2, and leads to what listens on 127.0.0.1.

mod identity;
mod shell;
mod story;

use super::{Bench, Event, Evidence, Identity, ImageSpec, Need, Pace, What};
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::{BootState, Group};
use mainstay_lab::board::Board;
use mainstay_lab::disk::ext4;
use mainstay_lab::guest;
use mainstay_lab::machine::{Log, Machine, Seen};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An emulated board on the bench.
pub struct QemuBench {
    name: String,
    board: Box<dyn Board>,
    folder: PathBuf,
    other_agent: Option<PathBuf>,
    /// All that was seen since the last factory.
    log: Log,
    /// The power is on.
    machine: Option<Machine>,
    /// The network is plugged in.
    link: bool,
    /// How many commands were typed at the shell.
    commands: u32,
}

impl QemuBench {
    /// A bench with this board; its images stand in `folder`. `other_agent`: a second build of the device binary for it, if
    /// there is one.
    pub fn new(board: Box<dyn Board>, folder: &Path, other_agent: Option<PathBuf>) -> Result<QemuBench> {
        let images = folder.join("images");
        std::fs::create_dir_all(&images).doing(|| images.display().to_string())?;
        let name = format!("qemu/{}", board.name());
        let (log, machine) = (Log::new(), None);
        Ok(QemuBench { name, board, folder: images, other_agent, log, machine, link: true, commands: 0 })
    }

    /// The board.
    pub fn board(&self) -> &dyn Board {
        self.board.as_ref()
    }

    /// The machine, while its power is on.
    pub fn machine(&mut self) -> Option<&mut Machine> {
        self.machine.as_mut()
    }

    /// The log since the last factory.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Bench for QemuBench {
    fn name(&self) -> &str {
        &self.name
    }

    fn lacks(&self, need: Need) -> Option<String> {
        match need {
            Need::Nature(nature) => self.board.lacks(nature),
            Need::OtherAgent if self.other_agent.is_none() => {
                Some("no second build of the device binary".into())
            }
            _ => None,
        }
    }

    fn pace(&self) -> Pace {
        self.board.pace()
    }

    fn compatible(&self) -> &str {
        self.board.compatible()
    }

    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.ext4", spec.version));
        let spec = guest::Spec { version: &spec.version, nature: spec.nature, agent: spec.agent.as_deref() };
        self.board.images().make(&path, &spec)?;
        Ok(path)
    }

    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        self.power(false)?;
        self.log = Log::new();
        self.link = true;
        self.board.factory(image, &identity::files(identity)?)
    }

    fn power(&mut self, on: bool) -> Result<()> {
        match (on, self.machine.take()) {
            (true, Some(machine)) if machine.runs() => {
                self.machine = Some(machine);
                Ok(())
            }
            (true, _) => {
                let mut machine = Machine::start(&self.board.setup(), &self.log)?;
                if !self.link {
                    machine.set_link(false)?;
                }
                self.machine = Some(machine);
                Ok(())
            }
            (false, Some(machine)) => machine.cut(),
            (false, None) => Ok(()),
        }
    }

    fn link(&mut self, up: bool) -> Result<()> {
        self.link = up;
        self.machine.as_mut().map_or(Ok(()), |machine| machine.set_link(up))
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        if let Some(Seen::Gone(said)) = self.log.since(0).last().map(|entry| &entry.seen)
            && !said.is_empty()
        {
            return Err(Trouble::new(format!("QEMU has ended: {said}")));
        }
        Ok(story::events(&self.log, self.board.resets_by_watchdog()))
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        self.machine.as_mut().doing(|| "typing at a machine without power")?.type_in(keys)
    }

    fn repair(&mut self) -> Result<()> {
        let machine = self.machine.as_mut().doing(|| "repairing a machine without power")?;
        self.board.repair(machine, &self.log)
    }

    fn ruin(&mut self, group: Group) -> Result<()> {
        if self.machine.is_some() {
            return Err(Trouble::new("a slot is destroyed with the power off, and it is on"));
        }
        let (file, offset) = self.board.slot(group)?;
        guest::spoil(&file, offset, "a dying medium")
    }

    fn other_agent(&mut self) -> Result<PathBuf> {
        self.other_agent.clone().doing(|| "no second build of the device binary")
    }

    fn environment(&mut self) -> Result<BootState> {
        self.board.environment()
    }

    fn version_in(&mut self, group: Group) -> Result<Option<String>> {
        let (file, offset) = self.board.slot(group)?;
        guest::version_in(ext4::At { file: &file, offset })
    }

    fn agent(&mut self, words: &[&str]) -> Result<String> {
        let up = Duration::saturating_mul(self.board.pace().boot, Pace::PATIENCE);
        let machine = self.machine.as_mut().doing(|| "asking the agent of a machine without power")?;
        let events = story::events(&self.log, self.board.resets_by_watchdog());
        let booted = |event: &&Event| matches!(event.what, What::UserSpace | What::Reset | What::PowerOn);
        if events.iter().rev().find(booted).map(|event| &event.what) != Some(&What::UserSpace) {
            machine.wait_line(self.log.mark(), up, story::USER_SPACE)?;
        }
        self.commands += 1;
        shell::agent(machine, self.commands, words)
    }

    fn evidence(&mut self) -> Result<Evidence> {
        let variables = self.board.variables();
        let lines = |vars: mainstay_bootloader_glue::Vars| {
            vars.entries().iter().map(|entry| format!("{entry:?}")).collect()
        };
        let environment = variables.map(lines).unwrap_or_else(|trouble| vec![trouble.to_string()]);
        Ok(Evidence { console: self.log.console(), environment })
    }
}
