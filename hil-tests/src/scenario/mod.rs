//! The scenarios of the laboratory: written once, against [`Bench`](crate::bench::Bench), an operator, a broker and a listener,
//! and played unchanged on a virtual board, on emulated machines and on real ones.
//!
//! * [`world`] what a scenario plays on: the bench, and the fleet around it
//! * [`watch`] waiting for what is to be seen, and failing at once on what can no longer come good
//! * [`update`] an update: made ready, published, followed to its outcome, and what has to hold then
//! * `audit` the gateway's log, proven
//! * [`figure`] how long the way back takes, and whose time that is
//! * one file for each scenario
//!
//! A scenario has one case or several. Each scenario begins in the factory; its cases follow one another on the same gateway,
//! and one that failed is followed by another factory. No case waits for a time: each wait is for an event of the machine or
//! for a message to the operator, and its deadline is the bench's own pace times [`Pace::PATIENCE`](crate::bench::Pace).

mod agent_fails;
mod agent_update;
mod audit;
mod broker_gone;
pub mod figure;
mod good_update;
mod hangs;
mod kernel_fails;
mod play;
mod power_cuts;
mod rolled_back;
mod ten_updates;
pub mod update;
mod used_up;
pub mod watch;
pub mod world;

pub use play::{Played, Verdict, play};

use crate::Result;
use crate::bench::Need;
use crate::proof::Proof;
use world::World;

/// A scenario.
pub struct Scenario {
    /// From 1.
    pub number: u8,
    /// What it shows.
    pub title: &'static str,
    /// Its cases, in order.
    pub cases: &'static [Case],
}

/// One case of a scenario.
pub struct Case {
    /// What it adds to the scenario's title; empty where there is only one.
    pub name: &'static str,
    /// What the bench has to have. Where it lacks something the case is not run.
    pub needs: &'static [Need],
    /// The gateway's configuration requires the broker in a trial.
    pub broker_required: bool,
    /// Plays it.
    pub play: fn(&mut World<'_>, &mut Proof) -> Result<()>,
}

/// All, in order.
pub const ALL: [Scenario; 10] = [
    Scenario { number: 1, title: "a good update", cases: &good_update::CASES },
    Scenario { number: 2, title: "a required check fails", cases: &rolled_back::CASES },
    Scenario { number: 3, title: "user space hangs", cases: &hangs::CASES },
    Scenario { number: 4, title: "the kernel fails", cases: &kernel_fails::CASES },
    Scenario { number: 5, title: "the agent fails", cases: &agent_fails::CASES },
    Scenario { number: 6, title: "both groups used up", cases: &used_up::CASES },
    Scenario { number: 7, title: "the power goes", cases: &power_cuts::CASES },
    Scenario { number: 8, title: "no broker in the trial", cases: &broker_gone::CASES },
    Scenario { number: 9, title: "the agent updates itself", cases: &agent_update::CASES },
    Scenario { number: 10, title: "ten updates, and the log", cases: &ten_updates::CASES },
];

/// What is played on each change.
pub const PUSH: [u8; 5] = [1, 2, 3, 4, 7];

/// The scenario of this number.
pub fn find(number: u8) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_numbered_in_order_and_the_cases_of_each_have_names_of_their_own() {
        for (number, scenario) in (1..).zip(&ALL) {
            assert_eq!(scenario.number, number);
            let names: std::collections::BTreeSet<&str> =
                scenario.cases.iter().map(|case| case.name).collect();
            assert!(names.len() == scenario.cases.len() && !names.is_empty(), "{}", scenario.title);
            assert!(names.len() == 1 || !names.contains(""), "{}", scenario.title);
        }
        assert!(PUSH.iter().all(|number| find(*number).is_some()));
    }
}
