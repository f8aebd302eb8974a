//! `offshoot serve`: the whole driver in one process on one socket.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::admin::{self, Ready as _};

use crate::backend::{Backends, Place, PoolSpec};
use crate::config::{Config, ServeOptions};
use crate::csi::calls::CallLayer;
use crate::csi::socket::Socket;
use crate::csi::{Edge, server};
use crate::host::Host;
use crate::host::linux::{Linux, share_heaps};
use crate::metrics::{Metrics, PoolFigures};
use crate::service::{Service, Settings, SystemClock};
use crate::telemetry::{self, Telemetry};
use crate::volume::capacity::Policy;

/// How often the pools are looked at for the health that watchers are told.
const HEALTH_EVERY: Duration = Duration::from_secs(15);

/// How often left-overs are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(300);

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
        share_heaps();
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

    // Both before any work, so that a taken address is an error at start.
    let socket = Socket::bind(&config.endpoint)?;
    let admin = match config.admin_addr {
        Some(addr) => Some(admin::bind(addr).await?),
        None => None,
    };
    let service = use_cases(&config, metrics.clone())?;
    metrics.observe_pools(Arc::new(PoolFigures::new(service.clone())));
    let edge = Edge::new(service.clone(), &config.driver_name);
    let mut services = tonic::service::Routes::builder();
    edge.add_to(&mut services);
    let health = server::with_reflection_and_health(&mut services)?;
    server::report_health(&health, false).await;
    if let Some(listener) = admin {
        let pages = admin::router(metrics.clone(), Arc::new(edge.clone()));
        tokio::spawn(admin::serve(listener, pages, stop.clone()));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.endpoint.display(),
        admin = config.admin_addr.map(tracing::field::display),
        node = config.node_id,
        driver = config.driver_name,
        "serving"
    );

    // Calls are answered (with "starting") while the pools are opened: sidecars give up on a socket that is silent.
    let pools = config.pools.into_iter().map(|(name, dir)| PoolSpec {
        name,
        place: Place::Directory(dir),
        parameters: BTreeMap::new(),
    });
    let opening = tokio::spawn(open(service.clone(), pools.collect(), edge, health, stop.clone()));
    let calls = CallLayer::new(metrics, stop.clone());
    let served =
        server::serve(socket, services.routes(), calls, service.drain(), stop, config.shutdown_timeout).await;
    let opened = opening.await.context("opening the pools did not end")?;
    opened.and(served)?;
    tracing::info!("stopped");
    Ok(())
}

fn use_cases(config: &Config, metrics: Arc<Metrics>) -> Result<Service> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir).with_context(|| {
        format!("cannot make {}; choose another directory with --state-dir", config.state_dir.display())
    })?;
    let host: Arc<dyn Host> = Arc::new(Linux::new());
    let policy = Policy { reserve: config.reserve, ..Policy::default() };
    let opener = Backends::new(host.clone(), &config.state_dir, policy);
    let settings = Settings {
        node_id: config.node_id.clone(),
        max_volumes: config.max_volumes_per_node,
        freeze_limit: config.freeze_limit,
        state_dir: Some(config.state_dir.clone()),
        ..Settings::default()
    };
    Ok(Service::new(settings, host, Arc::new(opener), Arc::new(SystemClock), metrics))
}

/// Opens the pools, lets calls in, and then keeps telling whether they can succeed.
async fn open(
    service: Service,
    pools: Vec<PoolSpec>,
    edge: Edge,
    health: HealthReporter,
    stop: CancellationToken,
) -> Result<()> {
    let begun = Instant::now();
    if let Err(error) = service.open_pools(pools).await {
        stop.cancel();
        return Err(anyhow::Error::new(error).context("cannot start"));
    }
    edge.started();
    tracing::info!(took = ?begun.elapsed(), "pools are open, calls are answered");
    let mut last = None;
    let mut tidied: Option<Instant> = None;
    loop {
        if let Err(error) = service.open_missing_pools().await {
            tracing::warn!(%error, "cannot try again to open the pools that are missing");
        }
        if tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            tidy(&service).await;
            tidied = Some(Instant::now());
        }
        let now = edge.ready().await;
        if last.as_ref() != Some(&now) {
            match &now {
                Ok(()) => tracing::info!("ready"),
                Err(reason) => tracing::warn!(reason, "not ready"),
            }
            server::report_health(&health, now.is_ok()).await;
            last = Some(now);
        }
        tokio::select! {
            () = tokio::time::sleep(HEALTH_EVERY) => {}
            () = stop.cancelled() => {
                server::report_health(&health, false).await;
                return Ok(());
            }
        }
    }
}

/// Finishes what no call came back for, and removes what is proven to be left over.
async fn tidy(service: &Service) {
    let done = async {
        service.recover_again().await?;
        service.reap_orphans(Vec::new(), false).await
    };
    match done.await {
        Ok(reaped) if reaped.reaped.is_empty() => {}
        Ok(reaped) => tracing::info!(count = reaped.reaped.len(), "removed what interrupted work had left"),
        Err(error) => {
            tracing::warn!(%error, "cannot look for what interrupted work has left; tried again later")
        }
    }
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
