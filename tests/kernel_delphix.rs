//! The whole Delphix driver as people use it: a PostgreSQL on an export of a simulated engine, provisioned, published,
//! snapshotted, rewound, refreshed and deleted, and what becomes of it when the NFS server dies.
//!
//! The driver, the simulated DCT, the NFS server and its client in the kernel, and PostgreSQL are all real; they run in a
//! user-mode kernel (tests/uml), since neither a container nor the machine that builds has an NFS server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

#[path = "kernel/calls.rs"]
#[allow(dead_code, reason = "shared with tests of the local driver, which use the rest of it")]
mod calls;
#[path = "kernel/guest.rs"]
mod guest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use offshoot::proto::csi::{self as pb};
use tonic::Code;

use calls::{Answer, Client, NewVolume, capability, map};
use guest::{Guest, OTHERS, Postgres, here, run, until};

const NODE: &str = "guest@127.0.0.1";

/// A volume on its way to a pod, as sidecars and kubelet take it there.
struct Pod {
    client: Client,
    volume: String,
    staging: PathBuf,
    target: PathBuf,
}

impl Pod {
    fn new(client: &Client, volume: &str, name: &str) -> Pod {
        let staging = PathBuf::from(format!("/run/kubelet/{name}/stage"));
        std::fs::create_dir_all(&staging).unwrap();
        let target = PathBuf::from(format!("/run/kubelet/{name}/pod"));
        Pod { client: client.clone(), volume: volume.to_owned(), staging, target }
    }

    async fn attach(&self) -> Answer<BTreeMap<String, String>> {
        let request = pb::ControllerPublishVolumeRequest {
            volume_id: self.volume.clone(),
            node_id: NODE.to_owned(),
            volume_capability: Some(capability("")),
            ..Default::default()
        };
        Ok(self
            .client
            .controller
            .clone()
            .controller_publish_volume(request)
            .await?
            .into_inner()
            .publish_context)
    }

    async fn mount(&self, context: BTreeMap<String, String>) -> Answer<()> {
        let stage = pb::NodeStageVolumeRequest {
            volume_id: self.volume.clone(),
            publish_context: context.clone(),
            staging_target_path: self.staging.display().to_string(),
            volume_capability: Some(capability("")),
            ..Default::default()
        };
        self.client.node.clone().node_stage_volume(stage).await?;
        let publish = pb::NodePublishVolumeRequest {
            volume_id: self.volume.clone(),
            publish_context: context,
            staging_target_path: self.staging.display().to_string(),
            target_path: self.target.display().to_string(),
            volume_capability: Some(capability("")),
            ..Default::default()
        };
        self.client.node.clone().node_publish_volume(publish).await.map(drop)
    }

    async fn up(&self) -> BTreeMap<String, String> {
        let context = self.attach().await.unwrap();
        self.mount(context.clone()).await.unwrap();
        context
    }

    async fn unmount(&self) -> Answer<()> {
        self.client.unpublish(&self.volume, &self.target).await?;
        self.client.unstage(&self.volume, &self.staging).await
    }

    async fn detach(&self) -> Answer<()> {
        let request = pb::ControllerUnpublishVolumeRequest {
            volume_id: self.volume.clone(),
            node_id: NODE.to_owned(),
            ..Default::default()
        };
        self.client.controller.clone().controller_unpublish_volume(request).await.map(drop)
    }

    async fn down(&self) {
        self.unmount().await.unwrap();
        self.detach().await.unwrap();
    }
}

fn new_volume(name: &str, version: &str) -> NewVolume {
    NewVolume {
        name: name.to_owned(),
        size: 5 << 30,
        parameters: map(&[("source", "demo"), ("nfsVersion", version)]),
        ..NewVolume::default()
    }
}

fn nfs_mounts() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    table
        .lines()
        .filter(|line| [" nfs ", " nfs4 "].iter().any(|fs| line.contains(fs)))
        .map(str::to_owned)
        .collect()
}

