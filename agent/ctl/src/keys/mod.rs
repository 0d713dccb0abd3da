//! Signing keys: ed25519 (RFC 8032), one secret file and one public file each.
//!
//! What a key may sign is not written on it; the [trust root](crate::trust) says so.

mod file;
mod passphrase;

pub use file::{Protection, read_public, read_secret, write_pair};
pub use passphrase::Passphrases;

use crate::fail;
use crate::fail::Result;
use ed25519_dalek::SigningKey;
use mainstay_core::trust::KeyId;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A new key from the operating system's random numbers.
pub fn generate() -> Result<SigningKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| fail!("random numbers: {e}"))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The id by which envelopes name a key.
pub fn id(key: &SigningKey) -> KeyId {
    KeyId::of(key.verifying_key().as_bytes())
}

/// Reads several secret keys, each protected or not; the same key twice is one.
pub fn read_all(paths: &[PathBuf], passphrases: &mut Passphrases) -> Result<Vec<SigningKey>> {
    let mut keys: Vec<SigningKey> = Vec::new();
    for path in paths {
        let key = read_secret(path, &mut |path| passphrases.ask(path))?;
        if !keys.iter().any(|other| other.verifying_key() == key.verifying_key()) {
            keys.push(key);
        }
    }
    Ok(keys)
}
