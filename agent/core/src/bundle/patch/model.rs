//! The statistics behind a patch: what the next bit probably is, given what came before. Writer and reader run this same
//! code, so they agree on every bit.
//!
//! ```text
//! contexts (up to six) ──► a counter each ──► stretch ──┐
//!                                                      mixer ──► probability of a one
//! the bit that came ──► counters and the mixer's weights learn
//! ```
//! This is context mixing as it is commonly taught (Mahoney, *Data Compression Explained*, sections 4.2 and 4.3), in
//! integers only, so that every machine computes the same. Nothing here depends on the base: where a segment of the base
//! has drifted, the segments behind it in the same piece can be read all the same.
//!
//! A model is 131 KiB, and is forgotten at each piece, so that pieces can be read in any order.

/// Contexts that one bit can be predicted from.
pub const CONTEXTS_MAX: usize = 6;
/// Counters: 2^16 of two bytes.
const COUNTERS: usize = 1 << 16;
/// Sets of weights: one for each kind of symbol.
const MIXERS: usize = 128;

/// What has been learned.
#[cfg_attr(any(test, feature = "author"), derive(Clone))]
pub struct Model {
    /// Probability of a one in the upper 12 bits, confidence in the lower 4.
    counters: [u16; COUNTERS],
    weights: [[i32; CONTEXTS_MAX]; MIXERS],
    /// Of the bit that is being predicted.
    places: [usize; CONTEXTS_MAX],
    stretched: [i32; CONTEXTS_MAX],
    inputs: usize,
    mixer: usize,
    probability: i32,
}

impl Model {
    /// Nothing learned yet.
    pub const fn new() -> Self {
        Model {
            counters: [UNKNOWN; COUNTERS],
            weights: [[WEIGHT; CONTEXTS_MAX]; MIXERS],
            places: [0; CONTEXTS_MAX],
            stretched: [0; CONTEXTS_MAX],
            inputs: 0,
            mixer: 0,
            probability: HALF,
        }
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.counters.fill(UNKNOWN);
        self.weights.fill([WEIGHT; CONTEXTS_MAX]);
    }

    /// The probability that the next bit is a one, in 1/65536, never 0 and never 1. `contexts` are hashes of what the bit
    /// depends on, `node` its place in its symbol, `mixer` the set of weights.
    pub fn predict(&mut self, contexts: &[u32], node: u32, mixer: usize) -> u32 {
        self.inputs = contexts.len().min(CONTEXTS_MAX);
        self.mixer = mixer % MIXERS;
        let weights = self.weights.get(self.mixer).copied().unwrap_or_default();
        let mut sum = 0i64;
        let slots = self.places.iter_mut().zip(self.stretched.iter_mut()).zip(weights);
        for (context, ((place, stretched), weight)) in contexts.iter().zip(slots) {
            *place = slot(*context, node);
            let counter = self.counters.get(*place).copied().unwrap_or(UNKNOWN);
            *stretched = stretch(i32::from(counter >> 4));
            sum += i64::from(*stretched) * i64::from(weight);
        }
        self.probability = squash((sum >> 16) as i32);
        (self.probability as u32).clamp(1, 4095) * 16 + 8
    }

