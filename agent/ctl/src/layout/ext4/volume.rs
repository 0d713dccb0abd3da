//! What the superblock and the group descriptors say: where the structures of an ext4 stand.

use super::ROOT_INODE;
use super::inode::Inode;
use crate::layout::Extent;
use crate::layout::source::{Source, Taken, damage, halves, u16_at, u32_at};

/// The superblock's fields that matter here, checked, and the group descriptors.
pub struct Volume<'s> {
    pub(super) source: &'s Source<'s>,
    pub(crate) superblock: Vec<u8>,
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) first_block: u64,
    pub(crate) blocks_per_group: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_per_group: u64,
    pub(crate) inode_bytes: u64,
    descriptor_bytes: u64,
    compat: u32,
    pub(super) incompat: u32,
    ro_compat: u32,
    pub(crate) groups: Vec<Group>,
}

/// What a group descriptor says: block numbers.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// One bit per block (per cluster with `bigalloc`): 1 is in use.
    pub block_bitmap: u64,
    /// One bit per inode.
    pub inode_bitmap: u64,
    /// The first of the table's blocks.
    pub inode_table: u64,
    /// Bit 1: the block bitmap is not filled in, nothing but structures is in use.
    pub flags: u16,
}

impl<'s> Volume<'s> {
    /// Reads superblock and descriptors; nothing where there is another file system.
    pub fn open(source: &'s Source<'s>) -> Taken<Option<Self>> {
        let Some(superblock) = source.peek(SUPERBLOCK_AT, SUPERBLOCK_BYTES)? else { return Ok(None) };
        if u16_at(&superblock, 0x38)? != MAGIC {
            return Ok(None);
        }
        let word = |at| u32_at(&superblock, at);
        let modern = word(0x4c)? > 0;
        let feature = |at| if modern { word(at) } else { Ok(0) };
        let (compat, incompat, ro_compat) = (feature(0x5c)?, feature(0x60)?, feature(0x64)?);
        if incompat & !INCOMPAT_KNOWN != 0 {
            let unknown = incompat & !INCOMPAT_KNOWN;
            return Err(damage!("ext4: expected features known here, found incompatible ones {unknown:#x}"));
        }
        let large = incompat & INCOMPAT_64BIT != 0;
        let log_block = word(0x18)?;
        if log_block > 6 {
            return Err(damage!("ext4: expected blocks of 1 to 64 KiB, found 2^(10+{log_block}) bytes"));
        }
        let block_bytes = 1024 << log_block;
        let mut volume = Volume {
            source,
            block_bytes,
            blocks: halves(word(4)?, if large { word(0x150)? } else { 0 }),
            first_block: word(0x14)?.into(),
            blocks_per_group: word(0x20)?.into(),
            inodes: word(0)?.into(),
            inodes_per_group: word(0x28)?.into(),
            inode_bytes: if modern { u16_at(&superblock, 0x58)?.into() } else { 128 },
            descriptor_bytes: if large { u16_at(&superblock, 0xfe)?.into() } else { 32 },
            compat,
            incompat,
            ro_compat,
            groups: Vec::new(),
            superblock,
        };
        volume.check()?;
        volume.groups = volume.read_groups()?;
        Ok(Some(volume))
    }

    fn check(&self) -> Taken<()> {
        let Volume { block_bytes, blocks, first_block, blocks_per_group, .. } = *self;
        self.source.within("ext4", 0, blocks.saturating_mul(block_bytes))?;
        let expect = |is: bool, what: &str, found: u64| match is {
            true => Ok(()),
            false => Err(damage!("ext4: expected a sensible {what}, found {found}")),
        };
        expect(blocks > first_block && first_block <= 1, "first block", first_block)?;
        expect((8..=1 << 22).contains(&blocks_per_group), "number of blocks per group", blocks_per_group)?;
        expect(self.inodes_per_group > 0, "number of inodes per group", self.inodes_per_group)?;
        let inode = self.inode_bytes;
        expect((128..=block_bytes).contains(&inode) && inode.is_power_of_two(), "length of inodes", inode)?;
        let descriptor = self.descriptor_bytes;
        let fits = (32..=1024).contains(&descriptor) && descriptor.is_power_of_two();
        expect(fits && (descriptor >= 64 || self.incompat & INCOMPAT_64BIT == 0), "descriptor", descriptor)?;
        expect(self.group_count() <= GROUPS_MAX, "number of groups", self.group_count())
    }

