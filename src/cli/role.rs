//! What every role of the server has in common: threads, telemetry, signals, the admin page.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Ready};
use crate::host::linux::share_heaps;
use crate::metrics::Metrics;
use crate::telemetry;

/// Runs a role to its end, under the name that its traces have.
pub(super) fn run<F>(options: &telemetry::Options, name: &str, role: impl FnOnce() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    share_heaps();
    let runtime = runtime()?;
    let (result, telemetry) = runtime.block_on(async {
        let telemetry = telemetry::start(options, name)?;
        anyhow::Ok((role().await, telemetry))
    })?;
    telemetry.finish();
    // Work that outlasted the limit is on these threads; a crash would not wait for it either.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
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

/// The metrics of this process, and the token that a signal cancels.
pub(super) fn begin(driver: &str, node: &str) -> Result<(Arc<Metrics>, CancellationToken)> {
    let metrics = Metrics::new(driver, node);
    telemetry::count_panics(metrics.panics());
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    Ok((metrics, stop))
}

/// Serves the admin page until `stop`, where there is to be one. A taken address is an error at once.
pub(super) async fn admin_page(
    addr: Option<SocketAddr>,
    metrics: &Arc<Metrics>,
    ready: Arc<dyn Ready>,
    stop: &CancellationToken,
) -> Result<()> {
    if let Some(addr) = addr {
        let listener = admin::bind(addr).await?;
        tokio::spawn(admin::serve(listener, admin::router(metrics.clone(), ready), stop.clone()));
    }
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
