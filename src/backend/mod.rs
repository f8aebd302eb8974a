//! Where bytes live: the trait that every kind of storage implements.
//!
//! A backend knows bytes and how a node reaches them. It does not know names, locks, intents or retries: those are
//! the use cases' (`service/`), which write a record before they call and another after. In return every call here is
//! *repeatable*: called again after a crash in the middle, it ends in the same state. A call that fails with a final
//! kind has removed what it made.

pub mod delphix;
pub mod local;
mod opener;

pub use opener::Backends;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::volume::{FsType, Layout, Mutable, PoolId, Result, Snapshot, Volume};

/// A pool as people and records name it.
#[derive(Debug, Clone)]
pub struct PoolInfo {
    /// Its own id, which stands in the ids of its volumes and moves with it from machine to machine.
    pub id: PoolId,
    /// Its name in the configuration of this machine, by which a StorageClass chooses it.
    pub name: String,
    /// `local`, `delphix`, `ceph`.
    pub backend: &'static str,
    /// Where it lies: a directory, an engine's address.
    pub path: String,
    /// The filesystem or service behind it.
    pub filesystem: String,
    /// Whether its volumes can be reached from this node only.
    pub node_local: bool,
    /// Whether copies share their bytes. Where not, they are made by copying, and every surface says so.
    pub shares_copies: bool,
    /// Whether it can answer which blocks changed.
    pub tracks_changes: bool,
    /// What a person should know about it, such as "copies take full space".
    pub warnings: Vec<String>,
}

/// Bytes of a pool. See `docs/flows/capacity.md` for the formula.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Size of the pool.
    pub size: u64,
    /// What a new volume or snapshot may still take, after the reserve.
    pub available: u64,
    /// Taken by data.
    pub allocated: u64,
    /// Kept back: the reserve floor.
    pub reserved: u64,
}

/// What a copy is made from.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A snapshot.
    Snapshot(&'a Snapshot),
    /// A volume as it is now. The use case has frozen it where it is mounted.
    Volume(&'a Volume),
}

/// Gets (done, total) bytes of a long copy.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// What a node is going to do with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Mount its filesystem; a blank volume is formatted first, unless it is only read.
    Filesystem {
        /// Nothing may be written.
        read_only: bool,
    },
    /// Hand out the raw device.
    Block {
        /// Nothing may be written.
        read_only: bool,
    },
}

/// How a node reaches an attached volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A block device of this machine.
    Device {
        /// Its node.
        path: PathBuf,
        /// Its device number.
        rdev: u64,
        /// The filesystem found on it, if it is to be mounted.
        fs: Option<FsType>,
        /// Options that the mount needs besides those that were asked for (such as `nouuid`).
        options: Vec<(String, Option<String>)>,
        /// Whether the filesystem is smaller than the device and grows only once it is mounted:
        /// [`Backend::grow_mounted`].
        grow: bool,
    },
    /// A directory of this machine, to be bound.
    Directory {
        /// Its path.
        path: PathBuf,
    },
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but not as promised.
    Degraded,
    /// Cannot be reached now.
    Inaccessible,
    /// Bytes are gone.
    DataLoss,
}

/// One thing that is wrong with a volume or a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// One word in CamelCase for machines, such as `PoolReadOnly`.
    pub reason: &'static str,
    /// What a person should know and do.
    pub message: String,
}

/// Bytes that an object takes in its pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks that no other object has.
    pub own: u64,
    /// Blocks that it shares with others.
    pub shared: u64,
}

/// What there is of a volume whose bytes come from another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// An unfinished image, which takes bytes.
    Begun,
    /// All of it, by [`Backend::receive_end`].
    Whole,
}

/// A run of bytes that a snapshot has, or that differs between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: u64,
}

/// Something in a pool that no record explains, or that interrupted work left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// A stable name for it, unique in its pool.
    pub id: String,
    /// What it is: `temporary file`, `image without record`, `damaged record`, `loop device` …
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that it takes.
    pub size: u64,
    /// Why it is thought to be left over.
    pub reason: String,
    /// Whether that is certain. Only then is it ever removed.
    pub proven: bool,
}

/// What the records know, for telling left-overs from what is in use.
pub struct Known<'a> {
    /// All volumes of the pool, in every phase.
    pub volumes: &'a (dyn Fn(crate::volume::VolumeId) -> bool + Sync),
    /// All snapshots of the pool, in every phase.
    pub snapshots: &'a (dyn Fn(crate::volume::SnapshotId) -> bool + Sync),
}

/// A pool as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSpec {
    /// Its name on this machine.
    pub name: String,
    /// Where it lies.
    #[serde(flatten)]
    pub place: Place,
    /// Further settings, by key; each backend says which it knows.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub parameters: std::collections::BTreeMap<String, String>,
}

/// Where a pool lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Place {
    /// A directory on a filesystem of this machine.
    Directory(PathBuf),
    /// An XFS filesystem with reflink, in a file that Offshoot makes, attaches and mounts.
    File {
        /// The file.
        file: PathBuf,
        /// Its size in bytes when it is made.
        size: u64,
    },
}

/// Opens pools. One implementation knows all kinds of backend, so that the use cases know none.
#[async_trait]
pub trait Opener: Send + Sync + 'static {
    /// Opens a pool that is there, attaching what it needs. With `create`, one that is not there is made first;
    /// without, it is an error. Repeatable: a pool that is attached already is only opened.
    async fn open(&self, spec: &PoolSpec, create: bool) -> Result<Arc<dyn Backend>>;

    /// Undoes what opening attached. The data stays.
    async fn close(&self, spec: &PoolSpec) -> Result<()>;
}

