//! The agent's durable state: pairs of copies, records, and what follows from a record.
//!
//! Claims: a whole copy beside garbage is found; of two whole ones the higher counts; a record that can be read can be
//! written and read again; from *any* record, with any boot facts, recovery and every row of the phase table end in a
//! record that can be written, whose floor has not fallen, and that never arms or writes the running group.

use arbitrary::{Arbitrary, Unstructured};
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::copies::{Copy, choose, copy_bytes, write};
use mainstay_core::fault::clip;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::seam::StateFile;
use mainstay_core::update::*;

/// What beside the copies an input says.
#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// The first copy is written by the writer from its bytes, and the second.
    written: [bool; 2],
    seq: [u64; 2],
    running: bool,
    boot: Option<[(u8, u8, Option<bool>); 2]>,
    first: bool,
    lost: bool,
    events: [(u8, u8); 6],
    cut: u8,
    data: &'a [u8],
}

/// A structure, then the payloads (or the raw bytes) of two copies.
pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let (one, two) = input.data.split_at(input.data.len() * usize::from(input.cut) / 256);
    let copies = [one, two].map(<[u8]>::to_vec);
    let copies: [Vec<u8>; 2] = std::array::from_fn(|n| bytes_of(&input, n, &copies[n]));
    let [zero, one] = [0, 1].map(|n| Copy::read(StateFile::Journal, &copies[n]));
    let pair = choose(zero, one);
    let whole = [zero, one].iter().filter(|copy| matches!(copy, Copy::Whole { .. })).count();
    assert_eq!(matches!(pair.in_force, Ok(Some(_))), whole > 0, "a whole copy beside garbage is found");
    assert!(pair.next_copy < 2);
    if let (Copy::Whole { seq: a, payload: p }, Copy::Whole { seq: b, payload: q }) = (zero, one) {
        assert_eq!(pair.in_force, Ok(Some(if a >= b { p } else { q })));
    }
    // The next write counts, unless the numbers have come to their end.
    if let (Ok(Some(payload)), true) = (pair.in_force, pair.next_seq < u64::MAX) {
        let mut next = copies.clone();
        next[pair.next_copy] = vec![0; copy_bytes(StateFile::Journal)];
        write(StateFile::Journal, pair.next_seq, b"new", &mut next[pair.next_copy]).expect("it fits");
        let [zero, one] = [0, 1].map(|n| Copy::read(StateFile::Journal, &next[n]));
        assert_eq!(choose(zero, one).in_force, Ok(Some(&b"new"[..])));
        if let Ok(record) = Record::decode(payload) {
            follow(&record, &input);
        }
    }
    if let Ok(record) = Record::decode(input.data) {
        follow(&record, &input);
    }
}

fn bytes_of(input: &Input<'_>, n: usize, data: &[u8]) -> Vec<u8> {
    if !input.written[n] {
        return data.to_vec();
    }
    let mut out = vec![0; copy_bytes(StateFile::Journal)];
    match write(StateFile::Journal, input.seq[n], data, &mut out) {
        Ok(()) => out,
        Err(_) => data.to_vec(),
    }
}

fn follow(record: &Record, input: &Input<'_>) {
    written(record);
    let running = Group::BOTH[usize::from(input.running)];
    let group = |(priority, tries_left, good)| GroupState { priority, tries_left, good };
    let boot = input.boot.map(|[a, b]| BootState { a: group(a), b: group(b) });
    let facts = Facts { running, boot, first: input.first, lost: input.lost };
    let _ = confirms(record, facts);
    let step = recover(record, facts);
    sane(record, &step, running);
    let (mut record, mut action) = (step.record.unwrap_or_else(|| record.clone()), step.action);
    for (event, what) in input.events {
        let event = event_of(event, &record);
        let doing = if what < 224 { action } else { ACTIONS[usize::from(what) % ACTIONS.len()] };
        let Some(step) = step_of(&record, doing, event, running) else { continue };
        action = step.action;
        record = step.record.unwrap_or(record);
    }
    shown(record, boot, running);
}

fn step_of(record: &Record, doing: Action, event: Event, running: Group) -> Option<Step> {
    // An offer for the running group never reaches the table: the driver refuses it.
    if matches!(&event, Event::Offered(d) if d.target == running) {
        return None;
    }
    let step = step(record, doing, event, running)?;
    sane(record, &step, running);
    Some(step)
}

fn sane(before: &Record, step: &Step, running: Group) {
    let Some(after) = &step.record else { return };
    written(after);
    assert!(after.floor >= before.floor, "the floor never falls");
    assert!(after.time_floor >= before.time_floor && after.attempts >= before.attempts);
    if matches!(step.action, Action::Withdraw | Action::Stream | Action::Arm) {
        let target = after.phase.deployment().map(|d| d.target);
        let was_so = before.phase.deployment().map(|d| d.target) == Some(running);
        assert!(target != Some(running) || was_so, "the running group is never written: {after:?}");
    }
}

fn written(record: &Record) {
    let mut out = [0; RECORD_BYTES_MAX];
    let bytes = record.encode(&mut out).expect("every record fits its bound");
    assert_eq!(Record::decode(bytes).as_ref(), Ok(record));
}

/// What `mainstay status` and the presence make of it.
fn shown(record: Record, boot: Option<BootState>, running: Group) {
    let status = mainstay::status::Status {
        device: "gw".into(),
        trust: ("plant".into(), 1),
        compatible: "acme".into(),
        running,
        record,
        record_lost: false,
        boot: boot.ok_or_else(|| "unread".to_string()),
        link: mainstay::status::LinkStatus::None,
        progress: None,
        desired: None,
        waiting: None,
        fault: None,
        daemon: true,
        audit: mainstay_core::audit::Head::genesis("gw"),
    };
    let text = status.text();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a status never steers a terminal: {text:?}");
    let json = status.json();
    assert!(!json.chars().any(char::is_control) && json.starts_with('{'), "{json:?}");
    let presence = mainstay::agent::presence(&status, mainstay_core::report::Availability::Online, 1);
    let mut bytes = [0; 1024];
    mainstay_core::wire::encode_body_into(&presence, &mut bytes).expect("a presence has room in 1 KiB");
}

fn event_of(choice: u8, record: &Record) -> Event {
    let outcome = |kind| Outcome { kind, detail: clip("fuzzed") };
    match choice % 12 {
        0 => record.phase.deployment().map_or(Event::Done, |d| Event::Offered(d.clone())),
        1 => Event::Allowed,
        2 => Event::NotYet,
        3 => Event::Stopped(outcome(OutcomeKind::Halted)),
        4 => Event::Stopped(outcome(OutcomeKind::Expired)),
        5 | 6 => Event::Done,
        7 => Event::Failed(clip("fuzzed")),
        8 => Event::NoWayBack,
        9 => Event::Healthy,
        10 => Event::Unhealthy(clip("fuzzed")),
        _ => Event::RollBack(clip("fuzzed")),
    }
}

const ACTIONS: [Action; 14] = [
    Action::Rest,
    Action::Look,
    Action::Vouch,
    Action::AskToDownload,
    Action::Withdraw,
    Action::Stream,
    Action::ReadBack,
    Action::AskToReboot,
    Action::Arm,
    Action::Reboot,
    Action::RunTrial,
    Action::MarkGood,
    Action::LowerOther,
    Action::MarkBad,
];
