//! squashfs 4.0: files whose blocks are stored as they are.
//!
//! ```text
//! | superblock 96 │ blocks and fragments of files … │ inodes │ folders │ fragment table │ export │ ids │ attributes |
//!                                                     in metadata blocks of up to 8 KiB of content:
//!                                                     | length u16, bit 15: as it is │ bytes, or compressed bytes |
//! ```
//!
//! A reference to an inode is the place of its metadata block behind the table's start, and its place in the block's
//! content: `block << 16 | offset`. Inodes, folders and the fragment table may themselves be compressed; this tool has
//! zstd. Where they are compressed by anything else, nothing but the kind is known, and the trouble says so. A file of
//! which a byte is compressed does not appear, but is counted: [`Compressed`].

use super::source::{FILE_BYTES_MAX, Source, Taken, damage, u16_at, u32_at, u64_at};
use super::walk::{self, Names, Node, Tree};
use super::{Compressed, Extent, Found, Halt, Kind, Layout, merged};
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

/// What there is, or nothing where it is another file system.
pub(super) fn read(source: &Source) -> Taken<Option<Found>> {
    let Some(mut squashfs) = Squashfs::open(source)? else { return Ok(None) };
    let (files, trouble) = match walk::files(source, &mut squashfs) {
        Ok(files) => (files, None),
        Err(Halt::Damage(why)) if squashfs.tables.unknown_compressor => (Vec::new(), Some(why)),
        Err(halt) => return Err(halt),
    };
    let layout = Layout { kind: Kind::Squashfs, files, metadata: merged(squashfs.metadata), trouble };
    Ok(Some(Found { layout, compressed: squashfs.compressed }))
}

struct Squashfs<'s> {
    source: &'s Source<'s>,
    tables: Tables<'s>,
    block_bytes: u64,
    root: u64,
    inodes_at: u64,
    folders_at: u64,
    fragments_at: u64,
    fragments: u32,
    /// Fragments that are stored compressed and were counted.
    counted: HashSet<u32>,
    metadata: Vec<Extent>,
    compressed: Compressed,
}

