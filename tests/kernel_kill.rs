//! SIGKILL of the real server at random points, under callers that retry as the sidecars and kubelet do.
//!
//! The promise: whatever the server was doing, what a caller was told is there stays there with its bytes, what it was
//! not told of is absent or complete after a retry, writers go on, and nothing is leaked. Several workers run random
//! calls and keep a model of what was acknowledged; a database writes without a pause and is snapshotted all the time;
//! the server is killed and restarted at once, inside calls and inside its own recovery.
//!
//! `OFFSHOOT_KILLS` sets the number of kills, `OFFSHOOT_SEED` repeats the choices (not the timing) of a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

#[path = "kernel/database.rs"]
mod database;
mod kernel;
#[path = "kernel/worker.rs"]
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::data::Random;
use kernel::{GIB, Rig};
use worker::{Shared, Worker};

const WORKERS: usize = 5;

#[tokio::test]
async fn no_kill_of_the_server_at_any_point_loses_leaks_or_wedges_anything() {
    tokio::task::LocalSet::new().run_until(kill_again_and_again()).await;
}

async fn kill_again_and_again() {
    let Some(mut rig) = Rig::new("kill") else { return };
    let kills: u32 = std::env::var("OFFSHOOT_KILLS").map_or(300, |n| n.parse().unwrap());
    let seed = Random::seed();
    println!("OFFSHOOT_SEED={seed} OFFSHOOT_KILLS={kills}");
    let begun = Instant::now();

    let btrfs = rig.filesystem("btrfs", "btrfs", 8 * GIB);
    let client = rig.start().await;
    client.file_pool("xfs", &rig.path("pool.img"), 16 * GIB).await.unwrap();
    client.directory_pool("btrfs", &btrfs).await.unwrap();
    let xfs = rig.path("state").join("pools").join("xfs");
    let before = rig.held();
    assert!(rig.kill());

    let shared = Arc::new(Shared::new(client.clone()));
    let mut running = Vec::new();
    for n in 0..WORKERS {
        let random = Random::new(seed.wrapping_add(n as u64));
        let worker = Worker::new(n, &rig.dir, shared.clone(), random);
        running.push(tokio::task::spawn_local(worker.run()));
    }
    running.push(tokio::task::spawn_local(database::run(rig.path("database"), shared.clone())));

    let mut random = Random::new(seed);
    let (mut ready_times, mut in_recovery, mut died) = (Vec::new(), 0, None);
    for kill in 0..kills {
        rig.spawn();
        if random.chance(40) {
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
            in_recovery += 1;
        } else {
            ready_times.push(rig.ready(&client).await);
            let life = if kill % 25 == 24 { 2000 } else { random.below(450) };
            tokio::time::sleep(Duration::from_millis(life)).await;
        }
        if !rig.kill() {
            died = Some(format!("the server ended by itself before kill {kill}"));
        }
        if died.is_some() || shared.failed() {
            break;
        }
    }
    let took = begun.elapsed();
    // Everybody finishes what they do, checks all they were ever told of, and takes it away.
    rig.spawn();
    ready_times.push(rig.ready(&client).await);
    shared.finish();
    let mut wrong: Vec<String> = died.into_iter().collect();
    for one in running {
        match one.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => wrong.push(why),
            Err(panicked) => wrong.push(panicked.to_string()),
        }
    }
    assert!(wrong.is_empty(), "OFFSHOOT_SEED={seed}: {wrong:#?}");

    // What no caller was told of: only undo snapshots of attempts that were cut off can be left.
    for node in client.lineage().await.unwrap() {
        assert!(node.name.starts_with("undo-"), "OFFSHOOT_SEED={seed}: nobody deleted {node:?}");
        client.delete_snapshot(&node.id).await.unwrap();
    }
    let orphans = client.orphans().await.unwrap();
    assert!(orphans.is_empty(), "OFFSHOOT_SEED={seed}: {orphans:#?}");
    let files = [rig.pool_files(&xfs), rig.pool_files(&btrfs)].concat();
    assert!(files.is_empty(), "OFFSHOOT_SEED={seed}: left in the pools: {files:#?}");
    assert_eq!(rig.held(), before, "OFFSHOOT_SEED={seed}: loop devices and mounts");
    for pool in ["xfs", "btrfs"] {
        client.copies.clone().delete_pool(worker::pool_named(pool)).await.unwrap();
    }
    rig.stop().await;

    ready_times.sort();
    let at = |percent: usize| ready_times[(ready_times.len() - 1) * percent / 100];
    println!(
        "{kills} kills in {took:.1?} ({in_recovery} within 60 ms of the start), all checked after {:.1?}; ready after \
         {:.0?} (median), {:.0?} (worst); {}",
        begun.elapsed(),
        at(50),
        at(100),
        shared.summary()
    );
}
