//! A segment as what has changed since a base: operations in one arithmetic-coded frame.
//!
//! ```text
//! operation   number   then
//! copy        0        length, base offset
//! add         1        length, base offset, transform; what differs from the prediction: gap, byte, gap, byte …
//! extra       2        length; whether they stand as they are; that many bytes
//! map         3        an executable's addresses and by how much they have moved: for the transforms that follow
//! ```
//! Operations follow each other until the segment is full. What has been learned (statistics, map, where the last operation
//! ended) lasts from one segment to the next within one piece and begins anew with each piece, so that a piece can be read
//! without those before it.
//!
//! A frame is not trusted: whatever it says, it makes the bytes of one segment or an error, reads the base only through
//! [`Base`], and takes time and memory within the bounds that stand here. Whether it made the right bytes, the segment's digest
//! says.

mod arm64;
mod coder;
mod history;
mod model;
mod predict;

pub use predict::{Map, Transform};

#[cfg(any(test, feature = "author"))]
use coder::Writer;
use coder::{Coder, Reader};
use model::{Kind, Model};

use crate::fault;
use crate::limits::{PATCH_MAP_ENTRIES_MAX, PATCH_MAPS_MAX, PATCH_OPERATIONS_MAX};
use crate::seam::Result;
use zerocopy::FromZeros;

/// Where a patch reads what was there before: the slot of the running group, by its absolute offsets.
pub trait Base {
    /// How long the base is: no operation reaches beyond.
    fn bytes(&self) -> u64;

    /// Fills `out` with what stands at `at`, which lies within the base. An error ends the frame, and with it what its
    /// piece can give. A place that the medium cannot read may be answered with anything instead: the segment's digest
    /// refuses it, and the segments behind it are read all the same, for no statistics depend on the base.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// What lasts over the segments of a piece. 160 KiB: 128 of the model, 32 of the map.
#[cfg_attr(any(test, feature = "author"), derive(Clone))] // whoever makes patches tries, and goes back
#[derive(FromZeros)] // too large for a stack: a heap gives it zeroed, and `reset` makes it as new
pub struct PatchState {
    model: Model,
    map: Map,
    /// Where the last operation ended in the base, and the content's place that it made then.
    base_end: u64,
    content_end: u64,
    last: u32,
    transform: Transform,
    /// Address less base offset, of the last operation with a transform.
    address_shift: i64,
    anchor: u32,
    gaps: [u32; 3],
    length: u32,
}

impl PatchState {
    /// At the beginning of a piece.
    pub const fn new() -> Self {
        PatchState {
            model: Model::new(),
            map: Map::new(),
            base_end: 0,
            content_end: 0,
            last: 0,
            transform: Transform::None,
            address_shift: 0,
            anchor: 0,
            gaps: [0; 3],
            length: 0,
        }
    }

    /// Forgets all, as at the beginning of a piece.
    pub fn reset(&mut self) {
        self.model.reset();
        self.map.clear(0);
        (self.base_end, self.content_end, self.last, self.transform) = (0, 0, 0, Transform::None);
        (self.address_shift, self.anchor, self.gaps, self.length) = (0, 0, [0; 3], 0);
    }
}

impl Default for PatchState {
    fn default() -> Self {
        PatchState::new()
    }
}

/// What an operation copies or adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// Offset in the base, bytes.
    pub at: u64,
    /// How the base's bytes are predicted to have changed.
    pub transform: Transform,
    /// The address of the first byte, for transforms.
    pub address: u32,
    /// See [`Transform::Anchored`].
    pub anchor: u32,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes of the base.
    Copy {
        /// How many.
        length: u32,
        /// Offset in the base.
        at: u64,
    },
    /// Bytes of the base, predicted, and what differs.
    Add {
        /// How many.
        length: u32,
        /// Which.
        from: From,
    },
    /// New bytes.
    Extra {
        /// How many.
        length: u32,
    },
}

