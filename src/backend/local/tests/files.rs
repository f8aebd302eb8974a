//! Volumes and snapshots as files: space, sizes, left-overs, health.

use super::*;
use crate::backend::{Known, Severity};
use crate::host::Cause;

#[test]
fn a_thin_volume_takes_nothing_and_a_thick_one_all_of_it() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    pool.make(&thick(2)).unwrap();
    assert_eq!(pool.volume_usage(&volume(1)).unwrap().own, 0);
    assert_eq!(pool.volume_usage(&thick(2)).unwrap().own, SIZE);
}

#[test]
fn a_thick_volume_stays_thick_through_mkfs_clone_restore_and_rewind() {
    let fake = machine("xfs");
    let pool = open(&fake);
    #[track_caller]
    fn check(pool: &Pool, volume: &Volume) {
        let usage = pool.volume_usage(volume).unwrap();
        assert!(usage.own >= SIZE && usage.shared == 0, "{usage:?}");
    }
    pool.filled(&fake, &thick(1), "old");
    check(&pool, &thick(1));
    pool.make_from(&thick(2), Origin::Volume(&thick(1))).unwrap();
    check(&pool, &thick(2));
    let snap = snapshot(1, &thick(1));
    pool.shoot(&thick(1), &snap).unwrap();
    pool.make_from(&thick(3), Origin::Snapshot(&snap)).unwrap();
    check(&pool, &thick(3));
    pool.replace(&thick(3), &snap, &quiet()).unwrap();
    check(&pool, &thick(3));
    assert_eq!(pool.content(&fake, &thick(3)), "old");
}

#[test]
fn a_thick_volume_that_does_not_fit_leaves_nothing_behind() {
    let fake = machine("xfs");
    let pool = open(&fake);
    let before = fake.audit();
    let huge = Volume { size: 8 << 30, ..thick(1) };
    refused(pool.make(&huge), Kind::Exhausted, "no space");
    assert_eq!(fake.audit(), before);
    pool.make(&thick(2)).unwrap();
    let grown = pool.grow(&thick(2), 8 << 30);
    refused(grown, Kind::Exhausted, "no space");
    assert_eq!(fake.host().metadata(&pool.img(&thick(2))).unwrap().unwrap().len, SIZE);
}

#[test]
fn switching_to_thick_and_back_moves_the_space_and_not_the_bytes() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.filled(&fake, &volume(1), "kept");
    pool.modify(&volume(1), &thick(1).mutable).unwrap();
    assert!(pool.volume_usage(&volume(1)).unwrap().own >= SIZE);
    // While it is attached, a zero that was read may be data by the time it is given back.
    pool.attach(&thick(1), WRITE).unwrap();
    pool.modify(&thick(1), &Mutable::default()).unwrap();
    assert!(!fake.calls().iter().any(|call| call.name == "deallocate_zeros"));
    pool.detach(&thick(1)).unwrap();
    pool.modify(&thick(1), &Mutable::default()).unwrap();
    assert!(pool.volume_usage(&volume(1)).unwrap().own < SIZE);
    assert_eq!(pool.content(&fake, &volume(1)), "kept");
}

#[test]
fn a_new_volume_never_shows_the_bytes_of_a_deleted_one() {
    let fake = machine("xfs");
    let pool = open(&fake);
    for gone in [raw(1), Volume { mutable: thick(0).mutable, ..raw(2) }] {
        pool.make(&gone).unwrap();
        pool.attach(&gone, RAW).unwrap();
        fake.app_write_block(pool.device_of(&gone), 7, "secret").unwrap();
        pool.detach(&gone).unwrap();
        pool.delete(&gone).unwrap();
        let next = Volume { mutable: gone.mutable.clone(), ..raw(3) };
        pool.make(&next).unwrap();
        pool.attach(&next, RAW).unwrap();
        assert_eq!(fake.app_read_block(pool.device_of(&next), 7).unwrap(), Vec::<u8>::new());
        pool.detach(&next).unwrap();
        pool.delete(&next).unwrap();
    }
}

#[test]
fn a_full_pool_turns_into_exhausted_and_not_into_a_bug() {
    let fake = machine("xfs");
    let pool = open(&fake);
    fake.fail_always("create_file", Cause::NoSpace);
    refused(pool.make(&volume(1)), Kind::Exhausted, "create_file");
}

#[test]
fn the_room_that_is_told_keeps_the_reserve_back() {
    let fake = machine("xfs");
    let pool = open(&fake);
    let told = pool.capacity().unwrap();
    assert_eq!(told.size, 4 << 30);
    assert_eq!(told.available + told.reserved + told.allocated, told.size);
    assert!(told.reserved > 0);
    assert!(pool.faults().is_empty());
    pool.make(&Volume { size: told.available, ..thick(1) }).unwrap();
    assert_eq!(pool.capacity().unwrap().available, 0);
    assert_eq!(pool.faults()[0].reason, "PoolFull");
}

