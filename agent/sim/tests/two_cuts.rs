//! Goal: with three tries, no two power cuts make a healthy image fall back, and none breaks an invariant.
//!
//! Method: a cut at each effect of the undisturbed life, and a second one at each later effect of the life that
//! follows. Bounded here to the two stories that have most to lose, each bootloader, and the two extremes of what the
//! medium keeps (once nothing, once torn): all of it takes minutes, see the README.

use mainstay_sim::power::{Keeps, Upset};
use mainstay_sim::stories::{BOARDS, Case, all};
use mainstay_sim::sweep::Sweep;
use mainstay_sim::world::Board;

const CUTS: [Upset; 2] = [Upset::Cut(Keeps::Nothing), Upset::Cut(Keeps::Torn(3))];

fn sweep(board: Board, tries: u8, story: &str) {
    let case: Case =
        all(tries).into_iter().find(|case| case.story.name == story).expect("a story of that name");
    let mut sweep = Sweep::new(&case.story, board, None);
    let fits = |life: &_| case.after_cuts(life, board.convention().tries_max().min(tries), 2);
    if let Err(found) = sweep.two(&CUTS, &fits) {
        panic!("{story}: {found}");
    }
    let tally = &sweep.tally;
    println!("{story}: {} schedules, {} effects, {:?}", tally.schedules, tally.effects, tally.histories);
}

#[test]
fn two_cuts_of_a_good_update_on_uboot() {
    sweep(BOARDS[0].1, 3, "a good update over an older release");
}

#[test]
fn two_cuts_of_an_image_that_never_boots_on_grub() {
    sweep(BOARDS[1].1, 3, "an image that never boots");
}

#[test]
fn two_cuts_of_a_good_update_on_raucs_uboot() {
    sweep(BOARDS[2].1, 3, "a good update over an older release");
}

#[test]
fn two_cuts_of_an_unhealthy_image_on_raucs_grub() {
    sweep(BOARDS[3].1, 1, "an unhealthy image");
}

#[test]
fn two_cuts_of_a_factory_reset_on_uboot() {
    sweep(BOARDS[0].1, 3, "a factory reset between two updates");
}

#[test]
fn two_cuts_of_a_decommission_on_uboot_and_on_grub() {
    sweep(BOARDS[0].1, 3, "a decommission after an update");
    sweep(BOARDS[1].1, 3, "a decommission after an update");
}

#[test]
fn two_cuts_of_a_good_update_on_uboots_own_bootcount() {
    sweep(BOARDS[4].1, 3, "a good update over an older release");
}
