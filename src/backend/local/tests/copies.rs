//! Snapshots, clones, restores, rewinds: the bytes, and the time and space they take.

use super::*;
use crate::host::fake::Moment;

#[test]
fn a_source_its_snapshot_and_its_clones_go_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let fake = machine("xfs");
        let pool = open(&fake);
        let (source, clone) = (volume(1), volume(2));
        let snap = snapshot(1, &source);
        pool.filled(&fake, &source, "kept");
        pool.shoot(&source, &snap).unwrap();
        pool.make_from(&clone, Origin::Snapshot(&snap)).unwrap();
        let mut left = vec![0, 1, 2];
        for gone in order {
            match gone {
                0 => pool.delete(&source).unwrap(),
                1 => pool.delete_snapshot(&snap).unwrap(),
                _ => pool.delete(&clone).unwrap(),
            }
            left.retain(|one| *one != gone);
            for one in &left {
                let value = match one {
                    0 => pool.content(&fake, &source),
                    1 => fake.peek(pool.sealed_image(&snap).unwrap(), "data").unwrap().unwrap(),
                    _ => pool.content(&fake, &clone),
                };
                assert_eq!(value, "kept", "{order:?}");
            }
        }
    }
}

#[test]
fn a_copy_takes_no_space_until_it_is_written() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "kept");
    let before = fake.audit().used;
    pool.shoot(&volume(1), &snapshot(1, &volume(1))).unwrap();
    pool.make_from(&volume(2), Origin::Volume(&volume(1))).unwrap();
    assert_eq!(fake.audit().used, before);
    let usage = pool.volume_usage(&volume(2)).unwrap();
    assert!(usage.own == 0 && usage.shared > 0, "{usage:?}");
}

#[test]
fn copies_of_one_xfs_volume_are_mounted_side_by_side_and_go_their_own_ways() {
    let fake = machine("xfs");
    let pool = open(&fake);
    let of = |n| Volume { fs: FsType::Xfs, size: 512 * MIB, ..volume(n) };
    pool.filled(&fake, &of(1), "base");
    let snap = snapshot(1, &of(1));
    pool.shoot(&of(1), &snap).unwrap();
    pool.make_from(&of(2), Origin::Volume(&of(1))).unwrap();
    pool.make_from(&of(3), Origin::Snapshot(&snap)).unwrap();
    pool.make_from(&of(4), Origin::Snapshot(&snap)).unwrap();
    let at = |n: u8| format!("/var/lib/kubelet/{n}");
    for n in 1..=4 {
        pool.mount(&of(n), at(n));
    }
    for n in 1..=4 {
        fake.app_write(at(n), "data", format!("of {n}")).unwrap();
    }
    for n in 1..=4 {
        assert_eq!(fake.app_read(at(n), "data").unwrap().unwrap(), format!("of {n}"));
        pool.unmount(&of(n), at(n));
    }
}

#[test]
fn a_snapshot_of_a_frozen_volume_in_use_holds_all_that_was_written() {
    for direct_io in [true, false] {
        let fake = machine("xfs");
        fake.set_direct_io(POOL, direct_io).unwrap();
        let pool = open(&fake);
        pool.make(&volume(1)).unwrap();
        pool.mount(&volume(1), TARGET);
        fake.app_write(TARGET, "data", "written and synced").unwrap();
        assert!(pool.needs_freeze(&volume(1)).unwrap());
        fake.host().freeze(Path::new(TARGET)).unwrap();
        let snap = snapshot(1, &volume(1));
        pool.cut(&volume(1), &snap, &quiet()).unwrap();
        fake.host().thaw(Path::new(TARGET)).unwrap();
        pool.seal(&snap).unwrap();
        let fake = fake.power_cut();
        let pool = open(&fake);
        pool.make_from(&volume(2), Origin::Snapshot(&snap)).unwrap();
        assert_eq!(pool.content(&fake, &volume(2)), "written and synced", "direct I/O {direct_io}");
    }
}

#[test]
fn a_snapshot_of_a_raw_device_takes_its_page_cache_along() {
    for direct_io in [true, false] {
        let fake = machine("xfs");
        fake.set_direct_io(POOL, direct_io).unwrap();
        let pool = open(&fake);
        pool.make(&raw(1)).unwrap();
        pool.attach(&raw(1), RAW).unwrap();
        let device = pool.device_of(&raw(1));
        fake.app_write_block(&device, 5, "row").unwrap();
        let snap = snapshot(1, &raw(1));
        pool.shoot(&raw(1), &snap).unwrap();
        assert!(fake.calls().iter().any(|call| call.name == "sync_file" && call.path == device));
        let fake = fake.power_cut();
        let pool = open(&fake);
        pool.make_from(&raw(2), Origin::Snapshot(&snap)).unwrap();
        pool.attach(&raw(2), RAW).unwrap();
        assert_eq!(fake.app_read_block(pool.device_of(&raw(2)), 5).unwrap(), b"row");
    }
}

