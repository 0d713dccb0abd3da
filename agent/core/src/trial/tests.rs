//! The goal: no answer, order or silence of the checks makes a trial healthy that is not, or keeps it from ending.
//! The method: a played trial, in which each check is a small actor on a virtual clock; a table of trials with their
//! verdict and its moment, and random ones.

use super::*;
use crate::limits::CHECKS_MAX;
use crate::seam::Verdict;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// How a check behaves: each attempt answers after `answer_ms`; the one with number `passes_at` (from 1) and those
/// after it pass.
#[derive(Clone, Copy, Debug)]
struct Actor {
    answer_ms: u64,
    passes_at: Option<u32>,
}

const fn actor(answer_ms: u64, passes_at: Option<u32>) -> Actor {
    Actor { answer_ms, passes_at }
}

fn plan(name: &str, required: bool) -> CheckPlan {
    let name = name.try_into().unwrap();
    CheckPlan { name, required, timeout_ms: 1000, retries: 2, interval_ms: 500, grace_ms: 0 }
}

/// Plays a trial that begins at `START_MS` to its end; the verdict and when it fell, since the start.
fn play(deadline_ms: u64, cast: &[(CheckPlan, Actor)], required: &[&str]) -> (Verdict, u64) {
    let mut trial = Trial::new(START_MS, START_MS + deadline_ms);
    for (plan, _) in cast {
        trial.add(plan.clone()).unwrap();
    }
    required.iter().for_each(|name| trial.require(name));
    let mut now = START_MS;
    let mut answers: Vec<(u64, usize)> = Vec::new();
    for _ in 0..100_000 {
        match trial.turn(now) {
            Turn::Start(n) => {
                assert!(answers.iter().all(|(_, other)| *other != n), "check {n} runs twice");
                answers.push((now + cast[n].1.answer_ms, n));
                assert!(answers.len() <= RUNNING_MAX, "more than {RUNNING_MAX} at once");
            }
            Turn::Stop(n) => answers.retain(|(_, other)| *other != n),
            Turn::Over(verdict) => {
                assert_eq!(trial.turn(now + 1), Turn::Over(verdict.clone()), "it stays decided");
                return (verdict, now - START_MS);
            }
            Turn::Wait { until_ms } => {
                assert!(until_ms > now, "waits for a moment that has passed: {until_ms} at {now}");
                now = answers.iter().map(|(at, _)| *at).chain([until_ms]).min().unwrap();
                answers.sort_unstable();
                while let Some((_, n)) = answers.first().filter(|(at, _)| *at <= now).copied() {
                    answers.remove(0);
                    let (_, actor) = cast[n];
                    match actor.passes_at {
                        Some(at) if trial.checks()[n].attempts() >= at => trial.passed(n, now),
                        _ => trial.failed(n, now, "said no"),
                    }
                }
            }
        }
    }
    panic!("a trial that does not end: {trial:?}");
}

