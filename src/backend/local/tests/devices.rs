//! Attaching, formatting, detaching: the traps that cost others data.

use super::*;
use crate::host::{Cause, LoopOptions};

#[test]
fn a_volume_is_formatted_once_and_mounts_ever_after() {
    for fs in [FsType::Ext4, FsType::Xfs, FsType::Btrfs] {
        let fake = machine("xfs");
        let pool = open(&fake);
        let volume = Volume { fs, size: 512 * MIB, ..volume(1) };
        pool.filled(&fake, &volume, "kept");
        assert_eq!(pool.content(&fake, &volume), "kept", "{fs:?}");
        assert_eq!(fake.calls().iter().filter(|call| call.name == "mkfs").count(), 1, "{fs:?}");
    }
}

#[test]
fn the_second_volume_of_a_kind_needs_no_mkfs() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "one");
    let pool = open(&fake.restart());
    let fake = fake.restart();
    drop(pool);
    let pool = open(&fake);
    pool.filled(&fake, &volume(2), "two");
    assert!(!fake.calls().iter().any(|call| call.name == "mkfs"));
    assert_eq!(pool.content(&fake, &volume(1)), "one");
    assert_eq!(pool.content(&fake, &volume(2)), "two");
}

#[test]
fn a_template_that_is_gone_costs_a_mkfs_and_nothing_else() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "one");
    for entry in fake.host().read_dir(Path::new("/pool/templates")).unwrap() {
        fake.host().remove_file(&Path::new("/pool/templates").join(entry.name)).unwrap();
    }
    pool.filled(&fake, &volume(2), "two");
    assert_eq!(pool.content(&fake, &volume(2)), "two");
}

#[test]
fn a_raw_volume_that_begins_with_zeros_is_not_taken_for_blank() {
    let fake = machine("xfs");
    let pool = open(&fake);
    // Nobody wrote down that it was used raw, and its first and last megabytes are zero.
    let volume = Volume { block: true, ..volume(1) };
    pool.make(&volume).unwrap();
    pool.attach(&volume, RAW).unwrap();
    fake.app_write_block(pool.device_of(&volume), SIZE / 4096 / 2, "a row of a table").unwrap();
    fake.app_fsync_device(pool.device_of(&volume)).unwrap();
    let before = fake.snapshot_tree("/none");
    refused(pool.attach(&volume, WRITE), Kind::Precondition, "is not formatted");
    pool.detach(&volume).unwrap();
    refused(pool.attach(&volume, WRITE), Kind::Precondition, "is not formatted");
    let written = Volume { raw_written: true, ..volume };
    refused(pool.attach(&written, WRITE), Kind::Precondition, "not trusted");
    assert!(before == fake.snapshot_tree("/none"));
}

#[test]
fn what_is_not_ours_is_neither_formatted_nor_mounted() {
    let fake = machine("xfs");
    let pool = open(&fake);
    let volume = Volume { block: true, ..volume(1) };
    pool.make(&volume).unwrap();
    pool.attach(&volume, RAW).unwrap();
    fake.app_write_block(pool.device_of(&volume), 0, "LUKS").unwrap();
    refused(pool.attach(&volume, WRITE), Kind::Precondition, "not touched");
    assert!(!fake.calls().iter().any(|call| call.name == "mkfs"));
}

#[test]
fn nothing_is_formatted_detached_or_deleted_on_unknown() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    for unknown in ["probe", "loops_of", "extents", "metadata"] {
        fake.fail_always(unknown, Cause::Other);
        pool.attach(&volume(1), WRITE).unwrap_err();
        fake.heal();
        assert!(!fake.calls().iter().any(|call| call.name == "mkfs"), "{unknown}");
    }
    pool.attach(&volume(1), WRITE).unwrap();
    for unknown in ["mounts", "device_in_use", "loops_of"] {
        fake.fail_always(unknown, Cause::Other);
        pool.detach(&volume(1)).unwrap_err();
        pool.delete(&volume(1)).unwrap_err();
        fake.heal();
        assert_eq!(fake.audit().loops.len(), 1, "{unknown}");
        assert!(pool.whole_image(&volume(1)).is_ok(), "{unknown}");
    }
}

