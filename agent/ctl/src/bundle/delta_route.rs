//! One delta route of an artifact: made by [`delta`](crate::delta), put into pages and pieces, and weighed. A route that is not
//! smaller than the full one, index and all, is not worth its place in the manifest.

use super::base::Base;
use super::writer::write_object;
use crate::delta::{How, Made, Summary, make};
use crate::fail;
use crate::fail::Result;
use crate::layout::ReadAt;
use mainstay_core::bundle::author::{Run, RunBuilder, table};
use mainstay_core::bundle::{Object, Route, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::limits::RUN_SEGMENTS_MAX;
use std::io::Write;

/// A route that was made.
pub struct DeltaRoute {
    /// As it stands in the manifest.
    pub route: Route,
    /// Its table.
    pub table: Vec<u8>,
    /// Its table and pages, bytes.
    pub index_bytes: u64,
    /// What it is made of.
    pub summary: Summary,
    /// How the base is called.
    pub base: String,
    /// Its pages and pieces, as they stand in a bundle file, in a file of their own.
    pub objects: std::fs::File,
}

impl DeltaRoute {
    /// All that a gateway fetches for it.
    pub const fn bytes(&self) -> u64 {
        self.route.bytes + self.index_bytes
    }
}

/// Is a delta route of `bytes` worth what a gateway reads for it? It has to save more than a hundredth of the full one.
pub const fn is_worth_it(bytes: u64, full_bytes: u64) -> bool {
    bytes < full_bytes - full_bytes / 100
}

/// Makes the route from `base` to `new`, whose segments have these `digests`; its objects go into `objects`.
pub fn delta_route(
    base: &Base,
    new: &dyn ReadAt,
    digests: &[Digest],
    how: How,
    objects: std::fs::File,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<DeltaRoute> {
    let mut writing = Writing {
        run: RunBuilder::new(),
        first: 0,
        pages: Vec::new(),
        route_bytes: 0,
        index_bytes: 0,
        out: std::io::BufWriter::new(objects),
    };
    let summary = make(&base.image, new, how, progress, &mut |segment, made| {
        let digest = digests.get(segment as usize).copied();
        let digest =
            digest.ok_or_else(|| fail!("delta: no segment {segment}, there are {}", digests.len()))?;
        writing.take(digest, made)
    })?;
    writing.end_run()?;
    let made = writing.first as usize;
    if made != digests.len() {
        return Err(fail!("delta: expected {} segments, made {made}", digests.len()));
    }
    let table = table(&writing.pages);
    let kind = RouteKind::Delta { base: base.digest, base_bytes: base.bytes };
    let route = Route { kind, table: Digest::of(&table), bytes: writing.route_bytes };
    let index_bytes = writing.index_bytes + table.len() as u64;
    let objects = writing.out.into_inner().map_err(|e| crate::Failure::from(e.into_error()))?;
    Ok(DeltaRoute { route, table, index_bytes, summary, base: base.name.clone(), objects })
}

/// Runs in the making.
struct Writing {
    run: RunBuilder,
    /// Segments before this run.
    first: u32,
    pages: Vec<Digest>,
    route_bytes: u64,
    index_bytes: u64,
    out: std::io::BufWriter<std::fs::File>,
}

impl Writing {
    fn take(&mut self, digest: Digest, made: Made) -> Result<()> {
        self.run.push_delta(digest, made.encoding, &made.bytes, made.begins_piece)?;
        match self.run.len() {
            RUN_SEGMENTS_MAX => self.end_run(),
            _ => Ok(()),
        }
    }

    fn end_run(&mut self) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        let segments = run.len() as u32;
        if segments == 0 {
            return Ok(());
        }
        let Run { route_page, pieces, .. } = run.finish_delta(self.first);
        self.first += segments;
        self.pages.push(Digest::of(&route_page));
        self.index_bytes += route_page.len() as u64;
        write_object(&mut self.out, Object::DeltaPage, &route_page)?;
        for piece in &pieces {
            self.route_bytes += piece.len() as u64;
            write_object(&mut self.out, Object::Piece, piece)?;
        }
        self.out.flush()?;
        Ok(())
    }
}
