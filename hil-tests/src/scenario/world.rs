//! What a scenario plays on: a bench, and around it a fleet of one gateway with its operator, broker and listener.
//!
//! ```text
//! operator ── mainstayctl ──► broker ◄── door ◄── the machine on the bench (mainstay)
//! listener ◄──────────────────┘           slows down, shuts
//! ```
//! The door is the gateway's own: when it is shut the broker is gone for the gateway, and the listener misses nothing.
//! The gateway is another one after each factory: what was desired of the one before is not meant for it.

use super::figure::Figure;
use crate::Result;
use crate::bench::{Bench, Identity, ImageSpec, Nature, Need};
use crate::broker::gate::{Gate, Side};
use crate::broker::{Broker, Kind};
use crate::listener::{Listener, Said};
use crate::operator::{Access, Operator};
use crate::pki::Pki;
use mainstay_core::report::{Availability, Presence};
use mainstay_core::update::PhaseName;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What is shown of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// Of which scenario.
    pub scenario: u8,
    /// What is waited for.
    pub what: &'a str,
    /// How long already.
    pub since: Duration,
    /// The last event of the machine, in words.
    pub last: &'a str,
}

/// Shows a wait; called again and again while it lasts.
pub type Show = Box<dyn FnMut(&Wait<'_>) + Send>;

/// The bench, and all around it.
pub struct World<'a> {
    /// The machine.
    pub bench: &'a mut dyn Bench,
    /// The broker.
    pub broker: Broker,
    /// The gateway's way to it.
    pub door: Gate,
    /// The operator.
    pub operator: Operator,
    /// The operator's ears.
    pub listener: Listener,
    /// The operator's way to the broker.
    pub access: Access,
    /// How long each way back took.
    pub figures: Vec<Figure>,
    pki: Pki,
    show: Show,
    pub(super) scenario: u8,
    pub(super) stop: Arc<AtomicBool>,
    /// The gateway of the last factory.
    gateway: Option<At>,
    gateways: u32,
    versions: u32,
}

/// The gateway on the bench.
struct At {
    device: String,
    group: String,
    broker_required: bool,
    /// What is heard from here on is this gateway's.
    heard: usize,
}

/// The fleet's name.
const FLEET: &str = "laboratory";
/// The floor that the factory's image brings.
const FACTORY_FLOOR: u32 = 1;

