//! TLS 1.3 for a client that has none.
//!
//! rumqttc's own TLS features pin a certificate library with open advisories, so rumqttc speaks plain MQTT into a
//! Unix socket of this process, and a thread carries the bytes on over TLS. One tunnel is one connection:
//!
//! 1. dial and shake hands *first*, so that what is wrong with certificates is said here, in full;
//! 2. then let the client in, through a socket in a folder that only this user can enter;
//! 3. carry bytes both ways until either side ends.
//!
//! With TLS 1.3 a broker that does not like our certificate says so only after the handshake (RFC 8446 §4.4.2.4), so
//! [`Tunnel::cause`] keeps the last words.

use super::{Broker, Endpoint};
use crate::fail;
use crate::fail::{Failure, Result, Within};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore};
use smol::future::{FutureExt, or};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpStream;
use smol::net::unix::UnixListener;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// One TLS connection, and the socket that leads into it.
pub struct Tunnel {
    path: PathBuf,
    last_words: Arc<Mutex<Option<String>>>,
    _folder: TempDir,
}

impl Tunnel {
    /// Dials, shakes hands, and waits for the client in the background.
    pub fn dial(broker: &Broker) -> Result<Self> {
        let config = config(broker)?;
        let endpoint = &broker.endpoint;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| fail!("{endpoint}: its host is no name that a certificate can have"))?;
        let stream = smol::block_on(or(connect(config, name, endpoint), async {
            smol::Timer::after(CONNECT_TIMEOUT).await;
            Err(fail!("{endpoint}: no answer within {} s", CONNECT_TIMEOUT.as_secs())
                .todo("look whether the broker is up, and whether a firewall stands between"))
        }))?;

        let folder = tempfile::Builder::new().prefix("mainstayctl-").tempdir().within(|| "TLS tunnel")?;
        let path = folder.path().join("mqtt");
        let listener = std::os::unix::net::UnixListener::bind(&path).within(|| "TLS tunnel")?;
        let last_words = Arc::new(Mutex::new(None));
        let words = last_words.clone();
        let say =
            move |e: &io::Error| *words.lock().unwrap_or_else(PoisonError::into_inner) = Some(explain(e));
        let carry = move || smol::block_on(carry(listener, stream, say));
        thread::Builder::new().name("tls".into()).spawn(carry).within(|| "TLS tunnel")?;
        Ok(Tunnel { path, last_words, _folder: folder })
    }

    /// What the client connects to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the connection ended, where TLS knows.
    pub fn cause(&self) -> Option<String> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn connect(
    config: ClientConfig,
    name: ServerName<'static>,
    endpoint: &Endpoint,
) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(|e| {
        Failure::new(format!("{endpoint}: {e}"))
            .todo("look whether the broker is up and listens on this port")
    })?;
    let _ = tcp.set_nodelay(true); // acknowledgements are small, and wanted at once
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    stream.map_err(|e| fail!("{endpoint}: TLS handshake: {}", explain(&e)))
}

fn config(broker: &Broker) -> Result<ClientConfig> {
    let ca = broker.ca.as_ref().ok_or_else(|| {
        fail!("{}: a certificate authority is needed, and none was named", broker.endpoint)
            .todo("add --ca CA.pem: no other authority is believed, not even the system's")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| fail!("{}: not usable as an authority: {e}", ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| fail!("TLS 1.3: {e}"))?
        .with_root_certificates(roots);
    match &broker.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let secret = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| fail!("{}: no secret key in PEM: {e}", key.display()))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|e| fail!("{} and {} do not go together: {e}", cert.display(), key.display()))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |e| fail!("{}: no certificates in PEM: {e}", path.display());
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    match found.map_err(wrong)? {
        found if found.is_empty() => {
            Err(fail!("{}: expected certificates in PEM, found none", path.display()))
        }
        found => Ok(found),
    }
}

/// Both ways, until either side ends. When the client ends, TLS is closed properly, so that the broker knows that
/// nothing was cut off; when sending fails, what the broker has said last is read for the reason. That reason is
/// said *before* the client's socket is closed: the client asks for it as soon as it sees that.
async fn carry(
    listener: std::os::unix::net::UnixListener,
    stream: TlsStream<TcpStream>,
    say: impl Fn(&io::Error),
) {
    let accepted = async { UnixListener::from(smol::Async::new(listener)?).accept().await };
    let (client, _) = match accepted.await {
        Ok(accepted) => accepted,
        Err(e) => return say(&e),
    };
    let (from_broker, mut to_broker) = smol::io::split(stream);
    let mut down = pin!(copy(from_broker, client.clone()).boxed());
    let up = pin!(async {
        let sent = copy(client.clone(), &mut to_broker).await;
        let _ = to_broker.close().await; // the other side may be gone
        sent
    });
    let first = or(async { (true, down.as_mut().await) }, async { (false, up.await) }).await;
    let ended = match first {
        (true, ended) => ended,
        (false, Ok(())) => Ok(()),
        (false, Err(broken)) => {
            let words = or(down, async {
                smol::Timer::after(LAST_WORDS).await;
                Ok(())
            });
            words.await.and(Err(broken))
        }
    };
    if let Err(e) = &ended {
        say(e);
    }
    // `client` lives to here.
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let taken = from.read(&mut buffer).await?;
        let Some(taken) = buffer.get(..taken).filter(|t| !t.is_empty()) else { return Ok(()) };
        to.write_all(taken).await?;
        to.flush().await?; // TLS would keep the last bytes in its buffer
    }
}

/// What TLS says, for an operator.
fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(alert)) => {
            let why = match alert {
                AlertDescription::CertificateRequired => {
                    "it wants a client certificate: add --cert and --key"
                }
                AlertDescription::UnknownCA => "it does not know who signed our certificate: look at --cert",
                AlertDescription::CertificateExpired => "our certificate has expired: look at --cert",
                AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
                _ => "the broker ended the connection",
            };
            format!("the broker says {alert:?}: {why}")
        }
        Some(Error::InvalidCertificate(why)) => format!("the broker's certificate is refused: {why}"),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a broken connection is listened to for the alert that says why.
const LAST_WORDS: Duration = Duration::from_secs(1);
const BUFFER_BYTES: usize = 64 * 1024;
