//! Key files. Text, one fact to a line, in this order and no other:
//!
//! ```text
//! mainstay secret key 1
//! public <64 hex>                          the public key, so that it can be shown without the passphrase
//! kdf argon2id <m> <t> <p> <32 hex>        memory in KiB, passes, lanes, salt (RFC 9106)      | kdf none
//! cipher chacha20poly1305 <24 hex>         nonce (RFC 8439)                                   | cipher none
//! secret <96 hex>                          the 32 bytes of the secret, and 16 of the tag      | secret <64 hex>
//!
//! mainstay public key 1
//! id <16 hex>                              as envelopes name it
//! public <64 hex>
//! ```
//! The lines above `secret` are authenticated with it, so nobody can swap the public key or weaken the parameters
//! unnoticed. The salt is new for each file, so each file's cipher key is used once.

use crate::fail;
use crate::fail::{Result, Within};
use crate::files::{mode_of, read_small, write_whole};
use crate::values::{hex, unhex};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use ed25519_dalek::SigningKey;
use mainstay_core::trust::KeyId;
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How a secret key lies on the disk.
pub enum Protection<'a> {
    /// Encrypted.
    Passphrase(&'a str),
    /// For whoever can read the file.
    None,
}

/// Writes `NAME.key` (mode 0600) and `NAME.pub`; neither may exist. The secret comes first: a public key whose
/// secret was never written would be worse than none.
pub fn write_pair(stem: &Path, key: &SigningKey, protection: Protection<'_>) -> Result<(PathBuf, PathBuf)> {
    let (secret_path, public_path) = (with_suffix(stem, ".key"), with_suffix(stem, ".pub"));
    if public_path.symlink_metadata().is_ok() {
        return Err(fail!("{}: exists already", public_path.display())
            .todo("choose another name; a key is never overwritten"));
    }
    let text = secret_text(key, protection, COST)?;
    write_whole(&secret_path, text.as_bytes(), 0o600, false)?;
    write_whole(&public_path, public_text(key.verifying_key().as_bytes()).as_bytes(), 0o644, false)?;
    Ok((secret_path, public_path))
}

/// Reads a secret key; asks `passphrase` only where the file is encrypted. Refuses a file that others may read.
pub fn read_secret(
    path: &Path,
    passphrase: &mut dyn FnMut(&Path) -> Result<Zeroizing<String>>,
) -> Result<SigningKey> {
    let metadata = fs::metadata(path).within(|| path.display())?;
    let bytes = Zeroizing::new(read_small(path, FILE_BYTES_MAX)?);
    let text = str::from_utf8(&bytes)
        .map_err(|_| fail!("{}: expected a key file, found no text", path.display()))?;
    let parsed = SecretFile::parse(text).within(|| path.display())?;
    let mode = mode_of(&metadata);
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(fail!("{}: expected mode 0600 (its owner alone), found {mode:04o}", path.display())
            .todo(format!("chmod 600 {}, and think about who may have read it", path.display())));
    }
    let Some((cost, salt, nonce)) = parsed.sealed else {
        return parsed.open_plain().within(|| path.display());
    };
    let words = passphrase(path)?;
    parsed.open_sealed(&words, cost, &salt, &nonce).within(|| path.display())
}

/// Reads a public key from a public key file, or from a secret one.
pub fn read_public(path: &Path) -> Result<[u8; 32]> {
    let bytes = Zeroizing::new(read_small(path, FILE_BYTES_MAX)?);
    let wrong = |why: &str| {
        fail!("{}: expected a mainstay public key, found {why}", path.display())
            .todo("name a NAME.pub as `mainstayctl key generate` writes it")
    };
    let text = str::from_utf8(&bytes).map_err(|_| wrong("no text"))?;
    if text.starts_with(SECRET_HEAD) {
        return Ok(SecretFile::parse(text).within(|| path.display())?.public);
    }
    let mut lines = text.lines();
    if lines.next() != Some(PUBLIC_HEAD) {
        return Err(wrong("another first line"));
    }
    let id = lines.next().and_then(|l| unhex(l.strip_prefix("id ")?)).ok_or_else(|| wrong("no id"))?;
    let public = lines
        .next()
        .and_then(|l| unhex(l.strip_prefix("public ")?))
        .ok_or_else(|| wrong("no public line"))?;
    if KeyId::of(&public) != KeyId(id) {
        return Err(wrong("an id that is not this key's"));
    }
    match lines.next() {
        None => Ok(public),
        Some(_) => Err(wrong("more lines than three")),
    }
}

