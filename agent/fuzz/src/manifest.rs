//! Manifests: bodies as they come, and the same under a right signature.
//!
//! Claims: what is taken is written as it was read; its segments make up its size, and its runs its segments; it needs no
//! heap (core has none).

use crate::allocations::bounded;
use crate::throwaway::{RELEASE, TRUST, sealed};
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Manifest, VerifiedManifest};
use mainstay_core::digest::Digest;
use mainstay_core::limits::{RUN_SEGMENTS_MAX, SEGMENT_BYTES, TABLE_RUNS_MAX};
use mainstay_core::policy::{Gateway, judge};
use mainstay_core::trust::MessageKind;
use mainstay_core::update::Record;

/// The whole input is a body.
pub fn run(data: &[u8]) {
    let Ok(manifest) = bounded(0, || Manifest::decode(data)) else { return };
    let body = manifest.encode().expect("what is taken can be written");
    assert_eq!(Manifest::decode(&body).as_ref(), Ok(&manifest));
    for artifact in &manifest.artifacts {
        let (segments, runs) = (artifact.segment_count(), artifact.run_count());
        assert!(segments > 0 && runs > 0 && runs <= TABLE_RUNS_MAX);
        assert!(
            (runs - 1) * RUN_SEGMENTS_MAX < segments as usize && segments as usize <= runs * RUN_SEGMENTS_MAX
        );
        let last = artifact.segment_bytes(segments - 1) as u64;
        assert!(last > 0);
        assert_eq!(u64::from(segments - 1) * SEGMENT_BYTES as u64 + last, artifact.size);
        assert_eq!(artifact.segment_bytes(segments), 0);
        assert!(artifact.full_route().is_ok());
    }
    assert!(manifest.content_bytes() > 0);
    let Some(envelope) = sealed(MessageKind::Manifest, data, &RELEASE) else { return };
    let verified = VerifiedManifest::open(&TRUST, &envelope).expect("signed by enough of who may");
    assert_eq!((&*verified, verified.name()), (&manifest, Digest::of(&envelope)));
    judged(&verified);
}

/// What `judge` lets through is for this gateway, and for the group that does not run.
fn judged(manifest: &VerifiedManifest) {
    let record = Record { floor: 300, time_floor: 1_800_000_000, ..Record::factory(300) };
    for running in Group::BOTH {
        let gateway = Gateway {
            compatible: "acme-gw-1",
            running,
            record: &record,
            unix_s: Some(1_700_000_000),
            checks: &["web".try_into().expect("short"), "plc-link".try_into().expect("short")],
            retry_failed: false,
        };
        let Ok(deployment) = judge(manifest, &gateway) else { continue };
        assert_eq!((deployment.target, manifest.compatible.as_str()), (running.other(), "acme-gw-1"));
        assert!(deployment.security_version >= record.floor && (1..=9).contains(&deployment.tries));
        assert!(deployment.expires.is_none_or(|at| at >= record.time_floor));
    }
}
