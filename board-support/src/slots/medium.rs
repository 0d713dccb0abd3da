//! One opened device or image file: writes past the page cache where the medium takes it, and the next best
//! thing where it does not.
//!
//! What is guaranteed is said at [`Access`]. The last bytes of an artifact that do not fill a block always go through
//! the page cache of the same file (the kernel then reads, changes and writes that block), so that no byte beyond the
//! artifact changes; an O_DIRECT read of that block makes the kernel write the page first (kiocb_write_and_wait in
//! mm/filemap.c), so it is read from the medium as well.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::seam::Result;
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::libc::off_t;

use crate::board::SLOT_ALIGN;

/// O_DIRECT wants memory, offset and length at multiples of the medium's block size; 4096 suits all.
const BLOCK: u64 = SLOT_ALIGN;

/// Without O_DIRECT, so many bytes are at most in the page cache and not yet on the medium: 4 MiB, 16 segments.
const UNWRITTEN_BYTES_MAX: u64 = 4 << 20;

/// How an opened slot is reached, and what that guarantees:
///
/// | | a write has returned | `sync` has returned | `read_back` gives |
/// |---|---|---|---|
/// | Direct (O_DIRECT) | the device has the bytes, perhaps in its volatile cache | fdatasync: the device's cache is flushed | what the device answers; the kernel keeps no copy. The device itself may answer from its cache |
/// | Buffered | the page cache has the bytes; at most 4 MiB of them are not yet written | the same | the pages are written and dropped (POSIX_FADV_DONTNEED) before the read. The kernel may keep pages that somebody has mapped or locked, and then answers from memory |
///
/// On a file system without a medium (tmpfs) both mean nothing, and on an image file the guarantee is that of the
/// file system below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache.
    Direct,
    /// Through the page cache, which is written and dropped again and again.
    Buffered,
}

/// What a path opened to, whatever its name: device number, and 0 or the file's inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// A block device.
    Block {
        /// Its device number.
        device: u64,
    },
    /// A regular file.
    File {
        /// The device number of its file system.
        on: u64,
        /// Its inode.
        inode: u64,
    },
}

/// The identity of what is open, or why it is no place for slots.
pub(super) fn identity(file: &File, path: &Path) -> Result<Identity> {
    let meta = file.metadata().map_err(|e| io_fault("stat", path, &e))?;
    if meta.file_type().is_block_device() {
        Ok(Identity::Block { device: meta.rdev() })
    } else if meta.is_file() {
        Ok(Identity::File { on: meta.dev(), inode: meta.ino() })
    } else {
        Err(fault!(Refused, "{}: expected a block device or a file, found neither", path.display()))
    }
}

/// The length of a file or device, in bytes.
pub(super) fn length(mut file: &File, path: &Path) -> Result<u64> {
    file.seek(SeekFrom::End(0)).map_err(|e| io_fault("find the end of", path, &e))
}

/// The one buffer between O_DIRECT and memory of the caller's that does not begin at a multiple of [`BLOCK`], as this one does. It
/// is allocated when it is first needed.
#[derive(Default)]
pub(super) struct Bounce {
    memory: Vec<u8>,
}

/// 64 KiB: resident for as long as slots are open. The installer's segments need none of it.
const BOUNCE_BYTES: usize = 64 << 10;

impl Bounce {
    fn get(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = vec![0; BOUNCE_BYTES + BLOCK as usize];
        }
        let skip = self.memory.as_ptr().align_offset(BLOCK as usize);
        &mut self.memory[skip..skip + BOUNCE_BYTES]
    }
}

/// An opened device or image file.
pub(super) struct Medium {
    path: PathBuf,
    pub(super) identity: Identity,
    pub(super) writable: bool,
    plain: File,
    direct: Option<File>,
    /// Bytes that stand only in the page cache, for all that is known.
    unwritten: u64,
}

