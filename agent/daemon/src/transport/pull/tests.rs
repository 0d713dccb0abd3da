//! What is ordered when: a table of silences, and a case for each rule. `P` is the number of the copy that came.

use super::Arrival::*;
use super::Order::*;
use super::*;

struct Bench {
    pull: Pull<u32>,
    now: Instant,
}

impl Bench {
    fn connected(cap: usize) -> Self {
        let now = Instant::now();
        let limits = Limits { objects: cap, bytes: 1 << 20, keep_alive: Duration::from_secs(30) };
        let mut bench = Bench { pull: Pull::new(limits, |full| full, now), now };
        bench.pull.connected(now);
        bench
    }

    /// Time passes; each SUBSCRIBE is answered at once, and each probe, by a broker that has nothing to send.
    fn wait(&mut self, seconds: f64) -> Vec<Order<u32>> {
        let mut orders = self.pass(seconds);
        if orders.contains(&Probe) {
            self.pull.probed(self.now);
            orders.retain(|order| *order != Probe);
            orders.extend(self.pull.orders());
        }
        for order in &orders {
            if let Subscribe(name) = order {
                self.pull.subscribed(name, true, self.now);
            }
        }
        orders
    }

    /// Time passes, and nothing is answered.
    fn pass(&mut self, seconds: f64) -> Vec<Order<u32>> {
        self.now += Duration::from_secs_f64(seconds);
        self.pull.tick(self.now);
        self.pull.orders()
    }

    fn arrived(&mut self, name: u8, copy: u32) -> Arrival {
        self.pull.arrived(&d(name), copy, 1000, false, self.now)
    }

    /// As an answer to `need`.
    fn answered(&mut self, name: u8, copy: u32) -> Arrival {
        self.pull.arrived(&d(name), copy, 1000, true, self.now)
    }

    fn prefetch(&mut self, name: u8) -> bool {
        self.pull.prefetch(&d(name), OBJECT, self.now)
    }

    fn need_taken(&mut self) {
        self.pull.need_taken(true, self.now);
    }
}

/// An object of the largest size.
const OBJECT: u32 = 96 * 1024;

fn d(n: u8) -> Digest {
    Digest([n; 32])
}

#[test]
fn an_object_is_asked_for_once_kept_once_acknowledged_and_unsubscribed_upon_release() {
    let mut b = Bench::connected(8);
    assert!(b.prefetch(1));
    assert!(b.prefetch(1), "asked twice is asked once");
    b.pull.want(&d(1), OBJECT, b.now);
    assert_eq!(b.pull.orders(), [Subscribe(d(1))]);
    assert_eq!(b.arrived(1, 7), Wanted);
    assert_eq!(b.pull.orders(), [], "no acknowledgement before it is used");
    assert_eq!(b.pull.give(&d(1)), Some(7));
    b.pull.release(&d(1));
    assert_eq!(b.pull.orders(), [Acknowledge(7), Unsubscribe(d(1))]);
    assert_eq!(b.pull.give(&d(1)), None);
}

#[test]
fn objects_may_come_in_any_order() {
    let mut b = Bench::connected(8);
    for n in [1, 2, 3] {
        assert!(b.prefetch(n));
    }
    for n in [3, 1, 2] {
        assert_eq!(b.arrived(n, n.into()), Wanted);
    }
    for n in [1, 2, 3] {
        assert_eq!(b.pull.give(&d(n)), Some(n.into()));
    }
}

#[test]
fn the_window_counts_bytes_of_what_is_asked_for_and_of_what_is_here_and_never_more_objects_than_its_cap() {
    let mut b = Bench::connected(8);
    let full = |b: &mut Bench, first: u8| (first..).take_while(|n| b.prefetch(*n)).count();
    assert_eq!(full(&mut b, 100), 4, "384 KiB at first");
    b.pull.arrived(&d(100), 0, OBJECT as usize, false, b.now);
    assert!(!b.prefetch(104), "what is here counts until it is used");
    b.pull.release(&d(100));
    assert!(b.prefetch(104));
    assert!(!b.prefetch(105));
    b.wait(2.0);
    assert_eq!(b.pull.window.bytes(), 2 * 96 * 1024, "silence halves it");
    let mut b = Bench::connected(8);
    assert_eq!(
        (1..).take_while(|n| b.pull.prefetch(&d(*n), 1000, b.now)).count(),
        8,
        "small ones meet the cap"
    );
}

