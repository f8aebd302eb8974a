//! `offshoot node`: the agent of one node in a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::{machine, role};
use crate::agent::enrol::Enrolment;
use crate::agent::registration::{self, Plugin};
use crate::agent::{Peer, listen};
use crate::config::{Identity, NodeConfig, NodeOptions};
use crate::csi::agent::AgentEdge;
use crate::csi::calls::CallLayer;
use crate::csi::socket::Socket;
use crate::csi::{Edge, server};
use crate::proto::agent::agent_server::AgentServer;
use crate::router::secure::Secure;
use crate::tls::{Keys, Role, directory};

/// Serve the volumes of one node in a cluster: to kubelet on a unix socket, to the controller over TCP with TLS
///
/// Every option can also be given in the environment (as shown), or in the file of --config under the same name
/// without dashes in front. The command line is stronger than the environment, that than the file, that than the
/// default.
#[derive(Debug, clap::Args)]
pub(super) struct Node {
    /// File of settings in TOML; its keys are the names of the options below
    #[arg(long, env = "OFFSHOOT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: NodeOptions,
}

impl Node {
    pub(super) fn run(self) -> Result<()> {
        let file = self.config.as_deref().map(NodeOptions::read).transpose()?.unwrap_or_default();
        let config = self.options.resolve(file)?;
        role::run(&config.machine.server.telemetry(), "offshoot-node", || serve(config))
    }
}

async fn serve(config: NodeConfig) -> Result<()> {
    let NodeConfig { machine: config, agent_listen, identity, registration_dir, kubelet_endpoint } = config;
    let (metrics, stop) = role::begin(&config.server.driver_name, &config.node_id)?;
    let keys = Arc::new(Keys::new(Role::node(&config.node_id).context("--node-id")?, metrics.clone()));
    // All before any work, so that a taken address or a wrong certificate is an error at start.
    let socket = Socket::bind(&config.server.endpoint)?;
    let listener = listen::bind(agent_listen, "--agent-listen").await?;
    let service = machine::use_cases(&config, metrics.clone(), true)?;
    let edge = Edge::new(service.clone(), &config.server.driver_name);
    role::admin_page(config.server.admin_addr, &metrics, Arc::new(edge.clone()), &stop).await?;
    match identity {
        Identity::Directory(dir) => {
            let loaded = directory::load(&dir, &keys)?;
            let (keys, stop) = (keys.clone(), stop.clone());
            tokio::spawn(async move { directory::watch(&dir, keys, loaded, stop).await });
        }
        Identity::Enrol { address, dir } => {
            let enrolment = Enrolment { address, dir, keys: keys.clone() };
            let stop = stop.clone();
            tokio::spawn(async move { stop.clone().run_until_cancelled(enrolment.run()).await });
        }
    }

    let mut to_kubelet = tonic::service::Routes::builder();
    edge.add_for_kubelet(&mut to_kubelet);
    let health = server::with_reflection_and_health(&mut to_kubelet)?;
    let mut to_router = tonic::service::Routes::builder();
    edge.add_for_router(&mut to_router);
    let between_us = AgentEdge::new(edge.clone(), Arc::new(Secure::new(keys.clone())));
    to_router.add_service(AgentServer::new(between_us).max_decoding_message_size(server::MAX_REQUEST));
    server::report_health(&health, false).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.server.endpoint.display(),
        agent = %agent_listen,
        admin = config.server.admin_addr.map(tracing::field::display),
        node = config.node_id,
        driver = config.server.driver_name,
        "serving"
    );

    // Calls are answered (with "starting") while the pools are opened; kubelet hears of us when they are, since it asks once.
    let opening =
        tokio::spawn(machine::open(service.clone(), config.pools, edge.clone(), health, stop.clone()));
    let registering = {
        let (edge, metrics, stop) = (edge, metrics.clone(), stop.clone());
        let plugin = registration_dir.map(|directory| Plugin {
            driver: config.server.driver_name.clone(),
            endpoint: kubelet_endpoint,
            directory,
        });
        tokio::spawn(async move {
            let Some(plugin) = plugin else { return Ok(()) };
            if stop.run_until_cancelled(edge.until_started()).await.is_none() {
                return Ok(());
            }
            let registered = registration::run(plugin, metrics, stop.clone()).await;
            if registered.is_err() {
                stop.cancel();
            }
            registered.context("cannot register with kubelet; give its directory with --registration-dir")
        })
    };

    let calls = CallLayer::new(metrics, stop.clone());
    let (send, connections) = mpsc::channel(16);
    let accepting = tokio::spawn(listen::accept(listener, keys, send, stop.clone()));
    let finished = async {
        let local = server::on_socket(socket, to_kubelet.routes(), calls.clone(), stop.clone());
        let remote = server::on_connections(
            connections,
            to_router.routes(),
            calls.clone().admitting(Peer::admit),
            stop.clone(),
        );
        // One that ends alone takes the other with it.
        let served = tokio::try_join!(local, remote).map(|_| ());
        if served.is_err() {
            stop.cancel();
        }
        service.drain().await;
        served
    };
    let served = server::within(config.server.shutdown_timeout, stop.clone(), finished).await;
    accepting.abort();
    let opened = opening.await.context("opening the pools did not end")?;
    let registered = registering.await.context("the registration did not end")?;
    opened.and(registered).and(served)?;
    tracing::info!("stopped");
    Ok(())
}
