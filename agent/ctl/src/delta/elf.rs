//! As much of an ELF file as tells where its bytes stand in memory (System V ABI, chapters 4 and 5): 64 bits, little endian.
//! A file that is cut short or nonsense is no executable, and nothing worse.
//!
//! What is read is a file's content without its holes, as it stands in an image: linkers for AArch64 align what is loaded to 64 KiB,
//! data that the loader fills is zero in the file, and mkfs makes holes of both.

use crate::layout::Extent;

/// What is known of an executable or a library.
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// What is loaded, by offset in the file.
    pub loads: Vec<Load>,
    /// Sections that have bytes in the file, by offset.
    pub sections: Vec<Section>,
    holes: Holes,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy)]
pub struct Load {
    /// Where it stands in the file.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
    /// Where it stands in memory.
    pub address: u64,
    /// How much of it there.
    pub memory: u64,
    /// Does it hold instructions?
    pub code: bool,
}

/// A section.
#[derive(Clone, Copy)]
pub struct Section {
    /// Where it stands in the file.
    pub offset: u64,
    /// How much of it.
    pub bytes: u64,
    /// Does it hold instructions?
    pub code: bool,
}

impl Section {
    fn of(load: &Load) -> Section {
        Section { offset: load.offset, bytes: load.bytes, code: load.code }
    }
}

impl Load {
    /// The address of a byte of the file, if it is one of these.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let within = offset.checked_sub(self.offset)?;
        (within < self.bytes).then(|| self.address + within)
    }
}

impl Elf {
    /// Reads the tables.
    pub fn read(file: &[u8], holes: &Holes) -> Option<Elf> {
        if !file.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let mut elf =
            Elf { machine: half(file, 18)?, loads: Vec::new(), sections: Vec::new(), holes: holes.clone() };
        for at in table(file, 32, 54, 56)? {
            let at = usize::try_from(at).ok()?;
            let load = Load {
                offset: long(file, at + 8)?,
                bytes: long(file, at + 32)?,
                address: long(file, at + 16)?,
                memory: long(file, at + 40)?,
                code: word(file, at + 4)? & PF_X > 0,
            };
            let sane = [load.offset, load.bytes, load.address, load.memory].iter().all(|n| *n < SANE);
            if word(file, at)? == PT_LOAD && sane {
                elf.loads.push(load);
            }
        }
        elf.loads.sort_by_key(|load| load.offset);
        for at in table(file, 40, 58, 60).unwrap_or_default() {
            let at = usize::try_from(holes.content_offset(at)).ok()?;
            let Some(section) = section(file, at) else { continue };
            elf.sections.extend(section);
        }
        if elf.sections.is_empty() {
            elf.sections.extend(elf.loads.iter().map(Section::of)); // stripped of all that is not loaded
        }
        elf.sections.sort_by_key(|section| section.offset);
        Some(elf)
    }

    /// The address of a byte of the content, and how many follow it in the same load.
    pub fn address_of(&self, content: u64) -> Option<(u64, u64)> {
        let offset = self.holes.file_offset(content);
        let of = |load: &Load| Some((load.address_of(offset)?, load.offset + load.bytes - offset));
        let (address, room) = self.loads.iter().find_map(of)?;
        Some((address, room.min(self.holes.after(offset) - offset)))
    }

    /// The section of a byte of the content: the address where it begins, and whether it is code.
    pub fn section_of(&self, content: u64) -> Option<(Option<u64>, bool)> {
        let section = self.section_at(self.holes.file_offset(content))?;
        let address = self.loads.iter().find_map(|load| load.address_of(section.offset));
        Some((address, section.code))
    }

    /// Where in the content the next section after a byte begins, or its own ends.
    pub fn boundary_after(&self, content: u64) -> u64 {
        let offset = self.holes.file_offset(content);
        let next = self.sections.partition_point(|section| section.offset <= offset);
        let begins = self.sections.get(next).map_or(SANE, |section| section.offset);
        let own =
            self.section_at(offset).map_or(begins, |section| begins.min(section.offset + section.bytes));
        self.holes.content_offset(own)
    }

    fn section_at(&self, offset: u64) -> Option<&Section> {
        let before = self.sections.partition_point(|section| section.offset <= offset).checked_sub(1)?;
        self.sections.get(before).filter(|section| offset < section.offset + section.bytes)
    }
}

/// The parts of a file that its content lacks: offset in the file, length.
#[derive(Clone, Default)]
pub struct Holes(Vec<(u64, u64)>);

impl Holes {
    /// In order.
    pub fn of(holes: &[Extent]) -> Holes {
        Holes(holes.iter().map(|hole| (hole.at, hole.bytes)).collect())
    }

    fn file_offset(&self, content: u64) -> u64 {
        self.0
            .iter()
            .fold(content, |offset, (from, bytes)| if *from <= offset { offset + bytes } else { offset })
    }

    fn content_offset(&self, offset: u64) -> u64 {
        let before = self.0.iter().map(|(from, bytes)| (*bytes).min(offset.saturating_sub(*from)));
        offset - before.sum::<u64>()
    }

    /// Where the next hole after an offset begins.
    fn after(&self, offset: u64) -> u64 {
        self.0.iter().map(|(from, _)| *from).find(|from| *from > offset).unwrap_or(u64::MAX)
    }
}

