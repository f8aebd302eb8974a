//! The Delphix driver as its callers see it: real gRPC over a real socket, use cases and client, before the simulated DCT
//! in this process and on the machine in memory.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

#[path = "kernel/calls.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with tests of the local driver, which use the rest of it"
)]
mod calls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use offshoot::backend::delphix::{DctSettings, Dcts, Settings};
use offshoot::csi::calls::CallLayer;
use offshoot::csi::delphix::DelphixEdge;
use offshoot::csi::server;
use offshoot::csi::socket::Socket;
use offshoot::delphix::node::{Limits, Node};
use offshoot::delphix::{self, Driver};
use offshoot::host::fake::Fake;
use offshoot::host::{FileKind, Host};
use offshoot::metrics::Metrics;
use offshoot::proto::csi as pb;
use offshoot::proto::offshoot as own;
use offshoot_dct_sim::Sim;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use calls::{Client, NewVolume, capability, map};

const DRIVER: &str = "delphix.csi.offshoot.dev";
const ENGINE: &str = "10.0.0.50";
const NODE: &str = "worker-1@10.0.0.1";
const STAGING: &str = "/var/lib/kubelet/plugins/stage";
const TARGET: &str = "/var/lib/kubelet/pods/1";

struct World {
    dir: tempfile::TempDir,
    sim: Sim,
    fake: Fake,
    client: Client,
    stop: CancellationToken,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::builder(&dir.path().join("data")).engine(ENGINE).start().await.unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut dct = DctSettings::new("sim", sim.url.clone(), file("key", &sim.key()));
        dct.ca_file = Some(file("ca.pem", &sim.ca_pem));
        dct.timing.poll_first = Duration::from_millis(5);
        let dcts = Dcts::open(Settings { cluster: "test".to_owned(), dcts: vec![dct] }).unwrap();
        let driver = Driver::new(DRIVER, "test", dcts, delphix::Settings::default());
        let fake = Fake::new();
        fake.make_target(Path::new(STAGING), FileKind::Directory).unwrap();
        let node = Node::new(Arc::new(fake.clone()), NODE, 3, Limits::default());
        let edge = DelphixEdge::new(DRIVER, Some(driver), Some(node));
        let mut services = tonic::service::Routes::builder();
        edge.add_to(&mut services);
        let path = dir.path().join("csi.sock");
        let stop = CancellationToken::new();
        let socket = Socket::bind(&path).unwrap();
        let calls = CallLayer::new(Metrics::new(DRIVER, NODE), stop.clone());
        tokio::spawn(server::serve(socket, services.routes(), calls, async {}, stop.clone(), Duration::ZERO));
        World { client: Client::new(&path), dir, sim, fake, stop }
    }

    fn new_volume(&self, name: &str) -> NewVolume {
        NewVolume {
            name: name.to_owned(),
            size: 5 << 30,
            parameters: map(&[("source", "demo")]),
            ..NewVolume::default()
        }
    }

    async fn publish(&self, volume: &str, node: &str) -> Result<pb::ControllerPublishVolumeResponse, Status> {
        let request = pb::ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            volume_capability: Some(capability("")),
            ..Default::default()
        };
        Ok(self.client.controller.clone().controller_publish_volume(request).await?.into_inner())
    }

    async fn unpublish(&self, volume: &str, node: &str) -> Result<(), Status> {
        let request = pb::ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            ..Default::default()
        };
        self.client.controller.clone().controller_unpublish_volume(request).await.map(drop)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        let _kept_until_here = self.dir.path();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_goes_from_an_engine_to_a_pod_and_back_and_leaves_nothing() {
    let world = World::new().await;
    let client = &world.client;
    let made = client.create(&world.new_volume("db")).await.unwrap();
    assert_eq!((made.capacity_bytes, made.accessible_topology.len()), (5 << 30, 0));
    assert!(made.volume_id.starts_with("sim:"), "{made:?}");
    let id = made.volume_id;
    assert_eq!(client.create(&world.new_volume("db")).await.unwrap().volume_id, id);

    let context = world.publish(&id, NODE).await.unwrap().publish_context;
    assert_eq!(context["server"], ENGINE);
    assert!(
        context.keys().all(|key| ["server", "path", "nfsVersion"].contains(&key.as_str())),
        "{context:?}"
    );
    world.fake.export(ENGINE.parse().unwrap(), &context["path"], true);
    let stage = pb::NodeStageVolumeRequest {
        volume_id: id.clone(),
        publish_context: context.clone(),
        staging_target_path: STAGING.to_owned(),
        volume_capability: Some(capability("")),
        ..Default::default()
    };
    client.node.clone().node_stage_volume(stage).await.unwrap();
    let publish = pb::NodePublishVolumeRequest {
        volume_id: id.clone(),
        publish_context: context.clone(),
        staging_target_path: STAGING.to_owned(),
        target_path: TARGET.to_owned(),
        volume_capability: Some(capability("")),
        ..Default::default()
    };
    client.node.clone().node_publish_volume(publish).await.unwrap();
    assert!(client.stats(&id, Path::new(TARGET)).await.unwrap()[0].total > 0);
    let listed = client.controller.clone().list_volumes(pb::ListVolumesRequest::default()).await.unwrap();
    let status = listed.into_inner().entries.remove(0).status.unwrap();
    assert_eq!(status.published_node_ids, [NODE]);

    let snapshot = client.snapshot("monday", &id).await.unwrap();
    assert!(snapshot.ready_to_use && snapshot.source_volume_id == id);
    assert_eq!(client.rewind(&id, &snapshot.snapshot_id).await.unwrap_err().code(), Code::FailedPrecondition);
    client.unpublish(&id, Path::new(TARGET)).await.unwrap();
    client.unstage(&id, Path::new(STAGING)).await.unwrap();
    world.unpublish(&id, NODE).await.unwrap();
    let undo = client.rewind(&id, &snapshot.snapshot_id).await.unwrap();
    let moved = world.publish(&id, NODE).await.unwrap().publish_context;
    assert_ne!(moved["path"], context["path"]);
    world.unpublish(&id, NODE).await.unwrap();

    let names: Vec<_> = client.lineage().await.unwrap().into_iter().map(|node| node.name).collect();
    assert!(names.contains(&"db".to_owned()) && names.contains(&"monday".to_owned()), "{names:?}");
    for snapshot in [snapshot.snapshot_id, undo] {
        client.delete_snapshot(&snapshot).await.unwrap();
    }
    client.delete(&id).await.unwrap();
    client.delete(&id).await.unwrap();
    assert!(client.volumes().await.unwrap().is_empty() && client.snapshots().await.unwrap().is_empty());
    assert!(world.fake.nfs_mounts().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_had_is_refused_with_the_code_that_its_caller_acts_on() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, says: &str) {
        let status = result.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(says), "{status}");
    }
    let world = World::new().await;
    let client = &world.client;
    let with = |key: &str, value: &str| NewVolume {
        parameters: map(&[("source", "demo"), (key, value)]),
        ..world.new_volume("bad")
    };
    check(client.create(&with("colour", "red")).await, Code::InvalidArgument, "colour");
    check(client.create(&with("source", "nothing")).await, Code::InvalidArgument, "source");
    check(client.create(&with("dct", "other")).await, Code::InvalidArgument, "dct");
    check(client.create(&with("mountBase", "mnt")).await, Code::InvalidArgument, "mountBase");
    let block = NewVolume { kind: "block".to_owned(), ..world.new_volume("bad") };
    check(client.create(&block).await, Code::InvalidArgument, "volume_capabilit");
    assert!(client.volumes().await.unwrap().is_empty());

    check(world.publish("sim:1-NONE-1", NODE).await, Code::NotFound, "sim:1-NONE-1");
    let id = client.create(&world.new_volume("db")).await.unwrap().volume_id;
    check(world.publish(&id, "nobody").await, Code::NotFound, "node_id");
    world.unpublish(&id, "nobody").await.unwrap();
    check(client.modify(&id, map(&[("a", "b")])).await, Code::InvalidArgument, "no parameter");
    check(client.directory_pool("p", Path::new("/p")).await, Code::InvalidArgument, "engines");
    check(client.orphans().await, Code::Unimplemented, "offshoot-driver");
    let request = own::RewindVolumeRequest { volume_id: id.clone(), ..Default::default() };
    check(client.copies.clone().rewind_volume(request).await, Code::InvalidArgument, "snapshot_id");
    client.delete(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_says_who_it_is_what_it_can_and_how_its_dct_does() {
    let world = World::new().await;
    let client = &world.client;
    let info =
        client.identity.clone().get_plugin_info(pb::GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, DRIVER);
    assert!(client.ready().await.unwrap());
    let node = client.node.clone().node_get_info(pb::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((node.node_id.as_str(), node.max_volumes_per_node, node.accessible_topology), (NODE, 3, None));
    let engines = client.pools().await.unwrap();
    assert!(engines.len() == 1 && engines[0].backend == "delphix" && engines[0].ready, "{engines:?}");
    let checks = client.copies.clone().diagnose(own::DiagnoseRequest {}).await.unwrap().into_inner().checks;
    assert!(!checks.is_empty());
    assert!(checks.iter().all(|check| check.status() != own::check::Status::Fail), "{checks:?}");
    world.sim.set_key("2.another");
    let checks = client.copies.clone().diagnose(own::DiagnoseRequest {}).await.unwrap().into_inner().checks;
    assert!(checks.iter().any(|check| check.status() == own::check::Status::Fail), "{checks:?}");
    let key = world.sim.key();
    assert!(checks.iter().all(|check| !check.detail.contains(&key)));
}
