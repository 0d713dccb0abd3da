//! The trust root: the signed record of keys, roles and thresholds that a device goes by.
//!
//! It carries no date, so a gateway with a dead RTC battery still knows whom to believe. Its version never falls,
//! and rises by exactly one at a time: each root is signed by a threshold of the root keys before it *and* of its
//! own, so a chain of rotations can be walked by a gateway that slept through them, and no key that was taken out
//! can bring itself back.
//!
//! The body of its envelope is a version byte (1) and the postcard of [`TrustRoot`].

use super::envelope::{Envelope, KeyId, MessageKind};
use crate::fault;
use crate::limits::{BODY_BYTES_MAX, KEYS_MAX, NAME_BYTES_MAX, SIGNATURES_MAX};
use crate::seam::Result;
use ed25519_dalek::{Signature, VerifyingKey};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trust roots.
    Root,
    /// Manifests: what may run.
    Release,
    /// Desired states: who shall run what, and when.
    Operator,
    /// A gateway's birth record.
    Factory,
}

impl Role {
    /// All, in the order in which a root lists them.
    pub const ALL: [Role; 4] = [Role::Root, Role::Release, Role::Operator, Role::Factory];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Release => "release",
            Role::Operator => "operator",
            Role::Factory => "factory",
        }
    }
}

/// Who holds a role, and how many of them must sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleMembers {
    /// How many different members must sign; 0: nobody holds this role, and nothing is accepted under it.
    pub threshold: u8,
    /// Bit i: key i of the root is a member.
    pub members: u16,
}

/// Keys, roles and thresholds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRoot {
    /// The fleet that this root is for: a topic level, and a check against mixing two fleets up.
    pub fleet: String<NAME_BYTES_MAX>,
    /// Starts at 1 and rises by one.
    pub version: u32,
    /// ed25519 public keys.
    pub keys: Vec<[u8; 32], KEYS_MAX>,
    /// In the order of [`Role::ALL`].
    pub roles: [RoleMembers; 4],
}

/// The body of an envelope that enough holders of a role have signed. Only [`TrustRoot::prove`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'a>(&'a [u8]);

impl<'a> Proven<'a> {
    /// The body.
    pub const fn body(&self) -> &'a [u8] {
        self.0
    }
}

impl TrustRoot {
    /// The first root of a device, from a place that is trusted already (the image, the factory). It must be
    /// signed by a threshold of its own root keys: a slip of the factory shall show at once.
    pub fn anchor(bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::parse(bytes)?;
        let root = Self::decode(envelope.unproven_body())?;
        root.prove(Role::Root, MessageKind::TrustRoot, &envelope)?;
        Ok(root)
    }

    /// The root that follows this one, if a threshold of this one's root keys and of its own say so.
    pub fn rotate(&self, bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::parse(bytes)?;
        let body = self.prove(Role::Root, MessageKind::TrustRoot, &envelope)?;
        let next = Self::decode(body.body())?;
        // In 64 bits: the last version has no successor, least of all itself.
        let expected = u64::from(self.version) + 1;
        if u64::from(next.version) != expected {
            return Err(fault!(Refused, "trust root: expected version {expected}, found {}", next.version));
        }
        if next.fleet != self.fleet {
            return Err(fault!(Refused, "trust root: expected fleet {}, found {}", self.fleet, next.fleet));
        }
        next.prove(Role::Root, MessageKind::TrustRoot, &envelope)?;
        Ok(next)
    }

