//! By how much addresses have moved, as all that points to them says: the map that leaves the fewest pointers wrong.
//!
//! ```text
//! before   call at a to t          after   call at a' to t'          vote: t has moved by t' - t
//!
//! votes by address    16 16 16 48 16 16 | 80 80 80 …          a wrong vote costs its weight, another shift an entry
//! map                 16                | 80
//! ```
//! Where code lies says less than where it is called: stubs that all look alike (`.plt`) are matched in place, though each now
//! belongs to another function. What the matches themselves say counts as well, but little.

use mainstay_core::bundle::patch::Transform;
use std::collections::HashMap;

/// What has been said so far.
pub struct Votes {
    /// The highest address, old and new: what lies beyond is no address.
    highest: [i64; 2],
    list: Vec<Vote>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Vote {
    address: u32,
    shift: i32,
    weight: u32,
}

/// A part of the old file and the part of the new one that it is like, of the same length.
pub struct Pair<'a> {
    /// What stands there.
    pub bytes: [&'a [u8]; 2],
    /// Its first byte's address.
    pub address: [i64; 2],
    /// Its section's address.
    pub anchor: [i64; 2],
}

impl Votes {
    /// Addresses count from the lowest of the old file's.
    pub const fn new(highest: [i64; 2]) -> Self {
        Votes { highest, list: Vec::new() }
    }

    fn vote(&mut self, [old, new]: [i64; 2], weight: u32) {
        let inside = (0..self.highest[0]).contains(&old) && (0..self.highest[1]).contains(&new);
        if let (true, Ok(address), Ok(shift)) = (inside, u32::try_from(old), i32::try_from(new - old)) {
            self.list.push(Vote { address, shift, weight });
        }
    }

    /// Takes what a pair says, whose bytes are predicted by `transform`. `bias`: see [`Map`](mainstay_core::bundle::patch::Map).
    pub fn hear(&mut self, pair: &Pair<'_>, transform: Transform, bias: i64) {
        for at in (0..pair.bytes[0].len()).step_by(MATCHED_STEP) {
            self.vote(pair.address.map(|address| address + at as i64), MATCHED);
        }
        match transform {
            Transform::None => {}
            Transform::Calls => self.x86(pair, false),
            Transform::X86 => self.x86(pair, true),
            Transform::Address => self.words::<8>(pair, |bytes, _, _| {
                let value = i64::from_le_bytes(*bytes);
                (value > SMALL).then_some(value.wrapping_sub(bias))
            }),
            Transform::Distance => self.words::<4>(pair, |bytes, here, _| Some(here + near(bytes)?)),
            Transform::Anchored => {
                self.words::<4>(pair, |bytes, _, anchor| Some(anchor + i64::from(i32::from_le_bytes(*bytes))))
            }
            Transform::Frames => self.frames(pair),
            Transform::Arm64 => self.words::<4>(pair, |bytes, here, _| Some(here + branch(bytes)?)),
        }
    }

    /// What words at multiples of their length point to: from their bytes, their address and the section's.
    fn words<const N: usize>(&mut self, pair: &Pair<'_>, points: impl Fn(&[u8; N], i64, i64) -> Option<i64>) {
        let first = pair.address[0].wrapping_neg().rem_euclid(N as i64) as usize;
        for at in (first..pair.bytes[0].len()).step_by(N) {
            let side = |side: usize| {
                points(
                    pair.bytes[side].get(at..)?.first_chunk()?,
                    pair.address[side] + at as i64,
                    pair.anchor[side],
                )
            };
            if let (Some(old), Some(new)) = (side(0), side(1)) {
                self.vote([old, new], POINTED);
            }
        }
    }

