//! NodeStageVolume and NodeUnstageVolume.

use std::path::Path;

use super::super::super::api::SourceRef;
use super::super::super::testing::{Bench, SIZE, in_mode, mount, raw, refused};
use super::*;
use crate::host::{Cause, Host};
use crate::volume::{AccessMode, FsType, Kind};

const ELSEWHERE: &str = "/var/lib/kubelet/plugins/elsewhere";

#[tokio::test]
async fn each_call_twice_is_each_call_once() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    for _ in 0..2 {
        bench.stage(&id, &mount).await.unwrap();
        bench.holds(&[STAGING], 1);
    }
    for _ in 0..2 {
        bench.publish(&id, &mount, TARGET).await.unwrap();
        bench.holds(&[STAGING, TARGET], 1);
    }
    for _ in 0..2 {
        bench.unpublish(&id, TARGET).await.unwrap();
        bench.holds(&[STAGING], 1);
        assert!(!bench.exists(TARGET));
    }
    for _ in 0..2 {
        bench.unstage(&id).await.unwrap();
        bench.holds(&[], 0);
        assert!(bench.exists(STAGING), "the staging path is kubelet's");
    }
}

#[tokio::test]
async fn twenty_stagings_at_once_are_one() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (service, request) = (bench.service.clone(), of(&id, &mount(&[]), STAGING));
            tokio::spawn(async move { service.stage_volume(request).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    bench.holds(&[STAGING], 1);
}

#[tokio::test]
async fn what_cannot_be_staged_leaves_nothing() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    let unknown = "v-abcdefgh-00000000000000000000000000000000";
    refused(bench.stage(unknown, &mount(&[])).await, Kind::NotFound, unknown);
    refused(bench.stage("../../etc", &mount(&[])).await, Kind::NotFound, "does not exist");
    refused(bench.stage(&id, &raw()).await, Kind::Invalid, "volume_capability");
    let many = in_mode(mount(&[]), AccessMode::MultiNodeMultiWriter);
    refused(bench.stage(&id, &many).await, Kind::Invalid, "access_mode");
    refused(bench.stage(&id, &mount(&["suid"])).await, Kind::Invalid, "suid");
    refused(bench.stage_at(&id, &mount(&[]), "").await, Kind::Invalid, "staging_target_path");
    refused(
        bench.stage_at(&id, &mount(&[]), "/var/lib/kubelet/none").await,
        Kind::Precondition,
        "does not exist",
    );
    bench.fake.symlink("/var/lib/kubelet/link", STAGING).unwrap();
    refused(bench.stage_at(&id, &mount(&[]), "/var/lib/kubelet/link").await, Kind::Invalid, "link");
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_staging_with_other_needs_is_named_and_not_changed() {
    let bench = Bench::node().await;
    let id = bench.create("a", vec![mount(&[]), raw()], &[], None).await.unwrap();
    bench.stage(&id, &mount(&["noatime"])).await.unwrap();
    refused(bench.stage(&id, &mount(&[])).await, Kind::AlreadyExists, "other mount options");
    refused(bench.stage(&id, &mount(&["noatime", "ro"])).await, Kind::AlreadyExists, "for writing");
    refused(bench.stage(&id, &raw()).await, Kind::AlreadyExists, "filesystem");
    refused(bench.stage_at(&id, &raw(), ELSEWHERE).await, Kind::Precondition, "filesystem");
    bench.stage(&id, &mount(&["noatime"])).await.unwrap();
    bench.holds(&[STAGING], 1);
}

#[tokio::test]
async fn a_second_staging_path_shows_the_same_filesystem_and_the_device_stays_for_it() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let id = bench.volume("a", mount.clone()).await;
    bench.dir(ELSEWHERE);
    bench.stage(&id, &mount).await.unwrap();
    bench.fake.app_write(STAGING, "file", "text").unwrap();
    bench.stage_at(&id, &mount, ELSEWHERE).await.unwrap();
    bench.holds(&[STAGING, ELSEWHERE], 1);
    assert_eq!(bench.fake.app_read(ELSEWHERE, "file").unwrap().as_deref(), Some("text"));
    bench.unstage(&id).await.unwrap();
    bench.holds(&[ELSEWHERE], 1);
    bench.service.unstage_volume(&id, Path::new(ELSEWHERE)).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_mount_of_somebody_else_is_never_taken_away() {
    let bench = Bench::node().await;
    let mount = mount(&[]);
    let (a, b) = (bench.volume("a", mount.clone()).await, bench.volume("b", mount.clone()).await);
    let foreign = bench.dir("/var/lib/kubelet/foreign");
    bench.fake.bind(&foreign, Path::new(STAGING), false).unwrap();
    refused(bench.stage(&a, &mount).await, Kind::Precondition, "is left alone");
    refused(bench.unstage(&a).await, Kind::Precondition, "is left alone");
    bench.holds(&[STAGING], 0);
    bench.fake.unmount(Path::new(STAGING)).unwrap();
    bench.stage(&a, &mount).await.unwrap();
    refused(bench.stage(&b, &mount).await, Kind::Precondition, &a);
    refused(bench.unstage(&b).await, Kind::Precondition, &a);
    bench.fake.bind(&foreign, Path::new(STAGING), false).unwrap();
    refused(bench.unstage(&a).await, Kind::Precondition, "is left alone");
    bench.holds(&[STAGING, STAGING], 1);
    bench.fake.unmount(Path::new(STAGING)).unwrap();
    bench.unstage(&a).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn mounts_of_the_volume_on_top_of_each_other_all_go() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.fake.bind(Path::new(STAGING), Path::new(STAGING), false).unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn an_unknown_volume_is_unstaged_unless_its_path_shows_another() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    let unknown = id.replace(&id[id.len() - 4..], "0000");
    bench.unstage(&unknown).await.unwrap();
    bench.unstage("csi-whatever").await.unwrap();
    bench.stage(&id, &mount(&[])).await.unwrap();
    refused(bench.unstage(&unknown).await, Kind::Precondition, &id);
    refused(bench.unpublish("csi-whatever", STAGING).await, Kind::Precondition, &id);
    bench.holds(&[STAGING], 1);
}

#[tokio::test]
async fn a_failed_step_is_undone_and_the_next_attempt_works() {
    async fn check(call: &'static str, fs: &str) {
        let bench = Bench::node().await;
        let capability = mount(&[]);
        let id = bench.create("a", vec![capability.clone()], &[("fsType", fs)], None).await.unwrap();
        bench.fake.fail_always(call, Cause::Other);
        bench.stage(&id, &capability).await.unwrap_err();
        bench.holds(&[], 0);
        bench.fake.heal();
        bench.stage(&id, &capability).await.unwrap();
        bench.holds(&[STAGING], 1);
    }
    for call in ["mount_device", "loop_attach", "mkfs", "probe"] {
        check(call, "ext4").await;
    }
}

#[tokio::test]
async fn what_cannot_be_undone_says_retry() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    bench.fake.fail_always("mount_device", Cause::Other);
    bench.fake.fail_always("loop_detach", Cause::Other);
    refused(bench.stage(&id, &mount(&[])).await, Kind::Unavailable, "try again");
    bench.fake.heal();
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.holds(&[STAGING], 1);
}

