//! How a node gets its certificate and keeps it from ending.
//!
//! The key is made in memory and never leaves it. The controller is known by the authorities that it keeps in a
//! ConfigMap, which is mounted as a file; it knows us by the token of our pod's service account, which the API server
//! vouches for. Kubelet replaces both files under us, so they are read for each attempt. While there is no certificate
//! the node serves kubelet all the same: volumes that are here can be mounted without any controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::proto::agent::EnrolRequest;
use crate::proto::agent::enrolment_client::EnrolmentClient;
use crate::tls::vault::{TRUSTED, union};
use crate::tls::{CONTROLLER, Keys, SigningKey, client_trusting, now};

/// The token's file.
const TOKEN: &str = "token";

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(15);

/// The first and the longest wait after an attempt that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The longest wait while there is no certificate at all: until then this node's volumes cannot be made or copied.
const FIRST: Duration = Duration::from_secs(5);

/// How often the authorities' file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where and with what a node enrols.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// HOST:PORT of the controller. Each address that the host has is tried.
    pub address: String,
    /// The directory with `token` and `ca.crt`.
    pub dir: PathBuf,
    /// What gets the certificate; its role says which node this is.
    pub keys: Arc<Keys>,
}

/// What came of an enrolment.
struct Enrolled {
    key: SigningKey,
    certificate: String,
    authorities: String,
}

impl Enrolment {
    /// Enrols and renews for ever. Never fails: what does not work is tried again, and logged.
    pub async fn run(self) {
        let mut wait = RETRY.0;
        loop {
            let attempt = tokio::time::timeout(LIMIT, self.enrol()).await;
            match attempt.map_err(|_| anyhow::anyhow!("no answer within {LIMIT:?}")).flatten() {
                Ok(enrolled) => {
                    wait = RETRY.0;
                    self.until_renewal(&enrolled).await;
                    // However short a life it was given, it is not asked for in a hurry.
                    tokio::time::sleep(RETRY.0).await;
                }
                Err(error) => {
                    tracing::warn!(
                        controller = self.address,
                        error = format!("{error:#}"),
                        "this node cannot get a certificate; trying again"
                    );
                    // Many nodes start together, and must not all come back together.
                    let share = u32::from(uuid::Uuid::new_v4().as_bytes()[0]) + 128;
                    tokio::time::sleep(wait * share / 256).await;
                    let longest = if self.keys.lifetime().is_some() { RETRY.1 } else { FIRST };
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// One attempt, for tests.
    #[cfg(test)]
    pub(crate) async fn once(&self) -> Result<()> {
        self.enrol().await.map(|_| ())
    }

    /// One attempt: asks for a certificate and puts it in use.
    async fn enrol(&self) -> Result<Enrolled> {
        let trusted =
            read(&self.dir.join(TRUSTED)).context("the controller has not published its authorities")?;
        let token = read(&self.dir.join(TOKEN)).context("there is no token of the service account")?;
        let key = SigningKey::make()?;
        let mut client = EnrolmentClient::new(self.connect(&trusted).await?);
        let request = EnrolRequest { signing_request: key.request()?, token: token.trim().to_owned() };
        let answer = client.enrol(request).await.map_err(|status| {
            anyhow::anyhow!("the controller answers {:?}: {}", status.code(), status.message())
        })?;
        let answer = answer.into_inner();
        let enrolled = Enrolled { key, certificate: answer.certificate, authorities: answer.authorities };
        self.take(&enrolled, &trusted)?;
        let until = self.keys.lifetime().map(|lifetime| lifetime.until.saturating_sub(now()).as_secs());
        tracing::info!(controller = self.address, seconds = until, "this node has a certificate");
        Ok(enrolled)
    }

    /// Uses a certificate, and trusts what the controller said with it and what it publishes now.
    fn take(&self, enrolled: &Enrolled, published: &str) -> Result<()> {
        let authorities = union(&[&enrolled.authorities, published]);
        self.keys.replace(&enrolled.key.bundle(enrolled.certificate.clone(), authorities)).context(
            "the certificate that the controller made cannot be used; is --node-id the name of this node?",
        )
    }

    async fn connect(&self, trusted: &str) -> Result<tonic::transport::Channel> {
        let config = client_trusting(trusted)?;
        let addresses: Vec<_> = tokio::net::lookup_host(&self.address)
            .await
            .with_context(|| format!("{} has no address; see --enrol-service", self.address))?
            .collect();
        let mut failed = None;
        for address in addresses {
            let connector = TlsConnector::from(config.clone());
            let connect = async move {
                let stream = TcpStream::connect(address).await?;
                connector
                    .connect(ServerName::try_from(CONTROLLER).map_err(std::io::Error::other)?, stream)
                    .await
            };
            match tokio::time::timeout(LIMIT / 5, connect).await {
                Ok(Ok(stream)) => {
                    let mut once = Some(TokioIo::new(stream));
                    let connector = tower::service_fn(move |_| {
                        let stream =
                            once.take().ok_or_else(|| std::io::Error::other("the connection is over"));
                        std::future::ready(stream)
                    });
                    let endpoint = Endpoint::from_static("http://controller.offshoot");
                    return endpoint
                        .connect_with_connector(connector)
                        .await
                        .context("cannot speak to the controller");
                }
                Ok(Err(error)) => {
                    failed = Some(anyhow::Error::new(error).context(format!("{address} cannot be reached")))
                }
                Err(_) => failed = Some(anyhow::anyhow!("{address} does not answer")),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => bail!("{} has no address; see --enrol-service", self.address),
        }
    }

    /// Waits until a third of the certificate's life is left, and takes over authorities that are published meanwhile.
    async fn until_renewal(&self, enrolled: &Enrolled) {
        let mut known = None;
        while let Some(lifetime) = self.keys.lifetime() {
            let left = lifetime.until.saturating_sub(now());
            if left <= lifetime.until.saturating_sub(lifetime.from) / 3 {
                return;
            }
            tokio::time::sleep(LOOK.min(left)).await;
            let Ok(published) = read(&self.dir.join(TRUSTED)) else { continue };
            if known.as_ref() != Some(&published) {
                match self.take(enrolled, &published) {
                    Ok(()) => tracing::debug!("the published authorities were read"),
                    Err(error) => {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "the published authorities cannot be used"
                        );
                    }
                }
                known = Some(published);
            }
        }
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