#[test]
fn a_blank_volume_is_not_formatted_for_a_reader() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    refused(pool.attach(&volume(1), READ), Kind::Precondition, "mount it for writing once");
    assert!(fake.audit().loops.is_empty());
}

#[test]
fn a_volume_in_use_is_not_detached_deleted_or_replaced() {
    #[track_caller]
    fn check(fake: &Fake, pool: &Pool, volume: &Volume, text: &str) {
        let snap = snapshot(1, volume);
        let before = fake.audit();
        refused(pool.detach(volume), Kind::Precondition, text);
        refused(pool.delete(volume), Kind::Precondition, text);
        refused(pool.replace(volume, &snap, &quiet()), Kind::Precondition, text);
        assert_eq!(fake.audit(), before);
        assert!(!before.loops[0].leaving, "the kernel was told to detach it later");
    }
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "kept");
    pool.shoot(&volume(1), &snapshot(1, &volume(1))).unwrap();
    pool.mount(&volume(1), TARGET);
    check(&fake, &pool, &volume(1), "still mounted at /var/lib/kubelet/target");
    fake.host().unmount(Path::new(TARGET)).unwrap();
    // Held where this process cannot see it: a mount in another namespace.
    let device = pool.device_of(&volume(1));
    fake.hold_device(&device, true).unwrap();
    check(&fake, &pool, &volume(1), "something holds");
    fake.hold_device(&device, false).unwrap();
    // The node of a raw device, bound into a pod that has not opened it yet.
    fake.plant("/var/lib/kubelet/dev", "").unwrap();
    fake.host().bind(&device, Path::new("/var/lib/kubelet/dev"), false).unwrap();
    check(&fake, &pool, &volume(1), "still mounted at /var/lib/kubelet/dev");
    fake.host().unmount(Path::new("/var/lib/kubelet/dev")).unwrap();
    pool.delete(&volume(1)).unwrap();
    assert!(fake.audit().loops.is_empty());
}

#[test]
fn an_open_raw_device_keeps_its_volume_although_detaching_says_success() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&raw(1)).unwrap();
    pool.attach(&raw(1), RAW).unwrap();
    let device = pool.device_of(&raw(1));
    fake.app_open_device(&device, true).unwrap();
    refused(pool.delete(&raw(1)), Kind::Precondition, "something holds");
    fake.app_write_block(&device, 3, "alive").unwrap();
    assert!(pool.whole_image(&raw(1)).is_ok());
    fake.app_open_device(&device, false).unwrap();
    pool.delete(&raw(1)).unwrap();
    assert!(fake.audit().loops.is_empty());
}

#[test]
fn after_a_reboot_each_volume_gets_its_own_bytes_whatever_the_numbers() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "one");
    pool.filled(&fake, &volume(2), "two");
    pool.attach(&volume(1), WRITE).unwrap();
    pool.attach(&volume(2), WRITE).unwrap();
    let fake = fake.reboot();
    let pool = open(&fake);
    assert_eq!(pool.content(&fake, &volume(2)), "two");
    assert_eq!(pool.content(&fake, &volume(1)), "one");
}

#[test]
fn a_device_that_is_there_is_used_again_with_its_settings_put_right() {
    let fake = machine("xfs");
    let pool = open(&fake);
    let volume =
        Volume { mutable: Mutable { read_ahead_kib: Some(4096), ..Mutable::default() }, ..volume(1) };
    pool.make(&volume).unwrap();
    // What a crash between attaching and tuning leaves.
    fake.host().loop_attach(&pool.img(&volume), LoopOptions::default()).unwrap();
    pool.attach(&volume, RAW).unwrap();
    pool.attach(&volume, RAW).unwrap();
    let loops = fake.audit().loops;
    assert_eq!(loops.len(), 1);
    assert!(loops[0].direct_io && loops[0].read_ahead == 4096, "{loops:?}");
    pool.modify(&volume, &Mutable { direct_io: Some(false), ..Mutable::default() }).unwrap();
    assert!(!fake.audit().loops[0].direct_io);
}

