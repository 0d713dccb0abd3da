//! What nothing is known of: raw images, new and renamed files, compressed blocks that stand at other offsets than before.
//!
//! ```text
//! base ─► a hash of every 32 bytes at 32-byte steps (more, if the base is large), in a table of bounded size
//! new  ─► a rolling hash at every offset ─► an anchor ─► extended as far as both are equal
//! anchors ─► what stands around them in both images ─► a job for suffixes, which find what is nearly equal too
//! ```
//! What no anchor is near is new, and costs no more time.

use super::Source;
use super::job::Job;
use super::parallel::in_parallel;
use super::ranges::{Joined, common, end, sorted};
use super::suffix::equal;
use crate::Result;
use crate::layout::{Extent, ReadAt};
use std::collections::BTreeSet;

/// The work for what nothing is known of.
pub fn jobs(base: &dyn ReadAt, new: &dyn ReadAt, unknown: &[Extent], threads: usize) -> Result<Vec<Job>> {
    let windows = windows(unknown);
    if windows.is_empty() || base.bytes() < HASHED_BYTES as u64 {
        return Ok(Vec::new());
    }
    let table = Table::of(base, threads)?;
    let jobs = in_parallel(threads, windows.len(), &|index| {
        let window = &windows[index];
        let mut anchors = Vec::new();
        for extent in window {
            anchors.extend(table.anchors(base, new, extent, &|_, _| true)?);
        }
        Ok(job(base.bytes(), window, anchors))
    })?;
    Ok(jobs.into_iter().flatten().collect())
}

/// Extents in groups of at most a window's bytes.
fn windows(unknown: &[Extent]) -> Vec<Vec<Extent>> {
    let (mut out, mut room) = (Vec::<Vec<Extent>>::new(), 0);
    for extent in unknown {
        let mut at = extent.at;
        while at < end(extent) {
            if room == 0 {
                out.push(Vec::new());
                room = WINDOW_BYTES;
            }
            let bytes = room.min(end(extent) - at);
            if let Some(window) = out.last_mut() {
                window.push(Extent { at, bytes });
            }
            (at, room) = (at + bytes, room - bytes);
        }
    }
    out
}

/// An exact match.
pub struct Anchor {
    /// Where in the new image.
    pub new: u64,
    /// Where in the base.
    pub base: u64,
    /// How long.
    pub bytes: u64,
}

