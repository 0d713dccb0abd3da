//! `recover` and `confirms`: the journal, and what is so.

use crate::*;
use mainstay_core::boot::{BootState, GroupState};
use mainstay_core::update::Action::{self, *};
use mainstay_core::update::{Facts, Step, confirms, recover};

const GOOD: GroupState = GroupState { priority: 1, tries_left: 0, good: Some(true) };

fn facts(running: Group, target: GroupState) -> Facts {
    Facts { running, boot: Some(BootState { a: GOOD, b: target }), first: true, lost: false }
}

const fn tries(priority: u8, tries_left: u8, good: Option<bool>) -> GroupState {
    GroupState { priority, tries_left, good }
}

/// What is made durable, and what follows.
fn show(step: &Step) -> (Option<(PhaseName, Option<OutcomeKind>)>, Action) {
    let outcome = |phase: &Phase| match phase {
        Phase::RollingBack(_, outcome) | Phase::Settled(_, outcome) => Some(outcome.kind),
        _ => None,
    };
    (step.record.as_ref().map(|record| (record.phase.name(), outcome(&record.phase))), step.action)
}

#[test]
fn the_boot_facts_decide_where_the_journal_cannot() {
    use OutcomeKind::*;
    use PhaseName as P;
    let on = |n| tries(2, n, Some(false));
    let rauc = |n| tries(2, n, None);
    let off = GroupState::WITHDRAWN;
    let good = Some(true);
    #[rustfmt::skip]
    let cases = [
        // journal       running  target               durable                                    then
        (P::Idle,         A,      off,                 None,                                       Rest),
        (P::Idle,         B,      on(2),               None,                                       Vouch),
        (P::Settled,      A,      off,                 None,                                       Rest),
        (P::Settled,      B,      on(2),               None,                                       Vouch),
        (P::Waiting,      A,      off,                 None,                                       AskToDownload),
        (P::Waiting,      B,      GOOD,                Some((P::Settled, Some(Failed))),           Look),
        (P::Downloading,  A,      off,                 None,                                       Withdraw),
        (P::Downloading,  B,      off,                 Some((P::Settled, Some(Failed))),           Look),
        (P::Verifying,    A,      off,                 None,                                       ReadBack),
        (P::Verifying,    B,      off,                 Some((P::Settled, Some(Failed))),           Look),
        (P::Installed,    A,      off,                 None,                                       AskToReboot),
        (P::Installed,    B,      off,                 Some((P::Settled, Some(Failed))),           Look),
        (P::Trial,        B,      on(2),               None,                                       RunTrial),
        (P::Trial,        B,      on(0),               None,                                       RunTrial),
        (P::Trial,        A,      off,                 None,                                       Arm),
        (P::Trial,        A,      on(3),               Some((P::Trial, None)),                     Reboot),
        (P::Trial,        A,      on(0),               Some((P::RollingBack, Some(FellBack))),     MarkBad),
        (P::Trial,        A,      tries(2, 0, good),   Some((P::Settled, Some(FellBack))),         Look),
        (P::Trial,        A,      rauc(2),             Some((P::Trial, None)),                     Reboot),
        (P::Trial,        A,      rauc(0),             Some((P::RollingBack, Some(FellBack))),     MarkBad),
        (P::Committing,   B,      on(2),               Some((P::Trial, None)),                     RunTrial),
        (P::Committing,   B,      tries(2, 0, good),   None,                                       MarkGood),
        (P::Committing,   B,      rauc(3),             Some((P::Trial, None)),                     RunTrial),
        (P::Committing,   A,      on(0),               Some((P::RollingBack, Some(FellBack))),     MarkBad),
        (P::RollingBack,  B,      on(2),               Some((P::RollingBack, Some(RolledBack))),   MarkBad),
        (P::RollingBack,  A,      off,                 None,                                       MarkBad),
    ];
    for (name, running, target, durable, action) in cases {
        let step = recover(&record(phase(name)), facts(running, target));
        assert_eq!(show(&step), (durable, action), "{name:?}, {running} runs, B {target:?}");
    }
}

