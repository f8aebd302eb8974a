//! NodePublishVolume and NodeUnpublishVolume of filesystems.

use std::path::Path;

use super::super::super::testing::{Bench, NODE, in_mode, mount, raw, refused};
use super::*;
use crate::host::{Cause, Host};
use crate::volume::{AccessMode, Kind};

#[tokio::test]
async fn two_pods_share_a_volume_and_a_late_unpublish_of_one_leaves_the_other() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.stage(&id, &mount).await.unwrap();
    bench.publish(&id, &mount, TARGET).await.unwrap();
    bench.publish(&id, &mount, OTHER).await.unwrap();
    bench.fake.app_write(OTHER, "file", "text").unwrap();
    bench.holds(&[STAGING, TARGET, OTHER], 1);
    for _ in 0..2 {
        bench.unpublish(&id, TARGET).await.unwrap();
        bench.holds(&[STAGING, OTHER], 1);
    }
    assert_eq!(bench.fake.app_read(OTHER, "file").unwrap().as_deref(), Some("text"));
    bench.unstage(&id).await.unwrap();
    bench.holds(&[OTHER], 1);
    bench.unpublish(&id, OTHER).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_single_writer_volume_is_published_once() {
    let bench = Bench::node().await;
    let single = in_mode(mount(&[]), AccessMode::SingleNodeSingleWriter);
    let id = bench.volume("a", single.clone()).await;
    bench.stage(&id, &single).await.unwrap();
    bench.publish(&id, &single, TARGET).await.unwrap();
    refused(bench.publish(&id, &single, OTHER).await, Kind::Precondition, TARGET);
    bench.publish(&id, &single, TARGET).await.unwrap();
    bench.holds(&[STAGING, TARGET], 1);
    assert!(!bench.exists(OTHER));
    let bench = bench.restart().await;
    refused(bench.publish(&id, &single, OTHER).await, Kind::Precondition, TARGET);
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.publish(&id, &single, OTHER).await.unwrap();
    bench.holds(&[STAGING, OTHER], 1);
}

#[tokio::test]
async fn a_reader_cannot_write_and_a_change_of_mind_is_refused() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.stage(&id, &mount).await.unwrap();
    for _ in 0..2 {
        bench.publish_as(&id, &mount, TARGET, true).await.unwrap();
        bench.holds(&[STAGING, TARGET], 1);
    }
    bench.fake.app_write(TARGET, "file", "text").unwrap_err();
    refused(bench.publish(&id, &mount, TARGET).await, Kind::AlreadyExists, "reading only");
    refused(bench.publish(&id, &raw(), TARGET).await, Kind::Invalid, "access_type");
    bench.publish(&id, &mount, OTHER).await.unwrap();
    bench.fake.app_write(OTHER, "file", "text").unwrap();
    refused(bench.publish_as(&id, &mount, OTHER, true).await, Kind::AlreadyExists, "writing");
    bench.holds(&[STAGING, TARGET, OTHER], 1);
}

#[tokio::test]
async fn whoever_only_reads_gets_a_mount_that_only_reads() {
    let reader = in_mode(mount(&[]), AccessMode::SingleNodeReaderOnly);
    for (capability, controller) in [(reader, false), (mount(&["ro"]), false), (mount(&[]), true)] {
        let bench = Bench::node().await;
        let id = bench.volume("a", mount(&[])).await;
        refused(bench.stage(&id, &mount(&["ro"])).await, Kind::Precondition, "blank");
        bench.stage(&id, &mount(&[])).await.unwrap();
        bench.unstage(&id).await.unwrap();
        bench.service.publish_to_node(&id, NODE, &mount(&[]), controller).await.unwrap();
        bench.stage(&id, &capability).await.unwrap();
        for _ in 0..2 {
            bench.publish(&id, &capability, TARGET).await.unwrap();
        }
        bench.fake.app_write(TARGET, "file", "text").unwrap_err();
        bench.fake.app_write(STAGING, "file", "text").unwrap_err();
        if !controller {
            refused(bench.publish(&id, &mount(&[]), OTHER).await, Kind::Precondition, "read-only");
        }
        bench.holds(&[STAGING, TARGET], 1);
    }
}

