//! Broker and web server as one source, by a policy; and what a download may cost, held for both.
//!
//! | what happens | then |
//! |---|---|
//! | the one that is asked cannot be reached, or has nothing of what is wanted | the other, for the rest of the download |
//! | it has not got one object, or its bytes are another's | the other, for this object; eight in a row: for the rest |
//! | both fail | in turns, until somebody ends the download |
//!
//! A source that is left is closed: what it had under way is memory that nobody waits for.

use super::bulk::CANCEL_LATENCY;
use super::meter::Meter;
use super::places::Places;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::seam::{PieceSource, Place, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Where objects may come from, in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The broker alone.
    #[default]
    Mqtt,
    /// The web server alone.
    Https,
    /// The broker first.
    MqttThenHttps,
    /// The web server first.
    HttpsThenMqtt,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The broker.
    Mqtt,
    /// The web server.
    Https,
}

impl Policy {
    /// As it is written in a configuration.
    pub fn from_name(name: &str) -> Option<Policy> {
        Some(match name {
            "mqtt" => Policy::Mqtt,
            "https" => Policy::Https,
            "mqtt-then-https" => Policy::MqttThenHttps,
            "https-then-mqtt" => Policy::HttpsThenMqtt,
            _ => return None,
        })
    }

    const fn kinds(self) -> [Option<Kind>; 2] {
        match self {
            Policy::Mqtt => [Some(Kind::Mqtt), None],
            Policy::Https => [Some(Kind::Https), None],
            Policy::MqttThenHttps => [Some(Kind::Mqtt), Some(Kind::Https)],
            Policy::HttpsThenMqtt => [Some(Kind::Https), Some(Kind::Mqtt)],
        }
    }
}

/// A source that can be told apart from what it has fetched.
pub trait Side: PieceSource + Send {
    /// As [`fetch`](PieceSource::fetch); the object is then [`object`](Self::object).
    fn bring(&mut self, name: &Digest, bytes: u32) -> Result<()>;
    /// What was brought last, until it is released or refuted.
    fn object(&self) -> &[u8];
    /// Bytes of objects that have come, wanted or not.
    fn received(&self) -> u64;
}

/// Makes a side; `true`: it is the only one.
pub type Make = Box<dyn FnMut(Kind, bool) -> Result<Box<dyn Side>> + Send>;

/// Told why nothing is fetched though it could be, and when that is over.
type OnHold = Box<dyn FnMut(Option<&str>) + Send>;

/// The source of a download.
pub struct Sources {
    kinds: [Option<Kind>; 2],
    make: Make,
    open: [Option<Opened>; 2],
    /// Which one is asked, 0 or 1.
    now: usize,
    /// Which one gave the object that is current.
    gave: usize,
    /// One object that is to be asked for at the other one.
    elsewhere: Option<Digest>,
    /// Objects in a row that had to be.
    misses: u32,
    places: Places<PLACES_MAX>,
    /// What was announced, and is owed for.
    asked: Vec<Digest>,
    meter: Arc<Meter>,
    cancel: Arc<AtomicBool>,
    on_hold: OnHold,
}

struct Opened {
    side: Box<dyn Side>,
    /// How much of what it has received is counted.
    counted: u64,
}

/// Objects in a row that one source has not got, or not right.
const MISSES_MAX: u32 = 8;
/// Places of objects that are announced: more than any window holds.
const PLACES_MAX: usize = 128;

impl Sources {
    /// `on_hold`: why nothing is fetched though it could be, and when that is over.
    pub fn new(
        policy: Policy,
        make: Make,
        meter: Arc<Meter>,
        cancel: Arc<AtomicBool>,
        on_hold: impl FnMut(Option<&str>) + Send + 'static,
    ) -> Self {
        Sources {
            kinds: policy.kinds(),
            make,
            open: [None, None],
            now: 0,
            gave: 0,
            elsewhere: None,
            misses: 0,
            places: Places::default(),
            asked: Vec::new(),
            meter,
            cancel,
            on_hold: Box::new(on_hold),
        }
    }

    fn has_two(&self) -> bool {
        self.kinds.iter().all(Option::is_some)
    }

    fn side(&mut self, which: usize) -> Result<&mut Opened> {
        let alone = !self.has_two();
        let missing = || fault!(Disconnected, "no source");
        let kind = self.kinds.get(which).copied().flatten().ok_or_else(missing)?;
        let slot = self.open.get_mut(which).ok_or_else(missing)?;
        if slot.is_none() {
            *slot = Some(Opened { side: (self.make)(kind, alone)?, counted: 0 });
        }
        slot.as_mut().ok_or_else(missing)
    }

    /// Asks one side, and tells it where the object lies.
    fn bring(&mut self, which: usize, name: &Digest, bytes: u32) -> Result<()> {
        let place = self.places.get(name);
        let opened = self.side(which)?;
        if let Some(place) = place {
            opened.side.place(name, bytes, place);
        }
        let brought = opened.side.bring(name, bytes);
        self.count();
        brought
    }

