//! Reads a bundle file from front to back, object by object. What it gives is in the right grammar, and no more:
//! names, content and signatures are [`walk`](super::walk)'s and the trust root's.

use super::UNSIGNED_MAGIC;
use crate::fail;
use crate::fail::{Failure, Result, Within};
use mainstay_core::bundle::{BUNDLE_MAGIC, Manifest, OBJECT_HEADER_BYTES, Object, VerifiedManifest};
use mainstay_core::digest::Digest;
use mainstay_core::trust::{Envelope, MessageKind, TrustRoot};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// What a bundle file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// The manifest's envelope, as it stands there.
    Signed(Vec<u8>),
    /// The manifest's body: nobody has signed it.
    Unsigned(Vec<u8>),
}

impl Head {
    /// The manifest, without asking who signed it.
    pub fn unproven_manifest(&self) -> Result<Manifest> {
        match self {
            Head::Unsigned(body) => Ok(Manifest::decode(body)?),
            Head::Signed(bytes) => {
                let envelope = Envelope::parse(bytes)?;
                if envelope.kind() != MessageKind::Manifest {
                    return Err(fail!("bundle: expected a Manifest first, found a {:?}", envelope.kind()));
                }
                Ok(Manifest::decode(envelope.unproven_body())?)
            }
        }
    }

    /// The manifest, if a threshold of the release role has signed it.
    pub fn proven_manifest(&self, root: &TrustRoot) -> Result<VerifiedManifest> {
        match self {
            Head::Signed(bytes) => Ok(VerifiedManifest::open(root, bytes)?),
            Head::Unsigned(_) => Err(fail!("expected a signed bundle, found one that nobody has signed yet")
                .todo("sign it: mainstayctl sign BUNDLE --key release.key")),
        }
    }

    /// The bundle's name: SHA-256 of the envelope. An unsigned one has none.
    pub fn name(&self) -> Option<Digest> {
        match self {
            Head::Signed(bytes) => Some(Digest::of(bytes)),
            Head::Unsigned(_) => None,
        }
    }
}

/// A bundle file, read from front to back.
pub struct BundleReader<R> {
    input: R,
    at: u64,
    objects: u64,
}

impl BundleReader<Box<dyn Read>> {
    /// Opens a file, or standard input for `-`. Also how many bytes there are, where that is known.
    pub fn open(path: &Path) -> Result<(Self, Head, Option<u64>)> {
        let (input, bytes): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
            (Box::new(BufReader::with_capacity(BUFFER_BYTES, std::io::stdin())), None)
        } else {
            let file = File::open(path).within(|| path.display())?;
            let metadata = file.metadata().within(|| path.display())?;
            if metadata.is_dir() {
                return Err(fail!("{}: expected a bundle file, found a folder", path.display()));
            }
            let bytes = metadata.is_file().then_some(metadata.len());
            (Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), bytes)
        };
        let (reader, head) = BundleReader::begin(input).within(|| path.display())?;
        Ok((reader, head, bytes))
    }
}

impl<R: Read> BundleReader<R> {
    /// Reads the first bytes and the manifest.
    pub fn begin(input: R) -> Result<(Self, Head)> {
        let mut reader = BundleReader { input, at: 0, objects: 0 };
        let mut magic = [0; 16];
        reader.fill(&mut magic, "magic")?;
        let unsigned = match magic {
            BUNDLE_MAGIC => false,
            UNSIGNED_MAGIC => true,
            found => {
                return Err(fail!(
                    "expected a bundle (it begins with \"MAINSTAY-BUNDLE1\"), found \"{}\"",
                    found.escape_ascii()
                ));
            }
        };
        let mut bytes = Vec::new();
        match reader.next(&mut bytes)? {
            Object::Manifest if unsigned => Ok((reader, Head::Unsigned(bytes))),
            Object::Manifest => Ok((reader, Head::Signed(bytes))),
            other => Err(fail!("bundle: expected a Manifest first, found a {other:?}")),
        }
    }

    /// The next object, into `bytes`. After [`Object::End`] nothing may follow, and nothing may be missing before it.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Object> {
        let mut header = [0; OBJECT_HEADER_BYTES];
        self.fill(&mut header, "header")?;
        let (object, length) = Object::parse_header(&header)?; // which bounds the length
        bytes.resize(length, 0);
        self.fill(bytes, "bytes")?;
        self.objects += 1;
        if object == Object::End {
            let mut more = [0];
            match self.input.read(&mut more) {
                Ok(0) => {}
                Ok(_) => return Err(fail!("bundle: bytes follow its end at {}", self.at)),
                Err(e) => return Err(Failure::from(e).within(format!("bundle: at byte {}", self.at))),
            }
        }
        Ok(object)
    }

    /// How far it has come, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => {
                    return Err(fail!(
                        "bundle: cut short at byte {}, in the {what} of object {}: expected {} bytes, found {filled}",
                        self.at + filled as u64,
                        self.objects,
                        bytes.len()
                    )
                    .todo("get the whole file: it ends with an end mark"));
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::from(e).within(format!("bundle: at byte {}", self.at))),
            }
        }
        self.at += filled as u64;
        Ok(())
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
