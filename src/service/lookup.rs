//! From an id in a request to a live object.

use std::sync::{Arc, PoisonError};

use super::api::{Segments, VolumeStatus};
use super::pool::Pool;
use super::{Inner, Service};
use crate::backend::Fault;
use crate::volume::ObjectId;
use crate::volume::topology;
use crate::volume::{
    Error, Group, GroupId, Kind, Phase, PoolId, Result, Snapshot, SnapshotId, Volume, VolumeId,
};

impl Inner {
    /// The open pool of that id.
    pub(super) fn pool(&self, id: PoolId) -> Result<Arc<Pool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(&id).cloned().ok_or_else(|| {
            Error::new(
                Kind::Unavailable,
                format!("pool {id} is not open on this node: look at `offshoot pool list`"),
            )
        })
    }

    /// The id that a caller means: one of ours, or the handle of an inline ephemeral volume.
    pub(super) fn volume_id(&self, id: &str) -> Option<VolumeId> {
        id.parse().ok().or_else(|| self.catalog().by_handle(id).map(|volume| volume.id))
    }

    /// The volume if it exists, in a phase in which a caller may see it.
    pub(super) fn find_volume(&self, id: &str) -> Option<Arc<Volume>> {
        let id = self.volume_id(id)?;
        self.catalog().volume(id).filter(|volume| is_visible(volume.phase)).cloned()
    }

    /// The volume, or the error that it does not exist.
    pub(super) fn volume(&self, id: &str) -> Result<Arc<Volume>> {
        self.find_volume(id).ok_or_else(|| Error::not_found(format!("volume {id:?}")))
    }

    /// The snapshot if it exists.
    pub(super) fn find_snapshot(&self, id: &str) -> Option<Arc<Snapshot>> {
        let id: SnapshotId = id.parse().ok()?;
        self.catalog().snapshot(id).filter(|snapshot| is_visible(snapshot.phase)).cloned()
    }

    /// The snapshot, or the error that it does not exist.
    pub(super) fn snapshot(&self, id: &str) -> Result<Arc<Snapshot>> {
        self.find_snapshot(id).ok_or_else(|| Error::not_found(format!("snapshot {id:?}")))
    }

    /// The group if it exists.
    pub(super) fn find_group(&self, id: &str) -> Option<Arc<Group>> {
        let id: GroupId = id.parse().ok()?;
        self.catalog().group(id).filter(|group| is_visible(group.phase)).cloned()
    }

    /// Says that an object which the catalogue does not know is gone, if that is certain. It is not while a configured
    /// pool could not be opened, nor where its record is there and cannot be read: "gone" would make the caller forget
    /// an object whose bytes are still there.
    pub(super) fn absent(&self, id: ObjectId) -> Result<()> {
        // The record of a part of a group over several nodes may lie in any pool.
        for pool in self.pools() {
            if let Some(damaged) = pool.damaged.iter().find(|damaged| damaged.id == id) {
                return Err(Error::internal(format!(
                    "the record of {id} cannot be read ({}): mend it or move it away, and ask again",
                    damaged.why
                )));
            }
        }
        match self.pool(id.pool()) {
            Ok(_) => Ok(()),
            Err(closed) => {
                let unopened = self.unopened.read().unwrap_or_else(PoisonError::into_inner);
                if unopened.is_empty() { Ok(()) } else { Err(closed) }
            }
        }
    }

    /// Where volumes of this pool can be reached from.
    pub(super) fn topology_of(&self, pool: PoolId) -> Option<Segments> {
        let pool = self.pool(pool).ok()?;
        pool.backend.info().node_local.then(|| self.topology())
    }

    /// This node's topology segments.
    pub(super) fn topology(&self) -> Segments {
        topology::of_node(&self.settings.node_id)
    }

    /// Whether this node is one of those that a request may be served from.
    pub(super) fn is_asked(&self, requisite: &[Segments]) -> bool {
        topology::may_serve(&self.topology(), requisite)
    }

    /// The volume with what is known of its use.
    pub(super) fn status_of(&self, volume: &Arc<Volume>, faults: Vec<Fault>) -> VolumeStatus {
        let mut nodes: Vec<String> =
            volume.published.iter().map(|published| published.node.clone()).collect();
        if self.uses.any(volume.id) && !nodes.contains(&self.settings.node_id) {
            nodes.push(self.settings.node_id.clone());
        }
        VolumeStatus { volume: volume.clone(), nodes, faults, topology: self.topology_of(volume.id.pool()) }
    }
}

/// What can have a name that a caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// A group snapshot.
    Group,
}

impl Service {
    /// The object that has this name here, finished or in the making. One that is being removed has none any more: a new
    /// one can be made anywhere.
    pub fn find_name(&self, kind: Named, name: &str) -> Option<ObjectId> {
        let catalog = self.inner.catalog();
        let (id, phase) = match kind {
            Named::Volume => catalog.volume_named(name).map(|found| (found.id.into(), found.phase)),
            Named::Snapshot => catalog.snapshot_named(name).map(|found| (found.id.into(), found.phase)),
            Named::Group => catalog.group_named(name).map(|found| (found.id.into(), found.phase)),
        }?;
        (phase != Phase::Deleting).then_some(id)
    }

    /// This node's topology segments.
    pub fn topology(&self) -> Segments {
        self.inner.topology()
    }

    /// The kind of backend that keeps a pool; empty for a pool that is not open.
    pub fn backend_of(&self, pool: PoolId) -> &'static str {
        self.inner.pool(pool).map_or("", |pool| pool.backend.info().backend)
    }

    /// Where an object of this pool can be reached from; `None` means anywhere.
    pub fn topology_of(&self, pool: PoolId) -> Option<Segments> {
        self.inner.topology_of(pool)
    }
}

/// Whether callers may know of an object in this phase.
pub(super) fn is_visible(phase: Phase) -> bool {
    !matches!(phase, Phase::Creating | Phase::Receiving { .. } | Phase::Deleting)
}
