//! What `cargo xtask footprint` and `cargo xtask bench` measure, on the static release binary that xtask has built.
//!
//! * [`footprint`] resident memory of the daemon while it takes an image from a Mosquitto
//! * [`install`] the time of an install from a local file, beside `dd` and SHA-256
//!
//! Both print a Markdown table. What a figure is held against is its budget in `agent/docs/DESIGN.md`.

pub mod footprint;
pub mod install;

use crate::disk::MIB;
use crate::image::{Behaviour, Header, Spec};
use crate::{Doing, Result, Trouble};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What `--help` says.
pub const HELP: &str = "\
measure footprint --agent FILE [--folder DIR] [--size MIB]...      [64 and 1024]
measure install   --agent FILE [--folder DIR] [--size MIB] [--rounds N]    [1024, 3]

  --agent FILE    the device binary
  --folder DIR    where images, bundles and the disk are made [the folder for temporary files]
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// `footprint` or `install`.
    pub what: String,
    /// The device binary.
    pub agent: PathBuf,
    /// Where everything is made; a folder in it, which goes at the end.
    pub folder: PathBuf,
    /// Sizes of images, in bytes.
    pub sizes: Vec<u64>,
    /// How often.
    pub rounds: usize,
}

impl Words {
    /// Reads the arguments.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Words> {
        let (mut what, mut agent, mut sizes) = (None, None, Vec::new());
        let (mut folder, mut rounds) = (std::env::temp_dir(), 3);
        let mut parser = lexopt::Parser::from_iter(args);
        let wrong = |why: lexopt::Error| Trouble::new(format!("{why}\n\n{HELP}"));
        while let Some(word) = parser.next().map_err(wrong)? {
            match word {
                Long("agent") => agent = Some(PathBuf::from(parser.value().map_err(wrong)?)),
                Long("folder") => folder = parser.value().map_err(wrong)?.into(),
                Long("size") => {
                    sizes.push(parser.value().and_then(|value| value.parse::<u64>()).map_err(wrong)? * MIB);
                }
                Long("rounds") => rounds = parser.value().and_then(|value| value.parse()).map_err(wrong)?,
                Value(word) if what.is_none() => what = Some(word.string().map_err(wrong)?),
                other => return Err(wrong(other.unexpected())),
            }
        }
        let what = what.doing(|| HELP)?;
        let agent = agent.doing(|| "--agent: expected the path of the device binary")?;
        let agent = std::path::absolute(&agent).doing(|| agent.display().to_string())?;
        Ok(Words { what, agent, folder, sizes, rounds })
    }

    /// A folder of our own in [`Words::folder`].
    fn workshop(&self) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix("mainstay-measure-").tempdir_in(&self.folder);
        folder.doing(|| self.folder.display().to_string())
    }
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
        assert_eq!((words.sizes, words.rounds), (vec![64 * MIB, 1024 * MIB], 3));
        assert!(read("footprint").unwrap_err().to_string().contains("--agent"));
        assert!(read("").unwrap_err().to_string().contains("measure install"));
    }
}
