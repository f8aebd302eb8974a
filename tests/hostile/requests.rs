//! One good request for every call: what the hostile ones differ from in one field.

#![allow(dead_code, unreachable_pub, reason = "a module of several test binaries")]

use std::collections::BTreeMap;

use offshoot::csi::rpc::Rpc;
use offshoot::proto::csi as pb;
use offshoot::proto::offshoot as own;
use prost::Message;

use super::world::*;

/// The encoded request that succeeds in a furnished world.
pub fn good(rpc: Rpc, ids: &Ids) -> Vec<u8> {
    csi(rpc, ids).or_else(|| node(rpc, ids)).or_else(|| copies(rpc, ids)).unwrap_or_default()
}

fn topology() -> pb::Topology {
    pb::Topology { segments: strings(&[("topology.offshoot.dev/node", NODE)]) }
}

fn requirement() -> Option<pb::TopologyRequirement> {
    Some(pb::TopologyRequirement { requisite: vec![topology()], preferred: vec![topology()] })
}

fn parameters() -> BTreeMap<String, String> {
    strings(&[
        ("pool", "fast"),
        ("fsType", "ext4"),
        ("mkfsOptions", "-m 1"),
        ("provisioning", "thin"),
        ("discard", "true"),
        ("layout", "image"),
        ("readAheadKiB", "128"),
        ("directIO", "auto"),
        ("allowBlockToFilesystem", "false"),
        ("csi.storage.k8s.io/pvc/name", "claim"),
        ("csi.storage.k8s.io/pvc/namespace", "default"),
    ])
}

fn mutable() -> BTreeMap<String, String> {
    strings(&[("provisioning", "thin"), ("readAheadKiB", "64"), ("directIO", "auto")])
}

fn claim_of_snapshot() -> BTreeMap<String, String> {
    strings(&[
        ("csi.storage.k8s.io/volumesnapshot/name", "monday"),
        ("csi.storage.k8s.io/volumesnapshot/namespace", "default"),
    ])
}

fn range(size: i64) -> Option<pb::CapacityRange> {
    Some(pb::CapacityRange { required_bytes: size, limit_bytes: 0 })
}

