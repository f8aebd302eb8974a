//! The node on the fake machine. After each call it is the kernel that is asked what came of it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::host::NfsVersion;
use crate::host::fake::Fake;
use crate::volume::{AccessMode, AccessType};

const STAGING: &str = "/var/lib/kubelet/plugins/globalmount";
const TARGET: &str = "/var/lib/kubelet/pods/1/mount";
const OTHER: &str = "/var/lib/kubelet/pods/2/mount";
const OLD: &str = "/domain0/container-1/timeflow-1/datafile";
const NEW: &str = "/domain0/container-1/timeflow-2/datafile";
const SERVER: &str = "10.1.2.3";

struct Bench {
    fake: Fake,
    node: Node,
}

impl Bench {
    fn new() -> Bench {
        let fake = Fake::new();
        let server: IpAddr = SERVER.parse().unwrap();
        fake.export(server, OLD, true);
        fake.export(server, NEW, true);
        for dir in [STAGING, "/var/lib/kubelet/pods/1", "/var/lib/kubelet/pods/2"] {
            fake.make_target(Path::new(dir), crate::host::FileKind::Directory).unwrap();
        }
        let short = std::time::Duration::from_millis(50);
        let limits = Limits { mount: short * 20, unmount: short * 20, force: short, usage: short * 4 };
        let node = Node::new(std::sync::Arc::new(fake.clone()), "worker-1@10.0.0.1", 0, limits);
        Bench { fake, node }
    }

    fn silence(&self, silent: bool) {
        self.fake.silence(SERVER.parse().unwrap(), silent);
    }

    fn shown(&self) -> Vec<String> {
        let all = self.fake.nfs_mounts().unwrap();
        let one = |mount: crate::host::NfsMount| {
            let source = mount.source.unwrap();
            let mode = if mount.read_only { "ro" } else { "rw" };
            format!("{} {mode} {}", mount.target.display(), source.path)
        };
        all.into_iter().map(one).collect()
    }

    fn free(&self, target: &str) -> bool {
        self.fake.target_kind(Path::new(target)).unwrap().is_none()
    }

    async fn unstage(&self) -> Result<()> {
        self.node.unstage("main:1-VDB-1", Path::new(STAGING)).await
    }

    async fn unpublish(&self, target: &str) -> Result<()> {
        self.node.unpublish("main:1-VDB-1", Path::new(target)).await
    }
}

