//! Which bytes of an image belong to which file: ext4, erofs and squashfs, read without mounting, without root.
//!
//! A delta is small when each changed file is held against its own old version, and to do that `pack` has to know
//! where in the two images a file lies. This is advice and nothing more: a byte that no reader claims is matched by
//! content, a wrong claim costs bytes on the wire and never a wrong image. So the readers check what keeps them
//! safe, not what fsck checks: checksums, modes and counters are not looked at.
//!
//! What is promised, whatever the image holds: no panic, bounded memory and time ([`source`] names the bounds), and
//! every [`Extent`] lies within the image. A damaged or absurd image is [`Kind::Raw`] with nothing known, and
//! [`Layout::trouble`] says why. An error is given only where the image cannot be read at all.

// What is read here was made by others: whatever could panic on a number of theirs is refused by the compiler.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects
    )
)]

mod erofs;
pub mod ext4;
pub mod source;
mod squashfs;
mod walk;

use crate::fail;
use crate::fail::{Result, Within};
use source::{Halt, Source, Taken};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Neighbouring bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Where they begin.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

impl Extent {
    /// Where what follows begins. Does not overflow for what [`read`] gives: it lies within an image.
    pub const fn end(self) -> u64 {
        self.at.saturating_add(self.bytes)
    }
}

/// A regular file and where its content lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileExtents {
    /// Absolute, as on the device: `/usr/bin/perl`. What is not UTF-8 in it is written `\xNN`.
    pub path: String,
    /// Its length. More than its extents hold where it has holes; do not allocate by it.
    pub bytes: u64,
    /// Its content in the file's order. Holes are left out, and so is what lies behind its end in its last block.
    pub extents: Vec<Extent>,
    /// What is left out of it, by offset in the file and in order: zeros that have no place in the image.
    pub holes: Vec<Extent>,
}

/// What an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3, ext4.
    Ext4,
    /// erofs.
    Erofs,
    /// squashfs 4.0.
    Squashfs,
    /// Nothing that is known here, or too damaged to say.
    #[default]
    Raw,
}

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// What it is.
    pub kind: Kind,
    /// Regular files, sorted by path, each once: of hard links the first path in order. Files of which a byte is
    /// stored compressed, or within an inode of ext4, do not appear. Files may share extents (a file system that
    /// keeps equal content once), in sum at most [`source::SHARING_MAX`] times the image.
    pub files: Vec<FileExtents>,
    /// What is of the file system, neither a file's content nor free; sorted, merged.
    pub metadata: Vec<Extent>,
    /// Why nothing, or less than there is, is known of something that began like a known file system.
    pub trouble: Option<String>,
}

/// An image: a file, a block device, or bytes in memory.
pub trait ReadAt: Sync {
    /// Its length.
    fn bytes(&self) -> u64;
    /// Fills `out` from there, or fails.
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// Looks into an image.
pub fn read(image: &dyn ReadAt) -> Result<Layout> {
    Ok(find(image)?.layout)
}

/// How much of an image's content is stored compressed by its file system.
pub fn stored_compressed(image: &dyn ReadAt) -> Result<Compressed> {
    Ok(find(image)?.compressed)
}

/// What a file system stores compressed. A delta sees nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compressed {
    /// So many files, or parts of files that are compressed together.
    pub files: u64,
    /// Their length in sum.
    pub content_bytes: u64,
    /// What they take in the image.
    pub stored_bytes: u64,
}

impl Compressed {
    fn add(&mut self, content_bytes: u64, stored_bytes: u64) {
        self.files = self.files.saturating_add(1);
        self.content_bytes = self.content_bytes.saturating_add(content_bytes);
        self.stored_bytes = self.stored_bytes.saturating_add(stored_bytes);
    }
}

/// What a reader found.
struct Found {
    layout: Layout,
    compressed: Compressed,
}

/// Nothing where another file system stands, or none.
type Reader = fn(&Source) -> Taken<Option<Found>>;

fn find(image: &dyn ReadAt) -> Result<Found> {
    let source = Source::new(image);
    let nothing = |trouble| Found {
        layout: Layout { trouble, ..Layout::default() },
        compressed: Compressed::default(),
    };
    for reader in [ext4::read as Reader, erofs::read, squashfs::read] {
        match reader(&source) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(Halt::Damage(why)) => return Ok(nothing(Some(why))),
            Err(Halt::Unreadable(failure)) => return Err(failure),
        }
    }
    Ok(nothing(None))
}

/// An opened image: a file or a block device, and its length when it was opened.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    bytes: u64,
}

impl ImageFile {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self> {
        ImageFile::new(File::open(path).within(|| path.display())?).within(|| path.display())
    }

    /// Of a file that is open. Its position moves.
    pub fn new(mut file: File) -> Result<Self> {
        if file.metadata()?.is_dir() {
            return Err(fail!("expected an image, found a folder"));
        }
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(ImageFile { file, bytes })
    }
}

impl ReadAt for ImageFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let bytes = out.len();
        self.file.read_exact_at(out, at).within(|| format!("reading {bytes} bytes at {at}"))
    }
}

impl ReadAt for &[u8] {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)).and_then(|b| b.get(..out.len()));
        let found = || fail!("expected {} bytes at {at}, found an image of {} bytes", out.len(), self.len());
        let from = from.ok_or_else(found)?;
        out.copy_from_slice(from);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        ReadAt::read_at(&self.as_slice(), at, out)
    }
}

/// Sorted, merged, without empty ones.
pub(crate) fn merged(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| extent.bytes > 0);
    extents.sort_unstable();
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if extent.at <= last.end() => {
                last.bytes = extent.end().max(last.end()).saturating_sub(last.at);
            }
            _ => merged.push(extent),
        }
    }
    merged
}
