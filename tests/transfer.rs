//! Two agents on real TCP, over machines in memory: what only the router and other agents ask of them.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod common;

use std::sync::{Arc, Mutex};

use common::{PoolFs, Rig};
use offshoot::agent::Peer;
use offshoot::csi::Edge;
use offshoot::csi::agent::AgentEdge;
use offshoot::proto::agent::agent_client::AgentClient;
use offshoot::proto::agent::agent_server::AgentServer;
use offshoot::proto::agent::cut_group_request::{Begin, Cut, Step};
use offshoot::proto::agent::cut_group_response::Step as Answer;
use offshoot::proto::agent::find_name_request::Kind;
use offshoot::proto::agent::*;
use offshoot::proto::csi;
use offshoot::router::connect::Plain;
use offshoot::volume::{GroupId, PoolId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status, Streaming};

/// An agent, and who its callers are taken for: what the listener reads from a certificate.
struct Agent {
    rig: Rig,
    address: String,
    peer: Arc<Mutex<Option<Peer>>>,
    client: AgentClient<Channel>,
}

impl Agent {
    async fn new() -> Agent {
        let rig = Rig::new(PoolFs::Xfs).await;
        let edge = Edge::new(rig.service.clone(), "csi.offshoot.dev");
        edge.started();
        let peer = Arc::new(Mutex::new(Some(Peer::Controller)));
        let given = peer.clone();
        let service =
            AgentServer::with_interceptor(AgentEdge::new(edge, Arc::new(Plain)), move |mut r: Request<()>| {
                if let Some(peer) = given.lock().unwrap().clone() {
                    r.extensions_mut().insert(peer);
                }
                Ok(r)
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let client = AgentClient::connect(format!("http://{address}")).await.unwrap();
        Agent { rig, address, peer, client }
    }

    fn called_by(&self, peer: Option<Peer>) {
        *self.peer.lock().unwrap() = peer;
    }

    async fn find(&self, kind: Kind, name: &str) -> String {
        let request = FindNameRequest { kind: kind.into(), name: name.into() };
        self.client.clone().find_name(request).await.unwrap().into_inner().id
    }

    /// Opens a CutGroup and says `begin`.
    async fn begin(&self, id: &str, volumes: &[&String]) -> (mpsc::Sender<CutGroupRequest>, Cutting) {
        let (send, receive) = mpsc::channel(4);
        // As a careful caller does: the answer's head first.
        let stream = self.client.clone().cut_group(ReceiverStream::new(receive)).await.unwrap().into_inner();
        let begin = Begin {
            name: "night".into(),
            group_snapshot_id: id.into(),
            source_volume_ids: volumes.iter().map(|id| (*id).clone()).collect(),
            ..Begin::default()
        };
        send.send(CutGroupRequest { step: Some(Step::Begin(begin)) }).await.unwrap();
        (send, stream)
    }
}

type Cutting = Streaming<CutGroupResponse>;

async fn step(stream: &mut Cutting) -> Result<Answer, Status> {
    Ok(stream.message().await?.unwrap().step.unwrap())
}

fn cut() -> CutGroupRequest {
    CutGroupRequest { step: Some(Step::Cut(Cut {})) }
}

#[tokio::test]
async fn a_part_is_frozen_then_cut_and_found_by_its_name() {
    let agent = Agent::new().await;
    let (a, b) = (agent.rig.volume("a", "1").await, agent.rig.volume("b", "2").await);
    assert_eq!(agent.find(Kind::Volume, "a").await, a);
    assert_eq!(agent.find(Kind::Group, "night").await, "");
    let id = GroupId::new(PoolId::random()).to_string();

    let (send, mut stream) = agent.begin(&id, &[&a, &b]).await;
    let Answer::Frozen(frozen) = step(&mut stream).await.unwrap() else { panic!("cut too early") };
    assert_eq!(frozen.existing_group_snapshot_id, "");
    assert!(agent.rig.snapshots().is_empty());
    send.send(cut()).await.unwrap();
    let Answer::Group(group) = step(&mut stream).await.unwrap() else { panic!("not cut") };
    assert_eq!((group.group_snapshot_id.as_str(), group.snapshots.len()), (id.as_str(), 2));
    assert!(stream.message().await.unwrap().is_none());
    assert_eq!(agent.find(Kind::Group, "night").await, id);

    let (send, mut stream) = agent.begin(&GroupId::new(PoolId::random()).to_string(), &[&a, &b]).await;
    let Answer::Frozen(frozen) = step(&mut stream).await.unwrap() else { panic!("cut too early") };
    assert_eq!(frozen.existing_group_snapshot_id, id);
    send.send(cut()).await.unwrap();
    assert_eq!(step(&mut stream).await.unwrap(), Answer::Group(group));
}

#[tokio::test]
async fn a_router_that_hangs_up_or_talks_nonsense_leaves_nothing() {
    let agent = Agent::new().await;
    let a = agent.rig.volume("a", "1").await;
    let id = GroupId::new(PoolId::random()).to_string();

    let (send, mut stream) = agent.begin(&id, &[&a]).await;
    step(&mut stream).await.unwrap();
    drop(send);
    let refused = step(&mut stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    let (send, mut stream) = agent.begin(&id, &[&a]).await;
    step(&mut stream).await.unwrap();
    drop(stream);
    while !agent.find(Kind::Group, "night").await.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(send);

    let (send, mut stream) = agent.begin(&id, &[&a]).await;
    step(&mut stream).await.unwrap();
    send.send(CutGroupRequest { step: None }).await.unwrap();
    assert_eq!(step(&mut stream).await.unwrap_err().code(), Code::ResourceExhausted);

    for (id, volumes) in [("nonsense", vec![&a]), (id.as_str(), vec![])] {
        let (_send, mut stream) = agent.begin(id, &volumes).await;
        assert_eq!(step(&mut stream).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let missing = "v-abcdefgh-00000000000000000000000000000000".to_owned();
    let (_send, mut stream) = agent.begin(&id, &[&missing]).await;
    assert_eq!(step(&mut stream).await.unwrap_err().code(), Code::NotFound);
    assert!(agent.rig.snapshots().is_empty());
    assert_eq!(agent.find(Kind::Group, "night").await, "");
}

fn wants(snapshot: &str) -> csi::CreateVolumeRequest {
    use csi::volume_capability::access_mode::Mode;
    use csi::volume_capability::{AccessMode, AccessType, MountVolume};
    use csi::volume_content_source::{SnapshotSource, Type};
    csi::CreateVolumeRequest {
        name: "copy".into(),
        volume_capabilities: vec![csi::VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }],
        volume_content_source: Some(csi::VolumeContentSource {
            r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: snapshot.into() })),
        }),
        ..csi::CreateVolumeRequest::default()
    }
}

#[tokio::test]
async fn a_node_copies_the_snapshot_that_it_was_allowed_from_another_and_no_other() {
    let (source, target) = (Agent::new().await, Agent::new().await);
    let volume = source.rig.image("db", "then").await;
    let snapshot = source.rig.snapshot("s", &volume).await.unwrap();
    source.rig.fill(&volume, "now");
    let create = |node: &str| {
        let request = CreateVolumeFromRequest {
            request: Some(wants(&snapshot)),
            snapshot_id: snapshot.clone(),
            address: source.address.clone(),
            node: node.into(),
        };
        let mut client = target.client.clone();
        async move { client.create_volume_from(request).await }
    };
    let reads = || {
        let (mut client, snapshot_id) = (source.client.clone(), snapshot.clone());
        async move { client.read_snapshot(ReadSnapshotRequest { snapshot_id, start_offset: 0 }).await }
    };

    source.called_by(None);
    assert_eq!(reads().await.unwrap_err().code(), Code::PermissionDenied);
    source.called_by(Some(Peer::Node("node-b".into())));
    assert_eq!(reads().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(create("node-a").await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(target.find(Kind::Volume, "copy").await, "");

    source.rig.service.allow_read(&snapshot, "node-b").unwrap();
    let made = create("node-a").await.unwrap().into_inner().volume.unwrap();
    assert_eq!(target.rig.read(&made.volume_id).as_deref(), Some("then"));
    assert_eq!(made.content_source, wants(&snapshot).volume_content_source);
    assert_eq!(create("node-a").await.unwrap().into_inner().volume.unwrap(), made);

    source.called_by(Some(Peer::Node("node-c".into())));
    assert_eq!(reads().await.unwrap_err().code(), Code::PermissionDenied);
    source.called_by(Some(Peer::Controller));
    let mut stream = reads().await.unwrap().into_inner();
    let described = stream.message().await.unwrap().unwrap().described.unwrap();
    let mut bytes = 0;
    let mut last = false;
    while let Some(message) = stream.message().await.unwrap() {
        assert!(!last && message.data.len() <= 1 << 20);
        bytes += message.data.len() as i64;
        last = message.last;
    }
    assert!(last && bytes == described.allocated_bytes && bytes > 0);
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_is_no_space_and_leaves_nothing() {
    let target = Agent::new().await;
    let request = CreateVolumeFromRequest {
        request: Some(wants("s-abcdefgh-00000000000000000000000000000000")),
        snapshot_id: "s-abcdefgh-00000000000000000000000000000000".into(),
        address: "127.0.0.1:1".into(),
        node: "node-a".into(),
    };
    let check = async |request: CreateVolumeFromRequest, code: Code, words: &str| {
        let refused = target.client.clone().create_volume_from(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    };
    check(request.clone(), Code::ResourceExhausted, "cannot be reached").await;
    check(CreateVolumeFromRequest { request: None, ..request.clone() }, Code::InvalidArgument, "request")
        .await;
    check(
        CreateVolumeFromRequest { address: "".into(), ..request.clone() },
        Code::InvalidArgument,
        "address",
    )
    .await;
    check(CreateVolumeFromRequest { node: "".into(), ..request.clone() }, Code::InvalidArgument, "node")
        .await;
    let id = "nonsense".into();
    check(CreateVolumeFromRequest { snapshot_id: id, ..request }, Code::InvalidArgument, "snapshot_id").await;
    assert_eq!(target.find(Kind::Volume, "copy").await, "");
}
