//! How an executable's addresses have moved, and what that makes of its bytes.
//!
//! ```text
//! matches ─► address before, address now ─► the longest first: each claims its addresses ─► a first map
//! matches, cut at sections ─► each transform is tried with the map ─► the one that leaves the fewest wrong bytes
//!
//! a map ─► the old file as it probably looks now ─► matches of that ─► what points to what (`votes`) ─► a better map
//! ```
//! A table that has grown by one entry is matched anywhere as long as its bytes are the old ones; once they are predicted, it is matched
//! where it belongs. So the old file is predicted, and matched again, twice.
//!
//! A map that costs more than it saves is left out.

use super::draft::differing;
use super::elf::{AARCH64, Elf, Holes, Load, X86_64};
use super::plan::Guess;
use super::scan::{Match, matches};
use super::votes::{Pair, Votes};
use mainstay_core::bundle::patch::{Map, Transform};
use mainstay_core::limits::PATCH_MAP_ENTRIES_MAX;
use std::collections::BTreeMap;

/// The old executable, and where its addresses are now.
pub struct Moves {
    elf: Elf,
    now: Elf,
    /// The lowest address, which is 0 in the map, and the highest.
    lowest: u64,
    highest: u64,
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
        let map = map(lowest, highest, entries);
        Some(Moves { map, elf, now, lowest, highest })
    }

    /// Better moves, and the matches that go with them.
    pub fn refined(mut self, [old, new]: [&[u8]; 2], mut found: Vec<Match>) -> (Moves, Vec<Match>) {
        for _ in 0..ROUNDS {
            let kinds = self.kinds(old, new, &found);
            found = matches(&self.predicted(old, &kinds), new);
            self.map = self.voted(old, new, &found, &kinds);
        }
        (self, found)
    }

    /// How each of the old file's sections is predicted best, by the address where it begins.
    fn kinds(&self, old: &[u8], new: &[u8], found: &[Match]) -> BTreeMap<u64, Transform> {
        let mut wrong: BTreeMap<u64, Vec<(u64, Transform)>> = BTreeMap::new();
        for part in found.iter().flat_map(|found| cut(&self.elf, found)) {
            let Some(place) = self.place(part.old as u64) else { continue };
            let (before, after) = (&old[part.old..][..part.bytes], &new[part.new..][..part.bytes]);
            let tried = std::iter::once(&Transform::None).chain(place.candidates);
            let row = wrong.entry(place.section).or_insert_with(|| tried.map(|kind| (0, *kind)).collect());
            let mut predicted = Vec::new();
            for (wrong, transform) in row {
                predicted.clear();
                predicted.extend_from_slice(before);
                transform.apply(&mut predicted, place.address, place.anchor, &self.map);
                *wrong += differing(&predicted, after);
            }
        }
        let least = |row: Vec<(u64, Transform)>| row.into_iter().min_by_key(|(wrong, _)| *wrong);
        wrong.into_iter().filter_map(|(section, row)| Some((section, least(row)?.1))).collect()
    }

    /// The old file as it probably looks now.
    fn predicted(&self, old: &[u8], kinds: &BTreeMap<u64, Transform>) -> Vec<u8> {
        let mut out = old.to_vec();
        let whole = Match { new: 0, old: 0, bytes: old.len() };
        let starts: Vec<u32> = self.map.entries().map(|(start, _)| start).collect();
        for part in cut(&self.elf, &whole) {
            let Some(place) = self.place(part.old as u64) else { continue };
            let Some(kind) = kinds.get(&place.section) else { continue };
            // What has moved by another distance is predicted by itself.
            let (mut done, mut address) = (0, place.address);
            while done < part.bytes {
                let next = starts.get(starts.partition_point(|start| *start <= address));
                let bytes = next.map_or(part.bytes, |next| (next - address) as usize).min(part.bytes - done);
                kind.apply(&mut out[part.old + done..][..bytes], address, place.anchor, &self.map);
                (done, address) = (done + bytes, address.wrapping_add(bytes as u32));
            }
        }
        out
    }

    fn voted(&self, old: &[u8], new: &[u8], found: &[Match], kinds: &BTreeMap<u64, Transform>) -> Box<Map> {
        let from_lowest = |address: u64| address.wrapping_sub(self.lowest) as i64;
        let highest =
            |elf: &Elf| elf.loads.iter().map(|load| load.address + load.memory.max(load.bytes)).max();
        let mut votes = Votes::new([&self.elf, &self.now].map(|elf| from_lowest(highest(elf).unwrap_or(0))));
        for part in found.iter().flat_map(|found| cut(&self.elf, found)) {
            let places = (self.place(part.old as u64), self.now.address_of(part.new as u64));
            let (Some(place), Some((now, room))) = (places.0, places.1) else { continue };
            let bytes = part.bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
            let section_now =
                self.now.section_of(part.new as u64).and_then(|(begins, _)| begins).unwrap_or(now);
            let pair = Pair {
                bytes: [&old[part.old..][..bytes], &new[part.new..][..bytes]],
                address: [place.address.into(), from_lowest(now)],
                anchor: [place.anchor.into(), from_lowest(section_now)],
            };
            let kind = kinds.get(&place.section).copied().unwrap_or(Transform::None);
            votes.hear(&pair, kind, self.lowest as i64);
        }
        let entries = votes.count(PATCH_MAP_ENTRIES_MAX - 1);
        map(
            self.lowest,
            self.highest,
            entries.iter().map(|(from, shift)| (u64::from(*from) + self.lowest, i64::from(*shift))),
        )
    }

    /// Where a byte of the old content stands in memory; `None`, if nowhere.
    fn place(&self, content: u64) -> Option<Place> {
        let (address, _) = self.elf.address_of(content)?;
        let section = self.elf.section_of(content);
        let begins = section.and_then(|(begins, _)| begins).unwrap_or(address);
        Some(Place {
            section: begins,
            address: (address - self.lowest) as u32,
            anchor: begins.wrapping_sub(self.lowest) as u32,
            candidates: candidates(self.elf.machine, section.is_some_and(|(_, code)| code)),
        })
    }
}

