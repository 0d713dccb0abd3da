//! Root images whose behaviour the board can read, as a kernel would find out by starting what is in them.
//!
//! ```text
//! byte 0      "mainstay bench image 1\n"
//!             "version=2.0.0\n"
//!             "behaviour=unhealthy\n"
//!             "agent=/other/mainstay\n"     only where the image brings a device binary of its own
//!             zeros
//! byte 512    content
//! ```
//! The first sector of ext4 and erofs is left to boot code and is zero, so a real root file system can carry the same
//! header and stay valid: see [`stamp`].
//!
//! Synthetic content looks like a root file system to a compressor: a quarter holes, not quite half text-like, the rest
//! incompressible. It is the same for the same [`Spec`] on every machine. Two specs of one seed differ only in the share of
//! 256 KiB segments that the second says it changed, so that an update has something to copy from the running group.

use crate::{Doing, Result, Trouble};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The header takes one sector.
pub const HEADER_BYTES: usize = 512;
const MAGIC: &str = "mainstay bench image 1\n";
/// What changes as a whole, and what is made at a time.
const CELL_BYTES: usize = 256 * 1024;

/// How a gateway fares that boots the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It comes up, and its health check passes.
    Healthy,
    /// It comes up, and its health check fails.
    Unhealthy,
    /// It never comes up: the agent is not even started.
    NeverUp,
    /// It comes up and freezes soon after, the agent with it.
    Freezes,
    /// It comes up, and the agent ends right after each of its starts.
    AgentCrashes,
    /// It comes up, and the agent is killed soon after each of its starts.
    AgentKilled,
    /// It comes up, and the agent, nobody else, is stopped soon after.
    AgentHangs,
}

impl Behaviour {
    const NAMES: [(Behaviour, &'static str); 7] = [
        (Behaviour::Healthy, "healthy"),
        (Behaviour::Unhealthy, "unhealthy"),
        (Behaviour::NeverUp, "never-up"),
        (Behaviour::Freezes, "freezes"),
        (Behaviour::AgentCrashes, "agent-crashes"),
        (Behaviour::AgentKilled, "agent-killed"),
        (Behaviour::AgentHangs, "agent-hangs"),
    ];

    /// As it stands in the header.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(behaviour, _)| *behaviour == self).map_or("", |(_, name)| name)
    }

    /// Reads [`Behaviour::name`].
    pub fn from_name(name: &str) -> Option<Behaviour> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(behaviour, _)| *behaviour)
    }
}

/// What the first sector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The image's own idea of its version.
    pub version: String,
    /// How it fares.
    pub behaviour: Behaviour,
    /// The device binary in it, where it is not the board's own.
    pub agent: Option<PathBuf>,
}

impl Header {
    /// An image with the board's own device binary.
    pub fn new(version: impl Into<String>, behaviour: Behaviour) -> Header {
        Header { version: version.into(), behaviour, agent: None }
    }

    /// As bytes; a version that does not fit, or that holds a line's end, is refused.
    pub fn encode(&self) -> Result<[u8; HEADER_BYTES]> {
        let Header { version, behaviour, agent } = self;
        let mut text = format!("{MAGIC}version={version}\nbehaviour={}\n", behaviour.name());
        if let Some(agent) = agent {
            text += &format!("agent={}\n", agent.display());
        }
        let mut out = [0; HEADER_BYTES];
        match out.get_mut(..text.len()) {
            Some(place) if !version.contains(['\n', '\0']) => place.copy_from_slice(text.as_bytes()),
            _ => return Err(Trouble::new(format!("image header: version {version:?} does not fit"))),
        }
        Ok(out)
    }

    /// From an image's first bytes. `None`: no header there. A header that does not make sense is an error.
    pub fn decode(bytes: &[u8]) -> Result<Option<Header>> {
        let Some(rest) = bytes.strip_prefix(MAGIC.as_bytes()) else { return Ok(None) };
        let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).doing(|| "image header")?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let field = |key: &str| value(key).doing(|| format!("image header: expected {key}=, found {text:?}"));
        let behaviour = field("behaviour")?;
        let known = Behaviour::from_name(behaviour);
        let behaviour = known.doing(|| format!("image header: no behaviour {behaviour:?}"))?;
        let agent = value("agent").map(PathBuf::from);
        Ok(Some(Header { version: field("version")?.to_owned(), behaviour, agent }))
    }
}

