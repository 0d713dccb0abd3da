//! What a hostile bundle is made of, and how it is made: core's own author writes it, and at each level bytes are changed before the digest or
//! the signature above them is taken. It knows nothing of the gateway that gets it.

use crate::throwaway::{KEYS, RELEASE, TRUST};
use arbitrary::Arbitrary;
use mainstay_core::bundle::author::{RunBuilder, table};
use mainstay_core::bundle::*;
use mainstay_core::digest::Digest;
use mainstay_core::limits::*;
use mainstay_core::seam::NO_PREFIX;
use mainstay_core::trust::{MessageKind, seal};
use std::collections::BTreeMap;

/// Bytes that are changed before what stands above them is computed.
#[derive(Arbitrary, Clone, Debug)]
pub enum Spoil {
    Xor(u16, u8),
    Put32(u16, u32),
    Cut(u16),
    Append(u8, u8),
}

#[derive(Arbitrary, Debug)]
pub enum Segment {
    Zero,
    Raw(u8),
    Frame(u8),
    /// Another encoding than the content has.
    Lie(u8, u8),
    /// Something for zstd to chew on.
    Chew(u8, [u8; 12]),
    /// A frame with the segment before as its prefix, where there is one that can be; some of its bytes changed.
    Follow(u8, [u8; 4]),
}

#[derive(Arbitrary, Debug)]
pub struct ArtifactPlan {
    pub class: u8,
    pub segments: [Option<Segment>; 2],
    pub last: u16,
    pub wrong_digest: bool,
    pub size_is_off_by: i8,
    pub route_page: Option<Spoil>,
    pub segment_page: Option<Spoil>,
    pub tables: [Option<Spoil>; 2],
}

/// What a bundle is made of, and how the gateway fares that gets it.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    pub artifacts: [Option<ArtifactPlan>; 2],
    pub security_version: u8,
    pub tries: u8,
    pub expires: Option<u64>,
    pub body: Option<Spoil>,
    pub envelope: Option<Spoil>,
    /// What the source gives instead of its n-th answer.
    pub lies: [Option<(u8, u8)>; 2],
    pub uboot: bool,
    pub healthy: [bool; 3],
    pub reuse: [bool; 2],
    pub prevent: bool,
    /// How much of the target stands there already.
    pub resumed: bool,
}

pub fn spoil(bytes: &mut Vec<u8>, spoil: &Option<Spoil>) {
    let most = bytes.len();
    match spoil {
        None => {}
        Some(Spoil::Xor(at, by)) if most > 0 => bytes[usize::from(*at) % most] ^= by,
        Some(Spoil::Put32(at, value)) if most >= 4 => {
            let at = usize::from(*at) % (most - 3);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        Some(Spoil::Cut(at)) => bytes.truncate(usize::from(*at) % (most + 1)),
        Some(Spoil::Append(byte, count)) => bytes.resize(most + usize::from(*count), *byte),
        Some(_) => {}
    }
}

pub type Objects = BTreeMap<Digest, Vec<u8>>;

/// The signed envelope, and the objects by name.
pub fn bundle(plan: &Plan) -> Option<(Vec<u8>, Objects)> {
    let mut objects = Objects::new();
    let artifacts =
        plan.artifacts.iter().flatten().filter_map(|artifact| pack(artifact, &mut objects)).collect();
    let manifest = Manifest {
        compatible: "fuzzed".try_into().ok()?,
        version: "2.0.0".try_into().ok()?,
        security_version: plan.security_version.into(),
        artifacts,
        trial: TrialPolicy { tries: plan.tries, ..TrialPolicy::default() },
        not_before: None,
        expires: plan.expires,
        provenance: Provenance::default(),
        meta: heapless::Vec::new(),
    };
    // Not `encode`, which checks: what the author would refuse is what the reader has to.
    let mut body = mainstay_core::wire::encode_body(&manifest).ok()?;
    spoil(&mut body, &plan.body);
    let keys = RELEASE.map(|seed| &KEYS[seed as usize]);
    let mut envelope = seal(MessageKind::Manifest, &body, &keys).ok()?;
    spoil(&mut envelope, &plan.envelope);
    Some((envelope, objects))
}

/// The same bundle as a file. Objects stand in the order in which they are asked for, as far as the plan lets them.
pub fn file(plan: &Plan) -> Option<Vec<u8>> {
    let (envelope, objects) = bundle(plan)?;
    let mut out = [&BUNDLE_MAGIC, &Object::Manifest.header(envelope.len())[..], &envelope].concat();
    let kind = |bytes: &[u8]| match bytes.first_chunk::<4>() {
        Some(b"MSTB") => Object::Table,
        Some(b"MSSP") => Object::SegmentPage,
        Some(b"MSRP") => Object::RoutePage,
        Some(b"MSDP") => Object::DeltaPage,
        _ => Object::Piece,
    };
    let mut put = |bytes: &[u8]| {
        out.extend_from_slice(&kind(bytes).header(bytes.len()));
        out.extend_from_slice(bytes);
    };
    let manifest = VerifiedManifest::open(&TRUST, &envelope).ok();
    for artifact in manifest.iter().flat_map(|manifest| &manifest.artifacts) {
        let of = |name: &Digest| objects.get(name).cloned().unwrap_or_default();
        let tables =
            [of(&artifact.segments), of(&artifact.routes.first().map(|r| r.table).unwrap_or_default())];
        let pages = tables.clone().map(|table| {
            let name = table.get(16..48).and_then(|name| <[u8; 32]>::try_from(name).ok());
            name.map(|name| of(&Digest(name))).unwrap_or_default()
        });
        let row: Vec<u8> = pages[1].clone();
        tables.iter().chain(&pages).for_each(|object| put(object));
        // Each name in the route page is a piece's, wherever the segments before it end.
        let names = row.windows(32).filter_map(|name| <[u8; 32]>::try_from(name).ok()).map(Digest);
        names.filter_map(|name| objects.get(&name)).for_each(|piece| put(piece));
    }
    out.extend_from_slice(&Object::End.header(0));
    Some(out)
}

pub fn pack(plan: &ArtifactPlan, objects: &mut Objects) -> Option<Artifact> {
    let mut file = |mut bytes: Vec<u8>, spoiled: &Option<Spoil>| {
        spoil(&mut bytes, spoiled);
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        name
    };
    let segments: Vec<&Segment> = plan.segments.iter().flatten().collect();
    let (mut builder, mut content) = (RunBuilder::new(), Vec::new());
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        let bytes = if last { usize::from(plan.last) % 4096 + 1 } else { SEGMENT_BYTES };
        let (made, encoding, encoded) = make(segment, &content, bytes);
        builder.push(Digest::of(&made), encoding, &encoded).ok()?;
        content.extend_from_slice(&made);
    }
    let run = builder.finish(0);
    let route_bytes = run.pieces.iter().map(|piece| piece.len() as u64).sum();
    run.pieces.into_iter().for_each(|piece| {
        file(piece, &None);
    });
    let [segment_page, route_page] =
        [file(run.segment_page, &plan.segment_page), file(run.route_page, &plan.route_page)];
    let [segments, routes] =
        [file(table(&[segment_page]), &plan.tables[0]), file(table(&[route_page]), &plan.tables[1])];
    let digest = if plan.wrong_digest { Digest([7; 32]) } else { Digest::of(&content) };
    Some(Artifact {
        class: CLASSES[usize::from(plan.class) % CLASSES.len()].try_into().ok()?,
        size: (content.len() as u64).saturating_add_signed(plan.size_is_off_by.into()),
        digest,
        segments,
        routes: [Route { kind: RouteKind::Full, table: routes, bytes: route_bytes }].into_iter().collect(),
    })
}

