//! `step`: a row per transition.

use crate::*;
use mainstay_core::update::Action::*;
use mainstay_core::update::{Action, Contents, Event, Service, step};

const ACTIONS: [Action; 16] = [
    Rest,
    Look,
    Vouch,
    AskToDownload,
    Withdraw,
    Stream,
    ReadBack,
    AskToReboot,
    Arm,
    Reboot,
    RunTrial,
    MarkGood,
    LowerOther,
    MarkBad,
    DestroyKey,
    Erase,
];

fn contents() -> Contents {
    Contents::from_iter([("rootfs".try_into().unwrap(), Digest([9; 32]))])
}

fn events() -> Vec<(&'static str, Event)> {
    let why = || "why".try_into().unwrap();
    vec![
        ("offered", Event::Offered(deployment())),
        ("allowed", Event::Allowed),
        ("not yet", Event::NotYet),
        ("stopped", Event::Stopped(outcome(OutcomeKind::Halted))),
        ("done", Event::Done),
        ("proven", Event::Proven(contents())),
        ("failed", Event::Failed(why())),
        ("no way back", Event::NoWayBack),
        ("healthy", Event::Healthy),
        ("unhealthy", Event::Unhealthy(why())),
        ("roll back", Event::RollBack(why())),
        ("reset", Event::Reset),
        ("decommission", Event::Decommission(1_770_000_000)),
    ]
}

/// Phase, running group (`*`: either), action (`Any`), event; what is made durable (`-`: nothing), what follows, and whether
/// after a pause.
#[rustfmt::skip]
const ROWS: &str = "
    Idle         *  Rest           offered      Waiting                 AskToDownload
    Settled      *  Rest           offered      Waiting                 AskToDownload
    Idle         *  Vouch          done         -                       Look
    Settled      *  Vouch          done         -                       Look
    Idle         *  Vouch          failed       -                       Rest
    Settled      *  Vouch          failed       -                       Rest
    Idle         *  Vouch          unhealthy    -                       Reboot
    Settled      *  Vouch          unhealthy    -                       Reboot
    Idle         *  Reboot         done         -                       Reboot        pause
    Settled      *  Reboot         done         -                       Reboot        pause
    Idle         *  Reboot         failed       -                       Reboot        pause
    Settled      *  Reboot         failed       -                       Reboot        pause

    Idle         *  Rest           reset        Idle                    Erase
    Idle         *  Rest           decommission Idle                    DestroyKey
    Idle         *  DestroyKey     done         -                       Erase
    Idle         *  DestroyKey     failed       -                       DestroyKey    pause
    Idle         *  Erase          done         Idle                    Look
    Idle         *  Erase          failed       -                       Erase         pause
    Settled      *  Rest           reset        Settled(Failed)         Erase
    Settled      *  Rest           decommission Settled(Failed)         DestroyKey
    Settled      *  DestroyKey     done         -                       Erase
    Settled      *  DestroyKey     failed       -                       DestroyKey    pause
    Settled      *  Erase          done         Settled(Failed)         Look
    Settled      *  Erase          failed       -                       Erase         pause

    Waiting      *  AskToDownload  allowed      Downloading             Withdraw
    Waiting      *  AskToDownload  not_yet      -                       AskToDownload pause
    Waiting      *  Any            stopped      Settled(Halted)         Look

    Downloading  *  Withdraw       done         -                       Stream
    Downloading  *  Withdraw       failed       Settled(Failed)         Look
    Downloading  *  Stream         done         Verifying               ReadBack
    Downloading  *  Stream         not_yet      -                       Stream        pause
    Downloading  *  Stream         failed       Settled(Failed)         Look
    Downloading  *  Any            stopped      Settled(Halted)         Look

    Verifying    *  ReadBack       proven       Installed               AskToReboot
    Verifying    *  ReadBack       failed       Settled(Failed)         Look
    Verifying    *  Any            stopped      Settled(Halted)         Look

    Installed    *  AskToReboot    allowed      Trial                   Arm
    Installed    *  AskToReboot    not_yet      -                       AskToReboot   pause
    Installed    *  Any            stopped      Settled(Halted)         Look

    Trial        *  Arm            done         Trial                   Reboot
    Trial        *  Arm            failed       RollingBack(Failed)     MarkBad
    Trial        *  Reboot         done         -                       Reboot        pause
    Trial        *  Reboot         not_yet      -                       Reboot        pause
    Trial        *  Reboot         failed       -                       Reboot        pause
    Trial        *  RunTrial       healthy      Committing              MarkGood
    Trial        *  RunTrial       unhealthy    RollingBack(RolledBack) MarkBad
    Trial        *  RunTrial       failed       RollingBack(RolledBack) MarkBad
    Trial        *  Any            roll_back    RollingBack(RolledBack) MarkBad

    Committing   *  MarkGood       done         -                       LowerOther
    Committing   *  MarkGood       failed       RollingBack(RolledBack) MarkBad
    Committing   *  LowerOther     done         Settled(Committed)      Look
    Committing   *  LowerOther     failed       -                       LowerOther    pause

    RollingBack  A  MarkBad        done         Settled(RolledBack)     Look
    RollingBack  B  MarkBad        done         -                       Reboot
    RollingBack  A  MarkBad        failed       -                       MarkBad       pause
    RollingBack  B  MarkBad        failed       -                       Reboot        pause
    RollingBack  *  MarkBad        no_way_back  Settled(Failed)         Look
    RollingBack  *  Reboot         done         -                       Reboot        pause
    RollingBack  *  Reboot         not_yet      -                       Reboot        pause
    RollingBack  *  Reboot         failed       -                       Reboot        pause