    fn x86(&mut self, pair: &Pair<'_>, relative: bool) {
        let [old, new] = pair.bytes;
        let mut at = 0;
        while at + 6 <= old.len() {
            let opcode = match old[at..] {
                [0xe8 | 0xe9, ..] => 1,
                [0x0f, second, ..] if second & 0xf0 == 0x80 => 2,
                [modrm, ..] if relative && modrm & 0xc7 == 0x05 && at > 0 => 1,
                _ => 0,
            };
            let field = at + opcode;
            let targets = [0, 1].map(|side: usize| {
                let distance = pair.bytes[side]
                    .get(field..)
                    .and_then(|rest| rest.first_chunk())
                    .map(|four| i32::from_le_bytes(*four));
                distance.map_or(-1, |distance| pair.address[side] + field as i64 + 4 + i64::from(distance))
            });
            let inside =
                targets.iter().zip(self.highest).all(|(target, highest)| (0..highest).contains(target));
            if opcode > 0 && old[at..field] == new[at..field] && inside {
                self.vote(targets, POINTED);
                at = field + 4;
            } else {
                at += 1;
            }
        }
    }

    fn frames(&mut self, pair: &Pair<'_>) {
        let word = |side: usize, at: usize| {
            pair.bytes[side]
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |four| i64::from(i32::from_le_bytes(*four)))
        };
        let mut at = pair.address[0].wrapping_neg().rem_euclid(4) as usize;
        while at + 12 <= pair.bytes[0].len() {
            let (bytes, headers) = (word(0, at), [word(0, at + 4), word(1, at + 4)]);
            if (12..0x400).contains(&bytes)
                && bytes % 4 == 0
                && headers.iter().all(|header| header % 4 == 0 && *header > 0)
            {
                self.vote(
                    [0, 1].map(|side: usize| pair.address[side] + at as i64 + 8 + word(side, at + 8)),
                    POINTED,
                );
                at += 4 + bytes as usize;
            } else {
                at += 4;
            }
        }
    }

    /// The map: starts and shifts in order, at most `most` of them. For each address in order, the cheapest way to have each shift
    /// there is known: to go on with it, or to change to it from the cheapest of all before.
    pub fn count(mut self, most: usize) -> Vec<(u32, i32)> {
        self.list.sort_unstable();
        let mut entry = ENTRY;
        loop {
            let entries = self.cheapest(entry);
            if entries.len() <= most {
                return entries;
            }
            entry *= 2;
        }
    }

    fn cheapest(&self, entry: i64) -> Vec<(u32, i32)> {
        // Costs less the weight of all votes before: each vote makes its own shift cheaper.
        let mut ways: HashMap<i32, (i64, Option<usize>)> = HashMap::new();
        let (mut nodes, mut best): (Vec<(u32, i32, Option<usize>)>, _) = (Vec::new(), (0, None));
        for votes in self.list.chunk_by(|a, b| a.address == b.address) {
            let before: (i64, Option<usize>) = best;
            for same in votes.chunk_by(|a, b| a.shift == b.shift) {
                let Vote { address, shift, .. } = same[0];
                let weight: i64 = same.iter().map(|vote| i64::from(vote.weight)).sum();
                let (cost, node) = match ways.get(&shift) {
                    Some(way) if way.0 <= before.0 + entry => *way,
                    _ => {
                        nodes.push((address, shift, before.1));
                        (before.0 + entry, Some(nodes.len() - 1))
                    }
                };
                let way = (cost - weight, node);
                ways.insert(shift, way);
                if way.0 < best.0 {
                    best = way;
                }
            }
        }
        let mut entries: Vec<(u32, i32)> = Vec::new();
        let mut at = best.1;
        while let Some(node) = at {
            let (address, shift, before) = nodes[node];
            entries.push((address, shift));
            at = before;
        }
        entries.reverse();
        if let Some(first) = entries.first_mut() {
            first.0 = 0;
        }
        entries
    }
}

/// Short ones are lengths rather than distances.
fn near(bytes: &[u8; 4]) -> Option<i64> {
    let distance = i64::from(i32::from_le_bytes(*bytes));
    (distance.abs() > NEAR).then_some(distance)
}

/// The distance of B and BL.
fn branch(bytes: &[u8; 4]) -> Option<i64> {
    let word = u32::from_le_bytes(*bytes);
    (word & 0x7c00_0000 == 0x1400_0000).then_some(i64::from(((word << 6) as i32) >> 4))
}

