//! Goal: no single effect that fails while the power stays (a write that is refused; one that stands although it
//! says that it failed) breaks an invariant, and the agent settles.
//!
//! Method: as for the cuts. How the story ends may differ: a deployment that could not be written or armed is
//! reported as failed or rolled back, and offered again.

use mainstay_core::update::OutcomeKind::{Failed, FellBack, RolledBack};
use mainstay_sim::life::Life;
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{FAILURES, Sweep};

#[test]
fn one_effect_that_fails_breaks_nothing_and_the_agent_settles() {
    let mut broken = Vec::new();
    for (name, board) in BOARDS {
        let (mut schedules, mut effects) = (0, 0);
        for case in all(3) {
            let versions: Vec<String> = case.story.releases.iter().map(|i| i.version.to_string()).collect();
            // It ends as told, or a deployment was given up on the way, and said so.
            let fits = |life: &Life| {
                let given_up =
                    life.outcomes.iter().any(|(_, kind)| matches!(kind, Failed | RolledBack | FellBack));
                case.as_told(life) || (given_up && life.outcomes.iter().all(|(v, _)| versions.contains(v)))
            };
            let mut sweep = Sweep::new(&case.story, board, None);
            if let Err(found) = sweep.one(&FAILURES, &fits) {
                broken.push(format!("{name}: {}: {found}", case.story.name));
            }
            println!("{name:18} {:38} {:?}", case.story.name, sweep.tally.histories);
            schedules += sweep.tally.schedules;
            effects += sweep.tally.effects;
        }
        println!("{name}: {schedules} schedules, {effects} effects");
    }
    assert!(broken.is_empty(), "{} stories:\n{}", broken.len(), broken.join("\n"));
}
