//! One gateway, one Mosquitto with TLS, one operator: what the agent's memory and its downloads are measured on.
//!
//! ```text
//! agent ──► Mosquitto                     footprint
//! agent ──► Narrow: a line ──► Mosquitto  link
//! operator, listener ──► Mosquitto        never by the line: what is measured is the gateway's alone
//! ```
//! The agent is not asked anything meanwhile: that it is done, its operator hears over MQTT. It waits for a person's leave
//! before it would reboot, so an update ends at the point at which all is written, read back and proven.

use super::memory::Memory;
use crate::board::{Bootloader, Happening};
use crate::broker::line::Line;
use crate::broker::narrow::Narrow;
use crate::broker::{Broker, Kind};
use crate::gateway::{COMPATIBLE, Gateway, Plan};
use crate::listener::{Listener, Said};
use crate::operator::{Access, Bundle, Operator, Packing};
use crate::pki::Pki;
use crate::programs::Programs;
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::Group;
use mainstay_core::update::PhaseName;
use std::path::Path;
use std::time::{Duration, Instant};

const FLEET: &str = "plant";
/// The agent's own default; the bench's gateways notice sooner that a broker has gone, which a slow line does not allow.
const KEEP_ALIVE: &str = "keep_alive_s = 30";
/// When to give up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A gateway that can be updated. Everything ends when it is dropped.
pub struct Stage {
    listener: Listener,
    gateway: Gateway,
    operator: Operator,
    access: Access,
    narrow: Option<Narrow>,
    // Last: it goes when all that speaks with it has gone.
    _broker: Broker,
}

impl Stage {
    /// Builds everything in `folder`: a gateway that has `old` in its running group, and slots of `slot_bytes`. Its power
    /// is off.
    pub fn build(
        folder: &Path,
        programs: &Programs,
        old: &Path,
        slot_bytes: u64,
        line: Option<Line>,
    ) -> Result<Stage> {
        let at = |name: &str| folder.join(name);
        let pki = Pki::create(&at("pki"))?;
        let broker = Broker::start(Kind::Mosquitto, &pki, &at("broker"))?;
        let address = broker.mosquitto().doing(|| "a Mosquitto")?.address();
        let operator = Operator::new(&programs.ctl, &at("operator"), FLEET)?;
        let access = Access { url: format!("mqtts://{address}"), ..Access::new(&broker, &pki, "operator")? };
        let listener = Listener::start(&broker, &pki, "control-room", FLEET)?;
        let narrow = line.map(|line| Narrow::start(address, line)).transpose()?;
        let plan = Plan {
            folder: at("gw-0001"),
            agent: programs.agent.clone(),
            name: "gw-0001".into(),
            group: "line-1".into(),
            bootloader: Bootloader::UBoot,
            slot_bytes,
            image_floor: 1,
            watchdog_s: 30,
            approve: true,
            broker: Some(narrow.as_ref().map_or(address, Narrow::address)),
            broker_required: false,
        };
        let gateway = Gateway::build(plan, &pki, &operator.trust())?;
        gateway.configure("keep_alive_s = 5", KEEP_ALIVE)?;
        gateway.board().flash(Group::A, old)?;
        Ok(Stage { listener, gateway, operator, access, narrow, _broker: broker })
    }

    /// Packs version 2.0.0 of what its gateway runs; `further`: words to `mainstayctl pack`.
    pub fn pack(&self, image: &Path, further: &[&str]) -> Result<Bundle> {
        self.operator.pack_with(&packing(image), further)
    }

    /// Boots the gateway and waits until it is connected.
    pub fn power_on(&self) -> Result<()> {
        self.gateway.board().power_on();
        self.gateway.board().wait_for(0, PATIENCE, |event| *event == Happening::AgentStarted)?;
        self.wait(|what| matches!(what, Said::Presence(_)).then_some(()))
    }

    /// Brings a bundle onto the broker and tells the gateway to run it.
    pub fn publish(&self, bundle: &Bundle) -> Result<()> {
        self.operator.publish(bundle, &self.access, self.gateway.group()).map(drop)
    }

    /// Waits until all is written and proven.
    pub fn wait_installed(&self) -> Result<()> {
        self.wait(|what| match what {
            Said::Presence(presence) if presence.phase == PhaseName::Installed => Some(Ok(())),
            Said::Outcome(outcome) => {
                Some(Err(Trouble::new(format!("expected it to be installed, found {outcome:?}"))))
            }
            _ => None,
        })?
    }

    /// What `mainstayctl inspect` says of a bundle.
    pub fn inspect(&self, bundle: &Bundle) -> Result<serde_json::Value> {
        self.operator.inspect(&bundle.path)
    }

    /// The line that the gateway is connected by, where there is one.
    pub fn narrow(&self) -> Option<&Narrow> {
        self.narrow.as_ref()
    }

    /// Memory of the agent.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.gateway.board().status().agent.doing(|| "no agent runs")?)
    }

    /// Waits for the operator to hear something.
    fn wait<T>(&self, found: impl Fn(&Said) -> Option<T>) -> Result<T> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = self.listener.since(0).iter().find_map(|heard| found(&heard.what)) {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(Trouble::new(format!("nothing was heard for {} s", PATIENCE.as_secs())))
    }
}

/// What is packed for a measurement: quickly, since what is measured is the device.
pub fn packing(image: &Path) -> Packing<'_> {
    Packing {
        image,
        compatible: COMPATIBLE,
        version: "2.0.0",
        security_version: 2,
        tries: 3,
        deadline_s: 60,
        level: 3,
    }
}
