//! The gateway without its agent: media, bootloader, clock, watchdog, and the fuse that ends an effect.
//!
//! Everything that must survive a power cut stands in [`World`], and so does what the world outside knows; everything
//! else lives in a session's stack frames and is gone when the session unwinds. So a clone of the world, taken at the
//! moment of a cut, is all that a life needs to go on: `explore.rs` lives by that. All effects go through
//! [`Shared::effect`]: it counts them, upsets those that the schedule names, and has the invariants checked after each.

use crate::disk::{Disk, Pending, Place, View};
use crate::explore::Forks;
use crate::image::{Behaviour, Image};
use crate::invariant::{self, Watch};
use crate::outside::Outside;
use crate::power::{Answer, Down, Draw, Figure, Keeps, Upset, Upsets, down, sectors, violated};
use mainstay_bootloader_glue::convention::{Convention, Op as Change, Why, by_name};
use mainstay_bootloader_glue::{Format, Vars, model};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::Result;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Which bootloader the gateway has, by which variables it goes, and where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// How its environment is stored.
    pub format: Format,
    /// The convention's name.
    pub convention: &'static str,
    /// On what.
    pub home: Home,
}

/// What holds the copies of the environment. Both writers go over the old bytes in place and never change a size, so
/// what a file system adds is what it writes beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// A device, at an offset.
    Raw,
    /// A file on FAT: who writes it writes its directory entry as well, at another time.
    Fat,
    /// A file on ext4, ordered: the journal holds metadata alone, and a time that was lost changes nothing.
    Ext4,
    /// A file on ext4 with `data=journal`: what was synced stands in the journal as well until the file system is
    /// unmounted, and the first mount after a power cut writes it again, over what the bootloader has written since.
    Ext4Journal,
}

impl Board {
    /// Its convention.
    pub fn convention(&self) -> Box<dyn Convention + Send> {
        by_name(self.convention, &self.format).expect("a convention that exists")
    }

    /// U-Boot's environment holds much else, so that what changes stands in another sector than the CRC. A GRUB block has
    /// our variables first, and room for little.
    fn other_vars(&self) -> Vars {
        let else_bytes = self.format.copy_bytes() / 2 + 32;
        match self.format {
            Format::Grub => Vars::new(),
            _ => [("ALL_ELSE", "x".repeat(else_bytes).as_str())].into_iter().collect(),
        }
    }
}

/// All that survives the loss of power, what the world outside knows, and what the invariants remember.
#[derive(Clone)]
pub struct World {
    /// Slots, state and environment.
    pub disk: Disk,
    /// The bootloader.
    pub board: Board,
    /// The images that somebody has signed, or that a factory has flashed.
    pub images: Vec<Image>,
    /// Operator, broker, person.
    pub outside: Outside,
    /// The group that was booted.
    pub running: Option<Group>,
    /// Effects so far.
    pub effects: u32,
    /// A group that cannot be loaded any more, whatever its slots hold.
    pub dead: Option<Group>,
    /// Times that the bootloader began.
    pub boots: u32,
    /// Times that the power went, or that the bootloader could not save and reset.
    pub cuts: u32,
    /// What the clock shows, Unix seconds.
    pub clock: u64,
    /// Until it bites, where it has been armed.
    pub watchdog: Watchdog,
    /// What is wrong with the gateway, beside one effect.
    pub ills: Ills,
    /// What the next mount writes again, copy by copy.
    journal: [Option<Rc<Vec<u8>>>; 2],
    /// The reset line has taken what was asked of it.
    pub going_down: bool,
    /// Which effects a mutant leaves out, by name.
    pub leaves_out: Option<&'static str>,
    /// The bootloader goes by these bytes, whatever the agent writes: it reads another environment.
    pub elsewhere: Option<Vec<Vec<u8>>>,
    /// What the invariants go by.
    pub watch: Watch,
    /// What happened, for people: the last lines of a life that went wrong.
    pub trace: Option<Vec<String>>,
    /// What is cut beside this life, at each of its effects.
    pub forks: Option<Forks>,
    convention: Rc<dyn Convention>,
    upsets: Rc<Upsets>,
    parsed: Parsed,
    env_version: u32,
    seen: Cell<[(u32, Option<usize>); 2]>,
}

/// What does not pass with one effect.
#[derive(Clone, Debug, Default)]
pub struct Ills {
    /// No medium takes a write any more.
    pub read_only: bool,
    /// So many writes of the state find no room.
    pub full: u32,
    /// So many reads of slots fail.
    pub unreadable: u32,
    /// So many fetches are answered so.
    pub link: Option<(Answer, u32)>,
}