/// Of a byte of the old content.
struct Place {
    /// The address where its section begins.
    section: u64,
    /// Its own, and its section's, from the lowest.
    address: u32,
    anchor: u32,
    /// What may predict it.
    candidates: &'static [Transform],
}

/// A match, cut at the old file's sections.
fn cut(elf: &Elf, found: &Match) -> Vec<Match> {
    let (mut out, mut done) = (Vec::new(), 0);
    while done < found.bytes {
        let offset = (found.old + done) as u64;
        let boundary = elf.boundary_after(offset).saturating_sub(offset);
        let bytes = (found.bytes - done).min(usize::try_from(boundary).unwrap_or(usize::MAX)).max(1);
        out.push(Match { new: found.new + done, old: found.old + done, bytes });
        done += bytes;
    }
    out
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

fn map(lowest: u64, highest: u64, entries: impl IntoIterator<Item = (u64, i64)>) -> Box<Map> {
    let mut map = Box::new(Map::new());
    map.clear(lowest);
    for (from, shift) in entries {
        if let (Ok(from), Ok(shift)) = (u32::try_from(from - lowest), i32::try_from(shift)) {
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
    for part in found.iter().flat_map(|found| cut(&moves.elf, found)) {
        let (guess, gain) = guess(moves, &part, old, new);
        saved += gain;
        out.push((part, guess));
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
    let Some(Place { address, anchor, candidates, .. }) = moves.place(part.old as u64) else {
        return (None, 0);
    };
    if wrong == 0 {
        return (None, 0);
    }
    let mut best = (None, wrong);
    let mut predicted = Vec::new();
    for transform in candidates {
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
    use Transform::{Address, Anchored, Arm64, Calls, Distance, Frames, X86};
    match (machine, code) {
        (AARCH64, true) => &[Arm64, Address],
        (X86_64, true) => &[Calls, X86, Address],
        _ => &[Address, Distance, Anchored, Frames],
    }
}

/// The second makes patches of a security update a third of a percent smaller; a third one would not.
const ROUNDS: usize = 2;
/// Code points a little beyond an executable's end now and then.
const BEYOND: u64 = 1 << 16;
/// Shorter parts are too often chance, or save less than their entry costs.
const PART_BYTES_LEAST: u64 = 64;
const KEPT_BYTES_LEAST: u64 = 32;
/// What stands between loads is padding.
const SKIP: u64 = 16;
/// Bytes that an entry of a map costs, about, in each piece that needs it.
const ENTRY_COST: u64 = 2;
