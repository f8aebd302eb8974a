//! Agents that play a part: they note what they are asked for, in the order of all nodes, and fail where they are told.
//!
//! Their volumes are real; only the calls between router and agents are played.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use offshoot::csi::Edge;
use offshoot::proto::agent::agent_server::Agent;
use offshoot::proto::agent::cut_group_request::Step as Ask;
use offshoot::proto::agent::cut_group_response::{Frozen, Step};
use offshoot::proto::agent::*;
use offshoot::proto::csi as pb;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// What an agent is to do otherwise than well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Says that it cannot freeze.
    Freeze,
    /// Says that it cannot cut.
    Cut,
    /// Ends the stream instead of saying that it has frozen.
    Vanish,
    /// Has a group of this name already.
    Has(String),
    /// Has no room for a copy.
    NoRoom,
    /// Cannot delete its part of a group.
    Delete,
}

/// The part of one node, and the notes of all.
#[derive(Clone)]
pub(crate) struct Scripted {
    node: String,
    notes: Arc<Mutex<Vec<String>>>,
    faults: Arc<Mutex<Vec<(String, Fault)>>>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Scripted { node: String::new(), notes: Arc::default(), faults: Arc::default() }
    }

    pub(crate) fn on(&self, node: &str) -> Self {
        Scripted { node: node.to_owned(), ..self.clone() }
    }

    /// `node` is to fail like this from now on.
    pub(crate) fn fail(&self, node: &str, fault: Fault) {
        self.faults.lock().unwrap().push((node.to_owned(), fault));
    }

    /// All is well from now on.
    pub(crate) fn mend(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// The notes since the last time.
    pub(crate) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.notes.lock().unwrap().push(format!("{} {what}", self.node));
    }

    fn is_to(&self, fault: &Fault) -> bool {
        self.faults.lock().unwrap().iter().any(|(node, given)| *node == self.node && given == fault)
    }

    fn has(&self) -> Option<String> {
        self.faults.lock().unwrap().iter().find_map(|(node, fault)| match fault {
            Fault::Has(id) if *node == self.node => Some(id.clone()),
            _ => None,
        })
    }

    /// The controller services of `edge`, with notes of what they do for groups.
    pub(crate) fn around(&self, edge: Edge) -> Around {
        Around { script: self.clone(), edge }
    }

    async fn play(
        self,
        mut asked: Streaming<CutGroupRequest>,
        answers: mpsc::Sender<Result<CutGroupResponse, Status>>,
    ) {
        let Ok(Some(CutGroupRequest { step: Some(Ask::Begin(begin)) })) = asked.message().await else {
            return;
        };
        assert!(begin.created.is_some());
        if self.is_to(&Fault::Vanish) {
            return;
        }
        if self.is_to(&Fault::Freeze) {
            let _ = answers.send(Err(Status::failed_precondition("cannot freeze"))).await;
            return;
        }
        let existing = self.has();
        self.note(if existing.is_some() { "has it" } else { "frozen" });
        let id = existing.clone().unwrap_or(begin.group_snapshot_id);
        let frozen = Frozen { existing_group_snapshot_id: existing.clone().unwrap_or_default() };
        let _ = answers.send(Ok(CutGroupResponse { step: Some(Step::Frozen(frozen)) })).await;
        match asked.message().await {
            Ok(Some(CutGroupRequest { step: Some(Ask::Cut(_)) })) if existing.is_some() => {
                self.note("answers")
            }
            Ok(Some(CutGroupRequest { step: Some(Ask::Cut(_)) })) => self.note("cut"),
            _ => {
                self.note("thawed");
                return;
            }
        }
        if self.is_to(&Fault::Cut) {
            let _ = answers.send(Err(Status::resource_exhausted("cannot cut"))).await;
            return;
        }
        let member = |volume: &String| pb::Snapshot {
            snapshot_id: volume.replacen('v', "s", 1),
            source_volume_id: volume.clone(),
            ready_to_use: true,
            group_snapshot_id: id.clone(),
            ..Default::default()
        };
        let group = pb::VolumeGroupSnapshot {
            group_snapshot_id: id.clone(),
            snapshots: begin.source_volume_ids.iter().map(member).collect(),
            creation_time: begin.created,
            ready_to_use: true,
        };
        let _ = answers.send(Ok(CutGroupResponse { step: Some(Step::Group(group)) })).await;
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Scripted {
    type CutGroupStream = Messages<CutGroupResponse>;
    type ReadSnapshotStream = Messages<ReadSnapshotResponse>;

    async fn find_name(
        &self,
        request: Request<FindNameRequest>,
    ) -> Result<Response<FindNameResponse>, Status> {
        let id = request.metadata().get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
        if let Some(id) = id {
            self.note(format!("find {} for {id}", request.get_ref().name));
        }
        Ok(Response::new(FindNameResponse::default()))
    }

    async fn cut_group(
        &self,
        request: Request<Streaming<CutGroupRequest>>,
    ) -> Result<Response<Self::CutGroupStream>, Status> {
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(self.clone().play(request.into_inner(), send));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn allow_read(
        &self,
        request: Request<AllowReadRequest>,
    ) -> Result<Response<AllowReadResponse>, Status> {
        self.note(format!("lets {} read", request.into_inner().node));
        Ok(Response::new(AllowReadResponse {}))
    }

    async fn read_snapshot(
        &self,
        _: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn create_volume_from(
        &self,
        request: Request<CreateVolumeFromRequest>,
    ) -> Result<Response<pb::CreateVolumeResponse>, Status> {
        let CreateVolumeFromRequest { request, snapshot_id, address, node } = request.into_inner();
        assert!(snapshot_id.starts_with("s-") && !address.is_empty());
        self.note(format!("copies from {node}"));
        if self.is_to(&Fault::NoRoom) {
            return Err(Status::resource_exhausted("full"));
        }
        if self.is_to(&Fault::Vanish) {
            return Err(Status::aborted("still copying"));
        }
        let volume_id = format!("v-aaaaaaaa-{:032x}", request.unwrap().name.len());
        let volume = pb::Volume { volume_id, ..Default::default() };
        Ok(Response::new(pb::CreateVolumeResponse { volume: Some(volume) }))
    }
}

/// A controller whose groups are played too.
#[derive(Clone)]
pub(crate) struct Around {
    script: Scripted,
    edge: Edge,
}

#[tonic::async_trait]
impl pb::group_controller_server::GroupController for Around {
    async fn group_controller_get_capabilities(
        &self,
        request: Request<pb::GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<pb::GroupControllerGetCapabilitiesResponse>, Status> {
        self.edge.group_controller_get_capabilities(request).await
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<pb::CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::CreateVolumeGroupSnapshotResponse>, Status> {
        self.edge.create_volume_group_snapshot(request).await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<pb::DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::DeleteVolumeGroupSnapshotResponse>, Status> {
        if self.script.is_to(&Fault::Delete) {
            return Err(Status::aborted("cannot delete"));
        }
        self.script.note("deletes");
        self.script.faults.lock().unwrap().retain(|(node, fault)| {
            !(*node == self.script.node && *fault == Fault::Has(request.get_ref().group_snapshot_id.clone()))
        });
        Ok(Response::new(pb::DeleteVolumeGroupSnapshotResponse {}))
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<pb::GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<pb::GetVolumeGroupSnapshotResponse>, Status> {
        self.edge.get_volume_group_snapshot(request).await
    }
}