#[test]
fn a_full_window_of_unused_objects_does_not_keep_the_broker_from_sending_the_one_that_is_needed_now() {
    let mut b = Bench::connected(4);
    for n in 0..4 {
        assert!(b.prefetch(n));
    }
    for n in 0..3 {
        b.arrived(n, n.into());
    }
    b.pull.orders();
    b.pull.want(&d(9), OBJECT, b.now);
    assert_eq!(b.pull.orders(), [Acknowledge(0), Acknowledge(1), Acknowledge(2), Subscribe(d(9))]);
    b.pull.release(&d(1));
    assert_eq!(b.pull.orders(), [Unsubscribe(d(1))], "not acknowledged twice");
}

#[test]
fn silence_is_answered_by_need_then_by_asking_again_then_by_new_connections_ever_more_seldom() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.pull.orders();
    assert_eq!(b.pass(1.9), [], "not yet two seconds");
    assert_eq!(b.wait(0.1), [Need(vec![d(1)])]);
    for round in 2..=ROUNDS_MAX {
        b.need_taken();
        assert_eq!(b.wait(2.0), [Subscribe(d(1)), Need(vec![d(1)])], "round {round}");
    }
    assert!(b.pull.stalled(b.now).is_some());
    let mut wait = 4.0;
    for _ in 0..12 {
        assert_eq!(b.wait(wait - 0.1), [], "{wait} s are not over");
        let orders = b.wait(0.1);
        assert!(matches!(orders.as_slice(), [Reopen(_)]), "{orders:?} after {wait} s");
        b.pull.disconnected();
        assert_eq!(b.wait(3600.0), [], "while the link is down only time passes");
        b.pull.connected(b.now);
        assert_eq!(b.pull.orders(), [Subscribe(d(1)), Need(vec![d(1)])]);
        wait = f64::min(wait * 2.0, 900.0);
    }
    assert_eq!(b.arrived(1, 1), Wanted);
    assert!(b.pull.stalled(b.now).is_none());
}

