//! What all bodies share: a version byte, then postcard; and what a name may look like.

use crate::fault;
use crate::seam::Result;
use serde::{Deserialize, Serialize};

/// The version byte of every body that this agent writes and reads.
pub const BODY_VERSION: u8 = 1;

/// Reads a body: version byte 1, then postcard that is used up to its last byte.
pub fn decode_body<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T> {
    match body {
        [BODY_VERSION, rest @ ..] => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, left)) => Err(fault!(Corrupt, "{what}: {} bytes too many at its end", left.len())),
            Err(e) => Err(fault!(Corrupt, "{what}: {} bytes, but: {e}", body.len())),
        },
        [found, ..] => Err(fault!(
            Unsupported,
            "{what}: expected version {BODY_VERSION}, found {found}; this agent is too old for it"
        )),
        [] => Err(fault!(Corrupt, "{what}: empty")),
    }
}

/// Writes a body into `out`; the bytes used.
pub fn encode_body_into<'a, T: Serialize>(value: &T, out: &'a mut [u8]) -> Result<&'a [u8]> {
    let room = out.len();
    let full = || fault!(Full, "body: does not fit {room} bytes");
    let (version, rest) = out.split_first_mut().ok_or_else(full)?;
    *version = BODY_VERSION;
    let used = postcard::to_slice(value, rest).map_err(|_| full())?.len();
    out.get(..=used).ok_or_else(full)
}

/// Writes a body.
#[cfg(any(test, feature = "author"))]
pub fn encode_body<T: Serialize>(value: &T) -> Result<alloc::vec::Vec<u8>> {
    let mut out = alloc::vec![0; crate::limits::BODY_BYTES_MAX];
    let used = encode_body_into(value, &mut out)?.len();
    out.truncate(used);
    Ok(out)
}

/// A name that stands in topics, files and logs: 1 or more of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().find(|c| !fits(*c)) {
        Some(c) => Err(fault!(Corrupt, "{what}: expected letters, digits, '.', '_' and '-', found {c:?}")),
        None if name.is_empty() || name.starts_with('.') => {
            Err(fault!(Corrupt, "{what}: expected a name that does not begin with a dot, found {name:?}"))
        }
        None => Ok(()),
    }
}

/// A text that people read: printable, one line.
pub fn check_text(what: &str, text: &str) -> Result<()> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(fault!(Corrupt, "{what}: expected printable text, found the control character {c:?}")),
        None => Ok(()),
    }
}
