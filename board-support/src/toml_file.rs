//! A TOML file read strictly: every key is asked for by name and type, what nobody asked for is an error, and
//! each error names file, line, key, what was expected and what was found.
//!
//! It walks the parser's own tree instead of deriving `serde::Deserialize`: a derived reader knows neither the
//! key's path nor its line for most of what can be wrong, and costs more of the device binary.
//!
//! ```
//! use mainstay_board_support::toml_file::TomlFile;
//! let error = TomlFile::parse("[watchdog]\ntimeout = \"soon\"\n", "board.toml", |mut top| {
//!     let mut watchdog = top.need_table("watchdog")?;
//!     let seconds = watchdog.need_integer("timeout", 1..=3600)?;
//!     watchdog.finish()?;
//!     top.finish()?;
//!     Ok(seconds)
//! });
//! assert_eq!(
//!     error.unwrap_err().to_string(),
//!     "board.toml:2: watchdog.timeout: expected an integer of 1 to 3600, found the text \"soon\""
//! );
//! ```

use std::fmt::{self, Display};
use std::ops::{Deref, Range, RangeInclusive};
use std::path::{Path, PathBuf};

use mainstay_core::fault::{Fault, FaultKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file longer than this is not a configuration: 64 KiB, a hundred times what a board needs.
pub const TOML_BYTES_MAX: u64 = 64 * 1024;

/// What is wrong with a file, and where. Small, because each reading function hands it on: with its fields by value
/// the device binary was 8 KiB longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TomlError(Box<Wrong>);

/// The fields of a [`TomlError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, counted from 1; 0 where the file could not be read at all.
    pub line: u32,
    /// The key's path, as in `slot[1].device`; empty where the text is no TOML.
    pub key: String,
    /// `expected …, found …`
    pub what: String,
}

impl TomlError {
    /// In `file`, at `line` (0: none), about `key` (empty: none): `expected …, found …`.
    pub fn new(file: &str, line: u32, key: String, what: String) -> TomlError {
        TomlError(Box::new(Wrong { file: file.to_string(), line, key, what }))
    }
}

impl Deref for TomlError {
    type Target = Wrong;

    fn deref(&self) -> &Wrong {
        &self.0
    }
}

impl Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for TomlError {}

impl From<TomlError> for Fault {
    fn from(error: TomlError) -> Fault {
        Fault::new(FaultKind::Refused, format_args!("{error}"))
    }
}

/// What reading answers.
pub type Result<T> = std::result::Result<T, TomlError>;

/// The file that is being read: its name and its text, for the line numbers.
#[derive(Clone, Copy)]
pub struct TomlFile<'d> {
    name: &'d str,
    text: &'d str,
}

impl<'d> TomlFile<'d> {
    /// Reads the file at `path` as text, at most [`TOML_BYTES_MAX`].
    pub fn text_of(path: &Path) -> Result<String> {
        let name = path.display().to_string();
        let broken = |what: String| TomlError::new(&name, 0, String::new(), what);
        let length = std::fs::metadata(path)
            .map_err(|e| broken(format!("expected a readable file, found: {e}")))?
            .len();
        if length > TOML_BYTES_MAX {
            return Err(broken(format!("expected at most {TOML_BYTES_MAX} bytes, found {length}")));
        }
        std::fs::read_to_string(path).map_err(|e| broken(format!("expected UTF-8 text, found: {e}")))
    }

