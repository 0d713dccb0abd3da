//! Writes a bundle file from front to back.

use super::{Head, UNSIGNED_MAGIC};
use crate::fail::Result;
use mainstay_core::bundle::{BUNDLE_MAGIC, Object};
use std::io::Write;

/// A bundle file in the making.
pub struct BundleWriter<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> BundleWriter<W> {
    /// Writes the first bytes and the manifest.
    pub fn begin(mut out: W, head: &Head) -> Result<Self> {
        let (magic, manifest) = match head {
            Head::Signed(envelope) => (BUNDLE_MAGIC, envelope),
            Head::Unsigned(body) => (UNSIGNED_MAGIC, body),
        };
        out.write_all(&magic)?;
        let mut writer = BundleWriter { out, bytes: magic.len() as u64 };
        writer.object(Object::Manifest, manifest)?;
        Ok(writer)
    }

    /// Writes an object.
    pub fn object(&mut self, object: Object, bytes: &[u8]) -> Result<()> {
        self.bytes += write_object(&mut self.out, object, bytes)?;
        Ok(())
    }

    /// Takes `bytes` bytes of objects that are in their grammar already.
    pub fn ready(&mut self, from: &mut dyn std::io::Read) -> Result<()> {
        self.bytes += std::io::copy(from, &mut self.out)?;
        Ok(())
    }

    /// Writes the end mark; the file's length.
    pub fn finish(mut self) -> Result<u64> {
        self.object(Object::End, &[])?;
        self.out.flush()?;
        Ok(self.bytes)
    }
}

/// Header and bytes; how many they were.
pub fn write_object(out: &mut dyn Write, object: Object, bytes: &[u8]) -> std::io::Result<u64> {
    let header = object.header(bytes.len());
    out.write_all(&header)?;
    out.write_all(bytes)?;
    Ok((header.len() + bytes.len()) as u64)
}
