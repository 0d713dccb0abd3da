//! Makes the bundle of a plan: what its content is, a full route that makes it, and a delta route that may say, read and make
//! whatever the plan wants. Core's own author writes the pages and the frames; what is spoiled is spoiled before the digest
//! above it is taken, so that the installer comes to it.
//!
//! It promises that every object's name is its digest and that the manifest is signed. It knows nothing of how the gateway
//! fares with it.

use super::{BASES, OpPlan, Plan, Way, parts};
use crate::signed::{Objects, follow, spoil, zstd_frame};
use crate::throwaway::{KEYS, RELEASE};
use mainstay_core::bundle::author::{Run, RunBuilder, table};
use mainstay_core::bundle::patch::{Base, From, Map, Op, PatchState, Transform, patch, unpatch};
use mainstay_core::bundle::recode::{Room, Tables, patch_parts, unpatch_parts};
use mainstay_core::bundle::*;
use mainstay_core::digest::Digest;
use mainstay_core::limits::*;
use mainstay_core::seam::Result;
use mainstay_core::trust::{MessageKind, seal};

/// A bundle of one artifact.
pub struct Made {
    pub envelope: Vec<u8>,
    pub objects: Objects,
    /// What the manifest promises.
    pub content: Vec<u8>,
    /// What the delta page says that each segment must be, and what that must be; empty where the page is refused.
    pub said: Vec<(Proof, Proof)>,
    /// Frames of patches in the delta page, at most.
    pub patches: usize,
    /// Pieces of the delta route and of the full one.
    pub pieces: [usize; 2],
    /// Names of the full route's objects. Its two pages and two tables, which come first, are no other route's.
    pub full: Vec<Digest>,
}

/// `None`: nothing can be made of it. `base`: what the running group holds.
pub fn make(plan: &Plan, base: &[u8], base_digest: Digest) -> Option<Made> {
    let base_bytes = BASES[plan.base() as usize];
    let ways: Vec<&Way> = plan.segments.iter().flatten().collect();
    let mut author = Author { base, base_bytes, content: Vec::new(), state: Box::default() };
    let (mut full, mut delta) = (RunBuilder::new(), RunBuilder::new());
    for (i, way) in ways.iter().enumerate() {
        let bytes = if i + 1 == ways.len() { usize::from(plan.last) % 8192 + 1 } else { SEGMENT_BYTES };
        let begun = plan.begins >> i & 1 == 1;
        if begun {
            author.state.reset();
        }
        let before = author.state.clone();
        let mut made = author.segment(way, bytes)?;
        let mut pushed = delta.push_delta(made.said, made.encoding, &made.encoded, begun);
        if pushed.is_err() && !begun {
            // It does not fit into the piece in progress: the same anew, as the first of its piece.
            author.state.reset();
            made = author.segment(way, bytes)?;
            pushed = delta.push_delta(made.said, made.encoding, &made.encoded, true);
        } else if !matches!(made.encoding, Encoding::Patch | Encoding::Recoded) {
            author.state = before;
        }
        pushed.ok()?;
        let packed = match way {
            Way::Frame(_) | Way::Follow(_) if made.encoded.len() < bytes => {
                (made.encoding, made.encoded.clone())
            }
            _ if made.content.iter().all(|byte| *byte == 0) => (Encoding::Zero, Vec::new()),
            _ => (Encoding::Raw, made.content.clone()),
        };
        full.push(Digest::of(&made.content), packed.0, &packed.1).ok()?;
        author.content.extend_from_slice(&made.content);
    }
    let (full, delta) = (full.finish(0), delta.finish_delta(0));
    file(plan, author.content, full, delta, (base_digest, base_bytes))
}

