//! An export on this node: staged once, published to each pod, counted.
//!
//! `volume_context` comes from kubelet and can hold tokens of the pod's service account: it is not read at all. What a
//! node has to know is in `publish_context`, which the controller made.

use tonic::{Request, Response, Status};

use super::super::{node as usual, render};
use super::{DelphixEdge, Rpc, answer, parse};
use crate::delphix::node::{Publish, Stage};
use crate::proto::csi::node_server::Node;
use crate::proto::csi::node_service_capability::rpc::Type as Can;
use crate::proto::csi::node_service_capability::{Rpc as CanRpc, Type};
use crate::proto::csi::*;
use crate::service::api::VolumeUsed;

/// Everything that the node service can do. An export has no size to follow, so expanding does nothing, and the controller
/// never asks for it.
const CAN: [Can; 7] = [
    Can::StageUnstageVolume,
    Can::GetVolumeStats,
    Can::ExpandVolume,
    Can::VolumeCondition,
    Can::SingleNodeMultiWriter,
    Can::GetVolumeHealth,
    Can::GetStorageHealth,
];

#[tonic::async_trait]
impl Node for DelphixEdge {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let NodeStageVolumeRequest {
            volume_id,
            publish_context,
            staging_target_path,
            volume_capability,
            secrets: _,
            volume_context: _,
        } = request.into_inner();
        let done = async {
            let request = Stage {
                volume: parse::id("volume_id", volume_id)?,
                staging: parse::path("staging_target_path", &staging_target_path)?,
                capability: parse::capability(volume_capability)?,
                context: publish_context,
            };
            parse::map("publish_context", &request.context)?;
            self.node()?.stage(request).await?;
            Ok(NodeStageVolumeResponse {})
        };
        answer(Rpc::NodeStageVolume, done.await)
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let NodeUnstageVolumeRequest { volume_id, staging_target_path } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let staging = parse::path("staging_target_path", &staging_target_path)?;
            self.node()?.unstage(&id, &staging).await?;
            Ok(NodeUnstageVolumeResponse {})
        };
        answer(Rpc::NodeUnstageVolume, done.await)
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let NodePublishVolumeRequest {
            volume_id,
            publish_context,
            staging_target_path,
            target_path,
            volume_capability,
            readonly,
            secrets: _,
            volume_context: _,
        } = request.into_inner();
        let done = async {
            let stage = Stage {
                volume: parse::id("volume_id", volume_id)?,
                staging: parse::optional_path("staging_target_path", &staging_target_path)?,
                capability: parse::capability(volume_capability)?,
                context: publish_context,
            };
            parse::map("publish_context", &stage.context)?;
            let target = parse::path("target_path", &target_path)?;
            self.node()?.publish(Publish { stage, target, read_only: readonly }).await?;
            Ok(NodePublishVolumeResponse {})
        };
        answer(Rpc::NodePublishVolume, done.await)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest { volume_id, target_path } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let target = parse::path("target_path", &target_path)?;
            self.node()?.unpublish(&id, &target).await?;
            Ok(NodeUnpublishVolumeResponse {})
        };
        answer(Rpc::NodeUnpublishVolume, done.await)
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let NodeGetVolumeStatsRequest { volume_id, volume_path, staging_target_path } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let path = parse::place("volume_path", &volume_path)?;
            let staging = parse::optional_path("staging_target_path", &staging_target_path)?;
            let node = self.node()?;
            let used = node.usage(&id, &path).await?;
            let faults = node.health(&id, &path, &staging).await?;
            Ok(NodeGetVolumeStatsResponse {
                usage: usual::usage(VolumeUsed::Filesystem(used)),
                volume_condition: Some(render::condition(&faults)),
            })
        };
        answer(Rpc::NodeGetVolumeStats, done.await)
    }

    async fn node_get_volume_health(
        &self,
        request: Request<NodeGetVolumeHealthRequest>,
    ) -> Result<Response<NodeGetVolumeHealthResponse>, Status> {
        let NodeGetVolumeHealthRequest { volume_id, volume_publish_path, staging_target_path } =
            request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let published = parse::optional_path("volume_publish_path", &volume_publish_path)?;
            let staging = parse::optional_path("staging_target_path", &staging_target_path)?;
            let faults = self.node()?.health(&id, &published, &staging).await?;
            Ok(NodeGetVolumeHealthResponse { volume_health: Some(render::health(id, &faults)) })
        };
        answer(Rpc::NodeGetVolumeHealth, done.await)
    }

    async fn node_get_storage_health(
        &self,
        request: Request<NodeGetStorageHealthRequest>,
    ) -> Result<Response<NodeGetStorageHealthResponse>, Status> {
        let NodeGetStorageHealthRequest { secrets: _ } = request.into_inner();
        let done = async {
            let servers = self.node()?.storage_health().await;
            let found = servers.iter().flat_map(|(server, faults)| {
                faults.iter().map(move |fault| usual::finding("NFS server", server, fault))
            });
            Ok(NodeGetStorageHealthResponse { backend_health: found.collect() })
        };
        answer(Rpc::NodeGetStorageHealth, done.await)
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let NodeExpandVolumeRequest {
            volume_id,
            volume_path,
            capacity_range,
            staging_target_path,
            volume_capability,
            secrets: _,
        } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let path = parse::place("volume_path", &volume_path)?;
            parse::optional_path("staging_target_path", &staging_target_path)?;
            let range = parse::range(capacity_range)?;
            volume_capability.map(|given| parse::capability(Some(given))).transpose()?;
            let size = self.node()?.expand(&id, &path, range).await?;
            Ok(NodeExpandVolumeResponse { capacity_bytes: render::number(size) })
        };
        answer(Rpc::NodeExpandVolume, done.await)
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let one = |can: Can| NodeServiceCapability { r#type: Some(Type::Rpc(CanRpc { r#type: can as i32 })) };
        answer(
            Rpc::NodeGetCapabilities,
            Ok(NodeGetCapabilitiesResponse { capabilities: CAN.map(one).into() }),
        )
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let told = self.node().map(|node| {
            let (id, max_volumes) = node.info();
            NodeGetInfoResponse {
                node_id: id.to_owned(),
                max_volumes_per_node: i64::from(max_volumes),
                accessible_topology: None,
            }
        });
        answer(Rpc::NodeGetInfo, told)
    }
}
