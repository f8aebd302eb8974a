//! Group snapshots whose members may lie on several nodes.
//!
//! A group on one node is that node's business. For the others every agent keeps a record of its own members under the
//! common id, and whoever deletes or reads the group names all snapshots in it, as CSI has it: each agent is asked for
//! its own. Where none is named, every agent has to be asked, and each must answer: what one of them has is not gone
//! because it is silent.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::agent::Agent;
use super::cut::Cut;
use super::everyone::{LONG, ask};
use super::failure::{Answer, answer};
use super::head::Head;
use super::{Router, clients};
use crate::csi::capabilities;
use crate::csi::rpc::Rpc;
use crate::proto::csi::group_controller_server::GroupController;
use crate::proto::csi::*;
use crate::volume::names::check_name;
use crate::volume::{Error, GroupId, ObjectId, SnapshotId, VolumeId};

/// The agents of some objects, each with its own, in the order in which the agents are first named.
type Shares = Vec<(Arc<Agent>, Vec<String>)>;

#[tonic::async_trait]
impl GroupController for Router {
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
        let (head, message) = Head::split(request);
        answer(Rpc::CreateVolumeGroupSnapshot, self.create_group(head, message).await)
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let (head, message) = Head::split(request);
        answer(Rpc::DeleteVolumeGroupSnapshot, self.delete_group(head, message).await)
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let (head, message) = Head::split(request);
        answer(Rpc::GetVolumeGroupSnapshot, self.get_group(head, message).await)
    }
}

impl Router {
    async fn create_group(
        &self,
        head: Head,
        request: CreateVolumeGroupSnapshotRequest,
    ) -> Answer<CreateVolumeGroupSnapshotResponse> {
        check_name("name", &request.name)?;
        let ids = &request.source_volume_ids;
        let ours = ids.iter().all(|id| id.parse::<VolumeId>().is_ok());
        let shares = if ours { self.shares(ids).await? } else { Vec::new() };
        let cut = match &shares[..] {
            // No member, or one that is no volume of ours: any agent says so.
            [] => Err(self.agents.any().await?),
            [(only, _)] => Err(only.clone()),
            _ => Ok(Cut::new(head.clone(), &request, shares)?),
        };
        match cut {
            Ok(cut) => {
                // As a task of its own: a caller that hangs up must not leave half a group behind.
                let group_snapshot = Some(cut.run().await?);
                Ok(CreateVolumeGroupSnapshotResponse { group_snapshot })
            }
            Err(agent) => {
                let call = |channel, request| async {
                    clients::group(channel).create_volume_group_snapshot(request).await
                };
                agent.ask(&head, request, call).await
            }
        }
    }

    /// The agents that have these objects. What is no id of ours goes to the first, which refuses it.
    async fn shares(&self, ids: &[String]) -> Result<Shares, Error> {
        let mut shares: Shares = Vec::new();
        for id in ids {
            let agent = match (id.parse::<ObjectId>(), shares.first()) {
                (Err(_), Some((first, _))) => first.clone(),
                _ => self.owner(id).await?,
            };
            match shares.iter_mut().find(|(known, _)| known.node() == agent.node()) {
                Some((_, its)) => its.push(id.clone()),
                None => shares.push((agent, vec![id.clone()])),
            }
        }
        Ok(shares)
    }

    /// Whom to ask about a group: the agents of the snapshots that the caller names, the one whose pool is in the id first.
    /// `None` where no snapshot is named, or the group is no id of ours.
    async fn shares_of_group(&self, group: &str, snapshots: &[String]) -> Result<Option<Shares>, Error> {
        if group.parse::<GroupId>().is_err() {
            return Ok(Some(vec![(self.agents.any().await?, snapshots.to_vec())]));
        }
        if snapshots.is_empty() {
            return Ok(None);
        }
        // A foreign member is refused by the group's own agent, before anything is deleted.
        let home = self.owner(group).await?;
        let named = self.shares(snapshots).await?;
        let mut shares = vec![(home, Vec::new())];
        for (agent, its) in named {
            match shares.iter_mut().find(|(known, _)| known.node() == agent.node()) {
                Some((_, all)) => all.extend(its),
                None => shares.push((agent, its)),
            }
        }
        Ok(Some(shares))
    }

