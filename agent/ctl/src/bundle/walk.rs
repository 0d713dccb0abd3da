//! Walks through a bundle file behind its manifest, in the order that the layout prescribes, and proves each
//! object by its name; at [`Depth::Content`] each segment is made and proven too, and the whole artifact's digest.
//! What is left over or missing at any place is refused. What a delta route makes cannot be proven here, without its base: it
//! was when it was packed, and a gateway that finds it wrong takes the full route.

use super::BundleReader;
use crate::fail;
use crate::fail::{Result, Within};
use crate::zstd::Zstd;
use mainstay_core::bundle::{
    Artifact, Encoding, Manifest, Object, Route, RouteKind, RoutePage, SegmentPage, Table, VerifiedObject,
};
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use std::io::Read;

/// How much is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Each object has its name.
    Objects,
    /// And makes the content that the manifest promises.
    Content,
}

/// An object that has been proven.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What it is.
    pub object: Object,
    /// Its name.
    pub name: Digest,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How far the file has been read.
    pub at: u64,
}

/// What a delta route is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaFigures {
    /// SHA-256 of the base.
    pub base: Digest,
    /// Segments by [`Encoding`], at its number.
    pub segments: [u64; 7],
    /// Pieces.
    pub pieces: u64,
    /// Their bytes.
    pub piece_bytes: u64,
    /// Bytes of its table and pages.
    pub index_bytes: u64,
}

/// What an artifact is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactFigures {
    /// The slot's class.
    pub class: String,
    /// Content bytes.
    pub content: u64,
    /// Segments by [`Encoding`], at its number; none is a copy or a patch.
    pub segments: [u64; 7],
    /// Pieces.
    pub pieces: u64,
    /// Their bytes.
    pub piece_bytes: u64,
    /// Bytes of all that has to be fetched beside the pieces: tables and pages.
    pub index_bytes: u64,
    /// Its delta routes, in the manifest's order.
    pub deltas: Vec<DeltaFigures>,
}

/// What a bundle is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// By artifact.
    pub artifacts: Vec<ArtifactFigures>,
    /// Objects, without the manifest.
    pub objects: u64,
    /// Their bytes, without headers.
    pub object_bytes: u64,
    /// The file's length.
    pub file_bytes: u64,
}

