//! Who feeds the watchdog: one thread, for as long as every thread that matters shows that it lives.
//!
//! ```text
//! agent    ── beat ─── beat ─── beat ──────── (hangs)
//! feeder   ─f──f──f──f──f──f──f──f──f──f──✗ the oldest beat is over its limit: no more feeding
//! hardware                                 └── timeout ──┤ reset
//! ```
//! A hang is noticed within the heartbeat's limit and a quarter of the watchdog's timeout, and ends a timeout after
//! the last feeding. Should the thread come back before that, it is fed again: a machine that was slow is not dead.
//!
//! [`stop_feeding`](Feeder::stop_feeding) is for ever. [`feed_for`](Feeder::feed_for) bounds the trust in a trial: when
//! the time is up and nobody has said that it went well, nobody feeds any more, whatever the heartbeats say.
//!
//! The watchdog is never disarmed and its file never closed: a driver without "nowayout" might stop at a close.

use mainstay_board_support::Board;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::seam::Watchdog;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Makes the watchdog; called until it once gives one.
type Make = Box<dyn FnMut() -> Result<Box<dyn Watchdog + Send>, Fault> + Send>;

/// Feeds the board's watchdog. A clone feeds the same.
#[derive(Clone)]
pub struct Feeder(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    /// Heartbeats count from here.
    epoch: Instant,
}

struct State {
    source: Source,
    armed_s: Option<u32>,
    hearts: Vec<Arc<Heart>>,
    until: Option<Instant>,
    stopped: Option<String>,
}

enum Source {
    /// The board says that there is none.
    None,
    /// There is one, to be armed with this timeout in seconds.
    ToMake(Make, u32),
    /// It was made, and could not be armed yet.
    Made(Box<dyn Watchdog + Send>, u32),
    /// The feeding thread has it.
    Given,
}

/// One thread's sign of life.
struct Heart {
    name: &'static str,
    limit: Duration,
    /// Milliseconds since the feeder's epoch; [`RESTING`] while the thread may block for long.
    beat_ms: AtomicU64,
}

/// Later than any moment, so it never grows old.
const RESTING: u64 = u64::MAX;

/// A thread's end of its sign of life. Dropped, it is not expected any more, unless the thread panics: then it stays,
/// grows old, and the watchdog bites.
pub struct Heartbeat {
    heart: Arc<Heart>,
    feeder: Feeder,
}

impl Feeder {
    /// For a board: what its file says.
    pub fn for_board(board: &Board) -> Feeder {
        let board = board.clone();
        Feeder::new(board.watchdog_timeout_s(), Box::new(move || board.watchdog()))
    }

    /// With this timeout in seconds, on the watchdog that `make` gives when it is armed; `None`: there is none.
    pub fn new(timeout_s: Option<u32>, make: Make) -> Feeder {
        let source = timeout_s.map_or(Source::None, |seconds| Source::ToMake(make, seconds));
        let state = State { source, armed_s: None, hearts: Vec::new(), until: None, stopped: None };
        Feeder(Arc::new(Inner { state: Mutex::new(state), changed: Condvar::new(), epoch: Instant::now() }))
    }

    /// Arms the watchdog and begins to feed it; the timeout that the hardware took, in seconds, or `None` where the
    /// board has none. Once it is armed, another call changes nothing. A failed call may be tried again.
    pub fn arm(&self) -> Result<Option<u32>, Fault> {
        let mut state = self.lock();
        let (mut watchdog, seconds) = match std::mem::replace(&mut state.source, Source::Given) {
            Source::None => {
                state.source = Source::None;
                return Ok(None);
            }
            Source::Given => return Ok(state.armed_s),
            Source::Made(watchdog, seconds) => (watchdog, seconds),
            Source::ToMake(mut make, seconds) => match make() {
                Ok(watchdog) => (watchdog, seconds),
                Err(fault) => {
                    state.source = Source::ToMake(make, seconds);
                    return Err(fault);
                }
            },
        };
        match watchdog.arm(seconds) {
            Ok(took) => {
                self.spawn(watchdog, Duration::from_secs(took.max(1).into()))?;
                state.armed_s = Some(took);
                match took == seconds {
                    true => log::info!("watchdog: armed, {took} s"),
                    false => log::warn!(
                        "watchdog: armed, {took} s: its driver does not take the {seconds} s asked for"
                    ),
                }
                Ok(Some(took))
            }
            Err(fault) => {
                state.source = Source::Made(watchdog, seconds);
                Err(fault)
            }
        }
    }

    /// Expects a beat at least every `limit` from now on.
    pub fn heartbeat(&self, name: &'static str, limit: Duration) -> Heartbeat {
        let heart = Arc::new(Heart { name, limit, beat_ms: AtomicU64::new(self.now_ms()) });
        self.lock().hearts.push(heart.clone());
        Heartbeat { heart, feeder: self.clone() }
    }

    /// Feeds for so much longer at most; `None`: without an end, as at first.
    pub fn feed_for(&self, time: Option<Duration>) {
        self.lock().until = time.and_then(|time| Instant::now().checked_add(time));
        self.0.changed.notify_all();
    }

