//! erofs, uncompressed: plain files, files with their tail behind the inode, files in chunks.
//!
//! ```text
//! 1024   superblock        inode = base + 32 × nid:  | inode 32 or 64 │ attributes │ chunk table, or tail of the content |
//! base   inodes            folder = blocks of:       | entries of 12 bytes … │ their names … |
//! …      blocks of content
//! ```
//!
//! A compressed inode is passed over, but counted: [`Compressed`]. So are chunks on other devices, uncounted. Attributes
//! that inodes share are metadata where a found inode names them; the index of a compressed inode is not.

use super::source::{FILE_BYTES_MAX, Source, Taken, bytes_at, damage, u16_at, u32_at, u64_at};
use super::walk::{self, Names, Node, Tree};
use super::{Compressed, Extent, Found, Kind, Layout, merged};

/// What there is, or nothing where it is another file system.
pub(super) fn read(source: &Source) -> Taken<Option<Found>> {
    let Some(mut erofs) = Erofs::open(source)? else { return Ok(None) };
    let files = walk::files(source, &mut erofs)?;
    if let Some(packed) = erofs.packed {
        // Ends of many files in one file without a name; their own inodes count as if they held nothing.
        let inode = erofs.inode(packed)?;
        erofs.content(&inode)?;
    }
    let layout = Layout { kind: Kind::Erofs, files, metadata: merged(erofs.metadata), trouble: None };
    Ok(Some(Found { layout, compressed: erofs.compressed }))
}

struct Erofs<'s> {
    source: &'s Source<'s>,
    block_bytes: u64,
    inodes_at: u64,
    attributes_at: u64,
    root: u64,
    packed: Option<u64>,
    metadata: Vec<Extent>,
    compressed: Compressed,
}

impl<'s> Erofs<'s> {
    fn open(source: &'s Source<'s>) -> Taken<Option<Self>> {
        let Some(superblock) = source.peek(SUPERBLOCK_AT, SUPERBLOCK_BYTES)? else { return Ok(None) };
        if u32_at(&superblock, 0)? != MAGIC {
            return Ok(None);
        }
        let incompat = u32_at(&superblock, 80)?;
        if incompat & !INCOMPAT_KNOWN != 0 {
            let unknown = incompat & !INCOMPAT_KNOWN;
            return Err(damage!("erofs: expected features known here, found incompatible ones {unknown:#x}"));
        }
        let [log_block, slots] = bytes_at(&superblock, 12)?;
        let [log_folder] = bytes_at(&superblock, 90)?;
        if !(9..=16).contains(&log_block) || log_folder != 0 {
            return Err(damage!(
                "erofs: expected blocks of 2^9 to 2^16 bytes, found 2^{log_block}, in folders 2^{log_folder} times that"
            ));
        }
        let block_bytes = 1 << log_block;
        let place =
            |at| Ok::<_, super::Halt>(u64::from(u32_at(&superblock, at)?).saturating_mul(block_bytes));
        source.within("erofs", 0, place(36)?)?;
        let whole = SUPERBLOCK_BYTES.saturating_add(u64::from(slots).saturating_mul(16));
        let superblock_and_boot = source.within("superblock", 0, SUPERBLOCK_AT.saturating_add(whole))?;
        Ok(Some(Erofs {
            source,
            block_bytes,
            inodes_at: place(40)?,
            attributes_at: place(44)?,
            root: u16_at(&superblock, 14)?.into(),
            packed: Some(u64_at(&superblock, 96)?)
                .filter(|&nid| incompat & INCOMPAT_FRAGMENTS != 0 && nid != 0),
            metadata: vec![superblock_and_boot],
            compressed: Compressed::default(),
        }))
    }

    fn inode(&self, nid: u64) -> Taken<Inode> {
        let at = self.inodes_at.saturating_add(nid.saturating_mul(INODE_UNIT));
        let format = u16_at(&self.source.take("inode", at, 2)?, 0)?;
        let large = format & 1 != 0;
        let own_bytes = if large { 64 } else { 32 };
        let bytes = self.source.take("inode", at, own_bytes)?;
        let attributes = match u16_at(&bytes, 2)? {
            0 => 0,
            count => u64::from(count).saturating_sub(1).saturating_mul(4).saturating_add(12),
        };
        let head = self.source.within("inode", at, own_bytes.saturating_add(attributes))?;
        Ok(Inode {
            head,
            own_bytes,
            form: format >> 1 & 7,
            mode: u16_at(&bytes, 4)?,
            bytes: if large { u64_at(&bytes, 8)? } else { u32_at(&bytes, 8)?.into() },
            union: u32_at(&bytes, 16)?,
        })
    }

