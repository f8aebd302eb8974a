//! Links on the real kernel: what cannot be seen on the machine in memory.
//!
//! A workload on the node may be able to swap a component of a path for a link while the driver works there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

#[path = "kernel/mod.rs"]
mod kernel;

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::Rig;
use kernel::calls::NewVolume;
use rustix::fs::{CWD, RenameFlags, renameat_with};

const GIB: u64 = 1 << 30;

/// Every entry below `dir` with its size, device and content.
fn tree(dir: &Path) -> Vec<(PathBuf, u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        all.push((path.clone(), meta.len(), meta.dev(), content));
        if meta.is_dir() {
            all.extend(tree(&path));
        }
    }
    all.sort();
    all
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = format!("{}/", dir.display());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&below) || Path::new(point) == dir).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_turns_into_a_link_under_way_leads_nowhere() {
    let Some(mut rig) = Rig::new("links") else { return };
    let client = rig.start().await;
    client.file_pool("fast", &rig.path("pool.img"), 4 * GIB).await.unwrap();
    let new = NewVolume { name: "a".into(), kind: "ext4".into(), size: GIB, ..NewVolume::default() };
    let volume = client.create(&new).await.unwrap().volume_id;
    let (victim, kubelet) = (rig.path("victim"), rig.path("kubelet"));
    for dir in
        [victim.join("staging"), victim.join("pod/mount"), kubelet.join("staging"), kubelet.join("pod")]
    {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(victim.join("keep"), "precious").unwrap();
    std::fs::write(victim.join("pod/keep"), "precious").unwrap();
    let before = tree(&victim);
    // Swaps `kubelet` with a link to the victim, and back, as fast as it can.
    let other = rig.path("other");
    symlink(&victim, &other).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (stop, kubelet, other) = (stop.clone(), kubelet.clone(), other.clone());
        move || {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) || swaps % 2 == 1 {
                renameat_with(CWD, &kubelet, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        }
    });
    let (staging, target) = (kubelet.join("staging"), kubelet.join("pod/mount"));
    let end = Instant::now() + Duration::from_secs(5);
    let (mut worked, mut refused) = (0, 0);
    while Instant::now() < end {
        let answers = [
            client.stage(&volume, "ext4", &staging).await,
            client.publish(&volume, "ext4", &staging, &target).await,
            client.unpublish(&volume, &target).await,
            client.unstage(&volume, &staging).await,
        ];
        assert_eq!(mounts_below(&victim), Vec::<String>::new());
        for answer in answers {
            match answer {
                Ok(()) => worked += 1,
                Err(_) => refused += 1,
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    println!("{swaps} swaps, {worked} calls worked, {refused} were refused");
    assert!(worked > 0 && refused > 0, "{worked} calls worked, {refused} were refused");
    // Everything can be taken away once the path holds still.
    client.unpublish(&volume, &target).await.unwrap();
    client.unstage(&volume, &staging).await.unwrap();
    assert_eq!(tree(&victim), before);
    assert_eq!(mounts_below(&kubelet), Vec::<String>::new());
    client.delete(&volume).await.unwrap();
    rig.stop().await;
}
