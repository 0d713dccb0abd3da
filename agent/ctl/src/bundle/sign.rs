//! Signs a bundle. The manifest's envelope stands at the front and its length changes with each signature, so the
//! file is written anew, and every byte of its content is proven on the way: nobody signs what is not there.
//!
//! A bundle's name is the SHA-256 of its envelope, so it changes with each signature. Collect all signatures
//! before it is published.

use super::writer::BundleWriter;
use super::{BundleReader, Depth, Head, UNSIGNED_SUFFIX, walk};
use crate::fail;
use crate::fail::{Result, Within};
use crate::files::NewFile;
use crate::meter::{Audience, Meter};
use crate::trust::add_signatures;
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::Manifest;
use mainstay_core::digest::Digest;
use mainstay_core::trust::{Envelope, KeyId, MessageKind};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// What was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The file.
    pub path: PathBuf,
    /// The name that it had; `None`: nobody had signed it.
    pub old_name: Option<Digest>,
    /// The name that it has now.
    pub name: Digest,
    /// All who have signed it now.
    pub signers: Vec<KeyId>,
    /// What was signed.
    pub manifest: Manifest,
}

/// Adds signatures to the bundle at `path`. Without `out`, `x.bundle.unsigned` becomes `x.bundle` (which must not
/// exist), and a signed bundle is replaced.
pub fn sign(path: &Path, out: Option<&Path>, signers: &[SigningKey], audience: Audience) -> Result<Signed> {
    let (mut reader, head, total) = BundleReader::open(path)?;
    let manifest = head.unproven_manifest().within(|| path.display())?;
    let (body, old) = match &head {
        Head::Unsigned(body) => (body.clone(), Vec::new()),
        Head::Signed(bytes) => {
            let envelope = Envelope::parse(bytes)?;
            let old = envelope.signatures().map(|(id, signature)| (id, *signature)).collect();
            (envelope.unproven_body().to_vec(), old)
        }
    };
    let (out, replace) = match out {
        Some(out) => (out.to_owned(), out == path),
        None if path.as_os_str() == "-" => {
            return Err(
                fail!("a bundle from standard input needs a name for its output").todo("add --out FILE")
            );
        }
        None => signed_name(path, &head)?,
    };
    let envelope = add_signatures(MessageKind::Manifest, &body, &old, signers)?;
    let name = Digest::of(&envelope);
    let signers = Envelope::parse(&envelope)?.signatures().map(|(id, _)| id).collect();

    let mut new = NewFile::create(&out, 0o666, replace)?;
    let mut meter = Meter::start(audience, "sign", total);
    let buffered = BufWriter::with_capacity(BUFFER_BYTES, new.file());
    let mut writer = BundleWriter::begin(buffered, &Head::Signed(envelope))?;
    walk(&mut reader, &manifest, Depth::Content, &mut |seen| {
        meter.set(seen.at);
        writer.object(seen.object, seen.bytes)
    })
    .within(|| path.display())?;
    writer.finish().within(|| out.display())?;
    meter.finish();
    new.finish()?;
    Ok(Signed { path: out, old_name: head.name(), name, signers, manifest })
}

fn signed_name(path: &Path, head: &Head) -> Result<(PathBuf, bool)> {
    if matches!(head, Head::Signed(_)) {
        return Ok((path.into(), true));
    }
    match path.to_str().and_then(|p| p.strip_suffix(UNSIGNED_SUFFIX)) {
        Some(name) if !name.is_empty() => Ok((name.into(), false)),
        _ => Err(fail!("{}: expected a name that ends with {UNSIGNED_SUFFIX}", path.display())
            .todo("name the output with --out FILE")),
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