fn public_text(public: &[u8; 32]) -> String {
    format!("{PUBLIC_HEAD}\nid {}\npublic {}\n", KeyId::of(public), hex(public))
}

fn secret_text(key: &SigningKey, protection: Protection<'_>, cost: Cost) -> Result<Zeroizing<String>> {
    let public = hex(key.verifying_key().as_bytes());
    let secret = Zeroizing::new(key.to_bytes());
    match protection {
        Protection::None => {
            let secret = Zeroizing::new(hex(secret.as_slice()));
            // In one piece from the start: a text that grows leaves its shorter copies behind.
            let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX));
            for part in [SECRET_HEAD, "\npublic ", &public, "\nkdf none\ncipher none\nsecret ", &secret, "\n"]
            {
                text.push_str(part);
            }
            Ok(text)
        }
        Protection::Passphrase(words) => {
            let (mut salt, mut nonce) = ([0; 16], [0; 12]);
            let random = getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut nonce));
            random.map_err(|e| fail!("random numbers: {e}"))?;
            let Cost { memory_kib, passes, lanes } = cost;
            let (salt_hex, nonce_hex) = (hex(&salt), hex(&nonce));
            let head = format!(
                "{SECRET_HEAD}\npublic {public}\nkdf argon2id {memory_kib} {passes} {lanes} {salt_hex}\n\
                 cipher chacha20poly1305 {nonce_hex}\n"
            );
            let cipher = cipher(words, cost, &salt)?;
            let sealed = cipher
                .encrypt(&nonce.into(), Payload { msg: secret.as_slice(), aad: head.as_bytes() })
                .map_err(|_| fail!("encryption of the key failed"))?;
            Ok(Zeroizing::new(format!("{head}secret {}\n", hex(&sealed))))
        }
    }
}

/// What Argon2 costs.
#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A secret key file whose grammar is right.
struct SecretFile<'t> {
    /// All above the secret.
    head: &'t str,
    public: [u8; 32],
    sealed: Option<(Cost, [u8; 16], [u8; 12])>,
    secret: &'t str,
}

impl<'t> SecretFile<'t> {
    fn parse(text: &'t str) -> Result<Self> {
        let wrong = |expected: &str| {
            fail!("expected a mainstay secret key file, found none or a damaged one ({expected})")
                .todo("name a NAME.key as `mainstayctl key generate` writes it")
        };
        let at = text.find("\nsecret ").ok_or_else(|| wrong("secret line"))? + 1;
        let (head, secret) = text.split_at(at);
        let secret = secret.strip_prefix("secret ").unwrap_or_default();
        let mut lines = head.lines();
        if lines.next() != Some(SECRET_HEAD) {
            return Err(wrong("first line"));
        }
        let public = lines
            .next()
            .and_then(|l| unhex(l.strip_prefix("public ")?))
            .ok_or_else(|| wrong("public line"))?;
        let kdf = lines.next().and_then(|l| l.strip_prefix("kdf ")).ok_or_else(|| wrong("kdf line"))?;
        let cipher =
            lines.next().and_then(|l| l.strip_prefix("cipher ")).ok_or_else(|| wrong("cipher line"))?;
        let secret = secret.strip_suffix('\n').unwrap_or(secret);
        let sealed = match (kdf, cipher) {
            ("none", "none") => None,
            _ => {
                let (cost, salt) = read_kdf(kdf).ok_or_else(|| wrong("kdf line"))?;
                let nonce = cipher.strip_prefix("chacha20poly1305 ").and_then(unhex);
                Some((cost, salt, nonce.ok_or_else(|| wrong("cipher line"))?))
            }
        };
        match lines.next() {
            None => Ok(SecretFile { head, public, sealed, secret }),
            Some(_) => Err(wrong("too many lines")),
        }
    }

