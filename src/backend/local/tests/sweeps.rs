//! A crash before, in and after every call to the machine, of every method: called again it reaches the same end, and
//! nothing is left that is not proven left-over.

use super::*;
use crate::backend::Known;
use crate::host::fake::{Audit, Moment};

pub(super) const MOMENTS: [Moment; 3] = [Moment::Before, Moment::During, Moment::After];

/// What one method of the backend does to a prepared pool.
type Act<'a> = dyn Fn(&Pool) -> Result<()> + 'a;

/// Removes what is proven left-over; anything else that no record explains fails the test.
fn clean(pool: &Pool) {
    let known = Known { volumes: &|_| true, snapshots: &|_| true };
    for leftover in pool.unexplained().unwrap().into_iter().filter_map(|found| found.judge(&known)) {
        assert!(leftover.proven, "{leftover:?}");
        pool.reap(&leftover).unwrap();
    }
}

/// Runs `prepare`, then crashes in each call of `act` in turn, restarts, runs `end`, and compares with a run in which
/// nothing crashed and `expect` ran after `act`.
fn sweep(fs: &str, prepare: &dyn Fn(&Fake, &Pool), act: &Act<'_>, end: &Act<'_>, expect: &Act<'_>) {
    let start = || {
        let fake = machine(fs);
        prepare(&fake, &open(&fake));
        let fake = fake.restart();
        let pool = open(&fake);
        (fake, pool)
    };
    let (fake, pool) = start();
    let before = fake.counted();
    act(&pool).unwrap();
    let after = fake.counted();
    assert!(after > before, "nothing to crash in");
    expect(&pool).unwrap();
    clean(&pool);
    let whole: Audit = fake.audit();
    for n in before + 1..=after {
        for moment in MOMENTS {
            let (fake, pool) = start();
            fake.crash(n, moment);
            // A last call whose failure is only a pity may be where it dies.
            let _crashed = act(&pool);
            assert!(fake.crashed());
            let call = fake.calls().last().cloned();
            let fake = fake.restart();
            let pool = open(&fake);
            end(&pool).unwrap_or_else(|error| panic!("{fs} {moment:?} {call:?}: {error}"));
            clean(&pool);
            assert_eq!(fake.audit(), whole, "{fs} {moment:?} {call:?}");
        }
    }
}

/// Both ways on from a crash: doing it again, and undoing it.
fn again_and_undone(fs: &str, prepare: &dyn Fn(&Fake, &Pool), act: &Act<'_>, undo: &Act<'_>) {
    sweep(fs, prepare, act, act, &|_| Ok(()));
    sweep(fs, prepare, act, undo, undo);
}

fn layout_on(fs: &str) -> Layout {
    if fs == "btrfs" { Layout::Subvolume } else { Layout::Image }
}

fn on(fs: &str, n: u8) -> Volume {
    Volume { layout: layout_on(fs), ..volume(n) }
}

#[test]
fn creating_a_volume() {
    for fs in ["xfs", "btrfs", "ext4"] {
        for volume in [on(fs, 1), thick(1), raw(1)] {
            again_and_undone(fs, &|_, _| {}, &|pool| pool.make(&volume), &|pool| pool.delete(&volume));
        }
    }
}

#[test]
fn cloning_a_volume_and_restoring_a_snapshot() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let source = on(fs, 1);
        let snap = snapshot(1, &source);
        let prepare = |fake: &Fake, pool: &Pool| {
            pool.filled(fake, &source, "kept");
            pool.shoot(&source, &snap).unwrap();
        };
        for mutable in [volume(0).mutable, thick(0).mutable] {
            let copy = Volume { size: 2 * SIZE, mutable, ..on(fs, 2) };
            let undo = |pool: &Pool| pool.delete(&copy);
            again_and_undone(fs, &prepare, &|pool| pool.make_from(&copy, Origin::Volume(&source)), &undo);
            again_and_undone(fs, &prepare, &|pool| pool.make_from(&copy, Origin::Snapshot(&snap)), &undo);
        }
    }
}

#[test]
fn cutting_and_sealing_a_snapshot() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let source = on(fs, 1);
        let snap = snapshot(1, &source);
        let prepare = |fake: &Fake, pool: &Pool| pool.filled(fake, &source, "kept");
        let undo = |pool: &Pool| pool.delete_snapshot(&snap);
        again_and_undone(fs, &prepare, &|pool| pool.shoot(&source, &snap), &undo);
    }
}

#[test]
fn replacing_a_volume() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let target = on(fs, 1);
        let snap = snapshot(1, &target);
        let prepare = |fake: &Fake, pool: &Pool| {
            pool.filled(fake, &target, "old");
            pool.shoot(&target, &snap).unwrap();
        };
        let act = |pool: &Pool| pool.replace(&target, &snap, &quiet());
        again_and_undone(fs, &prepare, &act, &|pool| pool.delete(&target));
    }
}

#[test]
fn growing_a_volume() {
    for fs in ["xfs", "btrfs", "ext4"] {
        for volume in [on(fs, 1), thick(1)] {
            let prepare = |fake: &Fake, pool: &Pool| pool.filled(fake, &volume, "kept");
            let act = |pool: &Pool| pool.grow(&volume, 2 * SIZE).map(drop);
            sweep(fs, &prepare, &act, &act, &|_| Ok(()));
        }
    }
}

#[test]
fn formatting_attaching_and_detaching_a_volume() {
    for fs in ["xfs", "btrfs", "ext4"] {
        for volume in [volume(1), thick(1), raw(1)] {
            let how = if volume.mount { WRITE } else { RAW };
            let attach = |pool: &Pool| pool.attach(&volume, how).map(drop);
            let prepare = |_: &Fake, pool: &Pool| pool.make(&volume).unwrap();
            sweep(fs, &prepare, &attach, &attach, &|_| Ok(()));
            // Whatever the crash left of attaching, the volume can be detached and deleted.
            let delete = |pool: &Pool| pool.delete(&volume);
            sweep(fs, &prepare, &attach, &|pool| attach(pool).and_then(|()| pool.detach(&volume)), &|pool| {
                pool.detach(&volume)
            });
            sweep(
                fs,
                &|fake, pool| {
                    prepare(fake, pool);
                    attach(pool).unwrap();
                },
                &delete,
                &delete,
                &|_| Ok(()),
            );
        }
    }
}

#[test]
fn deleting_a_volume_or_a_snapshot() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let source = on(fs, 1);
        let snap = snapshot(1, &source);
        let prepare = |fake: &Fake, pool: &Pool| {
            pool.filled(fake, &source, "kept");
            pool.shoot(&source, &snap).unwrap();
        };
        let delete = |pool: &Pool| pool.delete(&source);
        sweep(fs, &prepare, &delete, &delete, &|_| Ok(()));
        let delete = |pool: &Pool| pool.delete_snapshot(&snap);
        sweep(fs, &prepare, &delete, &delete, &|_| Ok(()));
    }
}

#[test]
fn changing_the_settings_of_a_volume() {
    for fs in ["xfs", "btrfs", "ext4"] {
        let volume = volume(1);
        let prepare = |fake: &Fake, pool: &Pool| pool.filled(fake, &volume, "kept");
        let act = |pool: &Pool| pool.modify(&volume, &thick(1).mutable);
        sweep(fs, &prepare, &act, &act, &|_| Ok(()));
        let back = |pool: &Pool| pool.modify(&thick(1), &Mutable::default());
        let prepare = |fake: &Fake, pool: &Pool| pool.filled(fake, &thick(1), "kept");
        sweep(fs, &prepare, &back, &back, &|_| Ok(()));
    }
}