#[test]
fn a_committed_group_that_is_not_the_one_that_runs_is_a_late_fallback_and_is_reported_once() {
    let settled = record(Phase::Settled(deployment(), outcome(OutcomeKind::Committed)));
    assert_eq!(show(&recover(&settled, facts(B, GOOD))), (None, Rest), "it runs what it has committed");
    let step = recover(&settled, facts(A, GOOD));
    assert_eq!(show(&step), (Some((PhaseName::Settled, Some(OutcomeKind::FellBack))), Look));
    let fallen = step.record.unwrap();
    assert_eq!(fallen.unreported.len(), 1);
    for running in [A, B] {
        assert_eq!(
            show(&recover(&fallen, facts(running, GOOD))),
            (None, Rest),
            "not again, whichever comes up"
        );
    }
}

#[test]
fn an_unreadable_boot_state_holds_up_only_what_depends_on_it() {
    for name in PHASES {
        let unread = Facts { boot: None, ..facts(A, GOOD) };
        let step = recover(&record(phase(name)), unread);
        assert_eq!(step.action == Look, name == PhaseName::Trial, "{name:?}: {step:?}");
        assert!(!confirms(&record(phase(name)), unread));
    }
}

/// A bootloader that reads another environment than ours boots A whatever we arm: the deployment's tries and one more.
#[test]
fn reboots_into_a_trial_that_never_comes_up_are_bounded() {
    let mut record = record(phase(PhaseName::Trial));
    let mut reboots = 0;
    loop {
        let step = recover(&record, facts(A, tries(2, 3, Some(false))));
        if step.action != Reboot {
            assert_eq!(show(&step), (Some((PhaseName::RollingBack, Some(OutcomeKind::FellBack))), MarkBad));
            break;
        }
        record = step.record.unwrap();
        reboots += 1;
        assert!(reboots < 100);
    }
    assert_eq!(reboots, 3);
}

/// A bootloader that does not count its tries (bootcount without CONFIG_BOOTCOUNT_LIMIT, a script that cannot save, a
/// service that sets the count back at each boot) boots a target that hangs in its trial for ever: the bite of the
/// watchdog led to the same boot again, and nothing anywhere counted.
#[test]
fn a_trial_that_no_bootloader_counts_is_begun_a_bounded_number_of_times() {
    let mut record = record(phase(PhaseName::Trial));
    let mut begun = 0;
    let given_up = loop {
        let step = recover(&record, facts(B, tries(2, 3, Some(false))));
        if step.action != RunTrial {
            break step;
        }
        record = step.record.unwrap();
        begun += 1;
        assert!(begun < 100);
    };
    assert_eq!(begun, 17);
    assert_eq!(show(&given_up), (Some((PhaseName::RollingBack, Some(OutcomeKind::RolledBack))), MarkBad));
    // From there the reboots are counted anew, and bounded as ever.
    assert_eq!(given_up.record.unwrap().trial_reboots, 0);
    // Where a try has been taken, the bootloader's count is enough, and no write is spent on ours.
    for left in 0..3 {
        let counted = recover(&record, facts(B, tries(2, left, Some(false))));
        assert_eq!(counted, Step { record: None, action: RunTrial, pause: false });
    }
}

/// Cuts between the journal and the arming cost no reboot into the trial: nothing was armed yet.
#[test]
fn cuts_before_the_arming_do_not_use_up_the_reboots() {
    let before = record(phase(PhaseName::Trial));
    for _ in 0..10 {
        assert_eq!(
            recover(&before, facts(A, GroupState::WITHDRAWN)),
            Step { record: None, action: Arm, pause: false }
        );
    }
}

