//! What the driver promises its users, on this machine's kernel: the built server, real gRPC, real data.
//!
//! Each test has a server and pools of its own below a scratch directory, and ends with the audit that nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

mod kernel;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use kernel::calls::{Client, NewVolume, from_snapshot, from_volume, map};
use kernel::{GIB, MIB, Rig, data};
use offshoot::host::{Host, LoopOptions};
use offshoot::proto::csi::{self as pb, VolumeContentSource};
use tonic::Code;

/// A server with a pool on XFS and one on btrfs.
struct Bed {
    rig: Rig,
    client: Client,
    before: (Vec<String>, Vec<String>),
}

impl Bed {
    async fn new(name: &str) -> Option<Bed> {
        Self::with(name, &[("xfs", 8 * GIB), ("btrfs", 4 * GIB)]).await
    }

    async fn with(name: &str, pools: &[(&str, u64)]) -> Option<Bed> {
        let mut rig = Rig::new(name)?;
        let dirs: Vec<_> = pools.iter().map(|&(fs, size)| (fs, rig.filesystem(fs, fs, size))).collect();
        let client = rig.start().await;
        for (fs, dir) in dirs {
            client.directory_pool(fs, &dir).await.unwrap();
        }
        std::fs::create_dir(rig.path("pods")).unwrap();
        let before = rig.held();
        Some(Bed { rig, client, before })
    }