impl Ills {
    /// Does it never pass?
    pub const fn are_for_ever(&self) -> bool {
        self.read_only || self.full == u32::MAX || self.unreadable == u32::MAX
    }
}

/// The watchdog. Whoever runs feeds it with each effect; whoever hangs does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watchdog {
    armed_s: Option<u32>,
    left_s: u32,
}

impl Watchdog {
    /// Starts it.
    pub const fn arm(&mut self, seconds: u32) {
        *self = Watchdog { armed_s: Some(seconds), left_s: seconds };
    }

    const fn feed(&mut self) {
        if let Some(seconds) = self.armed_s {
            self.left_s = seconds;
        }
    }

    /// Nobody feeds it until it bites. Seconds, or `None` where it never does.
    const fn bites(&mut self) -> Option<u32> {
        match self.armed_s {
            Some(_) => Some(core::mem::replace(&mut self.left_s, 0)),
            None => None,
        }
    }
}

/// What the environment says, parsed when it changes on the medium and not at each look.
#[derive(Clone)]
struct Parsed {
    vars: Result<Vars>,
    state: Result<BootState>,
}

impl Parsed {
    fn of(board: Board, convention: &dyn Convention, env: &[Vec<u8>]) -> Self {
        let vars = board.format.parse(env).map(|env| env.vars().clone());
        let state = vars.as_ref().map_err(Clone::clone).and_then(|vars| convention.state(vars));
        Parsed { vars, state }
    }
}

/// What one effect does to the media.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Nothing that they keep.
    Other,
    /// A write into the cache.
    Write(Place, usize, &'a [u8]),
    /// Everything that was written to a place becomes durable.
    Sync(Place),
    /// A write of the bootloader's: there is no cache.
    Save(Place, usize, &'a [u8]),
}

impl Op<'_> {
    /// How many sectors it writes.
    pub fn sectors(&self) -> usize {
        match self {
            Op::Write(_, at, bytes) | Op::Save(_, at, bytes) => sectors(*at, bytes.len()).count(),
            Op::Other | Op::Sync(_) => 0,
        }
    }

    fn own(&self) -> Option<Pending> {
        match *self {
            Op::Write(place, at, bytes) | Op::Save(place, at, bytes) => {
                Some(Pending { place, at, bytes: bytes.to_vec() })
            }
            Op::Other | Op::Sync(_) => None,
        }
    }
}

impl World {
    /// A gateway from the factory: `first` in A, which is good; `second` in B, good and behind it, if there is one.
    pub fn new(
        board: Board,
        first: &Image,
        second: Option<&Image>,
        outside: Outside,
        upsets: &Upsets,
    ) -> Self {
        let convention: Rc<dyn Convention> = Rc::from(board.convention() as Box<dyn Convention>);
        let mut vars = board.other_vars().with(&convention.fresh());
        let mut images = vec![first.clone()];
        if let Some(second) = second {
            images.push(second.clone());
            for op in [Change::MarkGood(Group::B), Change::MarkGood(Group::A)] {
                vars = vars.with(&convention.change(&vars, op).expect("sound variables"));
            }
        }
        let env =
            board.format.blank(&vars, convention.names()).expect("an environment that holds its variables");
        let parsed = Parsed::of(board, &*convention, &env);
        let mut disk = Disk::new(env);
        disk.flash(Group::A, first);
        if let Some(second) = second {
            disk.flash(Group::B, second);
        }
        images.extend(outside.releases.iter().map(|release| release.image.clone()));
        World {
            env_version: disk.env_version(),
            disk,
            board,
            images,
            outside,
            running: None,
            effects: 0,
            dead: None,
            boots: 0,
            cuts: 0,
            clock: CLOCK_AT_FIRST,
            watchdog: Watchdog::default(),
            ills: Ills::default(),
            journal: [None, None],
            going_down: false,
            leaves_out: None,
            elsewhere: None,
            watch: Watch::new(first.security_version, second.is_some()),
            trace: None,
            forks: None,
            convention,
            upsets: Rc::new(upsets.clone()),
            parsed,
            seen: Cell::new([(u32::MAX, None); 2]),
        }
    }

    /// The image that a group holds, whole and durable.
    pub fn image(&self, group: Group) -> Option<&Image> {
        let mut seen = self.seen.get();
        let (version, holds) = &mut seen[group as usize];
        if *version != self.disk.group_version(group) {
            *version = self.disk.group_version(group);
            *holds = self.images.iter().position(|image| self.disk.holds(group, image));
            self.seen.set(seen);
        }
        seen[group as usize].1.and_then(|index| self.images.get(index))
    }

