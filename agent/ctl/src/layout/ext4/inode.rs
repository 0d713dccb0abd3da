//! Inodes of ext4, and which blocks hold their content: a tree of extents, or the block maps of ext2.

use super::volume::{INCOMPAT_LARGEDIR, Volume};
use crate::layout::Extent;
use crate::layout::source::{Taken, damage, halves, u16_at, u32_at};

/// What matters here of an inode.
pub(super) struct Inode {
    pub(super) mode: u16,
    pub(super) flags: u32,
    pub(super) bytes: u64,
    pub(super) attributes: u64,
    pub(super) block: Vec<u8>,
}

impl Inode {
    pub(super) fn parse(bytes: &[u8], incompat: u32) -> Taken<Self> {
        let mode = u16_at(bytes, 0)?;
        // For folders the upper half was something else before there were large ones.
        let high = mode & FORMAT != FOLDER || incompat & INCOMPAT_LARGEDIR != 0;
        Ok(Inode {
            mode,
            flags: u32_at(bytes, 0x20)?,
            bytes: halves(u32_at(bytes, 4)?, if high { u32_at(bytes, 0x6c)? } else { 0 }),
            attributes: halves(u32_at(bytes, 0x68)?, u16_at(bytes, 0x76)?.into()),
            block: bytes.get(0x28..0x64).unwrap_or_default().to_vec(),
        })
    }

    pub(super) fn is(&self, format: u16) -> bool {
        self.mode & FORMAT == format
    }

    /// Content in blocks? Not where it stands in the inode: short links, `inline_data`.
    pub(super) fn maps_blocks(&self) -> bool {
        let short = self.is(LINK) && self.bytes < 60 && self.flags & FLAG_EXTENTS == 0;
        self.flags & FLAG_INLINE == 0 && !short && self.block.iter().any(|&byte| byte != 0)
    }
}

/// Blocks of a file, in its order.
#[derive(Default)]
pub(super) struct Mapped {
    pub(super) runs: Vec<Run>,
    /// Blocks of the map itself.
    pub(super) structures: Vec<Extent>,
    /// The next logical block that may come.
    next: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) logical: u64,
    pub(super) block: u64,
    pub(super) blocks: u64,
}

impl Mapped {
    fn run(&mut self, volume: &Volume, run: Run, written: bool) -> Taken<()> {
        volume.extent("content", run.block, run.blocks)?;
        if run.logical < self.next {
            return Err(damage!("extent tree: expected block {} or later, found {}", self.next, run.logical));
        }
        self.next = run.logical.saturating_add(run.blocks);
        let follows = |last: &Run| {
            last.logical.saturating_add(last.blocks) == run.logical
                && last.block.saturating_add(last.blocks) == run.block
        };
        match self.runs.last_mut() {
            _ if !written => {}
            Some(last) if follows(last) => last.blocks = last.blocks.saturating_add(run.blocks),
            _ => {
                volume.source.extent()?;
                self.runs.push(run);
            }
        }
        Ok(())
    }
}

impl Volume<'_> {
    pub(super) fn inode(&self, number: u64) -> Taken<Inode> {
        let absent = || damage!("inode {number}: expected at most {}", self.inodes);
        let index = number.checked_sub(1).filter(|_| number <= self.inodes).ok_or_else(absent)?;
        let (group, index) =
            match (index.checked_div(self.inodes_per_group), index.checked_rem(self.inodes_per_group)) {
                (Some(group), Some(index)) => (group, index),
                _ => return Err(absent()),
            };
        let group =
            usize::try_from(group).ok().and_then(|group| self.groups.get(group)).ok_or_else(absent)?;
        let table = self.extent("inode table", group.inode_table, self.table_blocks())?;
        let at = table.at.saturating_add(index.saturating_mul(self.inode_bytes));
        Inode::parse(&self.source.take("inode", at, 128)?, self.incompat)
    }

    pub(super) fn map(&self, inode: &Inode) -> Taken<Mapped> {
        let mut mapped = Mapped::default();
        if inode.flags & FLAG_EXTENTS != 0 {
            self.extent_node(&inode.block, None, &mut mapped)?;
        } else {
            let end = inode.bytes.div_ceil(self.block_bytes);
            let mut logical = 0;
            for slot in 0..15_usize {
                let pointer = u32_at(&inode.block, slot.saturating_mul(4))?;
                let level = slot.saturating_sub(11) as u32;
                self.pointer(pointer, level, &mut logical, end, &mut mapped)?;
            }
        }
        Ok(mapped)
    }

    /// A node of an extent tree; `depth` is what its parent promised.
    fn extent_node(&self, node: &[u8], depth: Option<u16>, mapped: &mut Mapped) -> Taken<()> {
        let (magic, entries, found) = (u16_at(node, 0)?, u16_at(node, 2)?, u16_at(node, 6)?);
        if magic != EXTENT_MAGIC || found > EXTENT_DEPTH_MAX || depth.is_some_and(|depth| depth != found) {
            return Err(damage!(
                "extent tree: expected depth {depth:?}, found depth {found}, magic {magic:#x}"
            ));
        }
        let room = node.len().saturating_sub(12);
        let entries = node.get(12..).unwrap_or_default().chunks_exact(12).take(entries.into());
        if entries.len() < usize::from(u16_at(node, 2)?) {
            return Err(damage!("extent tree: expected entries in {room} bytes, found more"));
        }
        for entry in entries {
            if found > 0 {
                let block = halves(u32_at(entry, 4)?, u16_at(entry, 8)?.into());
                mapped.structures.push(self.extent("extent tree", block, 1)?);
                self.extent_node(&self.take("extent tree", block)?, found.checked_sub(1), mapped)?;
                continue;
            }
            let (logical, length) = (u32_at(entry, 0)?, u16_at(entry, 4)?);
            let block = halves(u32_at(entry, 8)?, u16_at(entry, 6)?.into());
            // Longer means: allocated, never written, reads as zeros.
            let (blocks, written) = if length > 0x8000 { (length & 0x7fff, false) } else { (length, true) };
            mapped.run(self, Run { logical: logical.into(), block, blocks: blocks.into() }, written)?;
        }
        Ok(())
    }

    /// A pointer of a block map: to content at level 0, to pointers above. `logical` goes on by what it covers.
    fn pointer(
        &self,
        pointer: u32,
        level: u32,
        logical: &mut u64,
        end: u64,
        mapped: &mut Mapped,
    ) -> Taken<()> {
        if *logical >= end {
            return Ok(());
        }
        if pointer == 0 || level == 0 {
            if pointer != 0 {
                mapped.run(self, Run { logical: *logical, block: pointer.into(), blocks: 1 }, true)?;
            }
            *logical = logical.saturating_add(self.block_bytes.wrapping_shr(2).saturating_pow(level));
            return Ok(());
        }
        mapped.structures.push(self.extent("block map", pointer.into(), 1)?);
        for pointer in self.take("block map", pointer.into())?.chunks_exact(4) {
            self.pointer(u32_at(pointer, 0)?, level.saturating_sub(1), logical, end, mapped)?;
        }
        Ok(())
    }
}

const FORMAT: u16 = 0xf000;
pub(super) const FOLDER: u16 = 0x4000;
pub(super) const FILE: u16 = 0x8000;
const LINK: u16 = 0xa000;
const FLAG_EXTENTS: u32 = 0x8_0000;
pub(super) const FLAG_INLINE: u32 = 0x1000_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_DEPTH_MAX: u16 = 5;
