//! What each use case does and refuses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use offshoot::delphix::api::{RefreshFrom, RewindTo, SnapshotFilter, SourceRef};
use offshoot::delphix::params::SnapshotParams;
use offshoot::delphix::{Annotations, Settings, Tell};
use offshoot::volume::size::Range;
use offshoot::volume::{AccessMode, Kind, Result};
use offshoot_dct_sim::{Config, Fault, Kind as Of, Release, Rule};

use super::world::{GIB, World, cut, demo, files, lagging, node, params, published, refused, single, wish};

#[tokio::test]
async fn a_volume_is_a_tagged_vdb_that_is_not_enabled() {
    let world = World::new(lagging()).await;
    let driver = world.driver();
    let pairs = [
        ("source", "demo"),
        ("mountBase", "/mnt/k8s"),
        ("group", "Kubernetes"),
        ("tags", "team=a"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
    ];
    let made = driver.create_volume(wish("pvc-1", &pairs, None)).await.unwrap();
    let vdb = world.vdb(&made.id.vdb);
    assert_eq!((vdb["name"].as_str(), vdb["enabled"].as_bool()), (Some("pvc-1"), Some(false)));
    assert_eq!(vdb["mount_point"], "/mnt/k8s/pvc-1");
    assert_eq!(vdb["group_name"], "Kubernetes");
    assert_eq!(world.tags(&made.id.vdb, "offshoot-claim"), ["shop/data"]);
    assert_eq!(world.tags(&made.id.vdb, "team"), ["a"]);
    assert_eq!(made.size, GIB);
    assert!(!made.context.contains_key("path"));
    // The same again is the same; another controller sees it as well.
    assert_eq!(world.driver().create_volume(wish("pvc-1", &pairs, None)).await.unwrap(), made);
    let other = wish("pvc-1", &[("source", "demo"), ("group", "Untitled")], None);
    refused(driver.create_volume(other).await, Kind::AlreadyExists, &["pvc-1", "parameters."]);
    let mut larger = wish("pvc-1", &pairs, None);
    larger.range = Range { required: 2 * GIB, limit: 0 };
    refused(driver.create_volume(larger).await, Kind::AlreadyExists, &["capacity_range"]);
    assert_eq!(
        driver.expand(&made.id.to_string(), Range { required: 2 * GIB, limit: 0 }).await.unwrap(),
        2 * GIB
    );
    let shrink = Range { required: GIB, limit: GIB };
    refused(driver.expand(&made.id.to_string(), shrink).await, Kind::OutOfRange, &["limit_bytes"]);
}

#[tokio::test]
async fn every_point_of_a_source_can_be_copied_and_an_empty_volume_be_had() {
    let world = World::new(Config::default()).await;
    let driver = world.driver();
    let db = demo(&driver, "db").await.unwrap();
    let monday = cut(&driver, "monday", &db.id.to_string()).await.unwrap();
    for (n, pairs) in [
        vec![("source", world.seeded.dsource.as_str())],
        vec![("source", "demo"), ("sourceSnapshot", &world.seeded.snapshot)],
        vec![("sourceSnapshot", world.seeded.snapshot.as_str())],
        vec![("source", "demo"), ("sourceTimestamp", "2100-01-01T00:00:00Z")],
        vec![("sourceBookmark", "monday")],
        vec![("source", "db"), ("sourceSnapshot", "")],
        vec![("engine", "engine1")],
        vec![("source", "demo"), ("environment", "surrogate1"), ("repository", "Unstructured files")],
        vec![("source", "demo"), ("engine", "1"), ("containerMode", "false"), ("nfsVersion", "3")],
    ]
    .into_iter()
    .enumerate()
    {
        let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let made = driver.create_volume(wish(&format!("v{n}"), &pairs, None)).await.unwrap();
        assert_eq!(world.vdb(&made.id.vdb)["enabled"], false, "{pairs:?}");
    }
    assert_eq!(monday.source, db.id);
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name_and_leave_nothing() {
    let world = World::new(Config::default()).await;
    world.sim.add_engine("engine2.example").unwrap();
    let driver = world.driver();
    for (pairs, words) in [
        (vec![("source", "nothing")], vec!["parameters.source", "neither an id nor a name"]),
        (
            vec![("source", "demo")],
            vec!["parameters.source", "is the name of several", "1-APPDATA", "2-APPDATA"],
        ),
        (vec![("source", "demo"), ("engine", "engine3")], vec!["parameters.engine"]),
        (
            vec![("source", &world.seeded.dsource), ("engine", "engine2")],
            vec!["parameters.source", "is not on engine 2"],
        ),
        (
            vec![("engine", "1"), ("source", "demo"), ("environment", "surrogate2")],
            vec!["parameters.environment", "surrogate1"],
        ),
        (
            vec![("engine", "1"), ("source", "demo"), ("repository", "x")],
            vec!["parameters.repository", "Unstructured files"],
        ),
        (vec![("engine", "1"), ("source", "demo"), ("group", "x")], vec!["parameters.group"]),
        (vec![("sourceSnapshot", "1-X-1")], vec!["parameters.sourceSnapshot"]),
        (vec![("sourceBookmark", "x")], vec!["parameters.sourceBookmark"]),
        (vec![], vec!["parameters.environment", "several fit", "surrogate1", "surrogate2"]),
        (vec![("dct", "prod")], vec!["parameters", "prod", "sim"]),
    ] {
        let error = driver.create_volume(wish("db", &pairs, None)).await;
        refused(error, Kind::Invalid, &words);
    }
    let one = driver.create_volume(wish("db", &[("source", "demo"), ("engine", "1")], None)).await.unwrap();
    driver.delete_volume(&one.id.to_string()).await.unwrap();
    assert!(world.audit().vdbs.is_empty());
}

#[tokio::test]
async fn a_release_that_is_too_old_for_a_parameter_is_named_and_an_old_one_still_serves() {
    let old: Release = "24.0.0".parse().unwrap();
    let world = World::new(Config { release: old, ..Config::default() }).await;
    let driver = world.driver();
    for (pairs, word) in [
        (vec![("source", "demo"), ("ownership", "999:999")], "parameters.ownership"),
        (vec![("source", "demo"), ("containerMode", "true")], "parameters.containerMode"),
        (vec![("engine", "1")], "parameters.source"),
    ] {
        refused(driver.create_volume(wish("db", &pairs, None)).await, Kind::Invalid, &[word, "DCT sim"]);
    }
    let db = demo(&driver, "db").await.unwrap().id.to_string();
    let context = published(&driver, &db, "n1@10.0.0.1").await.unwrap();
    assert_eq!(context.nfs_version, None);
    driver.unpublish(&db, None).await.unwrap();
    driver.delete_volume(&db).await.unwrap();
    world.is_empty();
}

#[tokio::test]
async fn a_node_is_told_where_the_data_is_now_and_is_let_in() {
    let world = World::new(lagging()).await;
    let driver = world.driver();
    let pairs = [("source", "demo"), ("nfsVersion", "4.2")];
    let db = driver.create_volume(wish("db", &pairs, None)).await.unwrap().id.to_string();
    let context = published(&driver, &db, "n1@10.0.0.1,fd00::1").await.unwrap();
    let path = world.vdb(&db)["exported_data_directory"].as_str().unwrap().to_owned();
    let expect = [("nfsVersion", "4.2"), ("path", &format!("/{path}")), ("server", "engine.example")];
    let expect: BTreeMap<String, String> =
        expect.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!(context.to_map(), expect);
    assert_eq!(world.addresses(), ["10.0.0.1", "fd00::1"]);
    assert_eq!(driver.get_volume(&db).await.unwrap().nodes, ["n1@10.0.0.1,fd00::1"]);
    // Another node, the same in another way, and the same again.
    refused(published(&driver, &db, "n2@10.0.0.2").await, Kind::Precondition, &["node n1"]);
    let other = driver.publish(&db, &node("n1@10.0.0.1"), &single(), true).await;
    refused(other, Kind::AlreadyExists, &["n1"]);
    assert_eq!(published(&driver, &db, "n1@10.0.0.1,fd00::1").await.unwrap(), context);
    refused(driver.delete_volume(&db).await, Kind::Precondition, &["n1"]);
    refused(
        driver.rewind(&db, RewindTo::Timestamp("2100-01-01T00:00:00Z".into())).await,
        Kind::Precondition,
        &["n1"],
    );
    // The node came back with another address, and goes by name.
    published(&driver, &db, "n1@10.0.0.9").await.unwrap();
    assert_eq!(driver.get_volume(&db).await.unwrap().nodes, ["n1@10.0.0.9"]);
    driver.unpublish(&db, Some(&node("n2@10.0.0.2"))).await.unwrap();
    assert_eq!(world.vdb(&db)["enabled"], true);
    driver.unpublish(&db, Some(&node("n1@10.0.0.77"))).await.unwrap();
    assert_eq!((world.vdb(&db)["enabled"].as_bool(), world.addresses().len()), (Some(false), 0));
    // Several nodes, where the mode is for several.
    let many = files(AccessMode::MultiNodeMultiWriter);
    for at in ["n1@10.0.0.1", "n2@10.0.0.2"] {
        driver.publish(&db, &node(at), &many, false).await.unwrap();
    }
    driver.unpublish(&db, Some(&node("n1@10.0.0.1"))).await.unwrap();
    assert_eq!(
        (world.vdb(&db)["enabled"].as_bool(), world.addresses()),
        (Some(true), vec!["10.0.0.2".to_owned()])
    );
    driver.unpublish(&db, None).await.unwrap();
    driver.unpublish(&db, None).await.unwrap();
    assert_eq!((world.vdb(&db)["enabled"].as_bool(), world.addresses().len()), (Some(false), 0));
    driver.delete_volume(&db).await.unwrap();
    world.is_empty();
}

#[tokio::test]
async fn what_was_on_the_list_before_us_stays_and_other_writers_lose_nothing() {
    let world = World::new(lagging()).await;
    let driver = world.driver();
    let environment = world.seeded.environment.clone();
    let addresses = |all: &[&str]| offshoot_dct_sim::Admin::Addresses {
        environment: environment.clone(),
        addresses: all.iter().map(|one| (*one).to_owned()).collect(),
    };
    world.sim.admin(addresses(&["10.9.9.9", "10.0.0.1"])).unwrap();
    let db = demo(&driver, "db").await.unwrap().id.to_string();
    published(&driver, &db, "n1@10.0.0.1,10.0.0.2").await.unwrap();
    assert_eq!(world.addresses(), ["10.9.9.9", "10.0.0.1", "10.0.0.2"]);
    driver.unpublish(&db, None).await.unwrap();
    assert_eq!(world.addresses(), ["10.9.9.9", "10.0.0.1"]);
    // Another writer puts the list back as he read it before ours was there.
    world.sim.fault(Rule::next("POST /vdbs/{vdbId}/enable", Fault::JobSlow { ms: 100, status: None }));
    let publishing = {
        let (driver, db) = (driver.clone(), db.clone());
        tokio::spawn(async move { published(&driver, &db, "n1@10.0.0.3").await })
    };
    while world.sim.traffic().log.iter().filter(|call| call.ends_with("/enable")).count() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.sim.admin(addresses(&["10.9.9.9", "10.8.8.8"])).unwrap();
    publishing.await.unwrap().unwrap();
    assert_eq!(world.addresses(), ["10.9.9.9", "10.8.8.8", "10.0.0.3"]);
    driver.unpublish(&db, None).await.unwrap();
    assert_eq!(world.addresses(), ["10.9.9.9", "10.8.8.8"]);
}

#[tokio::test]
async fn a_snapshot_is_a_bookmark_over_a_fresh_snapshot_and_is_deleted_with_it_alone() {
    let world = World::new(lagging()).await;
    let driver = world.driver();
    let db = demo(&driver, "db").await.unwrap().id.to_string();
    let tags = BTreeMap::from([("tags".to_owned(), "team=a".to_owned())]);
    let monday = driver.create_snapshot("monday", &db, SnapshotParams::parse(&tags).unwrap()).await.unwrap();
    assert_eq!((monday.size, monday.ready, monday.undo), (GIB, true, false));
    assert!(monday.created > 0);
    assert_eq!(cut(&world.driver(), "monday", &db).await.unwrap(), monday);
    let log = demo(&driver, "log").await.unwrap().id.to_string();
    refused(cut(&driver, "monday", &log).await, Kind::AlreadyExists, &["monday", &db]);
    refused(cut(&driver, "x", "sim:1-X-1").await, Kind::NotFound, &["1-X-1"]);
    // In use by a copy; its source is too.
    let copy = driver
        .create_volume(wish("copy", &[], Some(SourceRef::Snapshot(monday.id.to_string()))))
        .await
        .unwrap();
    let copy = copy.id.to_string();
    refused(
        driver.delete_snapshot(&monday.id.to_string()).await,
        Kind::Precondition,
        &[&copy, "delete them first"],
    );
    refused(driver.delete_volume(&db).await, Kind::Precondition, &["monday"]);
    let mut small = wish("small", &[], Some(SourceRef::Snapshot(monday.id.to_string())));
    small.range = Range { required: 5, limit: 0 };
    refused(driver.create_volume(small).await, Kind::OutOfRange, &["smaller than the source"]);
    driver.delete_volume(&copy).await.unwrap();
    driver.delete_snapshot(&monday.id.to_string()).await.unwrap();
    driver.delete_snapshot(&monday.id.to_string()).await.unwrap();
    refused(driver.get_snapshot(&monday.id.to_string()).await, Kind::NotFound, &["snapshot"]);
    assert_eq!(world.audit().snapshots, std::slice::from_ref(&world.seeded.snapshot));
}

#[tokio::test]
async fn lists_come_in_pages_that_hold_everything_once() {
    let world = World::new(Config::default()).await;
    let driver = world.driver();
    let mut volumes = Vec::new();
    for n in 0..5 {
        volumes.push(demo(&driver, &format!("v{n}")).await.unwrap().id.to_string());
    }
    for n in 0..3 {
        cut(&driver, &format!("s{n}"), &volumes[n % 2]).await.unwrap();
    }
    volumes.sort();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = driver.list_volumes(&token, 2).await.unwrap();
        seen.extend(page.entries.iter().map(|status| status.volume.id.to_string()));
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, volumes);
    refused(driver.list_volumes("1", 0).await.map(|_| ()), Kind::BadToken, &["starting_token"]);
    let count = async |volume: &str, max| {
        let filter = SnapshotFilter { volume: volume.to_owned(), snapshot: String::new() };
        let page = driver.list_snapshots(&filter, "", max).await.unwrap();
        (page.entries.len(), page.next.is_empty())
    };
    assert_eq!(count("", 0).await, (3, true));
    assert_eq!(count("", 2).await, (2, false));
    assert_eq!(count("nothing", 0).await, (0, true));
    let first = driver.list_snapshots(&SnapshotFilter::default(), "", 1).await.unwrap().entries.remove(0);
    let filter = SnapshotFilter { volume: String::new(), snapshot: first.id.to_string() };
    assert_eq!(driver.list_snapshots(&filter, "", 0).await.unwrap().entries, [first]);
    let lineage = driver.lineage(None, "", 0).await.unwrap().entries;
    assert_eq!(lineage.len(), 8);
    assert!(lineage.iter().all(|entry| entry.parent.is_some()));
    let of = driver.lineage(Some(&volumes[4]), "", 0).await.unwrap().entries;
    assert_eq!(of.len(), 1);
    assert_eq!(of[0].parent_name.as_deref(), Some("demo"));
    let engines = driver.engines().await.unwrap();
    assert_eq!(
        (engines[0].volumes, engines[0].snapshots, engines[0].server.as_str()),
        (5, 3, "engine.example")
    );
    let room = driver.get_capacity(&params(&[("source", "demo")])).await.unwrap();
    assert_eq!(room.available, (1 << 40) - (1 << 34));
    assert_eq!(driver.get_capacity(&params(&[])).await.unwrap(), room);
}

#[tokio::test]
async fn rewind_and_refresh_change_the_bytes_and_the_path_and_keep_what_was_there() {
    let world = World::new(Config { disabled_refuses_refresh: true, ..lagging() }).await;
    let driver = world.driver();
    let db = demo(&driver, "db").await.unwrap();
    let rows = || std::fs::read_to_string(world.sim.data(&db.id.vdb).unwrap().join("data/rows")).unwrap();
    let write =
        |text: &str| std::fs::write(world.sim.data(&db.id.vdb).unwrap().join("data/rows"), text).unwrap();
    let (id, path) = (db.id.to_string(), || world.vdb(&db.id.vdb)["exported_data_directory"].clone());
    write("mine");
    let monday = cut(&driver, "monday", &id).await.unwrap();
    write("spoilt");
    let before = path();
    let done = driver.rewind(&id, RewindTo::Snapshot(monday.id.to_string())).await.unwrap();
    assert_eq!((rows().as_str(), done.from), ("mine", Some(monday.id.clone())));
    assert_ne!(path(), before);
    assert_eq!(world.vdb(&db.id.vdb)["enabled"], false);
    // What was there is a snapshot like any other.
    let undone = driver.get_snapshot(&done.undo.to_string()).await.unwrap();
    assert!(undone.undo && undone.ready);
    driver.rewind(&id, RewindTo::Snapshot(done.undo.to_string())).await.unwrap();
    assert_eq!(rows(), "spoilt");
    driver.refresh(&id, RefreshFrom::Latest).await.unwrap();
    assert_eq!(rows(), "1\n2\n3\n");
    let context = published(&driver, &id, "n1@10.0.0.1").await.unwrap();
    assert_eq!(context.path, format!("/{}", path().as_str().unwrap()));
    driver.unpublish(&id, None).await.unwrap();
    let other = demo(&driver, "other").await.unwrap().id.to_string();
    let wrong = driver.rewind(&other, RewindTo::Snapshot(monday.id.to_string())).await;
    refused(wrong, Kind::Invalid, &["snapshot_id", &other]);
    let wrong = driver.refresh(&id, RefreshFrom::Snapshot(monday.id.to_string())).await;
    refused(wrong, Kind::Invalid, &["rewind to it"]);
    refused(driver.rewind(&id, RewindTo::Timestamp("now".into())).await, Kind::Invalid, &["timestamp"]);
    let marks = world.audit().bookmarks.len();
    let none = driver.refresh(&id, RefreshFrom::EngineSnapshot("1-X-1".into())).await;
    assert!(none.is_err());
    assert_eq!(world.audit().bookmarks.len(), marks);
    assert!(world.tags(&id, "offshoot-replacing").is_empty());
}

#[tokio::test]
async fn a_vdb_of_another_cluster_is_left_alone() {
    let world = World::new(Config::default()).await;
    let theirs = world.driver_of("delphix.test", "other", Settings::default());
    let db = demo(&theirs, "db").await.unwrap();
    let driver = world.driver();
    refused(demo(&driver, "db").await, Kind::AlreadyExists, &["db", "cluster other"]);
    let id = db.id.to_string();
    refused(driver.delete_volume(&id).await, Kind::Precondition, &["cluster other"]);
    refused(published(&driver, &id, "n1@10.0.0.1").await, Kind::Precondition, &["left alone"]);
    refused(driver.import("", "db").await, Kind::AlreadyExists, &["cluster other"]);
    refused(cut(&driver, "monday", &id).await, Kind::Precondition, &["cluster other"]);
    assert!(driver.list_volumes("", 0).await.unwrap().entries.is_empty());
    driver.unpublish(&id, None).await.unwrap();
}

struct Five(BTreeMap<String, String>);

#[async_trait]
impl Annotations for Five {
    async fn of(&self, namespace: &str, claim: &str) -> Result<BTreeMap<String, String>> {
        assert_eq!((namespace, claim), ("shop", "data"));
        Ok(self.0.clone())
    }
}

#[derive(Default)]
struct Said(Mutex<Vec<String>>);

#[async_trait]
impl Tell for Said {
    async fn claim(&self, namespace: &str, claim: &str, reason: &str, _: &str) {
        self.0.lock().unwrap().push(format!("{namespace}/{claim} {reason}"));
    }
}

#[tokio::test]
async fn the_vendors_annotations_count_where_they_are_switched_on_and_owners_hear_of_drift() {
    let world = World::new(Config::default()).await;
    let said = Arc::new(Said::default());
    let five = BTreeMap::from([("sourceDBName".to_owned(), "demo".to_owned())]);
    let settings =
        Settings { annotations: Some(Arc::new(Five(five))), tell: Some(said.clone()), ..Settings::default() };
    let driver = world.driver_of("delphix.test", "test", settings);
    let claim = [("csi.storage.k8s.io/pvc/name", "data"), ("csi.storage.k8s.io/pvc/namespace", "shop")];
    let pairs = [[("source", "nothing")].as_slice(), &claim].concat();
    let db = driver.create_volume(wish("db", &pairs, None)).await.unwrap();
    assert_eq!(world.vdb(&db.id.vdb)["parent_name"], "demo");
    published(&driver, &db.id.to_string(), "n1@10.0.0.1").await.unwrap();
    world.sim.admin(offshoot_dct_sim::Admin::Disable { kind: Of::Vdb, id: db.id.vdb.clone() }).unwrap();
    for _ in 0..2 {
        let faults = driver.get_volume(&db.id.to_string()).await.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.reason == "DisabledWhilePublished"), "{faults:?}");
    }
    assert_eq!(*said.0.lock().unwrap(), ["shop/data DisabledWhilePublished"]);
    published(&driver, &db.id.to_string(), "n1@10.0.0.1").await.unwrap();
    assert!(driver.get_volume(&db.id.to_string()).await.unwrap().faults.is_empty());
}

#[tokio::test]
async fn a_busy_volume_answers_busy_and_a_caller_that_hangs_up_cancels_only_the_waiting() {
    let slow = Config { running: Duration::from_millis(400), ..Config::default() };
    let world = World::new(slow).await;
    let settings = Settings { lock_wait: Duration::from_millis(50), ..Settings::default() };
    let driver = world.driver_of("delphix.test", "test", settings);
    let waiting = tokio::time::timeout(Duration::from_millis(200), demo(&driver, "db")).await;
    assert!(waiting.is_err());
    refused(demo(&driver, "db").await, Kind::Busy, &["\"db\""]);
    driver.drain().await;
    world.calls();
    demo(&driver, "db").await.unwrap();
    assert!(!world.calls().iter().any(|call| call.contains("provision")));
    assert_eq!(world.audit().vdbs, ["db"]);
}
