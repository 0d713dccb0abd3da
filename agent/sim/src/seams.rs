//! The driver's seams, on the simulated gateway. Each change goes through [`Shared::effect`], in the steps in which the
//! product makes it: a write and a sync are two effects, and what is read comes from the page cache or from the medium
//! as it does there (`agent/daemon/src/store.rs`, `bootloader-glue/src/store/place.rs`).

use crate::agreement;
use crate::disk::{DATA, Disk, FILES, KEYS, OWN_BYTES, Place, View};
use crate::image::Behaviour;
use crate::invariant::{self, Asked};
use crate::power::{Down, Figure, down, violated};
use crate::state;
use crate::world::{Board, Home, Op, Shared, World};
use mainstay_bootloader_glue::{EnvBootControl, EnvStore};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::copies::{self, COPY_BYTES_MAX, Copy};
use mainstay_core::fault;
use mainstay_core::seam::*;
use mainstay_core::update::Deployment;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The bootloader's variables: the product's own codecs and conventions over the simulated medium. Clones are one and
/// the same, for it lives as long as the agent's process.
#[derive(Clone)]
pub struct SimBoot {
    control: Rc<RefCell<EnvBootControl<SimEnv>>>,
    shared: Shared,
}

impl SimBoot {
    /// Of this board.
    pub fn new(shared: &Shared, board: Board) -> Self {
        let control = EnvBootControl::new(SimEnv(shared.clone()), board.format, board.convention());
        SimBoot { control: Rc::new(RefCell::new(control)), shared: shared.clone() }
    }

    fn ask(
        &mut self,
        asked: Asked,
        ask: impl FnOnce(&mut EnvBootControl<SimEnv>) -> Result<()>,
    ) -> Result<()> {
        let before = self.shared.with(|world| {
            invariant::asked(world, asked);
            (world.watch.approved, world.boot_state().ok())
        });
        let answer = ask(&mut self.control.borrow_mut());
        // A write that failed is put back: then nothing was given up, and what was good is good.
        self.shared.with(|world| {
            if answer.is_err() && world.boot_state().ok() == before.1 {
                world.watch.approved = before.0;
            }
        });
        answer
    }
}

impl BootControl for SimBoot {
    fn state(&mut self) -> Result<BootState> {
        self.control.borrow_mut().state()
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
        Ok(self.0.with(|world| world.read_env(copy, View::Cached)))
    }
    fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
        Ok(self.0.with(|world| world.read_env(copy, View::Direct)))
    }
    fn settle(&mut self) {
        for copy in 0..self.0.with(|world| world.board.format.copies()) {
            settle(&self.0, Place::Env(copy));
        }
    }
    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
        let (place, entry) = (Place::Env(copy), Place::Entry(copy));
        self.0.effect("the agent writes the environment", Op::Write(place, at, bytes))?;
        // The kernel writes the time into a directory entry when it likes to: no sync is waited for.
        self.0.with(|world| {
            if world.board.home == Home::Fat {
                let mut now = world.disk.read_all(entry, View::Cached);
                now.last_mut().into_iter().for_each(|time| *time = time.wrapping_add(1));
                world.disk.write(entry, 0, &now);
            }
        });
        self.0.effect("the agent syncs the environment", Op::Sync(place))
    }
}

/// The slots.
pub struct SimSlots(pub Shared);

impl SlotWriter for SimSlots {
    fn open(&mut self, _: Group, class: &str) -> Result<u64> {
        class_of(class).map(|class| crate::disk::SLOTS[class].1 as u64)
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        invariant_the_running_group_is_never_written(&self.0, group);
        let place = Place::Slot(group, class_of(class)?);
        self.0.effect("a segment is written", Op::Write(place, segment.at() as usize, segment.bytes()))
    }
    fn sync(&mut self, group: Group, class: &str) -> Result<()> {
        self.0.effect("a slot is synced", Op::Sync(Place::Slot(group, class_of(class)?)))
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let place = Place::Slot(group, class_of(class)?);
        self.0.with(|world| {
            let failing = world.ills.unreadable;
            world.ills.unreadable -= u32::from(failing != 0 && failing != u32::MAX);
            if failing > 0 {
                world.say(|| format!("     a read of {place:?} fails"));
                return Err(fault!(Io, "simulated: {class} of {group} cannot be read at {at}"));
            }
            world.disk.read(place, at as usize, out, View::Direct);
            Ok(())
        })
    }
}

fn class_of(class: &str) -> Result<usize> {
    Disk::class(class).ok_or_else(|| fault!(NotFound, "no slot of class {class}"))
}

fn invariant_the_running_group_is_never_written(shared: &Shared, group: Group) {
    if shared.with(|world| world.running) == Some(group) {
        violated(Figure::WrongGroup, format_args!("the running group is never written: {group}"));
    }
}

/// The agent's state, as the daemon's folder keeps it; and records as the agent of this generation writes them.
/// Clones are one and the same, for it lives as long as the agent's process.
#[derive(Clone)]
pub struct SimState {
    shared: Shared,
    agent: u8,
    /// Of each file, the copy whose last write failed.
    unsure: Rc<Cell<[Option<usize>; 3]>>,
}

impl SimState {
    /// Of an agent of this generation.
    pub fn new(shared: &Shared, agent: u8) -> Self {
        for file in FILES {
            [0, 1].into_iter().for_each(|copy| settle(shared, Place::State(file, copy)));
        }
        SimState { shared: shared.clone(), agent, unsure: Rc::default() }
    }

