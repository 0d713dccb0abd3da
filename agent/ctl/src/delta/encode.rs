//! Segments in their final form, in order: of patch, parts, zstd frame and bytes what costs least, and where pieces begin.
//!
//! ```text
//! drafts, side by side:   0 1 2 3 │ 4 5 6 7 │ …
//! frames, in order:       0►1►2►3 ► 4►5►6►7 ► …      what one frame has learned helps the next, within a piece
//! ```
//! A piece holds at most `OBJECT_BYTES_MAX` of encodings; what does not fit any more begins a new one, with nothing learned. Each
//! patch is undone at once, with a state of its own, and compared with the segment.

use super::draft::{Draft, Free, Packed, draft};
use super::parallel::in_parallel;
use super::part::{Closed, ops_between};
use super::plan::Plan;
use super::prove::{Before, Maker};
use super::{How, Made, Source, Summary};
use crate::Result;
use crate::layout::ReadAt;
use mainstay_core::bundle::Encoding;
use mainstay_core::bundle::patch::{Map, Op, PatchState, Transform, patch_with};
use mainstay_core::bundle::recode::{Part, patch_parts};
use mainstay_core::limits::*;
use std::collections::BTreeMap;

/// Encodes all segments by the plan.
pub fn encode(
    before: &Before<'_>,
    new: &dyn ReadAt,
    plan: &Plan,
    how: How,
    take: &mut dyn FnMut(u32, Made) -> Result<()>,
) -> Result<Summary> {
    let count = new.bytes().div_ceil(SEGMENT_BYTES as u64) as usize;
    let (mut row, batch) = (Row::new(before, plan, how), how.threads.max(1) * DRAFTS_PER_THREAD);
    for first in (0..count).step_by(batch) {
        let drafts = in_parallel(how.threads, batch.min(count - first), &|index| {
            draft(before, new, plan, first + index, how.level)
        })?;
        for (index, draft) in (first as u32..).zip(drafts) {
            let made = row.next(index, &draft)?;
            take(index, made)?;
        }
    }
    Ok(row.finish())
}

/// What has been written so far of a route.
struct Row<'a> {
    before: &'a Before<'a>,
    plan: &'a Plan,
    level: i32,
    state: Box<PatchState>,
    /// The map that patches know.
    map: Option<usize>,
    /// Bytes in the piece in progress.
    used: usize,
    maker: Maker<'a>,
    summary: Summary,
    files: BTreeMap<usize, u64>,
    wrong: (u64, u64),
}

/// A way in which a segment may come.
struct Offer {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// The bytes, and what the gateway's time for them is worth in bytes.
    costs: usize,
    /// A piece begins with it.
    begins: bool,
    /// What patches know behind it.
    learned: Option<Learned>,
}

struct Learned {
    state: Box<PatchState>,
    map: Option<usize>,
}

impl Offer {
    /// This one, or the other where that costs less.
    fn or(self, other: Option<Offer>) -> Offer {
        match other {
            Some(other) if other.costs < self.costs => other,
            _ => self,
        }
    }
}

/// What the gateway's time for these operations is worth, in bytes.
fn slow(ops: &[Op]) -> u64 {
    let new = ops.iter().map(|op| match op {
        Op::Extra { length } => u64::from(*length),
        Op::Copy { .. } | Op::Add { .. } => 0,
    });
    new.sum::<u64>() / SLOW + ops.len() as u64 / SLOW_OPERATIONS
}

impl<'a> Row<'a> {
    fn new(before: &'a Before<'a>, plan: &'a Plan, how: How) -> Self {
        Row {
            before,
            plan,
            level: how.level,
            state: Box::default(),
            map: None,
            used: 0,
            maker: Maker::new(before),
            summary: Summary::default(),
            files: BTreeMap::new(),
            wrong: (0, 0),
        }
    }

    fn next(&mut self, index: u32, draft: &Draft) -> Result<Made> {
        let begins_run = (index as usize).is_multiple_of(RUN_SEGMENTS_MAX);
        if begins_run {
            self.begin();
        }
        let (encoding, bytes, begins_piece) = match draft.free {
            Free::Zero => (Encoding::Zero, Vec::new(), false),
            Free::Copy => (Encoding::Copy, Vec::new(), false),
            Free::No => {
                let offer = self.smallest(draft)?;
                self.take(draft, offer)
            }
        };
        let made = Made { encoding, bytes, begins_piece: begins_piece || begins_run };
        if self.used == 0 && !made.bytes.is_empty() || begins_piece {
            self.summary.pieces += made.bytes.len().div_ceil(OBJECT_BYTES_MAX) as u32;
        }
        self.used += made.bytes.len();
        self.maker.prove(draft.at, &made, &draft.content)?;
        self.count(draft, &made);
        Ok(made)
    }

