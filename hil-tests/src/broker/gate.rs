//! A door between clients and what stands behind it: it counts what goes through, slows it down, and shuts.
//!
//! ```text
//! clients ──► 127.0.0.1:port │ gate │ ──► behind
//!               TLS 1.3      │ Terminate  │  plain       in front of the embedded broker
//!               anything     │ PassThrough│  the same    in front of a Mosquitto, which does its own TLS
//!               plain        │ Originate  │  TLS 1.3     for a test's MQTT client, which knows no TLS
//! ```
//! An open gate is one thread that runs a small executor. To shut it is to end that thread: all its connections go with
//! it, as when a broker's machine loses its power. The port stays the same when it is opened again.
//!
//! What is counted and slowed down is what goes *towards* the clients: for a gateway, what it downloads. The count is taken
//! inside TLS where the gate terminates it, and outside where it passes it through (about 1 in 700 bytes more).

use crate::{Doing, Result, Trouble};
use futures_rustls::{TlsAcceptor, TlsConnector};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::{LocalExecutor, Timer, channel, future};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the gate does to a connection.
#[derive(Clone)]
pub enum Side {
    /// Nothing.
    PassThrough,
    /// Speaks TLS with the client, and plainly with what stands behind.
    Terminate(Arc<ServerConfig>),
    /// Speaks plainly with the client, and TLS with what stands behind.
    Originate(Arc<ClientConfig>),
}

/// A door that can be opened, shut and narrowed. Shut when dropped.
pub struct Gate {
    side: Side,
    address: SocketAddr,
    behind: SocketAddr,
    meter: Arc<Meter>,
    open: Option<Open>,
}

struct Open {
    shut: channel::Sender<()>,
    thread: thread::JoinHandle<()>,
}

/// What has gone through.
#[derive(Default)]
struct Meter {
    to_clients: AtomicU64,
    from_clients: AtomicU64,
    accepted: AtomicU64,
    refused: Mutex<Vec<String>>,
    pace: Pace,
}

impl Gate {
    /// Opens a gate on a free port of 127.0.0.1.
    pub fn open(side: Side, behind: SocketAddr) -> Result<Gate> {
        Gate::open_at(side, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behind)
    }

    /// Opens a gate at an address of this computer's, for clients on other ones; port 0: a free one.
    pub fn open_at(side: Side, address: SocketAddr, behind: SocketAddr) -> Result<Gate> {
        let mut gate = Gate { side, address, behind, meter: Arc::default(), open: None };
        gate.reopen(behind)?;
        Ok(gate)
    }

    /// Opens a gate that was shut, on its old port; `behind` may be somewhere else now.
    pub fn reopen(&mut self, behind: SocketAddr) -> Result<()> {
        self.shut();
        self.behind = behind;
        let listener = TcpListener::bind(self.address).doing(|| format!("listening at {}", self.address))?;
        self.address = listener.local_addr().doing(|| "the gate's own address")?;
        let listener = smol::Async::new(listener).doing(|| "the gate's listener")?;
        let (shut, until) = channel::bounded::<()>(1);
        let (side, meter) = (self.side.clone(), self.meter.clone());
        let body = move || {
            let executor = LocalExecutor::new();
            let serve = serve(&executor, &listener, behind, &side, &meter);
            let until = async {
                let _ = until.recv().await; // a message or a dropped sender: both mean shut
            };
            future::block_on(executor.run(future::or(serve, until)));
        };
        let thread = thread::Builder::new().name("gate".into()).spawn(body).doing(|| "the gate's thread")?;
        self.open = Some(Open { shut, thread });
        Ok(())
    }

