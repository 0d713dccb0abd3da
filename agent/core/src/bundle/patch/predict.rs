//! What changed code looks like when all that it points to has moved: the transform of the class of Courgette and Zucchini
//! (chromium.org, *Software Updates: Courgette*), but applied to the prediction and not to the content. So it need not be
//! right: what it gets wrong is put right byte by byte, and the segment's digest proves the whole.
//!
//! ```text
//! base      call +0x1234      at address a, to a + 0x1234
//! map       a moved by 16, its target by 48
//! predicted call +0x1254
//! ```
//! Addresses are those that an executable has in memory, less its lowest one.

use crate::limits::PATCH_MAP_ENTRIES_MAX;
use zerocopy::FromZeros;

/// By how much each address of an executable has moved. 32 KiB.
#[cfg_attr(any(test, feature = "author"), derive(Clone))]
#[derive(FromZeros)]
pub struct Map {
    /// The lowest address, where values in memory hold whole addresses.
    pub bias: u64,
    entries: usize,
    /// Ascending; the last one ends the executable.
    starts: [u32; PATCH_MAP_ENTRIES_MAX],
    shifts: [i32; PATCH_MAP_ENTRIES_MAX],
}

impl Map {
    /// Knows no address.
    pub const fn new() -> Self {
        Map { bias: 0, entries: 0, starts: [0; PATCH_MAP_ENTRIES_MAX], shifts: [0; PATCH_MAP_ENTRIES_MAX] }
    }

    /// Forgets all.
    pub fn clear(&mut self, bias: u64) {
        (self.bias, self.entries) = (bias, 0);
    }

    /// From `start` on, addresses have moved by `shift`. `false`: there is no room, or it is not above the one before.
    pub fn push(&mut self, start: u32, shift: i32) -> bool {
        let before = self.entries.checked_sub(1).and_then(|last| self.starts.get(last));
        if before.is_some_and(|before| *before >= start) {
            return false;
        }
        match (self.starts.get_mut(self.entries), self.shifts.get_mut(self.entries)) {
            (Some(place), Some(to)) => {
                (*place, *to) = (start, shift);
                self.entries += 1;
                true
            }
            _ => false,
        }
    }

    /// By how much this address has moved; `None` outside of the executable.
    pub fn shift(&self, address: u32) -> Option<i32> {
        let (mut low, mut after) = (0, self.entries);
        while low < after {
            let middle = low.midpoint(after);
            if self.starts.get(middle).is_some_and(|start| *start <= address) {
                low = middle.wrapping_add(1);
            } else {
                after = middle;
            }
        }
        match after {
            0 => None,
            after if after == self.entries => None,
            after => self.shifts.get(after - 1).copied(),
        }
    }

    fn target(&self, from: u32, distance: i32) -> Option<i32> {
        self.shift(from.wrapping_add_signed(distance))
    }
}

impl Default for Map {
    fn default() -> Self {
        Map::new()
    }
}

/// What an operation's bytes are. Append-only: the number stands in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
#[repr(u8)]
pub enum Transform {
    /// Anything: predicted as they are.
    None = 0,
    /// x86 code: the distances of calls and jumps.
    Calls = 1,
    /// x86-64 code: these, and what is addressed relative to the instruction.
    X86 = 2,
    /// Addresses of 8 bytes, at multiples of 8.
    Address = 3,
    /// Distances of 4 bytes from themselves, at multiples of 4.
    Distance = 4,
    /// Distances of 4 bytes from an anchor, at multiples of 4.
    Anchored = 5,
    /// AArch64 code: branches, ADR and ADRP with what completes it.
    Arm64 = 6,
    /// Unwind tables (`.eh_frame`): where each function's entry says that the function and the entry's own header are, at multiples of 4.
    Frames = 7,
}

impl Transform {
    /// All of them, each at its number.
    pub const ALL: [Transform; 8] = [
        Transform::None,
        Transform::Calls,
        Transform::X86,
        Transform::Address,
        Transform::Distance,
        Transform::Anchored,
        Transform::Arm64,
        Transform::Frames,
    ];

    /// That of a number.
    pub fn of(number: u32) -> Option<Transform> {
        Transform::ALL.get(number as usize).copied()
    }

    /// Makes of the base's bytes what they probably are now. `address`: of the first of them in the base; `anchor`: for
    /// [`Transform::Anchored`].
    pub fn apply(self, bytes: &mut [u8], address: u32, anchor: u32, map: &Map) {
        let Some(moved) = map.shift(address) else { return };
        match self {
            Transform::None => {}
            Transform::Calls => x86(bytes, address, moved, map, false),
            Transform::X86 => x86(bytes, address, moved, map, true),
            Transform::Address => addresses(bytes, address, map),
            Transform::Distance => distances(bytes, address, moved, map),
            Transform::Anchored => anchored(bytes, address, anchor, map),
            Transform::Frames => frames(bytes, address, moved, map),
            Transform::Arm64 => super::arm64::code(bytes, address, moved, map),
        }
    }
}

