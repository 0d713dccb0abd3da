//! What survives a power cut: one record, written whole.
//!
//! ```text
//! byte 0      format version, 1
//! byte 1…     postcard of `Record`, at most RECORD_BYTES_MAX in all
//! ```
//! The store around it (see SPEC-state) adds a sequence number, a length and a checksum, and keeps two copies.

use crate::boot::Group;
use crate::digest::Digest;
use crate::fault;
use crate::limits::*;
use crate::seam::Result;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// One manifest on its way onto this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// SHA-256 of the signed envelope of the manifest, as received: the name of the bundle.
    pub manifest: Digest,
    /// The version that the manifest names.
    pub version: String<VERSION_BYTES_MAX>,
    /// Raises the floor to this when it is committed.
    pub security_version: u32,
    /// The group that is written and tried.
    pub target: Group,
    /// Counts this gateway's deployments; with the manifest's digest it names a report.
    pub attempt: u32,
    /// How many times the bootloader tries the target.
    pub tries: u8,
    /// How long the trial may take, in seconds from the start of the agent in it.
    pub deadline_s: u32,
    /// Health checks that must pass, beside those that the gateway's own configuration requires.
    pub required: Vec<String<NAME_BYTES_MAX>, CHECKS_MAX>,
    /// Unix seconds before which the download is not begun.
    pub not_before: Option<u64>,
    /// Unix seconds after which the download is not begun, and a waiting deployment is dropped.
    pub expires: Option<u64>,
}

/// How a deployment ended. Append-only: the number travels in reports and stands on disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// The target passed its trial and is what the gateway runs.
    Committed,
    /// The agent or a person decided to go back.
    RolledBack,
    /// The bootloader went back by itself: the tries were used up.
    FellBack,
    /// It could not be downloaded, written or proven.
    Failed,
    /// It was never accepted.
    Rejected,
    /// It was withdrawn before the trial.
    Halted,
    /// Its time passed before the trial.
    Expired,
}

/// How a deployment ended, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub kind: OutcomeKind,
    /// Why, for a person.
    pub detail: String<DETAIL_BYTES_MAX>,
}

/// Where the deployment stands. What each phase waits for, and what follows, stands in `step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing to do.
    Idle,
    /// Accepted; waits for window, wave and approval.
    Waiting(Deployment),
    /// The target group is withdrawn and being written.
    Downloading(Deployment),
    /// All is written; it is being read back.
    Verifying(Deployment),
    /// Proven on the medium; waits for leave to reboot.
    Installed(Deployment),
    /// Armed (or about to be), or running its trial.
    Trial(Deployment),
    /// The verdict is healthy; the bootloader is being told.
    Committing(Deployment),
    /// The verdict is unhealthy, or a person said so.
    RollingBack(Deployment, Outcome),
    /// Over; the outcome is reported until it is acknowledged.
    Settled(Deployment, Outcome),
}

/// A phase without its content. Append-only: the number travels in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // they are Phase's
pub enum PhaseName {
    Idle,
    Waiting,
    Downloading,
    Verifying,
    Installed,
    Trial,
    Committing,
    RollingBack,
    Settled,
}

impl Phase {
    /// Its name.
    pub const fn name(&self) -> PhaseName {
        match self {
            Phase::Idle => PhaseName::Idle,
            Phase::Waiting(_) => PhaseName::Waiting,
            Phase::Downloading(_) => PhaseName::Downloading,
            Phase::Verifying(_) => PhaseName::Verifying,
            Phase::Installed(_) => PhaseName::Installed,
            Phase::Trial(_) => PhaseName::Trial,
            Phase::Committing(_) => PhaseName::Committing,
            Phase::RollingBack(..) => PhaseName::RollingBack,
            Phase::Settled(..) => PhaseName::Settled,
        }
    }

    /// What it is about, where it is about something.
    pub const fn deployment(&self) -> Option<&Deployment> {
        match self {
            Phase::Idle => None,
            Phase::Waiting(d)
            | Phase::Downloading(d)
            | Phase::Verifying(d)
            | Phase::Installed(d)
            | Phase::Trial(d)
            | Phase::Committing(d)
            | Phase::RollingBack(d, _)
            | Phase::Settled(d, _) => Some(d),
        }
    }
}

/// The digest of what a slot holds, by its class.
pub type Contents = Vec<(String<CLASS_BYTES_MAX>, Digest), ARTIFACTS_MAX>;

/// What a group holds, as far as this agent has seen to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRelease {
    /// The bundle's name.
    pub manifest: Digest,
    /// Its version.
    pub version: String<VERSION_BYTES_MAX>,
    /// Its security version.
    pub security_version: u32,
    /// Has it been committed on this gateway?
    pub committed: bool,
    /// What was proven in its slots when it was installed: what delta routes begin from.
    pub artifacts: Contents,
}

/// Is the gateway in service, and what has a person begun with it as a whole? Append-only: the number stands on disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// In service.
    #[default]
    In,
    /// A factory reset has begun: it goes on to its end, over any number of starts.
    Resetting,
    /// Decommissioning has begun, at this time (Unix seconds; 0 where no time was known): it goes on to its end, over
    /// any number of starts. Nothing leads back.
    Decommissioning(u64),
    /// Out of service for good, since this time.
    Decommissioned(u64),
}

impl Service {
    /// Since when, of a gateway that is out of service or on its way there.
    pub const fn out_since(self) -> Option<u64> {
        match self {
            Service::In | Service::Resetting => None,
            Service::Decommissioning(since) | Service::Decommissioned(since) => Some(since),
        }
    }
}