#[test]
fn a_thin_link_is_not_taken_for_silence() {
    // Goal: objects in flight, one every twenty seconds, from the first on; the answer to a probe queues behind them. None is
    // asked for twice.
    let mut b = Bench::connected(8);
    let (mut probes, mut asked) = (0, 0);
    for n in 0..40 {
        b.pull.want(&d(n), OBJECT, b.now);
        b.prefetch(n + 1);
        for _ in 0..20 {
            for order in b.pass(1.0) {
                match order {
                    Probe => probes += 1,
                    Subscribe(_) => asked += 1,
                    Acknowledge(_) | Unsubscribe(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(b.arrived(n, 0), Wanted);
        if probes > 0 {
            b.pull.probed(b.now);
        }
        b.pull.release(&d(n));
    }
    assert_eq!(asked, 41);
    assert!((1..=40).contains(&probes), "one at a time: {probes}");
}

#[test]
fn a_probe_whose_answer_comes_after_an_object_is_no_silence_and_one_without_an_answer_is() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.pull.want(&d(2), OBJECT, b.now);
    b.pull.orders();
    assert_eq!(b.pass(2.0), [Probe]);
    b.now += Duration::from_secs(1);
    b.arrived(1, 1);
    b.pull.probed(b.now);
    assert_eq!(b.pull.orders(), []);
    assert_eq!(b.pass(1.0), [], "quiet begins anew with what came");
    assert_eq!(b.pass(1.0), [Probe]);
    assert_eq!(b.pass(PROBE_MAX.as_secs_f64() - 0.1), []);
    assert_eq!(
        b.pass(0.1),
        [Acknowledge(1), Need(vec![d(2)])],
        "what is here goes early: it may be in the way"
    );
}

#[test]
fn a_store_that_holds_nothing_is_known_after_three_objects_and_asked_again_when_need_fails() {
    let mut b = Bench::connected(8);
    for n in 1..=4 {
        assert!(b.prefetch(n));
    }
    b.pull.orders();
    assert_eq!(b.wait(2.0), [Need(vec![d(1), d(2), d(3), d(4)])]);
    b.need_taken();
    for n in 1..=3 {
        b.answered(n, 0);
        b.pull.release(&d(n));
    }
    b.pull.orders();
    assert!(b.prefetch(5));
    assert_eq!(b.pull.orders(), [Need(vec![d(5)])], "at once, and not in the store");
    b.answered(4, 0);
    b.pull.release(&d(4));
    b.pull.orders();
    assert!(b.prefetch(6));
    assert_eq!(b.pull.orders(), [], "one `need` at a time");
    b.need_taken();
    assert_eq!(b.pull.orders(), [Need(vec![d(6)])]);
    b.answered(5, 0);
    b.pull.release(&d(5));
    assert_eq!(b.pull.orders(), [Acknowledge(0)], "nothing to unsubscribe");
    b.need_taken();
    assert_eq!(b.wait(2.0), [Subscribe(d(6)), Need(vec![d(6)])], "silence: the store as well");
    b.need_taken();
    b.arrived(6, 0);
    b.pull.release(&d(6));
    b.pull.orders();
    assert!(b.prefetch(7));
    assert_eq!(b.pull.orders(), [Subscribe(d(7))], "the store again");
}

#[test]
fn a_broker_that_says_that_nobody_hears_need_has_the_store_asked_at_once() {
    let mut b = Bench::connected(8);
    for n in 1..=4 {
        assert!(b.prefetch(n));
    }
    b.wait(2.0);
    b.need_taken();
    for n in 1..=4 {
        b.answered(n, 0);
        b.pull.release(&d(n));
    }
    assert!(b.prefetch(5));
    assert_eq!(b.pull.orders().last(), Some(&Need(vec![d(5)])));
    b.pull.need_taken(false, b.now);
    assert_eq!(b.pull.orders(), [Subscribe(d(5))]);
}

#[test]
fn a_new_connection_is_asked_by_need_where_the_last_one_had_nothing_in_store() {
    let mut b = Bench::connected(8);
    for n in 1..=4 {
        assert!(b.prefetch(n));
    }
    b.wait(2.0);
    for n in 1..=3 {
        b.answered(n, 0);
        b.pull.release(&d(n));
    }
    b.pull.disconnected();
    b.pull.connected(b.now);
    assert_eq!(b.pull.orders(), [Need(vec![d(4)])]);
}

#[test]
fn after_a_reconnect_only_what_is_not_here_is_asked_for() {
    let mut b = Bench::connected(8);
    for n in [1, 2, 3] {
        b.prefetch(n);
    }
    b.arrived(2, 2);
    b.pull.disconnected();
    b.pull.want(&d(4), OBJECT, b.now);
    assert_eq!(b.pull.orders(), [], "nothing can be sent");
    b.pull.connected(b.now);
    assert_eq!(b.pull.orders(), [Subscribe(d(1)), Subscribe(d(3)), Subscribe(d(4))]);
    assert_eq!(b.pull.give(&d(2)), Some(2));
    assert_eq!(b.pull.stats.reconnects, 1);
}

#[test]
fn a_second_copy_is_no_strike_also_when_the_first_was_used_up() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.arrived(1, 1);
    assert_eq!(b.arrived(1, 2), Duplicate);
    b.pull.release(&d(1));
    for copy in 3..9 {
        assert_eq!(b.arrived(1, copy), Duplicate);
    }
    assert_eq!(b.pull.stats.unrequested, 0);
    assert!(!b.pull.orders().iter().any(|o| matches!(o, Reopen(_))));
}

#[test]
fn three_unrequested_in_a_row_close_the_connection_and_a_wanted_one_in_between_forgives() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.arrived(50, 0);
    b.arrived(51, 0);
    b.arrived(1, 0);
    b.arrived(52, 0);
    b.pull.unknown(0, 10);
    assert!(!b.pull.orders().iter().any(|o| matches!(o, Reopen(_))));
    assert_eq!(b.arrived(53, 0), Unrequested);
    let reopened = b.pull.orders().iter().filter(|o| matches!(o, Reopen(_))).count();
    assert_eq!(reopened, 1);
    b.arrived(54, 0);
    assert_eq!(b.pull.orders(), [Acknowledge(0)], "once is enough");
    assert_eq!(b.pull.stats.unrequested, 6);
}

#[test]
fn a_lie_is_asked_for_elsewhere_and_the_third_ends_it() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.arrived(1, 1);
    b.pull.orders();
    assert!(b.pull.refute(&d(1), b.now));
    assert_eq!(b.pull.orders(), [Acknowledge(1), Need(vec![d(1)])], "not in the store that has lied");
    b.need_taken();
    for round in 1..=STORE_AGAIN_ROUNDS {
        let orders = b.wait(2.0);
        let store = orders.contains(&Subscribe(d(1)));
        assert_eq!(store, round >= STORE_AGAIN_ROUNDS, "round {round}: {orders:?}");
        b.need_taken();
    }
    b.arrived(1, 2);
    assert!(b.pull.refute(&d(1), b.now));
    b.arrived(1, 3);
    assert!(!b.pull.refute(&d(1), b.now), "given up");
    assert!(b.pull.orders().iter().any(|o| matches!(o, Reopen(_))));
    assert_eq!(b.pull.stats.lies, 3);
}

