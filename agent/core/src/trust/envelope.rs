//! The envelope: the one thing that is parsed before it is verified, so its grammar is fixed and small.
//!
//! ```text
//! offset      bytes  field
//! 0           4      magic "MSE1"
//! 4           1      kind of message (MessageKind)
//! 5           1      number of signatures n, 1..=8
//! 6           2      zero
//! 8           4      body length, little endian, 1..=BODY_BYTES_MAX
//! 12          72·n   signatures: key id (8), ed25519 signature (64), in ascending order of key id
//! 12 + 72·n   body   exactly as signed; nothing follows it
//! ```
//!
//! A signature is ed25519 (RFC 8032) over `context string || body`. Each kind has its own context string, so a
//! signature made for one kind is worth nothing for another; the kind in the header only serves clear messages.

use crate::digest::Digest;
use crate::fault;
use crate::limits::{BODY_BYTES_MAX, SIGNATURES_MAX};
use crate::seam::Result;

/// The kinds of signed messages. The numbers travel: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    /// A trust root.
    TrustRoot = 1,
    /// A bundle's manifest.
    Manifest = 2,
    /// What a group of gateways, or one, shall run.
    DesiredState = 3,
}

impl MessageKind {
    /// What stands before the body when it is signed.
    pub const fn context(self) -> &'static [u8] {
        match self {
            MessageKind::TrustRoot => b"mainstay/1 trust root\0",
            MessageKind::Manifest => b"mainstay/1 manifest\0",
            MessageKind::DesiredState => b"mainstay/1 desired state\0",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(MessageKind::TrustRoot),
            2 => Some(MessageKind::Manifest),
            3 => Some(MessageKind::DesiredState),
            _ => None,
        }
    }
}

/// Names a key: the first eight bytes of the SHA-256 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The id of an ed25519 public key.
    pub fn of(public: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(public).0;
        KeyId([a, b, c, d, e, f, g, h])
    }
}

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl core::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

/// An envelope whose grammar is right. Its body stays shut until a [`TrustRoot`](super::TrustRoot) has proven it.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    kind: MessageKind,
    signatures: &'a [u8],
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads the grammar, and nothing of the body.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let short = || fault!(Corrupt, "envelope: cut short at {} bytes", bytes.len());
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(short)?;
        let [m0, m1, m2, m3, kind, count, z0, z1, l0, l1, l2, l3] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(fault!(Corrupt, "envelope: expected magic MSE1, found {:02x?}", [m0, m1, m2, m3]));
        }
        let kind = MessageKind::from_byte(kind).ok_or_else(|| {
            fault!(Unsupported, "envelope: unknown kind of message {kind}; this agent is too old for it")
        })?;
        let count = count as usize;
        if count == 0 || count > SIGNATURES_MAX {
            return Err(fault!(
                Corrupt,
                "envelope: expected 1 to {SIGNATURES_MAX} signatures, found {count}"
            ));
        }
        if [z0, z1] != [0, 0] {
            return Err(fault!(
                Unsupported,
                "envelope: reserved bytes are {z0:#04x} {z1:#04x}, expected zero"
            ));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length == 0 || length > BODY_BYTES_MAX {
            return Err(fault!(
                Corrupt,
                "envelope: expected a body of 1 to {BODY_BYTES_MAX} bytes, found {length}"
            ));
        }
        let (signatures, body) = rest.split_at_checked(count * SIGNATURE_BYTES).ok_or_else(short)?;
        if body.len() < length {
            return Err(short());
        }
        if body.len() > length {
            return Err(fault!(
                Corrupt,
                "envelope: {} bytes after its body of {length}",
                body.len() - length
            ));
        }
        let envelope = Envelope { kind, signatures, body };
        if !envelope.signatures().map(|(id, _)| id).is_sorted_by(|a, b| a < b) {
            return Err(fault!(Corrupt, "envelope: signatures do not stand in ascending order of key id"));
        }
        Ok(envelope)
    }

    /// The kind that the header claims.
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Key ids and signatures, in ascending order of key id, so no key signs twice.
    pub fn signatures(&self) -> impl Iterator<Item = (KeyId, &'a [u8; 64])> + use<'a> {
        self.signatures.chunks_exact(SIGNATURE_BYTES).filter_map(|entry| {
            let (id, signature) = entry.split_first_chunk::<8>()?;
            Some((KeyId(*id), signature.first_chunk::<64>()?))
        })
    }

    /// The body, unproven: for the verifier, and for tools that show what they do not trust.
    pub const fn unproven_body(&self) -> &'a [u8] {
        self.body
    }
}

/// Wraps `body` with the signatures that `signers` make over `kind`'s context string and the body.
#[cfg(any(test, feature = "author"))]
pub fn seal(
    kind: MessageKind,
    body: &[u8],
    signers: &[&ed25519_dalek::SigningKey],
) -> Result<alloc::vec::Vec<u8>> {
    use ed25519_dalek::Signer as _;
    let message = [kind.context(), body].concat();
    let mut signatures: alloc::vec::Vec<(KeyId, [u8; 64])> = signers
        .iter()
        .map(|key| (KeyId::of(key.verifying_key().as_bytes()), key.sign(&message).to_bytes()))
        .collect();
    signatures.sort();
    signatures.dedup_by_key(|(id, _)| *id);
    assemble(kind, body, &signatures)
}

/// Wraps `body` with signatures that were made elsewhere, and puts them in order; checks the bounds, not the
/// signatures.
#[cfg(any(test, feature = "author"))]
pub fn assemble(
    kind: MessageKind,
    body: &[u8],
    signatures: &[(KeyId, [u8; 64])],
) -> Result<alloc::vec::Vec<u8>> {
    if signatures.is_empty() || signatures.len() > SIGNATURES_MAX {
        return Err(fault!(
            Refused,
            "envelope: takes 1 to {SIGNATURES_MAX} signatures, found {}",
            signatures.len()
        ));
    }
    if body.is_empty() || body.len() > BODY_BYTES_MAX {
        return Err(fault!(
            Full,
            "envelope: takes a body of 1 to {BODY_BYTES_MAX} bytes, found {}",
            body.len()
        ));
    }
    let mut signatures = signatures.to_vec();
    signatures.sort_unstable();
    let mut neighbours = signatures.iter().zip(signatures.iter().skip(1));
    if let Some(((id, _), _)) = neighbours.find(|((one, _), (next, _))| one == next) {
        return Err(fault!(Refused, "envelope: {id} signs twice"));
    }
    let mut out =
        alloc::vec::Vec::with_capacity(HEADER_BYTES + signatures.len() * SIGNATURE_BYTES + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind as u8, signatures.len() as u8, 0, 0]);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    for (id, signature) in &signatures {
        out.extend_from_slice(&id.0);
        out.extend_from_slice(signature);
    }
    out.extend_from_slice(body);
    Ok(out)
}

const MAGIC: [u8; 4] = *b"MSE1";
const HEADER_BYTES: usize = 12;
const SIGNATURE_BYTES: usize = 8 + 64;
