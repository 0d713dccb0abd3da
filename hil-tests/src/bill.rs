//! What a gateway has to fetch for a bundle, computed from the bundle's own pages and from what stands in the slots: an
//! account that the gateway has no hand in.
//!
//! A segment costs nothing if it is zero, if the target holds it already, or if the running group holds it at the same
//! place. All others cost the pieces that their encoding lies in, each piece once.

use crate::board::rootfs;
use crate::disk::Disk;
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Artifact, Encoding, Object, RouteKind, RoutePage, SegmentPage, VerifiedObject};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use mainstayctl::bundle::{BundleReader, Depth, Seen, walk};
use std::path::Path;

/// What a bundle costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// All objects of the bundle: what its operator publishes.
    pub objects: Vec<Digest>,
    /// Their bytes.
    pub object_bytes: u64,
    /// Bytes of the pieces that this gateway needs.
    pub needed: u64,
    /// Bytes of the pieces of its smallest delta route, if it has one: what a gateway fetches that holds its base.
    pub delta: Option<u64>,
    /// Content that the running group gives.
    pub copied: u64,
    /// Content in all.
    pub content: u64,
}

impl Bill {
    /// For the bundle at `path`, on a gateway that runs `running` and holds on its disk what it holds now.
    pub fn of(path: &Path, disk: &Disk, running: Group) -> Result<Bill> {
        let (mut reader, head, _) = BundleReader::open(path).doing(|| "the bundle")?;
        let manifest = head.unproven_manifest().doing(|| "the bundle's manifest")?;
        let [artifact] = manifest.artifacts.as_slice() else {
            return Err(Trouble::new(format!("expected one artifact, found {}", manifest.artifacts.len())));
        };
        let deltas = artifact.routes.iter().filter(|route| route.kind != RouteKind::Full);
        let delta = deltas.map(|route| route.bytes).min();
        let mut bill = Bill { content: artifact.size, delta, ..Bill::default() };
        let (mut run, mut segment_page, mut trouble) = (0, None, None);
        walk(&mut reader, &manifest, Depth::Objects, &mut |seen| {
            bill.objects.push(seen.name);
            bill.object_bytes += seen.bytes.len() as u64;
            match seen.object {
                Object::SegmentPage => segment_page = Some((seen.name, seen.bytes.to_vec())),
                Object::RoutePage => {
                    let pages = segment_page.take().doing(|| "a route page before its segment page");
                    let added =
                        pages.and_then(|segments| bill.add(artifact, run, &segments, seen, disk, running));
                    trouble = trouble.take().or(added.err());
                    run += 1;
                }
                _ => {}
            }
            Ok(())
        })
        .doing(|| "the bundle")?;
        trouble.map_or(Ok(bill), Err)
    }

    /// Adds one run.
    fn add(
        &mut self,
        artifact: &Artifact,
        run: usize,
        (name, bytes): &(Digest, Vec<u8>),
        route: Seen<'_>,
        disk: &Disk,
        running: Group,
    ) -> Result<()> {
        let bad = |fault: mainstay_core::fault::Fault| Trouble::new(format!("run {run}: {fault}"));
        let first = (run * RUN_SEGMENTS_MAX) as u32;
        let count = (artifact.segment_count() - first).min(RUN_SEGMENTS_MAX as u32) as usize;
        let content = |index: usize| artifact.segment_bytes(first + index as u32);
        let segments = VerifiedObject::prove(name, bytes).map_err(bad)?;
        let segments = SegmentPage::parse(segments, first, count).map_err(bad)?;
        let route = VerifiedObject::prove(&route.name, route.bytes).map_err(bad)?;
        let route = RoutePage::parse(route, first, count, content).map_err(bad)?;

        // Where the encoding of each wanted segment begins and ends in the row of the run's pieces.
        let (mut wanted, mut at) = (Vec::new(), 0);
        for index in 0..count {
            let (encoding, length) = route.segment(index).map_err(bad)?;
            let digest = segments.digest(index).map_err(bad)?;
            let holds = |group| -> Result<bool> {
                let mut there = vec![0; content(index)];
                let place = (u64::from(first) + index as u64) * SEGMENT_BYTES as u64;
                disk.read(rootfs(group), place, &mut there)?;
                Ok(Digest::of(&there) == digest)
            };
            if encoding != Encoding::Zero && !holds(running.other())? {
                match holds(running)? {
                    true => self.copied += content(index) as u64,
                    false => wanted.push(at..at + length as u64),
                }
            }
            at += length as u64;
        }
        let (mut from, mut wanted) = (0, wanted.into_iter().peekable());
        for index in 0..route.piece_count() {
            let length = u64::from(route.piece(index).map_err(bad)?.length);
            let to = from + length;
            while wanted.next_if(|range| range.end <= from).is_some() {}
            if wanted.peek().is_some_and(|range| range.start < to) {
                self.needed += length;
            }
            from = to;
        }
        Ok(())
    }
}