    fn open_plain(&self) -> Result<SigningKey> {
        let secret = unhex(self.secret).ok_or_else(|| fail!("expected 64 hexadecimal digits of secret"))?;
        self.check(&Zeroizing::new(secret))
    }

    fn open_sealed(&self, words: &str, cost: Cost, salt: &[u8; 16], nonce: &[u8; 12]) -> Result<SigningKey> {
        let sealed: [u8; 48] =
            unhex(self.secret).ok_or_else(|| fail!("expected 96 hexadecimal digits of secret"))?;
        let opened = cipher(words, cost, salt)?
            .decrypt(&(*nonce).into(), Payload { msg: &sealed, aad: self.head.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| {
                fail!("the passphrase does not open this key (or the file has been changed)")
                    .todo("try again with the right passphrase")
            })?;
        let secret =
            <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| fail!("expected 32 bytes of secret"))?;
        self.check(&Zeroizing::new(secret))
    }

    /// The public key that is shown must be the secret's: signatures made under another would be worth nothing.
    fn check(&self, secret: &[u8; 32]) -> Result<SigningKey> {
        let key = SigningKey::from_bytes(secret);
        if *key.verifying_key().as_bytes() != self.public {
            return Err(fail!("its public line does not belong to its secret"));
        }
        Ok(key)
    }
}

/// `argon2id <m> <t> <p> <salt>`, within bounds that no file can use to take the machine down.
fn read_kdf(text: &str) -> Option<(Cost, [u8; 16])> {
    let mut fields = text.strip_prefix("argon2id ")?.split(' ');
    let mut number = |most: u32| fields.next()?.parse().ok().filter(|n| (1..=most).contains(n));
    let cost =
        Cost { memory_kib: number(MEMORY_KIB_MAX)?, passes: number(PASSES_MAX)?, lanes: number(LANES_MAX)? };
    let salt = unhex(fields.next()?)?;
    fields.next().is_none().then_some((cost, salt))
}

fn cipher(words: &str, cost: Cost, salt: &[u8; 16]) -> Result<ChaCha20Poly1305> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32));
    let params = params.map_err(|e| fail!("argon2id parameters: {e}"))?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(words.as_bytes(), salt, key.as_mut_slice())
        .map_err(|e| fail!("argon2id: {e}"))?;
    Ok(ChaCha20Poly1305::new((&*key).into()))
}

fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