";

fn show(phase: &Phase) -> String {
    match phase {
        Phase::RollingBack(_, outcome) | Phase::Settled(_, outcome) => {
            format!("{:?}({:?})", phase.name(), outcome.kind)
        }
        _ => format!("{:?}", phase.name()),
    }
}

#[test]
fn every_row_leads_where_the_table_says_and_everything_else_changes_nothing() {
    let rows: Vec<Vec<&str>> = ROWS
        .lines()
        .map(|row| row.split_whitespace().collect())
        .filter(|row: &Vec<_>| !row.is_empty())
        .collect();
    let mut used = vec![false; rows.len()];
    let mut played = 0;
    for name in PHASES {
        for (action, running) in ACTIONS.into_iter().flat_map(|a| [(a, A), (a, B)]) {
            for (event_name, event) in events() {
                let before = record(phase(name));
                let at = rows.iter().position(|row| {
                    row[0] == format!("{name:?}")
                        && (row[1] == "*" || row[1] == running.name())
                        && (row[2] == "Any" || row[2] == format!("{action:?}"))
                        && row[3] == event_name.replace(' ', "_")
                });
                let found = step(&before, action, event, running).map(|step| {
                    let durable = step.record.as_ref().map_or("-".into(), |record| show(&record.phase));
                    let mut row = vec![durable, format!("{:?}", step.action)];
                    row.extend(step.pause.then(|| "pause".to_string()));
                    row
                });
                let expected = at.map(|at| rows[at][4..].iter().map(|s| s.to_string()).collect::<Vec<_>>());
                assert_eq!(found, expected, "{name:?}, {action:?}, {event_name}, {running} runs");
                at.into_iter().for_each(|at| used[at] = true);
                played += 1;
            }
        }
    }
    let unused: Vec<_> =
        rows.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row.join(" ")).collect();
    assert!(unused.is_empty(), "rows that nothing leads to: {unused:?}");
    println!("{played} combinations, {} rows", rows.len());
}

fn after(name: PhaseName, action: Action, event: Event) -> Record {
    step(&record(phase(name)), action, event, B).and_then(|step| step.record).expect("a row with a record")
}

#[test]
fn an_offer_is_counted_and_begins_with_no_reboots() {
    let record = after(PhaseName::Idle, Rest, Event::Offered(Deployment { attempt: 0, ..deployment() }));
    assert_eq!((record.attempts, record.trial_reboots), (8, 0));
    assert_eq!(record.phase.deployment().map(|d| d.attempt), Some(8));
}

#[test]
fn what_the_target_held_is_forgotten_before_its_first_byte_is_written_and_known_once_it_is_proven() {
    let record = after(PhaseName::Waiting, AskToDownload, Event::Allowed);
    assert_eq!((record.release(B), record.release(A).is_some()), (None, true));
    let record = after(PhaseName::Verifying, ReadBack, Event::Proven(contents()));
    let release = record.release(B).expect("known");
    assert_eq!((release.security_version, release.committed), (20, false));
    assert_eq!(release.artifacts, contents());
    assert_eq!(record.floor, 10, "the floor does not move");
}

#[test]
fn the_commit_and_the_floor_stand_in_one_record_and_nothing_else_raises_the_floor() {
    for name in PHASES {
        for action in ACTIONS {
            for (event_name, event) in events() {
                let Some(record) = step(&record(phase(name)), action, event, B).and_then(|s| s.record) else {
                    continue;
                };
                let commits = (name, action, event_name) == (PhaseName::Committing, LowerOther, "done");
                assert_eq!(record.floor, if commits { 20 } else { 10 }, "{name:?} {action:?} {event_name}");
                assert_eq!(
                    record.release(B).is_some_and(|r| r.committed),
                    commits,
                    "{name:?} {action:?} {event_name}"
                );
            }
        }
    }
}

#[test]
fn a_commit_of_a_lower_security_version_leaves_the_floor() {
    let mut high = record(phase(PhaseName::Committing));
    high.floor = 99;
    let record = step(&high, LowerOther, Event::Done, B).and_then(|step| step.record).unwrap();
    assert_eq!(record.floor, 99);
}

