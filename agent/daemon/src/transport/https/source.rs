//! Objects by name from a web server. The driver's thread announces and takes; a thread of this file's asks and reads, so
//! that receiving and building overlap.
//!
//! ```text
//! announced ──► Waiting ──group──► Asked ──its bytes──► Here ──fetch──► Given ──release──► gone
//!                  ▲                 └── connection lost ──┐               │
//!                  └──────────────────────────────────────-┴── refute ─────┘
//! ```
//! # Groups
//! Neighbours in a route that are waiting when there is a turn make one GET of a range. It is a group's turn when nothing
//! else is under way, when somebody waits for one of it, or when a quarter of the window has gathered; at most
//! [`GROUPS_MAX`] are under way, so the link does not idle for a round trip between two of them. All that is announced has room in the
//! window, so whatever comes can be kept: reading never pauses.
//!
//! # A server without ranges
//! It answers 200 and begins at the route's begin. That answer is read through, once: what is not wanted is passed over, what is
//! is kept, and it stays open for what is announced next. When nothing of the route is waiting it is not read, and TCP holds
//! it back. Other files come on a second connection. A piece that lies before what was read costs the route from its begin,
//! [`THROUGH_MAX`] times at most.

use super::Depot;
use super::connection::{Connection, Target};
use crate::transport::backoff::Backoff;
use crate::transport::bulk::CANCEL_LATENCY;
use crate::transport::places::Places;
use crate::transport::pull::{LIES_MAX, Stats};
use crate::transport::sources::Side;
use crate::transport::teller::{BulkStatus, Teller};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::limits::OBJECT_BYTES_MAX;
use mainstay_core::seam::{PieceSource, Place, Result};
use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Objects announced at once, however small.
const OBJECTS_MAX: usize = 64;
/// Requests under way.
const GROUPS_MAX: usize = 4;
/// Places that were told of objects that are not announced yet.
const PLACES_MAX: usize = 64;
/// Attempts in a row that brought nothing, until another source is asked, where there is one.
const FAILURES_MAX: u32 = 3;
/// How often a route is begun anew at a server without ranges.
const THROUGH_MAX: u32 = 8;
/// Address space, not memory.
const STACK_BYTES: usize = 256 * 1024;

/// Fetches objects from a web server. Connects with the first that is asked for; dropping it closes all.
pub struct HttpsSource {
    depot: Depot,
    cancel: Arc<AtomicBool>,
    /// There is no other source: what fails is tried for ever.
    alone: bool,
    teller: Teller,
    shared: Arc<Shared>,
    running: bool,
    current: Option<Vec<u8>>,
}

impl HttpsSource {
    /// `cancel` ends a [`fetch`](PieceSource::fetch). `alone`: nobody else can be asked, so a fetch does not fail because the
    /// server does not answer, or has not got it. `on_status` is called on the thread that fetches.
    pub fn new(
        depot: &Depot,
        cancel: Arc<AtomicBool>,
        alone: bool,
        on_status: impl FnMut(BulkStatus) + Send + 'static,
    ) -> Self {
        HttpsSource {
            depot: depot.clone(),
            cancel,
            alone,
            teller: Teller::new(on_status),
            shared: Arc::default(),
            running: false,
            current: None,
        }
    }

    /// What was counted since the start.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// GETs that were answered with what was asked for.
    pub fn requests(&self) -> u64 {
        self.shared.lock().requests
    }

    fn start(&mut self) -> Result<()> {
        if self.running {
            return Ok(());
        }
        let worker = Worker::new(self.depot.clone(), self.shared.clone());
        std::thread::Builder::new()
            .name("https".into())
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run())
            .map_err(|e| fault!(Io, "https: cannot start the thread: {e}"))?;
        self.running = true;
        Ok(())
    }
}

impl PieceSource for HttpsSource {
    fn prefetch(&mut self, name: &Digest, bytes: u32) -> bool {
        if self.start().is_err() {
            return false; // `fetch` says why
        }
        let mut state = self.shared.lock();
        let taken = state.announce(name, bytes, self.depot.window_bytes, false);
        drop(state);
        self.shared.changed.notify_all();
        taken
    }

