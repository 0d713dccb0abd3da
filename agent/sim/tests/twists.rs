//! Goal: what no order of the driver's own can prevent is noticed, said and survived: a committed group that dies, a
//! record that is lost in both copies. Method: let it happen once, alone and with one cut at any effect beside it.

use mainstay_core::update::OutcomeKind::*;
use mainstay_sim::life::{Life, Story};
use mainstay_sim::outside::Twist;
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{CUTS, Sweep};

fn told(name: &str, twist: Twist) -> Story {
    let case = all(3).into_iter().find(|case| case.story.name == name).expect("a story of that name");
    Story { twist, ..case.story }
}

fn sweep(story: &Story, fits: &dyn Fn(&Life) -> bool) {
    let mut broken = Vec::new();
    for (name, board) in BOARDS {
        let mut sweep = Sweep::new(story, board, None);
        if let Err(found) = sweep.one(&CUTS, fits) {
            broken.push(format!("{name}: {found}"));
        }
        println!("{name:18} {} schedules, {:?}", sweep.tally.schedules, sweep.tally.histories);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The committed group cannot be loaded any more. The bootloader goes on to the other one, which is older and may lie
/// under the floor: the price of keeping it. Nobody must take that for a gateway that runs what it reported.
#[test]
fn a_late_fallback_is_reported() {
    let story = told("a good update", Twist::CommittedGroupDies);
    sweep(&story, &|life| life.runs == 1 && life.outcomes.last().is_some_and(|(_, kind)| *kind == FellBack));
}

/// The record is gone while B is on trial. Left alone B would run out of tries, one reboot after the other, and an
/// offer would withdraw A, the only group that is good. The agent vouches for B if its checks pass, else leaves it to
/// its tries; then the release is offered again, and ends as it would have.
#[test]
fn a_trial_whose_record_is_lost_strands_nobody() {
    let story = told("a good update", Twist::RecordIsLostInTrial);
    sweep(&story, &|life| life.runs == 2 || life.outcomes.iter().any(|(_, kind)| *kind == FellBack));
    // RAUC's variables do not say which group is on trial, so an unhealthy one is not vouched for, not given up either,
    // and nothing else is installed from it: reboots use up its attempts.
    let story = told("an unhealthy image", Twist::RecordIsLostInTrial);
    sweep(&story, &|life| match life.runs {
        1 => life.outcomes.iter().all(|(_, kind)| matches!(kind, FellBack | RolledBack)),
        _ => life.outcomes.is_empty() && life.refused.len() == 1,
    });
}

/// Whom the bootloader would boot next is not known: nothing is begun, and the offer is refused with the reason.
/// (RAUC's own script on GRUB boots nothing from such a block, so there is no agent to ask.)
#[test]
fn with_an_environment_that_cannot_be_read_nothing_is_begun() {
    let story = told("a good update", Twist::EnvironmentIsLost);
    for (name, board) in BOARDS.into_iter().filter(|(name, _)| *name != "GRUB, rauc") {
        let mut sweep = Sweep::new(&story, board, None);
        let life = sweep.live(&Vec::new(), &|life| life.runs == 1 && life.outcomes.is_empty());
        let life = life.unwrap_or_else(|found| panic!("{name}: {found}"));
        println!("{name}: {:?}", life.refused);
        assert!(
            life.refused.len() == 1 && life.refused[0].contains("nvironment"),
            "{name}: {:?}",
            life.refused
        );
        let began = |line: &String| {
            line.contains("a segment")
                || line.contains("=>")
                || line.contains("the agent writes the environment")
        };
        assert!(!life.trace.iter().any(began), "{name}: {:?}", life.trace);
    }
}