    /// Cuts every connection and stops listening. Nothing happens where it is shut already.
    pub fn shut(&mut self) {
        if let Some(Open { shut, thread }) = self.open.take() {
            shut.close();
            let _ = thread.join(); // it ends by itself, and a panic in it has been printed
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands behind it.
    pub fn behind(&self) -> SocketAddr {
        self.behind
    }

    /// Bytes that have gone towards clients since the gate was made.
    pub fn to_clients(&self) -> u64 {
        self.meter.to_clients.load(Ordering::Relaxed)
    }

    /// Bytes that have come from clients since the gate was made.
    pub fn from_clients(&self) -> u64 {
        self.meter.from_clients.load(Ordering::Relaxed)
    }

    /// Connections that were let in.
    pub fn accepted(&self) -> u64 {
        self.meter.accepted.load(Ordering::Relaxed)
    }

    /// Why connections were not let in, oldest first.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.meter.refused).clone()
    }

    /// At most so many bytes a second towards all clients together; `None`: as fast as it goes.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        self.meter.pace.0.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Takes connections until it is dropped.
async fn serve<'a>(
    executor: &LocalExecutor<'a>,
    listener: &smol::Async<TcpListener>,
    behind: SocketAddr,
    side: &Side,
    meter: &Arc<Meter>,
) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (side, meter) = (side.clone(), meter.clone());
                executor.spawn(async move { pass(client, behind, side, &meter).await }).detach();
            }
            Err(error) => {
                lock(&meter.refused).push(format!("accept: {error}"));
                Timer::after(Duration::from_millis(50)).await; // out of descriptors, most likely
            }
        }
    }
}

type Tcp = smol::Async<std::net::TcpStream>;

/// One connection, from handshake to end.
async fn pass(client: Tcp, behind: SocketAddr, side: Side, meter: &Meter) {
    let ended = async {
        let _ = client.get_ref().set_nodelay(true);
        let inner = Tcp::connect(behind);
        match side {
            Side::PassThrough => both_ways(client, inner.await?, meter).await,
            Side::Terminate(config) => {
                let client = in_time(TlsAcceptor::from(config).accept(client)).await?;
                both_ways(client, inner.await?, meter).await
            }
            Side::Originate(config) => {
                let inner = inner.await?;
                let name = ServerName::from(behind.ip());
                let inner = in_time(TlsConnector::from(config).connect(name, inner)).await?;
                both_ways(client, inner, meter).await
            }
        }
    };
    if let Err(error) = ended.await {
        lock(&meter.refused).push(error.to_string());
    }
}

/// A handshake that takes longer than this is refused.
const HANDSHAKE_SECONDS_MAX: u64 = 10;

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(Duration::from_secs(HANDSHAKE_SECONDS_MAX)).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))
    };
    future::or(handshake, late).await
}

/// Carries bytes both ways until either side ends. How a connection ends is nobody's fault here.
async fn both_ways<C, B>(client: C, behind: B, meter: &Meter) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    meter.accepted.fetch_add(1, Ordering::Relaxed);
    let (from_client, to_client) = smol::io::split(client);
    let (from_behind, to_behind) = smol::io::split(behind);
    let down = carry(from_behind, to_client, &meter.to_clients, Some(&meter.pace));
    let up = carry(from_client, to_behind, &meter.from_clients, None);
    let _ = future::or(down, up).await;
    Ok(())
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
    pace: Option<&Pace>,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.close().await;
        }
        if let Some(pace) = pace {
            pace.wait_for(n).await;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
        to.flush().await?;
        count.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Bytes a second, 0 for no bound; and when the next byte may go.
#[derive(Default)]
struct Pace(AtomicU64, Mutex<Option<Instant>>);

impl Pace {
    /// Waits until `n` bytes may go. All connections share one pace.
    async fn wait_for(&self, n: usize) {
        let rate = self.0.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let due = {
            let now = Instant::now();
            let mut next = lock(&self.1);
            let due = next.filter(|next| *next > now).unwrap_or(now);
            *next = Some(due + Duration::from_secs_f64(n as f64 / rate as f64));
            due
        };
        Timer::at(due).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something listens at `address`.
pub fn wait_until_open(address: SocketAddr, patience: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > patience => {
                return Err(Trouble::new(format!(
                    "nothing listens at {address} after {patience:?}: {error}"
                )));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A port of 127.0.0.1 that nobody held a moment ago.
pub fn free_port() -> Result<SocketAddr> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    TcpListener::bind(any).and_then(|listener| listener.local_addr()).doing(|| "looking for a free port")
}