    /// What the bootloader's variables say, of each group.
    pub fn boot_state(&self) -> Result<BootState> {
        self.parsed.state.clone()
    }

    /// The copies of the bootloader's environment, as the next boot finds them if the power goes now.
    pub fn env(&self) -> Vec<Vec<u8>> {
        (0..self.board.format.copies())
            .map(|copy| self.copy(copy, |place| self.disk.durable(place).to_vec()))
            .collect()
    }

    /// One of them, as a program reads it.
    pub fn read_env(&self, copy: usize, view: View) -> Vec<u8> {
        self.copy(copy, |place| self.disk.read_all(place, view))
    }

    /// A file is as long as its directory entry says.
    fn copy(&self, copy: usize, read: impl Fn(Place) -> Vec<u8>) -> Vec<u8> {
        let mut bytes = read(Place::Env(copy));
        if self.board.home == Home::Fat {
            let entry = read(Place::Entry(copy));
            let size = entry.first_chunk().map_or(0, |size| u32::from_le_bytes(*size));
            bytes.truncate(size as usize);
        }
        bytes
    }

    /// One pass of the boot script over these copies.
    pub fn boot(&self, env: &[Vec<u8>]) -> Result<model::Boot> {
        model::boot(&self.board.format, &*self.convention, env, |group| self.loads(group))
    }

    /// A kernel that is half written loads all the same: nobody checks it.
    fn loads(&self, group: Group) -> bool {
        self.dead != Some(group) && self.image(group).is_none_or(|i| i.behaviour != Behaviour::FailsToLoad)
    }

    /// The same where nothing can be saved: a script that looks boots no trial; RAUC's do not look.
    fn boot_without_saving(&self) -> Option<(Group, Why)> {
        let vars = self.parsed.vars.clone().unwrap_or_else(|_| Vars::new());
        let steps = self.convention.script(&vars);
        let may = |save: &[_]| save.is_empty() || self.convention.name() == "rauc";
        steps
            .into_iter()
            .filter(|step| may(&step.save))
            .find_map(|step| step.load.filter(|(group, _)| self.loads(*group)))
    }

    /// The convention.
    pub fn convention(&self) -> &dyn Convention {
        &*self.convention
    }

    /// Makes every copy of the environment unreadable.
    pub fn spoil_env(&mut self) {
        for copy in 0..self.board.format.copies() {
            self.disk.put(Place::Env(copy), 0, &[0xff; 64]);
        }
        self.look_at_env();
    }

    /// Changes whenever the environment is written, or what a group holds.
    pub fn boot_version(&self) -> [u32; 3] {
        [self.disk.env_version(), self.disk.group_version(Group::A), self.disk.group_version(Group::B)]
    }

    /// Adds a line to the trace.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// A kernel comes up and mounts what holds the environment.
    pub fn mounts(&mut self) {
        for copy in 0..self.board.format.copies() {
            if let Some(bytes) = self.journal[copy].take() {
                self.say(|| format!("     the journal brings back copy {copy} of the environment"));
                self.disk.put(Place::Env(copy), 0, &bytes);
            }
        }
        self.look_at_env();
    }

    /// It goes down in good order: nothing is left in the journal.
    pub fn unmounts(&mut self) {
        self.journal = [None, None];
    }

    /// The time, where the clock has been set.
    pub fn unix_s(&self) -> Option<u64> {
        Some(self.clock).filter(|clock| *clock >= CLOCK_IS_SET_FROM)
    }

    /// The script waits, and resets.
    pub fn nothing_loads(&mut self) -> ! {
        self.say(|| "     -- nothing can be loaded".into());
        down(Down::Watchdog)
    }

    /// Who hangs is there until the watchdog bites.
    pub fn hangs(&mut self) -> ! {
        match self.watchdog.bites() {
            Some(seconds) => {
                self.say(|| format!("     -- nothing happens for {seconds} s"));
                down(Down::Watchdog)
            }
            None => violated(Figure::Stuck, "it settles: it hangs, and nobody has armed the watchdog"),
        }
    }