/// Files all objects under their names, spoiled as planned.
fn file(plan: &Plan, content: Vec<u8>, full: Run, mut delta: Run, base: (Digest, u64)) -> Option<Made> {
    let mut objects = Objects::new();
    let mut file = |bytes: Vec<u8>| {
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        name
    };
    let full_pieces = full.pieces.len();
    let [segment_page, full_page] = [file(full.segment_page), file(full.route_page)];
    let [segments, routes] = [segment_page, full_page].map(|page| file(table(&[page])));
    let mut names = vec![segment_page, full_page, segments, routes];
    names.extend(full.pieces.into_iter().map(&mut file));

    let list = delta.route_page.len() - 36 * delta.pieces.len();
    for (piece, by) in plan.pieces.iter().flatten() {
        let count = delta.pieces.len();
        if let Some(bytes) = delta.pieces.get_mut(usize::from(*piece) % count.max(1)) {
            spoil(bytes, &Some(by.clone()));
        }
    }
    for (i, piece) in delta.pieces.into_iter().enumerate() {
        let (length, name) = (piece.len() as u32, file(piece));
        let entry = &mut delta.route_page[list + 36 * i..][..36];
        entry[..32].copy_from_slice(&name.0);
        entry[32..].copy_from_slice(&length.to_le_bytes());
    }
    let any = |n: u8| names[usize::from(n) % names.len()];
    if let Some((piece, other)) = plan.elsewhere
        && let Some(entry) = delta.route_page[list..].chunks_mut(36).nth(piece.into())
    {
        entry[..32].copy_from_slice(&any(other).0);
    }
    let mut page = delta.route_page;
    plan.page.iter().for_each(|by| spoil(&mut page, by));
    let delta_page = file(page.clone());
    let mut delta_table = table(&[plan.table_names.map_or(delta_page, any)]);
    spoil(&mut delta_table, &plan.table);
    let delta_table = file(delta_table);

    let delta = RouteKind::Delta { base: base.0, base_bytes: base.1 };
    let route = |kind, table| Route { kind, table, bytes: 0 };
    let artifact = Artifact {
        class: "rootfs".try_into().ok()?,
        size: content.len() as u64,
        digest: Digest::of(&content),
        segments,
        routes: [route(RouteKind::Full, routes), route(delta, delta_table)].into_iter().collect(),
    };
    let (said, patches, pieces) = read_page(&page, &artifact, &content);
    let manifest = Manifest {
        compatible: "fuzzed".try_into().ok()?,
        version: "2.0.0".try_into().ok()?,
        security_version: 4,
        artifacts: [artifact].into_iter().collect(),
        trial: TrialPolicy::default(),
        not_before: None,
        expires: None,
        provenance: Provenance::default(),
        meta: heapless::Vec::new(),
    };
    let keys = RELEASE.map(|seed| &KEYS[seed as usize]);
    let envelope = seal(MessageKind::Manifest, &manifest.encode().ok()?, &keys).ok()?;
    let pieces = [pieces, full_pieces];
    Some(Made { envelope, objects, content, said, patches, pieces, full: names })
}

/// What a reader makes of the page: what it says of each segment, beside what is right; how many patches and pieces.
fn read_page(page: &[u8], artifact: &Artifact, content: &[u8]) -> (Vec<(Proof, Proof)>, usize, usize) {
    let count = artifact.segment_count() as usize;
    let object = VerifiedObject::prove(&Digest::of(page), page).expect("its own digest");
    let Ok(page) = RoutePage::parse_delta(object, 0, count, |i| artifact.segment_bytes(i as u32)) else {
        return (Vec::new(), 0, 0);
    };
    let right = content.chunks(SEGMENT_BYTES).map(|segment| Proof::Whole(Digest::of(segment)));
    let said = (0..count).map(|i| page.proof(i).expect("of each").expect("a delta page's"));
    let patches = |i| match page.segment(i).expect("of each").0 {
        Encoding::Patch => 1,
        Encoding::Recoded => PARTS_MAX,
        _ => 0,
    };
    (said.zip(right).collect(), (0..count).map(patches).sum(), page.piece_count())
}

/// A segment: what it is, what the delta page says that it is, and how it travels.
struct Segment {
    content: Vec<u8>,
    said: Digest,
    encoding: Encoding,
    encoded: Vec<u8>,
}

struct Author<'a> {
    base: &'a [u8],
    base_bytes: u64,
    /// So far.
    content: Vec<u8>,
    /// What patches have learned.
    state: Box<PatchState>,
}

