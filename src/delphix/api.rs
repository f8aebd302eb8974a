//! What goes in and out of the use cases on a DCT. The edge fills these from a request and renders the answers.

use std::collections::BTreeMap;

use super::id::{SnapshotHandle, VolumeHandle};
use super::params::{NfsVersion, Params};
use crate::backend::Fault;
use crate::volume::Capability;
use crate::volume::record::Claim;
use crate::volume::size::Range;

pub use crate::service::api::{Check, CheckStatus, Page, SnapshotFilter, SourceRef};

/// A CreateVolume request, checked field by field. The claim it is for is among the parameters.
#[derive(Debug, Clone)]
pub struct CreateVolume {
    /// The caller's name for it.
    pub name: String,
    /// The size asked for. It is noted and reported; an engine knows no size for a volume.
    pub range: Range,
    /// All ways in which it is to be used; at least one.
    pub capabilities: Vec<Capability>,
    /// StorageClass parameters.
    pub params: Params,
    /// What to copy; `None` copies what the parameters name.
    pub source: Option<SourceRef>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its id.
    pub id: VolumeHandle,
    /// The caller's name for it; the VDB's for one that was adopted.
    pub name: String,
    /// The size that was asked for, in bytes.
    pub size: u64,
    /// What the node and later calls are told of it. Never holds the export path, which changes.
    pub context: BTreeMap<String, String>,
    /// What it was copied from, if that is one of our volumes or snapshots.
    pub source: Option<SourceRef>,
    /// The claim it was made for.
    pub claim: Option<Claim>,
}

/// A volume with what is known of its use and health.
#[derive(Debug, Clone)]
pub struct VolumeStatus {
    /// The volume.
    pub volume: VolumeInfo,
    /// The ids of the nodes that have it published.
    pub nodes: Vec<String>,
    /// What is wrong with it; empty when all is well.
    pub faults: Vec<Fault>,
}

/// All that a node is told about how to reach a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishContext {
    /// Name or address of the engine's data interface.
    pub server: String,
    /// The exported path, absolute, as it is now.
    pub path: String,
    /// The protocol version; `None` leaves it to the node.
    pub nfs_version: Option<NfsVersion>,
}

impl PublishContext {
    /// The keys that a node reads.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::from([
            ("server".to_owned(), self.server.clone()),
            ("path".to_owned(), self.path.clone()),
        ]);
        if let Some(version) = self.nfs_version {
            map.insert("nfsVersion".to_owned(), version.as_str().to_owned());
        }
        map
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotHandle,
    /// The caller's name for it.
    pub name: String,
    /// The volume it was taken of.
    pub source: VolumeHandle,
    /// The size of a volume restored from it, in bytes.
    pub size: u64,
    /// The moment it belongs to, in milliseconds since the Unix epoch.
    pub created: i64,
    /// Whether it can be used.
    pub ready: bool,
    /// Whether it keeps what a rewind or refresh replaced.
    pub undo: bool,
}

/// What RefreshVolume takes the new bytes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshFrom {
    /// A snapshot of ours, `DCT:BOOKMARK`.
    Snapshot(String),
    /// A snapshot of the source, by the DCT's id.
    EngineSnapshot(String),
    /// The source at this time, RFC 3339.
    Timestamp(String),
    /// A bookmark of the DCT, by id.
    Bookmark(String),
    /// The newest snapshot of the source.
    Latest,
}

/// Where RewindVolume goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewindTo {
    /// A snapshot of ours, `DCT:BOOKMARK`.
    Snapshot(String),
    /// The volume at this time, RFC 3339.
    Timestamp(String),
}

/// What a rewind or refresh did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The snapshot that keeps the bytes from before.
    pub undo: SnapshotHandle,
    /// The snapshot of ours whose bytes the volume has now, if it was one.
    pub from: Option<SnapshotHandle>,
}

/// An engine with its numbers: what a pool is for a person who looks.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// The name of the connection.
    pub dct: String,
    /// Its id there.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The server that nodes mount from.
    pub server: String,
    /// Bytes it has for data; zero if it does not say.
    pub total: u64,
    /// Bytes of them in use.
    pub used: u64,
    /// Our volumes on it.
    pub volumes: u64,
    /// Our snapshots on it.
    pub snapshots: u64,
    /// What is wrong with it; empty when all is well.
    pub faults: Vec<Fault>,
}

/// One object of the lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageEntry {
    /// What it is.
    pub object: LineageObject,
    /// The id of what it came from: one of ours, or a dSource or VDB as `DCT:ID`; `None` for one that started empty.
    pub parent: Option<String>,
    /// The name of that, where it is not one of ours.
    pub parent_name: Option<String>,
    /// Bytes that it takes on the engine, if that is known.
    pub used: Option<u64>,
    /// Whether a node has it.
    pub in_use: bool,
}

/// A volume or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineageObject {
    /// A volume.
    Volume(VolumeInfo),
    /// A snapshot.
    Snapshot(SnapshotInfo),
}
