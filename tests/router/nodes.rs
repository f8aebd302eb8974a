//! Nodes in one process: use cases and edge over a machine in memory each, behind a wire that can be cut or stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use offshoot::backend::{Backends, Place, PoolSpec};
use offshoot::csi::Edge;
use offshoot::csi::agent::AgentEdge;
use offshoot::host::fake::Fake;
use offshoot::metrics::Metrics;
use offshoot::proto::agent::agent_server::AgentServer;
use offshoot::proto::csi as pb;
use offshoot::proto::csi::controller_client::ControllerClient;
use offshoot::proto::csi::controller_server::ControllerServer;
use offshoot::proto::csi::group_controller_client::GroupControllerClient;
use offshoot::proto::csi::group_controller_server::GroupControllerServer;
use offshoot::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use offshoot::proto::offshoot::data_copies_client::DataCopiesClient;
use offshoot::proto::offshoot::data_copies_server::DataCopiesServer;
use offshoot::router::connect::Plain;
use offshoot::router::{AgentAddress, Connect, Discovery, Io, Known, Router, Tell};
use offshoot::service::{Service, Settings, SystemClock};
use offshoot::volume::capacity::Policy;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};

use crate::script::Scripted;

pub(crate) const GIB: i64 = 1 << 30;

/// How a node's wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Up,
    /// Nothing listens, and every connection is gone.
    Dead,
    /// Connections stay and are taken, and no byte comes through.
    Stopped,
}

/// One node.
pub(crate) struct Node {
    pub(crate) name: String,
    wire: watch::Sender<Wire>,
    incoming: Mutex<mpsc::Sender<io::Result<DuplexStream>>>,
    script: Option<Scripted>,
    edge: Edge,
}

impl Node {
    async fn new(name: &str, size: i64, script: Option<Scripted>) -> Node {
        let fake = Fake::with_pool("/pool", "xfs", size as u64);
        let opener = Backends::new(fake.host(), Path::new("/state"), Policy::default());
        let settings = Settings { node_id: name.to_owned(), ..Settings::default() };
        let metrics = Metrics::new("csi.offshoot.dev", name);
        let service = Service::new(settings, fake.host(), Arc::new(opener), Arc::new(SystemClock), metrics);
        let spec = PoolSpec {
            name: "fast".into(),
            place: Place::Directory("/pool".into()),
            parameters: BTreeMap::new(),
        };
        service.create_pool(spec).await.unwrap();
        let edge = Edge::new(service.clone(), "csi.offshoot.dev");
        edge.started();
        let (incoming, _) = mpsc::channel(1);
        let node = Node {
            name: name.to_owned(),
            wire: watch::Sender::new(Wire::Up),
            incoming: Mutex::new(incoming),
            script,
            edge,
        };
        node.listen();
        node
    }

    fn listen(&self) {
        let (incoming, connections) = mpsc::channel(8);
        *self.incoming.lock().unwrap() = incoming;
        let routes = match &self.script {
            Some(script) => tonic::service::Routes::new(AgentServer::new(script.clone()))
                .add_service(ControllerServer::new(self.edge.clone()))
                .add_service(GroupControllerServer::new(script.around(self.edge.clone())))
                .add_service(DataCopiesServer::new(self.edge.clone())),
            None => {
                let mut services = tonic::service::Routes::builder();
                self.edge.add_for_router(&mut services);
                services.add_service(AgentServer::new(AgentEdge::new(self.edge.clone(), Arc::new(Plain))));
                services.routes()
            }
        };
        let server = Server::builder().add_routes(routes);
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
    }

    /// Changes the wire. Back from the dead, a node has forgotten its connections.
    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    async fn connect(&self) -> io::Result<Box<dyn Io>> {
        if *self.wire.borrow() == Wire::Dead {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, near) = tokio::io::duplex(1 << 16);
        let (far, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(pump(near, far, self.wire.subscribe()));
        let incoming = self.incoming.lock().unwrap().clone();
        incoming.send(Ok(theirs)).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Box::new(ours))
    }
}

async fn pump(mut near: DuplexStream, mut far: DuplexStream, mut wire: watch::Receiver<Wire>) {
    loop {
        let now = *wire.borrow_and_update();
        match now {
            Wire::Dead => return,
            // What was under way is lost with it.
            Wire::Stopped => {
                let _ = wire.changed().await;
                return;
            }
            Wire::Up => tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                _ = wire.changed() => {}
            },
        }
    }
}

/// Some nodes and a router in front of them.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) metrics: Arc<Metrics>,
    /// What owners of claims were told.
    pub(crate) told: Arc<Told>,
    known: watch::Sender<Known>,
    channel: Channel,
}

/// The address of a node.
fn wire(node: &str) -> String {
    format!("{node}:1")
}

struct Wires(Vec<Arc<Node>>);

