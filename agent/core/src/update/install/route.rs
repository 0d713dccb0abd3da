//! Which route is taken: by what the running group holds, and by what the source can give.
//!
//! ```text
//! the source only reads forward (a file, a pipe)            full: all of it is there anyway
//! the record knows what the running group holds             the delta route from that, or full
//! it does not (as the factory wrote it)                     the group's slot is hashed, once, as far as the
//!                                                           bases of the routes go: from the one that it is, or full
//! ```
//! Nothing rests on the choice but the number of bytes: each segment is proven, whichever way it was made.

use super::Installer;
use super::space::Buffers;
use crate::bundle::{Artifact, RouteKind};
use crate::digest::{Digest, Hasher};
use crate::fault;
use crate::seam::{Note, Result};

/// The delta route that is taken.
#[derive(Clone, Copy)]
pub(super) struct Delta {
    /// Its table.
    pub table: Digest,
    /// What it begins from.
    pub base: Digest,
    /// How long that is: no byte beyond is read.
    pub base_bytes: u64,
    /// All its pieces.
    pub bytes: u64,
}

fn deltas(artifact: &Artifact) -> impl Iterator<Item = Delta> {
    artifact.routes.iter().filter_map(|route| match route.kind {
        RouteKind::Full => None,
        RouteKind::Delta { base, base_bytes } => {
            Some(Delta { table: route.table, base, base_bytes, bytes: route.bytes })
        }
    })
}

impl Installer<'_> {
    /// The delta route that begins from what the running group holds; `None`: the full one. `buffers`: for reading.
    pub(super) fn choose(
        &mut self,
        artifact: &Artifact,
        holds: &mut Option<Digest>,
        buffers: &mut Buffers<'_>,
    ) -> Option<Delta> {
        if self.source.only_forward() || deltas(artifact).next().is_none() {
            return None;
        }
        // A running group without such a slot, or with one that cannot be read, has nothing to begin from.
        let running = self.slots.open(self.target.other(), &artifact.class).ok()?;
        let from = match *holds {
            Some(known) => deltas(artifact).find(|delta| delta.base == known),
            None => self.recognise(artifact, running, buffers).ok().flatten(),
        }?;
        if from.base_bytes > running {
            let fault = fault!(
                Corrupt,
                "{}: a delta route from a base of {} bytes, the running group's slot holds {running}",
                artifact.class,
                from.base_bytes
            );
            self.observer.note(Note::Fault { doing: DOING, fault: &fault });
            return None;
        }
        *holds = Some(from.base);
        Some(from)
    }

    /// Hashes the running group's slot, in one pass as far as it may matter, and stops at each length that a base has.
    fn recognise(
        &mut self,
        artifact: &Artifact,
        slot: u64,
        buffers: &mut Buffers<'_>,
    ) -> Result<Option<Delta>> {
        let (mut hasher, mut at) = (Hasher::new(), 0);
        loop {
            // The shortest base that has not been looked at yet and that the slot has room for.
            let fits = deltas(artifact).filter(|delta| delta.base_bytes > at && delta.base_bytes <= slot);
            let Some(end) = fits.map(|delta| delta.base_bytes).min() else { return Ok(None) };
            let running = self.target.other();
            let hash = &mut |part: &[u8]| hasher.update(part);
            self.slots.scan(running, &artifact.class, at..end, buffers.halves(), hash)?;
            at = end;
            let found = hasher.clone().finish();
            let known = deltas(artifact).find(|delta| (delta.base, delta.base_bytes) == (found, at));
            if known.is_some() {
                return Ok(known);
            }
        }
    }
}

/// What is being done when a delta route turns out not to be what it should.
pub(super) const DOING: &str = "taking a delta route";
