//! A broker that takes the connection and then says nothing: before CONNACK, and after it.
//!
//! Goal: the silence is noticed within a named bound, said with its cause, and the connection is made anew with what
//! was published meanwhile: nothing is lost.

mod support;

use mainstay::transport::{BrokerConfig, ControlLink, Event};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::objects::topics;
use support::peer::wait_for;
use support::{broker, eventually, plain, scripted};

/// What the test's own machine may take on top, when it is busy.
const SLACK: Duration = Duration::from_secs(10);
/// Dialling, handshake and CONNACK: 25 s in the product, which is too long to wait for here.
const CONNACK_WITHIN: Duration = Duration::from_secs(3);
/// One keep-alive of silence, then a ping, then one more for its answer.
const PINGRESP_WITHIN: Duration = Duration::from_secs(2 * 5);

/// The first connection gets `answer` and then silence, without a FIN; the second is an honest one.
fn is_noticed(answer: &'static [u8], cause: &str, within: Duration) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut silent) = (heard.clone(), Vec::new());
    let scripted = scripted::start(move |mut stream, _| {
        if silent.is_empty() {
            scripted::send(&mut stream, answer);
            return silent.push(stream); // stays open, and is read no further
        }
        scripted::send(&mut stream, &scripted::CONNACK);
        scripted::answer(stream, |publish| kept.lock().unwrap().push(publish.to_vec()));
    });
    let will = (topics().state(), b"dead".to_vec());
    let begun = Instant::now();
    let birth = || b"birth".to_vec();
    let config = BrokerConfig { connect_within: CONNACK_WITHIN, ..plain(scripted.port) };
    let (link, mut events) = ControlLink::start(&broker(config), vec![topics().cmd()], will, birth).unwrap();
    link.publish(&topics().report(), b"an outcome", false, Some(7)).unwrap();
    let said = wait_for(&mut events, within + SLACK, |e| match e {
        Event::Disconnected { cause } => Some(cause.clone()),
        _ => None,
    });
    assert!(said.contains(cause), "{said}");
    assert!(begun.elapsed() >= within, "given up too soon: {:?}", begun.elapsed());
    wait_for(&mut events, SLACK, |e| (*e == Event::Acknowledged { ticket: 7 }).then_some(()));
    eventually(SLACK, "birth, then what was published", || {
        let heard = heard.lock().unwrap();
        heard.len() == 2 && heard[0].ends_with(b"birth") && heard[1].ends_with(b"an outcome")
    });
}

#[test]
fn a_broker_that_takes_the_connection_and_never_says_connack_is_left_after_its_time() {
    assert_eq!(BrokerConfig::default().connect_within, Duration::from_secs(25));
    is_noticed(&[], "no CONNACK within 3 s", CONNACK_WITHIN);
}

#[test]
fn a_broker_that_is_silent_after_connack_is_left_after_two_keep_alives() {
    is_noticed(&scripted::CONNACK, "no answer to our ping within 5 s", PINGRESP_WITHIN);
}
