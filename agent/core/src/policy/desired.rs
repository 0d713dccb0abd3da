//! The desired state: the signed, retained message that says what a group of gateways, or one of them, shall run.
//! It is evaluated again at every boot and every connection; a broker can withhold it, never alter it, and never
//! bring an old one back.

use crate::digest::Digest;
use crate::fault;
use crate::limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX};
use crate::seam::Result;
use crate::trust::{Envelope, MessageKind, Role, TrustRoot};
use crate::wire::{check_name, check_text, decode_body};
use heapless::String;
use serde::{Deserialize, Serialize};

/// A desired state may be signed this far ahead of a gateway's clock, in seconds: 30 days. More than a clock that nobody
/// corrects drifts in years and than any mistaken time zone makes; less than the time before their end at which
/// certificates are renewed, for what it signs becomes the gateway's time floor, and that never falls.
pub const SIGNED_AHEAD_S_MAX: u64 = 30 * 86_400;

/// What shall be done. Append-only: the number travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DesiredAction {
    /// Take the release.
    Run,
    /// Begin nothing new; what is past its download goes on.
    Pause,
    /// Drop what has not reached its trial.
    Halt,
}

/// When a gateway may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// Unix seconds.
    pub not_before: u64,
    /// Seconds after `not_before` over which the gateways of the group begin, each at its own place.
    pub spread_s: u32,
}

/// What a group of gateways shall run. Its envelope's body is a version byte (1) and this in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Must be the trust root's.
    pub fleet: String<NAME_BYTES_MAX>,
    /// A group's name, or `d/` and a device id for one gateway.
    pub group: String<{ NAME_BYTES_MAX + 2 }>,
    /// Rises with each desired state of this group; an older one is a replay.
    pub seq: u64,
    /// The version, for people.
    pub version: String<VERSION_BYTES_MAX>,
    /// The manifest to run.
    pub manifest: Digest,
    /// What shall be done.
    pub action: DesiredAction,
    /// The share of the group that takes it, in 1/10000.
    pub rollout_bp: u16,
    /// When they begin.
    pub window: Option<MaintenanceWindow>,
    /// Unix seconds after which it counts for nothing.
    pub expires: Option<u64>,
    /// Unix seconds when it was signed: time that has certainly passed.
    pub signed_at: u64,
    /// Changes who is in the first waves from release to release.
    pub salt: u32,
}

/// Is this gateway in the wave?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// This gateway's place, 0..10000.
    pub place: u16,
    /// The share that takes the release.
    pub rollout_bp: u16,
}

/// What a desired state means for this gateway, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Take the release.
    Now,
    /// Not before this time, Unix seconds; `None` where the clock is not set and the time is not known.
    Later(Option<u64>),
    /// Not in the wave yet.
    NotYet(Membership),
    /// Begin nothing.
    Nothing,
    /// Drop what has not reached its trial.
    Drop,
}

impl DesiredState {
    /// Verifies the envelope under `root`, reads the body, and holds it against what is known: fleet, group, sequence.
    /// `seq` is the highest that was accepted for this group: the same again is fine (it is retained), a lower one
    /// is a replay.
    pub fn open(root: &TrustRoot, bytes: &[u8], group: &str, seq: u64, now: u64) -> Result<Self> {
        let envelope = Envelope::parse(bytes)?;
        let body = root.prove(Role::Operator, MessageKind::DesiredState, &envelope)?;
        let desired: DesiredState = decode_body("desired state", body.body())?;
        desired.check()?;
        if desired.fleet != root.fleet {
            return Err(fault!(
                Refused,
                "desired state: expected fleet {}, found {}",
                root.fleet,
                desired.fleet
            ));
        }
        if desired.group != group {
            return Err(fault!(Refused, "desired state: expected group {group}, found {}", desired.group));
        }
        if desired.seq < seq {
            return Err(fault!(
                Refused,
                "desired state: replayed: expected sequence {seq} or later, found {}",
                desired.seq
            ));
        }
        if let Some(expires) = desired.expires
            && now > expires
        {
            return Err(fault!(Refused, "desired state: expired at {expires}, now is {now} (Unix seconds)"));
        }
        Ok(desired)
    }