fn stage(path: &str) -> Stage {
    let context = [("server", SERVER), ("path", path), ("nfsVersion", "4")];
    Stage {
        volume: "main:1-VDB-1".to_owned(),
        staging: STAGING.into(),
        capability: Capability {
            access: AccessType::Mount { fs: None, flags: Vec::new() },
            mode: AccessMode::SingleNodeWriter,
        },
        context: context.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn publish(target: &str) -> Publish {
    Publish { stage: stage(OLD), target: target.into(), read_only: false }
}

#[tokio::test]
async fn a_volume_is_staged_once_and_shown_to_each_pod_as_it_was_asked_for() {
    let bench = Bench::new();
    for _ in 0..2 {
        bench.node.stage(stage(OLD)).await.unwrap();
        bench.node.publish(publish(TARGET)).await.unwrap();
        bench.node.publish(Publish { read_only: true, ..publish(OTHER) }).await.unwrap();
    }
    let expect = [format!("{STAGING} rw {OLD}"), format!("{TARGET} rw {OLD}"), format!("{OTHER} ro {OLD}")];
    assert_eq!(bench.shown(), expect);
    let differs = bench.node.publish(publish(OTHER)).await.unwrap_err();
    assert_eq!(differs.kind(), Kind::AlreadyExists);
    for _ in 0..2 {
        bench.unpublish(TARGET).await.unwrap();
        bench.unpublish(OTHER).await.unwrap();
        bench.unstage().await.unwrap();
    }
    assert!(bench.shown().is_empty() && bench.free(TARGET) && bench.free(OTHER) && !bench.free(STAGING));
}

#[tokio::test]
async fn a_request_that_cannot_be_right_is_refused_by_its_field_and_leaves_nothing() {
    async fn check(change: impl FnOnce(&mut Stage), kind: Kind, says: &str) {
        let bench = Bench::new();
        let mut request = stage(OLD);
        change(&mut request);
        let error = bench.node.stage(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(bench.shown().is_empty());
    }
    let set = |key: &'static str, value: &'static str| {
        move |stage: &mut Stage| drop(stage.context.insert(key.to_owned(), value.to_owned()))
    };
    let flags = |flag: &'static str| {
        move |stage: &mut Stage| {
            stage.capability.access = AccessType::Mount { fs: None, flags: vec![flag.to_owned()] };
        }
    };
    check(|stage| stage.context.clear(), Kind::Invalid, "publish_context.path: is missing").await;
    check(set("path", "domain0"), Kind::Invalid, "publish_context.path: is not an absolute path").await;
    check(set("nfsVersion", "2"), Kind::Invalid, "publish_context.nfsVersion").await;
    check(set("path", "/domain0/nothing"), Kind::Precondition, "no such export").await;
    check(set("server", "10.9.9.9"), Kind::Unavailable, "10.9.9.9:2049").await;
    check(flags("suid"), Kind::Invalid, "mount_flags[0]").await;
    check(|stage| stage.capability.access = AccessType::Block, Kind::Invalid, "volumeMode Filesystem").await;
    check(|stage| stage.staging = "/var/lib/none".into(), Kind::Precondition, "does not exist").await;
    let xfs = AccessType::Mount { fs: Some(crate::volume::FsType::Xfs), flags: Vec::new() };
    check(|stage| stage.capability.access = xfs, Kind::Invalid, "fs_type").await;
}

#[tokio::test]
async fn what_is_staged_in_another_way_is_not_taken_for_what_is_asked_for() {
    async fn check(flags: &[&str], says: &str) {
        let bench = Bench::new();
        bench.node.stage(stage(OLD)).await.unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut request = stage(OLD);
        request.capability.access = AccessType::Mount { fs: None, flags };
        let error = bench.node.stage(request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.to_string().contains(says), "{error}");
    }
    check(&["ro"], "for writing").await;
    check(&["vers=3"], "another version").await;
    check(&["timeo=100"], "other mount options").await;
}

#[tokio::test]
async fn an_export_of_before_a_rewind_gives_way_unless_a_pod_still_sees_it() {
    let bench = Bench::new();
    bench.node.stage(stage(OLD)).await.unwrap();
    bench.node.publish(publish(TARGET)).await.unwrap();
    let refused = bench.node.stage(stage(NEW)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition);
    assert!(refused.to_string().contains(TARGET) && refused.to_string().contains(OLD), "{refused}");
    bench.unpublish(TARGET).await.unwrap();
    bench.node.stage(stage(NEW)).await.unwrap();
    assert_eq!(bench.shown(), [format!("{STAGING} rw {NEW}")]);
    let stale = bench.node.publish(publish(TARGET)).await.unwrap_err();
    assert_eq!(stale.kind(), Kind::Precondition);
    assert!(bench.free(TARGET));
}

#[tokio::test]
async fn one_pod_at_a_time_means_one_target() {
    let bench = Bench::new();
    bench.node.stage(stage(OLD)).await.unwrap();
    let single = |target: &str| {
        let mut request = publish(target);
        request.stage.capability.mode = AccessMode::SingleNodeSingleWriter;
        request
    };
    bench.node.publish(single(TARGET)).await.unwrap();
    bench.node.publish(single(TARGET)).await.unwrap();
    let refused = bench.node.publish(single(OTHER)).await.unwrap_err();
    assert!(refused.to_string().contains(TARGET), "{refused}");
    assert!(bench.free(OTHER));
}

#[tokio::test]
async fn what_somebody_else_mounted_is_left_alone() {
    let bench = Bench::new();
    bench.fake.add_pool(STAGING, "tmpfs", 1 << 20);
    for error in [bench.node.stage(stage(OLD)).await.unwrap_err(), bench.unstage().await.unwrap_err()] {
        assert_eq!(error.kind(), Kind::Precondition);
        assert!(error.to_string().contains("left alone"), "{error}");
    }
    assert!(bench.fake.mount_at(Path::new(STAGING)).unwrap().is_some());
}

#[tokio::test]
async fn a_dead_server_keeps_nothing_mounted_even_while_files_are_open() {
    let bench = Bench::new();
    bench.node.stage(stage(OLD)).await.unwrap();
    bench.node.publish(publish(TARGET)).await.unwrap();
    bench.fake.app_open(TARGET, true).unwrap();
    bench.silence(true);
    bench.unpublish(TARGET).await.unwrap();
    bench.unstage().await.unwrap();
    assert!(bench.shown().is_empty() && bench.free(TARGET));
    assert!(bench.fake.calls().iter().any(|call| call.name == "unmount_dead"));
}

#[tokio::test]
async fn a_server_that_answers_is_never_unmounted_by_force() {
    let bench = Bench::new();
    bench.node.stage(stage(OLD)).await.unwrap();
    bench.node.publish(publish(TARGET)).await.unwrap();
    bench.fake.app_open(TARGET, true).unwrap();
    let busy = bench.unpublish(TARGET).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::Precondition);
    assert!(bench.fake.calls().iter().all(|call| call.name != "unmount_dead"));
    assert_eq!(bench.shown().len(), 2);
}

#[tokio::test]
async fn figures_of_a_silent_server_are_unavailable_and_cost_one_thread() {
    let bench = Bench::new();
    bench.node.stage(stage(OLD)).await.unwrap();
    assert!(bench.node.usage("main:1-VDB-1", Path::new(STAGING)).await.unwrap().bytes > 0);
    let (let_go, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    bench.fake.on_call(move |_, call| {
        if call.name == "usage" {
            let _until_the_test_ends = held.lock().unwrap().recv();
        }
    });
    for _ in 0..3 {
        let error = bench.node.usage("main:1-VDB-1", Path::new(STAGING)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
    // The hook runs in the call; the log has each call that was begun.
    let begun = bench.fake.calls().iter().filter(|call| call.name == "usage").count();
    assert_eq!(begun, 2, "one that answered, one that waits");
    drop(let_go);
}

#[tokio::test]
async fn health_tells_a_silent_server_from_a_missing_mount() {
    let bench = Bench::new();
    let reasons = async |bench: &Bench| -> Vec<&'static str> {
        let faults = bench.node.health("main:1-VDB-1", Path::new(TARGET), Path::new(STAGING)).await.unwrap();
        faults.into_iter().map(|fault| fault.reason).collect()
    };
    assert_eq!(reasons(&bench).await, ["MountMissing", "MountMissing"]);
    bench.node.stage(stage(OLD)).await.unwrap();
    bench.node.publish(publish(TARGET)).await.unwrap();
    assert!(reasons(&bench).await.is_empty());
    assert_eq!(bench.node.storage_health().await, [(SERVER.to_owned(), Vec::new())]);
    bench.silence(true);
    assert_eq!(reasons(&bench).await, ["ServerSilent"]);
    assert_eq!(bench.node.storage_health().await[0].1.len(), 1);
    bench.silence(false);
    bench.fake.fail_always("usage", crate::host::Cause::Other);
    assert_eq!(reasons(&bench).await, ["ExportGone", "ExportGone"]);
}

#[tokio::test]
async fn what_is_not_mounted_has_no_figures_and_no_size() {
    let bench = Bench::new();
    let at = Path::new(TARGET);
    let range = crate::volume::size::Range { required: 5, limit: 0 };
    assert_eq!(bench.node.usage("v", at).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bench.node.expand("v", at, range).await.unwrap_err().kind(), Kind::NotFound);
    bench.node.stage(stage(OLD)).await.unwrap();
    assert_eq!(bench.node.expand("v", Path::new(STAGING), range).await.unwrap(), 5);
}

#[tokio::test]
async fn a_mount_option_chooses_the_version() {
    let bench = Bench::new();
    let mut request = stage(OLD);
    request.capability.access = AccessType::Mount { fs: None, flags: vec!["nfsvers=3".to_owned()] };
    bench.node.stage(request).await.unwrap();
    assert_eq!(bench.fake.nfs_mounts().unwrap()[0].source.as_ref().unwrap().version, NfsVersion::V3);
}
