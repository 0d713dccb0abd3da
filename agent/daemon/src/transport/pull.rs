//! Decides what is asked for, when it is asked for again, and when to stop asking for a while. No I/O and no clock: what
//! happens comes in with its time, what is to be done goes out as [`Order`]s.
//!
//! ```text
//!   want ──► Asked ──arrived──► Here ──give──► (installer) ──release──► gone, remembered for a while
//!              ▲                                    └──refute──► Asked again, elsewhere; the third lie ends it
//!              └── connected: all that is asked for is asked for again; what is here stays here
//! ```
//! How much is asked for ahead, [`window`] says.
//!
//! # Silence
//! When nothing has come for [`patience`](Pull::patience) though something is waited for, neither an object nor an answer to
//! a SUBSCRIBE, a *probe* goes out: a request that changes nothing. A connection keeps the order, so if its answer is here
//! and still no object, then none was on its way: a *silent round*. On a thin link the answer queues behind the objects,
//! however long they take, and nothing is asked for twice.
//!
//! | silent rounds | what is done |
//! |---|---|
//! | 1 | the window is halved; `need` names what is waited for; what is here is acknowledged, or the broker's own limit may keep the rest back |
//! | 2 to 7 | `need` again, and the SUBSCRIBEs too: the broker sends a retained message again upon each |
//! | 8 and more | stalled: a new connection, SUBSCRIBEs and `need`, after a wait that doubles up to 15 minutes |
//!
//! An object that came ends the silence. While the link is down there are no rounds: only time passes.
//!
//! # A store that holds nothing
//! [`NEED_FIRST`] objects, one after the other, that only `need` brought: from then on `need` is all that is sent, several names
//! in one message, and no object waits for a silence. A silent round, or a broker that says that nobody hears `need`, and
//! the store is asked again.
//!
//! # Lies
//! An object that is not what its name says is asked for by `need`, elsewhere than where it lay; from the fourth silent
//! round on also in the store, which may have been mended. Three lies in a row, and the object is given up.

mod window;

use super::topics::NEED_NAMES_MAX;
use mainstay_core::digest::Digest;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use window::Window;

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
/// A probe that is not answered for so long counts as silence all the same; a dead link is noticed before, by a ping.
pub const PROBE_MAX: Duration = Duration::from_secs(60);
/// Objects in a row that only `need` brought, after which nothing else is tried first.
pub const NEED_FIRST: u32 = 3;
/// Names remembered after their release, so that a second answer is no strike: 32 * 32 bytes.
const RECENT: usize = 32;

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<P> {
    Subscribe(Digest),
    Unsubscribe(Digest),
    Need(Vec<Digest>),
    /// A request that changes nothing, for the sake of its answer.
    Probe,
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
    /// What was announced, and then what has come.
    bytes: u64,
    acknowledged: bool,
    lies: u32,
    /// Since when it is waited for, on this connection.
    asked: Instant,
    /// What this connection had brought by then.
    delivered: u64,
    /// The store has been asked, on this connection.
    stored: bool,
    /// When the SUBSCRIBE went out that is not answered yet.
    subscribed: Option<Instant>,
    need: Need,
}

/// Whether an object is asked for by `need`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    No,
    /// With the next message.
    Due,
    Sent(Instant),
}

/// Sizes that hold for all of a pull's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Objects asked for at once.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The connection's keep-alive.
    pub keep_alive: Duration,
}