pub fn make(segment: &Segment, before: &[u8], bytes: usize) -> (Vec<u8>, Encoding, Vec<u8>) {
    let noise =
        |seed: u8| (0..bytes).map(|i| (i as u8).wrapping_mul(seed | 1) ^ (i >> 8) as u8).collect::<Vec<u8>>();
    match segment {
        Segment::Zero => (vec![0; bytes], Encoding::Zero, Vec::new()),
        Segment::Raw(seed) => (noise(*seed), Encoding::Raw, noise(*seed)),
        Segment::Frame(byte) => {
            let content = vec![*byte; bytes];
            let frame = zstd_frame(&content);
            (content, Encoding::Zstd, frame)
        }
        Segment::Lie(byte, encoding) => {
            let encoding = [Encoding::Zero, Encoding::Raw, Encoding::Zstd][usize::from(encoding % 3)];
            let length = if encoding == Encoding::Zero { 0 } else { bytes };
            (vec![*byte; bytes], encoding, vec![byte.wrapping_add(1); length])
        }
        Segment::Chew(byte, by) => {
            let content = vec![*byte; bytes];
            (content.clone(), Encoding::Zstd, chewed(zstd_frame(&content), by))
        }
        Segment::Follow(byte, by) => {
            let (content, encoding, frame) = follow(*byte, before, bytes);
            (content, encoding, chewed(frame, by))
        }
    }
}

/// With bytes behind the magic changed.
pub fn chewed(mut frame: Vec<u8>, by: &[u8]) -> Vec<u8> {
    frame.iter_mut().skip(4).zip(by).for_each(|(byte, by)| *byte ^= by);
    frame
}

/// Content that is like the segment before, and its frame; or, where none can be its prefix, a frame of a byte.
pub fn follow(byte: u8, before: &[u8], bytes: usize) -> (Vec<u8>, Encoding, Vec<u8>) {
    let prefix = before.last_chunk::<SEGMENT_BYTES>().filter(|prefix| !prefix.starts_with(&NO_PREFIX));
    let Some(prefix) = prefix else {
        let content = vec![byte; bytes];
        let frame = zstd_frame(&content);
        return (content, Encoding::Zstd, frame);
    };
    let mut content = prefix[..bytes].to_vec();
    content.iter_mut().step_by(9973).for_each(|there| *there ^= byte);
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes));
    let _ = zstd_safe::CCtx::create().compress_using_dict(&mut frame, &content, prefix, 1);
    (content, Encoding::Prefixed, frame)
}

pub fn zstd_frame(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    let _ = zstd_safe::compress(&mut out, content, 1);
    out
}

/// Of slots that there are, and one that there is not.
const CLASSES: [&str; 3] = ["rootfs", "config", "none"];
