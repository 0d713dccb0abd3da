//! The statistics behind a patch: what the next bit probably is, given what came before. Writer and reader run this same
//! code, so they agree on every bit.
//!
//! ```text
//! contexts (up to three) ► a history each ──► a probability each ──► stretch ──┐
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
//! A model is 128 KiB, and is forgotten at each piece, so that pieces can be read in any order.

use super::history::{AGED, INITIAL, NEXT};
use zerocopy::FromZeros;

/// Contexts that one bit can be predicted from.
pub const CONTEXTS_MAX: usize = 3;
/// Slots: 56 Ki of two bytes, a multiple of the 256 nodes of a symbol.
const SLOTS: usize = 56 << 10;
/// Sets of weights: one for each depth of each kind of symbol.
const MIXERS: usize = 192;
/// What histories mean: once for each context of each kind of symbol.
const MEANINGS: usize = 27;

/// Which statistics a symbol has: its first meaning and its first set of weights.
#[derive(Clone, Copy, FromZeros)]
pub struct Kind {
    /// Its contexts have this meaning and those behind it.
    pub meaning: usize,
    /// Its bits have this set of weights and those behind it.
    pub mixer: usize,
}

/// What has been learned.
#[derive(FromZeros)]
#[cfg_attr(any(test, feature = "author"), derive(Clone))]
pub struct Model {
    slots: [u16; SLOTS],
    /// Probability of a one in 1/65536, by history.
    meanings: [[u16; 256]; MEANINGS],
    weights: [[i32; CONTEXTS_MAX]; MIXERS],
    expected: Expected,
}

/// A bit that is expected.
#[derive(FromZeros)]
#[cfg_attr(any(test, feature = "author"), derive(Clone))]
struct Expected {
    inputs: [Input; CONTEXTS_MAX],
    used: usize,
    kind: Kind,
    /// Of a one, in 1/4096.
    probability: i32,
}

/// What one context says of a bit.
#[derive(Clone, Copy, FromZeros)]
struct Input {
    place: usize,
    check: u8,
    history: u8,
    stretched: i32,
}

// Loops by number and not by iterators: where code is built for size, those are calls for each bit.
impl Model {
    /// Nothing learned yet.
    pub const fn new() -> Self {
        let silent = Input { place: 0, check: 0, history: 0, stretched: 0 };
        let kind = Kind { meaning: 0, mixer: 0 };
        Model {
            slots: [0; SLOTS],
            meanings: [INITIAL; MEANINGS],
            weights: [[WEIGHT; CONTEXTS_MAX]; MIXERS],
            expected: Expected { inputs: [silent; CONTEXTS_MAX], used: 0, kind, probability: HALF },
        }
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.slots.fill(0);
        self.meanings.fill(INITIAL);
        self.weights.fill([WEIGHT; CONTEXTS_MAX]);
    }

    /// The probability that the next bit is a one, in 1/65536, never 0 and never 1. `contexts` are hashes of what it depends on,
    /// `node` (below 256) is its place in its symbol.
    pub fn expect(&mut self, contexts: &[u32], node: u32, kind: Kind) -> u32 {
        let (mut sum, mut i) = (0i32, 0);
        if let Some(weights) = self.weights.get(kind.mixer) {
            while let (Some(context), Some(weight)) = (contexts.get(i), weights.get(i)) {
                let said = self.input(*context, node, kind.meaning.wrapping_add(i));
                sum = sum.wrapping_add(said.stretched.wrapping_mul(*weight) >> 8);
                if let Some(input) = self.expected.inputs.get_mut(i) {
                    *input = said;
                }
                i = i.wrapping_add(1);
            }
        }
        let probability = squash(sum >> 8);
        (self.expected.used, self.expected.kind, self.expected.probability) = (i, kind, probability);
        (probability as u32).clamp(1, 4095).wrapping_mul(16).wrapping_add(8)
    }

    #[inline(always)]
    fn input(&self, context: u32, node: u32, meaning: usize) -> Input {
        let (place, check) = (place(context) ^ (node & 255) as usize, (context & 255) as u8);
        let slot = self.slots.get(place).copied().unwrap_or(0);
        let history = if (slot >> 8) as u8 == check { (slot & 255) as u8 } else { 0 };
        let meaning = self.meanings.get(meaning).and_then(|all| all.get(usize::from(history)));
        Input { place, check, history, stretched: stretch(meaning.copied().unwrap_or(0x8000)) }
    }

