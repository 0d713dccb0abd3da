//! The gateway without its agent: media, bootloader, and the fuse that ends an effect.
//!
//! Everything that must survive a power cut stands in [`World`]; everything else lives in a session's stack frames
//! and is gone when the session unwinds. All effects go through [`Shared::effect`]: it counts them, upsets those that
//! the schedule names, and has the invariants checked after each.

use crate::disk::Disk;
use crate::image::{Behaviour, Image};
use crate::invariant::{self, Watch};
use crate::power::{Down, Draw, Keeps, Schedule, Tear, Upset, down};
use crate::state::StateMedium;
use mainstay_bootloader_glue::convention::{Convention, Why, by_name};
use mainstay_bootloader_glue::{Format, Vars, model};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::fault;
use mainstay_core::seam::Result;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Which bootloader the gateway has, and by which variables it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// How its environment is stored.
    pub format: Format,
    /// The convention's name.
    pub convention: &'static str,
}

impl Board {
    /// Its convention.
    pub fn convention(&self) -> Box<dyn Convention + Send> {
        by_name(self.convention, &self.format).expect("a convention that exists")
    }
}

/// All that survives the loss of power, and what the invariants remember.
pub struct World {
    /// The slots.
    pub disk: Disk,
    /// The agent's state.
    pub state: StateMedium,
    /// The bootloader.
    pub board: Board,
    /// The images that somebody has signed, or that a factory has flashed.
    pub images: Vec<Image>,
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
    /// What the invariants go by.
    pub watch: Watch,
    /// What happened, for people: the last lines of a life that went wrong.
    pub trace: Vec<String>,
    convention: Box<dyn Convention + Send>,
    schedule: Schedule,
    env: Vec<Vec<u8>>,
    parsed: Parsed,
    env_version: u32,
    seen: Cell<[(u32, Option<usize>); 2]>,
}

/// What the environment says, parsed when it is written and not at each look.
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

impl World {
    /// A gateway from the factory: `first` in A, which is good; `second` in B, good and behind it, if there is one.
    pub fn new(board: Board, first: &Image, second: Option<&Image>, schedule: Schedule) -> Self {
        let convention = board.convention();
        let mut vars = Vars::new().with(&convention.fresh());
        let mut disk = Disk::blank();
        disk.flash(Group::A, first);
        let mut images = vec![first.clone()];
        if let Some(second) = second {
            use mainstay_bootloader_glue::convention::Op;
            disk.flash(Group::B, second);
            images.push(second.clone());
            for op in [Op::MarkGood(Group::B), Op::MarkGood(Group::A)] {
                vars = vars.with(&convention.change(&vars, op).expect("sound variables"));
            }
        }
        let env =
            board.format.blank(&vars, convention.names()).expect("an environment that holds its variables");
        let watch = Watch::new(first.security_version, second.is_some());
        World {
            disk,
            state: StateMedium::default(),
            board,
            images,
            running: None,
            effects: 0,
            dead: None,
            boots: 0,
            cuts: 0,
            watch,
            trace: Vec::new(),
            parsed: Parsed::of(board, &*convention, &env),
            env_version: 0,
            convention,
            schedule,
            env,
            seen: Cell::new([(u32::MAX, None); 2]),
        }
    }

    /// The image that a group holds, whole and durable.
    pub fn image(&self, group: Group) -> Option<&Image> {
        let mut seen = self.seen.get();
        let (version, holds) = &mut seen[group as usize];
        if *version != self.disk.version(group) {
            *version = self.disk.version(group);
            *holds = self.images.iter().position(|image| self.disk.holds(group, image));
            self.seen.set(seen);
        }
        seen[group as usize].1.and_then(|index| self.images.get(index))
    }

    /// What the bootloader's variables say, of each group.
    pub fn boot_state(&self) -> Result<BootState> {
        self.parsed.state.clone()
    }

    /// The bootloader's variables.
    pub fn vars(&self) -> Result<&Vars> {
        self.parsed.vars.as_ref().map_err(Clone::clone)
    }

    /// The copies of the bootloader's environment, as they stand on the medium.
    pub fn env(&self) -> &[Vec<u8>] {
        &self.env
    }