/// A pointer that is wrong costs about two bytes, in 1/5 of a byte.
const POINTED: u32 = 10;
/// Matched bytes say little of their own address, each so many of them.
const MATCHED: u32 = 2;
const MATCHED_STEP: usize = 64;
/// An entry costs about four bytes and what learning it takes, in each piece that needs it.
const ENTRY: i64 = 45;
const SMALL: i64 = 0x100;
const NEAR: i64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(votes: &[(u32, i32, u32)], most: usize) -> Vec<(u32, i32)> {
        let list = votes.iter().map(|(address, shift, weight)| Vote {
            address: *address,
            shift: *shift,
            weight: *weight,
        });
        Votes { highest: [1 << 20; 2], list: list.collect() }.count(most)
    }

    #[test]
    fn map_follows_what_most_say_and_no_single_vote() {
        let (low, high) = ((0..16).map(|n| (n * 16, 16, 10)), (16..32).map(|n| (n * 16, 80, 10)));
        let votes: Vec<_> = low.chain(high).collect();
        assert_eq!(counted(&votes, 100), [(0, 16), (256, 80)]);
        let alone: Vec<_> = votes.iter().copied().chain([(120, 99, 10)]).collect();
        assert_eq!(counted(&alone, 100), [(0, 16), (256, 80)], "an entry costs more than one wrong pointer");
        let many: Vec<_> = votes.iter().copied().chain([(120, 99, 500)]).collect();
        assert_eq!(counted(&many, 100), [(0, 16), (120, 99), (128, 16), (256, 80)]);
        assert!(
            (1..4).contains(&counted(&many, 3).len()),
            "where there is no room, the smaller ones go without"
        );
        assert_eq!(counted(&[], 3), []);
    }

    /// A call from 0x1000 (0x1010 now) to 0x4000 (0x4040), an address of it, and its distance from an anchor at 0x2000 (0x2020).
    #[test]
    fn what_points_is_heard() {
        let heard = |transform, bytes: [&[u8]; 2], anchor| {
            let mut votes = Votes::new([0x10_0000; 2]);
            votes.hear(&Pair { bytes, address: [0x1000, 0x1010], anchor }, transform, 0x40_0000);
            votes.list.retain(|vote| vote.weight == POINTED);
            votes.list.iter().map(|vote| (vote.address, vote.shift)).collect::<Vec<_>>()
        };
        let call = |distance: i32| [&[0x90, 0xe8][..], &distance.to_le_bytes(), &[0x90; 4]].concat();
        let expected = [(0x4000, 0x40)];
        let calls = [call(0x4000 - 0x1006), call(0x4040 - 0x1016)];
        assert_eq!(heard(Transform::X86, [&calls[0], &calls[1]], [0; 2]), expected);
        let jump = [calls[1][..1].to_vec(), vec![0xe9], calls[1][2..].to_vec()].concat();
        assert_eq!(heard(Transform::X86, [&calls[0], &jump], [0; 2]), [], "another instruction");
        let words = [0x40_4000u64, 0x40_4040].map(u64::to_le_bytes);
        assert_eq!(heard(Transform::Address, [&words[0], &words[1]], [0; 2]), expected);
        let words = [0x3000i32, 0x3030].map(i32::to_le_bytes);
        assert_eq!(heard(Transform::Distance, [&words[0], &words[1]], [0; 2]), expected);
        let words = [0x2000i32, 0x2020].map(i32::to_le_bytes);
        assert_eq!(heard(Transform::Anchored, [&words[0], &words[1]], [0x2000, 0x2020]), expected);
        let words = [0x3000u32, 0x3030].map(|distance| (0x9400_0000 | distance >> 2).to_le_bytes());
        assert_eq!(heard(Transform::Arm64, [&words[0], &words[1]], [0; 2]), expected);
        let entries = [0x4000 - 0x1008, 0x4040 - 0x1018]
            .map(|begin: i32| [16, 8, begin, 64, 0].map(i32::to_le_bytes).concat());
        assert_eq!(heard(Transform::Frames, [&entries[0], &entries[1]], [0; 2]), expected);
    }
}