impl Op {
    /// How many bytes it makes.
    pub const fn length(&self) -> u32 {
        let (Op::Copy { length, .. } | Op::Add { length, .. } | Op::Extra { length }) = self;
        *length
    }
}

/// Makes the segment that stands at `at` of the content from its frame: fills `out`.
pub fn unpatch(
    frame: &[u8],
    at: u64,
    state: &mut PatchState,
    base: &mut dyn Base,
    out: &mut [u8],
) -> Result<()> {
    let mut reader = Reader::new(frame);
    let (mut filled, mut maps, mut operations) = (0, 0, 0);
    while filled < out.len() {
        if reader.exhausted() {
            return Err(fault!(
                Corrupt,
                "patch at {at}: cut short: {} bytes make {filled} of {}",
                frame.len(),
                out.len()
            ));
        }
        operations += 1;
        if operations > PATCH_OPERATIONS_MAX {
            return Err(fault!(
                Corrupt,
                "patch at {at}: expected at most {PATCH_OPERATIONS_MAX} operations, found more"
            ));
        }
        let kind = state.kind(&mut reader, 0);
        if kind == MAP {
            maps += 1;
            if maps > PATCH_MAPS_MAX {
                return Err(fault!(
                    Corrupt,
                    "patch at {at}: expected at most {PATCH_MAPS_MAX} maps, found more"
                ));
            }
            state.read_map(&mut reader, at)?;
            continue;
        }
        let room = out.len() - filled;
        let length = state.length(&mut reader, kind, 0) as usize;
        let place = match length {
            0 => None,
            length => out.get_mut(filled..filled + length.min(room + 1)),
        };
        let Some(place) = place else {
            return Err(fault!(
                Corrupt,
                "patch at {at}: expected an operation of 1 to {room} bytes, found {length}"
            ));
        };
        let content = at.wrapping_add(filled as u64);
        match kind {
            EXTRA => match state.stored(&mut reader, length as u32, false) {
                true => read_stored(&mut reader, place),
                false => state.read_extra(&mut reader, place),
            },
            kind => {
                let from = state.from(&mut reader, kind, content, None)?;
                within(from.at, length, base.bytes(), at)?;
                base.read(from.at, place)?;
                state.ended(from.at, content, length as u64);
                if kind == ADD {
                    from.transform.apply(place, from.address, from.anchor, &state.map);
                    state.read_differences(&mut reader, &from, place);
                }
            }
        }
        filled += length;
    }
    match reader.rest() {
        0 if reader.exhausted() => Err(fault!(
            Corrupt,
            "patch at {at}: cut short: its {} bytes end within the last operation",
            frame.len()
        )),
        0 => Ok(()),
        rest => Err(fault!(
            Corrupt,
            "patch at {at}: expected a frame of {} bytes, found {rest} more",
            frame.len() - rest
        )),
    }
}

fn within(from: u64, length: usize, base: u64, at: u64) -> Result<()> {
    match from.checked_add(length as u64) {
        Some(end) if end <= base => Ok(()),
        _ => Err(fault!(
            Corrupt,
            "patch at {at}: expected to read within a base of {base} bytes, found {length} at {from}"
        )),
    }
}

/// Writes a segment's frame: `content` is what the operations make at `at`; `read` gives the base. `map`, if given, is sent
/// before the operations.
#[cfg(any(test, feature = "author"))]
pub fn patch(
    ops: &[Op],
    map: Option<&Map>,
    at: u64,
    state: &mut PatchState,
    base: &mut dyn Base,
    content: &[u8],
) -> Result<alloc::vec::Vec<u8>> {
    match map {
        Some(map) => patch_with(ops, &[(0, map)], at, state, base, content),
        None => patch_with(ops, &[], at, state, base, content),
    }
}

