//! Packs a delta route whose segments come in chosen ways, from a base of noise; and installs it before the fakes.

use crate::BOTH;
use crate::fake::{FakeSlots, FakeSource, Kind, Packed, Seen, fake_frame, install_from};
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::{Base, From, Op, PatchState, Transform, patch};
use mainstay_core::bundle::recode::{Codec, Part, patch_parts};
use mainstay_core::bundle::{Artifact, Encoding, Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstay_core::seam::Result;
use std::collections::BTreeMap;

/// How a segment comes by the delta route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Zero,
    /// As in the base.
    Same,
    /// As in the base, with some bytes changed. `true`: begins a piece.
    Patch(bool),
    /// The base's last 1000 bytes, the content's first 1000, and of the segment before as much as fits: behind the base's end
    /// stands what has been made so far. In a piece that has begun.
    Again,
    /// New bytes that do not compress: three pieces of its own.
    Raw,
    /// New bytes that do. `true`: begins a piece.
    Frame(u8, bool),
    /// New bytes of which the segment before decides, in a piece that has begun.
    Follow(u8),
    /// In parts: most as in the base, with some bytes changed; the end closed, of items that are what 50,000 bytes of the
    /// base are, as a block that is not compressed, and some new bytes. `true`: begins a piece.
    Parts(bool),
}
use Way::{Again, Follow, Frame, Parts, Patch, Raw, Same, Zero};

/// Of each kind, with three patches in one piece, and patches behind something else in it; the last segment is short.
pub const MIXED: [Way; 12] = [
    Same,
    Patch(true),
    Patch(false),
    Frame(3, false),
    Patch(false),
    Zero,
    Raw,
    Patch(true),
    Same,
    Patch(false),
    Frame(5, true),
    Patch(false),
];
pub const LAST: usize = 5000;

/// What the running group holds, and a bundle with a delta route from it.
pub struct Delta {
    pub base: Vec<u8>,
    pub packed: Packed,
}

pub struct Memory<'a>(pub &'a [u8]);

impl Base for Memory<'_> {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.0[at as usize..][..out.len()]);
        Ok(())
    }
}

pub fn noise(seed: u8) -> Vec<u8> {
    Kind::Raw(seed).content(SEGMENT_BYTES)
}

/// What may be done to a run's page and pieces before they are filed.
pub type Spoil<'a> = &'a dyn Fn(&mut author::Run);

