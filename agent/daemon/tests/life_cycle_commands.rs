//! A technician's commands where no daemon runs, and where one does: each given to the real binary.
//!
//! Goal: a command does what it says and nothing else, answers, and says what to do when it cannot.

mod gateway;

use gateway::*;
use std::process::Stdio;

#[test]
fn who_stops_reading_ends_no_command() {
    let gateway = Gateway::new();
    for words in [&["status"][..], &["status", "--json"], &["doctor"], &["help"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader); // as in `mainstay status | true`
        let child = gateway.command(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let said: Said = child.wait_with_output().unwrap().into();
        assert!(!said.text.contains("panicked"), "{words:?}: {said:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = gateway.command(&["nonsense"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2), "wrong words are 2, also where nobody listens");
}

#[test]
fn an_install_goes_on_when_nobody_reads_its_progress_any_more() {
    let gateway = Gateway::new();
    let bundle = Workshop::new("2.0", 1);
    gateway.put("bundle", &bundle.bytes());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = gateway.command(&["install"]);
    let status = command.arg(gateway.path("bundle")).stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    assert!(holds(&gateway.path("slot-b"), &bundle.content));
}
