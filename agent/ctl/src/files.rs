//! Files: read within a bound, written whole or not at all.

use crate::fail;
use crate::fail::{Failure, Result, Within};
use mainstay_core::digest::{Digest, Hasher};
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Reads a small file; one of more than `most` bytes is refused without reading it all.
pub fn read_small(path: &Path, most: usize) -> Result<Vec<u8>> {
    // Never grown: what is read may be a secret, and growing leaves copies of it that nobody overwrites.
    let mut bytes = Vec::with_capacity(most + SPARE_BYTES);
    let file = File::open(path).within(|| path.display())?;
    file.take(most as u64 + 1).read_to_end(&mut bytes).within(|| path.display())?;
    if bytes.len() > most {
        return Err(fail!("{}: expected at most {most} bytes, found more", path.display()));
    }
    Ok(bytes)
}

/// Room beyond what is read, so that the end is found without growing.
const SPARE_BYTES: usize = 64;

/// A file in the making beside its later place. Nobody sees it under its name before it is whole and durable.
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
    replace: bool,
}

impl NewFile {
    /// Begins; `mode` is subject to the umask. Without `replace` a file that stands there already is refused now, and
    /// again at the end.
    pub fn create(path: &Path, mode: u32, replace: bool) -> Result<Self> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let file = tempfile::Builder::new()
            .prefix(".mainstayctl-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder(path))
            .within(|| format!("{}: cannot write beside it", path.display()))?;
        Ok(NewFile { file, path: path.into(), replace })
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Content, then name, then the folder: a power cut leaves the whole new file, or what stood there before.
    pub fn finish(self) -> Result<()> {
        let NewFile { file, path, replace } = self;
        file.as_file().sync_all().within(|| path.display())?;
        let named = match replace {
            true => file.persist(&path).map_err(|e| e.error),
            false => file.persist_noclobber(&path).map_err(|e| e.error),
        };
        match named {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(&path)),
            Err(e) => return Err(Failure::from(e).within(path.display())),
        }
        let folder = folder(&path);
        File::open(folder).and_then(|f| f.sync_all()).within(|| folder.display())
    }
}

/// SHA-256 of what is left of a file; `read` hears of bytes as they are read.
pub fn digest_of(mut file: &File, read: &mut dyn FnMut(u64)) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => {
                hasher.update(&buffer[..n]);
                read(n as u64);
            }
        }
    }
}

const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// Writes a small file whole.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32, replace: bool) -> Result<()> {
    let mut new = NewFile::create(path, mode, replace)?;
    new.file().write_all(bytes).within(|| path.display())?;
    new.finish()
}

/// A place for intermediate data beside `path`; it has no name and goes by itself.
pub fn scratch_beside(path: &Path) -> Result<File> {
    let folder = folder(path);
    tempfile::tempfile_in(folder).within(|| format!("{}: cannot write there", folder.display()))
}

/// The permission bits of a file.
pub fn mode_of(metadata: &fs::Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn exists(path: &Path) -> Failure {
    fail!("{}: exists already", path.display()).todo("choose another name, or move the file away")
}
