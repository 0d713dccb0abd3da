//! ext4, as far as it takes to find a file: extents, folders, nothing of journals, xattrs or encryption.
//!
//! Source: the kernel's Documentation/filesystems/ext4. All numbers are little endian.
//!
//! ```text
//! superblock at 1024    24 log2(block / 1024)   40 inodes of a group   56 magic 0xef53   88 bytes of an inode
//!                       20 first data block     96 incompatible features    254 bytes of a group descriptor
//! group descriptor      8 block of its inode table (40: the upper half, where it has 64 bytes)
//! inode                 0 mode   4 size   32 flags   40 the root of the extent tree, 60 bytes   108 size, upper half
//! extent node (12)      0 magic 0xf30a   2 entries   6 depth     then entries of 12:
//!   leaf (depth 0)      0 first block of the file   4 blocks (over 32768: not written yet)   6, 8 where
//!   index               0 first block of the file   4, 8 where the next node is
//! folder entry          0 inode   4 bytes of the entry   6 bytes of the name   8 name
//! ```

use super::{ENTRIES_MAX, Extents, FILE_BYTES_MAX, u16_at, u32_at};
use crate::medium::Medium;
use mainstay_hil::{Doing, Result, Trouble};

/// An ext4 file system.
pub struct Ext4<'a> {
    medium: &'a dyn Medium,
    block: u64,
    inodes_per_group: u32,
    inode_bytes: u64,
    descriptor_bytes: u64,
    descriptors: u64,
}

const MAGIC: u16 = 0xef53;
const EXTENT_MAGIC: u16 = 0xf30a;
const ROOT_INODE: u32 = 2;
const FEATURE_64BIT: u32 = 0x80;
/// The journal holds what the file system does not yet.
const FEATURE_RECOVER: u32 = 0x4;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE: u32 = 0x1000_0000;
const FOLDER: u16 = 0x4000;
const REGULAR: u16 = 0x8000;
const KIND: u16 = 0xf000;
const DEPTH_MAX: u16 = 5;
/// An extent that says more is one of zeros.
const INITIALISED_MAX: u16 = 32768;

struct Inode {
    kind: u16,
    extents: Extents,
}

impl<'a> Ext4<'a> {
    /// Reads the superblock.
    pub fn open(medium: &'a dyn Medium) -> Result<Ext4<'a>> {
        let head = medium.bytes(1024, 1024);
        let (magic, shift) = (u16_at(&head, 56), u32_at(&head, 24));
        let (inodes_per_group, inode_bytes) = (u32_at(&head, 40), u64::from(u16_at(&head, 88)));
        if magic != MAGIC || shift > 6 || inodes_per_group == 0 || !(128..=4096).contains(&inode_bytes) {
            return Err(Trouble::new(format!(
                "ext4: expected the magic {MAGIC:#x} and a sound superblock, found {magic:#x}"
            )));
        }
        let block = 1024u64 << shift;
        let wide = u32_at(&head, 96) & FEATURE_64BIT != 0;
        let descriptor_bytes = if wide { u64::from(u16_at(&head, 254)).max(32) } else { 32 };
        let descriptors = (u64::from(u32_at(&head, 20)) + 1) * block;
        Ok(Ext4 { medium, block, inodes_per_group, inode_bytes, descriptor_bytes, descriptors })
    }

    /// Does the superblock say that its journal has to be replayed?
    pub fn needs_recovery(medium: &dyn Medium) -> bool {
        let head = medium.bytes(1024, 256);
        u16_at(&head, 56) == MAGIC && u32_at(&head, 96) & FEATURE_RECOVER != 0
    }

    /// Where a file stands: `grub/grubenv`. `None`: it is not there.
    pub fn find(&self, path: &str) -> Result<Option<Extents>> {
        let inode = self.walk(path)?;
        match inode {
            Some(inode) if inode.kind == REGULAR => Ok(Some(inode.extents)),
            Some(_) => Err(Trouble::new(format!("ext4: {path}: expected a file"))),
            None => Ok(None),
        }
    }

    /// The files of a folder, with their content, by name. An empty list where there is no such folder.
    pub fn files(&self, folder: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let Some(inode) = self.walk(folder)? else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for (name, number) in self.entries(&inode)? {
            let found = self.inode(number).doing(|| format!("ext4: {folder}/{name}"))?;
            if found.kind == REGULAR {
                let content = found.extents.read(self.medium).doing(|| format!("ext4: {folder}/{name}"))?;
                files.push((name, content));
            }
        }
        Ok(files)
    }

    fn walk(&self, path: &str) -> Result<Option<Inode>> {
        let mut inode = self.inode(ROOT_INODE)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let entries = self.entries(&inode)?;
            let Some((_, number)) = entries.into_iter().find(|(found, _)| found == name) else {
                return Ok(None);
            };
            inode = self.inode(number)?;
        }
        Ok(Some(inode))
    }

