//! Every use case that changes something, killed before and after every request, and with every answer lost once.
//!
//! A new process (or the same, for a lost answer) asks again until the answer is OK. Then everything is as it should be, and
//! when it is taken away as Kubernetes would, nothing is left on the engine: no VDB, bookmark, snapshot or address.

use std::sync::Arc;

use offshoot::delphix::Driver;
use offshoot::delphix::api::{RefreshFrom, RewindTo, SourceRef};
use offshoot::volume::size::Range;
use offshoot_dct_sim::Kind as Of;

use super::sweep::{Flow, Ids, Later, sweep};
use super::world::{GIB, World, cut, demo, published, wish};

const N1: &str = "n1@10.0.0.1";

fn ids(all: Vec<String>) -> Ids {
    Arc::new(all)
}

fn nothing(_: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async { ids(Vec::new()) })
}

fn volume(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move { ids(vec![demo(&driver, "db").await.unwrap().id.to_string()]) })
}

fn with_snapshot(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move {
        let db = demo(&driver, "db").await.unwrap().id.to_string();
        let monday = cut(&driver, "monday", &db).await.unwrap().id.to_string();
        ids(vec![db, monday])
    })
}

fn with_clone(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move {
        let db = demo(&driver, "db").await.unwrap().id.to_string();
        let copy =
            driver.create_volume(wish("copy", &[], Some(SourceRef::Volume(db.clone())))).await.unwrap();
        ids(vec![db, copy.id.to_string()])
    })
}

fn on_node(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move {
        let db = demo(&driver, "db").await.unwrap().id.to_string();
        published(&driver, &db, N1).await.unwrap();
        ids(vec![db])
    })
}

fn two_on_node(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move {
        let mut all = Vec::new();
        for name in ["one", "two"] {
            let volume = demo(&driver, name).await.unwrap().id.to_string();
            published(&driver, &volume, N1).await.unwrap();
            all.push(volume);
        }
        ids(all)
    })
}

fn one_of_two_on_node(driver: Driver, _: Arc<World>) -> Later<Ids> {
    Box::pin(async move {
        let one = demo(&driver, "one").await.unwrap().id.to_string();
        published(&driver, &one, N1).await.unwrap();
        let two = demo(&driver, "two").await.unwrap().id.to_string();
        ids(vec![two, one])
    })
}

/// One VDB of each of these names, none enabled without a node.
fn only(world: &World, names: &[&str]) {
    let mut found = world.audit().vdbs;
    found.sort();
    assert_eq!(found, names);
    for vdb in world.sim.objects(Of::Vdb) {
        let tags = vdb["tags"].to_string();
        assert_eq!(vdb["enabled"] == true, tags.contains("offshoot-node."), "{vdb}");
        assert!(!tags.contains("offshoot-replacing"), "{vdb}");
    }
}

macro_rules! flow {
    ($name:ident, $setup:expr, |$driver:ident, $ids:ident| $call:expr, |$world:ident, $d:ident, $i:ident| $check:block) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let worlds = sweep(Flow {
                name: stringify!($name),
                setup: $setup,
                call: |$driver, $ids| {
                    Box::pin(async move {
                        let _ = &$ids;
                        $call.await.map(drop)
                    })
                },
                check: |$world, $d, $i| {
                    Box::pin(async move {
                        let _ = (&$d, &$i);
                        $check
                    })
                },
            })
            .await;
            println!("{}: {worlds} worlds", stringify!($name));
        }
    };
}

flow!(a_volume_is_made_once, nothing, |driver, ids| demo(&driver, "db"), |world, driver, ids| {
    only(&world, &["db"]);
    assert!(world.audit().bookmarks.is_empty());
});

flow!(
    a_volume_that_is_not_for_containers_is_made_once_and_disabled,
    nothing,
    |driver, ids| driver.create_volume(wish("db", &[("source", "demo"), ("containerMode", "false")], None)),
    |world, driver, ids| {
        only(&world, &["db"]);
    }
);

flow!(
    a_snapshot_is_restored_once,
    with_snapshot,
    |driver, ids| driver.create_volume(wish("copy", &[], Some(SourceRef::Snapshot(ids[1].clone())))),
    |world, driver, ids| {
        only(&world, &["copy", "db"]);
        assert_eq!(world.audit().bookmarks, ["monday"]);
    }
);

