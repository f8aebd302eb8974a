//! The requests that each operation makes, one after the other, against a list that is kept.
//!
//! A DCT takes a tenth of a second for each, and a class of two hundred claims makes a hundred times as many of them as one
//! notices in a test. So one more is a change that somebody has to look at: the list is in `tests/data`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use offshoot::delphix::api::{RefreshFrom, RewindTo, SnapshotFilter, SourceRef};
use offshoot::volume::size::Range;
use offshoot_dct_sim::Config;

use super::world::{GIB, World, cut, demo, params, published, wish};

const KEPT: &str = "tests/data/delphix-calls.txt";

#[tokio::test]
async fn each_operation_makes_the_requests_of_the_list_and_no_more() {
    let world = World::new(Config::default()).await;
    let driver = world.driver();
    let mut found = String::from(
        "# The HTTP requests of each operation of the Delphix driver: how many of each kind. Some go out together, so there is no\n\
         # order. Each job and each object that is waited for is looked at once here, as nothing takes time in the simulator.\n",
    );
    let note = |found: &mut String, what: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        world.calls().into_iter().for_each(|call| *counts.entry(call).or_default() += 1);
        writeln!(found, "\n{what}: {}", counts.values().sum::<usize>()).unwrap();
        for (call, n) in counts {
            writeln!(found, "  {n} {call}").unwrap();
        }
    };
    let db = demo(&driver, "db").await.unwrap().id.to_string();
    note(&mut found, "create a volume, the first of a process");
    demo(&driver, "log").await.unwrap();
    note(&mut found, "create a volume");
    demo(&driver, "log").await.unwrap();
    note(&mut found, "create a volume that is there");
    let plain = [("source", "demo"), ("containerMode", "false")];
    let plain = driver.create_volume(wish("plain", &plain, None)).await.unwrap().id.to_string();
    note(&mut found, "create a volume that is not for containers, of a class that is new");
    published(&driver, &db, "n1@10.0.0.1").await.unwrap();
    note(&mut found, "publish a volume, the first to a node");
    published(&driver, &plain, "n1@10.0.0.1").await.unwrap();
    world.calls();
    let log = demo(&driver, "log").await.unwrap().id.to_string();
    world.calls();
    published(&driver, &log, "n1@10.0.0.1").await.unwrap();
    note(&mut found, "publish a volume to a node that has others");
    published(&driver, &log, "n1@10.0.0.1").await.unwrap();
    note(&mut found, "publish a volume to a node that has it");
    driver.get_volume(&db).await.unwrap();
    note(&mut found, "get a published volume");
    driver.unpublish(&db, None).await.unwrap();
    note(&mut found, "unpublish a volume whose node has others");
    driver.unpublish(&db, None).await.unwrap();
    note(&mut found, "unpublish a volume that no node has");
    driver.unpublish(&plain, None).await.unwrap();
    world.calls();
    driver.unpublish(&log, None).await.unwrap();
    note(&mut found, "unpublish the last volume of a node");
    let monday = cut(&driver, "monday", &db).await.unwrap().id.to_string();
    note(&mut found, "take a snapshot");
    cut(&driver, "monday", &db).await.unwrap();
    note(&mut found, "take a snapshot that is there");
    let copy =
        driver.create_volume(wish("copy", &[], Some(SourceRef::Snapshot(monday.clone())))).await.unwrap();
    note(&mut found, "restore a snapshot");
    let twin = driver.create_volume(wish("twin", &[], Some(SourceRef::Volume(db.clone())))).await.unwrap();
    note(&mut found, "clone a volume");
    driver.rewind(&db, RewindTo::Snapshot(monday.clone())).await.unwrap();
    note(&mut found, "rewind a volume");
    driver.refresh(&db, RefreshFrom::Latest).await.unwrap();
    note(&mut found, "refresh a volume");
    driver.expand(&db, Range { required: 2 * GIB, limit: 0 }).await.unwrap();
    note(&mut found, "expand a volume");
    driver.list_volumes("", 0).await.unwrap();
    note(&mut found, "list volumes");
    driver.list_snapshots(&SnapshotFilter::default(), "", 0).await.unwrap();
    note(&mut found, "list snapshots");
    driver.get_snapshot(&monday).await.unwrap();
    note(&mut found, "get a snapshot");
    driver.get_capacity(&params(&[("source", "demo")])).await.unwrap();
    note(&mut found, "get the capacity for a class whose volumes are known");
    driver.delete_volume(&twin.id.to_string()).await.unwrap();
    note(&mut found, "delete a clone");
    driver.delete_volume(&copy.id.to_string()).await.unwrap();
    note(&mut found, "delete a volume");
    driver.delete_snapshot(&monday).await.unwrap();
    note(&mut found, "delete a snapshot");
    world.driver().delete_volume(&log).await.unwrap();
    note(&mut found, "delete a volume, the first work of a process on it");
    driver.lineage(None, "", 0).await.unwrap();
    note(&mut found, "show the lineage");

    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
    if std::env::var_os("UPDATE_CALLS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == found, "{KEPT} differs (UPDATE_CALLS=1 writes it):\n{found}");
}
