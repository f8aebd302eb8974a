//! A lost node's objects in an API server in memory.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::cluster::driver::{Driver, Pools, Ran};
use crate::cluster::lost::{refusal, survey};
use crate::cluster::testing::FakeApi;

const DRIVER: &str = "csi.offshoot.dev";

fn id(kind: char, pool: &str, n: u32) -> String {
    format!("{kind}-{}-{n:032x}", pool.repeat(8))
}

/// A driver whose pool `b` answers on node `n2`.
struct OnlyN2;

#[async_trait]
impl Driver for OnlyN2 {
    async fn run(&self, _: &[&str]) -> anyhow::Result<Ran> {
        let pools = json!({ "pools": [{ "id": "bbbbbbbb", "name": "fast", "attributes": { "node": "n2" } }], "unreachable": ["n1"] });
        Ok(Ran { ok: true, stdout: pools.to_string(), stderr: String::new() })
    }
}

fn volume(n: u32, pool: &str, node: &str) -> [Value; 2] {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": format!("claim-{n}"), "namespace": "shop", "uid": format!("claim-uid-{n}") },
        "spec": { "volumeName": format!("pv-{n}") },
    });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": format!("pv-{n}"), "finalizers": [
            "kubernetes.io/pv-protection", "external-provisioner.volume.kubernetes.io/finalizer" ] },
        "spec": {
            "csi": { "driver": DRIVER, "volumeHandle": id('v', pool, n) },
            "claimRef": { "namespace": "shop", "name": format!("claim-{n}"), "uid": format!("claim-uid-{n}") },
            "persistentVolumeReclaimPolicy": "Delete",
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "topology.offshoot.dev/node", "operator": "In", "values": [node] } ] }] } },
        },
    });
    [claim, volume]
}

fn snapshot(n: u32, pool: &str) -> [Value; 2] {
    let snapshot = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": { "name": format!("snap-{n}"), "namespace": "shop", "uid": format!("snap-uid-{n}"), "finalizers": [
            "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection" ] },
        "spec": {},
    });
    let content = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": { "name": format!("content-{n}"), "finalizers": [
            "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection" ] },
        "spec": {
            "driver": DRIVER, "deletionPolicy": "Delete", "source": {},
            "volumeSnapshotRef": { "namespace": "shop", "name": format!("snap-{n}"), "uid": format!("snap-uid-{n}") },
        },
        "status": { "snapshotHandle": id('s', pool, n) },
    });
    [snapshot, content]
}

/// Volumes 1 and 2 and snapshot 1 on the lost node, volume 3 and snapshot 3 on another.
fn world() -> (FakeApi, Access) {
    let objects = [
        volume(1, "a", "n1"),
        volume(2, "a", "n1"),
        volume(3, "b", "n2"),
        snapshot(1, "a"),
        snapshot(3, "b"),
    ];
    let api = FakeApi::with(objects.into_iter().flatten());
    let access = Access::new(api.client(), DRIVER);
    (api, access)
}

async fn lose(access: &Access) -> Vec<Outcome> {
    let (loss, _) = survey(access, &OnlyN2, "n1", &[]).await.unwrap();
    release(access, &loss, |_| {}).await
}

fn remaining(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes
        .iter()
        .filter(|outcome| outcome.remains.is_some())
        .map(|outcome| outcome.object.as_str())
        .collect()
}

fn assert_only_the_other_node_is_left(api: &FakeApi) {
    assert_eq!(api.names("persistentvolumes"), ["pv-3"]);
    assert_eq!(api.names("persistentvolumeclaims"), ["shop/claim-3"]);
    assert_eq!(api.names("volumesnapshotcontents"), ["content-3"]);
    assert_eq!(api.names("volumesnapshots"), ["shop/snap-3"]);
    let kept = api.get("persistentvolumes", "pv-3").unwrap();
    assert_eq!(kept["spec"]["persistentVolumeReclaimPolicy"], "Delete");
}