fn csi(rpc: Rpc, ids: &Ids) -> Option<Vec<u8>> {
    let bytes = match rpc {
        Rpc::CreateVolume => pb::CreateVolumeRequest {
            parameters: parameters(),
            mutable_parameters: mutable(),
            accessibility_requirements: requirement(),
            volume_content_source: of_snapshot(&ids.old),
            ..create("another")
        }
        .encode_to_vec(),
        Rpc::DeleteVolume => {
            pb::DeleteVolumeRequest { volume_id: ids.copy.clone(), secrets: secrets() }.encode_to_vec()
        }
        Rpc::ControllerPublishVolume => pb::ControllerPublishVolumeRequest {
            volume_id: ids.volume.clone(),
            node_id: NODE.to_owned(),
            volume_capability: Some(capability()),
            readonly: false,
            secrets: secrets(),
            volume_context: strings(&[("a", "b")]),
        }
        .encode_to_vec(),
        Rpc::ControllerUnpublishVolume => pb::ControllerUnpublishVolumeRequest {
            volume_id: ids.attached.clone(),
            node_id: NODE.to_owned(),
            secrets: secrets(),
        }
        .encode_to_vec(),
        Rpc::ValidateVolumeCapabilities => pb::ValidateVolumeCapabilitiesRequest {
            volume_id: ids.volume.clone(),
            volume_context: strings(&[("a", "b")]),
            volume_capabilities: vec![capability()],
            parameters: parameters(),
            secrets: secrets(),
            mutable_parameters: mutable(),
        }
        .encode_to_vec(),
        Rpc::GetCapacity => pb::GetCapacityRequest {
            volume_capabilities: vec![capability()],
            parameters: parameters(),
            accessible_topology: Some(topology()),
        }
        .encode_to_vec(),
        Rpc::ControllerGetVolumeHealth => {
            pb::ControllerGetVolumeHealthRequest { volume_id: ids.volume.clone(), secrets: secrets() }
                .encode_to_vec()
        }
        Rpc::CreateSnapshot => pb::CreateSnapshotRequest {
            source_volume_id: ids.volume.clone(),
            name: "another".to_owned(),
            secrets: secrets(),
            parameters: claim_of_snapshot(),
            accessibility_requirements: requirement(),
        }
        .encode_to_vec(),
        Rpc::DeleteSnapshot => {
            pb::DeleteSnapshotRequest { snapshot_id: ids.new.clone(), secrets: secrets() }.encode_to_vec()
        }
        Rpc::GetSnapshot => {
            pb::GetSnapshotRequest { snapshot_id: ids.old.clone(), secrets: secrets() }.encode_to_vec()
        }
        Rpc::ControllerExpandVolume => pb::ControllerExpandVolumeRequest {
            volume_id: ids.volume.clone(),
            capacity_range: range(2 * GIB),
            secrets: secrets(),
            volume_capability: Some(capability()),
        }
        .encode_to_vec(),
        Rpc::ControllerGetVolume => {
            pb::ControllerGetVolumeRequest { volume_id: ids.volume.clone() }.encode_to_vec()
        }
        Rpc::ControllerModifyVolume => pb::ControllerModifyVolumeRequest {
            volume_id: ids.volume.clone(),
            secrets: secrets(),
            mutable_parameters: mutable(),
        }
        .encode_to_vec(),
        Rpc::CreateVolumeGroupSnapshot => pb::CreateVolumeGroupSnapshotRequest {
            name: "another".to_owned(),
            source_volume_ids: vec![ids.volume.clone(), ids.copy.clone()],
            secrets: secrets(),
            parameters: BTreeMap::new(),
        }
        .encode_to_vec(),
        Rpc::DeleteVolumeGroupSnapshot => pb::DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: ids.group.clone(),
            snapshot_ids: vec![ids.member.clone()],
            secrets: secrets(),
        }
        .encode_to_vec(),
        Rpc::GetVolumeGroupSnapshot => pb::GetVolumeGroupSnapshotRequest {
            group_snapshot_id: ids.group.clone(),
            snapshot_ids: vec![ids.member.clone()],
            secrets: secrets(),
        }
        .encode_to_vec(),
        Rpc::GetMetadataAllocated => pb::GetMetadataAllocatedRequest {
            snapshot_id: ids.old.clone(),
            starting_offset: 0,
            max_results: 4,
            secrets: secrets(),
        }
        .encode_to_vec(),
        Rpc::GetMetadataDelta => pb::GetMetadataDeltaRequest {
            base_snapshot_id: ids.old.clone(),
            target_snapshot_id: ids.new.clone(),
            starting_offset: 0,
            max_results: 4,
            secrets: secrets(),
        }
        .encode_to_vec(),
        _ => return None,
    };
    Some(bytes)
}

