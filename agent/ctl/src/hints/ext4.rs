//! What an ext4 carries beside its files: times, numbers of its own, old bytes in the journal and in free blocks.

use super::{Hint, Image};
use crate::layout::ext4::Volume;
use crate::layout::source::{Source, Taken};
use crate::layout::{Extent, Kind, Layout, ReadAt};

/// Bytes where nothing is.
pub(super) fn stale(new: &dyn ReadAt, layout: &Layout) -> Vec<Hint> {
    let source = Source::new(new);
    let Some(volume) = open(&source, layout) else { return Vec::new() };
    let count = |extents: Taken<Vec<Extent>>| written(new, &extents.unwrap_or_default(), volume.block_bytes);
    let (free, journal) = (count(volume.free(&layout.metadata)), count(volume.journal()));
    let hint = |bytes, title: &str, advice: &str| Hint { title: title.into(), bytes, advice: advice.into() };
    let mut hints = Vec::new();
    if free > 0 {
        hints.push(hint(free, "free blocks of the file system are not zero", FREE_ADVICE));
    }
    if journal > 0 {
        hints.push(hint(journal, "the journal holds old transactions", JOURNAL_ADVICE));
    }
    hints
}

/// What differs between two builds though nobody changed it.
pub(super) fn differences(new: Image, base: Image) -> Vec<Hint> {
    let (new_source, base_source) = (Source::new(new.0), Source::new(base.0));
    let (Some(volume), Some(old)) = (open(&new_source, new.1), open(&base_source, base.1)) else {
        return Vec::new();
    };
    let inodes = Inodes::compared((new.0, &volume), (base.0, &old));
    inodes.times().into_iter().chain(identity(new, &volume, &old, &inodes)).collect()
}

fn open<'s>(source: &'s Source<'s>, layout: &Layout) -> Option<Volume<'s>> {
    match layout.kind {
        Kind::Ext4 => Volume::open(source).ok().flatten(),
        _ => None,
    }
}

/// Bytes of the blocks that are not all zero.
fn written(image: &dyn ReadAt, extents: &[Extent], block_bytes: u64) -> u64 {
    let mut written = 0;
    for part in parts(extents) {
        let mut bytes = vec![0; part.bytes as usize];
        if image.read_at(part.at, &mut bytes).is_ok() {
            let blocks =
                bytes.chunks(block_bytes as usize).filter(|block| block.iter().any(|&byte| byte != 0));
            written += blocks.map(|block| block.len() as u64).sum::<u64>();
        }
    }
    written
}

/// The same bytes in parts that may be held in memory.
fn parts(extents: &[Extent]) -> impl Iterator<Item = Extent> {
    extents.iter().flat_map(|extent| {
        let starts = (0..extent.bytes).step_by(PART_BYTES as usize);
        starts.map(|from| Extent { at: extent.at + from, bytes: (extent.bytes - from).min(PART_BYTES) })
    })
}

/// What the inodes of two images say, number by number.
#[derive(Default)]
struct Inodes {
    in_use: u64,
    /// Inodes that differ in nothing but times and what follows from them.
    only_times: u64,
    /// Bytes that differ in those.
    bytes: u64,
}

impl Inodes {
    fn compared(new: (&dyn ReadAt, &Volume), base: (&dyn ReadAt, &Volume)) -> Self {
        let mut found = Inodes::default();
        let (inode_bytes, same) = (new.1.inode_bytes, new.1.inode_bytes == base.1.inode_bytes);
        let (tables, old_tables) = (new.1.inode_tables(), base.1.inode_tables());
        for ((first, table), (old_first, old_table)) in tables.into_iter().zip(old_tables) {
            for (part, old_part) in parts(&[table]).zip(parts(&[old_table])) {
                let bytes = part.bytes.min(old_part.bytes) as usize;
                let (mut now, mut before) = (vec![0; bytes], vec![0; bytes]);
                if new.0.read_at(part.at, &mut now).is_err()
                    || base.0.read_at(old_part.at, &mut before).is_err()
                {
                    continue;
                }
                let inode_bytes = inode_bytes as usize;
                for (now, before) in now.chunks_exact(inode_bytes).zip(before.chunks_exact(inode_bytes)) {
                    found.inode(now, before, same && first == old_first);
                }
            }
        }
        found
    }