    fn staging(&self, name: &str) -> PathBuf {
        let dir = self.rig.path(&format!("stage-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn target(&self, name: &str) -> PathBuf {
        self.rig.path("pods").join(name)
    }

    async fn create(&self, name: &str, kind: &str, size: u64, parameters: &[(&str, &str)]) -> String {
        self.make(name, kind, size, parameters, None).await
    }

    async fn make(
        &self,
        name: &str,
        kind: &str,
        size: u64,
        parameters: &[(&str, &str)],
        source: Option<VolumeContentSource>,
    ) -> String {
        let mut parameters = map(parameters);
        parameters.entry("pool".into()).or_insert_with(|| "xfs".into());
        let new = NewVolume { name: name.into(), kind: kind.into(), size, parameters, source };
        self.client.create(&new).await.unwrap().volume_id
    }

    /// Stages and publishes; where the volume is then.
    async fn open(&self, id: &str, name: &str, kind: &str) -> PathBuf {
        let (staging, target) = (self.staging(name), self.target(name));
        self.client.stage(id, kind, &staging).await.unwrap();
        self.client.publish(id, kind, &staging, &target).await.unwrap();
        target
    }

    async fn close(&self, id: &str, name: &str) {
        self.client.unpublish(id, &self.target(name)).await.unwrap();
        assert!(!self.target(name).exists(), "{name}: the target is left");
        self.client.unstage(id, &self.staging(name)).await.unwrap();
    }

    async fn snapshot(&self, name: &str, volume: &str) -> String {
        self.client.snapshot(name, volume).await.unwrap().snapshot_id
    }

    /// Deletes all volumes and snapshots, and looks for anything that is left.
    async fn clear(&self) {
        for id in self.client.volumes().await.unwrap() {
            self.client.delete(&id).await.unwrap();
        }
        for id in self.client.snapshots().await.unwrap() {
            self.client.delete_snapshot(&id).await.unwrap();
        }
        assert_eq!(self.rig.held(), self.before, "loop devices and mounts");
        assert_eq!(self.client.orphans().await.unwrap(), []);
        for pool in self.client.pools().await.unwrap() {
            assert_eq!(self.rig.pool_files(Path::new(&pool.path)), Vec::<String>::new());
        }
    }
}

fn room(target: &Path) -> u64 {
    let stat = rustix::fs::statvfs(target).unwrap();
    stat.f_blocks * stat.f_frsize
}

fn allocated(pool: &Path, id: &str) -> u64 {
    std::fs::metadata(pool.join("volumes").join(format!("{id}.img"))).unwrap().blocks() * 512
}

#[tokio::test]
async fn every_kind_of_volume_lives_and_a_larger_restore_is_grown_before_it_is_published() {
    let Some(bed) = Bed::new("lives").await else { return };
    // (kind, pool, size, whether its filesystem has a size of its own)
    let kinds = [
        ("ext4", "xfs", 64 * MIB, true),
        ("xfs", "xfs", 320 * MIB, true),
        ("btrfs", "xfs", 128 * MIB, true),
        ("btrfs", "btrfs", 64 * MIB, false),
        ("block", "xfs", 32 * MIB, false),
        ("ext4", "btrfs", 64 * MIB, true),
    ];
    for (n, (kind, pool, size, own)) in kinds.into_iter().enumerate() {
        println!("{kind} on {pool}");
        let (name, copy, parameters) = (format!("v{n}"), format!("c{n}"), [("pool", pool)]);
        let id = bed.create(&name, kind, size, &parameters).await;
        let target = bed.open(&id, &name, kind).await;
        let block = kind == "block";
        if block {
            data::write_device(&target, MIB, 7, 64 << 10).unwrap();
        } else {
            data::write_file(&target, 7, 64 << 10).unwrap();
        }
        let usage = bed.client.stats(&id, &target).await.unwrap();
        assert!(
            usage.iter().any(|u| u.unit == pb::volume_usage::Unit::Bytes as i32 && u.total > 0),
            "{usage:?}"
        );
        if kind == "ext4" || kind == "xfs" {
            assert!(
                usage.iter().any(|u| u.unit == pb::volume_usage::Unit::Inodes as i32 && u.used > 0),
                "{usage:?}"
            );
        }
        if block {
            assert_eq!(usage[0].total, size.cast_signed());
        }
        let snapshot = bed.snapshot(&format!("s{n}"), &id).await;
        let larger = size + 192 * MIB;
        let restored = bed.make(&copy, kind, larger, &parameters, from_snapshot(&snapshot)).await;
        let place = bed.open(&restored, &copy, kind).await;
        let fault = if block {
            data::device_fault(&place, MIB, 7, 64 << 10)
        } else {
            data::file_fault(&place, 7, 64 << 10)
        };
        assert_eq!(fault, None);
        if own {
            assert!(room(&place) > larger / 100 * 75, "{} of {larger}", room(&place));
        }
        if pool == "btrfs" && kind == "btrfs" {
            let usage = bed.client.stats(&restored, &place).await.unwrap();
            assert_eq!(usage[0].total, larger.cast_signed());
        }
        bed.close(&restored, &copy).await;
        bed.close(&id, &name).await;
    }
    bed.clear().await;
}

#[tokio::test]
async fn a_volume_two_clones_and_two_restores_of_xfs_are_mounted_at_once_with_data_of_their_own() {
    let Some(bed) = Bed::with("c6", &[("xfs", 8 * GIB)]).await else { return };
    let id = bed.create("v", "xfs", 320 * MIB, &[]).await;
    let target = bed.open(&id, "v", "xfs").await;
    data::write_file(&target, 1, 1 << 20).unwrap();
    let snapshot = bed.snapshot("s", &id).await;
    let mut all = vec![(id.clone(), "v")];
    for name in ["clone1", "clone2"] {
        all.push((bed.make(name, "xfs", 320 * MIB, &[], from_volume(&id)).await, name));
    }
    for name in ["restore1", "restore2"] {
        all.push((bed.make(name, "xfs", 320 * MIB, &[], from_snapshot(&snapshot)).await, name));
    }
    for (n, (id, name)) in all.iter().enumerate().skip(1) {
        let place = bed.open(id, name, "xfs").await;
        assert_eq!(data::file_fault(&place, 1, 1 << 20), None, "{name}");
        data::write_file(&place, 10 + n as u64, 4096).unwrap();
    }
    data::write_file(&target, 10, 4096).unwrap();
    for (n, (_, name)) in all.iter().enumerate() {
        let mut files = data::files(&bed.target(name)).unwrap();
        files.sort();
        assert_eq!(files, [1, 10 + n as u64], "{name}");
    }
    for (id, name) in &all {
        bed.close(id, name).await;
    }
    bed.clear().await;
}

#[tokio::test]
async fn a_volume_in_use_is_not_deleted_and_finds_its_own_file_whatever_the_loop_numbers() {
    let Some(bed) = Bed::with("use", &[("xfs", 8 * GIB)]).await else { return };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    data::write_file(&target, 1, 65536).unwrap();
    let refused = bed.client.delete(&id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(data::file_fault(&target, 1, 65536), None);
    bed.close(&id, "v").await;

    // Others take the numbers in between.
    let dummy = bed.rig.path("dummy");
    bed.rig.host.create_file(&dummy, MIB).unwrap();
    let other = bed.rig.host.loop_attach(&dummy, LoopOptions::default()).unwrap();
    let target = bed.open(&id, "v", "ext4").await;
    assert_eq!(data::file_fault(&target, 1, 65536), None);
    bed.close(&id, "v").await;
    bed.rig.host.loop_detach(&other, &dummy).unwrap();

    // Held open by something that mounted nothing.
    let raw = bed.create("raw", "block", 16 * MIB, &[]).await;
    bed.open(&raw, "raw", "block").await;
    let image = bed.rig.path("xfs").join("volumes").join(format!("{raw}.img"));
    let held = File::open(&bed.rig.host.loops_of(&image).unwrap()[0].path).unwrap();
    bed.client.unpublish(&raw, &bed.target("raw")).await.unwrap();
    let refused = bed.client.delete(&raw).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    drop(held);
    bed.client.unstage(&raw, &bed.staging("raw")).await.unwrap();
    bed.clear().await;
}

#[tokio::test]
async fn kubelets_late_repeated_and_parallel_calls_leave_one_mount_and_nobody_elses_files() {
    let Some(bed) = Bed::with("kubelet", &[("xfs", 8 * GIB)]).await else { return };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let staging = bed.staging("v");
    let (first, second) = (bed.target("pod1"), bed.target("pod2"));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, id, staging) = (bed.client.clone(), id.clone(), staging.clone());
        running.spawn(async move { client.stage(&id, "ext4", &staging).await });
    }
    for staged in running.join_all().await {
        staged.unwrap();
    }
    let (loops, mounts) = bed.rig.held();
    assert_eq!((loops.len(), mounts.len()), (bed.before.0.len() + 1, bed.before.1.len() + 1));

    // The old pod's unpublish comes after the new pod's publish.
    for target in [&first, &second] {
        bed.client.publish(&id, "ext4", &staging, target).await.unwrap();
    }
    data::write_file(&second, 1, 4096).unwrap();
    for _ in 0..2 {
        bed.client.unpublish(&id, &first).await.unwrap();
        assert_eq!(data::file_fault(&second, 1, 4096), None);
    }
    bed.client.unpublish(&id, &second).await.unwrap();

    // Something wrote into the bare directory after the volume had gone from it.
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("precious"), "x").unwrap();
    let refused = bed.client.unpublish(&id, &first).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(first.join("precious").exists());
    bed.client.unstage(&id, &staging).await.unwrap();
    bed.client.unstage(&id, &staging).await.unwrap();
    bed.clear().await;
}

