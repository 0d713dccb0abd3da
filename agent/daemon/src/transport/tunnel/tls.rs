//! TLS 1.3 to one broker: pinned CA, our client certificate, and what a gateway without a clock does.
//!
//! # The clock
//! A gateway whose clock battery is dead starts in 1970, where every certificate is "not valid yet", and would never reach
//! the broker that could tell it the time. So the time that certificates are judged by is the later one of the system's
//! clock and the *floor*: a time that has certainly passed (when the firmware was built, or the newest time with
//! durable evidence). While the clock is behind the floor, and so is certainly wrong:
//!
//! * a certificate that ended before the floor is refused: it has expired, whatever the time is;
//! * a certificate that begins after the floor is taken: nothing says that its time has not come. The whole chain
//!   still has to be valid together at one moment at or after the floor;
//! * a certificate that has ended between the floor and now is taken, because now is not known.
//!
//! The last one is the price. It is bearable because the broker is not trusted for what it delivers: everything that an
//! update is made of is signed by others, and proven. With a clock at or after the floor nothing of this applies.

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use mainstay_core::{fault, fault::Fault};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, InconsistentKeys,
    RootCertStore, SignatureScheme,
};
use smol::net::TcpStream;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::{Zeroize, Zeroizing};

/// 2025-01-01: older than this software, so it has certainly passed, whatever the configuration says.
const FLOOR_S_MIN: u64 = 1_735_689_600;
/// Certificates in a file: a chain, or the CAs of a fleet in the middle of a rotation.
const CERTIFICATES_MAX: usize = 16;
/// A file of certificates: sixteen of 8 KiB, with what people write between them.
const CERTIFICATE_FILE_BYTES_MAX: u64 = 128 * 1024;
/// A private key: RSA of 4096 bits takes 3.3 KiB in PEM.
const KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// Tickets kept to resume a session: the bulk connection resumes what the control connection began.
const TICKETS: usize = 8;
/// Each step moves the judged moment to the begin of one more certificate of the chain; webpki takes chains of six.
const STEPS_MAX: usize = 8;

/// A connection that is proven to the broker and to us.
pub type Secured = TlsStream<TcpStream>;

/// What proves a server to us, and us to it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Whose server it is, for texts: `broker`.
    pub whose: &'static str,
    /// PEM file with the certificates that the server's must lead to. No others are trusted.
    pub ca: PathBuf,
    /// PEM files with our client certificate, and what stands between it and the server's CA, and with its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Unix seconds: it is certainly later than this.
    pub time_floor_s: u64,
}

/// What the connections to one server share: CA, client certificate, key, tickets.
pub struct Tls {
    connector: TlsConnector,
    client: Arc<ClientConfig>,
    /// Path of the CA file, for texts.
    pub(super) ca: String,
}

impl Tls {
    /// Reads the files. The fault names the file and what is wrong with it.
    pub fn load(credentials: &Credentials) -> Result<Arc<Tls>, Fault> {
        let Credentials { whose, ca, identity, time_floor_s } = credentials;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(whose, "ca", ca)? {
            let wrong = |e| fault!(Corrupt, "{whose} ca {}: not usable as a CA: {e}", ca.display());
            roots.add(certificate).map_err(wrong)?;
        }
        let identity = identity.as_ref().map(|files| certified(whose, files)).transpose()?;

        let clock = FlooredClock { floor_s: (*time_floor_s).max(FLOOR_S_MIN) };
        let provider = Arc::new(default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| fault!(Corrupt, "{whose} ca {}: {e}", ca.display()))?;
        let client = ClientConfig::builder_with_details(provider, Arc::new(clock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| fault!(Unsupported, "TLS 1.3: {e}"))?
            .dangerous() // rustls's word for "not its own verifier": ours asks its own, see `Verifier`
            .with_custom_certificate_verifier(Arc::new(Verifier { webpki, clock }));
        let mut client = match identity {
            Some(identity) => client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => client.with_no_client_auth(),
        };
        client.resumption = Resumption::in_memory_sessions(TICKETS);
        let client = Arc::new(client);
        let connector = TlsConnector::from(client.clone());
        Ok(Arc::new(Tls { connector, client, ca: ca.display().to_string() }))
    }

    /// A session with `host` that has not begun, for who reads and writes it himself.
    pub(in super::super) fn session(&self, host: &str) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        ClientConnection::new(self.client.clone(), name).map_err(io::Error::other)
    }

    /// TLS over `tcp`; the broker has to prove that it is `host`.
    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> io::Result<Secured> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        self.connector.connect(name, tcp).await
    }
}

