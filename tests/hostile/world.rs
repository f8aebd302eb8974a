//! A whole edge over a machine in memory, with one object of every kind in it, called by bytes.
//!
//! Hostile input is made from the descriptor and from random bytes, so calls go in as what they are on the wire: a path
//! and an encoded message. They pass through everything that a call from the socket passes through but the socket.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use axum::body::Body as Bytes;
use http_body::Body as _;
use offshoot::backend::{Backends, Place, PoolSpec};
use offshoot::csi::calls::{CallLayer, Calls};
use offshoot::csi::rpc::Rpc;
use offshoot::csi::{Edge, server};
use offshoot::host::fake::{Audit, Fake, TreeEntry};
use offshoot::metrics::Metrics;
use offshoot::proto::csi as pb;
use offshoot::proto::csi::volume_capability::access_mode::Mode;
use offshoot::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use offshoot::proto::csi::volume_content_source::{SnapshotSource, Type};
use offshoot::service::{Service, Settings, SystemClock};
use offshoot::volume::capacity::Policy;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer as _, ServiceExt as _};

pub const GIB: i64 = 1 << 30;
pub const NODE: &str = "n1";
pub const POOL: &str = "/pool";
/// What must never change, and what a path behind the link leads to.
pub const VICTIM: &str = "/victim";
/// A link to [`VICTIM`] where a path component could be.
pub const LINK: &str = "/kubelet/link";

/// The panics of all tests in this process.
pub fn panics() -> u64 {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| {
        let metrics = Metrics::new("csi.offshoot.dev", NODE);
        let counter = metrics.panics();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A test that fails is another matter.
            if !panic.location().is_some_and(|at| at.file().starts_with("tests/")) {
                counter.inc();
            }
            before(panic);
        }));
        metrics
    });
    metrics.panics().get()
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub code: Code,
    pub message: String,
    /// Everything that was sent before the end, with gRPC's five bytes before each message.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first message.
    pub fn message<T: Message + Default>(&self) -> T {
        assert_eq!(self.code, Code::Ok, "{}", self.message);
        T::decode(&self.body[5..]).unwrap()
    }
}

/// The ids of what there is.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// Not in use; has two snapshots.
    pub volume: String,
    pub old: String,
    pub new: String,
    /// Restored from `old`.
    pub copy: String,
    /// Staged and published.
    pub used: String,
    /// Staged only.
    pub staged: String,
    /// Known to be on the node.
    pub attached: String,
    pub group: String,
    pub member: String,
}

pub const STAGING: &str = "/kubelet/staging";
pub const USED_STAGING: &str = "/kubelet/used-staging";
pub const STAGED_STAGING: &str = "/kubelet/staged-staging";
pub const TARGET: &str = "/kubelet/pod/mount";
pub const USED_TARGET: &str = "/kubelet/used-pod/mount";

pub struct World {
    pub fake: Fake,
    pub ids: Ids,
    edge: Edge,
    calls: Calls<Routes>,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn capability() -> pb::VolumeCapability {
    pb::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter as i32 }),
    }
}

pub fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn secrets() -> BTreeMap<String, String> {
    strings(&[("token", "marker")])
}

pub fn create(name: &str) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(pb::CapacityRange { required_bytes: GIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability()],
        secrets: secrets(),
        ..pb::CreateVolumeRequest::default()
    }
}

