//! No credential is found anywhere that a real server writes, whichever call it came with.
//!
//! CSI hands drivers credentials in fields that it marks, service-account tokens in a volume's context, and maybe more
//! in mount flags and the publish context. Other drivers have shown them in logs, in events and in the arguments of
//! children. The places come from the compiled descriptor: each call that has any is made with all of them filled, once
//! so that it works, once without anything else, and once with flags that nobody knows. Then the marker is looked for
//! in answers, logs of both formats at their loudest, metrics, records, and in what children were started with.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

#[path = "kernel/mod.rs"]
mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kernel::calls::{Client, capability, from_snapshot, map};
use kernel::{GIB, NODE, Rig};
use offshoot::csi::rpc::Rpc;
use offshoot::proto::{self, csi as pb, offshoot as own};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const MARKER: &str = "xS3cretMarkerx";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

fn has_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|part| part == MARKER.as_bytes())
}

/// The message of a call, and the fields in it that CSI marks as secret.
fn request_of(pool: &DescriptorPool, rpc: Rpc) -> (MessageDescriptor, BTreeSet<String>) {
    let service = pool.get_service_by_name(rpc.service()).unwrap();
    let message = service.methods().find(|method| method.name() == rpc.method()).unwrap().input();
    let mark = pool.get_extension_by_name("csi.v1.csi_secret").unwrap();
    let secret = message.fields().filter(|f| f.options().get_extension(&mark).as_bool() == Some(true));
    let secret = secret.map(|field| field.name().to_owned()).collect();
    (message, secret)
}

/// Puts the marker wherever a credential may be; into mount flags, which are refused then, only if asked.
fn plant(message: &mut DynamicMessage, secret: &BTreeSet<String>, node: bool, flags: bool) {
    for field in message.descriptor().fields() {
        let pair =
            |key: &str| (MapKey::String(key.to_owned()), Value::String(format!("{{\"t\":\"{MARKER}\"}}")));
        let more = match field.name() {
            name if secret.contains(name) => vec![pair(&format!("password-{MARKER}")), pair("token")],
            "publish_context" => vec![pair("credential")],
            // Kubelet puts them there; nobody else has them.
            "volume_context" if node => vec![pair(TOKENS)],
            "mount_flags" if flags => {
                let flags = [format!("password={MARKER}"), MARKER.to_owned()].map(Value::String);
                message.set_field(&field, Value::List(flags.into()));
                continue;
            }
            _ => match message.get_field(&field).into_owned() {
                Value::Message(mut inner) if message.has_field(&field) => {
                    plant(&mut inner, secret, node, flags);
                    message.set_field(&field, Value::Message(inner));
                    continue;
                }
                Value::List(list) => {
                    let list = list.into_iter().map(|value| match value {
                        Value::Message(mut inner) => {
                            plant(&mut inner, secret, node, flags);
                            Value::Message(inner)
                        }
                        other => other,
                    });
                    let list = list.collect();
                    message.set_field(&field, Value::List(list));
                    continue;
                }
                _ => continue,
            },
        };
        let mut all = message.get_field(&field).as_map().cloned().unwrap_or_default();
        all.extend(more);
        message.set_field(&field, Value::Map(all));
    }
}

/// Makes calls with credentials in them, and keeps what came back.
struct Caller {
    pool: DescriptorPool,
    channel: Channel,
    made: BTreeSet<Rpc>,
    refused: BTreeMap<Rpc, usize>,
}