#[tokio::test]
async fn a_restart_leaves_mounted_volumes_alone_and_finds_its_pool_in_a_file_again() {
    let Some(mut rig) = Rig::new("restart") else { return };
    let client = rig.start().await;
    let (file, mount) = (rig.path("pool.img"), rig.path("state").join("pools").join("xfs"));
    client.file_pool("xfs", &file, 4 * GIB).await.unwrap();
    std::fs::create_dir(rig.path("pods")).unwrap();
    let before = rig.held();
    let mut bed = Bed { rig, client, before };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    let open = File::create(target.join("log")).unwrap();
    for n in 0..3_u64 {
        open.write_all_at(&data::bytes(n, 4096), n * 4096).unwrap();
        bed.rig.stop().await;
        open.sync_all().unwrap();
        bed.client = bed.rig.start().await;
    }
    drop(open);
    assert_eq!(std::fs::read(target.join("log")).unwrap().len(), 3 * 4096);
    bed.close(&id, "v").await;
    bed.rig.stop().await;
    // As after a reboot: neither mounted nor attached.
    bed.rig.host.unmount(&mount).unwrap();
    for device in bed.rig.host.loops_of(&file).unwrap() {
        bed.rig.host.loop_detach(&device, &file).unwrap();
    }
    bed.client = bed.rig.start().await;
    let target = bed.open(&id, "v", "ext4").await;
    assert_eq!(std::fs::read(target.join("log")).unwrap()[8192..], data::bytes(2, 4096));
    bed.close(&id, "v").await;
    bed.clear().await;
}

