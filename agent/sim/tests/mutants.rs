//! Goal: the suite has teeth. Each wrong order, played by a hostile wrapper around a seam, has to be caught, and by
//! the invariant that is there for it.
//!
//! Method: live each story with the mutant in place, first undisturbed and then under every single cut, until an
//! invariant breaks or a story ends as it may not.

use mainstay_sim::hostile::Mutant::{self, *};
use mainstay_sim::life::Life;
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{CUTS, Sweep};

/// What catches it first, or `None` if every story ends well.
fn caught(mutant: Mutant, only: Option<&str>) -> Option<String> {
    for case in all(3).iter().filter(|case| only.is_none_or(|name| case.story.name == name)) {
        let fits = |life: &Life| case.after_cuts(life, 3, 1);
        let mut sweep = Sweep::new(&case.story, BOARDS[0].1, Some(mutant));
        let undisturbed = sweep.live(&Vec::new(), &|life| case.as_told(life));
        if let Err(found) = undisturbed.and_then(|_| sweep.one(&CUTS, &fits)) {
            return Some(format!("{} | {} | {:?}", found.broken.what, case.story.name, found.schedule));
        }
    }
    None
}

#[test]
fn every_wrong_order_is_caught_by_the_invariant_that_is_there_for_it() {
    #[rustfmt::skip]
    let cases = [
        // mutant                story that is enough                   what it breaks
        (NotWithdrawn,           "a good update over an older release", "nothing unverified becomes bootable"),
        (FloorBeforeMarkGood,    "a good update",                       "a committed group at or above the floor"),
        (MarkGoodBeforeTrial,    "an image that never boots",           "committed implies passed"),
        (NotSynced,              "a good update",                       "nothing unverified becomes bootable"),
        (MarksTheWrongGroupBad,  "an unhealthy image",                  "a committed group at or above the floor"),
        (ActsBeforeItPersists,   "a good update",                       "an outcome is reported truthfully"),
    ];
    for (mutant, story, breaks) in cases {
        let by = caught(mutant, Some(story)).unwrap_or_else(|| panic!("{mutant:?} escapes in {story:?}"));
        println!("{mutant:?}: {by}");
        assert!(by.starts_with(breaks), "{mutant:?}: expected {breaks:?}, found {by}");
    }
    assert_eq!(cases.map(|(mutant, ..)| mutant), Mutant::ALL);
}

/// A driver that looks whether its withdrawal took needs no invariant to save it: it gives the deployment up.
#[test]
fn without_a_mutant_nothing_is_caught() {
    let case = &all(3)[0];
    let mut sweep = Sweep::new(&case.story, BOARDS[0].1, None);
    assert!(sweep.live(&Vec::new(), &|life| case.as_told(life)).is_ok());
}
