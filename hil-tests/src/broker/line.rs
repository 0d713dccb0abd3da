//! The arithmetic of a slow, far, losing line: when a byte that is sent now arrives. No clock and no socket in here:
//! time comes in as a value, so that a test can make it up. What carries bytes by it is [`narrow`](super::narrow).
//!
//! ```text
//! one way of the line                       a stream on it (one connection, one direction)
//!   send(now, n) ─► departs                   depart(departs, n): cut into segments of 1448 bytes, each lost or not
//!   one after another, at the line's rate     due(): when the first of them can be handed on, in order
//! ```
//! What TCP makes of a lost segment is emulated as its user sees it, who gets bytes in order or not at all:
//!
//! ```text
//! segment departs at t, is lost      all behind it waits
//!   three more segments have departed, the last at t3: the third duplicate acknowledgement is back at the sender at
//!     t3 + RTT, what was sent again arrives at t3 + 1.5 RTT (RFC 5681, section 3.2: fast retransmit)
//!   otherwise, at the end of what there was to send: after the timeout, at t + RTO + 0.5 RTT
//!     RTO = max(200 ms, 2 RTT); what is sent again can be lost again, and then waits for an RTO, doubled each time
//! ```
//! Not emulated: the congestion window. A sender here never slows down because of a loss; one that does (Reno, CUBIC) is
//! bounded by about 1.22 · 1448 bytes / (RTT · √loss), whatever stands above it, and one that does not (BBR) is not.
//! The headers of IP and TCP are counted: 52 bytes a segment. Acknowledgements are not, and are not lost.

use crate::image::Random;
use std::collections::VecDeque;
use std::time::Duration;

/// A line: how far, how wide, how good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// There and back.
    pub rtt: Duration,
    /// In each direction, headers and all.
    pub bits_per_second: u64,
    /// Of a segment, to be lost: 0.0 to below 1.0.
    pub loss: f64,
    /// The same seed loses the same segments of each connection.
    pub seed: u64,
}

/// What a TCP segment carries on Ethernet: 1500 less the headers of IPv4 (20), TCP (20) and its timestamps (12).
pub const SEGMENT_BYTES: usize = 1448;
const HEADER_BYTES: usize = 52;
/// Linux' own lower bound of a retransmission timeout (TCP_RTO_MIN).
const RTO_MIN: Duration = Duration::from_millis(200);
/// The least that waits for its turn: 62 KB at 50 Mbit/s, a fifth of what such a line of 50 ms holds.
const QUEUE_MIN: Duration = Duration::from_millis(10);
/// Segments behind a lost one until it is sent again at once.
const FOLLOWERS: u8 = 3;
/// A timeout is not doubled more often than this: a loss near 1 must not stop the clock.
const DOUBLINGS_MAX: u32 = 6;

impl Line {
    /// Half of the way there and back.
    pub fn one_way(&self) -> Duration {
        self.rtt / 2
    }

    /// How long the sender waits where nothing tells it of a loss.
    pub fn timeout(&self) -> Duration {
        RTO_MIN.max(self.rtt * 2)
    }

    /// How much a connection may have on its way, waiting for what was lost included, before nothing more is taken from its
    /// sender.
    pub fn in_flight_max(&self) -> usize {
        let seconds = (self.rtt * 2 + self.timeout()).as_secs_f64();
        (self.bits_per_second as f64 / 8.0 * seconds) as usize + 256 * 1024
    }

    /// How long what is taken from a sender may wait for its turn on the line: what a modem holds. Without it the line would
    /// stand idle after each turn, for as long as the proxy's clock is late, which on a busy machine is some milliseconds.
    pub fn queue(&self) -> Duration {
        time_for(self.turn_bytes(), self.bits_per_second).max(QUEUE_MIN)
    }

    /// What is taken at a time: what passes in 2 ms, but a segment at least, so that connections take turns.
    pub fn turn_bytes(&self) -> usize {
        let bytes = (self.bits_per_second / 8 / 500) as usize;
        (bytes / SEGMENT_BYTES).clamp(1, 16) * SEGMENT_BYTES
    }
}

/// One direction of a line, which all its connections share.
#[derive(Debug, Default)]
pub struct Way {
    free: Duration,
}

impl Way {
    /// When the last of `bytes` that are sent at `now` has left.
    pub fn send(&mut self, line: &Line, now: Duration, bytes: usize) -> Duration {
        let on_the_line = bytes + bytes.div_ceil(SEGMENT_BYTES) * HEADER_BYTES;
        self.free = self.free.max(now) + time_for(on_the_line, line.bits_per_second);
        self.free
    }
}

fn time_for(bytes: usize, bits_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 8.0 / bits_per_second.max(1) as f64)
}

