//! `offshoot serve`: the whole driver in one process on one socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ServeOptions};
use crate::csi::calls::CallLayer;
use crate::csi::server;
use crate::csi::socket::Socket;
use crate::metrics::Metrics;
use crate::telemetry::{self, Telemetry};

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
        let runtime = runtime()?;
        let (result, telemetry) = runtime.block_on(async {
            let telemetry = start_telemetry(&config)?;
            anyhow::Ok((serve(config).await, telemetry))
        })?;
        telemetry.finish();
        // Work that outlasted the limit is on these threads; a crash would not wait for it either.
        runtime.shutdown_timeout(Duration::from_millis(100));
        result
    }
}

/// Few threads: the calls wait for disks, and each thread costs resident memory.
fn runtime() -> Result<Runtime> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.clamp(2, 4))
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_name("offshoot")
        .enable_all()
        .build()
        .context("cannot start the threads of the server")
}

fn start_telemetry(config: &Config) -> Result<Telemetry> {
    let options = telemetry::Options {
        format: config.log_format,
        level: config.log_level.clone(),
        otlp_endpoint: config.otlp_endpoint.clone(),
    };
    telemetry::start(&options, "offshoot")
}

async fn serve(config: Config) -> Result<()> {
    let metrics = Metrics::new(&config.driver_name, &config.node_id);
    telemetry::count_panics(metrics.panics());
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let socket = Socket::bind(&config.endpoint)?;
    let mut services = tonic::service::Routes::builder();
    let health = server::with_reflection_and_health(&mut services)?;
    server::report_health(&health, false).await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.endpoint.display(),
        node = config.node_id,
        driver = config.driver_name,
        "serving"
    );
    let calls = CallLayer::new(Arc::clone(&metrics), stop.clone());
    server::serve(socket, services.routes(), calls, async {}, stop, config.shutdown_timeout).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The first signal stops in good order, the second at once.
fn stop_on_signal(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!(
                    signal = name,
                    "stopping: calls and their work may finish; a second signal stops at once"
                );
                stop.cancel();
            } else {
                tracing::warn!(
                    signal = name,
                    "stopping at once; the next start finishes or undoes what was running"
                );
                std::process::exit(1);
            }
        }
    });
    Ok(())
}