#[tokio::test]
async fn a_busy_filesystem_stays_staged_until_it_is_free() {
    let bench = Bench::node().await;
    let id = bench.volume("a", mount(&[])).await;
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.fake.app_open(STAGING, true).unwrap();
    refused(bench.unstage(&id).await, Kind::Precondition, "in use");
    bench.holds(&[STAGING], 1);
    bench.fake.app_open(STAGING, false).unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_restore_into_a_larger_volume_is_grown_when_it_is_staged() {
    for fs in FsType::ALL {
        let bench = Bench::node().await;
        let capability = mount(&[]);
        let parameters = [("fsType", fs.as_str())];
        let source =
            SourceRef::Volume(bench.create("a", vec![capability.clone()], &parameters, None).await.unwrap());
        let SourceRef::Volume(id) = &source else { unreachable!() };
        bench.stage(id, &capability).await.unwrap();
        let before = bench.fake.usage(Path::new(STAGING)).unwrap().bytes;
        bench.unstage(id).await.unwrap();
        let larger = Some((source, 16 * SIZE));
        let copy = bench.create("b", vec![capability.clone()], &[], larger).await.unwrap();
        bench.stage(&copy, &capability).await.unwrap();
        assert!(bench.fake.usage(Path::new(STAGING)).unwrap().bytes > before, "{fs:?}");
    }
}

#[tokio::test]
async fn a_subvolume_is_bound_and_takes_no_options() {
    let bench = Bench::node_on("btrfs").await;
    let mount_it = mount(&[]);
    let id = bench.volume("a", mount_it.clone()).await;
    refused(bench.stage(&id, &mount(&["noatime"])).await, Kind::Invalid, "subvolumes");
    bench.stage(&id, &mount_it).await.unwrap();
    bench.stage(&id, &mount_it).await.unwrap();
    bench.publish(&id, &mount_it, TARGET).await.unwrap();
    bench.holds(&[STAGING, TARGET], 0);
    let bench = bench.restart().await;
    bench.stage(&id, &mount_it).await.unwrap();
    bench.publish(&id, &mount_it, TARGET).await.unwrap();
    bench.holds(&[STAGING, TARGET], 0);
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.holds(&[], 0);
}

#[tokio::test]
async fn a_volume_that_was_a_raw_device_is_not_mounted_unasked() {
    let bench = Bench::node().await;
    let both = vec![mount(&[]), raw()];
    let id = bench.create("a", both.clone(), &[], None).await.unwrap();
    bench.stage(&id, &mount(&[])).await.unwrap();
    bench.unstage(&id).await.unwrap();
    bench.stage(&id, &raw()).await.unwrap();
    bench.publish(&id, &raw(), TARGET).await.unwrap();
    refused(bench.stage(&id, &mount(&[])).await, Kind::Precondition, "raw");
    bench.unpublish(&id, TARGET).await.unwrap();
    bench.unstage(&id).await.unwrap();
    let bench = bench.restart().await;
    refused(bench.stage(&id, &mount(&[])).await, Kind::Precondition, "allowBlockToFilesystem");
    bench.holds(&[], 0);
    let trusting = [("allowBlockToFilesystem", "true")];
    let source = Some((SourceRef::Volume(id), SIZE));
    let copy = bench.create("b", vec![mount(&[])], &trusting, source).await.unwrap();
    bench.stage(&copy, &mount(&[])).await.unwrap();
    bench.holds(&[STAGING], 1);
}

#[tokio::test]
async fn a_restart_changes_nothing_about_what_is_staged() {
    for fs in FsType::ALL {
        let bench = Bench::node().await;
        let capability = mount(&[]);
        let parameters = [("fsType", fs.as_str())];
        let id = bench.create("a", vec![capability.clone()], &parameters, None).await.unwrap();
        bench.stage(&id, &capability).await.unwrap();
        let bench = bench.restart().await;
        bench.stage(&id, &capability).await.unwrap();
        bench.publish(&id, &capability, TARGET).await.unwrap();
        bench.holds(&[STAGING, TARGET], 1);
        refused(bench.service.delete_volume(&id).await, Kind::Precondition, "in use");
        bench.unpublish(&id, TARGET).await.unwrap();
        bench.unstage(&id).await.unwrap();
        bench.holds(&[], 0);
    }
}