/// What one connection has on its way in one direction.
#[derive(Debug)]
pub struct Stream {
    line: Line,
    random: Random,
    segments: VecDeque<Segment>,
    bytes: usize,
    lost: u64,
}

#[derive(Debug)]
struct Segment {
    bytes: usize,
    arrives: Duration,
    /// Lost, and told by so many segments behind it: it can still arrive sooner.
    told: Option<u8>,
}

impl Stream {
    /// Number `number` of the line's connections and directions, from 0.
    pub fn new(line: Line, number: u64) -> Stream {
        let mut random = Random(line.seed.wrapping_add(number.wrapping_mul(0xa076_1d64_78bd_642f)));
        random.next();
        Stream { line, random, segments: VecDeque::new(), bytes: 0, lost: 0 }
    }

    /// `bytes` have departed at `now`; how many of them have to be sent a second time.
    pub fn depart(&mut self, now: Duration, bytes: usize) -> usize {
        let (mut left, mut again) = (bytes, 0);
        while left > 0 {
            let bytes = left.min(SEGMENT_BYTES);
            left -= bytes;
            let times = self.draw();
            again += bytes * times as usize;
            self.lost += u64::from(times);
            self.segment(now, bytes, times);
        }
        again
    }

    /// A segment has departed, and is lost so many times in a row.
    fn segment(&mut self, now: Duration, bytes: usize, times: u32) {
        self.tell(now);
        let timeouts = self.line.timeout() * ((1 << times) - 1); // each twice the one before
        let arrives = now + timeouts + self.line.one_way();
        self.segments.push_back(Segment { bytes, arrives, told: (times == 1).then_some(0) });
        self.bytes += bytes;
    }

    /// One more segment is behind those that are lost: the third one has them sent again. A segment that is still to be told
    /// is one of the last three.
    fn tell(&mut self, now: Duration) {
        let sooner = now + self.line.rtt + self.line.one_way();
        for segment in self.segments.iter_mut().rev().take(usize::from(FOLLOWERS)) {
            segment.told = match segment.told {
                Some(told) if told + 1 == FOLLOWERS => {
                    segment.arrives = segment.arrives.min(sooner);
                    None
                }
                told => told.map(|told| told + 1),
            };
        }
    }

    /// How often in a row the next segment is lost.
    fn draw(&mut self) -> u32 {
        let mut times = 0;
        while times < DOUBLINGS_MAX && self.random.share() < self.line.loss {
            times += 1;
        }
        times
    }

    /// When the first segment that has not been handed on can be; `None`: there is none. What departs later may make it
    /// sooner, never later.
    pub fn due(&self) -> Option<Duration> {
        self.segments.front().map(|segment| segment.arrives)
    }

    /// Takes what has arrived by `now`, in order: so many bytes.
    pub fn take(&mut self, now: Duration) -> usize {
        let mut taken = 0;
        while let Some(Segment { bytes, .. }) = self.segments.front().filter(|segment| segment.arrives <= now)
        {
            taken += bytes;
            self.segments.pop_front();
        }
        self.bytes -= taken;
        taken
    }

    /// Bytes that have departed and were not taken.
    pub fn on_its_way(&self) -> usize {
        self.bytes
    }

