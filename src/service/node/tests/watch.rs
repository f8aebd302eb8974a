//! Growing and looking at volumes.

use std::path::Path;

use super::super::super::api::VolumeUsed;
use super::super::super::testing::{Bench, NODE, SIZE, mount, raw, refused};
use super::*;
use crate::host::Host;
use crate::volume::size::Range;
use crate::volume::{FsType, Kind};

fn at_least(required: u64) -> Range {
    Range { required, limit: 0 }
}

impl Bench {
    async fn expand(&self, id: &str, path: &str, size: u64) -> Result<u64> {
        self.service.node_expand(id, Path::new(path), at_least(size)).await
    }

    async fn faults(&self, id: &str, published: &str, staging: &str) -> Vec<&'static str> {
        let faults =
            self.service.node_volume_health(id, Path::new(published), Path::new(staging)).await.unwrap();
        faults.into_iter().map(|fault| fault.reason).collect()
    }
}

#[tokio::test]
async fn a_mounted_volume_grows_wherever_it_is_asked() {
    for fs in FsType::ALL {
        let bench = Bench::node().await;
        let parameters = [("fsType", fs.as_str())];
        let id = bench.create("a", vec![mount(&[])], &parameters, None).await.unwrap();
        bench.stage(&id, &mount(&[])).await.unwrap();
        bench.publish_as(&id, &mount(&[]), TARGET, true).await.unwrap();
        refused(bench.expand(&id, STAGING, 32 * SIZE).await, Kind::OutOfRange, "controller");
        for (path, size) in [(STAGING, 16 * SIZE), (TARGET, 32 * SIZE)] {
            let before = bench.fake.usage(Path::new(STAGING)).unwrap().bytes;
            bench.service.expand_volume(&id, at_least(size)).await.unwrap();
            for _ in 0..2 {
                assert_eq!(bench.expand(&id, path, size).await.unwrap(), size);
            }
            assert!(bench.fake.usage(Path::new(STAGING)).unwrap().bytes > before, "{fs:?} {path}");
        }
        bench.holds(&[STAGING, TARGET], 1);
    }
}

#[tokio::test]
async fn a_raw_device_grows() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    bench.service.expand_volume(&id, at_least(2 * SIZE)).await.unwrap();
    assert_eq!(bench.expand(&id, TARGET, 2 * SIZE).await.unwrap(), 2 * SIZE);
    assert_eq!(bench.fake.device_size(Path::new(TARGET)).unwrap(), 2 * SIZE);
    let used = bench.service.volume_used(&id, Path::new(TARGET)).await.unwrap();
    assert_eq!(used, VolumeUsed::Block(2 * SIZE));
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, [""; 0]);
}

#[tokio::test]
async fn a_path_that_does_not_show_the_volume_is_not_found() {
    let bench = Bench::node().await;
    let (a, b) = (bench.volume("a", mount(&[])).await, bench.volume("b", mount(&[])).await);
    bench.stage(&a, &mount(&[])).await.unwrap();
    bench.fake.symlink("/var/lib/kubelet/link", STAGING).unwrap();
    for (id, path) in [
        (a.as_str(), TARGET),
        (&a, "some/path"),
        (&a, "/var/lib/kubelet/link"),
        (&a, POOL_DIR),
        (&b, STAGING),
        ("unknown", STAGING),
    ] {
        refused(bench.expand(id, path, SIZE).await, Kind::NotFound, "");
        refused(bench.service.volume_used(id, Path::new(path)).await, Kind::NotFound, "");
    }
}

const POOL_DIR: &str = super::super::super::testing::POOL;

#[tokio::test]
async fn ext4_without_the_right_to_grow_mounted_waits_for_the_next_staging() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.fake.set_cap_sys_resource(false);
    assert_eq!(bench.expand(&id, STAGING, SIZE).await.unwrap(), SIZE, "there is nothing to grow yet");
    bench.service.expand_volume(&id, at_least(2 * SIZE)).await.unwrap();
    refused(bench.expand(&id, STAGING, 2 * SIZE).await, Kind::Precondition, "next time");
    bench.unstage(&id).await.unwrap();
    bench.stage(&id, &mount(&[])).await.unwrap();
    assert!(bench.fake.usage(Path::new(STAGING)).unwrap().bytes > SIZE);
    assert_eq!(bench.expand(&id, STAGING, 2 * SIZE).await.unwrap(), 2 * SIZE);
}

#[tokio::test]
async fn what_is_used_is_that_of_the_volume_also_in_a_subvolume() {
    for fs in ["xfs", "btrfs"] {
        let bench = Bench::node_on(fs).await;
        let id = bench.volume("a", mount(&[])).await;
        bench.stage(&id, &mount(&[])).await.unwrap();
        bench.publish(&id, &mount(&[]), TARGET).await.unwrap();
        let VolumeUsed::Filesystem(used) = bench.service.volume_used(&id, Path::new(TARGET)).await.unwrap()
        else {
            panic!("a filesystem");
        };
        assert!(used.bytes <= SIZE && used.bytes > SIZE / 2, "{used:?}");
        assert!(used.bytes_used + used.bytes_available <= used.bytes, "{used:?}");
    }
}

#[tokio::test]
async fn health_sees_what_happened_to_the_mounts_the_filesystem_and_the_device() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    assert_eq!(bench.faults(&id, "", "").await, [""; 0]);
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.publish(&id, &mount(&[]), TARGET).await.unwrap();
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, [""; 0]);
    bench.fake.set_read_only(TARGET, true).unwrap();
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, ["FilesystemReadOnly"]);
    bench.fake.set_read_only(TARGET, false).unwrap();
    bench.fake.unmount(Path::new(TARGET)).unwrap();
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, ["MountMissing"]);
    bench.fake.bind(Path::new("/var/lib/kubelet"), Path::new(TARGET), false).unwrap();
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, ["MountCovered"]);
    bench.fake.set_read_only(POOL_DIR, true).unwrap();
    assert!(bench.faults(&id, "", "").await.contains(&"PoolReadOnly"));
    let pools = bench.service.storage_health().await;
    assert_eq!(pools.len(), 1);
    assert!(pools[0].0 == "fast" && pools[0].1.iter().any(|fault| fault.reason == "PoolReadOnly"));
    refused(
        bench.service.node_volume_health("unknown", Path::new(TARGET), Path::new("")).await,
        Kind::NotFound,
        "",
    );
}

#[tokio::test]
async fn a_device_that_is_gone_is_a_fault() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    let device = bench.fake.audit().loops[0].path.clone();
    bench.fake.losetup_d(device).unwrap();
    assert_eq!(bench.faults(&id, TARGET, STAGING).await, ["DeviceMissing"]);
}

#[tokio::test]
async fn the_node_says_who_it_is() {
    let bench = Bench::node().await;
    let (id, limit, topology) = bench.service.node_info();
    assert_eq!((id.as_str(), limit), (NODE, 0));
    assert_eq!(topology.values().collect::<Vec<_>>(), [NODE]);
}
