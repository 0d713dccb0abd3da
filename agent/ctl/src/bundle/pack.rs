//! Makes a bundle from images.
//!
//! The manifest stands first in the file and names all that follows, so it is known last: the objects of all runs
//! go into a scratch file beside the output, and are put behind the manifest when it is made. Both files are on
//! the same file system, so the copy costs little where the kernel can share blocks.
//!
//! Delta routes are made behind the full one, from each base that was named for the artifact; those that save nothing are left
//! out, and where there are more than a manifest holds, those that save least.

use super::base::{self, Base, BaseSpec};
use super::delta_route::{DeltaRoute, delta_route, is_worth_it};
use super::encode::{Content, How, encode};
use super::packed::{Packed, PackedDelta};
use super::writer::{BundleWriter, write_object};
use super::{Head, UNSIGNED_SUFFIX};
use crate::fail;
use crate::fail::{Failure, Result, Within};
use crate::files::{NewFile, scratch_beside};
use crate::hints::{self, Hint};
use crate::meter::{Audience, Meter};
use crate::trust::add_signatures;
use crate::{delta, layout};
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::author::{Run, table};
use mainstay_core::bundle::{Artifact, Manifest, Object, Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{ARTIFACT_BYTES_MAX, CLASS_BYTES_MAX, ROUTES_MAX};
use mainstay_core::trust::MessageKind;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What to pack.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Slot class and image, in the order in which they are written.
    pub images: Vec<(String, PathBuf)>,
    /// All of the manifest but its artifacts.
    pub manifest: Manifest,
    /// What gateways hold now: a delta route is made from each that is worth it.
    pub bases: Vec<BaseSpec>,
    /// Predict executables' code in delta routes.
    pub transforms: bool,
    /// zstd level, 1..=22.
    pub level: i32,
    /// Worker threads.
    pub threads: usize,
    /// The bundle's name. Without signers, `.unsigned` is put behind it.
    pub out: PathBuf,
    /// May a file of this name be replaced?
    pub replace: bool,
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
    let mut bases = open_bases(plan, &path, audience)?;
    let (mut tables, mut routes, mut deltas, mut hints) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (class, image) in &plan.images {
        let mut packed = artifact(class, image, how, &mut scratch, audience).within(|| image.display())?;
        let own: Vec<Base> = bases.extract_if(.., |base| base.class == *class).collect();
        let mut made = Vec::new();
        for base in &own {
            let route = from_base(base, image, &packed.digests, plan, &path, audience);
            made.push(route.within(|| format!("{class} from base {}", base.name))?);
        }
        let first = own.first().zip(made.first()).map(|(base, route)| (base, route.summary.files.as_slice()));
        hints.extend(hints_for(image, first)?.into_iter().map(|hint| (class.clone(), hint)));
        let made = choose(class, made, &mut packed, &mut deltas);
        tables.push((packed.segment_table, packed.route_table, packed.scratch_bytes));
        routes.push(made);
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
    for ((segment_table, route_table, bytes), deltas) in tables.iter().zip(routes) {
        writer.object(Object::Table, segment_table)?;
        writer.object(Object::Table, route_table)?;
        writer.ready(&mut Read::by_ref(&mut scratch).take(*bytes)).within(|| path.display())?;
        for mut delta in deltas {
            writer.object(Object::Table, &delta.table)?;
            delta.objects.seek(SeekFrom::Start(0))?;
            writer.ready(&mut delta.objects).within(|| path.display())?;
        }
    }
    let bytes = writer.finish().within(|| path.display())?;
    new.finish()?;
    Ok(Packed { path, head, manifest, bytes, deltas, hints })
}

/// All bases, each content once for each class.
fn open_bases(plan: &Plan, beside: &Path, audience: Audience) -> Result<Vec<Base>> {
    let classes: Vec<&str> = plan.images.iter().map(|(class, _)| class.as_str()).collect();
    let mut bases: Vec<Base> = Vec::new();
    for spec in &plan.bases {
        for base in base::open(spec, &classes, beside, audience)? {
            let known = |other: &Base| (&other.class, other.digest) == (&base.class, base.digest);
            if !bases.iter().any(known) {
                bases.push(base);
            }
        }
    }
    Ok(bases)
}

fn from_base(
    base: &Base,
    image: &Path,
    digests: &[Digest],
    plan: &Plan,
    beside: &Path,
    audience: Audience,
) -> Result<DeltaRoute> {
    let (file, size) = open_image(image)?;
    let how = delta::How { level: plan.level, threads: plan.threads.max(1), transforms: plan.transforms };
    let meter = Mutex::new(Meter::start(audience, format!("delta {}", base.class), Some(size)));
    let progress = |bytes| {
        if let Ok(mut meter) = meter.lock() {
            meter.add(bytes);
        }
    };
    let objects = scratch_beside(beside)?;
    let new = layout::ImageFile::new(file)?;
    let route = delta_route(base, &new, digests, how, objects, &progress)?;
    if let Ok(meter) = meter.into_inner() {
        meter.finish();
    }
    Ok(route)
}

/// What the image costs its integrator, seen from the first of its bases.
fn hints_for(image: &Path, base: Option<(&Base, &[(String, u64)])>) -> Result<Vec<Hint>> {
    let new = layout::ImageFile::open(image)?;
    let new_layout = layout::read(&new)?;
    let Some((base, files)) = base else { return Ok(hints::hints(&new, &new_layout, None, &[])) };
    let base_layout = layout::read(&base.image)?;
    Ok(hints::hints(&new, &new_layout, Some((&base.image, &base_layout)), files))
}

/// Keeps the routes that save something, at most as many as a manifest holds, and enters them into the artifact in the order of
/// their bases.
fn choose(
    class: &str,
    made: Vec<DeltaRoute>,
    packed: &mut PackedArtifact,
    deltas: &mut Vec<PackedDelta>,
) -> Vec<DeltaRoute> {
    let room = ROUTES_MAX - packed.artifact.routes.len();
    let worth = |bytes: &u64| is_worth_it(*bytes, packed.full_bytes);
    let mut sizes: Vec<u64> = made.iter().map(DeltaRoute::bytes).filter(worth).collect();
    sizes.sort_unstable();
    let most = sizes.get(..room.min(sizes.len())).and_then(<[u64]>::last).copied();
    let mut kept = Vec::new();
    for delta in made {
        let RouteKind::Delta { base: digest, .. } = delta.route.kind else { continue };
        let keep = most.is_some_and(|most| delta.bytes() <= most)
            && packed.artifact.routes.push(delta.route.clone()).is_ok();
        deltas.push(PackedDelta {
            class: class.into(),
            base: delta.base.clone(),
            digest,
            bytes: delta.bytes(),
            full_bytes: packed.full_bytes,
            kept: keep,
            summary: delta.summary.clone(),
        });
        if keep {
            kept.push(delta);
        }
    }
    kept
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
    /// Of each segment.
    digests: Vec<Digest>,
    /// All that a gateway fetches for the full route.
    full_bytes: u64,
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
    let (mut route_bytes, mut scratch_bytes, mut index_bytes) = (0, 0, 0);
    let mut digests = Vec::new();
    let mut take = |run: Run, content_bytes: u64| -> Result<()> {
        segment_pages.push(Digest::of(&run.segment_page));
        route_pages.push(Digest::of(&run.route_page));
        digests.extend_from_slice(&run.digests);
        index_bytes += (run.segment_page.len() + run.route_page.len()) as u64;
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
    let full_bytes = route_bytes + index_bytes + (segment_table.len() + route_table.len()) as u64;
    Ok(PackedArtifact { artifact, segment_table, route_table, scratch_bytes, digests, full_bytes })
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
