//! FAT12, FAT16 and FAT32, as far as a bootloader needs them to find one file by its short name.
//!
//! Source: Microsoft's "FAT: General Overview of On-Disk Format" 1.03.
//!
//! ```text
//! boot sector   11 bytes of a sector   13 sectors of a cluster   14 reserved sectors   16 FATs   17 root entries
//!               19 sectors (16 bits)   22 sectors of a FAT       32 sectors (32 bits)  36, 44 FAT32's FAT size and root cluster
//! entry (32)    0 name, 8 + 3          11 attributes             20, 26 first cluster  28 size
//! ```

use super::{ENTRIES_MAX, Extents, FILE_BYTES_MAX, u16_at, u32_at};
use crate::medium::Medium;
use mainstay_hil::{Doing, Result, Trouble};

/// A FAT file system.
pub struct Fat<'a> {
    medium: &'a dyn Medium,
    cluster: u64,
    fat: u64,
    root: Folder,
    data: u64,
    clusters: u32,
    bits: u32,
}

#[derive(Clone, Copy)]
enum Folder {
    /// FAT12 and FAT16: at this byte, of this many bytes.
    Fixed(u64, u64),
    Chain(u32),
}

const ENTRY: usize = 32;
const LONG_NAME: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const LABEL: u8 = 0x08;

impl<'a> Fat<'a> {
    /// Reads the boot sector.
    pub fn open(medium: &'a dyn Medium) -> Result<Fat<'a>> {
        let boot = medium.bytes(0, 512);
        let (sector, per_cluster) =
            (u64::from(u16_at(&boot, 11)), u64::from(boot.get(13).copied().unwrap_or(0)));
        let fats = u64::from(boot.get(16).copied().unwrap_or(0));
        let sound = boot.ends_with(&[0x55, 0xaa])
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two();
        if !sound || fats == 0 {
            return Err(Trouble::new(format!(
                "FAT: expected a boot sector, found {:02x?} …",
                boot.get(..24).unwrap_or_default()
            )));
        }
        let or = |small: u16, large: u32| if small == 0 { u64::from(large) } else { u64::from(small) };
        let fat_sectors = or(u16_at(&boot, 22), u32_at(&boot, 36));
        let sectors = or(u16_at(&boot, 19), u32_at(&boot, 32));
        let fat = u64::from(u16_at(&boot, 14));
        let root = fat + fats * fat_sectors;
        let root_bytes = u64::from(u16_at(&boot, 17)) * ENTRY as u64;
        let data = root + root_bytes.div_ceil(sector);
        let clusters = sectors.saturating_sub(data) / per_cluster;
        let clusters = u32::try_from(clusters).doing(|| "FAT: clusters")?;
        // The number of clusters, and nothing else, says which FAT it is.
        let (bits, root) = match clusters {
            0..4085 => (12, Folder::Fixed(root * sector, root_bytes)),
            4085..65525 => (16, Folder::Fixed(root * sector, root_bytes)),
            _ => (32, Folder::Chain(u32_at(&boot, 44))),
        };
        Ok(Fat {
            medium,
            cluster: per_cluster * sector,
            fat: fat * sector,
            root,
            data: data * sector,
            clusters,
            bits,
        })
    }

    /// Where a file stands: `GRUB/GRUBENV`, in short names and capital letters. `None`: it is not there.
    pub fn find(&self, path: &str) -> Result<Option<Extents>> {
        let mut folder = self.root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let Some((attributes, cluster, size)) = self.entry(folder, name)? else { return Ok(None) };
            match (names.peek(), attributes & FOLDER != 0) {
                (Some(_), true) => folder = Folder::Chain(cluster),
                (None, false) => return self.file(cluster, size).map(Some),
                _ => {
                    return Err(Trouble::new(format!(
                        "FAT: {path}: expected a file in folders, found otherwise at {name}"
                    )));
                }
            }
        }
        Ok(None)
    }

    fn entry(&self, folder: Folder, name: &str) -> Result<Option<(u8, u32, u32)>> {
        let runs = match folder {
            Folder::Fixed(at, length) => vec![(at, length)],
            Folder::Chain(cluster) => self.chain(cluster, ENTRIES_MAX * ENTRY)?,
        };
        let wanted = short_name(name);
        for (at, length) in runs {
            for entry in self.medium.bytes(at, length as usize).chunks_exact(ENTRY) {
                let (named, attributes) =
                    (entry.get(..11).unwrap_or_default(), entry.get(11).copied().unwrap_or(0));
                if named.first() == Some(&0) {
                    return Ok(None); // nothing stands behind it
                }
                if named == wanted && attributes & LONG_NAME != LONG_NAME && attributes & LABEL == 0 {
                    let cluster = u32::from(u16_at(entry, 26)) | u32::from(u16_at(entry, 20)) << 16;
                    let cluster = if self.bits == 32 { cluster } else { cluster & 0xffff };
                    return Ok(Some((attributes, cluster, u32_at(entry, 28))));
                }
            }
        }
        Ok(None)
    }

