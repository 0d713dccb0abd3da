//! What an install cannot do without, each alone: what it is measured by. The image is read once for each part, from the page
//! cache and beside the clock; only the part itself is timed.
//!
//! ```text
//! decode       each segment that is not zero, of a zstd frame of level 3, as the bundle has it; raw ones cost nothing
//! SHA-256      one pass over the content
//! write        to the slot, 256 KiB at a time, past the page cache (O_DIRECT), synced at the end
//! read back    from the slot, likewise, without looking at it
//! ```
//! An install has to do all four, and the digest twice (before it writes, of what it reads back); what it does beyond that
//! is in the ratio: digests of pieces, a look at what target and running group hold, its journal, its start.
//! Where the file system knows no O_DIRECT, both go through the page cache, which is dropped in between, and the table says so.

use crate::disk::Disk;
use crate::{Doing, Result, Trouble};
use mainstay_core::bundle::Encoding;
use mainstay_core::digest::Hasher;
use mainstayctl::fail::Failure;
use mainstayctl::zstd::Zstd;
use nix::fcntl::OFlag;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

const SEGMENT_BYTES: usize = 256 * 1024;
/// What O_DIRECT wants of addresses and places, on every medium that there is.
const ALIGNED: usize = 4096;
/// As the bench's bundles are packed.
const LEVEL: i32 = 3;

/// Seconds of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// By the clock.
    pub wall: f64,
    /// Of this process.
    pub cpu: f64,
}

impl Part {
    /// Does some of it, and adds what that took.
    fn time(&mut self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let (began, before) = (Instant::now(), own_cpu()?);
        what()?;
        self.wall += began.elapsed().as_secs_f64();
        self.cpu += own_cpu()? - before;
        Ok(())
    }
}

fn own_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).doing(|| "getrusage")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// Each of the four.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Frames to content.
    pub decode: Part,
    /// One digest of it.
    pub hash: Part,
    /// Onto the medium.
    pub write: Part,
    /// And back.
    pub read_back: Part,
    /// Past the page cache.
    pub direct: bool,
}

impl Parts {
    /// Measures all with this image, on this partition, which then holds it.
    pub fn measure(image: &Path, disk: &Disk, partition: &str) -> Result<Parts> {
        let slot = disk.partition(partition)?;
        let (target, direct) = open(disk.path())?;
        let mut parts = Parts { direct, ..Parts::default() };
        let (mut hasher, mut decoded, mut at) = (Hasher::new(), vec![0; SEGMENT_BYTES], slot.start);
        let (mut prior, mut zstd) = (Vec::new(), Zstd::default());
        each_segment(image, |segment| {
            if let Some((encoding, frame)) = frame(&mut zstd, segment, &prior)? {
                let prefix = if encoding == Encoding::Prefixed { &prior[..] } else { &[] };
                let out = &mut decoded[..segment.len()];
                parts.decode.time(|| zstd.unpack(&frame, prefix, out).map_err(trouble))?;
            }
            prior.clear();
            prior.extend_from_slice(segment);
            parts.hash.time(|| {
                hasher.update(segment);
                Ok(())
            })?;
            parts.write.time(|| target.write_all_at(segment, at).doing(|| "writing the slot"))?;
            at += segment.len() as u64;
            Ok(())
        })?;
        std::hint::black_box(hasher.finish());
        parts.write.time(|| target.sync_data().doing(|| "syncing the slot"))?;
        if !direct {
            super::install::drop_pages(disk.path())?;
        }
        let (end, mut at, mut buffer) = (at, slot.start, Aligned::new());
        parts.read_back.time(|| {
            while at < end {
                let n = (end - at).min(SEGMENT_BYTES as u64) as usize;
                target.read_exact_at(&mut buffer.bytes()[..n], at).doing(|| "reading the slot")?;
                at += n as u64;
            }
            Ok(())
        })?;
        Ok(parts)
    }

