//! The scenarios on the virtual bench, with the real programs: the quick ones. And the liars: benches that do what no machine
//! may do, on which a scenario has to fail.

mod support;

use mainstay_core::boot::{BootState, Group};
use mainstay_hil::Result;
use mainstay_hil::bench::virtual_board::VirtualBench;
use mainstay_hil::bench::{Bench, Event, Evidence, Identity, ImageSpec, Nature, Need, Pace, What};
use mainstay_hil::scenario::{Verdict, find};
use std::path::{Path, PathBuf};
use support::play_on;

/// Plays a scenario on a virtual board; every case has to end well.
fn holds(number: u8) {
    for case in play_on(find(number).unwrap(), |bench| Box::new(bench)) {
        let console = case.evidence.map(|(_, after)| after.console).unwrap_or_default();
        assert_eq!(case.verdict, Verdict::Ok, "{}\n{console}", case.table);
    }
}

#[test]
fn a_good_update_is_committed_and_reported() {
    holds(1);
}

#[test]
fn a_failing_check_is_rolled_back() {
    holds(2);
}

#[test]
fn a_hanging_user_space_falls_back() {
    holds(3);
}

#[test]
fn after_ten_updates_the_log_tells_what_happened() {
    holds(10);
}

#[test]
fn what_only_a_kernel_can_do_is_not_run_on_a_virtual_board_and_not_passed_either() {
    let played = play_on(find(4).unwrap(), |bench| Box::new(bench));
    let not_run: Vec<&str> = played
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::NotRun(_)))
        .map(|case| case.case)
        .collect();
    assert_eq!(not_run, ["it panics", "init is missing"]);
    assert_eq!(played.iter().filter(|case| case.verdict == Verdict::Ok).count(), 2);
}

#[test]
fn a_board_that_is_reset_and_whose_watchdog_never_fires_fails() {
    let lie = Lie { hides: Some(What::WatchdogFires), flatters: false };
    fails(3, lie, "tries, each ended by the watchdog device: 3 boots into the trial, 0 bites");
}

#[test]
fn a_gateway_that_commits_what_should_have_failed_its_check_fails() {
    let lie = Lie { hides: None, flatters: true };
    fails(2, lie, "outcome that the operator received: committed, expected rolled back");
}

/// Plays a scenario on a board that lies: it has to fail, for this reason.
fn fails(number: u8, lie: Lie, why: &str) {
    let played = play_on(find(number).unwrap(), |bench| Box::new(Liar { bench, lie }));
    match &played[0].verdict {
        Verdict::Failed(found) => assert!(found.contains(why), "failed, but for another reason: {found}"),
        other => panic!("{other:?}, and it had to fail: {}", played[0].table),
    }
    assert!(played[0].evidence.as_ref().is_some_and(|(_, after)| !after.console.is_empty()), "and says more");
}

/// How a bench lies.
struct Lie {
    /// Keeps this event to itself.
    hides: Option<What>,
    /// Makes a good image whatever was asked for.
    flatters: bool,
}

struct Liar {
    bench: VirtualBench,
    lie: Lie,
}

impl Bench for Liar {
    fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = self.bench.events()?;
        events.retain(|event| Some(&event.what) != self.lie.hides.as_ref());
        Ok(events)
    }

    fn image(&mut self, spec: &ImageSpec) -> Result<PathBuf> {
        let nature = if self.lie.flatters { Nature::Healthy } else { spec.nature };
        self.bench.image(&ImageSpec { nature, ..spec.clone() })
    }

    fn name(&self) -> &str {
        self.bench.name()
    }

    fn lacks(&self, need: Need) -> Option<String> {
        self.bench.lacks(need)
    }

    fn pace(&self) -> Pace {
        self.bench.pace()
    }

    fn compatible(&self) -> &str {
        self.bench.compatible()
    }

    fn factory(&mut self, image: &Path, identity: &Identity) -> Result<()> {
        self.bench.factory(image, identity)
    }

    fn power(&mut self, on: bool) -> Result<()> {
        self.bench.power(on)
    }

    fn link(&mut self, up: bool) -> Result<()> {
        self.bench.link(up)
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        self.bench.type_in(keys)
    }

    fn repair(&mut self) -> Result<()> {
        self.bench.repair()
    }

    fn ruin(&mut self, group: Group) -> Result<()> {
        self.bench.ruin(group)
    }

    fn other_agent(&mut self) -> Result<PathBuf> {
        self.bench.other_agent()
    }

    fn environment(&mut self) -> Result<BootState> {
        self.bench.environment()
    }

    fn version_in(&mut self, group: Group) -> Result<Option<String>> {
        self.bench.version_in(group)
    }

    fn agent(&mut self, words: &[&str]) -> Result<String> {
        self.bench.agent(words)
    }

    fn evidence(&mut self) -> Result<Evidence> {
        self.bench.evidence()
    }
}
