//! The one Secret with the authorities and the controller's key, and the ConfigMap with what nodes may trust.
//!
//! Several controllers may run, and each may be killed between any two requests. So nothing is remembered: the Secret is
//! read, what is due is decided from it, and it is written with the version that was read; who loses that race reads
//! again and finds it done. The ConfigMap follows the Secret, never the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::tls::vault::{TRUSTED, Vault};
use crate::tls::{Keys, now};

/// How often the Secret is looked at: what another controller did, and what is due.
const EVERY: Duration = Duration::from_secs(60);

/// The wait after an attempt that failed.
const RETRY: Duration = Duration::from_secs(5);

/// How often a lost race is run again.
const RACES: usize = 8;

/// What signs now: of the vault that was read last.
pub type Signer = watch::Receiver<Option<Arc<Vault>>>;

/// Keeps the Secret, the ConfigMap and this process's keys up to date.
pub struct Keeper {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    secret: String,
    map: String,
    lasts: Duration,
    keys: Arc<Keys>,
    signer: watch::Sender<Option<Arc<Vault>>>,
}

impl Keeper {
    /// A keeper of `secret` and the ConfigMap `map` in a namespace, for certificates that last as long as `lasts`.
    pub fn new(
        client: Client,
        namespace: &str,
        secret: &str,
        map: &str,
        lasts: Duration,
        keys: Arc<Keys>,
    ) -> Keeper {
        Keeper {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            secret: secret.to_owned(),
            map: map.to_owned(),
            lasts,
            keys,
            signer: watch::Sender::new(None),
        }
    }

    /// What signs certificates, from the first reading of the Secret on.
    pub fn signer(&self) -> Signer {
        self.signer.subscribe()
    }

    /// Keeps them until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let wait = match stop.run_until_cancelled(self.step()).await {
                None => return,
                Some(Ok(())) => EVERY,
                Some(Err(error)) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the certificates cannot be looked after; trying again"
                    );
                    RETRY
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Reads, does what is due, and puts the result in use here and where nodes find it.
    pub async fn step(&self) -> Result<()> {
        let vault = self.advanced().await?;
        // Before this process trusts or signs by it: an agent that has not heard of it cannot answer anyway.
        self.publish(&vault.trusted()).await?;
        if let Some(bundle) = vault.bundle() {
            self.keys.replace(&bundle)?;
        }
        self.signer.send_replace(Some(Arc::new(vault)));
        Ok(())
    }

    /// The vault with everything done that is due, as the API server has it.
    async fn advanced(&self) -> Result<Vault> {
        for _ in 0..RACES {
            let found = self.secrets.get_opt(&self.secret).await;
            let found = found.with_context(|| format!("cannot read the Secret {}", self.secret))?;
            let read = Vault::read(&found.as_ref().map(parts).unwrap_or_default()).with_context(|| {
                format!(
                    "the Secret {} is damaged; restore it, or delete it to have every certificate made anew",
                    self.secret
                )
            })?;
            let vault = match read {
                None => Vault::make(now(), self.lasts)?,
                Some(mut vault) => {
                    let steps = vault.advance(now(), self.lasts)?;
                    if steps.is_empty() {
                        return Ok(vault);
                    }
                    tracing::info!(?steps, secret = self.secret, "certificates are exchanged");
                    vault
                }
            };
            if self.write(found, &vault).await? {
                return Ok(vault);
            }
        }
        bail!("the Secret {} changes all the time; look for who writes it", self.secret)
    }

    /// Writes the vault over what was read, or anew. `false` where somebody else was first.
    async fn write(&self, found: Option<Secret>, vault: &Vault) -> Result<bool> {
        let data =
            vault.parts().into_iter().map(|(name, text)| (name, ByteString(text.into_bytes()))).collect();
        let params = PostParams::default();
        let written = match found {
            Some(mut secret) => {
                secret.data = Some(data);
                self.secrets.replace(&self.secret, &params, &secret).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.secret.clone()), ..ObjectMeta::default() };
                self.secrets
                    .create(&params, &Secret { metadata, data: Some(data), ..Secret::default() })
                    .await
            }
        };
        won(written.map(|_| ())).with_context(|| format!("cannot write the Secret {}", self.secret))
    }

    /// Makes the ConfigMap say what is trusted.
    async fn publish(&self, trusted: &str) -> Result<()> {
        for _ in 0..RACES {
            let found = self.maps.get_opt(&self.map).await;
            let found = found.with_context(|| format!("cannot read the ConfigMap {}", self.map))?;
            let said = found.as_ref().and_then(|map| map.data.as_ref()).and_then(|data| data.get(TRUSTED));
            if said.is_some_and(|said| said == trusted) {
                return Ok(());
            }
            let params = PostParams::default();
            let entry = (TRUSTED.to_owned(), trusted.to_owned());
            let written = match found {
                Some(mut map) => {
                    map.data.get_or_insert_default().extend([entry]);
                    self.maps.replace(&self.map, &params, &map).await
                }
                None => {
                    let metadata = ObjectMeta { name: Some(self.map.clone()), ..ObjectMeta::default() };
                    let data = Some(BTreeMap::from([entry]));
                    self.maps.create(&params, &ConfigMap { metadata, data, ..ConfigMap::default() }).await
                }
            };
            let written = won(written.map(|_| ()));
            if written.with_context(|| format!("cannot write the ConfigMap {}", self.map))? {
                return Ok(());
            }
        }
        bail!("the ConfigMap {} changes all the time; look for who writes it", self.map)
    }
}

/// The parts that are text; others are as good as missing.
fn parts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(name, bytes)| (name.clone(), String::from_utf8(bytes.0.clone()).unwrap_or_default())).collect()
}

/// Whether a write went through; `false` where another one came first.
fn won(written: Result<(), Error>) -> Result<bool, Error> {
    match written {
        Ok(()) => Ok(true),
        Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
