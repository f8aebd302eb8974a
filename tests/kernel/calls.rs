//! The calls that sidecars and kubelet make, without the fields that these tests never vary.

use std::collections::BTreeMap;
use std::path::Path;

use offshoot::proto::csi::controller_client::ControllerClient;
use offshoot::proto::csi::group_controller_client::GroupControllerClient;
use offshoot::proto::csi::identity_client::IdentityClient;
use offshoot::proto::csi::node_client::NodeClient;
use offshoot::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use offshoot::proto::csi::volume_capability::access_mode::Mode;
use offshoot::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use offshoot::proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use offshoot::proto::csi::{self as pb, VolumeCapability, VolumeContentSource};
use offshoot::proto::offshoot as own;
use offshoot::proto::offshoot::data_copies_client::DataCopiesClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub type Answer<T> = Result<T, Status>;

/// How a volume is used: `ext4`, `xfs`, `btrfs`, or `block`.
pub fn capability(kind: &str) -> VolumeCapability {
    let access = match kind {
        "block" => AccessType::Block(BlockVolume {}),
        fs => AccessType::Mount(MountVolume { fs_type: fs.into(), ..MountVolume::default() }),
    };
    let access_mode = Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() });
    VolumeCapability { access_mode, access_type: Some(access) }
}

pub fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })) })
}

pub fn from_volume(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.into() })) })
}

