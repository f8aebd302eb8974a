//! The calls of a volume's life, each as one line.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use offshoot::proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use offshoot::proto::csi::{self, CapacityRange, VolumeContentSource};

use crate::server::{Access, Client};

/// What a volume is copied from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From<'a> {
    Nothing,
    Snapshot(&'a str),
    Volume(&'a str),
}

/// A volume of a driver, and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) staging: PathBuf,
    pub(crate) target: PathBuf,
    access: Access,
    context: std::collections::BTreeMap<String, String>,
}

impl Client {
    /// CreateVolume.
    pub(crate) async fn create(
        &mut self,
        name: impl Into<String>,
        size: i64,
        access: Access,
        from: From<'_>,
    ) -> Result<Volume> {
        let name = name.into();
        let source = match from {
            From::Nothing => None,
            From::Snapshot(id) => Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })),
            From::Volume(id) => Some(Type::Volume(VolumeSource { volume_id: id.into() })),
        };
        let request = csi::CreateVolumeRequest {
            name: name.clone(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            volume_capabilities: vec![access.capability()],
            volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            ..Default::default()
        };
        let made = self.controller.create_volume(request).await?.into_inner().volume.context("no volume")?;
        Ok(Volume {
            id: made.volume_id,
            staging: self.dir.join("staging").join(&name),
            target: self.dir.join("targets").join(&name),
            access,
            context: made.volume_context,
        })
    }

    /// Makes what kubelet makes before it calls.
    pub(crate) fn make_paths(&self, volume: &Volume) -> Result<()> {
        std::fs::create_dir_all(&volume.staging)?;
        std::fs::create_dir_all(self.dir.join("targets"))?;
        Ok(())
    }

    /// DeleteVolume.
    pub(crate) async fn delete(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::DeleteVolumeRequest { volume_id: volume.id.clone(), ..Default::default() };
        self.controller.delete_volume(request).await?;
        let _ = std::fs::remove_dir(&volume.staging);
        Ok(())
    }

    /// ControllerPublishVolume; `false` if the driver has no such call.
    pub(crate) async fn controller_publish(&mut self, volume: &Volume) -> Result<bool> {
        let request = csi::ControllerPublishVolumeRequest {
            volume_id: volume.id.clone(),
            node_id: self.node_id.clone(),
            volume_capability: Some(volume.access.capability()),
            volume_context: volume.context.clone(),
            ..Default::default()
        };
        offered(self.controller.controller_publish_volume(request).await.map(drop))
    }

    /// ControllerUnpublishVolume; `false` if the driver has no such call.
    pub(crate) async fn controller_unpublish(&mut self, volume: &Volume) -> Result<bool> {
        let request = csi::ControllerUnpublishVolumeRequest {
            volume_id: volume.id.clone(),
            node_id: self.node_id.clone(),
            ..Default::default()
        };
        offered(self.controller.controller_unpublish_volume(request).await.map(drop))
    }

    /// NodeStageVolume.
    pub(crate) async fn stage(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::NodeStageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: volume.staging.display().to_string(),
            volume_capability: Some(volume.access.capability()),
            volume_context: volume.context.clone(),
            ..Default::default()
        };
        self.node.node_stage_volume(request).await?;
        Ok(())
    }

    /// NodeUnstageVolume.
    pub(crate) async fn unstage(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::NodeUnstageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: volume.staging.display().to_string(),
        };
        self.node.node_unstage_volume(request).await?;
        Ok(())
    }

    /// NodePublishVolume.
    pub(crate) async fn publish(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::NodePublishVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: volume.staging.display().to_string(),
            target_path: volume.target.display().to_string(),
            volume_capability: Some(volume.access.capability()),
            volume_context: volume.context.clone(),
            ..Default::default()
        };
        self.node.node_publish_volume(request).await?;
        Ok(())
    }

    /// NodeUnpublishVolume.
    pub(crate) async fn unpublish(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::NodeUnpublishVolumeRequest {
            volume_id: volume.id.clone(),
            target_path: volume.target.display().to_string(),
        };
        self.node.node_unpublish_volume(request).await?;
        Ok(())
    }

    /// NodeGetVolumeStats.
    pub(crate) async fn stats(&mut self, volume: &Volume) -> Result<()> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            staging_target_path: volume.staging.display().to_string(),
        };
        self.node.node_get_volume_stats(request).await?;
        Ok(())
    }

    /// ControllerExpandVolume; whether the node has to do something too.
    pub(crate) async fn expand(&mut self, volume: &Volume, size: i64) -> Result<bool> {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: volume.id.clone(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            volume_capability: Some(volume.access.capability()),
            ..Default::default()
        };
        Ok(self.controller.controller_expand_volume(request).await?.into_inner().node_expansion_required)
    }

    /// NodeExpandVolume.
    pub(crate) async fn node_expand(&mut self, volume: &Volume, size: i64) -> Result<()> {
        let request = csi::NodeExpandVolumeRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            staging_target_path: volume.staging.display().to_string(),
            volume_capability: Some(volume.access.capability()),
            ..Default::default()
        };
        self.node.node_expand_volume(request).await?;
        Ok(())
    }

    /// CreateSnapshot; its id.
    pub(crate) async fn snapshot(&mut self, name: impl Into<String>, volume: &Volume) -> Result<String> {
        let request = csi::CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.id.clone(),
            ..Default::default()
        };
        let made = self.controller.create_snapshot(request).await?.into_inner().snapshot;
        Ok(made.context("no snapshot")?.snapshot_id)
    }

    /// DeleteSnapshot.
    pub(crate) async fn delete_snapshot(&mut self, id: &str) -> Result<()> {
        let request = csi::DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        self.controller.delete_snapshot(request).await?;
        Ok(())
    }

    /// ListVolumes, the first `max` of them.
    pub(crate) async fn list(&mut self, max: i32) -> Result<()> {
        let request = csi::ListVolumesRequest { max_entries: max, ..Default::default() };
        self.controller.list_volumes(request).await?;
        Ok(())
    }

    /// GetCapacity.
    pub(crate) async fn capacity(&mut self) -> Result<()> {
        self.controller.get_capacity(csi::GetCapacityRequest::default()).await?;
        Ok(())
    }

    /// Probe: the cost of a call that does next to nothing.
    pub(crate) async fn probe(&mut self) -> Result<()> {
        self.identity.probe(csi::ProbeRequest {}).await?;
        Ok(())
    }
}

/// Whether a driver has the call at all.
fn offered(answer: Result<(), tonic::Status>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(false),
        Err(status) => Err(status.into()),
    }
}