/// `None`: it lies beyond the end. `Some(None)`: it has no bytes here.
fn section(file: &[u8], at: usize) -> Option<Option<Section>> {
    let (kind, flags) = (word(file, at + 4)?, long(file, at + 8)?);
    let section = Section {
        offset: long(file, at + 24)?,
        bytes: long(file, at + 32)?,
        code: flags & SHF_EXECINSTR > 0,
    };
    let empty = kind == SHT_NULL || kind == SHT_NOBITS || section.bytes == 0;
    let sane = section.offset < SANE && section.bytes < SANE;
    Some((!empty && sane).then_some(section))
}

/// Offsets of a table's entries: its offset, its entries' size and their number stand at these places of the header.
fn table(file: &[u8], offset: usize, size: usize, count: usize) -> Option<Vec<u64>> {
    let (offset, size, count) = (long(file, offset)?, half(file, size)?, half(file, count)?);
    let entries = (0..u64::from(count)).map(|index| offset.checked_add(index * u64::from(size)));
    entries.map(|at| at.filter(|at| *at < SANE)).collect()
}

fn half(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

fn long(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?))
}

/// `e_machine` of AArch64.
pub const AARCH64: u16 = 183;
/// `e_machine` of x86-64.
pub const X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;
const SHT_NULL: u32 = 0;
const SHT_NOBITS: u32 = 8;
const SHF_EXECINSTR: u64 = 4;
/// Sums of such numbers do not overflow; kernels, which stand above, are not loaded by anybody's map.
const SANE: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and two loads: 0x1000 of data at 0x400000, code behind it a page further in memory than in the file.
    fn sample() -> Vec<u8> {
        let mut file = vec![0; 0x3000];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = X86_64 as u8;
        (file[32], file[54], file[56]) = (64, 56, 2);
        let loads = [(0u64, 0x40_0000u64, 0x1000u64, 4), (0x1000, 0x40_2000, 0x800, 5)];
        for (at, (offset, address, bytes, flags)) in [64, 120].into_iter().zip(loads) {
            (file[at], file[at + 4]) = (PT_LOAD as u8, flags);
            for (place, value) in [(8, offset), (16, address), (32, bytes), (40, bytes + 0x500)] {
                file[at + place..at + place + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        file
    }

    #[test]
    fn addresses_are_those_of_the_loads() {
        let elf = Elf::read(&sample(), &Holes::default()).unwrap();
        let cases = [
            (0, Some((0x40_0000, 0x1000))),
            (0xfff, Some((0x40_0fff, 1))),
            (0x1000, Some((0x40_2000, 0x800))),
            (0x17ff, Some((0x40_27ff, 1))),
            (0x1800, None),
        ];
        for (offset, expected) in cases {
            assert_eq!(elf.address_of(offset), expected, "{offset:#x}");
        }
        let code = |offset| elf.section_of(offset).map(|(_, code)| code);
        assert_eq!([code(0), code(0x1000), code(0x1900)], [Some(false), Some(true), None]);
        assert_eq!([0, 0x1000, 0x1900].map(|at| elf.boundary_after(at)), [0x1000, 0x1800, SANE]);
    }

    /// Between 0x1000 and 0x4000 nothing is loaded: three blocks, which the content lacks.
    #[test]
    fn what_stands_behind_holes_has_its_place_in_the_file() {
        let mut file = sample();
        file[120 + 8..128 + 8].copy_from_slice(&0x4000u64.to_le_bytes()); // where the second load begins
        file[40..48].copy_from_slice(&0x5000u64.to_le_bytes()); // where the sections' table begins, one of 64 bytes
        (file[58], file[60]) = (64, 1);
        let section = &mut file[0x2000..0x2040]; // of which the first 0x100 bytes are one section
        (section[4], section[8]) = (1, SHF_EXECINSTR as u8);
        section[24..32].copy_from_slice(&0x4000u64.to_le_bytes());
        section[32..40].copy_from_slice(&0x100u64.to_le_bytes());
        let elf = Elf::read(&file, &Holes(vec![(0x1000, 0x3000)])).unwrap();
        assert_eq!(elf.address_of(0xfff), Some((0x40_0fff, 1)));
        assert_eq!(elf.address_of(0x1000), Some((0x40_2000, 0x800)));
        assert_eq!([0, 0x1000].map(|at| elf.boundary_after(at)), [0x1000, 0x1100]);
        assert_eq!(elf.section_of(0x10ff), Some((Some(0x40_2000), true)));
        assert_eq!([0xfff, 0x1100].map(|at| elf.section_of(at)), [None, None]);
    }

    /// What comes out of a damaged file is used with nothing but sums: they must not overflow.
    #[test]
    fn a_damaged_file_is_no_executable_or_one_with_sane_numbers() {
        let file = sample();
        for bytes in 0..200 {
            let cut = Elf::read(&file[..bytes], &Holes::default());
            assert!(cut.is_none() || bytes >= 168, "{bytes} bytes");
        }
        for at in 0..176 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let Some(elf) = Elf::read(&damaged, &Holes::default()) else { continue };
                let ends = elf
                    .loads
                    .iter()
                    .flat_map(|l| [l.offset + l.bytes, l.address + l.memory, l.address + l.bytes]);
                assert!(
                    ends.chain(elf.sections.iter().map(|s| s.offset + s.bytes)).all(|end| end < 2 * SANE)
                );
            }
        }
    }
}
