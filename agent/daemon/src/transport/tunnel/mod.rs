//! TLS for a client that has none: a socket inside this process, and behind it TLS 1.3 to the broker.
//!
//! rumqttc's own TLS features pin a certificate library with open advisories, so rumqttc speaks plain MQTT to an
//! abstract Unix socket (Linux: no file, nothing to clean up) of this module, and each connection that comes in there is
//! dialled on to the broker: TCP, then TLS 1.3 with our client certificate, then bytes both ways.
//!
//! * Only this process is let in: the peer's process and user id (SO_PEERCRED) have to be our own.
//! * **Why** a connection failed is known only here; rumqttc sees a closed socket. So the reason is put down in a slot
//!   *before* that socket is closed, and [`Tunnel::cause`] gives it out.
//! * A client certificate that the broker does not take shows *after* the handshake, as an alert on the first
//!   read (TLS 1.3, RFC 8446 §4.4.2.4): the write side therefore waits for what the read side has to say.
//!
//! It runs on smol's global executor; a connection costs about 20 KiB of buffers besides rustls's own.

mod cause;
mod tls;

pub(super) use cause::{CLOSED, of, of_io, of_lost};
pub use tls::{Credentials, Tls, mode_that_shows};

use super::backoff::random;
use super::config::Endpoint;
use mainstay_core::{fault, fault::Fault};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpStream;
use smol::net::unix::{UnixListener, UnixStream};
use std::future::Future;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the broker's address may take to be found and to take the connection.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the TLS handshake may take after that.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broken connection is listened to for the alert that says why, and a closed one is flushed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Of a name with many addresses at most four are tried, each in its share of [`DIAL_TIMEOUT`].
pub(super) const ADDRESSES_MAX: usize = 4;
/// One TLS record holds at most 16 KiB (RFC 8446 §5.1).
const DOWN_BYTES: usize = 16 * 1024;
/// Upwards go acknowledgements, subscriptions and reports.
const UP_BYTES: usize = 4 * 1024;

/// The listening socket, for as long as this lives. Connections that stand are not cut when it is dropped: they end with
/// their client, so that a last DISCONNECT gets through.
pub struct Tunnel {
    path: String,
    last: Arc<Mutex<Last>>,
    _accept: smol::Task<()>,
    dials: Sender<()>,
}

/// The newest connection, and why it failed.
#[derive(Default)]
struct Last {
    connection: u64,
    cause: Option<String>,
}

impl Tunnel {
    /// Opens the socket and begins to take connections.
    pub fn open(tls: Arc<Tls>, to: Endpoint) -> Result<Tunnel, Fault> {
        let io = |e: io::Error| fault!(Io, "TLS tunnel: cannot listen inside the process: {e}");
        let name = format!("mainstay-{}-{:016x}", std::process::id(), random());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).map_err(io)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).map_err(io)?;
        let listener = UnixListener::from(smol::Async::new(listener).map_err(io)?);
        let last = Arc::new(Mutex::new(Last::default()));
        let (open, closed) = bounded(1);
        let accept = smol::spawn(accept(listener, tls, to, last.clone(), closed));
        // rumqttc hands the string to tokio, which takes a leading NUL for an abstract name.
        Ok(Tunnel { path: format!("\0{name}"), last, _accept: accept, dials: open })
    }

    /// What rumqttc connects to.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Gives up connections that are not made yet; those that stand are left alone.
    pub fn end_dials(&self) {
        self.dials.close();
    }

    /// Why the newest connection failed, once; `None` when it did not, or when its end had no reason of its own.
    pub fn cause(&self) -> Option<String> {
        lock(&self.last).cause.take()
    }
}

fn lock(last: &Mutex<Last>) -> MutexGuard<'_, Last> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: UnixListener,
    tls: Arc<Tls>,
    to: Endpoint,
    last: Arc<Mutex<Last>>,
    closed: Receiver<()>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            smol::Timer::after(Duration::from_millis(100)).await; // out of file descriptors: do not spin
            continue;
        };
        if !is_ours(&client) {
            log::warn!("TLS tunnel: a connection from another process was closed");
            continue;
        }
        let connection = {
            let mut last = lock(&last);
            *last = Last { connection: last.connection + 1, cause: None };
            last.connection
        };
        let (tls, to, last, closed) = (tls.clone(), to.clone(), last.clone(), closed.clone());
        smol::spawn(async move {
            // The client's socket is closed only when `client` falls, after the cause has been put down.
            if let Err(cause) = serve(&client, &tls, &to, closed).await {
                let mut last = lock(&last);
                if last.connection == connection {
                    last.cause = Some(cause);
                }
            }
            drop(client);
        })
        .detach();
    }
}

