//! The use cases on a Data Control Tower: what an RPC means where the bytes lie on somebody else's engine.
//!
//! The DCT answers late, forgets answers and is used by other people at the same time. So nothing is kept here that could
//! contradict it: the record of a volume is the tags of its VDB, and that of an operation is its job. Every use case
//! looks before it does anything, finds what an earlier attempt left, and goes on from there; killing the controller at
//! any request and asking again leads to the same end.
//!
//! A use case that changes something runs under the lock of its object and as its own task, so that a caller that hangs
//! up cancels the waiting and not the work. Nothing here knows gRPC, HTTP or Kubernetes.

pub mod api;
pub mod id;
pub mod node;
pub mod param_docs;
pub mod params;

mod asked;
mod clone;
mod create;
mod delete;
mod doctor;
mod health;
mod hosts;
mod import;
mod jobs;
mod lineage;
mod list;
mod look;
mod publish;
mod replace;
mod resolve;
mod snapshot;
mod tags;
mod unpublish;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use crate::backend::delphix::{Dct, Dcts};
use crate::service::locks::{Locks, Mode};
use crate::service::work::carry;
use crate::volume::record::Claim;
use crate::volume::{Error, Kind, Result};

use id::{SnapshotHandle, VolumeHandle};
use tags::Owner;

/// Reads the annotations of a claim. The cluster implements it; it is asked only where that is switched on.
#[async_trait]
pub trait Annotations: Send + Sync + 'static {
    /// The annotations of the claim `claim` in `namespace`.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where they cannot be read now.
    async fn of(&self, namespace: &str, claim: &str) -> Result<BTreeMap<String, String>>;
}

/// Tells the owner of a claim something: that others changed what is his, or that work goes on.
#[async_trait]
pub trait Tell: Send + Sync + 'static {
    /// `reason` is one word in CamelCase, `message` for a person.
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, message: &str);
}

/// What a driver is told at start.
#[derive(Clone)]
pub struct Settings {
    /// How long a call waits for other work on the same object.
    pub lock_wait: Duration,
    /// How long it is believed what a name in a StorageClass stands for.
    pub names_for: Duration,
    /// How long a VDB that a failed job may have left is looked for before the failure is final.
    pub remains_for: Duration,
    /// Where the vendor's annotations are read, if they are switched on.
    pub annotations: Option<Arc<dyn Annotations>>,
    /// Who is told of drift and progress.
    pub tell: Option<Arc<dyn Tell>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lock_wait: Duration::from_secs(10),
            names_for: Duration::from_secs(60),
            remains_for: Duration::from_secs(10),
            annotations: None,
            tell: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("lock_wait", &self.lock_wait).finish_non_exhaustive()
    }
}

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// A caller's name for a volume that is being made.
    VolumeName(String),
    /// A caller's name for a snapshot that is being made.
    SnapshotName(String),
    /// A volume.
    Volume(VolumeHandle),
    /// A snapshot.
    Snapshot(SnapshotHandle),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::VolumeName(name) => write!(f, "a volume named {name:?}"),
            Key::SnapshotName(name) => write!(f, "a snapshot named {name:?}"),
            Key::Volume(id) => write!(f, "volume {id}"),
            Key::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// All use cases of one driver. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

struct Inner {
    owner: Owner,
    dcts: Dcts,
    settings: Settings,
    locks: Locks<Key>,
    hosts: hosts::Hosts,
    names: resolve::Names,
    /// The VDBs of which this process knows that no job of an earlier attempt is running.
    calm: Mutex<HashSet<VolumeHandle>>,
    told: health::Told,
    tracker: TaskTracker,
}

impl Driver {
    /// The driver `name` of the cluster `cluster`: both stand in the tags of all that it makes, and what lacks them is not
    /// touched.
    pub fn new(name: &str, cluster: &str, dcts: Dcts, settings: Settings) -> Driver {
        let locks = Locks::new(settings.lock_wait);
        Driver {
            inner: Arc::new(Inner {
                owner: Owner { driver: name.to_owned(), cluster: cluster.to_owned() },
                dcts,
                locks,
                hosts: hosts::Hosts::default(),
                names: resolve::Names::default(),
                calm: Mutex::default(),
                told: health::Told::default(),
                tracker: TaskTracker::new(),
                settings,
            }),
        }
    }

    /// Waits until all running work has ended. New work is still taken; stop the sockets first.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    /// Takes the lock, then runs `job` to its end whatever becomes of the caller.
    async fn work<T, F>(&self, key: Key, job: impl FnOnce(Arc<Inner>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let held = self.inner.locks.take(vec![(key, Mode::Exclusive)]).await?;
        carry(&self.inner.tracker, held, job(self.inner.clone())).await
    }

    /// The same for work on a volume. After a failure nothing is known of the VDB's jobs any more.
    async fn on_volume<T, F>(&self, id: VolumeHandle, job: impl FnOnce(Arc<Inner>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.work(Key::Volume(id.clone()), |inner| {
            let job = job(inner.clone());
            async move {
                let result = job.await;
                if result.is_err() {
                    inner.calm().remove(&id);
                }
                result
            }
        })
        .await
    }
}

impl Inner {
    /// The connection that an id names.
    fn dct(&self, name: &str) -> Result<&Dct> {
        self.dcts.get(name)
    }

    fn calm(&self) -> std::sync::MutexGuard<'_, HashSet<VolumeHandle>> {
        self.calm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owner of the claim, if there is one and anybody to tell him.
    async fn tell(&self, claim: Option<&Claim>, reason: &str, message: &str) {
        if let (Some(tell), Some(claim)) = (&self.settings.tell, claim) {
            tell.claim(&claim.namespace, &claim.name, reason, message).await;
        }
    }
}

/// The volume of that id, or the error that it does not exist.
fn volume_id(field: &str, id: &str) -> Result<VolumeHandle> {
    crate::volume::names::check_id(field, id)?;
    id.parse().map_err(|()| Error::not_found(format!("volume {id:?}")))
}

/// The snapshot of that id, or the error that it does not exist.
fn snapshot_id(field: &str, id: &str) -> Result<SnapshotHandle> {
    crate::volume::names::check_id(field, id)?;
    id.parse().map_err(|()| Error::not_found(format!("snapshot {id:?}")))
}

/// A record exists, and asking again continues the work.
fn again(error: impl Into<Error>) -> Error {
    error.into().with_kind(Kind::Unavailable)
}
