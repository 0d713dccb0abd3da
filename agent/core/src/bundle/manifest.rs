//! The manifest: the signed description of a bundle. Its envelope's body is a version byte (1) and the postcard of
//! [`Manifest`]; its name, everywhere, is the SHA-256 of the whole envelope as received.

use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::Result;
use crate::trust::{Envelope, MessageKind, Role, TrustRoot};
use crate::wire::{BodyReader, check_name, check_text};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// The signed description of a bundle. Its fields are written as they stand here; [`Manifest::decode`] reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The hardware that this is for: must equal the board's.
    pub compatible: String<COMPATIBLE_BYTES_MAX>,
    /// For people, and for reports.
    pub version: String<VERSION_BYTES_MAX>,
    /// For anti-rollback: refused below the gateway's floor.
    pub security_version: u32,
    /// What is written, in this order.
    pub artifacts: Vec<Artifact, ARTIFACTS_MAX>,
    /// How it is tried.
    pub trial: TrialPolicy,
    /// Unix seconds before which it is not begun, where the gateway knows the time.
    pub not_before: Option<u64>,
    /// Unix seconds after which it is not begun.
    pub expires: Option<u64>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Free pairs, for people and their tools; the agent does not read them.
    pub meta: Vec<(String<32>, String<128>), 16>,
}

/// The content for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The class of the slot that it goes to.
    pub class: String<CLASS_BYTES_MAX>,
    /// Content bytes, 1..=ARTIFACT_BYTES_MAX.
    pub size: u64,
    /// SHA-256 of the content: what the read-back must show.
    pub digest: Digest,
    /// SHA-256 of the table of its segment pages.
    pub segments: Digest,
    /// The ways to make its segments; exactly one is full.
    pub routes: Vec<Route, ROUTES_MAX>,
}

/// One way to make an artifact's segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// From what.
    pub kind: RouteKind,
    /// SHA-256 of the table of its pages.
    pub table: Digest,
    /// All its pieces together, in bytes: at most the artifact's size.
    pub bytes: u64,
}

/// From what a route makes segments. Append-only: the number travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// From nothing.
    Full,
    /// From the artifact of this digest in the running group.
    Delta {
        /// SHA-256 of the base's content.
        base: Digest,
        /// Bytes of the base's content, 1..=ARTIFACT_BYTES_MAX: so far its digest goes, and so far patches may read.
        base_bytes: u64,
    },
}

/// How a bundle is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialPolicy {
    /// How many times the bootloader tries it, 1..=TRIES_MAX.
    pub tries: u8,
    /// Seconds from the agent's start in the trial to its verdict, 1..=TRIAL_SECONDS_MAX.
    pub deadline_s: u32,
    /// Health checks that must pass, beside those that the gateway itself requires.
    pub required: Vec<String<NAME_BYTES_MAX>, CHECKS_MAX>,
}

impl Default for TrialPolicy {
    fn default() -> Self {
        TrialPolicy { tries: TRIES_DEFAULT, deadline_s: TRIAL_SECONDS_DEFAULT, required: Vec::new() }
    }
}

/// Where a bundle comes from: for auditors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The source's address.
    pub source: String<128>,
    /// The source's revision.
    pub commit: String<64>,
    /// Who or what built it.
    pub builder: String<128>,
    /// SHA-256 of its bill of materials.
    pub sbom: Option<Digest>,
}

impl Manifest {
    /// Reads and checks a body: version byte 1, then postcard.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let mut reader = BodyReader::open("manifest", body)?;
        let mut manifest = Manifest {
            compatible: reader.field("compatible")?,
            version: reader.field("version")?,
            security_version: reader.field("security version")?,
            artifacts: Vec::new(),
            trial: TrialPolicy::default(),
            not_before: None,
            expires: None,
            provenance: Provenance::default(),
            meta: Vec::new(),
        };
        reader.list("artifacts", &mut manifest.artifacts)?;
        manifest.trial.tries = reader.field("tries")?;
        manifest.trial.deadline_s = reader.field("deadline")?;
        reader.list("required checks", &mut manifest.trial.required)?;
        manifest.not_before = reader.field("not before")?;
        manifest.expires = reader.field("expires")?;
        manifest.provenance = reader.field("provenance")?;
        reader.list("meta", &mut manifest.meta)?;
        reader.close()?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Is each field within its bounds, and do they fit together?
    pub fn check(&self) -> Result<()> {
        check_name("manifest: compatible", &self.compatible)?;
        check_text("manifest: version", &self.version)?;
        if self.version.is_empty() {
            return Err(fault!(Corrupt, "manifest: version is empty"));
        }
        if self.artifacts.is_empty() {
            return Err(fault!(Corrupt, "manifest: expected 1 to {ARTIFACTS_MAX} artifacts, found none"));
        }
        for (i, artifact) in self.artifacts.iter().enumerate() {
            artifact.check()?;
            if self.artifacts.iter().take(i).any(|other| other.class == artifact.class) {
                return Err(fault!(Corrupt, "manifest: two artifacts of class {}", artifact.class));
            }
        }
        let TrialPolicy { tries, deadline_s, ref required } = self.trial;
        if tries == 0 || tries > TRIES_MAX {
            return Err(fault!(Corrupt, "manifest: expected 1 to {TRIES_MAX} tries, found {tries}"));
        }
        if deadline_s == 0 || deadline_s > TRIAL_SECONDS_MAX {
            return Err(fault!(
                Corrupt,
                "manifest: expected a deadline of 1 to {TRIAL_SECONDS_MAX} s, found {deadline_s}"
            ));
        }
        required.iter().try_for_each(|name| check_name("manifest: required check", name))?;
        if let (Some(from), Some(to)) = (self.not_before, self.expires)
            && from >= to
        {
            return Err(fault!(Corrupt, "manifest: not before {from}, but expires {to}"));
        }
        check_text("manifest: provenance", &self.provenance.source)?;
        check_text("manifest: provenance", &self.provenance.commit)?;
        check_text("manifest: provenance", &self.provenance.builder)?;
        self.meta.iter().try_for_each(|(key, value)| {
            check_name("manifest: meta", key)?;
            check_text("manifest: meta", value)
        })
    }

