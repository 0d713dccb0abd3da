//! ext2, ext3 and ext4: groups, inodes, extents and the older block maps.
//!
//! ```text
//! 0      boot sector                       group: | super │ descriptors │ reserved │ bitmaps │ inode table │ data … |
//! 1024   superblock                               (copies of the first three in some groups only; flex_bg
//! ...    group descriptors, one block on          keeps the bitmaps and tables of many groups together)
//! ```
//!
//! Folders are read as a list of entries whether they are hashed or not: the index of a hashed one is made of
//! entries that name no inode. Not read: content and folders within inodes (`inline_data`; the files below such a
//! folder do not appear), journals that wait to be replayed, and attributes in inodes of their own (`ea_inode`).

mod inode;
mod space;
mod volume;

pub use volume::{Group, Volume};

use super::source::{Source, Taken, damage, u16_at, u32_at};
use super::walk::{self, Names, Node, Tree};
use super::{Compressed, Extent, Found, Kind, Layout, merged};
use inode::{FILE, FLAG_INLINE, FOLDER, Inode};

/// What there is, or nothing where it is another file system.
pub(super) fn read(source: &Source) -> Taken<Option<Found>> {
    let Some(volume) = Volume::open(source)? else { return Ok(None) };
    let mut tree = Ext4 { metadata: volume.structures()?, volume };
    let files = walk::files(source, &mut tree)?;
    let layout = Layout { kind: Kind::Ext4, files, metadata: merged(tree.metadata), trouble: None };
    Ok(Some(Found { layout, compressed: Compressed::default() }))
}

/// What the walk asks.
struct Ext4<'s> {
    volume: Volume<'s>,
    metadata: Vec<Extent>,
}

impl Tree for Ext4<'_> {
    fn root(&self) -> u64 {
        ROOT_INODE
    }

    fn node(&mut self, number: u64, names: &mut Names) -> Taken<Node> {
        let inode = self.volume.inode(number)?;
        if number == ROOT_INODE && !inode.is(FOLDER) {
            return Err(damage!("ext4: expected a folder at the root, found mode {:#o}", inode.mode));
        }
        if !inode.is(FILE) {
            self.volume.structures_of(&inode, &mut self.metadata)?;
        }
        if inode.is(FOLDER) {
            self.folder(&inode, names)?;
            return Ok(Node::Folder);
        }
        if inode.is(FILE) && inode.flags & FLAG_INLINE == 0 {
            return self.file(&inode);
        }
        Ok(Node::Other)
    }
}

impl Ext4<'_> {
    fn file(&mut self, inode: &Inode) -> Taken<Node> {
        let volume = &self.volume;
        self.metadata.extend(volume.attributes(inode)?);
        let (mut extents, mut holes, mut next) = (Vec::new(), Vec::new(), 0);
        let mut hole = |at: u64, to: u64| match to.saturating_sub(at) {
            0 => {}
            bytes => holes.push(Extent { at, bytes }),
        };
        if inode.maps_blocks() {
            let mapped = volume.map(inode)?;
            self.metadata.extend(mapped.structures);
            for run in mapped.runs {
                let from = run.logical.saturating_mul(volume.block_bytes);
                let bytes =
                    run.blocks.saturating_mul(volume.block_bytes).min(inode.bytes.saturating_sub(from));
                let at = run.block.saturating_mul(volume.block_bytes);
                hole(next, from.min(inode.bytes));
                next = from.saturating_add(bytes);
                volume.source.content("content", &mut extents, at, bytes)?;
            }
        }
        hole(next, inode.bytes);
        Ok(Node::File { bytes: inode.bytes, extents, holes })
    }

    fn folder(&self, inode: &Inode, names: &mut Names) -> Taken<()> {
        if !inode.maps_blocks() {
            return Ok(());
        }
        for run in self.volume.map(inode)?.runs {
            for block in run.block..run.block.saturating_add(run.blocks) {
                entries(&self.volume.take("folder", block)?, names)?;
            }
        }
        Ok(())
    }
}

/// The entries of one block of a folder. One that names no inode is free room, an index or a checksum.
fn entries(block: &[u8], names: &mut Names) -> Taken<()> {
    let mut rest = block;
    while rest.len() >= ENTRY_BYTES_MIN {
        let (number, length, name_bytes) = (u32_at(rest, 0)?, u16_at(rest, 4)?, u16_at(rest, 6)? & 0xff);
        let length = match length {
            0 | 0xffff if block.len() > 0xffff => rest.len(),
            length => length.into(),
        };
        let wrong = || damage!("folder: expected an entry in {} bytes, found {length}", rest.len());
        let (entry, after) =
            rest.split_at_checked(length).filter(|_| length >= ENTRY_BYTES_MIN).ok_or_else(wrong)?;
        if number != 0 {
            let name = entry.get(8..usize::from(name_bytes).saturating_add(8)).ok_or_else(wrong)?;
            names.add(name, number.into())?;
        }
        rest = after;
    }
    Ok(())
}

const ROOT_INODE: u64 = 2;
const ENTRY_BYTES_MIN: usize = 8;