/// A synthetic image.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What the board reads.
    pub header: Header,
    /// How large: a multiple of 4096, as file systems are.
    pub bytes: u64,
    /// Images of one seed share what they have not changed.
    pub seed: u64,
    /// How many of a hundred segments differ from the unchanged image of this seed. Which ones depends on the version.
    pub changed_percent: u8,
}

impl Spec {
    /// Writes the image to `path`. Holes stay holes.
    pub fn write(&self, path: &Path) -> Result<()> {
        let what = || path.display().to_string();
        if !self.bytes.is_multiple_of(4096) || self.bytes == 0 {
            return Err(Trouble::new(format!(
                "{}: expected a size in 4096 bytes, found {}",
                what(),
                self.bytes
            )));
        }
        let header = self.header.encode()?;
        let file = File::create(path).doing(what)?;
        file.set_len(self.bytes).doing(what)?;
        let mut out = BufWriter::with_capacity(CELL_BYTES, file);
        let change = self.header.version.bytes().fold(1, |sum, byte| mix(sum ^ u64::from(byte)));
        let mut cell = vec![0; CELL_BYTES];
        for index in 0..self.bytes.div_ceil(CELL_BYTES as u64) {
            let at = index * CELL_BYTES as u64;
            let length = CELL_BYTES.min((self.bytes - at) as usize);
            let changed = mix(change ^ index) % 100 < u64::from(self.changed_percent);
            let seed = mix(self.seed ^ mix(index)) ^ if changed { change } else { 0 };
            let cell = cell.get_mut(..length).unwrap_or_default();
            let written = match fill(seed, cell) {
                Filling::Hole => out.seek(SeekFrom::Start(at + length as u64)).map(drop),
                Filling::Data => out.seek(SeekFrom::Start(at)).and_then(|_| out.write_all(cell)),
            };
            written.doing(what)?;
        }
        let file = out.into_inner().doing(what)?;
        file.write_all_at(&header, 0).doing(what)
    }
}

/// Copies a real root image to `to` and writes the header into its first sector, which has to be free.
pub fn stamp(image: &Path, to: &Path, header: &Header) -> Result<()> {
    let header = header.encode()?;
    let mut first = [0; HEADER_BYTES];
    let read = File::open(image).and_then(|mut file| file.read_exact(&mut first));
    read.doing(|| image.display().to_string())?;
    let free = first.iter().all(|byte| *byte == 0) || Header::decode(&first)?.is_some();
    if !free {
        let what = "its first sector is in use; ext4 and erofs leave it free, squashfs does not";
        return Err(Trouble::new(format!("{}: {what}", image.display())));
    }
    std::fs::copy(image, to).doing(|| format!("copying {} to {}", image.display(), to.display()))?;
    let file = std::fs::OpenOptions::new().write(true).open(to);
    file.and_then(|file| file.write_all_at(&header, 0)).doing(|| to.display().to_string())
}

enum Filling {
    Hole,
    Data,
}

