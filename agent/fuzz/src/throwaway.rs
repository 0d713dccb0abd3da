//! Keys that everybody knows, and the trust root that they make: the golden vectors' own, so that those are seeds.

use ed25519_dalek::SigningKey;
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use std::sync::LazyLock;

/// The signing key of a seed of 32 equal bytes.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Seeds of the golden root's keys: 2 of the first three are root, 2 of the next three release, the last is operator.
pub const SEEDS: [u8; 7] = [1, 2, 3, 4, 5, 6, 7];
/// Enough of the root role.
pub const ROOT: [u8; 2] = [1, 3];
/// Enough of the release role.
pub const RELEASE: [u8; 2] = [4, 6];
/// The operator.
pub const OPERATOR: [u8; 1] = [7];

/// Version 1 of fleet `golden`.
pub static TRUST: LazyLock<TrustRoot> = LazyLock::new(|| {
    let role = |threshold, members| RoleMembers { threshold, members };
    TrustRoot {
        fleet: "golden".try_into().expect("short"),
        version: 1,
        keys: SEEDS.iter().map(|seed| KEYS[*seed as usize].verifying_key().to_bytes()).collect(),
        roles: [role(2, 0b000_0111), role(2, 0b011_1000), role(1, 0b100_0000), role(0, 0)],
    }
});

/// Making a key costs a point multiplication: these are made once.
pub static KEYS: LazyLock<[SigningKey; 32]> = LazyLock::new(|| std::array::from_fn(|seed| key(seed as u8)));

/// The envelope of `body`, signed by the keys of `seeds` (below 32). `None`: no body of a message has this length.
pub fn sealed(kind: MessageKind, body: &[u8], seeds: &[u8]) -> Option<Vec<u8>> {
    let keys: Vec<&SigningKey> = seeds.iter().map(|seed| &KEYS[*seed as usize % KEYS.len()]).collect();
    seal(kind, body, &keys).ok()
}