#[tokio::test]
async fn the_wrong_order_and_the_wrong_path_are_refused() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let (a, b) = (bench.volume("a", mount.clone()).await, bench.volume("b", mount.clone()).await);
    refused(bench.publish(&a, &mount, TARGET).await, Kind::Precondition, "not staged");
    bench.stage(&a, &mount).await.unwrap();
    refused(bench.publish(&b, &mount, TARGET).await, Kind::Precondition, "not staged");
    refused(bench.publish(&a, &mount, STAGING).await, Kind::Invalid, "target_path");
    refused(bench.publish(&a, &mount, "").await, Kind::Invalid, "target_path");
    let bare = Publish { node: of(&a, &mount, ""), target: TARGET.into(), read_only: false, inline: None };
    refused(bench.service.publish_volume(bare).await, Kind::Precondition, "staging_target_path");
    let unknown = "v-abcdefgh-00000000000000000000000000000000";
    refused(bench.publish(unknown, &mount, TARGET).await, Kind::NotFound, unknown);
    bench.holds(&[STAGING], 1);
    assert!(!bench.exists(TARGET));
    bench.unpublish(&a, TARGET).await.unwrap();
    bench.unpublish(unknown, TARGET).await.unwrap();
    bench.fake.unmount(Path::new(STAGING)).unwrap();
    refused(bench.publish(&a, &mount, TARGET).await, Kind::Precondition, "not staged");
}

#[tokio::test]
async fn another_volume_at_the_target_is_neither_covered_nor_taken_away() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let (a, b) = (bench.volume("a", mount.clone()).await, bench.volume("b", mount.clone()).await);
    bench.dir(OTHER);
    bench.stage(&a, &mount).await.unwrap();
    bench.stage_at(&b, &mount, OTHER).await.unwrap();
    refused(bench.publish(&a, &mount, OTHER).await, Kind::Precondition, &b);
    refused(bench.unpublish(&a, OTHER).await, Kind::Precondition, &b);
    bench.holds(&[STAGING, OTHER], 2);
    let foreign = bench.dir("/var/lib/kubelet/foreign");
    bench.dir(TARGET);
    bench.fake.bind(&foreign, Path::new(TARGET), false).unwrap();
    refused(bench.publish(&a, &mount, TARGET).await, Kind::Precondition, "is left alone");
    refused(bench.unpublish(&a, TARGET).await, Kind::Precondition, "is left alone");
    bench.holds(&[STAGING, OTHER, TARGET], 2);
}

#[tokio::test]
async fn a_target_through_a_link_is_refused() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.stage(&id, &mount).await.unwrap();
    bench.dir("/var/lib/kubelet/secret");
    bench.fake.symlink(TARGET, "/var/lib/kubelet/secret").unwrap();
    bench.fake.symlink("/var/lib/kubelet/pods/3", "/var/lib/kubelet/secret").unwrap();
    for target in [TARGET, "/var/lib/kubelet/pods/3/mount"] {
        refused(bench.publish(&id, &mount, target).await, Kind::Invalid, "link");
        refused(bench.unpublish(&id, target).await, Kind::Invalid, "link");
    }
    bench.holds(&[STAGING], 1);
    assert!(!bench.exists("/var/lib/kubelet/secret/mount"));
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_named_and_kept() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.dir(TARGET);
    bench.fake.plant("/var/lib/kubelet/pods/1/mount/stray", "data").unwrap();
    refused(bench.unpublish(&id, TARGET).await, Kind::Precondition, TARGET);
    assert!(bench.exists("/var/lib/kubelet/pods/1/mount/stray"));
}

#[tokio::test]
async fn a_failed_publish_leaves_no_target() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.stage(&id, &mount).await.unwrap();
    bench.fake.fail_always("bind", Cause::Other);
    refused(bench.publish(&id, &mount, TARGET).await, Kind::Internal, "bind");
    assert!(!bench.exists(TARGET));
    bench.fake.fail_always("remove_target", Cause::Other);
    refused(bench.publish(&id, &mount, TARGET).await, Kind::Unavailable, "try again");
    bench.fake.heal();
    bench.publish(&id, &mount, TARGET).await.unwrap();
    bench.holds(&[STAGING, TARGET], 1);
}

#[tokio::test]
async fn publishing_takes_four_calls_to_the_host() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.stage(&id, &mount).await.unwrap();
    let before = bench.fake.calls().len();
    bench.publish(&id, &mount, TARGET).await.unwrap();
    let calls: Vec<_> = bench.fake.calls()[before..].iter().map(|call| call.name).collect();
    assert_eq!(calls, ["mount_at", "mount_at", "make_target", "bind"]);
}
