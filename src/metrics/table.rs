//! Every metric of the driver, for the registry and for the page in `docs/`.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets; its samples end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1; its labels are what it says. Its sample ends in `_info`.
    Info,
}

impl Type {
    /// Its name in the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Info => "info",
        }
    }
}

/// The prefix of every metric.
pub const PREFIX: &str = "offshoot";

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name without [`PREFIX`], unit and the suffix of its type.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// Its unit (`bytes`, `seconds`), which ends its name; empty where it counts things.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence without a full stop.
    pub help: &'static str,
}

impl Metric {
    /// The name of the metric family: prefix, name and unit.
    pub fn family(&self) -> String {
        let mut name = format!("{PREFIX}_{}", self.name);
        if !self.unit.is_empty() {
            name.push('_');
            name.push_str(self.unit);
        }
        name
    }
}

const fn metric(
    name: &'static str,
    kind: Type,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// Calls that have ended.
pub const RPC_CALLS: Metric = metric(
    "rpc_calls",
    Type::Counter,
    "",
    &["rpc", "code"],
    "Calls that have ended, by gRPC code; a caller that hung up counts as CANCELLED",
);
/// How long calls take.
pub const RPC_DURATION: Metric = metric(
    "rpc_duration",
    Type::Histogram,
    "seconds",
    &["rpc"],
    "Time from a call's first byte to the end of its answer",
);
/// Calls that run now.
pub const RPC_IN_FLIGHT: Metric =
    metric("rpc_in_flight", Type::Gauge, "", &["rpc"], "Calls that have not ended");
/// How long filesystems were frozen.
pub const FREEZE_DURATION: Metric = metric(
    "freeze_duration",
    Type::Histogram,
    "seconds",
    &[],
    "Time for which a mounted filesystem was frozen while it was copied",
);
/// Panics.
pub const PANICS: Metric = metric(
    "panics",
    Type::Counter,
    "",
    &[],
    "Panics anywhere in the process; each is a bug and is in the log",
);
/// The ends of certificates.
pub const CERTIFICATE_EXPIRY: Metric = metric(
    "certificate_expiry_timestamp",
    Type::Gauge,
    "seconds",
    &["role"],
    "When the certificate in use ends, in seconds since 1970, by role; `authority` is the first end among those trusted",
);
/// What Kubernetes has forgotten.
pub const ORPHANS: Metric = metric(
    "orphans",
    Type::Gauge,
    "",
    &["kind"],
    "Volumes and snapshots that no PersistentVolume or VolumeSnapshotContent names, when last looked for by the controller",
);
/// What runs.
pub const BUILD: Metric = metric(
    "build",
    Type::Info,
    "",
    &["version", "driver", "node"],
    "What runs, where, under which driver name",
);
/// Whether readings of pools are there.
pub const POOL_READY: Metric =
    metric("pool_ready", Type::Gauge, "", &["pool"], "1 where new volumes can be made in the pool, else 0");
/// Size of the filesystem of a pool.
pub const POOL_SIZE: Metric =
    metric("pool_size", Type::Gauge, "bytes", &["pool"], "Size of the filesystem that the pool lies on");
/// What a new volume may take.
pub const POOL_AVAILABLE: Metric = metric(
    "pool_available",
    Type::Gauge,
    "bytes",
    &["pool"],
    "What new volumes and snapshots may still take, after the reserve",
);
/// What is taken.
pub const POOL_ALLOCATED: Metric = metric(
    "pool_allocated",
    Type::Gauge,
    "bytes",
    &["pool"],
    "Physical bytes in use, shared bytes counted once",
);
/// What is kept back.
pub const POOL_RESERVED: Metric = metric(
    "pool_reserved",
    Type::Gauge,
    "bytes",
    &["pool"],
    "Free bytes that are promised: the reserve floor",
);
/// What users see.
pub const POOL_LOGICAL: Metric = metric(
    "pool_logical",
    Type::Gauge,
    "bytes",
    &["pool"],
    "Sum of the sizes that users of the pool's volumes see",
);
/// Volumes.
pub const POOL_VOLUMES: Metric =
    metric("pool_volumes", Type::Gauge, "", &["pool"], "Volumes in the pool, in every phase");
/// Snapshots.
pub const POOL_SNAPSHOTS: Metric =
    metric("pool_snapshots", Type::Gauge, "", &["pool"], "Snapshots in the pool, in every phase");
/// Left-overs.
pub const POOL_ORPHANS: Metric = metric(
    "pool_orphans",
    Type::Gauge,
    "",
    &["pool"],
    "Left-overs that no record explains; `offshoot orphans` lists them",
);
/// Loop devices that go through the page cache.
pub const POOL_LOOPS_BUFFERED: Metric = metric(
    "pool_loop_devices_buffered",
    Type::Gauge,
    "",
    &["pool"],
    "Attached loop devices without direct I/O, which cost memory twice",
);

/// Agents of a router.
pub const ROUTER_AGENTS: Metric = metric(
    "router_agents",
    Type::Gauge,
    "",
    &["node", "state"],
    "1 for how the agent of a node stands with the router (idle, connected or unreachable), else 0",
);
/// How long agents take.
pub const ROUTER_FORWARD: Metric = metric(
    "router_forward",
    Type::Histogram,
    "seconds",
    &["node"],
    "Time from a call's being passed on to a node's agent to the agent's answer",
);
/// Answers that leave something out.
pub const ROUTER_PARTIAL: Metric = metric(
    "router_partial_answers",
    Type::Counter,
    "",
    &["rpc"],
    "Answers that leave out what is on nodes whose agents could not be reached",
);

/// Requests to a DCT.
pub const DCT_REQUESTS: Metric = metric(
    "dct_requests",
    Type::Counter,
    "",
    &["dct", "op", "outcome"],
    "Requests to a Data Control Tower, repetitions included, by operation and how they ended",
);
/// How long a DCT takes.
pub const DCT_REQUEST_DURATION: Metric = metric(
    "dct_request_duration",
    Type::Histogram,
    "seconds",
    &["dct", "op"],
    "Time from a request's leaving to the end of its answer, the connection included",
);
/// Jobs of a DCT.
pub const DCT_JOBS: Metric = metric(
    "dct_jobs_waited_for",
    Type::Gauge,
    "",
    &["dct"],
    "Jobs of a Data Control Tower that are waited for",
);
/// Looks at jobs and objects.
pub const DCT_POLLS: Metric = metric(
    "dct_polls",
    Type::Counter,
    "",
    &["dct"],
    "Searches for the jobs and objects that are waited for, up to a hundred of them in each",
);

/// Every metric, in the order of the scrape and of the page.
pub const ALL: [&Metric; 25] = [
    &BUILD,
    &RPC_CALLS,
    &RPC_DURATION,
    &RPC_IN_FLIGHT,
    &FREEZE_DURATION,
    &PANICS,
    &CERTIFICATE_EXPIRY,
    &ORPHANS,
    &POOL_READY,
    &POOL_SIZE,
    &POOL_AVAILABLE,
    &POOL_ALLOCATED,
    &POOL_RESERVED,
    &POOL_LOGICAL,
    &POOL_VOLUMES,
    &POOL_SNAPSHOTS,
    &POOL_ORPHANS,
    &POOL_LOOPS_BUFFERED,
    &ROUTER_AGENTS,
    &ROUTER_FORWARD,
    &ROUTER_PARTIAL,
    &DCT_REQUESTS,
    &DCT_REQUEST_DURATION,
    &DCT_JOBS,
    &DCT_POLLS,
];