/// Fills a cell, or says that it is a hole. In 20 cells 5 are holes, 9 are text-like, 6 are incompressible.
fn fill(seed: u64, cell: &mut [u8]) -> Filling {
    let mut random = Random(mix(seed));
    match random.next() % 20 {
        0..5 => return Filling::Hole,
        5..14 => {
            let mut rest = cell;
            while !rest.is_empty() {
                let word = WORDS[(random.next() % WORDS.len() as u64) as usize];
                let length = word.len().min(rest.len());
                let (now, later) = rest.split_at_mut(length);
                now.copy_from_slice(&word[..length]);
                rest = later;
            }
        }
        _ => {
            for chunk in cell.chunks_mut(8) {
                let bytes = random.next().to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
        }
    }
    Filling::Data
}

const WORDS: [&[u8]; 16] = [
    b"the ",
    b"gateway ",
    b"\x7fELF\x02\x01\x01\0",
    b"libmodbus.so.5\0",
    b"/usr/lib/",
    b"\0\0\0\0\0\0\0\0",
    b"\x48\x89\xe5",
    b"return ",
    b"\xc3\x90\x90\x90",
    b"static const ",
    b"\n",
    b"int ",
    b"0x00",
    b"valve ",
    b"pump ",
    b"\xff\xff\xff\xff",
];

/// splitmix64 (Steele, Lea and Flood, 2014): small, the same everywhere, good enough for content.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to below 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(version: &str, changed_percent: u8) -> Spec {
        let header = Header::new(version, Behaviour::Healthy);
        Spec { header, bytes: 64 * CELL_BYTES as u64 - 4096, seed: 7, changed_percent }
    }

    fn make(spec: &Spec) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        spec.write(file.path()).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn every_header_reads_back() {
        for (behaviour, _) in Behaviour::NAMES {
            let header = Header::new("2.0.0+git.1", behaviour);
            assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), Some(header.clone()));
            let header = Header { agent: Some("/tmp/other/mainstay".into()), ..header };
            assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), Some(header));
        }
        assert_eq!(Header::decode(&[0; HEADER_BYTES]).unwrap(), None);
        assert_eq!(Header::decode(b"").unwrap(), None);
        let said =
            Header::decode(b"mainstay bench image 1\nversion=1\nbehaviour=odd\n").unwrap_err().to_string();
        assert_eq!(said, "image header: no behaviour \"odd\"");
        for version in ["2\n0", &"x".repeat(600)] {
            let header = Header::new(version, Behaviour::Healthy);
            assert!(header.encode().is_err(), "{version:?}");
        }
    }

    #[test]
    fn one_spec_makes_the_same_bytes_each_time_and_carries_its_header() {
        let image = make(&spec("1.0.0", 30));
        assert_eq!(image, make(&spec("1.0.0", 30)));
        assert_eq!(image.len() as u64, spec("1.0.0", 30).bytes);
        assert_eq!(Header::decode(&image).unwrap(), Some(spec("1.0.0", 30).header));
    }

    #[test]
    fn two_versions_share_what_neither_changed() {
        let [one, two] = ["1.0.0", "2.0.0"].map(|version| make(&spec(version, 30)));
        let same = one.chunks(CELL_BYTES).zip(two.chunks(CELL_BYTES)).filter(|(a, b)| a == b).count();
        // 49 of 100 cells were changed by neither, some of the others are holes in both; 64 cells, the first has the header.
        assert!((24..=50).contains(&same), "{same} of 64 cells are the same");
        let [three, four] = ["3.0.0", "4.0.0"].map(|version| make(&spec(version, 0)));
        let mut pairs = three.chunks(CELL_BYTES).zip(four.chunks(CELL_BYTES)).skip(1);
        assert!(pairs.all(|(a, b)| a == b), "nothing was changed but the header");
    }

    #[test]
    fn a_compressor_finds_holes_text_and_noise() {
        let image = make(&spec("1.0.0", 0));
        let mut holes = 0;
        let mut noise = 0;
        for cell in image.chunks(CELL_BYTES) {
            let mut seen = [0u32; 256];
            cell.iter().for_each(|byte| seen[usize::from(*byte)] += 1);
            holes += u32::from(cell.iter().all(|byte| *byte == 0));
            noise += u32::from(seen.iter().all(|count| *count as usize > cell.len() / 512));
        }
        assert!((8..=28).contains(&holes) && (8..=28).contains(&noise), "{holes} holes, {noise} noise of 64");
    }

    #[test]
    fn a_real_image_is_stamped_only_where_its_first_sector_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let header = Header::new("9", Behaviour::NeverUp);
        let mut ext4 = vec![0; 8192];
        ext4[1080..1082].copy_from_slice(&[0x53, 0xef]);
        std::fs::write(&from, &ext4).unwrap();
        stamp(&from, &to, &header).unwrap();
        let stamped = std::fs::read(&to).unwrap();
        assert_eq!(Header::decode(&stamped).unwrap(), Some(header.clone()));
        assert_eq!(stamped[HEADER_BYTES..], ext4[HEADER_BYTES..]);
        stamp(&to, &folder.path().join("again"), &header).expect("a stamped image can be stamped anew");
        std::fs::write(&from, b"hsqs".repeat(256)).unwrap();
        assert!(stamp(&from, &to, &header).unwrap_err().to_string().contains("first sector is in use"));
    }
}