/// The other end is this very process, run by the same user.
fn is_ours(client: &UnixStream) -> bool {
    getsockopt(client, PeerCredentials).is_ok_and(|peer| {
        peer.pid().cast_unsigned() == std::process::id() && peer.uid() == nix::unistd::geteuid().as_raw()
    })
}

/// One connection from its dialling to its end. `Err`: the text for people.
async fn serve(client: &UnixStream, tls: &Tls, to: &Endpoint, closed: Receiver<()>) -> Result<(), String> {
    let gone = async {
        let _ = closed.recv().await;
        Err("stopped".to_string())
    };
    let secured = or(connect(tls, to), gone).await?;
    let (mut from_broker, mut to_broker) = smol::io::split(secured);
    let (mut from_client, mut to_client) = (client.clone(), client.clone());

    let mut down = pin!(copy(&mut from_broker, &mut to_client, DOWN_BYTES));
    let up_ended = {
        let mut up = pin!(copy(&mut from_client, &mut to_broker, UP_BYTES));
        match or(async { Err(down.as_mut().await) }, async { Ok(up.as_mut().await) }).await {
            Err(down_ended) => return explain(down_ended, tls, to),
            Ok(up_ended) => up_ended,
        }
    };
    match up_ended {
        // The client has hung up: say goodbye to the broker.
        Ok(()) | Err(End::Source(_)) => {
            let _ = within(LAST_WORDS, to_broker.close()).await;
            Ok(())
        }
        Err(End::Sink(broken)) => match within(LAST_WORDS, down).await {
            Some(Err(End::Source(reason))) => explain(Err(End::Source(reason)), tls, to),
            _ => Err(cause::of_established(&broken, tls, to)),
        },
    }
}

/// Which side of a copy failed.
enum End {
    Source(io::Error),
    Sink(io::Error),
}

fn explain(down: Result<(), End>, tls: &Tls, to: &Endpoint) -> Result<(), String> {
    match down {
        Err(End::Source(reason)) => Err(cause::of_established(&reason, tls, to)),
        Ok(()) | Err(End::Sink(_)) => Ok(()),
    }
}

/// Copies until the source ends. Each read is written and flushed before the next one: TLS would otherwise keep the
/// last bytes in its buffer.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    bytes: usize,
) -> Result<(), End> {
    let mut buffer = vec![0; bytes];
    loop {
        let taken = from.read(&mut buffer).await.map_err(End::Source)?;
        let Some(taken) = buffer.get(..taken).filter(|t| !t.is_empty()) else { return Ok(()) };
        to.write_all(taken).await.map_err(End::Sink)?;
        to.flush().await.map_err(End::Sink)?;
    }
}

async fn connect(tls: &Tls, to: &Endpoint) -> Result<tls::Secured, String> {
    let tcp = match within(DIAL_TIMEOUT, dial(to)).await {
        Some(dialled) => dialled?,
        None => return Err(format!("broker {to}: no answer within {} s", DIAL_TIMEOUT.as_secs())),
    };
    let _ = tcp.set_nodelay(true); // acknowledgements are small and wanted at once
    match within(HANDSHAKE_TIMEOUT, tls.handshake(&to.host, tcp)).await {
        Some(Ok(secured)) => Ok(secured),
        Some(Err(e)) => Err(cause::of_handshake(&e, tls, to)),
        None => {
            Err(format!("broker {to}: TLS handshake: no answer within {} s", HANDSHAKE_TIMEOUT.as_secs()))
        }
    }
}

async fn dial(to: &Endpoint) -> Result<TcpStream, String> {
    let mut addresses = smol::net::resolve((to.host.as_str(), to.port))
        .await
        .map_err(|e| format!("broker {to}: the name cannot be resolved: {e}"))?;
    addresses.truncate(ADDRESSES_MAX);
    let share = DIAL_TIMEOUT / addresses.len().max(1) as u32;
    let mut last = format!("broker {to}: the name has no address");
    for address in addresses {
        match within(share, TcpStream::connect(address)).await {
            Some(Ok(tcp)) => return Ok(tcp),
            Some(Err(e)) => last = cause::of_io(&e, to),
            None => last = format!("broker {to}: no answer within {} s", share.as_secs()),
        }
    }
    Err(last)
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    or(async { Some(work.await) }, async {
        smol::Timer::after(limit).await;
        None
    })
    .await
}