    /// A piece begins here.
    fn begin(&mut self) {
        self.state.reset();
        (self.map, self.used) = (None, 0);
    }

    fn fits(&self, bytes: usize) -> bool {
        self.used + bytes <= OBJECT_BYTES_MAX
    }

    /// The smallest way. What is alone in its pieces leaves no room behind it, so the next begins one.
    fn smallest(&self, draft: &Draft) -> Result<Offer> {
        let mut best = self.packed((Encoding::Raw, draft.content.clone()));
        if !draft.is_nearly_new() {
            best = best.or(self.patch(draft, &draft.ops)?);
        }
        let zstd = self.zstd(draft, best.costs)?;
        best = best.or(zstd.map(|packed| self.packed(packed)));
        // The same with what is new modelled, where a patch that stores it has not won.
        if let (Some(ops), false) = (&draft.modelled, best.encoding == Encoding::Patch) {
            best = best.or(self.patch(draft, ops)?);
        }
        Ok(best.or(self.parts(draft)?))
    }

    /// What is known behind it is known from now on.
    fn take(&mut self, draft: &Draft, offer: Offer) -> (Encoding, Vec<u8>, bool) {
        if offer.begins {
            self.begin();
        }
        if let Some(learned) = offer.learned {
            (self.state, self.map) = (learned.state, learned.map);
        }
        if offer.encoding == Encoding::Patch {
            self.wrong = (self.wrong.0 + draft.wrong.0, self.wrong.1 + draft.wrong.1);
        }
        (offer.encoding, offer.bytes, offer.begins)
    }

    fn packed(&self, (encoding, bytes): (Encoding, Vec<u8>)) -> Offer {
        Offer { encoding, costs: bytes.len(), begins: !self.fits(bytes.len()), bytes, learned: None }
    }