/// The state of a pull. `P` is an object as it came, with what is needed to acknowledge it.
pub(super) struct Pull<P> {
    cap: usize,
    window: Window,
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
    pace: Option<Duration>,
    /// Bytes of wanted objects on this connection.
    delivered: u64,
    /// When the probe went out that is not answered yet.
    probe: Option<Instant>,
    /// Objects in a row that only `need` brought.
    needed_in_a_row: u32,
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
    /// `jitter`: what a stalled wait is put through.
    pub fn new(limits: Limits, jitter: fn(Duration) -> Duration, now: Instant) -> Self {
        let cap = limits.objects;
        Pull {
            cap,
            window: Window::new(limits.bytes, limits.keep_alive),
            slots: Vec::with_capacity(cap + 1),
            recent: VecDeque::with_capacity(RECENT),
            up: false,
            connections: 0,
            came: false,
            heard: now,
            last_object: now,
            quiet_since: now,
            pace: None,
            delivered: 0,
            probe: None,
            needed_in_a_row: 0,
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

    /// Asks for `name`, of at most `bytes`, ahead of its time. `false`: the window is full. One object always has room.
    pub fn prefetch(&mut self, name: &Digest, bytes: u32, now: Instant) -> bool {
        if self.slot(name).is_some() {
            return true;
        }
        let held: u64 = self.slots.iter().map(|slot| slot.bytes).sum();
        let full = held + u64::from(bytes) > self.window.bytes();
        if self.slots.len() >= self.cap || (full && !self.slots.is_empty()) {
            return false;
        }
        self.ask(name, bytes, now);
        true
    }

    /// Asks for `name` even if the window is full: then one more than the window is in memory, and what lies here is
    /// acknowledged early, or the broker's quota would keep the new one back for ever.
    pub fn want(&mut self, name: &Digest, bytes: u32, now: Instant) {
        if self.slot(name).is_some() {
            return;
        }
        if self.slots.len() >= self.cap {
            self.acknowledge_early();
        }
        self.ask(name, bytes, now);
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
        (slot.asked, slot.delivered) = (now, self.delivered);
        slot.need = Need::Due;
        self.stats.refetches += 1;
        if let (Some(object), false) = (slot.object.take(), std::mem::take(&mut slot.acknowledged)) {
            self.orders.push(Order::Acknowledge(object));
        }
        self.quiet_since = now;
        self.silent_rounds = 0;
        self.send_need(now);
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
        (self.delivered, self.probe) = (0, None);
        self.window.connected();
        let (stalled, need_first) = (self.stall.is_some(), self.asks_by_need_first());
        let store_again = self.silent_rounds >= STORE_AGAIN_ROUNDS;
        for slot in &mut self.slots {
            (slot.asked, slot.subscribed, slot.stored, slot.delivered) = (now, None, false, 0);
            let needed = stalled || need_first || slot.lies > 0;
            slot.need = if needed && slot.object.is_none() { Need::Due } else { Need::No };
        }
        self.ask_the_store(now, |slot| (slot.lies == 0 && !need_first) || store_again);
        self.send_need(now);
    }

    /// The broker has answered our first request on this connection, which was sent when it began.
    pub fn greeted(&mut self, took: Duration) {
        self.window.answered(took);
    }

    /// The connection is gone. What is here stays here.
    pub fn disconnected(&mut self) {
        self.up = false;
        self.need_open = false;
        self.probe = None;
        self.orders.clear();
    }

    /// The broker has answered a SUBSCRIBE. `granted`: or it has refused it, and only `need` is left.
    pub fn subscribed(&mut self, name: &Digest, granted: bool, now: Instant) {
        let Some(slot) = self.slot(name).filter(|s| s.object.is_none()) else { return };
        let sent = slot.subscribed.take();
        if !granted {
            slot.need = Need::Due;
        }
        if let Some(sent) = sent {
            self.window.answered(now.saturating_duration_since(sent));
        }
        (self.heard, self.quiet_since) = (now, now);
        self.send_need(now);
    }

    /// The broker has answered our last `need`; until then there is no other. `heard`: somebody listens to it.
    pub fn need_taken(&mut self, heard: bool, now: Instant) {
        self.need_open = false;
        if !heard && self.asks_by_need_first() {
            self.needed_in_a_row = 0;
            self.ask_the_store(now, |slot| !slot.stored && slot.lies == 0);
        }
        self.send_need(now);
    }

    /// The broker has answered our probe. What was on its way before has come before.
    pub fn probed(&mut self, now: Instant) {
        let Some(sent) = self.probe.take() else { return };
        if self.quiet_since <= sent && self.waiting().next().is_some() {
            self.silent_round(now);
        }
    }

    /// An object has come, from the store or (`answer`) because of `need`. What is not kept is acknowledged at once.
    pub fn arrived(&mut self, name: &Digest, object: P, bytes: usize, answer: bool, now: Instant) -> Arrival {
        self.stats.bytes += bytes as u64;
        let last_object = self.last_object;
        match self.slots.iter_mut().find(|s| s.name == *name) {
            Some(slot) if slot.object.is_none() => {
                let asked = if let Need::Sent(at) = slot.need { at } else { slot.asked };
                let waited = now.saturating_duration_since(last_object.max(asked));
                slot.object = Some(object);
                slot.bytes = bytes as u64;
                slot.acknowledged = false;
                self.delivered += bytes as u64;
                let delivered = self.delivered.saturating_sub(slot.delivered);
                self.window.came(bytes as u64, delivered, now.saturating_duration_since(slot.asked));
                self.needed_in_a_row = match answer {
                    true if slot.lies == 0 => self.needed_in_a_row.saturating_add(1),
                    true => self.needed_in_a_row,
                    false => 0,
                };
                self.pace = Some(smoothed(self.pace, waited));
                (self.last_object, self.heard, self.quiet_since, self.came) = (now, now, now, true);
                (self.silent_rounds, self.stall, self.strikes) = (0, None, 0);
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

    /// Time has passed: sends a probe, or ends a silent round.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        if self.probe.is_some() || self.stall.is_some() {
            self.probe = None;
            return self.silent_round(now);
        }
        self.probe = Some(now);
        self.orders.push(Order::Probe);
    }

    fn silent_round(&mut self, now: Instant) {
        self.quiet_since = now;
        self.silent_rounds = self.silent_rounds.saturating_add(1);
        self.needed_in_a_row = 0;
        self.window.halve();
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
        self.acknowledge_early();
        let (again, store_again) = (self.silent_rounds >= 2, self.silent_rounds >= STORE_AGAIN_ROUNDS);
        self.ask_the_store(now, |slot| (slot.lies == 0 && (again || !slot.stored)) || store_again);
        for slot in self.slots.iter_mut().filter(|s| s.object.is_none()) {
            slot.need = Need::Due;
        }
        self.send_need(now);
    }

    /// When [`tick`](Self::tick) has something to do; `None` while nothing is waited for, or the link is down.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting().next().filter(|_| self.up)?;
        Some(match (self.probe, self.stall) {
            (_, Some(stall)) => self.quiet_since + stall.wait,
            (Some(sent), None) => sent + PROBE_MAX,
            (None, None) => self.quiet_since + self.patience(),
        })
    }

    /// The quiet that makes us ask the broker whether there is more to come: four round trips; where `need` has been sent,
    /// also four times what an object has taken lately, for nothing tells us how its answers queue.
    pub fn patience(&self) -> Duration {
        let needed = self.silent_rounds > 0 || self.asks_by_need_first();
        let pace = self.pace.filter(|_| needed);
        let slowest = self.window.round_trip().max(pace).unwrap_or_default();
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

    /// The store seems to hold nothing.
    const fn asks_by_need_first(&self) -> bool {
        self.needed_in_a_row >= NEED_FIRST
    }

    fn ask(&mut self, name: &Digest, bytes: u32, now: Instant) {
        if self.waiting().next().is_none() {
            self.quiet_since = now;
        }
        self.recent.retain(|n| n != name);
        let need_first = self.asks_by_need_first();
        self.slots.push(Slot {
            name: *name,
            object: None,
            bytes: bytes.into(),
            acknowledged: false,
            lies: 0,
            asked: now,
            delivered: self.delivered,
            stored: false,
            subscribed: None,
            need: if need_first { Need::Due } else { Need::No },
        });
        match need_first {
            true => self.send_need(now),
            false => self.ask_the_store(now, |slot| slot.name == *name),
        }
    }

    /// SUBSCRIBE for those that are waited for and are `chosen`. While the link is down, [`connected`](Self::connected) will.
    fn ask_the_store(&mut self, now: Instant, chosen: impl Fn(&Slot<P>) -> bool) {
        if !self.up {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.object.is_none() && chosen(slot)) {
            (slot.subscribed, slot.stored) = (Some(now), true);
            self.orders.push(Order::Subscribe(slot.name));
        }
    }

    /// At most one is under way: the broker's answer to it is not told apart from another's.
    fn send_need(&mut self, now: Instant) {
        if self.need_open || !self.up {
            return;
        }
        let due = self.slots.iter_mut().filter(|slot| slot.object.is_none() && slot.need == Need::Due);
        let names: Vec<Digest> = due
            .take(NEED_NAMES_MAX)
            .map(|slot| {
                slot.need = Need::Sent(now);
                slot.name
            })
            .collect();
        if names.is_empty() {
            return;
        }
        self.need_open = true;
        self.stats.needs += 1;
        self.orders.push(Order::Need(names));
    }

    /// What is here is acknowledged before it is used, so that no quota keeps back what is needed sooner.
    fn acknowledge_early(&mut self) {
        for slot in &mut self.slots {
            if let (Some(object), false) = (&slot.object, slot.acknowledged) {
                slot.acknowledged = true;
                self.orders.push(Order::Acknowledge(object.clone()));
            }
        }
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
        if slot.stored {
            self.orders.push(Order::Unsubscribe(slot.name));
        }
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