    fn inode(&mut self, now: &[u8], before: &[u8], comparable: bool) {
        if now[..2] == [0, 0] {
            return; // no mode: nobody's
        }
        self.in_use += 1;
        if !comparable {
            return;
        }
        let differs: Vec<_> = (0..now.len()).filter(|&at| now[at] != before[at]).collect();
        let is_in =
            |places: &[std::ops::Range<usize>], at: usize| places.iter().any(|place| place.contains(&at));
        let times = differs.iter().any(|&at| is_in(&TIMES, at));
        if times && differs.iter().all(|&at| is_in(&TIMES, at) || is_in(&CHECKSUM, at)) {
            self.only_times += 1;
            self.bytes += differs.len() as u64;
        }
    }

    fn times(&self) -> Option<Hint> {
        (self.only_times > 0).then(|| Hint {
            title: format!(
                "{} inodes differ from the base's in nothing but times (estimate)",
                self.only_times
            ),
            bytes: self.bytes,
            advice: TIMES_ADVICE.into(),
        })
    }
}

/// The file system's UUID and the seed of its folders' hashes.
fn identity(new: Image, volume: &Volume, old: &Volume, inodes: &Inodes) -> Option<Hint> {
    let ((uuid, seed), (old_uuid, old_seed)) = (volume.identity(), old.identity());
    let what = match (uuid != old_uuid, seed != old_seed) {
        (false, false) => return None,
        (true, false) => "UUID differs",
        (false, true) => "hash seed differs",
        (true, true) => "UUID and hash seed differ",
    };
    let numbers = u64::from(uuid != old_uuid) + u64::from(seed != old_seed);
    let superblocks = volume.superblocks().ok()?;
    let (mut blocks, mut bytes, mut checksums) = (superblocks, 16 * numbers * superblocks, "");
    if uuid != old_uuid && volume.checksums_begin_with_uuid() {
        blocks = written(new.0, &new.1.metadata, volume.block_bytes) / volume.block_bytes;
        bytes += CHECKSUM_BYTES * (blocks + inodes.in_use);
        checksums = ", and every checksum of metadata_csum with the UUID";
    }
    Some(Hint {
        title: format!(
            "the file system's {what} from the base's{checksums}: {blocks} blocks of metadata (estimate)"
        ),
        bytes,
        advice: IDENTITY_ADVICE.into(),
    })
}

/// atime, ctime, mtime, dtime; their finer halves and the time of creation.
const TIMES: [std::ops::Range<usize>; 2] = [0x08..0x18, 0x84..0x98];
const CHECKSUM: [std::ops::Range<usize>; 2] = [0x7c..0x7e, 0x82..0x84];
/// In an inode, behind a folder's block, behind a block of extents.
const CHECKSUM_BYTES: u64 = 4;
/// A multiple of all lengths of blocks and inodes.
const PART_BYTES: u64 = 1 << 20;

const TIMES_ADVICE: &str =
    "fix the times of the files and of mkfs: SOURCE_DATE_EPOCH, and for older e2fsprogs E2FSPROGS_FAKE_TIME";
const IDENTITY_ADVICE: &str = "give both builds the same: mkfs.ext4 -U UUID -E hash_seed=UUID";
const FREE_ADVICE: &str = "make the image anew (mkfs.ext4 -d) instead of writing into a mounted one, or run zerofree on it: what was deleted costs as much as content";
const JOURNAL_ADVICE: &str = "a slot is mounted read-only and needs no journal: mkfs.ext4 -O ^has_journal";
