//! What a controller has from Kubernetes: its agents, its keys, and who may have a certificate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;

use super::discover::Slices;
use super::enrol::{Enrolment, server};
use super::secret::{Keeper, Signer};
use crate::proto::agent::enrolment_server::EnrolmentServer;
use crate::tls::Keys;

/// The cluster that this process runs in, and its namespace there.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// Prepares the way to the API server: that of the pod's service account, else that of a kubeconfig. Nothing is asked yet.
    ///
    /// Fails where neither is there.
    pub async fn find(namespace: Option<String>) -> Result<Cluster> {
        let config = Config::infer()
            .await
            .context("no Kubernetes is configured; run this in a pod, or give --agent and --tls-dir")?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("cannot prepare the connection to the API server")?;
        Ok(Cluster { client, namespace })
    }

    /// The agents behind `service`, from now on.
    pub fn agents(&self, service: &str, stop: CancellationToken) -> Slices {
        Slices::watch(self.client.clone(), &self.namespace, service, stop)
    }

    /// Keeps the Secret, the ConfigMap and `keys`, until `stop`. What comes back signs for nodes.
    pub fn keep_keys(
        &self,
        secret: &str,
        config_map: &str,
        lasts: Duration,
        keys: Arc<Keys>,
        stop: CancellationToken,
    ) -> Signer {
        let keeper = Keeper::new(self.client.clone(), &self.namespace, secret, config_map, lasts, keys);
        let signer = keeper.signer();
        tokio::spawn(keeper.run(stop));
        signer
    }

    /// The service that signs for nodes whose agents run under `account`.
    pub fn enrolment(&self, account: &str, lasts: Duration, signer: Signer) -> EnrolmentServer<Enrolment> {
        server(Enrolment::new(self.client.clone(), &self.namespace, account, lasts, signer))
    }
}
