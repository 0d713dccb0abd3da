//! What all bodies share: a version byte, then postcard; and what a name may look like.

use crate::fault;
use crate::seam::Result;
use core::fmt::{self, Write as _};
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// The version byte of every body that this agent writes and reads.
pub const BODY_VERSION: u8 = 1;

/// Reads a body: version byte 1, then postcard that is used up to its last byte.
pub fn decode_body<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T> {
    let mut reader = BodyReader::open(what, body)?;
    let value = reader.field("body")?;
    reader.close()?;
    Ok(value)
}

/// Reads a body field by field: for what is large (each field is named where it is wrong, and only one of them is on the
/// stack at a time; the derived reader holds three copies of everything so far).
pub struct BodyReader<'a, 'w> {
    what: &'w str,
    bytes: usize,
    rest: postcard::Deserializer<'a, postcard::de_flavors::Slice<'a>>,
}

impl<'a, 'w> BodyReader<'a, 'w> {
    /// Reads the version byte.
    pub fn open(what: &'w str, body: &'a [u8]) -> Result<Self> {
        match body {
            [BODY_VERSION, rest @ ..] => {
                Ok(BodyReader { what, bytes: body.len(), rest: postcard::Deserializer::from_bytes(rest) })
            }
            [found, ..] => Err(fault!(
                Unsupported,
                "{what}: expected version {BODY_VERSION}, found {found}; this agent is too old for it"
            )),
            [] => Err(fault!(Corrupt, "{what}: empty")),
        }
    }

    /// The next field.
    pub fn field<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T> {
        T::deserialize(&mut self.rest).map_err(|e| match e {
            // What serde has to say is lost on the way through postcard, and here it is one thing only: heapless
            // refuses a text or a list beyond its bound, an enum a number that it does not have.
            postcard::Error::SerdeDeCustom => fault!(
                Corrupt,
                "{}: {name}: a text or list beyond its bound, or a number that means nothing to this agent",
                self.what
            ),
            e => fault!(Corrupt, "{} of {} bytes: {name}: {e}", self.what, self.bytes),
        })
    }

    /// The next field, a list, into `out`.
    pub fn list<T: Deserialize<'a>, const N: usize>(
        &mut self,
        name: &str,
        out: &mut heapless::Vec<T, N>,
    ) -> Result<()> {
        let count: u32 = self.field(name)?;
        if count as usize > N {
            return Err(fault!(Corrupt, "{}: {name}: expected at most {N}, found {count}", self.what));
        }
        out.clear();
        for _ in 0..count {
            let _ = out.push(self.field(name)?); // there is room for N
        }
        Ok(())
    }

    /// There must be nothing left.
    pub fn close(self) -> Result<()> {
        match self.rest.finalize() {
            Ok([]) => Ok(()),
            Ok(left) => Err(fault!(Corrupt, "{}: {} bytes too many at its end", self.what, left.len())),
            Err(e) => Err(fault!(Corrupt, "{}: {e}", self.what)),
        }
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

/// A text that people read: printable, one line, and what the eye sees is what stands there. A technician's terminal
/// shows these texts, so nothing in them may steer it: no control character, no line break, nothing that turns the
/// writing direction round or is not seen at all.
pub fn check_text(what: &str, text: &str) -> Result<()> {
    match text.chars().find(|c| is_unseen(*c)) {
        Some(c) => Err(fault!(
            Corrupt,
            "{what}: expected printable text, found the control or invisible character U+{:04X}",
            u32::from(c)
        )),
        None => Ok(()),
    }
}

/// A text as printable ASCII on one line, whatever stands in it: for terminals that may not speak UTF-8. One that does
/// not takes the second byte of `ś` (C5 9B) for the beginning of a control sequence (ECMA-48: 9B is CSI).
#[derive(Clone, Copy, Debug)]
pub struct Ascii<'a>(pub &'a str);

impl fmt::Display for Ascii<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            ' '..='~' => f.write_char(c),
            c => write!(f, "{}", c.escape_unicode()),
        })
    }
}

/// Steers a terminal, turns the writing direction round, or is not seen at all: what no text from outside may bring to
/// where people read.
pub fn is_unseen(c: char) -> bool {
    c.is_control() || UNSEEN.iter().any(|range| range.contains(&c))
}

