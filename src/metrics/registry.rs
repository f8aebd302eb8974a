//! The registry, and the counters that the driver itself moves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric as Encoded, Registry, Unit};

use super::dct::DctFigures;
use super::pools::{Observe, Pools};
use super::router::RouterFigures;
use super::table::{self, Metric};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// From a call that only looks something up to one that waits for a slow disk.
pub(super) const RPC_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Around the promises: a freeze under a second, and never over ten.
const FREEZE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

/// All metrics of one server. Cheap to share.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    in_flight: Family<Labels<1>, Gauge>,
    freezes: Histogram,
    panics: Counter<u64, AtomicU64>,
    certificates: Family<Labels<1>, Gauge>,
    orphans: Family<Labels<1>, Gauge>,
    pools: Arc<Pools>,
    router: RouterFigures,
    dct: DctFigures,
}

impl Metrics {
    /// Metrics of a server for `driver` on `node`, all at zero.
    pub fn new(driver: &str, node: &str) -> Arc<Metrics> {
        let mut registry = Registry::with_prefix(table::PREFIX);
        let calls: Family<Labels<2>, Counter> = Family::default();
        let durations: Family<Labels<1>, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(RPC_BUCKETS));
        let in_flight: Family<Labels<1>, Gauge> = Family::default();
        let freezes = Histogram::new(FREEZE_BUCKETS);
        let panics = Counter::default();
        let certificates: Family<Labels<1>, Gauge> = Family::default();
        let orphans: Family<Labels<1>, Gauge> = Family::default();
        let pools = Arc::new(Pools::default());

