//! Lists and sums over all agents.
//!
//! A list that leaves out what cannot be reached says so in the header [`super::UNREACHABLE`]; only where nothing at all
//! can be reached is it an error. A list of one object's own things goes to that object's agent, and is an error where
//! that cannot be reached: its absence from a list would be taken for its end.

use std::str::FromStr;
use std::sync::Arc;

use super::Router;
use super::agent::Agent;
use super::choose::Room;
use super::clients;
use super::everyone::{SHORT, ask};
use super::failure::{Answer, Partial};
use super::head::Head;
use super::merge::{Part, merge, share};
use crate::csi::capabilities::entries;
use crate::csi::rpc::Rpc;
use crate::proto::csi::*;
use crate::proto::offshoot::lineage_node::Kind as NodeKind;
use crate::proto::offshoot::{GetLineageRequest, GetLineageResponse, LineageNode};
use crate::volume::lineage::Place;
use crate::volume::page::{Ask, Page};
use crate::volume::topology;
use crate::volume::{Error, ObjectId, SnapshotId, VolumeId};

/// One agent's page: what it gave, and its token.
type Given<T> = (Arc<Agent>, (Vec<T>, String));

impl Router {
    pub(super) async fn volumes(
        &self,
        head: Head,
        request: ListVolumesRequest,
    ) -> Answer<Partial<ListVolumesResponse>> {
        let max = self.most::<VolumeId>(&request.starting_token, request.max_entries)?;
        let request = ListVolumesRequest { max_entries: self.each(max)?, ..request };
        let call = |channel, request| async { clients::controller(channel).list_volumes(request).await };
        let heard = self.everyone(Rpc::ListVolumes, &head, request, call).await?;
        let page = heard.try_map(|heard| {
            let given = heard.into_iter().map(|(agent, page)| (agent, (page.entries, page.next_token)));
            let id = |entry: &list_volumes_response::Entry| entry.volume.as_ref()?.volume_id.parse().ok();
            paged::<VolumeId, _>(given, max, id, |_, _| {})
        })?;
        Ok(page.map(|page| ListVolumesResponse {
            entries: page.items,
            next_token: page.next.unwrap_or_default(),
        }))
    }

    pub(super) async fn health(
        &self,
        head: Head,
        request: ControllerListVolumeHealthRequest,
    ) -> Answer<Partial<ControllerListVolumeHealthResponse>> {
        let max = self.most::<VolumeId>(&request.starting_token, request.max_entries)?;
        let request = ControllerListVolumeHealthRequest { max_entries: self.each(max)?, ..request };
        let call = |channel, request| async {
            clients::controller(channel).controller_list_volume_health(request).await
        };
        let heard = self.everyone(Rpc::ControllerListVolumeHealth, &head, request, call).await?;
        let page = heard.try_map(|heard| {
            let given = heard.into_iter().map(|(agent, page)| (agent, (page.entries, page.next_token)));
            paged::<VolumeId, _>(given, max, |entry: &VolumeHealth| entry.volume_id.parse().ok(), |_, _| {})
        })?;
        Ok(page.map(|page| ControllerListVolumeHealthResponse {
            entries: page.items,
            next_token: page.next.unwrap_or_default(),
        }))
    }