    /// Where the content lies. `None` where it is compressed.
    fn content(&mut self, inode: &Inode) -> Taken<Option<Vec<Extent>>> {
        if inode.bytes > FILE_BYTES_MAX {
            return Err(damage!(
                "inode at {}: expected at most {FILE_BYTES_MAX} bytes, found {}",
                inode.head.at,
                inode.bytes
            ));
        }
        let blocks = u64::from(inode.union).saturating_mul(self.block_bytes);
        let mut extents = Vec::new();
        match inode.form {
            FORM_PLAIN if inode.bytes > 0 => {
                self.source.content("content", &mut extents, blocks, inode.bytes)?
            }
            FORM_PLAIN => {}
            FORM_INLINE => {
                // Whole blocks elsewhere, but at least one byte behind the inode.
                let tail = match inode.bytes.checked_rem(self.block_bytes) {
                    Some(0) if inode.bytes > 0 => self.block_bytes,
                    rest => rest.unwrap_or(0),
                };
                let elsewhere = inode.bytes.saturating_sub(tail);
                if elsewhere > 0 {
                    self.source.content("content", &mut extents, blocks, elsewhere)?;
                }
                self.source.content("tail of content", &mut extents, inode.head.end(), tail)?;
            }
            FORM_CHUNKS => self.chunks(inode, &mut extents)?,
            FORM_COMPRESSED | FORM_COMPRESSED_COMPACT => {
                self.compressed.add(inode.bytes, blocks);
                return Ok(None);
            }
            form => return Err(damage!("inode at {}: expected a known form, found {form}", inode.head.at)),
        }
        Ok(Some(extents))
    }

    /// A table of chunks' first blocks, of 4 bytes each, or of 8 with the device.
    fn chunks(&mut self, inode: &Inode, extents: &mut Vec<Extent>) -> Taken<()> {
        let chunk_bytes = self.block_bytes.wrapping_shl(inode.union & 31);
        if inode.union & 31 > CHUNK_LOG_MAX {
            return Err(damage!(
                "inode at {}: expected chunks of at most 2^{CHUNK_LOG_MAX} blocks",
                inode.head.at
            ));
        }
        let entry_bytes: u64 = if inode.union & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let mut at = inode.head.end().next_multiple_of(entry_bytes);
        let table = inode.bytes.div_ceil(chunk_bytes).saturating_mul(entry_bytes);
        self.metadata.push(self.source.within("chunk table", at, table)?);
        let (end, mut left) = (at.saturating_add(table), inode.bytes);
        while at < end {
            let part = self.source.take("chunk table", at, end.saturating_sub(at).min(TABLE_PART_BYTES))?;
            for entry in part.chunks_exact(entry_bytes as usize) {
                let (device, block) = match entry_bytes {
                    8 => (u16_at(entry, 2)?, u32_at(entry, 4)?),
                    _ => (0, u32_at(entry, 0)?),
                };
                let bytes = left.min(chunk_bytes);
                if block != HOLE && device == 0 {
                    let from = u64::from(block).saturating_mul(self.block_bytes);
                    self.source.content("chunk", extents, from, bytes)?;
                }
                left = left.saturating_sub(bytes);
            }
            at = at.saturating_add(TABLE_PART_BYTES);
        }
        Ok(())
    }

    /// A tail behind the inode is a block of its own, a short one.
    fn folder(&mut self, extents: &[Extent], names: &mut Names) -> Taken<()> {
        for extent in extents {
            let mut at = extent.at;
            while at < extent.end() {
                let bytes = extent.end().saturating_sub(at).min(self.block_bytes);
                entries(&self.source.take("folder", at, bytes)?, names)?;
                at = at.saturating_add(bytes);
            }
        }
        Ok(())
    }

