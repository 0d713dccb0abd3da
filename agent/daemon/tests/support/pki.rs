//! Certificates as a fleet would have them, written to a folder: one CA, a broker's certificate, a gateway's.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A certificate and its key, as PEM files.
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What one CA has issued.
pub struct Pki {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
    pub server: Identity,
    pub client: Identity,
}

impl Pki {
    /// A broker's certificate for `host`, a client's for [`DEVICE`](super::DEVICE).
    pub fn new(host: &str) -> Pki {
        Pki::until(host, 2090)
    }

    /// The broker's certificate ends with the given year.
    pub fn until(host: &str, year: i32) -> Pki {
        let folder = tempfile::tempdir().expect("folder");
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("CA of {}", folder.path().display()));
        let root = params.self_signed(&key).expect("root");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, root.pem()).expect("write");
        let issuer = Issuer::new(params, key);
        let valid =
            |year| [2020, year].map(|year| date_time_ymd(year, 1, 1).unix_timestamp().cast_unsigned());
        let server = issue(folder.path(), "server", &issuer, host, valid(year));
        let client = issue(folder.path(), "client", &issuer, super::DEVICE, valid(2090));
        Pki { folder, issuer, ca, server, client }
    }

    /// Another certificate for `localhost` in the broker's files, or another of the client in its own: valid from one
    /// moment to another, in Unix seconds.
    pub fn issue_anew(&self, server: bool, from_s: u64, to_s: u64) {
        let (name, host) = if server { ("server", "localhost") } else { ("client", super::DEVICE) };
        issue(self.folder.path(), name, &self.issuer, host, [from_s, to_s]);
    }
}

fn issue(
    folder: &Path,
    name: &str,
    issuer: &Issuer<'_, KeyPair>,
    host: &str,
    valid_from_to_s: [u64; 2],
) -> Identity {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec![host.to_string()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, host);
    let [from, to] = valid_from_to_s.map(|unix_s| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix_s));
    (params.not_before, params.not_after) = (from, to);
    let signed = params.signed_by(&key, issuer).expect("sign");
    let identity =
        Identity { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    std::fs::write(&identity.cert, signed.pem()).expect("write");
    std::fs::write(&identity.key, key.serialize_pem()).expect("write");
    identity
}
