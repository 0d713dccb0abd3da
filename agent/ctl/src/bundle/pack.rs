//! Makes a bundle from images.
//!
//! The manifest stands first in the file and names all that follows, so it is known last: the objects of all runs
//! go into a scratch file beside the output, and are put behind the manifest when it is made. Both files are on
//! the same file system, so the copy costs little where the kernel can share blocks.

use super::encode::{Content, How, encode};
use super::writer::{BundleWriter, write_object};
use super::{Head, UNSIGNED_SUFFIX};
use crate::fail;
use crate::fail::{Failure, Result, Within};
use crate::files::{NewFile, scratch_beside};
use crate::meter::{Audience, Meter};
use crate::trust::add_signatures;
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::author::{Run, table};
use mainstay_core::bundle::{Artifact, Manifest, Object, Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{ARTIFACT_BYTES_MAX, CLASS_BYTES_MAX};
use mainstay_core::trust::MessageKind;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What to pack.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Slot class and image, in the order in which they are written.
    pub images: Vec<(String, PathBuf)>,
    /// All of the manifest but its artifacts.
    pub manifest: Manifest,
    /// zstd level, 1..=22.
    pub level: i32,
    /// Worker threads.
    pub threads: usize,
    /// The bundle's name. Without signers, `.unsigned` is put behind it.
    pub out: PathBuf,
    /// May a file of this name be replaced?
    pub replace: bool,
}

/// What was packed.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file.
    pub path: PathBuf,
    /// What it begins with.
    pub head: Head,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its length.
    pub bytes: u64,
}

/// Packs. The same images and plan make the same bytes, whatever the number of threads (signatures are
/// deterministic too).
pub fn pack(plan: &Plan, signers: &[SigningKey], audience: Audience) -> Result<Packed> {
    check(plan)?;
    let path = match signers {
        [] => unsigned_name(&plan.out),
        _ => plan.out.clone(),
    };
    let mut new = NewFile::create(&path, 0o666, plan.replace)?; // a bundle is for everybody; the umask decides
    let mut scratch = BufWriter::with_capacity(SCRATCH_BUFFER_BYTES, scratch_beside(&path)?);
    let how = How { level: plan.level, threads: plan.threads.max(1) };

    let mut manifest = plan.manifest.clone();
    manifest.artifacts.clear();
    let mut tables = Vec::new();
    for (class, image) in &plan.images {
        let packed = artifact(class, image, how, &mut scratch, audience).within(|| image.display())?;
        tables.push((packed.segment_table, packed.route_table, packed.scratch_bytes));
        // `check` has counted them.
        manifest.artifacts.push(packed.artifact).map_err(|_| fail!("too many artifacts"))?;
    }
    let body = manifest.encode()?;
    let head = match signers {
        [] => Head::Unsigned(body),
        _ => Head::Signed(add_signatures(MessageKind::Manifest, &body, &[], signers)?),
    };

    let mut scratch = scratch.into_inner().map_err(|e| Failure::from(e.into_error()))?;
    scratch.seek(SeekFrom::Start(0))?;
    let mut writer = BundleWriter::begin(new.file(), &head).within(|| path.display())?;
    for (segment_table, route_table, bytes) in &tables {
        writer.object(Object::Table, segment_table)?;
        writer.object(Object::Table, route_table)?;
        writer.ready(&mut Read::by_ref(&mut scratch).take(*bytes)).within(|| path.display())?;
    }
    let bytes = writer.finish().within(|| path.display())?;
    new.finish()?;
    Ok(Packed { path, head, manifest, bytes })
}

/// All that can be refused without reading an image, before hours of compression and not after.
fn check(plan: &Plan) -> Result<()> {
    let mut manifest = plan.manifest.clone();
    manifest.artifacts.clear();
    for (class, image) in &plan.images {
        open_image(image).within(|| image.display())?;
        let full = Route { kind: RouteKind::Full, table: Digest::default(), bytes: 0 };
        let placeholder = Artifact {
            class: read_class(class)?,
            size: 1,
            digest: Digest::default(),
            segments: Digest::default(),
            routes: heapless::Vec::from_iter([full]),
        };
        let most = manifest.artifacts.capacity();
        let over = || fail!("expected at most {most} artifacts, found {}", plan.images.len());
        manifest.artifacts.push(placeholder).map_err(|_| over())?;
    }
    Ok(manifest.check()?)
}

fn read_class(class: &str) -> Result<heapless::String<CLASS_BYTES_MAX>> {
    class.try_into().map_err(|_| fail!("class: expected at most {CLASS_BYTES_MAX} bytes, found {class:?}"))
}

struct PackedArtifact {
    artifact: Artifact,
    segment_table: Vec<u8>,
    route_table: Vec<u8>,
    scratch_bytes: u64,
}

/// One artifact: its runs go into `scratch`.
fn artifact(
    class: &str,
    image: &Path,
    how: How,
    scratch: &mut dyn Write,
    audience: Audience,
) -> Result<PackedArtifact> {
    let (mut file, size) = open_image(image)?;
    let mut meter = Meter::start(audience, format!("pack {class}"), Some(size));
    let (mut segment_pages, mut route_pages) = (Vec::new(), Vec::new());
    let (mut route_bytes, mut scratch_bytes) = (0, 0);
    let mut take = |run: Run, content_bytes: u64| -> Result<()> {
        segment_pages.push(Digest::of(&run.segment_page));
        route_pages.push(Digest::of(&run.route_page));
        scratch_bytes += write_object(scratch, Object::SegmentPage, &run.segment_page)?;
        scratch_bytes += write_object(scratch, Object::RoutePage, &run.route_page)?;
        for piece in &run.pieces {
            route_bytes += piece.len() as u64;
            scratch_bytes += write_object(scratch, Object::Piece, piece)?;
        }
        meter.add(content_bytes);
        Ok(())
    };
    let Content { size, digest } = encode(&mut file, how, &mut take)?;
    meter.finish();
    if size == 0 {
        return Err(fail!("expected an image, found an empty file"));
    }
    let (segment_table, route_table) = (table(&segment_pages), table(&route_pages));
    let route = Route { kind: RouteKind::Full, table: Digest::of(&route_table), bytes: route_bytes };
    let artifact = Artifact {
        class: read_class(class)?,
        size,
        digest,
        segments: Digest::of(&segment_table),
        routes: heapless::Vec::from_iter([route]),
    };
    Ok(PackedArtifact { artifact, segment_table, route_table, scratch_bytes })
}

/// A file or a block device, and how large it is.
fn open_image(path: &Path) -> Result<(File, u64)> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(
            fail!("expected an image, found a folder").todo("make an image of it first, e.g. with mkfs")
        );
    }
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    if size > ARTIFACT_BYTES_MAX {
        return Err(fail!("expected at most {ARTIFACT_BYTES_MAX} bytes, found {size}"));
    }
    Ok((file, size))
}

/// `x.bundle` → `x.bundle.unsigned`
fn unsigned_name(path: &Path) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().ends_with(UNSIGNED_SUFFIX.as_bytes()) {
        return path.into();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(UNSIGNED_SUFFIX);
    name.into()
}

const SCRATCH_BUFFER_BYTES: usize = 256 * 1024;
