//! The last proof: what stands on the medium, whichever way it came there.

use super::space::Space;
use super::{WORKSPACE_BYTES, beyond};
use crate::boot::Group;
use crate::bundle::Artifact;
use crate::digest::Hasher;
use crate::fault;
use crate::limits::SEGMENT_BYTES;
use crate::seam::{Result, SlotWriter};

/// Reads an artifact back from the medium and compares it with the manifest.
pub fn read_back(
    target: Group,
    artifact: &Artifact,
    slots: &mut dyn SlotWriter,
    workspace: &mut [u8; WORKSPACE_BYTES],
) -> Result<()> {
    let class = artifact.class.as_str();
    slots.open(target, class)?;
    let mut hasher = Hasher::new();
    let room = Space::of(workspace)?.work.segment;
    for segment in 0..artifact.segment_count() {
        let buffer = room.get_mut(..artifact.segment_bytes(segment)).ok_or_else(beyond)?;
        slots.read_back(target, class, segment as u64 * SEGMENT_BYTES as u64, buffer)?;
        hasher.update(buffer);
    }
    match hasher.finish() {
        found if found == artifact.digest => Ok(()),
        found => Err(fault!(
            Corrupt,
            "slot {class} of {target}: reads back as {found:?}, expected {:?}: the medium does not keep what is written",
            artifact.digest
        )),
    }
}
