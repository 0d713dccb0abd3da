//! Certificates as a fleet would have them, written to a folder: one CA, a broker's certificate, a gateway's.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};

/// A certificate and its key, as PEM files.
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What one CA has issued.
pub struct Pki {
    _folder: tempfile::TempDir,
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
        let server = issue(folder.path(), "server", &issuer, host, year);
        let client = issue(folder.path(), "client", &issuer, super::DEVICE, 2090);
        Pki { _folder: folder, ca, server, client }
    }
}

fn issue(folder: &Path, name: &str, issuer: &Issuer<'_, KeyPair>, host: &str, year: i32) -> Identity {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec![host.to_string()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, host);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let signed = params.signed_by(&key, issuer).expect("sign");
    let identity =
        Identity { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    std::fs::write(&identity.cert, signed.pem()).expect("write");
    std::fs::write(&identity.key, key.serialize_pem()).expect("write");
    identity
}
