//! How the commands of this binary reach the daemon: a Unix socket that only its owner opens.
//!
//! ```text
//! command ─► "status json\n"                       one request, one line of at most 256 bytes
//! command ─► "install retry approve\n" + bundle    the bundle's bytes follow, front to back
//! daemon  ─► ". on the way\n" …                    any number of notes
//! daemon  ─► "+ done\n"  or  "! failed\n"          and closes
//! ```

use crate::agent::{Command, IN_TRIAL, Line, Mark, Request, Shared, Urgency, Watcher, Wish};
use crate::file_source::FileSource;
use crate::terminal::printable;
use mainstay_core::boot::Group;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel};
use std::time::{Duration, Instant};

/// The longest request line.
const REQUEST_BYTES_MAX: usize = 256;
/// Commands that are answered at once.
const CONNECTIONS_MAX: usize = 4;
/// How long a command may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a bundle may stop coming: somebody may have forgotten a `mainstay install -` on a console.
const BUNDLE_SILENT_MAX: Duration = Duration::from_secs(60);
/// How often a bundle that does not come looks whether it is still wanted.
const BUNDLE_LOOK: Duration = Duration::from_millis(200);
/// A command that has heard nothing for so long is told why.
const BUSY_AFTER: Duration = Duration::from_secs(2);
/// How long the socket rests when no connection can be taken, as when all file descriptors are in use.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// Stacks are address space; what is touched of one is some pages.
const STACK_BYTES: usize = 128 * 1024;

/// Serves the socket at `path` on a thread of its own until the process ends.
pub fn serve(path: &Path, inbox: SyncSender<Command>, shared: Arc<Shared>) -> Result<(), Fault> {
    let io = |doing: &'static str| move |e: io::Error| crate::store::io_fault(doing, path, &e);
    if let Some(folder) = path.parent() {
        crate::store::own_folder("run folder", folder)?;
    }
    // What lies there is an earlier daemon's: this one holds the lock of the state folder.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(io("remove the old")(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(io("listen on"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io("restrict"))?;
    let busy = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                std::thread::sleep(ACCEPT_AGAIN);
                continue;
            };
            if let Err(why) = is_ours(&stream) {
                let _ = stream.write_all(why.as_bytes());
                continue;
            }
            if busy.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
                let _ = stream.write_all(b"! too many commands at once: try again\n");
                busy.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (inbox, shared, ours) = (inbox.clone(), shared.clone(), busy.clone());
            let answer = move || {
                if let Err(e) = answer(stream, &inbox, &shared) {
                    log::debug!("command: {e}");
                }
                ours.fetch_sub(1, Ordering::AcqRel);
            };
            let thread = std::thread::Builder::new().name("command".into()).stack_size(STACK_BYTES);
            if thread.spawn(answer).is_err() {
                busy.fetch_sub(1, Ordering::AcqRel);
            }
        }
    };
    let thread = std::thread::Builder::new().name("socket".into()).stack_size(STACK_BYTES);
    thread.spawn(accept).map_err(|e| fault!(Io, "start the thread of the control socket: {e}"))?;
    Ok(())
}

/// May whoever is at the other end ask? The socket's mode says the same, but only from the moment at which it was set,
/// and only where the file system has modes; whom the kernel saw connect, nobody can say otherwise (unix(7)).
fn is_ours(stream: &UnixStream) -> Result<(), String> {
    let us = nix::unistd::geteuid().as_raw();
    match nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials) {
        Ok(peer) if peer.uid() == us || peer.uid() == 0 => Ok(()),
        Ok(peer) => {
            log::warn!("control socket: user {} is not answered", peer.uid());
            Err(format!("! only the agent's own user ({us}) or root may ask it, not user {}\n", peer.uid()))
        }
        Err(e) => Err(format!("! who asks cannot be told: {e}\n")),
    }
}

fn answer(mut stream: UnixStream, inbox: &SyncSender<Command>, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let line = match read_line(&mut stream) {
        Err(e) if e.kind() == ErrorKind::InvalidData => {
            stream.write_all(format!("! {e}\n").as_bytes())?;
            return Err(e);
        }
        line => line?,
    };
    stream.set_read_timeout(None)?;
    let what = match line.as_str() {
        "status" => {
            for line in shared.status().text().lines() {
                writeln!(stream, ". {line}")?;
            }
            return writeln!(stream, "+");
        }
        "status json" => return writeln!(stream, ". {}\n+", shared.status().json()),
        "rollback" if shared.end_trial("a technician said so") => {
            return writeln!(stream, "+ the trial is over: going back");
        }
        _ if shared.in_trial() => return writeln!(stream, "! {IN_TRIAL}"),
        _ => match wish(&line, &stream, shared) {
            Ok(wish) => wish,
            Err(fault) => return writeln!(stream, "! {}", printable(&fault.what)),
        },
    };
    // A request does not wait for the end of a download; one that ends it, not for the end of a file either.
    let urgency = if matches!(what, Wish::Cancel) { Urgency::AtOnce } else { Urgency::Soon };
    let (reply, lines) = channel();
    let reply = Watcher::Elsewhere(reply);
    if !shared.bring(inbox, Command::Technician(Request { what, reply }), Some(urgency)) {
        return writeln!(stream, "! the agent is going down");
    }
    let mut patience = Some(BUSY_AFTER);
    loop {
        let line = match patience.take() {
            Some(patience) => lines.recv_timeout(patience),
            None => lines.recv().map_err(RecvTimeoutError::from),
        };
        match line {
            Ok(Line::Note(text)) => writeln!(stream, ". {}", printable(&text))?,
            Ok(Line::Done(text)) => return writeln!(stream, "+ {}", printable(&text)),
            Ok(Line::Failed(text)) => return writeln!(stream, "! {}", printable(&text)),
            // A person who waits wants to know for what.
            Err(RecvTimeoutError::Timeout) => {
                let doing = crate::status::phase_name(shared.status().record.phase.name());
                writeln!(stream, ". the agent is busy ({doing}) and answers when it can look up")?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                let why = "the agent went down before it was done; `mainstay status` says what stands";
                return writeln!(stream, "! {why}");
            }
        }
    }
}

