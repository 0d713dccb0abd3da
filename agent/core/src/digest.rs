//! SHA-256 (FIPS 180-4): the one hash of the project. A [`Digest`] names content and proves it.

use core::fmt;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest: 32 bytes, shown as 64 lower-case hexadecimal digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Default,
)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hexadecimal digits; anything else is `None`: a digest has one spelling, as in topics.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let mut out = [0u8; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Digest(out))
    }
}

fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("…")
    }
}

/// SHA-256 over content that comes in slices.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts anew.
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes the next slice.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The digest of all that was taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    /// FIPS 180-4's own examples, by way of NIST's "Cryptographic Standards and Guidelines: Example Values".
    #[test]
    fn it_is_sha_256_however_the_content_is_sliced() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(Digest::of(b"").to_string(), empty);
        let mut hasher = Hasher::new();
        [&b"a"[..], b"", b"bc"].iter().for_each(|slice| hasher.update(slice));
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn its_hexadecimal_spelling_is_the_only_one() {
        let digest = Digest::of(b"abc");
        let hex = digest.to_string();
        assert_eq!(Digest::from_hex(&hex), Some(digest));
        let spellings: [String; 6] = [
            hex.to_uppercase(),
            String::from(&hex[..63]),
            hex.clone() + "0",
            hex.replace('b', "g"),
            hex[..62].to_string() + "é",
            String::new(),
        ];
        for bad in spellings {
            assert_eq!(Digest::from_hex(&bad), None, "{bad}");
        }
    }
}
