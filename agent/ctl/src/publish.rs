//! A bundle onto a broker.
//!
//! ```text
//! 1. tables, pages, pieces   retained at c/<sha256>        all acknowledged before
//! 2. the manifest            retained at m/<sha256>        acknowledged before
//! 3. the desired state       retained at …/desired
//! ```
//! The order is what keeps gateways from tripping: who sees the desired state finds the manifest, and who reads the
//! manifest finds every object. Cut off in the middle, a publish leaves objects that nobody asks for, and is
//! simply done again; the fleet goes on with what it has.
//!
//! Nothing is published that gateways would refuse: the whole bundle is verified first, under the same trust root.

use crate::broker::{Broker, Session};
use crate::bundle::{BundleReader, Depth, Figures, walk};
use crate::fail;
use crate::fail::{Result, Within};
use crate::meter::{Audience, Meter};
use crate::rollout::{self, Current, Schedule, Target};
use crate::values;
use ed25519_dalek::SigningKey;
use mainstay_core::bundle::VerifiedManifest;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::topic;
use mainstay_core::trust::TrustRoot;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to publish, and to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bundle file.
    pub bundle: PathBuf,
    /// The trust root that the gateways go by.
    pub root: TrustRoot,
    /// Who shall run it; `None`: bring the objects and the manifest there, and say nothing yet.
    pub target: Option<Target>,
    /// When and how widely.
    pub schedule: Schedule,
    /// Seconds after which the broker forgets objects and manifest; `None`: never.
    pub expiry_s: Option<u32>,
}

/// What was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// The bundle's name.
    pub name: Digest,
    /// Its version.
    pub version: String,
    /// Objects, each once, and the manifest.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took, without the verification.
    pub took: Duration,
    /// What the gateways were told.
    pub desired: Option<DesiredState>,
    /// What stood there before was refused by this trust root: why.
    pub replaced_refused: Option<String>,
}

/// Verifies a bundle to its last byte.
pub fn verify(path: &Path, root: &TrustRoot, audience: Audience) -> Result<(VerifiedManifest, Figures)> {
    let (mut reader, head, total) = BundleReader::open(path)?;
    let manifest = head.proven_manifest(root).within(|| path.display())?;
    let mut meter = Meter::start(audience, "verify", total);
    let figures = walk(&mut reader, &manifest, Depth::Content, &mut |seen| {
        meter.set(seen.at);
        Ok(())
    });
    let figures = figures.within(|| path.display())?;
    meter.finish();
    Ok((manifest, figures))
}

/// Publishes.
pub fn publish(
    plan: &Plan,
    broker: &Broker,
    signers: &[SigningKey],
    audience: Audience,
) -> Result<Published> {
    let Plan { bundle, root, target, schedule, expiry_s } = plan;
    if bundle.as_os_str() == "-" {
        return Err(fail!("publish reads the bundle twice: expected a file, found standard input"));
    }
    let (manifest, figures) = verify(bundle, root, audience)?;
    if let Some(expires) = manifest.expires
        && expires <= values::now_s()
    {
        return Err(fail!("{}: has expired at {}", bundle.display(), values::utc(expires))
            .todo("pack it again with a later --expires"));
    }
    let mut session = Session::open(broker)?;

    // What can be refused is refused before the first byte is sent.
    let mut replaced_refused = None;
    let desired = match target {
        None => None,
        Some(target) => {
            let current = rollout::current(&mut session, root, target)?;
            if let Current::Refused(why) = &current {
                replaced_refused = Some(why.clone());
            }
            let run = DesiredAction::Run;
            let state =
                rollout::next(&current, root, target, manifest.name(), &manifest.version, run, schedule)?;
            let sealed = rollout::seal(&state, root, signers)?;
            Some((target.topic(&root.fleet), state, sealed))
        }
    };

    let (mut reader, head, _) = BundleReader::open(bundle)?;
    if head.name() != Some(manifest.name()) {
        return Err(fail!("{}: has changed since it was verified", bundle.display()));
    }
    let mut meter = Meter::start(audience, "publish", Some(figures.object_bytes));
    let mut sent = HashSet::new();
    let (mut objects, mut bytes) = (0, 0);
    let walked = walk(&mut reader, &manifest, Depth::Objects, &mut |seen| {
        if sent.insert(seen.name) {
            session.put(&topic::object(&root.fleet, &seen.name), seen.bytes, *expiry_s)?;
            objects += 1;
            bytes += seen.bytes.len() as u64;
        }
        meter.add(seen.bytes.len() as u64);
        Ok(())
    });
    walked.within(|| bundle.display())?;
    session.flush()?;

    let crate::bundle::Head::Signed(envelope) = &head else {
        return Err(fail!("{}: is not signed", bundle.display())); // it was, a moment ago
    };
    session.put(&topic::manifest(&root.fleet, &manifest.name()), envelope, *expiry_s)?;
    session.flush()?;
    if let Some((topic, _, sealed)) = &desired {
        session.put(topic, sealed, None)?;
        session.flush()?;
    }
    let took = meter.finish();
    session.close()?;
    Ok(Published {
        name: manifest.name(),
        version: manifest.version.as_str().into(),
        objects: objects + 1,
        bytes: bytes + envelope.len() as u64,
        took,
        desired: desired.map(|(_, state, _)| state),
        replaced_refused,
    })
}
