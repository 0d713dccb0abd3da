//! Packs, signs and serves bundles: the operator's side, in a few lines, through core's own author API.

use crate::disk::SLOTS;
use crate::image::Image;
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::author::{self, RunBuilder};
use mainstay_core::bundle::patch::{self, Base, Op, PatchState, Transform};
use mainstay_core::bundle::{Artifact, Encoding, Manifest, Route, RouteKind, TrialPolicy};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstay_core::seam::{Inflate, Result};
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The hardware of the simulated gateway.
pub const COMPATIBLE: &str = "sim-gateway-1";

/// A bundle as it lies on a broker.
#[derive(Clone, Debug)]
pub struct Published {
    /// What is in it.
    pub image: Image,
    /// The signed manifest.
    pub envelope: Rc<Vec<u8>>,
    /// When the operator said that it shall run, Unix seconds.
    pub signed_at: u64,
    /// Its name.
    pub name: Digest,
    /// Tables, pages and pieces by name.
    pub objects: Rc<BTreeMap<Digest, Vec<u8>>>,
}

/// Whoever holds the keys that sign everything here: one for roots and all else, and one that only a second root knows.
pub struct Operator {
    key: SigningKey,
    later: SigningKey,
}

impl Default for Operator {
    fn default() -> Self {
        Operator { key: SigningKey::from_bytes(&[7; 32]), later: SigningKey::from_bytes(&[8; 32]) }
    }
}

/// What a release says beside its content.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Tries of the trial.
    pub tries: u8,
    /// When the operator says that it shall run, Unix seconds.
    pub signed_at: u64,
    /// When it expires, Unix seconds.
    pub expires: Option<u64>,
    /// Is it signed with the key that only the second root knows?
    pub later_key: bool,
}

/// What a release knows of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deltas {
    /// Nothing: full routes alone.
    None,
    /// What it holds: delta routes from it.
    From,
    /// The same, made from other bytes than it holds, as on a gateway whose slots have drifted.
    Drifted,
}

impl Operator {
    /// The root under which the operator's signatures are valid.
    pub fn trust(&self) -> TrustRoot {
        let one = RoleMembers { threshold: 1, members: 1 };
        TrustRoot {
            fleet: "sim".try_into().expect("short"),
            version: 1,
            keys: [self.key.verifying_key().to_bytes()].into_iter().collect(),
            roles: [one; 4],
        }
    }

    /// The root after it: it knows the later key. If it `revokes`, the first key signs roots and nothing else.
    pub fn next_trust(&self, revokes: bool) -> Result<Vec<u8>> {
        let mut root = self.trust();
        root.version = 2;
        let _ = root.keys.push(self.later.verifying_key().to_bytes()); // the second of sixteen
        for role in &mut root.roles[1..] {
            role.members = if revokes { 2 } else { 3 };
        }
        seal(MessageKind::TrustRoot, &root.encode()?, &[&self.key])
    }

    /// Packs an image and signs it; `before`: what gateways hold.
    pub fn publish(&self, image: &Image, before: (&Image, Deltas), terms: Terms) -> Result<Published> {
        let (before, deltas) = before;
        let mut objects = BTreeMap::new();
        let mut artifacts = heapless::Vec::new();
        for (class, _) in SLOTS {
            let mut artifact = pack(class, image.content(class), &mut objects)?;
            if deltas != Deltas::None {
                let drifted = deltas == Deltas::Drifted;
                let route = delta(image.content(class), before.content(class), drifted, &mut objects)?;
                let _ = artifact.routes.push(route); // two of eight
            }
            let _ = artifacts.push(artifact); // three of eight
        }
        let manifest = Manifest {
            compatible: COMPATIBLE.try_into().expect("short"),
            version: image.version.to_string().as_str().try_into().expect("short"),
            security_version: image.security_version,
            artifacts,
            trial: TrialPolicy { tries: terms.tries, ..TrialPolicy::default() },
            not_before: None,
            expires: terms.expires,
            provenance: Default::default(),
            meta: Default::default(),
        };
        let key = if terms.later_key { &self.later } else { &self.key };
        let envelope = seal(MessageKind::Manifest, &manifest.encode()?, &[key])?;
        let name = Digest::of(&envelope);
        let (image, signed_at) = (image.clone(), terms.signed_at);
        Ok(Published { image, signed_at, envelope: Rc::new(envelope), name, objects: Rc::new(objects) })
    }
}

