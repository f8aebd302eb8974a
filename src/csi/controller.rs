//! Volumes and snapshots as objects: made, copied, grown, listed, deleted.

use tonic::{Request, Response, Status};

use super::capabilities::{self, entries};
use super::rpc::Rpc;
use super::{Edge, answer, parse, render};
use crate::proto::csi::controller_server::Controller;
use crate::proto::csi::*;
use crate::service::api;
use crate::volume::Result as Outcome;
use crate::volume::names::{check_name, check_node_id};
use crate::volume::params::{CreateParams, MutableParams, SnapshotParams};

/// A checked request for a new volume.
pub(super) fn new_volume(request: CreateVolumeRequest) -> Outcome<api::CreateVolume> {
    let CreateVolumeRequest {
        name,
        capacity_range,
        volume_capabilities,
        parameters,
        secrets: _,
        volume_content_source,
        accessibility_requirements,
        mutable_parameters,
    } = request;
    check_name("name", &name)?;
    Ok(api::CreateVolume {
        name,
        range: parse::range(capacity_range)?,
        capabilities: parse::capabilities(volume_capabilities)?,
        params: CreateParams::parse(&parameters, &mutable_parameters)?,
        source: parse::source(volume_content_source)?,
        requisite: parse::requisite(accessibility_requirements),
    })
}

#[tonic::async_trait]
impl Controller for Edge {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        answer(Rpc::CreateVolume, self.create(request.into_inner()).await)
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { volume_id, secrets: _ } = request.into_inner();
        let done = async {
            self.service()?.delete_volume(&parse::id("volume_id", volume_id)?).await?;
            Ok(DeleteVolumeResponse {})
        };
        answer(Rpc::DeleteVolume, done.await)
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let ControllerPublishVolumeRequest {
            volume_id,
            node_id,
            volume_capability,
            readonly,
            secrets: _,
            volume_context,
        } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            check_node_id("node_id", &node_id)?;
            let capability = parse::capability(volume_capability)?;
            parse::map("volume_context", &volume_context)?;
            self.service()?.publish_to_node(&id, &node_id, &capability, readonly).await?;
            Ok(ControllerPublishVolumeResponse::default())
        };
        answer(Rpc::ControllerPublishVolume, done.await)
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let ControllerUnpublishVolumeRequest { volume_id, node_id, secrets: _ } = request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            if !node_id.is_empty() {
                check_node_id("node_id", &node_id)?;
            }
            self.service()?.unpublish_from_node(&id, &node_id).await?;
            Ok(ControllerUnpublishVolumeResponse {})
        };
        answer(Rpc::ControllerUnpublishVolume, done.await)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        answer(Rpc::ValidateVolumeCapabilities, self.validate(request.into_inner()))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let ListVolumesRequest { max_entries, starting_token } = request.into_inner();
        let done = async {
            let page = self.service()?.list_volumes(&starting_token, entries(max_entries), true).await?;
            let entry = |status: &api::VolumeStatus| list_volumes_response::Entry {
                volume: Some(render::volume(status)),
                status: Some(list_volumes_response::VolumeStatus {
                    published_node_ids: status.nodes.clone(),
                    volume_condition: Some(render::condition(&status.faults)),
                }),
            };
            Ok(ListVolumesResponse {
                entries: page.entries.iter().map(entry).collect(),
                next_token: page.next,
            })
        };
        answer(Rpc::ListVolumes, done.await)
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<ControllerListVolumeHealthRequest>,
    ) -> Result<Response<ControllerListVolumeHealthResponse>, Status> {
        let ControllerListVolumeHealthRequest { max_entries, starting_token, secrets: _ } =
            request.into_inner();
        answer(Rpc::ControllerListVolumeHealth, self.list_health(starting_token, max_entries).await)
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<ControllerGetVolumeHealthResponse>, Status> {
        let ControllerGetVolumeHealthRequest { volume_id, secrets: _ } = request.into_inner();
        let done = async {
            let status = self.service()?.get_volume(&parse::id("volume_id", volume_id)?).await?;
            let volume_health = Some(render::health(status.volume.id.to_string(), &status.faults));
            Ok(ControllerGetVolumeHealthResponse { volume_health })
        };
        answer(Rpc::ControllerGetVolumeHealth, done.await)
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let GetCapacityRequest { volume_capabilities, parameters, accessible_topology } =
            request.into_inner();
        let done = async {
            let capabilities = parse::capabilities_if_any(volume_capabilities)?;
            let params = CreateParams::parse(&parameters, &Default::default())?;
            let topology = accessible_topology.map(|topology| topology.segments);
            let room = self.service()?.get_capacity(&capabilities, &params, topology.as_ref()).await?;
            Ok(GetCapacityResponse {
                available_capacity: render::number(room.available),
                maximum_volume_size: Some(render::number(room.maximum)),
                minimum_volume_size: Some(render::number(room.minimum)),
            })
        };
        answer(Rpc::GetCapacity, done.await)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        answer(Rpc::ControllerGetCapabilities, Ok(capabilities::controller()))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let CreateSnapshotRequest {
            source_volume_id,
            name,
            secrets: _,
            parameters,
            accessibility_requirements,
        } = request.into_inner();
        let done = async {
            check_name("name", &name)?;
            let request = api::CreateSnapshot {
                name,
                volume: parse::id("source_volume_id", source_volume_id)?,
                claim: SnapshotParams::parse(&parameters)?.claim,
                requisite: parse::requisite(accessibility_requirements),
            };
            let service = self.service()?;
            // A caller that asked for one topology knows the answer, and csi-sanity takes none but an absent one for right:
            // docs/decisions/0010.
            let told = matches!(&request.requisite[..], [only] if *only == service.topology());
            let made = service.create_snapshot(request).await?;
            let mut snapshot = render::snapshot(service, &made);
            if told {
                snapshot.accessible_topology.clear();
            }
            Ok(CreateSnapshotResponse { snapshot: Some(snapshot) })
        };
        answer(Rpc::CreateSnapshot, done.await)
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let DeleteSnapshotRequest { snapshot_id, secrets: _ } = request.into_inner();
        let done = async {
            self.service()?.delete_snapshot(&parse::id("snapshot_id", snapshot_id)?).await?;
            Ok(DeleteSnapshotResponse {})
        };
        answer(Rpc::DeleteSnapshot, done.await)
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        answer(Rpc::ListSnapshots, self.list_snapshots_of(request.into_inner()))
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let GetSnapshotRequest { snapshot_id, secrets: _ } = request.into_inner();
        let found = || {
            let service = self.service()?;
            let snapshot = service.get_snapshot(&parse::id("snapshot_id", snapshot_id)?)?;
            Ok(GetSnapshotResponse { snapshot: Some(render::snapshot(service, &snapshot)) })
        };
        answer(Rpc::GetSnapshot, found())
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let ControllerExpandVolumeRequest { volume_id, capacity_range, secrets: _, volume_capability } =
            request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let range = parse::required_range(capacity_range)?;
            // Whether a filesystem lies on the volume is known here; a wrong capability is still a wrong request.
            volume_capability.map(|given| parse::capability(Some(given))).transpose()?;
            let expanded = self.service()?.expand_volume(&id, range).await?;
            Ok(ControllerExpandVolumeResponse {
                capacity_bytes: render::number(expanded.size),
                node_expansion_required: expanded.node_expansion_required,
            })
        };
        answer(Rpc::ControllerExpandVolume, done.await)
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let ControllerGetVolumeRequest { volume_id } = request.into_inner();
        let done = async {
            let found = self.service()?.get_volume(&parse::id("volume_id", volume_id)?).await?;
            let status = controller_get_volume_response::VolumeStatus {
                published_node_ids: found.nodes.clone(),
                volume_condition: Some(render::condition(&found.faults)),
            };
            Ok(ControllerGetVolumeResponse { volume: Some(render::volume(&found)), status: Some(status) })
        };
        answer(Rpc::ControllerGetVolume, done.await)
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let ControllerModifyVolumeRequest { volume_id, secrets: _, mutable_parameters } =
            request.into_inner();
        let done = async {
            let id = parse::id("volume_id", volume_id)?;
            let patch = MutableParams::parse(&mutable_parameters)?;
            self.service()?.modify_volume(&id, patch).await?;
            Ok(ControllerModifyVolumeResponse {})
        };
        answer(Rpc::ControllerModifyVolume, done.await)
    }
}