#[test]
fn reboots_on_the_way_back_are_bounded_and_then_it_stays_and_says_so() {
    let mut record = record(phase(PhaseName::RollingBack));
    record.trial_reboots = 0;
    let mut reboots = 0;
    let settled = loop {
        let step = recover(&record, facts(B, tries(2, 3, Some(false))));
        record = step.record.clone().unwrap();
        if record.phase.name() == PhaseName::Settled {
            break step;
        }
        reboots += 1;
        assert!(reboots < 100);
    };
    assert_eq!((reboots, settled.action), (9, Look));
    let report = record.unreported.last().unwrap();
    assert_eq!(report.outcome.kind, OutcomeKind::Failed);
    assert!(report.outcome.detail.ends_with("because"), "{}", report.outcome.detail);
}

/// RAUC's variables count every boot. A group that has passed its trial is vouched for at each; one on trial is not.
#[test]
fn only_a_group_past_its_trial_is_confirmed_and_only_where_every_boot_is_counted() {
    use PhaseName as P;
    #[rustfmt::skip]
    let cases = [
        // journal       A runs   B runs (the target)
        (P::Idle,         true,    true),
        (P::Waiting,      true,    false),
        (P::Downloading,  true,    false),
        (P::Verifying,    true,    false),
        (P::Installed,    true,    false),
        (P::Trial,        false,   false),
        (P::Committing,   false,   false),
        (P::RollingBack,  false,   false),
        (P::Settled,      true,    false), // it failed
    ];
    let counted = tries(1, 2, None);
    for (name, a, b) in cases {
        for (running, confirmed) in [(A, a), (B, b)] {
            let facts = Facts { boot: Some(BootState { a: counted, b: counted }), ..facts(running, GOOD) };
            assert_eq!(confirms(&record(phase(name)), facts), confirmed, "{name:?}, {running} runs");
            let said = Facts { boot: Some(BootState { a: GOOD, b: GOOD }), ..facts };
            assert!(
                !confirms(&record(phase(name)), said),
                "{name:?}: where good is said, nothing is counted"
            );
        }
    }
    let committed = record(Phase::Settled(deployment(), outcome(OutcomeKind::Committed)));
    let facts = Facts { boot: Some(BootState { a: counted, b: counted }), ..facts(B, GOOD) };
    assert!(confirms(&committed, facts) && !confirms(&committed, Facts { running: A, ..facts }));
    let lost = Facts { lost: true, ..facts };
    assert!(
        !confirms(&Record::factory(1), lost),
        "who has lost the record knows of no trial that was passed"
    );
    assert_eq!(recover(&Record::factory(1), lost).action, Vouch);
    assert_eq!(recover(&Record::factory(1), Facts { first: false, ..lost }).action, Rest, "once a boot");
    // A deployment was given up because its target came up by itself: what runs may well be good, but nobody knows.
    let given_up = record(phase(PhaseName::Settled));
    assert_eq!((recover(&given_up, facts).action, confirms(&given_up, facts)), (Vouch, false));
    assert_eq!(recover(&given_up, Facts { running: A, ..facts }).action, Rest);
}

/// Which of its parts were done when the power went, nobody has written down: all of them are idempotent.
#[test]
fn a_reset_and_the_end_of_service_begin_again_at_the_next_start_and_a_late_fallback_is_told_first() {
    use mainstay_core::update::Service::*;
    for (service, action) in
        [(In, Rest), (Resetting, Erase), (Decommissioning(9), DestroyKey), (Decommissioned(9), Rest)]
    {
        for name in [PhaseName::Idle, PhaseName::Settled] {
            let record = Record { service, ..record(phase(name)) };
            let step = recover(&record, facts(A, GOOD));
            assert_eq!((&step.record, step.action), (&None, action), "{service:?}, {name:?}");
        }
        let committed = Phase::Settled(deployment(), outcome(OutcomeKind::Committed));
        let step = recover(&Record { service, ..record(committed) }, facts(A, GOOD));
        let record = step.record.expect("a record");
        assert_eq!((record.service, step.action, record.unreported.len()), (service, Look, 1));
    }
}
