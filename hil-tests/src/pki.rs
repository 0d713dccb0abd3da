//! Certificates for one bench: a CA, the broker's, and one for each client, as PEM files in a folder.
//!
//! ```text
//! ca.pem                  what everybody trusts
//! broker.pem .key         for 127.0.0.1 and localhost, and for 10.0.2.2, which is this computer for a machine in QEMU
//! NAME.pem   .key         a client's: its common name is NAME, which a broker takes for the user's name
//! ```
//! Keys are P-256, as a TPM or a secure element would hold them, and are thrown away with the folder.

use crate::{Doing, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// This computer's own address, as a machine on QEMU's user network reaches it.
pub const QEMU_HOST: &str = "10.0.2.2";

/// A certificate authority and the folder that it writes to.
pub struct Pki {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
    broker: Identity,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate's common name.
    pub name: String,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PKCS #8 in PEM, mode 0600.
    pub key: PathBuf,
}

impl Pki {
    /// Makes the CA and the broker's certificate in `folder`, which it creates.
    pub fn create(folder: &Path) -> Result<Pki> {
        Pki::create_for(folder, None)
    }

    /// The same, with one more name or address that the broker's certificate is for: how a real board calls this computer.
    pub fn create_for(folder: &Path, name: Option<&str>) -> Result<Pki> {
        fs::create_dir_all(folder).doing(|| folder.display().to_string())?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, key("CA")?).doing(|| "signing the CA's certificate")?;
        write(&folder.join("ca.pem"), &ca.pem(), 0o644)?;

        let names = ["localhost", "127.0.0.1", QEMU_HOST].into_iter().chain(name).map(str::to_owned);
        let names: Vec<String> = names.collect();
        let params = CertificateParams::new(names).doing(|| "the broker's names")?;
        let broker = issue(folder, &ca, "broker", params, ExtendedKeyUsagePurpose::ServerAuth)?;
        Ok(Pki { folder: folder.to_owned(), ca, broker })
    }

    /// The CA's certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The broker's.
    pub fn broker(&self) -> &Identity {
        &self.broker
    }

    /// A client's, made now; the same name again gives a new one in the place of the old.
    pub fn client(&self, name: &str) -> Result<Identity> {
        issue(&self.folder, &self.ca, name, CertificateParams::default(), ExtendedKeyUsagePurpose::ClientAuth)
    }
}

fn issue(
    folder: &Path,
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Identity> {
    let key = key(name)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let signed = params.signed_by(&key, ca).doing(|| format!("signing {name}'s certificate"))?;
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let identity = Identity { name: name.to_owned(), certificate: file("pem"), key: file("key") };
    write(&identity.certificate, &signed.pem(), 0o644)?;
    write(&identity.key, &key.serialize_pem(), 0o600)?;
    Ok(identity)
}

fn key(whose: &str) -> Result<KeyPair> {
    KeyPair::generate().doing(|| format!("making {whose}'s key"))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let _ = fs::remove_file(path); // so that the mode is the one asked for
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).doing(|| path.display().to_string())
}
