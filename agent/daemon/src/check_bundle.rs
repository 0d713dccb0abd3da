//! `mainstay verify`: everything that an install would find out, without a slot. The installer itself runs, over
//! slots that keep nothing, so what passes here is what would be written.

use crate::agent::Lent;
use crate::file_source::FileSource;
use crate::inflate::Zstd;
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Proof, VerifiedManifest, VerifiedSegment};
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::ARTIFACT_BYTES_MAX;
use mainstay_core::seam::{Note, Observer, Result, SlotWriter};
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{Installer, Reuse, Tools, WORKSPACE_BYTES};
use std::collections::BTreeMap;

/// Reads the bundle to its end; the manifest, if all of it is as signed.
pub fn check(mut source: FileSource, trust: &TrustRoot) -> std::result::Result<VerifiedManifest, Fault> {
    let manifest = VerifiedManifest::open(trust, source.manifest())?;
    source.makes(manifest.content_bytes());
    let mut workspace: Box<[u8; WORKSPACE_BYTES]> =
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().map_err(|_| fault!(Full, "workspace"))?;
    let (mut inflate, mut nobody) = (Zstd::default(), Nobody);
    for artifact in &manifest.artifacts {
        let mut slots = NoSlots::default();
        let tools = Tools {
            slots: &mut slots,
            source: &mut source,
            inflate: &mut inflate,
            observer: &mut nobody,
            memory: &mut Lent::default(), // a file's full route needs none
        };
        Installer::new(Group::B, Reuse::default(), artifact.size, tools).install(
            artifact,
            &mut None,
            &mut workspace,
        )?;
        let found = slots.finish();
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

/// Keeps only the digest of what is written, and where the last zeros stood: what the installer has made it holds itself, as long as
/// the segment behind may refer to it. Segments come in their order, except that the installer writes those of zeros
/// as soon as its look-ahead meets them: they wait, as a place and a length, until it is their turn.
#[derive(Default)]
struct NoSlots {
    content: Hasher,
    hashed: u64,
    zeros: BTreeMap<u64, usize>,
    last_zeros: Option<u64>,
}

impl NoSlots {
    fn take(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    /// In small steps: as many zeros as a segment has would stand in the program, 256 KiB of them.
    fn take_zeros(&mut self, mut length: usize) {
        const ZEROS: [u8; 512] = [0; 512];
        while length > 0 {
            let zeros = ZEROS.get(..length).unwrap_or(&ZEROS);
            self.take(zeros);
            length -= zeros.len();
        }
    }

    fn finish(&mut self) -> Digest {
        std::mem::take(&mut self.content).finish()
    }
}

impl SlotWriter for NoSlots {
    fn open(&mut self, _group: Group, _class: &str) -> Result<u64> {
        Ok(ARTIFACT_BYTES_MAX)
    }
    fn write(&mut self, _group: Group, _class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        let zeros = Proof::Zeros.holds(segment.bytes());
        if segment.at() != self.hashed {
            if !zeros {
                let (expected, found) = (self.hashed, segment.at());
                return Err(fault!(
                    Unsupported,
                    "expected the segment at {expected}, found the one at {found}"
                ));
            }
            self.zeros.insert(segment.at(), segment.bytes().len());
            return Ok(());
        }
        if zeros {
            self.last_zeros = Some(self.hashed);
        }
        self.take(segment.bytes());
        while let Some(length) = self.zeros.remove(&self.hashed) {
            self.last_zeros = Some(self.hashed);
            self.take_zeros(length);
        }
        Ok(())
    }
    fn sync(&mut self, _group: Group, _class: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, _group: Group, _class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        if self.last_zeros != Some(at) {
            return Err(fault!(Unsupported, "nothing is kept"));
        }
        out.fill(0);
        Ok(())
    }
}

struct Nobody;
impl Observer for Nobody {
    fn note(&mut self, _note: Note<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::limits::SEGMENT_BYTES;

    static ZEROS: [u8; SEGMENT_BYTES] = [0; SEGMENT_BYTES];

    /// A good bundle was called corrupt: an image of noise, text and zeros, whose zeros the installer wrote before the
    /// text that it still had to take from the file.
    #[test]
    fn zeros_that_come_early_are_hashed_in_their_place() {
        let text = [7; SEGMENT_BYTES];
        let short = [9; 100];
        let content = [&text[..], &ZEROS, &ZEROS, &text, &ZEROS, &short].concat();
        let at = |segment: usize| segment * SEGMENT_BYTES;
        for order in [[0, 1, 2, 3, 4, 5], [1, 2, 4, 0, 3, 5], [4, 0, 2, 1, 3, 5]] {
            let mut slots = NoSlots::default();
            for segment in order {
                let bytes = &content[at(segment)..content.len().min(at(segment + 1))];
                let proven = VerifiedSegment::prove(at(segment) as u64, bytes, &Digest::of(bytes)).unwrap();
                slots.write(Group::B, "rootfs", &proven).unwrap();
            }
            assert_eq!(slots.finish(), Digest::of(&content), "{order:?}");
        }
    }

    /// A frame may have zeros as its prefix; ours never do, another packer's may.
    #[test]
    fn the_zeros_that_were_hashed_last_are_given_back_and_nothing_else_is() {
        let text = [7; SEGMENT_BYTES];
        let mut slots = NoSlots::default();
        let (mut out, zeros_at) = ([1; 16], SEGMENT_BYTES as u64);
        for (at, bytes) in [(zeros_at, &ZEROS), (0, &text)] {
            assert!(slots.read_back(Group::B, "rootfs", zeros_at, &mut out).is_err());
            let proven = VerifiedSegment::prove(at, bytes, &Digest::of(bytes)).unwrap();
            slots.write(Group::B, "rootfs", &proven).unwrap();
        }
        slots.read_back(Group::B, "rootfs", zeros_at, &mut out).unwrap();
        assert_eq!(out, [0; 16]);
        assert!(slots.read_back(Group::B, "rootfs", 0, &mut out).is_err());
    }

    #[test]
    fn another_segment_out_of_its_order_is_refused_and_not_hashed_wrongly() {
        let bytes = [7; 64];
        let proven = VerifiedSegment::prove(SEGMENT_BYTES as u64, &bytes, &Digest::of(&bytes)).unwrap();
        assert!(NoSlots::default().write(Group::B, "rootfs", &proven).is_err());
    }
}