flow!(
    a_volume_is_cloned_once_over_one_snapshot,
    volume,
    |driver, ids| driver.create_volume(wish("copy", &[], Some(SourceRef::Volume(ids[0].clone())))),
    |world, driver, ids| {
        only(&world, &["copy", "db"]);
        assert_eq!(world.audit().bookmarks, ["copy-origin"]);
        assert_eq!(world.audit().snapshots.len(), 2);
    }
);

flow!(a_volume_is_deleted, volume, |driver, ids| driver.delete_volume(&ids[0]), |world, driver, ids| {
    world.is_empty();
});

flow!(
    a_clone_is_deleted_with_what_it_was_made_from,
    with_clone,
    |driver, ids| driver.delete_volume(&ids[1]),
    |world, driver, ids| {
        only(&world, &["db"]);
        assert_eq!((world.audit().bookmarks.len(), world.audit().snapshots.len()), (0, 1));
    }
);

flow!(a_volume_is_published, volume, |driver, ids| published(&driver, &ids[0], N1), |world, driver, ids| {
    only(&world, &["db"]);
    assert_eq!(world.addresses(), ["10.0.0.1"]);
    assert_eq!(world.sim.exports()[0].clients, ["10.0.0.1"]);
});

flow!(
    a_second_volume_is_published_to_the_node,
    one_of_two_on_node,
    |driver, ids| published(&driver, &ids[0], N1),
    |world, driver, ids| {
        only(&world, &["one", "two"]);
        assert_eq!(world.addresses(), ["10.0.0.1"]);
    }
);

flow!(
    a_volume_is_unpublished,
    on_node,
    |driver, ids| driver.unpublish(&ids[0], None),
    |world, driver, ids| {
        only(&world, &["db"]);
        assert!(world.addresses().is_empty());
        assert!(world.tags(&ids[0], "offshoot-entered").is_empty());
    }
);

flow!(
    the_address_stays_while_another_volume_needs_it,
    two_on_node,
    |driver, ids| driver.unpublish(&ids[0], None),
    |world, driver, ids| {
        only(&world, &["one", "two"]);
        assert_eq!(world.addresses(), ["10.0.0.1"]);
        assert_eq!(world.tags(&ids[1], "offshoot-entered").len(), 1);
    }
);

flow!(
    a_snapshot_is_taken_once,
    volume,
    |driver, ids| cut(&driver, "monday", &ids[0]),
    |world, driver, ids| {
        assert_eq!(world.audit().bookmarks, ["monday"]);
        assert_eq!(world.audit().snapshots.len(), 2);
    }
);

flow!(
    a_snapshot_is_deleted_whole,
    with_snapshot,
    |driver, ids| driver.delete_snapshot(&ids[1]),
    |world, driver, ids| {
        assert_eq!((world.audit().bookmarks.len(), world.audit().snapshots.len()), (0, 1));
    }
);

flow!(
    a_volume_is_rewound,
    with_snapshot,
    |driver, ids| driver.rewind(&ids[0], RewindTo::Snapshot(ids[1].clone())),
    |world, driver, ids| {
        only(&world, &["db"]);
        // The snapshot, and one that keeps the bytes from before; two where the very last answer was lost.
        let marks = world.audit().bookmarks.len();
        assert!((2..=3).contains(&marks), "{:?}", world.audit());
        assert_eq!(world.audit().snapshots.len(), marks + 1);
    }
);

flow!(
    a_volume_is_refreshed,
    volume,
    |driver, ids| driver.refresh(&ids[0], RefreshFrom::Latest),
    |world, driver, ids| {
        only(&world, &["db"]);
        let marks = world.audit().bookmarks.len();
        assert!((1..=2).contains(&marks), "{:?}", world.audit());
        assert_eq!(world.audit().snapshots.len(), marks + 1);
    }
);

flow!(
    a_volume_grows,
    volume,
    |driver, ids| driver.expand(&ids[0], Range { required: 3 * GIB, limit: 0 }),
    |world, driver, ids| {
        assert_eq!(world.tags(&ids[0], "offshoot-size"), [(3 * GIB).to_string()]);
    }
);

flow!(
    a_vdb_is_adopted,
    |_, world| Box::pin(async move { ids(vec![world.theirs("orders").await]) }),
    |driver, ids| driver.import("sim", &ids[0]),
    |world, driver, ids| {
        assert_eq!(world.tags(&ids[0], "offshoot-name"), ["orders"]);
        assert_eq!(world.tags(&ids[0], "offshoot-driver").len(), 1);
    }
);