/// Walks to the end of the file. `seen` is told each object once it is proven.
pub fn walk<R: Read>(
    reader: &mut BundleReader<R>,
    manifest: &Manifest,
    depth: Depth,
    seen: &mut dyn FnMut(Seen<'_>) -> Result<()>,
) -> Result<Figures> {
    walk_content(reader, manifest, depth, seen, &mut |_, _| Ok(()))
}

/// The same; at [`Depth::Content`] `content` is given each segment of each artifact (its place in the manifest), proven and in
/// order.
pub fn walk_content<R: Read>(
    reader: &mut BundleReader<R>,
    manifest: &Manifest,
    depth: Depth,
    seen: &mut dyn FnMut(Seen<'_>) -> Result<()>,
    content: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<Figures> {
    let mut walk = Walk {
        reader,
        depth,
        seen,
        content,
        figures: Figures::default(),
        zstd: Zstd::default(),
        before: Vec::new(),
    };
    for artifact in &manifest.artifacts {
        let figures = walk.artifact(artifact).within(|| format!("artifact {}", artifact.class))?;
        walk.figures.artifacts.push(figures);
    }
    let mut bytes = Vec::new();
    match walk.reader.next(&mut bytes)? {
        Object::End => {}
        other => return Err(fail!("bundle: expected its end, found a {other:?}")),
    }
    walk.figures.file_bytes = walk.reader.at();
    Ok(walk.figures)
}

struct Walk<'a, R> {
    reader: &'a mut BundleReader<R>,
    depth: Depth,
    seen: &'a mut dyn FnMut(Seen<'_>) -> Result<()>,
    content: &'a mut dyn FnMut(usize, &[u8]) -> Result<()>,
    figures: Figures,
    zstd: Zstd,
    /// The segment before the one that is made.
    before: Vec<u8>,
}

impl<R: Read> Walk<'_, R> {
    fn artifact(&mut self, artifact: &Artifact) -> Result<ArtifactFigures> {
        let mut figures = ArtifactFigures {
            class: artifact.class.as_str().into(),
            content: artifact.size,
            ..ArtifactFigures::default()
        };
        let runs = artifact.run_count();
        let route = artifact.full_route()?;
        let segment_table = self.object(Object::Table, &artifact.segments)?;
        let segment_table = Table::parse(prove(&artifact.segments, &segment_table)?, runs)?;
        let route_table = self.object(Object::Table, &route.table)?;
        let route_table = Table::parse(prove(&route.table, &route_table)?, runs)?;
        figures.index_bytes += 2 * (16 + 32 * runs as u64);
        let mut whole = Hasher::new();
        self.before.clear();
        for run in 0..runs {
            let names = (segment_table.page(run)?, route_table.page(run)?);
            self.run(artifact, run, names, &mut whole, &mut figures)?;
        }
        if figures.piece_bytes != route.bytes {
            return Err(fail!(
                "the manifest promises {} bytes of pieces, the bundle holds {}",
                route.bytes,
                figures.piece_bytes
            ));
        }
        if self.depth == Depth::Content {
            let found = whole.finish();
            if found != artifact.digest {
                return Err(fail!("content: expected {}, found {found}", artifact.digest));
            }
        }
        for route in &artifact.routes {
            if let RouteKind::Delta { base, .. } = route.kind {
                let delta = self.delta(artifact, route, base).within(|| format!("delta from {base}"))?;
                figures.deltas.push(delta);
            }
        }
        Ok(figures)
    }

    /// One delta route: its table, and for each run its page and its pieces.
    fn delta(&mut self, artifact: &Artifact, route: &Route, base: Digest) -> Result<DeltaFigures> {
        let mut figures = DeltaFigures { base, segments: [0; 7], pieces: 0, piece_bytes: 0, index_bytes: 0 };
        let runs = artifact.run_count();
        let table = self.object(Object::Table, &route.table)?;
        let table = Table::parse(prove(&route.table, &table)?, runs)?;
        figures.index_bytes += 16 + 32 * runs as u64;
        for run in 0..runs {
            let first = (run * RUN_SEGMENTS_MAX) as u32;
            let count = (artifact.segment_count() - first).min(RUN_SEGMENTS_MAX as u32) as usize;
            let name = table.page(run)?;
            let page = self.object(Object::DeltaPage, &name)?;
            figures.index_bytes += page.len() as u64;
            let content = |index: usize| artifact.segment_bytes(first + index as u32);
            let page = RoutePage::parse_delta(prove(&name, &page)?, first, count, content)?;
            for index in 0..count {
                let (encoding, _) = page.segment(index)?;
                if let Some(kind) = figures.segments.get_mut(encoding as usize) {
                    *kind += 1;
                }
            }
            for piece in 0..page.piece_count() {
                let listed = page.piece(piece)?;
                let bytes = self.object(Object::Piece, &listed.name)?;
                expect_length(piece, run, listed.length, bytes.len())?;
                figures.pieces += 1;
                figures.piece_bytes += bytes.len() as u64;
            }
        }
        if figures.piece_bytes != route.bytes {
            return Err(fail!(
                "the manifest promises {} bytes of pieces, the bundle holds {}",
                route.bytes,
                figures.piece_bytes
            ));
        }
        Ok(figures)
    }

    fn run(
        &mut self,
        artifact: &Artifact,
        run: usize,
        names: (Digest, Digest),
        whole: &mut Hasher,
        figures: &mut ArtifactFigures,
    ) -> Result<()> {
        let first = (run * RUN_SEGMENTS_MAX) as u32;
        let count = (artifact.segment_count() - first).min(RUN_SEGMENTS_MAX as u32) as usize;
        let segment_page = self.object(Object::SegmentPage, &names.0)?;
        let segments = SegmentPage::parse(prove(&names.0, &segment_page)?, first, count)?;
        let route_page = self.object(Object::RoutePage, &names.1)?;
        figures.index_bytes += (segment_page.len() + route_page.len()) as u64;
        let content = |index: usize| artifact.segment_bytes(first + index as u32);
        let route = RoutePage::parse(prove(&names.1, &route_page)?, first, count, content)?;

        let mut pending: Vec<u8> = Vec::new();
        let mut piece = 0;
        for index in 0..count {
            let (encoding, length) = route.segment(index)?;
            if let Some(kind) = figures.segments.get_mut(encoding as usize) {
                *kind += 1;
            }
            // The page was checked: its pieces hold exactly what its segments take.
            while pending.len() < length {
                let listed = route.piece(piece)?;
                let bytes = self.object(Object::Piece, &listed.name)?;
                expect_length(piece, run, listed.length, bytes.len())?;
                figures.pieces += 1;
                figures.piece_bytes += bytes.len() as u64;
                pending.extend_from_slice(&bytes);
                piece += 1;
            }
            if self.depth == Depth::Content {
                let encoded = pending.get(..length).unwrap_or_default();
                let made = make(&mut self.zstd, encoding, encoded, &self.before, content(index))
                    .within(|| format!("segment {}", first as usize + index))?;
                let expected = segments.digest(index)?;
                let found = Digest::of(&made);
                if found != expected {
                    return Err(fail!(
                        "segment {}: expected content {expected}, found {found}",
                        first as usize + index
                    ));
                }
                whole.update(&made);
                (self.content)(self.figures.artifacts.len(), &made)?;
                self.before = made;
            }
            pending.drain(..length);
        }
        Ok(())
    }

    /// The next object of the file, which must be this one.
    fn object(&mut self, expected: Object, name: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let object = self.reader.next(&mut bytes)?;
        if object != expected {
            return Err(fail!(
                "bundle: expected a {expected:?}, found a {object:?} before byte {}",
                self.reader.at()
            ));
        }
        prove(name, &bytes).within(|| format!("{expected:?} before byte {}", self.reader.at()))?;
        self.figures.objects += 1;
        self.figures.object_bytes += bytes.len() as u64;
        (self.seen)(Seen { object, name: *name, bytes: &bytes, at: self.reader.at() })?;
        Ok(bytes)
    }
}

fn expect_length(piece: usize, run: usize, listed: u32, found: usize) -> Result<()> {
    if found != listed as usize {
        return Err(fail!("piece {piece} of run {run}: expected {listed} bytes, found {found}"));
    }
    Ok(())
}

fn prove<'a>(name: &Digest, bytes: &'a [u8]) -> Result<VerifiedObject<'a>> {
    Ok(VerifiedObject::prove(name, bytes)?)
}

/// The content of a segment; never more than it may have, whatever the frame says.
fn make(zstd: &mut Zstd, encoding: Encoding, encoded: &[u8], before: &[u8], bytes: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; bytes.min(SEGMENT_BYTES)];
    match encoding {
        Encoding::Zero => {}
        Encoding::Raw => out.copy_from_slice(encoded), // of this length: the page was checked
        Encoding::Zstd => zstd.unpack(encoded, &[], &mut out)?,
        Encoding::Prefixed => zstd.unpack(encoded, before, &mut out)?,
        Encoding::Copy | Encoding::Patch | Encoding::Recoded => {
            return Err(fail!("{encoding:?} in a full route"));
        } // never parsed
    }
    Ok(out)
}
