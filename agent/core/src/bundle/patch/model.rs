//! The statistics behind a patch: what the next bit probably is, given what came before. Writer and reader run this same
//! code, so they agree on every bit.
//!
//! ```text
//! contexts (up to six) ──► a history each ──► a probability each ──► stretch ──┐
//!                                                                             mixer ──► probability of a one
//! the bit that came ──► histories, their probabilities and the mixer's weights learn
//! ```
//! This is context mixing as it is commonly taught (Mahoney, *Data Compression Explained*, sections 4.1 to 4.3), in
//! integers only, so that every machine computes the same. A history ([`super::history`]) says what a context has seen; what came of
//! such histories says how probable a one is. So a context that has been seen once is believed as far as such contexts were right
//! before. Nothing here depends on the base: where a segment of the base has drifted, the segments behind it in the same piece can be
//! read all the same.
//!
//! ```text
//! bits    0..7      8..15
//! slot    history   check: part of the context's hash; another's history is not taken for one's own
//! ```
//! A model is 120 KiB, and is forgotten at each piece, so that pieces can be read in any order.

use super::history::{AGED, INITIAL, NEXT};

/// Contexts that one bit can be predicted from.
pub const CONTEXTS_MAX: usize = 6;
/// Slots: 48 Ki of two bytes, a multiple of the 256 nodes of a symbol.
const SLOTS: usize = 48 << 10;
/// Sets of weights: one for each depth of each kind of symbol.
const MIXERS: usize = 256;
/// What histories mean: once for each context of each kind of symbol.
const MEANINGS: usize = 40;

/// Which statistics a symbol has: its first meaning and its first set of weights.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its contexts have this meaning and those behind it.
    pub meaning: usize,
    /// Its bits have this set of weights and those behind it.
    pub mixer: usize,
}

/// What has been learned.
#[cfg_attr(any(test, feature = "author"), derive(Clone))]
pub struct Model {
    slots: [u16; SLOTS],
    /// Probability of a one in 1/65536, by history.
    meanings: [[u16; 256]; MEANINGS],
    weights: [[i32; CONTEXTS_MAX]; MIXERS],
    /// Of the bit that is being predicted.
    inputs: [Input; CONTEXTS_MAX],
    used: usize,
    meaning: usize,
    mixer: usize,
    probability: i32,
}

/// What one context says of a bit.
#[derive(Clone, Copy)]
struct Input {
    place: usize,
    check: u8,
    history: u8,
    stretched: i32,
}

impl Model {
    /// Nothing learned yet.
    pub const fn new() -> Self {
        Model {
            slots: [0; SLOTS],
            meanings: [INITIAL; MEANINGS],
            weights: [[WEIGHT; CONTEXTS_MAX]; MIXERS],
            inputs: [Input { place: 0, check: 0, history: 0, stretched: 0 }; CONTEXTS_MAX],
            used: 0,
            meaning: 0,
            mixer: 0,
            probability: HALF,
        }
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.slots.fill(0);
        self.meanings.fill(INITIAL);
        self.weights.fill([WEIGHT; CONTEXTS_MAX]);
    }

    /// The probability that the next bit is a one, in 1/65536, never 0 and never 1. `contexts` are hashes of what the bit
    /// depends on, `node` (below 256) is its place in its symbol.
    pub fn predict(&mut self, contexts: &[u32], node: u32, kind: Kind) -> u32 {
        self.used = contexts.len().min(CONTEXTS_MAX);
        (self.meaning, self.mixer) = (kind.meaning, kind.mixer % MIXERS);
        let weights = self.weights.get(self.mixer).copied().unwrap_or_default();
        let meanings = self.meanings.get(kind.meaning..).unwrap_or_default();
        let mut sum = 0i32;
        for (((context, input), weight), meaning) in
            contexts.iter().zip(&mut self.inputs).zip(weights).zip(meanings)
        {
            let place = place(*context) ^ (node & 255) as usize;
            let slot = self.slots.get(place).copied().unwrap_or(0);
            let check = (context & 255) as u8;
            let history = if (slot >> 8) as u8 == check { (slot & 255) as u8 } else { 0 };
            let stretched = stretch(meaning.get(usize::from(history)).copied().unwrap_or(0x8000));
            *input = Input { place, check, history, stretched };
            sum = sum.wrapping_add(stretched.wrapping_mul(weight) >> 8);
        }
        self.probability = squash(sum >> 8);
        (self.probability as u32).clamp(1, 4095) * 16 + 8
    }