/// The mode of a secret's file that more than its owner may read or write; whoever reads a gateway's key is that gateway.
pub fn mode_that_shows(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Our certificate and its key, from their files.
fn certified(whose: &str, (cert, key): &(PathBuf, PathBuf)) -> Result<CertifiedKey, Fault> {
    let chain = certificates(whose, "cert", cert)?;
    if let Some(mode) = mode_that_shows(key) {
        let key = key.display();
        log::warn!(
            "{whose} key {key}: not its owner's alone (mode {mode:04o}): chmod 600, and think of who has read it"
        );
    }
    identity(whose, (cert, key), chain, signer(whose, key)?)
}

/// The private key, ready to sign. The file's bytes and what they decode to are overwritten when this returns; ring keeps
/// the key itself for as long as there are connections, and leaves it in memory when it is dropped.
fn signer(whose: &str, path: &Path) -> Result<Arc<dyn SigningKey>, Fault> {
    let pem = secret_bytes(whose, path)?;
    let mut key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| unreadable(whose, "key", path, "a private key", e))?;
    let signer = any_supported_type(&key);
    key.zeroize();
    signer.map_err(|e| fault!(Corrupt, "{whose} key {}: no key that can be used: {e}", path.display()))
}

/// A secret's file, whole: in memory that is never grown, for a longer copy would leave the shorter one behind.
fn secret_bytes(whose: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let failed = |e| unreadable(whose, "key", path, "a private key", rustls::pki_types::pem::Error::Io(e));
    let mut bytes = Zeroizing::new(vec![0; KEY_FILE_BYTES_MAX + 1]);
    let mut file = File::open(path).map_err(failed)?;
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    if filled > KEY_FILE_BYTES_MAX {
        let path = path.display();
        return Err(fault!(
            Full,
            "{whose} key {path}: expected at most {KEY_FILE_BYTES_MAX} bytes, found more"
        ));
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Certificate and key, once it is known that they are of one pair.
fn identity(
    whose: &str,
    (cert, key): (&Path, &Path),
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, Fault> {
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(e) => {
            let (cert, key) = (cert.display(), key.display());
            Err(fault!(Corrupt, "{whose} cert {cert} and key {key} do not go together: {e}"))
        }
    }
}

fn certificates(whose: &str, what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let unreadable = |e| unreadable(whose, what, path, "certificates", e);
    let length = std::fs::metadata(path).map_err(|e| unreadable(rustls::pki_types::pem::Error::Io(e)))?.len();
    if length > CERTIFICATE_FILE_BYTES_MAX {
        let path = path.display();
        return Err(fault!(
            Full,
            "{whose} {what} {path}: expected at most {CERTIFICATE_FILE_BYTES_MAX} bytes, found {length}"
        ));
    }
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.take(CERTIFICATES_MAX).collect();
    let found = found.map_err(unreadable)?;
    if found.is_empty() {
        return Err(fault!(
            Corrupt,
            "{whose} {what} {}: expected certificates in PEM, found none",
            path.display()
        ));
    }
    Ok(found)
}

fn unreadable(
    whose: &str,
    what: &str,
    path: &Path,
    expected: &str,
    found: rustls::pki_types::pem::Error,
) -> Fault {
    use rustls::pki_types::pem::Error::*;
    let path = path.display();
    match found {
        Io(e) if e.kind() == io::ErrorKind::NotFound => {
            fault!(NotFound, "{whose} {what} {path}: no such file")
        }
        Io(e) => fault!(Io, "{whose} {what} {path}: {e}"),
        NoItemsFound => fault!(Corrupt, "{whose} {what} {path}: expected {expected} in PEM, found none"),
        e => fault!(Corrupt, "{whose} {what} {path}: expected {expected} in PEM: {e}"),
    }
}

/// The later one of the system's clock and the floor.
#[derive(Clone, Copy, Debug)]
struct FlooredClock {
    floor_s: u64,
}

impl FlooredClock {
    fn system_s() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(Self::system_s().max(self.floor_s))))
    }
}

/// rustls's own verifier, asked again at a later moment when the clock is known to be wrong.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    clock: FlooredClock,
}

