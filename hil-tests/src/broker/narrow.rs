//! A slow, far, losing line between clients and a broker, or any other server of a TCP port: a proxy that holds bytes back as
//! [`line`](super::line) says. Kernels without netem need it, and it needs no rights.
//!
//! ```text
//! client ──► 127.0.0.1:port │ turn of bytes ─► Way: departs at the line's rate ─► Stream: arrives in order │ ──► server
//!        ◄──                │ the same again, of its own, for the other direction                          │ ◄──
//! ```
//! The proxy ends the client's TCP and begins one of its own, so two kernels' buffers stand at the line's ends as they would
//! on two machines; the TCP on the line is the emulated one. A connection's first byte waits for one round trip, which
//! the handshake would have taken. All connections share the line; they take turns.

use super::line::{Line, Stream, Way};
use crate::{Doing, Result};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{LocalExecutor, Timer, channel, future};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A line, with a port at its near end. Cut when dropped.
pub struct Narrow {
    address: SocketAddr,
    count: Arc<Count>,
    open: Option<(channel::Sender<()>, thread::JoinHandle<()>)>,
}

/// What has gone through.
#[derive(Default)]
struct Count {
    down: AtomicU64,
    up: AtomicU64,
    lost: AtomicU64,
    connections: AtomicU64,
}

impl Narrow {
    /// Lays a line from a free port of 127.0.0.1 to `to`.
    pub fn start(to: SocketAddr, line: Line) -> Result<Narrow> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "listening for the line")?;
        let address = listener.local_addr().doing(|| "the line's own address")?;
        let listener = smol::Async::new(listener).doing(|| "the line's listener")?;
        let (cut, until) = channel::bounded::<()>(1);
        let count = Arc::new(Count::default());
        let counted = count.clone();
        let body = move || {
            let executor = LocalExecutor::new();
            let shared = Rc::new(Shared::new(line, counted));
            let until = async {
                let _ = until.recv().await; // a message or a dropped sender: both mean cut
            };
            future::block_on(executor.run(future::or(serve(&executor, &listener, to, &shared), until)));
        };
        let thread =
            thread::Builder::new().name("narrow".into()).spawn(body).doing(|| "the line's thread")?;
        Ok(Narrow { address, count, open: Some((cut, thread)) })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have arrived at clients.
    pub fn bytes_down(&self) -> u64 {
        self.count.down.load(Ordering::Relaxed)
    }

    /// Bytes that have arrived at the server.
    pub fn bytes_up(&self) -> u64 {
        self.count.up.load(Ordering::Relaxed)
    }

    /// Segments that were lost, in both directions.
    pub fn lost(&self) -> u64 {
        self.count.lost.load(Ordering::Relaxed)
    }

    /// Connections that were made.
    pub fn connections(&self) -> u64 {
        self.count.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        if let Some((cut, thread)) = self.open.take() {
            cut.close();
            let _ = thread.join(); // it ends by itself, and a panic in it has been printed
        }
    }
}

/// What the connections of one line share; they all run on one thread.
struct Shared {
    line: Line,
    began: Instant,
    down: RefCell<Way>,
    up: RefCell<Way>,
    count: Arc<Count>,
}

impl Shared {
    fn new(line: Line, count: Arc<Count>) -> Shared {
        Shared { line, began: Instant::now(), down: RefCell::default(), up: RefCell::default(), count }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn until(&self, when: Duration) {
        Timer::at(self.began + when).await;
    }
}

type Tcp = smol::Async<std::net::TcpStream>;

/// Takes connections until it is dropped.
async fn serve<'a>(
    executor: &LocalExecutor<'a>,
    listener: &smol::Async<TcpListener>,
    to: SocketAddr,
    shared: &Rc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let shared = shared.clone();
                let passing = async move {
                    let _ = pass(client, to, &shared).await; // how a connection ends is its ends' affair
                };
                executor.spawn(passing).detach();
            }
            Err(_) => drop(Timer::after(Duration::from_millis(50)).await), // out of descriptors, most likely
        }
    }
}

/// One connection.
async fn pass(client: Tcp, to: SocketAddr, shared: &Shared) -> io::Result<()> {
    let number = shared.count.connections.fetch_add(1, Ordering::Relaxed);
    let server = Tcp::connect(to).await?;
    client.get_ref().set_nodelay(true)?;
    server.get_ref().set_nodelay(true)?;
    Timer::after(shared.line.rtt).await;
    let down = carry(&server, &client, &shared.down, &shared.count.down, 2 * number, shared);
    let up = carry(&client, &server, &shared.up, &shared.count.up, 2 * number + 1, shared);
    future::try_zip(down, up).await.map(drop)
}

/// One direction of one connection, until its sender ends it and all of it has arrived.
async fn carry(
    from: &Tcp,
    to: &Tcp,
    way: &RefCell<Way>,
    count: &AtomicU64,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    let pipe = Pipe {
        stream: RefCell::new(Stream::new(shared.line, number)),
        bytes: RefCell::default(),
        departed: channel::bounded(1),
        arrived: channel::bounded(1),
    };
    future::try_zip(pipe.send(from, way, shared), pipe.hand_on(to, count, shared)).await.map(drop)
}