    /// Writes to one of them, as far as it gets through. Says whether the variables changed by it.
    pub fn write_env(&mut self, copy: usize, at: usize, bytes: &[u8], tear: Tear) -> bool {
        if let Some(copy) = self.env.get_mut(copy) {
            tear.write(copy, at, bytes);
        }
        self.env_version += 1;
        let parsed = Parsed::of(self.board, &*self.convention, &self.env);
        let changed = parsed.vars != self.parsed.vars;
        self.parsed = parsed;
        changed
    }

    /// One pass of the boot script over these copies.
    pub fn boot(&self, env: &[Vec<u8>]) -> Result<model::Boot> {
        // A kernel that is half written loads all the same: nobody checks it.
        let loads = |group| {
            self.dead != Some(group)
                && self.image(group).is_none_or(|i| i.behaviour != Behaviour::FailsToLoad)
        };
        model::boot(&self.board.format, &*self.convention, env, loads)
    }

    /// The convention.
    pub fn convention(&self) -> &dyn Convention {
        &*self.convention
    }

    /// Makes every copy of the environment unreadable.
    pub fn spoil_env(&mut self) {
        for copy in 0..self.env.len() {
            self.write_env(copy, 0, &[0xff; 64], Tear::Whole);
        }
    }

    /// Changes whenever the environment is written, or what a group holds.
    pub fn boot_version(&self) -> [u32; 3] {
        [self.env_version, self.disk.version(Group::A), self.disk.version(Group::B)]
    }

    fn upset(&self) -> Option<Upset> {
        self.schedule.iter().find(|(at, _)| *at == self.effects).map(|(_, upset)| *upset)
    }

    /// The power goes, or the machine is reset: what was not synced is decided, and nothing runs any more.
    pub fn lose_power(&mut self, keeps: Keeps) {
        self.disk.lose_power(keeps);
        self.running = None;
        self.watch.session_ends();
        invariant::all(self);
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

    /// One effect. `apply` makes it, as far as the tear lets it through.
    pub fn effect(&self, name: &str, apply: impl FnOnce(&mut World, Tear)) -> Result<()> {
        self.with(|world| {
            world.effects += 1;
            let upset = world.upset();
            world.trace.push(match upset {
                None => format!("{:4} {name}", world.effects),
                Some(upset) => format!("{:4} {name}: {upset:?}", world.effects),
            });
            match upset {
                None => {
                    apply(world, Tear::Whole);
                    invariant::all(world);
                    Ok(())
                }
                Some(Upset::Cut(keeps)) => {
                    if let Keeps::Torn(seed) = keeps {
                        apply(world, Tear::Sectors(Draw::new(seed ^ u64::from(world.effects))));
                    }
                    world.cuts += 1;
                    world.lose_power(keeps);
                    down(Down::PowerCut)
                }
                Some(Upset::Fails) => Err(fault!(Io, "simulated: {name} fails")),
                Some(Upset::FailsButStands) => {
                    apply(world, Tear::Whole);
                    invariant::all(world);
                    Err(fault!(Io, "simulated: {name} says that it failed"))
                }
            }
        })
    }

    /// Switches the machine on: the boot script runs, and jumps. `None`: nothing could be loaded.
    pub fn power_on(&self) -> Option<(Group, Why)> {
        let boot = self.with(|world| {
            world.boots += 1;
            if world.boots > BOOTS_MAX {
                down(Down::Violation(format!("it settles: {BOOTS_MAX} boots, and it has not")));
            }
            match world.boot(&world.env) {
                Ok(boot) => boot,
                Err(fault) => down(Down::Violation(format!("the bootloader cannot go on: {fault}"))),
            }
        });
        for write in boot.writes {
            let saved = self.effect("the bootloader saves its environment", |world, tear| {
                world.write_env(write.copy, write.at, &write.bytes, tear);
            });
            if saved.is_err() {
                self.with(|world| world.cuts += 1);
                down(Down::PowerCut); // a bootloader that cannot save resets
            }
        }
        let (group, why) = boot.group?;
        self.with(|world| {
            world.trace.push(format!("     -- {group} is booted ({})", why.name()));
            world.running = Some(group);
            invariant::booted(world, group);
        });
        Some((group, why))
    }
}

/// A life with a few cuts takes under ten boots; one that takes this many goes in circles.
const BOOTS_MAX: u32 = 60;