/// A guest with a dSource that holds a database, and its driver's client, for a test that has a user-mode kernel of its own.
fn in_guest(test: &str, work: impl AsyncFnOnce(&Guest, &Client, &Path)) {
    if !here(test, "2G", "280") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let guest = Guest::start();
        let source = guest.source_dir();
        Postgres::make(&source);
        on_source(
            &guest,
            &source,
            "create table rows(n serial, name text); insert into rows(name) values ('first')",
        );
        let client = Client::new(&guest.socket());
        work(&guest, &client, &source).await;
        assert!(client.volumes().await.unwrap().is_empty());
        assert!(client.snapshots().await.unwrap().is_empty());
        assert!(nfs_mounts().is_empty(), "{:?}", nfs_mounts());
        let key = std::fs::read_to_string(guest.dir.join("key")).unwrap();
        assert!(!guest.log().contains(key.trim()), "the API key reached the log");
    });
}

#[test]
fn postgresql_lives_on_a_virtual_database_through_all_that_can_be_done_with_it() {
    let test = "postgresql_lives_on_a_virtual_database_through_all_that_can_be_done_with_it";
    in_guest(test, async |guest: &Guest, client: &Client, source: &Path| {
        for version in ["4", "3"] {
            life(guest, client, source, version).await;
        }
        assert_eq!(guest.nfs_addresses(), serde_json::json!([]));
    });
}

#[test]
fn a_node_that_was_taken_off_the_list_is_refused_until_it_is_published_to_again() {
    let test = "a_node_that_was_taken_off_the_list_is_refused_until_it_is_published_to_again";
    in_guest(test, async |guest: &Guest, client: &Client, _: &Path| {
        taken_off_the_list(guest, client).await;
        let others = serde_json::json!([OTHERS]);
        assert_eq!(guest.nfs_addresses(), others, "what others put there stays, and ours goes");
    });
}

#[test]
fn a_server_that_dies_and_comes_back_costs_a_writer_nothing_but_time() {
    let test = "a_server_that_dies_and_comes_back_costs_a_writer_nothing_but_time";
    in_guest(test, async |guest: &Guest, client: &Client, _: &Path| dies_and_comes_back(guest, client).await);
}

#[test]
fn a_server_that_stays_dead_holds_no_call_for_long() {
    let test = "a_server_that_stays_dead_holds_no_call_for_long";
    in_guest(test, async |guest: &Guest, client: &Client, _: &Path| stays_dead(guest, client).await);
}

/// Changes what the dSource holds, as its owner does, and has the engine take a snapshot of it.
fn on_source(guest: &Guest, source: &Path, statement: &str) {
    let owner = Postgres::start(source, 5501);
    owner.sql(statement);
    owner.stop();
    guest.snapshot_source();
}

async fn life(guest: &Guest, client: &Client, source: &Path, version: &str) {
    let begun = Instant::now();
    let created = client.create(&new_volume(&format!("db-{version}"), version)).await.unwrap();
    let volume = created.volume_id;
    assert_eq!(
        client.create(&new_volume(&format!("db-{version}"), version)).await.unwrap().volume_id,
        volume
    );
    let pod = Pod::new(client, &volume, &format!("db-{version}"));
    let context = pod.up().await;
    let mounted = nfs_mounts().pop().unwrap();
    assert!(mounted.contains(&format!("vers={version}")), "{mounted}");
    assert!(client.stats(&volume, &pod.target).await.unwrap()[0].total > 0);

    let database = Postgres::start(&pod.target, 5502);
    assert!(database.rows().starts_with("first"), "{}", database.rows());
    let base = database.rows();
    database.add("before");
    let snapshot = client.snapshot(&format!("snapshot-{version}"), &volume).await.unwrap().snapshot_id;
    database.add("after");
    let refused = client.rewind(&volume, &snapshot).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    database.stop();
    pod.down().await;

    let undo = client.rewind(&volume, &snapshot).await.unwrap();
    let after_rewind = pod.up().await;
    assert_ne!(context["path"], after_rewind["path"], "the path goes with the timeflow");
    let database = Postgres::start(&pod.target, 5502);
    assert_eq!(database.rows(), format!("{base} before"));
    database.stop();
    pod.down().await;

    let copy = NewVolume {
        source: calls::from_snapshot(&snapshot),
        ..new_volume(&format!("copy-{version}"), version)
    };
    let copy = client.create(&copy).await.unwrap().volume_id;
    let beside = Pod::new(client, &copy, &format!("copy-{version}"));
    beside.up().await;
    let database = Postgres::start(&beside.target, 5503);
    assert_eq!(database.rows(), format!("{base} before"));
    database.stop();
    beside.down().await;
    client.delete(&copy).await.unwrap();

    on_source(guest, source, &format!("insert into rows(name) values ('newer-{version}')"));
    let second_undo = client.refresh(&volume, None).await.unwrap();
    pod.up().await;
    let database = Postgres::start(&pod.target, 5502);
    assert_eq!(database.rows(), format!("{base} newer-{version}"));
    database.stop();
    pod.down().await;

    for snapshot in [snapshot, undo, second_undo] {
        client.delete_snapshot(&snapshot).await.unwrap();
    }
    client.delete(&volume).await.unwrap();
    println!("NFS version {version}: a whole life in {:.1} s", begun.elapsed().as_secs_f64());
}

