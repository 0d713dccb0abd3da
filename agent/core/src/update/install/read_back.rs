//! The last proof: what stands on the medium, whichever way it came there.

use super::space::aligned;
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
    // No more memory than was touched before.
    let memory = aligned(workspace).get_mut(..SEGMENT_BYTES).ok_or_else(beyond)?;
    let halves = memory.split_at_mut(SEGMENT_BYTES / 2);
    let mut hasher = Hasher::new();
    slots.scan(target, class, 0..artifact.size, halves.into(), &mut |part| hasher.update(part))?;
    match hasher.finish() {
        found if found == artifact.digest => Ok(()),
        found => Err(fault!(
            Corrupt,
            "slot {class} of {target}: reads back as {found:?}, expected {:?}: the medium does not keep what is written",
            artifact.digest
        )),
    }
}
