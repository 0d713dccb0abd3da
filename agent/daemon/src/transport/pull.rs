//! Decides what is asked for, when it is asked for again, and when to stop asking for a while. No I/O and no clock: what
//! happens comes in with its time, what is to be done goes out as [`Order`]s.
//!
//! ```text
//!   want ──► Asked ──arrived──► Here ──give──► (installer) ──release──► gone, remembered for a while
//!              ▲                                    └──refute──► Asked again, elsewhere; the third lie ends it
//!              └── connected: all that is asked for is asked for again; what is here stays here
//! ```
//! # Silence
//! A *round* is over when nothing has come for [`patience`](Pull::patience) though something is waited for: neither an
//! object nor an answer to a SUBSCRIBE. Objects that come slowly are no silence, so a thin link does not make
//! us ask twice for what is already on its way.
//!
//! | silent rounds | what is done |
//! |---|---|
//! | 1 | the window is halved; `need` names what is waited for |
//! | 2 to 7 | `need` again, and the SUBSCRIBEs too: the broker sends a retained message again upon each |
//! | 8 and more | stalled: a new connection, SUBSCRIBEs and `need`, after a wait that doubles up to 15 minutes |
//!
//! An object that came ends the silence. While the link is down there are no rounds: only time passes.
//!
//! # Lies
//! An object that is not what its name says is asked for by `need`, elsewhere than where it lay; from the fourth silent
//! round on also in the store, which may have been mended. Three lies in a row, and the object is given up.

use super::topics::NEED_NAMES_MAX;
use mainstay_core::digest::Digest;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Objects asked for at first.
pub const WINDOW_FIRST: usize = 4;
/// The least time before silence counts.
pub const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// And the most, however slow the link seemed.
pub const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Silent rounds until we call it stalled (AWS's "momentum" in another word).
pub const ROUNDS_MAX: u32 = 8;
/// The longest wait of a stalled pull.
pub const STALL_MAX: Duration = Duration::from_secs(15 * 60);
/// Silent rounds after which a store that has lied is asked again.
pub const STORE_AGAIN_ROUNDS: u32 = 4;
/// Lies, one after the other, about one object or several.
pub const LIES_MAX: u32 = 3;
/// Messages that nobody asked for, one after the other, until the connection is closed.
pub const STRIKES_MAX: u32 = 3;
/// Names remembered after their release, so that a second answer is no strike: 32 * 32 bytes.
const RECENT: usize = 32;

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<P> {
    Subscribe(Digest),
    Unsubscribe(Digest),
    Need(Vec<Digest>),
    Acknowledge(P),
    /// Close the connection, and open it again after the link's own wait.
    Reopen(String),
}

/// What became of something that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Wanted,
    Duplicate,
    Unrequested,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of all objects that came, wanted or not.
    pub bytes: u64,
    /// Objects that were used.
    pub objects: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Objects that came more than once, or came and had to be asked for again.
    pub refetches: u64,
    /// `need` messages sent.
    pub needs: u64,
    /// Objects that were not what their name said.
    pub lies: u64,
    /// Messages that nobody had asked for.
    pub unrequested: u64,
}

/// A stalled pull waits, each time twice as long.
#[derive(Clone, Copy)]
struct Stall {
    full: Duration,
    wait: Duration,
}

struct Slot<P> {
    name: Digest,
    object: Option<P>,
    acknowledged: bool,
    lies: u32,
    /// Since when it is waited for, on this connection.
    asked: Instant,
    /// When the SUBSCRIBE went out that is not answered yet.
    subscribed: Option<Instant>,
}

/// The state of a pull. `P` is an object as it came, with what is needed to acknowledge it.
pub(super) struct Pull<P> {
    cap: usize,
    window: usize,
    clean: usize,
    slots: Vec<Slot<P>>,
    recent: VecDeque<Digest>,
    up: bool,
    connections: u64,
    /// Something wanted has come on this connection.
    came: bool,
    /// The broker's last answer, object or not.
    heard: Instant,
    /// The last wanted object.
    last_object: Instant,
    /// Begin of the present round.
    quiet_since: Instant,
    round_trip: Option<Duration>,
    pace: Option<Duration>,
    silent_rounds: u32,
    stall: Option<Stall>,
    jitter: fn(Duration) -> Duration,
    strikes: u32,
    lies_in_a_row: u32,
    need_open: bool,
    orders: Vec<Order<P>>,
    pub stats: Stats,
}