fn node(rpc: Rpc, ids: &Ids) -> Option<Vec<u8>> {
    let context =
        || strings(&[("csi.storage.k8s.io/pod.name", "pod"), ("csi.storage.k8s.io/ephemeral", "false")]);
    let bytes = match rpc {
        Rpc::NodeStageVolume => pb::NodeStageVolumeRequest {
            volume_id: ids.volume.clone(),
            publish_context: strings(&[("a", "b")]),
            staging_target_path: STAGING.to_owned(),
            volume_capability: Some(capability()),
            secrets: secrets(),
            volume_context: context(),
        }
        .encode_to_vec(),
        Rpc::NodeUnstageVolume => pb::NodeUnstageVolumeRequest {
            volume_id: ids.staged.clone(),
            staging_target_path: STAGED_STAGING.to_owned(),
        }
        .encode_to_vec(),
        Rpc::NodePublishVolume => pb::NodePublishVolumeRequest {
            volume_id: ids.staged.clone(),
            publish_context: strings(&[("a", "b")]),
            staging_target_path: STAGED_STAGING.to_owned(),
            target_path: TARGET.to_owned(),
            volume_capability: Some(capability()),
            readonly: false,
            secrets: secrets(),
            volume_context: context(),
        }
        .encode_to_vec(),
        Rpc::NodeUnpublishVolume => pb::NodeUnpublishVolumeRequest {
            volume_id: ids.used.clone(),
            target_path: USED_TARGET.to_owned(),
        }
        .encode_to_vec(),
        Rpc::NodeGetVolumeStats => pb::NodeGetVolumeStatsRequest {
            volume_id: ids.used.clone(),
            volume_path: USED_TARGET.to_owned(),
            staging_target_path: USED_STAGING.to_owned(),
        }
        .encode_to_vec(),
        Rpc::NodeGetVolumeHealth => pb::NodeGetVolumeHealthRequest {
            volume_id: ids.used.clone(),
            volume_publish_path: USED_TARGET.to_owned(),
            staging_target_path: USED_STAGING.to_owned(),
        }
        .encode_to_vec(),
        Rpc::NodeExpandVolume => pb::NodeExpandVolumeRequest {
            volume_id: ids.used.clone(),
            volume_path: USED_TARGET.to_owned(),
            capacity_range: range(GIB),
            staging_target_path: USED_STAGING.to_owned(),
            volume_capability: Some(capability()),
            secrets: secrets(),
        }
        .encode_to_vec(),
        _ => return None,
    };
    Some(bytes)
}

/// Kubelet's request for an inline volume, which is made when a pod starts.
pub fn inline() -> Vec<u8> {
    let mut context = parameters();
    context.retain(|key, _| !key.contains("pvc/") && key != "allowBlockToFilesystem");
    context.extend(strings(&[
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/serviceAccount.tokens", "{\"a\":1}"),
        ("csi.storage.k8s.io/pod.name", "pod"),
        ("csi.storage.k8s.io/pod.namespace", "default"),
        ("size", "1Gi"),
    ]));
    let request = pb::NodePublishVolumeRequest {
        volume_id: "csi-0123456789abcdef".to_owned(),
        target_path: TARGET.to_owned(),
        volume_capability: Some(capability()),
        volume_context: context,
        ..Default::default()
    };
    request.encode_to_vec()
}

fn copies(rpc: Rpc, ids: &Ids) -> Option<Vec<u8>> {
    let bytes = match rpc {
        Rpc::RewindVolume => own::RewindVolumeRequest {
            volume_id: ids.volume.clone(),
            snapshot_id: ids.old.clone(),
            secrets: secrets(),
            timestamp: String::new(),
        }
        .encode_to_vec(),
        Rpc::RefreshVolume => own::RefreshVolumeRequest {
            volume_id: ids.copy.clone(),
            from: Some(own::refresh_volume_request::From::SnapshotId(ids.new.clone())),
            secrets: secrets(),
        }
        .encode_to_vec(),
        Rpc::GetLineage => {
            own::GetLineageRequest { id: ids.volume.clone(), ..Default::default() }.encode_to_vec()
        }
        Rpc::CreatePool => own::CreatePoolRequest {
            name: "third".to_owned(),
            kind: Some(own::create_pool_request::Kind::Path("/third".to_owned())),
            parameters: BTreeMap::new(),
        }
        .encode_to_vec(),
        Rpc::DeletePool => own::DeletePoolRequest { name_or_id: "second".to_owned() }.encode_to_vec(),
        Rpc::WatchProgress => own::WatchProgressRequest { volume_id: ids.volume.clone() }.encode_to_vec(),
        _ => return None,
    };
    Some(bytes)
}

/// A request for a pool in a file.
pub fn file_pool() -> Vec<u8> {
    let file = own::FilePool { file: "/third/pool.img".to_owned(), size_bytes: 4 * GIB };
    let kind = Some(own::create_pool_request::Kind::File(file));
    own::CreatePoolRequest { name: "third".to_owned(), kind, parameters: BTreeMap::new() }.encode_to_vec()
}