#[tokio::test(start_paused = true)]
async fn everything_of_the_lost_node_goes_and_nothing_else() {
    let (api, access) = world();
    let outcomes = lose(&access).await;
    assert_eq!(remaining(&outcomes), [""; 0], "{outcomes:?}");
    assert_only_the_other_node_is_left(&api);
    let (loss, _) = survey(&access, &OnlyN2, "n1", &[]).await.unwrap();
    assert!(loss.is_empty());
}

#[tokio::test(start_paused = true)]
async fn broken_off_after_any_request_it_is_finished_by_a_repetition() {
    let changing = |log: &[String]| log.iter().filter(|line| !line.starts_with("GET")).count();
    let (api, access) = world();
    lose(&access).await;
    let all = changing(&api.log());
    assert!(all > 10);
    for method in [Method::PATCH, Method::DELETE] {
        for path in
            ["persistentvolumes", "persistentvolumeclaims", "volumesnapshots", "volumesnapshotcontents"]
        {
            let (api, access) = world();
            api.fail(method.clone(), path, 500);
            let outcomes = lose(&access).await;
            // Of the kinds that nothing depends on, all others have gone.
            assert!(outcomes.len() >= 6, "{outcomes:?}");
            api.mend();
            let outcomes = lose(&access).await;
            assert_eq!(remaining(&outcomes), [""; 0], "{method} {path}: {outcomes:?}");
            assert_only_the_other_node_is_left(&api);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_a_pod_holds_is_named_and_its_volume_waits() {
    let (api, access) = world();
    let mut claim = api.get("persistentvolumeclaims", "shop/claim-1").unwrap();
    claim["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
    api.put(claim);
    api.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "db-0", "namespace": "shop" },
        "spec": { "containers": [], "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "claim-1" } }] },
    }));
    let outcomes = lose(&access).await;
    assert_eq!(remaining(&outcomes), ["PersistentVolumeClaim shop/claim-1", "PersistentVolume pv-1"]);
    assert!(outcomes.iter().any(|o| o.remains.as_deref().unwrap_or_default().contains("pods hold it: db-0")));
    let volume = api.get("persistentvolumes", "pv-1").unwrap();
    assert!(volume["metadata"]["deletionTimestamp"].is_null(), "{volume}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_same_name_that_came_later_is_not_meant() {
    let (api, access) = world();
    let mut claim = api.get("persistentvolumeclaims", "shop/claim-1").unwrap();
    claim["metadata"]["uid"] = json!("another");
    api.put(claim);
    assert_eq!(remaining(&lose(&access).await), [""; 0]);
    assert_eq!(api.names("persistentvolumeclaims"), ["shop/claim-1", "shop/claim-3"]);
    assert_eq!(api.names("persistentvolumes"), ["pv-3"]);
}

#[tokio::test(start_paused = true)]
async fn finalizers_of_others_stay_and_are_named() {
    let (api, access) = world();
    let mut volume = api.get("persistentvolumes", "pv-2").unwrap();
    volume["metadata"]["finalizers"] = json!(["kubernetes.io/pv-protection", "backup.example/hold"]);
    api.put(volume);
    let outcomes = lose(&access).await;
    assert_eq!(remaining(&outcomes), ["PersistentVolume pv-2"]);
    let volume = api.get("persistentvolumes", "pv-2").unwrap();
    assert_eq!(volume["metadata"]["finalizers"], json!(["backup.example/hold"]));
}

#[tokio::test]
async fn a_node_that_may_be_alive_is_not_forgotten() {
    let node = |status: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "spec": {},
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        })
    };
    let check = async |objects: Vec<Value>, name: &str, expect: Option<&str>| {
        let access = Access::new(FakeApi::with(objects).client(), DRIVER);
        let (_, pools) = survey(&access, &OnlyN2, name, &[]).await.unwrap();
        let found = refusal(&access, &pools, name).await.unwrap();
        assert_eq!(found.is_some(), expect.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()));
    };
    check(vec![node("True")], "n1", Some("is Ready")).await;
    check(vec![node("Unknown")], "n1", None).await;
    check(vec![], "n1", None).await;
    check(vec![], "n2", Some("agent of node n2 answers")).await;
    let api = FakeApi::default();
    api.fail(Method::GET, "nodes", 403);
    assert!(refusal(&Access::new(api.client(), DRIVER), &Pools::default(), "n1").await.is_err());
}