impl<P: Clone> Pull<P> {
    /// `cap`: the largest window. `jitter`: what a stalled wait is put through.
    pub fn new(cap: usize, jitter: fn(Duration) -> Duration, now: Instant) -> Self {
        Pull {
            cap,
            window: WINDOW_FIRST.min(cap),
            clean: 0,
            slots: Vec::with_capacity(cap + 1),
            recent: VecDeque::with_capacity(RECENT),
            up: false,
            connections: 0,
            came: false,
            heard: now,
            last_object: now,
            quiet_since: now,
            round_trip: None,
            pace: None,
            silent_rounds: 0,
            stall: None,
            jitter,
            strikes: 0,
            lies_in_a_row: 0,
            need_open: false,
            orders: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// What is to be done now, in this order.
    pub fn orders(&mut self) -> Vec<Order<P>> {
        std::mem::take(&mut self.orders)
    }

    /// Asks for `name` ahead of its time. `false`: the window is full.
    pub fn prefetch(&mut self, name: &Digest, now: Instant) -> bool {
        if self.slot(name).is_some() {
            return true;
        }
        if self.slots.len() >= self.window {
            return false;
        }
        self.ask(name, now);
        true
    }

    /// Asks for `name` even if the window is full: then one more than the window is in memory, and what lies here is
    /// acknowledged early, or the broker's quota would keep the new one back for ever.
    pub fn want(&mut self, name: &Digest, now: Instant) {
        if self.slot(name).is_some() {
            return;
        }
        if self.slots.len() >= self.cap {
            for slot in &mut self.slots {
                if let (Some(object), false) = (&slot.object, slot.acknowledged) {
                    slot.acknowledged = true;
                    self.orders.push(Order::Acknowledge(object.clone()));
                }
            }
        }
        self.ask(name, now);
    }

    /// The object, if it is here.
    pub fn give(&mut self, name: &Digest) -> Option<P> {
        self.slot(name)?.object.clone()
    }

    /// It was used: acknowledge and forget it.
    pub fn release(&mut self, name: &Digest) {
        let Some(at) = self.slots.iter().position(|s| s.name == *name && s.object.is_some()) else { return };
        self.lies_in_a_row = 0;
        self.stats.objects += 1;
        self.forget(at);
    }

    /// It was asked for ahead of its time, and is not wanted after all.
    pub fn abandon(&mut self, name: &Digest) {
        if let Some(at) = self.slots.iter().position(|s| s.name == *name) {
            self.forget(at);
        }
    }

    /// It is not what its name says. `false`: given up, and the connection with it.
    pub fn refute(&mut self, name: &Digest, now: Instant) -> bool {
        let Some(at) = self.slots.iter().position(|s| s.name == *name && s.object.is_some()) else {
            return true;
        };
        self.stats.lies += 1;
        self.lies_in_a_row += 1;
        if self.lies_in_a_row >= LIES_MAX {
            self.lies_in_a_row = 0;
            self.forget(at);
            self.orders
                .push(Order::Reopen(format!("{LIES_MAX} objects in a row are not what their names say")));
            return false;
        }
        let Some(slot) = self.slots.get_mut(at) else { return true };
        slot.lies += 1;
        slot.asked = now;
        self.stats.refetches += 1;
        if let (Some(object), false) = (slot.object.take(), std::mem::take(&mut slot.acknowledged)) {
            self.orders.push(Order::Acknowledge(object));
        }
        self.quiet_since = now;
        self.silent_rounds = 0;
        self.need(vec![*name]);
        true
    }

    /// A new connection: the broker knows nothing of us.
    pub fn connected(&mut self, now: Instant) {
        self.up = true;
        self.connections += 1;
        self.stats.reconnects = self.connections - 1;
        self.strikes = 0;
        self.need_open = false;
        self.came = false;
        self.quiet_since = now;
        self.orders.clear();
        let store_again = self.silent_rounds >= STORE_AGAIN_ROUNDS;
        for slot in self.slots.iter_mut().filter(|s| s.object.is_none()) {
            (slot.asked, slot.subscribed) = (now, None);
            if slot.lies == 0 || store_again {
                slot.subscribed = Some(now);
                self.orders.push(Order::Subscribe(slot.name));
            }
        }
        let stalled = self.stall.is_some();
        self.need(self.waiting().filter(|s| stalled || s.lies > 0).map(|s| s.name).collect());
    }

    /// The connection is gone. What is here stays here.
    pub fn disconnected(&mut self) {
        self.up = false;
        self.need_open = false;
        self.orders.clear();
    }

    /// The broker has answered a SUBSCRIBE. `granted`: or it has refused it, and only `need` is left.
    pub fn subscribed(&mut self, name: &Digest, granted: bool, now: Instant) {
        let Some(slot) = self.slot(name).filter(|s| s.object.is_none()) else { return };
        if let Some(sent) = slot.subscribed.take() {
            let took = now.saturating_duration_since(sent);
            self.round_trip = Some(smoothed(self.round_trip, took));
        }
        (self.heard, self.quiet_since) = (now, now);
        if !granted {
            self.need(vec![*name]);
        }
    }

    /// The broker has taken our last `need`; until then there is no other.
    pub fn need_taken(&mut self) {
        self.need_open = false;
    }

    /// An object has come. What is not kept is acknowledged at once.
    pub fn arrived(&mut self, name: &Digest, object: P, bytes: usize, now: Instant) -> Arrival {
        self.stats.bytes += bytes as u64;
        let last_object = self.last_object;
        match self.slots.iter_mut().find(|s| s.name == *name) {
            Some(slot) if slot.object.is_none() => {
                let waited = now.saturating_duration_since(last_object.max(slot.asked));
                slot.object = Some(object);
                slot.acknowledged = false;
                self.pace = Some(smoothed(self.pace, waited));
                (self.last_object, self.heard, self.quiet_since, self.came) = (now, now, now, true);
                (self.silent_rounds, self.stall, self.strikes) = (0, None, 0);
                self.clean += 1;
                if self.clean >= self.window {
                    self.clean = 0;
                    self.window = self.cap.min(self.window + 1);
                }
                Arrival::Wanted
            }
            found => {
                let known = found.is_some() || self.recent.contains(name);
                self.orders.push(Order::Acknowledge(object));
                if known {
                    self.stats.refetches += 1;
                    return Arrival::Duplicate;
                }
                self.strike();
                Arrival::Unrequested
            }
        }
    }

    /// Something has come that is no object, or on no topic of ours.
    pub fn unknown(&mut self, message: P, bytes: usize) {
        self.stats.bytes += bytes as u64;
        self.orders.push(Order::Acknowledge(message));
        self.strike();
    }

    /// Time has passed: ends a silent round if it is over.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        self.quiet_since = now;
        self.silent_rounds = self.silent_rounds.saturating_add(1);
        self.window = (self.window / 2).max(1);
        self.clean = 0;
        if self.silent_rounds > ROUNDS_MAX {
            self.orders.push(Order::Reopen("stalled: asking again on a new connection".into()));
        }
        if self.silent_rounds >= ROUNDS_MAX {
            let full =
                self.stall.map_or_else(|| self.patience(), |s| s.full).saturating_mul(2).min(STALL_MAX);
            self.stall = Some(Stall { full, wait: (self.jitter)(full) });
            if self.silent_rounds > ROUNDS_MAX {
                return;
            }
        }
        if self.silent_rounds >= 2 {
            let store_again = self.silent_rounds >= STORE_AGAIN_ROUNDS;
            let waiting = self.slots.iter_mut().filter(|s| s.object.is_none());
            for slot in waiting.filter(|s| s.lies == 0 || store_again) {
                slot.subscribed = Some(now);
                self.orders.push(Order::Subscribe(slot.name));
            }
        }
        self.need(self.waiting().map(|s| s.name).collect());
    }

    /// When [`tick`](Self::tick) has something to do; `None` while nothing is waited for, or the link is down.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting().next().filter(|_| self.up)?;
        Some(self.quiet_since + self.stall.map_or_else(|| self.patience(), |s| s.wait))
    }