impl Caller {
    async fn send<A: Message + Default + 'static>(
        &mut self,
        rpc: Rpc,
        message: DynamicMessage,
        flags: bool,
    ) -> Result<A, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<DynamicMessage, A>::default();
        let path = format!("/{}", rpc.path()).parse().unwrap();
        let answer = async {
            let mut all =
                client.server_streaming(tonic::Request::new(message), path, codec).await?.into_inner();
            let first = all.message().await?.unwrap_or_default();
            while let Some(next) = all.message().await? {
                assert!(!has_marker(&next.encode_to_vec()), "{rpc}: an answer has a secret");
            }
            Ok::<A, Status>(first)
        };
        let answer = answer.await;
        match &answer {
            Ok(message) => {
                // What is confirmed comes back to the one who asked, by CSI's own rule, and with it the flags.
                let confirms = flags && rpc == Rpc::ValidateVolumeCapabilities;
                assert!(confirms || !has_marker(&message.encode_to_vec()), "{rpc}: the answer has a secret");
            }
            Err(status) => {
                *self.refused.entry(rpc).or_default() += 1;
                let said = [status.message().as_bytes(), status.details()].concat();
                assert!(!has_marker(&said), "{rpc}: the error has a secret: {status}");
                let headers = format!("{:?}", status.metadata());
                assert!(!has_marker(headers.as_bytes()), "{rpc}: the headers have a secret");
            }
        }
        answer
    }

    /// Makes the call so that it is refused, and so that it works.
    async fn call<A: Message + Default + 'static>(&mut self, rpc: Rpc, request: impl Message) -> A {
        let (descriptor, secret) = request_of(&self.pool, rpc);
        assert!(!secret.is_empty(), "{rpc} has no secrets");
        let node = rpc.service() == "csi.v1.Node";
        let mut hollow = DynamicMessage::new(descriptor.clone());
        plant(&mut hollow, &secret, node, true);
        let _ = self.send::<A>(rpc, hollow, true).await;
        let good = DynamicMessage::decode(descriptor, request.encode_to_vec().as_slice()).unwrap();
        let (mut flagged, mut plain) = (good.clone(), good.clone());
        plant(&mut flagged, &secret, node, true);
        plant(&mut plain, &secret, node, false);
        if flagged != plain {
            let answer = self.send::<A>(rpc, flagged, true).await;
            let code = answer.map(|_| ()).map_err(|status| status.code());
            assert!(matches!(code, Ok(()) | Err(Code::InvalidArgument)), "{rpc} with flags: {code:?}");
        }
        let answer = self.send(rpc, plain, false).await.unwrap_or_else(|status| panic!("{rpc}: {status}"));
        self.made.insert(rpc);
        answer
    }
}

/// Looks at the children of a process until it is told to stop; what they were started with.
fn watch_children(parent: u32, stop: Arc<AtomicBool>) -> JoinHandle<BTreeSet<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            // Only the children, so that one which lives for milliseconds on a busy machine is seen.
            let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                for child in children.split_whitespace() {
                    for file in ["cmdline", "environ"] {
                        seen.insert(std::fs::read(format!("/proc/{child}/{file}")).unwrap_or_default());
                    }
                }
            }
        }
        seen
    })
}

/// The file below `dir`, other than images, that has the marker; and how many were read.
fn search(dir: &Path) -> (Vec<String>, usize) {
    let (mut found, mut read) = (Vec::new(), 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap();
        if has_marker(path.to_string_lossy().as_bytes()) {
            found.push(path.display().to_string());
        }
        if kind.is_dir() {
            let (more, count) = search(&path);
            found.extend(more);
            read += count;
        } else if kind.is_file() && path.extension().is_none_or(|ending| ending != "img") {
            read += 1;
            if has_marker(&std::fs::read(&path).unwrap()) {
                found.push(path.display().to_string());
            }
        }
    }
    (found, read)
}