    pub(super) async fn snapshots(
        &self,
        head: Head,
        request: ListSnapshotsRequest,
    ) -> Answer<Partial<ListSnapshotsResponse>> {
        let call = |channel, request| async { clients::controller(channel).list_snapshots(request).await };
        // Snapshots lie beside their volume.
        let of = [&request.snapshot_id, &request.source_volume_id].into_iter().find(|id| !id.is_empty());
        if let Some(of) = of {
            let agent = self.owner(of).await?;
            let answer = agent.ask(&head, request, call).await?;
            return Ok(Partial { answer, unreachable: Vec::new() });
        }
        let max = self.most::<SnapshotId>(&request.starting_token, request.max_entries)?;
        let request = ListSnapshotsRequest { max_entries: self.each(max)?, ..request };
        let heard = self.everyone(Rpc::ListSnapshots, &head, request, call).await?;
        let page = heard.try_map(|heard| {
            let given = heard.into_iter().map(|(agent, page)| (agent, (page.entries, page.next_token)));
            let id =
                |entry: &list_snapshots_response::Entry| entry.snapshot.as_ref()?.snapshot_id.parse().ok();
            paged::<SnapshotId, _>(given, max, id, |_, _| {})
        })?;
        Ok(page.map(|page| ListSnapshotsResponse {
            entries: page.items,
            next_token: page.next.unwrap_or_default(),
        }))
    }

    /// The lineage of everything, or of one object as far as agents know of it. A group over several nodes is one node.
    pub(super) async fn lineage(
        &self,
        head: Head,
        request: GetLineageRequest,
    ) -> Answer<Partial<GetLineageResponse>> {
        let max = self.most::<Place>(&request.starting_token, request.max_entries)?;
        let request = GetLineageRequest { max_entries: self.each(max)?, ..request };
        let call = |channel, request| async { clients::copies(channel).get_lineage(request).await };
        let heard = if request.id.is_empty() {
            self.everyone(Rpc::GetLineage, &head, request, call).await?
        } else {
            // The object's own agent says whether it exists; the others may have parts of a group, or copies of it.
            let owner = self.owner(&request.id).await?;
            let object = request.id.parse::<ObjectId>();
            let mut heard =
                ask(&self.agents.all()?, &head, request.clone(), super::everyone::LONG, call).await;
            let is_found = heard.iter().any(|(_, said)| said.is_ok());
            heard.retain(|(agent, said)| match said {
                Err(failure) if failure.is_not_found() => !is_found && agent.node() == owner.node(),
                Err(_) => object.is_ok() || agent.node() == owner.node(),
                Ok(_) => true,
            });
            self.reached(Rpc::GetLineage, heard)?
        };
        let page = heard.try_map(|heard| {
            let given = heard.into_iter().map(|(agent, page)| (agent, (page.nodes, page.next_token)));
            paged::<Place, _>(given, max, |node: &LineageNode| node.place.parse().ok(), join)
        })?;
        Ok(page
            .map(|page| GetLineageResponse { nodes: page.items, next_token: page.next.unwrap_or_default() }))
    }

    /// How many entries the answer may have. A token that is not ours, or a negative number, is refused here: there may
    /// be no agent to do it.
    fn most<K: FromStr + std::fmt::Display + Ord>(&self, token: &str, max: i32) -> Answer<i32> {
        Ask::<K>::parse(token, max)?;
        Ok(entries(max))
    }

    /// How many entries to ask each agent for.
    fn each(&self, max: i32) -> Answer<i32> {
        Ok(share(max, self.agents.all()?.len()))
    }

    /// The room at these agents, as each says it; those that do not say have none.
    pub(super) async fn rooms(
        &self,
        head: &Head,
        agents: &[Arc<Agent>],
        request: GetCapacityRequest,
    ) -> Vec<(Arc<Agent>, Room)> {
        let call = |channel, request| async { clients::controller(channel).get_capacity(request).await };
        let heard = ask(agents, head, request, SHORT, call).await;
        let room = |said: GetCapacityResponse| Room {
            available: said.available_capacity,
            largest: said.maximum_volume_size.unwrap_or(said.available_capacity),
        };
        heard.into_iter().map(|(agent, said)| (agent, said.map(room).unwrap_or_default())).collect()
    }

