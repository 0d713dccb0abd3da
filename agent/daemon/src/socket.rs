//! How the commands of this binary reach the daemon: a Unix socket that only its owner opens.
//!
//! ```text
//! command ─► "status json\n"                       one request, one line of at most 256 bytes
//! command ─► "install retry approve\n" + bundle    the bundle's bytes follow, front to back
//! daemon  ─► ". on the way\n" …                    any number of notes
//! daemon  ─► "+ done\n"  or  "! failed\n"          and closes
//! ```

use crate::agent::{Command, Line, Mark, Request, Shared, Wish};
use mainstay_core::boot::Group;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, channel};
use std::time::Duration;

/// The longest request line.
const REQUEST_BYTES_MAX: usize = 256;
/// Commands that are answered at once.
const CONNECTIONS_MAX: usize = 4;
/// How long a command may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Stacks are address space; what is touched of one is some pages.
const STACK_BYTES: usize = 128 * 1024;

/// Serves the socket at `path` on a thread of its own until the process ends.
pub fn serve(path: &Path, inbox: SyncSender<Command>, shared: Arc<Shared>) -> Result<(), Fault> {
    let io = |doing: &'static str| move |e: io::Error| crate::store::io_fault(doing, path, &e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("make the folder of"))?;
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
            let Ok(mut stream) = stream else { continue };
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

fn answer(mut stream: UnixStream, inbox: &SyncSender<Command>, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let line = read_line(&mut stream)?;
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
        _ => match wish(&line, &stream) {
            Ok(wish) => wish,
            Err(fault) => return writeln!(stream, "! {fault}"),
        },
    };
    // A request is news that does not wait for the end of a download.
    let (reply, lines) = channel();
    shared.interrupt.store(true, Ordering::Release);
    if inbox.send(Command::Technician(Request { what, reply })).is_err() {
        return writeln!(stream, "! the agent is going down");
    }
    for line in lines {
        match line {
            Line::Note(text) => writeln!(stream, ". {text}")?,
            Line::Done(text) => return writeln!(stream, "+ {text}"),
            Line::Failed(text) => return writeln!(stream, "! {text}"),
        }
    }
    writeln!(stream, "! the agent went down before it was done; `mainstay status` says what stands")
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

fn wish(line: &str, stream: &UnixStream) -> Result<Wish, Fault> {
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    match (verb, words.as_slice()) {
        ("install", flags) => {
            let input = stream.try_clone().map_err(|e| fault!(Io, "control socket: {e}"))?;
            let input = Box::new(BufReader::with_capacity(64 * 1024, input));
            Ok(Wish::Install { input, retry: flags.contains(&"retry"), approve: flags.contains(&"approve") })
        }
        ("mark", ["good"]) => Ok(Wish::Mark(Mark::Good)),
        ("mark", ["bad", group]) => Ok(Wish::Mark(Mark::Bad(the_group(group)?))),
        ("mark", ["active", group]) => Ok(Wish::Mark(Mark::Active(the_group(group)?))),
        ("rollback", []) => Ok(Wish::RollBack),
        ("approve", []) => Ok(Wish::Approve),
        ("cancel", []) => Ok(Wish::Cancel),
        _ => Err(fault!(
            Unsupported,
            "the agent does not know the request {line:?}; is it older than this command?"
        )),
    }
}

fn the_group(name: &str) -> Result<Group, Fault> {
    Group::from_name(name).ok_or_else(|| fault!(Refused, "expected group A or B, found {name:?}"))
}

/// Asks the daemon, shows its notes with `show`, and gives its last word. `None`: no daemon listens.
pub fn ask(
    path: &Path,
    request: &str,
    bundle: Option<Box<dyn Read + Send>>,
    mut show: impl FnMut(&str),
) -> Option<Result<String, String>> {
    let mut stream = UnixStream::connect(path).ok()?;
    let asked = (|| {
        writeln!(stream, "{request}")?;
        if let Some(mut bundle) = bundle {
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
    Some(asked.unwrap_or_else(|e| Err(format!("control socket {}: {e}", path.display()))))
}