impl<'s> Squashfs<'s> {
    fn open(source: &'s Source<'s>) -> Taken<Option<Self>> {
        let Some(superblock) = source.peek(0, SUPERBLOCK_BYTES)? else { return Ok(None) };
        if u32_at(&superblock, 0)? != MAGIC {
            return Ok(None);
        }
        let version = (u16_at(&superblock, 28)?, u16_at(&superblock, 30)?);
        let block_bytes = u32_at(&superblock, 12)?;
        if version != (4, 0)
            || !block_bytes.is_power_of_two()
            || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block_bytes)
        {
            return Err(damage!(
                "squashfs: expected 4.0, blocks of 4 KiB to 1 MiB, found {version:?}, {block_bytes} bytes"
            ));
        }
        let [root, used, inodes_at, folders_at, fragments_at] = [
            u64_at(&superblock, 32)?,
            u64_at(&superblock, 40)?,
            u64_at(&superblock, 64)?,
            u64_at(&superblock, 72)?,
            u64_at(&superblock, 80)?,
        ];
        source.within("squashfs", 0, used)?;
        let tables = used
            .checked_sub(inodes_at)
            .ok_or_else(|| damage!("squashfs: expected inodes below {used}, found them at {inodes_at}"))?;
        let mut metadata = vec![
            source.within("superblock", 0, SUPERBLOCK_BYTES)?,
            source.within("tables", inodes_at, tables)?,
        ];
        let (compressor, flags) = (u16_at(&superblock, 20)?, u16_at(&superblock, 24)?);
        if flags & FLAG_OPTIONS != 0 {
            let length = u16_at(&source.take("compressor options", SUPERBLOCK_BYTES, 2)?, 0)? & !AS_IT_IS;
            metadata.push(source.within(
                "compressor options",
                SUPERBLOCK_BYTES,
                u64::from(length).saturating_add(2),
            )?);
        }
        Ok(Some(Squashfs {
            source,
            tables: Tables {
                source,
                compressor,
                blocks: HashMap::new(),
                room: TABLES_BYTES_MAX,
                takes: TAKES_BYTES_MAX,
                unknown_compressor: false,
            },
            block_bytes: block_bytes.into(),
            root,
            inodes_at,
            folders_at,
            fragments_at,
            fragments: u32_at(&superblock, 16)?,
            counted: HashSet::new(),
            metadata,
            compressed: Compressed::default(),
        }))
    }

    /// A file: its first block, its fragment and where in it, its length, and its blocks' lengths, which follow.
    fn file(&mut self, mut list: Place, start: u64, fragment: u32, offset: u32, bytes: u64) -> Taken<Node> {
        if bytes > FILE_BYTES_MAX {
            return Err(damage!("inode: expected at most {FILE_BYTES_MAX} bytes, found {bytes}"));
        }
        let tail = match fragment {
            NO_FRAGMENT => 0,
            _ => bytes.checked_rem(self.block_bytes).unwrap_or(0),
        };
        let (mut at, mut left, mut extents) = (start, bytes.saturating_sub(tail), Vec::new());
        let (mut packed_content, mut packed_stored) = (0_u64, 0_u64);
        while left > 0 {
            let content = left.min(self.block_bytes);
            let stored = u32_at(&self.tables.take(&mut list, 4)?, 0)?;
            let stored_bytes = u64::from(stored & !BLOCK_AS_IT_IS);
            self.source.within("block", at, stored_bytes)?;
            match (stored & BLOCK_AS_IT_IS != 0, stored_bytes) {
                (_, 0) => {}
                (true, found) if found != content => {
                    return Err(damage!(
                        "block at {at}: expected {content} bytes as they are, found {found}"
                    ));
                }
                (true, _) => self.source.content("block", &mut extents, at, content)?,
                (false, _) => {
                    packed_content = packed_content.saturating_add(content);
                    packed_stored = packed_stored.saturating_add(stored_bytes);
                }
            }
            at = at.saturating_add(stored_bytes);
            left = left.saturating_sub(content);
        }
        let tail_is_readable = tail == 0 || self.fragment(fragment, offset, tail, &mut extents)?;
        if packed_stored > 0 {
            self.compressed.add(packed_content, packed_stored);
        }
        match packed_stored == 0 && tail_is_readable {
            true => Ok(Node::File { bytes, extents, holes: Vec::new() }),
            false => Ok(Node::Other),
        }
    }

    /// The end of a file in a block that it shares with others. Is it stored as it is?
    fn fragment(&mut self, number: u32, offset: u32, bytes: u64, extents: &mut Vec<Extent>) -> Taken<bool> {
        if number >= self.fragments {
            return Err(damage!("inode: expected a fragment below {}, found {number}", self.fragments));
        }
        let page = u64::from(number / FRAGMENTS_PER_BLOCK).saturating_mul(8);
        let page =
            u64_at(&self.source.take("fragment table", self.fragments_at.saturating_add(page), 8)?, 0)?;
        let mut place =
            Place { block: page, offset: (number % FRAGMENTS_PER_BLOCK).saturating_mul(16) as usize };
        let entry = self.tables.take(&mut place, 16)?;
        let (start, stored) = (u64_at(&entry, 0)?, u32_at(&entry, 8)?);
        let stored_bytes = u64::from(stored & !BLOCK_AS_IT_IS);
        self.source.within("fragment", start, stored_bytes)?;
        if stored & BLOCK_AS_IT_IS == 0 {
            match self.counted.insert(number) {
                true => self.compressed.add(bytes, stored_bytes),
                false => self.compressed.content_bytes = self.compressed.content_bytes.saturating_add(bytes),
            }
            return Ok(false);
        }
        if u64::from(offset).saturating_add(bytes) > stored_bytes {
            return Err(damage!(
                "fragment {number}: expected {bytes} bytes at {offset}, found {stored_bytes} in all"
            ));
        }
        self.source.content("fragment", extents, start.saturating_add(offset.into()), bytes)?;
        Ok(true)
    }

    /// Entries stand in runs of up to 256 with a head of 12 bytes; a folder's length counts 3 bytes that are not there.
    fn folder(&mut self, block: u32, offset: u16, bytes: u32, names: &mut Names) -> Taken<()> {
        let mut place = Place { block: self.folders_at.saturating_add(block.into()), offset: offset.into() };
        let mut left = bytes.saturating_sub(3);
        while left > 0 {
            let head = self.tables.take(&mut place, 12)?;
            let (count, block) = (u32_at(&head, 0)?.saturating_add(1), u32_at(&head, 4)?);
            left = left.saturating_sub(12);
            if count > RUN_ENTRIES_MAX {
                return Err(damage!(
                    "folder: expected at most {RUN_ENTRIES_MAX} entries in a run, found {count}"
                ));
            }
            for _ in 0..count {
                let entry = self.tables.take(&mut place, 8)?;
                let name_bytes = usize::from(u16_at(&entry, 6)?).saturating_add(1);
                let name = self.tables.take(&mut place, name_bytes)?;
                names.add(&name, u64::from(block) << 16 | u64::from(u16_at(&entry, 0)?))?;
                left = left.saturating_sub(8).saturating_sub(name_bytes as u32);
            }
        }
        Ok(())
    }
}

