//! Sequences of calls that users of other drivers lost space or data by, each by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod common;

use std::sync::{Arc, Mutex, mpsc};

use common::{PoolFs, Rig, SIZE, blank, copy_of, run};
use offshoot::volume::Kind;
use offshoot::volume::size::Range;

/// L2: a late retry makes a volume that has no PV; it is another one, it shows, and it can be deleted.
#[test]
fn a_late_retry_of_a_deleted_create_makes_another_volume_that_shows() {
    run(async {
        let mut rig = Rig::new(PoolFs::Xfs).await;
        let empty = rig.audit();
        let first = rig.create(blank("pvc")).await.unwrap();
        rig.service.delete_volume(&first).await.unwrap();
        let second = rig.create(blank("pvc")).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(rig.volumes().await, [second]);
        rig.delete_everything().await;
        assert_eq!(rig.audit(), empty);
    });
}

/// C5: source, snapshot and clone can go in any order, and whoever is left has its data.
#[test]
fn source_snapshot_and_clone_are_deleted_in_any_order() {
    run(async {
        for fs in PoolFs::ALL {
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let rig = Rig::new(fs).await;
                let empty = rig.audit();
                let source = rig.volume("source", "data").await;
                let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
                let copy = rig.create(copy_of("copy", &snapshot)).await.unwrap();
                let mut left = vec![source, snapshot, copy];
                let doomed: Vec<String> = order.iter().map(|&n: &usize| left[n].clone()).collect();
                for id in doomed {
                    match id.starts_with("s-") {
                        true => rig.service.delete_snapshot(&id).await.unwrap(),
                        false => rig.service.delete_volume(&id).await.unwrap(),
                    }
                    left.retain(|other| *other != id);
                    assert!(
                        left.iter().all(|id| rig.read(id).as_deref() == Some("data")),
                        "{order:?} on {fs:?}"
                    );
                }
                assert_eq!(rig.audit(), empty);
            }
        }
    });
}

