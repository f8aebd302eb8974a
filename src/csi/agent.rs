//! What only the router and other agents ask of a node agent: who has a name, one node's part of a group snapshot, and
//! the bytes of a volume for another node.
//!
//! These calls are served beside CSI's on the agent's TCP listener, and nowhere else. The listener holds every call to
//! the role in the certificate of its caller; here only ReadSnapshot looks at it again, since it decides by *which* node
//! asks.

use std::pin::Pin;
use std::sync::Arc;

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::controller::new_volume;
use super::remote::{self, AgentSnapshot};
use super::rpc::Rpc;
use super::status::status;
use super::{Edge, answer, parse, render};
use crate::agent::Peer;
use crate::proto::agent::agent_server::Agent;
use crate::proto::agent::cut_group_request::{Begin, Step as Ask};
use crate::proto::agent::cut_group_response::{Frozen, Step as Answer};
use crate::proto::agent::find_name_request::Kind as NameKind;
use crate::proto::agent::*;
use crate::proto::csi;
use crate::router::{AgentAddress, Connect};
use crate::service::{Gate, GroupPart, Named, Reader, Service};
use crate::volume::names::{check_name, check_node_id};
use crate::volume::params::SnapshotParams;
use crate::volume::record::Millis;
use crate::volume::{Error, GroupId, Kind, Result as Outcome, SnapshotId};

pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The handlers of [`Agent`], over the same use cases as those of [`Edge`]. Cheap to clone.
#[derive(Clone)]
pub struct AgentEdge {
    edge: Edge,
    connect: Arc<dyn Connect>,
}

impl AgentEdge {
    /// Handlers beside those of `edge`: they answer when it has started. Other agents are reached by `connect`, with
    /// this node's own certificate.
    pub fn new(edge: Edge, connect: Arc<dyn Connect>) -> Self {
        AgentEdge { edge, connect }
    }
}

fn moment(given: Option<Timestamp>) -> Outcome<Option<Millis>> {
    let Some(given) = given else { return Ok(None) };
    let millis = given.seconds.checked_mul(1000);
    let millis = millis.and_then(|millis| millis.checked_add(i64::from(given.nanos / 1_000_000)));
    millis.map(Some).ok_or_else(|| Error::invalid("created", "is out of range"))
}

/// A checked `begin`.
struct Part {
    name: String,
    volumes: Vec<String>,
    id: GroupId,
    created: Option<Millis>,
}

fn begin(given: Option<CutGroupRequest>) -> Outcome<Part> {
    let begin = match given.and_then(|request| request.step) {
        Some(Ask::Begin(begin)) => begin,
        _ => return Err(Error::invalid("step", "is not `begin`, which comes first")),
    };
    let Begin { name, group_snapshot_id, source_volume_ids, parameters, created } = begin;
    check_name("name", &name)?;
    let id = parse::id("group_snapshot_id", group_snapshot_id)?;
    let id = id.parse().map_err(|_| Error::invalid("group_snapshot_id", "is no id of a group snapshot"))?;
    SnapshotParams::parse(&parameters)?;
    Ok(Part {
        name,
        volumes: super::group::ids("source_volume_ids", source_volume_ids)?,
        id,
        created: moment(created)?,
    })
}

/// One call from its first message to its answer. Before `cut`, whatever ends the caller's stream ends the call with
/// nothing done.
async fn cut_group(
    service: &Service,
    asked: &mut Streaming<CutGroupRequest>,
    answers: &mpsc::Sender<Result<CutGroupResponse, Status>>,
) -> Outcome<csi::VolumeGroupSnapshot> {
    let gone = |_| Error::new(Kind::Exhausted, "nothing was cut: the caller's stream broke");
    let limit = service.settings().freeze_limit;
    let first = tokio::time::timeout(limit, asked.message()).await;
    let first = first.map_err(|_| Error::invalid("step", "does not come"))?.map_err(gone)?;
    let Part { name, volumes, id, created } = begin(first)?;
    let (gate, reached, opens) = Gate::new();
    let cutting = service.cut_group_part(&name, volumes, GroupPart { id, created, gate });
    let asking = async {
        // Dropped where the work ended before it came so far; its own answer says why.
        let Ok(existing) = reached.await else { return };
        let existing_group_snapshot_id = existing.map(|id| id.to_string()).unwrap_or_default();
        let step = Some(Answer::Frozen(Frozen { existing_group_snapshot_id }));
        if answers.send(Ok(CutGroupResponse { step })).await.is_err() {
            return;
        }
        let next = tokio::select! {
            next = asked.message() => next,
            () = answers.closed() => return,
        };
        if let Ok(Some(CutGroupRequest { step: Some(Ask::Cut(_)) })) = next {
            let _ = opens.send(());
        }
    };
    let (made, ()) = tokio::join!(cutting, asking);
    Ok(render::group(service, &made?))
}