#[test]
fn whatever_settles_is_queued_for_the_operator_and_failed_trials_are_remembered() {
    #[rustfmt::skip]
    let cases = [
        // phase                  doing        event                                              outcome                   remembered
        (PhaseName::Waiting,      Look,        Event::Stopped(outcome(OutcomeKind::Expired)),     OutcomeKind::Expired,     false),
        (PhaseName::Downloading,  Stream,      Event::Failed("why".try_into().unwrap()),          OutcomeKind::Failed,      false),
        (PhaseName::Committing,   LowerOther,  Event::Done,                                       OutcomeKind::Committed,   false),
        (PhaseName::RollingBack,  MarkBad,     Event::NoWayBack,                                  OutcomeKind::Failed,      false),
    ];
    for (name, action, event, kind, remembered) in cases {
        let record = after(name, action, event);
        let report = record.unreported.last().expect("a report");
        assert_eq!((report.outcome.kind, report.attempt, report.manifest), (kind, 7, Digest([2; 32])));
        assert_eq!(record.has_failed(&Digest([2; 32])), remembered, "{kind:?}");
    }
    for kind in [OutcomeKind::RolledBack, OutcomeKind::FellBack] {
        let going_back = record(Phase::RollingBack(deployment(), outcome(kind)));
        let back = step(&going_back, MarkBad, Event::Done, A).and_then(|s| s.record).unwrap();
        assert!(back.has_failed(&Digest([2; 32])), "{kind:?}");
    }
    let mut failed = record(phase(PhaseName::Committing));
    failed.remember_failed(Digest([2; 32]));
    let good = step(&failed, LowerOther, Event::Done, B).and_then(|s| s.record).unwrap();
    assert!(!good.has_failed(&Digest([2; 32])), "tried again, and committed");
}

#[test]
fn who_goes_back_by_hand_after_the_commit_has_rolled_back_and_not_fallen_back() {
    let committed = record(Phase::Settled(deployment(), outcome(OutcomeKind::Committed)));
    // A recovery button is heard before the driver has looked for the first time. That used to be passed over, and the
    // operator was told of a late fallback where a person had gone back.
    for doing in [Rest, Look] {
        let by_hand =
            |running| step(&committed, doing, Event::RollBack("by hand".try_into().unwrap()), running);
        let after = by_hand(B).and_then(|step| step.record).expect("a row with a record");
        assert!(
            matches!(&after.phase, Phase::Settled(_, outcome) if outcome.kind == OutcomeKind::RolledBack)
        );
        assert!(
            after.has_failed(&deployment().manifest),
            "what was left by hand is not taken again by itself"
        );
        assert_eq!(after.unreported.last().map(|r| r.outcome.kind), Some(OutcomeKind::RolledBack));
        assert_eq!(by_hand(A), None, "in the other group there is nothing to leave");
    }
}

/// What a person begins with the gateway as a whole: on record before anything is erased, and as done only after it.
#[test]
fn a_reset_leads_back_into_service_and_nothing_leads_back_from_the_end_of_it() {
    use Service::*;
    let (reset, end) = (Event::Reset, Event::Decommission(9));
    #[rustfmt::skip]
    let cases = [
        // service             doing       event          service then             then
        (In,                   Rest,       &reset,        Some(Resetting),         Erase),
        (Resetting,            Erase,      &Event::Done,  Some(In),                Look),
        (In,                   Rest,       &end,          Some(Decommissioning(9)), DestroyKey),
        (Decommissioning(9),   DestroyKey, &Event::Done,  None,                    Erase),
        (Decommissioning(9),   Erase,      &Event::Done,  Some(Decommissioned(9)), Look),
    ];
    for (service, doing, event, then, action) in cases {
        let before = Record { service, ..record(Phase::Idle) };
        let step = step(&before, doing, event.clone(), A).expect("a row");
        assert_eq!((step.record.map(|r| r.service), step.action), (then, action), "{service:?} {event:?}");
    }
    for service in [Resetting, Decommissioning(9), Decommissioned(9)] {
        let before = Record { service, ..record(Phase::Idle) };
        for event in [Event::Offered(deployment()), Event::Reset, Event::Decommission(10)] {
            assert_eq!(step(&before, Rest, event.clone(), A), None, "{service:?} takes {event:?}");
        }
    }
}

#[test]
fn a_reset_forgets_what_was_said_by_hand_and_what_failed_and_nothing_that_guards_against_a_replay() {
    let halted = Phase::Settled(deployment(), outcome(OutcomeKind::Halted));
    let mut before = Record { service: Service::Resetting, desired_seq: [5, 6], ..record(halted) };
    (before.time_floor, before.floor) = (7, 99);
    before.remember_failed(Digest([9; 32]));
    let after = step(&before, Erase, Event::Done, A).and_then(|step| step.record).expect("a record");
    let expected = Record { service: Service::In, phase: Phase::Idle, failed: Default::default(), ..before };
    assert_eq!(after, expected, "floor, sequence numbers, time, attempts, groups and reports stay");
    // What was committed stays: a later fallback from it has to be known as one.
    let committed = Phase::Settled(deployment(), outcome(OutcomeKind::Committed));
    let before = Record { service: Service::Resetting, ..record(committed.clone()) };
    assert_eq!(step(&before, Erase, Event::Done, B).and_then(|s| s.record).map(|r| r.phase), Some(committed));
}
