//! The desired state on a broker: read, held against the trust root, and replaced by one with a higher sequence
//! number.
//!
//! Gateways take only what is signed by the operator role and not older than what they know. So the sequence
//! number is the later one of "one more than what stands there" and the Unix time: a broker that lost what it
//! kept, or an operator at another desk, does not bring the fleet to a standstill.

use crate::broker::Session;
use crate::fail;
use crate::fail::{Failure, Result};
use crate::trust::{add_signatures, holds};
use crate::values::now_s;
use crate::{keys, values};
use ed25519_dalek::SigningKey;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow};
use mainstay_core::topic::{Leaf, device, group_desired};
use mainstay_core::trust::{MessageKind, Role, TrustRoot};
use mainstay_core::wire::check_name;

/// Whom a desired state is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A group of gateways.
    Group(String),
    /// One gateway.
    Device(String),
}

impl Target {
    /// Its topic.
    pub fn topic(&self, fleet: &str) -> String {
        match self {
            Target::Group(group) => group_desired(fleet, group).as_str().into(),
            Target::Device(id) => device(fleet, id, Leaf::Desired).as_str().into(),
        }
    }

    /// As the signed message names it.
    pub fn name(&self) -> String {
        match self {
            Target::Group(group) => group.clone(),
            Target::Device(id) => format!("d/{id}"),
        }
    }

    /// Can it stand in a topic?
    pub fn check(&self) -> Result<()> {
        match self {
            Target::Group(name) => check_name("group", name)?,
            Target::Device(name) => check_name("device", name)?,
        }
        Ok(())
    }
}

/// When and how widely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The share that takes it, in 1/10000.
    pub rollout_bp: u16,
    /// Not before, and spread over how long.
    pub window: Option<MaintenanceWindow>,
    /// Unix seconds after which it counts for nothing.
    pub expires: Option<u64>,
    /// The sequence number; made where there is none.
    pub seq: Option<u64>,
}

/// What stands on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Current {
    /// Nothing.
    Nothing,
    /// A desired state that the trust root's operators have signed.
    State(Box<DesiredState>),
    /// Something that gateways refuse, and why.
    Refused(String),
}

/// Reads what stands on the broker now.
pub fn current(session: &mut Session, root: &TrustRoot, target: &Target) -> Result<Current> {
    target.check()?;
    Ok(match session.retained(&target.topic(&root.fleet))? {
        None => Current::Nothing,
        // At time 0 nothing has expired: an expired state's sequence number still counts.
        Some(bytes) => match DesiredState::open(root, &bytes, &target.name(), 0, 0) {
            Ok(state) => Current::State(Box::new(state)),
            Err(fault) => Current::Refused(fault.what.as_str().into()),
        },
    })
}

/// What follows `current` for the manifest of this name and version.
pub fn next(
    current: &Current,
    root: &TrustRoot,
    target: &Target,
    manifest: Digest,
    version: &str,
    action: DesiredAction,
    schedule: &Schedule,
) -> Result<DesiredState> {
    let now = now_s();
    let known = match current {
        Current::State(state) => Some(state),
        _ => None,
    };
    let least = known.map_or(0, |state| state.seq.saturating_add(1));
    let seq = match schedule.seq {
        None => least.max(now),
        Some(seq) if seq >= least => seq,
        Some(seq) => {
            return Err(fail!(
                "sequence: expected {least} or later (the broker keeps {}), found {seq}",
                least - 1
            )
            .todo("leave --seq away: it is found by itself"));
        }
    };
    // The salt says who comes first. It stays with a release, so that a larger share only adds gateways.
    let salt = match known {
        Some(state) if state.manifest == manifest => state.salt,
        _ => {
            let mut salt = [0; 4];
            getrandom::fill(&mut salt).map_err(|e| fail!("random numbers: {e}"))?;
            u32::from_le_bytes(salt)
        }
    };
    if let Some(expires) = schedule.expires
        && expires <= now
    {
        return Err(fail!(
            "expires: expected a time to come, found {} (now is {})",
            values::utc(expires),
            values::utc(now)
        ));
    }
    let too_long = |what: &str| fail!("{what}: too long");
    Ok(DesiredState {
        fleet: root.fleet.clone(),
        group: target.name().as_str().try_into().map_err(|_| too_long("group"))?,
        seq,
        version: version.try_into().map_err(|_| too_long("version"))?,
        manifest,
        action,
        rollout_bp: schedule.rollout_bp,
        window: schedule.window,
        expires: schedule.expires,
        signed_at: now,
        salt,
    })
}

/// Signs it, and opens it as a gateway will: what gateways refuse is never published.
pub fn seal(state: &DesiredState, root: &TrustRoot, signers: &[SigningKey]) -> Result<Vec<u8>> {
    for signer in signers {
        let id = keys::id(signer);
        if !holds(root, Role::Operator, id) {
            return Err(fail!(
                "key {id} does not hold the operator role under trust root {} v{}",
                root.fleet,
                root.version
            )
            .todo("sign with --operator-key of one who does; `mainstayctl trust show` lists them"));
        }
    }
    let bytes = add_signatures(MessageKind::DesiredState, &state.encode()?, &[], signers)?;
    let (group, now) = (state.group.as_str(), state.signed_at);
    DesiredState::open(root, &bytes, group, state.seq, now).map_err(|fault| {
        Failure::from(fault).todo("name as many --operator-key as the operator role's threshold wants")
    })?;
    Ok(bytes)
}

/// How a desired state is changed that stands on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What shall be done.
    pub action: DesiredAction,
    /// The share; `None`: as it was.
    pub rollout_bp: Option<u16>,
    /// When it ends; `None`: as it was, but never for a pause or a halt. Those hold for gateways too that come back
    /// when the release's own time has passed, with half a download.
    pub expires: Option<u64>,
}

/// Changes what stands on the broker; the new desired state.
pub fn change(
    session: &mut Session,
    root: &TrustRoot,
    target: &Target,
    change: Change,
    signers: &[SigningKey],
) -> Result<DesiredState> {
    let Change { action, rollout_bp, expires } = change;
    let found = current(session, root, target)?;
    let state = match &found {
        Current::State(state) => state.clone(),
        Current::Nothing => {
            return Err(fail!("{}: no desired state stands there", target.topic(&root.fleet))
                .todo("look at the names of fleet and group; publish first"));
        }
        Current::Refused(why) => {
            return Err(fail!("{}: what stands there is refused: {why}", target.topic(&root.fleet))
                .todo("publish a bundle anew"));
        }
    };
    let schedule = Schedule {
        rollout_bp: rollout_bp.unwrap_or(state.rollout_bp),
        window: state.window,
        expires: expires.or(state.expires.filter(|_| action == DesiredAction::Run)),
        seq: None,
    };
    let next = next(&found, root, target, state.manifest, &state.version, action, &schedule)?;
    session.put(&target.topic(&root.fleet), &seal(&next, root, signers)?, None)?;
    session.flush()?;
    Ok(next)
}
