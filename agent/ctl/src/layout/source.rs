//! An image, and how much of it a reader may take: every bound of [`layout`](super) stands here.
//!
//! A reader asks for structures by place and length and gets them, or [`Halt::Damage`] that names what was expected.
//! Each request is paid for: directories that go in circles, trees that point at themselves and tables that claim
//! more than the image holds run out of budget, and no check elsewhere has to be perfect.

use super::{Extent, ReadAt};
use crate::fail::Failure;
use std::cell::Cell;

/// No structure that is read at once is longer.
pub const TAKE_BYTES_MAX: u64 = 1 << 20;
/// Structures that are read, in sum, in multiples of the image: each is read once, but an ext4 inode table may be passed twice.
pub const READS_MAX: u64 = 2;
/// Extents of all files, as found and as answered. 4 Mi of 16 or 24 bytes: at most 96 MiB of memory. An image of 16 GiB has
/// 4 Mi blocks of 4 KiB.
pub const EXTENTS_MAX: u64 = 4 << 20;
/// Content of all files, in multiples of the image: files may share content where equal content is kept once.
pub const SHARING_MAX: u64 = 8;
/// Names and paths of all entries, with [`NAME_COST_BYTES`] for each: about 1.5 million files.
pub const NAMES_BYTES_MAX: u64 = 256 << 20;
/// What an entry of a folder costs beside its path.
pub const NAME_COST_BYTES: u64 = 96;
/// Longer paths are not made.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longer files are not believed: 16 TiB, what ext4 can hold in blocks of 4 KiB.
pub const FILE_BYTES_MAX: u64 = 1 << 44;

/// Why a reader stops.
#[derive(Debug)]
pub enum Halt {
    /// The image is not what it says: what was expected, what was found.
    Damage(String),
    /// The image cannot be read.
    Unreadable(Failure),
}

/// What readers answer.
pub type Taken<T> = std::result::Result<T, Halt>;

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Halt::Unreadable(failure)
    }
}

/// `damage!("inode 7: expected …, found …")`
macro_rules! damage {
    ($($text:tt)*) => {
        $crate::layout::source::Halt::Damage(format!($($text)*))
    };
}
pub(crate) use damage;

/// An image and what is left of the budgets.
pub struct Source<'i> {
    image: &'i dyn ReadAt,
    bytes: u64,
    reads: Budget,
    extents: Budget,
    content: Budget,
    names: Budget,
}

impl<'i> Source<'i> {
    /// With full budgets.
    pub fn new(image: &'i dyn ReadAt) -> Self {
        let bytes = image.bytes();
        let whole = |times: u64| bytes.saturating_mul(times).saturating_add(TAKE_BYTES_MAX);
        Source {
            image,
            bytes,
            reads: Budget::new("bytes of structures", whole(READS_MAX)),
            extents: Budget::new("extents", EXTENTS_MAX),
            content: Budget::new("bytes of files", whole(SHARING_MAX)),
            names: Budget::new("bytes of paths", NAMES_BYTES_MAX),
        }
    }

    /// The image's length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A structure, called `what` where it is not there.
    pub fn take(&self, what: &str, at: u64, bytes: u64) -> Taken<Vec<u8>> {
        self.within(what, at, bytes)?;
        if bytes > TAKE_BYTES_MAX {
            return Err(damage!("{what}: expected at most {TAKE_BYTES_MAX} bytes, found {bytes}"));
        }
        self.reads.spend(bytes)?;
        let mut out = vec![0; bytes as usize];
        self.image.read_at(at, &mut out)?;
        Ok(out)
    }

    /// The same, but nothing where the image is too short for it: for magic numbers.
    pub fn peek(&self, at: u64, bytes: u64) -> Taken<Option<Vec<u8>>> {
        match self.within("", at, bytes) {
            Ok(_) => self.take("magic", at, bytes).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The extent, if it lies within the image.
    pub fn within(&self, what: &str, at: u64, bytes: u64) -> Taken<Extent> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Extent { at, bytes }),
            _ => {
                Err(damage!("{what}: expected {bytes} bytes at {at}, found an image of {} bytes", self.bytes))
            }
        }
    }

    /// Puts content behind what a file has; neighbours are merged.
    pub fn content(&self, what: &str, file: &mut Vec<Extent>, at: u64, bytes: u64) -> Taken<()> {
        let extent = self.within(what, at, bytes)?;
        self.content.spend(bytes)?;
        match file.last_mut() {
            _ if bytes == 0 => {}
            Some(last) if last.end() == at => last.bytes = last.bytes.saturating_add(bytes),
            _ => {
                self.extent()?;
                file.push(extent);
            }
        }
        Ok(())
    }

    /// Pays for an extent that is kept.
    pub fn extent(&self) -> Taken<()> {
        self.extents.spend(1)
    }

    /// Pays for a name of that length.
    pub fn name(&self, bytes: usize) -> Taken<()> {
        self.names.spend((bytes as u64).saturating_add(NAME_COST_BYTES))
    }
}

