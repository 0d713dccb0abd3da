//! Goal: each story ends as it is told, on each bootloader. Method: live it once, with nothing going wrong; the
//! invariants are checked after every effect.

use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::Sweep;

#[test]
fn undisturbed_every_story_ends_as_it_is_told() {
    let mut broken = Vec::new();
    for tries in [3, 1] {
        for (board_name, board) in BOARDS {
            for case in all(tries) {
                let mut sweep = Sweep::new(&case.story, board, None);
                match sweep.live(&Vec::new(), &|life| case.as_told(life)) {
                    Ok(life) => println!(
                        "{board_name}, {tries} tries: {}: {} effects, {} boots",
                        case.story.name, life.effects, life.boots
                    ),
                    Err(found) => {
                        broken.push(format!("{board_name}, {tries} tries: {}: {found}", case.story.name))
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