    /// Never feeds again: the machine is to be reset. Returns when that is certain.
    pub fn stop_feeding(&self, why: &str) {
        log::error!("watchdog: not fed any more: {why}");
        self.lock().stopped.get_or_insert_with(|| why.to_string());
    }

    /// Why the watchdog is not fed now, if it is not; an unarmed one would not be, either.
    pub fn starved(&self) -> Option<String> {
        self.lock().judge(Instant::now(), self.now_ms()).err()
    }

    fn spawn(&self, watchdog: Box<dyn Watchdog + Send>, timeout: Duration) -> Result<(), Fault> {
        let inner = self.0.clone();
        let thread = std::thread::Builder::new().name("watchdog".into()).stack_size(STACK_BYTES);
        thread
            .spawn(move || feed(&inner, watchdog, timeout / 4))
            .map_err(|e| fault!(Io, "watchdog: start the feeding thread: {e}"))?;
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// 64 KiB hold a log line's formatting and an ioctl.
const STACK_BYTES: usize = 64 * 1024;

impl Inner {
    fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64 // wraps after 584 million years
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The feeding thread. It keeps the watchdog for ever, fed or not.
///
/// The decision is made under the lock and so is the feeding: whoever calls [`Feeder::stop_feeding`] knows when it
/// returns that no feeding follows.
fn feed(inner: &Inner, mut watchdog: Box<dyn Watchdog + Send>, period: Duration) {
    let (mut next, mut last) = (Instant::now() + period, Ok(()));
    let mut state = inner.lock();
    loop {
        let now = Instant::now();
        if now < next {
            let wait = inner.changed.wait_timeout(state, next - now);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        next = now + period;
        let judged = state.judge(now, inner.now_ms());
        let result = judged.and_then(|()| watchdog.feed().map_err(|fault| fault.to_string()));
        if result != last {
            match &result {
                Ok(()) => log::info!("watchdog: fed again"),
                Err(why) => log::error!("watchdog: not fed: {why}"),
            }
            last = result;
        }
    }
}

impl State {
    fn judge(&self, now: Instant, now_ms: u64) -> Result<(), String> {
        if let Some(why) = &self.stopped {
            return Err(why.clone());
        }
        if self.until.is_some_and(|until| now >= until) {
            return Err("the time that it was to be fed for is over".into());
        }
        match self.hearts.iter().find(|heart| heart.is_stale(now_ms)) {
            Some(heart) => {
                Err(format!("no sign of life of {:?} for {} s", heart.name, heart.limit.as_secs_f32()))
            }
            None => Ok(()),
        }
    }
}

impl Heart {
    fn is_stale(&self, now_ms: u64) -> bool {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        u128::from(now_ms.saturating_sub(beat_ms)) > self.limit.as_millis()
    }
}

impl Heartbeat {
    /// The thread lives.
    pub fn beat(&self) {
        self.heart.beat_ms.store(self.feeder.now_ms(), Ordering::Relaxed);
    }

    /// The thread may block for as long as it likes, until its next [`beat`](Self::beat).
    pub fn rest(&self) {
        self.heart.beat_ms.store(RESTING, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.feeder.lock().hearts.retain(|heart| !Arc::ptr_eq(heart, &self.heart));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A watchdog that tells what is done to it; `refusals` of its first armings fail.
    pub(in crate::health) struct Recorder {
        pub(in crate::health) said: Sender<(Instant, &'static str)>,
        pub(in crate::health) refusals: u32,
    }

    impl Watchdog for Recorder {
        fn arm(&mut self, seconds: u32) -> Result<u32, Fault> {
            if self.refusals > 0 {
                self.refusals -= 1;
                return Err(fault!(Busy, "recorder: somebody holds it"));
            }
            let _ = self.said.send((Instant::now(), "arm"));
            Ok(seconds)
        }
        fn feed(&mut self) -> Result<(), Fault> {
            let _ = self.said.send((Instant::now(), "feed"));
            Ok(())
        }
        fn time_left(&mut self) -> Result<Option<u32>, Fault> {
            Ok(None)
        }
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            let _ = self.said.send((Instant::now(), "closed"));
        }
    }

    /// A feeder with a timeout of one second: it feeds every 250 ms.
    pub(in crate::health) fn recorded(refusals: u32) -> (Feeder, Receiver<(Instant, &'static str)>) {
        let (said, heard) = channel();
        let mut recorder = Some(Recorder { said, refusals });
        let make = move || match recorder.take() {
            Some(recorder) => Ok(Box::new(recorder) as Box<dyn Watchdog + Send>),
            None => Err(fault!(Busy, "made twice")),
        };
        (Feeder::new(Some(1), Box::new(make)), heard)
    }

    fn feedings(heard: &Receiver<(Instant, &'static str)>, within: Duration) -> Vec<&'static str> {
        std::thread::sleep(within);
        heard.try_iter().map(|(_, what)| what).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_watchdog_is_armed_once_and_fed_four_times_per_timeout() {
        let (feeder, heard) = recorded(0);
        assert_eq!(feeder.arm(), Ok(Some(1)));
        assert_eq!(feeder.arm(), Ok(Some(1)));
        let heard = feedings(&heard, 3 * SECOND);
        assert_eq!(heard[0], "arm");
        let fed = heard.iter().filter(|what| **what == "feed").count();
        assert_eq!(fed + 1, heard.len(), "{heard:?}");
        assert!((8..=12).contains(&fed), "{fed} feedings in 3 s");
    }

    /// A fake driver whose maximum is one second, whatever is asked for.
    struct Short(Sender<(Instant, &'static str)>);

    impl Watchdog for Short {
        fn arm(&mut self, seconds: u32) -> Result<u32, Fault> {
            assert_eq!(seconds, 60, "what the board file says");
            Ok(1)
        }
        fn feed(&mut self) -> Result<(), Fault> {
            let _ = self.0.send((Instant::now(), "feed"));
            Ok(())
        }
        fn time_left(&mut self) -> Result<Option<u32>, Fault> {
            Ok(None)
        }
    }

    #[test]
    fn a_watchdog_with_a_maximum_below_what_the_board_asks_is_fed_by_what_it_takes() {
        let (said, heard) = channel();
        let mut short = Some(Short(said));
        let make = move || Ok(Box::new(short.take().expect("made once")) as Box<dyn Watchdog + Send>);
        let feeder = Feeder::new(Some(60), Box::new(make));
        assert_eq!(feeder.arm(), Ok(Some(1)));
        let fed = feedings(&heard, 2 * SECOND).len();
        assert!((5..=8).contains(&fed), "{fed} feedings in 2 s of a watchdog that bites after 1 s");
    }

    #[test]
    fn a_stale_heartbeat_stops_the_feeding_and_a_late_beat_begins_it_again() {
        let (feeder, heard) = recorded(0);
        let living = feeder.heartbeat("living", 60 * SECOND);
        let hung = feeder.heartbeat("hung", SECOND / 2);
        feeder.arm().unwrap();
        assert!(feedings(&heard, SECOND).contains(&"feed"), "fed while the beat is young");
        assert_eq!(feedings(&heard, SECOND), Vec::<&str>::new(), "not fed while it is old");
        assert_eq!(feeder.starved().as_deref(), Some("no sign of life of \"hung\" for 0.5 s"));
        hung.beat();
        assert!(feedings(&heard, SECOND / 2).contains(&"feed"), "fed again");
        hung.rest();
        assert!(!feedings(&heard, 2 * SECOND).is_empty(), "a resting thread may be silent");
        drop((living, hung));
        assert_eq!(feeder.starved(), None);
    }

    #[test]
    fn a_thread_that_panics_leaves_its_heartbeat_to_grow_old() {
        let (feeder, heard) = recorded(0);
        feeder.arm().unwrap();
        let heart = feeder.heartbeat("dead", SECOND / 2);
        let thread = std::thread::spawn(move || {
            let _heart = heart;
            panic!("as a bug would");
        });
        assert!(thread.join().is_err());
        feedings(&heard, SECOND);
        assert_eq!(feedings(&heard, SECOND), Vec::<&str>::new());
    }

    #[test]
    fn told_to_stop_it_never_feeds_again_and_keeps_the_watchdog_open() {
        let (feeder, heard) = recorded(0);
        feeder.arm().unwrap();
        feeder.stop_feeding("test");
        heard.try_iter().for_each(drop);
        feeder.feed_for(None);
        assert_eq!(feedings(&heard, 2 * SECOND), Vec::<&str>::new());
        drop(feeder);
        assert_eq!(feedings(&heard, SECOND), Vec::<&str>::new(), "not even closed");
    }

    #[test]
    fn a_bounded_feeding_ends_by_itself() {
        let (feeder, heard) = recorded(0);
        feeder.arm().unwrap();
        feeder.feed_for(Some(SECOND));
        assert!(feedings(&heard, 3 * SECOND / 2).contains(&"feed"));
        assert_eq!(feedings(&heard, SECOND), Vec::<&str>::new());
        feeder.feed_for(None);
        assert!(feedings(&heard, SECOND).contains(&"feed"));
    }

    #[test]
    fn a_board_without_a_watchdog_has_nothing_to_arm() {
        let feeder = Feeder::new(None, Box::new(|| Err(fault!(NotFound, "never asked"))));
        assert_eq!(feeder.arm(), Ok(None));
    }

    #[test]
    fn an_arming_that_failed_can_be_tried_again_on_the_same_watchdog() {
        let (feeder, heard) = recorded(2);
        for _ in 0..2 {
            assert!(feeder.arm().unwrap_err().what.contains("somebody holds it"));
        }
        assert_eq!(feeder.arm(), Ok(Some(1)));
        assert_eq!(feedings(&heard, Duration::ZERO)[0], "arm");
    }
}
