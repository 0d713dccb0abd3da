//! `mainstay verify`: everything that an install would find out, without a slot. The installer itself runs, over
//! slots that keep nothing, so what passes here is what would be written.

use crate::file_source::FileSource;
use crate::inflate::Zstd;
use mainstay_core::boot::Group;
use mainstay_core::bundle::{VerifiedManifest, VerifiedSegment};
use mainstay_core::digest::Hasher;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::ARTIFACT_BYTES_MAX;
use mainstay_core::seam::{Note, Observer, Result, SlotWriter};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{Installer, Reuse, WORKSPACE_BYTES};

/// Reads the bundle to its end; the manifest, if all of it is as signed.
pub fn check(mut source: FileSource, trust: &TrustRoot) -> std::result::Result<VerifiedManifest, Fault> {
    let manifest = VerifiedManifest::open(trust, source.manifest())?;
    let mut slots = NoSlots(Hasher::new());
    let mut workspace: Box<[u8; WORKSPACE_BYTES]> =
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().map_err(|_| fault!(Full, "workspace"))?;
    let (mut inflate, mut nobody) = (Zstd::default(), Nobody);
    for artifact in &manifest.artifacts {
        slots.0 = Hasher::new();
        Installer::new(
            Group::B,
            Reuse::default(),
            artifact.size,
            &mut slots,
            &mut source,
            &mut inflate,
            &mut nobody,
        )
        .install(artifact, &mut workspace)?;
        let found = std::mem::take(&mut slots.0).finish();
        if found != artifact.digest {
            return Err(fault!(
                Corrupt,
                "{}: its content is {found:?}, the manifest says {:?}",
                artifact.class,
                artifact.digest
            ));
        }
    }
    source.at_end()?;
    Ok(manifest)
}

/// Takes segments in order, and keeps only their digest.
struct NoSlots(Hasher);

impl SlotWriter for NoSlots {
    fn open(&mut self, _group: Group, _class: &str) -> Result<u64> {
        Ok(ARTIFACT_BYTES_MAX)
    }
    fn write(&mut self, _group: Group, _class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        self.0.update(segment.bytes());
        Ok(())
    }
    fn sync(&mut self, _group: Group, _class: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, _group: Group, _class: &str, _at: u64, _out: &mut [u8]) -> Result<()> {
        Err(fault!(Unsupported, "nothing is kept"))
    }
}

struct Nobody;
impl Observer for Nobody {
    fn note(&mut self, _note: Note<'_>) {}
}