/// Unicode 15: general categories Cf, Zl and Zp (format characters, among them the bidirectional overrides and
/// isolates; line and paragraph separators), and what else `Default_Ignorable_Code_Point` makes invisible. Cc
/// (C0, DEL, C1) is `char::is_control`.
#[rustfmt::skip]
const UNSEEN: [RangeInclusive<char>; 32] = [
    '\u{ad}'..='\u{ad}',       '\u{34f}'..='\u{34f}',     '\u{600}'..='\u{605}',     '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',     '\u{70f}'..='\u{70f}',     '\u{890}'..='\u{891}',     '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',   '\u{17b4}'..='\u{17b5}',   '\u{180b}'..='\u{180f}',   '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',   '\u{2060}'..='\u{206f}',   '\u{3164}'..='\u{3164}',   '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',   '\u{ffa0}'..='\u{ffa0}',   '\u{fff0}'..='\u{fffb}',   '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}', '\u{13430}'..='\u{1343f}', '\u{1bca0}'..='\u{1bca3}', '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
    // Not characters, and private use: shown as whatever a font makes of them.
    '\u{e000}'..='\u{f8ff}',   '\u{fdd0}'..='\u{fdef}',   '\u{fffe}'..='\u{ffff}',   '\u{1fffe}'..='\u{1ffff}',
    '\u{2fffe}'..='\u{2ffff}', '\u{3fffe}'..='\u{3ffff}', '\u{f0000}'..='\u{10ffff}',
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_text_cannot_steer_the_terminal_that_shows_it() {
        #[rustfmt::skip]
        let cases = [
            // text                             what stands in it
            ("\x1b[2J",                         "U+001B"),      // ESC: clears a screen
            ("1.2\x1b]0;owned\x07",             "U+001B"),
            ("bell\x07",                        "U+0007"),
            ("back\x08",                        "U+0008"),
            ("two\nlines",                      "U+000A"),
            ("over\rwritten",                   "U+000D"),
            ("tab\t",                           "U+0009"),
            ("nul\0",                           "U+0000"),
            ("del\x7f",                         "U+007F"),
            ("csi\u{9b}2J",                     "U+009B"),      // C1: the same as ESC [
            ("nel\u{85}",                       "U+0085"),
            ("line\u{2028}",                    "U+2028"),
            ("rlo\u{202e}3.2.1",                "U+202E"),      // shows 1.2.3
            ("lri\u{2066}",                     "U+2066"),
            ("pdi\u{2069}",                     "U+2069"),
            ("rlm\u{200f}",                     "U+200F"),
            ("alm\u{61c}",                      "U+061C"),
            ("zero\u{200b}width",               "U+200B"),
            ("bom\u{feff}",                     "U+FEFF"),
            ("soft\u{ad}hyphen",                "U+00AD"),
            ("tag\u{e0041}",                    "U+E0041"),
            ("filler\u{3164}",                  "U+3164"),
            ("private\u{f8ff}",                 "U+F8FF"),
        ];
        for (text, found) in cases {
            let fault = check_text("version", text).unwrap_err();
            assert!(fault.what.ends_with(found), "{text:?}: {}", fault.what);
        }
        for text in ["", "1.2.3-rc1+5", "Gateway für Halle 3", "版本 2", "~!\"\\"] {
            check_text("version", text).unwrap();
        }
    }

    #[test]
    fn ascii_is_one_printable_line_whatever_stands_in_the_text() {
        assert_eq!(Ascii("a b\\c\x1b[2Jś\n").to_string(), "a b\\\\c\\u{1b}[2J\\u{15b}\\u{a}");
        for c in ('\0'..='\u{ffff}').chain(['\u{e0041}', '\u{10ffff}']) {
            let shown = Ascii(c.encode_utf8(&mut [0; 4])).to_string();
            assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{c:?}");
        }
    }

    #[test]
    fn a_name_fits_a_topic_level_and_a_file_name() {
        for good in ["a", "plant-7", "A_b.c", "0", "-"] {
            check_name("fleet", good).unwrap();
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "+", "#", "a b", "$SYS", "a\0", "é", "a\n"] {
            assert!(check_name("fleet", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_body_is_its_version_and_one_value_and_nothing_else() {
        let mut room = [0; 8];
        let body = encode_body_into(&(300u16, 7u8), &mut room).unwrap();
        assert_eq!(body, [1, 0xac, 0x02, 7]);
        assert_eq!(decode_body::<(u16, u8)>("pair", body).unwrap(), (300, 7));
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 7] = [
            (&[],                    "pair: empty"),
            (&[0, 1, 1],             "expected version 1, found 0"),
            (&[2, 1, 1],             "expected version 1, found 2; this agent is too old"),
            (&[1],                   "pair of 1 bytes: body: Hit the end of buffer"),
            (&[1, 0xac, 0x02],       "pair of 3 bytes: body: Hit the end of buffer"),
            (&[1, 0xac, 0x02, 7, 0], "pair: 1 bytes too many at its end"),
            (&[1, 0xff, 0xff, 0x7f], "pair of 4 bytes: body: Found a varint that didn't"),
        ];
        for (body, words) in cases {
            let fault = decode_body::<(u16, u8)>("pair", body).unwrap_err();
            assert!(fault.what.contains(words), "{body:?}: {}", fault.what);
        }
        let mut small = [0; 3];
        assert_eq!(
            encode_body_into(&(300u16, 7u8), &mut small).unwrap_err().what,
            "body: does not fit 3 bytes"
        );
        assert!(encode_body_into(&1u8, &mut []).is_err());
    }
}
