//! Virtual databases as volumes: provisioned, published, copied, listed, deleted.

use tonic::{Request, Response, Status};

use super::super::capabilities::entries;
use super::super::parse;
use super::super::render as usual;
use super::{DelphixEdge, Rpc, answer, render};
use crate::delphix::api;
use crate::delphix::id::NodeId;
use crate::delphix::params::{Params, SnapshotParams};
use crate::proto::csi::controller_server::Controller;
use crate::proto::csi::controller_service_capability::rpc::Type as Can;
use crate::proto::csi::*;
use crate::volume::names::check_name;
use crate::volume::{Error, Kind, Result as Outcome};

/// Everything that the controller service can do. MODIFY_VOLUME is not among it: nothing of a VDB that a StorageClass sets
/// can change while it lives.
const CAN: [Can; 16] = [
    Can::CreateDeleteVolume,
    Can::PublishUnpublishVolume,
    Can::ListVolumes,
    Can::GetCapacity,
    Can::CreateDeleteSnapshot,
    Can::ListSnapshots,
    Can::CloneVolume,
    Can::PublishReadonly,
    Can::ExpandVolume,
    Can::ListVolumesPublishedNodes,
    Can::VolumeCondition,
    Can::GetVolume,
    Can::SingleNodeMultiWriter,
    Can::GetSnapshot,
    Can::GetVolumeHealth,
    Can::ListVolumeHealth,
];