impl Medium {
    /// Opens `path` for reading, or for writing too. `exclusive`: nobody else may hold it or any part of it (a block
    /// device opened whole, O_EXCL); else a writer takes the file's lock.
    pub(super) fn open(path: &Path, writable: bool, exclusive: bool) -> Result<Medium> {
        let busy = |how: &str| fault!(Busy, "{}: {how}", path.display());
        let flags = if writable && exclusive { OFlag::O_EXCL } else { OFlag::empty() };
        let plain = open(path, writable, flags).map_err(|e| match e.raw_os_error() {
            Some(code) if code == nix::errno::Errno::EBUSY as i32 => {
                busy("expected a device of our own, found it mounted, or held by another program")
            }
            _ => io_fault("open", path, &e),
        })?;
        if writable && !exclusive {
            plain.try_lock().map_err(|e| match e {
                std::fs::TryLockError::WouldBlock => busy("expected no other writer, found it locked"),
                std::fs::TryLockError::Error(e) => io_fault("lock", path, &e),
            })?;
        }
        let identity = identity(&plain, path)?;
        // A medium that does not know O_DIRECT says EINVAL; a path that means something else by now is not ours.
        let direct = open(path, writable, OFlag::O_DIRECT).ok();
        let direct = direct.filter(|file| self::identity(file, path) == Ok(identity));
        Ok(Medium { path: path.to_path_buf(), identity, writable, plain, direct, unwritten: 0 })
    }

    /// How a range that begins at `offset` is reached.
    pub(super) fn access(&self, offset: u64) -> Access {
        if self.direct.is_some() && offset.is_multiple_of(BLOCK) { Access::Direct } else { Access::Buffered }
    }

    /// Writes `bytes` at `at`: whole blocks past the page cache, the rest through it.
    pub(super) fn write(&mut self, bounce: &mut Bounce, at: u64, bytes: &[u8]) -> Result<()> {
        let whole = match self.access(at) {
            Access::Direct => bytes.len() - bytes.len() % BLOCK as usize,
            Access::Buffered => 0,
        };
        let (blocks, rest) = bytes.split_at(whole);
        let mut done = 0;
        let step = if is_aligned(blocks) { SEGMENT_BYTES } else { BOUNCE_BYTES };
        for part in blocks.chunks(step) {
            let aligned = match is_aligned(part) {
                true => part,
                false => {
                    let copy = &mut bounce.get()[..part.len()];
                    copy.copy_from_slice(part);
                    copy
                }
            };
            match self.direct.as_ref().map(|file| file.write_all_at(aligned, at + done as u64)) {
                Some(Ok(())) => done += part.len(),
                Some(Err(e)) if e.kind() != io::ErrorKind::InvalidInput => {
                    return Err(io_fault("write", &self.path, &e));
                }
                _ => {
                    // O_DIRECT was taken at the opening and refused now (some file systems and stacked devices).
                    self.direct = None;
                    break;
                }
            }
        }
        let rest = if done < whole { &bytes[done..] } else { rest };
        self.write_plain(at + (bytes.len() - rest.len()) as u64, rest)
    }

    fn write_plain(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.plain.write_all_at(bytes, at).map_err(|e| io_fault("write", &self.path, &e))?;
        self.unwritten += bytes.len() as u64;
        if self.unwritten >= UNWRITTEN_BYTES_MAX { self.sync() } else { Ok(()) }
    }

