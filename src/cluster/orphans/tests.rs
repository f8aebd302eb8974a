//! Rounds against an API server and a driver in memory.

use std::sync::Mutex;

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::cluster::testing::FakeApi;
use crate::service::{Clock as _, SystemClock};

const UID: &str = "0b5ad0a4-6d7e-4c40-9d5f-1f9fd3b1a001";

fn id(n: u32, kind: char) -> ObjectId {
    format!("{kind}-aaaaaaaa-{n:032x}").parse().unwrap()
}

#[derive(Default)]
struct Driver {
    held: Mutex<Vec<Held>>,
    deleted: Mutex<Vec<ObjectId>>,
}

#[async_trait::async_trait]
impl Objects for Driver {
    async fn all(&self) -> Result<Vec<Held>> {
        Ok(self.held.lock().unwrap().clone())
    }

    async fn delete(&self, id: ObjectId) -> Result<()> {
        self.deleted.lock().unwrap().push(id);
        self.held.lock().unwrap().retain(|held| held.id != id);
        Ok(())
    }
}

/// Volumes 1 to 4 and snapshot 1, all old; volumes 1 and 2 have a PersistentVolume.
struct World {
    api: FakeApi,
    driver: Arc<Driver>,
    watch: Watch,
}

fn volume(n: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("pv-{n}") },
        "spec": { "csi": { "driver": "csi.offshoot.dev", "volumeHandle": id(n, 'v').to_string() } },
    })
}

impl World {
    fn new(mode: Mode) -> World {
        let held = |id| Held {
            id,
            name: format!("pvc-{UID}"),
            created: Some(SystemClock.now() - 7_200_000),
            size: 1,
            settled: true,
            in_use: false,
            exempt: None,
        };
        let driver = Arc::new(Driver::default());
        let ids = (1..=4).map(|n| id(n, 'v')).chain([id(1, 's')]);
        driver.held.lock().unwrap().extend(ids.map(held));
        let content = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": { "name": "content" },
            "spec": { "driver": "csi.offshoot.dev", "source": { "volumeHandle": id(1, 'v').to_string() } },
            "status": { "snapshotHandle": id(1, 's').to_string() },
        });
        let api = FakeApi::with([volume(1), volume(2), content]);
        let options = Options { mode, grace: Duration::from_secs(3600), every: Duration::from_secs(1) };
        let watch = Watch::new(api.client(), driver.clone(), options, Metrics::new("d", "n"), None);
        World { api, driver, watch }
    }

    async fn round(&mut self) -> Vec<ObjectId> {
        self.watch.round().await.unwrap().orphans
    }
}

#[tokio::test]
async fn an_object_must_be_forgotten_twice_in_a_row() {
    let mut world = World::new(Mode::Report);
    assert_eq!(world.round().await, []);
    assert_eq!(world.round().await, [id(3, 'v'), id(4, 'v')]);
    world.api.put(volume(3));
    assert_eq!(world.round().await, [id(4, 'v')]);
    assert!(world.driver.deleted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_partial_list_ends_the_round_and_the_count_of_rounds() {
    for path in ["persistentvolumes", "volumesnapshotcontents", "persistentvolumeclaims"] {
        let mut world = World::new(Mode::Reap);
        world.round().await;
        world.api.fail(Method::GET, path, 500);
        assert!(world.watch.round().await.is_err(), "{path}");
        world.api.mend();
        assert_eq!(world.round().await, [], "{path}");
        assert!(world.driver.deleted.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn pages_are_read_to_the_last_one() {
    let mut world = World::new(Mode::Report);
    world.api.pages_of(1);
    world.round().await;
    assert_eq!(world.round().await, [id(3, 'v'), id(4, 'v')]);
}

#[tokio::test]
async fn without_snapshot_kinds_snapshots_are_left_alone() {
    let mut world = World::new(Mode::Report);
    world.api.uninstall("snapshot.storage.k8s.io");
    world.round().await;
    assert_eq!(world.round().await, [id(3, 'v'), id(4, 'v')]);
}

#[tokio::test]
async fn what_was_made_for_a_claim_that_exists_is_not_forgotten_yet() {
    let mut world = World::new(Mode::Reap);
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "db", "uid": UID }, "spec": {},
    });
    world.api.put(claim);
    world.round().await;
    assert_eq!(world.round().await, []);
}

#[tokio::test]
async fn reaping_deletes_what_was_seen_twice_and_is_not_in_use() {
    let mut world = World::new(Mode::Reap);
    world.driver.held.lock().unwrap()[3].in_use = true;
    assert_eq!(world.watch.round().await.unwrap().reaped, []);
    let round = world.watch.round().await.unwrap();
    assert_eq!((round.reaped, round.refused), (vec![id(3, 'v')], None));
    assert_eq!(*world.driver.deleted.lock().unwrap(), [id(3, 'v')]);
}

#[tokio::test]
async fn a_volume_that_came_to_be_named_meanwhile_is_not_deleted() {
    let world = World::new(Mode::Reap);
    world.api.put(volume(3));
    let held = world.driver.held.lock().unwrap()[2].clone();
    assert!(!world.watch.reap(&held).await.unwrap());
    world.api.fail(Method::GET, "persistentvolumes", 410);
    let held = world.driver.held.lock().unwrap()[3].clone();
    assert!(world.watch.reap(&held).await.is_err());
    assert!(world.driver.deleted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_cluster_that_knows_no_volume_at_all_makes_nothing_be_deleted() {
    let mut world = World::new(Mode::Reap);
    world.watch.client = FakeApi::default().client();
    world.round().await;
    let round = world.watch.round().await.unwrap();
    assert_eq!((round.orphans.len(), round.reaped.len()), (5, 0));
    assert!(round.refused.unwrap().contains("restored"));
    world.watch.tell(&Round { orphans: vec![id(3, 'v')], ..Round::default() }).await;
    let text = world.watch.metrics.scrape().await.unwrap();
    assert!(text.contains("offshoot_orphans{kind=\"volume\"} 1"), "{text}");
}