        let [version, driver_label, node_label] = ["version", "driver", "node"];
        let build = [
            (version, env!("CARGO_PKG_VERSION").to_owned()),
            (driver_label, driver.to_owned()),
            (node_label, node.to_owned()),
        ];
        register(&mut registry, &table::BUILD, Info::new(build));
        register(&mut registry, &table::RPC_CALLS, calls.clone());
        register(&mut registry, &table::RPC_DURATION, durations.clone());
        register(&mut registry, &table::RPC_IN_FLIGHT, in_flight.clone());
        register(&mut registry, &table::FREEZE_DURATION, freezes.clone());
        register(&mut registry, &table::PANICS, panics.clone());
        register(&mut registry, &table::CERTIFICATE_EXPIRY, certificates.clone());
        register(&mut registry, &table::ORPHANS, orphans.clone());
        let router = RouterFigures::default();
        router.register(&mut registry);
        let dct = DctFigures::default();
        dct.register(&mut registry);
        registry.register_collector(Box::new(pools.clone()));
        Arc::new(Metrics {
            registry,
            calls,
            durations,
            in_flight,
            freezes,
            panics,
            certificates,
            orphans,
            pools,
            router,
            dct,
        })
    }

    /// Says who answers for figures about pools.
    pub fn observe_pools(&self, source: Arc<dyn Observe>) {
        self.pools.set_source(source);
    }

    /// A call of `rpc` has begun. It is counted when the guard goes.
    pub fn call(self: &Arc<Self>, rpc: &'static str) -> Call {
        self.in_flight.get_or_create(&[("rpc", rpc)]).inc();
        Call { metrics: self.clone(), rpc, code: "CANCELLED", begun: Instant::now() }
    }

    /// A filesystem was frozen for so long.
    pub fn freeze(&self, lasted: Duration) {
        self.freezes.observe(lasted.as_secs_f64());
    }

    /// The counter of panics, for the panic hook.
    pub fn panics(&self) -> Counter<u64, AtomicU64> {
        self.panics.clone()
    }

    /// The certificate of that role ends at `until`, counted since 1970.
    pub fn certificate_expires(&self, role: &'static str, until: Duration) {
        let seconds = i64::try_from(until.as_secs()).unwrap_or(i64::MAX);
        self.certificates.get_or_create(&[("role", role)]).set(seconds);
    }

    /// The figures of the router.
    pub fn router(&self) -> &RouterFigures {
        &self.router
    }

    /// The figures of the clients of DCTs.
    pub fn dct(&self) -> &DctFigures {
        &self.dct
    }

    /// So many objects of this kind have been forgotten by Kubernetes.
    pub fn orphans(&self, kind: &'static str, count: usize) {
        self.orphans.get_or_create(&[("kind", kind)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Everything in the OpenMetrics text format, with fresh figures about pools.
    pub async fn scrape(&self) -> Result<String, fmt::Error> {
        self.pools.refresh().await;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

pub(super) fn register(registry: &mut Registry, metric: &Metric, value: impl Encoded) {
    match metric.unit {
        "" => registry.register(metric.name, metric.help, value),
        "seconds" => registry.register_with_unit(metric.name, metric.help, Unit::Seconds, value),
        "bytes" => registry.register_with_unit(metric.name, metric.help, Unit::Bytes, value),
        other => registry.register_with_unit(metric.name, metric.help, Unit::Other(other.to_owned()), value),
    }
}

/// A call that is running. Counts it when dropped, however it ends: a caller that hangs up drops it too.
#[derive(Debug)]
pub struct Call {
    metrics: Arc<Metrics>,
    rpc: &'static str,
    code: &'static str,
    begun: Instant,
}

impl Call {
    /// How the call ended. Without this it counts as CANCELLED.
    pub fn ended(&mut self, code: &'static str) {
        self.code = code;
    }

    /// How long it has been running.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let rpc = [("rpc", self.rpc)];
        self.metrics.in_flight.get_or_create(&rpc).dec();
        self.metrics.durations.get_or_create(&rpc).observe(self.elapsed().as_secs_f64());
        self.metrics.calls.get_or_create(&[("rpc", self.rpc), ("code", self.code)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::super::pools::{PoolReading, Reading};
    use super::super::table::Type;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct One(AtomicUsize);

    #[async_trait::async_trait]
    impl Observe for One {
        async fn observe(&self) -> Reading {
            self.0.fetch_add(1, Ordering::SeqCst);
            let reading = PoolReading {
                name: "fa\"st\n".to_owned(),
                ready: true,
                size: Some(1000),
                available: Some(900),
                allocated: Some(50),
                reserved: Some(50),
                logical: Some(5000),
                volumes: Some(3),
                snapshots: Some(2),
                orphans: None,
                loops_buffered: Some(0),
            };
            Reading { pools: vec![reading] }
        }
    }

    async fn full() -> (Arc<Metrics>, Arc<One>, String) {
        let metrics = Metrics::new("csi.offshoot.dev", "n1");
        let source = Arc::new(One(AtomicUsize::new(0)));
        metrics.observe_pools(source.clone());
        metrics.call("csi.v1.Node/NodeGetInfo").ended("OK");
        metrics.freeze(Duration::from_millis(3));
        metrics.certificate_expires("node", Duration::from_secs(1_800_000_000));
        metrics.router().agent("n2", super::super::AgentState::Connected);
        metrics.router().forwarded("n2", Duration::from_millis(3));
        metrics.router().partial("csi.v1.Controller/ListVolumes");
        metrics.orphans("volume", 1);
        metrics.dct().request("prod", "GET /vdbs/{vdbId}", "ok", Duration::from_millis(3));
        metrics.dct().jobs("prod", 2);
        metrics.dct().polled("prod");
        let text = metrics.scrape().await.unwrap();
        (metrics, source, text)
    }

    #[tokio::test]
    async fn a_scrape_has_exactly_the_families_of_the_table() {
        let (_, _, text) = full().await;
        for metric in table::ALL {
            let family = metric.family();
            assert!(
                text.contains(&format!("# TYPE {family} {}\n", metric.kind.as_str())),
                "{family}\n{text}"
            );
            assert!(text.contains(&format!("# HELP {family} {}.\n", metric.help)), "{family}\n{text}");
            if !metric.unit.is_empty() {
                assert!(
                    family.ends_with(metric.unit)
                        && text.contains(&format!("# UNIT {family} {}\n", metric.unit))
                );
            }
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), table::ALL.len());
        assert!(text.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn every_sample_carries_the_labels_of_its_row() {
        let (_, _, text) = full().await;
        for metric in table::ALL {
            let family = metric.family();
            let suffix = match metric.kind {
                Type::Counter => "_total",
                Type::Gauge => "",
                Type::Histogram => "_count",
                Type::Info => "_info",
            };
            let sample = text.lines().find(|line| {
                line.strip_prefix(&format!("{family}{suffix}"))
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            // The one figure that this pool does not have.
            let Some(sample) = sample else {
                assert_eq!(family, "offshoot_pool_orphans");
                continue;
            };
            for label in metric.labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample}");
            }
            assert_eq!(sample.matches("=\"").count(), metric.labels.len(), "{sample}");
        }
    }

    #[tokio::test]
    async fn a_call_counts_once_with_the_code_it_ended_with() {
        let metrics = Metrics::new("d", "n");
        let mut running = metrics.call("a/B");
        drop(metrics.call("a/B"));
        let text = metrics.scrape().await.unwrap();
        assert!(text.contains("offshoot_rpc_in_flight{rpc=\"a/B\"} 1\n"), "{text}");
        assert!(text.contains("offshoot_rpc_calls_total{rpc=\"a/B\",code=\"CANCELLED\"} 1\n"), "{text}");
        running.ended("ABORTED");
        drop(running);
        let text = metrics.scrape().await.unwrap();
        assert!(text.contains("offshoot_rpc_in_flight{rpc=\"a/B\"} 0\n"), "{text}");
        assert!(text.contains("offshoot_rpc_calls_total{rpc=\"a/B\",code=\"ABORTED\"} 1\n"), "{text}");
        assert!(text.contains("offshoot_rpc_duration_seconds_count{rpc=\"a/B\"} 2\n"), "{text}");
    }

    #[tokio::test]
    async fn scrapes_that_come_together_ask_the_pools_once() {
        let (metrics, source, _) = full().await;
        metrics.scrape().await.unwrap();
        assert_eq!(source.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_name_of_a_pool_cannot_break_out_of_its_label() {
        let (_, _, text) = full().await;
        assert!(text.contains("offshoot_pool_volumes{pool=\"fa\\\"st\\n\"} 3\n"), "{text}");
    }
}
