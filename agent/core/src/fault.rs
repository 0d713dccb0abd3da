//! What a seam answers when it cannot: a kind that the machine decides by, and a text that a person acts by.
//!
//! One type for all seams, held by value and bounded, so that `core` needs no heap, the seams stay object-safe
//! and the driver exists once in the binary.

use core::fmt::{self, Write};

/// What kind of thing went wrong: the machine looks at nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FaultKind {
    /// It is not there: a slot, a file, a variable, an object.
    NotFound,
    /// The medium or the operating system said no.
    Io,
    /// Somebody else holds it.
    Busy,
    /// No room.
    Full,
    /// The medium cannot be written.
    ReadOnly,
    /// Bytes that are not what they have to be.
    Corrupt,
    /// Bytes of a format or version that this agent does not know.
    Unsupported,
    /// Understood, and not allowed: signer, compatible, floor, expiry, role.
    Refused,
    /// It took too long.
    Timeout,
    /// The link is down; the same will work later.
    Disconnected,
    /// Somebody asked to stop.
    Cancelled,
}

/// A failure with its evidence: the operation, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the machine decides by.
    pub kind: FaultKind,
    /// What a person reads: at most 240 bytes, cut at a character's end.
    pub what: heapless::String<240>,
}

impl Fault {
    /// A fault with its text. Prefer [`fault!`](crate::fault!).
    pub fn new(kind: FaultKind, what: fmt::Arguments<'_>) -> Self {
        let mut text = Cut(heapless::String::new());
        let _ = text.write_fmt(what); // Cut never fails, it only stops taking
        Fault { kind, what: text.0 }
    }

    /// The same fault, said from further out: `outer: inner`.
    pub fn within(self, outer: fmt::Arguments<'_>) -> Self {
        Fault::new(self.kind, format_args!("{outer}: {}", self.what))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl core::error::Error for Fault {}

/// `fault!(Corrupt, "manifest: expected version 1, found {v}")`
#[macro_export]
macro_rules! fault {
    ($kind:ident, $($text:tt)*) => {
        $crate::fault::Fault::new($crate::fault::FaultKind::$kind, format_args!($($text)*))
    };
}

/// Takes text up to its capacity, cuts at a character's end, and never fails.
pub(crate) struct Cut<const N: usize>(pub heapless::String<N>);

impl<const N: usize> Write for Cut<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            if self.0.push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// A bounded text, cut where it is too long: for what people read, never for what is compared.
pub fn clip<const N: usize>(text: impl fmt::Display) -> heapless::String<N> {
    let mut cut = Cut(heapless::String::new());
    let _ = write!(cut, "{text}");
    cut.0
}