    /// The other one from now on.
    fn leave(&mut self, why: &Fault) {
        log::warn!("download: {why}; asking the other source");
        self.count();
        if let Some(left) = self.open.get_mut(self.now) {
            *left = None;
        }
        self.now = 1 - self.now;
        (self.misses, self.elsewhere) = (0, None);
        self.asked.clear();
    }

    fn count(&mut self) {
        for opened in self.open.iter_mut().flatten() {
            let received = opened.side.received();
            self.meter.came(received.saturating_sub(opened.counted));
            opened.counted = received;
        }
    }

    /// Waits until a download may cost more: for the rate, or the month.
    fn wait_for_leave(&mut self, name: &Digest) -> Result<()> {
        let mut held = false;
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(fault!(Cancelled, "fetch {name}: cancelled"));
            }
            let used_up = self.meter.used_up();
            let wait = match (&used_up, self.asked.contains(name)) {
                (Some(_), _) => CANCEL_LATENCY,
                (None, true) => break,
                (None, false) => match self.meter.wait(Instant::now()) {
                    Some(wait) => wait.min(CANCEL_LATENCY),
                    None => break,
                },
            };
            if let (Some(why), false) = (&used_up, held) {
                held = true;
                self.meter.settle();
                (self.on_hold)(Some(why));
            }
            std::thread::sleep(wait);
        }
        if held {
            (self.on_hold)(None);
        }
        Ok(())
    }

    fn owes(&mut self, name: &Digest, bytes: u32) {
        if !self.asked.contains(name) {
            self.asked.push(*name);
            self.meter.owe(bytes.into(), Instant::now());
        }
    }

    /// What was announced has come, or is not wanted any more.
    fn is_done(&mut self, name: &Digest) {
        self.asked.retain(|asked| asked != name);
        self.places.take(name);
    }

    fn fetched(&self) -> &[u8] {
        self.open.get(self.gave).and_then(Option::as_ref).map_or(&[], |opened| opened.side.object())
    }
}

impl PieceSource for Sources {
    fn place(&mut self, name: &Digest, _bytes: u32, place: Place) {
        self.places.note(name, place);
    }

    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        let asked = self.asked.contains(name);
        if !asked && (self.meter.wait(Instant::now()).is_some() || self.meter.used_up().is_some()) {
            return false;
        }
        let place = self.places.get(name);
        let Ok(opened) = self.side(self.now) else { return false }; // `fetch` says why
        if let Some(place) = place {
            opened.side.place(name, bytes, place);
        }
        let taken = opened.side.prefetch(name, bytes);
        if taken {
            self.owes(name, bytes);
        }
        taken
    }

    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        self.wait_for_leave(name)?;
        self.owes(name, bytes);
        loop {
            let other = self.has_two() && self.elsewhere == Some(*name);
            self.gave = if other { 1 - self.now } else { self.now };
            match self.bring(self.gave, name, bytes) {
                Ok(()) => break,
                Err(fault) if fault.kind == FaultKind::Cancelled || !self.has_two() => return Err(fault),
                // The other one has not got it either, or cannot be reached: back to the first.
                Err(_) if other => self.elsewhere = None,
                Err(fault) if fault.kind == FaultKind::NotFound && self.misses < MISSES_MAX => {
                    log::info!("download: {fault}; asking the other source for it");
                    (self.misses, self.elsewhere) = (self.misses + 1, Some(*name));
                }
                Err(fault) => self.leave(&fault),
            }
        }
        if self.gave == self.now {
            self.misses = 0;
        }
        let came = self.fetched().len() as i64;
        self.meter.owe(came - i64::from(bytes), Instant::now());
        Ok(self.fetched())
    }

    fn release(&mut self, name: &Digest) {
        self.is_done(name);
        self.elsewhere = None;
        if let Ok(opened) = self.side(self.gave) {
            opened.side.release(name);
        }
    }

    fn forget(&mut self, name: &Digest) {
        self.is_done(name);
        for opened in self.open.iter_mut().flatten() {
            opened.side.forget(name);
        }
    }

    fn refute(&mut self, name: &Digest) -> Result<()> {
        let (two, gave) = (self.has_two(), self.gave);
        let refuted = self.side(gave)?.side.refute(name);
        self.count();
        match refuted {
            Err(fault) if two => {
                let other = gave != self.now;
                if !other && self.misses >= MISSES_MAX {
                    self.leave(&fault);
                } else {
                    log::warn!("download: {fault}");
                    self.misses += u32::from(!other);
                    self.elsewhere = (!other).then_some(*name);
                }
                Ok(()) // the installer counts how often it asks
            }
            refuted => refuted,
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.count();
        self.meter.settle();
    }
}

#[cfg(test)]
mod tests;
