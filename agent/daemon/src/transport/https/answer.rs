//! Reads what a web server answers: the head, and where the body's bytes are in what follows. No I/O; every length is
//! bounded, and what is not understood is refused by name rather than guessed (RFC 9112; its section 11 says what guesses lead to).
//!
//! ```text
//! HTTP/1.1 206 Partial Content CRLF        status line
//! Content-Range: bytes 0-4095/65536 CRLF   fields, HEAD_BYTES_MAX and FIELDS_MAX in all
//! Content-Length: 4096 CRLF
//! CRLF
//! body: Content-Length bytes | chunks: SIZE[;ext] CRLF bytes CRLF … 0 CRLF [trailers] CRLF | to the end of the connection
//! ```

use mainstay_core::{fault, fault::Fault};

/// A head with its status line. nginx and lighttpd send about 300 bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Fields of a head.
pub const FIELDS_MAX: usize = 64;
/// A line between chunks: sixteen digits, and an extension that is passed over.
const LINE_BYTES_MAX: usize = 256;
/// Fields behind the last chunk, in all; they are passed over.
const TRAILER_BYTES_MAX: usize = 1024;

/// What stands before the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 200, 206, 404 …
    pub status: u16,
    /// How the body ends.
    pub body: Body,
    /// Of a 206: the first and the last byte that follow.
    pub range: Option<(u64, u64)>,
    /// The connection can be used for the next request.
    pub keeps: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// After the chunk of size 0.
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Head {
    /// The head that `bytes` begin with, and its length; `None` while it is not there whole.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
        let whole = bytes.windows(4).take(HEAD_BYTES_MAX).position(|end| end == b"\r\n\r\n");
        let Some(length) = whole else {
            if bytes.len() >= HEAD_BYTES_MAX {
                return Err(fault!(Full, "expected a head of at most {HEAD_BYTES_MAX} bytes, found no end"));
            }
            return Ok(None);
        };
        let text = bytes.get(..length).and_then(|head| std::str::from_utf8(head).ok());
        let text = text.ok_or_else(|| fault!(Corrupt, "the head is no text"))?;
        let mut lines = text.split("\r\n");
        let (status, modern) = status_line(lines.next().unwrap_or_default())?;
        let mut fields = Fields { keeps: modern, ..Fields::default() };
        for (count, line) in lines.enumerate() {
            if count >= FIELDS_MAX {
                return Err(fault!(Full, "expected at most {FIELDS_MAX} fields in the head, found more"));
            }
            fields.take(line)?;
        }
        Ok(Some((fields.head(status)?, length + 4)))
    }
}

/// `HTTP/1.1 206 Partial Content` → 206, and whether connections stay by themselves.
fn status_line(line: &str) -> Result<(u16, bool), Fault> {
    let wrong = || fault!(Corrupt, "expected HTTP/1.1 and a status, found \"{}\"", shown(line));
    let (version, rest) = line.split_once(' ').ok_or_else(wrong)?;
    let modern = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(wrong()),
    };
    let (status, reason) = rest.split_at_checked(3).ok_or_else(wrong)?;
    match status.parse::<u16>() {
        Ok(status @ 100..=599) if reason.is_empty() || reason.starts_with(' ') => Ok((status, modern)),
        _ => Err(wrong()),
    }
}

/// The fields that count.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    range: Option<(u64, u64)>,
    keeps: bool,
}

impl Fields {
    fn take(&mut self, line: &str) -> Result<(), Fault> {
        let wrong = || fault!(Corrupt, "expected a field of the head, found \"{}\"", shown(line));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) || value.contains(['\r', '\n', '\0']) {
            return Err(wrong()); // also a line that goes on with the one before, and a space before the colon
        }
        let value = value.trim_matches([' ', '\t']);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            let length = number(value, 10).ok_or_else(wrong)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(fault!(Corrupt, "two fields Content-Length that differ"));
            }
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || self.chunked {
                return Err(fault!(
                    Unsupported,
                    "Transfer-Encoding: expected chunked, found \"{}\"",
                    shown(value)
                ));
            }
            self.chunked = true;
        } else if is("content-encoding") {
            if !value.eq_ignore_ascii_case("identity") {
                return Err(fault!(
                    Unsupported,
                    "Content-Encoding: expected none, found \"{}\"",
                    shown(value)
                ));
            }
        } else if is("content-range") {
            self.range = range(value);
        } else if is("connection") {
            for word in value.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    self.keeps = false;
                } else if word.eq_ignore_ascii_case("keep-alive") {
                    self.keeps = true;
                }
            }
        }
        Ok(())
    }

    fn head(self, status: u16) -> Result<Head, Fault> {
        let body = match (self.chunked, self.length) {
            _ if status < 200 || status == 204 || status == 304 => Body::Length(0),
            (true, Some(_)) => {
                return Err(fault!(
                    Corrupt,
                    "Content-Length and Transfer-Encoding, which contradict each other"
                ));
            }
            (true, None) => Body::Chunked,
            (false, Some(length)) => Body::Length(length),
            (false, None) => Body::UntilClose,
        };
        let keeps = self.keeps && body != Body::UntilClose;
        Ok(Head { status, body, range: self.range, keeps })
    }
}