/// Cuts content into segments, encodes each as short as it gets, and files the objects under their names.
pub fn pack(class: &str, content: &[u8], objects: &mut BTreeMap<Digest, Vec<u8>>) -> Result<Artifact> {
    let mut file = |bytes: Vec<u8>| {
        let name = Digest::of(&bytes);
        objects.insert(name, bytes);
        name
    };
    let (mut segment_pages, mut route_pages, mut route_bytes) = (Vec::new(), Vec::new(), 0);
    for (run, segments) in content.chunks(RUN_SEGMENTS_MAX * SEGMENT_BYTES).enumerate() {
        let mut builder = RunBuilder::new();
        for segment in segments.chunks(SEGMENT_BYTES) {
            let (encoding, encoded) = encode(segment)?;
            builder.push(Digest::of(segment), encoding, &encoded)?;
        }
        let run = builder.finish((run * RUN_SEGMENTS_MAX) as u32);
        segment_pages.push(file(run.segment_page));
        route_pages.push(file(run.route_page));
        route_bytes += run.pieces.iter().map(|p| p.len() as u64).sum::<u64>();
        run.pieces.into_iter().for_each(|piece| {
            file(piece);
        });
    }
    let full = Route { kind: RouteKind::Full, table: file(author::table(&route_pages)), bytes: route_bytes };
    Ok(Artifact {
        class: class.try_into().map_err(|_| fault!(Refused, "class {class}: too long"))?,
        size: content.len() as u64,
        digest: Digest::of(content),
        segments: file(author::table(&segment_pages)),
        routes: [full].into_iter().collect(),
    })
}

/// A delta route of an artifact of one segment. `drifted`: made from a base of which a byte differs, and with a copy of what
/// has changed where that can be.
fn delta(
    content: &[u8],
    base: &[u8],
    drifted: bool,
    objects: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Route> {
    let mut held = base.to_vec();
    if let (true, [first, ..]) = (drifted, &mut held[..]) {
        *first ^= 1;
    }
    let copies = if drifted { content.len() <= base.len() && content != base } else { content == base };
    let (encoding, encoded) = match copies {
        true => (Encoding::Copy, Vec::new()),
        false => {
            let frame = difference(content, &held)?;
            let (full, encoded) = encode(content)?;
            let smaller = frame.len() < encoded.len();
            if smaller { (Encoding::Patch, frame) } else { (full, encoded) }
        }
    };
    let mut run = RunBuilder::new();
    run.push_delta(Digest::of(content), encoding, &encoded, !copies)?;
    let run = run.finish_delta(0);
    let table = author::table(&[Digest::of(&run.route_page)]);
    let kind = RouteKind::Delta { base: Digest::of(base), base_bytes: base.len() as u64 };
    let bytes = run.pieces.iter().map(|piece| piece.len() as u64).sum();
    let route = Route { kind, table: Digest::of(&table), bytes };
    for object in [table, run.route_page].into_iter().chain(run.pieces) {
        objects.insert(Digest::of(&object), object);
    }
    Ok(route)
}

thread_local! {
    /// Frames that were made before, by content and base: lives differ in what happens, seldom in what is delivered, and a frame
    /// takes longer than a life.
    static FRAMES: RefCell<BTreeMap<[Digest; 2], Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

fn difference(content: &[u8], base: &[u8]) -> Result<Vec<u8>> {
    let key = [content, base].map(Digest::of);
    if let Some(frame) = FRAMES.with_borrow(|frames| frames.get(&key).cloned()) {
        return Ok(frame);
    }
    let frame = make_difference(content, base)?;
    FRAMES.with_borrow_mut(|frames| frames.insert(key, frame.clone()));
    Ok(frame)
}

fn make_difference(content: &[u8], base: &[u8]) -> Result<Vec<u8>> {
    struct Held<'a>(&'a [u8]);
    impl Base for Held<'_> {
        fn bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
            out.copy_from_slice(&self.0[at as usize..][..out.len()]);
            Ok(())
        }
    }
    let shared = content.len().min(base.len()) as u32;
    let from = patch::From { at: 0, transform: Transform::None, address: 0, anchor: 0 };
    let mut ops = vec![Op::Add { length: shared, from }];
    let rest = content.len() as u32 - shared;
    ops.extend((rest > 0).then_some(Op::Extra { length: rest }));
    patch::patch(&ops, None, 0, &mut Box::<PatchState>::default(), &mut Held(base), content)
}

fn encode(segment: &[u8]) -> Result<(Encoding, Vec<u8>)> {
    if segment.iter().all(|b| *b == 0) {
        return Ok((Encoding::Zero, Vec::new()));
    }
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(segment.len()));
    zstd_safe::compress(&mut frame, segment, 3).map_err(|code| zstd_fault("compress", code))?;
    if frame.len() < segment.len() {
        Ok((Encoding::Zstd, frame))
    } else {
        Ok((Encoding::Raw, segment.to_vec()))
    }
}

/// Real zstd.
pub struct Zstd;

impl Inflate for Zstd {
    fn inflate(&mut self, frame: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut zstd = zstd_safe::DCtx::create();
        zstd.decompress_using_dict(out, frame, prefix).map_err(|code| zstd_fault("unpack", code))
    }
}

fn zstd_fault(what: &str, code: usize) -> fault::Fault {
    fault!(Corrupt, "zstd: cannot {what}: {}", zstd_safe::get_error_name(code))
}