/// What is on its way: the bytes, and when they arrive.
struct Pipe {
    stream: RefCell<Stream>,
    bytes: RefCell<VecDeque<u8>>,
    /// Something new is on its way; closed: nothing more comes.
    departed: (channel::Sender<()>, channel::Receiver<()>),
    /// There is room again; closed: nothing is taken any more.
    arrived: (channel::Sender<()>, channel::Receiver<()>),
}

impl Pipe {
    async fn send(&self, mut from: &Tcp, way: &RefCell<Way>, shared: &Shared) -> io::Result<()> {
        let ended = async {
            let mut buffer = vec![0; shared.line.turn_bytes()];
            loop {
                while self.stream.borrow().on_its_way() > shared.line.in_flight_max() {
                    let Ok(()) = self.arrived.1.recv().await else { return Ok(()) };
                }
                let n = from.read(&mut buffer).await?;
                if n == 0 {
                    return Ok(());
                }
                let departs = way.borrow_mut().send(&shared.line, shared.now(), n);
                shared.until(departs.saturating_sub(shared.line.queue())).await;
                let mut stream = self.stream.borrow_mut();
                let lost = stream.lost();
                let again = stream.depart(departs, n);
                shared.count.lost.fetch_add(stream.lost() - lost, Ordering::Relaxed);
                self.bytes.borrow_mut().extend(buffer.get(..n).unwrap_or_default());
                if again > 0 {
                    way.borrow_mut().send(&shared.line, shared.now(), again); // what is sent again takes its time, too
                }
                let _ = self.departed.0.try_send(()); // full: it is told already
            }
        };
        let ended = ended.await;
        self.departed.0.close();
        ended
    }

    async fn hand_on(&self, mut to: &Tcp, count: &AtomicU64, shared: &Shared) -> io::Result<()> {
        let ended = async {
            loop {
                let due = self.stream.borrow().due();
                match due {
                    Some(due) if due > shared.now() => {
                        // What departs meanwhile may have the first one arrive sooner.
                        let sooner = async {
                            if self.departed.1.recv().await.is_err() {
                                future::pending::<()>().await;
                            }
                        };
                        future::or(shared.until(due), sooner).await;
                    }
                    Some(_) => {
                        let n = self.stream.borrow_mut().take(shared.now());
                        let bytes: Vec<u8> = self.bytes.borrow_mut().drain(..n).collect();
                        count.fetch_add(n as u64, Ordering::Relaxed);
                        to.write_all(&bytes).await?;
                        let _ = self.arrived.0.try_send(()); // full: it is told already
                    }
                    None if self.departed.1.recv().await.is_err() => {
                        return to.get_ref().shutdown(std::net::Shutdown::Write);
                    }
                    None => {}
                }
            }
        };
        let ended = ended.await;
        self.arrived.0.close();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// A server that says everything back, one client after another.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut back = client.try_clone().unwrap();
                let _ = std::io::copy(&mut client, &mut back);
            }
        });
        address
    }

    /// Goal: a losing line delays and never damages. Method: 300 KB there and back through one that loses a tenth. Of its time
    /// only the lower bound is looked at, which no busy machine can break: the line's own arithmetic is tested beside it.
    #[test]
    fn a_losing_line_delivers_every_byte_in_order_and_no_sooner_than_it_can() {
        let line = Line { rtt: Duration::from_millis(10), bits_per_second: 100_000_000, loss: 0.1, seed: 3 };
        let narrow = Narrow::start(echo(), line).unwrap();
        let content: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).step_by(4).collect();
        let began = Instant::now();
        let mut client = TcpStream::connect(narrow.address()).unwrap();
        let mut writer = client.try_clone().unwrap();
        let sent = content.clone();
        let writing = thread::spawn(move || writer.write_all(&sent));
        let mut back = vec![0; content.len()];
        client.read_exact(&mut back).unwrap();
        writing.join().unwrap().unwrap();
        assert!(back == content, "the bytes that came back are others");
        assert!(narrow.lost() > 10, "{}", narrow.lost());
        // 300,000 bytes each way at 100 Mbit/s are 24 ms; the handshake and the way add 20 ms.
        assert!(began.elapsed() > Duration::from_millis(44), "{:?}", began.elapsed());
        assert_eq!((narrow.bytes_down(), narrow.bytes_up(), narrow.connections()), (300_000, 300_000, 1));
    }

    #[test]
    fn a_line_that_is_cut_ends_its_connections() {
        let line = Line { rtt: Duration::ZERO, bits_per_second: 1_000_000, loss: 0.0, seed: 0 };
        let narrow = Narrow::start(echo(), line).unwrap();
        let mut client = TcpStream::connect(narrow.address()).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(narrow);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}
