//! A broker to update a gateway from: rumqttd inside this process, or a real Mosquitto, behind the same front door.
//!
//! Either way a client needs a certificate of the bench's CA and speaks TLS 1.3. The broker can go away in the middle of a
//! download and come back with or without what it had retained, and it counts the bytes that it sent: what a gateway fetched
//! twice shows in a number that the gateway has no hand in.

mod embedded;
pub mod gate;
pub mod line;
pub mod mosquitto;
pub mod narrow;
pub mod tls;

use crate::Result;
use crate::pki::{Identity, Pki};
use gate::{Gate, Side};
use mosquitto::Mosquitto;
use std::net::SocketAddr;
use std::path::Path;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rumqttd, inside this process.
    Embedded,
    /// Mosquitto, as a process.
    Mosquitto,
}

impl Kind {
    /// Is there what it needs on this machine?
    pub fn available(self) -> Result<()> {
        match self {
            Kind::Embedded => Ok(()),
            Kind::Mosquitto => mosquitto::program().map(drop),
        }
    }

    /// Reads `embedded` or `mosquitto`.
    pub fn from_name(name: &str) -> Option<Kind> {
        match name {
            "embedded" => Some(Kind::Embedded),
            "mosquitto" => Some(Kind::Mosquitto),
            _ => None,
        }
    }
}

/// What a broker that comes back knows of retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// All.
    Kept,
    /// Nothing.
    Lost,
}

/// A running broker. Gone when dropped.
pub struct Broker {
    gate: Gate,
    behind: Behind,
}

enum Behind {
    Embedded(SocketAddr),
    Mosquitto(Mosquitto),
}

impl Broker {
    /// Starts a broker; `folder` is where a Mosquitto keeps its files.
    pub fn start(kind: Kind, pki: &Pki, folder: &Path) -> Result<Broker> {
        let (behind, side) = match kind {
            Kind::Embedded => {
                let side = Side::Terminate(tls::server(&pki.ca(), pki.broker())?);
                (Behind::Embedded(embedded::start()?), side)
            }
            Kind::Mosquitto => (Behind::Mosquitto(Mosquitto::start(pki, folder)?), Side::PassThrough),
        };
        let gate = Gate::open(side, behind.address())?;
        Ok(Broker { gate, behind })
    }

    /// Where clients connect: TLS 1.3, on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// The front door: counters, and the pace.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Mosquitto's own port, past the gate, and its process: for measurements.
    pub fn mosquitto(&self) -> Option<&Mosquitto> {
        match &self.behind {
            Behind::Embedded(_) => None,
            Behind::Mosquitto(mosquitto) => Some(mosquitto),
        }
    }

    /// The broker goes away: every connection is cut, and nothing listens any more.
    pub fn stop(&mut self) {
        self.gate.shut();
    }

    /// The broker comes back at the same address.
    pub fn restart(&mut self, memory: Memory) -> Result<()> {
        self.gate.shut();
        match (&mut self.behind, memory) {
            (Behind::Embedded(_), Memory::Kept) => {}
            (Behind::Embedded(address), Memory::Lost) => *address = embedded::start()?,
            (Behind::Mosquitto(mosquitto), Memory::Kept) => {
                mosquitto.terminate()?;
                mosquitto.restart()?;
            }
            (Behind::Mosquitto(mosquitto), Memory::Lost) => {
                mosquitto.kill_and_forget()?;
                mosquitto.restart()?;
            }
        }
        self.gate.reopen(self.behind.address())
    }
}

impl Behind {
    fn address(&self) -> SocketAddr {
        match self {
            Behind::Embedded(address) => *address,
            Behind::Mosquitto(mosquitto) => mosquitto.address(),
        }
    }
}

/// A plain port on this machine that leads to the broker through TLS, with `identity`'s certificate: for MQTT clients that
/// know no TLS, as rumqttc without its TLS features.
pub fn tunnel(broker: SocketAddr, pki: &Pki, identity: Option<&Identity>) -> Result<Gate> {
    Gate::open(Side::Originate(tls::client(&pki.ca(), identity)?), broker)
}