    fn group_count(&self) -> u64 {
        self.blocks.saturating_sub(self.first_block).div_ceil(self.blocks_per_group.max(1))
    }

    pub(crate) fn group_start(&self, group: u64) -> u64 {
        self.first_block.saturating_add(group.saturating_mul(self.blocks_per_group))
    }

    fn per_block(&self) -> u64 {
        self.block_bytes.checked_div(self.descriptor_bytes).unwrap_or(1)
    }

    /// How many blocks of descriptors there are.
    fn descriptor_blocks(&self) -> u64 {
        self.group_count().div_ceil(self.per_block().max(1))
    }

    /// So many of them stand together behind each superblock; with `meta_bg` the others are spread.
    fn together(&self) -> Taken<u64> {
        let all = self.descriptor_blocks();
        match self.incompat & INCOMPAT_META_BG != 0 {
            true => Ok(all.min(u32_at(&self.superblock, 0x104)?.into())),
            false => Ok(all),
        }
    }

    /// The block number of the superblock; descriptors follow it.
    fn super_block(&self) -> u64 {
        u64::from(self.block_bytes == SUPERBLOCK_AT)
    }

    /// Where the first copy of a block of descriptors stands.
    fn descriptor_block(&self, index: u64) -> Taken<u64> {
        if index < self.together()? {
            return Ok(self.super_block().saturating_add(1).saturating_add(index));
        }
        let group = index.saturating_mul(self.per_block());
        Ok(self.group_start(group).saturating_add(self.has_superblock(group)?.into()))
    }