/// E8 and E9, 0F 80 to 0F 8F, and bytes that may be a ModRM of mode 0 and register 5: what follows them may be a distance
/// (Intel SDM, volume 2, sections 2.1 and 2.2.1.6).
fn x86(bytes: &mut [u8], address: u32, moved: i32, map: &Map, relative: bool) {
    let mut at = 0;
    while let Some(found) = bytes.get(at..(at + 6).min(bytes.len())) {
        let field = match *found {
            [0xe8 | 0xe9, _, _, _, _, ..] => at + 1,
            [0x0f, second, _, _, _, _] if second & 0xf0 == 0x80 => at + 2,
            [modrm, _, _, _, _, ..] if relative && modrm & 0xc7 == 0x05 && at > 0 => at + 1,
            [_, _, _, _, _, ..] => {
                at += 1;
                continue;
            }
            _ => return,
        };
        let here = address.wrapping_add((field as u32).wrapping_add(4));
        let Some(place) = bytes.get_mut(field..field + 4) else { return };
        let distance = read32(place);
        match map.target(here, distance) {
            Some(target) if distance.unsigned_abs() < 1 << 28 => {
                place.copy_from_slice(&distance.wrapping_add(target).wrapping_sub(moved).to_le_bytes());
                at = field + 4;
            }
            _ => at += 1,
        }
    }
}

fn addresses(bytes: &mut [u8], address: u32, map: &Map) {
    let first = (address.wrapping_neg() % 8) as usize;
    let Some(aligned) = bytes.get_mut(first..) else { return };
    for place in aligned.as_chunks_mut::<8>().0 {
        let value = u64::from_le_bytes(*place);
        let target = value.checked_sub(map.bias).and_then(|from| u32::try_from(from).ok());
        if let Some(shift) = target.filter(|target| *target >= SMALL).and_then(|target| map.shift(target)) {
            *place = value.wrapping_add_signed(shift.into()).to_le_bytes();
        }
    }
}

fn distances(bytes: &mut [u8], address: u32, moved: i32, map: &Map) {
    let first = (address.wrapping_neg() % 4) as usize;
    let Some(aligned) = bytes.get_mut(first..) else { return };
    let mut here = address.wrapping_add(first as u32);
    for place in aligned.as_chunks_mut::<4>().0 {
        let value = i32::from_le_bytes(*place);
        if let Some(target) = map.target(here, value)
            && value.unsigned_abs() > NEAR
        {
            *place = value.wrapping_add(target).wrapping_sub(moved).to_le_bytes();
        }
        here = here.wrapping_add(4);
    }
}

fn anchored(bytes: &mut [u8], address: u32, anchor: u32, map: &Map) {
    let (first, moved) = ((address.wrapping_neg() % 4) as usize, map.shift(anchor).unwrap_or(0));
    let Some(aligned) = bytes.get_mut(first..) else { return };
    for place in aligned.as_chunks_mut::<4>().0 {
        let value = i32::from_le_bytes(*place);
        if let Some(target) = map.target(anchor, value) {
            *place = value.wrapping_add(target).wrapping_sub(moved).to_le_bytes();
        }
    }
}

/// Entries of the Linux Standard Base (Core, *Exception Frames*), each of which says its length; then, where it is not a header, how far
/// before that place its header stands, and where its function begins, from there. What looks like one is taken for one.
fn frames(bytes: &mut [u8], address: u32, moved: i32, map: &Map) {
    let first = (address.wrapping_neg() % 4) as usize;
    let Some(aligned) = bytes.get_mut(first..) else { return };
    let (words, mut at) = (aligned.as_chunks_mut::<4>().0, 0);
    while let Some([length, header, begins]) =
        words.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<3>())
    {
        let here = address.wrapping_add(first as u32).wrapping_add((at as u32).wrapping_mul(4));
        let (bytes, back) = (u32::from_le_bytes(*length), u32::from_le_bytes(*header));
        let begin = i32::from_le_bytes(*begins);
        let function = map.target(here.wrapping_add(8), begin);
        let before = map.shift(here.wrapping_add(4).wrapping_sub(back));
        match (function, before) {
            (Some(function), Some(before))
                if ENTRY.contains(&bytes) && bytes % 4 == 0 && back % 4 == 0 && back > 0 =>
            {
                *header =
                    back.wrapping_add_signed(moved).wrapping_add_signed(before.wrapping_neg()).to_le_bytes();
                *begins = begin.wrapping_add(function).wrapping_sub(moved).to_le_bytes();
                at += 1 + bytes as usize / 4;
            }
            _ => at += 1,
        }
    }
}

fn read32(bytes: &[u8]) -> i32 {
    bytes.first_chunk::<4>().map_or(0, |four| i32::from_le_bytes(*four))
}

/// Values below are counts and flags rather than addresses.
const SMALL: u32 = 0x100;
/// How long a function's entry in an unwind table is: at least three words, seldom a kilobyte.
const ENTRY: core::ops::Range<u32> = 12..0x400;
/// Distances up to here are lengths rather than distances.
const NEAR: u32 = 64;

#[cfg(any(test, feature = "author"))]
impl Map {
    /// Its places and shifts, in order.
    pub fn entries(&self) -> impl Iterator<Item = (u32, i32)> {
        self.starts.iter().copied().zip(self.shifts.iter().copied()).take(self.entries)
    }
}
