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
        Fault { kind, what: clip(what) }
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

/// Takes text up to its capacity and stops at a character's end: an error tells the formatter to stop too, so that
/// nothing short that follows slips into what room is left.
struct Cut<const N: usize>(heapless::String<N>);

impl<const N: usize> Write for Cut<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.chars().try_for_each(|c| self.0.push(c).map_err(|_| fmt::Error))
    }
}

/// A bounded text, cut where it is too long: for what people read, never for what is compared.
pub fn clip<const N: usize>(text: impl fmt::Display) -> heapless::String<N> {
    let mut cut = Cut(heapless::String::new());
    let _ = write!(cut, "{text}"); // fails only by being full
    cut.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_characters_end_and_nothing_slips_in_behind_it() {
        assert_eq!(clip::<8>("whole").as_str(), "whole");
        assert_eq!(clip::<8>(format_args!("{}{}", "123456789", "x")).as_str(), "12345678");
        assert_eq!(clip::<8>(format_args!("{}{}{}", "1234567", "é", "x")).as_str(), "1234567");
        assert_eq!(clip::<0>("x").as_str(), "");
        let long = fault!(Io, "{}{}", "x".repeat(239), "€!");
        assert_eq!((long.what.len(), long.what.ends_with('x')), (239, true));
    }

    #[test]
    fn what_is_said_from_further_out_keeps_its_kind() {
        let fault = fault!(ReadOnly, "write: denied").within(format_args!("slot {}", "rootfs"));
        assert_eq!((fault.kind, fault.what.as_str()), (FaultKind::ReadOnly, "slot rootfs: write: denied"));
    }
}
