//! A place on a medium: part of a file or of a block device, of one size for ever.
//!
//! Reading and writing keep to a few rules. A write is one pwrite of the whole stretch (more only where the system takes
//! less of it) and one fdatasync, never a truncation and never a new file: GRUB knows its block by the sectors it stands
//! on. What is read back comes from the medium: O_DIRECT where the file system and the alignment allow it, else after
//! the pages were dropped.

use crate::Result;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where one copy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    offset: i64,
    bytes: usize,
    force_ro: Option<PathBuf>,
}

impl Place {
    /// `bytes` bytes from `offset` of the file or block device `path`; a negative offset counts from its end, as in
    /// fw_env.config.
    pub fn new(path: impl Into<PathBuf>, offset: i64, bytes: usize) -> Place {
        Place { path: path.into(), offset, bytes, force_ro: None }
    }

    /// The device is an eMMC boot partition, write-protected by the kernel but while this sysfs file
    /// (`/sys/class/block/mmcblk0boot0/force_ro`) holds a 0.
    pub fn with_force_ro(mut self, path: impl Into<PathBuf>) -> Place {
        self.force_ro = Some(path.into());
        self
    }

    /// The file or device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Do two places share a byte? (As they are written down: a link to the same device is not seen through.)
    pub fn overlaps(&self, other: &Place) -> bool {
        let same_side = self.offset.signum() * other.offset.signum() >= 0;
        let end = |place: &Place| place.offset.saturating_add_unsigned(place.bytes as u64);
        self.path == other.path && same_side && self.offset < end(other) && other.offset < end(self)
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut file = self.open(OpenOptions::new().read(true), "read")?;
        let at = self.position(&mut file)?;
        self.fill(&file, at)
    }

    /// Of which size is the copy of a U-Boot environment that begins here, and has it a flags byte? For `doctor`, where
    /// the CRC is wrong for the size that the place has.
    pub fn find_size(&self) -> Option<(usize, bool)> {
        let mut file = File::open(&self.path).ok()?;
        let at = self.position(&mut file).ok()?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at)).ok()?;
        file.take(crate::uboot::ENV_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        crate::uboot::find_size(&bytes)
    }

    /// All of it, from the medium as far as the system lets one.
    pub fn read_back(&self) -> Result<Vec<u8>> {
        if let Some(bytes) = self.read_direct() {
            return Ok(bytes);
        }
        let mut file = self.open(OpenOptions::new().read(true), "read back")?;
        let at = self.position(&mut file)?;
        // Only clean pages can be dropped, and fdatasync has just made them clean. That it may be ignored (tmpfs) is
        // fine: what has no medium behind it cannot differ from it.
        let (start, len) = (at.cast_signed(), i64::try_from(self.bytes).unwrap_or(0));
        let _ = posix_fadvise(&file, start, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        self.fill(&file, at)
    }

    /// What an earlier write has left in the cache reaches the medium. Where that fails, the pages are dropped with it, and
    /// what is read is what the medium holds.
    pub fn settle(&self) {
        let _ = self.open(OpenOptions::new().read(true), "settle").map(|file| file.sync_data());
    }

    /// Overwrites from byte `at` of the place, durably. Refuses to go beyond its end, or to grow a file.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.bytes) {
            let (path, size, len) = (self.path.display(), self.bytes, bytes.len());
            return Err(fault!(
                Full,
                "{path}: expected a write inside {size} bytes, found {len} bytes at {at}"
            ));
        }
        let _writable = Writable::make(self.force_ro.as_deref())?;
        let mut file = self.open(OpenOptions::new().read(true).write(true), "write")?;
        let start = self.position(&mut file)?;
        // Whole in one call, but where a signal or a full file system cuts it short: then the rest follows, or the reason
        // comes out. Half of a change must not be left standing for want of a second call.
        file.write_all_at(bytes, start + at as u64)
            .map_err(|e| self.fault(format_args!("write {} bytes", bytes.len()), &e))?;
        file.sync_data().map_err(|e| self.fault("fdatasync", &e))
    }

    fn open(&self, options: &OpenOptions, doing: &str) -> Result<File> {
        options.open(&self.path).map_err(|e| self.fault(doing, &e))
    }

    /// The place's first byte, from the start of the file. The place lies inside the file, or it is a Fault.
    fn position(&self, file: &mut File) -> Result<u64> {
        let size = file.seek(SeekFrom::End(0)).map_err(|e| self.fault("find the size", &e))?;
        let start = if self.offset < 0 {
            size.checked_add_signed(self.offset)
        } else {
            Some(self.offset.unsigned_abs())
        };
        match start {
            Some(start) if start.checked_add(self.bytes as u64).is_some_and(|end| end <= size) => Ok(start),
            _ => {
                let (path, bytes, offset) = (self.path.display(), self.bytes, self.offset);
                Err(fault!(
                    Corrupt,
                    "{path}: expected {bytes} bytes at {offset}, found a size of {size} bytes"
                ))
            }
        }
    }

    fn fill(&self, file: &File, at: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        file.read_exact_at(&mut bytes, at).map_err(|e| self.fault("read", &e))?;
        Ok(bytes)
    }

    /// With O_DIRECT: `None` where the file system, the offset or the size do not allow it.
    fn read_direct(&self) -> Option<Vec<u8>> {
        let mut file =
            OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&self.path).ok()?;
        let at = self.position(&mut file).ok()?;
        if !self.bytes.is_multiple_of(512) || !at.is_multiple_of(512) {
            return None;
        }
        let mut room = vec![0; self.bytes + DIRECT_ALIGN];
        let skip = room.as_ptr().align_offset(DIRECT_ALIGN);
        let aligned = room.get_mut(skip..)?.get_mut(..self.bytes)?;
        file.read_exact_at(aligned, at).ok()?;
        Some(aligned.to_vec())
    }

    fn fault(&self, doing: impl Display, error: &io::Error) -> Fault {
        let (path, device) = (
            self.path.display(),
            std::fs::metadata(&self.path).is_ok_and(|m| m.file_type().is_block_device()),
        );
        match error.kind() {
            ErrorKind::NotFound => fault!(NotFound, "{path}: {doing}: {error}"),
            ErrorKind::ReadOnlyFilesystem => fault!(ReadOnly, "{path}: {doing}: {error}"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                fault!(Full, "{path}: {doing}: {error}")
            }
            ErrorKind::PermissionDenied if device => {
                fault!(ReadOnly, "{path}: {doing}: {error} (write-protected?)")
            }
            _ => fault!(Io, "{path}: {doing}: {error}"),
        }
    }
}

