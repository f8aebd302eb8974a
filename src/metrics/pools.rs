//! Figures about pools, asked for when somebody scrapes.
//!
//! The truth about a pool is on its disk, so nothing is counted along; a scrape asks. Asking costs, and scrapers come
//! in pairs, so an answer is kept for a few seconds; a pool that hangs must not hang the scrape, so asking has a
//! limit, after which the scrape goes on without figures about pools.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::table::{self, Metric};

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(5);

/// How long a scrape waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The figures of one pool; `None` where they could not be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolReading {
    /// Its name in the configuration.
    pub name: String,
    /// Whether new volumes can be made in it.
    pub ready: bool,
    /// Size of its filesystem in bytes.
    pub size: Option<u64>,
    /// What new volumes may take, in bytes.
    pub available: Option<u64>,
    /// Physical bytes in use.
    pub allocated: Option<u64>,
    /// Bytes kept back.
    pub reserved: Option<u64>,
    /// Sum of the sizes of its volumes in bytes.
    pub logical: Option<u64>,
    /// How many volumes it holds.
    pub volumes: Option<u64>,
    /// How many snapshots it holds.
    pub snapshots: Option<u64>,
    /// How many left-overs were found.
    pub orphans: Option<u64>,
    /// How many loop devices go through the page cache.
    pub loops_buffered: Option<u64>,
}

/// The figures of all pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// By name.
    pub pools: Vec<PoolReading>,
}

/// Whoever knows the figures of the pools.
#[async_trait]
pub trait Observe: Send + Sync + 'static {
    /// The figures now.
    async fn observe(&self) -> Reading;
}

/// The last reading and where the next comes from.
#[derive(Default)]
pub(super) struct Pools {
    source: Mutex<Option<Arc<dyn Observe>>>,
    last: Mutex<Option<(Instant, Arc<Reading>)>>,
    /// Held while asking, so that scrapers who come together ask once.
    asking: tokio::sync::Mutex<()>,
}

impl Pools {
    pub(super) fn set_source(&self, source: Arc<dyn Observe>) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// Asks again if the last answer is old.
    pub(super) async fn refresh(&self) {
        self.refresh_within(PATIENCE).await;
    }

    async fn refresh_within(&self, patience: Duration) {
        let _asking = self.asking.lock().await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.is_some_and(|(at, _)| at.elapsed() < FRESH) {
            return;
        }
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(source) = source else { return };
        let reading = tokio::time::timeout(patience, source.observe()).await;
        let reading = reading.map_or_else(
            |_| {
                tracing::warn!(limit = ?patience, "the pools did not answer in time; this scrape has no figures about them");
                None
            },
            |reading| Some((Instant::now(), Arc::new(reading))),
        );
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

/// One gauge per figure, with one sample per pool that has it.
type Figure = fn(&PoolReading) -> Option<u64>;

const FIGURES: [(&Metric, Figure); 10] = [
    (&table::POOL_READY, |p| Some(u64::from(p.ready))),
    (&table::POOL_SIZE, |p| p.size),
    (&table::POOL_AVAILABLE, |p| p.available),
    (&table::POOL_ALLOCATED, |p| p.allocated),
    (&table::POOL_RESERVED, |p| p.reserved),
    (&table::POOL_LOGICAL, |p| p.logical),
    (&table::POOL_VOLUMES, |p| p.volumes),
    (&table::POOL_SNAPSHOTS, |p| p.snapshots),
    (&table::POOL_ORPHANS, |p| p.orphans),
    (&table::POOL_LOOPS_BUFFERED, |p| p.loops_buffered),
];

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((_, reading)) = last else { return Ok(()) };
        for (metric, figure) in FIGURES {
            let unit = (metric.unit == "bytes").then_some(Unit::Bytes);
            let help = format!("{}.", metric.help);
            let mut family =
                encoder.encode_descriptor(metric.name, &help, unit.as_ref(), MetricType::Gauge)?;
            for pool in &reading.pools {
                if let Some(value) = figure(pool) {
                    let labels = [("pool", pool.name.as_str())];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stuck;

    #[async_trait]
    impl Observe for Stuck {
        async fn observe(&self) -> Reading {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_pool_that_hangs_does_not_hang_the_scrape() {
        let pools = Pools::default();
        pools.set_source(Arc::new(Stuck));
        pools.refresh_within(Duration::ZERO).await;
        assert!(pools.last.lock().unwrap().is_none());
    }
}
