//! What of an ext4 is neither a file nor a structure in use: free blocks and the journal. For the hints.

use super::volume::Volume;
use crate::layout::Extent;
use crate::layout::source::{Taken, u32_at};

impl Volume<'_> {
    /// The blocks that belong to nobody. `metadata` is what [`read`](crate::layout::read) found.
    pub fn free(&self, metadata: &[Extent]) -> Taken<Vec<Extent>> {
        let mut free = Vec::new();
        let (log_block, log_cluster) = (u32_at(&self.superblock, 0x18)?, u32_at(&self.superblock, 0x1c)?);
        // With `bigalloc` a bit stands for several blocks.
        let bit_blocks = 1_u64.wrapping_shl(log_cluster.saturating_sub(log_block).min(20));
        for (number, group) in (0..).zip(&self.groups) {
            let start = self.group_start(number);
            let end = start.saturating_add(self.blocks_per_group).min(self.blocks);
            if group.flags & BLOCK_BITMAP_UNUSED != 0 {
                gaps(self.bytes(start, end), metadata, &mut free);
                continue;
            }
            let bitmap = self.take("block bitmap", group.block_bitmap)?;
            for (index, byte) in (0_u64..).zip(&bitmap) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 0) {
                    let offset = index.saturating_mul(8).saturating_add(bit).saturating_mul(bit_blocks);
                    let from = start.saturating_add(offset);
                    add(self.bytes(from, from.saturating_add(bit_blocks).min(end)), &mut free);
                }
            }
        }
        Ok(free)
    }

    /// The journal's blocks but for its own superblock.
    pub fn journal(&self) -> Taken<Vec<Extent>> {
        let number = u32_at(&self.superblock, 0xe0)?;
        if self.compat & COMPAT_HAS_JOURNAL == 0 || number == 0 {
            return Ok(Vec::new());
        }
        let inode = self.inode(number.into())?;
        let runs = if inode.maps_blocks() { self.map(&inode)?.runs } else { Vec::new() };
        let skip = |run: &super::inode::Run| run.block.saturating_add(u64::from(run.logical == 0));
        Ok(runs.iter().map(|run| self.bytes(skip(run), run.block.saturating_add(run.blocks))).collect())
    }

    /// The tables of all groups, each with the number of its first inode.
    pub fn inode_tables(&self) -> Vec<(u64, Extent)> {
        let bytes = self.inodes_per_group.saturating_mul(self.inode_bytes);
        let table = |(number, group): (u64, &super::Group)| {
            let at = group.inode_table.saturating_mul(self.block_bytes);
            (number.saturating_mul(self.inodes_per_group).saturating_add(1), Extent { at, bytes })
        };
        (0..).zip(&self.groups).map(table).collect()
    }

    /// How often the superblock stands in the image.
    pub fn superblocks(&self) -> Taken<u64> {
        let mut count = 0_u64;
        for number in 0..self.groups.len() as u64 {
            count = count.saturating_add(self.has_superblock(number)?.into());
        }
        Ok(count)
    }

    /// Does every structure carry a checksum, begun with the file system's UUID?
    pub fn checksums_begin_with_uuid(&self) -> bool {
        self.ro_compat & RO_COMPAT_METADATA_CSUM != 0 && self.incompat & INCOMPAT_CSUM_SEED == 0
    }

    /// The UUID, and the seed of the hashes in folders.
    pub fn identity(&self) -> (&[u8], &[u8]) {
        let part = |from, to| self.superblock.get(from..to).unwrap_or_default();
        (part(0x68, 0x78), part(0xec, 0xfc))
    }

    fn bytes(&self, from: u64, to: u64) -> Extent {
        let blocks = to.min(self.blocks).saturating_sub(from);
        Extent { at: from.saturating_mul(self.block_bytes), bytes: blocks.saturating_mul(self.block_bytes) }
    }
}

/// What of `whole` is in none of the sorted extents.
fn gaps(whole: Extent, taken: &[Extent], gaps: &mut Vec<Extent>) {
    let mut from = whole.at;
    for extent in taken.iter().filter(|extent| extent.end() > whole.at && extent.at < whole.end()) {
        add(Extent { at: from, bytes: extent.at.saturating_sub(from) }, gaps);
        from = from.max(extent.end());
    }
    add(Extent { at: from, bytes: whole.end().saturating_sub(from) }, gaps);
}

fn add(extent: Extent, list: &mut Vec<Extent>) {
    match list.last_mut() {
        _ if extent.bytes == 0 => {}
        Some(last) if last.end() == extent.at => last.bytes = last.bytes.saturating_add(extent.bytes),
        _ => list.push(extent),
    }
}

const BLOCK_BITMAP_UNUSED: u16 = 2;
const COMPAT_HAS_JOURNAL: u32 = 0x4;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
