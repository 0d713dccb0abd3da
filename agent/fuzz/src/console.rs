//! What a technician's command says to the daemon over its socket: a line, and perhaps a bundle behind it.
//!
//! Claims: any bytes are answered (or the connection is closed), with lines that steer no terminal, of which the last says
//! how it went; what reaches the agent is one of its wishes. Also read here: the second guard's command line.

use mainstay::agent::{Command, Line, Shared};
use mainstay::socket;
use mainstay::status::{LinkStatus, Status};
use mainstay_core::audit::Head;
use mainstay_core::boot::Group;
use mainstay_core::update::Record;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};

/// The whole input comes over the socket; words of it, parted by zeros, are a guard's command line.
pub fn run(data: &[u8]) {
    let words = data.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let _ = mainstay::guard::is_an_order(words);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    // More would have to be written while it is answered; a bundle of this size has every kind of object.
    ours.write_all(&data[..data.len().min(BYTES_MAX)])
        .and_then(|()| ours.shutdown(Shutdown::Write))
        .expect("there is room");
    let (inbox, shared) = &*AGENT;
    let answered = socket::answer_one(theirs, inbox, shared);
    let mut said = Vec::new();
    // Who has not heard all that we said resets the connection; what it said before that is here all the same.
    let heard = ours.read_to_end(&mut said);
    assert!(heard.is_ok() || heard.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    let text = std::str::from_utf8(&said).expect("the daemon speaks UTF-8");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let last = text.lines().next_back();
    assert!(answered.is_err() || last.is_some_and(|line| line.starts_with(['+', '!'])), "{text:?}");
}

/// What a socket's buffer takes at once.
const BYTES_MAX: usize = 64 * 1024;

/// An agent that says yes to everything, on a thread of its own.
static AGENT: LazyLock<(SyncSender<Command>, Arc<Shared>)> = LazyLock::new(|| {
    let status = Status {
        device: "gw".into(),
        trust: ("golden".into(), 1),
        compatible: "acme-gw-1".into(),
        running: Group::A,
        record: Record::factory(0),
        record_lost: false,
        boot: Err("not looked at".into()),
        link: LinkStatus::None,
        progress: None,
        desired: None,
        waiting: None,
        fault: None,
        daemon: true,
        audit: Head::genesis("gw"),
    };
    let shared = Shared::new(status, crate::throwaway::TRUST.clone());
    let (inbox, commands) = sync_channel(16);
    let agree = move || {
        for command in commands {
            if let Command::Technician(request) = command {
                let hears = |line| request.reply.hears(line);
                hears(Line::Note("\u{1b}[2J what is said is not believed to be printable".into()));
                hears(Line::Done("done".into()));
            }
        }
    };
    std::thread::spawn(agree);
    (inbox, shared)
});