/// One pool of storage.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What the pool is. Does not change while it is open.
    fn info(&self) -> &PoolInfo;

    /// The directory that holds the records of its objects.
    fn records(&self) -> &std::path::Path;

    /// The layout for a volume that is to be used so, or why it cannot be had here ([`crate::volume::Kind::Invalid`]).
    /// `fs` is the filesystem if one was asked for by name.
    fn layout(&self, mount: bool, block: bool, fs: Option<FsType>) -> Result<Layout>;

    /// The smallest and largest size in bytes of such a volume.
    fn limits(&self, layout: Layout, fs: FsType, mount: bool) -> (u64, u64);

    /// Bytes of the pool now.
    async fn capacity(&self) -> Result<Capacity>;

    /// What is wrong with the pool now; empty when all is well.
    async fn faults(&self) -> Vec<Fault>;

    /// How many attached devices of the pool's volumes go through the page cache of its filesystem.
    async fn buffered_devices(&self) -> Result<u64>;

    /// Whether a mounted volume must be frozen for a copy, and may be: `Ok(false)` means a copy of a volume in use
    /// needs no freeze, an error says why it cannot be copied while in use.
    async fn needs_freeze(&self, volume: &Volume) -> Result<bool>;

    /// Makes the bytes of a volume: empty, or those of `origin`, grown to the volume's size.
    async fn create(&self, volume: &Volume, origin: Option<Origin<'_>>, progress: Progress) -> Result<()>;

    /// Makes what [`Backend::create`] made durable. Separate, so that a frozen source need not wait for it.
    async fn settle(&self, volume: &Volume, from_copy: bool) -> Result<()>;

    /// Removes the bytes of a volume. [`crate::volume::Kind::Precondition`] if it is in use on this machine.
    async fn delete(&self, volume: &Volume) -> Result<()>;

    /// Takes the bytes of a volume as they are now. The use case has frozen it where it is mounted.
    async fn cut(&self, volume: &Volume, snapshot: &Snapshot, progress: Progress) -> Result<()>;

    /// Makes what [`Backend::cut`] took durable and gives it its final name.
    async fn seal(&self, snapshot: &Snapshot) -> Result<()>;

    /// Removes the bytes of a snapshot, sealed or not.
    async fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<()>;

    /// Replaces the bytes of a detached volume by those of a snapshot in one step, keeping the volume's size.
    async fn replace(&self, volume: &Volume, from: &Snapshot, progress: Progress) -> Result<()>;

    /// Grows the bytes of a volume to `to`. Whether the node has to do something too is its answer.
    async fn grow(&self, volume: &Volume, to: u64) -> Result<bool>;

    /// Applies changed settings to a volume, attached or not.
    async fn modify(&self, volume: &Volume, to: &Mutable) -> Result<()>;

    /// Makes the volume reachable on this machine, or finds that it is. Formats a blank one for [`Use::Filesystem`].
    async fn attach(&self, volume: &Volume, how: Use) -> Result<Attachment>;

    /// How the volume is reachable on this machine now, without changing anything.
    async fn attached(&self, volume: &Volume) -> Result<Vec<Attachment>>;

    /// Every mount of this machine that shows a volume of this pool: its filesystem, its bound device node, its bound
    /// directory. Asked once at start, so that a restart knows what is in use.
    async fn mounted(&self) -> Result<Vec<(crate::volume::VolumeId, crate::host::MountEntry)>>;

    /// Takes the volume off this machine. Fails with [`crate::volume::Kind::Precondition`] while anything holds it.
    async fn detach(&self, volume: &Volume) -> Result<()>;

    /// Makes the filesystem mounted at `target` as large as the volume, where that is possible only while mounted.
    async fn grow_mounted(&self, volume: &Volume, target: &std::path::Path) -> Result<()>;

    /// What is wrong with a volume's bytes now; empty when all is well.
    async fn volume_faults(&self, volume: &Volume) -> Vec<Fault>;

    /// Bytes that a volume takes.
    async fn volume_usage(&self, volume: &Volume) -> Result<Usage>;

    /// Bytes that a snapshot takes.
    async fn snapshot_usage(&self, snapshot: &Snapshot) -> Result<Usage>;

    /// The runs of bytes from `start` on that `target` has and `base` has not, or not the same; without a base, those
    /// that `target` has at all. At most `max` runs, in order, not touching each other; fewer than `max` means the end.
    async fn changed(
        &self,
        base: Option<&Snapshot>,
        target: &Snapshot,
        start: u64,
        max: usize,
    ) -> Result<Vec<Run>>;

    /// Bytes of a snapshot, from `offset` on: fewer than `len` only at its end. [`crate::volume::Kind::Unsupported`] for
    /// one that is no image.
    async fn read(&self, snapshot: &Snapshot, offset: u64, len: usize) -> Result<Vec<u8>>;

    /// Prepares the unfinished image of a volume whose bytes come from another node, or finds it as a crash left it. One
    /// that has `begun` is not made anew: [`Received::Nothing`] says that it is gone.
    async fn receive_begin(&self, volume: &Volume, begun: bool) -> Result<Received>;

    /// Writes received bytes into the unfinished image, never beyond the volume's size.
    async fn receive(&self, volume: &Volume, offset: u64, bytes: Vec<u8>) -> Result<()>;

    /// Makes durable what was received so far.
    async fn receive_flush(&self, volume: &Volume) -> Result<()>;

    /// Makes the unfinished image the volume's whole one. [`Backend::settle`] makes that durable.
    async fn receive_end(&self, volume: &Volume) -> Result<()>;

    /// Everything in the pool that `known` does not explain.
    async fn leftovers(&self, known: Known<'_>) -> Result<Vec<Leftover>>;

    /// Removes a proven left-over, after looking again.
    async fn reap(&self, leftover: &Leftover) -> Result<()>;
}