    /// Attributes that are kept once for many inodes, whose places stand behind the head of an inode's own.
    fn shared_attributes(&mut self, inode: &Inode) -> Taken<()> {
        if inode.head.bytes == inode.own_bytes {
            return Ok(());
        }
        let at = inode.head.at.saturating_add(inode.own_bytes);
        let head = self.source.take("attributes", at, inode.head.bytes.saturating_sub(inode.own_bytes))?;
        let [count] = bytes_at(&head, 4)?;
        for number in 0..usize::from(count) {
            let place =
                u64::from(u32_at(&head, number.saturating_mul(4).saturating_add(12))?).saturating_mul(4);
            let at = self.attributes_at.saturating_add(place);
            let entry = self.source.take("shared attribute", at, 4)?;
            let [name_bytes] = bytes_at(&entry, 0)?;
            let bytes = u64::from(u16_at(&entry, 2)?).saturating_add(name_bytes.into()).saturating_add(4);
            self.metadata.push(self.source.within("shared attribute", at, bytes.next_multiple_of(4))?);
        }
        Ok(())
    }
}

/// What matters here of an inode.
struct Inode {
    /// Its own bytes and its attributes.
    head: Extent,
    own_bytes: u64,
    form: u16,
    mode: u16,
    bytes: u64,
    /// By form: the first block, the number of compressed blocks, how chunks are kept.
    union: u32,
}

impl Tree for Erofs<'_> {
    fn root(&self) -> u64 {
        self.root
    }

    fn node(&mut self, nid: u64, names: &mut Names) -> Taken<Node> {
        let inode = self.inode(nid)?;
        self.metadata.push(inode.head);
        self.shared_attributes(&inode)?;
        match inode.mode & FORMAT {
            FOLDER => {
                let compressed = || damage!("inode {nid}: expected a folder, found a compressed one");
                let extents = self.content(&inode)?.ok_or_else(compressed)?;
                self.folder(&extents, names)?;
                self.metadata.extend(extents);
                Ok(Node::Folder)
            }
            LINK => {
                let target = self.content(&inode)?;
                self.metadata.extend(target.into_iter().flatten());
                Ok(Node::Other)
            }
            FILE => match self.content(&inode)? {
                Some(extents) => Ok(Node::File { bytes: inode.bytes, extents, holes: Vec::new() }),
                None => Ok(Node::Other),
            },
            _ if nid == self.root => {
                Err(damage!("erofs: expected a folder at the root, found mode {:#o}", inode.mode))
            }
            _ => Ok(Node::Other),
        }
    }
}

/// The entries of one block of a folder; the first one's name begins where the entries end.
fn entries(block: &[u8], names: &mut Names) -> Taken<()> {
    let start = |entry: &[u8]| Ok::<_, super::Halt>(usize::from(u16_at(entry, 8)?));
    let first = start(block)?;
    let wrong =
        || damage!("folder: expected names behind {first} bytes of entries, found {} bytes", block.len());
    let table =
        block.get(..first).filter(|_| first.is_multiple_of(ENTRY_BYTES) && first > 0).ok_or_else(wrong)?;
    let mut ahead = table.chunks_exact(ENTRY_BYTES).peekable();
    while let Some(entry) = ahead.next() {
        let end = match ahead.peek() {
            Some(next) => start(next)?,
            None => block.len(),
        };
        let name = block.get(start(entry)?..end).ok_or_else(wrong)?;
        // The last one is filled up with zeros.
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        names.add(name, u64_at(entry, 0)?)?;
    }
    Ok(())
}

const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK_BYTES: u64 = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// Zero padding, large clusters, chunks, devices or a second algorithm, tails, fragments, prefixes of attributes. Not: places
/// of 48 bits, metadata in a file of its own.
const INCOMPAT_KNOWN: u32 = 0x7f;
const INCOMPAT_FRAGMENTS: u32 = 0x20;
const INODE_UNIT: u64 = 32;
const FORM_PLAIN: u16 = 0;
const FORM_COMPRESSED: u16 = 1;
const FORM_INLINE: u16 = 2;
const FORM_COMPRESSED_COMPACT: u16 = 3;
const FORM_CHUNKS: u16 = 4;
const CHUNK_INDEXES: u32 = 0x20;
/// 2^20 blocks of 64 KiB: larger ones are not made.
const CHUNK_LOG_MAX: u32 = 20;
const TABLE_PART_BYTES: u64 = 64 << 10;
const HOLE: u32 = u32::MAX;
const ENTRY_BYTES: usize = 12;
const FORMAT: u16 = 0xf000;
const FOLDER: u16 = 0x4000;
const FILE: u16 = 0x8000;
const LINK: u16 = 0xa000;
