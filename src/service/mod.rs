//! The use cases: what an RPC means.
//!
//! A use case checks, takes its locks, and then runs as a task of its own, so that a caller that hangs up cancels the
//! waiting and not the work. It writes an intent before the first side effect and a record after the last; a failed
//! step is undone before a final error is given, and where undoing fails the error says "retry" and the intent stays.
//!
//! Nothing here knows gRPC, Kubernetes or which kind of backend it talks to.

pub mod api;

mod asked;
mod catalog;
pub(crate) mod locks;
mod pool;
pub(crate) mod work;

mod create;
mod delete;
mod doctor;
mod freeze;
mod group;
mod group_part;
mod lookup;
mod progress;
mod publish;
mod receive;
mod recover;
mod replace;
mod resize;
mod send;
mod snapshot;
pub mod transfer;

mod lineage;
mod list;
mod orphans;
mod pools;

pub mod node;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::backend::Opener;
use crate::host::Host;
use crate::volume::PoolId;
use crate::volume::record::Millis;

pub use doctor::{host_checks, state_dir_check};
pub use group_part::{Gate, GroupPart};
pub use lookup::Named;
pub use orphans::{Orphan, Reaped};
pub(crate) use pool::blocking;
pub use progress::Watch;
pub use send::{Reader, Sending};

use catalog::Catalog;
use locks::{Key, Locks};
use pool::Pool;

/// The time, so that tests can set it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Millis;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }
}

/// Hears of things that are measured. All methods have an empty body, so that a test needs none.
pub trait Observer: Send + Sync + 'static {
    /// Filesystems were frozen this long for a copy.
    fn froze(&self, _how_long: Duration) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// What a server is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's id, as NodeGetInfo and the topology say it.
    pub node_id: String,
    /// How many volumes the controller publishes to this node at most; zero is no limit.
    pub max_volumes: u32,
    /// How long a filesystem stays frozen at most.
    pub freeze_limit: Duration,
    /// How long a call waits for other work on the same object.
    pub lock_wait: Duration,
    /// How long a copy from another node tries to reach it again before it waits for the next call.
    pub source_patience: Duration,
    /// Where pools that were added by a call are remembered; `None` remembers nothing.
    pub state_dir: Option<PathBuf>,
    /// Whether a configured directory that is there and empty becomes a pool.
    pub make_pools: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            node_id: "localhost".into(),
            max_volumes: 0,
            freeze_limit: Duration::from_secs(10),
            lock_wait: Duration::from_secs(10),
            source_patience: receive::SOURCE_PATIENCE,
            state_dir: None,
            make_pools: false,
        }
    }
}

/// All use cases of one server. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    host: Arc<dyn Host>,
    opener: Arc<dyn Opener>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    pools: RwLock<BTreeMap<PoolId, Arc<Pool>>>,
    catalog: RwLock<Catalog>,
    unopened: RwLock<Vec<pools::Unopened>>,
    uses: node::Uses,
    locks: Locks<Key>,
    progress: progress::Board,
    grants: send::Grants,
    last_asked: receive::LastAsked,
    tracker: TaskTracker,
}

impl Service {
    /// A server with no pools yet; see [`Service::add_pools`].
    pub fn new(
        settings: Settings,
        host: Arc<dyn Host>,
        opener: Arc<dyn Opener>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let locks = Locks::new(settings.lock_wait);
        Service {
            inner: Arc::new(Inner {
                settings,
                host,
                opener,
                clock,
                observer,
                pools: RwLock::default(),
                catalog: RwLock::default(),
                unopened: RwLock::default(),
                uses: node::Uses::default(),
                locks,
                progress: progress::Board::default(),
                grants: send::Grants::default(),
                last_asked: receive::LastAsked::default(),
                tracker: TaskTracker::new(),
            }),
        }
    }

    /// What the server was told at start.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Waits until all running work has ended. New work is still taken; stop the sockets first.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}

impl Inner {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn catalog(&self) -> std::sync::RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog_mut(&self) -> std::sync::RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
