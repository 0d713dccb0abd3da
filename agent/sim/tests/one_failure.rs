//! Goal: no single effect that fails while the power stays (a write that is refused, short, or stands although it says
//! that it failed; a sync that fails and leaves its pages in the cache; a write or a sync that is acknowledged and lost;
//! sectors that stick; an agent that is killed; a full data partition, slots that cannot be read, a medium that takes no
//! write any more) breaks an invariant, and the agent settles or stays where it is.
//!
//! Method: as for the cuts. How the story ends may differ: a deployment that could not be written or armed is
//! reported as failed or rolled back, and offered again. Here on one board of each kind and for the stories that have
//! most to lose; `sim failures` lives all of them.

use mainstay_sim::life::Life;
use mainstay_sim::power::Upset;
use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{FAILURES, LINKS, Sweep};

fn sweep(upsets: &[Upset], for_ever: bool, boards: &[usize], stories: &[&str]) {
    let mut broken = Vec::new();
    for (name, board) in boards.iter().map(|board| BOARDS[*board]) {
        let (mut schedules, mut effects) = (0, 0);
        for case in all(3).iter().filter(|case| stories.contains(&&*case.story.name)) {
            let fits = |life: &Life| case.after_failures(life, for_ever);
            let mut sweep = Sweep::new(&case.story, board, None);
            if let Err(found) = sweep.one(upsets, &fits) {
                broken.push(format!("{name}: {}: {found}", case.story.name));
            }
            schedules += sweep.tally.schedules;
            effects += sweep.tally.effects;
        }
        println!("{name}: {schedules} schedules, {effects} effects");
        assert!(schedules > 50, "{name}: {schedules} schedules: are the stories there?");
    }
    assert!(broken.is_empty(), "{} stories:\n{}", broken.len(), broken.join("\n"));
}

const TELLING: [&str; 3] = ["a good update", "an unhealthy image", "an image that never boots"];

/// Each of the first two found a fault: a mark good or a withdrawal whose sync had failed was believed, for it could be
/// read; and the next write of the record went over the only copy that was whole.
#[test]
fn a_write_or_a_sync_that_fails_breaks_nothing() {
    sweep(&FAILURES, false, &[0, 3], &TELLING);
}

#[test]
fn a_write_or_a_sync_that_is_acknowledged_and_lost_or_sticks_is_found_when_it_is_read_back() {
    sweep(&[Upset::Lost, Upset::Stuck(3)], false, &[0, 1], &TELLING[..1]);
}

/// It found that "good" was read from the cache of an agent that had been killed before the sync.
#[test]
fn an_agent_that_is_killed_at_any_effect_goes_on_where_it_was() {
    sweep(&[Upset::Kill], false, &[0, 4], &TELLING);
}

/// Where every boot is counted, the agent that was started anew vouched for the group that a person had just left, and so
/// put it first again.
#[test]
fn an_agent_that_is_killed_after_a_person_has_gone_back_does_not_bring_back_what_was_left() {
    sweep(&[Upset::Kill], false, &[2], &["a person goes back after the commit"]);
}

#[test]
fn a_full_data_partition_and_slots_that_cannot_be_read_are_waited_out_or_said() {
    sweep(&[Upset::Full(3), Upset::Unreadable(2)], false, &[0], &TELLING);
    sweep(&[Upset::Full(u32::MAX), Upset::Unreadable(u32::MAX)], true, &[0], &TELLING);
}

/// eMMC does that at the end of its life. What runs, stands; a trial is not counted, so our script boots none.
#[test]
fn a_medium_that_goes_read_only_in_the_middle_leaves_a_gateway_that_stands() {
    sweep(&[Upset::ReadOnly], true, &[0, 1, 4], &TELLING);
}

/// Whoever revokes a signer wants the bundle dropped. The record could not say so once, the daemon went on, and nothing
/// looked at the signature again before the trial was armed.
#[test]
fn a_signer_that_lost_the_right_is_not_booted_because_the_disk_was_full_for_a_moment() {
    sweep(&[Upset::Full(3), Upset::Fails], false, &[0], &["the signer loses the right before the reboot"]);
}

/// Loss of the network alone never rolls back a healthy state, and what comes late, twice or spoilt is refuted and asked
/// for again; a clock that falls back to 1970 or leaps to 2096 changes nothing for a bundle without an end. All end as
/// they are told.
#[test]
fn a_link_and_a_clock_that_are_not_well_change_no_ending() {
    let upsets = [&LINKS[..], &[Upset::Clock(0), Upset::Clock(4_000_000_000)]].concat();
    for (name, board) in [BOARDS[0], BOARDS[2]] {
        for case in all(3).iter().filter(|case| TELLING.contains(&&*case.story.name)) {
            let mut sweep = Sweep::new(&case.story, board, None);
            let swept = sweep.one(&upsets, &|life| case.as_told(life));
            swept.unwrap_or_else(|found| panic!("{name}: {}: {found}", case.story.name));
        }
    }
}
