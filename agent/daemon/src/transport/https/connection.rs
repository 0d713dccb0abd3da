//! One connection to a web server: dials, sends requests, and gives what comes back. It blocks, on a thread of its own; every
//! wait has an end, and a server that drips is noticed by what it brings in a time, not by its signs of life.
//!
//! TLS is the broker's: TLS 1.3 alone, one CA, the clock's floor, a client certificate where there is one.

use super::answer::{Framing, HEAD_BYTES_MAX, Head};
use super::{Depot, name};
use crate::transport::tunnel::{self, ADDRESSES_MAX, DIAL_TIMEOUT, HANDSHAKE_TIMEOUT};
use mainstay_core::digest::Digest;
use mainstay_core::{fault, fault::Fault};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a head may take, and how long [`PROGRESS_BYTES`] of a body.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// 1 KiB in 60 s: a seventh of the slowest modem.
const PROGRESS_BYTES: usize = 1024;
/// Interim answers (RFC 9110, section 15.2) before the one that counts.
const INTERIM_MAX: usize = 4;
/// A TLS record, and what may stand before it.
const BUFFER_BYTES: usize = 16 * 1024;
const _: () = assert!(BUFFER_BYTES >= HEAD_BYTES_MAX);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object by its name.
    Object(Digest),
    /// Bytes of a route, from the first to the last.
    Range(Digest, u64, u64),
    /// A route, from its begin.
    Whole(Digest),
}

/// A connection that stands.
pub struct Connection {
    stream: Stream,
    /// What came, and how far it has been read.
    buffer: Vec<u8>,
    at: usize,
    framing: Framing,
    /// Until when there has to be progress, and how much there was.
    due: Instant,
    progress: usize,
    /// Bytes that came, heads and all.
    pub received: u64,
}

enum Stream {
    Plain(Timed),
    Secured(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Connection {
    /// Dials, and proves the server. The second value closes the connection from another thread.
    pub fn open(depot: &Depot) -> Result<(Connection, TcpStream), String> {
        let tcp = dial(depot)?;
        let _ = tcp.set_nodelay(true);
        let closer = tcp.try_clone().map_err(|e| e.to_string())?;
        let timed = Timed { tcp, until: Instant::now() + HANDSHAKE_TIMEOUT };
        let stream = match &depot.tls {
            None => Stream::Plain(timed),
            Some(tls) => {
                let failed = |e: io::Error| depot.words(tunnel::of(&e, tls, &depot.endpoint));
                let mut stream = StreamOwned::new(tls.session(&depot.endpoint.host).map_err(failed)?, timed);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).map_err(failed)?;
                }
                Stream::Secured(Box::new(stream))
            }
        };
        let connection = Connection {
            stream,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            at: 0,
            framing: Framing::new(super::answer::Body::Length(0)),
            due: Instant::now(),
            progress: 0,
            received: 0,
        };
        Ok((connection, closer))
    }

