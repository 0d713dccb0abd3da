//! Goal: a machine that goes down while it commits commits, or goes back as if it had not begun to; and once "good"
//! stands in the environment, it commits.
//!
//! Method: of a good update on each convention, the effects between the record of Committing and the last one are taken
//! from the undisturbed life, and the power is cut at each of them in each way. (The sweeps cut there too, among all
//! others: this is the one to look at when a commit is in doubt.)

use mainstay_sim::life::Life;
use mainstay_sim::power::Upsets;
use mainstay_sim::stories::{BOARDS, Case, all};
use mainstay_sim::sweep::{CUTS, Sweep};

/// Number and name of each effect after the record says Committing.
fn while_committing(life: &Life) -> Vec<(u32, String)> {
    let lines = life.trace.iter().skip_while(|line| !line.contains("=> Committing")).skip(1);
    let effect = |line: &String| {
        let (number, name) = line.trim_start().split_once(' ')?;
        Some((number.parse().ok()?, name.to_string()))
    };
    lines.filter_map(effect).collect()
}

#[test]
fn a_cut_at_each_effect_of_a_commit_ends_committed_or_as_if_it_had_not_begun() {
    for (name, board) in &BOARDS[..5] {
        let tries = board.convention().tries_max().min(3);
        let case = &all(tries)[0];
        assert_eq!(case.story.name, "a good update");
        let mut sweep = Sweep::new(&case.story, *board, None);
        let undisturbed = sweep.live(&Upsets::new(), &|life| case.as_told(life)).expect("as told");
        let effects = while_committing(&undisturbed);
        let marked = effects.iter().position(|(_, name)| name == "the agent syncs the environment");
        let marked = marked.unwrap_or_else(|| panic!("{name}: {effects:?}"));
        assert!(effects.len() >= marked + 3, "{name}: {effects:?}");
        for (n, (at, effect)) in effects.iter().enumerate() {
            for cut in CUTS {
                let fits = |life: &Life| match n > marked {
                    true => case.as_told(life),
                    false => Case::after_cuts(case, life, tries, 1) && life.outcomes.len() == 1,
                };
                let lived = sweep.live(&vec![(*at, cut)], &fits);
                let life = lived.unwrap_or_else(|found| panic!("{name}, {at} {effect}: {found}"));
                assert!(life.stands, "{name}, {at} {effect}, {cut:?}: {life:?}");
            }
        }
        println!("{name}: {} effects, {} ways each", effects.len(), CUTS.len());
    }
}