/// One connection's answer, for the fuzzer.
#[cfg(fuzzing)]
pub fn answer_one(stream: UnixStream, inbox: &SyncSender<Command>, shared: &Arc<Shared>) -> io::Result<()> {
    answer(stream, inbox, shared)
}

/// Byte by byte: what follows the line is the bundle's.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < REQUEST_BYTES_MAX {
        stream.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into()),
            [byte] => line.push(byte),
        }
    }
    Err(io::Error::new(ErrorKind::InvalidData, "a request of more than 256 bytes, or none"))
}

/// A bundle from the other end of a command. Reading it never blocks for long: in the middle of a download it ends when
/// the agent has to look up at once, and always when nothing comes any more.
struct Patient {
    stream: UnixStream,
    shared: Arc<Shared>,
    /// The agent reads, and no longer the command's own thread.
    taken: Arc<AtomicBool>,
}

impl Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match self.stream.read(out) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(0), // the command is gone
                read => return read,
            }
            if self.taken.load(Ordering::Acquire) && self.shared.has_news(Urgency::AtOnce) {
                return Err(io::Error::other("the agent has to look up"));
            }
            if begun.elapsed() > BUNDLE_SILENT_MAX {
                let silent = BUNDLE_SILENT_MAX.as_secs();
                return Err(io::Error::other(format!("nothing came for {silent} s")));
            }
        }
    }
}

fn wish(line: &str, stream: &UnixStream, shared: &Arc<Shared>) -> Result<Wish, Fault> {
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    match (verb, words.as_slice()) {
        ("install", flags) => {
            let stream = stream.try_clone().and_then(|s| s.set_read_timeout(Some(BUNDLE_LOOK)).map(|()| s));
            let stream = stream.map_err(|e| fault!(Io, "control socket: {e}"))?;
            let taken = Arc::new(AtomicBool::new(false));
            let patient = Patient { stream, shared: shared.clone(), taken: taken.clone() };
            // Here and not in the agent: its first bytes may take their time.
            let bundle = FileSource::open(Box::new(BufReader::with_capacity(64 * 1024, patient)))?;
            taken.store(true, Ordering::Release);
            let (retry, approve) = (flags.contains(&"retry"), flags.contains(&"approve"));
            Ok(Wish::Install { bundle: Box::new(bundle), retry, approve })
        }
        ("mark", ["good"]) => Ok(Wish::Mark(Mark::Good)),
        ("mark", ["bad", group]) => Ok(Wish::Mark(Mark::Bad(the_group(group)?))),
        ("mark", ["active", group]) => Ok(Wish::Mark(Mark::Active(the_group(group)?))),
        ("rollback", []) => Ok(Wish::RollBack),
        ("approve", []) => Ok(Wish::Approve),
        ("cancel", []) => Ok(Wish::Cancel),
        ("factory-reset", []) => Ok(Wish::FactoryReset),
        ("decommission", [name]) => Ok(Wish::Decommission((*name).to_string())),
        _ => Err(fault!(
            Unsupported,
            "the agent does not know the request {line:?}; is it older than this command?"
        )),
    }
}

fn the_group(name: &str) -> Result<Group, Fault> {
    Group::from_name(name).ok_or_else(|| fault!(Refused, "expected group A or B, found {name:?}"))
}

/// Asks the daemon, shows its notes with `show`, and gives its last word. `None`: no daemon listens, and `bundle` is as
/// it was.
pub fn ask(
    path: &Path,
    request: &str,
    bundle: &mut Option<Box<dyn Read + Send>>,
    mut show: impl FnMut(&str),
) -> Option<Result<String, String>> {
    let failed = |e: io::Error| match e.kind() {
        ErrorKind::PermissionDenied => {
            format!("control socket {}: {e}: only the agent's own user (root) may ask it", path.display())
        }
        _ => format!("control socket {}: {e}", path.display()),
    };
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return None,
        Err(e) => return Some(Err(failed(e))),
    };
    let asked = (|| {
        // A daemon that has no time for us may have closed already: what it said is still there to be read.
        let _ = writeln!(stream, "{request}");
        if let Some(mut bundle) = bundle.take() {
            let mut to = stream.try_clone()?;
            // Ends with the process; the daemon closes the socket when it has heard enough.
            std::thread::Builder::new().name("bundle".into()).spawn(move || {
                let _ = io::copy(&mut bundle, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            })?;
        }
        for line in BufReader::new(&stream).lines() {
            let line = line?;
            match line.split_at_checked(1) {
                Some((".", text)) => show(text.strip_prefix(' ').unwrap_or(text)),
                Some(("+", text)) => return Ok(Ok(text.trim_start().to_string())),
                Some(("!", text)) => return Ok(Err(text.trim_start().to_string())),
                _ => {}
            }
        }
        Err(io::Error::new(ErrorKind::UnexpectedEof, "the agent went down before it answered"))
    })();
    Some(asked.unwrap_or_else(|e| Err(failed(e))))
}
