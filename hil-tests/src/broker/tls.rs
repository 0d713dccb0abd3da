//! TLS 1.3 on the bench: what the front door shows, and what a client of ours asks for.

use crate::pki::Identity;
use crate::{Doing, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::path::Path;
use std::sync::Arc;

/// A server that takes only clients with a certificate of this CA.
pub fn server(ca: &Path, identity: &Identity) -> Result<Arc<ServerConfig>> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()).build();
    let (chain, key) = load(identity)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .doing(|| "TLS 1.3")?
        .with_client_cert_verifier(verifier.doing(|| "verifier of client certificates")?)
        .with_single_cert(chain, key)
        .doing(|| format!("{}'s certificate", identity.name))?;
    Ok(Arc::new(config))
}

/// A client that takes only servers of this CA, and shows `identity`, where there is one.
pub fn client(ca: &Path, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .doing(|| "TLS 1.3")?
        .with_root_certificates(roots(ca)?);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = load(identity)?;
            config.with_client_auth_cert(chain, key).doing(|| format!("{}'s certificate", identity.name))?
        }
    };
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).doing(|| ca.display().to_string())?;
    roots.add(certificate).doing(|| ca.display().to_string())?;
    Ok(roots)
}

fn load(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let Identity { certificate, key, .. } = identity;
    let chain = CertificateDer::from_pem_file(certificate).doing(|| certificate.display().to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).doing(|| key.display().to_string())?;
    Ok((vec![chain], key))
}
