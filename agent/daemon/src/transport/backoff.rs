//! Waits between attempts: doubling, with jitter, and never longer than a bound.
//!
//! The jitter is what keeps ten thousand gateways from coming back in the same second after a broker's restart.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The wait before the first new attempt to reach the broker lies between half of this and this.
pub const RECONNECT_FIRST: Duration = Duration::from_secs(2);
/// No wait between attempts to reach the broker is longer: two minutes.
pub const RECONNECT_MAX: Duration = Duration::from_secs(120);
/// A connection that lasted this long was a good one: the next wait is the first one again. One that falls
/// sooner (two gateways with one device id throw each other out) goes on doubling.
pub const STEADY: Duration = Duration::from_secs(30);

/// Bounds of a doubling wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first wait, at most.
    pub first: Duration,
    /// Every wait, at most.
    pub max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { first: RECONNECT_FIRST, max: RECONNECT_MAX }
    }
}

/// A doubling wait with jitter.
#[derive(Debug)]
pub struct Backoff {
    bounds: Bounds,
    doublings: u32,
}

impl Backoff {
    /// Starts at the first wait.
    pub fn new(bounds: Bounds) -> Self {
        Backoff { bounds, doublings: 0 }
    }

    /// The next wait: between half of `first * 2^n` and all of it, never above `max`.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.bounds.first.saturating_mul(1 << self.doublings.min(20)).min(self.bounds.max);
        self.doublings = self.doublings.saturating_add(1);
        jittered(full)
    }

    /// The next wait is the first one again.
    pub fn reset(&mut self) {
        self.doublings = 0;
    }
}

/// Between half of `full` and all of it.
pub fn jittered(full: Duration) -> Duration {
    let share = (random() >> 48) as u32; // 0..65536
    full / 2 + full / 2 / 65_536 * share
}

/// 64 bits that differ from call to call and from gateway to gateway: the standard library seeds its hashers
/// from the system's random numbers. Good for jitter and for names, not for keys.
pub fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_jitter_and_stay_under_the_bound() {
        let bounds = Bounds { first: Duration::from_secs(2), max: Duration::from_secs(60) };
        let mut backoff = Backoff::new(bounds);
        for full in [2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.next_wait();
            let full = Duration::from_secs(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} is not within half of {full:?} and it");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= bounds.first);
        for _ in 0..100 {
            backoff.next_wait(); // no overflow, however long the broker is away
        }
    }

    #[test]
    fn two_gateways_do_not_come_back_in_the_same_moment() {
        let mut waits: Vec<_> = (0..64).map(|_| jittered(Duration::from_secs(60))).collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 60, "{} different waits of 64", waits.len());
    }
}