    /// The silence that ends a round: four times what an answer or an object has taken lately.
    pub fn patience(&self) -> Duration {
        let slowest = self.round_trip.max(self.pace).unwrap_or_default();
        (slowest * 4).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// How long the broker has said nothing, once that counts as stalled.
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        self.stall.map(|_| now.saturating_duration_since(self.heard))
    }

    /// This connection, or the last one, has brought something wanted.
    pub fn came_through(&self) -> bool {
        self.came
    }

    fn ask(&mut self, name: &Digest, now: Instant) {
        if self.waiting().next().is_none() {
            self.quiet_since = now;
        }
        self.recent.retain(|n| n != name);
        let slot = Slot {
            name: *name,
            object: None,
            acknowledged: false,
            lies: 0,
            asked: now,
            subscribed: Some(now),
        };
        self.slots.push(slot);
        if self.up {
            self.orders.push(Order::Subscribe(*name));
        }
    }

    /// At most one is under way: the broker's answer to it is not told apart from another's.
    fn need(&mut self, mut names: Vec<Digest>) {
        if names.is_empty() || self.need_open || !self.up {
            return;
        }
        names.truncate(NEED_NAMES_MAX);
        self.need_open = true;
        self.stats.needs += 1;
        self.orders.push(Order::Need(names));
    }

    fn strike(&mut self) {
        self.strikes += 1;
        self.stats.unrequested += 1;
        if self.strikes == STRIKES_MAX {
            self.orders.push(Order::Reopen(format!("{STRIKES_MAX} messages in a row that nobody asked for")));
        }
    }

    fn forget(&mut self, at: usize) {
        let slot = self.slots.remove(at);
        if let (Some(object), false) = (slot.object, slot.acknowledged) {
            self.orders.push(Order::Acknowledge(object));
        }
        self.orders.push(Order::Unsubscribe(slot.name));
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(slot.name);
    }

    fn waiting(&self) -> impl Iterator<Item = &Slot<P>> {
        self.slots.iter().filter(|s| s.object.is_none())
    }

    fn slot(&mut self, name: &Digest) -> Option<&mut Slot<P>> {
        self.slots.iter_mut().find(|s| s.name == *name)
    }
}

/// Seven parts of what was, one of what is (RFC 6298's weights); the first value counts whole.
fn smoothed(before: Option<Duration>, now: Duration) -> Duration {
    before.map_or(now, |before| before - before / 8 + now / 8)
}

#[cfg(test)]
mod tests;
