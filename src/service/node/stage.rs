//! NodeStageVolume and its opposite: the volume's device and filesystem, once per node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::api::NodeVolume;
use super::super::list::unsuitable;
use super::super::work::exclusive;
use super::super::{Inner, Service};
use super::mounts::{Here, Wanted, refuses_writes, taken};
use super::paths::named;
use super::uses::Mounted;
use crate::backend::Use;
use crate::volume::{AccessType, Capability, Error, FsType, Kind, Phase, Result, Volume, VolumeId};

/// The request's field, for messages.
pub(super) const STAGING: &str = "staging_target_path";

impl Service {
    /// Attaches the volume, and mounts it at the staging path unless it is for raw access. Repeatable.
    pub async fn stage_volume(&self, request: NodeVolume) -> Result<()> {
        let volume = self.inner.volume(&request.volume)?;
        if let Some(why) = unsuitable(&volume, &request.capability) {
            return Err(Error::invalid("volume_capability", why));
        }
        if request.staging.as_os_str().is_empty() {
            return Err(Error::invalid(STAGING, "is missing"));
        }
        let id = volume.id;
        self.work(vec![exclusive(id)], move |inner| async move { inner.stage(id, &request).await }).await
    }

    /// Unmounts the volume at the staging path, and detaches it unless something else on this node uses it. What is not
    /// staged is unstaged already; the path itself is left.
    pub async fn unstage_volume(&self, id: &str, staging: &Path) -> Result<()> {
        let keys = self.inner.volume_id(id).map(exclusive).into_iter().collect();
        let (id, staging) = (id.to_owned(), staging.to_owned());
        self.work(keys, move |inner| async move { inner.unstage(&id, &staging).await }).await
    }
}

impl Inner {
    async fn stage(self: &Arc<Self>, id: VolumeId, request: &NodeVolume) -> Result<()> {
        if request.capability.access != AccessType::Block {
            self.directory_to_mount(STAGING, &request.staging).await?;
        }
        let volume = self.stageable(id).await?;
        match &request.capability.access {
            AccessType::Block => self.stage_raw(&volume, &request.capability, &request.staging).await,
            AccessType::Mount { .. } => {
                self.stage_filesystem(&volume, &request.capability, &request.staging).await
            }
        }
    }

    /// The volume, with a replacement of its bytes finished. An expansion that cannot be finished now does not keep it
    /// from being used in its old size.
    async fn stageable(self: &Arc<Self>, id: VolumeId) -> Result<Arc<Volume>> {
        match self.settled(id).await {
            Ok(volume) => Ok(volume),
            Err(error) => {
                let volume = self.volume(&id.to_string())?;
                if !matches!(volume.phase, Phase::Growing { .. }) {
                    return Err(error);
                }
                tracing::warn!(volume = %id, %error, "an expansion is still unfinished; the volume is used as it is");
                Ok(volume)
            }
        }
    }

    async fn stage_raw(&self, volume: &Volume, capability: &Capability, staging: &Path) -> Result<()> {
        self.refuse_mounted(volume, staging).await?;
        let read_only = refuses_writes(volume, capability, &self.settings.node_id);
        self.pool(volume.id.pool())?.backend.attach(volume, Use::Block { read_only }).await?;
        self.uses.stage_raw(volume.id, staging);
        Ok(())
    }

    /// Raw access to a filesystem that is mounted would destroy it.
    pub(super) async fn refuse_mounted(&self, volume: &Volume, at: &Path) -> Result<()> {
        for mounted in self.uses.of(volume.id).into_iter().filter(|mounted| !mounted.block()) {
            let Here::Ours(mounted) = self.look(volume, &mounted.target).await? else { continue };
            let kind = if mounted.target == at { Kind::AlreadyExists } else { Kind::Precondition };
            let text = format!(
                "volume_capability: volume {} is mounted as a filesystem at {}, and raw access would destroy it: \
                 unstage it there first",
                volume.id,
                mounted.target.display()
            );
            return Err(Error::new(kind, text));
        }
        Ok(())
    }