    async fn delete_group(
        &self,
        head: Head,
        request: DeleteVolumeGroupSnapshotRequest,
    ) -> Answer<DeleteVolumeGroupSnapshotResponse> {
        let call =
            |channel, request| async { clients::group(channel).delete_volume_group_snapshot(request).await };
        match self.shares_of_group(&request.group_snapshot_id, &request.snapshot_ids).await? {
            Some(shares) => {
                for (agent, snapshot_ids) in shares {
                    agent
                        .ask(
                            &head,
                            DeleteVolumeGroupSnapshotRequest { snapshot_ids, ..request.clone() },
                            call,
                        )
                        .await?;
                }
            }
            None => {
                for (_, said) in ask(&self.agents.all()?, &head, request, LONG, call).await {
                    said?;
                }
            }
        }
        Ok(DeleteVolumeGroupSnapshotResponse {})
    }

    async fn get_group(
        &self,
        head: Head,
        request: GetVolumeGroupSnapshotRequest,
    ) -> Answer<GetVolumeGroupSnapshotResponse> {
        let call =
            |channel, request| async { clients::group(channel).get_volume_group_snapshot(request).await };
        let mut parts = Vec::new();
        let order = request.snapshot_ids.clone();
        match self.shares_of_group(&request.group_snapshot_id, &request.snapshot_ids).await? {
            Some(shares) => {
                for (agent, snapshot_ids) in shares {
                    let request = GetVolumeGroupSnapshotRequest { snapshot_ids, ..request.clone() };
                    parts.push(agent.ask(&head, request, call).await?);
                }
            }
            None => {
                let mut missing = None;
                for (_, said) in ask(&self.agents.all()?, &head, request, LONG, call).await {
                    match said {
                        Err(failure) if failure.is_not_found() => missing = Some(failure),
                        said => parts.push(said?),
                    }
                }
                if let (true, Some(missing)) = (parts.is_empty(), missing) {
                    return Err(missing);
                }
            }
        }
        let place = |snapshot: &Snapshot| order.iter().position(|id| *id == snapshot.snapshot_id);
        let group = whole(parts.into_iter().filter_map(|part| part.group_snapshot), place)?;
        Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(group) })
    }
}

/// One group out of its parts, its members in the order of `place`, those without one at the end by their ids.
pub(super) fn whole(
    parts: impl Iterator<Item = VolumeGroupSnapshot>,
    place: impl Fn(&Snapshot) -> Option<usize>,
) -> Result<VolumeGroupSnapshot, Error> {
    let mut parts = parts;
    let mut group = parts.next().ok_or_else(|| Error::not_found("the group snapshot"))?;
    for part in parts {
        if part.group_snapshot_id != group.group_snapshot_id {
            let (one, other) = (&group.group_snapshot_id, &part.group_snapshot_id);
            return Err(Error::internal(format!("agents answer parts of two groups, {one} and {other}")));
        }
        group.ready_to_use &= part.ready_to_use;
        group.snapshots.extend(part.snapshots);
    }
    // A member is in the answer once, whoever named it twice.
    let members: BTreeMap<_, _> = group
        .snapshots
        .into_iter()
        .map(|member| {
            let id = member.snapshot_id.parse::<SnapshotId>().ok();
            ((place(&member).unwrap_or(usize::MAX), id, member.snapshot_id.clone()), member)
        })
        .collect();
    group.snapshots = members.into_values().collect();
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_whole_in_the_order_that_was_asked_for() {
        let part = |group: &str, ready_to_use, members: &[&str]| VolumeGroupSnapshot {
            group_snapshot_id: group.to_owned(),
            snapshots: members
                .iter()
                .map(|id| Snapshot { snapshot_id: (*id).to_owned(), ..Snapshot::default() })
                .collect(),
            creation_time: None,
            ready_to_use,
        };
        let order = ["c", "a", "b"];
        let place = |snapshot: &Snapshot| order.iter().position(|id| *id == snapshot.snapshot_id);
        let group =
            whole([part("g", true, &["a", "b"]), part("g", false, &["c"])].into_iter(), place).unwrap();
        let ids: Vec<_> = group.snapshots.iter().map(|member| member.snapshot_id.as_str()).collect();
        assert_eq!((ids, group.ready_to_use), (order.to_vec(), false));
        assert!(whole([part("g", true, &[]), part("h", true, &[])].into_iter(), place).is_err());
        assert!(whole([].into_iter(), place).is_err());
    }
}
