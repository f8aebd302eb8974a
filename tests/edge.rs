//! The server as its callers see it: real gRPC over a real socket, use cases and backend, on the machine in memory.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot::backend::Backends;
use offshoot::csi::calls::CallLayer;
use offshoot::csi::socket::Socket;
use offshoot::csi::{Edge, server};
use offshoot::host::fake::Fake;
use offshoot::metrics::{Metrics, PoolFigures};
use offshoot::proto::csi as pb;
use offshoot::proto::csi::controller_client::ControllerClient;
use offshoot::proto::csi::group_controller_client::GroupControllerClient;
use offshoot::proto::csi::identity_client::IdentityClient;
use offshoot::proto::csi::node_client::NodeClient;
use offshoot::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use offshoot::proto::csi::volume_capability::access_mode::Mode;
use offshoot::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use offshoot::proto::offshoot as own;
use offshoot::proto::offshoot::data_copies_client::DataCopiesClient;
use offshoot::service::{Service, Settings, SystemClock};
use offshoot::volume::capacity::Policy;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const GIB: i64 = 1 << 30;

struct Server {
    _dir: tempfile::TempDir,
    path: PathBuf,
    fake: Fake,
    edge: Edge,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Server {
    /// A server that still starts: no pool is open.
    fn starting() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        let fake = Fake::with_pool("/pool", "xfs", 100 * GIB as u64);
        let metrics = Metrics::new("csi.offshoot.dev", "n1");
        let opener = Backends::new(fake.host(), Path::new("/state"), Policy::default());
        let settings = Settings { node_id: "n1".to_owned(), ..Settings::default() };
        let service =
            Service::new(settings, fake.host(), Arc::new(opener), Arc::new(SystemClock), metrics.clone());
        metrics.observe_pools(Arc::new(PoolFigures::new(service.clone())));
        let edge = Edge::new(service, "csi.offshoot.dev");
        let mut services = tonic::service::Routes::builder();
        edge.add_to(&mut services);
        server::with_reflection_and_health(&mut services).unwrap();
        let stop = CancellationToken::new();
        let (socket, calls) = (Socket::bind(&path).unwrap(), CallLayer::new(metrics.clone(), stop.clone()));
        tokio::spawn(server::serve(socket, services.routes(), calls, async {}, stop.clone(), Duration::ZERO));
        Server { _dir: dir, path, fake, edge, metrics, stop }
    }

    /// A server with one pool.
    async fn with_pool() -> Server {
        let server = Server::starting();
        server.edge.started();
        let kind = Some(own::create_pool_request::Kind::Path("/pool".to_owned()));
        let request = own::CreatePoolRequest { name: "fast".to_owned(), kind, parameters: BTreeMap::new() };
        let made = server.copies().await.create_pool(request).await.unwrap().into_inner().pool.unwrap();
        assert!(made.ready && made.name == "fast", "{made:?}");
        server
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("unix://{}", self.path.display())).unwrap().connect().await.unwrap()
    }

    async fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel().await)
    }

    async fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel().await)
    }

    async fn copies(&self) -> DataCopiesClient<Channel> {
        DataCopiesClient::new(self.channel().await)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn capability(access: AccessType) -> pb::VolumeCapability {
    let access_mode = Some(AccessMode { mode: Mode::SingleNodeWriter as i32 });
    pb::VolumeCapability { access_type: Some(access), access_mode }
}

fn create(name: &str) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(pb::CapacityRange { required_bytes: GIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability(AccessType::Mount(MountVolume::default()))],
        secrets: BTreeMap::from([("token".to_owned(), "marker".to_owned())]),
        ..pb::CreateVolumeRequest::default()
    }
}

