//! What this process proves and trusts now.
//!
//! A certificate is exchanged while connections are open and while new ones are made. So what a handshake needs is
//! built whole, checked, and then put in place of the old in one step: no handshake sees a new key with an old
//! certificate, and a bundle that is wrong in any way leaves the old one in use.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use x509_parser::parse_x509_certificate;

use super::authority::Lifetime;
use super::role::Role;
use crate::metrics::Metrics;

/// Why a certificate, key or request is not taken. Never holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Refused {
    pub(crate) fn new(why: String) -> Refused {
        Refused(why)
    }
}

/// Text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text, for whoever writes or parses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        SecretText(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A certificate with its key, and the authorities that its holder trusts. All PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The certificate, and those between it and its authority.
    pub certificate: String,
    /// The private key.
    pub key: SecretText,
    /// Every authority that is trusted.
    pub authorities: String,
}

impl Bundle {
    /// Whether it can be used by a process of `role`, as [`Keys::replace`] would find.
    pub fn check(&self, role: &Role) -> Result<(), Refused> {
        build(self, role).map(|_| ())
    }
}

/// What a handshake needs.
#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    open: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    lifetime: Lifetime,
}

/// The keys in use. Empty at first, for a process that gets its certificate later.
#[derive(Debug)]
pub struct Keys {
    role: Role,
    metrics: Arc<Metrics>,
    current: RwLock<Option<Arc<Current>>>,
}

impl Keys {
    /// No keys yet, for a process of `role`. The ends of certificates are shown in `metrics`.
    pub fn new(role: Role, metrics: Arc<Metrics>) -> Keys {
        Keys { role, metrics, current: RwLock::new(None) }
    }

    /// Whose keys they are.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Uses `bundle` for every handshake from now on.
    ///
    /// Refuses, and goes on with what was there: a key that is not the certificate's, a certificate for another role,
    /// one that the bundle's own authorities did not sign. One that is not valid at this time is used and warned of:
    /// a wrong clock is put right without a restart.
    pub fn replace(&self, bundle: &Bundle) -> Result<(), Refused> {
        let current = build(bundle, &self.role)?;
        self.metrics.certificate_expires(self.role.kind(), current.lifetime.until);
        let authorities = certificates("the authorities", &bundle.authorities)?;
        let ends = authorities.iter().map(|der| validity(der)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = ends.iter().map(|lifetime| lifetime.until).min() {
            self.metrics.certificate_expires("authority", first);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(current));
        Ok(())
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For one connection to be accepted: wants a certificate of the other side. `None` before the first certificate.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.current().map(|current| current.server.clone())
    }

    /// For one connection to be accepted of somebody who has no certificate yet. `None` before the first certificate.
    pub fn open_server(&self) -> Option<Arc<ServerConfig>> {
        self.current().map(|current| current.open.clone())
    }

    /// For one connection to be made. `None` before the first certificate.
    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        self.current().map(|current| current.client.clone())
    }

    /// How long the certificate in use is valid.
    pub fn lifetime(&self) -> Option<Lifetime> {
        self.current().map(|current| current.lifetime)
    }
}

fn build(bundle: &Bundle, role: &Role) -> Result<Current, Refused> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates("the certificate", &bundle.certificate)?;
    let Some(leaf) = chain.first().cloned() else {
        return Err(Refused::new("the certificate is empty".to_owned()));
    };
    let key = PrivateKeyDer::from_pem_slice(bundle.key.expose().as_bytes())
        .map_err(|_| Refused::new("the key is not a private key in PEM".to_owned()))?;
    let roots = roots(&bundle.authorities)?;
    let found = Role::of_certificate(&leaf)?;
    if found != *role {
        return Err(Refused::new(format!("the certificate is for {found}, and this is {role}")));
    }
    let server_verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| Refused::new(format!("the authorities cannot be used: {error}")))?;
    let name = ServerName::try_from(role.name())
        .map_err(|_| Refused::new(format!("{role} cannot be the name of a server")))?;
    match server_verifier.verify_server_cert(
        &leaf,
        chain.get(1..).unwrap_or_default(),
        &name,
        &[],
        UnixTime::now(),
    ) {
        Ok(_) => {}
        Err(rustls::Error::InvalidCertificate(
            error @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        )) => {
            tracing::warn!(role = %role, %error, "the certificate is not valid now: look at the clock, or give a new one; others refuse it");
        }
        Err(error) => {
            return Err(Refused::new(format!(
                "the certificate is not one that the authorities beside it vouch for: {error}"
            )));
        }
    }
    let lifetime = validity(&leaf)?;
    let identity = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| Refused::new(format!("the key is not that of the certificate: {error}")))?;
    let identity = Arc::new(SingleCertAndKey::from(identity));
    let tls = |error: rustls::Error| Refused::new(format!("TLS cannot be set up: {error}"));

    let client_verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| Refused::new(format!("the authorities cannot be used: {error}")))?;
    let versions = || {
        ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)
    };
    let server = versions()?.with_client_cert_verifier(client_verifier).with_cert_resolver(identity.clone());
    let open = versions()?.with_no_client_auth().with_cert_resolver(identity.clone());
    let [server, open] = [server, open].map(|mut config| {
        // A resumed session is not checked against what is trusted and valid now.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    });

    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_root_certificates(roots)
        .with_client_cert_resolver(identity);
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![b"h2".to_vec()];

    Ok(Current { server, open, client: Arc::new(client), lifetime })
}

/// The certificates in a PEM text.
pub(super) fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Refused> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Refused::new(format!("{what} cannot be read as PEM: {error}")))
}

/// The authorities in a PEM text as what a verifier wants. Refuses a text without any.
fn roots(pem: &str) -> Result<Arc<RootCertStore>, Refused> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("the authorities", pem)? {
        roots
            .add(authority)
            .map_err(|error| Refused::new(format!("an authority cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(Refused::new("there is no authority to trust".to_owned()));
    }
    Ok(Arc::new(roots))
}

/// For a connection to somebody who vouches with one of those authorities (PEM), without a certificate of our own: how
/// a node gets its first one.
pub fn client_trusting(authorities: &str) -> Result<Arc<ClientConfig>, Refused> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Refused::new(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots(authorities)?)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(client))
}

/// How long a certificate (DER) is valid.
pub(super) fn validity(der: &[u8]) -> Result<Lifetime, Refused> {
    let (_, certificate) =
        parse_x509_certificate(der).map_err(|_| Refused::new("the certificate cannot be read".to_owned()))?;
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
    let validity = certificate.validity();
    Ok(Lifetime {
        from: seconds(validity.not_before.timestamp()),
        until: seconds(validity.not_after.timestamp()),
    })
}
