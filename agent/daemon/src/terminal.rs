//! What people read on a terminal. Saying never fails: whoever stops listening (`mainstay status | head -1`, a serial
//! console that is pulled out in the middle of an install) ends no work. And nothing that came from outside steers a
//! terminal, or ends a line of the control socket before its time.

use mainstay_core::wire::is_unseen;
use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write as _;

/// A line on standard output.
pub fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}"); // println! would panic
}

/// A line on standard error.
pub fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "mainstay: {text}");
}

/// A line on standard error that is no complaint: what a command says beside its output.
pub fn remark(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}"); // eprintln! would panic
}

/// The text with everything escaped that steers a terminal, ends a line, or makes a line read otherwise than it is
/// (U+202E turns what follows round: a refusal could end in what looks like a version that was taken).
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unseen(c) {
            true => drop(write!(out, "{}", c.escape_default())), // a String takes everything
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_all_else_stays() {
        assert_eq!(printable("Größe 5 °C"), "Größe 5 °C");
        assert_eq!(printable("1.0 \u{202e}0.2\u{200b}"), "1.0 \\u{202e}0.2\\u{200b}");
        assert_eq!(printable("a\n+ done\x1b[2J\u{9b}x\r"), "a\\n+ done\\u{1b}[2J\\u{9b}x\\r");
    }
}
