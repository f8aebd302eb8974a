//! `offshoot controller`: the router behind the sidecars' socket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::role;
use crate::config::{ControllerConfig, ControllerOptions};
use crate::csi::calls::CallLayer;
use crate::csi::server;
use crate::csi::socket::Socket;
use crate::router::Router;
use crate::router::connect::Plain;
use crate::router::discovery::Static;

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
    let server = &config.server;
    let (metrics, stop) = role::begin(&server.driver_name, "")?;
    // Before any work, so that a taken address is an error at start.
    let socket = Socket::bind(&server.endpoint)?;
    let source = Arc::new(Static::new(config.agents.clone()));
    let router = Router::new(source, Arc::new(Plain), &server.driver_name, metrics.clone());
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
        agents = config.agents.len(),
        "serving"
    );
    let calls = CallLayer::new(metrics, stop.clone());
    server::serve(socket, services.routes(), calls, async {}, stop, server.shutdown_timeout).await?;
    tracing::info!("stopped");
    Ok(())
}
