//! What the tests share: throw-away keys, a root, a manifest.

use ed25519_dalek::SigningKey;
use mainstay_core::bundle::{Artifact, Manifest, Provenance, Route, RouteKind, TrialPolicy};
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};

/// The key of seed byte `seed`: known to everybody, good for nothing but tests.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Signs `body` as `kind` with the keys of these seeds.
pub fn signed(kind: MessageKind, body: &[u8], seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    seal(kind, body, &keys.iter().collect::<Vec<_>>()).unwrap()
}

/// A role of the root's keys `members` (by their place), of which `threshold` must sign.
pub fn role(threshold: u8, members: &[u8]) -> RoleMembers {
    RoleMembers { threshold, members: members.iter().fold(0, |bits, place| bits | 1 << place) }
}

/// A root over the keys of `seeds`.
pub fn root(version: u32, seeds: &[u8], roles: [RoleMembers; 4]) -> TrustRoot {
    TrustRoot {
        fleet: text("plant-7"),
        version,
        keys: seeds.iter().map(|seed| key(*seed).verifying_key().to_bytes()).collect(),
        roles,
    }
}

/// Seeds 1: root, 2: release, 3: operator, one of one each; nobody is the factory.
pub fn simple_root() -> TrustRoot {
    root(1, &[1, 2, 3], [role(1, &[0]), role(1, &[1]), role(1, &[2]), role(0, &[])])
}

/// A small manifest that passes its check.
pub fn manifest() -> Manifest {
    Manifest {
        compatible: text("acme-gw-1"),
        version: text("1.2.3"),
        security_version: 7,
        artifacts: [artifact("rootfs", 1_000_000)].into_iter().collect(),
        trial: TrialPolicy::default(),
        not_before: None,
        expires: None,
        provenance: Provenance::default(),
        meta: heapless::Vec::new(),
    }
}

/// An artifact with its full route.
pub fn artifact(class: &str, size: u64) -> Artifact {
    Artifact {
        class: text(class),
        size,
        digest: Digest([1; 32]),
        segments: Digest([2; 32]),
        routes: [Route { kind: RouteKind::Full, table: Digest([3; 32]), bytes: size / 2 }]
            .into_iter()
            .collect(),
    }
}

/// A bounded text; panics where it does not fit.
pub fn text<const N: usize>(text: &str) -> heapless::String<N> {
    text.try_into().unwrap()
}

/// The refusal's words must hold `words`.
#[track_caller]
pub fn refused<T: core::fmt::Debug>(result: Result<T, Fault>, words: &str) {
    match result {
        Ok(taken) => panic!("taken, where {words:?} was expected: {taken:?}"),
        Err(fault) => assert!(fault.what.contains(words), "expected {words:?}, found {:?}", fault.what),
    }
}