#[tokio::test]
async fn a_pool_that_was_moved_is_adopted_with_its_volumes() {
    let Some(mut bed) = Bed::with("moved", &[("xfs", 4 * GIB)]).await else { return };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    data::write_file(&target, 1, 65536).unwrap();
    bed.close(&id, "v").await;
    bed.rig.stop().await;
    bed.rig.unmount_disk("xfs", "xfs");
    std::fs::remove_dir_all(bed.rig.path("state")).unwrap();
    let elsewhere = bed.rig.mount_disk("xfs", "xfs", "elsewhere");
    bed.client = bed.rig.start().await;
    let pool = bed.client.directory_pool("other", &elsewhere).await.unwrap();
    assert_eq!(pool.volumes, 1, "{pool:?}");
    let target = bed.open(&id, "v", "ext4").await;
    assert_eq!(data::file_fault(&target, 1, 65536), None);
    bed.close(&id, "v").await;
    bed.before = bed.rig.held();
    bed.clear().await;
}

#[tokio::test]
async fn people_get_the_size_they_asked_for_no_more_and_give_back_what_they_delete() {
    let Some(bed) = Bed::new("size").await else { return };
    let pool = bed.rig.path("xfs");
    let id = bed.create("v", "ext4", GIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    assert!(room(&target) >= GIB / 100 * 97, "a fresh ext4 of 1 GiB has {} bytes", room(&target));
    let empty = allocated(&pool, &id);
    data::write_file(&target, 1, 200 << 20).unwrap();
    assert!(allocated(&pool, &id) >= empty + 200 * MIB);
    std::fs::remove_file(target.join("f1")).unwrap();
    rustix::fs::syncfs(File::open(&target).unwrap()).unwrap();
    bed.rig.host.trim(&target).unwrap();
    let left = allocated(&pool, &id) - empty;
    assert!(left < 10 * MIB, "{left} of 200 MiB were not given back");
    bed.close(&id, "v").await;

    // Both kinds of limit: the end of an image, and a quota group.
    for (name, kind, pool) in [("image", "ext4", "xfs"), ("subvolume", "btrfs", "btrfs")] {
        let id = bed.create(name, kind, 64 * MIB, &[("pool", pool)]).await;
        let target = bed.open(&id, name, kind).await;
        let mut file = File::create(target.join("big")).unwrap();
        let piece = data::bytes(3, MIB as usize);
        let written = (0..128).take_while(|_| file.write_all(&piece).and_then(|()| file.sync_all()).is_ok());
        let written = written.count();
        assert!((40..=64).contains(&written), "{name}: {written} MiB of 64 could be written");
        drop(file);
        bed.close(&id, name).await;
    }

    let thick = bed.create("thick", "ext4", 64 * MIB, &[("provisioning", "thick")]).await;
    bed.open(&thick, "thick", "ext4").await;
    let snapshot = bed.snapshot("s", &thick).await;
    bed.close(&thick, "thick").await;
    let source = from_snapshot(&snapshot);
    let copy = bed.make("copy", "ext4", 64 * MIB, &[("provisioning", "thick")], source).await;
    for id in [&thick, &copy] {
        assert!(allocated(&pool, id) >= 64 * MIB, "{} bytes of a thick volume", allocated(&pool, id));
    }
    bed.clear().await;
}

#[tokio::test]
async fn a_raw_volume_published_for_reading_refuses_writes() {
    let Some(bed) = Bed::with("readonly", &[("xfs", 4 * GIB)]).await else { return };
    let id = bed.create("v", "block", 16 * MIB, &[]).await;
    let (staging, target) = (bed.staging("v"), bed.target("v"));
    bed.client.stage(&id, "block", &staging).await.unwrap();
    bed.client.publish_as(&id, "block", &staging, &target, true).await.unwrap();
    let refused = data::write_device(&target, 0, 1, 4096).is_err();
    assert!(refused, "a write went through a read-only publish");
    assert_eq!(std::fs::read(&target).unwrap().len() as u64, 16 * MIB);
    bed.close(&id, "v").await;
    bed.clear().await;
}

#[tokio::test]
async fn changed_blocks_rebuild_a_snapshot_byte_for_byte() {
    let Some(bed) = Bed::with("changed", &[("xfs", 4 * GIB)]).await else { return };
    const SIZE: u64 = 32 * MIB;
    let id = bed.create("v", "block", SIZE, &[]).await;
    let device = bed.open(&id, "v", "block").await;
    for n in 0..8 {
        data::write_device(&device, n * 3 * MIB, n + 1, 300 << 10).unwrap();
    }
    let base = bed.snapshot("base", &id).await;
    for n in 0..5 {
        data::write_device(&device, n * 5 * MIB + 4096, n + 100, 70 << 10).unwrap();
    }
    let newer = bed.snapshot("newer", &id).await;
    let mut whole = Vec::new();
    for (name, snapshot) in [("r1", &base), ("r2", &newer)] {
        let copy = bed.make(name, "block", SIZE, &[], from_snapshot(snapshot)).await;
        let place = bed.open(&copy, name, "block").await;
        whole.push(std::fs::read(&place).unwrap());
        bed.close(&copy, name).await;
    }
    let mut metadata = bed.client.metadata.clone();
    let mut rebuilt = vec![0; SIZE as usize];
    let mut take = |ranges: Vec<pb::BlockMetadata>, from: &[u8]| -> u64 {
        let mut sum = 0;
        for range in ranges {
            let at = range.byte_offset as usize..(range.byte_offset + range.size_bytes) as usize;
            rebuilt[at.clone()].copy_from_slice(&from[at]);
            sum += range.size_bytes as u64;
        }
        sum
    };
    let ask = pb::GetMetadataAllocatedRequest { snapshot_id: base.clone(), ..Default::default() };
    let mut stream = metadata.get_metadata_allocated(ask).await.unwrap().into_inner();
    while let Some(part) = stream.message().await.unwrap() {
        take(part.block_metadata, &whole[0]);
    }
    let ask = pb::GetMetadataDeltaRequest {
        base_snapshot_id: base,
        target_snapshot_id: newer,
        ..Default::default()
    };
    let mut stream = metadata.get_metadata_delta(ask).await.unwrap().into_inner();
    let mut changed = 0;
    while let Some(part) = stream.message().await.unwrap() {
        changed += take(part.block_metadata, &whole[1]);
    }
    assert!(((5 * 70) << 10..4 * MIB).contains(&changed), "{changed} bytes are said to have changed");
    assert!(rebuilt == whole[1], "the snapshot rebuilt from its blocks has other bytes");
    bed.close(&id, "v").await;
    bed.clear().await;
}

#[tokio::test]
async fn a_pool_without_reflinks_copies_says_so_and_leaves_volumes_in_use_alone() {
    let Some(bed) = Bed::with("plain", &[("ext4", 2 * GIB)]).await else { return };
    let pool = bed.client.pool("ext4").await;
    assert!(!pool.reflink && !pool.warnings.is_empty(), "{pool:?}");
    let at = [("pool", "ext4")];
    let id = bed.create("v", "ext4", 256 * MIB, &at).await;
    let target = bed.open(&id, "v", "ext4").await;
    data::write_file(&target, 1, 1 << 20).unwrap();
    let refused = bed.client.snapshot("s", &id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    bed.close(&id, "v").await;
    let snapshot = bed.snapshot("s", &id).await;
    let copy = bed.make("copy", "ext4", 256 * MIB, &at, from_snapshot(&snapshot)).await;
    assert!(allocated(&bed.rig.path("ext4"), &copy) < 64 * MIB, "the copy is not sparse");
    let target = bed.open(&copy, "copy", "ext4").await;
    assert_eq!(data::file_fault(&target, 1, 1 << 20), None);
    bed.close(&copy, "copy").await;
    bed.clear().await;
}

#[tokio::test]
async fn a_full_pool_refuses_new_volumes_while_running_ones_go_on() {
    let Some(bed) = Bed::with("full", &[("xfs", GIB)]).await else { return };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    let filler = bed.rig.path("xfs").join("templates").join("filler.img");
    let free = {
        let stat = rustix::fs::statvfs(bed.rig.path("xfs")).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let file = File::create(&filler).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - 16 * MIB).unwrap();
    let new = NewVolume { name: "w".into(), kind: "ext4".into(), size: 64 * MIB, ..NewVolume::default() };
    let refused = bed.client.create(&new).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let refused = bed.client.snapshot("s", &id).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    data::write_file(&target, 1, 4 << 20).unwrap();
    assert_eq!(data::file_fault(&target, 1, 4 << 20), None);
    std::fs::remove_file(&filler).unwrap();
    bed.close(&id, "v").await;
    bed.clear().await;
}

#[tokio::test]
async fn a_hundred_lives_leave_nothing_behind() {
    let Some(bed) = Bed::with("hundred", &[("xfs", 4 * GIB)]).await else { return };
    for n in 0..100 {
        let name = format!("v{n}");
        let id = bed.create(&name, "ext4", 64 * MIB, &[]).await;
        bed.open(&id, &name, "ext4").await;
        bed.close(&id, &name).await;
        bed.client.delete(&id).await.unwrap();
        if n % 10 == 0 {
            let inline = bed.target("inline");
            let context = [("pool", "xfs"), ("size", "32Mi")];
            bed.client.publish_inline("pod-1", &inline, &context).await.unwrap();
            data::write_file(&inline, 1, 4096).unwrap();
            bed.client.unpublish("pod-1", &inline).await.unwrap();
            assert!(!inline.exists());
        }
        assert_eq!(bed.rig.held(), bed.before, "after life {n}");
    }
    bed.clear().await;
}

#[tokio::test]
async fn a_mounted_ext4_grows_under_its_writer() {
    if kernel::can_run() && kernel::ran_in_guest("a_mounted_ext4_grows_under_its_writer") {
        return;
    }
    let Some(bed) = Bed::with("online", &[("xfs", 2 * GIB)]).await else { return };
    let id = bed.create("v", "ext4", 64 * MIB, &[]).await;
    let target = bed.open(&id, "v", "ext4").await;
    data::write_file(&target, 1, 65536).unwrap();
    bed.client.expand(&id, "ext4", 128 * MIB).await.unwrap();
    bed.client.node_expand(&id, "ext4", &target, 128 * MIB).await.unwrap();
    assert!(room(&target) > 110 * MIB, "{} bytes", room(&target));
    assert_eq!(data::file_fault(&target, 1, 65536), None);
    bed.close(&id, "v").await;
    bed.clear().await;
}