    fn inode(&self, number: u32) -> Result<Inode> {
        let index = number.checked_sub(1).doing(|| "ext4: expected an inode, found number 0")?;
        let descriptor = self.descriptors + u64::from(index / self.inodes_per_group) * self.descriptor_bytes;
        let descriptor = self.medium.bytes(descriptor, self.descriptor_bytes as usize);
        let upper = if self.descriptor_bytes >= 64 { u64::from(u32_at(&descriptor, 40)) } else { 0 };
        let table = u64::from(u32_at(&descriptor, 8)) | upper << 32;
        let at = table
            .saturating_mul(self.block)
            .saturating_add(u64::from(index % self.inodes_per_group) * self.inode_bytes);
        let inode = self.medium.bytes(at, 128);
        let (kind, flags) = (u16_at(&inode, 0) & KIND, u32_at(&inode, 32));
        let size = u64::from(u32_at(&inode, 4)) | u64::from(u32_at(&inode, 108)) << 32;
        if kind == 0 || flags & FLAG_EXTENTS == 0 || flags & FLAG_INLINE != 0 || size > FILE_BYTES_MAX {
            return Err(Trouble::new(format!(
                "ext4: inode {number}: expected extents and at most {FILE_BYTES_MAX} bytes, found mode {kind:#x}, flags {flags:#x}, {size} bytes"
            )));
        }
        let mut found = Vec::new();
        self.leaves(inode.get(40..100).unwrap_or_default(), DEPTH_MAX, &mut found)?;
        Ok(Inode { kind, extents: Extents { size, runs: self.runs(found, size) } })
    }

    /// Collects the leaves of an extent tree: first block of the file, blocks, where (`None`: zeros).
    fn leaves(&self, node: &[u8], depth_max: u16, out: &mut Vec<(u32, u16, Option<u64>)>) -> Result<()> {
        let (magic, entries, depth) = (u16_at(node, 0), u16_at(node, 2), u16_at(node, 6));
        if magic != EXTENT_MAGIC || depth > depth_max {
            return Err(Trouble::new(format!(
                "ext4: expected an extent node of depth {depth_max} at most, found magic {magic:#x} and depth {depth}"
            )));
        }
        for entry in node.chunks_exact(12).skip(1).take(usize::from(entries)) {
            if depth == 0 {
                let blocks = u16_at(entry, 4);
                let at = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
                out.push(match blocks.checked_sub(INITIALISED_MAX) {
                    Some(unwritten @ 1..) => (u32_at(entry, 0), unwritten, None),
                    _ => (u32_at(entry, 0), blocks, Some(at)),
                });
            } else {
                let at = u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32;
                let next = self.medium.bytes(at.saturating_mul(self.block), self.block as usize);
                self.leaves(&next, depth - 1, out)?;
            }
            if out.len() > ENTRIES_MAX {
                return Err(Trouble::new(format!("ext4: expected at most {ENTRIES_MAX} extents")));
            }
        }
        Ok(())
    }