    /// The agent's generation.
    pub const fn agent(&self) -> u8 {
        self.agent
    }

    fn copies(&self, file: StateFile) -> [Vec<u8>; 2] {
        self.shared.with(|world| state::read(&world.disk, file, View::Direct))
    }

    fn choose<'a>(&self, file: StateFile, copies: &'a [Vec<u8>; 2]) -> copies::Pair<'a> {
        let read = |copy: usize| match self.unsure.get()[file as usize] {
            Some(unsure) if unsure == copy => Copy::Torn,
            _ => Copy::read(file, &copies[copy]),
        };
        copies::choose(read(0), read(1))
    }

    fn is_unsure(&self, file: StateFile, copy: Option<usize>) {
        let mut unsure = self.unsure.get();
        unsure[file as usize] = copy;
        self.unsure.set(unsure);
    }
}

impl StateStore for SimState {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        let copies = self.copies(file);
        let found = self.choose(file, &copies).in_force.map_err(|why| why.fault(file))?;
        let Some(found) = found else { return Ok(None) };
        let place =
            out.get_mut(..found.len()).ok_or_else(|| fault!(Full, "{file:?}: {} bytes", found.len()))?;
        place.copy_from_slice(found);
        if let (StateFile::Journal, Some(format)) = (file, place.first_mut())
            && *format <= self.agent
        {
            *format = OLDEST_FORMAT; // a later agent reads what an earlier one wrote
        }
        Ok(Some(found.len()))
    }

    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        let mut payload = bytes.to_vec();
        if let (StateFile::Journal, Some(format)) = (file, payload.first_mut()) {
            *format = self.agent;
        }
        let copies = self.copies(file);
        let pair = self.choose(file, &copies);
        pair.may_be_written(file)?;
        let mut copy = [0; COPY_BYTES_MAX];
        let copy = &mut copy[..copies::copy_bytes(file)];
        copies::write(file, pair.next_seq, &payload, copy)?;
        let (place, new) =
            (Place::State(file, pair.next_copy), copies[pair.next_copy].iter().all(|b| *b == 0));
        let name = match file {
            StateFile::Journal => "the record",
            StateFile::Manifest => "the manifest",
            StateFile::Trust => "the trust root",
        };
        self.is_unsure(file, Some(pair.next_copy));
        self.shared.effect(&format!("{name} is written"), Op::Write(place, 0, copy))?;
        if new {
            // The bytes stand there, but no name leads to them yet.
            self.shared.effect(&format!("{name} is synced"), Op::Other)?;
            self.shared.effect("the state folder is synced", Op::Sync(place))?;
        } else {
            self.shared.effect(&format!("{name} is synced"), Op::Sync(place))?;
        }
        if self.copies(file)[pair.next_copy] != *copy {
            return Err(fault!(Io, "{name}: what is read back is not what was written"));
        }
        self.is_unsure(file, None);
        if file == StateFile::Journal {
            self.shared.with(agreement::confirmed);
        }
        Ok(())
    }
}

/// What an agent that was killed has left in the cache; mostly nothing, and then it is no effect.
fn settle(shared: &Shared, place: Place) {
    if shared.with(|world| !world.disk.is_clean(place)) {
        let _ = shared.effect("what was left in the cache is synced", Op::Sync(place));
    }
}

/// The format byte of a record that every agent reads.
pub const OLDEST_FORMAT: u8 = 1;

/// What the gateway gives up: each overwritten, and synced, as the daemon does with the key. Of a folder that is unlinked
/// a cut leaves as little that can be foretold.
pub struct SimErase(pub Shared);

impl SimErase {
    fn give_up(&self, name: &str, these: std::ops::Range<usize>) -> Result<()> {
        for place in these.map(Place::Own) {
            self.0.effect(&format!("{name} is erased"), Op::Write(place, 0, &[0; OWN_BYTES]))?;
            self.0.effect(&format!("{name} is synced"), Op::Sync(place))?;
        }
        Ok(())
    }
}

impl Erase for SimErase {
    fn erase(&mut self) -> Result<()> {
        self.give_up("data", DATA)
    }
    fn destroy_key(&mut self) -> Result<()> {
        self.give_up("key or certificate", KEYS)
    }
}

/// The reset line.
pub struct SimPower(pub Shared);

impl Power for SimPower {
    fn reboot(&mut self, _: &str) -> Result<()> {
        self.0.effect("a reboot is asked for", Op::Other)?;
        self.0.with(|world| world.going_down = true);
        Ok(())
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
            down(Down::Watchdog); // the second guard, which needs no hardware
        }
        let armed = self.shared.effect("the watchdog is armed", Op::Other);
        self.shared.with(|world| world.watchdog.arm(TRIAL_WATCHDOG_S));
        armed?;
        if behaviour == Behaviour::HangsInTrial {
            self.shared.with(|world| world.hangs());
        }
        let news = |world: &mut World| world.outside.has_news(invariant::phase(world));
        if self.cancelled || self.shared.with(news) {
            return Err(fault!(Cancelled, "the trial is cancelled"));
        }
        self.shared.effect("the checks are run", Op::Other)?;
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

/// What the agent arms in a trial.
const TRIAL_WATCHDOG_S: u32 = 30;
