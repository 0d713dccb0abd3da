//! Whether a verified manifest may become a deployment on this gateway. Pure; the refusal says what was expected and
//! what was found.

use crate::boot::Group;
use crate::bundle::VerifiedManifest;
use crate::fault;
use crate::limits::NAME_BYTES_MAX;
use crate::seam::Result;
use crate::update::{Deployment, Record};

/// What there is to judge by.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a> {
    /// The board's compatible.
    pub compatible: &'a str,
    /// The group that was booted.
    pub running: Group,
    /// What the gateway remembers.
    pub record: &'a Record,
    /// Unix seconds, where the clock has been set.
    pub unix_s: Option<u64>,
    /// Names of the health checks that are configured here.
    pub checks: &'a [heapless::String<NAME_BYTES_MAX>],
    /// Try a bundle again whose trial failed here.
    pub retry_failed: bool,
}

/// Makes the deployment, or says why not. A manifest that runs already is not refused here: ask
/// [`Record::release`] first.
pub fn judge(manifest: &VerifiedManifest, gateway: &Gateway<'_>) -> Result<Deployment> {
    let Gateway { compatible, running, record, unix_s, checks, retry_failed } = *gateway;
    if manifest.compatible != compatible {
        return Err(fault!(
            Refused,
            "compatible: this gateway is {compatible}, the bundle is for {}",
            manifest.compatible
        ));
    }
    if manifest.security_version < record.floor {
        return Err(fault!(
            Refused,
            "downgrade: the floor is security version {}, the bundle has {}",
            record.floor,
            manifest.security_version
        ));
    }
    // A clock that was never set counts as the latest time that is known to have passed.
    let now = unix_s.unwrap_or(0).max(record.time_floor);
    if let Some(expires) = manifest.expires
        && now > expires
    {
        return Err(fault!(
            Refused,
            "expired: the bundle may be begun until {expires}, now is {now} (Unix seconds)"
        ));
    }
    if record.has_failed(&manifest.name()) && !retry_failed {
        return Err(fault!(
            Refused,
            "the trial of this bundle failed here before; install it with --retry to try it again"
        ));
    }
    for check in &manifest.trial.required {
        if !checks.contains(check) {
            return Err(fault!(
                Refused,
                "the bundle requires the health check {check}, which is not configured here"
            ));
        }
    }
    Ok(Deployment {
        manifest: manifest.name(),
        version: manifest.version.clone(),
        security_version: manifest.security_version,
        target: running.other(),
        attempt: 0, // counted when it is accepted
        tries: manifest.trial.tries,
        deadline_s: manifest.trial.deadline_s,
        required: manifest.trial.required.clone(),
        not_before: manifest.not_before,
        expires: manifest.expires,
    })
}