#[test]
fn a_restore_into_a_larger_volume_is_grown_before_it_is_handed_out() {
    for fs in [FsType::Ext4, FsType::Xfs] {
        let fake = machine("xfs");
        let pool = open(&fake);
        let source = Volume { fs, size: 512 * MIB, ..volume(1) };
        pool.make(&source).unwrap();
        pool.mount(&source, TARGET);
        fake.app_write(TARGET, "data", "kept").unwrap();
        // From a volume in use, so that the copy's journal has something in it.
        fake.host().freeze(Path::new(TARGET)).unwrap();
        let snap = snapshot(1, &source);
        pool.shoot(&source, &snap).unwrap();
        fake.host().thaw(Path::new(TARGET)).unwrap();
        let small = fake.host().usage(Path::new(TARGET)).unwrap().bytes;
        pool.unmount(&source, TARGET);
        let larger = Volume { size: 1024 * MIB, ..Volume { id: volume(2).id, ..source.clone() } };
        pool.make_from(&larger, Origin::Snapshot(&snap)).unwrap();
        pool.mount(&larger, TARGET);
        assert!(fake.host().usage(Path::new(TARGET)).unwrap().bytes > small + 500 * MIB, "{fs:?}");
        assert_eq!(fake.app_read(TARGET, "data").unwrap().unwrap(), "kept");
    }
}

#[test]
fn a_restore_into_a_smaller_volume_or_from_another_pool_is_refused() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    let smaller = Volume { size: SIZE / 2, ..volume(2) };
    refused(pool.make_from(&smaller, Origin::Volume(&volume(1))), Kind::OutOfRange, "capacity_range");
    let id = format!("v-otherone-{:032x}", 1).parse().unwrap();
    let foreign = Volume { id, ..volume(1) };
    refused(pool.make_from(&volume(2), Origin::Volume(&foreign)), Kind::Exhausted, "pool otherone");
    let snap = snapshot(1, &volume(1));
    refused(pool.replace(&smaller, &snap, &quiet()), Kind::OutOfRange, "bytes");
}

#[test]
fn a_growing_mounted_volume_is_larger_at_once() {
    for fs in [FsType::Ext4, FsType::Xfs, FsType::Btrfs] {
        let fake = machine("xfs");
        let pool = open(&fake);
        let volume = Volume { fs, size: 512 * MIB, ..volume(1) };
        pool.make(&volume).unwrap();
        pool.mount(&volume, TARGET);
        let before = fake.host().usage(Path::new(TARGET)).unwrap().bytes;
        assert!(pool.grow(&volume, 1024 * MIB).unwrap());
        let grown = Volume { size: 1024 * MIB, ..volume };
        pool.grow_mounted(&grown, Path::new(TARGET)).unwrap();
        assert!(fake.host().usage(Path::new(TARGET)).unwrap().bytes > before, "{fs:?}");
        fake.mkdirs("/var/lib/kubelet/other").unwrap();
        refused(
            pool.grow_mounted(&grown, Path::new("/var/lib/kubelet/other")),
            Kind::NotFound,
            "not mounted",
        );
    }
}

#[test]
fn without_block_sharing_an_idle_volume_is_copied_and_one_in_use_is_refused() {
    let fake = machine("ext4");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "kept");
    pool.shoot(&volume(1), &snapshot(1, &volume(1))).unwrap();
    pool.make_from(&volume(2), Origin::Snapshot(&snapshot(1, &volume(1)))).unwrap();
    assert_eq!(pool.content(&fake, &volume(2)), "kept");
    assert!(!pool.needs_freeze(&volume(1)).unwrap());
    pool.mount(&volume(1), TARGET);
    refused(pool.needs_freeze(&volume(1)), Kind::Precondition, "unpublish");
    refused(pool.cut(&volume(1), &snapshot(2, &volume(1)), &quiet()), Kind::Precondition, "unpublish");
    refused(pool.make_from(&volume(3), Origin::Volume(&volume(1))), Kind::Precondition, "unpublish");
}

#[test]
fn a_volume_on_btrfs_is_a_subvolume_unless_a_device_is_needed() {
    let fake = machine("btrfs");
    let pool = open(&fake);
    assert_eq!(pool.layout(true, false, None).unwrap(), Layout::Subvolume);
    assert_eq!(pool.layout(true, true, None).unwrap(), Layout::Image);
    assert_eq!(pool.layout(true, false, Some(FsType::Ext4)).unwrap(), Layout::Image);
    assert_eq!(open(&machine("xfs")).layout(true, false, None).unwrap(), Layout::Image);
    fake.set_kernel((6, 1));
    fake.without_program("mkfs.xfs");
    let pool = open(&machine("xfs"));
    assert_eq!(pool.layout(true, false, Some(FsType::Btrfs)).unwrap(), Layout::Image);
    let old = machine("xfs");
    old.set_kernel((6, 1));
    old.without_program("mkfs.xfs");
    refused(open(&old).layout(true, false, Some(FsType::Btrfs)), Kind::Invalid, "6.7");
    refused(open(&old).layout(true, false, Some(FsType::Xfs)), Kind::Invalid, "not installed");
    assert_eq!(open(&old).layout(false, true, Some(FsType::Xfs)).unwrap(), Layout::Image);
}

