//! Where the deployment's objects come from now: the file or pipe that a technician gave, else the broker, else
//! nowhere yet. Also where an interruption reaches a download that waits.

use super::{Shared, Urgency};
use crate::file_source::FileSource;
use crate::health::Heartbeat;
use crate::transport::{Broker, BulkSource, BulkStatus};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::seam::{PieceSource, Place, Result};
use std::sync::Arc;

/// The agent's one source.
pub struct AgentSource {
    /// What a technician gave, until the deployment is over.
    pub file: Option<FileSource>,
    /// How to reach the broker, where there is one.
    broker: Option<Broker>,
    /// The bulk connection: made when it is first asked for, dropped when the download is over.
    bulk: Option<BulkSource>,
    /// Knows of news that cannot wait for the end of a download.
    shared: Arc<Shared>,
    /// The agent's: rests while a fetch may block for as long as the link is down.
    heart: Arc<Heartbeat>,
}

impl AgentSource {
    /// Nothing open yet.
    pub fn new(broker: Option<Broker>, shared: Arc<Shared>, heart: Arc<Heartbeat>) -> Self {
        AgentSource { file: None, broker, bulk: None, shared, heart }
    }

    /// The download is over, one way or another: closes what it had open.
    pub fn close(&mut self) {
        self.file = None;
        self.bulk = None;
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
        if self.bulk.is_none() {
            let broker = self.broker.as_ref().ok_or_else(|| {
                fault!(
                    Disconnected,
                    "no source: no broker is configured; give the bundle again with `mainstay install FILE`"
                )
            })?;
            let status = |status| match status {
                BulkStatus::Connecting { cause: None } => log::debug!("bulk connection: connecting"),
                BulkStatus::Connecting { cause: Some(cause) } => {
                    log::warn!("bulk connection: {cause}; tried again")
                }
                BulkStatus::Pulling => log::info!("bulk connection: pulling"),
                BulkStatus::Stalled { object, silent_for, cause } => {
                    log::warn!(
                        "bulk connection: nothing for {} s; waits for {object:?}: {cause}",
                        silent_for.as_secs()
                    );
                }
            };
            self.bulk = Some(BulkSource::new(broker, self.shared.interrupt.clone(), status));
        }
        match &mut self.bulk {
            Some(bulk) => Ok(bulk),
            None => Err(fault!(Disconnected, "no source")), // it was just made
        }
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