impl Verifier {
    /// See the head of this file. `clock_is_wrong`: the system's clock stands before the floor.
    fn verify(
        &self,
        chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
        name: &ServerName<'_>,
        ocsp: &[u8],
        mut moment: UnixTime,
        clock_is_wrong: bool,
    ) -> Result<ServerCertVerified, Error> {
        let mut answer = self.webpki.verify_server_cert(chain.0, chain.1, name, ocsp, moment);
        for _ in 0..STEPS_MAX {
            match answer {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before, ..
                })) if clock_is_wrong && not_before > moment => {
                    moment = not_before;
                }
                _ => break,
            }
            answer = self.webpki.verify_server_cert(chain.0, chain.1, name, ocsp, moment);
        }
        answer
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let clock_is_wrong = FlooredClock::system_s() < self.clock.floor_s;
        self.verify((end_entity, intermediates), name, ocsp, now, clock_is_wrong)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    /// A broker's certificate that is valid from the first of January of one year to that of another.
    fn verifier(from: i32, to: i32, floor: i32) -> (Verifier, CertificateDer<'static>) {
        let ca_key = KeyPair::generate().expect("key");
        let mut ca = CertificateParams::new(Vec::new()).expect("params");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.not_before = date_time_ymd(2000, 1, 1);
        ca.not_after = date_time_ymd(2090, 1, 1);
        let root = ca.self_signed(&ca_key).expect("ca");
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new(vec!["broker".into()]).expect("params");
        (leaf.not_before, leaf.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let leaf = leaf.signed_by(&KeyPair::generate().expect("key"), &issuer).expect("leaf");
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).expect("root");
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build()
                .expect("verifier");
        (Verifier { webpki, clock: FlooredClock { floor_s: unix(floor) } }, leaf.der().clone())
    }

    fn unix(year: i32) -> u64 {
        date_time_ymd(year, 1, 1).unix_timestamp().cast_unsigned()
    }

    #[test]
    fn a_wrong_clock_forgives_the_future_but_not_the_past() {
        //   valid from, to, floor, clock, taken
        let cases = [
            (2024, 2040, 2026, 2027, true),  // the ordinary day
            (2030, 2040, 2026, 2027, false), // a good clock knows that 2030 has not come
            (2020, 2026, 2024, 2027, false), // and that 2026 is over
            (2024, 2040, 2026, 1970, true),  // dead clock, valid at the floor
            (2030, 2040, 2026, 1970, true),  // dead clock: who knows
            (2020, 2025, 2026, 1970, false), // dead clock, but it ended before the floor
        ];
        for (from, to, floor, clock, taken) in cases {
            let (verifier, leaf) = verifier(from, to, floor);
            let name = ServerName::try_from("broker").expect("name");
            let judged = UnixTime::since_unix_epoch(Duration::from_secs(unix(clock.max(floor))));
            let answer = verifier.verify((&leaf, &[]), &name, &[], judged, clock < floor);
            assert_eq!(answer.is_ok(), taken, "{from}..{to}, floor {floor}, clock {clock}: {answer:?}");
        }
    }

    #[test]
    fn a_wrong_clock_does_not_forgive_a_wrong_name() {
        let (verifier, leaf) = verifier(2030, 2040, 2026);
        let judged = UnixTime::since_unix_epoch(Duration::from_secs(unix(2026)));
        let name = ServerName::try_from("other").expect("name");
        assert!(verifier.verify((&leaf, &[]), &name, &[], judged, true).is_err());
    }

    #[test]
    fn files_that_do_not_serve_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty.pem"), "nothing here").expect("write");
        let mut config = Credentials {
            whose: "broker",
            ca: path("gone.pem"),
            identity: Some((path("empty.pem"), path("empty.pem"))),
            time_floor_s: 0,
        };
        let text =
            |config: &Credentials| Tls::load(config).err().map(|f| f.what.to_string()).unwrap_or_default();
        assert!(text(&config).contains("gone.pem: no such file"), "{}", text(&config));
        config.ca = path("empty.pem");
        assert!(text(&config).contains("broker ca"), "{}", text(&config));
        assert!(text(&config).contains("found none"), "{}", text(&config));
    }

    /// Each step of the way owns its bytes in a type that overwrites them; that the names of the types say so is all that
    /// can be asserted without reading freed memory.
    #[test]
    fn a_keys_file_is_read_into_memory_that_is_overwritten_and_never_grown() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key.pem");
        let pem = KeyPair::generate().expect("key").serialize_pem();
        std::fs::write(&path, &pem).expect("write");
        let bytes: Zeroizing<Vec<u8>> = secret_bytes("broker", &path).expect("read");
        assert_eq!((bytes.as_slice(), bytes.capacity()), (pem.as_bytes(), KEY_FILE_BYTES_MAX + 1));
        assert!(signer("broker", &path).is_ok());
        std::fs::write(&path, vec![b'x'; KEY_FILE_BYTES_MAX + 1]).expect("write");
        let fault = secret_bytes("broker", &path).expect_err("too long");
        assert!(fault.what.contains("expected at most 16384 bytes, found more"), "{fault}");
    }

    #[test]
    fn a_file_of_certificates_beyond_its_bound_is_not_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, vec![b'x'; CERTIFICATE_FILE_BYTES_MAX as usize + 1]).expect("write");
        let fault = certificates("broker", "ca", &path).expect_err("too long");
        assert!(fault.what.contains("expected at most 131072 bytes, found 131073"), "{fault}");
    }

    #[test]
    fn a_key_that_belongs_to_another_certificate_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key.pem");
        let (ours, other) = (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        let cert =
            CertificateParams::new(vec!["gw".into()]).expect("params").self_signed(&ours).expect("cert");
        for (key, taken) in [(&ours, true), (&other, false)] {
            std::fs::write(&path, key.serialize_pem()).expect("write");
            let signer = signer("broker", &path).expect("a key");
            let found = identity("broker", (&path, &path), vec![cert.der().clone()], signer);
            assert_eq!(found.is_ok(), taken, "{:?}", found.err());
        }
    }
}