#[test]
fn a_good_object_makes_up_for_lies_before_it() {
    let mut b = Bench::connected(8);
    for n in 0..10 {
        b.pull.want(&d(n), OBJECT, b.now);
        b.arrived(n, 1);
        assert!(b.pull.refute(&d(n), b.now));
        b.arrived(n, 2);
        b.pull.release(&d(n));
    }
}

#[test]
fn a_reconnect_does_not_ask_the_store_that_has_lied() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.arrived(1, 1);
    b.pull.refute(&d(1), b.now);
    b.pull.disconnected();
    b.pull.connected(b.now);
    assert_eq!(b.pull.orders(), [Need(vec![d(1)])]);
}

#[test]
fn a_refused_subscription_leaves_need() {
    let mut b = Bench::connected(8);
    b.pull.want(&d(1), OBJECT, b.now);
    b.pull.orders();
    b.pull.subscribed(&d(1), false, b.now);
    assert_eq!(b.pull.orders(), [Need(vec![d(1)])]);
}

#[test]
fn there_is_one_need_at_a_time_and_it_names_at_most_sixteen() {
    let mut b = Bench::connected(32);
    for n in 0..30 {
        b.pull.want(&d(n), OBJECT, b.now);
    }
    b.pull.orders();
    let orders = b.wait(2.0);
    assert!(matches!(orders.as_slice(), [Need(names)] if names.len() == NEED_NAMES_MAX), "{orders:?}");
    assert!(!b.wait(2.0).iter().any(|o| matches!(o, Need(_))), "the first is not taken yet");
    b.need_taken();
    assert!(b.wait(2.0).iter().any(|o| matches!(o, Need(_))));
}

#[test]
fn what_is_not_wanted_after_all_makes_room_and_is_unsubscribed() {
    let mut b = Bench::connected(1);
    assert!(b.prefetch(1) && !b.prefetch(2));
    b.pull.orders();
    b.pull.abandon(&d(1));
    assert_eq!(b.pull.orders(), [Unsubscribe(d(1))]);
    assert!(b.prefetch(2));
    assert_eq!(b.arrived(1, 1), Arrival::Duplicate, "what was on its way is no strike");
}
