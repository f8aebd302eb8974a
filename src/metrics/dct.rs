//! What the client of a Data Control Tower counts: its requests, and what it waits for.
//!
//! Labels are the name of the DCT in the settings, and operations as the interface names them, with `{vdbId}` where an id is:
//! no id ever becomes a label.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::registry::{RPC_BUCKETS, register};
use super::table;

type Dct = [(&'static str, String); 1];
type Request = [(&'static str, String); 2];
type Outcome = [(&'static str, String); 3];

/// The figures of all DCTs of a controller. Cheap to share.
#[derive(Debug, Clone)]
pub struct DctFigures {
    requests: Family<Outcome, Counter>,
    durations: Family<Request, Histogram, fn() -> Histogram>,
    jobs: Family<Dct, Gauge>,
    polls: Family<Dct, Counter>,
}

impl Default for DctFigures {
    fn default() -> Self {
        DctFigures {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(RPC_BUCKETS)),
            jobs: Family::default(),
            polls: Family::default(),
        }
    }
}

impl DctFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, &table::DCT_REQUESTS, self.requests.clone());
        register(registry, &table::DCT_REQUEST_DURATION, self.durations.clone());
        register(registry, &table::DCT_JOBS, self.jobs.clone());
        register(registry, &table::DCT_POLLS, self.polls.clone());
    }

    /// A request of `op` to `dct` ended with `outcome` after so long.
    pub fn request(&self, dct: &str, op: &'static str, outcome: &'static str, took: Duration) {
        let (of, op) = (("dct", dct.to_owned()), ("op", op.to_owned()));
        self.durations.get_or_create(&[of.clone(), op.clone()]).observe(took.as_secs_f64());
        self.requests.get_or_create(&[of, op, ("outcome", outcome.to_owned())]).inc();
    }

    /// So many jobs of `dct` are waited for.
    pub fn jobs(&self, dct: &str, waited_for: usize) {
        let jobs = i64::try_from(waited_for).unwrap_or(i64::MAX);
        self.jobs.get_or_create(&[("dct", dct.to_owned())]).set(jobs);
    }

    /// `dct` was asked how jobs and objects stand that are waited for.
    pub fn polled(&self, dct: &str) {
        self.polls.get_or_create(&[("dct", dct.to_owned())]).inc();
    }
}