#[async_trait]
impl Connect for Wires {
    async fn connect(&self, agent: &AgentAddress) -> io::Result<Box<dyn Io>> {
        match self.0.iter().find(|node| agent.address == wire(&node.name)) {
            Some(node) => node.connect().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

struct Source(watch::Receiver<Known>);

impl Discovery for Source {
    fn agents(&self) -> watch::Receiver<Known> {
        self.0.clone()
    }
}

/// Notes what owners of claims are told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

#[async_trait]
impl Tell for Told {
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, message: &str) {
        self.0.lock().unwrap().push(format!("{namespace}/{claim} {reason}: {message}"));
    }
}

impl Told {
    /// Waits for so many, which are told beside the call that they are about.
    pub(crate) async fn next(&self, count: usize) -> Vec<String> {
        while self.0.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Cluster {
    /// Nodes `a`, `b`, `c` … with a pool of 100 GiB each.
    pub(crate) async fn of(count: usize) -> Cluster {
        Cluster::with(&vec![100 * GIB; count], None).await
    }

    /// Nodes with pools of these sizes; with a script, their agents play it.
    pub(crate) async fn with(sizes: &[i64], script: Option<&Scripted>) -> Cluster {
        let mut nodes = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let name = char::from(b'a' + n as u8).to_string();
            let script = script.map(|script| script.on(&name));
            nodes.push(Arc::new(Node::new(&name, *size, script).await));
        }
        let cluster = Cluster::starting(nodes).await;
        cluster.discover();
        cluster
    }

    /// A router that does not know its agents yet.
    pub(crate) async fn starting(nodes: Vec<Arc<Node>>) -> Cluster {
        let known = watch::Sender::new(None);
        let metrics = Metrics::new("csi.offshoot.dev", "");
        let source = Arc::new(Source(known.subscribe()));
        let wires = Arc::new(Wires(nodes.clone()));
        let told = Arc::new(Told::default());
        let router = Router::new(source, wires, "csi.offshoot.dev", metrics.clone()).telling(told.clone());
        let mut services = tonic::service::Routes::builder();
        router.add_to(&mut services);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let incoming = tokio_stream::once(io::Result::Ok(theirs));
        tokio::spawn(Server::builder().add_routes(services.routes()).serve_with_incoming(incoming));
        let mut ours = Some(hyper_util::rt::TokioIo::new(ours));
        let once =
            tower::service_fn(move |_| std::future::ready(ours.take().ok_or(io::Error::other("once"))));
        let channel = Endpoint::from_static("http://router").connect_with_connector(once).await.unwrap();
        Cluster { nodes, metrics, told, known, channel }
    }

    /// Tells the router of all nodes.
    pub(crate) fn discover(&self) {
        let names: Vec<_> = self.nodes.iter().map(|node| (node.name.as_str(), node.name.as_str())).collect();
        self.discover_as(&names);
    }

    /// Tells the router that there are these nodes and no other, each with the wire to the second.
    pub(crate) fn discover_as(&self, nodes: &[(&str, &str)]) {
        let address = |(node, to): &(&str, &str)| AgentAddress { node: (*node).into(), address: wire(to) };
        self.known.send_replace(Some(Arc::new(nodes.iter().map(address).collect())));
    }

    /// Tells the router of all nodes, and that the agent of this one has no address.
    pub(crate) fn known_without_address(&self, node: &str) {
        let address = |known: &Arc<Node>| {
            let address = if known.name == node { String::new() } else { wire(&known.name) };
            AgentAddress { node: known.name.clone(), address }
        };
        self.known.send_replace(Some(Arc::new(self.nodes.iter().map(address).collect())));
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    pub(crate) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub(crate) fn groups(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channel.clone())
    }

    pub(crate) fn metadata(&self) -> SnapshotMetadataClient<Channel> {
        SnapshotMetadataClient::new(self.channel.clone())
    }

    pub(crate) fn copies(&self) -> DataCopiesClient<Channel> {
        DataCopiesClient::new(self.channel.clone())
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Makes a volume that prefers and may only lie on `node`.
    pub(crate) async fn volume_on(&self, name: &str, node: &str) -> pb::Volume {
        let request = on(create(name), &[node], &[node]);
        self.controller().create_volume(request).await.unwrap().into_inner().volume.unwrap()
    }

    pub(crate) async fn snapshot(&self, name: &str, volume: &pb::Volume) -> pb::Snapshot {
        let request = pb::CreateSnapshotRequest {
            source_volume_id: volume.volume_id.clone(),
            name: name.to_owned(),
            ..Default::default()
        };
        self.controller().create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap()
    }
}

pub(crate) fn place(node: &str) -> pb::Topology {
    let segments = BTreeMap::from([("topology.offshoot.dev/node".to_owned(), node.to_owned())]);
    pb::Topology { segments }
}

pub(crate) fn capability() -> pb::VolumeCapability {
    use pb::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
    pb::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter as i32 }),
    }
}

/// A request for a blank volume of one GiB anywhere.
pub(crate) fn create(name: &str) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(pb::CapacityRange { required_bytes: GIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability()],
        ..Default::default()
    }
}

/// The request with this requirement.
pub(crate) fn on(
    request: pb::CreateVolumeRequest,
    preferred: &[&str],
    requisite: &[&str],
) -> pb::CreateVolumeRequest {
    let places = |nodes: &[&str]| nodes.iter().map(|node| place(node)).collect();
    let requirement = pb::TopologyRequirement { requisite: places(requisite), preferred: places(preferred) };
    pb::CreateVolumeRequest { accessibility_requirements: Some(requirement), ..request }
}

/// The request with a snapshot (`s-…`) or volume as its source.
pub(crate) fn from(request: pb::CreateVolumeRequest, id: &str) -> pb::CreateVolumeRequest {
    use pb::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let kind = match id.starts_with('s') {
        true => Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() }),
        false => Type::Volume(VolumeSource { volume_id: id.to_owned() }),
    };
    let source = pb::VolumeContentSource { r#type: Some(kind) };
    pb::CreateVolumeRequest { volume_content_source: Some(source), ..request }
}

/// The node that a volume is on.
pub(crate) fn node_of(volume: &pb::Volume) -> String {
    volume.accessible_topology[0].segments["topology.offshoot.dev/node"].clone()
}