    /// The room at the nodes that the topology names, or at all.
    pub(super) async fn capacity(
        &self,
        head: Head,
        request: GetCapacityRequest,
    ) -> Answer<Partial<GetCapacityResponse>> {
        let mut agents = self.agents.all()?;
        if let Some(asked) = &request.accessible_topology {
            agents.retain(|agent| topology::is_in(&topology::of_node(agent.node()), &asked.segments));
        }
        let call = |channel, request| async { clients::controller(channel).get_capacity(request).await };
        let heard = self.reached(Rpc::GetCapacity, ask(&agents, &head, request, SHORT, call).await)?;
        Ok(heard.map(|heard| sum(heard.into_iter().map(|(_, said)| said))))
    }
}

/// The room of several nodes together: a volume lies on one, and whoever has no pool says nothing about the smallest.
fn sum(said: impl Iterator<Item = GetCapacityResponse>) -> GetCapacityResponse {
    let mut sum = GetCapacityResponse {
        available_capacity: 0,
        maximum_volume_size: Some(0),
        minimum_volume_size: None,
    };
    for one in said {
        sum.available_capacity = sum.available_capacity.saturating_add(one.available_capacity);
        sum.maximum_volume_size = sum.maximum_volume_size.max(one.maximum_volume_size);
        if one.maximum_volume_size > Some(0) {
            let least = [sum.minimum_volume_size, one.minimum_volume_size].into_iter().flatten().min();
            sum.minimum_volume_size = least;
        }
    }
    sum.minimum_volume_size.get_or_insert(0);
    sum
}

/// Two agents' parts of one group are one node, whose size is that of both.
fn join(node: &mut LineageNode, other: LineageNode) {
    if node.kind() == NodeKind::Group {
        node.size_bytes = node.size_bytes.saturating_add(other.size_bytes);
    }
}

/// One page out of those that the agents gave.
fn paged<K, T: prost::Message>(
    given: impl Iterator<Item = Given<T>>,
    max: i32,
    key: impl Fn(&T) -> Option<K>,
    join: impl Fn(&mut T, T),
) -> Result<Page<T>, Error>
where
    K: FromStr + std::fmt::Display + Ord + Clone,
{
    let mut parts = Vec::new();
    for (agent, (entries, token)) in given {
        let strange = || {
            let text = format!("node {}: its agent answers a list that is not understood", agent.node());
            Error::internal(format!("{text}; bring the controller and its agents to one version"))
        };
        let keyed = |entry: T| Some((key(&entry)?, entry));
        let entries = entries.into_iter().map(keyed).collect::<Option<Vec<_>>>().ok_or_else(strange)?;
        let stopped = Ask::<K>::parse(&token, 0).map_err(|_| strange())?.after;
        parts.push(Part { entries, stopped });
    }
    Ok(merge(parts, usize::try_from(max).unwrap_or(usize::MAX), join, |entry| entry.encoded_len()))
}

impl<T> Partial<T> {
    /// Another answer with the same gaps, or none.
    fn try_map<U>(self, make: impl FnOnce(T) -> Result<U, Error>) -> Result<Partial<U>, Error> {
        Ok(Partial { answer: make(self.answer)?, unreachable: self.unreachable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_add_up_and_a_volume_fits_into_the_largest() {
        let check = |rooms: &[(i64, i64, i64)], expect: (i64, i64, i64)| {
            let said = rooms.iter().map(|&(available, max, min)| GetCapacityResponse {
                available_capacity: available,
                maximum_volume_size: Some(max),
                minimum_volume_size: Some(min),
            });
            let sum = sum(said);
            let found =
                (sum.available_capacity, sum.maximum_volume_size.unwrap(), sum.minimum_volume_size.unwrap());
            assert_eq!(found, expect, "{rooms:?}");
        };
        check(&[], (0, 0, 0));
        check(&[(5, 4, 1)], (5, 4, 1));
        check(&[(5, 4, 2), (7, 7, 1)], (12, 7, 1));
        // A node without a pool.
        check(&[(5, 4, 2), (0, 0, 0)], (5, 4, 2));
        check(&[(i64::MAX, 9, 1), (1, 1, 1)], (i64::MAX, 9, 1));
    }
}
