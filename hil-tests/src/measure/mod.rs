//! What `cargo xtask footprint` and `cargo xtask bench` measure, on the static release binary that xtask has built.
//!
//! * [`footprint`] resident memory of the daemon while it takes an image from a Mosquitto
//! * [`pair`] pairs of images, real and made up
//! * [`size`] bytes on the wire of every method on every pair, and what they cost
//! * [`link`] how much of a slow, far, losing link a download fills, and the agent's memory meanwhile
//! * [`install`] the time of an install from a local file, beside `dd`, SHA-256 and its own parts
//!
//! All print Markdown; the bench's parts keep their rows as JSON, too. What a figure is held against is its budget in
//! `agent/docs/DESIGN.md`.

mod cost;
pub mod footprint;
pub mod install;
pub mod link;
mod memory;
pub mod pair;
mod parts;
pub mod size;
mod stage;
mod table;

use crate::disk::MIB;
use crate::image::{Behaviour, Header, Spec};
use crate::{Doing, Result, Trouble};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What `--help` says.
pub const HELP: &str = "\
measure footprint --agent FILE [--folder DIR] [--size MIB]...      [64, 1024, 1024]
measure install   --agent FILE [--folder DIR] [--size MIB] [--rounds N] [--json FILE]    [1024, 3]
measure link      --agent FILE [--folder DIR] [--only TEXT]... [--json FILE]
measure pair      [--folder DIR] [--formats ext4,erofs,squashfs,squashfs-gzip]
measure size      [--apply FILE] [--folder DIR] [--only TEXT]... [--json FILE]
measure bench     all of the last four, with their defaults

  --agent FILE    the device binary
  --apply FILE    the device's apply path alone, as a program
  --folder DIR    where images, bundles and the disk are made [the folder for temporary files];
                  pair and size: where pairs of images stand [target/pairs]
  --only TEXT     only rows whose name (of size: `pair: method`) has this text in it
  --json FILE     write the rows into this file, too
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What to measure.
    pub what: String,
    /// The device binary.
    pub agent: Option<PathBuf>,
    /// The apply path alone.
    pub apply: Option<PathBuf>,
    /// Where pairs stand, or where everything is made, in a folder that goes at the end.
    pub folder: Option<PathBuf>,
    /// Of the real pair.
    pub formats: String,
    /// Sizes of images, in bytes.
    pub sizes: Vec<u64>,
    /// How often.
    pub rounds: usize,
    /// Only rows whose name has one of these texts in it.
    pub only: Vec<String>,
    /// Where the rows are written.
    pub json: Option<PathBuf>,
}

/// What came of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Every limit holds.
    pub within: bool,
    /// Its rows.
    pub json: serde_json::Value,
}

/// Measures what is asked for, and writes the rows down where that is asked for, too; whether every limit holds.
pub fn measure(words: &Words) -> Result<bool> {
    let Measured { within, json } = match words.what.as_str() {
        "footprint" => footprint::measure(words),
        "install" => install::measure(words),
        "link" => link::measure(words),
        "size" => size::measure(words),
        "pair" => pair::make(words).map(|()| Measured { within: true, json: serde_json::Value::Null }),
        "bench" => all(words),
        other => Err(Trouble::new(format!("expected one of these, found {other:?}\n\n{HELP}"))),
    }?;
    if let Some(path) = &words.json {
        std::fs::write(path, format!("{json:#}\n")).doing(|| path.display().to_string())?;
    }
    Ok(within)
}

/// All parts of the bench, one after another.
fn all(words: &Words) -> Result<Measured> {
    pair::make(words)?;
    let (mut within, mut json) = (true, serde_json::Map::new());
    for (name, measure) in [
        ("size", size::measure as fn(&Words) -> Result<Measured>),
        ("link", link::measure),
        ("install", install::measure),
    ] {
        println!("\n## {name}\n");
        let measured = measure(words)?;
        within &= measured.within;
        json.insert(name.to_owned(), measured.json);
    }
    Ok(Measured { within, json: json.into() })
}

