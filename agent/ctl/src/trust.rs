//! Trust roots: made, rotated, and signed by several people, one after the other.
//!
//! A root that its role's threshold has not signed yet is a *draft*: the same file, on its way from desk to desk. No
//! gateway takes it, and [`Standing`] says what is missing. What is complete is decided by the very functions that
//! gateways run: [`TrustRoot::anchor`] for the first root, [`TrustRoot::rotate`] for each that follows.

use crate::fail;
use crate::fail::{Result, Within};
use crate::files::read_small;
use crate::keys;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use mainstay_core::limits::{ENVELOPE_BYTES_MAX, KEYS_MAX};
use mainstay_core::trust::{Envelope, KeyId, MessageKind, Role, RoleMembers, TrustRoot, assemble};
use std::path::Path;

/// Who shall hold which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The fleet.
    pub fleet: String,
    /// 1 for the first.
    pub version: u32,
    /// Public keys and threshold of each role, in the order of [`Role::ALL`].
    pub roles: [Holders; 4],
}

/// Who holds one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Public keys.
    pub keys: Vec<[u8; 32]>,
    /// How many of them must sign.
    pub threshold: u8,
}

impl Plan {
    /// What follows `root`, before anything is changed.
    pub fn after(root: &TrustRoot) -> Self {
        let holders = |role| {
            let RoleMembers { threshold, members } = root.role(role);
            let keys = root.keys.iter().enumerate().filter(|(i, _)| members >> i & 1 == 1);
            Holders { keys: keys.map(|(_, key)| *key).collect(), threshold }
        };
        Plan {
            fleet: root.fleet.as_str().into(),
            version: root.version.saturating_add(1),
            roles: Role::ALL.map(holders),
        }
    }

    /// The holders of `role`, to change.
    pub fn role_mut(&mut self, role: Role) -> &mut Holders {
        &mut self.roles[role as usize] // declared in the order of Role::ALL
    }

    /// Makes the root, and checks it.
    pub fn root(&self) -> Result<TrustRoot> {
        let fleet = heapless::String::try_from(self.fleet.as_str())
            .map_err(|_| fail!("fleet: expected at most 48 bytes, found {:?}", self.fleet))?;
        let mut root = TrustRoot {
            fleet,
            version: self.version,
            keys: heapless::Vec::new(),
            roles: [RoleMembers::default(); 4],
        };
        for (holders, members) in self.roles.iter().zip(&mut root.roles) {
            members.threshold = holders.threshold;
            for key in &holders.keys {
                let index = match root.keys.iter().position(|k| k == key) {
                    Some(index) => index,
                    None => {
                        root.keys
                            .push(*key)
                            .map_err(|_| fail!("trust root: expected at most {KEYS_MAX} keys, found more"))?;
                        root.keys.len() - 1
                    }
                };
                members.members |= 1 << index;
            }
        }
        root.check().map_err(crate::Failure::from)?;
        Ok(root)
    }
}

/// May gateways take it?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Complete,
    /// Not yet: why.
    Draft(String),
}

/// Reads a complete root.
pub fn load(path: &Path) -> Result<TrustRoot> {
    let bytes = read_small(path, ENVELOPE_BYTES_MAX)?;
    TrustRoot::anchor(&bytes).within(|| path.display()).map_err(|failure| {
        failure.todo(
            "name a trust root as `mainstayctl trust init` or `rotate` writes it, signed by all who must",
        )
    })
}

/// Where an envelope of a root stands, seen from `previous`, or from itself where there is none.
pub fn standing(previous: Option<&TrustRoot>, bytes: &[u8]) -> Standing {
    let judged = match previous {
        Some(previous) => previous.rotate(bytes),
        None => TrustRoot::anchor(bytes),
    };
    match judged {
        Ok(_) => Standing::Complete,
        Err(fault) => Standing::Draft(fault.what.as_str().into()),
    }
}

/// Signs a new root. Each signer must hold the root role, before or after the change: another's signature would
/// count for nobody, so it is a slip.
pub fn sign_new(root: &TrustRoot, previous: Option<&TrustRoot>, signers: &[SigningKey]) -> Result<Vec<u8>> {
    if let Some(previous) = previous
        && (root.version != previous.version.saturating_add(1) || root.fleet != previous.fleet)
    {
        return Err(fail!(
            "trust root: expected version {} of fleet {}, found version {} of {}",
            previous.version.saturating_add(1),
            previous.fleet,
            root.version,
            root.fleet
        ));
    }
    for signer in signers {
        let held =
            [Some(root), previous].into_iter().flatten().any(|r| holds(r, Role::Root, keys::id(signer)));
        if !held {
            return Err(fail!("key {} holds no root role, before or after the change", keys::id(signer))
                .todo("sign with a key that was named with --root-key"));
        }
    }
    add_signatures(MessageKind::TrustRoot, &root.encode()?, &[], signers)
}

/// Adds signatures to the envelope of a root.
pub fn countersign(bytes: &[u8], previous: Option<&TrustRoot>, signers: &[SigningKey]) -> Result<Vec<u8>> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.kind() != MessageKind::TrustRoot {
        return Err(fail!("expected a trust root, found a {:?}", envelope.kind()));
    }
    let root = TrustRoot::decode(envelope.unproven_body())?;
    sign_new(&root, previous, signers).map_err(|failure| match previous {
        // Whether the signer held the root role before the change cannot be seen without the root before it.
        None if root.version > 1 => failure.todo("name the root before this one with --from"),
        _ => failure,
    })?;
    let old: Vec<_> = envelope.signatures().map(|(id, signature)| (id, *signature)).collect();
    add_signatures(MessageKind::TrustRoot, envelope.unproven_body(), &old, signers)
}

/// An envelope with the `old` signatures and those that `signers` make now; who signs again replaces the own one.
pub fn add_signatures(
    kind: MessageKind,
    body: &[u8],
    old: &[(KeyId, [u8; 64])],
    signers: &[SigningKey],
) -> Result<Vec<u8>> {
    let message = [kind.context(), body].concat();
    let mut signatures: Vec<(KeyId, [u8; 64])> =
        signers.iter().map(|key| (keys::id(key), key.sign(&message).to_bytes())).collect();
    signatures.sort();
    signatures.dedup_by_key(|(id, _)| *id);
    for entry in old {
        if !signatures.iter().any(|(id, _)| *id == entry.0) {
            signatures.push(*entry);
        }
    }
    signatures.sort();
    Ok(assemble(kind, body, &signatures)?)
}

/// Does the key of this id hold the role?
pub fn holds(root: &TrustRoot, role: Role, id: KeyId) -> bool {
    let members = root.role(role).members;
    root.keys.iter().enumerate().any(|(i, key)| members >> i & 1 == 1 && KeyId::of(key) == id)
}

/// Is this signature on the envelope the key's?
pub fn signature_holds(kind: MessageKind, body: &[u8], key: &[u8; 32], signature: &[u8; 64]) -> bool {
    let message = [kind.context(), body].concat();
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    ed25519_dalek::VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
}

/// Reads a role's name.
pub fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.name() == name)
}
