//! Goal: the suite has teeth. Each wrong order, each lie and each step that is left out has to be caught, and by the
//! check that is there for it.
//!
//! Method: live the story that is said to be enough with the mutant in place, first undisturbed, then with the one
//! thing going wrong that the table says, until a check does not hold; and the same stories without a mutant, in which nothing may be caught.

use mainstay_sim::mutant::{TABLE, hunt, without};

#[test]
fn every_wrong_order_is_caught_by_the_invariant_that_is_there_for_it() {
    let mut escaped = Vec::new();
    for row in TABLE {
        match hunt(row) {
            Some(caught) if caught.by.starts_with(row.by) => {
                println!("{:?}: {}: {}", row.mutant, caught.under.name(), caught.by)
            }
            Some(caught) => {
                escaped.push(format!("{:?}: expected {:?}, found {caught:?}", row.mutant, row.by))
            }
            None => escaped.push(format!("{:?}: by nothing", row.mutant)),
        }
    }
    assert!(escaped.is_empty(), "{} of {}:\n{}", escaped.len(), TABLE.len(), escaped.join("\n"));
}

#[test]
fn every_mutant_stands_in_the_table_once() {
    for (n, row) in TABLE.iter().enumerate() {
        assert!(TABLE.iter().skip(n + 1).all(|other| other.mutant != row.mutant), "{:?}", row.mutant);
    }
}

/// Else what catches a mutant would be the story.
#[test]
fn without_a_mutant_nothing_is_caught() {
    let mut lived = Vec::new();
    for row in TABLE {
        let as_before = (row.board, row.tale, row.under);
        if !lived.contains(&as_before) {
            lived.push(as_before);
            assert_eq!(without(row), None, "{as_before:?}");
        }
    }
}