    /// All, by name.
    pub fn each(&self) -> [(&'static str, Part); 4] {
        let Parts { decode, hash, write, read_back, direct } = *self;
        let (to, from) = match direct {
            true => ("write, O_DIRECT", "read back, O_DIRECT"),
            false => ("write, through the page cache", "read back, through the page cache"),
        };
        [("decode", decode), ("SHA-256, once", hash), (to, write), (from, read_back)]
    }

    /// All together.
    pub fn sum(&self) -> Part {
        let add =
            |sum: Part, (_, part): (&str, Part)| Part { wall: sum.wall + part.wall, cpu: sum.cpu + part.cpu };
        self.each().into_iter().fold(Part::default(), add)
    }
}

/// The disk past the page cache, where that is possible; and whether it is.
fn open(path: &Path) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let direct = options.clone().custom_flags(OFlag::O_DIRECT.bits()).open(path);
    match direct {
        Ok(file) => Ok((file, true)),
        Err(_) => Ok((options.open(path).doing(|| path.display().to_string())?, false)),
    }
}

/// Each segment of an image, at an aligned address.
fn each_segment(image: &Path, mut with: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let what = || image.display().to_string();
    let mut file = File::open(image).doing(what)?;
    let mut left = file.metadata().doing(what)?.len();
    let mut buffer = Aligned::new();
    while left > 0 {
        let n = left.min(SEGMENT_BYTES as u64) as usize;
        let segment = &mut buffer.bytes()[..n];
        file.read_exact(segment).doing(what)?;
        with(segment)?;
        left -= n as u64;
    }
    Ok(())
}

/// Room for a segment at an aligned address: a little more, of which the beginning is left out.
struct Aligned {
    room: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new() -> Aligned {
        let room = vec![0u8; SEGMENT_BYTES + ALIGNED];
        let from = room.as_ptr().addr().wrapping_neg() % ALIGNED;
        Aligned { room, from }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.room[self.from..self.from + SEGMENT_BYTES]
    }
}

/// A segment as its bundle has it: `None` where it is zero, or not shorter as a frame.
fn frame(zstd: &mut Zstd, segment: &[u8], prior: &[u8]) -> Result<Option<(Encoding, Vec<u8>)>> {
    match segment.iter().all(|byte| *byte == 0) {
        true => Ok(None),
        false => zstd.pack(segment, prior, LEVEL).map_err(trouble),
    }
}

fn trouble(failure: Failure) -> Trouble {
    Trouble::new(failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::rootfs;
    use crate::disk::{Layout, MIB};
    use mainstay_core::boot::Group;

    #[test]
    fn room_for_a_segment_is_where_o_direct_takes_it() {
        for _ in 0..16 {
            let mut room = Aligned::new();
            assert_eq!((room.bytes().as_ptr().addr() % ALIGNED, room.bytes().len()), (0, SEGMENT_BYTES));
        }
    }

    #[test]
    fn a_frame_makes_its_segment_and_zeros_and_noise_have_none() {
        let text = b"pump valve ".repeat(1000);
        let mut made = vec![0; text.len()];
        let mut zstd = Zstd::default();
        let (encoding, packed) = frame(&mut zstd, &text, &[]).unwrap().unwrap();
        assert_eq!(encoding, Encoding::Zstd);
        zstd.unpack(&packed, &[], &mut made).unwrap();
        assert_eq!(made, text);
        let mut random = crate::image::Random(1);
        let noise: Vec<u8> = (0..1000).flat_map(|_| random.next().to_le_bytes()).collect();
        assert_eq!(frame(&mut zstd, &[0; 4096], &[]).unwrap(), None);
        assert_eq!(frame(&mut zstd, &noise, &[]).unwrap(), None);
        assert!(zstd.unpack(b"no frame", &[], &mut made).is_err());
    }

    #[test]
    fn all_four_are_really_done_and_leave_the_image_in_the_slot() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let bytes = 3 * MIB + 4096;
        super::super::image(&image, "2.0.0", bytes).unwrap();
        let disk = Disk::create(&folder.path().join("disk"), &Layout::for_images_of(4 * MIB)).unwrap();
        let parts = Parts::measure(&image, &disk, rootfs(Group::B)).unwrap();
        let mut there = vec![0; bytes as usize];
        disk.read(rootfs(Group::B), 0, &mut there).unwrap();
        assert!(there == std::fs::read(&image).unwrap(), "the slot holds something else");
        assert!(parts.each().iter().all(|(_, part)| part.wall > 0.0) && parts.hash.cpu > 0.0, "{parts:?}");
        let sum = parts.sum().wall;
        assert!(sum >= parts.hash.wall + parts.read_back.wall && sum < 60.0, "{parts:?}");
    }
}