fn metrics(addr: SocketAddr) -> String {
    let mut page = TcpStream::connect(addr).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

fn range(bytes: u64) -> Option<pb::CapacityRange> {
    Some(pb::CapacityRange { required_bytes: bytes.cast_signed(), limit_bytes: 0 })
}

fn create(name: &str, kind: &str) -> pb::CreateVolumeRequest {
    pb::CreateVolumeRequest {
        name: name.into(),
        capacity_range: range(GIB),
        volume_capabilities: vec![capability(kind)],
        ..Default::default()
    }
}

/// The calls of a volume's life, each with credentials.
async fn live(calls: &mut Caller, client: &Client, rig: &Rig) {
    let mut ids = Vec::new();
    for kind in ["ext4", "xfs"] {
        let made: pb::CreateVolumeResponse = calls.call(Rpc::CreateVolume, create(kind, kind)).await;
        ids.push(made.volume.unwrap().volume_id);
    }
    let volume_id = ids[0].clone();
    let volume_capability = Some(capability("ext4"));
    let request = pb::ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.clone(),
        volume_capabilities: vec![capability("ext4")],
        ..Default::default()
    };
    calls.call::<pb::ValidateVolumeCapabilitiesResponse>(Rpc::ValidateVolumeCapabilities, request).await;
    let request = pb::ControllerPublishVolumeRequest {
        volume_id: volume_id.clone(),
        node_id: NODE.into(),
        volume_capability: volume_capability.clone(),
        ..Default::default()
    };
    calls.call::<pb::ControllerPublishVolumeResponse>(Rpc::ControllerPublishVolume, request).await;
    let (staging, target) = (rig.path("staging"), rig.path("pod"));
    std::fs::create_dir_all(&staging).unwrap();
    let staging_target_path = staging.display().to_string();
    let request = pb::NodeStageVolumeRequest {
        volume_id: volume_id.clone(),
        staging_target_path: staging_target_path.clone(),
        volume_capability: volume_capability.clone(),
        ..Default::default()
    };
    calls.call::<pb::NodeStageVolumeResponse>(Rpc::NodeStageVolume, request).await;
    let request = pb::NodePublishVolumeRequest {
        volume_id: volume_id.clone(),
        staging_target_path: staging_target_path.clone(),
        target_path: target.display().to_string(),
        volume_capability: volume_capability.clone(),
        ..Default::default()
    };
    calls.call::<pb::NodePublishVolumeResponse>(Rpc::NodePublishVolume, request).await;
    let request = pb::NodeExpandVolumeRequest {
        volume_id: volume_id.clone(),
        volume_path: target.display().to_string(),
        staging_target_path,
        capacity_range: range(GIB),
        volume_capability: volume_capability.clone(),
        ..Default::default()
    };
    calls.call::<pb::NodeExpandVolumeResponse>(Rpc::NodeExpandVolume, request).await;
    let request = pb::NodeGetStorageHealthRequest::default();
    calls.call::<pb::NodeGetStorageHealthResponse>(Rpc::NodeGetStorageHealth, request).await;
    client.unpublish(&volume_id, &target).await.unwrap();
    client.unstage(&volume_id, &staging).await.unwrap();
    let request = pb::ControllerUnpublishVolumeRequest {
        volume_id: volume_id.clone(),
        node_id: NODE.into(),
        ..Default::default()
    };
    calls.call::<pb::ControllerUnpublishVolumeResponse>(Rpc::ControllerUnpublishVolume, request).await;
    let request = pb::ControllerListVolumeHealthRequest::default();
    calls.call::<pb::ControllerListVolumeHealthResponse>(Rpc::ControllerListVolumeHealth, request).await;
    let request = pb::ControllerGetVolumeHealthRequest { volume_id: volume_id.clone(), ..Default::default() };
    calls.call::<pb::ControllerGetVolumeHealthResponse>(Rpc::ControllerGetVolumeHealth, request).await;
    copies(calls, &volume_id).await;
    let request = pb::ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range: range(GIB + (64 << 20)),
        volume_capability,
        ..Default::default()
    };
    calls.call::<pb::ControllerExpandVolumeResponse>(Rpc::ControllerExpandVolume, request).await;
    let request = pb::ControllerModifyVolumeRequest {
        volume_id,
        mutable_parameters: map(&[("readAheadKiB", "64")]),
        ..Default::default()
    };
    calls.call::<pb::ControllerModifyVolumeResponse>(Rpc::ControllerModifyVolume, request).await;
    let request = pb::DeleteVolumeRequest { volume_id: ids.remove(1), ..Default::default() };
    calls.call::<pb::DeleteVolumeResponse>(Rpc::DeleteVolume, request).await;
}

