//! Where the deployment's objects come from now: the file or pipe that a technician gave, else broker and web server, else
//! nowhere yet. Also where an interruption reaches a download that waits.

use super::{Shared, Urgency};
use crate::config::Config;
use crate::file_source::FileSource;
use crate::health::Heartbeat;
use crate::transport::sources::{Kind, Make, Side};
use crate::transport::{
    Broker, BulkSource, BulkStatus, Depot, HttpsConfig, HttpsSource, Meter, Policy, Sources,
};
use mainstay_board_support::SystemClock;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::seam::{Clock, PieceSource, Place, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The agent's one source.
pub struct AgentSource {
    /// What a technician gave, until the deployment is over.
    pub file: Option<FileSource>,
    /// How to reach broker and web server, where there are any.
    origins: Origins,
    /// What has been opened of them: made when it is first asked for, dropped when the download is over.
    sources: Option<Sources>,
    /// Knows of news that cannot wait for the end of a download.
    shared: Arc<Shared>,
    /// The agent's: rests while a fetch may block for as long as the link is down.
    heart: Arc<Heartbeat>,
}

/// Where objects can come from, and what that may cost.
#[derive(Clone)]
pub struct Origins {
    /// The broker.
    pub broker: Option<Broker>,
    /// The web server.
    pub depot: Option<Depot>,
    /// Which of them, in which order.
    pub policy: Policy,
    /// What it may cost.
    pub meter: Arc<Meter>,
}

impl Origins {
    /// Reads the web server's certificates. `broker`: a gateway that has none, or none any more, fetches nothing either.
    pub fn of(config: &Config, broker: Option<Broker>, time_floor_s: u64) -> Result<Origins> {
        let https = config.https.as_ref().filter(|_| broker.is_some());
        let depot =
            https.map(|https| Depot::new(&HttpsConfig { time_floor_s, ..https.clone() })).transpose()?;
        let clock = || SystemClock.now().unix_s;
        let meter = Meter::new(config.transport.limits, &config.state, clock);
        Ok(Origins { broker, depot, policy: config.transport.policy, meter })
    }

    /// Makes one side.
    fn make(&self, kind: Kind, alone: bool, cancel: Arc<AtomicBool>) -> Result<Box<dyn Side>> {
        let missing = || fault!(Disconnected, "no source: none is configured");
        Ok(match kind {
            Kind::Mqtt => {
                let broker = self.broker.as_ref().ok_or_else(missing)?;
                let bulk = BulkSource::new(broker, cancel, |status| say("bulk connection", status));
                Box::new(if alone { bulk } else { bulk.beside_another() })
            }
            Kind::Https => {
                let depot = self.depot.as_ref().ok_or_else(missing)?;
                Box::new(HttpsSource::new(depot, cancel, alone, |status| say("web server", status)))
            }
        })
    }
}

/// A line for each change.
fn say(what: &str, status: BulkStatus) {
    match status {
        BulkStatus::Connecting { cause: None } => log::debug!("{what}: connecting"),
        BulkStatus::Connecting { cause: Some(cause) } => log::warn!("{what}: {cause}; tried again"),
        BulkStatus::Pulling => log::info!("{what}: pulling"),
        BulkStatus::Stalled { object, silent_for, cause } => {
            log::warn!("{what}: nothing for {} s; waits for {object:?}: {cause}", silent_for.as_secs());
        }
    }
}

impl AgentSource {
    /// Nothing open yet.
    pub fn new(origins: Origins, shared: Arc<Shared>, heart: Arc<Heartbeat>) -> Self {
        AgentSource { file: None, origins, sources: None, shared, heart }
    }

    /// The download is over, one way or another: closes what it had open.
    pub fn close(&mut self) {
        self.file = None;
        self.sources = None;
    }

    /// Has news come that cannot wait? What comes from the broker is taken up again where it was; what comes through a
    /// pipe has been read and is gone, so only its end is worth ending it.
    fn interrupted(&self) -> Result<()> {
        let work = if self.file.is_some() { Urgency::AtOnce } else { Urgency::Soon };
        if self.shared.has_news(work) {
            return Err(fault!(Cancelled, "download: interrupted by news"));
        }
        Ok(())
    }

    fn current(&mut self) -> Result<&mut dyn PieceSource> {
        if let Some(file) = &mut self.file {
            return Ok(file);
        }
        if self.origins.broker.is_none() {
            return Err(fault!(
                Disconnected,
                "no source: no broker is configured; give the bundle again with `mainstay install FILE`"
            ));
        }
        Ok(self.sources.get_or_insert_with(|| {
            let (origins, cancel, shared) =
                (self.origins.clone(), self.shared.interrupt.clone(), self.shared.clone());
            let (policy, meter, interrupt) = (origins.policy, origins.meter.clone(), cancel.clone());
            let make: Make = Box::new(move |kind, alone| origins.make(kind, alone, cancel.clone()));
            Sources::new(policy, make, meter, interrupt, move |held| {
                match held {
                    Some(why) => log::warn!("download: waits for {why}"),
                    None => log::info!("download: goes on"),
                }
                shared.change(|status| status.waiting = held.map(str::to_owned));
                shared.tell();
            })
        }))
    }
}

impl PieceSource for AgentSource {
    fn only_forward(&self) -> bool {
        self.file.is_some()
    }
    fn place(&mut self, name: &Digest, bytes: u32, place: Place) {
        if let Ok(source) = self.current() {
            source.place(name, bytes, place);
        }
    }
    fn forget(&mut self, name: &Digest) {
        if let Ok(source) = self.current() {
            source.forget(name);
        }
    }
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        self.interrupted().is_ok() && self.current().is_ok_and(|source| source.prefetch(name, bytes))
    }
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        self.interrupted()?;
        let (heart, shared, file) = (self.heart.clone(), self.shared.clone(), self.file.is_some());
        heart.rest();
        let fetched = self.current()?.fetch(name, bytes);
        heart.beat();
        // Who gives a file stops giving when the agent has to look up: that says nothing of the file.
        fetched.map_err(|fault| match file && shared.has_news(Urgency::AtOnce) {
            true => fault!(Cancelled, "download: interrupted by news"),
            false => fault,
        })
    }
    fn release(&mut self, name: &Digest) {
        if let Ok(source) = self.current() {
            source.release(name);
        }
    }
    fn refute(&mut self, name: &Digest) -> Result<()> {
        self.current()?.refute(name)
    }
}