    fn place(&mut self, name: &Digest, _bytes: u32, place: Place) {
        self.shared.lock().places.note(name, place);
    }

    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        self.bring(name, bytes)?;
        Ok(self.object())
    }

    fn release(&mut self, name: &Digest) {
        self.current = None;
        let mut state = self.shared.lock();
        state.items.retain(|item| item.name != *name || item.step != Step::Given);
        state.stats.objects += 1;
        state.lies_in_a_row = 0;
        drop(state);
        self.shared.changed.notify_all();
    }

    fn forget(&mut self, name: &Digest) {
        // What is on its way comes all the same, and finds nobody who wants it.
        self.shared.lock().items.retain(|item| item.name != *name);
        self.shared.changed.notify_all();
    }

    fn refute(&mut self, name: &Digest) -> Result<()> {
        self.current = None;
        let mut state = self.shared.lock();
        state.stats.lies += 1;
        state.lies_in_a_row += 1;
        let given_up = !self.alone || state.lies_in_a_row >= LIES_MAX;
        if given_up {
            state.lies_in_a_row = 0;
            state.items.retain(|item| item.name != *name);
        } else if let Some(item) = state.items.iter_mut().find(|item| item.name == *name) {
            item.step = Step::Waiting;
            state.stats.refetches += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
        if given_up {
            return Err(fault!(
                Corrupt,
                "object {name}: {}'s bytes are not what their name says",
                self.depot
            ));
        }
        Ok(())
    }
}

impl Side for HttpsSource {
    fn bring(&mut self, name: &Digest, bytes: u32) -> Result<()> {
        self.start()?;
        self.current = None;
        let begun = Instant::now();
        let object = loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(fault!(Cancelled, "fetch {name}: cancelled"));
            }
            let mut state = self.shared.lock();
            if state.announce(name, bytes, self.depot.window_bytes, true) {
                self.shared.changed.notify_all();
            }
            if let Some(object) = state.give(name) {
                break object;
            }
            let given_up = state.trouble.as_ref().filter(|trouble| {
                let missing = trouble.fault.kind == FaultKind::NotFound && trouble.object == Some(*name);
                missing || trouble.failures >= FAILURES_MAX
            });
            if let (false, Some(trouble)) = (self.alone, given_up) {
                let fault = trouble.fault.clone();
                state.trouble = None; // who comes back asks again
                state.items.retain(|item| item.name != *name);
                return Err(fault);
            }
            let status = match &state.trouble {
                Some(trouble) if trouble.fault.kind == FaultKind::NotFound => BulkStatus::Stalled {
                    object: *name,
                    silent_for: begun.elapsed(),
                    cause: trouble.fault.to_string(),
                },
                Some(trouble) => BulkStatus::Connecting { cause: Some(trouble.fault.to_string()) },
                None => BulkStatus::Pulling,
            };
            drop(state);
            self.teller.tell(status, Instant::now());
            let state = self.shared.lock();
            if !state.is_here(name) {
                drop(self.shared.changed.wait_timeout(state, CANCEL_LATENCY));
            }
        };
        self.teller.tell(BulkStatus::Pulling, Instant::now());
        self.current = Some(object);
        Ok(())
    }

    fn object(&self) -> &[u8] {
        self.current.as_deref().unwrap_or_default()
    }

    fn received(&self) -> u64 {
        self.shared.lock().stats.bytes
    }
}