    async fn stage_filesystem(&self, volume: &Volume, capability: &Capability, staging: &Path) -> Result<()> {
        refuse_untrusted(volume)?;
        let wanted = Wanted::new(volume, capability, &self.settings.node_id)?;
        match self.look(volume, staging).await? {
            Here::Ours(staged) => return self.restage(volume, staged, wanted).await,
            Here::Other(entry) => return Err(taken(STAGING, staging, &entry, self.uses.owner(staging))),
            Here::Nothing => {}
        }
        let raw = self.uses.of(volume.id).into_iter().find(Mounted::block);
        if raw.is_some() || self.uses.is_raw_staged(volume.id, None) {
            let text = format!(
                "volume {} is in use as a raw device on this node: unpublish and unstage it first",
                volume.id
            );
            return Err(Error::precondition(text));
        }
        self.mount(volume, staging, &wanted).await
    }

    /// The volume is staged here already: is that what is asked for?
    async fn restage(&self, volume: &Volume, staged: Mounted, wanted: Wanted) -> Result<()> {
        let at = staged.target.display();
        let differs = |what: &str| {
            let text =
                format!("volume_capability: volume {} is staged at {at} {what}: unstage it first", volume.id);
            Err(Error::new(Kind::AlreadyExists, text))
        };
        if staged.block() {
            return differs("as a raw device");
        }
        if staged.read_only != wanted.read_only {
            return differs(if staged.read_only { "read-only" } else { "for writing" });
        }
        match &staged.plan {
            Some(plan) if *plan != wanted.plan => return differs("with other mount options"),
            Some(_) => return Ok(()),
            None => {}
        }
        // Mounted by an earlier process, which may have ended before it grew the filesystem.
        if volume.fs != FsType::Ext4 && !wanted.read_only {
            self.pool(volume.id.pool())?.backend.grow_mounted(volume, &staged.target).await?;
        }
        self.uses.add(volume.id, Mounted { plan: Some(wanted.plan), ..staged });
        Ok(())
    }

    async fn unstage(self: &Arc<Self>, id: &str, staging: &Path) -> Result<()> {
        self.outside_pools(STAGING, staging)?;
        let found = self.volume_id(id).and_then(|id| self.catalog().volume(id).cloned());
        let Some(volume) = found else { return self.clear_unknown(id, staging, STAGING).await };
        self.clear(&volume, staging, STAGING).await?;
        self.uses.unstage_raw(volume.id, Some(staging));
        self.let_go(&volume).await
    }

    /// Makes sure that `path` does not show a volume that is gone. A volume that is still known is not taken away under
    /// another's name, and what is not ours is none of this call's business.
    pub(super) async fn clear_unknown(&self, id: &str, path: &Path, field: &str) -> Result<()> {
        let Some(entry) = self.mount_at(path).await.map_err(|error| named(field, error))? else {
            return Ok(());
        };
        if let Ok(id) = id.parse::<VolumeId>() {
            self.pool(id.pool())?;
        }
        let shown = self.shown_at(path).await?;
        let Some(shown) = shown else {
            tracing::warn!(path = %path.display(), "a volume that does not exist was to be taken from a path where something else is mounted");
            return Ok(());
        };
        if self.catalog().volume(shown).is_some() {
            return Err(taken(field, path, &entry, Some(shown)));
        }
        self.unmount(path).await?;
        match self.shown_at(path).await? {
            None => Ok(()),
            Some(_) => {
                Err(Error::precondition(format!("{field}: {} is still mounted: ask again", path.display())))
            }
        }
    }

    /// The volume of any pool that is mounted at `path`.
    async fn shown_at(&self, path: &Path) -> Result<Option<VolumeId>> {
        for pool in self.pools() {
            let mounted = pool.backend.mounted().await?;
            // The table is in the order of mounting, so the uppermost comes last.
            if let Some((id, _)) =
                mounted.into_iter().rev().find(|(_, entry)| PathBuf::as_path(&entry.target) == path)
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// A filesystem that a workload may have made is not put before the kernel's drivers unasked.
pub(super) fn refuse_untrusted(volume: &Volume) -> Result<()> {
    if volume.raw_written && !volume.trust_raw {
        return Err(Error::precondition(format!(
            "volume {} was written as a raw block device, and a filesystem made by a workload is not mounted: use it as \
             a block volume, or make a copy with parameters.allowBlockToFilesystem \"true\"",
            volume.id
        )));
    }
    Ok(())
}
