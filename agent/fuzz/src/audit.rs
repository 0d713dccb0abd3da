//! The audit log: lines from a medium that anybody may have written to.
//!
//! Claims: the reader is total; what it proves is printable and comes in order; a log whose lines the writer made is
//! proven whole, and with any one byte of it changed it is not proven whole (but for a cut at a line's end).

use arbitrary::{Arbitrary, Unstructured};
use mainstay_core::audit::{Event, Head, LINE_BYTES_MAX, Verifier, record};

/// First byte: 0, the rest is a log as it lies on the medium; else a log is written from it, and changed.
pub fn run(data: &[u8]) {
    match data {
        [0, log @ ..] => raw(log),
        [_, plan @ ..] => {
            let _ = written(&mut Unstructured::new(plan));
        }
        [] => {}
    }
}

fn raw(log: &[u8]) {
    for verifier in [
        Verifier::from(Head::genesis("gw")),
        Verifier::from_first_start(),
        Verifier::from_first_start().remembering(Head::genesis("gw")),
    ] {
        let mut last = None;
        let walked = verifier.walk(log, |record| {
            assert!(last.is_none_or(|seq| record.seq == seq + 1), "in order");
            last = Some(record.seq);
            for (key, value) in record.values() {
                assert!(key.bytes().chain(value.bytes()).all(|c| matches!(c, b' '..=b'~')));
            }
            let _ = (record.value("prev"), record.unix_s, record.id);
        });
        if let Err(broken) = walked {
            assert!(broken.sound_bytes <= log.len() && broken.line >= 1);
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Line<'a> {
    unix_s: Option<u64>,
    event: bool,
    values: [(bool, &'a str); 3],
}

fn written(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (at, xor) = (u16::arbitrary(u)?, u8::arbitrary(u)?);
    let genesis = Head::genesis("gw");
    let (mut log, mut head, mut lines) = (Vec::new(), genesis, 0);
    while lines < 8 && !u.is_empty() {
        let line = Line::arbitrary(u)?;
        let values: Vec<(&str, &dyn std::fmt::Display)> =
            line.values.iter().map(|(which, text)| (if *which { "why" } else { "k-2" }, text as _)).collect();
        let event = if line.event { Event::Started } else { Event::MarkedByHand };
        let Ok((text, after)) = record(&head, line.unix_s, event, &values) else { break };
        assert!(text.len() <= LINE_BYTES_MAX && text.ends_with('\n'));
        log.extend_from_slice(text.as_bytes());
        (head, lines) = (after, lines + 1);
    }
    let mut seen = 0;
    let walked = Verifier::from(genesis).remembering(head).walk(&log, |_| seen += 1);
    assert_eq!((walked, seen), (Ok(Some(head)), lines), "what is written is proven");
    if let (false, true) = (log.is_empty(), xor != 0) {
        let at = usize::from(at) % log.len();
        log[at] ^= xor;
        assert!(
            Verifier::from(genesis).remembering(head).walk(&log, |_| ()).is_err(),
            "changed at {at}: not proven"
        );
    }
    Ok(())
}
