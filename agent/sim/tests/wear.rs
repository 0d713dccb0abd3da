//! Goal: an update costs the medium a known number of small writes, and none that nobody needs. Method: count the effects of
//! an undisturbed good update on each board; the figures stand here, so that one more write is seen by who adds it.
//!
//! `cargo test -p mainstay-sim --test wear -- --nocapture` prints them.

use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::Sweep;

/// What is counted: the effect's name in the trace of a life, and how often it is there.
const EFFECTS: [&str; 4] = [
    "the agent writes the environment",
    "the bootloader saves its environment",
    "the record is written",
    "the manifest is written",
];

#[test]
fn a_good_update_costs_the_medium_so_many_writes_and_no_more() {
    let case =
        all(3).into_iter().find(|case| case.story.name == "a good update").expect("a story of that name");
    #[rustfmt::skip]
    let figures = [
        // board                            environment: agent, bootloader   record   manifest
        ("U-Boot, mainstay",                [3,                 1,           10,      1]),
        ("GRUB, mainstay",                  [3,                 1,           10,      1]),
        ("U-Boot, rauc",                    [3,                 2,           10,      1]),
        ("GRUB, rauc",                      [3,                 2,           10,      1]),
        ("U-Boot, bootcount",               [2,                 2,           10,      1]),
        ("U-Boot, mainstay, files on FAT",  [3,                 1,           10,      1]),
        ("GRUB, mainstay, file on FAT",     [3,                 1,           10,      1]),
        // The flags byte of the copy that was in force is written apart.
        ("U-Boot, mainstay, NOR flags",     [6,                 2,           10,      1]),
    ];
    let mut found = Vec::new();
    for (name, board) in BOARDS {
        let mut sweep = Sweep::new(&case.story, board, None);
        let life =
            sweep.live(&Vec::new(), &|life| case.as_told(life)).unwrap_or_else(|f| panic!("{name}: {f}"));
        let counts = EFFECTS.map(|effect| life.trace.iter().filter(|line| line.contains(effect)).count());
        println!(
            "{name:18} {}",
            EFFECTS.iter().zip(counts).map(|(e, n)| format!("{n} × {e}; ")).collect::<String>()
        );
        found.push((name, counts));
    }
    assert_eq!(found, figures);
}