/// Packs `ways`; `spoil` may change each run of the delta route.
pub fn pack(ways: &[Way], last: usize, spoil: Spoil<'_>) -> Delta {
    let bytes = |i: usize| if i + 1 == ways.len() { last } else { SEGMENT_BYTES };
    let mut base: Vec<u8> = (0..ways.len()).flat_map(|i| noise(i as u8)).collect();
    if ways.iter().any(|way| matches!(way, Parts(_))) {
        // A block of zstd that is not compressed (RFC 8878, section 3.1.1.2).
        base[BLOCK_AT..BLOCK_AT + 3].copy_from_slice(&((BLOCK_BYTES as u32) << 3).to_le_bytes()[..3]);
    }
    let mut objects = BTreeMap::new();
    let mut order = Vec::new();
    let mut file = |bytes: Vec<u8>| {
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        order.push(name);
        name
    };
    let (mut content, mut full, mut delta) = (Vec::new(), Vec::new(), Vec::new());
    for (number, chunk) in ways.chunks(RUN_SEGMENTS_MAX).enumerate() {
        let (mut by_full, mut by_delta) = (RunBuilder::new(), RunBuilder::new());
        let mut state = Box::<PatchState>::default();
        for (i, way) in chunk.iter().enumerate() {
            let i = number * RUN_SEGMENTS_MAX + i;
            let at = i * SEGMENT_BYTES;
            let (segment, ops) = match way {
                Again => again(&base, &content, bytes(i)),
                Parts(_) => (in_parts(&base[at..at + bytes(i)]).0, Vec::new()),
                Follow(byte) => (Kind::Follow(*byte).content_after(&content, bytes(i)), Vec::new()),
                way => made(*way, &base[at..at + bytes(i)], at as u64),
            };
            let digest = Digest::of(&segment);
            let (encoding, encoded) = match way {
                Zero => (Encoding::Zero, Vec::new()),
                Frame(byte, _) => (Encoding::Zstd, fake_frame(*byte, segment.len())),
                Follow(byte) => (Encoding::Prefixed, fake_frame(*byte, segment.len())),
                _ => (Encoding::Raw, segment.clone()),
            };
            by_full.push(digest, encoding, &encoded).unwrap();
            let begins = matches!(way, Patch(true) | Frame(_, true) | Raw | Parts(true));
            if begins {
                state.reset();
            }
            let (encoding, encoded) = match way {
                Same => (Encoding::Copy, Vec::new()),
                Parts(_) => {
                    let before = [&base[..], &content].concat();
                    let (_, items) = in_parts(&base[at..at + segment.len()]);
                    let from = From { at: at as u64, transform: Transform::None, address: 0, anchor: 0 };
                    let sources = [(BLOCK_AT as u64, 1, BLOCK_BYTES as u32 + 3)];
                    let half = segment.len() - CLOSED_BYTES;
                    let (codec, closed) = (Codec::Zstd, CLOSED_BYTES);
                    let opened = &base[BLOCK_AT..BLOCK_AT + BLOCK_BYTES + 3];
                    let ops = [
                        Op::Extra { length: 1 },
                        Op::Copy { length: opened.len() as u32, at: 0 },
                        Op::Extra { length: (items.len() - 1 - opened.len()) as u32 },
                    ];
                    let parts = [
                        Part::Plain { length: half, ops: vec![Op::Add { length: half as u32, from }] },
                        Part::Closed {
                            codec,
                            length: closed,
                            sources: &sources,
                            opened,
                            items: &items,
                            ops: &ops,
                        },
                    ];
                    let frame = patch_parts(&parts, at as u64, &mut state, &mut Memory(&before), &segment);
                    (Encoding::Recoded, frame.unwrap())
                }
                Patch(_) | Again => {
                    let before = [&base[..], &content].concat();
                    let frame = patch(&ops, None, at as u64, &mut state, &mut Memory(&before), &segment);
                    (Encoding::Patch, frame.unwrap())
                }
                _ => (encoding, encoded),
            };
            by_delta.push_delta(digest, encoding, &encoded, begins).unwrap();
            content.extend_from_slice(&segment);
        }
        let first = (number * RUN_SEGMENTS_MAX) as u32;
        full.push(by_full.finish(first));
        let mut run = by_delta.finish_delta(first);
        spoil(&mut run);
        delta.push(run);
    }
    let pages = |page: fn(&author::Run) -> &Vec<u8>, runs: &[author::Run]| {
        author::table(&runs.iter().map(|run| Digest::of(page(run))).collect::<Vec<_>>())
    };
    let segments = file(pages(|run| &run.segment_page, &full));
    let full_table = file(pages(|run| &run.route_page, &full));
    let delta_table = file(pages(|run| &run.route_page, &delta));
    for run in full {
        file(run.segment_page);
        file(run.route_page);
        run.pieces.into_iter().for_each(|piece| _ = file(piece));
    }
    for run in delta {
        file(run.route_page);
        run.pieces.into_iter().for_each(|piece| _ = file(piece));
    }
    let kind = RouteKind::Delta { base: Digest::of(&base), base_bytes: base.len() as u64 };
    let artifact = Artifact {
        class: "rootfs".try_into().unwrap(),
        size: content.len() as u64,
        digest: Digest::of(&content),
        segments,
        routes: [
            Route { kind: RouteKind::Full, table: full_table, bytes: 0 },
            Route { kind, table: delta_table, bytes: 0 },
        ]
        .into_iter()
        .collect(),
    };
    Delta { base, packed: Packed { content, artifact, objects, order } }
}