    /// All that decides how this life goes on, where the power is off. What only counts is left out.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::new();
        self.disk.fingerprint(&mut hasher);
        self.watch.fingerprint(&mut hasher);
        let slack = if self.convention.name() == "rauc" { self.cuts } else { 0 };
        let journal = self.journal.iter().flatten().map(|copy| Digest::of(copy)).collect::<Vec<_>>();
        let rest = (self.outside.state(), self.clock, &self.ills, self.dead, slack, journal);
        hasher.update(format!("{rest:?}").as_bytes());
        hasher.finish()
    }

    /// The power goes, or the machine is reset: what was not synced is decided, and nothing runs any more.
    pub fn lose_power(&mut self, keeps: Keeps, own: Option<Pending>) {
        self.disk.lose_power(keeps, own);
        self.look_at_env();
        self.running = None;
        self.going_down = false;
        self.watchdog = Watchdog::default();
        self.outside.link_ends();
        self.watch.session_ends();
        invariant::all(self);
    }

    /// The power goes at an effect.
    pub fn cut(&mut self, keeps: Keeps, op: &Op<'_>) {
        self.cuts += 1;
        self.lose_power(keeps, op.own());
    }

    /// The environment may have changed on the medium.
    fn look_at_env(&mut self) {
        if self.env_version == self.disk.env_version() {
            return;
        }
        self.env_version = self.disk.env_version();
        let parsed = Parsed::of(self.board, &*self.convention, &self.env());
        let changed = parsed.vars != self.parsed.vars;
        self.parsed = parsed;
        if changed {
            invariant::environment_changed(self);
        }
    }

    fn upset(&self) -> Option<Upset> {
        self.upsets.iter().find(|(at, _)| *at == self.effects).map(|(_, upset)| *upset)
    }

    /// What refuses a write, beside its own upset.
    fn refuses(&mut self, op: &Op<'_>) -> Option<Fault> {
        match op {
            Op::Write(Place::State(..), ..) if self.ills.full > 0 => {
                self.ills.full -= u32::from(self.ills.full != u32::MAX);
                Some(fault!(Full, "simulated: no space left on device"))
            }
            Op::Write(..) | Op::Sync(_) | Op::Save(..) if self.ills.read_only => {
                Some(fault!(ReadOnly, "simulated: the medium is read-only"))
            }
            _ => None,
        }
    }

    fn apply(&mut self, op: &Op<'_>) {
        match *op {
            Op::Other => {}
            Op::Write(place, at, bytes) => self.disk.write(place, at, bytes),
            Op::Sync(place) => {
                self.disk.sync(place);
                if let (Place::Env(copy), Home::Ext4Journal) = (place, self.board.home) {
                    self.journal[copy] = Some(Rc::new(self.disk.durable(place).to_vec()));
                }
            }
            Op::Save(place, at, bytes) => self.disk.put(place, at, bytes),
        }
    }

    /// A sync that does not happen: the kernel takes its pages for clean.
    fn gives_up(&mut self, op: &Op<'_>) {
        if let Op::Sync(place) = op {
            self.disk.fail_sync(*place);
        }
    }

    /// Some sectors of a write get as far as the cache.
    fn apply_some(&mut self, op: &Op<'_>, mut through: impl FnMut(usize) -> bool) {
        if let Op::Write(place, at, bytes) = *op {
            for (n, (from, to)) in sectors(at, bytes.len()).enumerate() {
                if through(n) {
                    self.disk.write(place, at + from, &bytes[from..to]);
                }
            }
        }
    }

    /// Makes an effect, or what its upset makes of it.
    fn perform(&mut self, name: &str, op: &Op<'_>, upset: Option<Upset>) -> Result<()> {
        let failed = || Err(fault!(Io, "simulated: {name} fails"));
        match upset {
            Some(Upset::ReadOnly) => self.ills.read_only = true,
            Some(Upset::Full(times)) => self.ills.full = times,
            Some(Upset::Unreadable(times)) => self.ills.unreadable = times,
            Some(Upset::Clock(to)) => self.clock = to,
            Some(Upset::Link(answer, times)) => self.ills.link = Some((answer, times)),
            _ => {}
        }
        if let Some(fault) = self.refuses(op) {
            self.gives_up(op);
            return Err(fault);
        }
        let boots = matches!(op, Op::Save(..)); // a bootloader's medium is assumed to say when it fails
        match upset {
            Some(Upset::Fails) => {
                self.gives_up(op);
                failed()
            }
            Some(Upset::FailsButStands) => {
                self.apply(op);
                failed()
            }
            Some(Upset::Short(through)) => {
                self.gives_up(op);
                self.apply_some(op, |n| n < usize::from(through));
                failed()
            }
            Some(Upset::Lost) if !boots => {
                self.gives_up(op);
                Ok(())
            }
            Some(Upset::Stuck(seed)) if matches!(op, Op::Write(..)) => {
                let mut draw = Draw::new(seed);
                self.apply_some(op, |_| draw.below(2) == 1);
                Ok(())
            }
            _ => {
                self.apply(op);
                Ok(())
            }
        }
    }
}

