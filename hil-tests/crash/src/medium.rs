//! A disk that is looked at: bytes in memory, what a crash left of the writes on top of them, and parts of either.

use crate::log::SECTOR;
use std::collections::BTreeMap;

/// Something that can be read from anywhere. What lies outside of it reads as zeros, as a damaged file system may ask for.
pub trait Medium {
    /// Fills `out` from byte `at`.
    fn read(&self, at: u64, out: &mut [u8]);

    /// The same, as a vector.
    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        self.read(at, &mut out);
        out
    }
}

impl Medium for [u8] {
    fn read(&self, at: u64, out: &mut [u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = self.get(at..).unwrap_or_default();
        let length = found.len().min(out.len());
        let (head, tail) = out.split_at_mut(length);
        head.copy_from_slice(found.get(..length).unwrap_or_default());
        tail.fill(0);
    }
}

impl Medium for Vec<u8> {
    fn read(&self, at: u64, out: &mut [u8]) {
        self.as_slice().read(at, out);
    }
}

/// A disk as a crash left it: what was safe, and over it the sectors that made it although nothing promised that.
#[derive(Clone, Debug)]
pub struct Rebuilt<'a> {
    safe: &'a [u8],
    over: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Rebuilt<'a> {
    /// Over what is safe.
    pub const fn over(safe: &'a [u8]) -> Rebuilt<'a> {
        Rebuilt { safe, over: BTreeMap::new() }
    }

    /// One more sector that made it; the later one counts.
    pub fn put(&mut self, sector: u64, content: &'a [u8]) {
        self.over.insert(sector, content);
    }

    /// What lies over the safe bytes between these two: sectors and their content.
    pub fn differing(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &'a [u8])> {
        let bytes = SECTOR as u64;
        self.over.range(from / bytes..to.div_ceil(bytes)).map(|(sector, content)| (*sector, *content))
    }

    /// The size of the disk, in bytes.
    pub const fn size(&self) -> u64 {
        self.safe.len() as u64
    }
}

impl Medium for Rebuilt<'_> {
    fn read(&self, at: u64, out: &mut [u8]) {
        self.safe.read(at, out);
        let bytes = SECTOR as u64;
        let end = at.saturating_add(out.len() as u64);
        for (sector, content) in self.over.range(at / bytes..end.div_ceil(bytes)) {
            let start = sector * bytes;
            let (from, to) = (start.max(at), (start + bytes).min(end));
            let source = content.get((from - start) as usize..(to - start) as usize);
            let place = out.get_mut((from - at) as usize..(to - at) as usize);
            if let (Some(source), Some(place)) = (source, place) {
                place.copy_from_slice(source);
            }
        }
    }
}

/// A part of a disk.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The disk.
    pub disk: &'a dyn Medium,
    /// Where the part begins, in bytes.
    pub start: u64,
    /// Its size, in bytes.
    pub size: u64,
}

impl Medium for Part<'_> {
    fn read(&self, at: u64, out: &mut [u8]) {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(out.len());
        let (head, tail) = out.split_at_mut(left);
        self.disk.read(self.start.saturating_add(at), head);
        tail.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_over_the_safe_ones_shows_wherever_it_is_read_from() {
        let (safe, new) = (vec![1; 4 * SECTOR], vec![2; SECTOR]);
        let mut disk = Rebuilt::over(&safe);
        disk.put(2, &new);
        #[rustfmt::skip]
        let cases: [(u64, usize, usize, usize); 6] = [
            // at    length  of the new one  behind it
            (0,      1024,   0,              0),
            (1023,   2,      1,              0),
            (1024,   512,    512,            0),
            (1100,   10,     10,             0),
            (1535,   3,      1,              2),
            (1000,   600,    512,            64),
        ];
        for (at, length, new, behind) in cases {
            let mut expected = vec![1; length];
            let first = length - behind - new;
            expected[first..first + new].fill(2);
            assert_eq!(disk.bytes(at, length), expected, "{length} bytes at {at}");
        }
        assert_eq!(disk.bytes(2040, 16), [[1; 8], [0; 8]].concat(), "behind the end there are zeros");
    }

    #[test]
    fn a_part_shows_nothing_of_its_neighbours() {
        let disk: Vec<u8> = (0..=255).collect();
        let part = Part { disk: &disk, start: 16, size: 4 };
        assert_eq!(part.bytes(0, 6), [16, 17, 18, 19, 0, 0]);
        assert_eq!(part.bytes(3, 2), [19, 0]);
        assert_eq!(part.bytes(u64::MAX, 2), [0, 0]);
    }
}