async fn taken_off_the_list(guest: &Guest, client: &Client) {
    let volume = client.create(&new_volume("forbidden", "4")).await.unwrap().volume_id;
    let pod = Pod::new(client, &volume, "forbidden");
    let context = pod.attach().await.unwrap();
    guest.overwrite_addresses();
    let refused = pod.mount(context).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("nfs_addresses"), "{refused}");
    // Publishing again, which is what the attacher's resync does, lets it in again. An NFS server may remember a refusal for
    // a moment, and kubelet asks again.
    let context = pod.attach().await.unwrap();
    assert_eq!(guest.nfs_addresses(), serde_json::json!([OTHERS, "127.0.0.1"]));
    let begun = Instant::now();
    while let Err(refused) = pod.mount(context.clone()).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{refused}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    pod.down().await;
    client.delete(&volume).await.unwrap();
}

async fn dies_and_comes_back(guest: &Guest, client: &Client) {
    let volume = client.create(&new_volume("restart", "4")).await.unwrap().volume_id;
    let pod = Pod::new(client, &volume, "restart");
    pod.up().await;
    let database = Postgres::start(&pod.target, 5502);
    database.add("calm");
    run("/usr/sbin/rpc.nfsd", &["0"]);
    let mut writer = database.psql("insert into rows(name) values ('stubborn')").spawn().unwrap();
    let silent = client.stats(&volume, &pod.target).await.unwrap_err();
    assert_eq!(silent.code(), Code::Unavailable, "{silent}");
    let health = pb::NodeGetVolumeHealthRequest {
        volume_id: volume.clone(),
        volume_publish_path: pod.target.display().to_string(),
        ..Default::default()
    };
    let health = client.node.clone().node_get_volume_health(health).await.unwrap().into_inner();
    let found = health.volume_health.unwrap().health_statuses;
    assert_eq!(found[0].reason, "ServerSilent", "{found:?}");
    run("/usr/sbin/rpc.nfsd", &["4"]);
    println!("the server is back");
    assert!(writer.wait().unwrap().success(), "a hard mount waits and loses nothing");
    assert!(database.rows().ends_with("calm stubborn"), "{}", database.rows());
    database.stop();
    until("figures again", || {
        run(
            env!("CARGO_BIN_EXE_offshoot"),
            &["volume", "list", "-q", "--socket", &guest.socket().display().to_string()],
        )
        .contains(&volume)
    });
    pod.down().await;
    client.delete(&volume).await.unwrap();
}

async fn stays_dead(guest: &Guest, client: &Client) {
    let volume = client.create(&new_volume("dead", "4")).await.unwrap().volume_id;
    let pod = Pod::new(client, &volume, "dead");
    pod.up().await;
    let held = std::fs::File::open(pod.target.join("PG_VERSION")).unwrap();
    run("/usr/sbin/rpc.nfsd", &["0"]);
    println!("the server is dead");
    let begun = Instant::now();
    pod.unmount().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "a dead server held the node up: {:?}",
        begun.elapsed()
    );
    println!("unmounted after {:?}", begun.elapsed());
    assert!(nfs_mounts().is_empty(), "{:?}", nfs_mounts());
    assert!(guest.log().contains("unmounting by force"));
    run("/usr/sbin/rpc.nfsd", &["4"]);
    println!("the server is back");
    drop(held);
    pod.detach().await.unwrap();
    println!("detached");
    client.delete(&volume).await.unwrap();
}
