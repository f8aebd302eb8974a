//! Raw devices.

use std::path::Path;

use super::super::super::testing::{Bench, in_mode, raw, refused};
use super::*;
use crate::volume::{AccessMode, Kind};

async fn raw_written(bench: &Bench, id: &str) -> bool {
    bench.service.get_volume(id).await.unwrap().volume.raw_written
}

#[tokio::test]
async fn each_call_twice_is_each_call_once() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    refused(bench.publish(&id, &raw(), TARGET).await, Kind::Precondition, "not staged");
    for _ in 0..2 {
        bench.stage(&id, &raw()).await.unwrap();
        bench.holds(&[], 1);
    }
    assert!(!raw_written(&bench, &id).await);
    for _ in 0..2 {
        bench.publish(&id, &raw(), TARGET).await.unwrap();
        bench.holds(&[TARGET], 1);
    }
    assert!(raw_written(&bench, &id).await);
    bench.fake.app_write_block(TARGET, 3, "bytes").unwrap();
    refused(bench.publish_as(&id, &raw(), TARGET, true).await, Kind::AlreadyExists, "reading only");
    for _ in 0..2 {
        bench.unpublish(&id, TARGET).await.unwrap();
        bench.holds(&[], 1);
        assert!(!bench.exists(TARGET));
    }
    for _ in 0..2 {
        bench.unstage(&id).await.unwrap();
        bench.holds(&[], 0);
    }
}

#[tokio::test]
async fn a_reader_of_a_raw_device_cannot_write() {
    let reader = in_mode(raw(), AccessMode::SingleNodeReaderOnly);
    for (capability, read_only) in [(raw(), true), (reader, false)] {
        let bench = Bench::node().await;
        let id = bench.volume("a", raw()).await;
        bench.stage(&id, &capability).await.unwrap();
        for _ in 0..2 {
            bench.publish_as(&id, &capability, TARGET, read_only).await.unwrap();
        }
        bench.fake.app_write_block(TARGET, 3, "bytes").unwrap_err();
        assert!(!raw_written(&bench, &id).await);
        bench.unpublish(&id, TARGET).await.unwrap();
        bench.unstage(&id).await.unwrap();
        bench.holds(&[], 0);
    }
}

#[tokio::test]
async fn a_reader_and_a_writer_see_the_same_volume() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    bench.publish_as(&id, &raw(), OTHER, true).await.unwrap();
    bench.fake.app_write_block(TARGET, 3, "bytes").unwrap();
    assert_eq!(bench.fake.app_read_block(OTHER, 3).unwrap(), b"bytes");
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.unpublish(&id, OTHER).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_single_writer_device_is_published_once() {
    let bench = Bench::node().await;
    let single = in_mode(raw(), AccessMode::SingleNodeSingleWriter);
    let id = bench.volume("a", single.clone()).await;
    bench.stage(&id, &single).await.unwrap();
    bench.publish(&id, &single, TARGET).await.unwrap();
    refused(bench.publish(&id, &single, OTHER).await, Kind::Precondition, TARGET);
    bench.holds(&[TARGET], 1);
}

#[tokio::test]
async fn a_second_staging_keeps_the_device_and_a_published_one_too() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    bench.stage_at(&id, &raw(), "/var/lib/kubelet/plugins/elsewhere").await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 1);
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    bench.service.unstage_volume(&id, Path::new("/var/lib/kubelet/plugins/elsewhere")).await.unwrap();
    bench.holds(&[TARGET], 1);
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_device_that_somebody_holds_is_not_detached() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    let device = bench.fake.audit().loops[0].path.clone();
    bench.fake.hold_device(&device, true).unwrap();
    refused(bench.unstage(&id).await, Kind::Precondition, "holds");
    bench.holds(&[], 1);
    bench.fake.hold_device(&device, false).unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_device_that_went_away_under_its_node_is_replaced() {
    let bench = Bench::node().await;
    let (a, b) = (bench.volume("a", raw()).await, bench.volume("b", raw()).await);
    bench.stage(&a, &raw()).await.unwrap();
    bench.publish(&a, &raw(), TARGET).await.unwrap();
    let device = bench.fake.audit().loops[0].path.clone();
    bench.fake.losetup_d(&device).unwrap();
    bench.stage_at(&b, &raw(), "/var/lib/kubelet/plugins/elsewhere").await.unwrap();
    assert_eq!(bench.fake.audit().loops[0].path, device, "the number is used again");
    bench.stage(&a, &raw()).await.unwrap();
    bench.publish(&a, &raw(), TARGET).await.unwrap();
    bench.fake.app_write_block(TARGET, 3, "bytes of a").unwrap();
    assert_eq!(bench.fake.app_read_block(&device, 3).unwrap(), b"", "b has none of them");
    bench.holds(&[TARGET], 2);
}

#[tokio::test]
async fn a_restart_changes_nothing_about_what_is_published() {
    let bench = Bench::node().await;
    let id = bench.volume("a", raw()).await;
    bench.stage(&id, &raw()).await.unwrap();
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    let bench = bench.restart().await;
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    bench.holds(&[TARGET], 1);
    refused(bench.service.delete_volume(&id).await, Kind::Precondition, "in use");
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}