    /// The bit has come.
    pub fn learn(&mut self, bit: bool) {
        let error = (if bit { 4096 } else { 0 } - self.probability).wrapping_mul(LEARNING);
        let Some(weights) = self.weights.get_mut(self.mixer) else { return };
        let meanings = self.meanings.get_mut(self.meaning..).unwrap_or_default();
        for ((input, weight), meaning) in self.inputs.iter().take(self.used).zip(weights).zip(meanings) {
            let change = input.stretched.wrapping_mul(error).wrapping_add(1 << 13) >> 14;
            *weight = weight.wrapping_add(change).clamp(-WEIGHT_MOST, WEIGHT_MOST);
            if let Some(probability) = meaning.get_mut(usize::from(input.history)) {
                let towards = if bit {
                    (u16::MAX - *probability) >> RATE
                } else {
                    (*probability >> RATE).wrapping_neg()
                };
                *probability = probability.wrapping_add(towards);
            }
            if let Some(slot) = self.slots.get_mut(input.place) {
                *slot = learned(*slot, input, bit);
            }
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

/// Where a context's 256 nodes begin; exclusive or with the node stays within them.
const fn place(context: u32) -> usize {
    ((context >> 16) as usize * SLOTS) >> 16
}

/// What stands in a slot after a bit of this context. If another context has it, that one is forgotten by half each time, until it
/// has seen so little that the slot changes hands.
fn learned(slot: u16, input: &Input, bit: bool) -> u16 {
    let (owner, history) = ((slot >> 8) as u8, usize::from(slot & 255));
    if owner != input.check && history != 0 {
        let aged = AGED.get(history).copied().unwrap_or(0);
        if aged != 0 {
            return slot & 0xff00 | u16::from(aged);
        }
    }
    let next = NEXT.get(usize::from(input.history)).map_or(0, |next| next[usize::from(bit)]);
    u16::from(input.check) << 8 | u16::from(next)
}

/// ln(p / (1 - p)) in 1/256, for p in 1/65536.
fn stretch(p: u16) -> i32 {
    STRETCH.get(usize::from(p >> 5)).copied().unwrap_or(0).into()
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
/// Weights are in 1/65536: each input counts two fifths at first.
const WEIGHT: i32 = 26_000;
/// 8. A product of it and a stretched probability stays within 30 bits.
const WEIGHT_MOST: i32 = 8 << 16;
const LEARNING: i32 = 14;
/// A meaning follows by a sixty-fourth each time.
const RATE: u32 = 6;

/// 4096 / (1 + e^-((i - 16) / 2)), rounded.
const SQUASH: [i32; 33] = [
    1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608, 3785,
    3902, 3976, 4022, 4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095,
];

/// The inverse of [`squash`], for every second probability.
#[expect(clippy::indexing_slicing, reason = "by the compiler: an index beyond the end does not build")]
static STRETCH: [i16; 2048] = {
    let mut table = [0i16; 2048];
    let (mut x, mut filled) = (-2047, 0usize);
    while x <= 2047 {
        let place = ((x + 2048) >> 7) as usize;
        let reached = (between(SQUASH[place], SQUASH[place + 1], x) >> 1) as usize;
        while filled <= reached && filled < 2048 {
            table[filled] = x as i16;
            filled += 1;
        }
        x += 1;
    }
    while filled < 2048 {
        table[filled] = 2047;
        filled += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    const KIND: Kind = Kind { meaning: 3, mixer: 9 };

    #[test]
    fn squash_rises_from_nothing_to_all() {
        let all: alloc::vec::Vec<_> = (-3000..=3000).map(squash).collect();
        assert!(all.is_sorted() && all.iter().all(|p| (0..=4095).contains(p)));
        assert_eq!((squash(i32::MIN), squash(-2048), squash(-2047), squash(0)), (0, 0, 1, 2048));
        assert_eq!((squash(2047), squash(2048), squash(i32::MAX)), (4095, 4095, 4095));
    }

    /// Both are tables: what one makes of the other's value lies within the two probabilities that share an entry, or
    /// within one step of the straight line.
    #[test]
    fn stretch_is_the_inverse_of_squash() {
        assert!((1..=u16::MAX).all(|p| stretch(p) >= stretch(p - 1)));
        for p in 4..4092u16 {
            let back = squash(stretch(p << 4));
            assert!((back - i32::from(p)).abs() <= 3, "{p} to {} to {back}", stretch(p << 4));
        }
    }

    /// Nodes of one symbol have slots of their own, and every context finds room.
    #[test]
    fn places_lie_within_the_slots() {
        for context in [0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, u32::MAX] {
            assert!((0..256).all(|node| place(context) ^ node < SLOTS), "{context:x}");
        }
    }

    /// Weights saturate: the worst inputs, for long, stay within what the coder asks of a probability.
    #[test]
    fn probability_is_never_certain() {
        let mut model = Box::<Model>::default();
        let contexts = [1, 2, 3, 4, 5, 6].map(|n: u32| n.wrapping_mul(0x9e37_79b9));
        for round in 0..200_000u32 {
            let p = model.predict(&contexts, 1, KIND);
            assert!((1..65536).contains(&p), "{p} in round {round}");
            model.learn(round < 100_000 || round % 7 == 0);
        }
    }

    /// Two contexts that share a slot: neither is taken for the other, and the one that is seen now has it in the end.
    #[test]
    fn slot_changes_hands_without_being_mistaken() {
        let (one, other) = ([0x1234_0001], [0x1234_0003]);
        assert_eq!(place(one[0]), place(other[0]));
        let mut model = Box::<Model>::default();
        for _ in 0..50 {
            model.predict(&one, 1, KIND);
            model.learn(true);
        }
        let known = model.predict(&one, 1, KIND);
        let unknown = Box::<Model>::default().predict(&one, 1, KIND);
        assert!(known > 60_000 && unknown < 40_000, "{known} {unknown}");
        let (mut rounds, mut model_of_other) = (0, model.predict(&other, 1, KIND));
        assert!(model_of_other < 40_000, "{model_of_other}: what the first one has seen");
        while model_of_other > 20_000 && rounds < 20 {
            model.learn(false);
            model_of_other = model.predict(&other, 1, KIND);
            rounds += 1;
        }
        assert!((3..20).contains(&rounds), "{rounds}: the first one is forgotten by and by");
    }

    #[test]
    fn reset_forgets_all() {
        let (mut used, mut new) = (Box::<Model>::default(), Box::<Model>::default());
        let contexts = |round: u32| [round.wrapping_mul(0x9e37_79b9)];
        for round in 0..1000 {
            used.predict(&contexts(round), 1, KIND);
            used.learn(round % 3 == 0);
        }
        used.reset();
        for round in 0..1000 {
            assert_eq!(used.predict(&contexts(round), 1, KIND), new.predict(&contexts(round), 1, KIND));
            used.learn(true);
            new.learn(true);
        }
    }
}
