//! ControllerExpandVolume and ControllerModifyVolume.

use std::sync::Arc;

use super::work::exclusive;
use super::{Inner, Service};
use crate::volume::params::MutablePatch;
use crate::volume::size::Range;
use crate::volume::{Error, Kind, Phase, Provisioning, Result, Volume, VolumeId};

/// What an expansion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expanded {
    /// The size now, in bytes.
    pub size: u64,
    /// Whether the node has to grow the filesystem.
    pub node_expansion_required: bool,
}

impl Service {
    /// Grows a volume, in use or not, so that it holds the range. A volume that does already stays as it is.
    pub async fn expand_volume(&self, id: &str, range: Range) -> Result<Expanded> {
        let id = self.inner.volume(id)?.id;
        self.work(vec![exclusive(id)], move |inner| async move { inner.expand(id, range).await }).await
    }

    /// Changes settings of a volume, in use or not.
    pub async fn modify_volume(&self, id: &str, patch: MutablePatch) -> Result<()> {
        let id = self.inner.volume(id)?.id;
        self.work(vec![exclusive(id)], move |inner| async move { inner.modify(id, &patch).await }).await
    }
}

impl Inner {
    async fn expand(self: &Arc<Self>, id: VolumeId, range: Range) -> Result<Expanded> {
        let volume = self.settled(id).await?;
        let pool = self.pool(id.pool())?;
        let (_, max) = pool.backend.limits(volume.layout, volume.fs, volume.mount);
        if range.limit != 0 && range.limit < volume.size {
            let text = format!(
                "capacity_range.limit_bytes: volume {id} has {} bytes already, over the limit of {}, and volumes do not shrink",
                volume.size, range.limit
            );
            return Err(Error::new(Kind::OutOfRange, text));
        }
        let to = range.pick(volume.size, volume.size, max.max(volume.size))?;
        if to > volume.size && volume.mutable.provisioning == Provisioning::Thick {
            self.admit_bytes(&pool, "the larger volume", to - volume.size).await?;
        }
        let growing = Arc::new(Volume { phase: Phase::Growing { to }, ..Volume::clone(&volume) });
        if to > volume.size {
            pool.put(&growing).await?;
            self.catalog_mut().put_volume(growing.clone());
        }
        self.finish_growing(&growing).await
    }

    /// Brings an expansion to its end, from wherever it stopped. Where there is no room for it, it is taken back: the
    /// volume must not wait for room before it can be used again.
    pub(super) async fn finish_growing(&self, volume: &Arc<Volume>) -> Result<Expanded> {
        let Phase::Growing { to } = volume.phase else {
            return Err(Error::internal(format!("volume {} is not growing", volume.id)));
        };
        let pool = self.pool(volume.id.pool())?;
        let unchanged = Volume { phase: Phase::Ready, ..Volume::clone(volume) };
        // The intent stays, and the retry or the next start goes on from it.
        let unfinished = |error: Error| error.with_kind(Kind::Unavailable);
        let node_expansion_required = match pool.backend.grow(volume, to).await {
            Ok(required) => required,
            Err(error) if to == volume.size => return Err(error),
            Err(error) if error.kind() == Kind::Exhausted => {
                self.save(unchanged).await.map_err(unfinished)?;
                return Err(error);
            }
            Err(error) => return Err(unfinished(error)),
        };
        if to != volume.size {
            self.save(Volume { size: to, ..unchanged }).await.map_err(unfinished)?;
        }
        Ok(Expanded { size: to, node_expansion_required })
    }

    async fn modify(self: &Arc<Self>, id: VolumeId, patch: &MutablePatch) -> Result<()> {
        let volume = self.settled(id).await?;
        let pool = self.pool(id.pool())?;
        let to = patch.apply(&volume.mutable);
        if to.provisioning == Provisioning::Thick && volume.mutable.provisioning == Provisioning::Thin {
            let taken = pool.backend.volume_usage(&volume).await?;
            self.admit_bytes(&pool, "the larger volume", volume.size.saturating_sub(taken.own)).await?;
        }
        // The effect comes before the record: a record must not promise what the volume does not have, and a retry
        // after a crash in between sees the old record and does all of it again.
        let changed = Volume { mutable: to.clone(), ..Volume::clone(&volume) };
        let done = async {
            pool.backend.modify(&volume, &to).await?;
            if to == volume.mutable { Ok(()) } else { self.save(changed.clone()).await }
        };
        let Err(error) = done.await else { return Ok(()) };
        if error.kind().is_final()
            && let Err(undo) = pool.backend.modify(&changed, &volume.mutable).await
        {
            tracing::warn!(volume = %id, %undo, "settings that could not be changed were applied in part");
        }
        Err(error)
    }

    /// The volume with no work pending: what an interrupted expansion or replacement left is finished first.
    pub(super) async fn settled(self: &Arc<Self>, id: VolumeId) -> Result<Arc<Volume>> {
        let volume = self.volume(&id.to_string())?;
        match volume.phase {
            Phase::Growing { .. } => match self.finish_growing(&volume).await {
                // Taken back.
                Err(error) if error.kind() == Kind::Exhausted => {}
                done => drop(done?),
            },
            Phase::Replacing { .. } => {
                self.finish_replacing(&volume).await?;
            }
            _ => return Ok(volume),
        }
        self.volume(&id.to_string())
    }
}
