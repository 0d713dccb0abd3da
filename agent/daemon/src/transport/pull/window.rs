//! How much may be asked for ahead. Bytes are counted, not objects: memory is made of bytes, and so is what a link holds.
//!
//! ```text
//! rate       bytes that came between the asking for an object and its coming, by the time that took; the highest lately
//! round trip the shortest that an answer to a SUBSCRIBE took on this connection
//! wanted     4 · rate · round trip + 2 objects     more than the link holds brings nothing, less leaves it idle;
//!                                                  four times, because a lost segment holds up what is behind it for
//!                                                  one and a half round trips, and its loss may be lost again
//! far        8 · rate · round trip + 2 objects     TCP waits two round trips for what was lost again, then four, and half
//!                                                  of one it is on the way (RFC 6298, section 5); one more takes what is
//!                                                  asked for then. Nearer than 100 ms it waits for 200 ms at least, and
//!                                                  what comes in that has no room in memory anyway
//! at most    what the memory has (`window_kib`), and what comes within five sixths of a keep-alive: the broker's answer
//!            to our ping queues behind all that was asked for
//! ```
//! The rate is limited by the window until the window is wide enough, so a window that is too small makes itself four times
//! as wide with each round trip, and stops where the rate stops rising: at the link's, or at the installer's. It begins
//! at four objects, grows by what has come, and is halved by a silent round.
//!
//! What comes within two round trips has not queued: the link could have brought more, had more been asked for. Such a rate is
//! a lower bound, and narrows nothing. A download begins with tables of a hundred bytes, which would say that any link is
//! as slow as a hundred bytes in a round trip.

use mainstay_core::limits::OBJECT_BYTES_MAX;
use std::time::Duration;

/// Objects asked for at first, of the largest size.
pub const WINDOW_FIRST: u64 = 4;
/// An object of the largest size.
const OBJECT: u64 = OBJECT_BYTES_MAX as u64;
/// How many times what the link holds.
const GAIN: u64 = 4;
/// And on a far link.
const GAIN_FAR: u64 = 8;
/// Two round trips of it are Linux' lower bound of a timeout (TCP_RTO_MIN).
const FAR: Duration = Duration::from_millis(100);
/// A rate that is not reached any more loses a sixteenth with each object.
const FORGETS: u64 = 16;

/// The window, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    now: u64,
    max: u64,
    within: Duration,
    /// Bytes in a second.
    rate: Option<u64>,
    round_trip: Option<Duration>,
}

impl Window {
    /// `max`: bytes. `keep_alive`: the connection's.
    pub fn new(max: u64, keep_alive: Duration) -> Self {
        let within = keep_alive * 5 / 6;
        Window { now: (WINDOW_FIRST * OBJECT).min(max), max, within, rate: None, round_trip: None }
    }

    /// How many bytes may be asked for, and here, together.
    pub const fn bytes(&self) -> u64 {
        self.now
    }

    /// The shortest round trip of this connection.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Another connection may take another way.
    pub const fn connected(&mut self) {
        self.round_trip = None;
    }

    /// A request was answered after `took`.
    pub fn answered(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
    }

    /// An object has come, `took` after it was asked for; `delivered` bytes came in that time, its own among them.
    pub fn came(&mut self, bytes: u64, delivered: u64, took: Duration) {
        let rate = u128::from(delivered) * 1_000_000 / took.as_micros().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let before = self.rate.unwrap_or(0);
        let queued = self.round_trip.is_none_or(|round_trip| took >= 2 * round_trip);
        let forgotten = if queued { before.saturating_sub(rate) / FORGETS } else { 0 };
        self.rate = Some(rate.max(before - forgotten));
        let wider = self.wanted().min(self.now.saturating_add(bytes));
        self.now = if queued { wider } else { self.now.max(wider) };
    }

    /// A round was silent.
    pub fn halve(&mut self) {
        self.now = (self.now / 2).max(OBJECT.min(self.max));
    }