    /// Sends a request. Several may be under way: they are answered in their order.
    pub fn ask(&mut self, depot: &Depot, target: Target) -> Result<(), String> {
        let range = match target {
            Target::Range(_, first, last) => format!("Range: bytes={first}-{last}\r\n"),
            Target::Object(_) | Target::Whole(_) => String::new(),
        };
        let request = format!(
            "GET {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: mainstay/{}\r\nAccept-Encoding: identity\r\n{range}\r\n",
            depot.path,
            name(target),
            depot.endpoint,
            env!("CARGO_PKG_VERSION"),
        );
        self.until(Instant::now() + ANSWER_TIMEOUT);
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(request.as_bytes()),
            Stream::Secured(stream) => stream.write_all(request.as_bytes()).and_then(|()| stream.flush()),
        };
        sent.map_err(|e| depot.explain(&e))
    }

    /// The head of the next answer; the body before it has been read to its end.
    pub fn head(&mut self, depot: &Depot) -> Result<Head, Fault> {
        self.due = Instant::now() + ANSWER_TIMEOUT;
        for _ in 0..=INTERIM_MAX {
            let (head, length) = loop {
                if let Some(found) = Head::parse(self.unread()).map_err(|f| depot.says(f))? {
                    break found;
                }
                if self.fill(depot)? == 0 {
                    return Err(fault!(
                        Disconnected,
                        "{depot}: the connection ended where an answer was expected"
                    ));
                }
            };
            self.at += length;
            if head.status >= 200 {
                self.framing = Framing::new(head.body);
                self.progress = 0;
                return Ok(head);
            }
        }
        Err(fault!(Corrupt, "{depot}: expected at most {INTERIM_MAX} interim answers, found more"))
    }

    /// Some bytes of the body, at most `most`; none when it is over.
    pub fn body(&mut self, depot: &Depot, most: usize) -> Result<&[u8], Fault> {
        loop {
            if self.framing.is_over() {
                return Ok(&[]);
            }
            if self.unread().is_empty() && self.fill(depot)? == 0 {
                self.framing.closed().map_err(|f| depot.says(f))?;
                continue;
            }
            let input = self.buffer.get(self.at..).unwrap_or_default();
            let input = input.get(..most).unwrap_or(input);
            let (taken, of_body) = self.framing.take(input).map_err(|f| depot.says(f))?;
            self.at += taken;
            if of_body > 0 {
                self.progress += of_body;
                if self.progress >= PROGRESS_BYTES {
                    (self.progress, self.due) = (0, Instant::now() + ANSWER_TIMEOUT);
                }
                return Ok(self.buffer.get(self.at - of_body..self.at).unwrap_or_default());
            }
        }
    }

    /// The body is being waited for again, after a time in which nobody wanted it.
    pub fn resume(&mut self) {
        (self.progress, self.due) = (0, Instant::now() + ANSWER_TIMEOUT);
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Reads more; 0: the connection has ended.
    fn fill(&mut self, depot: &Depot) -> Result<usize, Fault> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        self.buffer.resize(BUFFER_BYTES, 0);
        self.until(self.due);
        let room = self.buffer.get_mut(before..).unwrap_or_default();
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(room),
            Stream::Secured(stream) => stream.read(room),
        };
        let taken = match read {
            Ok(taken) => taken,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0, // without a goodbye: lengths tell whether it was whole
            Err(e) => {
                self.buffer.truncate(before);
                return Err(fault!(Disconnected, "{}", depot.explain(&e)));
            }
        };
        self.buffer.truncate(before + taken);
        self.received += taken as u64;
        Ok(taken)
    }

    fn until(&mut self, moment: Instant) {
        match &mut self.stream {
            Stream::Plain(timed) => timed.until = moment,
            Stream::Secured(stream) => stream.sock.until = moment,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let tcp = match &self.stream {
            Stream::Plain(timed) => &timed.tcp,
            Stream::Secured(stream) => &stream.sock.tcp,
        };
        let _ = tcp.shutdown(Shutdown::Both); // another thread holds a copy
    }
}

fn dial(depot: &Depot) -> Result<TcpStream, String> {
    let to = &depot.endpoint;
    let addresses = (to.host.as_str(), to.port)
        .to_socket_addrs()
        .map_err(|e| format!("{depot}: the name cannot be resolved: {e}"))?;
    let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
    let share = DIAL_TIMEOUT / addresses.len().max(1) as u32;
    let mut last = format!("{depot}: the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, share) {
            Ok(tcp) => return Ok(tcp),
            Err(e) => last = depot.explain(&e),
        }
    }
    Err(last)
}

/// A socket each of whose waits ends at one moment, however many bytes come one by one.
struct Timed {
    tcp: TcpStream,
    until: Instant,
}

impl Timed {
    /// How long from now; what is over has a moment, for 0 would mean for ever.
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }
}

/// A wait that was too long is EAGAIN on a socket with a timeout (socket(7)).
fn timed_out(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => e,
    }
}

impl Read for Timed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.left()?)?;
        self.tcp.read(out).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left()?)?;
        self.tcp.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
