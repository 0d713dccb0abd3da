//! The order: a signature or a name is proven before any byte that it covers is read as what it claims to be.
//!
//! Method: bodies that a parser would refuse with words of its own, under signatures that are missing, forged, or
//! somebody else's. Whoever read the body first would say so in the refusal.

use crate::common::{key, refused, role, root, signed, simple_root};
use mainstay_core::bundle::{VerifiedManifest, VerifiedObject, VerifiedSegment};
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::limits::BODY_BYTES_MAX;
use mainstay_core::policy::DesiredState;
use mainstay_core::trust::{KeyId, MessageKind, TrustRoot, assemble};

/// Every kind of signed message, how a gateway reads it, the seed of the key that it wants, and what its parser calls it.
type Reader = fn(&TrustRoot, &[u8]) -> Result<(), Fault>;
const READERS: [(MessageKind, Reader, u8, &str); 2] = [
    (MessageKind::Manifest, |root, bytes| VerifiedManifest::open(root, bytes).map(drop), 2, "manifest"),
    (
        MessageKind::DesiredState,
        |root, bytes| DesiredState::open(root, bytes, "line-2", 0, 0).map(drop),
        3,
        "desired state",
    ),
];

/// No version, unknown versions, numbers without an end, noise, and as much as an envelope takes.
fn bodies() -> Vec<Vec<u8>> {
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |length: usize| -> Vec<u8> {
        let next = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let mut all = vec![vec![0], vec![1], vec![2, 0], vec![255; 3], [vec![1], vec![0xff; 200]].concat()];
    all.extend((2..10).map(|bits| random(1 << bits)));
    all.push([vec![1], random(BODY_BYTES_MAX - 1)].concat());
    all
}

/// `body` in an envelope that proves nothing: signed by a stranger, under the right key's name, and for another body.
fn unproven(kind: MessageKind, body: &[u8], wanted: u8) -> [Vec<u8>; 3] {
    let id = KeyId::of(key(wanted).verifying_key().as_bytes());
    let mut other = signed(kind, &[body, b"!"].concat()[1..], &[wanted]);
    other.truncate(12 + 72);
    other.extend_from_slice(body);
    [signed(kind, body, &[9]), assemble(kind, body, &[(id, [7; 64])]).unwrap(), other]
}

#[test]
fn a_body_that_nobody_has_signed_is_refused_for_its_signature_whatever_stands_in_it() {
    for (kind, read, wanted, name) in READERS {
        for body in bodies() {
            for bytes in unproven(kind, &body, wanted) {
                refused(read(&simple_root(), &bytes), "expected 1 valid signature(s)");
            }
            // The same bodies are this parser's business once they are signed: so they would have been noticed.
            let said = read(&simple_root(), &signed(kind, &body, &[wanted])).unwrap_err().what;
            assert!(said.starts_with(name) && !said.contains("signature"), "{kind:?} {body:02x?}: {said}");
        }
    }
}

/// An envelope without a signature has no body that could be reached; not even its kind's reader is asked.
#[test]
fn an_envelope_without_signatures_is_refused_before_there_is_a_body() {
    for (kind, read, wanted, _) in READERS {
        for body in bodies() {
            let mut bytes = signed(kind, &body, &[wanted]);
            bytes[5] = 0;
            bytes.drain(12..12 + 72);
            refused(read(&simple_root(), &bytes), "expected 1 to 8 signatures, found 0");
            refused(simple_root().rotate(&bytes), "expected 1 to 8 signatures, found 0");
        }
    }
}

/// The one exception, and why it is none: a new root names the keys that have to have signed it, but the old root's
/// threshold is proven first, so nobody but them reaches the parser. What the image brings is not from outside.
#[test]
fn a_trust_root_that_the_old_keys_have_not_signed_is_refused_before_it_is_read() {
    for body in bodies() {
        for bytes in unproven(MessageKind::TrustRoot, &body, 1) {
            refused(
                simple_root().rotate(&bytes),
                "valid signature(s) of role root under trust root plant-7 v1",
            );
        }
        let said = simple_root().rotate(&signed(MessageKind::TrustRoot, &body, &[1])).unwrap_err().what;
        assert!(said.starts_with("trust root"), "{body:02x?}: {said}");
    }
    // And with a body that is a fine root, of a stranger: still the old one's word.
    let strangers = root(2, &[9], [role(1, &[0]), role(1, &[0]), role(0, &[]), role(0, &[])]);
    let bytes = signed(MessageKind::TrustRoot, &strangers.encode().unwrap(), &[9]);
    refused(simple_root().rotate(&bytes), "under trust root plant-7 v1");
}

/// Tables and pages are parsed from a [`VerifiedObject`] alone, and its only maker compares the name.
#[test]
fn an_object_under_a_wrong_name_is_refused_by_its_name() {
    for body in bodies() {
        let wrong = Digest::of(&[&body[..], b"!"].concat());
        refused(VerifiedObject::prove(&wrong, &body), "object: expected ");
        assert!(VerifiedSegment::prove(0, &body, &wrong).is_none(), "{body:02x?}");
        assert!(VerifiedObject::prove(&Digest::of(&body), &body).is_ok());
    }
}