/// C17: when the source is gone by the time of the retry, the answer is an error and never an empty volume.
#[test]
fn a_source_that_is_gone_never_becomes_an_empty_volume() {
    run(async {
        let mut rig = Rig::new(PoolFs::Xfs).await;
        let source = rig.volume("source", "data").await;
        let snapshot = rig.snapshot("snapshot", &source).await.unwrap();
        rig.fake.crash(rig.fake.counted() + 4, offshoot::host::fake::Moment::After);
        rig.create(copy_of("copy", &snapshot)).await.unwrap_err();
        rig.restart().await;
        rig.service.delete_snapshot(&snapshot).await.unwrap();
        assert_eq!(rig.create(copy_of("copy", &snapshot)).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(rig.volumes().await, [source]);
    });
}

/// L10: a backup takes a snapshot, clones it, reads the clone and deletes both.
#[test]
fn five_hundred_backups_leave_nothing() {
    run(async {
        let rig = Rig::new(PoolFs::Xfs).await;
        let source = rig.volume("source", "data").await;
        let before = (rig.audit(), rig.fake.audit().used);
        for _ in 0..500 {
            let snapshot = rig.snapshot("backup", &source).await.unwrap();
            let copy = rig.create(copy_of("reader", &snapshot)).await.unwrap();
            assert_eq!(rig.read(&copy).as_deref(), Some("data"));
            rig.service.delete_volume(&copy).await.unwrap();
            rig.service.delete_snapshot(&snapshot).await.unwrap();
        }
        assert_eq!((rig.audit(), rig.fake.audit().used), before);
    });
}

/// C4: copies of copies do not depend on each other.
#[test]
fn three_hundred_generations_survive_random_deletes() {
    run(async {
        for fs in [PoolFs::Xfs, PoolFs::Btrfs] {
            let rig = Rig::new(fs).await;
            let mut alive = vec![rig.volume("0", "data").await];
            let mut dice = 7_u64;
            for generation in 1..300 {
                let newest = alive.last().unwrap().clone();
                alive.push(rig.create(copy_of(&generation.to_string(), &newest)).await.unwrap());
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if alive.len() > 1 && dice >> 63 == 1 {
                    let doomed = alive.remove((dice >> 33) as usize % (alive.len() - 1));
                    rig.service.delete_volume(&doomed).await.unwrap();
                }
            }
            assert!(alive.iter().all(|id| rig.read(id).as_deref() == Some("data")));
            assert_eq!(rig.volumes().await.len(), alive.len());
        }
    });
}

/// Lets one call of the driver to the machine wait until the returned sender is used or dropped.
fn hold(rig: &Rig, name: &'static str, path: String) -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (release, held) = mpsc::channel::<()>();
    let (reached, wait) = mpsc::channel();
    let held = Mutex::new(Some(held));
    rig.fake.on_call(move |_, call| {
        if call.name == name && call.path.to_string_lossy().contains(&path) {
            let held = held.lock().unwrap().take();
            if let Some(held) = held {
                reached.send(()).unwrap();
                let _released = held.recv();
            }
        }
    });
    (release, wait)
}

#[test]
fn a_client_that_hangs_up_cancels_the_waiting_and_not_the_work() {
    run(async {
        let rig = Rig::new(PoolFs::Xfs).await;
        let (release, reached) = hold(&rig, "create_file", "/pool/volumes/".into());
        let caller = tokio::spawn({
            let service = rig.service.clone();
            async move { service.create_volume(blank("pvc")).await.map(drop) }
        });
        tokio::task::spawn_blocking(move || reached.recv().unwrap()).await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(rig.volumes().await.len(), 0);
        drop(release);
        rig.service.drain().await;
        let made = rig.volumes().await;
        assert_eq!(made.len(), 1);
        assert_eq!(rig.create(blank("pvc")).await.unwrap(), made[0]);
    });
}

#[test]
fn calls_about_different_volumes_never_wait_for_each_other() {
    run(async {
        let rig = Rig::new(PoolFs::Xfs).await;
        let (stuck, other) = (rig.volume("stuck", "a").await, rig.volume("other", "b").await);
        let (release, reached) = hold(&rig, "rename", stuck.clone());
        let deleting = tokio::spawn({
            let (service, id) = (rig.service.clone(), stuck.clone());
            async move { service.delete_volume(&id).await }
        });
        tokio::task::spawn_blocking(move || reached.recv().unwrap()).await.unwrap();
        // All of these end while the first call is held.
        let snapshot = rig.snapshot("snapshot", &other).await.unwrap();
        let copy = rig.create(copy_of("copy", &snapshot)).await.unwrap();
        rig.service.expand_volume(&copy, Range { required: 2 * SIZE, limit: 0 }).await.unwrap();
        rig.service.rewind_volume(&other, &snapshot).await.unwrap();
        rig.service.delete_volume(&other).await.unwrap();
        assert!(!deleting.is_finished());
        drop(release);
        deleting.await.unwrap().unwrap();
        assert_eq!(rig.volumes().await, [copy]);
    });
}

#[test]
fn fifty_clones_of_one_source_at_once_are_all_whole() {
    run(async {
        let mut rig = Rig::new(PoolFs::Xfs).await;
        let empty = rig.audit();
        let source = rig.volume("source", "data").await;
        let request = Arc::new(source.clone());
        let clones: Vec<_> = (0..50)
            .map(|n| {
                let (service, source) = (rig.service.clone(), request.clone());
                let call = async move { service.create_volume(copy_of(&format!("copy-{n}"), &source)).await };
                tokio::spawn(call)
            })
            .collect();
        for clone in clones {
            let id = clone.await.unwrap().unwrap().volume.id.to_string();
            assert_eq!(rig.read(&id).as_deref(), Some("data"));
        }
        assert_eq!(rig.volumes().await.len(), 51);
        rig.delete_everything().await;
        assert_eq!(rig.audit(), empty);
    });
}
