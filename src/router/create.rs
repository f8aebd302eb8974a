//! CreateVolume: which node a new volume is made on.
//!
//! CSI wants one volume per name, and nobody but the agents knows names: so all are asked first, and a retry goes where
//! the first call went, whatever it prefers now. Copies stay with their source. A blank volume goes to the first of the
//! preferred nodes that has room, then to the others. A node whose agent does not answer is passed over, unless it is
//! the only one: a volume of this name that it may hold is found as an orphan later, and refusing to work until the
//! last node answers would stop a cluster for each one that is repaired.

use std::sync::Arc;

use super::Router;
use super::agent::Agent;
use super::choose::{self, by_room};
use super::clients;
use super::everyone::{SHORT, ask};
use super::failure::{Answer, Failure};
use super::head::Head;
use crate::proto::agent::FindNameRequest;
use crate::proto::agent::find_name_request::Kind as NameKind;
use crate::proto::csi::volume_content_source::Type;
use crate::proto::csi::*;
use crate::volume::names::check_name;
use crate::volume::topology::{self, Segments};
use crate::volume::{Error, Kind, ObjectId};

/// The key of a StorageClass that allows a copy to leave the node of its source.
const ALLOW_REMOTE_COPY: &str = "allowRemoteCopy";

/// Where a request wants its volume.
pub(super) struct Wish {
    requisite: Vec<Segments>,
    preferred: Vec<Segments>,
}

impl Wish {
    fn of(request: &CreateVolumeRequest) -> Wish {
        let given = request.accessibility_requirements.clone().unwrap_or_default();
        let segments = |places: Vec<Topology>| places.into_iter().map(|place| place.segments).collect();
        Wish { requisite: segments(given.requisite), preferred: segments(given.preferred) }
    }

    fn allows(&self, agent: &Agent) -> bool {
        topology::may_serve(&topology::of_node(agent.node()), &self.requisite)
    }
}

/// Who answers, and who has the name.
struct Named {
    /// Agents that answered.
    live: Vec<Arc<Agent>>,
    /// Those among them that have it.
    having: Vec<Arc<Agent>>,
    /// Agents that did not, and why.
    silent: Vec<(Arc<Agent>, Failure)>,
}

/// What a request is to copy, as it names it.
pub(super) enum From {
    Snapshot(String),
    Volume(String),
}

impl From {
    fn of(request: &CreateVolumeRequest) -> Option<From> {
        match request.volume_content_source.clone()?.r#type? {
            Type::Snapshot(source) => Some(From::Snapshot(source.snapshot_id)),
            Type::Volume(source) => Some(From::Volume(source.volume_id)),
        }
    }

    /// Its id, where it is one of ours.
    fn id(&self) -> Option<ObjectId> {
        let (From::Snapshot(id) | From::Volume(id)) = self;
        id.parse().ok()
    }
}

/// Sends a request to one agent, unchanged.
async fn forward(agent: &Agent, head: &Head, request: CreateVolumeRequest) -> Answer<CreateVolumeResponse> {
    let call = |channel, request| async { clients::controller(channel).create_volume(request).await };
    agent.ask(head, request, call).await
}

impl Router {
    pub(super) async fn create(
        &self,
        head: Head,
        request: CreateVolumeRequest,
    ) -> Answer<CreateVolumeResponse> {
        check_name("name", &request.name)?;
        let _alone = self.making(&request.name)?;
        let wish = Wish::of(&request);
        let named = self.find_volume(&head, &request.name).await?;
        let had = named.having.iter().find(|agent| wish.allows(agent)).or(named.having.first()).cloned();
        if let Some(from) = From::of(&request)
            && let Some(id) = from.id()
        {
            let owner = self.agents.of_pool(id.pool()).await.map_err(|error| error.context(id))?;
            let may_leave =
                request.parameters.get(ALLOW_REMOTE_COPY).is_some_and(|allowed| allowed == "true");
            return match had {
                Some(had) if had.node() != owner.node() && may_leave => {
                    match self.copy_to(&head, request.clone(), from, &owner, vec![had.clone()], true).await {
                        // The source may go as soon as the copy is finished; that one is still the answer.
                        Err(failure) if failure.is_not_found() => forward(&had, &head, request).await,
                        done => done,
                    }
                }
                Some(had) => forward(&had, &head, request).await,
                None if wish.allows(&owner) => forward(&owner, &head, request).await,
                None if may_leave => {
                    let targets = self.candidates(&head, &request, &wish, named).await?;
                    self.copy_to(&head, request, from, &owner, targets, false).await
                }
                None => Err(elsewhere(id, &owner).into()),
            };
        }
        if let Some(had) = had {
            return forward(&had, &head, request).await;
        }
        let candidates = self.candidates(&head, &request, &wish, named).await?;
        let mut no_room = NoRoom::default();
        for agent in candidates {
            let made = forward(&agent, &head, request.clone()).await;
            if let Some(done) = no_room.tried(&agent, made) {
                return done;
            }
        }
        Err(no_room.failure())
    }

