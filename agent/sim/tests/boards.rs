//! Goal: say what a board with a known weakness can lose, and that nothing else is lost with it.
//!
//! Method: the same sweeps as for the boards that hold, with what is expected to break named.

use mainstay_bootloader_glue::Format;
use mainstay_sim::power::{Figure, Keeps, Upset};
use mainstay_sim::stories::{Case, DATA_JOURNAL, SINGLE_COPY, all};
use mainstay_sim::sweep::{CUTS, Found, Sweep};
use mainstay_sim::world::Board;

fn good_update(board: Board, upsets: &[Upset]) -> Result<(), Box<Found>> {
    let case: Case = all(3).into_iter().next().expect("the first story");
    Sweep::new(&case.story, board, None).one(upsets, &|life| case.after_cuts(life, 3, 1))
}

/// One copy, two sectors: a power cut that tears the write leaves no environment, and U-Boot goes on with its own
/// default. That is all that breaks, and only where a write is torn.
#[test]
fn a_single_copy_of_two_sectors_is_lost_in_a_torn_write_and_in_nothing_else() {
    let whole = [Keeps::Nothing, Keeps::Everything, Keeps::Reordered(1), Keeps::Reordered(2)].map(Upset::Cut);
    good_update(SINGLE_COPY, &whole).unwrap_or_else(|found| panic!("{found}"));
    let torn: Vec<Upset> = (0..20).map(|seed| Upset::Cut(Keeps::Torn(seed))).collect();
    let found = good_update(SINGLE_COPY, &torn).expect_err("a torn write of the only copy");
    assert_eq!(found.broken.figure, Figure::Unbootable);
    assert!(found.broken.what.starts_with("the environment is always readable"), "{found}");
    let last = found.broken.trace.last().map(String::as_str).unwrap_or_default();
    assert!(last.contains("environment: Cut(Torn"), "{last}");
}

/// The same in one sector, which a medium writes whole or not at all.
#[test]
fn a_single_copy_of_one_sector_survives_every_cut() {
    let board = Board { format: Format::UbootSingle { bytes: 512 }, ..SINGLE_COPY };
    let torn: Vec<Upset> = (0..20).map(|seed| Upset::Cut(Keeps::Torn(seed))).chain(CUTS).collect();
    good_update(board, &torn).unwrap_or_else(|found| panic!("{found}"));
}

/// The bootloader has counted a try down, the kernel comes up and replays its journal: the try is back. A cut costs no
/// try there, but an image that dies in its trial is booted once more than it may be, for each cut. Nothing else breaks.
#[test]
fn a_journal_of_data_brings_a_try_back_and_nothing_else() {
    let every: Vec<Upset> = CUTS.to_vec();
    good_update(DATA_JOURNAL, &every).unwrap_or_else(|found| panic!("{found}"));
    let case = all(3).into_iter().find(|case| case.story.name == "an image that hangs in its trial");
    let case = case.expect("a story of that name");
    let swept = Sweep::new(&case.story, DATA_JOURNAL, None).one(&every, &|life| case.after_cuts(life, 3, 1));
    let found = swept.expect_err("an image that dies after the mount");
    assert_eq!(found.broken.figure, Figure::Stuck);
    assert!(found.broken.what.contains("B is booted 4 times with 3 tries"), "{found}");
}