    /// The segment in parts, if it has any.
    fn parts(&self, draft: &Draft) -> Result<Option<Offer>> {
        if draft.closed.is_empty() || draft.closed.len() * 2 >= PARTS_MAX {
            return Ok(None);
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        let plain = |from: usize, to: usize| Part::Plain {
            length: to - from,
            ops: ops_between(&draft.ops, from, to),
        };
        for part in &draft.closed {
            parts.extend((at < part.from).then(|| plain(at, part.from)));
            at = part.from + part.bytes;
            let Closed { codec, bytes: length, made: items, sources, opened, ops, .. } = part;
            parts.push(Part::Closed { codec: *codec, length: *length, sources, opened, items, ops });
        }
        parts.extend((at < draft.content.len()).then(|| plain(at, draft.content.len())));
        let made = self.here_or_anew(|mut state, map| {
            let mut base = self.before.segment(draft.at);
            let bytes = patch_parts(&parts, draft.at, &mut state, &mut base, &draft.content)?;
            Ok((bytes, Learned { state, map }))
        })?;
        let (bytes, learned, begins) = made;
        let (encoding, costs) = (Encoding::Recoded, bytes.len());
        let offer = Offer { encoding, bytes, costs, begins, learned: Some(learned) };
        Ok(Some(offer).filter(|offer| offer.bytes.len() <= PARTS_BYTES_MAX))
    }

    /// The patch of these operations, if they are not too many.
    fn patch(&self, draft: &Draft, ops: &[Op]) -> Result<Option<Offer>> {
        if ops.len() > OPERATIONS_MOST {
            return Ok(None);
        }
        let (bytes, learned, begins) =
            self.here_or_anew(|state, known| self.attempt(draft, ops, state, known))?;
        let (encoding, costs) = (Encoding::Patch, bytes.len() + slow(ops) as usize);
        Ok(Some(Offer { encoding, bytes, costs, begins, learned: Some(learned) }))
    }

    /// Makes it behind what is known, or with nothing known where it does not fit into this piece; and whether that is so.
    fn here_or_anew(
        &self,
        make: impl Fn(Box<PatchState>, Option<usize>) -> Result<(Vec<u8>, Learned)>,
    ) -> Result<(Vec<u8>, Learned, bool)> {
        let (bytes, learned) = make(self.state.clone(), self.map)?;
        if self.fits(bytes.len()) {
            return Ok((bytes, learned, false));
        }
        let (bytes, learned) = make(Box::default(), None)?;
        Ok((bytes, learned, true))
    }

    fn attempt(
        &self,
        draft: &Draft,
        ops: &[Op],
        mut state: Box<PatchState>,
        known: Option<usize>,
    ) -> Result<(Vec<u8>, Learned)> {
        let mut base = self.before.segment(draft.at);
        let (ops, sent) = self.sendable(draft, ops, known);
        let maps: Vec<(usize, &Map)> = sent.iter().map(|(at, map)| (*at, &*self.plan.maps[*map])).collect();
        let frame = patch_with(&ops, &maps, draft.at, &mut state, &mut base, &draft.content)?;
        let map = sent.last().map_or(known, |(_, map)| Some(*map));
        Ok((frame, Learned { state, map }))
    }

    /// The operations, and the maps that are not known yet. Beyond as many maps as a frame may hold, operations do without.
    fn sendable(&self, draft: &Draft, ops: &[Op], known: Option<usize>) -> (Vec<Op>, Vec<(usize, usize)>) {
        let mut maps = draft.maps.clone();
        if maps.first().is_some_and(|(_, map)| Some(*map) == known) {
            maps.remove(0);
        }
        let mut ops = ops.to_vec();
        if let Some((from, _)) = maps.get(PATCH_MAPS_MAX).copied() {
            for op in &mut ops[from..] {
                if let Op::Add { from, .. } = op {
                    (from.transform, from.address, from.anchor) = (Transform::None, 0, 0);
                }
            }
        }
        maps.truncate(PATCH_MAPS_MAX);
        (ops, maps)
    }

    /// The smaller zstd frame, unless a quick one says that it cannot come below `limit`.
    fn zstd(&self, draft: &Draft, limit: usize) -> Result<Packed> {
        if let Some(packed) = &draft.zstd {
            return Ok(packed.clone());
        }
        if limit <= HARDLY {
            return Ok(None);
        }
        let quick = draft.zstd(self.before, QUICK_LEVEL)?;
        let quickly = quick.as_ref().map_or(draft.content.len(), |(_, frame)| frame.len());
        match self.level {
            level if level <= QUICK_LEVEL => Ok(quick),
            _ if quickly / 2 > limit => Ok(None),
            level => draft.zstd(self.before, level),
        }
    }

    fn count(&mut self, draft: &Draft, made: &Made) {
        let tally = &mut self.summary.encodings[made.encoding as usize];
        (tally.segments, tally.bytes) = (tally.segments + 1, tally.bytes + made.bytes.len() as u64);
        let total: u64 = draft.weights.iter().map(|(_, weight)| weight).sum();
        let (mut summed, mut given) = (0, 0);
        for (owner, weight) in &draft.weights {
            summed += weight;
            let share = made.bytes.len() as u64 * summed / total.max(1) - given;
            given += share;
            let source = self.plan.owners.get(*owner).map_or(Source::Copies, |owner| owner.source);
            self.summary.sources[source as usize] += share;
            *self.files.entry(*owner).or_default() += share;
        }
    }

    fn finish(mut self) -> Summary {
        let mut files = BTreeMap::<&str, u64>::new();
        for (owner, bytes) in &self.files {
            if let Some(path) = self.plan.owners.get(*owner).and_then(|owner| owner.path.as_deref()) {
                *files.entry(path).or_default() += bytes;
            }
        }
        self.summary.files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
        self.summary.files.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let (before, after) = self.wrong;
        self.summary.transforms_saved = (before - after) / PREDICTED;
        self.summary
    }
}

const DRAFTS_PER_THREAD: usize = 8;
/// A new byte costs the gateway fifty times as long in a patch as in a zstd frame, so each has to save a part of a byte.
const SLOW: u64 = 128;
/// An operation may cost it a read of the medium: the same.
const SLOW_OPERATIONS: u64 = 2;
/// With room for the maps.
const OPERATIONS_MOST: usize = PATCH_OPERATIONS_MAX - PATCH_MAPS_MAX;
/// No zstd frame of a segment that is neither zero nor a copy comes below this and below its patch as well, or it saves nothing
/// to speak of.
const HARDLY: usize = 64;
/// So many bytes predicted right save one: measured on security updates with transforms and without them.
const PREDICTED: u64 = 3;
/// Takes two milliseconds for a segment; no level halves what it makes.
const QUICK_LEVEL: i32 = 3;
