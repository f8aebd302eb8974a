//! What a controller has from Kubernetes: its agents, its keys, and who may have a certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::discover::Slices;
use super::enrol::{Enrolment, server};
use super::events::Recorder;
use super::orphans::{Options, OverGrpc, Watch};
use super::secret::{Keeper, Signer};
use crate::metrics::Metrics;
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

    /// The way to the API server, and the namespace of this process.
    pub(super) fn parts(&self) -> (&Client, &str) {
        (&self.client, &self.namespace)
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

    /// Writes events about claims, and about the controller of `driver`. `pod` is the name of this process's pod.
    pub fn recorder(&self, driver: &str, pod: Option<&str>) -> Arc<Recorder> {
        Arc::new(Recorder::new(self.client.clone(), driver, &self.namespace, pod))
    }

    /// Looks for orphans among what is served on `socket`, until `stop`, and tells of them through `recorder`.
    ///
    /// Fails where the socket cannot be named in a URL.
    pub fn watch_orphans(
        &self,
        socket: &Path,
        recorder: Arc<Recorder>,
        options: Options,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let channel = endpoint.context("the socket's path cannot be asked for orphans")?.connect_lazy();
        let objects = Arc::new(OverGrpc(channel));
        let watch = Watch::new(self.client.clone(), objects, options, metrics, Some(recorder));
        tokio::spawn(watch.run(stop));
        Ok(())
    }

    /// The service that signs for nodes whose agents run under `account`.
    pub fn enrolment(&self, account: &str, lasts: Duration, signer: Signer) -> EnrolmentServer<Enrolment> {
        server(Enrolment::new(self.client.clone(), &self.namespace, account, lasts, signer))
    }
}
