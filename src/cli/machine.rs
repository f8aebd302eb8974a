//! What the roles with pools of their own have in common: the use cases over this machine, and opening its pools.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::admin::Ready as _;
use crate::backend::{Backends, Place, PoolSpec};
use crate::config::Config;
use crate::csi::{Edge, server};
use crate::host::Host;
use crate::host::linux::Linux;
use crate::metrics::{Metrics, PoolFigures};
use crate::service::{Service, Settings, SystemClock};
use crate::volume::capacity::Policy;

/// How often the pools are looked at for the health that watchers are told.
const HEALTH_EVERY: Duration = Duration::from_secs(15);

/// How often left-overs are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(300);

/// The use cases over this machine, which shows its pools in `metrics`. `make_pools`: a configured directory that is
/// there and empty becomes a pool.
pub(super) fn use_cases(config: &Config, metrics: Arc<Metrics>, make_pools: bool) -> Result<Service> {
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
        make_pools,
        ..Settings::default()
    };
    let service = Service::new(settings, host, Arc::new(opener), Arc::new(SystemClock), metrics.clone());
    metrics.observe_pools(Arc::new(PoolFigures::new(service.clone())));
    Ok(service)
}

/// Opens the pools, lets calls in, and then keeps telling whether they can succeed.
///
/// Fails, and stops everything, where the pools cannot be opened.
pub(super) async fn open(
    service: Service,
    pools: BTreeMap<String, PathBuf>,
    edge: Edge,
    health: HealthReporter,
    stop: CancellationToken,
) -> Result<()> {
    let pools = pools.into_iter().map(|(name, dir)| PoolSpec {
        name,
        place: Place::Directory(dir),
        parameters: BTreeMap::new(),
    });
    let begun = Instant::now();
    if let Err(error) = service.open_pools(pools.collect()).await {
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
