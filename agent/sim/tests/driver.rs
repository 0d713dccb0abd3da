//! Goal: the driver's own order holds, shown by the shortest lives that show it. The source mutants of
//! `cargo xtask mutants` that change the driver are caught here, so these have to stay quick.

use mainstay_sim::odd_stories::meddled;
use mainstay_sim::power::Upsets;
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{FAILURES, Sweep};

/// A step that could not be made durable has not been taken: no action begins that is not on record.
#[test]
fn a_good_update_goes_on_from_every_effect_that_fails() {
    let (case, board) = (&all(3)[0], BOARDS[0].1);
    let mut sweep = Sweep::new(&case.story, board, None);
    if let Err(found) = sweep.one(&FAILURES, &|life| case.after_failures(life, false)) {
        panic!("{found}");
    }
}

/// The other group was given up while this one was on trial, and the trial is unhealthy: this one is the only way up.
#[test]
fn a_group_that_is_the_only_way_up_is_not_given_up() {
    let case = &meddled(3)[0];
    let mut sweep = Sweep::new(&case.story, BOARDS[0].1, None);
    if let Err(found) = sweep.live(&Upsets::new(), &|life| case.as_told(life)) {
        panic!("{found}");
    }
}