    /// As stretches of bytes without gaps, up to the file's size.
    fn runs(&self, leaves: Vec<(u32, u16, Option<u64>)>, size: u64) -> Vec<(Option<u64>, u64)> {
        let (mut runs, mut end) = (Vec::new(), 0);
        for (first, blocks, at) in leaves {
            let from = u64::from(first) * self.block;
            if from > end {
                runs.push((None, from - end));
            }
            let length = u64::from(blocks) * self.block;
            runs.push((at.map(|at| at.saturating_mul(self.block)), length));
            end = from + length;
        }
        if size > end {
            runs.push((None, size - end));
        }
        runs
    }

    fn entries(&self, folder: &Inode) -> Result<Vec<(String, u32)>> {
        if folder.kind != FOLDER {
            return Err(Trouble::new("ext4: expected a folder"));
        }
        let bytes = folder.extents.read(self.medium)?;
        let mut entries = Vec::new();
        for block in bytes.chunks(self.block as usize) {
            let mut rest = block;
            while let Some(entry) = rest.get(..8) {
                let (inode, length, name) =
                    (u32_at(entry, 0), usize::from(u16_at(entry, 4)), usize::from(entry[6]));
                if inode != 0 && name > 0 && entries.len() < ENTRIES_MAX {
                    let name =
                        String::from_utf8_lossy(rest.get(8..8 + name).unwrap_or_default()).into_owned();
                    entries.push((name, inode));
                }
                if length < 8 {
                    break; // damaged: what follows cannot be told
                }
                rest = rest.get(length..).unwrap_or_default();
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_lab::disk::{Node, Tree, ext4};

    /// A file system as the bench's are, with files in it. `None`: mke2fs is not there.
    fn sample(files: &[(&str, &[u8])]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("ext4");
        let mut tree = Tree::new();
        tree.folder("/grub/deep");
        for (name, content) in files {
            tree.add(name, Node::Bytes(content.to_vec(), 0o600));
        }
        match ext4::make(&image, 8 << 20, "test", ext4::Use::Data, &tree) {
            Ok(()) => Some(std::fs::read(&image).unwrap()),
            Err(why) => {
                println!("not run: {why}");
                None
            }
        }
    }

    #[test]
    fn files_are_found_where_mke2fs_has_put_them() {
        let content: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let Some(bytes) = sample(&[("/grub/grubenv", &content), ("/grub/empty", b"")]) else { return };
        let ext4 = Ext4::open(&bytes).unwrap();
        let found = ext4.find("grub/grubenv").unwrap().unwrap();
        assert_eq!(found.read(&bytes).unwrap(), content);
        assert_eq!(bytes.bytes(found.place(0..4).unwrap(), 4), content[..4]);
        let mut files = ext4.files("/grub").unwrap();
        files.sort();
        assert_eq!(files, [("empty".into(), vec![]), ("grubenv".into(), content.clone())]);
        assert_eq!(ext4.find("grub/none").unwrap(), None);
        assert!(ext4.find("grub/deep").is_err() && !Ext4::needs_recovery(&bytes));
        assert_eq!(ext4.files("nowhere").unwrap(), []);
    }

    #[test]
    fn what_is_damaged_is_an_error_and_never_a_panic() {
        assert!(Ext4::open(&vec![0; 4096]).is_err());
        let Some(bytes) = sample(&[("/grub/grubenv", b"x")]) else { return };
        let mut random = crate::replay::Random(2);
        for _ in 0..300 {
            let mut bytes = bytes.clone();
            for _ in 0..2000 {
                let at = random.next() as usize % (512 * 1024);
                bytes[at] = random.next() as u8;
            }
            if let Ok(ext4) = Ext4::open(&bytes) {
                let _ = (ext4.find("grub/grubenv"), ext4.files("grub"));
            }
        }
    }
}
