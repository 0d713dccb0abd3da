//! Trust roots: which are sound, what a threshold is, and how one root follows another.

use crate::common::{key, refused, role, root, signed, simple_root, text};
use mainstay_core::limits::SIGNATURES_MAX;
use mainstay_core::trust::{Envelope, KeyId, MessageKind, Role, RoleMembers, TrustRoot};

const NOBODY: RoleMembers = RoleMembers { threshold: 0, members: 0 };

fn sealed(root: &TrustRoot, seeds: &[u8]) -> Vec<u8> {
    signed(MessageKind::TrustRoot, &root.encode().unwrap(), seeds)
}

/// A root whose root role is `threshold` of the keys of `seeds`, and whose release role is the first of them.
fn rooted(version: u32, seeds: &[u8], threshold: u8) -> TrustRoot {
    let all: Vec<u8> = (0..seeds.len() as u8).collect();
    root(version, seeds, [role(threshold, &all), role(1, &[0]), NOBODY, NOBODY])
}

#[test]
fn a_root_that_nobody_should_go_by_is_refused_with_the_reason() {
    let good = simple_root;
    let weak = |i: usize, bytes: [u8; 32]| {
        let mut root = good();
        root.keys[i] = bytes;
        root
    };
    let roles = |roles| TrustRoot { roles, ..good() };
    let mut not_canonical = [0xff; 32]; // y = 2^255 - 19 + 3: the point of y = 3, spelt a second way
    (not_canonical[0], not_canonical[31]) = (0xf0, 0x7f);
    assert!(ed25519_dalek::VerifyingKey::from_bytes(&not_canonical).is_ok());
    let mut one = [0; 32]; // y = 1: the neutral element
    one[0] = 1;
    let nine: Vec<u8> = (0..9).collect();
    let many = root(1, &(1..=9).collect::<Vec<u8>>(), [role(9, &nine), role(1, &[0]), NOBODY, NOBODY]);
    #[rustfmt::skip]
    let cases = [
        // root                                                                     words of the refusal
        (TrustRoot { version: 0, ..good() },                                        "version from 1, found 0"),
        (TrustRoot { fleet: text("plant/7"), ..good() },                            "fleet: expected letters"),
        (TrustRoot { fleet: text("+"), ..good() },                                  "fleet: expected letters"),
        (TrustRoot { fleet: text(""), ..good() },                                   "fleet: expected a name"),
        (TrustRoot { fleet: text("..") , ..good() },                                "fleet: expected a name"),
        (weak(1, one),                                                              "key 1 is not a sound"),
        (weak(1, [0; 32]),                                                          "key 1 is not a sound"),
        (weak(1, [2; 32]),                                                          "key 1 is not a sound"),
        (weak(2, not_canonical),                                                    "key 2 is not a sound"),
        (weak(2, key(1).verifying_key().to_bytes()),                                "key 2 stands twice"),
        (roles([role(1, &[3]), role(1, &[1]), NOBODY, NOBODY]),                     "role root names a key that is not listed"),
        (roles([role(1, &[0]), role(1, &[15]), NOBODY, NOBODY]),                    "role release names a key that is not listed"),
        (roles([NOBODY, role(1, &[1]), NOBODY, NOBODY]),                            "role root: expected a threshold"),
        (roles([role(1, &[0]), NOBODY, NOBODY, NOBODY]),                            "role release: expected a threshold"),
        (roles([role(2, &[0]), role(1, &[1]), NOBODY, NOBODY]),                     "role root: expected a threshold of 1 to 1"),
        (roles([role(1, &[0]), role(1, &[1]), role(0, &[2]), NOBODY]),              "role operator: expected a threshold"),
        (many,                                                                      "threshold of at most 8"),
    ];
    for (root, words) in cases {
        refused(root.check(), words);
        refused(root.encode(), words);
    }
    good().check().unwrap();
}

#[test]
fn a_full_root_of_sixteen_keys_fits_and_reads_back() {
    let seeds: Vec<u8> = (1..=16).collect();
    let all: Vec<u8> = (0..16).collect();
    let full = role(SIGNATURES_MAX as u8, &all);
    let root = root(u32::MAX, &seeds, [full; 4]);
    assert_eq!(TrustRoot::decode(&root.encode().unwrap()).unwrap(), root);
}

#[test]
fn an_anchor_must_be_signed_by_a_threshold_of_its_own_root_keys() {
    let root = rooted(1, &[1, 2, 3], 2);
    assert_eq!(TrustRoot::anchor(&sealed(&root, &[1, 3])).unwrap(), root);
    refused(TrustRoot::anchor(&sealed(&root, &[1])), "expected 2 valid signature(s) of role root");
    refused(TrustRoot::anchor(&sealed(&root, &[1, 9])), "found 1 (of 2 on it)");
    let as_manifest = signed(MessageKind::Manifest, &root.encode().unwrap(), &[1, 2]);
    refused(TrustRoot::anchor(&as_manifest), "expected a TrustRoot, found a Manifest");
}

