//! Goal: no single power cut, at any effect of any story, breaks an invariant or changes how the story ends (but for
//! a trial with one try, which a cut uses up).
//!
//! Method: at each effect of the undisturbed life, cut the power of a clone in each way in which the media can take it,
//! and live on from what is left. The invariants are checked after every effect of each.

use mainstay_sim::stories::{BOARDS, Case, all};
use mainstay_sim::sweep::{CUTS, Sweep};
use mainstay_sim::world::Board;

fn sweep(board: Board, tries: u8) {
    let (mut schedules, mut effects, mut broken) = (0, 0, Vec::new());
    for case in all(tries).into_iter().filter(|case| case.is_told_on(board)) {
        let fits = |life: &_| Case::after_cuts(&case, life, board.convention().tries_max().min(tries), 1);
        let mut sweep = Sweep::new(&case.story, board, None);
        if let Err(found) = sweep.one(&CUTS, &fits) {
            broken.push(format!("{}: {found}", case.story.name));
        }
        println!(
            "{:38} {:6} schedules {:8} effects {:?}",
            case.story.name, sweep.tally.schedules, sweep.tally.effects, sweep.tally.histories
        );
        schedules += sweep.tally.schedules;
        effects += sweep.tally.effects;
    }
    println!("in all {schedules} schedules, {effects} effects");
    assert!(broken.is_empty(), "{} stories:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn one_cut_on_uboot_with_three_tries() {
    sweep(BOARDS[0].1, 3);
}

#[test]
fn one_cut_on_uboot_with_one_try() {
    sweep(BOARDS[0].1, 1);
}

#[test]
fn one_cut_on_grub_with_three_tries() {
    sweep(BOARDS[1].1, 3);
}

#[test]
fn one_cut_on_grub_with_one_try() {
    sweep(BOARDS[1].1, 1);
}

#[test]
fn one_cut_on_raucs_uboot_with_three_tries() {
    sweep(BOARDS[2].1, 3);
}

#[test]
fn one_cut_on_raucs_uboot_with_one_try() {
    sweep(BOARDS[2].1, 1);
}

#[test]
fn one_cut_on_raucs_grub() {
    sweep(BOARDS[3].1, 1);
}

#[test]
fn one_cut_on_uboots_own_bootcount_with_three_tries() {
    sweep(BOARDS[4].1, 3);
}

#[test]
fn one_cut_on_uboots_own_bootcount_with_one_try() {
    sweep(BOARDS[4].1, 1);
}
