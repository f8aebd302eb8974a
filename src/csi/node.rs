//! A volume on this machine: staged once, published to each pod, counted, grown.
//!
//! `volume_context` comes from kubelet and can hold tokens of the pod's service account: it is read for the inline
//! parameters, and neither kept nor quoted.

use tonic::{Request, Response, Status};

use super::rpc::Rpc;
use super::{Edge, answer, parse, render};
use crate::backend::{Fault, Severity};
use crate::proto::csi::node_get_storage_health_response::StorageBackendHealth;
use crate::proto::csi::node_server::Node;
use crate::proto::csi::node_service_capability::rpc::Type as Can;
use crate::proto::csi::node_service_capability::{Rpc as CanRpc, Type};
use crate::proto::csi::volume_usage::Unit;
use crate::proto::csi::*;
use crate::service::api::{Inline, NodeVolume, Publish, VolumeUsed};
use crate::volume::Result as Outcome;
use crate::volume::params::InlineParams;

/// Everything that the node service can do. VOLUME_MOUNT_GROUP is left to kubelet.
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
impl Node for Edge {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let NodeStageVolumeRequest {
            volume_id,
            publish_context: _,
            staging_target_path,
            volume_capability,
            secrets: _,
            volume_context: _,
        } = request.into_inner();
        let done = async {
            let request = NodeVolume {
                volume: parse::id("volume_id", volume_id)?,
                staging: parse::path("staging_target_path", &staging_target_path)?,
                capability: parse::capability(volume_capability)?,
            };
            self.service()?.stage_volume(request).await?;
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
            self.service()?.unstage_volume(&id, &staging).await?;
            Ok(NodeUnstageVolumeResponse {})
        };
        answer(Rpc::NodeUnstageVolume, done.await)
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let done = async {
            let request = publish(request.into_inner())?;
            self.service()?.publish_volume(request).await?;
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
            self.service()?.unpublish_volume(&id, &target).await?;
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
            let service = self.service()?;
            let used = service.volume_used(&id, &path).await?;
            let faults = service.node_volume_health(&id, &path, &staging).await?;
            Ok(NodeGetVolumeStatsResponse {
                usage: usage(used),
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
            let faults = self.service()?.node_volume_health(&id, &published, &staging).await?;
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
            let pools = self.service()?.storage_health().await;
            let findings = pools
                .iter()
                .flat_map(|(pool, faults)| faults.iter().map(move |fault| finding("pool", pool, fault)));
            Ok(NodeGetStorageHealthResponse { backend_health: findings.collect() })
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
            let size = self.service()?.node_expand(&id, &path, range).await?;
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

    /// Answers also while the server starts: the registrar gives up on a driver that does not say who it is.
    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let (node_id, max_volumes, segments) = self.service.node_info();
        let info = NodeGetInfoResponse {
            node_id,
            max_volumes_per_node: i64::from(max_volumes),
            accessible_topology: Some(Topology { segments }),
        };
        answer(Rpc::NodeGetInfo, Ok(info))
    }
}

fn publish(request: NodePublishVolumeRequest) -> Outcome<Publish> {
    let NodePublishVolumeRequest {
        volume_id,
        publish_context: _,
        staging_target_path,
        target_path,
        volume_capability,
        readonly,
        secrets: _,
        volume_context,
    } = request;
    let node = NodeVolume {
        volume: parse::id("volume_id", volume_id)?,
        // Missing is not malformed: whether the volume had to be staged is the use case's question.
        staging: parse::optional_path("staging_target_path", &staging_target_path)?,
        capability: parse::capability(volume_capability)?,
    };
    let target = parse::path("target_path", &target_path)?;
    let inline = if InlineParams::is_inline(&volume_context)? {
        let (params, size) = InlineParams::parse(&volume_context)?;
        Some(Inline { params, size })
    } else {
        None
    };
    Ok(Publish { node, target, read_only: readonly, inline })
}

pub(super) fn usage(used: VolumeUsed) -> Vec<VolumeUsage> {
    let count = |unit: Unit, total: u64, used: u64, available: u64| VolumeUsage {
        available: render::number(available),
        total: render::number(total),
        used: render::number(used),
        unit: unit as i32,
    };
    match used {
        VolumeUsed::Block(size) => vec![count(Unit::Bytes, size, 0, 0)],
        VolumeUsed::Filesystem(fs) => {
            let mut usage = vec![count(Unit::Bytes, fs.bytes, fs.bytes_used, fs.bytes_available)];
            // A filesystem that makes inodes as it needs them has no total to be near.
            if fs.inodes > 0 {
                usage.push(count(
                    Unit::Inodes,
                    fs.inodes,
                    fs.inodes_used,
                    fs.inodes.saturating_sub(fs.inodes_used),
                ));
            }
            usage
        }
    }
}

pub(super) fn finding(kind: &str, name: &str, fault: &Fault) -> StorageBackendHealth {
    let status = match fault.severity {
        Severity::Degraded => StorageHealthErrorType::StorageDegraded,
        Severity::Inaccessible | Severity::DataLoss => StorageHealthErrorType::StorageUnreachable,
    };
    StorageBackendHealth {
        status: status as i32,
        reason: fault.reason.to_owned(),
        message: format!("{kind} {name}: {}", fault.message),
        // A pool in trouble hits every use.
        volume_capability: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Kind;
    use std::collections::BTreeMap;
    use std::path::Path;
    use volume_capability::access_mode::Mode;
    use volume_capability::{AccessMode, AccessType, MountVolume};

    fn request(context: &[(&str, &str)]) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: "csi-0123".to_owned(),
            target_path: "/var/lib//kubelet/pods/1/mount/".to_owned(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume::default())),
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter as i32 }),
            }),
            volume_context: context
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            ..NodePublishVolumeRequest::default()
        }
    }

    #[test]
    fn a_volume_is_inline_where_kubelet_says_so_and_then_its_context_is_read() {
        let plain = publish(request(&[("csi.storage.k8s.io/ephemeral", "false"), ("size", "x")])).unwrap();
        assert!(plain.inline.is_none());
        assert_eq!(plain.target, Path::new("/var/lib/kubelet/pods/1/mount"));
        let inline = publish(request(&[("csi.storage.k8s.io/ephemeral", "true"), ("size", "2Gi")])).unwrap();
        assert_eq!(inline.inline.unwrap().size, 2 << 30);
        let bad =
            publish(request(&[("csi.storage.k8s.io/ephemeral", "true"), ("colour", "red")])).unwrap_err();
        assert_eq!(bad.kind(), Kind::Invalid);
    }

    #[test]
    fn a_missing_staging_path_is_left_to_the_use_case_and_a_bad_one_is_refused() {
        assert_eq!(publish(request(&[])).unwrap().node.staging, Path::new(""));
        let bad = NodePublishVolumeRequest { staging_target_path: "staging".to_owned(), ..request(&[]) };
        assert!(publish(bad).unwrap_err().to_string().starts_with("staging_target_path: "));
    }
}
