//! What goes in and out of the use cases. The edge fills these from a request and renders the answers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::{Capacity, Fault, PoolInfo, Usage};
use crate::volume::lineage::Place;
use crate::volume::params::CreateParams;
use crate::volume::size::Range;
use crate::volume::{AccessMode, Capability, FsType, Group, GroupId, ObjectId, Snapshot, SnapshotId, Volume};

pub use crate::volume::topology::Segments;

/// What CreateVolume is to copy, as the request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRef {
    /// A snapshot id.
    Snapshot(String),
    /// A volume id.
    Volume(String),
}

/// A CreateVolume request, checked field by field.
#[derive(Debug, Clone)]
pub struct CreateVolume {
    /// The caller's name for it.
    pub name: String,
    /// The size asked for.
    pub range: Range,
    /// All ways in which it is to be used; at least one.
    pub capabilities: Vec<Capability>,
    /// StorageClass and mutable parameters.
    pub params: CreateParams,
    /// What to copy.
    pub source: Option<SourceRef>,
    /// Where it may lie; empty means anywhere.
    pub requisite: Vec<Segments>,
}

/// A CreateSnapshot request.
#[derive(Debug, Clone)]
pub struct CreateSnapshot {
    /// The caller's name for it.
    pub name: String,
    /// The id of the volume to cut it from.
    pub volume: String,
    /// The claim it is made for.
    pub claim: Option<crate::volume::record::Claim>,
    /// Where it has to be reachable from; empty means anywhere.
    pub requisite: Vec<Segments>,
}

/// A volume with what is known of its use and health.
#[derive(Debug, Clone)]
pub struct VolumeStatus {
    /// The volume.
    pub volume: Arc<Volume>,
    /// The ids of the nodes that have it: published by the controller, or in use on this one.
    pub nodes: Vec<String>,
    /// What is wrong with it; empty when all is well.
    pub faults: Vec<Fault>,
    /// Where it can be reached from; empty means anywhere.
    pub topology: Option<Segments>,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// The token of the next page; empty at the end.
    pub next: String,
}

/// Which snapshots to list.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFilter {
    /// Only those of this volume id; empty means all.
    pub volume: String,
    /// Only this id; empty means all.
    pub snapshot: String,
}

/// A group snapshot with its members.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// Its id.
    pub id: GroupId,
    /// Its members, in the order in which they were asked for.
    pub snapshots: Vec<Arc<Snapshot>>,
    /// The moment they belong to.
    pub created: i64,
}

/// An answer to GetCapacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityAnswer {
    /// What can still be provisioned, in bytes.
    pub available: u64,
    /// The largest volume, in bytes.
    pub maximum: u64,
    /// The smallest volume, in bytes.
    pub minimum: u64,
}

/// What RefreshVolume takes the new bytes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshFrom {
    /// This snapshot of the source.
    Snapshot(String),
    /// The source as it is now.
    SourceNow,
}

/// What a rewind or refresh did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// The snapshot that keeps the bytes from before.
    pub undo: SnapshotId,
    /// The snapshot whose bytes the volume has now; `None` after a refresh from the source as it was at that moment.
    pub from: Option<SnapshotId>,
}

/// One object of the lineage.
#[derive(Debug, Clone)]
pub struct LineageEntry {
    /// Where it stands in the listing.
    pub place: Place,
    /// The object.
    pub object: LineageObject,
    /// What it came from.
    pub parent: Option<ObjectId>,
    /// Bytes that it takes; `None` if that could not be told, or was not asked for, and for a group.
    pub usage: Option<Usage>,
    /// Whether it is in use on a node.
    pub in_use: bool,
}

/// A volume, snapshot or group of the lineage.
#[derive(Debug, Clone)]
pub enum LineageObject {
    /// A volume.
    Volume(Arc<Volume>),
    /// A snapshot.
    Snapshot(Arc<Snapshot>),
    /// A group snapshot.
    Group {
        /// The group.
        group: Arc<Group>,
        /// The sizes of its members together, in bytes.
        size: u64,
    },
}

/// A pool with its numbers.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// What it is.
    pub info: PoolInfo,
    /// Its bytes.
    pub capacity: Capacity,
    /// The sum of the sizes of its volumes, in bytes.
    pub logical: u64,
    /// Its volumes.
    pub volumes: u64,
    /// Its snapshots.
    pub snapshots: u64,
    /// Its attached devices that go through the page cache of the pool; `None` if that could not be told.
    pub buffered: Option<u64>,
    /// What is wrong with it; empty when all is well.
    pub faults: Vec<Fault>,
}

/// What NodeStageVolume and NodePublishVolume share.
#[derive(Debug, Clone)]
pub struct NodeVolume {
    /// The volume id, or the handle that kubelet chose for an inline ephemeral volume.
    pub volume: String,
    /// How it is to be used.
    pub capability: Capability,
    /// The staging path; empty if the request has none.
    pub staging: PathBuf,
}

/// A NodePublishVolume request.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The volume, its use and its staging path.
    pub node: NodeVolume,
    /// Where the workload wants it.
    pub target: PathBuf,
    /// Whether the workload may only read.
    pub read_only: bool,
    /// Set for an inline ephemeral volume, which is made here and now.
    pub inline: Option<Inline>,
}

/// What an inline ephemeral volume is to be.
#[derive(Debug, Clone)]
pub struct Inline {
    /// Its parameters.
    pub params: CreateParams,
    /// Its size in bytes.
    pub size: u64,
}

/// How much of a volume is used. Raw block volumes have a size only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUsed {
    /// A mounted filesystem.
    Filesystem(crate::host::FsUsage),
    /// A raw device of this size in bytes.
    Block(u64),
}

/// One line of what `offshoot doctor` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when nothing is needed.
    pub mend: String,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, with something to know.
    Warn,
    /// Does not work.
    Fail,
}

/// How far a long copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyProgress {
    /// The object that is being made.
    pub id: ObjectId,
    /// What is being done, such as `clone`.
    pub operation: &'static str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// How it ended, once it has.
    pub ended: Option<bool>,
}

/// Whether two access modes allow a second publish on this node.
pub fn allows_second_publish(mode: AccessMode) -> bool {
    mode != AccessMode::SingleNodeSingleWriter
}

/// The filesystem that the capabilities ask for by name, if any does.
pub fn named_fs(capabilities: &[Capability]) -> Option<FsType> {
    capabilities.iter().find_map(|capability| match &capability.access {
        crate::volume::AccessType::Mount { fs, .. } => *fs,
        crate::volume::AccessType::Block => None,
    })
}
