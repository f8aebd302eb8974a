//! The node's side of the Delphix driver: exports mounted, shown to pods, counted, and let go of.
//!
//! A node knows three things about a volume, and the controller tells it each time: the server, the path, the version of
//! NFS. There is no key here and no question to the DCT. The kernel's mount table is the truth about what is mounted; it
//! is read without asking a server, because **a dead server must never stop a node**: every call that could wait for one
//! runs on a thread of its own with a limit (see `slow`), and unmounting ends by force.

mod health;
mod publish;
mod slow;
mod stage;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::host::Host;
use crate::volume::mount_options::NfsPlan;
use crate::volume::{Capability, Error, Kind, Result};
use slow::Slow;

/// How long the node waits for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For a mount, names and all.
    pub mount: Duration,
    /// For an unmount whose server answers.
    pub unmount: Duration,
    /// For programs to close their files on a mount whose server is dead, before it is hidden from them.
    pub force: Duration,
    /// For the figures of a filesystem.
    pub usage: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Limits { mount: secs(60), unmount: secs(30), force: secs(10), usage: secs(5) }
    }
}

/// A volume to be staged.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its id, which is only a name here.
    pub volume: String,
    /// Where.
    pub staging: PathBuf,
    /// How.
    pub capability: Capability,
    /// What the controller said when it published the volume to this node.
    pub context: BTreeMap<String, String>,
}

/// A staged volume to be shown to a pod.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The volume as it was staged.
    pub stage: Stage,
    /// Where the pod sees it.
    pub target: PathBuf,
    /// Whether the pod may not write.
    pub read_only: bool,
}

/// The use cases of one node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<dyn Host>,
    id: String,
    max_volumes: u32,
    limits: Limits,
    slow: Slow,
    /// Volumes with a call under way.
    busy: Mutex<HashSet<String>>,
    /// The options that a staging asked for. The table does not show them as they were asked for; a restart forgets them.
    plans: Mutex<BTreeMap<PathBuf, NfsPlan>>,
}

impl Node {
    /// The node of that id (`NAME@ADDRESS[,ADDRESS]`), which takes `max_volumes` volumes (zero: no limit).
    pub fn new(host: Arc<dyn Host>, id: &str, max_volumes: u32, limits: Limits) -> Node {
        let slow = Slow::new(host.clone());
        let (busy, plans) = (Mutex::default(), Mutex::default());
        Node { inner: Arc::new(Inner { host, id: id.to_owned(), max_volumes, limits, slow, busy, plans }) }
    }

    /// This node's id, and how many volumes it takes (zero: no limit).
    pub fn info(&self) -> (&str, u32) {
        (&self.inner.id, self.inner.max_volumes)
    }

    /// Whether the mount table can be read.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<()> {
        self.inner.table().await.map(drop)
    }
}

/// Keeps other calls about a volume out until it is dropped.
struct Busy {
    inner: Arc<Inner>,
    volume: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.volume);
    }
}

impl Inner {
    /// Takes the volume for one call. [`Kind::Busy`] while another has it.
    fn take(self: &Arc<Self>, volume: &str) -> Result<Busy> {
        let fresh = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.to_owned());
        if fresh {
            return Ok(Busy { inner: self.clone(), volume: volume.to_owned() });
        }
        Err(Error::new(
            Kind::Busy,
            format!("another call about volume {volume} runs on this node: ask again"),
        ))
    }

    /// Runs a call as a task of its own, alone for its volume: a caller that hangs up cancels the waiting only.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        volume: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let busy = self.take(volume)?;
        let done = tokio::spawn(async move {
            let _until_it_ends = busy;
            work.await
        });
        done.await.unwrap_or_else(|_| Err(Error::internal("the call met a bug; the log has the details")))
    }
}