/// So many of something may be taken.
struct Budget {
    what: &'static str,
    most: u64,
    left: Cell<u64>,
}

impl Budget {
    fn new(what: &'static str, most: u64) -> Self {
        Budget { what, most, left: Cell::new(most) }
    }

    fn spend(&self, count: u64) -> Taken<()> {
        let over = || damage!("expected at most {} {}, found more", self.most, self.what);
        self.left.set(self.left.get().checked_sub(count).ok_or_else(over)?);
        Ok(())
    }
}

/// The bytes of a structure at a place in it.
pub fn bytes_at<const N: usize>(structure: &[u8], at: usize) -> Taken<[u8; N]> {
    let found = structure.get(at..).and_then(|rest| rest.first_chunk::<N>());
    let short = || damage!("expected {N} bytes at {at} of a structure, found {} in all", structure.len());
    found.copied().ok_or_else(short)
}

/// A little-endian number.
pub fn u16_at(structure: &[u8], at: usize) -> Taken<u16> {
    Ok(u16::from_le_bytes(bytes_at(structure, at)?))
}

/// A little-endian number.
pub fn u32_at(structure: &[u8], at: usize) -> Taken<u32> {
    Ok(u32::from_le_bytes(bytes_at(structure, at)?))
}

/// A little-endian number.
pub fn u64_at(structure: &[u8], at: usize) -> Taken<u64> {
    Ok(u64::from_le_bytes(bytes_at(structure, at)?))
}

/// A number in two halves, which ext4 keeps apart.
pub fn halves(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why<T: std::fmt::Debug>(taken: Taken<T>) -> String {
        match taken {
            Err(Halt::Damage(why)) => why,
            other => panic!("expected damage, found {other:?}"),
        }
    }

    #[test]
    fn nothing_outside_the_image_is_taken() {
        let image = vec![5; 100];
        let source = Source::new(&image);
        assert_eq!(source.take("x", 90, 10).unwrap(), [5; 10]);
        assert!(
            why(source.take("table", 91, 10))
                .contains("table: expected 10 bytes at 91, found an image of 100")
        );
        assert!(why(source.within("x", u64::MAX, 2)).contains("expected 2 bytes"));
        assert!(source.peek(99, 2).unwrap().is_none());
        assert!(why(u32_at(&[1, 2, 3], 0)).contains("expected 4 bytes at 0 of a structure, found 3"));
        assert!(why(u16_at(&[1, 2, 3], usize::MAX)).contains("expected 2 bytes"));
    }

    #[test]
    fn each_budget_ends() {
        let image = vec![0; 2 << 20];
        let source = Source::new(&image);
        assert!(why(source.take("x", 0, TAKE_BYTES_MAX + 1)).contains("at most 1048576 bytes"));
        let takes = (0..).take_while(|_| source.take("x", 0, 1 << 20).is_ok()).count();
        assert_eq!(takes, 5, "twice 2 MiB, and one");
        let mut file = Vec::new();
        let contents = (0..).take_while(|_| source.content("x", &mut file, 0, 1 << 20).is_ok()).count();
        assert_eq!((contents, file.len()), (17, 17), "8 times 2 MiB, and one");
        let extents = (0..).take_while(|_| source.extent().is_ok()).count() as u64;
        assert_eq!(extents, EXTENTS_MAX - 17);
        let names = (0..).take_while(|_| source.name(1 << 20).is_ok()).count();
        assert_eq!(names, 255, "256 MiB, less what each costs beside its bytes");
    }

    #[test]
    fn neighbours_are_one_extent() {
        let image = vec![0; 100];
        let source = Source::new(&image);
        let mut file = Vec::new();
        for (at, bytes) in [(10, 5), (15, 5), (30, 0), (20, 1), (40, 1)] {
            source.content("x", &mut file, at, bytes).unwrap();
        }
        assert_eq!(file, [Extent { at: 10, bytes: 11 }, Extent { at: 40, bytes: 1 }]);
    }
}
