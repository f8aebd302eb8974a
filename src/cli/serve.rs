//! `offshoot serve`: the whole driver in one process on one socket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::{machine, role};
use crate::config::{Config, ServeOptions};
use crate::csi::calls::CallLayer;
use crate::csi::socket::Socket;
use crate::csi::{Edge, server};

/// Serve volumes of this machine over CSI on a unix socket
///
/// Every option can also be given in the environment (as shown), or in the file of --config under the same name
/// without dashes in front, such as `reserve = "5%"`. The command line is stronger than the environment, that than
/// the file, that than the default.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// File of settings in TOML; its keys are the names of the options below
    #[arg(long, env = "OFFSHOOT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: ServeOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<()> {
        let file = self.config.as_deref().map(ServeOptions::read).transpose()?.unwrap_or_default();
        let config = self.options.resolve(file)?;
        role::run(&config.server.telemetry(), "offshoot", || serve(config))
    }
}

async fn serve(config: Config) -> Result<()> {
    let (metrics, stop) = role::begin(&config.server.driver_name, &config.node_id)?;
    // Both before any work, so that a taken address is an error at start.
    let socket = Socket::bind(&config.server.endpoint)?;
    let service = machine::use_cases(&config, metrics.clone(), false)?;
    let edge = Edge::new(service.clone(), &config.server.driver_name);
    role::admin_page(config.server.admin_addr, &metrics, Arc::new(edge.clone()), &stop).await?;
    let mut services = tonic::service::Routes::builder();
    edge.add_to(&mut services);
    let health = server::with_reflection_and_health(&mut services)?;
    server::report_health(&health, false).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.server.endpoint.display(),
        admin = config.server.admin_addr.map(tracing::field::display),
        node = config.node_id,
        driver = config.server.driver_name,
        "serving"
    );

    // Calls are answered (with "starting") while the pools are opened: sidecars give up on a socket that is silent.
    let opening = tokio::spawn(machine::open(service.clone(), config.pools, edge, health, stop.clone()));
    let calls = CallLayer::new(metrics, stop.clone());
    let served = server::serve(
        socket,
        services.routes(),
        calls,
        service.drain(),
        stop,
        config.server.shutdown_timeout,
    )
    .await;
    let opened = opening.await.context("opening the pools did not end")?;
    opened.and(served)?;
    tracing::info!("stopped");
    Ok(())
}