impl Edge {
    async fn create(&self, request: CreateVolumeRequest) -> Outcome<CreateVolumeResponse> {
        let request = new_volume(request)?;
        let made = self.service()?.create_volume(request).await?;
        Ok(CreateVolumeResponse { volume: Some(render::volume(&made)) })
    }

    fn validate(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Outcome<ValidateVolumeCapabilitiesResponse> {
        let ValidateVolumeCapabilitiesRequest {
            volume_id,
            volume_context,
            volume_capabilities,
            parameters,
            secrets: _,
            mutable_parameters,
        } = request;
        let id = parse::id("volume_id", volume_id)?;
        parse::map("volume_context", &volume_context)?;
        let capabilities = parse::capabilities(volume_capabilities.clone())?;
        let unsuitable = self.service()?.validate_capabilities(&id, &capabilities)?;
        let unreadable =
            || CreateParams::parse(&parameters, &mutable_parameters).err().map(|error| error.to_string());
        if let Some(message) = unsuitable.or_else(unreadable) {
            return Ok(ValidateVolumeCapabilitiesResponse { confirmed: None, message });
        }
        let confirmed = validate_volume_capabilities_response::Confirmed {
            volume_context,
            volume_capabilities,
            parameters,
            mutable_parameters,
        };
        Ok(ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() })
    }

    /// Goes through the volumes until a page of findings is full or there are no more.
    async fn list_health(&self, mut token: String, max: i32) -> Outcome<ControllerListVolumeHealthResponse> {
        let service = self.service()?;
        loop {
            // A page of volumes has at most as many findings, so none is ever cut off.
            let page = service.list_volumes(&token, entries(max), true).await?;
            let bad = page.entries.iter().filter(|status| !status.faults.is_empty());
            let entries: Vec<_> =
                bad.map(|status| render::health(status.volume.id.to_string(), &status.faults)).collect();
            if !entries.is_empty() || page.next.is_empty() {
                return Ok(ControllerListVolumeHealthResponse { entries, next_token: page.next });
            }
            token = page.next;
        }
    }

    fn list_snapshots_of(&self, request: ListSnapshotsRequest) -> Outcome<ListSnapshotsResponse> {
        let ListSnapshotsRequest { max_entries, starting_token, source_volume_id, snapshot_id, secrets: _ } =
            request;
        parse::filter_ids(&source_volume_id, &snapshot_id)?;
        let service = self.service()?;
        let filter = api::SnapshotFilter { volume: source_volume_id, snapshot: snapshot_id };
        let page = service.list_snapshots(&filter, &starting_token, entries(max_entries))?;
        let entry =
            |snapshot| list_snapshots_response::Entry { snapshot: Some(render::snapshot(service, snapshot)) };
        Ok(ListSnapshotsResponse {
            entries: page.entries.iter().map(|s| entry(s)).collect(),
            next_token: page.next,
        })
    }
}
