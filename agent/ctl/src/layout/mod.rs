//! Which bytes of an image belong together: the interface that [`delta`](crate::delta) is built on.

use crate::Result;
use crate::fail::Within;
use std::os::unix::fs::FileExt;

/// Bytes of an image that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the image.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

/// Where a file's content stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileExtents {
    /// Its path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// In the file's order; holes left out.
    pub extents: Vec<Extent>,
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linux's ext4.
    Ext4,
    /// The read-only file system of Android and others.
    Erofs,
    /// The compressed read-only file system.
    Squashfs,
    /// Nothing that is known here.
    Raw,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it is.
    pub kind: Kind,
    /// Its files, by path.
    pub files: Vec<FileExtents>,
    /// What belongs to no file, in order.
    pub metadata: Vec<Extent>,
}

/// Reads what an image is.
pub fn read(_image: &dyn ReadAt) -> Result<Layout> {
    Ok(Layout { kind: Kind::Raw, files: Vec::new(), metadata: Vec::new() })
}

/// An image that can be read at any place.
pub trait ReadAt: Sync {
    /// How long it is.
    fn bytes(&self) -> u64;
    /// Fills `out` with what stands at `at`.
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()>;
}

impl ReadAt for std::fs::File {
    fn bytes(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.read_exact_at(out, at).within(|| format!("read {} bytes at {at}", out.len()))
    }
}

impl ReadAt for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let from = self.get(at as usize..).and_then(|rest| rest.get(..out.len()));
        let from = from.ok_or_else(|| {
            crate::fail!("expected {} bytes at {at}, found an image of {}", out.len(), self.len())
        })?;
        out.copy_from_slice(from);
        Ok(())
    }
}
