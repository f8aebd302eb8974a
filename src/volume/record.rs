//! The live state of volumes, snapshots and groups. The store keeps its own, versioned form of these.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{GroupId, PoolId, SnapshotId, VolumeId};
use super::spec::{FsType, Layout, Mutable};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Where the first bytes of a volume came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Restored from a snapshot.
    Snapshot(SnapshotId),
    /// Cloned from a volume.
    Volume(VolumeId),
}

/// What is happening to an object. Only states from which recovery knows the next step exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "phase")]
pub enum Phase {
    /// An intent: its bytes may be there in part. Recovery undoes it.
    Creating,
    /// Whole and usable.
    #[default]
    Ready,
    /// An intent whose bytes come from another node for as long as that takes. Recovery leaves it as it is, and the next
    /// call of the same name goes on. It is undone when no call comes for long.
    #[serde(skip)]
    Receiving {
        /// The snapshot that is read.
        from: SnapshotId,
        /// All bytes before this one have come, and are durable.
        received: u64,
        /// How many bytes that were.
        bytes: u64,
        /// When a call last asked for it.
        asked: Millis,
    },
    /// Being removed: its bytes may be gone in part. Recovery finishes it.
    Deleting,
    /// The content is being replaced in place by that of `from`. Recovery finishes it.
    Replacing {
        /// The snapshot whose bytes the volume gets.
        from: SnapshotId,
        /// The snapshot that keeps the bytes from before.
        undo: SnapshotId,
        /// Whether `from` was cut for this one refresh, and goes when it is done.
        temporary: bool,
    },
    /// Growing to `to` bytes. Recovery finishes it.
    Growing {
        /// The new size in bytes.
        to: u64,
    },
}

/// A node that ControllerPublishVolume gave the volume to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The node's id.
    pub node: String,
    /// Whether it may only read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Who asked, as the provisioner's `--extra-create-metadata` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The PVC's (or VolumeSnapshot's) name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id, which names its pool.
    pub id: VolumeId,
    /// The name that the caller gave; unique over all pools.
    pub name: Arc<str>,
    /// Its size in bytes, as it was asked for; see [`super::size::kept`] for what is kept.
    pub size: u64,
    /// How its bytes lie in the pool.
    pub layout: Layout,
    /// The filesystem that it is formatted with on first use.
    pub fs: FsType,
    /// Whether a mount capability was asked for.
    pub mount: bool,
    /// Whether a block capability was asked for.
    pub block: bool,
    /// Further arguments for mkfs, each already allowed.
    pub mkfs_options: Vec<String>,
    /// Whether deleted bytes go back to the pool.
    pub discard: bool,
    /// Settings that may change.
    pub mutable: Mutable,
    /// Where its first bytes came from.
    pub source: Option<Source>,
    /// The volume that those bytes were first written to; a refresh takes newer ones from there.
    pub origin: Option<VolumeId>,
    /// The snapshot that its present bytes came from, where that is known: a restore, rewind or refresh sets it.
    pub base: Option<SnapshotId>,
    /// Whether a workload ever had it as a raw device, so that its bytes are not to be trusted as a filesystem.
    pub raw_written: bool,
    /// Whether it may be mounted although it was once written as a raw device.
    pub trust_raw: bool,
    /// When it was made.
    pub created: Millis,
    /// The nodes it is published to by the controller.
    pub published: Vec<Published>,
    /// The handle that kubelet chose, for an inline ephemeral volume; it is deleted when unpublished.
    pub ephemeral: Option<Arc<str>>,
    /// The claim it was made for.
    pub claim: Option<Claim>,
    /// What is happening to it.
    pub phase: Phase,
}

/// A snapshot: the bytes of a volume at one moment, never written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, which names its pool.
    pub id: SnapshotId,
    /// The name that the caller gave; unique over all pools.
    pub name: Arc<str>,
    /// The volume it was cut from, which may be gone by now.
    pub volume: VolumeId,
    /// The size of the volume at that moment, in bytes.
    pub size: u64,
    /// How its bytes lie in the pool.
    pub layout: Layout,
    /// The filesystem of the volume.
    pub fs: FsType,
    /// As in [`Volume::raw_written`], at that moment.
    pub raw_written: bool,
    /// The moment the bytes belong to.
    pub created: Millis,
    /// The group snapshot it is a member of.
    pub group: Option<GroupId>,
    /// Whether a rewind or refresh made it to keep what was there before.
    pub undo: bool,
    /// The claim it was made for.
    pub claim: Option<Claim>,
    /// What is happening to it.
    pub phase: Phase,
}

/// A group snapshot: members cut at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// The name that the caller gave.
    pub name: Arc<str>,
    /// The source volume and snapshot of each member on this node.
    pub members: Vec<(VolumeId, SnapshotId)>,
    /// The moment all members belong to.
    pub created: Millis,
    /// What is happening to it.
    pub phase: Phase,
}

impl Group {
    /// The pool that holds the record. It is the one in the id, but for a part of a group over several nodes, whose id
    /// names the pool of the whole group's first member.
    pub fn home(&self) -> PoolId {
        self.members.first().map_or(self.id.pool(), |(_, snapshot)| snapshot.pool())
    }
}