fn range(bytes: u64) -> Option<pb::CapacityRange> {
    Some(pb::CapacityRange { required_bytes: bytes.cast_signed(), limit_bytes: 0 })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What is asked for with CreateVolume.
#[derive(Clone, Default, Debug)]
pub struct NewVolume {
    pub name: String,
    /// `ext4`, `xfs`, `btrfs` or `block`.
    pub kind: String,
    pub size: u64,
    pub parameters: BTreeMap<String, String>,
    pub source: Option<VolumeContentSource>,
}

#[derive(Clone)]
pub struct Client {
    pub identity: IdentityClient<Channel>,
    pub controller: ControllerClient<Channel>,
    pub groups: GroupControllerClient<Channel>,
    pub metadata: SnapshotMetadataClient<Channel>,
    pub node: NodeClient<Channel>,
    pub copies: DataCopiesClient<Channel>,
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy();
        Client {
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            groups: GroupControllerClient::new(channel.clone()),
            metadata: SnapshotMetadataClient::new(channel.clone()),
            node: NodeClient::new(channel.clone()),
            copies: DataCopiesClient::new(channel),
        }
    }

    pub async fn ready(&self) -> Answer<bool> {
        let answer = self.identity.clone().probe(pb::ProbeRequest {}).await?;
        Ok(answer.into_inner().ready == Some(true))
    }

    pub async fn create_pool(&self, name: &str, kind: own::create_pool_request::Kind) -> Answer<own::Pool> {
        let request = own::CreatePoolRequest { name: name.into(), kind: Some(kind), ..Default::default() };
        Ok(self.copies.clone().create_pool(request).await?.into_inner().pool.unwrap())
    }

    pub async fn directory_pool(&self, name: &str, dir: &Path) -> Answer<own::Pool> {
        self.create_pool(name, own::create_pool_request::Kind::Path(text(dir))).await
    }

    pub async fn file_pool(&self, name: &str, file: &Path, size: u64) -> Answer<own::Pool> {
        let file = own::FilePool { file: text(file), size_bytes: size.cast_signed() };
        self.create_pool(name, own::create_pool_request::Kind::File(file)).await
    }

    pub async fn pools(&self) -> Answer<Vec<own::Pool>> {
        Ok(self.copies.clone().list_pools(own::ListPoolsRequest {}).await?.into_inner().pools)
    }

    pub async fn pool(&self, name: &str) -> own::Pool {
        let pools = self.pools().await.unwrap();
        pools.into_iter().find(|pool| pool.name == name).unwrap()
    }

    pub async fn create(&self, new: &NewVolume) -> Answer<pb::Volume> {
        let request = pb::CreateVolumeRequest {
            name: new.name.clone(),
            capacity_range: range(new.size),
            volume_capabilities: vec![capability(&new.kind)],
            parameters: new.parameters.clone(),
            volume_content_source: new.source.clone(),
            ..Default::default()
        };
        Ok(self.controller.clone().create_volume(request).await?.into_inner().volume.unwrap())
    }

    pub async fn delete(&self, volume: &str) -> Answer<()> {
        let request = pb::DeleteVolumeRequest { volume_id: volume.into(), ..Default::default() };
        self.controller.clone().delete_volume(request).await.map(|_| ())
    }

    pub async fn snapshot(&self, name: &str, volume: &str) -> Answer<pb::Snapshot> {
        let request = pb::CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            ..Default::default()
        };
        Ok(self.controller.clone().create_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    pub async fn delete_snapshot(&self, snapshot: &str) -> Answer<()> {
        let request = pb::DeleteSnapshotRequest { snapshot_id: snapshot.into(), ..Default::default() };
        self.controller.clone().delete_snapshot(request).await.map(|_| ())
    }

    pub async fn group(&self, name: &str, volumes: &[String]) -> Answer<pb::VolumeGroupSnapshot> {
        let request = pb::CreateVolumeGroupSnapshotRequest {
            name: name.into(),
            source_volume_ids: volumes.to_vec(),
            ..Default::default()
        };
        let answer = self.groups.clone().create_volume_group_snapshot(request).await?;
        Ok(answer.into_inner().group_snapshot.unwrap())
    }

    pub async fn delete_group(&self, group: &str, snapshots: &[String]) -> Answer<()> {
        let request = pb::DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.into(),
            snapshot_ids: snapshots.to_vec(),
            ..Default::default()
        };
        self.groups.clone().delete_volume_group_snapshot(request).await.map(|_| ())
    }

    /// ControllerExpandVolume.
    pub async fn expand(&self, volume: &str, kind: &str, size: u64) -> Answer<u64> {
        let request = pb::ControllerExpandVolumeRequest {
            volume_id: volume.into(),
            capacity_range: range(size),
            volume_capability: Some(capability(kind)),
            ..Default::default()
        };
        let answer = self.controller.clone().controller_expand_volume(request).await?;
        Ok(answer.into_inner().capacity_bytes.cast_unsigned())
    }

    pub async fn node_expand(&self, volume: &str, kind: &str, target: &Path, size: u64) -> Answer<()> {
        let request = pb::NodeExpandVolumeRequest {
            volume_id: volume.into(),
            volume_path: text(target),
            capacity_range: range(size),
            volume_capability: Some(capability(kind)),
            ..Default::default()
        };
        self.node.clone().node_expand_volume(request).await.map(|_| ())
    }

    pub async fn modify(&self, volume: &str, parameters: BTreeMap<String, String>) -> Answer<()> {
        let request = pb::ControllerModifyVolumeRequest {
            volume_id: volume.into(),
            mutable_parameters: parameters,
            ..Default::default()
        };
        self.controller.clone().controller_modify_volume(request).await.map(|_| ())
    }

    /// RewindVolume; the id of the undo snapshot.
    pub async fn rewind(&self, volume: &str, snapshot: &str) -> Answer<String> {
        let request = own::RewindVolumeRequest {
            volume_id: volume.into(),
            snapshot_id: snapshot.into(),
            ..Default::default()
        };
        Ok(self.copies.clone().rewind_volume(request).await?.into_inner().undo_snapshot_id)
    }

    /// RefreshVolume, from a snapshot or from the source as it is; the id of the undo snapshot.
    pub async fn refresh(&self, volume: &str, snapshot: Option<&str>) -> Answer<String> {
        use own::refresh_volume_request::From;
        let from = snapshot.map_or(From::SourceNow(true), |id| From::SnapshotId(id.into()));
        let request =
            own::RefreshVolumeRequest { volume_id: volume.into(), from: Some(from), ..Default::default() };
        Ok(self.copies.clone().refresh_volume(request).await?.into_inner().undo_snapshot_id)
    }

    pub async fn stage(&self, volume: &str, kind: &str, staging: &Path) -> Answer<()> {
        let request = pb::NodeStageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: text(staging),
            volume_capability: Some(capability(kind)),
            ..Default::default()
        };
        self.node.clone().node_stage_volume(request).await.map(|_| ())
    }

    pub async fn publish(&self, volume: &str, kind: &str, staging: &Path, target: &Path) -> Answer<()> {
        self.publish_as(volume, kind, staging, target, false).await
    }

    pub async fn publish_as(
        &self,
        volume: &str,
        kind: &str,
        staging: &Path,
        target: &Path,
        readonly: bool,
    ) -> Answer<()> {
        let request = pb::NodePublishVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: text(staging),
            target_path: text(target),
            volume_capability: Some(capability(kind)),
            readonly,
            ..Default::default()
        };
        self.node.clone().node_publish_volume(request).await.map(|_| ())
    }

    /// NodePublishVolume of an inline ephemeral volume.
    pub async fn publish_inline(&self, handle: &str, target: &Path, context: &[(&str, &str)]) -> Answer<()> {
        let mut volume_context = map(context);
        volume_context.insert("csi.storage.k8s.io/ephemeral".into(), "true".into());
        let request = pb::NodePublishVolumeRequest {
            volume_id: handle.into(),
            target_path: text(target),
            volume_capability: Some(capability("")),
            volume_context,
            ..Default::default()
        };
        self.node.clone().node_publish_volume(request).await.map(|_| ())
    }

    pub async fn unpublish(&self, volume: &str, target: &Path) -> Answer<()> {
        let request = pb::NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: text(target) };
        self.node.clone().node_unpublish_volume(request).await.map(|_| ())
    }

    pub async fn unstage(&self, volume: &str, staging: &Path) -> Answer<()> {
        let request =
            pb::NodeUnstageVolumeRequest { volume_id: volume.into(), staging_target_path: text(staging) };
        self.node.clone().node_unstage_volume(request).await.map(|_| ())
    }

    pub async fn stats(&self, volume: &str, target: &Path) -> Answer<Vec<pb::VolumeUsage>> {
        let request = pb::NodeGetVolumeStatsRequest {
            volume_id: volume.into(),
            volume_path: text(target),
            ..Default::default()
        };
        Ok(self.node.clone().node_get_volume_stats(request).await?.into_inner().usage)
    }

    /// The ids of all volumes.
    pub async fn volumes(&self) -> Answer<Vec<String>> {
        let request = pb::ListVolumesRequest::default();
        let entries = self.controller.clone().list_volumes(request).await?.into_inner().entries;
        Ok(entries.into_iter().filter_map(|entry| Some(entry.volume?.volume_id)).collect())
    }

    /// The ids of all snapshots.
    pub async fn snapshots(&self) -> Answer<Vec<String>> {
        let request = pb::ListSnapshotsRequest::default();
        let entries = self.controller.clone().list_snapshots(request).await?.into_inner().entries;
        Ok(entries.into_iter().filter_map(|entry| Some(entry.snapshot?.snapshot_id)).collect())
    }

    /// Everything there is, with names.
    pub async fn lineage(&self) -> Answer<Vec<own::LineageNode>> {
        let request = own::GetLineageRequest::default();
        Ok(self.copies.clone().get_lineage(request).await?.into_inner().nodes)
    }

    pub async fn orphans(&self) -> Answer<Vec<own::Orphan>> {
        Ok(self.copies.clone().list_orphans(own::ListOrphansRequest {}).await?.into_inner().orphans)
    }
}