pub fn of_snapshot(snapshot_id: &str) -> Option<pb::VolumeContentSource> {
    let source = SnapshotSource { snapshot_id: snapshot_id.to_owned() };
    Some(pb::VolumeContentSource { r#type: Some(Type::Snapshot(source)) })
}

impl World {
    /// A server with one empty pool.
    pub async fn empty() -> World {
        panics();
        let fake = Fake::with_pool(POOL, "xfs", 100 << 30);
        for dir in ["/victim", "/etc", "/state/pools", "/srv", "/kubelet/pod", "/kubelet/used-pod", STAGING] {
            fake.mkdirs(dir).unwrap();
        }
        for dir in [USED_STAGING, STAGED_STAGING] {
            fake.mkdirs(dir).unwrap();
        }
        fake.add_pool("/second", "xfs", 10 << 30);
        fake.add_pool("/third", "xfs", 10 << 30);
        fake.plant("/victim/keep", "precious").unwrap();
        fake.plant("/etc/passwd", "root").unwrap();
        fake.symlink(LINK, VICTIM).unwrap();
        let metrics = Metrics::new("csi.offshoot.dev", NODE);
        let opener = Backends::new(fake.host(), Path::new("/state"), Policy::default());
        let settings = Settings {
            node_id: NODE.to_owned(),
            state_dir: Some(PathBuf::from("/state")),
            ..Settings::default()
        };
        let service =
            Service::new(settings, fake.host(), Arc::new(opener), Arc::new(SystemClock), metrics.clone());
        let spec = |name: &str, dir: &str| PoolSpec {
            name: name.to_owned(),
            place: Place::Directory(dir.into()),
            parameters: BTreeMap::new(),
        };
        service.create_pool(spec("fast", POOL)).await.unwrap();
        service.create_pool(spec("second", "/second")).await.unwrap();
        let edge = Edge::new(service, "csi.offshoot.dev");
        edge.started();
        let mut services = Routes::builder();
        edge.add_to(&mut services);
        server::with_reflection_and_health(&mut services).unwrap();
        let stop = CancellationToken::new();
        let calls = CallLayer::new(metrics, stop.clone()).layer(services.routes());
        World { fake, ids: Ids::default(), edge, calls, stop }
    }

    /// A server with one object of every kind.
    pub async fn furnished() -> World {
        let mut world = World::empty().await;
        let mut ids = Ids::default();
        for (name, id) in [
            ("volume", &mut ids.volume),
            ("used", &mut ids.used),
            ("staged", &mut ids.staged),
            ("attached", &mut ids.attached),
        ] {
            *id = world.create_volume(create(name)).await;
        }
        for (name, id) in [("old", &mut ids.old), ("new", &mut ids.new)] {
            let request = pb::CreateSnapshotRequest {
                source_volume_id: ids.volume.clone(),
                name: name.to_owned(),
                ..Default::default()
            };
            let made: pb::CreateSnapshotResponse = world.ask(Rpc::CreateSnapshot, &request).await.message();
            *id = made.snapshot.unwrap().snapshot_id;
        }
        let copy = pb::CreateVolumeRequest { volume_content_source: of_snapshot(&ids.old), ..create("copy") };
        ids.copy = world.create_volume(copy).await;
        let request = pb::CreateVolumeGroupSnapshotRequest {
            name: "group".to_owned(),
            source_volume_ids: vec![ids.volume.clone()],
            ..Default::default()
        };
        let made: pb::CreateVolumeGroupSnapshotResponse =
            world.ask(Rpc::CreateVolumeGroupSnapshot, &request).await.message();
        let group = made.group_snapshot.unwrap();
        (ids.group, ids.member) = (group.group_snapshot_id, group.snapshots[0].snapshot_id.clone());
        for (volume, staging) in [(&ids.used, USED_STAGING), (&ids.staged, STAGED_STAGING)] {
            let request = pb::NodeStageVolumeRequest {
                volume_id: volume.clone(),
                staging_target_path: staging.to_owned(),
                volume_capability: Some(capability()),
                ..Default::default()
            };
            world.ask(Rpc::NodeStageVolume, &request).await.message::<pb::NodeStageVolumeResponse>();
        }
        let request = pb::NodePublishVolumeRequest {
            volume_id: ids.used.clone(),
            staging_target_path: USED_STAGING.to_owned(),
            target_path: USED_TARGET.to_owned(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        world.ask(Rpc::NodePublishVolume, &request).await.message::<pb::NodePublishVolumeResponse>();
        let request = pb::ControllerPublishVolumeRequest {
            volume_id: ids.attached.clone(),
            node_id: NODE.to_owned(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        let rpc = Rpc::ControllerPublishVolume;
        world.ask(rpc, &request).await.message::<pb::ControllerPublishVolumeResponse>();
        world.ids = ids;
        world
    }

    async fn create_volume(&self, request: pb::CreateVolumeRequest) -> String {
        let made: pb::CreateVolumeResponse = self.ask(Rpc::CreateVolume, &request).await.message();
        made.volume.unwrap().volume_id
    }

    pub async fn ask(&self, rpc: Rpc, request: &impl Message) -> Answer {
        self.call(rpc.path(), &request.encode_to_vec()).await
    }

    /// Calls `path` with an encoded message.
    pub async fn call(&self, path: &str, message: &[u8]) -> Answer {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        self.send(path, frame).await
    }

    /// Calls `path` with the body of an HTTP/2 request.
    pub async fn send(&self, path: &str, body: Vec<u8>) -> Answer {
        let request = http::Request::post(format!("http://localhost/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(Bytes::from(body)))
            .unwrap();
        let response = self.calls.clone().oneshot(request).await.unwrap();
        let (head, mut body) = response.into_parts();
        let mut answer = Answer { code: Code::Ok, message: String::new(), body: Vec::new() };
        let mut end = Status::from_header_map(&head.headers);
        // It has no end of its own; that it began is the answer.
        if end.is_none() && path == Rpc::WatchProgress.path() {
            return answer;
        }
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame.unwrap().into_data() {
                Ok(data) => answer.body.extend(data),
                Err(frame) => {
                    end = frame.into_trailers().ok().and_then(|head| Status::from_header_map(&head));
                }
            }
        }
        let end = end.unwrap_or_else(|| panic!("{path}: the answer has no status: {:?}", head.status));
        (answer.code, answer.message) = (end.code(), end.message().to_owned());
        answer
    }

    /// All files with their content.
    pub fn tree(&self) -> BTreeMap<PathBuf, TreeEntry> {
        self.fake.snapshot_tree("/nowhere")
    }

    /// What is attached, mounted and frozen. Locks and space follow from the files.
    pub fn audit(&self) -> Audit {
        Audit { used: BTreeMap::new(), ..self.fake.audit() }
    }
}
