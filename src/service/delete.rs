//! DeleteVolume and DeleteSnapshot. What does not exist is deleted already.

use std::sync::Arc;

use super::work::exclusive;
use super::{Inner, Service};
use crate::volume::{Error, GroupId, Kind, ObjectId, Phase, Result, Snapshot, SnapshotId, Volume, VolumeId};

impl Service {
    /// Removes a volume. Refused while a node has it; its snapshots and the copies made from it stay whole.
    pub async fn delete_volume(&self, id: &str) -> Result<()> {
        let Some(id) = self.inner.volume_id(id) else { return Ok(()) };
        self.work(vec![exclusive(id)], |inner| async move { inner.delete(id).await }).await
    }

    /// Removes a snapshot. Volumes made from it stay whole. Refused for a member of a group snapshot.
    pub async fn delete_snapshot(&self, id: &str) -> Result<()> {
        let Ok(id) = id.parse::<SnapshotId>() else { return Ok(()) };
        self.work(vec![exclusive(id)], |inner| async move { inner.delete_snapshot(id, None).await }).await
    }
}

impl Inner {
    /// DeleteVolume under its lock.
    pub(super) async fn delete(&self, id: VolumeId) -> Result<()> {
        let found = self.catalog().volume(id).cloned();
        let Some(volume) = found else { return self.absent(id.into()) };
        match volume.phase {
            // Somebody else's creation holds the name's lock, not the id's, and no caller has the id yet.
            Phase::Creating | Phase::Receiving { .. } => return Ok(()),
            Phase::Deleting => return self.clear_away(&volume).await.map_err(unfinished),
            _ => {}
        }
        if let Some(published) = volume.published.first() {
            let text =
                format!("volume {id} is still published to node {}: unpublish it first", published.node);
            return Err(Error::precondition(text));
        }
        self.refuse_in_use(&volume).await?;
        let pool = self.pool(id.pool())?;
        if let Phase::Replacing { .. } = volume.phase {
            // Its temporary snapshot would be left without anybody who knows what it is.
            self.abandon(&volume).await.map_err(unfinished)?;
        }
        // The backend looks at loop devices and holders itself, and refuses while anything has the volume.
        pool.backend.detach(&volume).await?;
        if !pool.condemn(id.into()).await? {
            return Err(Error::internal(format!(
                "volume {id} has no record any more: look at `offshoot orphans list`"
            )));
        }
        let volume = Arc::new(Volume { phase: Phase::Deleting, ..Volume::clone(&volume) });
        self.catalog_mut().put_volume(volume.clone());
        self.clear_away(&volume).await.map_err(unfinished)
    }

    /// DeleteSnapshot under its lock. `by` is the group that is being removed, if one is.
    pub(super) async fn delete_snapshot(&self, id: SnapshotId, by: Option<GroupId>) -> Result<()> {
        let found = self.catalog().snapshot(id).cloned();
        let Some(snapshot) = found else { return self.absent(id.into()) };
        match snapshot.phase {
            Phase::Creating => return Ok(()),
            Phase::Deleting => return self.clear_away_snapshot(&snapshot).await.map_err(unfinished),
            _ => {}
        }
        if let Some(group) = snapshot.group
            && by != Some(group)
            && self.catalog().group(group).is_some()
        {
            let text = format!("snapshot {id} is a member of group snapshot {group}: delete the group");
            return Err(Error::invalid("snapshot_id", text));
        }
        let pool = self.pool(id.pool())?;
        if !pool.condemn(id.into()).await? {
            return Err(Error::internal(format!(
                "snapshot {id} has no record any more: look at `offshoot orphans list`"
            )));
        }
        let snapshot = Arc::new(Snapshot { phase: Phase::Deleting, ..Snapshot::clone(&snapshot) });
        self.catalog_mut().put_snapshot(snapshot.clone());
        self.clear_away_snapshot(&snapshot).await.map_err(unfinished)
    }

    /// Removes the bytes and then the record of a snapshot that callers cannot see.
    pub(super) async fn clear_away_snapshot(&self, snapshot: &Arc<Snapshot>) -> Result<()> {
        let pool = self.pool(snapshot.id.pool())?;
        let id = ObjectId::Snapshot(snapshot.id);
        if snapshot.phase == Phase::Creating {
            // The commit may have renamed the intent before it failed.
            pool.condemn(id).await?;
        }
        pool.backend.delete_snapshot(snapshot).await?;
        pool.forget(id).await?;
        self.catalog_mut().remove(id);
        Ok(())
    }
}

/// A removal that stopped half-way is not over: its record stays, and asking again continues it.
pub(super) fn unfinished(error: Error) -> Error {
    let kind = if error.kind() == Kind::Precondition { Kind::Precondition } else { Kind::Unavailable };
    error.with_kind(kind)
}