/// The same for a segment that holds parts of several executables: each map is sent before the operation whose index stands
/// with it, in ascending order.
#[cfg(any(test, feature = "author"))]
pub fn patch_with(
    ops: &[Op],
    maps: &[(usize, &Map)],
    at: u64,
    state: &mut PatchState,
    base: &mut dyn Base,
    content: &[u8],
) -> Result<alloc::vec::Vec<u8>> {
    if ops.len() + maps.len() > PATCH_OPERATIONS_MAX || maps.len() > PATCH_MAPS_MAX {
        return Err(fault!(
            Refused,
            "patch at {at}: expected at most {PATCH_OPERATIONS_MAX} operations and {PATCH_MAPS_MAX} maps, found {} and {}",
            ops.len(),
            maps.len()
        ));
    }
    let mut writer = Writer::new();
    let mut maps = maps.iter().peekable();
    let mut filled = 0;
    for (index, op) in ops.iter().enumerate() {
        while let Some((_, map)) = maps.next_if(|(before, _)| *before == index) {
            state.kind(&mut writer, MAP);
            state.write_map(&mut writer, map)?;
        }
        let (kind, length) = match op {
            Op::Copy { length, .. } => (COPY, *length),
            Op::Add { length, .. } => (ADD, *length),
            Op::Extra { length } => (EXTRA, *length),
        };
        let place = content.get(filled..filled + length as usize).filter(|place| !place.is_empty());
        let place = place.ok_or_else(|| {
            fault!(Refused, "patch at {at}: an empty operation, or one beyond the segment's end")
        })?;
        state.kind(&mut writer, kind);
        state.length(&mut writer, kind, length);
        let here = at + filled as u64;
        filled += length as usize;
        let from = match op {
            Op::Extra { .. } => {
                state.write_extra(&mut writer, place);
                continue;
            }
            Op::Copy { at, .. } => From { at: *at, transform: Transform::None, address: 0, anchor: 0 },
            Op::Add { from, .. } => *from,
        };
        within(from.at, place.len(), base.bytes(), at)?;
        state.from(&mut writer, kind, here, Some(from))?;
        state.ended(from.at, here, length.into());
        if kind == ADD {
            let mut predicted = alloc::vec![0; place.len()];
            base.read(from.at, &mut predicted)?;
            from.transform.apply(&mut predicted, from.address, from.anchor, &state.map);
            state.write_differences(&mut writer, &from, &predicted, place);
        }
    }
    match filled == content.len() {
        true => Ok(writer.finish()),
        false => Err(fault!(Refused, "patch at {at}: operations make {filled} of {} bytes", content.len())),
    }
}

impl PatchState {
    fn kind(&mut self, coder: &mut impl Coder, kind: u32) -> u32 {
        let contexts = [hash(1, self.last & 3, 0), hash(2, self.last & 0xff, 0)];
        let kind = coder.symbol(&mut self.model, &contexts, KIND, 2, kind);
        self.last = self.last << 2 | kind;
        kind
    }

    fn length(&mut self, coder: &mut impl Coder, kind: u32, length: u32) -> u32 {
        let contexts =
            [hash(3, kind, 0), hash(4, kind, self.length.checked_ilog2().map_or(0, |bits| bits + 1))];
        let length = coder.number(&mut self.model, &contexts, LENGTH, length);
        self.length = length;
        length
    }