/// All that the agent must remember. One record, so that no two facts in it can disagree after a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the update stands.
    pub phase: Phase,
    /// A bundle whose security version is below this is refused. Never falls.
    pub floor: u32,
    /// What A and B hold, where this agent has written or committed it.
    pub groups: [Option<GroupRelease>; 2],
    /// The highest sequence number of a desired state that was accepted, for the group topic and the device topic.
    pub desired_seq: [u64; 2],
    /// Unix seconds that have certainly passed: the latest time in any signed message or set clock. Never falls.
    pub time_floor: u64,
    /// Deployments so far.
    pub attempts: u32,
    /// Reboots into the trial that is on, as far as the agent asked for them from the other group.
    pub trial_reboots: u8,
    /// Bundles whose trial failed here.
    pub failed: Vec<Digest, FAILED_MAX>,
    /// Outcomes that nobody has acknowledged yet; the oldest makes room.
    pub unreported: Vec<Report, UNREPORTED_MAX>,
    /// Is it in service? Not changed by what the update machine does, nor does an update begin while it is not.
    pub service: Service,
}

/// An outcome on its way to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The bundle's name.
    pub manifest: Digest,
    /// Its version.
    pub version: String<VERSION_BYTES_MAX>,
    /// The deployment's attempt; 0 where it was never accepted.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
}

impl Record {
    /// Of a gateway that has never been updated.
    pub const fn factory(floor: u32) -> Self {
        Record {
            phase: Phase::Idle,
            floor,
            groups: [None, None],
            desired_seq: [0, 0],
            time_floor: 0,
            attempts: 0,
            trial_reboots: 0,
            failed: Vec::new(),
            unreported: Vec::new(),
            service: Service::In,
        }
    }

    /// What `group` holds.
    pub const fn release(&self, group: Group) -> Option<&GroupRelease> {
        match group {
            Group::A => self.groups[0].as_ref(),
            Group::B => self.groups[1].as_ref(),
        }
    }

    /// What `group` holds, to change.
    pub fn release_mut(&mut self, group: Group) -> &mut Option<GroupRelease> {
        let [a, b] = &mut self.groups;
        match group {
            Group::A => a,
            Group::B => b,
        }
    }

    /// Has the trial of this bundle failed here?
    pub fn has_failed(&self, manifest: &Digest) -> bool {
        self.failed.contains(manifest)
    }

    /// Remembers a bundle whose trial failed; the oldest makes room.
    pub fn remember_failed(&mut self, manifest: Digest) {
        if self.has_failed(&manifest) {
            return;
        }
        if self.failed.is_full() {
            self.failed.remove(0);
        }
        let _ = self.failed.push(manifest); // there is room
    }

    /// Queues an outcome for the operator; the oldest makes room.
    pub fn report(&mut self, report: Report) {
        if self.unreported.is_full() {
            self.unreported.remove(0);
        }
        let _ = self.unreported.push(report); // there is room
    }

    /// Encodes into `out`; the bytes used.
    pub fn encode<'a>(&self, out: &'a mut [u8; RECORD_BYTES_MAX]) -> Result<&'a [u8]> {
        let [version, rest @ ..] = out;
        *version = FORMAT;
        let used = postcard::to_slice(self, rest).map(|used| used.len());
        let used = used.map_err(|e| fault!(Full, "record: does not fit {RECORD_BYTES_MAX} bytes: {e}"))?;
        out.get(..=used).ok_or_else(|| fault!(Full, "record: does not fit {RECORD_BYTES_MAX} bytes"))
    }

    /// Decodes what [`Record::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [FORMAT, rest @ ..] => postcard::from_bytes(rest)
                .map_err(|e| fault!(Corrupt, "record: {} bytes, but: {e}", bytes.len())),
            [found, ..] => Err(fault!(
                Unsupported,
                "record: expected format {FORMAT}, found {found}: an agent of another generation wrote it, and this \
                 one changes nothing"
            )),
            [] => Err(fault!(Corrupt, "record: empty")),
        }
    }
}

const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::clip;

    #[test]
    fn the_largest_record_fits_its_bound_and_reads_back() {
        let long = "x".repeat(400);
        let deployment = Deployment {
            manifest: Digest([0xff; 32]),
            version: clip(&long),
            security_version: u32::MAX,
            target: Group::B,
            attempt: u32::MAX,
            tries: 9,
            deadline_s: u32::MAX,
            required: (0..CHECKS_MAX).map(|_| clip(&long)).collect(),
            not_before: Some(u64::MAX),
            expires: Some(u64::MAX),
        };
        let outcome = Outcome { kind: OutcomeKind::Expired, detail: clip(&long) };
        let release = GroupRelease {
            manifest: Digest([0xff; 32]),
            version: clip(&long),
            security_version: u32::MAX,
            committed: true,
            artifacts: (0..ARTIFACTS_MAX).map(|_| (clip(&long), Digest([0xff; 32]))).collect(),
        };
        let record = Record {
            phase: Phase::RollingBack(deployment, outcome.clone()),
            floor: u32::MAX,
            groups: [Some(release.clone()), Some(release)],
            desired_seq: [u64::MAX; 2],
            time_floor: u64::MAX,
            attempts: u32::MAX,
            trial_reboots: u8::MAX,
            unreported: (0..UNREPORTED_MAX)
                .map(|_| Report {
                    manifest: Digest([0xff; 32]),
                    version: clip(&long),
                    attempt: u32::MAX,
                    outcome: outcome.clone(),
                })
                .collect(),
            failed: (0..FAILED_MAX).map(|_| Digest([0xff; 32])).collect(),
            service: Service::Decommissioned(u64::MAX),
        };
        let mut out = [0; RECORD_BYTES_MAX];
        let bytes = record.encode(&mut out).unwrap();
        assert_eq!(Record::decode(bytes).unwrap(), record);
        for cut in 0..bytes.len() {
            assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
