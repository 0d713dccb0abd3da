//! What a delta route begins with: an older image, or the bundle that brought it.
//!
//! A bundle is proven object by object and segment by segment as its full route is unpacked, so a base is never what its
//! manifest does not say; whether somebody signed it does not matter, for a gateway recognises its base by the digest alone.

use super::{BundleReader, Depth, walk_content};
use crate::fail;
use crate::fail::{Result, Within};
use crate::files::{digest_of, scratch_beside};
use crate::layout::ImageFile;
use crate::meter::{Audience, Meter};
use mainstay_core::bundle::BUNDLE_MAGIC;
use mainstay_core::digest::Digest;
use mainstay_core::limits::ARTIFACT_BYTES_MAX;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A base as it was named: for which class, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseSpec {
    /// The class of the artifact; `None`: what the bundle says, or the only one there is.
    pub class: Option<String>,
    /// An image, or a bundle.
    pub path: PathBuf,
}

impl BaseSpec {
    /// Reads `CLASS=PATH` or `PATH`; a class is what one of the artifacts has, so that paths may hold `=`.
    pub fn read(text: &str, classes: &[&str]) -> Self {
        match text.split_once('=') {
            Some((class, path)) if classes.contains(&class) => {
                BaseSpec { class: Some(class.into()), path: path.into() }
            }
            _ => BaseSpec { class: None, path: text.into() },
        }
    }
}

/// An image that some gateways hold.
#[derive(Debug)]
pub struct Base {
    /// The artifact for which it is the base.
    pub class: String,
    /// How people call it.
    pub name: String,
    /// Its content.
    pub image: ImageFile,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// Opens what `spec` names, for artifacts of `classes`. Content of bundles goes to scratch files beside `beside`.
pub fn open(spec: &BaseSpec, classes: &[&str], beside: &Path, audience: Audience) -> Result<Vec<Base>> {
    let path = &spec.path;
    let bases = match is_bundle(path)? {
        true => unpack(path, beside, audience)?,
        false => vec![image(spec, classes, audience)?],
    };
    let wanted = |base: &Base| match &spec.class {
        Some(class) => *class == base.class,
        None => classes.contains(&base.class.as_str()),
    };
    let bases: Vec<_> = bases.into_iter().filter(wanted).collect();
    if bases.is_empty() {
        let expected = spec.class.as_deref().map_or_else(|| classes.join(", "), str::to_owned);
        return Err(fail!("base {}: expected an artifact of class {expected}, found none", path.display()));
    }
    Ok(bases)
}

fn is_bundle(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    let file = File::open(path).within(|| format!("base {}", path.display()))?;
    if file.metadata()?.is_dir() {
        return Err(fail!("base {}: expected an image or a bundle, found a folder", path.display()));
    }
    file.take(16).read_to_end(&mut magic).within(|| format!("base {}", path.display()))?;
    Ok(magic == BUNDLE_MAGIC || magic == super::UNSIGNED_MAGIC)
}

fn image(spec: &BaseSpec, classes: &[&str], audience: Audience) -> Result<Base> {
    let path = &spec.path;
    let class = match (&spec.class, classes) {
        (Some(class), _) => class.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            return Err(fail!(
                "base {}: expected a bundle, found an image, and there are {} artifacts that it could be of",
                path.display(),
                classes.len()
            )
            .todo("say of which: --base CLASS=IMAGE"));
        }
    };
    let mut image = File::open(path).within(|| path.display())?;
    let bytes = image.seek(SeekFrom::End(0)).within(|| path.display())?;
    image.seek(SeekFrom::Start(0)).within(|| path.display())?;
    if bytes == 0 || bytes > ARTIFACT_BYTES_MAX {
        return Err(fail!(
            "base {}: expected 1 to {ARTIFACT_BYTES_MAX} bytes, found {bytes}",
            path.display()
        ));
    }
    let mut meter = Meter::start(audience, "read base", Some(bytes));
    let digest = digest_of(&image, &mut |bytes| meter.add(bytes)).within(|| path.display())?;
    meter.finish();
    let image = ImageFile::new(image).within(|| path.display())?;
    Ok(Base { class, name: path.display().to_string(), image, bytes, digest })
}

/// Makes the content of each artifact of a bundle.
fn unpack(path: &Path, beside: &Path, audience: Audience) -> Result<Vec<Base>> {
    let (mut reader, head, total) = BundleReader::open(path)?;
    let manifest = head.unproven_manifest().within(|| path.display())?;
    let mut contents = Vec::new();
    for _ in &manifest.artifacts {
        contents.push(scratch_beside(beside)?);
    }
    let mut meter = Meter::start(audience, "read base", total);
    walk_content(
        &mut reader,
        &manifest,
        Depth::Content,
        &mut |seen| {
            meter.set(seen.at);
            Ok(())
        },
        &mut |artifact, segment| match contents.get_mut(artifact) {
            Some(content) => Ok(content.write_all(segment)?),
            None => Err(fail!("artifact {artifact} is not in the manifest")), // it is walked by the manifest
        },
    )
    .within(|| format!("base {}", path.display()))?;
    meter.finish();
    let bases = manifest.artifacts.iter().zip(contents).map(|(artifact, content)| {
        Ok(Base {
            class: artifact.class.as_str().to_owned(),
            name: format!("{} ({})", path.display(), manifest.version),
            image: ImageFile::new(content)?,
            bytes: artifact.size,
            digest: artifact.digest,
        })
    });
    bases.collect()
}
