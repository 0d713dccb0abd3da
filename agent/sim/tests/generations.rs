//! Goal: agents of different generations on one record destroy nothing and strand nobody: an old one under a new image,
//! a new one over an old record, an old one again after a fallback. Method: a later agent writes records with another
//! format byte and reads both; the old one is the driver as it ships.

use mainstay_sim::life::Life;
use mainstay_sim::power::Upsets;
use mainstay_sim::stories::{BOARDS, Case, all};
use mainstay_sim::sweep::Sweep;

fn live(name: &str, board: usize) -> Life {
    let case: Case = all(3).into_iter().find(|case| case.story.name == name).expect("a story of that name");
    let lived =
        Sweep::new(&case.story, BOARDS[board].1, None).live(&Upsets::new(), &|life| case.as_told(life));
    lived.unwrap_or_else(|found| panic!("{found}"))
}

/// The image that fell back had a later agent, which wrote the record in its own format. The one before it does not know
/// that format: it says so, writes nothing at all, and the gateway stands on its good group.
#[test]
fn an_older_agent_after_a_fallback_leaves_a_newer_record_alone_and_says_so() {
    for board in 0..BOARDS.len() {
        let life = live("an older agent after a fallback", board);
        assert!(life.mute && life.stands && life.runs == 1, "{life:?}");
        let said = life.trace.iter().position(|line| line.contains("expected format 1, found 2"));
        let said = said.unwrap_or_else(|| panic!("{:?}", life.trace));
        let after: Vec<_> = life.trace.iter().skip(said).filter(|line| line.contains("written")).collect();
        assert!(after.is_empty(), "{after:?}");
    }
}

/// An operator rolls an image with an old agent out over a newer record. It cannot run its trial, so nobody feeds the
/// watchdog that the bootloader armed, the tries run out, and the group that can read the record comes back.
#[test]
fn an_image_whose_agent_is_too_old_for_the_record_falls_back() {
    use mainstay_sim::schedule::{Line, Schedule};
    let line = Line {
        story: "made: 2=Healthy/2+2 3=Healthy/3".into(),
        board: BOARDS[0].0.into(),
        tries: 3,
        schedule: Schedule::None,
    };
    let life = mainstay_sim::swarm::replay(&line).expect("a line that can be read");
    let life = life.unwrap_or_else(|found| panic!("{found}"));
    let outcomes: Vec<String> = life.outcomes.iter().map(|(v, kind)| format!("{v} {kind:?}")).collect();
    assert_eq!((life.runs, outcomes), (2, vec!["2 Committed".to_string(), "3 FellBack".to_string()]));
}