    /// The bit has come.
    pub fn learn(&mut self, bit: bool) {
        let error = (if bit { 4095 } else { 0 } - self.probability) * LEARNING;
        if let Some(weights) = self.weights.get_mut(self.mixer) {
            for (weight, stretched) in weights.iter_mut().zip(self.stretched).take(self.inputs) {
                *weight = weight.saturating_add((stretched * error + 0x2000) >> 14);
            }
        }
        for place in self.places.iter().take(self.inputs) {
            if let Some(counter) = self.counters.get_mut(*place) {
                *counter = learned(*counter, bit);
            }
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

/// Where a context keeps its counter for this node. Collisions cost a little, and nothing else.
const fn slot(context: u32, node: u32) -> usize {
    let mixed = context.wrapping_mul(0x9e37_79b1) ^ node.wrapping_mul(0x85eb_ca6b);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 16) as usize % COUNTERS
}

/// Moves a counter towards the bit: by half at first, by less the more it has seen.
fn learned(counter: u16, bit: bool) -> u16 {
    let (p, seen) = (i32::from(counter >> 4), counter & 15);
    let target = if bit { 4095 } else { 0 };
    let rate = RATES.get(usize::from(seen)).copied().unwrap_or(1);
    let moved = p + (((target - p) * rate) >> 16);
    ((moved.clamp(0, 4095) as u16) << 4) | (seen + 1).min(SEEN_MAX)
}

/// ln(p / (1 - p)) in 1/256, for p in 1/4096.
fn stretch(p: i32) -> i32 {
    STRETCH.get((p >> 2) as usize & 1023).copied().unwrap_or(0) as i32
}

/// 4096 / (1 + e^-x), for x in 1/256.
fn squash(x: i32) -> i32 {
    match x {
        2048.. => 4095,
        ..=-2048 => 0,
        x => {
            let pair = SQUASH.get((x + 2048) as usize >> 7..).and_then(|rest| rest.first_chunk::<2>());
            pair.map_or(HALF, |[low, high]| between(*low, *high, x))
        }
    }
}

/// The straight line between two values of the table, at `x`.
const fn between(low: i32, high: i32, x: i32) -> i32 {
    let way = (x + 2048) & 127;
    (low * (128 - way) + high * way + 64) >> 7
}

const HALF: i32 = 2048;
const UNKNOWN: u16 = 2048 << 4;
/// Weights are in 1/65536: each input counts a third at first.
const WEIGHT: i32 = 22_000;
const LEARNING: i32 = 10;
/// Few: what a piece holds changes often, and a counter that has seen much is slow to follow. Measured: 14 makes patches of a
/// security update 1.3 % larger.
const SEEN_MAX: u16 = 6;

/// 65536 / (n + 1.6), but never below what still follows a change.
#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const RATES: [i32; 16] = {
    let mut rates = [0; 16];
    let mut n = 0;
    while n < 16 {
        rates[n] = 655_360 / (10 * n as i32 + 16);
        n += 1;
    }
    rates
};

/// 4096 / (1 + e^-((i - 16) / 2)), rounded.
const SQUASH: [i32; 33] = [
    1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608, 3785,
    3902, 3976, 4022, 4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095,
];

/// The inverse of [`squash`], for every fourth probability.
#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
const STRETCH: [i16; 1024] = {
    let mut table = [0i16; 1024];
    let (mut x, mut filled) = (-2047, 0usize);
    while x <= 2047 {
        let place = ((x + 2048) >> 7) as usize;
        let reached = (between(SQUASH[place], SQUASH[place + 1], x) >> 2) as usize;
        while filled <= reached && filled < 1024 {
            table[filled] = x as i16;
            filled += 1;
        }
        x += 1;
    }
    while filled < 1024 {
        table[filled] = 2047;
        filled += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    #[test]
    fn squash_rises_from_nothing_to_all() {
        let all: alloc::vec::Vec<_> = (-3000..=3000).map(squash).collect();
        assert!(all.is_sorted() && all.iter().all(|p| (0..=4095).contains(p)));
        assert_eq!((squash(i32::MIN), squash(-2048), squash(-2047), squash(0)), (0, 0, 1, 2048));
        assert_eq!((squash(2047), squash(2048), squash(i32::MAX)), (4095, 4095, 4095));
    }

    /// Both are tables: what one makes of the other's value lies within the four probabilities that share an entry, or
    /// within one step of the straight line.
    #[test]
    fn stretch_is_the_inverse_of_squash() {
        assert!((1..4096).all(|p| stretch(p) >= stretch(p - 1)));
        for p in 4..4092 {
            assert!((squash(stretch(p)) - p).abs() <= 4, "{p} to {} to {}", stretch(p), squash(stretch(p)));
        }
    }

    #[test]
    fn counter_follows_its_bits_and_stays_within_its_bits() {
        for bit in [true, false] {
            let counter = (0..1000).fold(UNKNOWN, |counter, _| learned(counter, bit));
            let p = counter >> 4;
            assert!(if bit { p > 4060 } else { p < 35 }, "{p}");
            assert_eq!(counter & 15, SEEN_MAX);
        }
    }

    /// Weights saturate, sums are of 64 bits: the worst inputs, for long, stay within what the coder asks of a probability.
    #[test]
    fn probability_is_never_certain() {
        let mut model = Box::<Model>::default();
        let contexts = [1, 2, 3, 4, 5, 6];
        for round in 0..200_000u32 {
            let p = model.predict(&contexts, 1, 0);
            assert!((1..65536).contains(&p), "{p} in round {round}");
            model.learn(round < 100_000 || round % 7 == 0);
        }
    }

    #[test]
    fn reset_forgets_all() {
        let (mut used, mut new) = (Box::<Model>::default(), Box::<Model>::default());
        for round in 0..1000 {
            used.predict(&[round], 1, 3);
            used.learn(round % 3 == 0);
        }
        used.reset();
        for round in 0..1000 {
            assert_eq!(used.predict(&[round], 1, 3), new.predict(&[round], 1, 3));
            used.learn(true);
            new.learn(true);
        }
    }
}
