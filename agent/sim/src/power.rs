//! Power, and everything else that can end or spoil one effect.
//!
//! An effect is one thing that the outside of the processor can notice: a write, a sync, a reboot request, the
//! arming of the watchdog. They are counted from 1, over all boots of a gateway's life. A schedule names effects
//! and says what becomes of them; everything else is deterministic, so a schedule is a whole history.
//!
//! A power cut leaves the machine by unwinding: nothing of the agent runs after it, as in the field.

/// What the medium keeps of the writes that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing; the effect itself has not happened.
    Nothing,
    /// All of them; the effect itself has not happened.
    Everything,
    /// Of each of them all, nothing, or some sectors, and so of the effect itself; drawn from this seed.
    Torn(u64),
}

/// What goes wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// The power goes.
    Cut(Keeps),
    /// It does not happen, and says so.
    Fails,
    /// It happens, and says that it has not.
    FailsButStands,
}

/// What goes wrong, and at which effects, in ascending order.
pub type Schedule = Vec<(u32, Upset)>;

/// How a session of the machine ends. Thrown by unwinding, and caught where the machine is switched on again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// The power went.
    PowerCut,
    /// The agent asked for it.
    Reboot,
    /// Nobody fed the watchdog.
    Watchdog,
    /// An invariant did not hold. The simulation is over.
    Violation(String),
}

/// Ends the session, without a word on the terminal.
pub fn down(how: Down) -> ! {
    std::panic::resume_unwind(Box::new(how))
}

/// What gets through of a write that is cut.
#[derive(Clone, Copy, Debug)]
pub enum Tear {
    /// All of it.
    Whole,
    /// Some of its sectors.
    Sectors(Draw),
}

impl Tear {
    /// Writes `bytes` at `at`, sector by sector as far as they get through.
    pub fn write(self, medium: &mut [u8], at: usize, bytes: &[u8]) {
        let mut draw = match self {
            Tear::Whole => {
                if let Some(place) = medium.get_mut(at..at + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
                return;
            }
            Tear::Sectors(draw) => draw,
        };
        // A third of the time none or all, else each sector by itself: real media do all three.
        let pattern = draw.below(6);
        let mut offset = 0;
        while offset < bytes.len() {
            let end = bytes.len().min((at + offset) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - at);
            let through = match pattern {
                0 => false,
                1 => true,
                _ => draw.below(2) == 1,
            };
            if let (true, Some(place), Some(new)) =
                (through, medium.get_mut(at + offset..at + end), bytes.get(offset..end))
            {
                place.copy_from_slice(new);
            }
            offset = end;
        }
    }
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
}

/// The unit in which a medium keeps or loses a write.
pub const SECTOR_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_keeps_or_loses_each_sector_whole_and_the_seeds_show_every_way() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut medium = vec![0u8; 4 * SECTOR_BYTES];
            // From the midst of sector 0 to the midst of sector 2.
            Tear::Sectors(Draw::new(seed)).write(&mut medium, 100, &[1; 2 * SECTOR_BYTES]);
            let parts =
                [100..SECTOR_BYTES, SECTOR_BYTES..2 * SECTOR_BYTES, 2 * SECTOR_BYTES..2 * SECTOR_BYTES + 100];
            let through = parts.map(|part| {
                let written = medium[part.clone()].iter().filter(|byte| **byte == 1).count();
                assert!(written == 0 || written == part.len(), "seed {seed}: {written} of {}", part.len());
                written > 0
            });
            assert!(medium[..100].iter().chain(&medium[2 * SECTOR_BYTES + 100..]).all(|byte| *byte == 0));
            seen.insert(through);
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }
}
