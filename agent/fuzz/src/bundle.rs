//! Bundle files as a device reads them: from front to back, from whoever plugs in a stick.
//!
//! The input is a bundle file. As it is, no change of its manifest would get past the signature; so it is read once as
//! it is and once with the manifest's body signed anew by who may: then tables, pages, pieces and frames are met by a
//! manifest that is proven and hostile.
//!
//! Claims: time and memory are bounded (the installer's workspace, one object, one zstd context); a bundle that passes
//! `verify` is read to its last byte; the operator's reader takes no bundle that the device refuses for its grammar.

use crate::allocations::bounded;
use crate::throwaway::{RELEASE, TRUST, sealed};
use mainstay::check_bundle::check;
use mainstay::file_source::FileSource;
use mainstay_core::bundle::{BUNDLE_MAGIC, OBJECT_HEADER_BYTES, Object};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{ENVELOPE_BYTES_MAX, OBJECT_BYTES_MAX};
use mainstay_core::seam::PieceSource;
use mainstay_core::trust::{Envelope, MessageKind};
use mainstay_core::update::WORKSPACE_BYTES;
use std::io::Cursor;

/// The whole input is a bundle file.
pub fn run(data: &[u8]) {
    whole(data);
    if let Some(resigned) = resigned(data) {
        whole(&resigned);
    }
}

fn whole(bytes: &[u8]) {
    let most = WORKSPACE_BYTES + ENVELOPE_BYTES_MAX + OBJECT_BYTES_MAX + 64 * 1024;
    let input = || Box::new(Cursor::new(bytes.to_vec()));
    bounded(most + bytes.len(), || {
        if let Ok(source) = FileSource::open(input())
            && let Ok(manifest) = check(source, &TRUST)
        {
            assert!(TRUST.version == 1 && !manifest.artifacts.is_empty());
        }
    });
    let Ok(mut source) = FileSource::open(input()) else { return };
    let nothing = Digest([0; 32]);
    if let Ok(unseen) = source.fetch(&nothing, 1) {
        assert!(unseen.len() <= OBJECT_BYTES_MAX, "the next one, whatever it is");
        source.refute(&nothing).expect("then it is sought");
        assert!(source.fetch(&nothing, 1).is_err(), "nobody finds an object of this name");
    }
}

/// The same file with its manifest's body under a right signature.
pub fn resigned(data: &[u8]) -> Option<Vec<u8>> {
    let rest = data.strip_prefix(&BUNDLE_MAGIC)?;
    let (header, rest) = rest.split_first_chunk::<OBJECT_HEADER_BYTES>()?;
    let (object, length) = Object::parse_header(header).ok()?;
    let (envelope, rest) = rest.split_at_checked(length)?;
    let envelope = Envelope::parse(envelope).ok().filter(|_| object == Object::Manifest)?;
    let envelope = sealed(MessageKind::Manifest, envelope.unproven_body(), &RELEASE)?;
    Some([&BUNDLE_MAGIC, &Object::Manifest.header(envelope.len())[..], &envelope, rest].concat())
}