#[test]
fn a_subvolume_is_snapshotted_restored_rewound_and_bound_like_any_volume() {
    let fake = machine("btrfs");
    let pool = open(&fake);
    let of = |n| Volume { layout: Layout::Subvolume, fs: FsType::Btrfs, ..volume(n) };
    pool.filled(&fake, &of(1), "old");
    let snap = snapshot(1, &of(1));
    pool.shoot(&of(1), &snap).unwrap();
    pool.make_from(&of(2), Origin::Snapshot(&snap)).unwrap();
    pool.mount(&of(1), TARGET);
    fake.app_write(TARGET, "data", "new").unwrap();
    assert_eq!(pool.mounted().unwrap().len(), 1);
    for refusal in [pool.delete(&of(1)), pool.detach(&of(1)), pool.replace(&of(1), &snap, &quiet())] {
        refused(refusal, Kind::Precondition, "still mounted");
    }
    pool.unmount(&of(1), TARGET);
    assert_eq!(pool.content(&fake, &of(1)), "new");
    assert_eq!(pool.content(&fake, &of(2)), "old");
    pool.replace(&of(1), &snap, &quiet()).unwrap();
    assert_eq!(pool.content(&fake, &of(1)), "old");
    assert!(!pool.grow(&of(1), 2 * SIZE).unwrap());
    refused(pool.attach(&of(1), RAW), Kind::Precondition, "no block device");
    pool.delete(&of(1)).unwrap();
    pool.delete_snapshot(&snap).unwrap();
    assert_eq!(pool.content(&fake, &of(2)), "old");
}

#[test]
fn a_rewind_that_dies_or_loses_power_leaves_the_old_or_the_new_bytes_whole() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let prepare = || {
            let fake = machine(fs);
            let pool = open(&fake);
            let layout = if fs == "btrfs" { Layout::Subvolume } else { Layout::Image };
            let volume = Volume { layout, ..volume(1) };
            let snap = snapshot(1, &volume);
            pool.filled(&fake, &volume, "old");
            pool.shoot(&volume, &snap).unwrap();
            pool.mount(&volume, TARGET);
            fake.app_write(TARGET, "data", "new").unwrap();
            fake.app_fsync(TARGET).unwrap();
            pool.unmount(&volume, TARGET);
            let fake = fake.reboot();
            (fake.clone(), open(&fake), volume, snap)
        };
        let (fake, pool, volume, snap) = prepare();
        let before = fake.counted();
        pool.replace(&volume, &snap, &quiet()).unwrap();
        for n in before + 1..=fake.counted() {
            for moment in [Moment::Before, Moment::During, Moment::After] {
                for power in [false, true] {
                    let (fake, pool, volume, snap) = prepare();
                    fake.crash(n, moment);
                    pool.replace(&volume, &snap, &quiet()).unwrap_err();
                    let fake = if power { fake.power_cut() } else { fake.restart() };
                    let pool = open(&fake);
                    if volume.layout == Layout::Image {
                        let value = fake.peek(pool.img(&volume), "data").unwrap().unwrap();
                        assert!(value == "old" || value == "new", "{fs} {moment:?} call {n}: {value}");
                    }
                    pool.replace(&volume, &snap, &quiet()).unwrap();
                    assert_eq!(pool.content(&fake, &volume), "old", "{fs} {moment:?} call {n}");
                }
            }
        }
    }
}

#[test]
fn what_changed_between_two_snapshots_is_told_by_pages_that_join_up() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&raw(1)).unwrap();
    pool.attach(&raw(1), RAW).unwrap();
    let device = pool.device_of(&raw(1));
    let write = |blocks: &[u64]| {
        for block in blocks {
            fake.app_write_block(&device, *block, format!("{}", fake.calls().len())).unwrap();
        }
    };
    let (one, two) = (snapshot(1, &raw(1)), snapshot(2, &raw(1)));
    write(&[0, 1, 2, 100, 5000]);
    pool.shoot(&raw(1), &one).unwrap();
    write(&[1, 200, 201, 5000]);
    pool.shoot(&raw(1), &two).unwrap();
    let all = |base: Option<&Snapshot>, target: &Snapshot, max: usize| {
        let (mut runs, mut start) = (Vec::new(), 0);
        loop {
            let page = pool.changed(base, target, start, max).unwrap();
            assert!(page.len() <= max);
            runs.extend(page.iter().map(|run| (run.offset / 4096, run.len / 4096)));
            match page.last() {
                Some(last) if page.len() == max => start = last.offset + last.len,
                _ => return runs,
            }
        }
    };
    for max in [1, 2, 100] {
        assert_eq!(all(None, &one, max), [(0, 3), (100, 1), (5000, 1)]);
        assert_eq!(all(Some(&one), &two, max), [(1, 1), (200, 2), (5000, 1)]);
        assert_eq!(all(Some(&two), &two, max), []);
    }
    assert_eq!(
        pool.changed(None, &one, 2 * 4096, 1).unwrap()[0],
        crate::backend::Run { offset: 8192, len: 4096 }
    );
}
