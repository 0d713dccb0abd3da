//! A bundle as a folder of static files, for any web server: the second source of a gateway's objects.
//!
//! ```text
//! FOLDER/c/SHA256   tables and pages, each a file
//! FOLDER/m/SHA256   the manifest's envelope
//! FOLDER/r/SHA256   all pieces of the route whose table has this digest, in the order of the bundle file, nothing between
//! ```
//! Everything is named by what it is, so that several bundles share a folder, and each file is whole when it is seen under its
//! name. The manifest is written last. Nothing here is secret, and nothing has to be believed: gateways prove each object.

use crate::bundle::{BundleReader, Depth, walk};
use crate::fail;
use crate::fail::{Result, Within};
use crate::files::{NewFile, write_whole};
use crate::meter::{Audience, Meter};
use mainstay_core::bundle::Object;
use mainstay_core::digest::Digest;
use std::fs;
use std::io::Write;
use std::path::Path;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The bundle's name.
    pub name: Digest,
    /// Tables and pages.
    pub objects: u64,
    /// Routes.
    pub routes: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Whoever serves the files may read them.
const MODE: u32 = 0o644;

/// Writes `bundle` into `folder`, which is made where it is missing. Each object is proven on the way.
pub fn export(bundle: &Path, folder: &Path, audience: Audience) -> Result<Exported> {
    let (mut reader, head, total) = BundleReader::open(bundle)?;
    let crate::bundle::Head::Signed(envelope) = &head else {
        return Err(fail!("{}: nobody has signed it: no gateway takes it", bundle.display())
            .todo("mainstayctl sign it first"));
    };
    let manifest = head.unproven_manifest().within(|| bundle.display())?;
    for name in ["c", "m", "r"] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).within(|| folder.display())?;
    }
    let mut meter = Meter::start(audience, "exported", total);
    let mut exported = Exported { name: Digest::of(envelope), objects: 0, routes: 0, bytes: 0 };
    // Pieces stand behind the table of their route, and behind no other table in between.
    let (mut table, mut route) = (None, None::<NewFile>);
    walk(&mut reader, &manifest, Depth::Objects, &mut |seen| {
        meter.set(seen.at);
        exported.bytes += seen.bytes.len() as u64;
        if seen.object == Object::Piece {
            if route.is_none() {
                let name: Digest = table.ok_or_else(|| fail!("a piece before any table"))?;
                route = Some(NewFile::create(&folder.join(format!("r/{name}")), MODE, true)?);
                exported.routes += 1;
            }
            if let Some(route) = &mut route {
                route.file().write_all(seen.bytes).within(|| format!("{}: a route", folder.display()))?;
            }
            return Ok(());
        }
        if seen.object == Object::Table {
            table = Some(seen.name);
            route.take().map_or(Ok(()), NewFile::finish)?;
        }
        exported.objects += 1;
        write_whole(&folder.join(format!("c/{}", seen.name)), seen.bytes, MODE, true)
    })
    .within(|| bundle.display())?;
    route.take().map_or(Ok(()), NewFile::finish)?;
    write_whole(&folder.join(format!("m/{}", exported.name)), envelope, MODE, true)?;
    exported.bytes += envelope.len() as u64;
    meter.finish();
    Ok(exported)
}
