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

use super::super::config::BrokerConfig;
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use mainstay_core::{fault, fault::Fault};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use smol::net::TcpStream;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2025-01-01: older than this software, so it has certainly passed, whatever the configuration says.
const FLOOR_S_MIN: u64 = 1_735_689_600;
/// Certificates in a file: a chain, or the CAs of a fleet in the middle of a rotation.
const CERTIFICATES_MAX: usize = 16;
/// Tickets kept to resume a session: the bulk connection resumes what the control connection began.
const TICKETS: usize = 8;
/// Each step moves the judged moment to the begin of one more certificate of the chain; webpki takes chains of six.
const STEPS_MAX: usize = 8;

/// A connection that is proven to the broker and to us.
pub type Secured = TlsStream<TcpStream>;

/// What both connections share: CA, client certificate, key, tickets.
pub struct Tls {
    connector: TlsConnector,
    /// Path of the CA file, for texts.
    pub(super) ca: String,
}

impl Tls {
    /// Reads the three files. The fault names the file and what is wrong with it.
    pub fn load(config: &BrokerConfig) -> Result<Arc<Tls>, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca", &config.ca)? {
            let wrong = |e| fault!(Corrupt, "broker ca {}: not usable as a CA: {e}", config.ca.display());
            roots.add(certificate).map_err(wrong)?;
        }
        let chain = certificates("cert", &config.cert)?;
        let key = PrivateKeyDer::from_pem_file(&config.key)
            .map_err(|e| unreadable("key", &config.key, "a private key", e))?;

        let clock = FlooredClock { floor_s: config.time_floor_s.max(FLOOR_S_MIN) };
        let provider = Arc::new(default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| fault!(Corrupt, "broker ca {}: {e}", config.ca.display()))?;
        let mut client = ClientConfig::builder_with_details(provider, Arc::new(clock))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| fault!(Unsupported, "TLS 1.3: {e}"))?
            .dangerous() // rustls's word for "not its own verifier": ours asks its own, see `Verifier`
            .with_custom_certificate_verifier(Arc::new(Verifier { webpki, clock }))
            .with_client_auth_cert(chain, key)
            .map_err(|e| {
                let (cert, key) = (config.cert.display(), config.key.display());
                fault!(Corrupt, "broker cert {cert} and key {key} do not go together: {e}")
            })?;
        client.resumption = Resumption::in_memory_sessions(TICKETS);
        Ok(Arc::new(Tls {
            connector: TlsConnector::from(Arc::new(client)),
            ca: config.ca.display().to_string(),
        }))
    }

    /// TLS over `tcp`; the broker has to prove that it is `host`.
    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> io::Result<Secured> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        self.connector.connect(name, tcp).await
    }
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let unreadable = |e| unreadable(what, path, "certificates", e);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.take(CERTIFICATES_MAX).collect();
    let found = found.map_err(unreadable)?;
    if found.is_empty() {
        return Err(fault!(
            Corrupt,
            "broker {what} {}: expected certificates in PEM, found none",
            path.display()
        ));
    }
    Ok(found)
}

fn unreadable(what: &str, path: &Path, expected: &str, found: rustls::pki_types::pem::Error) -> Fault {
    use rustls::pki_types::pem::Error::*;
    let path = path.display();
    match found {
        Io(e) if e.kind() == io::ErrorKind::NotFound => {
            fault!(NotFound, "broker {what} {path}: no such file")
        }
        Io(e) => fault!(Io, "broker {what} {path}: {e}"),
        NoItemsFound => fault!(Corrupt, "broker {what} {path}: expected {expected} in PEM, found none"),
        e => fault!(Corrupt, "broker {what} {path}: expected {expected} in PEM: {e}"),
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
        let mut config = BrokerConfig {
            ca: path("gone.pem"),
            cert: path("empty.pem"),
            key: path("empty.pem"),
            ..Default::default()
        };
        let text =
            |config: &BrokerConfig| Tls::load(config).err().map(|f| f.what.to_string()).unwrap_or_default();
        assert!(text(&config).contains("gone.pem: no such file"), "{}", text(&config));
        config.ca = path("empty.pem");
        assert!(text(&config).contains("broker ca"), "{}", text(&config));
        assert!(text(&config).contains("found none"), "{}", text(&config));
    }
}
