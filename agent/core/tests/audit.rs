//! The audit log: goal: whatever is done to a log between its first record and a head that somebody remembers is found, and
//! said where. Method: a small log, and every edit, removal, swap, repetition and cut of it, one after the other.

use mainstay_core::audit::*;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::fault::clip;
use mainstay_core::seam::Note;
use mainstay_core::update::{Deployment, Outcome, OutcomeKind, PhaseName, Service};
use proptest::prelude::*;
use std::fmt::Display;

const DEVICE: &str = "gw-00042";

/// Writes records behind one another, as a daemon does.
struct Log {
    text: Vec<u8>,
    head: Head,
}

impl Log {
    fn new() -> Log {
        Log { text: Vec::new(), head: Head::genesis(DEVICE) }
    }

    fn add(&mut self, unix_s: Option<u64>, event: Event, values: &[(&str, &dyn Display)]) {
        let (line, head) = record(&self.head, unix_s, event, values).unwrap();
        self.text.extend(line.as_bytes());
        self.head = head;
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        self.text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// Six records, with quotes, escapes, a missing clock and a second start.
fn small() -> Log {
    let mut log = Log::new();
    log.add(None, Event::Started, &[("agent", &"0.1.0"), ("group", &"A")]);
    log.add(Some(1_800_000_000), Event::ClockSet, &[]);
    log.add(Some(1_800_000_005), Event::Accepted, &[("version", &"2.0.0 „Grünspecht“"), ("attempt", &7)]);
    log.add(Some(1_800_000_100), Event::Started, &[("group", &"B")]);
    log.add(Some(1_800_000_160), Event::Settled, &[("outcome", &"Committed"), ("why", &"")]);
    log.add(Some(1_800_000_161), Event::FloorRaised, &[("from", &300), ("to", &301)]);
    log
}

fn walk(log: &[u8]) -> Result<Option<Head>, Broken> {
    Verifier::from(Head::genesis(DEVICE)).walk(log, |_| {})
}

#[track_caller]
fn broken(result: Result<Option<Head>, Broken>, line: usize, words: &str) {
    let broken = result.expect_err("taken");
    assert!(
        broken.line == line && broken.fault.what.contains(words),
        "expected line {line}, {words:?}: {broken:?}"
    );
}

#[test]
fn a_line_is_what_a_person_can_read() {
    let log = small();
    let lines: Vec<String> = log.lines().into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    let genesis = Head::genesis(DEVICE).hash;
    assert!(
        lines[0].starts_with(&format!("1 - started prev={genesis} agent=0.1.0 group=A ")),
        "{}",
        lines[0]
    );
    assert!(lines[1].starts_with("2 1800000000 clock-set "), "{}", lines[1]);
    let quoted = r#"3 1800000005 accepted version="2.0.0 \u{201e}Gr\u{fc}nspecht\u{201c}" attempt=7 "#;
    assert!(lines[2].starts_with(quoted), "{}", lines[2]);
    assert!(lines[4].starts_with(r#"5 1800000160 settled outcome=Committed why="" "#), "{}", lines[4]);
    for line in &lines {
        let (text, hash) = line.trim_end_matches('\n').rsplit_once(' ').unwrap();
        assert!(hash.len() == 16 && line.ends_with('\n') && text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
}

/// By hand, so that another reader can be written from the comment in `audit/mod.rs`.
#[test]
fn the_hash_is_over_the_whole_hash_before_it_and_the_line_up_to_it() {
    let mut hash = Digest::of([&b"mainstay/1 audit\0"[..], DEVICE.as_bytes()].concat().as_slice());
    let log = small();
    for line in log.lines() {
        let line = String::from_utf8(line).unwrap();
        let (text, short) = line.trim_end().rsplit_once(' ').unwrap();
        hash = Digest::of([&hash.0[..], text.as_bytes()].concat().as_slice());
        assert_eq!(&hash.to_string()[..16], short);
    }
    assert_eq!(log.head, Head { seq: 6, hash });
}

#[test]
fn a_log_reads_back_record_by_record() {
    let log = small();
    let mut seen = Vec::new();
    let end = Verifier::from(Head::genesis(DEVICE)).walk(&log.text, |record| {
        let values: Vec<_> = record.values().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        seen.push((record.seq, record.unix_s, record.event, values));
    });
    assert_eq!(end.unwrap(), Some(log.head));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(seen[1], (2, Some(1_800_000_000), Some(Event::ClockSet), vec![]));
    assert_eq!(seen[4].3, [pair("outcome", "Committed"), pair("why", "")]);
    let version = r"2.0.0 \u{201e}Gr\u{fc}nspecht\u{201c}";
    assert_eq!(seen[2].3, [pair("version", version), pair("attempt", "7")]);
    assert_eq!(seen.len(), 6);
}

#[test]
fn no_bit_of_a_log_can_be_flipped() {
    let log = small();
    let mut text = log.text.clone();
    for bit in 0..text.len() * 8 {
        text[bit / 8] ^= 1 << (bit % 8);
        let broken = walk(&text).expect_err("taken");
        let line = 1 + log.text[..bit / 8].iter().filter(|b| **b == b'\n').count();
        assert!(broken.line == line || broken.line == line + 1, "bit {bit}, in line {line}: {broken:?}");
        text[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn records_that_are_removed_swapped_repeated_or_put_in_are_found_where_they_are() {
    let lines = small().lines();
    let log = |order: &[usize]| order.iter().flat_map(|i| lines[*i].clone()).collect::<Vec<u8>>();
    walk(&log(&[0, 1, 2, 3, 4, 5])).unwrap();
    #[rustfmt::skip]
    let cases: [(&[usize], usize, &str); 9] = [
        // the records              line  words
        (&[1, 2, 3, 4, 5],          1,    "expected record 1, found 2: what was between is gone"),
        (&[0, 2, 3, 4, 5],          2,    "expected record 2, found 3: what was between is gone"),
        (&[0, 1, 2, 5],             4,    "expected record 4, found 6: what was between is gone"),
        (&[1, 0, 2, 3, 4, 5],       1,    "expected record 1, found 2"),
        (&[0, 1, 2, 4, 3, 5],       4,    "expected record 4, found 5"),
        (&[0, 0, 1, 2, 3, 4, 5],    2,    "expected record 2, found 1: repeated, or out of order"),
        (&[0, 1, 2, 2, 3, 4, 5],    4,    "expected record 4, found 3: repeated, or out of order"),
        (&[0, 1, 2, 3, 4, 5, 5],    7,    "expected record 7, found 6: repeated, or out of order"),
        (&[0, 1, 2, 3, 4, 5, 0],    7,    "expected record 7, found 1: repeated, or out of order"),
    ];
    for (order, line, words) in cases {
        broken(walk(&log(order)), line, words);
    }
    // Renumbered so that the gap does not show: the hash does.
    let removed = String::from_utf8(log(&[0, 2])).unwrap().replace("\n3 ", "\n2 ");
    broken(walk(removed.as_bytes()), 2, "record 2: expected hash");
    // A record of another chain with the right number, and an empty line.
    let mut other = Log::new();
    other.add(None, Event::Started, &[("agent", &"0.1.1")]);
    other.add(Some(1_800_000_000), Event::ClockSet, &[]);
    broken(walk(&[log(&[0]), other.lines()[1].clone()].concat()), 2, "record 2: expected hash");
    broken(
        walk(&[log(&[0]), b"\n".to_vec(), log(&[1])].concat()),
        2,
        "expected record 2, found no record: 0 bytes",
    );
}

#[test]
fn a_log_of_another_gateway_does_not_fit() {
    let log = small();
    let other = Verifier::from(Head::genesis("gw-00043"));
    broken(other.walk(&log.text, |_| {}), 1, "record 1: expected hash");
}

#[test]
fn a_log_cut_at_any_byte_is_found_at_once_or_against_the_remembered_head() {
    let log = small();
    for cut in 0..log.text.len() {
        let text = &log.text[..cut];
        let at_a_lines_end = cut == 0 || text.ends_with(b"\n");
        let whole = text.iter().filter(|b| **b == b'\n').count();
        match walk(text) {
            Ok(head) => assert!(at_a_lines_end && head.unwrap().seq == whole as u64, "cut at {cut}"),
            Err(broken) => {
                assert!(
                    !at_a_lines_end && broken.fault.what.contains("cut short"),
                    "cut at {cut}: {broken:?}"
                );
                // All before the torn line is sound: a daemon goes on from there.
                assert_eq!(
                    (broken.line, &text[..broken.sound_bytes]),
                    (whole + 1, &log.lines().concat()[..broken.sound_bytes])
                );
                assert_eq!(walk(&text[..broken.sound_bytes]).unwrap().unwrap().seq, whole as u64);
            }
        }
        let remembering = Verifier::from(Head::genesis(DEVICE)).remembering(log.head);
        assert!(remembering.walk(text, |_| {}).is_err(), "cut at {cut}");
    }
    Verifier::from(Head::genesis(DEVICE)).remembering(log.head).walk(&log.text, |_| {}).unwrap();
}

#[test]
fn what_is_remembered_finds_a_tail_that_was_cut_and_a_log_that_was_written_anew() {
    let log = small();
    let genesis = Head::genesis(DEVICE);
    let two: Vec<u8> = log.lines()[..2].concat();
    let remembering = |head: Head| Verifier::from(genesis).remembering(head);
    broken(
        remembering(log.head).walk(&two, |_| {}),
        3,
        "expected to come to record 6, which is remembered, but it ends at 2",
    );
    broken(remembering(log.head).walk(b"", |_| {}), 1, "but it ends at 0");
    // An older head than the end: the log has gone on since.
    let head = walk(&two).unwrap().unwrap();
    assert_eq!(remembering(head).walk(&log.text, |_| {}).unwrap(), Some(log.head));
    assert_eq!(remembering(genesis).walk(&log.text, |_| {}).unwrap(), Some(log.head));
    // Whoever writes the log anew from some record on makes a chain that is whole in itself.
    let mut anew = Log { text: two, head };
    for event in [Event::Accepted, Event::Started, Event::Settled, Event::FloorRaised, Event::Drift] {
        anew.add(Some(1_800_000_200), event, &[]);
    }
    walk(&anew.text).unwrap();
    broken(remembering(log.head).walk(&anew.text, |_| {}), 6, "record 6 is not the one that is remembered");
}

#[test]
fn a_log_whose_beginning_was_dropped_is_walked_from_its_first_start() {
    let log = small();
    let lines = log.lines();
    let from = |first: usize| lines[first..].concat();
    let anywhere = Verifier::from_first_start;
    assert_eq!(anywhere().walk(&from(0), |_| {}).unwrap(), Some(log.head));
    assert_eq!(anywhere().walk(&from(3), |_| {}).unwrap(), Some(log.head));
    assert_eq!(anywhere().walk(b"", |_| {}).unwrap(), None);
    broken(
        anywhere().walk(&from(1), |_| {}),
        1,
        "expected the log to begin with a start and its prev, found 2 clock-set",
    );
    // Its word is held to its own hash, and to what is remembered.
    let lied = String::from_utf8(from(3)).unwrap().replacen("prev=", "prev=0", 1);
    broken(anywhere().walk(lied.as_bytes(), |_| {}), 1, "expected the log to begin with a start");
    let mut flipped = from(3);
    let digit = flipped.iter().position(|b| *b == b'=').unwrap() + 1;
    flipped[digit] = if flipped[digit] == b'0' { b'1' } else { b'0' };
    broken(anywhere().walk(&flipped, |_| {}), 1, "record 4: expected hash");
    let third = walk(&lines[..3].concat()).unwrap().unwrap();
    anywhere().remembering(third).walk(&from(3), |_| {}).unwrap();
    let other = Head { hash: Digest([0; 32]), ..third };
    broken(
        anywhere().remembering(other).walk(&from(3), |_| {}),
        1,
        "record 3 is not the one that is remembered",
    );
    let first = walk(&lines[0]).unwrap().unwrap();
    broken(
        anywhere().remembering(first).walk(&from(3), |_| {}),
        4,
        "begins after record 1, which is remembered",
    );
}

#[test]
fn a_line_that_is_no_record_is_refused() {
    let good = small().lines()[1].clone();
    let good = std::str::from_utf8(&good).unwrap().trim_end().to_owned();
    assert!(good.starts_with("2 1800000000 clock-set "));
    let hash = &good[good.len() - 16..];
    #[rustfmt::skip]
    let cases = [
        String::new(),
        " ".into(),
        hash.into(),
        format!("2 {hash}"),
        format!("2 - {hash}"),
        format!("02 - clock-set {hash}"),                       // a number has one spelling
        format!("+2 - clock-set {hash}"),
        format!("2 01 clock-set {hash}"),
        format!("2 -1 clock-set {hash}"),
        format!("2  - clock-set {hash}"),
        format!("2 - clock-set  {hash}"),
        format!("2 - Clock-set {hash}"),
        format!("2 - clock-set key {hash}"),
        format!("2 - clock-set key= {hash}"),
        format!("2 - clock-set =value {hash}"),
        format!("2 - clock-set Key=value {hash}"),
        format!("2 - clock-set key=\"value {hash}"),
        format!("2 - clock-set key=\"value\"x {hash}"),
        format!("2 - clock-set key=a\"b {hash}"),
        format!("2 - clock-set key=value  other=value {hash}"),
        format!("99999999999999999999 - clock-set {hash}"),
        format!("2 - clock-set {}", hash.to_uppercase() + "F"),
        format!("2 - clock-set {}", &hash[1..]),
        format!("2 - clock-set\t{hash}"),
        format!("2 - clock-set key=\"\u{e9}\" {hash}"),
        format!("2 - clock-set key=\"\u{1b}[2J\" {hash}"),
    ];
    for line in cases {
        let fault = Verifier::from(Head { seq: 1, hash: Digest([0; 32]) }).line(&line).unwrap_err();
        assert!(fault.what.contains("expected record 2, found no record"), "{line:?}: {}", fault.what);
        assert!(fault.what.is_ascii() && !fault.what.contains('\u{1b}'), "{}", fault.what);
    }
}

/// An event that this agent does not know is a record all the same: the log outlives the agent that wrote it.
#[test]
fn an_event_of_a_newer_agent_is_read() {
    let head = Head::genesis(DEVICE);
    let text = "1 - teleported to=mars";
    let hash = Digest::of([&head.hash.0[..], text.as_bytes()].concat().as_slice()).to_string();
    let line = format!("{text} {}", &hash[..16]);
    let record = Verifier::from(head).line(&line).unwrap();
    assert_eq!((record.id, record.event, record.value("to")), ("teleported", None, Some("mars")));
}

#[test]
fn a_value_cannot_break_out_of_its_line() {
    let long = "é".repeat(100);
    #[rustfmt::skip]
    let cases = [
        // value                             as it stands on the line
        ("plain-1.2_3:/+@",                  "v=plain-1.2_3:/+@".to_string()),
        ("",                                 "v=\"\"".into()),
        ("two words",                        "v=\"two words\"".into()),
        ("a=b",                              "v=\"a=b\"".into()),
        ("say \"so\"",                       r#"v="say \"so\"""#.into()),
        ("back\\",                           r#"v="back\\""#.into()),
        ("\n7 - drift 0123456789abcdef",     r#"v="\u{a}7 - drift 0123456789abcdef""#.into()),
        ("\u{1b}[2J\u{9b}2J\u{202e}",        r#"v="\u{1b}[2J\u{9b}2J\u{202e}""#.into()),
        ("\0\x7f",                           r#"v="\u{0}\u{7f}""#.into()),
        (&long,                              format!("v=\"{}\\~\"", "\\u{e9}".repeat(32))), // whole escapes only
    ];
    for (value, stands) in cases {
        let (line, head) =
            record(&Head::genesis(DEVICE), None, Event::Drift, &[("v", &value), ("w", &1)]).unwrap();
        assert!(line.starts_with(&format!("1 - drift {stands} w=1 ")), "{line}");
        let mut verifier = Verifier::from(Head::genesis(DEVICE));
        let read = verifier.line(line.trim_end_matches('\n')).unwrap();
        assert_eq!(read.values().map(|(key, _)| key).collect::<Vec<_>>(), ["v", "w"], "{line}");
        assert_eq!(verifier.finish().unwrap(), Some(head));
    }
}

#[test]
fn the_longest_record_fits_its_line() {
    let (key, value) = ("k".repeat(KEY_BYTES_MAX), "\"".repeat(1000));
    let values: Vec<(&str, &dyn Display)> =
        (0..VALUES_MAX).map(|_| (key.as_str(), &value as &dyn Display)).collect();
    let head = Head { seq: u64::MAX - 1, hash: Digest([0xff; 32]) };
    let (line, after) = record(&head, Some(u64::MAX), Event::Started, &values).unwrap();
    assert_eq!(after.seq, u64::MAX);
    assert!(line.len() > LINE_BYTES_MAX - 32, "{} of {LINE_BYTES_MAX}", line.len());
    Verifier::from(head).line(line.trim_end()).unwrap();
    assert!(record(&after, None, Event::Drift, &[]).unwrap_err().what.contains("used up"));
}

#[test]
fn a_caller_that_asks_for_too_much_is_told_so() {
    let head = Head::genesis(DEVICE);
    let nine = [("k", &1 as &dyn Display); 9];
    assert!(record(&head, None, Event::Drift, &nine).unwrap_err().what.contains("takes 8 values, found 9"));
    for key in ["", "Key", "a b", "a=b", "é", "prev", "seventeen-letters"] {
        assert!(
            record(&head, None, Event::Drift, &[(key, &1)]).unwrap_err().what.contains("is no key"),
            "{key}"
        );
    }
}

#[test]
fn what_the_driver_says_becomes_records() {
    let deployment = Deployment {
        manifest: Digest([0xab; 32]),
        version: clip("2.0.0"),
        security_version: 1,
        target: Group::B,
        attempt: 7,
        tries: 3,
        deadline_s: 600,
        required: heapless::Vec::new(),
        not_before: None,
        expires: None,
    };
    let outcome = Outcome { kind: OutcomeKind::FellBack, detail: clip("never came up") };
    let fault = fault!(Io, "write: denied");
    let ab = "ab".repeat(32);
    let about = format!("version=2.0.0 target=B attempt=7 manifest={ab}");
    let phase = |phase| Note::Phase { phase, deployment: Some(&deployment) };
    use Service::{Decommissioned, Decommissioning, In, Resetting};
    #[rustfmt::skip]
    let cases: [(Note<'_>, Option<String>); 14] = [
        (phase(PhaseName::Waiting),                             Some(format!("accepted phase=Waiting {about}"))),
        (phase(PhaseName::Trial),                               Some(format!("phase phase=Trial {about}"))),
        (Note::Phase { phase: PhaseName::Idle, deployment: None }, Some("phase phase=Idle".into())),
        (phase(PhaseName::Settled),                             None),
        (Note::Settled { deployment: &deployment, outcome: &outcome },
                                                                Some(format!("settled outcome=FellBack {about} why=\"never came up\""))),
        (Note::Fault { doing: "arm", fault: &fault },           Some("fault doing=arm what=\"write: denied\"".into())),
        (Note::Service { before: In, now: Resetting },          Some("factory-reset step=begun".into())),
        (Note::Service { before: Resetting, now: In },          Some("factory-reset step=done".into())),
        (Note::Service { before: In, now: Decommissioning(9) }, Some("decommissioned step=begun".into())),
        (Note::Service { before: Decommissioning(9), now: Decommissioned(9) },
                                                                Some("decommissioned step=done".into())),
        (Note::Drift { class: "rootfs", first: 17, segments: 3 }, Some("drift class=rootfs segments=3 first=17".into())),
        (Note::Waiting { why: "night" },                        None),
        (Note::Route { class: "rootfs", base: None, bytes: 9 }, None),
        (Note::Progress { done: 1, total: 2, fetched: 0, copied: 0, kept: 0 }, None),
    ];
    for (said, expected) in cases {
        let taken = note(&Head::genesis(DEVICE), Some(9), &said).unwrap();
        let text = taken.map(|(line, _)| line.trim_end().rsplit_once(' ').unwrap().0.to_owned());
        assert_eq!(text, expected.map(|text| format!("1 9 {text}")));
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(values in prop::collection::vec((any::<String>(), any::<Option<u64>>()), 1..20)) {
        let mut log = Log::new();
        for (value, time) in &values {
            log.add(*time, Event::Fault, &[("what", value), ("n", &time.unwrap_or(0))]);
        }
        let mut read = 0;
        prop_assert_eq!(Verifier::from(Head::genesis(DEVICE)).walk(&log.text, |_| read += 1), Ok(Some(log.head)));
        prop_assert_eq!(read, values.len());
    }

    #[test]
    fn random_bytes_never_panic(log in prop::collection::vec(any::<u8>(), 0..300), line in ".{0,100}") {
        let _ = Verifier::from_first_start().walk(&log, |_| {});
        let _ = Verifier::from_first_start().line(&line);
        let _ = Verifier::from(Head { seq: u64::MAX, hash: Digest([0; 32]) }).line(&line);
    }
}