/// Memory for O_DIRECT: no block device asks for more than its logical block, and none has one above a page.
const DIRECT_ALIGN: usize = 4096;

/// Lifts the kernel's write protection while it lives.
struct Writable<'a>(Option<&'a Path>);

impl<'a> Writable<'a> {
    fn make(force_ro: Option<&'a Path>) -> Result<Self> {
        if let Some(path) = force_ro {
            std::fs::write(path, "0")
                .map_err(|e| fault!(ReadOnly, "{}: lift write protection: {e}", path.display()))?;
        }
        Ok(Writable(force_ro))
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::write(path, "1"); // it protects against accidents only: not worth failing a good write
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    fn file_of(bytes: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, vec![b'.'; bytes]).unwrap();
        (dir, path)
    }

    #[test]
    fn a_write_touches_its_place_and_nothing_beside_it() {
        #[rustfmt::skip]
        let cases = [
            // offset  start in a file of 4096
            (512,      512),
            (-1024,    3072),
            (0,        0),
            (100,      100),
        ];
        for (offset, start) in cases {
            let (_dir, path) = file_of(4096);
            let place = Place::new(&path, offset, 1024);
            place.write(0, &[b'x'; 1024]).unwrap();
            place.write(4, b"y").unwrap();
            let mut expected = vec![b'.'; 4096];
            expected[start..start + 1024].fill(b'x');
            expected[start + 4] = b'y';
            assert_eq!(std::fs::read(&path).unwrap(), expected, "offset {offset}");
            assert_eq!(place.read().unwrap(), expected[start..start + 1024]);
            assert_eq!(place.read_back().unwrap(), expected[start..start + 1024]);
        }
    }

    #[test]
    fn a_place_that_does_not_fit_is_a_fault_and_the_file_never_grows() {
        let (_dir, path) = file_of(1000);
        for place in
            [Place::new(&path, 0, 1024), Place::new(&path, -2000, 1000), Place::new(&path, i64::MAX, 1024)]
        {
            assert_eq!(place.read().unwrap_err().kind, FaultKind::Corrupt, "{place:?}");
            assert_eq!(place.write(0, b"x").unwrap_err().kind, FaultKind::Corrupt, "{place:?}");
        }
        assert_eq!(Place::new(&path, 0, 1000).write(999, b"xy").unwrap_err().kind, FaultKind::Full);
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'.'; 1000]);
        assert_eq!(Place::new("/nowhere", 0, 1024).read().unwrap_err().kind, FaultKind::NotFound);
    }

    /// What nothing can be made durable on: /dev/null takes every write, and fdatasync(2) of it is an error.
    #[test]
    fn a_write_that_cannot_be_made_durable_is_a_fault() {
        let fault = Place::new("/dev/null", 0, 0).write(0, b"").unwrap_err();
        assert!(fault.what.contains("fdatasync"), "{fault}");
    }

    #[test]
    fn write_protection_is_lifted_for_the_write_and_put_back() {
        let (dir, path) = file_of(1024);
        let force_ro = dir.path().join("force_ro");
        std::fs::write(&force_ro, "1").unwrap();
        Place::new(&path, 0, 1024).with_force_ro(&force_ro).write(0, b"x").unwrap();
        assert_eq!(std::fs::read(&force_ro).unwrap(), b"1");
        let fault = Place::new(&path, 0, 1024).with_force_ro("/nowhere/force_ro").write(0, b"y").unwrap_err();
        assert_eq!(fault.kind, FaultKind::ReadOnly);
        assert_eq!(std::fs::read(&path).unwrap()[0], b'x');
    }

    #[test]
    fn places_that_share_a_byte_overlap() {
        let at = |offset| Place::new("/dev/x", offset, 1024);
        assert!(at(0).overlaps(&at(1023)) && at(-1024).overlaps(&at(-2047)));
        assert!(!at(0).overlaps(&at(1024)) && !at(-1024).overlaps(&at(-2048)) && !at(0).overlaps(&at(-1024)));
        assert!(!at(0).overlaps(&Place::new("/dev/y", 0, 1024)));
    }
}