    /// Asks every agent whether it has a volume of that name, finished or not.
    async fn find_volume(&self, head: &Head, name: &str) -> Answer<Named> {
        let request = FindNameRequest { kind: NameKind::Volume as i32, name: name.to_owned() };
        let call = |channel, request| async { clients::agent(channel).find_name(request).await };
        let heard = ask(&self.agents.all()?, head, request, SHORT, call).await;
        let mut named = Named { live: Vec::new(), having: Vec::new(), silent: Vec::new() };
        for (agent, said) in heard {
            match said {
                Ok(said) => {
                    if !said.id.is_empty() {
                        named.having.push(agent.clone());
                    }
                    named.live.push(agent);
                }
                Err(failure) => named.silent.push((agent, failure)),
            }
        }
        Ok(named)
    }

    /// The agents to try, best first; at least one.
    async fn candidates(
        &self,
        head: &Head,
        request: &CreateVolumeRequest,
        wish: &Wish,
        named: Named,
    ) -> Answer<Vec<Arc<Agent>>> {
        let Named { live, silent, .. } = named;
        let nodes: Vec<&str> = live.iter().map(|agent| agent.node()).collect();
        let order = choose::order(&nodes, &wish.preferred, &wish.requisite);
        let chosen = |n: &usize| live.get(*n).cloned();
        let mut candidates: Vec<_> = order.preferred.iter().filter_map(chosen).collect();
        let others: Vec<_> = order.others.iter().filter_map(chosen).collect();
        if others.len() > 1 {
            let asked = GetCapacityRequest {
                volume_capabilities: request.volume_capabilities.clone(),
                parameters: request.parameters.clone(),
                accessible_topology: None,
            };
            let (agents, rooms): (Vec<_>, Vec<_>) =
                self.rooms(head, &others, asked).await.into_iter().unzip();
            let mut rooms: Vec<_> = rooms.into_iter().enumerate().collect();
            let size = request.capacity_range.as_ref().map_or(0, |range| range.required_bytes);
            by_room(&mut rooms, size);
            candidates.extend(rooms.iter().filter_map(|(n, _)| agents.get(*n).cloned()));
        } else {
            candidates.extend(others);
        }
        if !candidates.is_empty() {
            return Ok(candidates);
        }
        match silent.into_iter().find(|(agent, _)| wish.allows(agent)) {
            Some((_, failure)) => Err(failure),
            None => Err(Error::new(
                Kind::Exhausted,
                "accessibility_requirements: no node with an agent is among the requisite topologies",
            )
            .into()),
        }
    }
}

/// Why each of the nodes that were tried has no room.
#[derive(Default)]
pub(super) struct NoRoom(Vec<(String, Failure)>);

impl NoRoom {
    /// What came of trying one node, unless the next is to be tried.
    pub(super) fn tried<T>(&mut self, agent: &Agent, made: Answer<T>) -> Option<Answer<T>> {
        match made {
            Err(failure) if failure.is_exhausted() => {
                tracing::info!(node = agent.node(), why = failure.text(), "no room there");
                self.0.push((agent.node().to_owned(), failure));
                None
            }
            other => Some(other),
        }
    }

    /// The answer where no node has room: everybody's reasons, unless there is only one.
    pub(super) fn failure(mut self) -> Failure {
        if self.0.len() == 1
            && let Some((_, only)) = self.0.pop()
        {
            return only;
        }
        let told: Vec<_> =
            self.0.iter().take(3).map(|(node, why)| format!("node {node}: {}", why.text())).collect();
        let text = format!("none of {} nodes has room: {}", self.0.len(), told.join("; "));
        Error::new(Kind::Exhausted, text).into()
    }
}

fn elsewhere(id: ObjectId, owner: &Agent) -> Error {
    Error::new(
        Kind::Exhausted,
        format!(
            "volume_content_source: {id} is on node {}, which accessibility_requirements leave out; let the pod run there, or set `{ALLOW_REMOTE_COPY}: \"true\"` in the StorageClass",
            owner.node()
        ),
    )
}