    /// Opens an envelope that a threshold of `role` has signed as `kind`.
    pub fn prove<'a>(&self, role: Role, kind: MessageKind, envelope: &Envelope<'a>) -> Result<Proven<'a>> {
        if envelope.kind() != kind {
            return Err(fault!(Refused, "envelope: expected a {kind:?}, found a {:?}", envelope.kind()));
        }
        let members = self.role(role);
        // The message is put together once, on the stack: verify_strict wants it in one piece.
        let mut message: Vec<u8, { CONTEXT_BYTES_MAX + BODY_BYTES_MAX }> = Vec::new();
        message
            .extend_from_slice(kind.context())
            .and_then(|()| message.extend_from_slice(envelope.unproven_body()))
            .map_err(|_| fault!(Full, "envelope: body over {BODY_BYTES_MAX} bytes"))?;
        let mut valid = 0;
        for (id, signature) in envelope.signatures() {
            let Some(key) = self.member(members, id) else { continue };
            let signature = Signature::from_bytes(signature);
            if VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
            {
                valid += 1;
            }
        }
        if members.threshold == 0 || valid < members.threshold {
            return Err(fault!(
                Refused,
                "{kind:?}: expected {} valid signature(s) of role {} under trust root {} v{}, found {valid} (of {} on it)",
                members.threshold.max(1),
                role.name(),
                self.fleet,
                self.version,
                envelope.signatures().count()
            ));
        }
        Ok(Proven(envelope.unproven_body()))
    }

    /// Is there a key that holds `role` here and in `other`?
    pub fn shares_a_member(&self, other: &TrustRoot, role: Role) -> bool {
        let holders = |root: &TrustRoot| {
            let members = root.role(role).members;
            root.keys
                .iter()
                .enumerate()
                .filter(move |(i, _)| members >> i & 1 == 1)
                .map(|(_, key)| *key)
                .collect::<Vec<[u8; 32], KEYS_MAX>>()
        };
        let theirs = holders(other);
        holders(self).iter().any(|key| theirs.contains(key))
    }

    /// Who holds `role`.
    pub fn role(&self, role: Role) -> RoleMembers {
        let [root, release, operator, factory] = self.roles;
        match role {
            Role::Root => root,
            Role::Release => release,
            Role::Operator => operator,
            Role::Factory => factory,
        }
    }

    /// Reads and checks a body: version byte 1, then postcard.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let root: TrustRoot = crate::wire::decode_body("trust root", body)?;
        root.check()?;
        Ok(root)
    }

    /// Is it one that a device may go by?
    pub fn check(&self) -> Result<()> {
        if self.version == 0 {
            return Err(fault!(Corrupt, "trust root: expected a version from 1, found 0"));
        }
        crate::wire::check_name("trust root: fleet", &self.fleet)?;
        for (i, key) in self.keys.iter().enumerate() {
            if !is_sound(key) {
                return Err(fault!(Corrupt, "trust root: key {i} is not a sound ed25519 public key"));
            }
            // Signatures name keys by their ids: two keys of one id would be one signer, and which one is chance.
            let id = KeyId::of(key);
            if self.keys.iter().take(i).any(|other| KeyId::of(other) == id) {
                return Err(fault!(Corrupt, "trust root: key {i} stands twice, or shares its id {id}"));
            }
        }
        let known = u16::MAX.checked_shr(u16::BITS.saturating_sub(self.keys.len() as u32)).unwrap_or(0);
        for role in Role::ALL {
            let RoleMembers { threshold, members } = self.role(role);
            if members & !known != 0 {
                return Err(fault!(
                    Corrupt,
                    "trust root: role {} names a key that is not listed",
                    role.name()
                ));
            }
            let held = members.count_ones();
            let needed = matches!(role, Role::Root | Role::Release);
            if threshold as usize > SIGNATURES_MAX {
                return Err(fault!(
                    Corrupt,
                    "trust root: role {}: expected a threshold of at most {SIGNATURES_MAX} (signatures that fit \
                     an envelope), found {threshold}",
                    role.name()
                ));
            }
            if threshold as u32 > held || (needed && threshold == 0) || (threshold == 0 && held > 0) {
                return Err(fault!(
                    Corrupt,
                    "trust root: role {}: expected a threshold of 1 to {held} (its members), found {threshold}",
                    role.name()
                ));
            }
        }
        Ok(())
    }

    /// The body of its envelope.
    #[cfg(any(test, feature = "author"))]
    pub fn encode(&self) -> Result<alloc::vec::Vec<u8>> {
        self.check()?;
        crate::wire::encode_body(self)
    }

    fn member(&self, members: RoleMembers, id: KeyId) -> Option<&[u8; 32]> {
        let listed = self.keys.iter().enumerate();
        listed
            .filter(|(i, _)| members.members >> i & 1 == 1)
            .map(|(_, key)| key)
            .find(|key| KeyId::of(key) == id)
    }
}

/// A point of the curve, not of small order (RFC 8032, section 5.1.7 leaves that to the verifier), and written in
/// its one canonical form: a second spelling of a key would be a second signer.
fn is_sound(key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|point| !point.is_weak() && point.to_edwards().compress().as_bytes() == key)
}

/// The longest context string, with room.
const CONTEXT_BYTES_MAX: usize = 32;