impl Author<'_> {
    fn segment(&mut self, way: &Way, bytes: usize) -> Option<Segment> {
        let at = self.content.len();
        let old = || self.base[at..at + bytes].to_vec(); // the slot has room for all segments
        let right = |content: Vec<u8>, encoding, encoded| {
            Some(Segment { said: Digest::of(&content), content, encoding, encoded })
        };
        match way {
            Way::Zero => right(vec![0; bytes], Encoding::Zero, Vec::new()),
            Way::Same => right(old(), Encoding::Copy, Vec::new()),
            Way::Raw(seed) => {
                let new: Vec<u8> = old().iter().map(|byte| byte ^ (seed | 1)).collect();
                right(new.clone(), Encoding::Raw, new)
            }
            Way::Frame(byte) => {
                let content = vec![*byte; bytes];
                let frame = zstd_frame(&content);
                right(content, Encoding::Zstd, frame)
            }
            Way::Follow(byte) => {
                let (content, encoding, frame) = follow(*byte, &self.content, bytes);
                right(content, encoding, frame)
            }
            Way::Patch(ops, map) => {
                let (content, frame) = self.patched(ops, map, bytes)?;
                right(content, Encoding::Patch, frame)
            }
            Way::Parts(plans, by) => {
                let mut before = self.before(u64::MAX / 2);
                let (content, parts) = parts::made(plans, bytes, &mut before)?;
                let parts: Vec<_> = parts.iter().map(parts::Made::part).collect();
                let mut parts =
                    patch_parts(&parts, at as u64, &mut self.state, &mut before, &content).ok()?;
                spoil(&mut parts, by);
                right(content, Encoding::Recoded, parts)
            }
            Way::Lie(byte) => {
                let (encoding, made, encoded) = match byte % 4 {
                    0 => (Encoding::Copy, old(), Vec::new()),
                    1 => (Encoding::Zero, vec![0; bytes], Vec::new()),
                    2 => (Encoding::Raw, vec![*byte; bytes], vec![*byte; bytes]),
                    _ => (Encoding::Zstd, vec![*byte; bytes], zstd_frame(&vec![*byte; bytes])),
                };
                Some(Segment { content: vec![byte | 128; bytes], said: Digest::of(&made), encoding, encoded })
            }
            Way::Hostile { frame, times, lies, parts } => {
                let frame = frame.repeat(usize::from(*times) + 1);
                let content = vec![frame[0] | 1; bytes];
                let mut made = vec![0; bytes];
                let mut before = self.before(self.base_bytes.saturating_add(at as u64));
                let (at, state) = (at as u64, &mut self.state);
                let (encoding, read) = if *parts {
                    let (mut opened, mut items) =
                        (vec![0; PART_SOURCES_BYTES_MAX], vec![0; PART_MADE_BYTES_MAX]);
                    let tables = &mut Box::<Tables>::default();
                    let mut room = Room { tables, opened: &mut opened, made: &mut items };
                    let read = unpatch_parts(&frame, at, state, &mut before, &mut room, &mut made);
                    (Encoding::Recoded, read)
                } else {
                    (Encoding::Patch, unpatch(&frame, at, state, &mut before, &mut made))
                };
                let said = Digest::of(if read.is_ok() && *lies { &made } else { &content });
                Some(Segment { content, said, encoding, encoded: frame })
            }
        }
    }

    /// What a patch reads, `bytes` of it: as the installer gives it.
    fn before(&self, bytes: u64) -> Before {
        let mut there = self.base.to_vec();
        there.resize(self.base_bytes as usize, 0);
        there.extend_from_slice(&self.content);
        Before { there, bytes }
    }

    /// Content that operations make, and its frame. Such as reach outside of the base are written all the same.
    fn patched(
        &mut self,
        ops: &[Option<OpPlan>; 4],
        map: &Option<(u32, [(u16, i16); 3])>,
        bytes: usize,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut before = self.before(u64::MAX / 2);
        let (mut content, mut done) = (Vec::with_capacity(bytes), Vec::new());
        let rest = OpPlan { kind: 0, length: u32::MAX, at: 11, transform: 0 };
        for plan in ops.iter().flatten().chain([&rest]) {
            let left = bytes - content.len();
            let length = (plan.length as usize % SEGMENT_BYTES + 1).min(left);
            let length = if plan.length == u32::MAX { left } else { length };
            if length == 0 {
                break;
            }
            let room = (before.there.len().saturating_sub(length) as u64).max(1);
            let at = if plan.kind & 0x80 > 0 { u64::from(plan.at) << 9 } else { u64::from(plan.at) % room };
            let mut new = vec![0; length];
            before.read(at, &mut new).ok()?;
            let transform = Transform::ALL[usize::from(plan.transform) % Transform::ALL.len()];
            let from = From { at, transform, address: plan.at, anchor: plan.length };
            let length = length as u32;
            done.push(match plan.kind % 3 {
                0 => Op::Copy { length, at },
                1 => {
                    new.iter_mut().step_by(97).for_each(|byte| *byte = byte.wrapping_add(plan.kind));
                    Op::Add { length, from }
                }
                _ => {
                    new.truncate(512); // new bytes are dear
                    let length = new.len() as u32;
                    new.iter_mut().enumerate().for_each(|(n, byte)| *byte = ((n * n) >> 3) as u8);
                    Op::Extra { length }
                }
            });
            content.extend_from_slice(&new);
        }
        let map = map.map(|(bias, entries)| {
            let mut map = Box::<Map>::default();
            map.clear(bias.into());
            entries.iter().for_each(|(start, shift)| _ = map.push(u32::from(*start) << 4, (*shift).into()));
            map
        });
        let at = self.content.len() as u64;
        let frame = patch(&done, map.as_deref(), at, &mut self.state, &mut before, &content).ok()?;
        Some((content, frame))
    }
}

/// The base, then the content so far, then zeros without an end.
struct Before {
    there: Vec<u8>,
    bytes: u64,
}

impl Base for Before {
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        let there = usize::try_from(at).ok().and_then(|at| self.there.get(at..)).unwrap_or_default();
        out.iter_mut().zip(there).for_each(|(byte, there)| *byte = *there);
        Ok(())
    }
}