#[test]
fn damage_shows_in_the_health_of_the_volume() {
    #[track_caller]
    fn check(pool: &Pool, volume: &Volume, severity: Severity, reason: &str) {
        let faults = pool.volume_faults(volume);
        assert_eq!(faults.iter().map(|f| (f.severity, f.reason)).collect::<Vec<_>>(), [(severity, reason)]);
    }
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    assert!(pool.volume_faults(&volume(1)).is_empty());
    check(&pool, &volume(2), Severity::DataLoss, "ImageMissing");
    check(&pool, &Volume { size: 2 * SIZE, ..volume(1) }, Severity::DataLoss, "ImageTruncated");
    pool.mount(&volume(1), TARGET);
    fake.set_read_only(TARGET, true).unwrap();
    check(&pool, &volume(1), Severity::Inaccessible, "FilesystemReadOnly");
    fake.set_read_only(TARGET, false).unwrap();
    pool.unmount(&volume(1), TARGET);
    fake.set_read_only(POOL, true).unwrap();
    assert_eq!(pool.faults()[0].reason, "PoolReadOnly");
}

#[test]
fn a_truncated_or_missing_image_is_not_attached_copied_or_made_anew() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    let longer = Volume { size: 2 * SIZE, ..volume(1) };
    refused(pool.attach(&longer, WRITE), Kind::Internal, "record");
    refused(pool.attach(&volume(2), WRITE), Kind::Internal, "gone");
    // The source of a restore vanished before the retry: never an empty volume instead.
    let missing = snapshot(9, &volume(1));
    refused(pool.make_from(&volume(3), Origin::Snapshot(&missing)), Kind::Internal, "gone");
    assert_eq!(fake.host().metadata(&pool.img(&volume(3))).unwrap(), None);
}

#[test]
fn only_what_nobody_can_need_is_proven_left_over() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    pool.shoot(&volume(1), &snapshot(1, &volume(1))).unwrap();
    pool.cut(&volume(1), &snapshot(2, &volume(1)), &quiet()).unwrap();
    pool.make(&volume(3)).unwrap();
    fake.plant("/pool/volumes/notes.txt", "mine").unwrap();
    fake.plant(pool.img(&volume(1)).with_extension("new"), "half").unwrap();
    fake.plant("/pool/templates/ext4-1-2.new", "half").unwrap();

    let left = |known_snapshots: &[u8]| {
        let volumes = |id| id == volume(1).id;
        let snapshots = |id| known_snapshots.iter().any(|n| snapshot(*n, &volume(1)).id == id);
        let known = Known { volumes: &volumes, snapshots: &snapshots };
        let mut found: Vec<_> =
            pool.unexplained().unwrap().into_iter().filter_map(|found| found.judge(&known)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    };
    let told =
        |found: &[crate::backend::Leftover]| -> Vec<_> { found.iter().map(|l| (l.kind, l.proven)).collect() };
    // A cut that waits for its seal is not left over while its record is there.
    let expect = [
        ("temporary file", true),
        ("unknown file", false),
        ("temporary file", true),
        ("image without record", false),
    ];
    assert_eq!(told(&left(&[1, 2])), expect);
    let all = left(&[1]);
    assert_eq!(all.len(), expect.len() + 1);
    for leftover in &all {
        assert_eq!(pool.reap(leftover).is_ok(), leftover.proven, "{leftover:?}");
    }
    assert!(left(&[1]).iter().all(|leftover| !leftover.proven));
    // Again: what is gone is gone.
    all.iter().filter(|leftover| leftover.proven).for_each(|leftover| pool.reap(leftover).unwrap());
}

#[test]
fn a_left_over_is_looked_at_again_before_it_goes() {
    let fake = machine("xfs");
    let pool = open(&fake);
    pool.make(&volume(1)).unwrap();
    let snap = snapshot(1, &volume(1));
    pool.cut(&volume(1), &snap, &quiet()).unwrap();
    let nothing = Known { volumes: &|_| false, snapshots: &|_| false };
    let cut =
        pool.unexplained().unwrap().into_iter().filter_map(|found| found.judge(&nothing)).find(|l| l.proven);
    fake.plant(format!("/pool/snapshots/{}.creating", snap.id), "{}").unwrap();
    refused(pool.reap(&cut.unwrap()), Kind::Precondition, "a record of its object has appeared");
    // Nor while work here has the name.
    let new = pool.img(&volume(1)).with_extension("new");
    fake.plant(&new, "half").unwrap();
    let found =
        pool.unexplained().unwrap().into_iter().filter_map(|f| f.judge(&nothing)).find(|l| l.path == new);
    let _claim = pool.claims.take(&new).unwrap();
    refused(pool.reap(&found.unwrap()), Kind::Busy, "is being written");
    assert!(pool.unexplained().unwrap().into_iter().filter_map(|f| f.judge(&nothing)).all(|l| l.path != new));
}