    /// The bit has come.
    pub fn learn(&mut self, bit: bool) {
        let expected = &self.expected;
        let came = if bit { 4096i32 } else { 0 };
        let error = came.wrapping_sub(expected.probability).wrapping_mul(LEARNING);
        let Some(weights) = self.weights.get_mut(expected.kind.mixer) else { return };
        let mut i = 0;
        while i < expected.used
            && let (Some(input), Some(weight)) = (expected.inputs.get(i), weights.get_mut(i))
        {
            let change = input.stretched.wrapping_mul(error).wrapping_add(1 << 13) >> 14;
            *weight = weight.wrapping_add(change).clamp(-WEIGHT_MOST, WEIGHT_MOST);
            let meaning = self.meanings.get_mut(expected.kind.meaning.wrapping_add(i));
            if let Some(probability) = meaning.and_then(|all| all.get_mut(usize::from(input.history))) {
                *probability = towards(*probability, bit);
            }
            if let Some(slot) = self.slots.get_mut(input.place) {
                *slot = learned(*slot, input, bit);
            }
            i = i.wrapping_add(1);
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

#[inline(always)]
fn towards(probability: u16, bit: bool) -> u16 {
    let target = if bit { i32::from(u16::MAX) } else { 0 };
    let change = target.wrapping_sub(probability.into()) >> RATE;
    probability.wrapping_add(change as u16)
}

/// Where a context's 256 nodes begin; exclusive or with the node stays within them.
#[inline(always)]
const fn place(context: u32) -> usize {
    (context >> 16).wrapping_mul(SLOTS as u32) as usize >> 16
}

/// What stands in a slot after a bit of this context. If another context has it, that one is forgotten by half each time, until it
/// has seen so little that the slot changes hands.
#[inline(always)]
fn learned(slot: u16, input: &Input, bit: bool) -> u16 {
    let (owner, history) = ((slot >> 8) as u8, usize::from(slot & 255));
    if owner != input.check && history != 0 {
        let aged = AGED.get(history).copied().unwrap_or(0);
        if aged != 0 {
            return slot & 0xff00 | u16::from(aged);
        }
    }
    let next = NEXT.get(usize::from(input.history)).map_or(0, |[zero, one]| if bit { *one } else { *zero });
    u16::from(input.check) << 8 | u16::from(next)
}

/// ln(p / (1 - p)) in 1/256, for p in 1/65536.
#[inline(always)]
fn stretch(p: u16) -> i32 {
    STRETCH.get(usize::from(p >> 5)).copied().unwrap_or(0).into()
}

/// 4096 / (1 + e^-x), for x in 1/256.
#[inline(always)]
fn squash(x: i32) -> i32 {
    match x {
        2048.. => 4095,
        ..=-2048 => 0,
        x => {
            let at = (x.wrapping_add(2048) as usize) >> 7;
            match (SQUASH.get(at), SQUASH.get(at.wrapping_add(1))) {
                (Some(low), Some(high)) => between(*low, *high, x),
                _ => HALF,
            }
        }
    }
}

/// The straight line between two values of the table, at `x`.
#[inline(always)]
const fn between(low: i32, high: i32, x: i32) -> i32 {
    let way = x.wrapping_add(2048) & 127;
    let sum = low.wrapping_mul(128i32.wrapping_sub(way)).wrapping_add(high.wrapping_mul(way));
    sum.wrapping_add(64) >> 7
}

const HALF: i32 = 2048;
/// Weights are in 1/65536: each input counts two fifths at first, so that three agree on a little more than each of them says.
const WEIGHT: i32 = 26_000;
/// 8. A product of it and a stretched probability stays within 30 bits.
const WEIGHT_MOST: i32 = 8 << 16;
const LEARNING: i32 = 14;
/// A meaning follows by a 128th each time.
const RATE: u32 = 7;

/// 4096 / (1 + e^-((i - 16) / 2)), rounded.
static SQUASH: [i32; 33] = [
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
        let contexts = [1, 2, 3].map(|n: u32| n.wrapping_mul(0x9e37_79b9));
        for round in 0..200_000u32 {
            let p = model.expect(&contexts, 1, KIND);
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
        let see = |model: &mut Model, context: &[u32], bit| {
            model.expect(context, 1, KIND);
            model.learn(bit);
        };
        let known = |model: &mut Model, context: &[u32]| model.expect(context, 1, KIND);
        (0..50).for_each(|_| see(&mut model, &one, true));
        assert!(known(&mut model, &one) > 60_000, "{}", known(&mut model, &one));
        assert!(known(&mut model, &other) < 34_000, "{}: it has not been seen", known(&mut model, &other));
        let mut rounds = 0;
        while known(&mut model, &other) >= 32_000 && rounds < 20 {
            see(&mut model, &other, false);
            rounds += 1;
        }
        assert!((3..20).contains(&rounds), "{rounds}: the first one is forgotten by and by");
    }

    #[test]
    fn reset_forgets_all() {
        let (mut used, mut new) = (Box::<Model>::default(), Box::<Model>::default());
        let contexts = |round: u32| [round.wrapping_mul(0x9e37_79b9)];
        let see = |model: &mut Model, round: u32, bit| {
            let expected = model.expect(&contexts(round), 1, KIND);
            model.learn(bit);
            expected
        };
        for round in 0..1000 {
            see(&mut used, round, round % 3 == 0);
        }
        used.reset();
        for round in 0..1000 {
            assert_eq!(see(&mut used, round, true), see(&mut new, round, true));
        }
    }
}
