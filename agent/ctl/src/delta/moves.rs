//! How an executable's addresses have moved, and what that makes of its bytes.
//!
//! ```text
//! matches ─► address before, address now ─► the longest first: each claims its addresses ─► map
//! matches, cut at sections ─► each transform is tried with the map ─► the one that leaves the fewest wrong bytes
//! ```
//! A map that costs more than it saves is left out.

use super::draft::differing;
use super::elf::{AARCH64, Elf, Holes, Load, X86_64};
use super::plan::Guess;
use super::scan::Match;
use mainstay_core::bundle::patch::{Map, Transform};
use mainstay_core::limits::PATCH_MAP_ENTRIES_MAX;
use std::collections::BTreeMap;

/// The old executable, and where its addresses are now.
pub struct Moves {
    elf: Elf,
    /// The lowest address, which is 0 in the map.
    lowest: u64,
    /// For [`Transform::apply`].
    pub map: Box<Map>,
}

/// Addresses that have moved together.
struct Part {
    from: u64,
    bytes: u64,
    shift: i64,
}

impl Moves {
    /// Of the old file and the new one. `None` where one of them is no executable, or lies so high that no map can hold it.
    pub fn of(contents: [&[u8]; 2], holes: &[Holes; 2], found: &[Match]) -> Option<Moves> {
        let ([old, new], [before, after]) = (contents, holes);
        let (elf, now) = (Elf::read(old, before)?, Elf::read(new, after)?);
        let lowest = elf.loads.iter().map(|load| load.address).min()?;
        let highest = elf.loads.iter().map(|load| load.address + load.memory.max(load.bytes)).max()? + BEYOND;
        u32::try_from(highest - lowest).ok()?;
        let mut parts: Vec<Part> = found.iter().flat_map(|found| parts(&elf, &now, found)).collect();
        parts.sort_by_key(|part| (std::cmp::Reverse(part.bytes), part.from));
        let mut entries = entries(&parts);
        let (last, last_now) =
            (elf.loads.iter().max_by_key(by_address)?, now.loads.iter().max_by_key(by_address)?);
        let behind = last.address + last.bytes; // what has no bytes in the file: .bss
        entries.insert(behind, (last_now.address + last_now.bytes).wrapping_sub(behind) as i64);
        Some(Moves { map: map(lowest, highest, &entries), elf, lowest })
    }
}

const fn by_address(load: &&Load) -> u64 {
    load.address
}

/// What a match says of addresses.
fn parts(old: &Elf, new: &Elf, found: &Match) -> Vec<Part> {
    let (mut out, mut done) = (Vec::new(), 0);
    while done < found.bytes as u64 {
        let left = found.bytes as u64 - done;
        let places = (old.address_of(found.old as u64 + done), new.address_of(found.new as u64 + done));
        let (Some((from, room)), Some((to, room_now))) = places else {
            done += SKIP.min(left);
            continue;
        };
        let bytes = left.min(room).min(room_now);
        out.push(Part { from, bytes, shift: to.wrapping_sub(from) as i64 });
        done += bytes;
    }
    out.retain(|part| part.bytes >= PART_BYTES_LEAST);
    out
}

/// Each part has the addresses that no longer one has; where neighbours have moved alike, they are one entry.
fn entries(parts: &[Part]) -> BTreeMap<u64, i64> {
    let mut taken: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
    for part in parts {
        let before = taken.range(..=part.from).next_back().map_or(0, |(_, (end, _))| *end);
        let begin = part.from.max(before);
        let after = taken.range(begin..).next().map_or(u64::MAX, |(begin, _)| *begin);
        let end = (part.from + part.bytes).min(after);
        if end > begin + KEPT_BYTES_LEAST && taken.len() < PATCH_MAP_ENTRIES_MAX - 2 {
            taken.insert(begin, (end, part.shift));
        }
    }
    let mut entries = BTreeMap::new();
    let mut last = None;
    for (begin, (_, shift)) in taken {
        if last.replace(shift) != Some(shift) {
            entries.insert(begin, shift);
        }
    }
    entries
}

fn map(lowest: u64, highest: u64, entries: &BTreeMap<u64, i64>) -> Box<Map> {
    let mut map = Box::new(Map::new());
    map.clear(lowest);
    for (from, shift) in entries {
        if let (Ok(from), Ok(shift)) = (u32::try_from(from - lowest), i32::try_from(*shift)) {
            map.push(from, shift);
        }
    }
    map.push((highest - lowest) as u32, 0);
    map
}

/// The matches, cut at the old file's sections, each with the transform that predicts it best.
pub fn choose(moves: &Moves, old: &[u8], new: &[u8], found: &[Match]) -> Vec<(Match, Option<Guess>)> {
    let mut out = Vec::new();
    let mut saved = 0;
    for found in found {
        let mut done = 0;
        while done < found.bytes {
            let offset = (found.old + done) as u64;
            let boundary = moves.elf.boundary_after(offset).saturating_sub(offset);
            let bytes = (found.bytes - done).min(usize::try_from(boundary).unwrap_or(usize::MAX)).max(1);
            let part = Match { new: found.new + done, old: found.old + done, bytes };
            let (guess, gain) = guess(moves, &part, old, new);
            saved += gain;
            out.push((part, guess));
            done += bytes;
        }
    }
    let entries = moves.map.entries().count() as u64;
    if saved < entries * ENTRY_COST {
        return found.iter().map(|found| (*found, None)).collect();
    }
    out
}

/// The best transform for a part, and how many bytes less are wrong with it.
fn guess(moves: &Moves, part: &Match, old: &[u8], new: &[u8]) -> (Option<Guess>, u64) {
    let (before, after) = (&old[part.old..][..part.bytes], &new[part.new..][..part.bytes]);
    let wrong = differing(before, after);
    let Some((address, _)) = moves.elf.address_of(part.old as u64) else { return (None, 0) };
    if wrong == 0 {
        return (None, 0);
    }
    let section = moves.elf.section_of(part.old as u64);
    let anchor = section.and_then(|(begins, _)| begins).unwrap_or(address);
    let (address, anchor) = ((address - moves.lowest) as u32, anchor.wrapping_sub(moves.lowest) as u32);
    let mut best = (None, wrong);
    let mut predicted = Vec::new();
    for transform in candidates(moves.elf.machine, section.is_some_and(|(_, code)| code)) {
        predicted.clear();
        predicted.extend_from_slice(before);
        transform.apply(&mut predicted, address, anchor, &moves.map);
        let left = differing(&predicted, after);
        if left < best.1 {
            best = (Some(Guess { transform: *transform, address, anchor, map: 0 }), left);
        }
    }
    (best.0, wrong - best.1)
}

fn candidates(machine: u16, code: bool) -> &'static [Transform] {
    use Transform::{Address, Anchored, Arm64, Calls, Distance, X86};
    match (machine, code) {
        (AARCH64, true) => &[Arm64, Address],
        (X86_64, true) => &[Calls, X86, Address],
        _ => &[Address, Distance, Anchored],
    }
}

/// Code points a little beyond an executable's end now and then.
const BEYOND: u64 = 1 << 16;
/// Shorter parts are too often chance, or save less than their entry costs.
const PART_BYTES_LEAST: u64 = 64;
const KEPT_BYTES_LEAST: u64 = 32;
/// What stands between loads is padding.
const SKIP: u64 = 16;
/// Bytes that an entry of a map costs, about, in each piece that needs it.
const ENTRY_COST: u64 = 2;
