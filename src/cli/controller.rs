//! `offshoot controller`: the router behind the sidecars' socket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::role;
use crate::agent::listen;
use crate::cluster::controller::Cluster;
use crate::config::{AgentsFrom, ControllerConfig, ControllerOptions, KeysFrom};
use crate::csi::calls::CallLayer;
use crate::csi::rpc::Rpc;
use crate::csi::server;
use crate::csi::socket::Socket;
use crate::router::discovery::Static;
use crate::router::secure::Secure;
use crate::router::{Discovery, Router};
use crate::tls::{Keys, Role, directory};

/// Serve the volumes of many nodes over CSI on a unix socket, by asking the agents of the nodes
///
/// Every option can also be given in the environment (as shown), or in the file of --config under the same name
/// without dashes in front. The command line is stronger than the environment, that than the file, that than the
/// default.
#[derive(Debug, clap::Args)]
pub(super) struct Controller {
    /// File of settings in TOML; its keys are the names of the options below
    #[arg(long, env = "OFFSHOOT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: ControllerOptions,
}

impl Controller {
    pub(super) fn run(self) -> Result<()> {
        let file = self.config.as_deref().map(ControllerOptions::read).transpose()?.unwrap_or_default();
        let config = self.options.resolve(file)?;
        role::run(&config.server.telemetry(), "offshoot-controller", || serve(config))
    }
}

async fn serve(config: ControllerConfig) -> Result<()> {
    let server = config.server;
    let (metrics, stop) = role::begin(&server.driver_name, "")?;
    // Before any work, so that a taken address is an error at start.
    let socket = Socket::bind(&server.endpoint)?;
    let keys = Arc::new(Keys::new(Role::Controller, metrics.clone()));
    let calls = CallLayer::new(metrics.clone(), stop.clone());
    let in_cluster =
        matches!(config.agents, AgentsFrom::Service(_)) || matches!(config.keys, KeysFrom::Secret { .. });
    let cluster = if in_cluster { Some(Cluster::find(config.namespace.clone()).await?) } else { None };
    match (config.keys, &cluster) {
        (KeysFrom::Directory(dir), _) => {
            let loaded = directory::load(&dir, &keys)?;
            let (keys, stop) = (keys.clone(), stop.clone());
            tokio::spawn(async move { directory::watch(&dir, keys, loaded, stop).await });
        }
        (KeysFrom::Secret { secret, config_map, enrol_listen, lasts, account }, cluster) => {
            let cluster = cluster.as_ref().context("the Secret needs Kubernetes")?;
            let listener = listen::bind(enrol_listen, "--enrol-listen").await?;
            let signer = cluster.keep_keys(&secret, &config_map, lasts, keys.clone(), stop.clone());
            let mut services = tonic::service::Routes::builder();
            services.add_service(cluster.enrolment(&account, lasts, signer));
            let (send, connections) = mpsc::channel(16);
            tokio::spawn(listen::accept_strangers(listener, keys.clone(), send, stop.clone()));
            let calls = calls.clone().admitting(|_, rpc| rpc == Some(Rpc::Enrol));
            tokio::spawn(server::on_connections(connections, services.routes(), calls, stop.clone()));
        }
    }
    let source: Arc<dyn Discovery> = match (&config.agents, &cluster) {
        (AgentsFrom::List(agents), _) => Arc::new(Static::new(agents.clone())),
        (AgentsFrom::Service(service), cluster) => {
            let cluster = cluster.as_ref().context("the Service needs Kubernetes")?;
            Arc::new(cluster.agents(service, stop.clone()))
        }
    };
    let mut router = Router::new(source, Arc::new(Secure::new(keys)), &server.driver_name, metrics.clone());
    // Kubernetes gives a pod its own name as that of its host.
    let pod = std::env::var("HOSTNAME").ok();
    let recorder = cluster.as_ref().map(|cluster| cluster.recorder(&server.driver_name, pod.as_deref()));
    if let Some(recorder) = &recorder {
        router = router.telling(recorder.clone());
    }
    role::admin_page(server.admin_addr, &metrics, Arc::new(router.clone()), &stop).await?;
    let mut services = tonic::service::Routes::builder();
    router.add_to(&mut services);
    let health = server::with_reflection_and_health(&mut services)?;
    server::report_health(&health, true).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %server.endpoint.display(),
        admin = server.admin_addr.map(tracing::field::display),
        driver = server.driver_name,
        agents = ?config.agents,
        "serving"
    );
    if let (Some(cluster), Some(recorder)) = (&cluster, recorder) {
        cluster.watch_orphans(&server.endpoint, recorder, config.orphans, metrics.clone(), stop.clone())?;
    }
    server::serve(socket, services.routes(), calls, async {}, stop, server.shutdown_timeout).await?;
    tracing::info!("stopped");
    Ok(())
}