impl Words {
    /// Reads the arguments.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Words> {
        let mut words = Words {
            what: String::new(),
            agent: None,
            apply: None,
            folder: None,
            formats: "ext4,erofs,squashfs,squashfs-gzip".into(),
            sizes: Vec::new(),
            rounds: 3,
            only: Vec::new(),
            json: None,
        };
        let mut parser = lexopt::Parser::from_iter(args);
        let wrong = |why: lexopt::Error| Trouble::new(format!("{why}\n\n{HELP}"));
        while let Some(word) = parser.next().map_err(wrong)? {
            match word {
                Long("agent") => words.agent = Some(path(&mut parser).map_err(wrong)?),
                Long("apply") => words.apply = Some(path(&mut parser).map_err(wrong)?),
                Long("folder") => words.folder = Some(path(&mut parser).map_err(wrong)?),
                Long("formats") => {
                    words.formats = parser.value().and_then(ValueExt::string).map_err(wrong)?;
                }
                Long("size") => {
                    let size: u64 = parser.value().and_then(|value| value.parse()).map_err(wrong)?;
                    words.sizes.push(size * MIB);
                }
                Long("rounds") => {
                    words.rounds = parser.value().and_then(|value| value.parse()).map_err(wrong)?;
                }
                Long("only") => {
                    words.only.push(parser.value().and_then(ValueExt::string).map_err(wrong)?);
                }
                Long("json") => words.json = Some(path(&mut parser).map_err(wrong)?),
                Value(word) if words.what.is_empty() => words.what = word.string().map_err(wrong)?,
                other => return Err(wrong(other.unexpected())),
            }
        }
        match words.what.is_empty() {
            true => Err(Trouble::new(HELP)),
            false => Ok(words),
        }
    }

    /// The device binary, which has to be there.
    fn agent(&self) -> Result<&Path> {
        self.agent.as_deref().doing(|| "--agent: expected the path of the device binary")
    }

    /// Is a row of this name wanted?
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.contains(only.as_str()))
    }

    /// Where pairs of images stand.
    fn pairs(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| crate::programs::target().join("pairs"))
    }

    /// A folder of our own where everything is made.
    fn workshop(&self) -> Result<TempDir> {
        let place = self.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("mainstay-measure-").tempdir_in(&place);
        folder.doing(|| place.display().to_string())
    }
}

/// A path, from here.
fn path(parser: &mut lexopt::Parser) -> std::result::Result<PathBuf, lexopt::Error> {
    let value = parser.value()?;
    std::path::absolute(&value).map_err(|why| format!("{}: {why}", PathBuf::from(&value).display()).into())
}

/// An image of which no segment but its holes is in another one: nothing of it can be copied. A quarter is holes, not quite a
/// half compresses well, the rest not at all.
fn image(path: &Path, version: &str, bytes: u64) -> Result<()> {
    let header = Header::new(version, Behaviour::Healthy);
    Spec { header, bytes, seed: 1, changed_percent: 100 }.write(path)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_mebibytes_and_the_device_binary_has_to_be_named() {
        let read = |line: &str| {
            Words::read(std::iter::once("measure").chain(line.split_whitespace()).map(OsString::from))
        };
        let words = read("footprint --agent /a --size 64 --size 1024").unwrap();
        assert_eq!((&words.sizes[..], words.rounds), (&[64 * MIB, 1024 * MIB][..], 3));
        assert_eq!(words.agent().unwrap(), Path::new("/a"));
        assert!(read("footprint").unwrap().agent().unwrap_err().to_string().contains("--agent"));
        let only = read("link --only full --only 50ms").unwrap();
        let wanted = ["full-600ms", "delta-50ms", "delta-600ms"].map(|row| only.wants(row));
        assert_eq!((wanted, words.wants("anything")), ([true, true, false], true));
        assert!(read("").unwrap_err().to_string().contains("measure install"));
    }
}
