//! The way to the API server, for people's commands and for hooks inside the cluster.
//!
//! A person's kubeconfig is found as kubectl finds it: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, and inside a
//! pod the service account. Nothing here is kept longer than one command.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Which cluster, namespace and driver.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The file to read instead of the usual ones.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it, instead of the current one.
    pub context: Option<String>,
    /// The namespace, instead of the context's.
    pub namespace: Option<String>,
    /// The driver's name.
    pub driver: String,
    /// The namespace that the driver runs in; `None` where it is to be found.
    pub driver_namespace: Option<String>,
}

/// An open way to the API server.
#[derive(Clone)]
pub struct Access {
    pub(super) client: Client,
    /// The namespace that names without one are in.
    pub namespace: String,
    /// The driver's name.
    pub driver: String,
    /// The namespace that the driver runs in, where it was said.
    pub(super) driver_namespace: Option<String>,
}

impl Access {
    /// Finds the cluster. Nothing is asked of it yet.
    ///
    /// # Errors
    /// Where no configuration is found or it cannot be used.
    pub async fn open(target: Target) -> Result<Access> {
        let options = KubeConfigOptions { context: target.context, ..KubeConfigOptions::default() };
        let config = match target.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(&file)
                    .with_context(|| format!("cannot read {}; see --kubeconfig", file.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .context("cannot use the kubeconfig")?
            }
            None if options.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("cannot use the kubeconfig")?
            }
            None => Config::infer()
                .await
                .context("no cluster is configured; set KUBECONFIG or give --kubeconfig")?,
        };
        let namespace = target.namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("cannot prepare the connection to the API server")?;
        Ok(Access { client, namespace, driver: target.driver, driver_namespace: target.driver_namespace })
    }

    /// A way over a client that is there already.
    pub fn new(client: Client, driver: &str) -> Access {
        let namespace = client.default_namespace().to_owned();
        Access { client, namespace, driver: driver.to_owned(), driver_namespace: None }
    }

    /// The API server's version, such as `v1.36.1`.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn server_version(&self) -> Result<String> {
        let info = self.client.apiserver_version().await;
        Ok(info.context("the API server does not answer; try `kubectl version`")?.git_version)
    }
}
