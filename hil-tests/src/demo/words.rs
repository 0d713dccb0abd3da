//! The command line of `cargo demo`.

use crate::board::Bootloader;
use crate::broker::Kind;
use crate::disk::MIB;
use crate::{Doing, Result, Trouble};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` says.
pub const HELP: &str = "\
cargo demo [-- OPTION...]: a virtual gateway takes updates, good ones and bad ones

  --qemu                    five scenes on a real machine instead, emulated: GRUB, Debian's kernel, a watchdog device, and
                            its serial console to watch; some minutes; what it needs is fetched or named
  --scene N                 only this one of the seven; may be repeated
  --broker mosquitto        over a real Mosquitto (which has to be installed) instead of the broker that is built in
  --bootloader grub         on a board with GRUB instead of U-Boot
  --image FILE_V1 FILE_V2   with two root file system images of your own (ext4 or erofs) instead of synthetic ones
  --size MIB                size of the synthetic images [48]
  --keep                    leave everything where it is at the end, and say where that is
  --help                    this text

Ends with 0 when everything was proven that the table at the end claims, with 1 otherwise.
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// On an emulated machine.
    pub qemu: bool,
    /// These scenes; all where it is empty.
    pub scenes: Vec<u8>,
    /// The broker.
    pub broker: Kind,
    /// The board's bootloader.
    pub bootloader: Bootloader,
    /// Two images of one's own.
    pub images: Option<[PathBuf; 2]>,
    /// Bytes of a synthetic image.
    pub bytes: u64,
    /// Leave the folder.
    pub keep: bool,
}

impl Words {
    /// Reads the arguments; `None`: help was asked for.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Option<Words>> {
        let mut words = Words {
            qemu: false,
            scenes: Vec::new(),
            broker: Kind::Embedded,
            bootloader: Bootloader::UBoot,
            images: None,
            bytes: 48 * MIB,
            keep: false,
        };
        // The alias in .cargo/config.toml ends with one `--` already; a person types another, as cargo has taught them.
        let typed = args.into_iter().enumerate().filter(|(place, word)| !(*place == 1 && word == "--"));
        let mut parser = lexopt::Parser::from_iter(typed.map(|(_, word)| word));
        let wrong = |why: lexopt::Error| Trouble::new(format!("{why}\n\n{HELP}"));
        while let Some(word) = parser.next().map_err(wrong)? {
            match word {
                Long("help") | Short('h') => return Ok(None),
                Long("qemu") => words.qemu = true,
                Long("keep") => words.keep = true,
                Long("scene") => words.scenes.push(number(&mut parser, "scene", 1..=7)? as u8),
                Long("size") => words.bytes = number(&mut parser, "size", 4..=4096)? * MIB,
                Long("broker") => {
                    words.broker = named(&mut parser, "embedded or mosquitto", Kind::from_name)?
                }
                Long("bootloader") => {
                    words.bootloader = named(&mut parser, "uboot or grub", |name| match name {
                        "uboot" => Some(Bootloader::UBoot),
                        "grub" => Some(Bootloader::Grub),
                        _ => None,
                    })?;
                }
                Long("image") => {
                    let [one, two] = [parser.value(), parser.value()];
                    words.images = Some([one.map_err(wrong)?.into(), two.map_err(wrong)?.into()]);
                }
                other => return Err(wrong(other.unexpected())),
            }
        }
        if words.qemu && (words.images.is_some() || words.bootloader != Bootloader::UBoot) {
            return Err(Trouble::new("--qemu: expected no --image and no --bootloader beside it, found one"));
        }
        Ok(Some(words))
    }

    /// Is this scene to be played?
    pub fn plays(&self, scene: u8) -> bool {
        self.scenes.is_empty() || self.scenes.contains(&scene)
    }
}

fn number(parser: &mut lexopt::Parser, what: &str, within: std::ops::RangeInclusive<u64>) -> Result<u64> {
    let text = parser.value().and_then(|value| value.string()).doing(|| format!("--{what}"))?;
    let number = text.parse().ok().filter(|number| within.contains(number));
    number.doing(|| format!("--{what}: expected {} to {}, found {text:?}", within.start(), within.end()))
}

fn named<T>(parser: &mut lexopt::Parser, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = parser.value().and_then(|value| value.string()).doing(|| format!("expected {expected}"))?;
    read(&text).doing(|| format!("expected {expected}, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Words>> {
        Words::read(std::iter::once("demo").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn without_a_word_all_scenes_are_played_and_with_some_only_those() {
        let all = read("").unwrap().unwrap();
        assert!((1..=7).all(|scene| all.plays(scene)) && all.broker == Kind::Embedded);
        let some = read("--scene 2 --scene 5 --broker mosquitto --image a b --keep").unwrap().unwrap();
        assert_eq!([1, 2, 3, 5].map(|scene| some.plays(scene)), [false, true, false, true]);
        assert_eq!((some.images, some.keep), (Some([PathBuf::from("a"), PathBuf::from("b")]), true));
        assert!(!some.qemu && read("--qemu --scene 3").unwrap().unwrap().qemu);
        assert_eq!(read("--keep --help").unwrap(), None);
        assert_eq!(
            read("-- --scene 2").unwrap(),
            read("--scene 2").unwrap(),
            "with the dashes that cargo wants elsewhere"
        );
        assert_eq!(
            read("-- --scene 2").unwrap().unwrap().scenes,
            [2],
            "as `cargo demo -- --scene 2` comes in"
        );
    }

    #[test]
    fn a_wrong_word_is_named_with_what_was_expected() {
        #[rustfmt::skip]
        let cases = [
            ("--qemu --bootloader grub", "--qemu: expected no --image"),
            ("--scene 8",        "--scene: expected 1 to 7, found \"8\""),
            ("--size 1",         "--size: expected 4 to 4096, found \"1\""),
            ("--broker hivemq",  "expected embedded or mosquitto, found \"hivemq\""),
            ("--image one",      "missing argument"),
            ("--frobnicate",     "invalid option '--frobnicate'"),
        ];
        for (line, words) in cases {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