    /// A number from -2^54 up to, but not with, 2^54: folded (0, -1, 1, -2 … become 0, 1, 2, 3 …), the bits above the
    /// lower 24 first. No offset in an artifact comes near the bound.
    fn signed(&mut self, coder: &mut impl Coder, context: u32, value: i64) -> Result<i64> {
        let folded = ((value << 1) ^ (value >> 63)) as u64;
        if folded >> 55 > 0 {
            return Err(fault!(Refused, "patch: expected a number below 2^54, found {value}"));
        }
        let (high, low) = ((folded >> 24) as u32, (folded & 0xff_ffff) as u32);
        let high = coder.number(&mut self.model, &[hash(5, context, 0)], HIGH, high);
        let low = coder.number(&mut self.model, &[hash(6, context, u32::from(high > 0))], LOW, low);
        if low > 0xff_ffff {
            return Err(fault!(Corrupt, "patch: expected a number of 24 bits, found {low}"));
        }
        let folded = u64::from(high) << 24 | u64::from(low);
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    fn from(&mut self, coder: &mut impl Coder, kind: u32, content: u64, from: Option<From>) -> Result<From> {
        let expected = self.base_end.wrapping_add(content.wrapping_sub(self.content_end));
        let ask = from.unwrap_or(From { at: expected, transform: Transform::None, address: 0, anchor: 0 });
        let jump = self.signed(coder, 16 + kind, ask.at.wrapping_sub(expected) as i64)?;
        let at = expected.wrapping_add_signed(jump);
        if kind == COPY {
            return Ok(From { at, transform: Transform::None, address: 0, anchor: 0 });
        }
        let contexts = [hash(7, self.transform as u32, 0), hash(8, 0, 0)];
        let number = coder.symbol(&mut self.model, &contexts, TRANSFORM, 3, ask.transform as u32);
        let transform = Transform::of(number).ok_or_else(|| {
            fault!(Unsupported, "patch: unknown transform {number}; this agent is too old for it")
        })?;
        self.transform = transform;
        let (mut address, mut anchor) = (0, 0);
        if transform != Transform::None {
            let expected = self.address_shift;
            let shift = i64::from(ask.address).wrapping_sub(ask.at as i64);
            let change = self.signed(coder, 32, shift.wrapping_sub(expected))?;
            self.address_shift = expected.wrapping_add(change);
            address = (at as i64).wrapping_add(self.address_shift) as u32;
        }
        if transform == Transform::Anchored {
            let change = self.signed(coder, 33, i64::from(ask.anchor) - i64::from(self.anchor))?;
            self.anchor = i64::from(self.anchor).wrapping_add(change) as u32;
            anchor = self.anchor;
        }
        Ok(From { at, transform, address, anchor })
    }

    const fn ended(&mut self, base: u64, content: u64, length: u64) {
        (self.base_end, self.content_end) = (base.wrapping_add(length), content.wrapping_add(length));
    }

    fn read_map(&mut self, reader: &mut Reader<'_>, at: u64) -> Result<()> {
        let count = reader.number(&mut self.model, &[hash(9, 0, 0)], ENTRIES, 0) as usize;
        if count > PATCH_MAP_ENTRIES_MAX {
            let most = PATCH_MAP_ENTRIES_MAX;
            return Err(fault!(
                Corrupt,
                "patch at {at}: expected a map of at most {most} entries, found {count}"
            ));
        }
        let bias = self.signed(reader, 48, 0)? as u64;
        self.map.clear(bias);
        let (mut start, mut shift) = (0u32, 0i32);
        for _ in 0..count {
            if reader.exhausted() {
                return Err(fault!(Corrupt, "patch at {at}: cut short in its map"));
            }
            start = start.wrapping_add(self.signed(reader, 49, 0)? as u32);
            shift = shift.wrapping_add(self.signed(reader, 50, 0)? as i32);
            if !self.map.push(start, shift) {
                return Err(fault!(Corrupt, "patch at {at}: a map whose addresses do not ascend"));
            }
        }
        Ok(())
    }

    #[cfg(any(test, feature = "author"))]
    fn write_map(&mut self, writer: &mut Writer, map: &Map) -> Result<()> {
        let count = map.entries().count() as u32;
        writer.number(&mut self.model, &[hash(9, 0, 0)], ENTRIES, count);
        self.signed(writer, 48, map.bias as i64)?;
        self.map.clear(map.bias);
        let (mut start, mut shift) = (0, 0);
        for (next, moved) in map.entries() {
            self.signed(writer, 49, i64::from(next - start))?;
            self.signed(writer, 50, i64::from(moved) - i64::from(shift))?;
            self.map.push(next, moved);
            (start, shift) = (next, moved);
        }
        Ok(())
    }

    fn gap(&mut self, coder: &mut impl Coder, spot: &Spot, gap: u32) -> u32 {
        let [one, two, three] = self.gaps.map(|gap| gap.min(255));
        let place = spot.place();
        let contexts = [
            hash(10, spot.transform, three << 16 | two << 8 | one),
            hash(11, place, spot.last.into()),
            hash(12, place, 0),
        ];
        let gap =
            coder.number(&mut self.model, &contexts, Kind { mixer: GAP.mixer + spot.mixer(), ..GAP }, gap);
        let [one, two, _] = self.gaps;
        self.gaps = [gap, one, two];
        gap
    }

    fn difference(&mut self, coder: &mut impl Coder, spot: &Spot, byte: u8) -> u8 {
        let (place, one) = (spot.place(), self.gaps[0].min(255));
        let contexts = [
            hash(13, place, u32::from(spot.last) << 8 | one.min(3)),
            hash(14, place, one),
            hash(15, place, 0),
        ];
        let kind = Kind { mixer: DIFFERENCE.mixer + spot.mixer(), ..DIFFERENCE };
        coder.symbol(&mut self.model, &contexts, kind, 8, byte.into()) as u8
    }

    fn read_differences(&mut self, reader: &mut Reader<'_>, from: &From, content: &mut [u8]) {
        let (mut at, mut spot) = (0usize, Spot::of(from));
        while at < content.len() && !reader.exhausted() {
            at = at.saturating_add(self.gap(reader, &spot, 0) as usize);
            let Some(place) = content.get_mut(at) else { break };
            spot.at = at as u32;
            let byte = self.difference(reader, &spot, 0);
            *place = place.wrapping_add(byte);
            spot.push(byte);
            at += 1;
        }
    }

    #[cfg(any(test, feature = "author"))]
    fn write_differences(&mut self, writer: &mut Writer, from: &From, predicted: &[u8], content: &[u8]) {
        let (mut begin, mut spot) = (0, Spot::of(from));
        while begin < content.len() {
            let pairs = content.iter().zip(predicted).skip(begin);
            let gap = pairs.take_while(|(new, old)| new == old).count();
            self.gap(writer, &spot, gap as u32);
            let at = begin + gap;
            let (Some(new), Some(old)) = (content.get(at), predicted.get(at)) else { break };
            let byte = new.wrapping_sub(*old);
            spot.at = at as u32;
            self.difference(writer, &spot, byte);
            spot.push(byte);
            begin = at + 1;
        }
    }

    fn extra(&mut self, coder: &mut impl Coder, before: &[u8], byte: u8) -> u8 {
        let back =
            |n: usize| before.len().checked_sub(n).and_then(|at| before.get(at)).map_or(0, |b| u32::from(*b));
        let contexts = [hash(16, 0, 0), hash(17, back(1), 0), hash(18, back(2) << 8 | back(1), 0)];
        coder.symbol(&mut self.model, &contexts, NEW, 8, byte.into()) as u8
    }

    fn read_extra(&mut self, reader: &mut Reader<'_>, content: &mut [u8]) {
        for at in 0..content.len() {
            if reader.exhausted() {
                break;
            }
            if let Some((before, [place, ..])) = content.split_at_mut_checked(at) {
                *place = self.extra(reader, before, 0);
            }
        }
    }

    /// Whether new bytes stand as they are: what is packed already would only get larger, and cost the device its time.
    fn stored(&mut self, coder: &mut impl Coder, length: u32, stored: bool) -> bool {
        let contexts = [hash(19, length.checked_ilog2().unwrap_or(0), 0)];
        coder.symbol(&mut self.model, &contexts, STORED, 1, stored.into()) == 1
    }

    /// Modelled where that is shorter by more than it costs the device: a modelled byte takes it as long as forty stored ones.
    #[cfg(any(test, feature = "author"))]
    fn write_extra(&mut self, writer: &mut Writer, content: &[u8]) {
        let length = content.len() as u32;
        let stored = content.len() >= STORED_MIN && {
            let (mut tried, mut state) = (Writer::new(), alloc::boxed::Box::new(self.clone()));
            state.stored(&mut tried, length, false);
            state.write_modelled(&mut tried, content);
            tried.finish().len() > content.len() - content.len() / STORED_LOSS
        };
        match self.stored(writer, length, stored) {
            true => content.iter().for_each(|byte| _ = writer.even(*byte)),
            false => self.write_modelled(writer, content),
        }
    }

    #[cfg(any(test, feature = "author"))]
    fn write_modelled(&mut self, writer: &mut Writer, content: &[u8]) {
        for (at, byte) in content.iter().enumerate() {
            self.extra(writer, content.get(..at).unwrap_or_default(), *byte);
        }
    }
}

fn read_stored(reader: &mut Reader<'_>, content: &mut [u8]) {
    for place in content {
        if reader.exhausted() {
            break;
        }
        *place = reader.even(0);
    }
}

/// Where in an operation a difference is looked for, and what came before it there. Places are counted in addresses where there are
/// such, else in offsets of the base: what the frame itself says, whatever the base holds.
struct Spot {
    transform: u32,
    begins: u32,
    at: u32,
    mask: u32,
    /// The difference before.
    last: u8,
}

impl Spot {
    const fn of(from: &From) -> Self {
        let (begins, mask) = match from.transform {
            Transform::None => (from.at as u32, 3),
            Transform::Calls | Transform::X86 => (0, 0),
            Transform::Address => (from.address, 7),
            Transform::Distance | Transform::Anchored | Transform::Arm64 | Transform::Frames => {
                (from.address, 3)
            }
        };
        Spot { transform: from.transform as u32, begins, at: 0, mask, last: 0 }
    }

