//! Two sides that do as they are told, and what becomes of a fetch. No network.

use super::*;
use crate::transport::meter;
use std::sync::Mutex;

/// What a side answers for every object.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Answer {
    Good,
    Missing,
    Gone,
    Lies,
}

struct Told {
    kind: Kind,
    answer: Arc<Mutex<[Answer; 2]>>,
    log: Arc<Mutex<Vec<(Kind, u8)>>>,
    object: Vec<u8>,
    received: u64,
}

impl PieceSource for Told {
    fn prefetch(&mut self, _name: &Digest, _bytes: u32) -> bool {
        true
    }
    fn fetch(&mut self, _name: &Digest, _bytes: u32) -> Result<&[u8]> {
        unreachable!("it is asked to bring")
    }
    fn release(&mut self, _name: &Digest) {}
    fn refute(&mut self, name: &Digest) -> Result<()> {
        Err(fault!(Corrupt, "object {name}: not what its name says"))
    }
}

impl Side for Told {
    fn bring(&mut self, name: &Digest, bytes: u32) -> Result<()> {
        self.log.lock().unwrap().push((self.kind, name.0[0]));
        match self.answer.lock().unwrap()[self.kind as usize] {
            Answer::Good => self.object = vec![1; bytes as usize],
            Answer::Lies => self.object = vec![0; bytes as usize],
            Answer::Missing => return Err(fault!(NotFound, "not there")),
            Answer::Gone => return Err(fault!(Disconnected, "no way")),
        }
        self.received += u64::from(bytes);
        Ok(())
    }
    fn object(&self) -> &[u8] {
        &self.object
    }
    fn received(&self) -> u64 {
        self.received
    }
}

type Log = Arc<Mutex<Vec<(Kind, u8)>>>;

fn sources(
    policy: Policy,
    answers: [Answer; 2],
    meter: Arc<Meter>,
) -> (Sources, Log, Arc<Mutex<[Answer; 2]>>) {
    let (log, answer) = (Log::default(), Arc::new(Mutex::new(answers)));
    let (kept, told) = (log.clone(), answer.clone());
    let make: Make = Box::new(move |kind, _| {
        let (answer, log) = (told.clone(), kept.clone());
        Ok(Box::new(Told { kind, answer, log, object: Vec::new(), received: 0 }) as Box<dyn Side>)
    });
    (Sources::new(policy, make, meter, Arc::default(), |_| {}), log, answer)
}

fn free(folder: &std::path::Path) -> Arc<Meter> {
    Meter::new(meter::Limits::default(), folder, || None)
}

/// Fetches as the installer does; an object of ones is good.
fn take(sources: &mut Sources, n: u8) -> Result<()> {
    let name = Digest([n; 32]);
    for _ in 0..8 {
        if sources.fetch(&name, 10)?.first() == Some(&1) {
            sources.release(&name);
            return Ok(());
        }
        sources.refute(&name)?;
    }
    Err(fault!(Corrupt, "lies"))
}

