//! Where the figures come from: the use cases, as the metrics see them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Metrics, Observe, PoolReading, Reading};
use crate::backend::Severity;
use crate::service::api::PoolStatus;
use crate::service::{Observer, Service};
use crate::volume::PoolId;

/// How long a count of left-overs is good for: it reads every directory of a pool.
const ORPHANS_FRESH: Duration = Duration::from_secs(60);

impl Observer for Metrics {
    fn froze(&self, how_long: Duration) {
        self.freeze(how_long);
    }
}

/// Left-overs per pool, and when they were counted. `None` where they could not be.
type Orphans = Option<(Instant, Option<BTreeMap<PoolId, u64>>)>;

/// Asks the use cases for figures.
pub struct PoolFigures {
    service: Service,
    orphans: Mutex<Orphans>,
}

impl PoolFigures {
    /// Figures of the pools of `service`.
    pub fn new(service: Service) -> Self {
        PoolFigures { service, orphans: Mutex::default() }
    }

    async fn orphans(&self) -> Option<BTreeMap<PoolId, u64>> {
        let mut last = self.orphans.lock().await;
        if let Some((at, counted)) = &*last
            && at.elapsed() < ORPHANS_FRESH
        {
            return counted.clone();
        }
        let counted = match self.service.list_orphans().await {
            Ok(found) => {
                let mut counted = BTreeMap::new();
                for orphan in found {
                    *counted.entry(orphan.pool).or_default() += 1;
                }
                Some(counted)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot count the left-overs; the metric is left out");
                None
            }
        };
        *last = Some((Instant::now(), counted.clone()));
        counted
    }
}

#[async_trait]
impl Observe for PoolFigures {
    async fn observe(&self) -> Reading {
        let orphans = self.orphans().await;
        let of = |pool: &PoolStatus| orphans.as_ref().map(|all| all.get(&pool.info.id).copied().unwrap_or(0));
        let mut pools: Vec<_> =
            self.service.list_pools().await.iter().map(|pool| reading(pool, of(pool))).collect();
        for (name, _) in self.service.unopened_pools() {
            pools.push(PoolReading { name, ..PoolReading::default() });
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Reading { pools }
    }
}

fn reading(pool: &PoolStatus, orphans: Option<u64>) -> PoolReading {
    PoolReading {
        name: pool.info.name.clone(),
        ready: pool.faults.iter().all(|fault| fault.severity < Severity::Inaccessible),
        size: Some(pool.capacity.size),
        available: Some(pool.capacity.available),
        allocated: Some(pool.capacity.allocated),
        reserved: Some(pool.capacity.reserved),
        logical: Some(pool.logical),
        volumes: Some(pool.volumes),
        snapshots: Some(pool.snapshots),
        orphans,
        loops_buffered: pool.buffered,
    }
}