fn from_snapshot(snapshot_id: &str) -> Option<pb::VolumeContentSource> {
    use pb::volume_content_source::{SnapshotSource, Type};
    let source = SnapshotSource { snapshot_id: snapshot_id.to_owned() };
    Some(pb::VolumeContentSource { r#type: Some(Type::Snapshot(source)) })
}

#[tokio::test]
async fn until_the_pools_are_read_nothing_is_said_about_volumes() {
    let server = Server::starting();
    assert_eq!(
        server.identity().await.probe(pb::ProbeRequest {}).await.unwrap().into_inner().ready,
        Some(false)
    );
    let info =
        server.identity().await.get_plugin_info(pb::GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, "csi.offshoot.dev");
    let mut controller = server.controller().await;
    let request = pb::DeleteVolumeRequest { volume_id: "v-x".to_owned(), ..Default::default() };
    assert_eq!(controller.delete_volume(request).await.unwrap_err().code(), Code::Unavailable);
    server.edge.started();
    assert_eq!(
        server.identity().await.probe(pb::ProbeRequest {}).await.unwrap().into_inner().ready,
        Some(true)
    );
}

#[tokio::test]
async fn a_volume_lives_and_its_copy_says_where_it_came_from() {
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let made = controller.create_volume(create("db")).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(made.capacity_bytes, GIB);
    let here = BTreeMap::from([("topology.offshoot.dev/node".to_owned(), "n1".to_owned())]);
    assert_eq!(made.accessible_topology, [pb::Topology { segments: here.clone() }]);
    let again = controller.create_volume(create("db")).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(again, made);

    let request = pb::CreateSnapshotRequest {
        source_volume_id: made.volume_id.clone(),
        name: "monday".to_owned(),
        ..Default::default()
    };
    let snapshot = controller.create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap();
    assert!(
        snapshot.ready_to_use
            && snapshot.source_volume_id == made.volume_id
            && snapshot.creation_time.is_some()
    );
    assert_eq!(snapshot.accessible_topology, [pb::Topology { segments: here }]);

    let source = from_snapshot(&snapshot.snapshot_id);
    let request = pb::CreateVolumeRequest { volume_content_source: source.clone(), ..create("copy") };
    let copy = controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(copy.content_source, source);

    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListVolumesRequest { max_entries: 1, starting_token: token };
        let page = controller.list_volumes(request).await.unwrap().into_inner();
        for entry in page.entries {
            assert!(!entry.status.unwrap().volume_condition.unwrap().abnormal);
            listed.push(entry.volume.unwrap().volume_id);
        }
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [made.volume_id.as_str(), copy.volume_id.as_str()]);

    let mut copies = server.copies().await;
    let tree = copies.get_lineage(own::GetLineageRequest::default()).await.unwrap().into_inner().nodes;
    let node = tree.iter().find(|node| node.id == copy.volume_id).unwrap();
    assert_eq!((node.parent_id.as_str(), node.backend.as_str()), (snapshot.snapshot_id.as_str(), "local"));

    for id in [&made.volume_id, &copy.volume_id] {
        let request = || pb::DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
        controller.delete_volume(request()).await.unwrap();
        controller.delete_volume(request()).await.unwrap();
    }
    let text = server.metrics.scrape().await.unwrap();
    for line in [
        "offshoot_pool_volumes{pool=\"fast\"} 0\n",
        "offshoot_pool_snapshots{pool=\"fast\"} 1\n",
        "offshoot_pool_orphans{pool=\"fast\"} 0\n",
        "offshoot_rpc_calls_total{rpc=\"csi.v1.Controller/DeleteVolume\",code=\"OK\"} 4\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(!text.contains("marker"));
}

#[tokio::test]
async fn errors_reach_the_caller_under_the_code_that_it_acts_on() {
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let volume_id =
        controller.create_volume(create("db")).await.unwrap().into_inner().volume.unwrap().volume_id;

    let mut check = async |request: pb::CreateVolumeRequest, expect: Code, names: &str| {
        let error = controller.create_volume(request).await.unwrap_err();
        assert_eq!(error.code(), expect, "{error}");
        assert!(error.message().contains(names), "{error}");
        assert!(!error.message().contains("marker"), "{error}");
    };
    let range = |required_bytes| Some(pb::CapacityRange { required_bytes, limit_bytes: 0 });
    check(pb::CreateVolumeRequest { name: String::new(), ..create("") }, Code::InvalidArgument, "name").await;
    check(
        pb::CreateVolumeRequest { volume_capabilities: vec![], ..create("a") },
        Code::InvalidArgument,
        "volume_capabilities",
    )
    .await;
    check(
        pb::CreateVolumeRequest { capacity_range: range(2 * GIB), ..create("db") },
        Code::AlreadyExists,
        "capacity_range",
    )
    .await;
    check(
        pb::CreateVolumeRequest { capacity_range: range(-1), ..create("a") },
        Code::OutOfRange,
        "capacity_range",
    )
    .await;
    check(
        pb::CreateVolumeRequest { capacity_range: range(i64::MAX), ..create("a") },
        Code::OutOfRange,
        "capacity_range",
    )
    .await;
    // A thin one may be larger than its pool; a thick one may not.
    let parameters = BTreeMap::from([("provisioning".to_owned(), "thick".to_owned())]);
    check(
        pb::CreateVolumeRequest { capacity_range: range(500 * GIB), parameters, ..create("a") },
        Code::ResourceExhausted,
        "",
    )
    .await;
    let gone = from_snapshot("s-aaaaaaaa-00000000000000000000000000000000");
    check(
        pb::CreateVolumeRequest { volume_content_source: gone, ..create("a") },
        Code::ResourceExhausted,
        "",
    )
    .await;
    let parameters = BTreeMap::from([("colour".to_owned(), "red".to_owned())]);
    check(pb::CreateVolumeRequest { parameters, ..create("a") }, Code::InvalidArgument, "colour").await;

    let request = pb::ListVolumesRequest { starting_token: "7".to_owned(), ..Default::default() };
    assert_eq!(controller.list_volumes(request).await.unwrap_err().code(), Code::Aborted);
    let request = pb::ControllerPublishVolumeRequest {
        volume_id: volume_id.clone(),
        node_id: "elsewhere".to_owned(),
        volume_capability: Some(capability(AccessType::Mount(MountVolume::default()))),
        ..Default::default()
    };
    assert_eq!(
        controller.controller_publish_volume(request.clone()).await.unwrap_err().code(),
        Code::NotFound
    );
    let here = pb::ControllerPublishVolumeRequest { node_id: "n1".to_owned(), ..request };
    controller.controller_publish_volume(here).await.unwrap();
    let request = pb::DeleteVolumeRequest { volume_id, ..Default::default() };
    assert_eq!(controller.delete_volume(request).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_volume_is_staged_published_counted_grown_and_taken_away_again() {
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let volume_id =
        controller.create_volume(create("db")).await.unwrap().into_inner().volume.unwrap().volume_id;
    let mut node = NodeClient::new(server.channel().await);
    let info = node.node_get_info(pb::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.node_id, "n1");

    server.fake.mkdirs("/kubelet/staging").unwrap();
    server.fake.mkdirs("/kubelet/pod").unwrap();
    let [staging, target] = ["/kubelet/staging", "/kubelet/pod/mount"].map(str::to_owned);
    let volume_capability = Some(capability(AccessType::Mount(MountVolume::default())));
    let stage = pb::NodeStageVolumeRequest {
        volume_id: volume_id.clone(),
        staging_target_path: staging.clone(),
        volume_capability: volume_capability.clone(),
        ..Default::default()
    };
    let publish = pb::NodePublishVolumeRequest {
        volume_id: volume_id.clone(),
        staging_target_path: staging.clone(),
        target_path: target.clone(),
        volume_capability,
        ..Default::default()
    };
    assert_eq!(node.node_publish_volume(publish.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    for _ in 0..2 {
        node.node_stage_volume(stage.clone()).await.unwrap();
        node.node_publish_volume(publish.clone()).await.unwrap();
    }
    let stats = pb::NodeGetVolumeStatsRequest {
        volume_id: volume_id.clone(),
        volume_path: target.clone(),
        ..Default::default()
    };
    let counted = node.node_get_volume_stats(stats).await.unwrap().into_inner();
    assert!(
        counted.usage.iter().any(|usage| usage.unit() == pb::volume_usage::Unit::Bytes && usage.total > 0)
    );
    assert!(!counted.volume_condition.unwrap().abnormal);

    let range = Some(pb::CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
    let grow = pb::ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range: range,
        ..Default::default()
    };
    let grown = controller.controller_expand_volume(grow).await.unwrap().into_inner();
    assert_eq!(grown.capacity_bytes, 2 * GIB);
    let grow = pb::NodeExpandVolumeRequest {
        volume_id: volume_id.clone(),
        volume_path: target.clone(),
        ..Default::default()
    };
    assert_eq!(node.node_expand_volume(grow).await.unwrap().into_inner().capacity_bytes, 2 * GIB);

    let unpublish = pb::NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path: target };
    let unstage = pb::NodeUnstageVolumeRequest { volume_id: volume_id.clone(), staging_target_path: staging };
    for _ in 0..2 {
        node.node_unpublish_volume(unpublish.clone()).await.unwrap();
        node.node_unstage_volume(unstage.clone()).await.unwrap();
    }
    controller.delete_volume(pb::DeleteVolumeRequest { volume_id, ..Default::default() }).await.unwrap();
    let audit = server.fake.audit();
    assert!(audit.loops.is_empty(), "{audit:?}");
}

#[tokio::test]
async fn a_group_is_made_whole_and_found_again() {
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let mut source_volume_ids = Vec::new();
    for name in ["a", "b"] {
        source_volume_ids.push(
            controller.create_volume(create(name)).await.unwrap().into_inner().volume.unwrap().volume_id,
        );
    }
    let mut groups = GroupControllerClient::new(server.channel().await);
    let request = pb::CreateVolumeGroupSnapshotRequest {
        name: "g".to_owned(),
        source_volume_ids,
        ..Default::default()
    };
    let made =
        groups.create_volume_group_snapshot(request).await.unwrap().into_inner().group_snapshot.unwrap();
    assert!(made.ready_to_use && made.snapshots.len() == 2);
    assert!(made.snapshots.iter().all(|member| member.group_snapshot_id == made.group_snapshot_id));
    let request = pb::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: made.group_snapshot_id.clone(),
        snapshot_ids: made.snapshots.iter().map(|member| member.snapshot_id.clone()).collect(),
        ..Default::default()
    };
    let found = groups.get_volume_group_snapshot(request).await.unwrap().into_inner().group_snapshot.unwrap();
    assert_eq!(found, made);
    let request = pb::CreateVolumeGroupSnapshotRequest { name: "h".to_owned(), ..Default::default() };
    assert_eq!(groups.create_volume_group_snapshot(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_blocks_of_a_snapshot_are_streamed_and_an_offset_behind_its_end_is_refused() {
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let block = vec![capability(AccessType::Block(BlockVolume {}))];
    let request = pb::CreateVolumeRequest { volume_capabilities: block, ..create("raw") };
    let source_volume_id =
        controller.create_volume(request).await.unwrap().into_inner().volume.unwrap().volume_id;
    let request = pb::CreateSnapshotRequest { source_volume_id, name: "s".to_owned(), ..Default::default() };
    let snapshot_id =
        controller.create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap().snapshot_id;
    let mut metadata = SnapshotMetadataClient::new(server.channel().await);
    let ask = |starting_offset| pb::GetMetadataAllocatedRequest {
        snapshot_id: snapshot_id.clone(),
        starting_offset,
        ..Default::default()
    };
    let mut stream = metadata.get_metadata_allocated(ask(0)).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(
        (first.volume_capacity_bytes, first.block_metadata_type()),
        (GIB, pb::BlockMetadataType::VariableLength)
    );
    while stream.message().await.unwrap().is_some() {}
    for offset in [GIB, -1] {
        assert_eq!(metadata.get_metadata_allocated(ask(offset)).await.unwrap_err().code(), Code::OutOfRange);
    }
    let delta = pb::GetMetadataDeltaRequest {
        base_snapshot_id: snapshot_id.clone(),
        target_snapshot_id: snapshot_id.clone(),
        ..Default::default()
    };
    let mut stream = metadata.get_metadata_delta(delta).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().block_metadata, []);
    assert!(stream.message().await.unwrap().is_none());
}

/// Everything that anything in the process logs, at every level, as a person and as a machine would read it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_reaches_a_log_at_any_level_or_an_answer() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || lines.clone());
    subscriber.try_init().unwrap();
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let mut node = NodeClient::new(server.channel().await);
    let secrets = || BTreeMap::from([("password".to_owned(), "SECRETMARKER".to_owned())]);
    let mount = MountVolume { mount_flags: vec!["password=SECRETMARKER".to_owned()], ..Default::default() };
    let volume_capability = Some(capability(AccessType::Mount(mount)));

    let request = pb::CreateVolumeRequest { secrets: secrets(), ..create("db") };
    let volume_id = controller.create_volume(request).await.unwrap().into_inner().volume.unwrap().volume_id;
    let mut answers = Vec::new();
    let request = pb::CreateVolumeRequest { secrets: secrets(), volume_capabilities: vec![], ..create("x") };
    answers.push(controller.create_volume(request).await.unwrap_err());
    let request = pb::ControllerPublishVolumeRequest {
        volume_id: volume_id.clone(),
        node_id: "n1".to_owned(),
        volume_capability: volume_capability.clone(),
        secrets: secrets(),
        volume_context: secrets(),
        ..Default::default()
    };
    answers.extend(controller.controller_publish_volume(request).await.err());
    let staging_target_path = "/kubelet/missing/staging".to_owned();
    let request = pb::NodeStageVolumeRequest {
        volume_id: volume_id.clone(),
        staging_target_path: staging_target_path.clone(),
        volume_capability: volume_capability.clone(),
        secrets: secrets(),
        publish_context: secrets(),
        volume_context: secrets(),
    };
    answers.push(node.node_stage_volume(request).await.unwrap_err());
    let tokens = [
        ("csi.storage.k8s.io/serviceAccount.tokens", "SECRETMARKER"),
        ("csi.storage.k8s.io/ephemeral", "true"),
    ];
    let request = pb::NodePublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        staging_target_path,
        target_path: "/kubelet/missing/target".to_owned(),
        volume_capability,
        secrets: secrets(),
        publish_context: secrets(),
        volume_context: tokens.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Default::default()
    };
    answers.push(node.node_publish_volume(request).await.unwrap_err());
    let request = pb::DeleteVolumeRequest { volume_id, secrets: secrets() };
    answers.extend(controller.delete_volume(request).await.err());

    assert!(!format!("{answers:?}").contains("SECRETMARKER"), "{answers:?}");
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    let leak = text.lines().find(|line| line.contains("SECRETMARKER"));
    assert_eq!(leak, None);
    // The log was really at its loudest.
    assert!(text.contains("TRACE") && text.contains("call failed"));
}

#[tokio::test]
async fn an_empty_request_to_any_call_gets_an_answer_and_breaks_nothing() {
    let server = Server::with_pool().await;
    let mut client = tonic::client::Grpc::new(server.channel().await);
    for rpc in offshoot::csi::rpc::Rpc::public() {
        // It never ends by itself.
        if rpc.method() == "WatchProgress" {
            continue;
        }
        client.ready().await.unwrap();
        let path = format!("/{}", rpc.path()).parse().unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let result: Result<tonic::Response<()>, _> = client.unary(tonic::Request::new(()), path, codec).await;
        // Another driver's, in the same service.
        let expect = match rpc.method() {
            "ImportVolume" => Code::Unimplemented,
            _ => Code::InvalidArgument,
        };
        if let Err(status) = result {
            assert_eq!(status.code(), expect, "{rpc}: {status}");
        }
    }
    let text = server.metrics.scrape().await.unwrap();
    let other = |line: &&str| !line.contains("ImportVolume");
    assert!(!text.contains("INTERNAL"), "{text}");
    assert!(!text.lines().filter(other).any(|line| line.contains("UNIMPLEMENTED")), "{text}");
}

#[tokio::test]
async fn a_request_of_up_to_4_mib_is_read_and_a_larger_one_is_refused_without_harm() {
    const LIMIT: usize = 4 << 20;
    assert_eq!(server::MAX_REQUEST, LIMIT);
    let server = Server::with_pool().await;
    let mut controller = server.controller().await;
    let padded = |length: usize| pb::CreateVolumeRequest {
        secrets: BTreeMap::from([("token".to_owned(), "x".repeat(length))]),
        ..create("padded")
    };
    // The length of everything else, with the lengths that stand before a text of this size.
    let rest = prost::Message::encoded_len(&padded(LIMIT)) - LIMIT;
    let largest = padded(LIMIT - rest);
    assert_eq!(prost::Message::encoded_len(&largest), LIMIT);
    let made = controller.create_volume(largest).await.unwrap().into_inner().volume.unwrap();
    for length in [LIMIT - rest + 1, 64 << 20] {
        // All at once, on one connection: each is refused for its own sake.
        let calls = (0..4).map(|_| {
            let (mut controller, request) = (controller.clone(), padded(length));
            tokio::spawn(async move { controller.create_volume(request).await })
        });
        for call in calls.collect::<Vec<_>>() {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::OutOfRange, "{status}");
            assert!(status.message().contains("limit") && status.message().len() < 300, "{status}");
        }
    }
    let all = controller.list_volumes(pb::ListVolumesRequest::default()).await.unwrap().into_inner();
    let ids: Vec<_> = all.entries.into_iter().filter_map(|entry| Some(entry.volume?.volume_id)).collect();
    assert_eq!(ids, [made.volume_id]);
    server.identity().await.probe(pb::ProbeRequest {}).await.unwrap();
}