#[test]
fn a_rotation_needs_a_threshold_of_the_old_root_and_of_the_new_one() {
    let (old, new) = (rooted(1, &[1, 2, 3], 2), rooted(2, &[3, 4, 5], 2));
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 8] = [
        // signers        words; none: taken
        (&[1, 2, 4, 5],   ""),
        (&[1, 3, 4],      ""),                              // 3 counts for both
        (&[2, 3, 5, 9],   ""),                              // a stranger's signature neither helps nor harms
        (&[1, 2],         "under trust root plant-7 v2"),
        (&[1, 2, 4],      "under trust root plant-7 v2"),
        (&[4, 5],         "under trust root plant-7 v1"),
        (&[3, 4, 5],      "under trust root plant-7 v1"),
        (&[8, 9],         "under trust root plant-7 v1"),
    ];
    for (signers, words) in cases {
        match (old.rotate(&sealed(&new, signers)), words) {
            (taken, "") => assert_eq!(taken.unwrap(), new, "{signers:?}"),
            (result, words) => refused(result, words),
        }
    }
}

#[test]
fn a_root_follows_only_the_version_before_it_and_only_in_its_own_fleet() {
    let old = rooted(4, &[1], 1);
    for (version, taken) in [(1, false), (3, false), (4, false), (5, true), (6, false), (u32::MAX, false)] {
        let next = rooted(version, &[1], 1);
        match old.rotate(&sealed(&next, &[1])) {
            Ok(root) => assert!(taken && root == next, "{version}"),
            Err(fault) => assert_eq!((taken, fault.what.contains("expected version 5")), (false, true)),
        }
    }
    let other = TrustRoot { fleet: text("plant-8"), ..rooted(5, &[1], 1) };
    refused(old.rotate(&sealed(&other, &[1])), "expected fleet plant-7, found plant-8");
}

/// `saturating_add` once made the last version its own successor: a root could be replaced without its number rising.
#[test]
fn the_last_version_has_no_successor() {
    let last = rooted(u32::MAX, &[1], 1);
    refused(last.rotate(&sealed(&rooted(u32::MAX, &[1], 1), &[1])), "expected version 4294967296");
    refused(last.rotate(&sealed(&rooted(1, &[1], 1), &[1])), "expected version 4294967296");
}

#[test]
fn a_key_that_was_taken_out_cannot_bring_itself_back() {
    let first = rooted(1, &[1, 2], 1);
    let second = first.rotate(&sealed(&rooted(2, &[2], 1), &[2])).unwrap();
    // With the old root once more, with a new one of its own, with one that it and a stranger sign:
    refused(second.rotate(&sealed(&first, &[1, 2])), "expected version 3, found 1");
    refused(second.rotate(&sealed(&rooted(3, &[1], 1), &[1])), "under trust root plant-7 v2");
    refused(second.rotate(&sealed(&rooted(3, &[1, 9], 1), &[1, 9])), "under trust root plant-7 v2");
    // And what it signs as release counts for nothing any more.
    let manifest = signed(MessageKind::Manifest, b"anything", &[1]);
    let envelope = Envelope::parse(&manifest).unwrap();
    first.prove(Role::Release, MessageKind::Manifest, &envelope).unwrap();
    refused(second.prove(Role::Release, MessageKind::Manifest, &envelope), "found 0 (of 1 on it)");
}

#[test]
fn a_gateway_that_slept_walks_the_chain_and_cannot_skip_a_link() {
    // Each root is held by its own key and signed by the one before it.
    let chain: Vec<Vec<u8>> = (2..=20u8).map(|n| sealed(&rooted(n.into(), &[n], 1), &[n - 1, n])).collect();
    let mut root = TrustRoot::anchor(&sealed(&rooted(1, &[1], 1), &[1])).unwrap();
    for (i, link) in chain.iter().enumerate() {
        if let Some(after) = chain.get(i + 1) {
            refused(root.rotate(after), "valid signature(s) of role root");
        }
        root = root.rotate(link).unwrap();
    }
    assert_eq!((root.version, root.keys[0]), (20, key(20).verifying_key().to_bytes()));
}

#[test]
fn a_root_cut_short_or_with_bytes_after_it_is_refused() {
    let body = simple_root().encode().unwrap();
    for cut in 0..body.len() {
        assert!(TrustRoot::decode(&body[..cut]).is_err(), "cut at {cut}");
    }
    refused(TrustRoot::decode(&[&body[..], &[0]].concat()), "1 bytes too many");
    let mut newer = body;
    newer[0] = 2;
    refused(TrustRoot::decode(&newer), "expected version 1, found 2");
}

#[test]
fn a_key_is_named_by_the_first_eight_bytes_of_its_digest() {
    // SHA-256 of 32 zero bytes: 66687aadf862bd77…
    assert_eq!(KeyId::of(&[0; 32]).to_string(), "66687aadf862bd77");
}