#[tonic::async_trait]
impl Agent for AgentEdge {
    type CutGroupStream = Messages<CutGroupResponse>;
    type ReadSnapshotStream = Messages<ReadSnapshotResponse>;

    async fn find_name(
        &self,
        request: Request<FindNameRequest>,
    ) -> Result<Response<FindNameResponse>, Status> {
        let FindNameRequest { kind, name } = request.into_inner();
        let found = || {
            check_name("name", &name)?;
            let kind = match NameKind::try_from(kind) {
                Ok(NameKind::Volume) => Named::Volume,
                Ok(NameKind::Snapshot) => Named::Snapshot,
                Ok(NameKind::Group) => Named::Group,
                Ok(NameKind::UnknownKind) | Err(_) => {
                    return Err(Error::invalid("kind", "is none that has names here"));
                }
            };
            let found = self.edge.service()?.find_name(kind, &name);
            Ok(FindNameResponse { id: found.map(|id| id.to_string()).unwrap_or_default() })
        };
        answer(Rpc::FindName, found())
    }

    async fn cut_group(
        &self,
        request: Request<Streaming<CutGroupRequest>>,
    ) -> Result<Response<Self::CutGroupStream>, Status> {
        let service = match self.edge.service() {
            Ok(service) => service.clone(),
            Err(error) => return answer(Rpc::CutGroup, Err(error)),
        };
        let mut asked = request.into_inner();
        let (send, receive) = mpsc::channel(2);
        let cutting = async move {
            let done = cut_group(&service, &mut asked, &send).await;
            let last = done.map(|group| CutGroupResponse { step: Some(Answer::Group(group)) });
            // A caller that is gone finds the group by its name.
            let _ = send.send(last.map_err(|error| status(Rpc::CutGroup, &error))).await;
        };
        // Answered at once: the caller may wait for that before it says `begin`.
        tokio::spawn(cutting.in_current_span());
        answer(Rpc::CutGroup, Ok(Box::pin(ReceiverStream::new(receive)) as Messages<_>))
    }

    async fn allow_read(
        &self,
        request: Request<AllowReadRequest>,
    ) -> Result<Response<AllowReadResponse>, Status> {
        let AllowReadRequest { snapshot_id, node } = request.into_inner();
        let allowed = || {
            let id = parse::id("snapshot_id", snapshot_id)?;
            check_node_id("node", &node)?;
            self.edge.service()?.allow_read(&id, &node)?;
            Ok(AllowReadResponse {})
        };
        answer(Rpc::AllowRead, allowed())
    }

    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let ReadSnapshotRequest { snapshot_id, start_offset } = request.into_inner();
        let done = async {
            let id = parse::id("snapshot_id", snapshot_id)?;
            let start = parse::offset("start_offset", start_offset)?;
            let reader = match &peer {
                Some(Peer::Controller) => Reader::Controller,
                Some(Peer::Node(node)) => Reader::Node(node),
                None => {
                    let why = "snapshots are read by those who show a certificate, and there is none";
                    return Err(Error::new(Kind::Denied, why));
                }
            };
            let (described, sending) = self.edge.service()?.send_snapshot(&id, start, reader).await?;
            Ok(remote::send(described, sending))
        };
        answer(Rpc::ReadSnapshot, done.await)
    }

    async fn create_volume_from(
        &self,
        request: Request<CreateVolumeFromRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        let CreateVolumeFromRequest { request, snapshot_id, address, node } = request.into_inner();
        let done = async {
            let request = new_volume(parse::required("request", request)?)?;
            let snapshot = parse::id("snapshot_id", snapshot_id)?;
            let snapshot: SnapshotId = snapshot
                .parse()
                .map_err(|_| Error::invalid("snapshot_id", "is no id of a snapshot of this driver"))?;
            check_node_id("node", &node)?;
            if address.is_empty() {
                return Err(Error::invalid("address", "is missing"));
            }
            let agent = AgentAddress { node, address };
            let remote = AgentSnapshot { connect: self.connect.clone(), agent, snapshot };
            let service = self.edge.service()?;
            let made = service.create_volume_from(request, snapshot, Arc::new(remote)).await?;
            Ok(csi::CreateVolumeResponse { volume: Some(render::volume(&made)) })
        };
        answer(Rpc::CreateVolumeFrom, done.await)
    }
}
