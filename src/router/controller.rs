//! The controller service: each call to the agent of its id, lists to all.

use tonic::{Request, Response, Status};

use super::failure::{answer, answer_partial};
use super::head::Head;
use super::{Router, clients};
use crate::csi::capabilities;
use crate::csi::rpc::Rpc;
use crate::proto::csi::controller_server::Controller;
use crate::proto::csi::*;

/// Passes a call on to the agent that has the object named by a field of it.
macro_rules! to_owner {
    ($self:ident, $request:ident, $rpc:ident, $client:ident.$method:ident, $field:ident) => {{
        let (head, message) = Head::split($request);
        let done = async {
            let agent = $self.owner(&message.$field).await?;
            let call = |channel, request| async { clients::$client(channel).$method(request).await };
            agent.ask(&head, message, call).await
        };
        answer(Rpc::$rpc, done.await)
    }};
}
pub(super) use to_owner;

#[tonic::async_trait]
impl Controller for Router {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let (head, message) = Head::split(request);
        answer(Rpc::CreateVolume, self.create(head, message).await)
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        to_owner!(self, request, DeleteVolume, controller.delete_volume, volume_id)
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        to_owner!(self, request, ControllerPublishVolume, controller.controller_publish_volume, volume_id)
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        to_owner!(self, request, ControllerUnpublishVolume, controller.controller_unpublish_volume, volume_id)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        to_owner!(
            self,
            request,
            ValidateVolumeCapabilities,
            controller.validate_volume_capabilities,
            volume_id
        )
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let (head, message) = Head::split(request);
        answer_partial(Rpc::ListVolumes, self.volumes(head, message).await)
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<ControllerListVolumeHealthRequest>,
    ) -> Result<Response<ControllerListVolumeHealthResponse>, Status> {
        let (head, message) = Head::split(request);
        answer_partial(Rpc::ControllerListVolumeHealth, self.health(head, message).await)
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<ControllerGetVolumeHealthResponse>, Status> {
        to_owner!(
            self,
            request,
            ControllerGetVolumeHealth,
            controller.controller_get_volume_health,
            volume_id
        )
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let (head, message) = Head::split(request);
        answer_partial(Rpc::GetCapacity, self.capacity(head, message).await)
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
        to_owner!(self, request, CreateSnapshot, controller.create_snapshot, source_volume_id)
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        to_owner!(self, request, DeleteSnapshot, controller.delete_snapshot, snapshot_id)
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let (head, message) = Head::split(request);
        answer_partial(Rpc::ListSnapshots, self.snapshots(head, message).await)
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        to_owner!(self, request, GetSnapshot, controller.get_snapshot, snapshot_id)
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        to_owner!(self, request, ControllerExpandVolume, controller.controller_expand_volume, volume_id)
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        to_owner!(self, request, ControllerGetVolume, controller.controller_get_volume, volume_id)
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        to_owner!(self, request, ControllerModifyVolume, controller.controller_modify_volume, volume_id)
    }
}