    /// Parses `text` and hands its top table to `read`. `name` is what errors call the file.
    pub fn parse<T>(text: &str, name: &str, read: impl FnOnce(Table<'_>) -> Result<T>) -> Result<T> {
        let file = TomlFile { name, text };
        let tree = DeTable::parse(text).map_err(|e| {
            let at = e.span().unwrap_or(0..0);
            let said = e.message().trim().replace('\n', ", ");
            file.error(at, String::new(), format!("expected TOML 1.0, found: {said}"))
        })?;
        read(Table { file, path: String::new(), at: 0..0, table: tree.get_ref(), asked: Vec::new() })
    }

    fn error(&self, at: Range<usize>, key: String, what: String) -> TomlError {
        let before = self.text.as_bytes().iter().take(at.start).filter(|b| **b == b'\n').count();
        TomlError::new(self.name, before as u32 + 1, key, what)
    }
}

/// One table of the file, asked key by key and closed with [`finish`](Self::finish).
pub struct Table<'d> {
    file: TomlFile<'d>,
    path: String,
    at: Range<usize>,
    table: &'d DeTable<'d>,
    asked: Vec<&'static str>,
}

impl<'d> Table<'d> {
    /// The value under `key`, if it is there.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.asked.push(key);
        let (_, value) = self.table.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(Value { file: self.file, path: self.path_of(key), value })
    }

    /// The value under `key`; that it is missing is an error that says what was `expected`.
    pub fn need(&mut self, key: &'static str, expected: &str) -> Result<Value<'d>> {
        match self.value(key) {
            Some(value) => Ok(value),
            None => Err(self.error(key, format!("expected {expected}, found nothing"))),
        }
    }

    /// A text, if it is there.
    pub fn text(&mut self, key: &'static str) -> Result<Option<&'d str>> {
        self.value(key).map(|v| v.text("a text")).transpose()
    }

    /// A text that has to be there.
    pub fn need_text(&mut self, key: &'static str, expected: &str) -> Result<&'d str> {
        self.need(key, expected)?.text(expected)
    }

    /// An integer, if it is there.
    pub fn integer(&mut self, key: &'static str, within: RangeInclusive<u64>) -> Result<Option<u64>> {
        self.value(key).map(|v| v.integer(within)).transpose()
    }

    /// An integer that has to be there.
    pub fn need_integer(&mut self, key: &'static str, within: RangeInclusive<u64>) -> Result<u64> {
        self.need(key, &integers(&within))?.integer(within)
    }

    /// `true` or `false`, if it is there.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.value(key).map(|v| v.flag()).transpose()
    }

    /// A table, if it is there.
    pub fn table(&mut self, key: &'static str) -> Result<Option<Table<'d>>> {
        self.value(key).map(|v| v.table()).transpose()
    }

    /// A table that has to be there.
    pub fn need_table(&mut self, key: &'static str) -> Result<Table<'d>> {
        self.need(key, "a table")?.table()
    }

    /// An error at this table, about `key` (or about the table itself where `key` is empty).
    pub fn error(&self, key: &str, what: String) -> TomlError {
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        self.file.error(self.at.clone(), path, what)
    }

    /// The line at which the table begins, counted from 1.
    pub fn line(&self) -> u32 {
        self.error("", String::new()).line
    }

    /// Closes the table: a key that nobody asked for is an error.
    pub fn finish(self) -> Result<()> {
        for key in self.table.keys() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let what = format!("expected one of {}; found an unknown key", self.asked.join(", "));
                return Err(self.file.error(key.span(), self.path_of(key.get_ref()), what));
            }
        }
        Ok(())
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }
}

/// One value of the file, with its path and its place.
pub struct Value<'d> {
    file: TomlFile<'d>,
    path: String,
    value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Value<'d> {
    /// A text that is not empty and holds no NUL (no path, name or variable does).
    pub fn text(&self, expected: &str) -> Result<&'d str> {
        match self.value.get_ref() {
            DeValue::String(s) if !s.is_empty() && !s.contains('\0') => Ok(s),
            _ => Err(self.wrong(expected)),
        }
    }

    /// A path; a relative one begins at `base`.
    pub fn path(&self, base: &Path) -> Result<PathBuf> {
        Ok(base.join(self.text("a path")?))
    }

    /// An integer.
    pub fn integer(&self, within: RangeInclusive<u64>) -> Result<u64> {
        self.as_integer().filter(|n| within.contains(n)).ok_or_else(|| self.wrong(&integers(&within)))
    }

    /// A number of bytes: an integer, or a text such as `"64 KiB"`, `"4MiB"`, `"1 GiB"`.
    pub fn bytes(&self) -> Result<u64> {
        match self.value.get_ref() {
            DeValue::String(s) => size_from_text(s),
            _ => self.as_integer(),
        }
        .ok_or_else(|| self.wrong("a number of bytes, as in 1048576, 0x100000 or \"1 MiB\""))
    }

    /// A place, in bytes, in a form that [`bytes`](Self::bytes) takes; or a negative integer, counted from the end.
    pub fn offset(&self) -> Result<i64> {
        let expected = "an offset in bytes below 2^63, negative from the end";
        match self.value.get_ref().as_integer() {
            Some(n) => i64::from_str_radix(n.as_str(), n.radix()).map_err(|_| self.wrong(expected)),
            None => i64::try_from(self.bytes()?).map_err(|_| self.wrong(expected)),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Result<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// A table.
    pub fn table(self) -> Result<Table<'d>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Table {
                file: self.file,
                at: self.value.span(),
                path: self.path,
                table,
                asked: Vec::new(),
            }),
            _ => Err(self.wrong("a table")),
        }
    }

    /// An array's values; their paths are `key[0]`, `key[1]` …
    pub fn array(&self, expected: &str) -> Result<Vec<Value<'d>>> {
        let array = self.value.get_ref().as_array().ok_or_else(|| self.wrong(expected))?;
        let item = |(i, value)| Value { file: self.file, path: format!("{}[{i}]", self.path), value };
        Ok(array.iter().enumerate().map(item).collect())
    }

    /// `expected …, found` this value.
    pub fn wrong(&self, expected: &str) -> TomlError {
        self.error(format!("expected {expected}, found {}", self.found()))
    }

    /// An error at this value.
    pub fn error(&self, what: String) -> TomlError {
        self.file.error(self.value.span(), self.path.clone(), what)
    }

    fn as_integer(&self) -> Option<u64> {
        let integer = self.value.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn found(&self) -> String {
        match self.value.get_ref() {
            DeValue::String(s) if s.len() <= 64 => format!("the text {s:?}"),
            DeValue::String(s) => format!("a text of {} bytes", s.len()),
            DeValue::Integer(n) => format!("the integer {n}"),
            DeValue::Float(n) => format!("the number {}", n.as_str()),
            DeValue::Boolean(b) => format!("{b}"),
            DeValue::Datetime(_) => "a date".to_string(),
            DeValue::Array(items) if items.is_empty() => "an empty array".to_string(),
            DeValue::Array(items) => format!("an array of {}", items.len()),
            DeValue::Table(_) => "a table".to_string(),
        }
    }
}

fn integers(within: &RangeInclusive<u64>) -> String {
    match (*within.start(), *within.end()) {
        (0, u64::MAX) => "an integer that is not negative".to_string(),
        (low, u64::MAX) => format!("an integer of at least {low}"),
        (low, high) => format!("an integer of {low} to {high}"),
    }
}

/// `"64 KiB"` → 65536. Binary units only: a slot is never a power of ten.
fn size_from_text(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_units_and_never_overflow() {
        #[rustfmt::skip]
        let cases = [
            ("4096 B",                  Some(4096)),
            ("64 KiB",                  Some(65_536)),
            ("4MiB",                    Some(4 << 20)),
            ("1 GiB",                   Some(1 << 30)),
            ("64 kB",                   None),
            ("MiB",                     None),
            ("-1 MiB",                  None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size_from_text(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_toml_is_refused_with_its_line() {
        let read = TomlFile::parse("a = 1\nb = \n", "x.toml", |_| Ok(()));
        let error = read.unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("x.toml", 2), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(TOML_BYTES_MAX + 1).unwrap();
        let error = TomlFile::text_of(file.path()).unwrap_err();
        assert!(error.what.contains("at most 65536 bytes, found 65537"), "{error}");
    }
}