/// A segment's content, and the operations that make it from the base.
pub fn made(way: Way, old: &[u8], at: u64) -> (Vec<u8>, Vec<Op>) {
    let mut segment = old.to_vec();
    match way {
        Same => {}
        Zero => segment.fill(0),
        Frame(byte, _) => segment.fill(byte),
        Raw => segment.reverse(),
        Again | Follow(_) | Parts(_) => unreachable!("made from the content"),
        Patch(_) => {
            // Some bytes differ here and there, and some are new at its end.
            (0..segment.len() - 100).step_by(9000).for_each(|i| segment[i] = segment[i].wrapping_add(7));
            let end = segment.len() - 100;
            segment[end..].fill(0xee);
            let from = From { at, transform: Transform::None, address: 0, anchor: 0 };
            return (segment, vec![Op::Add { length: end as u32, from }, Op::Extra { length: 100 }]);
        }
    }
    (segment, Vec::new())
}

pub fn again(base: &[u8], content: &[u8], bytes: usize) -> (Vec<u8>, Vec<Op>) {
    let before = content.len() - SEGMENT_BYTES;
    let segment = [&base[base.len() - 1000..], &content[..1000], &content[before..before + bytes - 2000]];
    let across = Op::Copy { length: 2000, at: base.len() as u64 - 1000 };
    let last = Op::Copy { length: bytes as u32 - 2000, at: (base.len() + before) as u64 };
    (segment.concat(), vec![across, last])
}

pub const BLOCK_AT: usize = 1000;
pub const BLOCK_BYTES: usize = 50_000;
/// What is closed of a segment in parts.
pub const CLOSED_BYTES: usize = 60_000;

/// A segment in parts, of what stood there, and the items of its end: the block (an opened one is as it is), and what is left.
pub fn in_parts(old: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let half = old.len() - CLOSED_BYTES;
    let mut segment = old[..half].to_vec();
    segment.iter_mut().step_by(7000).for_each(|byte| *byte ^= 9);
    let block =
        [&((BLOCK_BYTES as u32) << 3).to_le_bytes()[..3], &noise(0)[BLOCK_AT + 3..][..BLOCK_BYTES]].concat();
    let (mut items, mut left) = ([&[2], &block[..]].concat(), old.len() - half - block.len());
    segment.extend(block);
    while left > 0 {
        let length = left.min(60_000);
        let bytes: Vec<u8> = (0..length).map(|n| (n % 5) as u8).collect();
        items.push(0);
        items.extend((length as u16).to_le_bytes());
        items.extend(&bytes);
        segment.extend(bytes);
        left -= length;
    }
    (segment, items)
}

pub fn mixed() -> Delta {
    pack(&MIXED, LAST, &|_| {})
}

impl Delta {
    pub fn source(&self, window: usize) -> FakeSource {
        let mut source = FakeSource::new(&self.packed, window);
        source.anywhere = true;
        source
    }

    /// The base runs; the target holds nothing of use.
    pub fn slots(&self) -> FakeSlots {
        let mut slots = FakeSlots::new(self.base.len());
        slots.groups[0].copy_from_slice(&self.base);
        slots
    }

    pub fn install(&self, source: &mut FakeSource, slots: &mut FakeSlots) -> Result<Seen> {
        let (mut seen, holds) = (Seen::default(), Some(Digest::of(&self.base)));
        install_from(&self.packed.artifact, holds, BOTH, source, slots, &mut seen).map(|()| seen)
    }

    #[track_caller]
    pub fn assert_made(&self, slots: &FakeSlots) {
        assert!(slots.target()[..self.packed.content.len()] == self.packed.content, "another content");
    }

    /// The names of the pieces of the delta route, in order, and whether they were fetched.
    pub fn fetched(&self, source: &FakeSource) -> Vec<bool> {
        self.delta_pieces().iter().map(|piece| source.fetched.contains(piece)).collect()
    }

    /// A bundle of one run: what stands behind the delta route's page.
    pub fn delta_pieces(&self) -> &[Digest] {
        let pages = self.packed.order.iter().rposition(|name| self.packed.objects[name].starts_with(b"MSDP"));
        &self.packed.order[pages.unwrap() + 1..]
    }

    pub fn spoil(slots: &mut FakeSlots, segments: &[usize]) {
        segments.iter().for_each(|segment| slots.groups[0][segment * SEGMENT_BYTES + 2] ^= 1);
    }
}
