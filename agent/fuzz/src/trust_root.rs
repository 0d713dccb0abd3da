//! Trust roots: bodies, anchors, and whole chains of rotations.
//!
//! Claims: a root that is taken passes its own check and is written as it was read; a rotation is taken exactly when the
//! version rises by one, the fleet stays, and a threshold of the old root keys and of the new ones has signed. What
//! "a threshold has signed" means is counted here anew, from who holds the keys.

use crate::throwaway::{KEYS, ROOT, TRUST, sealed};
use arbitrary::{Arbitrary, Unstructured};
use mainstay_core::trust::{MessageKind, Role, RoleMembers, TrustRoot};
use mainstay_core::wire::encode_body;

/// First byte: what the rest is. 0 an envelope, 1 a body, 2 a body that gets the right signatures, else a chain.
pub fn run(data: &[u8]) {
    match data {
        [0, envelope @ ..] => {
            let _ = TrustRoot::anchor(envelope).map(|root| sound(&root));
            let _ = TRUST.rotate(envelope).map(|root| sound(&root));
        }
        [1, body @ ..] => {
            let _ = TrustRoot::decode(body).map(|root| sound(&root));
        }
        [2, body @ ..] => {
            let Some(envelope) = sealed(MessageKind::TrustRoot, body, &ROOT) else { return };
            if let Ok(next) = TRUST.rotate(&envelope) {
                sound(&next);
                assert_eq!((next.version, &next.fleet), (2, &TRUST.fleet));
            }
        }
        [_, chain @ ..] => {
            let _ = walk(&mut Unstructured::new(chain));
        }
        [] => {}
    }
}

fn sound(root: &TrustRoot) {
    root.check().expect("what is taken passes its own check");
    let body = root.encode().expect("and can be written");
    assert_eq!(TrustRoot::decode(&body).as_ref(), Ok(root));
}

/// One step of a chain: another root, and who signs it.
#[derive(Arbitrary, Debug)]
struct Next {
    keys: [u8; 4],
    count: u8,
    thresholds: [u8; 4],
    members: [u16; 4],
    rises_by: u8,
    another_fleet: bool,
    signers: [bool; 8],
}

fn walk(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut root = TRUST.clone();
    let mut holders: Vec<u8> = crate::throwaway::SEEDS.to_vec();
    for _ in 0..6 {
        if u.is_empty() {
            break;
        }
        let step = Next::arbitrary(u)?;
        let seeds: Vec<u8> = step.keys.iter().take(usize::from(step.count % 5)).map(|k| k % 8).collect();
        let next = TrustRoot {
            fleet: if step.another_fleet { "other" } else { "golden" }.try_into().expect("short"),
            version: root.version.wrapping_add((step.rises_by % 4).into()),
            keys: seeds.iter().map(|seed| KEYS[*seed as usize].verifying_key().to_bytes()).collect(),
            roles: std::array::from_fn(|i| RoleMembers {
                threshold: step.thresholds[i] % 4,
                members: step.members[i] & 0b1_1111,
            }),
        };
        let signers: Vec<u8> = (0..8u8).filter(|seed| step.signers[*seed as usize]).collect();
        let Ok(body) = encode_body(&next) else { continue };
        let Some(envelope) = sealed(MessageKind::TrustRoot, &body, &signers) else { continue };
        let expected = next.check().is_ok()
            && next.version == root.version + 1
            && next.fleet == root.fleet
            && enough(&root, &holders, &signers)
            && enough(&next, &seeds, &signers);
        let found = root.rotate(&envelope);
        assert_eq!(found.is_ok(), expected, "{root:?} → {next:?}, signed by {signers:?}: {found:?}");
        if let Ok(next) = found {
            (root, holders) = (next, seeds);
        }
    }
    Ok(())
}

/// Have enough different holders of the root role signed? `holders`: the seeds of the root's keys.
fn enough(root: &TrustRoot, holders: &[u8], signers: &[u8]) -> bool {
    let RoleMembers { threshold, members } = root.role(Role::Root);
    let held = |at: usize| members >> at & 1 == 1;
    let signed = holders.iter().enumerate().filter(|(at, seed)| held(*at) && signers.contains(seed)).count();
    threshold > 0 && signed >= threshold.into()
}