    /// Returns when everything that was written stands on the medium, and drops it from the page cache.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.plain.sync_data().map_err(|e| io_fault("fdatasync", &self.path, &e))?;
        if self.unwritten > 0 {
            self.unwritten = 0;
            self.forget(0, 0); // from 0, length 0: the whole file (posix_fadvise(2))
        }
        Ok(())
    }

    /// Fills `out` from `at`, from the medium as far as [`Access`] says.
    pub(super) fn read(&mut self, bounce: &mut Bounce, at: u64, out: &mut [u8]) -> Result<()> {
        if self.direct.is_some() && self.read_direct(bounce, at, out)? {
            return Ok(());
        }
        if self.unwritten > 0 {
            self.sync()?;
        }
        self.forget(at, out.len() as u64);
        self.plain.read_exact_at(out, at).map_err(|e| io_fault("read", &self.path, &e))?;
        self.forget(at, out.len() as u64);
        Ok(())
    }

    /// Reads whole blocks around what is asked for. `false`: the medium does not do O_DIRECT after all.
    fn read_direct(&mut self, bounce: &mut Bounce, at: u64, out: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < out.len() {
            let want = at + done as u64;
            let Some(file) = &self.direct else { return Ok(false) };
            let (take, got) = read_part(file, bounce, want, &mut out[done..]);
            match got {
                Ok(got) if got >= take => done += take,
                Ok(got) => {
                    let (path, found) = (self.path.display(), want + got as u64);
                    return Err(fault!(
                        Io,
                        "{path}: expected {take} bytes at {want}, found the end at {found}"
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                    self.direct = None;
                    return Ok(false);
                }
                Err(e) => return Err(io_fault("read", &self.path, &e)),
            }
        }
        Ok(true)
    }

    /// Asks the kernel to drop clean pages. Only advice, so what it answers changes nothing.
    fn forget(&self, at: u64, length: u64) {
        let _ =
            posix_fadvise(&self.plain, at as off_t, length as off_t, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// The next part of `out`, from `at`: whole blocks where they lie, anything else by way of `bounce`. How many bytes it is, and how
/// many of them came.
fn read_part(file: &File, bounce: &mut Bounce, at: u64, out: &mut [u8]) -> (usize, io::Result<usize>) {
    let whole = out.len() - out.len() % BLOCK as usize;
    if at.is_multiple_of(BLOCK) && whole > 0 && is_aligned(out) {
        return (whole, read_up_to(file, &mut out[..whole], at));
    }
    let skip = (at % BLOCK) as usize;
    let take = out.len().min(BOUNCE_BYTES - skip);
    let copy = &mut bounce.get()[..(skip + take).next_multiple_of(BLOCK as usize)];
    let got = read_up_to(file, copy, at - skip as u64).map(|got| got.saturating_sub(skip));
    out[..take].copy_from_slice(&copy[skip..skip + take]);
    (take, got)
}

/// Whether memory begins where O_DIRECT wants it to.
fn is_aligned(memory: &[u8]) -> bool {
    memory.as_ptr().addr().is_multiple_of(BLOCK as usize)
}

/// Reads until `out` is full or the end is there. The end of a file or device need not lie at a block's end.
fn read_up_to(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match file.read_at(&mut out[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => {
                got += n;
                if !n.is_multiple_of(BLOCK as usize) {
                    break; // the end: nothing aligned could follow
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

fn open(path: &Path, writable: bool, flags: OFlag) -> io::Result<File> {
    OpenOptions::new().read(true).write(writable).custom_flags(flags.bits()).open(path)
}

/// An operating system's error, with what was being done and to what.
pub(super) fn io_fault(doing: &str, path: &Path, error: &io::Error) -> Fault {
    use io::ErrorKind;
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => fault!(NotFound, "{doing} {path}: {error}"),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            fault!(ReadOnly, "{doing} {path}: {error}")
        }
        ErrorKind::StorageFull => fault!(Full, "{doing} {path}: {error}"),
        _ => fault!(Io, "{doing} {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without O_DIRECT (tmpfs) no memory needs a copy, and the bytes are right all the same.
    #[test]
    fn memory_that_begins_at_a_block_is_written_and_read_as_it_is_and_any_other_by_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("medium");
        std::fs::write(&path, vec![0; 2 * SEGMENT_BYTES]).unwrap();
        let mut medium = Medium::open(&path, true, false).unwrap();
        let direct = medium.access(0) == Access::Direct;
        let mut memory = vec![0; SEGMENT_BYTES + 2 * BLOCK as usize];
        let begin = memory.as_ptr().align_offset(BLOCK as usize);
        #[rustfmt::skip]
        let cases = [
            // at                 memory, bytes past a block   a copy is made
            (0,                   0,                           false),
            (BLOCK,               0,                           false),
            (BLOCK,               8,                           true),
        ];
        for (at, past, copied) in cases {
            let mut bounce = Bounce::default();
            let memory = &mut memory[begin + past..][..SEGMENT_BYTES];
            memory.fill(0x5a);
            medium.write(&mut bounce, at, memory).unwrap();
            memory.fill(0);
            medium.read(&mut bounce, at, memory).unwrap();
            assert!(memory.iter().all(|byte| *byte == 0x5a), "at {at}, {past} past a block");
            assert_eq!(!bounce.memory.is_empty(), copied && direct, "at {at}, {past} past a block");
        }
        let mut some = [0; 100];
        medium.read(&mut Bounce::default(), BLOCK + 7, &mut some).unwrap();
        assert_eq!(some, [0x5a; 100], "from the midst of a block");
    }
}