    /// Segments that were lost, the same one again where it was.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn line(rtt: u64, bits_per_second: u64, loss: f64) -> Line {
        Line { rtt: MS(rtt), bits_per_second, loss, seed: 1 }
    }

    /// Segments departed at these times (ms), on a round trip of 100 ms; those of these numbers are lost once.
    fn losing(lost: &[usize], departed: &[u64]) -> Stream {
        let mut stream = Stream::new(line(100, 1_000_000, 0.0), 0);
        for (number, at) in departed.iter().enumerate() {
            stream.segment(MS(*at), SEGMENT_BYTES, u32::from(lost.contains(&number)));
        }
        stream
    }

    #[test]
    fn bytes_leave_at_the_line_s_rate_with_52_of_headers_a_segment() {
        let (mut way, line) = (Way::default(), line(0, 1_200_000, 0.0));
        // 1448 + 52 = 1500 bytes = 12,000 bits: 10 ms at 1.2 Mbit/s.
        assert_eq!(way.send(&line, MS(0), 1448), MS(10));
        assert_eq!(way.send(&line, MS(0), 2 * 1448), MS(30), "behind the first");
        assert_eq!(way.send(&line, MS(100), 1448), MS(110), "an idle line is not saved up");
        assert_eq!(way.send(&line, MS(105), 98), MS(111), "98 + 52 = 150 bytes: 1 ms");
    }

    #[test]
    fn a_clean_line_hands_on_after_half_a_round_trip_and_not_before() {
        let mut stream = Stream::new(line(50, 1_000_000, 0.0), 0);
        assert_eq!((stream.due(), stream.take(MS(1000))), (None, 0));
        assert_eq!(stream.depart(MS(10), 3000), 0);
        assert_eq!((stream.due(), stream.on_its_way()), (Some(MS(35)), 3000));
        assert_eq!((stream.take(MS(34)), stream.take(MS(35)), stream.on_its_way()), (0, 3000, 0));
    }

    #[test]
    fn what_is_behind_a_lost_segment_waits_for_it() {
        type Case<'a> = (&'a str, &'a [usize], &'a [u64], u64);
        #[rustfmt::skip]
        let cases: [Case<'_>; 6] = [
            // RTT 100, RTO 200                      lost     departed at          all there at
            ("nothing is lost",                      &[],     &[0, 1, 2, 3],        53),
            ("three follow: sent again at 3 + RTT",  &[0],    &[0, 1, 2, 3],       153),
            ("two in one round trip: at 4 + RTT",    &[0, 1], &[0, 1, 2, 3, 4],    154),
            ("two follow: the timeout",              &[0],    &[0, 1, 2],          250),
            ("the last of all: the timeout",         &[3],    &[0, 1, 2, 3],       253),
            ("three follow too late for that",       &[0],    &[0, 190, 190, 190], 250),
        ];
        for (what, lost, departed, all) in cases {
            let bytes = departed.len() * SEGMENT_BYTES;
            let mut stream = losing(lost, departed);
            let before = stream.take(MS(all - 1));
            assert!(before < bytes, "{what}: all has arrived before {all} ms");
            assert_eq!(before + stream.take(MS(all)), bytes, "{what}");
        }
    }

    #[test]
    fn what_precedes_a_lost_segment_does_not_wait() {
        let mut stream = losing(&[1], &[0, 0, 0]);
        assert_eq!(stream.take(MS(50)), SEGMENT_BYTES);
        assert_eq!(stream.take(MS(249)), 0);
    }

    #[test]
    fn as_many_are_lost_as_were_asked_for_and_the_same_ones_each_time() {
        let play = |seed, number| {
            let mut stream = Stream::new(Line { seed, ..line(100, 1_000_000, 0.02) }, number);
            let again: Vec<bool> = (0..50_000).map(|_| stream.depart(MS(0), SEGMENT_BYTES) > 0).collect();
            (again, stream.lost())
        };
        let (which, lost) = play(7, 0);
        // 50,000 draws at 2 %: 1,000, standard deviation 31; a loss is drawn again, which adds 2 %.
        assert!((900..1140).contains(&lost), "{lost}");
        assert_eq!(which, play(7, 0).0);
        assert_ne!(which, play(7, 1).0, "another connection loses others");
        assert_ne!(which, play(8, 0).0, "another seed does, too");
    }

    #[test]
    fn a_segment_that_is_lost_again_waits_for_doubled_timeouts() {
        let mut stream = Stream::new(line(600, 1_000_000, 1.0), 0);
        assert_eq!(stream.depart(MS(0), 10), 10 * DOUBLINGS_MAX as usize);
        let waits = MS(1200) * ((1 << DOUBLINGS_MAX) - 1) + MS(300);
        assert_eq!(stream.due(), Some(waits));
    }

    #[test]
    fn a_clock_that_is_late_by_less_than_the_queue_leaves_no_line_idle() {
        for (rate, late) in [(50_000_000, MS(9)), (1_000_000, MS(11)), (256_000, MS(40))] {
            let (mut way, line) = (Way::default(), line(50, rate, 0.0));
            let mut now = MS(0);
            for turn in 1..=100 {
                let departs = way.send(&line, now, line.turn_bytes());
                let on_the_line = turn * (line.turn_bytes() / SEGMENT_BYTES * (SEGMENT_BYTES + HEADER_BYTES));
                let least = time_for(on_the_line, rate);
                assert!(
                    departs <= least + MS(1),
                    "{rate}: turn {turn} departs at {departs:?}, not {least:?}"
                );
                // As the proxy waits, by a clock that is late.
                let until = departs.saturating_sub(line.queue());
                now = if until > now { until + late } else { now };
            }
        }
    }

    #[test]
    fn a_turn_is_what_passes_in_two_milliseconds_and_never_less_than_a_segment() {
        let turns =
            [256_000, 1_000_000, 50_000_000, 1_000_000_000].map(|rate| line(50, rate, 0.0).turn_bytes());
        assert_eq!(turns.map(|bytes| bytes / SEGMENT_BYTES), [1, 1, 8, 16]);
        assert!(turns.iter().all(|bytes| bytes % SEGMENT_BYTES == 0));
    }
}
