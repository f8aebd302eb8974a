//! The certificate of the simulator, from a throw-away authority that a client is told to trust.
//!
//! The authority's key is forgotten at once: it signs one certificate. Where a state is kept, the certificate is kept beside it,
//! so that a client still trusts the simulator after a restart.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

/// A certificate with its authority, PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) ca: String,
    cert: String,
    key: String,
}

impl Identity {
    /// A new certificate for these names and addresses.
    pub(crate) fn new(names: &[String]) -> io::Result<Identity> {
        let make = || -> Result<Identity, rcgen::Error> {
            let mut ca = CertificateParams::default();
            ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            ca.distinguished_name.push(DnType::CommonName, "offshoot-dct-sim throw-away authority");
            let ca_key = KeyPair::generate()?;
            let ca_cert = ca.self_signed(&ca_key)?;
            let mut leaf = CertificateParams::new(names)?;
            leaf.distinguished_name.push(DnType::CommonName, "offshoot-dct-sim");
            let key = KeyPair::generate()?;
            let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
            Ok(Identity { ca: ca_cert.pem(), cert: cert.pem(), key: key.serialize_pem() })
        };
        make().map_err(io::Error::other)
    }

    /// The certificate kept at a path, or a new one that is kept there from now on.
    pub(crate) fn kept(path: &Path, names: &[String]) -> io::Result<Identity> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let new = Identity::new(names)?;
                private(path, &serde_json::to_vec(&new)?)?;
                Ok(new)
            }
            Err(e) => Err(e),
        }
    }

    pub(crate) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let certs = CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(certs.map_err(io::Error::other)?, key)
            .map_err(io::Error::other)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)
}