    /// Content bytes of all artifacts.
    pub fn content_bytes(&self) -> u64 {
        self.artifacts.iter().map(|a| a.size).sum() // at most 8 × 64 GiB
    }

    /// The body of its envelope.
    #[cfg(any(test, feature = "author"))]
    pub fn encode(&self) -> Result<alloc::vec::Vec<u8>> {
        self.check()?;
        crate::wire::encode_body(self)
    }
}

impl Artifact {
    fn check(&self) -> Result<()> {
        check_name("manifest: class", &self.class)?;
        if self.size == 0 || self.size > ARTIFACT_BYTES_MAX {
            return Err(fault!(
                Corrupt,
                "manifest: {}: expected a size of 1 to {ARTIFACT_BYTES_MAX} bytes, found {}",
                self.class,
                self.size
            ));
        }
        for (i, route) in self.routes.iter().enumerate() {
            // No segment's encoding is larger than its content.
            if route.bytes > self.size {
                return Err(fault!(
                    Corrupt,
                    "manifest: {}: expected a route of at most its size, {} bytes, found {}",
                    self.class,
                    self.size,
                    route.bytes
                ));
            }
            let RouteKind::Delta { base, base_bytes } = route.kind else { continue };
            if base_bytes == 0 || base_bytes > ARTIFACT_BYTES_MAX {
                return Err(fault!(
                    Corrupt,
                    "manifest: {}: expected a base of 1 to {ARTIFACT_BYTES_MAX} bytes, found {base_bytes}",
                    self.class
                ));
            }
            let same = |other: &&Route| matches!(other.kind, RouteKind::Delta { base: b, .. } if b == base);
            if self.routes.iter().take(i).any(|other| same(&other)) {
                return Err(fault!(Corrupt, "manifest: {}: two routes from {base:?}", self.class));
            }
        }
        match self.routes.iter().filter(|r| r.kind == RouteKind::Full).count() {
            1 => Ok(()),
            n => Err(fault!(Corrupt, "manifest: {}: expected one full route, found {n}", self.class)),
        }
    }

    /// Segments of its content.
    pub const fn segment_count(&self) -> u32 {
        self.size.div_ceil(SEGMENT_BYTES as u64) as u32 // ARTIFACT_BYTES_MAX / SEGMENT_BYTES = 2^18
    }

    /// Runs of its segments.
    pub const fn run_count(&self) -> usize {
        (self.segment_count() as usize).div_ceil(RUN_SEGMENTS_MAX)
    }

    /// Content bytes of segment `segment`: all are full but the last.
    pub fn segment_bytes(&self, segment: u32) -> usize {
        let at = segment as u64 * SEGMENT_BYTES as u64;
        self.size.saturating_sub(at).min(SEGMENT_BYTES as u64) as usize
    }

    /// The full route: every manifest that passed its check has one.
    pub fn full_route(&self) -> Result<&Route> {
        let full = self.routes.iter().find(|r| r.kind == RouteKind::Full);
        full.ok_or_else(|| fault!(Corrupt, "manifest: {}: no full route", self.class))
    }
}

/// A manifest that a threshold of the release role has signed. Only [`VerifiedManifest::open`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedManifest {
    manifest: Manifest,
    name: Digest,
}

impl VerifiedManifest {
    /// Verifies the envelope under `root`, then reads the body.
    pub fn open(root: &TrustRoot, bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::parse(bytes)?;
        let body = root.prove(Role::Release, MessageKind::Manifest, &envelope)?;
        Ok(VerifiedManifest { manifest: Manifest::decode(body.body())?, name: Digest::of(bytes) })
    }

    /// SHA-256 of the envelope: the bundle's name.
    pub const fn name(&self) -> Digest {
        self.name
    }
}

impl core::ops::Deref for VerifiedManifest {
    type Target = Manifest;
    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}
