//! Where a pool can be.

use super::*;
use crate::backend::local::{attach_file_pool, create_in_file};

#[test]
fn an_empty_directory_becomes_a_pool_and_keeps_its_id() {
    let fake = Fake::with_pool(POOL, "xfs", 4 << 30);
    let first = open(&fake).info.id;
    assert_eq!(open(&fake.restart()).info.id, first);
    assert_eq!(
        Pool::open(fake.restart().host(), PoolConfig { create: false, ..config() }).unwrap().info.id,
        first
    );
}

#[test]
fn a_place_where_a_pool_cannot_be_is_refused_with_the_mend() {
    #[track_caller]
    fn check(fake: &Fake, config: PoolConfig, text: &str) {
        let before = fake.snapshot_tree("/none");
        refused(Pool::open(fake.host(), config).map(|pool| pool.info), Kind::Precondition, text);
        assert!(before == fake.snapshot_tree("/none"), "something was left behind");
    }
    let fake = Fake::with_pool(POOL, "xfs", 4 << 30);
    fake.mkdirs("/var/overlay").unwrap();
    fake.add_pool("/memory", "tmpfs", 1 << 30);
    check(&fake, PoolConfig { dir: "/var/overlay".into(), ..config() }, "the container's own");
    check(&fake, PoolConfig { dir: "/memory".into(), ..config() }, "in memory");
    check(&fake, PoolConfig { dir: "pool".into(), ..config() }, "absolute");
    check(&fake, PoolConfig { dir: "/missing".into(), create: false, ..config() }, "does not exist");
    check(&fake, PoolConfig { create: false, ..config() }, "is no pool yet");
    fake.set_read_only(POOL, true).unwrap();
    check(&fake, config(), "read-only");
    fake.set_read_only(POOL, false).unwrap();
    fake.plant("/pool/thesis.doc", "ten years").unwrap();
    check(&fake, config(), "thesis.doc");
    fake.plant("/pool/offshoot-pool.json", r#"{"format":2,"places":[]}"#).unwrap();
    check(&fake, config(), "has format 2");
    fake.plant("/pool/offshoot-pool.json", "{").unwrap();
    check(&fake, config(), "marker cannot be read");
}

#[test]
fn a_pool_in_memory_is_had_by_asking_and_says_so() {
    let fake = Fake::with_pool(POOL, "tmpfs", 1 << 30);
    let pool = Pool::open(fake.host(), PoolConfig { allow_volatile: true, ..config() }).unwrap();
    assert!(pool.info.warnings.iter().any(|warning| warning.contains("in memory")));
}

#[test]
fn whether_copies_share_their_bytes_is_found_out_by_trying() {
    for (fs, shares) in [("xfs", true), ("btrfs", true), ("ext4", false)] {
        let pool = open(&Fake::with_pool(POOL, fs, 4 << 30));
        assert_eq!(pool.info.shares_copies, shares, "{fs}");
        assert_eq!(pool.info.warnings.is_empty(), shares, "{fs}: {:?}", pool.info.warnings);
    }
}

#[test]
fn a_crash_while_a_pool_is_made_leaves_a_directory_that_can_still_become_one() {
    let whole = Fake::with_pool(POOL, "xfs", 4 << 30);
    open(&whole);
    for n in 1..=whole.counted() {
        for moment in super::sweeps::MOMENTS {
            let fake = Fake::with_pool(POOL, "xfs", 4 << 30);
            fake.crash(n, moment);
            let _crashed = Pool::open(fake.host(), config());
            let fake = fake.restart();
            open(&fake);
            assert_eq!(fake.audit().files, whole.audit().files, "{moment:?} call {n}");
        }
    }
}

#[test]
fn a_host_without_a_reflink_filesystem_gets_one_in_a_file() {
    let fake = Fake::with_pool("/disk", "ext4", 8 << 30);
    let file = Path::new("/disk/pool.xfs");
    let make = |fake: &Fake| create_in_file(&*fake.host(), file, 1 << 30, Path::new("/mnt"));
    make(&fake).unwrap();
    // Again, after a restart and after a reboot: found, mounted, never formatted.
    for again in [Fake::restart, Fake::reboot] {
        let fake = again(&fake);
        make(&fake).unwrap();
        attach_file_pool(&*fake.host(), file, Path::new("/mnt")).unwrap();
        let audit = fake.audit();
        assert_eq!(audit.loops.len(), 1, "{:?}", audit.loops);
        assert!(audit.loops[0].direct_io);
        assert_eq!(audit.mounts, [PathBuf::from("/mnt")]);
    }
}

#[test]
fn a_file_with_anything_in_it_is_never_made_a_pool() {
    let fake = Fake::with_pool("/disk", "ext4", 8 << 30);
    let host = fake.host();
    let (file, at) = (Path::new("/disk/pool.xfs"), Path::new("/mnt"));
    fake.plant(file, "ten years of work").unwrap();
    let before = fake.snapshot_tree("/mnt");
    refused(create_in_file(&*host, file, 1 << 30, at), Kind::Precondition, "holds something else");
    assert!(before == fake.snapshot_tree("/mnt"));
}

#[test]
fn a_crash_while_a_file_pool_is_made_is_finished_by_the_next_call() {
    let (file, at) = (Path::new("/disk/pool.xfs"), Path::new("/mnt"));
    let make = |fake: &Fake| create_in_file(&*fake.host(), file, 1 << 30, at);
    let whole = Fake::with_pool("/disk", "ext4", 8 << 30);
    make(&whole).unwrap();
    let end = whole.audit();
    for n in 1..=whole.counted() {
        for moment in super::sweeps::MOMENTS {
            let fake = Fake::with_pool("/disk", "ext4", 8 << 30);
            fake.crash(n, moment);
            make(&fake).unwrap_err();
            let fake = fake.restart();
            make(&fake).unwrap();
            assert_eq!(fake.audit(), end, "{moment:?} call {n}");
        }
    }
}