    fn has_superblock(&self, group: u64) -> Taken<bool> {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            let backups = [u32_at(&self.superblock, 0x24c)?, u32_at(&self.superblock, 0x250)?];
            return Ok(group == 0 || backups.iter().any(|&backup| u64::from(backup) == group));
        }
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        let dense = self.ro_compat & RO_COMPAT_SPARSE_SUPER == 0;
        Ok(dense || group <= 1 || power_of(3) || power_of(5) || power_of(7))
    }

    fn read_groups(&self) -> Taken<Vec<Group>> {
        let mut groups = Vec::new();
        for index in 0..self.descriptor_blocks() {
            let block = self.take("group descriptors", self.descriptor_block(index)?)?;
            let left = self.group_count().saturating_sub(groups.len() as u64).min(self.per_block());
            for one in block.chunks_exact(self.descriptor_bytes as usize).take(left as usize) {
                groups.push(Group::parse(one)?);
            }
        }
        Ok(groups)
    }

    /// All that stands at places which the superblock and the descriptors name, and what belongs to reserved inodes:
    /// the journal, the room for more descriptors, quotas.
    pub(super) fn structures(&self) -> Taken<Vec<Extent>> {
        let mut found = vec![self.source.within("ext4", 0, SUPERBLOCK_AT + SUPERBLOCK_BYTES)?];
        let together = self.together()?.saturating_add(u16_at(&self.superblock, 0xce)?.into());
        for (number, group) in (0..).zip(&self.groups) {
            if self.has_superblock(number)? {
                let start = if number == 0 { self.super_block() } else { self.group_start(number) };
                let room = self.blocks.saturating_sub(start); // the last group may be short
                found.push(self.extent("superblock", start, together.saturating_add(1).min(room))?);
            }
            found.push(self.extent("block bitmap", group.block_bitmap, 1)?);
            found.push(self.extent("inode bitmap", group.inode_bitmap, 1)?);
            found.push(self.extent("inode table", group.inode_table, self.table_blocks())?);
        }
        self.spread_descriptors(&mut found)?;
        if self.incompat & INCOMPAT_MMP != 0 {
            let block = halves(u32_at(&self.superblock, 0x168)?, u32_at(&self.superblock, 0x16c)?);
            found.push(self.extent("multi-mount block", block, 1)?);
        }
        let first = if u32_at(&self.superblock, 0x4c)? > 0 { u32_at(&self.superblock, 0x54)? } else { 0 };
        for number in
            (1..first.clamp(FIRST_INODE, FIRST_INODE_MAX).into()).filter(|&number| number != ROOT_INODE)
        {
            self.structures_of(&self.inode(number)?, &mut found)?;
        }
        Ok(found)
    }

    pub(crate) fn table_blocks(&self) -> u64 {
        self.inodes_per_group.saturating_mul(self.inode_bytes).div_ceil(self.block_bytes)
    }

    /// `meta_bg`: in the first, second and last group of those whose descriptors fill one block.
    fn spread_descriptors(&self, found: &mut Vec<Extent>) -> Taken<()> {
        for index in self.together()?..self.descriptor_blocks() {
            let first = index.saturating_mul(self.per_block());
            for offset in [0, 1, self.per_block().saturating_sub(1)] {
                let group = first.saturating_add(offset);
                if group < self.group_count() {
                    let skip = self.has_superblock(group)?.into();
                    found.push(self.extent(
                        "descriptors",
                        self.group_start(group).saturating_add(skip),
                        1,
                    )?);
                }
            }
        }
        Ok(())
    }

    /// All blocks of an inode that is no file.
    pub(super) fn structures_of(&self, inode: &Inode, found: &mut Vec<Extent>) -> Taken<()> {
        found.extend(self.attributes(inode)?);
        if inode.maps_blocks() {
            let mapped = self.map(inode)?;
            found.extend(mapped.structures);
            for run in mapped.runs {
                found.push(self.extent("blocks of a reserved inode", run.block, run.blocks)?);
            }
        }
        Ok(())
    }

    /// The block of extended attributes.
    pub(super) fn attributes(&self, inode: &Inode) -> Taken<Option<Extent>> {
        match inode.attributes {
            0 => Ok(None),
            block => self.extent("extended attributes", block, 1).map(Some),
        }
    }

    pub(super) fn extent(&self, what: &str, block: u64, blocks: u64) -> Taken<Extent> {
        match block.checked_add(blocks) {
            Some(end) if end <= self.blocks => Ok(Extent {
                at: block.saturating_mul(self.block_bytes),
                bytes: blocks.saturating_mul(self.block_bytes),
            }),
            _ => Err(damage!("{what}: expected blocks below {}, found {blocks} at {block}", self.blocks)),
        }
    }

    pub(crate) fn take(&self, what: &str, block: u64) -> Taken<Vec<u8>> {
        let extent = self.extent(what, block, 1)?;
        self.source.take(what, extent.at, extent.bytes)
    }
}

impl Group {
    fn parse(one: &[u8]) -> Taken<Self> {
        let high = |at| if one.len() >= 64 { u32_at(one, at) } else { Ok(0) };
        Ok(Group {
            block_bitmap: halves(u32_at(one, 0)?, high(0x20)?),
            inode_bitmap: halves(u32_at(one, 4)?, high(0x24)?),
            inode_table: halves(u32_at(one, 8)?, high(0x28)?),
            flags: u16_at(one, 0x12)?,
        })
    }
}

pub(crate) const SUPERBLOCK_AT: u64 = 1024;
pub(crate) const SUPERBLOCK_BYTES: u64 = 1024;
const MAGIC: u16 = 0xef53;
/// 128 Ki groups of 128 MiB: 16 TiB.
const GROUPS_MAX: u64 = 128 << 10;

const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
pub(super) const INCOMPAT_LARGEDIR: u32 = 0x4000;
/// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt,
/// casefold. Not: compression, a journal device, dirdata.
const INCOMPAT_KNOWN: u32 =
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
/// Inodes below are reserved.
const FIRST_INODE: u32 = 11;
/// More are not believed to be.
const FIRST_INODE_MAX: u32 = 1024;