/// What stands around the anchors, the longest of them first until the window of the base is full.
fn job(base_bytes: u64, window: &[Extent], mut anchors: Vec<Anchor>) -> Option<Job> {
    anchors.sort_by_key(|anchor| (std::cmp::Reverse(anchor.bytes), anchor.new));
    let around = |at: u64, bytes: u64, margin: u64| {
        let from = at.saturating_sub(margin);
        Extent { at: from, bytes: at + bytes + margin - from }
    };
    let (mut old, mut near, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
    for anchor in &anchors {
        let there = around(anchor.base, anchor.bytes, BASE_MARGIN_BYTES);
        taken.extend(there.at / BASE_MARGIN_BYTES..end(&there).div_ceil(BASE_MARGIN_BYTES));
        if taken.len() as u64 * BASE_MARGIN_BYTES > BASE_BYTES_MAX {
            break;
        }
        old.push(Extent { bytes: there.bytes.min(base_bytes - there.at), ..there });
        near.push(around(anchor.new, anchor.bytes, NEW_MARGIN_BYTES));
    }
    let new = common(window, &sorted(near));
    let (old, new) = (Joined::new(sorted(old)), Joined::new(new));
    (!new.extents().is_empty()).then_some(Job { source: Source::Content, new, old, only: None })
}

/// Where the base has which 32 bytes.
pub struct Table {
    /// Of a hash its upper half, and the index of the block plus one; 0 where there is none.
    slots: Vec<u64>,
    step: u64,
}

impl Table {
    /// Of an image of at least [`HASHED_BYTES`].
    pub fn of(base: &dyn ReadAt, threads: usize) -> Result<Table> {
        let step = (base.bytes() / ENTRIES_MAX).next_multiple_of(16).max(HASHED_BYTES as u64);
        let count = base.bytes().saturating_sub(HASHED_BYTES as u64) / step + 1;
        let batches = count.div_ceil(BATCH) as usize;
        let mut table = Table { slots: vec![0; (count * 2).next_power_of_two() as usize], step };
        for first in (0..batches).step_by(threads.max(1) * 4) {
            let hashed = in_parallel(threads, (batches - first).min(threads.max(1) * 4), &|index| {
                table.hashes(base, (first + index) as u64 * BATCH, count)
            })?;
            let begin = first as u64 * BATCH;
            for (index, hash) in (begin..).zip(hashed.into_iter().flatten()) {
                if let Some(hash) = hash {
                    table.insert(hash, index);
                }
            }
        }
        Ok(table)
    }

    /// The hashes of blocks from `first` on; none for blocks of one byte, which stand everywhere.
    fn hashes(&self, base: &dyn ReadAt, first: u64, count: u64) -> Result<Vec<Option<u64>>> {
        let blocks = BATCH.min(count - first);
        let mut bytes = vec![0; ((blocks - 1) * self.step) as usize + HASHED_BYTES];
        base.read_at(first * self.step, &mut bytes)?;
        let block = |index: u64| &bytes[(index * self.step) as usize..][..HASHED_BYTES];
        let several = |block: &&[u8]| block.iter().any(|byte| *byte != block[0]);
        Ok((0..blocks).map(|index| Some(block(index)).filter(several).map(hash)).collect())
    }

    /// The first block of a hash stays.
    fn insert(&mut self, hash: u64, index: u64) {
        let (mask, tag) = (self.slots.len() - 1, tag(hash));
        for probe in 0..PROBES {
            let slot = &mut self.slots[(place(hash) + probe) & mask];
            match *slot {
                0 => {
                    *slot = tag | (index + 1);
                    return;
                }
                other if other & TAG == tag => return,
                _ => {}
            }
        }
    }

    fn find(&self, hash: u64) -> Option<u64> {
        let (mask, tag) = (self.slots.len() - 1, tag(hash));
        for probe in 0..PROBES {
            match self.slots[(place(hash) + probe) & mask] {
                0 => return None,
                slot if slot & TAG == tag => return Some(((slot & !TAG) - 1) * self.step),
                _ => {}
            }
        }
        None
    }

    /// Exact matches of a part of the new image, in order; only where `allowed`, which is asked of the new place and the old one.
    pub fn anchors(
        &self,
        base: &dyn ReadAt,
        new: &dyn ReadAt,
        extent: &Extent,
        allowed: &dyn Fn(u64, u64) -> bool,
    ) -> Result<Vec<Anchor>> {
        let mut bytes = vec![0; extent.bytes as usize];
        new.read_at(extent.at, &mut bytes)?;
        let (mut out, mut at, mut done) = (Vec::new(), 0, 0);
        let mut rolling = None;
        while at + HASHED_BYTES <= bytes.len() {
            let hash = match rolling {
                None => hash_state(&bytes[at..at + HASHED_BYTES]),
                Some(state) => roll(state, bytes[at - 1], bytes[at + HASHED_BYTES - 1]),
            };
            rolling = Some(hash);
            let there = self.find(finish(hash)).filter(|there| allowed(extent.at + at as u64, *there));
            let matched = match there {
                Some(there) => extend(base, &bytes, done, at, there)?,
                None => None,
            };
            match matched {
                Some((from, there, length)) => {
                    out.push(Anchor { new: extent.at + from as u64, base: there, bytes: length as u64 });
                    (at, done, rolling) = (from + length, from + length, None);
                }
                None => at += 1,
            }
        }
        Ok(out)
    }
}

/// A match both ways as far as it goes, if the hash did not lie: where it begins in the new bytes, where in the base, how long.
fn extend(
    base: &dyn ReadAt,
    bytes: &[u8],
    done: usize,
    at: usize,
    there: u64,
) -> Result<Option<(usize, u64, usize)>> {
    let mut length = 0;
    let mut buffer = vec![0; EXTEND_BYTES];
    loop {
        let place = there + length as u64;
        let room = (bytes.len() - at - length).min(EXTEND_BYTES).min((base.bytes() - place) as usize);
        base.read_at(place, &mut buffer[..room])?;
        let same = equal(&buffer[..room], &bytes[at + length..]);
        length += same;
        if same < room || room == 0 {
            break;
        }
    }
    if length < HASHED_BYTES {
        return Ok(None);
    }
    let room = (at - done).min(EXTEND_BYTES).min(there as usize);
    base.read_at(there - room as u64, &mut buffer[..room])?;
    let back = buffer[..room].iter().rev().zip(bytes[..at].iter().rev()).take_while(|(a, b)| a == b).count();
    Ok(Some((at - back, there - back as u64, length + back)))
}

/// A polynomial of 32 bytes in a number of 64 bits: what comes in is added, what goes out is taken away.
fn hash_state(block: &[u8]) -> u64 {
    block.iter().fold(0, |state: u64, byte| state.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1))
}

fn roll(state: u64, out: u8, comes: u8) -> u64 {
    let left = state.wrapping_sub((u64::from(out) + 1).wrapping_mul(FACTOR_OUT));
    left.wrapping_mul(FACTOR).wrapping_add(u64::from(comes) + 1)
}

const fn finish(state: u64) -> u64 {
    let mixed = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

fn hash(block: &[u8]) -> u64 {
    finish(hash_state(block))
}

const fn tag(hash: u64) -> u64 {
    hash & TAG
}

const fn place(hash: u64) -> usize {
    (hash & !TAG) as usize
}

const TAG: u64 = 0xffff_ffff_0000_0000;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// The factor of a byte that has been in for 31 steps.
const FACTOR_OUT: u64 = {
    let (mut power, mut n) = (1u64, 0);
    while n < HASHED_BYTES - 1 {
        power = power.wrapping_mul(FACTOR);
        n += 1;
    }
    power
};
/// What an anchor is at least.
pub const HASHED_BYTES: usize = 32;
/// Entries of the table: twice as many slots of eight bytes, 64 MiB at most.
const ENTRIES_MAX: u64 = 1 << 22;
const PROBES: usize = 16;
/// Blocks that are hashed at once.
const BATCH: u64 = 1 << 14;
/// New content that is looked at together, and how much of the base at most.
const WINDOW_BYTES: u64 = 4 << 20;
const BASE_BYTES_MAX: u64 = 12 << 20;
/// What stands around an anchor is looked at too.
const BASE_MARGIN_BYTES: u64 = 16 << 10;
const NEW_MARGIN_BYTES: u64 = 64 << 10;
const EXTEND_BYTES: usize = 16 << 10;