impl Tree for Squashfs<'_> {
    fn root(&self) -> u64 {
        self.root
    }

    fn node(&mut self, reference: u64, names: &mut Names) -> Taken<Node> {
        let block = self.inodes_at.saturating_add(reference >> 16);
        let mut place = Place { block, offset: (reference & 0xffff) as usize };
        let kind = u16_at(&self.tables.take(&mut place, 16)?, 0)?;
        if reference == self.root && !matches!(kind, FOLDER | LONG_FOLDER) {
            return Err(damage!("squashfs: expected a folder at the root, found an inode of type {kind}"));
        }
        match kind {
            FOLDER => {
                let inode = self.tables.take(&mut place, 16)?;
                let (bytes, offset) = (u16_at(&inode, 8)?, u16_at(&inode, 10)?);
                self.folder(u32_at(&inode, 0)?, offset, bytes.into(), names)?;
                Ok(Node::Folder)
            }
            LONG_FOLDER => {
                let inode = self.tables.take(&mut place, 24)?;
                self.folder(u32_at(&inode, 8)?, u16_at(&inode, 18)?, u32_at(&inode, 4)?, names)?;
                Ok(Node::Folder)
            }
            FILE => {
                let inode = self.tables.take(&mut place, 16)?;
                let word = |at| u32_at(&inode, at);
                self.file(place, word(0)?.into(), word(4)?, word(8)?, word(12)?.into())
            }
            LONG_FILE => {
                let inode = self.tables.take(&mut place, 40)?;
                let (start, bytes) = (u64_at(&inode, 0)?, u64_at(&inode, 8)?);
                self.file(place, start, u32_at(&inode, 28)?, u32_at(&inode, 32)?, bytes)
            }
            3..=7 | 10..=14 => Ok(Node::Other),
            _ => Err(damage!("inode {reference:#x}: expected a known type, found {kind}")),
        }
    }
}

/// A place in a table: a metadata block, and how far into its content.
struct Place {
    block: u64,
    offset: usize,
}

/// Metadata blocks, each read and decompressed once.
struct Tables<'s> {
    source: &'s Source<'s>,
    compressor: u16,
    blocks: HashMap<u64, Block>,
    room: usize,
    takes: usize,
    unknown_compressor: bool,
}

struct Block {
    content: Vec<u8>,
    next: u64,
}

