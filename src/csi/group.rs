//! Snapshots of several volumes, all of one moment.

use tonic::{Request, Response, Status};

use super::rpc::Rpc;
use super::{Edge, answer, capabilities, parse, render};
use crate::proto::csi::group_controller_server::GroupController;
use crate::proto::csi::*;
use crate::volume::names::check_name;
use crate::volume::params::SnapshotParams;
use crate::volume::{Error, Result as Outcome};

/// The ids of a list, each of which must be one.
pub(super) fn ids(field: &str, given: Vec<String>) -> Outcome<Vec<String>> {
    given.into_iter().enumerate().map(|(n, id)| parse::id(&format!("{field}[{n}]"), id)).collect()
}

#[tonic::async_trait]
impl GroupController for Edge {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        answer(Rpc::GroupControllerGetCapabilities, Ok(capabilities::group_controller()))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let CreateVolumeGroupSnapshotRequest { name, source_volume_ids, secrets: _, parameters } =
            request.into_inner();
        let done = async {
            check_name("name", &name)?;
            if source_volume_ids.is_empty() {
                return Err(Error::invalid("source_volume_ids", "is missing"));
            }
            let volumes = ids("source_volume_ids", source_volume_ids)?;
            SnapshotParams::parse(&parameters)?;
            let service = self.service()?;
            let made = service.create_group_snapshot(&name, volumes).await?;
            Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(render::group(service, &made)) })
        };
        answer(Rpc::CreateVolumeGroupSnapshot, done.await)
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets: _ } =
            request.into_inner();
        let done = async {
            let id = parse::id("group_snapshot_id", group_snapshot_id)?;
            let members = ids("snapshot_ids", snapshot_ids)?;
            self.service()?.delete_group_snapshot(&id, &members).await?;
            Ok(DeleteVolumeGroupSnapshotResponse {})
        };
        answer(Rpc::DeleteVolumeGroupSnapshot, done.await)
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let GetVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets: _ } =
            request.into_inner();
        let found = || {
            let id = parse::id("group_snapshot_id", group_snapshot_id)?;
            let members = ids("snapshot_ids", snapshot_ids)?;
            let service = self.service()?;
            let found = service.get_group_snapshot(&id, &members)?;
            Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(render::group(service, &found)) })
        };
        answer(Rpc::GetVolumeGroupSnapshot, found())
    }
}