    fn file(&self, cluster: u32, size: u32) -> Result<Extents> {
        let size = u64::from(size);
        if size > FILE_BYTES_MAX {
            return Err(Trouble::new(format!(
                "FAT: expected a file of at most {FILE_BYTES_MAX} bytes, found {size}"
            )));
        }
        let runs = if size == 0 { Vec::new() } else { self.chain(cluster, size as usize)? };
        Ok(Extents { size, runs: runs.into_iter().map(|(at, length)| (Some(at), length)).collect() })
    }

    /// The clusters of a chain, as places, up to `bytes` of them.
    fn chain(&self, first: u32, bytes: usize) -> Result<Vec<(u64, u64)>> {
        let mut runs = Vec::new();
        let mut cluster = first;
        while (runs.len() as u64) * self.cluster < bytes as u64 {
            if !(2..self.clusters.saturating_add(2)).contains(&cluster) {
                break; // the chain's end, or a broken one: who reads finds too few bytes
            }
            runs.push((self.data + u64::from(cluster - 2) * self.cluster, self.cluster));
            cluster = self.next(cluster);
        }
        Ok(runs)
    }

    fn next(&self, cluster: u32) -> u32 {
        match self.bits {
            12 => {
                let pair = u16_at(&self.medium.bytes(self.fat + u64::from(cluster) * 3 / 2, 2), 0);
                u32::from(if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 })
            }
            16 => u32::from(u16_at(&self.medium.bytes(self.fat + u64::from(cluster) * 2, 2), 0)),
            _ => u32_at(&self.medium.bytes(self.fat + u64::from(cluster) * 4, 4), 0) & 0x0fff_ffff,
        }
    }
}

/// `NAME.EXT` as eight and three characters, filled with spaces.
fn short_name(name: &str) -> [u8; 11] {
    let mut out = [b' '; 11];
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let (front, back) = out.split_at_mut(8);
    front.iter_mut().zip(base.bytes()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    back.iter_mut().zip(extension.bytes()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_lab::run::{output, tool};
    use std::path::Path;

    /// Makes one by mkfs.vfat, with a file in it by mtools.
    fn make(image: &Path, bits: &str, cluster: &str, file: &Path) -> mainstay_hil::Result<()> {
        output(tool("mkfs.vfat").args(["-F", bits, "-s", cluster]).arg(image))?;
        output(tool("mmd").arg("-i").arg(image).arg("::grub"))?;
        output(tool("mcopy").arg("-i").arg(image).arg(file).arg("::grub/grubenv")).map(drop)
    }

    #[test]
    fn a_file_is_found_where_mtools_has_put_it_on_each_kind_of_fat() {
        let folder = tempfile::tempdir().unwrap();
        let (image, file) = (folder.path().join("fat"), folder.path().join("grubenv"));
        let content: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&file, &content).unwrap();
        for (bits, mib, cluster) in [("12", 1, "1"), ("16", 8, "1"), ("32", 40, "1"), ("16", 64, "4")] {
            std::fs::write(&image, vec![0; mib << 20]).unwrap();
            if let Err(why) = make(&image, bits, cluster, &file) {
                println!("not run: {why}");
                return;
            }
            let bytes = std::fs::read(&image).unwrap();
            let fat = Fat::open(&bytes).unwrap();
            assert_eq!(fat.bits.to_string(), bits);
            let found = fat.find("grub/grubenv").unwrap().unwrap();
            assert_eq!(found.read(&bytes).unwrap(), content, "FAT{bits}");
            assert_eq!(bytes.bytes(found.place(0..8).unwrap(), 8), content[..8], "FAT{bits}");
            assert_eq!(fat.find("grub/grubenw").unwrap(), None);
            assert!(fat.find("grub").is_err() && fat.find("grub/grubenv/x").is_err());
        }
    }

    #[test]
    fn what_is_no_fat_is_refused_and_no_bytes_make_it_panic() {
        assert!(Fat::open(&vec![0; 4096]).is_err());
        let mut random = crate::replay::Random(1);
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..8192).map(|_| random.next() as u8).collect();
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
            bytes[13] = 1;
            if let Ok(fat) = Fat::open(&bytes) {
                let _ = fat.find("grub/grubenv").map(|found| found.map(|found| found.read(&bytes)));
            }
        }
    }
}