impl Drop for HttpsSource {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        for closer in state.closers.iter().flatten() {
            let _ = closer.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    /// In the order in which they were announced.
    items: Vec<Item>,
    places: Places<PLACES_MAX>,
    stopped: bool,
    /// Close the two connections, from whatever they wait for.
    closers: [Option<TcpStream>; 2],
    trouble: Option<Trouble>,
    lies_in_a_row: u32,
    requests: u64,
    stats: Stats,
}

struct Item {
    name: Digest,
    bytes: u32,
    place: Option<Place>,
    step: Step,
    /// Somebody waits for it.
    urgent: bool,
    object: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waiting,
    Asked,
    Here,
    Given,
}

/// Why the last attempt failed.
struct Trouble {
    fault: Fault,
    failures: u32,
    /// The object that the server has not got.
    object: Option<Digest>,
}

impl State {
    /// `true`: it is asked for, or here.
    fn announce(&mut self, name: &Digest, bytes: u32, window: u64, urgent: bool) -> bool {
        if let Some(item) = self.items.iter_mut().find(|item| item.name == *name) {
            item.urgent |= urgent;
            return true;
        }
        let held: u64 = self.items.iter().map(|item| u64::from(item.bytes)).sum();
        let full = held + u64::from(bytes) > window || self.items.len() >= OBJECTS_MAX;
        if full && !urgent && !self.items.is_empty() {
            return false;
        }
        let place = self.places.take(name);
        let bytes = bytes.min(OBJECT_BYTES_MAX as u32);
        let item = Item { name: *name, bytes, place, step: Step::Waiting, urgent, object: Vec::new() };
        match urgent {
            true => self.items.insert(0, item),
            false => self.items.push(item),
        }
        true
    }

    fn give(&mut self, name: &Digest) -> Option<Vec<u8>> {
        let item = self.items.iter_mut().find(|item| item.name == *name && item.step == Step::Here)?;
        item.step = Step::Given;
        Some(std::mem::take(&mut item.object))
    }

    fn is_here(&self, name: &Digest) -> bool {
        self.items.iter().any(|item| item.name == *name && item.step == Step::Here)
    }

    /// An object has come whole.
    fn came(&mut self, name: &Digest, object: Vec<u8>) {
        self.trouble = None;
        if let Some(item) = self.items.iter_mut().find(|item| item.name == *name && item.step == Step::Asked)
        {
            (item.step, item.object) = (Step::Here, object);
        }
    }

    /// The next group that has its turn, `under_way` others being asked for; its items are taken for asked.
    fn next_group(&mut self, under_way: usize, window: u64) -> Option<Group> {
        let first = self.items.iter().position(|item| item.step == Step::Waiting)?;
        let mut group = Vec::new();
        let (mut bytes, mut end, mut urgent) = (0, None, false);
        for item in self.items.get_mut(first..).unwrap_or_default() {
            let next = match (item.place, end) {
                _ if item.step != Step::Waiting => false,
                (_, None) => true,
                (Some(place), Some(end)) => Some((place.route, place.at)) == end,
                (None, _) => false,
            };
            if !next {
                break;
            }
            bytes += u64::from(item.bytes);
            urgent |= item.urgent;
            end = Some(item.place.map(|place| (place.route, place.at.saturating_add(item.bytes.into()))));
            group.push(Part { name: item.name, bytes: item.bytes, place: item.place });
            if item.place.is_none() {
                break;
            }
        }
        if under_way > 0 && !urgent && bytes < window / 4 {
            return None;
        }
        for part in &group {
            if let Some(item) = self.items.iter_mut().find(|item| item.name == part.name) {
                item.step = Step::Asked;
            }
        }
        Group::of(group)
    }
}

/// Neighbours in a route, or one object.
struct Group {
    target: Target,
    /// Those that have not come yet.
    parts: VecDeque<Part>,
}

#[derive(Clone, Copy)]
struct Part {
    name: Digest,
    bytes: u32,
    place: Option<Place>,
}

impl Group {
    fn of(parts: Vec<Part>) -> Option<Group> {
        let (first, last) = (parts.first()?, parts.last()?);
        let target = match (first.place, last.place) {
            (Some(from), Some(to)) => {
                let end = to.at.saturating_add(u64::from(last.bytes.max(1)));
                Target::Range(from.route, from.at, end - 1)
            }
            _ => Target::Object(first.name),
        };
        Some(Group { target, parts: parts.into() })
    }
}

/// The thread.
struct Worker {
    depot: Depot,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    /// Asked for on `connection`, in order.
    asked: VecDeque<Group>,
    /// The head of the first one's answer has come.
    reading: bool,
    /// The server has answered a range with a range; or never will.
    ranges: Option<bool>,
    /// The server leaves connections open.
    keeps: bool,
    through: Option<Through>,
    throughs: u32,
    backoff: Backoff,
}

/// A route that is read from its begin.
struct Through {
    connection: Connection,
    route: Digest,
    at: u64,
}

mod work;
