//! A broker that takes the connection and then says nothing: before CONNACK, and after it.
//!
//! Goal: the silence is noticed within a named bound, said with its cause, and the connection is made anew. What was
//! published meanwhile is its sender's to say again: the agent's outcomes wait in its record.

mod support;

use mainstay::transport::{ControlLink, Event};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::objects::topics;
use support::peer::wait_for;
use support::{broker, eventually, plain, scripted};

/// What the test's own machine may take on top, when it is busy.
const SLACK: Duration = Duration::from_secs(10);
/// Dialling, handshake and CONNACK: `link::CONNECT_TIMEOUT`.
const CONNACK_WITHIN: Duration = Duration::from_secs(25);
/// One keep-alive of silence, then a ping, then one more for its answer.
const PINGRESP_WITHIN: Duration = Duration::from_secs(2 * 5);

/// The first connection gets `answer` and then silence, without a FIN; the second is an honest one as far as CONNACK.
fn is_noticed(answer: &'static [u8], cause: &str, within: Duration) {
    let mut silent = Vec::new();
    let scripted = scripted::start(move |mut stream, _| {
        if silent.is_empty() {
            scripted::send(&mut stream, answer);
            return silent.push(stream); // stays open, and is read no further
        }
        scripted::send(&mut stream, &scripted::CONNACK);
        scripted::drain(stream);
    });
    let will = (topics().state(), b"dead".to_vec());
    let begun = Instant::now();
    let birth = || b"birth".to_vec();
    let (_link, mut events) =
        ControlLink::start(&broker(plain(scripted.port)), vec![topics().cmd()], will, birth).unwrap();
    let said = wait_for(&mut events, within + SLACK, |e| match e {
        Event::Disconnected { cause } => Some(cause.clone()),
        _ => None,
    });
    assert!(said.contains(cause), "{said}");
    assert!(begun.elapsed() < within + SLACK, "{:?}", begun.elapsed());
    // What a report's sender has no acknowledgement for, it sends again by itself when it hears of the new connection.
    eventually(SLACK, "a connection made anew", || scripted.connections.load(Ordering::SeqCst) >= 2);
    wait_for(&mut events, SLACK, |e| matches!(e, Event::Connected { .. }).then_some(()));
}

#[test]
fn a_broker_that_takes_the_connection_and_never_says_connack_is_left_within_25_s() {
    is_noticed(&[], "no CONNACK within 25 s", CONNACK_WITHIN);
}

#[test]
fn a_broker_that_is_silent_after_connack_is_left_after_two_keep_alives() {
    is_noticed(&scripted::CONNACK, "no answer to our ping within 5 s", PINGRESP_WITHIN);
}