#[tonic::async_trait]
impl Controller for DelphixEdge {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let CreateVolumeRequest {
            name,
            capacity_range,
            volume_capabilities,
            parameters,
            secrets: _,
            volume_content_source,
            accessibility_requirements: _,
            mutable_parameters,
        } = request.into_inner();
        let done = async {
            check_name("name", &name)?;
            let capabilities = parse::capabilities(volume_capabilities)?;
            nothing_mutable(&mutable_parameters)?;
            let request = api::CreateVolume {
                name,
                range: parse::range(capacity_range)?,
                capabilities,
                params: Params::parse(&parameters)?,
                source: parse::source(volume_content_source)?,
            };
            let made = self.driver()?.create_volume(request).await?;
            Ok(CreateVolumeResponse { volume: Some(render::volume(&made)) })
        };
        answer(Rpc::CreateVolume, done.await)
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { volume_id, secrets: _ } = request.into_inner();
        let done = async {
            self.driver()?.delete_volume(&parse::id("volume_id", volume_id)?).await?;
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
            let node = node_of(&node_id)?;
            let capability = parse::capability(volume_capability)?;
            parse::map("volume_context", &volume_context)?;
            let driver = self.driver()?;
            let Some(node) = node else {
                // A volume that does not exist is told before a node that cannot.
                driver.get_volume(&id).await?;
                return Err(no_such_node());
            };
            let context = driver.publish(&id, &node, &capability, readonly).await?;
            Ok(ControllerPublishVolumeResponse { publish_context: context.to_map() })
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
            let node = match node_id.as_str() {
                "" => None,
                given => match node_of(given)? {
                    Some(node) => Some(node),
                    // Nothing can be published to what is no node of this driver.
                    None => return Ok(ControllerUnpublishVolumeResponse {}),
                },
            };
            self.driver()?.unpublish(&id, node.as_ref()).await?;
            Ok(ControllerUnpublishVolumeResponse {})
        };
        answer(Rpc::ControllerUnpublishVolume, done.await)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        answer(Rpc::ValidateVolumeCapabilities, self.validate(request.into_inner()).await)
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let ListVolumesRequest { max_entries, starting_token } = request.into_inner();
        let done = async {
            let page = self.driver()?.list_volumes(&starting_token, entries(max_entries)).await?;
            let entry = |status: &api::VolumeStatus| list_volumes_response::Entry {
                volume: Some(render::volume(&status.volume)),
                status: Some(list_volumes_response::VolumeStatus {
                    published_node_ids: status.nodes.clone(),
                    volume_condition: Some(usual::condition(&status.faults)),
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
            let status = self.driver()?.get_volume(&parse::id("volume_id", volume_id)?).await?;
            let volume_health = Some(usual::health(status.volume.id.to_string(), &status.faults));
            Ok(ControllerGetVolumeHealthResponse { volume_health })
        };
        answer(Rpc::ControllerGetVolumeHealth, done.await)
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let GetCapacityRequest { volume_capabilities, parameters, accessible_topology: _ } =
            request.into_inner();
        let done = async {
            parse::capabilities_if_any(volume_capabilities)?;
            let params = Params::parse(&parameters)?;
            let room = self.driver()?.get_capacity(&params).await?;
            Ok(GetCapacityResponse {
                available_capacity: usual::number(room.available),
                maximum_volume_size: Some(usual::number(room.maximum)),
                minimum_volume_size: Some(usual::number(room.minimum)),
            })
        };
        answer(Rpc::GetCapacity, done.await)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        use controller_service_capability::{Rpc as One, Type};
        let one =
            |can: Can| ControllerServiceCapability { r#type: Some(Type::Rpc(One { r#type: can as i32 })) };
        let capabilities = CAN.map(one).into();
        answer(Rpc::ControllerGetCapabilities, Ok(ControllerGetCapabilitiesResponse { capabilities }))
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
            accessibility_requirements: _,
        } = request.into_inner();
        let done = async {
            check_name("name", &name)?;
            let volume = parse::id("source_volume_id", source_volume_id)?;
            let params = SnapshotParams::parse(&parameters)?;
            let made = self.driver()?.create_snapshot(&name, &volume, params).await?;
            Ok(CreateSnapshotResponse { snapshot: Some(render::snapshot(&made)) })
        };
        answer(Rpc::CreateSnapshot, done.await)
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let DeleteSnapshotRequest { snapshot_id, secrets: _ } = request.into_inner();
        let done = async {
            self.driver()?.delete_snapshot(&parse::id("snapshot_id", snapshot_id)?).await?;
            Ok(DeleteSnapshotResponse {})
        };
        answer(Rpc::DeleteSnapshot, done.await)
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let ListSnapshotsRequest { max_entries, starting_token, source_volume_id, snapshot_id, secrets: _ } =
            request.into_inner();
        let done = async {
            parse::filter_ids(&source_volume_id, &snapshot_id)?;
            let filter = api::SnapshotFilter { volume: source_volume_id, snapshot: snapshot_id };
            let page = self.driver()?.list_snapshots(&filter, &starting_token, entries(max_entries)).await?;
            let entry =
                |snapshot| list_snapshots_response::Entry { snapshot: Some(render::snapshot(snapshot)) };
            Ok(ListSnapshotsResponse {
                entries: page.entries.iter().map(entry).collect(),
                next_token: page.next,
            })
        };
        answer(Rpc::ListSnapshots, done.await)
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let GetSnapshotRequest { snapshot_id, secrets: _ } = request.into_inner();
        let done = async {
            let found = self.driver()?.get_snapshot(&parse::id("snapshot_id", snapshot_id)?).await?;
            Ok(GetSnapshotResponse { snapshot: Some(render::snapshot(&found)) })
        };
        answer(Rpc::GetSnapshot, done.await)
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
            volume_capability.map(|given| parse::capability(Some(given))).transpose()?;
            let size = self.driver()?.expand(&id, range).await?;
            Ok(ControllerExpandVolumeResponse {
                capacity_bytes: usual::number(size),
                node_expansion_required: false,
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
            let found = self.driver()?.get_volume(&parse::id("volume_id", volume_id)?).await?;
            let status = controller_get_volume_response::VolumeStatus {
                published_node_ids: found.nodes.clone(),
                volume_condition: Some(usual::condition(&found.faults)),
            };
            Ok(ControllerGetVolumeResponse {
                volume: Some(render::volume(&found.volume)),
                status: Some(status),
            })
        };
        answer(Rpc::ControllerGetVolume, done.await)
    }

    async fn controller_modify_volume(
        &self,
        _: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let why = "no parameter of a Delphix volume can change while it lives";
        answer(Rpc::ControllerModifyVolume, Err(Error::new(Kind::Unsupported, why)))
    }
}

/// The node of that id, if it is one of this driver's.
fn node_of(given: &str) -> Outcome<Option<NodeId>> {
    crate::volume::names::check_node_id("node_id", given)?;
    Ok(given.parse().ok())
}

fn no_such_node() -> Error {
    let why = "node_id: is no node of this driver, whose ids are like NAME@ADDRESS: does its node plugin run there?";
    Error::new(Kind::NotFound, why)
}

fn nothing_mutable(given: &std::collections::BTreeMap<String, String>) -> Outcome<()> {
    match given.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(
            "mutable_parameters",
            "no parameter of a Delphix volume can change while it lives; use no VolumeAttributesClass",
        )),
    }
}

impl DelphixEdge {
    async fn validate(
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
        let unsuitable = self.driver()?.validate(&id, &capabilities).await?;
        let unreadable = || {
            let checked = nothing_mutable(&mutable_parameters).and_then(|()| Params::parse(&parameters));
            checked.err().map(|error| error.to_string())
        };
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
        let driver = self.driver()?;
        loop {
            let page = driver.list_volumes(&token, entries(max)).await?;
            let bad = page.entries.iter().filter(|status| !status.faults.is_empty());
            let entries: Vec<_> =
                bad.map(|status| usual::health(status.volume.id.to_string(), &status.faults)).collect();
            if !entries.is_empty() || page.next.is_empty() {
                return Ok(ControllerListVolumeHealthResponse { entries, next_token: page.next });
            }
            token = page.next;
        }
    }
}