#[test]
fn a_pool_that_cannot_do_direct_io_works_without_and_says_so_where_it_was_asked_for() {
    let fake = machine("xfs");
    fake.set_direct_io(POOL, false).unwrap();
    let pool = open(&fake);
    let volume = Volume { mutable: Mutable { direct_io: Some(true), ..Mutable::default() }, ..volume(1) };
    pool.make(&volume).unwrap();
    pool.attach(&volume, WRITE).unwrap();
    assert_eq!(pool.volume_faults(&volume)[0].reason, "BufferedIo");
}

#[test]
fn a_reader_of_a_raw_volume_gets_a_device_that_refuses_writes() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&raw(1)).unwrap();
    let Attachment::Device { path: writer, .. } = pool.attach(&raw(1), RAW).unwrap() else { panic!() };
    let Attachment::Device { path: reader, .. } = pool.attach(&raw(1), RAW_READ).unwrap() else { panic!() };
    fake.app_write_block(&writer, 1, "in").unwrap();
    fake.app_write_block(&reader, 1, "out").unwrap_err();
    pool.detach(&raw(1)).unwrap();
    assert!(fake.audit().loops.is_empty());
}

#[test]
fn a_clean_start_sees_what_is_mounted() {
    for fs in FsType::ALL {
        let fake = machine("xfs");
        let pool = open(&fake);
        let of = |n| Volume { fs, size: 512 * MIB, ..volume(n) };
        for n in [1, 2] {
            pool.make(&of(n)).unwrap();
        }
        pool.mount(&of(1), TARGET);
        pool.attach(&of(2), WRITE).unwrap();
        let fake = fake.restart();
        let mounted = open(&fake).mounted().unwrap();
        assert_eq!(mounted.len(), 1, "{fs:?}");
        assert_eq!((mounted[0].0, mounted[0].1.target.as_path()), (of(1).id, Path::new(TARGET)));
    }
}

#[test]
fn a_filesystem_that_was_mounted_but_not_yet_grown_at_a_crash_still_has_to_grow() {
    for fs in FsType::ALL {
        let fake = machine("xfs");
        let pool = open(&fake);
        let small = Volume { fs, size: 512 * MIB, ..volume(1) };
        pool.make(&small).unwrap();
        pool.mount(&small, TARGET);
        pool.grow(&small, 1024 * MIB).unwrap();
        let grown = Volume { size: 1024 * MIB, ..small };
        let pool = open(&fake.restart());
        assert!(
            matches!(pool.attach(&grown, WRITE).unwrap(), Attachment::Device { grow: true, .. }),
            "{fs:?}"
        );
        pool.grow_mounted(&grown, Path::new(TARGET)).unwrap();
        assert!(
            matches!(pool.attach(&grown, WRITE).unwrap(), Attachment::Device { grow: false, .. }),
            "{fs:?}"
        );
    }
}

#[test]
fn a_damaged_filesystem_is_never_mounted_after_growing() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "kept");
    fake.damage(pool.img(&volume(1))).unwrap();
    pool.grow(&volume(1), 2 * SIZE).unwrap();
    let grown = Volume { size: 2 * SIZE, ..volume(1) };
    refused(pool.attach(&grown, WRITE), Kind::Precondition, "needs a person");
}

#[test]
fn a_device_whose_image_was_removed_is_reported_and_detached() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&raw(1)).unwrap();
    pool.attach(&raw(1), RAW).unwrap();
    fake.host().remove_file(&pool.img(&raw(1))).unwrap();
    let known = crate::backend::Known { volumes: &|_| true, snapshots: &|_| true };
    let found: Vec<_> = pool.unexplained().unwrap().into_iter().filter_map(|f| f.judge(&known)).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].proven && found[0].kind == "loop device", "{found:?}");
    fake.app_open_device(&found[0].path, true).unwrap();
    refused(pool.reap(&found[0]), Kind::Precondition, "something holds");
    fake.app_open_device(&found[0].path, false).unwrap();
    pool.reap(&found[0]).unwrap();
    assert!(fake.audit().loops.is_empty());
}