/// `bytes 0-4095/65536`, or with a star for the length.
fn range(value: &str) -> Option<(u64, u64)> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first, 10)?, number(last, 10)?);
    let fits = whole == "*" || last < number(whole, 10)?;
    (first <= last && fits).then_some((first, last))
}

/// Digits alone: no sign, no space, at most nineteen.
fn number(text: &str, radix: u32) -> Option<u64> {
    let digits = !text.is_empty() && text.len() < 20 && text.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| digits)
}

/// The begin of what a server says, fit to be printed.
fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '.' } else { c }).collect()
}

/// Where in a body we are.
#[derive(Debug)]
pub struct Framing {
    state: Place,
    /// The line between chunks, as far as it is here.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes to the end.
    Left(u64),
    UntilClose,
    /// In the line that says how large the next chunk is.
    Size,
    /// So many bytes to the chunk's end.
    Chunk(u64),
    /// In the line end behind a chunk.
    Behind,
    Trailers,
    Over,
}

impl Framing {
    /// At the begin of a body.
    pub fn new(body: Body) -> Self {
        let state = match body {
            Body::Length(0) => Place::Over,
            Body::Length(bytes) => Place::Left(bytes),
            Body::Chunked => Place::Size,
            Body::UntilClose => Place::UntilClose,
        };
        Framing { state, line: Vec::new(), trailers: 0 }
    }

    /// Nothing more belongs to this body.
    pub fn is_over(&self) -> bool {
        self.state == Place::Over
    }

    /// The connection has ended: may it, here?
    pub fn closed(&mut self) -> Result<(), Fault> {
        match self.state {
            Place::UntilClose | Place::Over => {
                self.state = Place::Over;
                Ok(())
            }
            _ => Err(fault!(Disconnected, "the connection ended within an answer")),
        }
    }

    /// Takes some of `input`: how many bytes, and which of them, from the end of those, are the body's. Takes at least one
    /// byte, unless there is none or the body is over.
    pub fn take(&mut self, input: &[u8]) -> Result<(usize, usize), Fault> {
        let all = input.len() as u64;
        match self.state {
            Place::Over => Ok((0, 0)),
            Place::UntilClose => Ok((input.len(), input.len())),
            Place::Left(left) => {
                let taken = left.min(all);
                self.state = if taken == left { Place::Over } else { Place::Left(left - taken) };
                Ok((taken as usize, taken as usize))
            }
            Place::Chunk(left) => {
                let taken = left.min(all);
                self.state = if taken == left { Place::Behind } else { Place::Chunk(left - taken) };
                Ok((taken as usize, taken as usize))
            }
            Place::Size | Place::Behind | Place::Trailers => {
                let end = input.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(input.len(), |end| end + 1);
                self.line.extend_from_slice(input.get(..taken).unwrap_or_default());
                if self.line.len() > LINE_BYTES_MAX {
                    return Err(fault!(Full, "chunks: expected a line of at most {LINE_BYTES_MAX} bytes"));
                }
                if end.is_some() {
                    let line = std::mem::take(&mut self.line);
                    self.state = self.after(&line)?;
                }
                Ok((taken, 0))
            }
        }
    }

    /// What follows a line between chunks.
    fn after(&mut self, line: &[u8]) -> Result<Place, Fault> {
        let wrong = || {
            fault!(Corrupt, "chunks: expected a size, found \"{}\"", shown(&String::from_utf8_lossy(line)))
        };
        let line = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
        match self.state {
            Place::Behind if line.is_empty() => Ok(Place::Size),
            Place::Trailers if line.is_empty() => Ok(Place::Over),
            Place::Trailers => {
                self.trailers += line.len();
                if self.trailers > TRAILER_BYTES_MAX {
                    return Err(fault!(
                        Full,
                        "chunks: expected at most {TRAILER_BYTES_MAX} bytes of trailers"
                    ));
                }
                Ok(Place::Trailers)
            }
            Place::Size => {
                let text = std::str::from_utf8(line).map_err(|_| wrong())?;
                let digits = text.split(';').next().unwrap_or_default().trim_end_matches([' ', '\t']);
                match number(digits, 16).ok_or_else(wrong)? {
                    0 => Ok(Place::Trailers),
                    bytes => Ok(Place::Chunk(bytes)),
                }
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests;
