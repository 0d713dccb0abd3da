//! A bundle that comes as one file, or through a pipe: read once, from front to back, never seeking.
//!
//! Objects are taken in the order in which they stand; one that nobody asks for is read and passed over. The
//! manifest stands first and is taken at once, so that a bundle can be judged before anything else of it is read.
//!
//! Objects have no names but their digests, and who asks for one proves it. So the next one is given unseen: mostly it is the right one, and
//! hashed once. Where it is refuted, the names of those behind it are computed until the right one comes.

use mainstay_core::bundle::{BUNDLE_MAGIC, OBJECT_HEADER_BYTES, Object};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::limits::{OBJECT_BYTES_MAX, ROUTES_MAX};
use mainstay_core::seam::{PieceSource, Result};
use std::io::{ErrorKind, Read};

/// Objects of a bundle file, in order.
pub struct FileSource {
    input: Box<dyn Read + Send>,
    /// The object that was read last.
    object: Vec<u8>,
    /// For what it was given.
    given: Option<Digest>,
    /// What the next object was not, though it was given for it.
    sought: Option<Digest>,
    /// What it is.
    kind: Object,
    /// Bytes read so far.
    at: u64,
    /// How many it may have in all.
    limit: u64,
    manifest: Vec<u8>,
}

impl FileSource {
    /// Reads the magic and the manifest's envelope.
    pub fn open(input: Box<dyn Read + Send>) -> Result<Self> {
        let mut source = FileSource {
            input,
            object: Vec::new(),
            given: None,
            sought: None,
            kind: Object::Manifest,
            at: 0,
            limit: FILE_BYTES_MAX,
            manifest: Vec::new(),
        };
        let mut magic = [0; BUNDLE_MAGIC.len()];
        source.read(&mut magic)?;
        if magic != BUNDLE_MAGIC {
            return Err(fault!(
                Corrupt,
                "bundle: expected the magic MAINSTAY-BUNDLE1 at its start, found {magic:02x?}"
            ));
        }
        match source.next()? {
            Object::Manifest => {}
            found => return Err(fault!(Corrupt, "bundle: expected its manifest first, found a {found:?}")),
        }
        source.manifest = std::mem::take(&mut source.object);
        source.object.reserve_exact(OBJECT_BYTES_MAX);
        Ok(source)
    }

    /// The envelope of the manifest, not yet verified.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The manifest has been proven, and says how much content there is: a file of many times that is none of a bundle,
    /// and a pipe that never ends shall not be read for ever.
    pub fn makes(&mut self, content_bytes: u64) {
        self.limit = content_bytes.saturating_mul(FILE_TIMES_MAX).saturating_add(FILE_BYTES_MAX);
    }

    /// Reads on to the end mark: what a cut-off bundle does not have.
    pub fn at_end(&mut self) -> Result<()> {
        while self.next()? != Object::End {}
        Ok(())
    }

    /// Reads the next object.
    fn next(&mut self) -> Result<Object> {
        let mut header = [0; OBJECT_HEADER_BYTES];
        self.read(&mut header)?;
        let (object, length) = Object::parse_header(&header)?;
        if self.at > FIRST_OBJECT && !object.may_follow(self.kind) {
            return Err(fault!(Corrupt, "bundle: a {object:?} behind a {:?} at byte {}", self.kind, self.at));
        }
        self.kind = object;
        if self.at + length as u64 > self.limit {
            return Err(fault!(
                Corrupt,
                "bundle: expected at most {} bytes for what its manifest makes, found more",
                self.limit
            ));
        }
        let mut bytes = std::mem::take(&mut self.object);
        bytes.resize(length, 0);
        self.read(&mut bytes)?;
        self.object = bytes;
        self.given = None;
        Ok(object)
    }

    fn read(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            match self.input.read(out) {
                Ok(0) => return Err(fault!(Corrupt, "bundle: cut short at byte {}", self.at)),
                Ok(n) => {
                    self.at += n as u64;
                    out = out.get_mut(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(fault!(Io, "bundle: read at byte {}: {e}", self.at)),
            }
        }
        Ok(())
    }
}

/// What a bundle may have beside its content: manifest, tables and pages. Also the limit before anything is proven.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// No route's pieces are larger than the content; delta routes are passed over in a file.
const FILE_TIMES_MAX: u64 = ROUTES_MAX as u64;
/// Where the first object's bytes begin: behind the magic and its header.
const FIRST_OBJECT: u64 = (BUNDLE_MAGIC.len() + OBJECT_HEADER_BYTES) as u64;

impl PieceSource for FileSource {
    fn only_forward(&self) -> bool {
        true
    }