/// The calls of snapshots, groups and copies.
async fn copies(calls: &mut Caller, volume_id: &str) {
    let mut snapshots = Vec::new();
    for name in ["old", "new", "spare"] {
        let request = pb::CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume_id.into(),
            ..Default::default()
        };
        let made: pb::CreateSnapshotResponse = calls.call(Rpc::CreateSnapshot, request).await;
        snapshots.push(made.snapshot.unwrap().snapshot_id);
    }
    let [old, new, spare] = snapshots.try_into().unwrap();
    calls.call::<pb::ListSnapshotsResponse>(Rpc::ListSnapshots, pb::ListSnapshotsRequest::default()).await;
    let request = pb::GetSnapshotRequest { snapshot_id: old.clone(), ..Default::default() };
    calls.call::<pb::GetSnapshotResponse>(Rpc::GetSnapshot, request).await;
    let request = pb::GetMetadataAllocatedRequest { snapshot_id: old.clone(), ..Default::default() };
    calls.call::<pb::GetMetadataAllocatedResponse>(Rpc::GetMetadataAllocated, request).await;
    let request = pb::GetMetadataDeltaRequest {
        base_snapshot_id: old.clone(),
        target_snapshot_id: new.clone(),
        ..Default::default()
    };
    calls.call::<pb::GetMetadataDeltaResponse>(Rpc::GetMetadataDelta, request).await;
    let request =
        pb::CreateVolumeRequest { volume_content_source: from_snapshot(&old), ..create("copy", "ext4") };
    let made: pb::CreateVolumeResponse = calls.call(Rpc::CreateVolume, request).await;
    let request = own::RefreshVolumeRequest {
        volume_id: made.volume.unwrap().volume_id,
        from: Some(own::refresh_volume_request::From::SnapshotId(new)),
        ..Default::default()
    };
    calls.call::<own::RefreshVolumeResponse>(Rpc::RefreshVolume, request).await;
    let request =
        own::RewindVolumeRequest { volume_id: volume_id.into(), snapshot_id: old, ..Default::default() };
    calls.call::<own::RewindVolumeResponse>(Rpc::RewindVolume, request).await;
    let request = pb::DeleteSnapshotRequest { snapshot_id: spare, ..Default::default() };
    calls.call::<pb::DeleteSnapshotResponse>(Rpc::DeleteSnapshot, request).await;
    let request = pb::CreateVolumeGroupSnapshotRequest {
        name: "group".into(),
        source_volume_ids: vec![volume_id.into()],
        ..Default::default()
    };
    let made: pb::CreateVolumeGroupSnapshotResponse =
        calls.call(Rpc::CreateVolumeGroupSnapshot, request).await;
    let group = made.group_snapshot.unwrap();
    let snapshot_ids = vec![group.snapshots[0].snapshot_id.clone()];
    let request = pb::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: snapshot_ids.clone(),
        ..Default::default()
    };
    calls.call::<pb::GetVolumeGroupSnapshotResponse>(Rpc::GetVolumeGroupSnapshot, request).await;
    let request = pb::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id,
        snapshot_ids,
        ..Default::default()
    };
    calls.call::<pb::DeleteVolumeGroupSnapshotResponse>(Rpc::DeleteVolumeGroupSnapshot, request).await;
}

async fn check(log_format: &'static str) {
    let Some(mut rig) = Rig::new(&format!("secrets-{log_format}")) else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap();
    drop(free);
    rig.log_format = log_format;
    // A level alone is for our own events.
    rig.options =
        ["--log-level", "trace,offshoot=trace", "--admin-addr", &admin.to_string()].map(Into::into).into();
    let client = rig.start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let watching = watch_children(rig.pid(), stop.clone());
    client.file_pool("fast", &rig.path("pool.img"), 8 * GIB).await.unwrap();
    let pool = DescriptorPool::decode(proto::DESCRIPTOR).unwrap();
    let channel = Endpoint::from_shared(format!("unix://{}", rig.socket().display())).unwrap().connect_lazy();
    let (made, refused) = Default::default();
    let mut calls = Caller { pool, channel, made, refused };
    live(&mut calls, &client, &rig).await;

    let with_secrets = Rpc::public().filter(|rpc| !request_of(&calls.pool, *rpc).1.is_empty());
    assert_eq!(calls.made, with_secrets.collect(), "not every call with secrets was made");
    assert!(calls.refused.len() > 15, "few calls were refused: {:?}", calls.refused);
    stop.store(true, Ordering::Relaxed);
    let children = watching.join().unwrap();
    assert!(children.iter().any(|words| words.windows(4).any(|part| part == b"mkfs")), "no mkfs was seen");
    assert!(!children.iter().any(|words| has_marker(words)), "a child was started with a secret");
    let page = metrics(admin);
    assert!(page.contains("NodeStageVolume") && !has_marker(page.as_bytes()), "{page}");
    // Records are looked at while there are some.
    let pool = client.pool("fast").await;
    for dir in [Path::new(&pool.path), &rig.path("state")] {
        let (found, read) = search(dir);
        assert_eq!(found, Vec::<String>::new());
        assert!(read > 0, "{}: there is nothing", dir.display());
    }
    rig.stop().await;
    let log = std::fs::read_to_string(rig.log()).unwrap();
    assert!(log.contains("TRACE") && log.contains("CreateVolume"), "the log is not at its loudest");
    assert_eq!(log.starts_with('{'), log_format == "json");
    assert_eq!(log.lines().find(|line| has_marker(line.as_bytes())), None, "the log has a secret");
    assert_eq!(search(&rig.dir).0, Vec::<String>::new(), "a file has a secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_any_call_is_found_anywhere_with_logs_for_people() {
    check("human").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_any_call_is_found_anywhere_with_logs_for_machines() {
    check("json").await;
}