    /// The transform and the place within a word.
    const fn place(&self) -> u32 {
        self.transform << 3 | self.begins.wrapping_add(self.at) & self.mask
    }

    const fn mixer(&self) -> usize {
        self.transform as usize * 8
    }

    const fn push(&mut self, byte: u8) {
        (self.last, self.at) = (byte, self.at.wrapping_add(1));
    }
}

const fn hash(kind: u32, a: u32, b: u32) -> u32 {
    let mixed = (a.wrapping_mul(0x9e37_79b1) ^ b)
        .wrapping_add(kind.wrapping_mul(0x7feb_352d))
        .wrapping_mul(0x85eb_ca6b);
    (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d)
}

const COPY: u32 = 0;
const ADD: u32 = 1;
const EXTRA: u32 = 2;
const MAP: u32 = 3;

/// A symbol takes a meaning for each context and a set of weights for each bit, a number two for each context and eight sets.
const KIND: Kind = Kind { meaning: 0, mixer: 0 };
const TRANSFORM: Kind = Kind { meaning: 2, mixer: 2 };
const ENTRIES: Kind = Kind { meaning: 4, mixer: 8 };
const LENGTH: Kind = Kind { meaning: 6, mixer: 16 };
const HIGH: Kind = Kind { meaning: 10, mixer: 24 };
const LOW: Kind = Kind { meaning: 12, mixer: 32 };
const NEW: Kind = Kind { meaning: 14, mixer: 40 };
/// Differences and gaps have sets of weights for each transform.
const DIFFERENCE: Kind = Kind { meaning: 17, mixer: 48 };
const GAP: Kind = Kind { meaning: 20, mixer: 112 };
const STORED: Kind = Kind { meaning: 26, mixer: 176 };

/// A few new bytes are modelled, whatever they are.
#[cfg(any(test, feature = "author"))]
const STORED_MIN: usize = 64;
/// Packed bytes that a model would make shorter by less than a 32nd stay as they are.
#[cfg(any(test, feature = "author"))]
const STORED_LOSS: usize = 32;
