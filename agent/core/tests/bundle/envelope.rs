//! The envelope: the one thing that is read before it is proven.

use crate::common::{key, manifest, refused, role, root, signed, simple_root};
use ed25519_dalek::Signer as _;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, SIGNATURES_MAX};
use mainstay_core::trust::{Envelope, KeyId, MessageKind, Role, TrustRoot, assemble};
use proptest::prelude::*;

const KINDS: [(MessageKind, Role); 3] = [
    (MessageKind::TrustRoot, Role::Root),
    (MessageKind::Manifest, Role::Release),
    (MessageKind::DesiredState, Role::Operator),
];

fn small_manifest() -> Vec<u8> {
    signed(MessageKind::Manifest, &manifest().encode().unwrap(), &[2])
}

#[test]
fn an_envelope_cut_short_at_any_length_is_refused() {
    let bytes = small_manifest();
    for cut in 0..bytes.len() {
        refused(Envelope::parse(&bytes[..cut]), &format!("cut short at {cut} bytes"));
    }
    VerifiedManifest::open(&simple_root(), &bytes).unwrap();
}

#[test]
fn no_bit_of_a_signed_manifest_can_be_flipped() {
    let (root, mut bytes) = (simple_root(), small_manifest());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(VerifiedManifest::open(&root, &bytes).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    VerifiedManifest::open(&root, &bytes).unwrap();
}

#[test]
fn the_grammar_refuses_what_it_does_not_know() {
    let one = small_manifest();
    let with = |at: usize, byte: u8| {
        let mut bytes = one.clone();
        bytes[at] = byte;
        bytes
    };
    let with_length = |length: usize| {
        let mut bytes = one.clone();
        bytes[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        bytes
    };
    let trailing = [&one[..], b"\n"].concat();
    let oversized = {
        let mut bytes = with_length(BODY_BYTES_MAX + 1);
        bytes.resize(12 + 72 + BODY_BYTES_MAX + 1, 0);
        bytes
    };
    #[rustfmt::skip]
    let cases = [
        (with(0, b'm'),                     "expected magic MSE1"),
        (with(3, b'2'),                     "expected magic MSE1"),
        (with(4, 0),                        "unknown kind of message 0"),
        (with(4, 4),                        "unknown kind of message 4"),
        (with(5, 0),                        "expected 1 to 8 signatures, found 0"),
        (with(5, 9),                        "expected 1 to 8 signatures, found 9"),
        (with(5, 255),                      "expected 1 to 8 signatures, found 255"),
        (with(6, 1),                        "reserved bytes are 0x01 0x00"),
        (with(7, 0x80),                     "reserved bytes are 0x00 0x80"),
        (with_length(0),                    "body of 1 to 12288 bytes, found 0"),
        (with_length(BODY_BYTES_MAX + 1),   "body of 1 to 12288 bytes, found 12289"),
        (with_length(u32::MAX as usize),    "body of 1 to 12288 bytes, found 4294967295"),
        (oversized,                         "body of 1 to 12288 bytes, found 12289"),
        (with_length(1),                    "bytes after its body of 1"),
        (trailing,                          "1 bytes after its body"),
    ];
    for (bytes, words) in cases {
        refused(Envelope::parse(&bytes), words);
    }
}

#[test]
fn signatures_out_of_order_or_twice_are_refused() {
    let body = b"body";
    let good = signed(MessageKind::Manifest, body, &[1, 2, 3]);
    Envelope::parse(&good).unwrap();
    let entry = |i: usize| good[12 + 72 * i..12 + 72 * (i + 1)].to_vec();
    for order in [[0, 2, 1], [1, 0, 2], [2, 1, 0], [0, 0, 1], [0, 1, 1], [2, 2, 2]] {
        let mut bytes = good[..12].to_vec();
        order.iter().for_each(|i| bytes.extend(entry(*i)));
        bytes.extend(body);
        refused(Envelope::parse(&bytes), "ascending order of key id");
    }
}

#[test]
fn an_envelope_is_assembled_in_order_whatever_the_order_of_its_signatures() {
    let signatures: Vec<(KeyId, [u8; 64])> = (1..=8).map(|n| (KeyId([9 - n; 8]), [n; 64])).collect();
    let bytes = assemble(MessageKind::Manifest, b"body", &signatures).unwrap();
    let ids: Vec<KeyId> = Envelope::parse(&bytes).unwrap().signatures().map(|(id, _)| id).collect();
    assert_eq!(ids, (1..=8).map(|n| KeyId([n; 8])).collect::<Vec<_>>());
    let twice = [(KeyId([1; 8]), [1; 64]), (KeyId([1; 8]), [2; 64])];
    refused(assemble(MessageKind::Manifest, b"body", &twice), "0101010101010101 signs twice");
    let nine: Vec<(KeyId, [u8; 64])> = (1..=9).map(|n| (KeyId([n; 8]), [n; 64])).collect();
    refused(assemble(MessageKind::Manifest, b"body", &nine), "takes 1 to 8 signatures, found 9");
    refused(assemble(MessageKind::Manifest, b"body", &[]), "takes 1 to 8 signatures, found 0");
    refused(assemble(MessageKind::Manifest, b"", &signatures), "takes a body of 1 to 12288");
}

#[test]
fn the_largest_envelope_is_read() {
    let body = vec![7; BODY_BYTES_MAX];
    let bytes = signed(MessageKind::Manifest, &body, &(1..=SIGNATURES_MAX as u8).collect::<Vec<_>>());
    assert_eq!(bytes.len(), ENVELOPE_BYTES_MAX);
    let all: Vec<u8> = (0..SIGNATURES_MAX as u8).collect();
    let eight =
        root(1, &(1..=8).collect::<Vec<_>>(), [role(8, &all), role(8, &all), role(8, &all), role(0, &[])]);
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(eight.prove(Role::Release, MessageKind::Manifest, &envelope).unwrap().body(), body);
}

/// One key holds every role here, so nothing but the context string keeps the kinds apart.
#[test]
fn a_signature_for_one_kind_is_worthless_for_another() {
    let all = role(1, &[0]);
    let root = root(1, &[1], [all, all, all, all]);
    for (signed_as, _) in KINDS {
        for (kind, role) in KINDS {
            let mut bytes = signed(signed_as, b"body", &[1]);
            bytes[4] = kind as u8; // the header says what it likes; the signature does not
            let envelope = Envelope::parse(&bytes).unwrap();
            let proven = root.prove(role, kind, &envelope);
            assert_eq!(proven.is_ok(), signed_as == kind, "signed as {signed_as:?}, read as {kind:?}");
        }
    }
}

#[test]
fn no_context_string_begins_another() {
    for (one, _) in KINDS {
        assert_eq!(one.context().last(), Some(&0));
        for (other, _) in KINDS {
            assert_eq!(other.context().starts_with(one.context()), one == other);
        }
    }
}

#[test]
fn a_threshold_counts_different_members_of_the_role() {
    // Keys 0, 1, 2 release; 3 operator; 2 of 3 must sign.
    let root = root(1, &[1, 2, 3, 4], [role(1, &[0]), role(2, &[0, 1, 2]), role(1, &[3]), role(0, &[])]);
    #[rustfmt::skip]
    let cases: [(&[u8], bool); 9] = [
        // signers        taken
        (&[1, 2],         true),
        (&[2, 3],         true),
        (&[1, 2, 3],      true),
        (&[1, 2, 9],      true),    // strangers neither help nor harm
        (&[1],            false),
        (&[1, 1],         false),   // twice the same counts once
        (&[1, 4],         false),   // an operator is no releaser
        (&[1, 9],         false),
        (&[8, 9],         false),
    ];
    for (signers, taken) in cases {
        let bytes = signed(MessageKind::Manifest, b"body", signers);
        let envelope = Envelope::parse(&bytes).unwrap();
        let proven = root.prove(Role::Release, MessageKind::Manifest, &envelope);
        assert_eq!(proven.is_ok(), taken, "{signers:?}");
    }
    // Nobody is the factory: nothing is accepted under it.
    let bytes = signed(MessageKind::Manifest, b"body", &[1, 2, 3, 4]);
    let envelope = Envelope::parse(&bytes).unwrap();
    refused(root.prove(Role::Factory, MessageKind::Manifest, &envelope), "role factory");
}

#[test]
fn one_signature_under_two_key_ids_counts_once() {
    let root = root(1, &[1, 2], [role(1, &[0]), role(2, &[0, 1]), role(0, &[]), role(0, &[])]);
    let [one, two] = [1, 2].map(|seed| KeyId::of(key(seed).verifying_key().as_bytes()));
    let signature = key(1).sign(&[MessageKind::Manifest.context(), b"body"].concat()).to_bytes();
    let bytes = assemble(MessageKind::Manifest, b"body", &[(one, signature), (two, signature)]).unwrap();
    let envelope = Envelope::parse(&bytes).unwrap();
    refused(root.prove(Role::Release, MessageKind::Manifest, &envelope), "expected 2 valid signature(s)");
}

/// RFC 8032, section 5.1.7: S must be below the group's order L. S + L verifies with a careless reader, and would be a
/// second spelling of the same envelope.
#[test]
fn a_signature_that_is_not_canonical_is_refused() {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = small_manifest();
    let s = &mut bytes[12 + 8 + 32..12 + 72];
    let mut carry = 0;
    for (byte, l) in s.iter_mut().zip(L) {
        let sum = *byte as u16 + l as u16 + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    refused(VerifiedManifest::open(&simple_root(), &bytes), "found 0 (of 1 on it)");
}

/// With A and R of small order and S = 0, `[S]B = R + [k]A` holds for one body in eight, whoever "signs".
#[test]
fn a_signature_of_small_order_is_refused() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let forged: [u8; 64] = [neutral, [0; 32]].concat().try_into().unwrap();
    // A root that holds such a key is refused when it is read; here one is made by hand, past the check.
    let mut root = simple_root();
    root.keys[1] = neutral;
    assert!(root.check().is_err());
    for body in 0..32u8 {
        let bytes = assemble(MessageKind::Manifest, &[body], &[(KeyId::of(&neutral), forged)]).unwrap();
        let envelope = Envelope::parse(&bytes).unwrap();
        refused(root.prove(Role::Release, MessageKind::Manifest, &envelope), "found 0 (of 1 on it)");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Envelope::parse(&bytes);
        let _ = TrustRoot::anchor(&bytes);
    }

    /// Random bytes rarely get past the magic: these have a right header and go on from there.
    #[test]
    fn random_bytes_behind_a_right_header_never_panic(
        kind in 0u8..5, count in 0u8..10, length in 0u32..300, rest in prop::collection::vec(any::<u8>(), 0..1000),
    ) {
        let mut bytes = b"MSE1".to_vec();
        bytes.extend([kind, count, 0, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(rest);
        let _ = TrustRoot::anchor(&bytes);
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert!(simple_root().prove(Role::Release, MessageKind::Manifest, &envelope).is_err());
        }
    }
}