type Case = (&'static str, Vec<(CheckPlan, Actor)>, &'static [&'static str], u64, Option<&'static str>);

const START_MS: u64 = 7_000_000;
const NEVER: u64 = u64::MAX / 2;

#[test]
fn verdicts_and_their_moments() {
    let req = |name| plan(name, true);
    let want = |name| plan(name, false);
    let once = |name| CheckPlan { retries: 0, ..plan(name, true) };
    let grace = |name, grace_ms| CheckPlan { grace_ms, retries: 0, ..plan(name, true) };
    let slow = |name| CheckPlan { timeout_ms: 60_000, ..plan(name, false) };
    let yes = actor(100, Some(1));
    let no = actor(100, None);
    let hangs = actor(NEVER, None);
    #[rustfmt::skip]
    let cases: [Case; 22] = [
        // story                              cast                                            required   verdict at   why not
        ("nothing is asked for",              Vec::new(),                                     &[],            0, None),
        ("one that passes",                   [(req("a"), yes)].into(),                       &[],          100, None),
        ("one of two is slower",              [(req("a"), yes), (req("b"), actor(900, Some(1)))].into(), &[], 900, None),
        ("passes at its last attempt",        [(req("a"), actor(100, Some(3)))].into(),       &[],         1300, None),
        ("would pass one attempt later",      [(req("a"), actor(100, Some(4)))].into(),       &[],         1300, Some("check \"a\" failed: 3 attempts, last: said no")),
        ("no retries",                        [(once("a"), actor(100, Some(2)))].into(),      &[],          100, Some("check \"a\" failed: 1 attempt, last: said no")),
        ("one of two fails",                  [(req("a"), yes), (once("b"), no)].into(),      &[],          100, Some("check \"b\" failed: 1 attempt")),
        ("hangs at every attempt",            [(req("a"), hangs)].into(),                     &[],         4000, Some("check \"a\" failed: 3 attempts, last: no answer within 1.0 s")),
        ("answers at its timeout",            [(once("a"), actor(1000, Some(1)))].into(),     &[],         1000, None),
        ("answers after its timeout",         [(once("a"), actor(1001, Some(1)))].into(),     &[],         1000, Some("no answer within 1.0 s")),
        ("its grace ends with its 2nd failure", [(grace("a", 700), actor(100, Some(3)))].into(), &[],         700, Some("check \"a\" failed: 2 attempts")),
        ("passes after its grace",            [(grace("a", 701), actor(100, Some(3)))].into(), &[],        1300, None),
        ("grace does not delay a pass",       [(grace("a", 9000), yes)].into(),               &[],          100, None),
        ("grace ends with the deadline",      [(grace("a", 90_000), no)].into(),              &[],       20_000, Some("deadline of 20 s passed: check \"a\" has not: 34 attempts, last: said no")),
        ("a wanted one fails",                [(req("a"), yes), (want("w"), no)].into(),      &[],          100, None),
        ("a wanted one answers later",        [(req("a"), yes), (want("w"), actor(800, None))].into(), &[], 800, None),
        ("a wanted one hangs",                [(req("a"), yes), (slow("w"), hangs)].into(),   &[],       10_100, None),
        ("only wanted ones, all failing",     [(want("v"), no), (want("w"), no)].into(),      &[],          100, None),
        ("the bundle requires a wanted one",  [(want("w"), no)].into(),                       &["w"],      1300, Some("check \"w\" failed: 3 attempts")),
        ("the bundle requires what is not",   [(req("a"), yes)].into(),                       &["x"],         0, Some("check \"x\": required by the bundle, not configured here")),
        ("slow, and the deadline is first",   [(CheckPlan { timeout_ms: 60_000, ..req("a") }, hangs)].into(), &[], 20_000, Some("deadline of 20 s passed: check \"a\" has not: 1 attempt")),
        ("three late",                        ["a", "b", "c"].map(|n| (CheckPlan { timeout_ms: 60_000, ..req(n) }, hangs)).into(), &[], 20_000, Some("check \"a\" and 2 more have not: 1 attempt")),
    ];
    for (story, cast, required, at, why) in cases {
        let (verdict, when) = play(20_000, &cast, required);
        match (&verdict, why) {
            (Verdict::Healthy, None) => {}
            (Verdict::Unhealthy(text), Some(why)) => assert!(text.contains(why), "{story}: {text}"),
            _ => panic!("{story}: {verdict:?}"),
        }
        assert_eq!(when, at, "{story}");
    }
}

#[test]
fn required_checks_go_first_and_wanted_ones_leave_a_place() {
    let mut trial = Trial::new(0, 1000);
    for (n, required) in [false, false, false, false, true, true].into_iter().enumerate() {
        trial.add(plan(&n.to_string(), required)).unwrap();
    }
    let started: Vec<_> = (0..5).map(|_| trial.turn(0)).collect();
    let start = |n| Turn::Start(n);
    // The two required ones, then one wanted one; the fourth place stays free for a required one.
    assert_eq!(started[..3], [start(4), start(5), start(0)]);
    assert_eq!(started[3], Turn::Wait { until_ms: 1000 });
    trial.failed(4, 10, "no");
    assert_eq!(trial.turn(10), start(1));
    assert_eq!(trial.turn(510), start(4), "the retry finds its place");
}

#[test]
fn a_pass_that_comes_after_the_deadline_does_not_count() {
    let mut trial = Trial::new(0, 1000);
    trial.add(CheckPlan { timeout_ms: 5000, ..plan("a", true) }).unwrap();
    assert_eq!(trial.turn(0), Turn::Start(0));
    trial.passed(0, 1000);
    assert!(matches!(trial.turn(1000), Turn::Over(Verdict::Unhealthy(_))));
}

#[test]
fn an_answer_of_a_stopped_attempt_does_not_count() {
    let mut trial = Trial::new(0, 60_000);
    trial.add(plan("a", true)).unwrap();
    assert_eq!(trial.turn(0), Turn::Start(0));
    assert_eq!(trial.turn(1000), Turn::Stop(0));
    trial.passed(0, 1001);
    assert_eq!(trial.turn(1001), Turn::Wait { until_ms: 1500 });
    assert_eq!(trial.turn(1500), Turn::Start(0));
    trial.passed(7, 1501); // no such check
    trial.passed(0, 1501);
    assert_eq!(trial.turn(1501), Turn::Over(Verdict::Healthy));
}

#[test]
fn a_name_twice_and_one_check_too_many_are_refused() {
    let mut trial = Trial::new(0, 1000);
    for n in 0..CHECKS_MAX {
        assert_eq!(trial.add(plan(&n.to_string(), true)), Ok(n));
    }
    assert!(trial.add(plan("3", true)).unwrap_err().what.contains("\"3\": expected a name of its own"));
    assert!(trial.add(plan("x", true)).unwrap_err().what.contains("expected at most 16 checks"));
}

#[test]
fn what_a_check_prints_is_cut_and_steers_no_console() {
    let mut trial = Trial::new(0, 10_000);
    trial.add(CheckPlan { retries: 0, ..plan(&"n".repeat(48), true) }).unwrap();
    trial.turn(0);
    trial.failed(0, 1, format!("\n\x1b[2J\tgone\r{}", "é".repeat(100)));
    assert!(trial.checks()[0].last_failure().starts_with("[2J gone é"), "{trial:?}");
    let Turn::Over(Verdict::Unhealthy(text)) = trial.turn(1) else { panic!("{trial:?}") };
    assert!(text.contains(&"n".repeat(48)) && text.contains("[2J gone é"), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn plans() -> impl Strategy<Value = (CheckPlan, Actor)> {
    let plan = (any::<bool>(), 1..2000_u32, 0..5_u8, 1..1000_u32, 0..3000_u32);
    let actor = (0..3000_u64, proptest::option::of(1..6_u32));
    (plan, actor).prop_map(
        |((required, timeout_ms, retries, interval_ms, grace_ms), (answer_ms, passes_at))| {
            let name = heapless::String::new();
            (
                CheckPlan { name, required, timeout_ms, retries, interval_ms, grace_ms },
                Actor { answer_ms, passes_at },
            )
        },
    )
}

fn casts() -> impl Strategy<Value = Vec<(CheckPlan, Actor)>> {
    proptest::collection::vec(plans(), 0..=CHECKS_MAX).prop_map(|mut cast| {
        for (n, (plan, _)) in cast.iter_mut().enumerate() {
            plan.name = n.to_string().as_str().try_into().unwrap();
        }
        cast
    })
}

proptest! {
    #[test]
    fn the_deadline_always_ends_it(cast in casts(), deadline in 1..10_000_u64) {
        let (_, when) = play(deadline, &cast, &[]);
        prop_assert!(when <= deadline, "{when}");
    }

    #[test]
    fn a_required_check_that_never_passes_is_never_healthy(
        mut cast in casts(), mut bad in plans(), place in 0..CHECKS_MAX, named in any::<bool>(),
        deadline in 1..10_000_u64,
    ) {
        bad.0.name = "bad".try_into().unwrap();
        bad.0.required = !named; // required by the configuration, or named by the bundle
        bad.1.passes_at = None;
        cast.truncate(CHECKS_MAX - 1);
        let place = place.min(cast.len());
        cast.insert(place, bad);
        let required: &[&str] = if named { &["bad"] } else { &[] };
        let (verdict, _) = play(deadline, &cast, required);
        prop_assert!(matches!(verdict, Verdict::Unhealthy(_)));
    }

    #[test]
    fn with_only_wanted_checks_failing_it_is_healthy(mut cast in casts(), wanted in casts()) {
        for (plan, actor) in cast.iter_mut() {
            plan.required = true;
            *actor = Actor { answer_ms: u64::from(plan.timeout_ms) / 2, passes_at: Some(1) };
        }
        cast.truncate(CHECKS_MAX / 2);
        for (n, (mut plan, actor)) in wanted.into_iter().take(CHECKS_MAX / 2).enumerate() {
            plan.required = false;
            plan.name = format!("w{n}").as_str().try_into().unwrap();
            cast.push((plan, Actor { passes_at: None, ..actor }));
        }
        // Eight checks of less than 2 s, at the least three of them at a time, and the wait for the wanted ones.
        let (verdict, when) = play(60_000, &cast, &[]);
        prop_assert_eq!(verdict, Verdict::Healthy);
        prop_assert!(when <= 3 * 2000 + WANTED_WAIT_MS, "{when}");
    }

    #[test]
    fn no_answer_upsets_it(turns in proptest::collection::vec((0..20_usize, 0..4_u8, 0..700_u64), 0..200), cast in casts()) {
        let mut trial = Trial::new(0, 20_000);
        for (plan, _) in &cast {
            trial.add(plan.clone()).unwrap();
        }
        let (mut now, mut passed) = (0, [false; 20]);
        for (n, what, pass_ms) in turns {
            now += pass_ms;
            match what {
                0 => {
                    passed[n] |= now < 20_000 && trial.checks().get(n).is_some_and(Check::is_running);
                    trial.passed(n, now);
                }
                1 => trial.failed(n, now, String::from("no")),
                _ => {
                    if trial.turn(now) == Turn::Over(Verdict::Healthy) {
                        let mut required = trial.checks().iter().enumerate().filter(|(_, c)| c.plan().required);
                        prop_assert!(required.all(|(n, _)| passed[n]), "{:?}", trial);
                    }
                }
            }
        }
    }
}