impl Tables<'_> {
    /// What stands at a place, which goes on behind it, from block to block.
    fn take(&mut self, place: &mut Place, bytes: usize) -> Taken<Vec<u8>> {
        let over = || {
            damage!("squashfs: expected at most {TAKES_BYTES_MAX} bytes of inodes and folders, found more")
        };
        self.takes = self.takes.checked_sub(bytes).ok_or_else(over)?;
        let mut taken = Vec::with_capacity(bytes);
        while taken.len() < bytes {
            let block = self.block(place.block)?;
            let rest = block.content.get(place.offset..).unwrap_or_default();
            if rest.is_empty() {
                if block.content.len() < TABLE_BLOCK_BYTES || place.offset > TABLE_BLOCK_BYTES {
                    let found = block.content.len();
                    return Err(damage!(
                        "table: expected more at {} of a block, found {found} bytes",
                        place.offset
                    ));
                }
                *place = Place { block: block.next, offset: 0 };
                continue;
            }
            let part = rest.get(..bytes.saturating_sub(taken.len())).unwrap_or(rest);
            taken.extend_from_slice(part);
            place.offset = place.offset.saturating_add(part.len());
        }
        Ok(taken)
    }

    fn block(&mut self, at: u64) -> Taken<&Block> {
        let vacant = match self.blocks.entry(at) {
            Entry::Occupied(block) => return Ok(block.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let head = u16_at(&self.source.take("table", at, 2)?, 0)?;
        let stored = match head & !AS_IT_IS {
            0 => usize::from(AS_IT_IS),
            bytes => bytes.into(),
        };
        let from = at.saturating_add(2);
        let bytes = self.source.take("table", from, stored as u64)?;
        let content = match (head & AS_IT_IS != 0, self.compressor) {
            (true, _) => bytes,
            (false, ZSTD) => unpacked(&bytes)?,
            (false, other) => {
                self.unknown_compressor = true;
                let name = COMPRESSORS.get(usize::from(other)).unwrap_or(&"an unknown compressor");
                return Err(damage!("squashfs: its tables are compressed by {name}, which is not read here"));
            }
        };
        if content.len() > TABLE_BLOCK_BYTES {
            return Err(damage!(
                "table: expected at most {TABLE_BLOCK_BYTES} bytes in a block, found {}",
                content.len()
            ));
        }
        let over = || damage!("squashfs: expected tables of at most {TABLES_BYTES_MAX} bytes, found more");
        self.room = self.room.checked_sub(TABLE_BLOCK_BYTES).ok_or_else(over)?;
        Ok(vacant.insert(Block { content, next: from.saturating_add(stored as u64) }))
    }
}

fn unpacked(bytes: &[u8]) -> Taken<Vec<u8>> {
    let mut content = vec![0; TABLE_BLOCK_BYTES];
    let wrong = |code| damage!("table: expected zstd, found {}", zstd_safe::get_error_name(code));
    let length = zstd_safe::decompress(content.as_mut_slice(), bytes).map_err(wrong)?;
    content.truncate(length);
    Ok(content)
}

const SUPERBLOCK_BYTES: u64 = 96;
const MAGIC: u32 = 0x7371_7368;
const BLOCK_BYTES_MIN: u32 = 4 << 10;
const BLOCK_BYTES_MAX: u32 = 1 << 20;
const FLAG_OPTIONS: u16 = 0x400;
const COMPRESSORS: [&str; 7] = ["nothing", "gzip", "lzma", "lzo", "xz", "lz4", "zstd"];
const ZSTD: u16 = 6;
/// In the length of a metadata block.
const AS_IT_IS: u16 = 0x8000;
/// In the length of a file's block.
const BLOCK_AS_IT_IS: u32 = 1 << 24;
const TABLE_BLOCK_BYTES: usize = 8 << 10;
/// Content of all metadata blocks: some two million files.
const TABLES_BYTES_MAX: usize = 128 << 20;
/// What is taken from them in sum: inodes that share their lists of blocks would otherwise cost time without end.
const TAKES_BYTES_MAX: usize = 2 * TABLES_BYTES_MAX;
const FRAGMENTS_PER_BLOCK: u32 = 512;
const NO_FRAGMENT: u32 = u32::MAX;
const RUN_ENTRIES_MAX: u32 = 256;
const FOLDER: u16 = 1;
const FILE: u16 = 2;
const LONG_FOLDER: u16 = 8;
const LONG_FILE: u16 = 9;