/// The world, as all the seams of one session hold it.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

impl Shared {
    /// Shares a world.
    pub fn new(world: World) -> Self {
        Shared(Rc::new(RefCell::new(world)))
    }

    /// Looks at the world, or changes what is no effect.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }

    /// One effect.
    pub fn effect(&self, name: &str, op: Op<'_>) -> Result<()> {
        self.with(|world| {
            if world.leaves_out == Some(name) {
                return Ok(());
            }
            world.effects += 1;
            world.watchdog.feed();
            Forks::grow(world, &op);
            let (effects, upset) = (world.effects, world.upset());
            world.say(|| match upset {
                None => format!("{effects:4} {name}"),
                Some(upset) => format!("{effects:4} {name}: {upset:?}"),
            });
            if let Some(Upset::Cut(keeps)) = upset {
                world.cut(keeps, &op);
                down(Down::PowerCut)
            }
            if let (Some(Upset::Kill), Some(_)) = (upset, world.running) {
                down(Down::Killed)
            }
            let done = world.perform(name, &op, upset);
            world.look_at_env();
            invariant::all(world);
            done
        })
    }

    /// Switches the machine on: the boot script runs, and jumps. `None`: nothing could be loaded.
    pub fn power_on(&self) -> Option<(Group, Why)> {
        let (boot, saves) = self.with(|world| {
            world.boots += 1;
            if world.boots > BOOTS_MAX {
                violated(Figure::Stuck, format_args!("it settles: {BOOTS_MAX} boots, and it has not"));
            }
            match world.boot(&world.elsewhere.clone().unwrap_or_else(|| world.env())) {
                Ok(boot) => (boot, !world.ills.read_only),
                Err(fault) => {
                    violated(Figure::Unbootable, format_args!("the bootloader cannot go on: {fault}"))
                }
            }
        });
        let chosen = match saves {
            true => {
                for write in boot.writes {
                    self.save(write.copy, write.at, &write.bytes);
                }
                boot.group
            }
            false => self.with(|world| world.boot_without_saving()),
        };
        let (group, why) = chosen?;
        self.with(|world| {
            world.say(|| format!("     -- {group} is booted ({})", why.name()));
            world.running = Some(group);
            world.watchdog.arm(BOOTLOADER_WATCHDOG_S);
            invariant::booted(world, group);
        });
        Some((group, why))
    }

    /// The bootloader saves a copy, and where it is a file on FAT, its directory entry.
    fn save(&self, copy: usize, at: usize, bytes: &[u8]) {
        let (name, entry) = ("the bootloader saves its environment", Place::Entry(copy));
        let mut saved = self.effect(name, Op::Save(Place::Env(copy), at, bytes));
        if saved.is_ok() && self.with(|world| world.board.home) == Home::Fat {
            let mut now = self.with(|world| world.disk.durable(entry).to_vec());
            now.last_mut().into_iter().for_each(|time| *time = time.wrapping_add(1));
            saved = self.effect("the bootloader saves the directory entry", Op::Save(entry, 0, &now));
        }
        if saved.is_err() {
            self.with(|world| world.cuts += 1);
            down(Down::PowerCut); // a bootloader that cannot save resets
        }
    }
}

/// A life with a few cuts takes under ten boots; one that takes this many goes in circles.
const BOOTS_MAX: u32 = 60;
/// What the bootloader arms before it jumps.
const BOOTLOADER_WATCHDOG_S: u32 = 60;
/// A clock that shows less has not been set: as board-support's `SystemClock` takes it.
const CLOCK_IS_SET_FROM: u64 = 1_735_689_600;
/// Some day in 2027.
pub const CLOCK_AT_FIRST: u64 = 1_800_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_is_fed_begins_anew_and_one_that_is_not_bites_where_it_was_armed() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.bites(), None, "nobody armed it");
        watchdog.feed();
        assert_eq!(watchdog.bites(), None, "and feeding does not arm it");
        watchdog.arm(30);
        assert_eq!((watchdog.bites(), watchdog.bites()), (Some(30), Some(0)));
        watchdog.feed();
        assert_eq!(watchdog.bites(), Some(30));
    }
}