#[test]
fn who_is_asked_after_what() {
    use Answer::*;
    use Policy::*;
    #[rustfmt::skip]
    let cases = [
        // policy, what broker and web server do, who is asked for objects 1 and 2
        (Policy::Mqtt,  [Good, Good],    vec![(Kind::Mqtt, 1), (Kind::Mqtt, 2)]),
        (Policy::Https, [Good, Good],    vec![(Kind::Https, 1), (Kind::Https, 2)]),
        (HttpsThenMqtt, [Good, Good],    vec![(Kind::Https, 1), (Kind::Https, 2)]),
        (HttpsThenMqtt, [Good, Gone],    vec![(Kind::Https, 1), (Kind::Mqtt, 1), (Kind::Mqtt, 2)]),
        (HttpsThenMqtt, [Good, Missing], vec![(Kind::Https, 1), (Kind::Mqtt, 1), (Kind::Https, 2), (Kind::Mqtt, 2)]),
        (HttpsThenMqtt, [Good, Lies],    vec![(Kind::Https, 1), (Kind::Mqtt, 1), (Kind::Https, 2), (Kind::Mqtt, 2)]),
        (MqttThenHttps, [Gone, Good],    vec![(Kind::Mqtt, 1), (Kind::Https, 1), (Kind::Https, 2)]),
        (MqttThenHttps, [Lies, Good],    vec![(Kind::Mqtt, 1), (Kind::Https, 1), (Kind::Mqtt, 2), (Kind::Https, 2)]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (policy, answers, expected) in cases {
        let (mut sources, log, _) = sources(policy, answers, free(folder.path()));
        for n in [1, 2] {
            take(&mut sources, n).unwrap();
        }
        assert_eq!(*log.lock().unwrap(), expected, "{policy:?}, {answers:?}");
    }
}

#[test]
fn one_that_has_not_got_eight_in_a_row_is_left_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sources, log, _) =
        sources(Policy::HttpsThenMqtt, [Answer::Good, Answer::Missing], free(folder.path()));
    for n in 0..20 {
        take(&mut sources, n).unwrap();
    }
    let asked = log.lock().unwrap().iter().filter(|(kind, _)| *kind == Kind::Https).count();
    assert_eq!(asked, MISSES_MAX as usize + 1);
}

#[test]
fn when_both_fail_they_are_asked_in_turns_until_somebody_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sources, log, answers) =
        sources(Policy::MqttThenHttps, [Answer::Gone, Answer::Gone], free(folder.path()));
    let (kept, cancelled) = (log.clone(), sources.cancel.clone());
    std::thread::spawn(move || {
        while kept.lock().unwrap().len() < 10 {
            std::thread::yield_now();
        }
        *answers.lock().unwrap() = [Answer::Gone, Answer::Good];
    });
    take(&mut sources, 1).unwrap();
    assert!(log.lock().unwrap().iter().any(|(kind, _)| *kind == Kind::Https));
    cancelled.store(true, Ordering::Relaxed);
    assert_eq!(take(&mut sources, 2).unwrap_err().kind, FaultKind::Cancelled);
}

#[test]
fn alone_a_lie_is_the_sides_own_business() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sources, ..) = sources(Policy::Mqtt, [Answer::Lies, Answer::Good], free(folder.path()));
    assert_eq!(take(&mut sources, 1).unwrap_err().kind, FaultKind::Corrupt);
}

#[test]
fn a_rate_holds_objects_back_and_what_came_is_counted_for_the_month() {
    let folder = tempfile::tempdir().unwrap();
    let limits = meter::Limits { rate_kbit_s: Some(800), monthly_mib: Some(1), rate_hours: None }; // 100,000 bytes a second
    let meter = Meter::new(limits, folder.path(), || None);
    let (mut sources, ..) = sources(Policy::Mqtt, [Answer::Good, Answer::Good], meter.clone());
    let begun = Instant::now();
    for n in 0..6u8 {
        let name = Digest([n; 32]);
        sources.prefetch(&name, 10_000);
        assert_eq!(sources.fetch(&name, 10_000).unwrap().len(), 10_000);
        sources.release(&name);
    }
    let took = begun.elapsed().as_millis(); // the first comes at once: five of 10,400 bytes
    assert!((515..900).contains(&took), "{took} ms");
    for n in 10..115u8 {
        meter.owe(-100_000, Instant::now()); // the rate is not what this is about
        let name = Digest([n; 32]);
        if meter.used_up().is_some() {
            break;
        }
        sources.fetch(&name, 10_000).unwrap();
        sources.release(&name);
    }
    assert!(meter.used_up().is_some());
    assert!(!sources.prefetch(&Digest([200; 32]), 10), "nothing more is asked for");
    let cancel = sources.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        cancel.store(true, Ordering::Relaxed);
    });
    let fault = sources.fetch(&Digest([200; 32]), 10).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Cancelled, "it waits as for a link");
    drop(sources);
    assert!(Meter::new(limits, folder.path(), || None).used_up().is_some(), "and it is on record");
}