impl<'a> World<'a> {
    /// Sets everything up in `folder`, but for the machine.
    pub fn around(
        bench: &'a mut dyn Bench,
        broker: Kind,
        ctl: &Path,
        folder: &Path,
        stop: Arc<AtomicBool>,
        show: Show,
    ) -> Result<World<'a>> {
        let pki = Pki::create_for(&folder.join("pki"), bench.broker_name())?;
        let broker = Broker::start(broker, &pki, &folder.join("broker"))?;
        let door = Gate::open(Side::PassThrough, broker.address())?;
        let operator = Operator::new(ctl, &folder.join("operator"), FLEET)?;
        let access = Access::new(&broker, &pki, "operator")?;
        let listener = Listener::start(&broker, &pki, "control-room", FLEET)?;
        Ok(World {
            bench,
            broker,
            door,
            operator,
            listener,
            access,
            figures: Vec::new(),
            pki,
            show,
            scenario: 0,
            stop,
            gateway: None,
            gateways: 0,
            versions: 0,
        })
    }

    /// Shows what is waited for.
    pub(super) fn show(&mut self, what: &str, since: Duration, last: &str) {
        (self.show)(&Wait { scenario: self.scenario, what, since, last });
    }

    /// Opens the door again, and widely.
    pub fn open_the_door(&mut self) -> Result<()> {
        self.door.limit(None);
        self.door.reopen(self.broker.address())
    }

    /// Sees to it that a gateway with this policy stands on the bench, is quiet, and runs something good: the one that is
    /// there, or another one from the factory.
    pub fn ready(&mut self, broker_required: bool) -> Result<()> {
        if self.gateway.as_ref().is_some_and(|gateway| gateway.broker_required == broker_required) {
            return self.settle().map(drop);
        }
        self.factory(broker_required)
    }

    /// The gateway that stands there is not to be played on any more.
    pub fn give_up(&mut self) {
        self.gateway = None;
    }

    fn factory(&mut self, broker_required: bool) -> Result<()> {
        self.gateway = None;
        self.gateways += 1;
        let (device, group) = (format!("gw-{:04}", self.gateways), format!("line-{}", self.gateways));
        let version = self.next_version();
        let image = self.bench.image(&ImageSpec { version, nature: Nature::Healthy, agent: None })?;
        let identity = Identity {
            group: group.clone(),
            trust: self.operator.trust(),
            broker: self.door.address(),
            ca: self.pki.ca(),
            certificate: self.pki.client(&device)?,
            image_floor: FACTORY_FLOOR,
            broker_required,
            device: device.clone(),
        };
        self.show("the factory", Duration::ZERO, "");
        self.bench.factory(&image, &identity)?;
        self.gateway = Some(At { device, group, broker_required, heard: self.listener.mark() });
        self.power(true)?;
        self.settle().map(drop).inspect_err(|_| self.gateway = None)
    }

    /// Turns the power on or off. What the gateway said before it was turned on says nothing of how it stands after.
    pub fn power(&mut self, on: bool) -> Result<()> {
        if let Some(gateway) = self.gateway.as_mut().filter(|_| on) {
            gateway.heard = self.listener.mark();
        }
        self.bench.power(on)
    }

    /// A version that no image had before.
    pub fn next_version(&mut self) -> String {
        self.versions += 1;
        format!("{}.0.0", self.versions)
    }

    /// The group whose desired state the gateway follows.
    pub fn group(&self) -> &str {
        self.gateway.as_ref().map_or("", |gateway| &gateway.group)
    }

    /// The gateway's name.
    pub fn device(&self) -> &str {
        self.gateway.as_ref().map_or("", |gateway| &gateway.device)
    }

    /// What the gateway said last of how it stands.
    pub fn presence(&self) -> Option<Presence> {
        let gateway = self.gateway.as_ref()?;
        let heard = self.listener.since(gateway.heard);
        heard.into_iter().rev().find_map(|heard| match heard.what {
            Said::Presence(presence) if heard.who == gateway.device => Some(*presence),
            _ => None,
        })
    }

    /// Until the gateway is there, connected, and has nothing to do; how it stands then.
    pub fn settle(&mut self) -> Result<Presence> {
        let mark = self.mark();
        let patience = self.patience(0, 1, 0);
        self.until(mark, "a quiet gateway", patience, |seen| {
            let presence = seen.presence.as_ref()?;
            let rests = matches!(presence.phase, PhaseName::Idle | PhaseName::Settled);
            (rests && presence.availability == Availability::Online).then(|| presence.clone())
        })
    }

    /// How long to wait for what takes so many installations, boots and bites, one after the other.
    pub fn patience(&self, installs: u32, boots: u32, bites: u32) -> Duration {
        let pace = self.bench.pace();
        let expected = pace.install * installs + pace.boot * boots + pace.watchdog * bites;
        expected * crate::bench::Pace::PATIENCE
    }

    /// How long a trial may take, in seconds: four boots, and not so short that checks have no time.
    pub fn deadline_s(&self) -> u32 {
        (self.bench.pace().boot.as_secs() as u32 * 4).clamp(DEADLINE_S_MIN, DEADLINE_S_MAX)
    }

    /// Can this be had?
    pub fn has(&self, need: Need) -> bool {
        self.bench.lacks(need).is_none()
    }
}

/// See [`World::deadline_s`]. A required check that fails takes about 5 s to be given up.
const DEADLINE_S_MIN: u32 = 15;
/// See [`World::deadline_s`].
const DEADLINE_S_MAX: u32 = 600;