const SECRET_HEAD: &str = "mainstay secret key 1";
const PUBLIC_HEAD: &str = "mainstay public key 1";
/// The longest form has about 350 bytes.
const FILE_BYTES_MAX: usize = 1024;
/// 64 MiB, three passes: the second recommended set of RFC 9106 §4 has four lanes; one is enough where one key is
/// opened.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// 1 GiB.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Cheap, for tests: the smallest that Argon2 takes.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    /// A buffer that grows leaves shorter copies of the secret where nobody overwrites them. Its capacity tells: each is
    /// what it was made with.
    #[test]
    fn what_holds_a_secret_is_overwritten_in_the_end_and_never_grown() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let text: Zeroizing<String> = secret_text(&key, Protection::None, CHEAP).unwrap();
        assert_eq!(text.capacity(), FILE_BYTES_MAX);
        assert!(SecretFile::parse(&text).unwrap().open_plain().unwrap() == key);
        let digits = hex(&[0xa5; 32]);
        assert_eq!((digits.as_str(), digits.capacity()), ("a5".repeat(32).as_str(), 64));
        for length in [0, 1, text.len(), FILE_BYTES_MAX - 1, FILE_BYTES_MAX] {
            let path = folder.path().join("file");
            fs::write(&path, vec![b'x'; length]).unwrap();
            let bytes = read_small(&path, FILE_BYTES_MAX).unwrap();
            assert_eq!((bytes.len(), bytes.capacity()), (length, FILE_BYTES_MAX + 64), "{length}");
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn open(text: &str, words: &str) -> Result<SigningKey> {
        let parsed = SecretFile::parse(text)?;
        match parsed.sealed {
            Some((cost, salt, nonce)) => parsed.open_sealed(words, cost, &salt, &nonce),
            None => parsed.open_plain(),
        }
    }

    #[test]
    fn a_protected_key_opens_with_its_passphrase_alone() {
        let text = secret_text(&key(), Protection::Passphrase("correct horse"), CHEAP).unwrap();
        assert_eq!(open(&text, "correct horse").unwrap(), key());
        for wrong in ["", "correct", "Correct horse", "correct horse "] {
            let said = open(&text, wrong).unwrap_err();
            assert!(said.what.contains("the passphrase does not open this key"), "{said}");
        }
        assert!(!text.contains(&hex(&key().to_bytes())), "the secret stands in the clear");
    }

    #[test]
    fn no_line_of_a_protected_key_can_be_changed() {
        let text = secret_text(&key(), Protection::Passphrase("correct horse"), CHEAP).unwrap();
        let other = hex(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
        let public = hex(key().verifying_key().as_bytes());
        let digit = |at: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            String::from_utf8(bytes).unwrap()
        };
        let at = |word: &str| text.find(word).unwrap() + word.len();
        let cases = [
            text.replace(&public, &other),
            text.replace("argon2id 8 1 1", "argon2id 9 1 1"),
            digit(at("\nsecret ")),
            digit(at("argon2id 8 1 1 ")),
            digit(at("chacha20poly1305 ")),
            text.replace("mainstay secret key 1", "mainstay secret key 2"),
            text.replace("kdf argon2id", "kdf none"),
            format!("{}x\n", text.trim_end()),
            String::new(),
            "secret ".into(),
        ];
        for changed in cases {
            assert!(open(&changed, "correct horse").is_err(), "{changed}");
        }
    }

    #[test]
    fn a_key_file_cannot_ask_for_all_memory() {
        let text = secret_text(&key(), Protection::Passphrase("correct horse"), CHEAP).unwrap();
        for cost in ["4294967295 1 1", "8 4294967295 1", "8 1 255", "0 1 1", "8 0 1"] {
            let changed = text.replace("argon2id 8 1 1", &format!("argon2id {cost}"));
            assert!(SecretFile::parse(&changed).is_err(), "{cost}");
        }
    }

    #[test]
    fn files_are_written_once_and_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("alice");
        let (secret, public) = write_pair(&stem, &key(), Protection::None).unwrap();
        assert_eq!(mode_of(&fs::metadata(&secret).unwrap()), 0o600);
        let mut never = |_: &Path| -> Result<Zeroizing<String>> { panic!("there is no passphrase") };
        assert_eq!(read_secret(&secret, &mut never).unwrap(), key());
        assert_eq!(read_public(&public).unwrap(), *key().verifying_key().as_bytes());
        assert_eq!(read_public(&secret).unwrap(), *key().verifying_key().as_bytes());

        let again = write_pair(&stem, &SigningKey::from_bytes(&[9; 32]), Protection::None).unwrap_err();
        assert!(again.what.contains("exists already"), "{again}");
        fs::remove_file(&public).unwrap();
        assert!(write_pair(&stem, &SigningKey::from_bytes(&[9; 32]), Protection::None).is_err());
        assert_eq!(read_secret(&secret, &mut never).unwrap(), key());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_mode_that_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, _) = write_pair(&folder.path().join("k"), &key(), Protection::None).unwrap();
        let mut never = |_: &Path| -> Result<Zeroizing<String>> { panic!("there is no passphrase") };
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601] {
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
            let said = read_secret(&secret, &mut never).unwrap_err().to_string();
            assert!(said.contains(&format!("found {mode:04o}")) && said.contains("chmod 600"), "{said}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
            assert!(read_secret(&secret, &mut never).is_ok(), "{mode:o}");
        }
    }
}
