//! Power, and everything else that can end or spoil one effect.
//!
//! An effect is one thing that the outside of the processor can notice: a write, a sync, a reboot request, the
//! arming of the watchdog. They are counted from 1, over all boots of a gateway's life. A row of upsets names effects
//! and says what becomes of them; everything else is deterministic, so it is a whole history. How it is written down
//! stands in `schedule.rs`.
//!
//! A power cut leaves the machine by unwinding: nothing of the agent runs after it, as in the field.

use std::fmt;

/// What the media keep of the writes that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing; the effect itself has not happened.
    Nothing,
    /// All of them; the effect itself has not happened.
    Everything,
    /// Of each of them all, nothing, or some sectors, and so of the effect itself; drawn from this seed.
    Torn(u64),
    /// Each of them whole or not at all, whatever their order, and so the effect itself; drawn from this seed.
    Reordered(u64),
    /// All of them, and so many sectors of the effect itself, from its first.
    Prefix(u16),
}

impl Keeps {
    /// What is drawn from.
    pub const fn seed(self) -> u64 {
        match self {
            Keeps::Torn(seed) | Keeps::Reordered(seed) => seed,
            Keeps::Nothing | Keeps::Everything | Keeps::Prefix(_) => 0,
        }
    }
}

/// What goes wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// The power goes.
    Cut(Keeps),
    /// It does not happen, and says so. A sync that fails leaves its pages in the cache, and the medium without them.
    Fails,
    /// It happens, and says that it has not.
    FailsButStands,
    /// So many sectors of a write get as far as the cache, and it says that it failed.
    Short(u16),
    /// It is acknowledged, and gone: a lost write, a sync that the medium does not do.
    Lost,
    /// It is acknowledged, and some of its sectors keep what they held; drawn from this seed.
    Stuck(u64),
    /// From here on no medium takes a write any more, the bootloader's neither.
    ReadOnly,
    /// No room for so many writes of the agent's state, this one being the first.
    Full(u32),
    /// So many reads of slots from here on are answered with an error.
    Unreadable(u32),
    /// The clock is put to so many seconds since 1970.
    Clock(u64),
    /// So many fetches from here on are answered so.
    Link(Answer, u32),
    /// The agent's process is killed before it, and started again. The machine and its caches live on.
    Kill,
}

impl Upset {
    /// Does it never pass?
    pub const fn is_for_ever(self) -> bool {
        matches!(self, Upset::ReadOnly | Upset::Full(u32::MAX) | Upset::Unreadable(u32::MAX))
    }
}

/// How a link answers that is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not at all.
    Drops,
    /// With the object, and a bit of it flipped.
    Corrupts,
    /// With an object that was asked for before: late, or for the second time.
    Repeats,
}

/// What goes wrong, and at which effects, in ascending order.
pub type Upsets = Vec<(u32, Upset)>;

/// How a session of the machine ends. Thrown by unwinding, and caught where the machine is switched on again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// The power went.
    PowerCut,
    /// The agent asked for it.
    Reboot,
    /// Nobody fed the watchdog.
    Watchdog,
    /// The agent's process was killed; the machine runs on.
    Killed,
    /// An invariant did not hold. The simulation is over.
    Violation(Violation),
}

/// What an operator would say of a gateway on which an invariant did not hold: the figures of the reliability table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// No group that is committed and at or above the floor comes up.
    Unbootable,
    /// Another group is written, runs or is chosen than should be.
    WrongGroup,
    /// Something that nobody signed, or whose checks did not pass, can be booted or counts as good.
    UnverifiedBooted,
    /// An outcome was not reported, or is not true, or the record that knows it is gone.
    LostOutcome,
    /// The floor fell.
    FloorFell,
    /// It does not settle.
    Stuck,
}

impl Figure {
    /// All, in the order of the table.
    pub const ALL: [Figure; 6] = [
        Figure::Unbootable,
        Figure::WrongGroup,
        Figure::UnverifiedBooted,
        Figure::LostOutcome,
        Figure::FloorFell,
        Figure::Stuck,
    ];

    /// As it stands in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Figure::Unbootable => "unbootable",
            Figure::WrongGroup => "wrong_group",
            Figure::UnverifiedBooted => "unverified_booted",
            Figure::LostOutcome => "lost_outcome",
            Figure::FloorFell => "floor_fell",
            Figure::Stuck => "stuck",
        }
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In the table's words.
    pub figure: Figure,
    /// Which, and how.
    pub what: String,
}

impl Violation {
    /// One.
    pub fn new(figure: Figure, what: impl fmt::Display) -> Self {
        Violation { figure, what: what.to_string() }
    }
}

/// Ends the session, without a word on the terminal.
pub fn down(how: Down) -> ! {
    std::panic::resume_unwind(Box::new(how))
}

/// Ends the simulation.
pub fn violated(figure: Figure, what: impl fmt::Display) -> ! {
    down(Down::Violation(Violation::new(figure, what)))
}

/// The sectors of a write of `bytes` bytes at `at`: from where to where in the write.
pub fn sectors(at: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let begins = from;
        let ends = bytes.min((at + from) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - at);
        from = ends;
        (begins < bytes).then_some((begins, ends))
    })
}

/// Draws numbers from a seed: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The same seed draws the same numbers.
    pub const fn new(seed: u64) -> Self {
        Draw(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number under `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The unit in which a medium keeps or loses a write.
pub const SECTOR_BYTES: usize = 512;
