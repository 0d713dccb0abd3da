//! The driver's seams, on the simulated gateway. Each change goes through [`Shared::effect`].

use crate::image::Behaviour;
use crate::invariant::{self, Asked};
use crate::power::{Down, down};
use crate::world::{Board, Shared, World};
use mainstay_bootloader_glue::{EnvBootControl, EnvStore};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::fault;
use mainstay_core::seam::*;
use mainstay_core::update::Deployment;

/// The bootloader's variables: the product's own codecs and conventions over the simulated medium.
pub struct SimBoot {
    control: EnvBootControl<SimEnv>,
    shared: Shared,
}

impl SimBoot {
    /// Of this board.
    pub fn new(shared: &Shared, board: Board) -> Self {
        let control = EnvBootControl::new(SimEnv(shared.clone()), board.format, board.convention());
        SimBoot { control, shared: shared.clone() }
    }

    fn ask(
        &mut self,
        asked: Asked,
        ask: impl FnOnce(&mut EnvBootControl<SimEnv>) -> Result<()>,
    ) -> Result<()> {
        self.shared.with(|world| world.watch.asked = Some(asked));
        let answer = ask(&mut self.control);
        self.shared.with(|world| world.watch.asked = None);
        answer
    }
}

impl BootControl for SimBoot {
    fn state(&mut self) -> Result<BootState> {
        self.control.state()
    }
    fn withdraw(&mut self, group: Group) -> Result<()> {
        self.ask(Asked::Off(group), |control| control.withdraw(group))
    }
    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        self.ask(Asked::Trial(group, tries), |control| control.arm_trial(group, tries))
    }
    fn mark_good(&mut self, group: Group) -> Result<()> {
        self.ask(Asked::Good(group), |control| control.mark_good(group))
    }
    fn mark_bad(&mut self, group: Group) -> Result<()> {
        self.ask(Asked::Off(group), |control| control.mark_bad(group))
    }
}

/// The copies of the environment.
pub struct SimEnv(Shared);

impl EnvStore for SimEnv {
    fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
        self.0.with(|world| world.env().get(copy).cloned()).ok_or_else(|| fault!(NotFound, "no copy {copy}"))
    }
    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.effect("the agent writes the environment", |world, tear| {
            if world.write_env(copy, at, bytes, tear) {
                invariant::environment_changed(world);
            }
        })
    }
}

/// The slots.
pub struct SimSlots(pub Shared);

impl SlotWriter for SimSlots {
    fn open(&mut self, _: Group, class: &str) -> Result<u64> {
        let size = self.0.with(|world| world.disk.size(class));
        size.map(|bytes| bytes as u64).ok_or_else(|| fault!(NotFound, "no slot of class {class}"))
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        invariant_the_running_group_is_never_written(&self.0, group);
        self.0.effect("a segment is written", |world, _| {
            world.disk.write(group, class, segment.at() as usize, segment.bytes());
        })
    }
    fn sync(&mut self, group: Group, class: &str) -> Result<()> {
        self.0.effect("a slot is synced", |world, tear| {
            if matches!(tear, crate::power::Tear::Whole) {
                world.disk.sync(group, class);
            } // else the cut decides what the medium keeps
        })
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        self.0.with(|world| world.disk.read(group, class, at as usize, out));
        Ok(())
    }
}

fn invariant_the_running_group_is_never_written(shared: &Shared, group: Group) {
    if shared.with(|world| world.running) == Some(group) {
        down(Down::Violation(format!("the running group is never written: {group}")));
    }
}

/// The agent's state.
pub struct SimState(pub Shared);

impl StateStore for SimState {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        self.0.with(|world| {
            let found =
                world.state.load(file).map_err(|_| fault!(Corrupt, "{file:?}: both copies are damaged"))?;
            let Some(found) = found else { return Ok(None) };
            let place =
                out.get_mut(..found.len()).ok_or_else(|| fault!(Full, "{file:?}: {} bytes", found.len()))?;
            place.copy_from_slice(found);
            Ok(Some(found.len()))
        })
    }
    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        let name = match file {
            StateFile::Journal => "the record is made durable",
            StateFile::Manifest => "the manifest is made durable",
            StateFile::Trust => "the trust root is made durable",
        };
        let mut written = Ok(());
        self.0.effect(name, |world, tear| written = world.state.persist(file, bytes, tear))?;
        written
    }
}

/// The reset line.
pub struct SimPower(pub Shared);

impl Power for SimPower {
    fn reboot(&mut self, _: &str) -> Result<()> {
        self.0.effect("a reboot is asked for", |_, _| {})
    }
}

/// The watchdog, and the checks of the image that is booted.
pub struct SimTrial {
    /// The gateway.
    pub shared: Shared,
    /// A person has asked to go back: the trial is cancelled.
    pub cancelled: bool,
}

impl TrialRunner for SimTrial {
    fn run(&mut self, _: &Deployment) -> Result<Verdict> {
        let running =
            |world: &mut World| world.running.and_then(|g| world.image(g).map(|i| (g, i.behaviour)));
        let (group, behaviour) = self.shared.with(running).ok_or_else(|| fault!(NotFound, "no image"))?;
        if behaviour == Behaviour::CrashesAgent {
            down(Down::Watchdog);
        }
        self.shared.effect("the watchdog is armed", |_, _| {})?;
        if behaviour == Behaviour::HangsInTrial {
            down(Down::Watchdog);
        }
        if self.cancelled {
            return Err(fault!(Cancelled, "the trial is cancelled"));
        }
        self.shared.effect("the checks are run", |_, _| {})?;
        match behaviour {
            Behaviour::Unhealthy => {
                Ok(Verdict::Unhealthy("check app: expected exit 0, found 1".try_into().unwrap_or_default()))
            }
            _ => {
                self.shared.with(|world| world.watch.passed_in_this_boot = Some(group));
                Ok(Verdict::Healthy)
            }
        }
    }
}