    fn prefetch(&mut self, _name: &Digest, _bytes: u32) -> bool {
        false // a file cannot be asked for more than its next object
    }

    fn fetch(&mut self, name: &Digest, _bytes: u32) -> Result<&[u8]> {
        let seeks = self.sought.take() == Some(*name);
        while self.given != Some(*name) {
            if self.next()? == Object::End {
                return Err(fault!(Corrupt, "bundle: object {name:?} is not in it, or not where it belongs"));
            }
            self.given = Some(if seeks { Digest::of(&self.object) } else { *name });
        }
        Ok(&self.object)
    }

    fn release(&mut self, _name: &Digest) {}

    fn refute(&mut self, name: &Digest) -> Result<()> {
        (self.given, self.sought) = (None, Some(*name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of pieces that nobody asked for, without an end.
    struct Endless {
        begin: Vec<u8>,
        piece: Vec<u8>,
        at: usize,
    }

    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let from = match self.begin.get(self.at..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &self.piece[(self.at - self.begin.len()) % self.piece.len()..],
            };
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            self.at += n;
            Ok(n)
        }
    }

    #[test]
    fn a_bundle_that_never_ends_is_given_up_at_a_bound_that_its_manifest_sets() {
        let object = |kind: Object, bytes: &[u8]| [&kind.header(bytes.len())[..], bytes].concat();
        let [manifest, table] = [Object::Manifest, Object::Table].map(|kind| object(kind, &[1; 64]));
        let pages = [Object::SegmentPage, Object::RoutePage].map(|kind| object(kind, &[1; 64])).concat();
        let begin = [&BUNDLE_MAGIC[..], &manifest, &table, &table, &pages].concat();
        let endless = Endless { begin, piece: object(Object::Piece, &[7; OBJECT_BYTES_MAX]), at: 0 };
        let mut source = FileSource::open(Box::new(endless)).unwrap();
        source.makes(1 << 20);
        let nothing = Digest([1; 32]);
        assert!(source.fetch(&nothing, 64).is_ok(), "is for whoever asks to prove");
        source.refute(&nothing).unwrap();
        let fault = source.fetch(&nothing, 64).unwrap_err();
        assert!(fault.what.contains("for what its manifest makes, found more"), "{fault}");
        assert!(
            source.at - BUNDLE_MAGIC.len() as u64 <= FILE_BYTES_MAX + FILE_TIMES_MAX * (1 << 20),
            "{}",
            source.at
        );
    }

    #[test]
    fn the_next_object_is_given_unseen_and_where_it_is_refuted_the_right_one_is_sought() {
        let pieces: Vec<Vec<u8>> = (0..6).map(|n| vec![n; 100]).collect();
        let names: Vec<Digest> = pieces.iter().map(|piece| Digest::of(piece)).collect();
        let object = |kind: Object, bytes: &[u8]| [&kind.header(bytes.len())[..], bytes].concat();
        let heads = [Object::Manifest, Object::Table, Object::Table, Object::SegmentPage, Object::RoutePage];
        let file = [
            BUNDLE_MAGIC.to_vec(),
            heads.map(|kind| object(kind, b"head")).concat(),
            pieces.iter().flat_map(|piece| object(Object::Piece, piece)).collect(),
            object(Object::End, b""),
        ];
        let mut source = FileSource::open(Box::new(std::io::Cursor::new(file.concat()))).unwrap();
        for _ in 0..4 {
            assert_eq!(source.fetch(&Digest::of(b"head"), 100), Ok(&b"head"[..]));
            source.given = None; // the next one has the same name
        }
        let mut fetch = |name: &Digest| -> Result<u32> {
            let found = Digest::of(source.fetch(name, 100)?);
            if found == *name {
                return Ok(1);
            }
            source.refute(name)?;
            assert_eq!(Digest::of(source.fetch(name, 100)?), *name);
            Ok(2)
        };
        assert_eq!(fetch(&names[0]), Ok(1));
        assert_eq!(fetch(&names[0]), Ok(1), "asked for again, it is still in hand");
        assert_eq!(fetch(&names[3]), Ok(2), "two are passed over");
        assert_eq!(fetch(&names[4]), Ok(1));
        assert!(fetch(&names[1]).unwrap_err().what.contains("is not in it, or not where it belongs"));
    }
}