    fn wanted(&self) -> u64 {
        let (Some(rate), Some(round_trip)) = (self.rate, self.round_trip) else {
            return (WINDOW_FIRST * OBJECT).min(self.max);
        };
        let bytes_in = |time: Duration| {
            u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
        };
        let gain = if round_trip < FAR { GAIN } else { GAIN_FAR };
        let holds = gain.saturating_mul(bytes_in(round_trip)).saturating_add(2 * OBJECT);
        holds.min(bytes_in(self.within)).clamp(OBJECT.min(self.max), self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Runs objects of 96 KiB over a link of `rate` bytes a second with the window full at all times, and gives the window at
    /// the end, and the largest share of the link that was used once it had settled.
    fn settled(rate: u64, round_trip_ms: u64, max: u64) -> (u64, f64) {
        let mut window = Window::new(max, Duration::from_secs(30));
        let round_trip = Duration::from_millis(round_trip_ms);
        window.answered(round_trip);
        let mut used = 0.0;
        for _ in 0..100 {
            let in_flight = (window.bytes() / OBJECT).max(1) * OBJECT;
            let took = Duration::from_secs_f64(in_flight as f64 / rate as f64).max(round_trip);
            window.came(OBJECT, in_flight, took);
            used = in_flight as f64 / took.as_secs_f64() / rate as f64;
        }
        (window.bytes(), used)
    }

    #[test]
    fn the_window_follows_what_the_link_holds_and_fills_it() {
        #[rustfmt::skip]
        let cases = [
            // bytes a second, round trip (ms), at least and at most objects in the window
            (6_250_000,  50, 10, 10), // 50 Mbit/s: 305 KiB on the way; all of the MiB
            (  125_000, 600,  7,  8), // 1 Mbit/s, by satellite: 73 KiB on the way
            (   32_000, 600,  3,  3), // 256 kbit/s
            (   32_000,  50,  2,  3),
            (    4_000, 600,  1,  1), // 32 kbit/s: an object takes 24 s, and a ping has to be answered within 30
            (12_500_000,  1,  2,  3), // the next room: more would only be memory
            (60_000_000,  1,  4,  5), // the same machine
        ];
        for (rate, round_trip, least, most) in cases {
            let (window, used) = settled(rate, round_trip, MIB);
            let objects = window / OBJECT;
            assert!((least..=most).contains(&objects), "{rate} B/s, {round_trip} ms: {objects} objects");
            assert!(used > 0.99, "{rate} B/s, {round_trip} ms: {used}");
        }
    }

    #[test]
    fn memory_bounds_it_and_silence_halves_it_down_to_one_object() {
        assert_eq!(settled(6_250_000, 600, 512 * 1024).0, 512 * 1024);
        let mut window = Window::new(MIB, Duration::from_secs(30));
        for objects in [2, 1, 1] {
            window.halve();
            assert_eq!(window.bytes(), objects * OBJECT);
        }
        let small = Window::new(64 * 1024, Duration::from_secs(30));
        assert_eq!(small.bytes(), 64 * 1024);
    }

    #[test]
    fn small_objects_that_come_at_once_narrow_no_window_and_one_that_has_queued_does() {
        // Two tables and two pages, each after one round trip of 50 ms, as a download begins.
        let mut window = Window::new(MIB, Duration::from_secs(30));
        window.answered(Duration::from_millis(50));
        for bytes in [48, 48, 8_208, 28_696] {
            window.came(bytes, bytes, Duration::from_millis(52));
            assert!(window.bytes() >= WINDOW_FIRST * OBJECT, "{} after {bytes} bytes", window.bytes());
        }
        // 28,696 bytes in 7 s: 4 KB/s, of which a third of a MiB would take more than a keep-alive.
        let mut thin = Window::new(MIB, Duration::from_secs(30));
        thin.answered(Duration::from_millis(50));
        thin.came(28_696, 28_696, Duration::from_secs(7));
        assert!(thin.bytes() < 2 * OBJECT, "{}", thin.bytes());
    }

    #[test]
    fn a_rate_that_is_not_reached_any_more_is_forgotten() {
        let mut window = Window::new(MIB, Duration::from_secs(30));
        window.answered(Duration::from_millis(50));
        window.came(OBJECT, MIB, Duration::from_millis(100));
        for _ in 0..100 {
            window.came(OBJECT, OBJECT, Duration::from_secs(3));
        }
        assert!(window.bytes() < 3 * OBJECT, "{}", window.bytes());
    }
}
