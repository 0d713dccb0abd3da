//! What both groups hold, and where: so that a full route, too, fetches only what the gateway does not have.
//!
//! ```text
//! running  ┌───┬───┬───┬───┐                 entry   0  first 8 bytes of a segment's digest
//!          │ a │ b │ c │ 0 │  hashed once            8  place: group in bit 31, segment below
//! target   ├───┼───┼───┼───┤  ──────────►    12 bytes, sorted; looked up by the digest that is wanted,
//!          │ a │ x │ b │ 0 │                 read at its place, proven, written
//!          └───┴───┴───┴───┘
//! ```
//! Only what lies at multiples of 256 KiB is found, which is where an image that kept its layout, or lost or gained whole
//! segments, has it. What the target held is overwritten as the installation goes on, so an entry is a hint: the proof decides.

use super::look::Wanted;
use super::space::Buffers;
use super::{Installer, beyond};
use crate::boot::Group;
use crate::bundle::{Artifact, Proof, VerifiedSegment};
use crate::digest::Digest;
use crate::limits::{INDEX_SEGMENTS_MAX, SEGMENT_BYTES};
use crate::seam::{Entry, Result};

/// How much of the groups stands in the index.
#[derive(Clone, Copy, Default)]
pub(super) struct Indexed {
    entries: usize,
    /// Segments before this one are in the index, in both groups, or cannot be had there.
    segments: u32,
}

impl Installer<'_> {
    /// Reads and hashes both groups' slots, as far as there is room. Without room, or where content shall come from the source
    /// alone: no index.
    pub(super) fn index(&mut self, artifact: &Artifact, buffers: &mut Buffers<'_>) -> Result<()> {
        self.indexed = Indexed::default();
        let groups = [(self.target, self.reuse.target), (self.target.other(), self.reuse.running)];
        if self.source.only_forward() || groups.iter().all(|(_, wanted)| !wanted) {
            return Ok(());
        }
        let room = (self.memory.index().len() / 2).min(INDEX_SEGMENTS_MAX) as u32;
        let [one, other] = buffers.both();
        let (mut entries, target) = (0, self.target);
        for (group, _) in groups.iter().filter(|(_, wanted)| *wanted) {
            // A group without such a slot has nothing to give.
            let bytes = self.slots.open(*group, &artifact.class).unwrap_or(0);
            let whole = (bytes / SEGMENT_BYTES as u64).min(u64::from(room)) as u32;
            let mut segment = 0;
            while segment < whole {
                let range = at(segment)..at(whole);
                let read = self.slots.scan(
                    *group,
                    &artifact.class,
                    range,
                    [&mut *one, &mut *other],
                    &mut |content| {
                        // Zeros are made and not copied.
                        if !Proof::Zeros.holds(content)
                            && let Some(free) = self.memory.index().get_mut(entries)
                        {
                            *free = Entry::new(&Digest::of(content), place_of(target, *group, segment));
                            entries += 1;
                        }
                        segment += 1;
                    },
                );
                // What cannot be read cannot be had.
                segment += u32::from(read.is_err());
            }
        }
        if let Some(filled) = self.memory.index().get_mut(..entries) {
            filled.sort_unstable();
        }
        self.indexed = Indexed { entries, segments: room };
        Ok(())
    }

    /// Takes a segment from wherever a group holds it. `None`: the index does not say whether one does.
    pub(super) fn have_indexed(
        &mut self,
        wanted: &Wanted<'_>,
        buffers: &mut Buffers<'_>,
    ) -> Result<Option<bool>> {
        let Wanted { class, at, bytes, proof } = *wanted;
        let segment = (at / SEGMENT_BYTES as u64) as u32; // at most 2^18
        let Proof::Whole(digest) = proof else { return Ok(None) };
        if bytes != SEGMENT_BYTES || segment >= self.indexed.segments {
            return Ok(None);
        }
        let here = place_of(self.target, self.target, segment);
        for place in self.places(&digest, here).into_iter().flatten() {
            let buffer = buffers.segment.get_mut(..bytes).ok_or_else(beyond)?;
            let (group, from) = self.group_at(place);
            if self.slots.read_back(group, class, from, buffer).is_err() {
                continue;
            }
            let Some(proven) = VerifiedSegment::prove_by(at, buffer, &proof) else { continue };
            if place == here {
                self.kept(bytes);
            } else {
                self.write_copied(class, &proven)?;
            }
            return Ok(Some(true));
        }
        Ok(Some(false))
    }

    /// Where content of this digest may be: in place first, then elsewhere. A few places are enough: where one of many that
    /// held the same does not any more, those before it in the target are overwritten, and those behind it are not.
    fn places(&mut self, digest: &Digest, here: u32) -> [Option<u32>; PLACES_MAX + 1] {
        let entries = self.memory.index().get(..self.indexed.entries).unwrap_or_default();
        let mut places = [None; PLACES_MAX + 1];
        let in_place = Entry::new(digest, here);
        let first = entries.partition_point(|entry| *entry < Entry::new(digest, 0));
        let behind = entries.partition_point(|entry| *entry <= Entry::new(digest, u32::MAX));
        let [own, rest @ ..] = &mut places;
        *own = entries.binary_search(&in_place).is_ok().then_some(here);
        let found = entries.get(first..behind).unwrap_or_default().iter();
        // From the beginning of those in the running group, and from the end of those in the target.
        let ends = found.clone().take(1).chain(found.rev().take(PLACES_MAX - 1));
        for (place, entry) in rest.iter_mut().zip(ends) {
            *place = Some(entry.place()).filter(|place| *place != here);
        }
        places
    }

    fn group_at(&self, place: u32) -> (Group, u64) {
        let group = if place & TARGET == 0 { self.target.other() } else { self.target };
        (group, at(place & !TARGET))
    }
}

/// The running group's come first in the order of places: they stay.
fn place_of(target: Group, group: Group, segment: u32) -> u32 {
    segment | if group == target { TARGET } else { 0 }
}

/// Where a segment stands, bytes.
fn at(segment: u32) -> u64 {
    u64::from(segment) * SEGMENT_BYTES as u64
}

/// A place in the target.
const TARGET: u32 = 1 << 31;

/// Places that are tried beside the segment's own.
const PLACES_MAX: usize = 3;