    /// Can it have been signed when it says? Asked before it raises the time floor, for good: a date in the far future,
    /// from a workstation whose clock is wrong, would make every certificate and every bundle with an end look expired.
    ///
    /// Nobody can tell without a clock (`unix_s`: where it has been set).
    pub fn signed_in_time(&self, unix_s: Option<u64>, time_floor: u64) -> Result<()> {
        let Some(now) = unix_s else { return Ok(()) };
        if self.signed_at <= Self::signed_at_most(now, time_floor) {
            return Ok(());
        }
        Err(fault!(
            Refused,
            "desired state: signed at {}, expected at most {} days after now, {now} (Unix seconds): is the clock wrong \
             here, or where it was signed?",
            self.signed_at,
            SIGNED_AHEAD_S_MAX / 86_400
        ))
    }

    /// The latest time of signing that is believed, by a clock that says `now`.
    ///
    /// A clock that stands further behind the floor than anybody could have pushed it has fallen back, and the floor
    /// counts in its place. One that stands a little behind it may be right: if the floor counted then, too, each word
    /// could reach 30 days further than the one before, and a leaked operator key would be at the end of time in one
    /// evening.
    pub fn signed_at_most(now: u64, time_floor: u64) -> u64 {
        let by_the_clock = now.saturating_add(SIGNED_AHEAD_S_MAX);
        if time_floor <= by_the_clock { by_the_clock } else { time_floor.saturating_add(SIGNED_AHEAD_S_MAX) }
    }

    /// Is each field within its bounds?
    pub fn check(&self) -> Result<()> {
        check_name("desired state: fleet", &self.fleet)?;
        check_name("desired state: group", self.group.strip_prefix("d/").unwrap_or(&self.group))?;
        check_text("desired state: version", &self.version)?;
        if self.rollout_bp > 10_000 {
            return Err(fault!(
                Corrupt,
                "desired state: expected a share of 0 to 10000, found {}",
                self.rollout_bp
            ));
        }
        if let Some(expires) = self.expires
            && expires < self.signed_at
        {
            return Err(fault!(
                Corrupt,
                "desired state: expires at {expires}, before it was signed at {} (Unix seconds)",
                self.signed_at
            ));
        }
        Ok(())
    }

    /// What it means for this gateway, now. `unix_s`: the clock, where it has been set. A clock that is not, or that
    /// fell back with its battery, still counts as the time of signing, which has certainly passed.
    pub fn wanted(&self, device: &str, unix_s: Option<u64>) -> Wanted {
        let membership = self.membership(device);
        match self.action {
            DesiredAction::Halt => Wanted::Drop,
            DesiredAction::Pause => Wanted::Nothing,
            DesiredAction::Run if membership.place >= membership.rollout_bp => Wanted::NotYet(membership),
            DesiredAction::Run => match (self.window, unix_s) {
                (None, _) => Wanted::Now,
                (Some(window), now) => {
                    let begins = window.not_before.saturating_add(self.jitter(device, window.spread_s));
                    match now {
                        _ if self.signed_at >= begins => Wanted::Now,
                        Some(now) if now >= begins => Wanted::Now,
                        Some(_) => Wanted::Later(Some(begins)),
                        None => Wanted::Later(None),
                    }
                }
            },
        }
    }

    /// The gateway's place in the rollout: the same for all shares of one release, so that a larger share only adds.
    pub fn membership(&self, device: &str) -> Membership {
        let place = (self.hash(device, b"wave") % 10_000) as u16;
        Membership { place, rollout_bp: self.rollout_bp }
    }

    fn jitter(&self, device: &str, spread_s: u32) -> u64 {
        match spread_s {
            0 => 0,
            spread_s => u64::from(self.hash(device, b"time") % spread_s),
        }
    }

    fn hash(&self, device: &str, what: &[u8]) -> u32 {
        let mut hasher = crate::digest::Hasher::new();
        hasher.update(what);
        hasher.update(&self.salt.to_le_bytes());
        hasher.update(&self.manifest.0);
        hasher.update(device.as_bytes());
        let [a, b, c, d, ..] = hasher.finish().0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The body of its envelope.
    #[cfg(any(test, feature = "author"))]
    pub fn encode(&self) -> Result<alloc::vec::Vec<u8>> {
        self.check()?;
        crate::wire::encode_body(self)
    }
}
